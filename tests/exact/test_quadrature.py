"""Quadrature and enumeration against each other, SciPy, finite differences, draws, and a real decoder on MNIST.

Budget: about 8 s, a third of it a small model of MNIST with two latents.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from scipy import integrate, stats

from vae_np import data, model, noise
from vae_np.architecture import Architecture
from vae_np.distributions import normal_log_prob_forward
from vae_np.errors import InputError
from vae_np.exact import enumeration, quadrature
from vae_np.exact.decoder import Decoder
from vae_np.layers import sigmoid
from vae_np.vae import VAE


def _decoder(
    features: int = 4, latent: int = 1, *, scale: float = 2.0, seed: int = 1, likelihood: str = "bernoulli"
) -> Decoder:
    arch = Architecture(
        features=features, latent=latent, hidden=(6,), activation="tanh", likelihood=likelihood, sigma=0.5
    )
    parameters = model.initialise(arch, seed=seed, dtype=np.float64)
    for name in ("decoder.hidden.0.weight", "decoder.out.weight"):
        parameters[name][...] *= scale
    return Decoder.of(arch, parameters)


@cache
def _mnist(images: int = 16) -> tuple[Decoder, np.ndarray]:
    """A tanh decoder of every fourth pixel with two latents, trained for some hundred steps: narrow posteriors."""
    digits = data.load("mnist")
    quarter = (np.arange(784).reshape(28, 28)[::2, ::2]).reshape(-1)
    vae = VAE(196, hidden=(48,), latent=2, activation="tanh", backend="numpy", seed=3)
    vae.fit(digits.train[:6000, quarter], epochs=6, batch_size=100, lr=3e-3)
    rows = np.arange(images)
    x = data.prepare(
        digits.test[:images, quarter],
        digits.values,
        "dynamic",
        seed=0,
        stream=noise.EVAL_BINARIZE,
        step=0,
        rows=rows,
    )
    return Decoder.of(vae.arch, vae.parameters), x


# --- log p(x) ---------------------------------------------------------------------------------------------------


def test_trapezoid_and_gauss_hermite_agree_and_report_their_errors() -> None:
    decoder, x = _decoder(), enumeration.states(4)
    reference = quadrature.posterior(decoder, x, rule="trapezoid")
    assert reference.error.max() < 1e-12
    large = quadrature.posterior(decoder, x, rule="gauss-hermite", nodes=200)
    np.testing.assert_allclose(large.log_prob, reference.log_prob, atol=1e-11)
    np.testing.assert_allclose(quadrature.posterior(decoder, x).log_prob, reference.log_prob, atol=1e-12)
    errors = []
    for nodes in (10, 20, 40):
        found = quadrature.posterior(decoder, x, rule="gauss-hermite", nodes=nodes, tolerance=1e-9)
        true = np.abs(found.log_prob - reference.log_prob)
        errors.append(true.max())
        # The estimate is the error of half as many nodes, so it must not fall below the error it stands for.
        assert found.error.max() >= true.max()
        assert not found.converged.all()
    assert errors[0] > errors[1] > errors[2]
    # Normalised or not says nothing: a rule that is wrong in the third digit sums to one all the same.
    few = quadrature.posterior(decoder, x, rule="gauss-hermite", nodes=3)
    assert np.exp(few.log_prob).sum() == pytest.approx(1, abs=1e-12)
    assert np.abs(few.log_prob - reference.log_prob).max() > 1e-3


@pytest.mark.parametrize("likelihood", ["bernoulli", "normal"])
def test_log_p_equals_scipys_adaptive_integral(likelihood: str) -> None:
    decoder = _decoder(likelihood=likelihood)
    x = np.array([[1.0, 0, 1, 1], [0, 0, 1, 0]])

    def density(z: float, row: np.ndarray) -> float:
        out = decoder.output(np.array([[z]]))[0]
        if likelihood == "bernoulli":
            p = 1 / (1 + np.exp(-out))
            given = np.where(row == 1, p, 1 - p).prod()
        else:
            given = stats.norm(out, np.exp(decoder.logvar() / 2)).pdf(row).prod()
        return float(stats.norm.pdf(z) * given)

    expected = [math.log(integrate.quad(density, -12, 12, args=(row,), epsabs=1e-14, epsrel=1e-12)[0]) for row in x]
    np.testing.assert_allclose(quadrature.posterior(decoder, x).log_prob, expected, rtol=1e-10)


def test_two_latents_adaptive_equals_both_fixed_rules() -> None:
    decoder, x = _decoder(latent=2), enumeration.states(4)[::3]
    adaptive = quadrature.posterior(decoder, x)
    assert adaptive.converged.all()
    trapezoid = quadrature.posterior(decoder, x, rule="trapezoid", nodes=241)
    hermite = quadrature.posterior(decoder, x, rule="gauss-hermite", nodes=60)
    np.testing.assert_allclose(adaptive.log_prob, trapezoid.log_prob, atol=1e-11)
    np.testing.assert_allclose(adaptive.log_prob, hermite.log_prob, atol=1e-4)
    np.testing.assert_allclose(adaptive.mean(), trapezoid.mean(), atol=1e-10)
    np.testing.assert_allclose(adaptive.covariance(), trapezoid.covariance(), atol=1e-10)
    second_moment = adaptive.expectation(adaptive.nodes**2)
    variances = second_moment - adaptive.mean() ** 2
    np.testing.assert_allclose(variances, np.diagonal(adaptive.covariance(), axis1=1, axis2=2), rtol=1e-9)


def test_adaptive_finds_every_mode() -> None:
    # p(x|z) sees z² only, through a symmetric pair of hidden units: two equal, narrow modes.
    arch = Architecture(features=1, latent=1, hidden=(2,), activation="softplus", likelihood="normal-fixed", sigma=0.01)
    parameters = model.initialise(arch, seed=0, dtype=np.float64)
    parameters["decoder.hidden.0.weight"][...] = [[1.0, -1.0]]
    parameters["decoder.hidden.0.bias"][...] = 0
    parameters["decoder.out.weight"][...] = 1
    parameters["decoder.out.bias"][...] = 0
    decoder = Decoder.of(arch, parameters)
    found = quadrature.posterior(decoder, np.array([[2.5]]))
    fixed = quadrature.posterior(decoder, np.array([[2.5]]), rule="trapezoid", nodes=100_001)
    assert found.converged.all()
    np.testing.assert_allclose(found.log_prob, fixed.log_prob, atol=1e-10)
    assert found.weights[0, found.nodes[:, 0] > 0].sum() == pytest.approx(0.5, abs=1e-12)
    assert found.mean()[0, 0] == pytest.approx(0, abs=1e-10)
    assert found.covariance()[0, 0, 0] > 4


def test_mnist_with_two_latents_changes_below_1e_8_when_the_grid_is_halved() -> None:
    decoder, x = _mnist()
    found = quadrature.log_likelihood(decoder, x)
    assert found.converged.all()
    assert found.error.max() < 1e-8
    deviations = np.sqrt(np.linalg.eigvalsh(found.covariance))
    assert deviations.min() < 0.2
    # The whole of [−12, 12]² at one spacing, which shares nothing with the adaptive choice of nodes.
    whole = quadrature.posterior(decoder, x[:2], rule="trapezoid", nodes=401)
    assert whole.converged.all()
    np.testing.assert_allclose(whole.log_prob, found.log_prob[:2], atol=1e-8)
    np.testing.assert_allclose(whole.covariance(), found.covariance[:2], atol=1e-8)


def test_what_the_grid_cannot_hold_is_flagged() -> None:
    arch = Architecture(features=1, latent=1, hidden=(), likelihood="normal-fixed", sigma=0.1)
    parameters = model.initialise(arch, seed=0, dtype=np.float64)
    parameters["decoder.out.weight"][...] = 1
    decoder = Decoder.of(arch, parameters)
    x = np.array([[0.5], [40.0]])
    for rule in ("adaptive", "trapezoid"):
        found = quadrature.posterior(decoder, x, rule=rule)
        assert found.converged.tolist() == [True, False]
        assert found.error[1] == np.inf
    coarse = quadrature.posterior(decoder, x[:1], rule="trapezoid", nodes=61)
    assert not coarse.converged[0]
    assert coarse.error[0] > 1e-3


# --- the gradient: Fisher's identity -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("latent", "likelihood"), [(1, "bernoulli"), (2, "bernoulli"), (1, "normal"), (1, "normal-diagonal")]
)
def test_gradient_of_log_p_equals_finite_differences(latent: int, likelihood: str) -> None:
    decoder = _decoder(3, latent, scale=1.5, likelihood=likelihood)
    x = np.array([[1.0, 0, 1], [0, 0, 1], [1, 1, 1], [0, 1, 1]])
    found, gradient = quadrature.log_likelihood_gradient(decoder, x)
    assert found.converged.all()
    h = 1e-5
    rng = np.random.default_rng(0)
    for name, view in gradient.items():
        for i in [tuple(rng.integers(0, n) for n in view.shape) for _ in range(3)]:
            sides = []
            for sign in (1, -1):
                moved = decoder.moved(decoder.parameters.flat)
                moved.parameters[name][i] += sign * h
                sides.append(quadrature.log_likelihood(moved, x, rule="trapezoid", nodes=161).log_prob.sum())
            numeric = (sides[0] - sides[1]) / (2 * h)
            assert view[i] == pytest.approx(numeric, rel=1e-6, abs=1e-8), name
        assert np.abs(view).max() > 1e-3


def test_gradient_of_many_examples_is_the_sum_over_them() -> None:
    decoder, x = _decoder(5, 1), enumeration.states(5)
    many = np.vstack([x, x, x])
    whole, gradient = quadrature.log_likelihood_gradient(decoder, many)
    np.testing.assert_array_equal(whole.log_prob, quadrature.log_likelihood(decoder, many).log_prob)
    np.testing.assert_allclose(whole.log_prob[32:64], whole.log_prob[:32], atol=1e-10)
    parts = sum(quadrature.log_likelihood_gradient(decoder, row[None])[1].flat for row in x)
    np.testing.assert_allclose(gradient.flat, 3 * parts, atol=1e-9)


# --- enumeration -------------------------------------------------------------------------------------------------


def test_states_and_their_index() -> None:
    x = enumeration.states(3)
    assert x.tolist()[:3] == [[0, 0, 0], [0, 0, 1], [0, 1, 0]]
    np.testing.assert_array_equal(enumeration.state_index(x), np.arange(8))


def test_pixels_are_independent_given_z_and_dependent_without() -> None:
    decoder = _decoder(scale=4)
    given = enumeration.conditional(decoder, np.array([0.7]))
    assert np.exp(given.log_prob).sum() == pytest.approx(1, abs=1e-12)
    p = sigmoid(decoder.output(np.array([[0.7]])))[0]
    np.testing.assert_allclose(given.covariance(), np.diag(p * (1 - p)), atol=1e-14)
    table = enumeration.marginal(decoder)
    assert table.converged.all()
    nodes, log_weights = quadrature.trapezoid_grid(1, 4001)
    density = np.exp(log_weights + normal_log_prob_forward(nodes, np.zeros_like(nodes), np.zeros(1))[0])
    probabilities = sigmoid(decoder.output(nodes))
    mean = density @ probabilities
    np.testing.assert_allclose(table.mean(), mean, atol=1e-12)
    centred = probabilities - mean
    expected = centred.T @ (density[:, None] * centred)
    off_diagonal = ~np.eye(4, dtype=bool)
    np.testing.assert_allclose(table.covariance()[off_diagonal], expected[off_diagonal], atol=1e-12)
    assert np.abs(expected[off_diagonal]).max() > 0.01


def test_ancestral_samples_have_the_enumerated_frequencies() -> None:
    decoder = _decoder(scale=4)
    rows = np.arange(100_000)
    z = noise.normal(rows, 1, seed=11, stream=noise.PRIOR, dtype=np.float64)
    x = decoder.sample(z, noise.uniform(rows, 4, seed=11, stream=noise.PRIOR, sample=1))
    counts = np.bincount(enumeration.state_index(x), minlength=16)
    expected = np.exp(enumeration.marginal(decoder).log_prob) * len(rows)
    assert stats.chisquare(counts, expected * counts.sum() / expected.sum()).pvalue > 1e-3
    wrong = np.exp(enumeration.marginal(_decoder(scale=4.5)).log_prob) * len(rows)
    assert stats.chisquare(counts, wrong * counts.sum() / wrong.sum()).pvalue < 1e-3


def test_categorical_fit_scores_the_entropy_and_bounds_every_model() -> None:
    rng = np.random.default_rng(5)
    x = (rng.random((300, 1)) < 0.5).astype(np.uint8) ^ (rng.random((300, 6)) < 0.2)
    fit = enumeration.empirical(x)
    assert fit.nll(x) == pytest.approx(fit.entropy(), abs=1e-12)
    assert enumeration.categorical_nll(x) == pytest.approx(fit.entropy(), abs=1e-12)
    counts = np.unique(x, axis=0, return_counts=True)[1]
    assert fit.entropy() == pytest.approx(stats.entropy(counts), abs=1e-12)
    for seed in range(3):
        assert enumeration.marginal(_decoder(6, seed=seed)).nll(x) > fit.nll(x)
    assert enumeration.independent_bernoulli_nll(x) > fit.nll(x)
    assert enumeration.categorical_parameter_count(3) == 7
    assert math.log10(enumeration.categorical_parameter_count(784) + 1) == pytest.approx(784 * math.log10(2))


def _climb(decoder: Decoder, x: np.ndarray, steps: int) -> Decoder:
    """Maximum likelihood by exact gradients: no encoder, no bound."""
    for _ in range(steps):
        gradient = quadrature.log_likelihood_gradient(decoder, x, rule="trapezoid", nodes=201)[1]
        decoder = decoder.moved(decoder.parameters.flat + gradient.flat / len(x))
    return decoder


def test_a_mixture_beats_independent_bernoullis_on_bars() -> None:
    bars = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0], [0, 1, 0, 1]], dtype=np.uint8)
    decoder = _climb(_decoder(scale=2), bars, 300)
    mixture, independent = enumeration.marginal(decoder).nll(bars), enumeration.independent_bernoulli_nll(bars)
    assert independent == pytest.approx(4 * math.log(2))
    assert enumeration.empirical(bars).entropy() == pytest.approx(math.log(4))
    assert math.log(4) < mixture < independent - 0.5


# --- prior Monte Carlo -------------------------------------------------------------------------------------------


def test_prior_monte_carlo_is_biased_low_less_with_more_samples_and_more_with_more_pixels() -> None:
    bias = {}
    repeats = 10_000
    for features in (4, 64):
        decoder = _decoder(features, scale=6)
        z = noise.normal(np.arange(1), 1, seed=1, stream=noise.PRIOR, dtype=np.float64)
        x = decoder.sample(z, noise.uniform(np.arange(1), features, seed=1, stream=noise.PRIOR, sample=1))
        truth = quadrature.posterior(decoder, x).log_prob[0]
        for samples in (2, 16):
            draws = noise.normal(
                np.arange(repeats * samples), 1, seed=2, stream=noise.PRIOR, step=samples, dtype=np.float64
            )
            one = decoder.prior_monte_carlo(x, draws[:samples])[0]
            log_p = decoder.loglik_matrix(x.astype(np.float64), draws)[0].reshape(repeats, samples)
            estimates = np.log(np.exp(log_p).mean(axis=1))
            assert one == pytest.approx(estimates[0], rel=1e-12)
            bias[features, samples] = estimates.mean() - truth
            assert bias[features, samples] < -3 * estimates.std() / math.sqrt(repeats)
    for features in (4, 64):
        assert bias[features, 2] < bias[features, 16] * 2
    for samples in (2, 16):
        assert bias[64, samples] < bias[4, samples] * 2


# --- bad input ---------------------------------------------------------------------------------------------------


def test_bad_input_is_one_clear_line() -> None:
    decoder = _decoder()
    for call, message in (
        (lambda: quadrature.posterior(_decoder(latent=3), np.zeros((1, 4))), "latent: got 3"),
        (lambda: quadrature.log_likelihood(_decoder(latent=3), np.zeros((1, 4))), "latent: got 3"),
        (lambda: quadrature.posterior(decoder, np.zeros((1, 4)), rule="simpson"), "rule: got 'simpson'"),
        (lambda: quadrature.posterior(decoder, np.zeros((1, 4)), rule="trapezoid", nodes=10), "nodes: got 10"),
        (lambda: quadrature.gauss_hermite_rule(1, 0), "nodes: got 0"),
        (lambda: quadrature.posterior(decoder, np.zeros((1, 5))), "x: got shape"),
        (lambda: quadrature.posterior(decoder, np.full((1, 4), 0.5)), "grey"),
        (lambda: quadrature.posterior(_decoder(likelihood="normal"), np.full((1, 4), np.nan)), "not finite"),
        (lambda: enumeration.marginal(_decoder(17)), "features: got 17"),
        (lambda: enumeration.states(0), "features: got 0"),
        (lambda: enumeration.marginal(_decoder(likelihood="normal")), "likelihood"),
        (lambda: enumeration.state_index(np.full((1, 2), 3)), "binary"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
