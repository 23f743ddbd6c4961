"""The ELBO and its gradient: both forms against differences, the complex step, autograd and each other.

Budget: about 8 s, nearly all of it the grid of gradients.
"""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad
from numeric import Problem, as_read_only, check_gradient, error, make_problem
from scipy import stats

from vae_np import distributions as dist
from vae_np import model, ops
from vae_np.architecture import Architecture
from vae_np.choices import LIKELIHOODS
from vae_np.elbo import FORMS, Terms, elbo_backward, elbo_forward, posterior_log_prob, standard_normal_log_prob
from vae_np.errors import InputError
from vae_np.parameters import Parameters

pytestmark = pytest.mark.core

ACTIVATIONS = ["relu", "tanh", "softplus"]
HIDDEN = [(), (5,), (5, 4)]
FEATURES, LATENT = 5, 2


def problem(
    hidden: tuple[int, ...] = (5,), activation: str = "tanh", likelihood: str = "bernoulli", **sizes: Any
) -> Problem:
    arch = Architecture(FEATURES, LATENT, hidden, activation, likelihood, sigma=0.7)
    return make_problem(arch, **{"batch": 3, **sizes})


def gradients_of(p: Problem, form: str, beta: float = 1.0, rows: slice = slice(None)) -> Parameters:
    _, cache = elbo_forward(ops, p.arch, p.parameters, p.x[rows], p.eps[rows], form=form)
    gradients = p.parameters.zeros_like()
    elbo_backward(ops, p.arch, cache, gradients, beta=beta)
    return gradients


def terms_of(p: Problem, form: str = "analytic", **changes: Any) -> Terms:
    return elbo_forward(ops, p.arch, {**p.parameters, **changes}, p.x, p.eps, form=form)[0]


# --- The gradient -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("batch", "samples"), [(1, 1), (3, 1), (1, 3), (3, 3)])
@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradient_of_every_parameter(
    activation: str, likelihood: str, form: str, hidden: tuple[int, ...], batch: int, samples: int
) -> None:
    p = problem(hidden, activation, likelihood, batch=batch, samples=samples)
    gradients = gradients_of(p, form)
    for name, value in p.parameters.items():
        check_gradient(lambda v, name=name: terms_of(p, form, **{name: v}).loss(), value, gradients[name])


@pytest.mark.parametrize("beta", [0.0, 0.3, 4.0])
@pytest.mark.parametrize("form", FORMS)
def test_gradient_with_a_weighted_kl(form: str, beta: float) -> None:
    p = problem(samples=3)
    gradients = gradients_of(p, form, beta)
    for name, value in p.parameters.items():
        check_gradient(lambda v, name=name: terms_of(p, form, **{name: v}).loss(beta), value, gradients[name])


