"""Two stochastic layers: gradients, densities and samplers, exact answers in the linear-normal model, and refusals.

Budget: about 6 s.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numeric import Problem, check_gradient, error, make_problem
from scipy import stats

from vae_np import VAE, backends, ops
from vae_np.architecture import Architecture
from vae_np.config import Config
from vae_np.elbo import elbo_backward, elbo_forward
from vae_np.errors import ConfigError, InputError
from vae_np.evaluation import held_out
from vae_np.evaluation.annealing import Annealing, Target, annealed_log_likelihood
from vae_np.evaluation.importance import importance_log_likelihood
from vae_np.exact.layered_gaussian import LayeredGaussian, LinearNormal
from vae_np.exact.linear_gaussian import from_parameters
from vae_np.model import Model, decode_forward, encode_forward, initialise, loglik_forward
from vae_np.objectives import objective_backward, objective_forward
from vae_np.parameters import Parameters

RANDOM = np.random.default_rng(4)
ORTHOGONAL, _ = np.linalg.qr(RANDOM.standard_normal((4, 2)))
# Both posteriors are diagonal: W has orthogonal columns, and A is a diagonal matrix.
DIAGONAL = LayeredGaussian(
    LinearNormal(ORTHOGONAL * [1.5, 0.7], RANDOM.standard_normal(4), np.full(4, 0.3)),
    LinearNormal(np.diag([1.2, -0.8]), np.array([0.4, -0.3]), np.array([0.5, 0.2])),
)
X = 1.5 * RANDOM.standard_normal((5, 4))


def architecture(**changes: Any) -> Architecture:
    sizes = {"features": 5, "latent": 3, "hidden": (4,), "activation": "tanh", "top_latent": 2, "top_hidden": (6, 5)}
    return Architecture(**{**sizes, **changes})


def passed(p: Problem, what: str, values: Any, beta: float) -> Any:
    return objective_forward(ops, p.arch, values, p.x, p.eps, objective=what, beta=beta)


def near(normal: LinearNormal, scale: float) -> LinearNormal:
    """Another normal than the best."""
    return LinearNormal(
        normal.weight * (1 + 0.2 * scale), normal.bias + 0.1 * scale, normal.variances * (1 - 0.3 * scale)
    )


# --- Gradients --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("likelihood", ["bernoulli", "normal-diagonal"])
def test_gradient_of_every_parameter(likelihood: str, samples: int) -> None:
    p = make_problem(architecture(likelihood=likelihood, top_hidden=(4,)), batch=3, samples=samples)
    for what in ("elbo", "iwae"):
        _, cache = passed(p, what, p.parameters, 0.7)
        gradients = p.parameters.zeros_like()
        objective_backward(ops, p.arch, cache, gradients)
        for name, value in p.parameters.items():
            check_gradient(
                lambda v, name=name, what=what: passed(p, what, {**p.parameters, name: v}, 0.7)[0].loss(0.7),
                value,
                gradients[name],
            )


@pytest.mark.parametrize("top_hidden", [(), (6, 5)])
def test_gradients_of_other_depths_and_a_second_backward(top_hidden: tuple[int, ...]) -> None:
    p = make_problem(architecture(top_hidden=top_hidden, activation="softplus"), batch=2)
    gradients = p.parameters.zeros_like()
    for _ in range(2):
        _, cache = passed(p, "elbo", p.parameters, 1.0)
        elbo_backward(ops, p.arch, cache[1], gradients)
    for name in ("top.encoder.mu.weight", "top.decoder.logvar.bias", "encoder.logvar.bias"):
        loss = lambda v, name=name: passed(p, "elbo", {**p.parameters, name: v}, 1.0)[0].loss()  # noqa: E731 (early binding)
        check_gradient(loss, p.parameters[name], gradients[name])


def test_gradient_of_log_p_in_both_layers() -> None:
    """What Hamiltonian chains follow: ∂ log p(x | z₁(u)) / ∂u for u = (u₁, z₂)."""
    p = make_problem(architecture(), batch=2, samples=2)
    _, gradient = Target(Model(ops, p.arch, p.parameters), p.x)(p.eps)
    assert gradient.shape == p.eps.shape
    check_gradient(
        lambda u: Target(Model(ops, p.arch, p.parameters), p.x)(u)[0].sum(), p.eps, gradient
    )


def test_the_terms_are_those_of_four_densities() -> None:
    p = make_problem(architecture(), batch=3, samples=2)
    terms, _ = elbo_forward(ops, p.arch, p.parameters, p.x, p.eps)
    upper, normal = p.arch.upper, stats.norm
    assert upper is not None
    (mu, logvar), _ = encode_forward(ops, p.arch, p.parameters, p.x)
    mu, logvar = np.tile(mu, (2, 1)), np.tile(logvar, (2, 1))
    z = mu + np.exp(0.5 * logvar) * p.eps[:, :3]
    (top_mu, top_logvar), _ = upper.inference.forward(ops, p.parameters, z)
    top = top_mu + np.exp(0.5 * top_logvar) * p.eps[:, 3:]
    (mean, spread), _ = upper.generation.forward(ops, p.parameters, top)
    log_q = normal.logpdf(z, mu, np.exp(0.5 * logvar)).sum(1)
    log_q += normal.logpdf(top, top_mu, np.exp(0.5 * top_logvar)).sum(1)
    log_p = normal.logpdf(z, mean, np.exp(0.5 * spread)).sum(1) + normal.logpdf(top).sum(1)
    out, _ = decode_forward(ops, p.arch, p.parameters, z)
    loglik, _ = loglik_forward(ops, p.arch, p.parameters, p.x, out)
    assert error(terms.kl, (log_q - log_p).reshape(2, 3).mean(axis=0)) < 1e-12
    assert error(terms.reconstruction, loglik.reshape(2, 3).mean(axis=0)) < 1e-12


# --- Densities and samplers -------------------------------------------------------------------------------------


def above_one() -> tuple[Model, Any]:
    """One latent in each layer, a decoder of three pixels, a p(z₁) that is curved, and a q that is wide all over."""
    p = make_problem(architecture(latent=1, features=3, top_latent=1, top_hidden=(5,)), batch=1, seed=3)
    for name, view in p.parameters.items():
        view *= 2 if name.startswith("top.decoder") else 0.3
        if "encoder.logvar.bias" in name:
            view[...] = 3
    return Model(ops, p.arch, p.parameters), p.arch.upper


def prior_density(model: Model, z: Any) -> Any:
    """p(z₁) by a rule over z₂ itself, with no q."""
    top = np.linspace(-9, 9, 1801)[:, None]
    (mean, spread), _ = model.arch.upper.generation.forward(ops, model.parameters, top)  # type: ignore[union-attr]
    weights = stats.norm.pdf(top[:, 0]) * (top[1, 0] - top[0, 0])
    return stats.norm.pdf(z[:, None], mean[:, 0], np.exp(0.5 * spread[:, 0])) @ weights


def test_the_mean_weight_of_a_draw_is_the_prior_whose_density_integrates_to_one() -> None:
    model, upper = above_one()
    z, eps = np.linspace(-30, 30, 3001), np.linspace(-9, 9, 601)
    found = np.empty_like(z)
    for start in range(0, len(z), 200):
        part = z[start : start + 200]
        log_prior, _ = upper.log_prior_forward(
            ops, model.parameters, np.repeat(part, len(eps))[:, None], np.tile(eps, len(part))[:, None]
        )
        weights = np.exp(log_prior).reshape(len(part), -1) * stats.norm.pdf(eps)
        found[start : start + 200] = weights.sum(axis=1) * (eps[1] - eps[0])
    expected = prior_density(model, z)
    centre = np.abs(z) < 6
    assert error(found[centre], expected[centre]) < 1e-4
    assert abs(expected.sum() * (z[1] - z[0]) - 1) < 1e-8


def test_p_of_x_sums_to_one_over_all_x() -> None:
    model, _ = above_one()
    x = np.array([[i >> j & 1 for j in range(3)] for i in range(8)], dtype=np.uint8)
    axis = np.linspace(-8, 8, 161)
    eps = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    cell = stats.norm.pdf(eps).prod(axis=1) * (axis[1] - axis[0]) ** 2
    total = 0.0
    for row in x:
        _, cache = objective_forward(ops, model.arch, model.parameters, row[None], eps, objective="iwae")
        weight = np.exp(cache[1].loglik + cache[1].log_prior) / np.exp(
            -0.5 * (eps[:, 0] ** 2 + cache[1].logvar[0, 0] + np.log(2 * np.pi))
        )
        total += float(cell @ weight)
    assert abs(total - 1) < 2e-3


def test_draws_have_the_density() -> None:
    model, _ = above_one()
    z, axis = np.linspace(-30, 30, 6001), 30 / 3000
    cumulative = np.cumsum(prior_density(model, z)) * axis
    vae = VAE(
        3, hidden=(4,), latent=1, activation="tanh", top_latent=1, top_hidden=(5,), dtype="float64", backend="numpy"
    )
    vae.parameters.assign(model.parameters)
    found = stats.kstest(vae.prior(4000, seed=1)[:, 0], lambda v: np.interp(v, z + axis / 2, cumulative))
    assert found.pvalue > 1e-3


# --- Exact answers ----------------------------------------------------------------------------------------------


def test_with_both_posteriors_every_weight_is_p_of_x() -> None:
    lower, upper = DIAGONAL.best()
    for matrix in (DIAGONAL.lower_posterior(X)[1], DIAGONAL.upper_posterior(X[:, :2])[1]):
        assert np.abs(matrix - np.diag(np.diag(matrix))).max() < 1e-14
    arch, parameters = DIAGONAL.to_parameters(lower, upper)
    eps = RANDOM.standard_normal((3 * len(X), 4))
    terms, _ = elbo_forward(ops, arch, parameters, X, eps)
    bound, _ = objective_forward(ops, arch, parameters, X, eps, objective="iwae")
    found = importance_log_likelihood(Model(ops, arch, parameters), X, np.arange(5), samples=3, seed=0)
    for value in (terms.elbo, bound.bound, found.log_likelihood):
        assert error(value, DIAGONAL.log_prob(X)) < 1e-12
    assert found.stderr.max() < 1e-6


def test_log_prob_is_that_of_the_joint_normal() -> None:
    """The marginal of (z₂, z₁, x) by block matrices, by scipy: no formula is shared."""
    a, w = DIAGONAL.upper.weight, DIAGONAL.likelihood.weight
    lower = a @ a.T + np.diag(DIAGONAL.upper.variances)
    mean = w @ DIAGONAL.upper.bias + DIAGONAL.likelihood.bias
    covariance = w @ lower @ w.T + np.diag(DIAGONAL.likelihood.variances)
    assert error(DIAGONAL.log_prob(X), stats.multivariate_normal(mean, covariance).logpdf(X)) < 1e-12


def test_the_gap_of_another_q_is_the_two_divergences_and_sampling_closes_it() -> None:
    q = tuple(near(normal, 1.0) for normal in DIAGONAL.best())
    arch, parameters = DIAGONAL.to_parameters(*q)
    samples = 20_000
    eps = RANDOM.standard_normal((samples, 4))
    for row in X[:2]:
        _, cache = elbo_forward(ops, arch, parameters, row[None], eps)
        log_w = cache.loglik + cache.log_prior + 0.5 * (eps[:, :2] ** 2 + cache.logvar + np.log(2 * np.pi)).sum(1)
        below, above = DIAGONAL.gap(row[None], *q)
        assert min(below, above) > 0.01
        expected = DIAGONAL.log_prob(row[None]) - below - above
        assert abs(log_w.mean() - expected) < 4.5 * log_w.std() / np.sqrt(samples)
    found = importance_log_likelihood(Model(ops, arch, parameters), X, np.arange(5), samples=5000, seed=0)
    assert (np.abs(found.log_likelihood - DIAGONAL.log_prob(X)) < 4 * found.stderr).all()
    assert (found.stderr < 0.1).all()


def test_annealed_chains_bracket_log_p() -> None:
    arch, parameters = DIAGONAL.to_parameters(*DIAGONAL.best())
    vae = VAE(4, hidden=(), latent=2, activation="tanh", likelihood="normal-fixed", sigma=arch.sigma, top_latent=2,
              top_hidden=(), dtype="float64", backend="numpy")  # fmt: skip
    vae.parameters.assign(parameters)
    examples, normals = vae.simulated(20, seed=2)
    assert normals.shape == (20, 4)
    found: Any = annealed_log_likelihood(
        vae.model, examples.rows, np.arange(20), Annealing(8, 200, 5), seed=0, posterior=normals
    )
    gap = found.upper - found.log_likelihood
    assert gap.mean() < 0.2
    middle = (found.log_likelihood + found.upper) / 2 - DIAGONAL.log_prob(examples.rows)
    assert np.abs(middle).mean() < 0.2
    assert (np.exp(found.log_likelihood - DIAGONAL.log_prob(examples.rows)).mean() - 1) < 0.2


def test_training_reaches_log_p_in_the_linear_normal_model() -> None:
    """ELBO within 0.02 nats of the trained model's own log p(x), both means over the data: q can be exact there."""
    covariance = DIAGONAL.likelihood.weight @ DIAGONAL.prior.covariance() @ DIAGONAL.likelihood.weight.T
    x = RANDOM.multivariate_normal(np.zeros(4), covariance + 0.3 * np.eye(4), size=500).astype(np.float32)
    vae = VAE(4, hidden=(), latent=1, activation="tanh", likelihood="normal", top_latent=1, top_hidden=(),
              dtype="float64", seed=1, backend="numpy")  # fmt: skip
    for lr, epochs in ((0.02, 40), (0.004, 40), (0.0005, 40)):
        vae.fit(x, epochs=epochs, batch_size=100, lr=lr, values="real")
    p = vae.parameters
    # p(z₁|z₂) may have learned a variance that depends on z₂; the exact model has none, so that it must be small.
    assert abs(float(p["top.decoder.logvar.weight"][0, 0])) < 0.3
    terms = vae.elbo(x, z_samples=200)
    found = vae.log_likelihood(x, samples=500)
    assert 0 <= (found.log_likelihood - terms.elbo).mean() < 0.02


