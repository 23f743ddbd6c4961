"""The families of q: gradients, what they share with the diagonal one, and what is refused.

Budget: about 9 s.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numeric import Problem, check_gradient, complex_step, error, make_problem
from q_cases import FLOWS, RICH, architecture
from scipy import stats

from vae_np import VAE, backends, model, ops
from vae_np.architecture import Architecture
from vae_np.config import Config
from vae_np.elbo import elbo_backward, elbo_forward
from vae_np.errors import ConfigError, InputError
from vae_np.exact.linear_gaussian import LinearGaussian, from_parameters, to_parameters
from vae_np.model import Model, encode_forward, initialise
from vae_np.objectives import objective_backward, objective_forward
from vae_np.parameters import Parameters
from vae_np.posteriors import planar
from vae_np.verify import catalogue


def passed(p: Problem, what: str, values: Any, beta: float) -> Any:
    if what == "iwae":
        return objective_forward(ops, p.arch, values, p.x, p.eps, objective=what, beta=beta)
    return elbo_forward(ops, p.arch, values, p.x, p.eps, form=what)


# --- Gradients --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("posterior", RICH)
def test_gradient_of_every_parameter(posterior: str, samples: int) -> None:
    p = make_problem(architecture(posterior), batch=3, samples=samples)
    for what in ("analytic", "joint", "iwae"):
        if what == "analytic" and posterior in FLOWS:
            continue
        _, cache = passed(p, what, p.parameters, 0.7)
        gradients = p.parameters.zeros_like()
        if what == "iwae":
            objective_backward(ops, p.arch, cache, gradients)
        else:
            elbo_backward(ops, p.arch, cache, gradients, beta=0.7)
        for name, value in p.parameters.items():
            check_gradient(
                lambda v, name=name, what=what: passed(p, what, {**p.parameters, name: v}, 0.7)[0].loss(0.7),
                value,
                gradients[name],
            )


@pytest.mark.parametrize("activation", ["relu", "softplus"])
def test_gradient_of_masked_networks_with_other_activations(activation: str) -> None:
    p = make_problem(architecture("iaf", activation=activation), batch=3)
    _, cache = elbo_forward(ops, p.arch, p.parameters, p.x, p.eps)
    gradients = p.parameters.zeros_like()
    elbo_backward(ops, p.arch, cache, gradients)
    for name, value in p.parameters.items():
        expected = complex_step(
            lambda v, name=name: elbo_forward(ops, p.arch, {**p.parameters, name: v}, p.x, p.eps)[0].loss(), value
        )
        assert error(gradients[name], expected) < 1e-12, name


@pytest.mark.parametrize("beta", [1.0, 0.4])
@pytest.mark.parametrize("objective", ["stl", "dreg"])
@pytest.mark.parametrize("posterior", ["full", "planar"])
def test_an_estimate_is_the_derivative_of_what_it_does_not_freeze(posterior: str, objective: str, beta: float) -> None:
    """log q frozen to its tangent at the draws, whose slope is that of complex steps and knows of no formula."""
    likelihood = "normal" if beta == 1 else "bernoulli"
    scalar = catalogue.objective_loss(ops, architecture(posterior, likelihood=likelihood), objective, 5, beta)
    gradients = scalar.gradient(scalar.point)
    for name, value in scalar.point.items():
        expected = complex_step(lambda v, name=name: scalar.loss({**scalar.point, name: v}), value)
        assert error(gradients[name], expected) < 1e-12, name


@pytest.mark.parametrize("beta", [1.0, 0.3])
def test_dreg_of_a_planar_flow_has_the_mean_of_the_bound_s_gradient_and_stl_has_not(
    beta: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over two samples' ε by the trapezoid rule, in one latent: what arrives at the heads of one example.

    Every pair of nodes is an example of its own, with the same x, in one batch.
    """
    points = np.linspace(-7, 7, 281)
    eps = np.stack(np.meshgrid(points, points, indexing="ij")).reshape(2 * 281**2, 1)
    p = make_problem(architecture("planar", 1, flow_steps=2), batch=281**2, samples=2, seed=1)
    x = np.repeat(p.x[:1], 281**2, axis=0)
    weights = np.outer(stats.norm.pdf(points), stats.norm.pdf(points)).reshape(-1) * (points[1] - points[0]) ** 2
    arrived: list[Any] = []

    def listening(ops_: Any, dmu: Any, dlogvar: Any, cache: Any, gradients: Any, more: Any, **_: Any) -> None:
        arrived.append(weights @ np.hstack([dmu, dlogvar, *more]) * len(x))

    monkeypatch.setattr(model, "encode_backward", listening)
    for objective in ("iwae", "dreg", "stl"):
        _, cache = objective_forward(ops, p.arch, p.parameters, x, eps, objective=objective, beta=beta)
        objective_backward(ops, p.arch, cache, p.parameters.zeros_like())
    iwae, dreg, stl = arrived
    assert error(dreg, iwae) < 1e-8
    assert error(stl, iwae) > 1e-3


