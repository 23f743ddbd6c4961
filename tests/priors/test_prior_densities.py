"""Learned priors: gradients, densities, draws, the standard prior as a special case, evaluation, and what is refused.

Budget: about 4 s.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numeric import Problem, check_gradient, complex_step, error, make_problem
from scipy import special, stats

from vae_np import VAE, backends, ops
from vae_np.architecture import Architecture
from vae_np.config import Config
from vae_np.elbo import (
    elbo_backward,
    elbo_forward,
    posterior_log_prob,
    prior_forward,
    prior_mixture,
    standard_normal_log_prob,
)
from vae_np.errors import ConfigError, InputError
from vae_np.evaluation import annealing, held_out
from vae_np.evaluation.annealing import Annealing, BidirectionalEstimate, Target
from vae_np.evaluation.importance import importance_log_likelihood
from vae_np.model import Model, decode_forward, encode_forward, initialise
from vae_np.objectives import objective_backward, objective_forward
from vae_np.parameters import Parameters
from vae_np.priors import components
from vae_np.priors.components import Components

LEARNED = ("mixture", "vamp")
KINDS: dict[str, dict[str, Any]] = {
    "mixture": {"prior": "mixture"},
    "vamp": {"prior": "vamp"},
    "vamp, real data": {"prior": "vamp", "likelihood": "normal"},
    "vamp, no hidden layer": {"prior": "vamp", "hidden": ()},
    "mixture, full": {"prior": "mixture", "posterior": "full"},
    "mixture, iaf": {"prior": "mixture", "posterior": "iaf", "flow_steps": 1, "flow_hidden": 4},
}


def architecture(latent: int = 3, **changes: Any) -> Architecture:
    kinds = {"features": 5, "latent": latent, "hidden": (4,), "activation": "tanh", "components": 6}
    return Architecture(**{**kinds, **changes})


def passed(p: Problem, what: str, values: Any, beta: float) -> Any:
    if what == "iwae":
        return objective_forward(ops, p.arch, values, p.x, p.eps, objective=what, beta=beta)
    return elbo_forward(ops, p.arch, values, p.x, p.eps)


def mixture_of(p: Problem) -> Components:
    found = prior_mixture(ops, p.arch, p.parameters)
    assert found is not None
    return found


def by_scipy(mixture: Components, z: Any) -> Any:
    """log Σ w N(z; m, σ), component by component."""
    terms = [
        weight + stats.norm.logpdf(z, mean, np.exp(0.5 * logvar)).sum(axis=1)
        for weight, mean, logvar in zip(*mixture, strict=True)
    ]
    return special.logsumexp(terms, axis=0)


# --- Gradients --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_gradient_of_every_parameter(kind: str, samples: int) -> None:
    p = make_problem(architecture(**KINDS[kind]), batch=3, samples=samples)
    for what in ("joint", "iwae"):
        _, cache = passed(p, what, p.parameters, 0.7)
        gradients = p.parameters.zeros_like()
        # What was there must not count, although encoder gradients are added up.
        gradients.flat[...] = 7
        if what == "iwae":
            objective_backward(ops, p.arch, cache, gradients)
        else:
            elbo_backward(ops, p.arch, cache, gradients, beta=0.7)
        for name, value in p.parameters.items():

            def loss(v: Any, name: str = name, what: str = what) -> Any:
                # All of them complex: without hidden layers pseudo-inputs take the dtype of the encoder's weights.
                values = {other: tensor.astype(v.dtype) for other, tensor in p.parameters.items()}
                return passed(p, what, {**values, name: v}, 0.7)[0].loss(0.7)

            assert error(gradients[name], complex_step(loss, value)) < 1e-12, name


@pytest.mark.parametrize("prior", LEARNED)
def test_gradient_of_the_density_in_z(prior: str) -> None:
    p = make_problem(architecture(prior=prior), batch=3)
    target, random = Target(Model(ops, p.arch, p.parameters), p.x), np.random.default_rng(2)
    z = 2 * random.standard_normal((4, 3))
    check_gradient(lambda v: prior_forward(ops, p.arch, p.parameters, v, None)[0].sum(), z, -target.pull(z))
    assert error(-0.5 * target.potential(z), by_scipy(mixture_of(p), z)) < 1e-12


def test_pseudo_inputs_are_kept_between_zero_and_one_where_data_are() -> None:
    p = make_problem(architecture(prior="vamp"), batch=3)
    held = p.parameters["prior.pseudo_inputs"]
    held[...] = np.linspace(-1, 2, held.size).reshape(held.shape)
    found = mixture_of(p)
    mu, logvar = encode_forward(ops, p.arch, p.parameters, np.clip(held, 0, 1))[0]
    assert (found.means == mu).all()
    assert (found.logvars == logvar).all()
    _, cache = elbo_forward(ops, p.arch, p.parameters, p.x, p.eps)
    gradients = p.parameters.zeros_like()
    elbo_backward(ops, p.arch, cache, gradients)
    inside = (held >= 0) & (held <= 1)
    assert (gradients["prior.pseudo_inputs"][~inside] == 0).all()
    assert (gradients["prior.pseudo_inputs"][inside] != 0).all()


# --- Densities and draws ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("prior", LEARNED)
def test_a_density_is_scipys_integrates_to_one_and_is_that_of_the_draws(prior: str) -> None:
    p = make_problem(architecture(2, prior=prior), batch=1)
    if prior == "vamp":
        # Pseudo-inputs that differ by more than the default ones do.
        p.parameters["encoder.mu.weight"][...] *= 3
    mixture, spacing = mixture_of(p), 0.05
    axis = np.arange(-15, 15, spacing)
    z = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    log_p = prior_forward(ops, p.arch, p.parameters, z, None)[0]
    assert error(log_p, by_scipy(mixture, z)) < 1e-12
    density = np.exp(log_p).reshape(len(axis), -1)
    assert abs(density.sum() * spacing**2 - 1) < 1e-9
    vae = VAE(5, hidden=(4,), latent=2, activation="tanh", dtype="float64", backend="numpy", prior=prior, components=6)
    vae.parameters.assign(p.parameters)
    drawn = vae.prior(4000, 4)
    for j in (0, 1):
        marginal = density.sum(axis=1 - j)
        cumulative = np.cumsum(marginal) / marginal.sum()
        found = stats.kstest(drawn[:, j], lambda v, c=cumulative: np.interp(v, axis + spacing / 2, c))
        assert found.pvalue > 1e-3
    # Far apart and narrow, so that a draw shows which component it is of: as often as the weights say.
    random = np.random.default_rng(4)
    sharp = mixture._replace(means=np.arange(6.0)[:, None] + np.zeros((6, 2)), logvars=np.full((6, 2), -20.0))
    drawn = components.sample(sharp, random.standard_normal((4000, 2)), random.random(4000))
    counts = np.bincount(np.rint(drawn[:, 0]).astype(int), minlength=6)
    assert stats.chisquare(counts, 4000 * np.exp(mixture.log_weights)).pvalue > 1e-3


def test_a_u_beyond_the_summed_weights_belongs_to_the_last_component() -> None:
    mixture = Components(np.log(np.full(3, 1 / 3)), np.arange(3.0)[:, None], np.full((3, 1), -200.0))
    u = np.array([0.0, 0.33, 0.34, 0.67, np.nextafter(1, 0)])
    assert components.sample(mixture, np.ones((5, 1)), u).round(6)[:, 0].tolist() == [0, 0, 1, 2, 2]


def test_a_density_is_finite_far_out_and_exact_where_components_are_narrow() -> None:
    random = np.random.default_rng(0)
    narrow = Components(np.log([0.2, 0.8]), 3 * random.standard_normal((2, 4)), np.full((2, 4), -9.0))
    single = Components(*(part.astype(np.float32) for part in narrow))
    z = single.means + np.float32(0.01) * random.standard_normal((2, 4)).astype(np.float32)
    found, _ = components.log_prob_forward(ops, z, single)
    assert found.dtype == np.float32
    wide = Components(*(part.astype(np.float64) for part in single))
    assert error(found, by_scipy(wide, z.astype(np.float64))) < 1e-5
    assert np.isfinite(components.log_prob_forward(ops, np.full((1, 4), 1e4), narrow)[0]).all()


# --- The standard prior as a special case -----------------------------------------------------------------------


def standard_mixture(p: Problem, dtype: str = "float64") -> tuple[Architecture, Parameters]:
    """The same model with a mixture of one component, N(0, I)."""
    arch = replace(p.arch, prior="mixture", components=1)
    parameters = Parameters(arch.shapes(), dtype)
    for name, view in parameters.items():
        view[...] = p.parameters.get(name, 0)
    return arch, parameters


@pytest.mark.parametrize("backend", backends.present())
def test_one_component_at_zero_with_variance_one_is_the_standard_prior(backend: str) -> None:
    p, library = make_problem(architecture(components=None), batch=3, samples=4), backends.choose(backend).ops
    arch, parameters = standard_mixture(p)
    for what in ("elbo", "iwae"):
        if what == "elbo":
            (ours, kept), (theirs, cache) = (
                elbo_forward(library, a, w, p.x, p.eps, form="joint")
                for a, w in ((p.arch, p.parameters), (arch, parameters))
            )
        else:
            (ours, kept), (theirs, cache) = (
                objective_forward(library, a, w, p.x, p.eps, objective=what)
                for a, w in ((p.arch, p.parameters), (arch, parameters))
            )
        assert error(theirs.kl if what == "elbo" else theirs.bound, ours.kl if what == "elbo" else ours.bound) < 1e-12
        assert abs(theirs.loss() - ours.loss()) < 1e-12
        gradients, expected = parameters.zeros_like(), p.parameters.zeros_like()
        for back, a, kept_, buffer in (
            (elbo_backward, p.arch, kept, expected),
            (elbo_backward, arch, cache, gradients),
        ):
            (back if what == "elbo" else objective_backward)(library, a, kept_, buffer)
        for name in expected:
            assert error(gradients[name], expected[name]) < 1e-12, name


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_its_draws_are_the_standard_priors_to_the_bit(dtype: str) -> None:
    p = make_problem(architecture(components=None), batch=3, dtype=dtype)
    arch, parameters = standard_mixture(p, dtype)
    plain, learned = (
        VAE(5, hidden=(4,), latent=3, activation="tanh", dtype=dtype, backend="numpy", **kind)
        for kind in ({}, {"prior": "mixture", "components": 1})
    )
    plain.parameters.assign(p.parameters)
    learned.parameters.assign(parameters)
    assert (learned.prior(50, 3) == plain.prior(50, 3)).all()
    assert (learned.sample(50, 3) == plain.sample(50, 3)).all()
    x = p.x.astype(float)
    how, places = Annealing(3, 5, 2), np.arange(3)
    ours, theirs = (
        annealing.annealed_log_likelihood(Model(ops, a, w), x, places, how, seed=1).log_likelihood
        for a, w in ((p.arch, p.parameters), (arch, parameters))
    )
    assert error(theirs, ours) < (1e-4 if dtype == "float32" else 1e-10)


# --- Evaluation -------------------------------------------------------------------------------------------------


def linear_problem(prior: str) -> tuple[Model, Any, Any]:
    """x = W z + b + noise with a learned prior: log p(x) is that of a mixture of normals. The model, x and log p(x)."""
    posterior = {"posterior": "diagonal" if prior == "vamp" else "planar"}
    arch = Architecture(3, 2, (), "tanh", "normal-fixed", 0.8, prior=prior, components=4, **posterior)
    parameters, random = initialise(arch, seed=1, dtype=np.float64), np.random.default_rng(3)
    for name, shape in arch.learned_prior.shapes().items():  # type: ignore[union-attr]
        parameters[name][...] = random.standard_normal(shape)
    weight, bias = parameters["decoder.out.weight"], parameters["decoder.out.bias"]
    x = random.standard_normal((4, 3))
    mixture = prior_mixture(ops, arch, parameters)
    assert mixture is not None
    terms = [
        log_w + stats.multivariate_normal.logpdf(
            x, m @ weight + bias, weight.T @ np.diag(np.exp(v)) @ weight + 0.64 * np.eye(3)
        )
        for log_w, m, v in zip(*mixture, strict=True)
    ]  # fmt: skip
    return Model(ops, arch, parameters), x, special.logsumexp(terms, axis=0)


@pytest.mark.parametrize("prior", LEARNED)
def test_weights_average_to_p_of_x_in_closed_form(prior: str) -> None:
    """By importance sampling, beside a flow too; and by chains, which start at the prior and follow its gradient."""
    model, x, exact = linear_problem(prior)
    found = importance_log_likelihood(model, x, np.arange(4), samples=20_000, seed=0)
    assert (np.abs(found.log_likelihood - exact) < 5 * found.stderr).all()
    assert (found.stderr < 0.1).all()
    annealed = annealing.annealed_log_likelihood(model, x, np.arange(4), Annealing(60, 40, 3), seed=0)
    assert (np.abs(annealed.log_likelihood - exact) < 5 * annealed.stderr).all()
    assert (annealed.stderr < 0.15).all()
    assert (annealed.acceptance > 0.4).all()


@pytest.mark.parametrize("prior", LEARNED)
def test_both_sides_enclose_what_the_model_simulated(prior: str) -> None:
    vae = VAE(6, hidden=(5,), latent=2, activation="tanh", dtype="float64", backend="numpy", prior=prior, components=3)
    random = np.random.default_rng(1)
    for name, view in vae.parameters.items():
        view[...] = random.normal(0, 0.3 if name == "prior.logvars" else 1.0, view.shape)
    found = vae.bidirectional(20, Annealing(4, 60, 3))
    assert isinstance(found, BidirectionalEstimate)
    gap = found.upper - found.log_likelihood
    assert abs(gap.mean()) < 0.1
    assert gap.mean() > -3 * gap.std() / np.sqrt(20)
    axis = np.arange(-12, 12, 0.1)
    z = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    mixture, x = prior_mixture(*vae.model), vae.simulated(20)[0].rows.astype(float)
    assert mixture is not None
    logits, _ = decode_forward(*vae.model, z)
    terms = by_scipy(mixture, z) + x @ logits.T - np.logaddexp(0, logits).sum(axis=1) + 2 * np.log(0.1)
    exact = special.logsumexp(terms, axis=1)
    assert abs((found.log_likelihood - exact).mean()) < 0.1
    assert abs((found.upper - exact).mean()) < 0.1


def test_with_all_rows_as_pseudo_inputs_the_kl_is_the_mutual_information() -> None:
    """p(z) is then q(z), and nothing is left of the marginal KL: the two are computed by different code."""
    p = make_problem(architecture(prior="vamp", components=7), batch=7)
    p.parameters["prior.pseudo_inputs"][...] = p.x
    mu, logvar = encode_forward(ops, p.arch, p.parameters, p.x.astype(np.float64))[0]
    eps = ops.philox_normal(np.arange(7), 3, seed=5, stream=5, step=0, dtype=np.float64)
    terms, _ = elbo_forward(ops, p.arch, p.parameters, p.x.astype(np.float64), eps)
    assert error(terms.kl, held_out.elbo_surgery(ops, mu, logvar, seed=5).mutual_information) < 1e-12


@pytest.mark.parametrize("prior", LEARNED)
def test_backends_agree_and_say_that_they_compose(prior: str) -> None:
    p = make_problem(architecture(prior=prior), batch=3, samples=2)
    ours, kept = elbo_forward(ops, p.arch, p.parameters, p.x, p.eps)
    expected = p.parameters.zeros_like()
    elbo_backward(ops, p.arch, kept, expected)
    assert error(ours.kl, (posterior_log_prob(kept.logvar, p.eps) - by_scipy(mixture_of(p), kept.z))
                 .reshape(2, 3).mean(axis=0)) < 1e-12  # fmt: skip
    for name in backends.present():
        backend = backends.choose(name)
        theirs, cache = elbo_forward(backend.ops, p.arch, p.parameters, p.x, p.eps)
        gradients = p.parameters.zeros_like()
        elbo_backward(backend.ops, p.arch, cache, gradients)
        assert error(theirs.elbo, ours.elbo) < 1e-12
        assert all(error(gradients[tensor], expected[tensor]) < 1e-12 for tensor in expected)
        why = "numpy has nothing fused" if name == "numpy" else f"nothing is fused for prior {prior}"
        assert backend.unfused(p.arch) == why
        assert backend.fused_log_weights(p.arch) is None


# --- Where they start -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prior", LEARNED)
def test_all_else_starts_as_beside_the_standard_prior(prior: str) -> None:
    learned, plain = (initialise(a, seed=3) for a in (architecture(prior=prior), architecture(components=None)))
    assert list(learned)[: len(plain)] == list(plain)
    assert all((learned[name] == view).all() for name, view in plain.items())


def test_a_mixture_starts_with_means_that_differ() -> None:
    held = initialise(architecture(prior="mixture", components=200), seed=3)
    assert not held["prior.logits"].any()
    assert not held["prior.logvars"].any()
    assert len(np.unique(held["prior.means"])) == 600
    assert 0.4 < held["prior.means"].std() < 0.6


def test_pseudo_inputs_start_at_training_rows_unless_they_are_set() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (40, 9)).astype(np.uint8)
    grey[0] = 255
    begun = VAE(9, hidden=(4,), latent=2, prior="vamp", components=8, backend="numpy")
    begun.fit(grey, validation=8, epochs=1, batch_size=32, lr=1e-12)
    np.testing.assert_allclose(begun.parameters["prior.pseudo_inputs"], grey[:32:4] / 255, atol=1e-6)
    mine = VAE(9, hidden=(4,), latent=2, prior="vamp", components=8, backend="numpy")
    mine.parameters["prior.pseudo_inputs"][...] = 0.25
    mine.fit(grey, epochs=1, batch_size=40, lr=1e-12)
    np.testing.assert_allclose(mine.parameters["prior.pseudo_inputs"], 0.25, atol=1e-6)


@pytest.mark.slow
def test_training_finds_two_heaps_that_one_normal_cannot_be() -> None:
    """Linear data from two heaps of z: with two components the ELBO gains what the standard prior's best one lacks."""
    random = np.random.default_rng(0)
    z = random.choice([-4.0, 4.0], 400) + 0.3 * random.standard_normal(400)
    x = (z[:, None] * [1.0, 0.5] + 0.2 * random.standard_normal((400, 2))).astype(np.float32)
    bounds = {}
    for kind in ({}, {"prior": "mixture", "components": 2}):
        vae = VAE(2, hidden=(), latent=1, likelihood="normal", dtype="float64", backend="numpy", **kind)
        for lr in (0.05, 0.01):
            vae.fit(x, epochs=60, batch_size=100, lr=lr, values="real")
        bounds[vae.arch.prior] = vae.elbo(x, z_samples=20).elbo.mean()
    assert bounds["mixture"] > bounds["standard"] + 0.5