# --- Figures on held-out data -----------------------------------------------------------------------------------


def test_shares_of_the_kl_add_up_to_it_and_means_are_those_of_q() -> None:
    q = tuple(near(normal, 1.0) for normal in DIAGONAL.best())
    arch, parameters = DIAGONAL.to_parameters(*q)
    x = np.repeat(X[:1], 4000, axis=0)
    examples = held_out.Examples(x, VAE(4, likelihood="normal").values, "none", 0)
    model = Model(ops, arch, parameters)
    shares, means = held_out.layers_kl_and_means(model, examples, seed=0)
    assert shares.shape == means.shape == (4000, 4)
    terms = held_out.elbo_terms(model, examples, seed=1)
    spread = np.hypot(shares.sum(axis=1).std(), terms.kl.std()) / np.sqrt(len(x))
    assert abs(shares.sum(axis=1).mean() - terms.kl.mean()) < 4.5 * spread
    assert error(means[0, :2], q[0].mean(X[:1])[0]) < 1e-12
    expected = q[1].mean(q[0].mean(X[:1]))[0]
    assert np.abs(means[:, 2:].mean(axis=0) - expected).max() < 4.5 * means[:, 2:].std() / np.sqrt(len(x))


# --- What the two kinds of model share --------------------------------------------------------------------------