def autograd_loss(parameters: dict[str, Any], p: Problem, form: str) -> Any:
    """−mean ELBO, written once more and from the densities alone: one example and one sample at a time."""
    arch, batch = p.arch, len(p.x)
    activation = {
        "relu": lambda a: anp.maximum(a, 0),
        "tanh": anp.tanh,
        "softplus": lambda a: anp.log(1 + anp.exp(a)),
    }[arch.activation]

    def affine(h: Any, name: str) -> Any:
        return anp.dot(h, parameters[f"{name}.weight"]) + parameters[f"{name}.bias"]

    def normal_log_density(value: Any, mean: Any, sigma: Any) -> Any:
        return anp.sum(-0.5 * ((value - mean) / sigma) ** 2 - anp.log(sigma) - 0.5 * anp.log(2 * anp.pi))

    total = 0.0
    for row, eps in enumerate(p.eps):
        x = p.x[row % batch].astype(np.float64)
        h = x
        for i in range(len(arch.hidden)):
            h = activation(affine(h, f"encoder.hidden.{i}"))
        mu, sigma = affine(h, "encoder.mu"), anp.sqrt(anp.exp(affine(h, "encoder.logvar")))
        z = mu + sigma * eps
        h = z
        for i in range(len(arch.hidden)):
            h = activation(affine(h, f"decoder.hidden.{i}"))
        out = affine(h, "decoder.out")
        if arch.is_bernoulli:
            p_one = 1 / (1 + anp.exp(-out))
            reconstruction = anp.sum(x * anp.log(p_one) + (1 - x) * anp.log(1 - p_one))
        elif arch.likelihood == "normal-fixed":
            reconstruction = normal_log_density(x, out, arch.sigma * anp.ones(len(x)))
        else:
            sigma_x = anp.sqrt(anp.exp(parameters["likelihood.logvar"]))
            reconstruction = normal_log_density(x, out, sigma_x * anp.ones(len(x)))
        if form == "analytic":
            kl = anp.sum((sigma**2 + mu**2 - 1) / 2 - anp.log(sigma))
        else:
            kl = normal_log_density(z, mu, sigma) - normal_log_density(z, 0 * mu, 1 + 0 * mu)
        total = total + reconstruction - kl
    return -total / len(p.eps)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("arch", "samples"),
    [
        (Architecture(9, 3, (7,), "relu", "bernoulli"), 1),
        (Architecture(6, 2, (5, 4), "tanh", "normal-diagonal"), 3),
        (Architecture(7, 4, (6, 5, 4), "softplus", "normal"), 2),
    ],
    ids=lambda value: getattr(value, "activation", None),
)
def test_gradient_agrees_with_autograd(arch: Architecture, samples: int, form: str) -> None:
    p = make_problem(arch, batch=5, samples=samples)
    plain = dict(p.parameters)
    assert abs(autograd_loss(plain, p, form) - terms_of(p, form).loss()) < 1e-12
    expected, gradients = grad(autograd_loss)(plain, p, form), gradients_of(p, form)
    for name in p.parameters:
        assert error(gradients[name], expected[name]) < 1e-10


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_mean_of_minibatch_gradients_is_the_gradient_of_the_batch(likelihood: str, form: str) -> None:
    p = problem((5, 4), likelihood=likelihood, batch=12)
    whole = gradients_of(p, form)
    parts = [gradients_of(p, form, rows=slice(i, i + 3)) for i in range(0, 12, 3)]
    for name in whole:
        assert error(np.mean([part[name] for part in parts], axis=0), whole[name]) < 1e-12


@pytest.mark.parametrize("form", FORMS)
def test_several_samples_give_the_mean_of_the_single_ones(form: str) -> None:
    p = problem(samples=3)
    single = [Problem(p.arch, p.parameters, p.x, p.eps[3 * s : 3 * s + 3]) for s in range(3)]
    assert error(terms_of(p, form).elbo, np.mean([terms_of(one, form).elbo for one in single], axis=0)) < 1e-13
    whole, parts = gradients_of(p, form), [gradients_of(one, form) for one in single]
    for name in whole:
        assert error(np.mean([part[name] for part in parts], axis=0), whole[name]) < 1e-12


@pytest.mark.parametrize("form", FORMS)
def test_backward_uses_the_forward_noise_and_nothing_else(form: str) -> None:
    p = problem(samples=3)
    first = gradients_of(p, form).flat
    np.random.default_rng(0).normal(size=100)
    _, cache = elbo_forward(ops, p.arch, p.parameters, p.x, p.eps, form=form)
    elbo_forward(ops, p.arch, p.parameters, p.x, -p.eps, form=form)
    again = p.parameters.zeros_like()
    for view in again.values():
        view[...] = 1e9
    elbo_backward(ops, p.arch, cache, again)
    elbo_backward(ops, p.arch, cache, again)
    assert np.array_equal(first, again.flat)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_single_precision_gradient_is_close_to_double(activation: str, likelihood: str, form: str) -> None:
    arch = Architecture(40, 6, (30,), activation, likelihood)
    single = make_problem(arch, batch=16, dtype="float32")
    for view in single.parameters.values():
        view *= np.float32(0.3)
    x = single.x if single.x.dtype == np.uint8 else single.x.astype(np.float64)
    double = Problem(arch, single.parameters.astype("float64"), x, single.eps.astype(np.float64))
    got, wanted = gradients_of(single, form), gradients_of(double, form)
    assert got.dtype == np.float32
    for name in wanted:
        assert error(got[name], wanted[name]) < 1e-5