# --- What is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"prior": "spiral"}, "prior: got 'spiral', expected one of standard, mixture, vamp"),
        ({"components": 3}, "components: got 3 with prior 'standard', expected none, or prior mixture, vamp"),
        ({"prior": "mixture", "components": 0}, "components: got 0, expected"),
        ({"prior": "vamp", "top_latent": 2}, "top_latent: got 2 with prior 'vamp', expected prior 'standard'"),
        ({"prior": "vamp", "inference": "local"}, "prior: got 'vamp' with inference 'local', expected 'standard'"),
        ({"prior": "vamp", "posterior": "iaf"}, "prior: got 'vamp' with posterior 'iaf', expected posterior 'diag"),
    ],
)
def test_what_does_not_go_together_is_one_line_that_names_both(settings: dict[str, Any], says: str) -> None:
    for make in (Config, Architecture):
        with pytest.raises(InputError) as raised:
            make(**settings)
        assert str(raised.value).startswith(says)


@pytest.mark.parametrize("prior", LEARNED)
def test_an_analytic_kl_and_other_objectives_are_refused(prior: str) -> None:
    p = make_problem(architecture(prior=prior), batch=2, samples=2)
    with pytest.raises(InputError, match=f"form: got 'analytic' with prior '{prior}', expected 'joint'"):
        elbo_forward(ops, p.arch, p.parameters, p.x, p.eps, form="analytic")
    for objective in ("stl", "dreg", "score"):
        says = f"objective: got '{objective}' with prior '{prior}', expected one of elbo, iwae"
        with pytest.raises(ConfigError, match=says):
            Config(prior=prior, objective=objective, samples=2)
        with pytest.raises(InputError, match=says):
            objective_forward(ops, p.arch, p.parameters, p.x, p.eps, objective=objective)


def test_more_pseudo_inputs_than_rows_are_refused() -> None:
    vae = VAE(4, hidden=(3,), latent=2, prior="vamp", backend="numpy")
    with pytest.raises(ConfigError, match="components: got 500, expected at most the 20 training rows"):
        vae.fit(np.eye(4, dtype=np.uint8)[np.arange(20) % 4], batch_size=10)


def test_the_standard_prior_is_as_it_was() -> None:
    p = make_problem(architecture(components=None), batch=3)
    z = np.random.default_rng(0).standard_normal((5, 3))
    found, _ = prior_forward(ops, p.arch, p.parameters, z, None)
    assert (found == standard_normal_log_prob(z)).all()
    assert prior_mixture(ops, p.arch, p.parameters) is None