def test_a_layer_above_that_does_nothing_leaves_the_one_layer_model() -> None:
    """p(z₁|z₂) = N(0, I) and q(z₂|z₁) = N(0, I): the terms and gradients are those of the sampled one-layer ELBO."""
    p = make_problem(architecture(top_hidden=()), batch=3, samples=2)
    for name, view in p.parameters.items():
        if name.startswith("top."):
            view[...] = 0
    plain = replace(p.arch, top_latent=None, top_hidden=None)
    own = Parameters(plain.shapes(), np.float64)
    own.assign(p.parameters)
    for objective in ("elbo", "iwae"):
        gradients, expected = p.parameters.zeros_like(), own.zeros_like()
        terms, cache = objective_forward(ops, p.arch, p.parameters, p.x, p.eps, objective=objective)
        objective_backward(ops, p.arch, cache, gradients)
        theirs, cache = objective_forward(ops, plain, own, p.x, p.eps[:, :3], objective=objective)
        if objective == "elbo":
            theirs, cache = elbo_forward(ops, plain, own, p.x, p.eps[:, :3], form="joint")
            elbo_backward(ops, plain, cache, expected)
            assert error(terms.kl, theirs.kl) < 1e-12
        else:
            objective_backward(ops, plain, cache, expected)
            assert error(terms.bound, theirs.bound) < 1e-12
        for name in own:
            assert error(gradients[name], expected[name]) < 1e-12, name