@pytest.mark.parametrize("samples", [1, 4])
def test_where_a_full_q_is_the_posterior_the_paths_have_no_variance(samples: int) -> None:
    rng = np.random.default_rng(0)
    linear = LinearGaussian(rng.normal(size=(4, 2)), rng.normal(size=4), 0.6)
    arch, held = to_parameters(linear)
    rich = replace(arch, posterior="full")
    parameters = Parameters(rich.shapes(), np.float64)
    x = rng.normal(size=(3, 4))
    mean, covariance = linear.posterior(np.zeros((1, 4)))
    chol = np.linalg.cholesky(covariance)
    for name in held:
        parameters[name][...] = held[name]
    parameters["encoder.mu.weight"][...] = linear.posterior(np.eye(4))[0] - mean
    parameters["encoder.mu.bias"][...] = mean[0]
    for name in ("logvar", "below"):
        parameters[f"encoder.{name}.weight"][...] = 0
    parameters["encoder.logvar.bias"][...] = 2 * np.log(np.diag(chol))
    parameters["encoder.below.bias"][...] = chol[1, 0]
    eps = rng.normal(size=(3 * samples, 2))
    largest = {}
    for objective in ("iwae", "stl", "dreg"):
        terms, cache = objective_forward(ops, rich, parameters, x, eps, objective=objective)
        assert error(terms.bound, linear.log_prob(x)) < 1e-12
        gradients = parameters.zeros_like()
        objective_backward(ops, rich, cache, gradients)
        largest[objective] = max(np.abs(gradients[name]).max() for name in gradients if name.startswith("encoder"))
    assert largest["iwae"] > 0.01
    assert max(largest["stl"], largest["dreg"]) < 1e-12


def test_the_bound_on_a_planar_step_and_its_slope() -> None:
    a = np.array([-800.0, -30, -1, -1e-9, 0, 1e-9, 1, 30, 800])
    m = planar.bounded(a)
    assert m[4] == 0
    assert (np.diff(m) >= 0).all()
    assert (m >= -1).all()
    assert np.isfinite(m).all()
    assert np.allclose(m[[2, 6]], np.log(1 + (np.e - 1) * np.exp(a[[2, 6]])) - 1, rtol=1e-14, atol=0)
    check_gradient(lambda v: planar.bounded(v).sum(), a[1:8], planar.bounded_slope(a[1:8]))


# --- What they share with the diagonal family -------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("backend", backends.present())
@pytest.mark.parametrize("posterior", RICH)
def test_at_its_identity_a_family_is_the_diagonal_one_to_the_bit(posterior: str, backend: str, dtype: str) -> None:
    rich = architecture(posterior)
    plain = architecture("diagonal")
    p = make_problem(plain, batch=3, samples=2, dtype=dtype)
    there = Parameters(rich.shapes(), dtype)
    for name, view in there.items():
        view[...] = p.parameters.get(name, 0)
    library = backends.choose(backend).ops
    for form in ("joint",) if posterior in FLOWS else ("analytic", "joint"):
        theirs, _ = elbo_forward(library, rich, there, p.x, p.eps, form=form)
        ours, _ = elbo_forward(library, plain, p.parameters, p.x, p.eps, form=form)
        assert (theirs.elbo == ours.elbo).all()
        assert (theirs.kl == ours.kl).all()
    gradients, expected = there.zeros_like(), p.parameters.zeros_like()
    for arch, values, buffer in ((rich, there, gradients), (plain, p.parameters, expected)):
        _, cache = elbo_forward(library, arch, values, p.x, p.eps, form="joint")
        elbo_backward(library, arch, cache, buffer)
    if posterior == "full":
        # A flow's joint form adds its step's slopes before it reaches the heads.
        for name in p.parameters:
            assert (gradients[name] == expected[name]).all() or "encoder.hidden" in name, name