# --- The two forms ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_the_two_forms_agree_at_the_same_x_and_z(likelihood: str, hidden: tuple[int, ...]) -> None:
    p = problem(hidden, likelihood=likelihood, samples=3)
    (mu, logvar), _ = model.encode_forward(ops, p.arch, p.parameters, p.x)
    mu, logvar = np.tile(mu, (3, 1)), np.tile(logvar, (3, 1))
    z = mu + np.sqrt(np.exp(logvar)) * p.eps
    out, _ = model.decode_forward(ops, p.arch, p.parameters, z)
    log_likelihood, _ = model.loglik_forward(ops, p.arch, p.parameters, p.x, out)
    log_prior, _ = dist.normal_log_prob_forward(z, np.zeros_like(z), np.zeros(1))
    log_q, _ = dist.normal_log_prob_forward(z, mu, logvar)

    def mean(values: Any) -> Any:
        return values.reshape(3, 3).mean(axis=0)

    joint, analytic = terms_of(p, "joint"), terms_of(p, "analytic")
    scale = np.abs(joint.elbo).max()
    assert np.abs(joint.elbo - mean(log_likelihood + log_prior - log_q)).max() / scale < 1e-12
    assert np.abs(joint.elbo - (analytic.reconstruction - mean(log_q - log_prior))).max() / scale < 1e-12
    assert np.array_equal(joint.reconstruction, analytic.reconstruction)


def test_analytic_and_sampled_kl_agree_within_four_standard_errors() -> None:
    draws = 5000
    p = problem(batch=4, samples=draws)
    analytic = terms_of(p, "analytic").kl
    joint = np.array(
        [terms_of(Problem(p.arch, p.parameters, p.x, part), "joint").kl for part in np.split(p.eps, draws)]
    )
    assert (analytic > 0.1).all()
    stderr = joint.std(axis=0, ddof=1) / np.sqrt(draws)
    assert (stderr < 0.05 * analytic + 0.02).all()
    assert (np.abs(joint.mean(axis=0) - analytic) < 4 * stderr).all()


def test_log_prior_and_log_posterior_are_scipys(rng: np.random.Generator) -> None:
    mu, logvar, eps = rng.normal(size=(3, 2)), rng.normal(size=(3, 2)), rng.normal(size=(6, 2))
    sigma = np.tile(np.exp(logvar / 2), (2, 1))
    z = np.tile(mu, (2, 1)) + sigma * eps
    assert error(standard_normal_log_prob(z), stats.norm.logpdf(z).sum(axis=1)) < 1e-12
    expected = stats.norm.logpdf(z, np.tile(mu, (2, 1)), sigma).sum(axis=1)
    assert error(posterior_log_prob(logvar, eps), expected) < 1e-12


def test_an_unknown_form_is_refused() -> None:
    p = problem()
    with pytest.raises(InputError, match=r"form: got 'exact', expected one of analytic, joint"):
        elbo_forward(ops, p.arch, p.parameters, p.x, p.eps, form="exact")


# --- Values -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_a_model_of_zeros_has_a_loss_of_log_two_per_pixel(hidden: tuple[int, ...], activation: str, form: str) -> None:
    p = problem(hidden, activation)
    p.parameters.flat[...] = 0
    terms = terms_of(p, form)
    assert np.abs(terms.reconstruction + FEATURES * np.log(2)).max() < 1e-14
    assert np.abs(terms.kl).max() < 1e-14
    assert abs(terms.loss() - FEATURES * np.log(2)) < 1e-14


def test_a_known_posterior_has_a_known_kl_and_z() -> None:
    """mu = 2 and sigma = 3 in both latents, and a decoder that passes z on: every term by hand."""
    p = problem((), likelihood="normal-fixed", batch=1, samples=2)
    p.parameters.flat[...] = 0
    p.parameters["encoder.mu.bias"][...] = 2
    p.parameters["encoder.logvar.bias"][...] = np.log(9)
    p.parameters["decoder.out.weight"][:2, :2] = np.eye(2)
    terms = terms_of(p)
    assert abs(terms.kl[0] - 2 * 0.5 * (4 + 9 - 1 - np.log(9))) < 1e-13
    means = np.zeros((2, FEATURES))
    means[:, :2] = 2 + 3 * p.eps
    assert abs(terms.reconstruction[0] - stats.norm.logpdf(p.x, means, 0.7).sum(axis=1).mean()) < 1e-12