def test_encoder_and_decoder_start_as_with_one_layer() -> None:
    plain = {"top_latent": None, "top_hidden": None}
    both, one = (initialise(architecture(**changes), seed=3) for changes in ({}, plain))
    assert list(both)[: len(one)] == list(one)
    for name, view in one.items():
        assert (both[name] == view).all()


def test_backends_agree_where_they_compose() -> None:
    p = make_problem(architecture(), batch=3, samples=2)
    ours, cache = passed(p, "iwae", p.parameters, 1.0)
    expected = p.parameters.zeros_like()
    objective_backward(ops, p.arch, cache, expected)
    for name in backends.present():
        backend, gradients = backends.choose(name), p.parameters.zeros_like()
        theirs, cache = objective_forward(backend.ops, p.arch, p.parameters, p.x, p.eps, objective="iwae")
        objective_backward(backend.ops, p.arch, cache, gradients)
        assert error(theirs.bound, ours.bound) < 1e-12
        for tensor in expected:
            assert error(gradients[tensor], expected[tensor]) < 1e-12, tensor
        assert backend.fused_log_weights(p.arch) is None


# --- What is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"top_hidden": (3,)}, "top_hidden: got 3 without top_latent, expected both"),
        ({"top_latent": 2, "posterior": "full"}, "top_latent: got 2 with posterior 'full', expected posterior 'diagon"),
        ({"top_latent": 2, "posterior": "iaf"}, "top_latent: got 2 with posterior 'iaf', expected posterior 'diagona"),
        ({"top_latent": 2, "refine_steps": 3}, "top_latent: got 2 with refine_steps 3, expected refine_steps 0"),
        ({"top_latent": 2, "inference": "local"}, "top_latent: got 2 with inference 'local', expected inference 'a"),
        ({"top_latent": 0}, "top_latent: got 0, expected a whole number"),
    ],
)
def test_what_does_not_go_together_is_one_line_that_names_both(settings: dict[str, Any], says: str) -> None:
    for make in (Config, Architecture):
        with pytest.raises(InputError) as raised:
            make(**settings)
        assert str(raised.value).startswith(says)