@pytest.mark.parametrize("posterior", RICH)
def test_encoder_and_decoder_start_as_beside_a_diagonal_q(posterior: str) -> None:
    rich, plain = (initialise(architecture(name), seed=3) for name in (posterior, "diagonal"))
    assert list(rich)[: len(plain)] == list(plain)
    for name, view in plain.items():
        assert (rich[name] == view).all()
    if posterior == "iaf":
        mask = architecture("iaf").family.masks(0)[0]  # type: ignore[attr-defined]
        assert (rich["encoder.flow.0.hidden.weight"][~mask] == 0).all()
        assert (rich["encoder.flow.0.hidden.weight"][mask] != 0).all()


@pytest.mark.parametrize("posterior", RICH)
def test_backends_agree_and_say_that_they_compose(posterior: str) -> None:
    p = make_problem(architecture(posterior), batch=3, samples=2)
    ours, _ = elbo_forward(ops, p.arch, p.parameters, p.x, p.eps)
    for name in backends.present():
        backend = backends.choose(name)
        theirs, _ = elbo_forward(backend.ops, p.arch, p.parameters, p.x, p.eps)
        assert error(theirs.elbo, ours.elbo) < 1e-12
        why = "numpy has nothing fused" if name == "numpy" else f"nothing is fused for posterior {posterior}"
        assert backend.unfused(p.arch) == why
        assert backend.fused_log_weights(p.arch) is None


# --- Training ---------------------------------------------------------------------------------------------------


def test_a_full_model_reaches_log_p_in_a_linear_gaussian_model() -> None:
    """Decoder and encoder trained together: mean ELBO and mean log p(x), both in closed form, to 1e-3 nats."""
    random = np.random.default_rng(0)
    x = random.standard_normal((600, 2)) @ np.array([[1.5, 1.2, 0.3, 0.9], [1.0, 1.3, -0.2, 0.8]])
    x = (x + 0.5 * random.standard_normal(x.shape)).astype(np.float32)
    vae = VAE(4, hidden=(), latent=2, likelihood="normal", posterior="full", dtype="float64", seed=1, backend="numpy")
    for lr, epochs in ((0.02, 100), (0.004, 100), (0.0005, 100), (0.00005, 50)):
        vae.fit(x, epochs=epochs, batch_size=100, lr=lr, values="real")
    plain = replace(vae.arch, posterior="diagonal")
    exact = from_parameters(plain, {name: vae.parameters[name] for name in plain.shapes()})
    assert 0 <= gap_of(vae.model, exact, x.astype(np.float64)).mean() < 1e-3


def gap_of(trained: Model, exact: LinearGaussian, x: Any) -> Any:
    """log p(x) less the encoder's ELBO, (N,) in nats, both in closed form."""
    mu, logvar, *below = encode_forward(*trained, x)[0]
    chol = np.exp(0.5 * logvar)[..., None] * np.eye(trained.arch.latent)
    if below:
        chol = chol + trained.arch.family.strictly_lower(below[0])  # type: ignore[attr-defined]
    return exact.log_prob(x) - exact.elbo(x, mu, chol @ np.swapaxes(chol, 1, 2))


