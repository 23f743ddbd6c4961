"""A decoder that is a function in Python, against closed forms, SciPy and the decoder with parameters; `VAE.exact`.

Budget: about 2 s.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import integrate, stats

from vae_np import VAE, data
from vae_np.distributions import normal_kl_forward
from vae_np.errors import InputError
from vae_np.exact import Decoder, FunctionDecoder, enumeration, quadrature
from vae_np.exact.amortisation import split_gap
from vae_np.exact.inference import ELBO, Family, Rule
from vae_np.exact.linear_gaussian import LinearGaussian

W = np.array([[1.2, -0.5, 0.3], [0.1, 0.8, -0.9]])


def test_a_linear_function_has_the_linear_gaussian_evidence() -> None:
    x = np.array([[0.5, -1.0, 2.0], [0.0, 0.1, 0.2]])
    b = np.array([0.2, -0.1, 0.4])
    decoder = FunctionDecoder(lambda z: z @ W + b, latent=2, likelihood="normal", sigma=0.7)
    covariance = W.T @ W + 0.49 * np.eye(3)
    found = quadrature.log_likelihood(decoder, x)
    np.testing.assert_allclose(found.log_prob, stats.multivariate_normal(b, covariance).logpdf(x), atol=1e-9)
    assert found.converged.all()
    model = LinearGaussian(W.T, b, np.full(3, 0.49))
    mean, chol = model.posterior(x)
    np.testing.assert_allclose(found.mean, mean, atol=1e-8)
    assert chol is not None


def test_means_and_variances_may_both_depend_on_z() -> None:
    decoder = FunctionDecoder(lambda z: (np.sin(2 * z), 0.3 * z - 1), latent=1, likelihood="normal")
    x = 0.3
    found = quadrature.log_likelihood(decoder, np.array([[x]]), tolerance=1e-12).log_prob[0]

    def joint(z: float) -> float:
        scale = math.exp(0.5 * (0.3 * z - 1))
        return float(stats.norm.pdf(z) * stats.norm.pdf(x, math.sin(2 * z), scale))

    assert found == pytest.approx(math.log(integrate.quad(joint, -12, 12, epsabs=1e-13, limit=400)[0]), abs=1e-9)


def test_the_function_of_a_decoder_is_that_decoder() -> None:
    vae = VAE(6, hidden=(5,), latent=1, activation="tanh", dtype="float64", seed=3, backend="numpy")
    own = Decoder.of(vae.arch, vae.parameters)
    function = FunctionDecoder(own.output, latent=1)
    x = data.bars(3, 8, 0)[0][:, :6]
    np.testing.assert_allclose(
        quadrature.log_likelihood(function, x).log_prob, quadrature.log_likelihood(own, x).log_prob, atol=1e-12
    )
    table, table_own = (enumeration.marginal(one).log_prob for one in (function, own))
    np.testing.assert_allclose(table, table_own, atol=1e-12)
    assert np.exp(table).sum() == pytest.approx(1)
    # The bound and its slopes: by central differences here, by hand there.
    family = Family("diagonal", 1)
    lam = family.diagonal(np.full((8, 1), 0.4), np.full((8, 1), -1.0))
    bounds = [ELBO(one, x, Rule.gauss_hermite(1, 20), family) for one in (function, own)]
    (value, slope), (value_own, slope_own) = (one.value_and_gradient(lam, np.arange(8)) for one in bounds)
    np.testing.assert_allclose(value, value_own, atol=1e-12)
    np.testing.assert_allclose(slope, slope_own, atol=1e-8)


def test_the_gap_of_a_function_is_split() -> None:
    decoder = FunctionDecoder(lambda z: 1.5 * z, latent=1, likelihood="normal", sigma=0.5)
    x = np.array([[1.0], [-0.4]])
    # The posterior is N(m, v): normals can do it all, and what is missing is the KL from the given q to it.
    v = 1 / (1 + 2.25 / 0.25)
    m = v * 1.5 * x / 0.25
    mu, logvar = m + 0.2, np.full((2, 1), math.log(v) + 0.3)
    gap = split_gap(decoder, x, mu, logvar)
    expected = 0.5 * (math.exp(0.3) - 1 - 0.3 + 0.04 / v)
    np.testing.assert_allclose(gap.total, expected, atol=1e-9)
    np.testing.assert_allclose(gap.approximation, 0, atol=1e-9)
    np.testing.assert_allclose(gap.amortisation, expected, atol=1e-7)
    assert gap.converged.all()


@pytest.mark.parametrize(
    ("function", "more", "line"),
    [
        (lambda z: z[:, 0], {}, r"function: returned shape (1,), expected logits of shape (1, D) for 1 rows z"),
        (lambda z: z + np.inf, {}, "function: returned a value that is not finite for a z within 0"),
        (lambda z: (z, z), {}, "function: returned 2 arrays, expected logits of shape (1, D) for 1 rows z"),
        (
            lambda z: (z, z),
            {"likelihood": "normal", "sigma": 0.5},
            "function: returned 2 arrays besides sigma 0.5, expected means of shape (1, D) for 1 rows z",
        ),
        (
            lambda z: (z, np.zeros((3, 3))),
            {"likelihood": "normal"},
            "function: returned log σ² of shape (3, 3), expected (1, 1)",
        ),
        (3, {}, "function: got int, expected a callable z (M, K) -> (M, D)"),
        (lambda z: z, {"latent": 0}, "latent: got 0, expected a whole number > 0"),
        (lambda z: z, {"sigma": -1.0}, "sigma: got -1.0, expected a finite number > 0"),
        (lambda z: z, {"likelihood": "poisson"}, "likelihood: got 'poisson', expected bernoulli or normal"),
    ],
)
def test_what_is_no_decoder_is_refused_in_one_line(function: Any, more: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError) as told:
        FunctionDecoder(function, **{"latent": 1, **more})
    assert str(told.value) == line


def test_a_function_whose_width_changes_or_that_has_no_parameters_says_so() -> None:
    decoder = FunctionDecoder(lambda z: np.zeros((len(z), 1 + (len(z) > 1))), latent=1)
    with pytest.raises(InputError, match=r"^function: returned shape \(193, 2\), expected logits of shape \(193, 1\)"):
        quadrature.log_likelihood(decoder, np.zeros((1, 1)))
    with pytest.raises(InputError, match=r"^decoder: got a function in Python, expected a decoder with parameters"):
        decoder.gradients()
    with pytest.raises(InputError, match=r"^latent: got 3, expected 1 or 2"):
        quadrature.log_likelihood(FunctionDecoder(lambda z: z, latent=3), np.zeros((1, 3)))


# From a model


@pytest.fixture(scope="module")
def vae() -> VAE:
    model = VAE(16, hidden=(6,), latent=2, activation="tanh", backend="numpy")
    model.fit(data.bars(4, 200, 0)[0], epochs=3, batch_size=20, lr=0.01)
    return model


def test_a_models_evidence_is_above_its_elbo_by_the_gap(vae: VAE) -> None:
    x = data.bars(4, 6, 1)[0]
    gap = vae.exact.gap(x)
    assert gap.converged.all()
    found = vae.exact.log_likelihood(x)
    np.testing.assert_allclose(gap.log_prob, found.log_prob)
    # E log p(x|z) − KL with many draws is the ELBO, which falls short of log p(x) by the gap.
    elbo = vae.elbo(x, z_samples=20_000)
    np.testing.assert_allclose(found.log_prob - gap.total, elbo.elbo, atol=0.02)
    np.testing.assert_allclose(elbo.kl, normal_kl_forward(*vae.encode(x))[0], rtol=1e-5)
    estimate = vae.log_likelihood(x, 5000)
    assert (np.abs(estimate.log_likelihood - found.log_prob) < 5 * estimate.stderr + 1e-4).all()
    posterior = vae.exact.posterior(x[:2])
    np.testing.assert_allclose(posterior.weights.sum(axis=1), 1)
    np.testing.assert_allclose(posterior.mean(), found.mean[:2], atol=1e-6)


def test_log_densities_are_those_of_the_data_where_the_model_sees_them_standardised() -> None:
    """A linear decoder of one latent: log p(x) in closed form, in the units of the data. [D51]"""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3)) * [1.0, 20.0, 0.1] + [5.0, 0.0, 2.0]
    vae = VAE(3, hidden=(), latent=1, likelihood="normal", dtype="float64", backend="numpy")
    vae.fit(x, epochs=2, batch_size=20, standardize=True)
    spread = vae.values.standardisation
    assert spread is not None
    w = vae.parameters["decoder.out.weight"] * spread.sigma
    mean = vae.parameters["decoder.out.bias"] * spread.sigma + spread.mean
    noise = np.diag(np.exp(vae.parameters["likelihood.logvar"][0]) * spread.sigma**2)
    expected = stats.multivariate_normal(mean, w.T @ w + noise).logpdf(x[:5])
    np.testing.assert_allclose(vae.exact.log_likelihood(x[:5]).log_prob, expected, atol=1e-8)
    np.testing.assert_allclose(vae.exact.posterior(x[:5]).log_prob, expected, atol=1e-8)
    np.testing.assert_allclose(vae.exact.gap(x[:5]).log_prob, expected, atol=1e-8)


def test_what_has_no_exact_answer_says_so_in_one_line() -> None:
    with pytest.raises(InputError, match=r"^latent: got 3, expected 1 or 2: quadrature in more is out of reach"):
        VAE(4, latent=3, backend="numpy").exact.log_likelihood(np.eye(4))
    with pytest.raises(InputError, match=r"^estimator: likelihood 'bernoulli-grey' is a cross-entropy"):
        VAE(4, latent=1, likelihood="bernoulli-grey", backend="numpy").exact.posterior(np.eye(4))
    with pytest.raises(InputError, match=r"^x: got shape \(3, 3\), expected \(N, 4\)"):
        VAE(4, latent=1, backend="numpy").exact.gap(np.eye(3))