@pytest.mark.parametrize("objective", ["stl", "dreg", "score"])
def test_objectives_without_a_gradient_for_two_layers_are_refused(objective: str) -> None:
    says = f"objective: got '{objective}' with top_latent 2, expected one of elbo, iwae"
    with pytest.raises(ConfigError, match=says):
        Config(top_latent=2, objective=objective, samples=2)
    p = make_problem(architecture(), batch=2, samples=2)
    with pytest.raises(InputError, match=says):
        objective_forward(ops, p.arch, p.parameters, p.x, p.eps, objective=objective)


def test_what_knows_one_layer_alone_refuses_in_one_line() -> None:
    p = make_problem(architecture(), batch=2)
    with pytest.raises(InputError, match="form: got 'analytic' with top_latent 2, expected 'joint'"):
        elbo_forward(ops, p.arch, p.parameters, p.x, p.eps, form="analytic")
    vae = VAE(4, hidden=(3,), latent=1, top_latent=1, likelihood="normal", backend="numpy")
    assert vae.arch.top_hidden == (3,)
    with pytest.raises(InputError, match="exact: got a model with top_latent 1, expected one stochastic layer"):
        vae.exact.log_likelihood(X)
    with pytest.raises(InputError, match="arch: got top_latent 2, expected one stochastic layer"):
        from_parameters(*DIAGONAL.to_parameters(*DIAGONAL.best()))
    for give, name in ((vae.to_torch, "torch"), (lambda: vae.to_onnx("nowhere"), "onnx")):
        with pytest.raises(InputError, match=f"{name}: got a model with top_latent 1, expected one stochastic layer"):
            give()


def test_an_architecture_is_written_as_before_and_read_again() -> None:
    assert not {"top_latent", "top_hidden"} & Architecture().as_dict().keys()
    both = architecture()
    assert Architecture.from_dict(both.as_dict()) == both
    assert both.sizes == "5-4-3/6-5-2"
    settings = Config(top_latent=2, hidden=(7, 6))
    assert settings.top_hidden == (7, 6)
    assert Config.from_mapping(settings.to_mapping()) == settings