def test_an_encoder_trained_for_a_tilted_posterior_closes_every_example_s_gap_if_it_is_full() -> None:
    """The decoder is fixed, so that it cannot turn until the posterior's axes are q's; ε = ±√K eⱼ, over which the mean
    of a square is exact. What is left to a diagonal encoder is the closed form."""
    linear = LinearGaussian(np.array([[1.5, 1.2], [1.0, -0.4], [0.3, 0.9]]), np.array([0.1, -0.2, 0.5]), 0.5)
    arch, held = to_parameters(linear)
    x = np.random.default_rng(0).normal(size=(40, 3))
    eps = np.repeat(np.sqrt(2) * np.vstack([np.eye(2), -np.eye(2)]), len(x), axis=0)
    left = {}
    for posterior in ("diagonal", "full"):
        rich = replace(arch, posterior=posterior)
        parameters = initialise(rich, seed=1, dtype=np.float64)
        fixed = [name for name in held if not name.startswith("encoder.")]
        parameters.assign({**parameters, **{name: held[name] for name in fixed}})
        gradients, moments = parameters.zeros_like(), np.zeros((2, len(parameters.flat)))
        for step in range(1, 1501):
            _, cache = elbo_forward(ops, rich, parameters, x, eps)
            elbo_backward(ops, rich, cache, gradients)
            for name in fixed:
                gradients[name][...] = 0
            lr = 0.03 * min(1, 2 - step / 750) + 1e-5
            ops.adam_update(parameters.flat, gradients.flat, *moments, step=step, lr=lr)
        left[posterior] = gap_of(Model(ops, rich, parameters), linear, x)
    assert 0 <= left["full"].min() <= left["full"].max() < 1e-3
    np.testing.assert_allclose(left["diagonal"], linear.best_diagonal(x)[2], atol=1e-3)
    assert left["diagonal"].min() > 0.1


# --- What is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"posterior": "spiral"}, "posterior: got 'spiral', expected one of diagonal, full, planar, iaf"),
        ({"posterior": "iaf", "inference": "local"}, "posterior: got 'iaf' with inference 'local', expected 'diag"),
        (
            {"posterior": "full", "flow_steps": 3},
            "flow_steps: got 3 with posterior 'full', expected none, or posterior planar, iaf",
        ),
        (
            {"posterior": "planar", "flow_hidden": 8},
            "flow_hidden: got 8 with posterior 'planar', expected none, or posterior iaf",
        ),
        ({"posterior": "planar", "flow_steps": 0}, "flow_steps: got 0, expected"),
    ],
)
def test_what_does_not_go_together_is_one_line_that_names_both(settings: dict[str, Any], says: str) -> None:
    for make in (Config, Architecture):
        with pytest.raises(InputError) as raised:
            make(**settings)
        assert str(raised.value).startswith(says)


@pytest.mark.parametrize(
    ("posterior", "objective", "expected", "having"),
    [
        ("iaf", "stl", "elbo, iwae", "'diagonal', 'full', 'planar'"),
        ("iaf", "dreg", "elbo, iwae", "'diagonal', 'full', 'planar'"),
        *((posterior, "score", "elbo, iwae, stl, dreg", "'diagonal'") for posterior in ("full", "planar")),
    ],
)
def test_objectives_without_a_gradient_for_a_family_are_refused(
    posterior: str, objective: str, expected: str, having: str
) -> None:
    says = (
        f"objective: got '{objective}' with posterior '{posterior}', expected one of {expected}: {objective} has a "
        f"gradient for posterior {having} alone"
    )
    with pytest.raises(ConfigError, match=says):
        Config(posterior=posterior, objective=objective, samples=2)
    p = make_problem(architecture(posterior), batch=2, samples=2)
    with pytest.raises(InputError, match=says):
        objective_forward(ops, p.arch, p.parameters, p.x, p.eps, objective=objective)


def test_an_analytic_kl_of_a_flow_is_refused() -> None:
    p = make_problem(architecture("planar"), batch=2)
    with pytest.raises(InputError, match="form: got 'analytic' with posterior 'planar', expected 'joint'"):
        elbo_forward(ops, p.arch, p.parameters, p.x, p.eps, form="analytic")


def test_a_covariance_of_one_latent_is_refused() -> None:
    with pytest.raises(InputError, match="posterior: got 'full' with latent 1, expected 'diagonal'"):
        Architecture(latent=1, posterior="full")