@pytest.mark.parametrize("form", FORMS)
def test_the_loss_is_minus_the_mean_elbo(form: str) -> None:
    p = problem()
    terms = terms_of(p, form)
    assert np.array_equal(terms.elbo, terms.reconstruction - terms.kl)
    assert terms.loss() == -terms.elbo.mean()
    assert (terms.reconstruction < 0).all()


@pytest.mark.parametrize("form", FORMS)
def test_a_step_against_the_gradient_raises_the_elbo(form: str) -> None:
    p = problem()
    before, gradients = terms_of(p, form), gradients_of(p, form)
    p.parameters.flat[...] -= 1e-3 * gradients.flat
    after = terms_of(p, form)
    assert after.elbo.mean() > before.elbo.mean()
    assert after.loss() < before.loss()
    slope = (gradients.flat**2).sum()
    assert abs((before.loss() - after.loss()) / (1e-3 * slope) - 1) < 0.1


def test_beta_weighs_the_kl_in_the_loss_and_nowhere_else() -> None:
    terms = terms_of(problem())
    for beta in (0.0, 0.5, 3.0):
        assert terms.loss(beta) == -(terms.reconstruction - beta * terms.kl).mean()
    assert terms.loss(0.0) == -terms.reconstruction.mean()
    assert np.array_equal(terms.elbo, terms.reconstruction - terms.kl)


@pytest.mark.parametrize("form", FORMS)
def test_beta_enters_the_gradient_linearly_and_leaves_the_decoder_alone(form: str) -> None:
    p = problem()
    none, half, one = (gradients_of(p, form, beta) for beta in (0.0, 0.5, 1.0))
    for name in none:
        assert error(half[name], (none[name] + one[name]) / 2) < 1e-13
        assert np.array_equal(none[name], one[name]) == name.startswith("decoder")


@pytest.mark.parametrize("form", FORMS)
def test_an_example_is_worth_the_same_in_any_batch(form: str) -> None:
    p = problem((5, 4), batch=5)
    together = terms_of(p, form)
    for i in range(5):
        alone = terms_of(Problem(p.arch, p.parameters, p.x[i : i + 1], p.eps[i : i + 1]), form)
        assert error(alone.reconstruction, together.reconstruction[i : i + 1]) < 1e-13
        assert error(alone.kl, together.kl[i : i + 1]) < 1e-13


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_bytes_and_floats_of_the_same_images_are_the_same(hidden: tuple[int, ...], form: str) -> None:
    p = problem(hidden)
    floats = Problem(p.arch, p.parameters, p.x.astype(np.float64), p.eps)
    assert error(terms_of(p, form).elbo, terms_of(floats, form).elbo) < 1e-14
    assert error(gradients_of(p, form).flat, gradients_of(floats, form).flat) < 1e-14


# --- Inputs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_inputs_of_any_layout_are_read_and_never_changed(likelihood: str, form: str) -> None:
    p = problem(likelihood=likelihood)
    frozen = as_read_only({**p.parameters, "x": np.asfortranarray(p.x), "eps": np.repeat(p.eps, 2, axis=1)})
    terms, cache = elbo_forward(ops, p.arch, frozen, frozen["x"], frozen["eps"][:, ::2], form=form)
    gradients = p.parameters.zeros_like()
    elbo_backward(ops, p.arch, cache, gradients)
    assert error(terms.elbo, terms_of(p, form).elbo) < 1e-14
    assert error(gradients.flat, gradients_of(p, form).flat) < 1e-13


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", list(Architecture(FEATURES, LATENT, (5,), likelihood="normal").shapes()))
def test_nan_in_any_parameter_reaches_the_loss(name: str, activation: str, form: str) -> None:
    p = problem((5,), activation, "normal")
    p.parameters[name].flat[0] = np.nan
    assert np.isnan(terms_of(p, form).loss())


def test_terms_cannot_be_reassigned() -> None:
    terms = Terms(np.zeros(1), np.zeros(1))
    with pytest.raises(FrozenInstanceError):
        terms.kl = np.ones(1)
