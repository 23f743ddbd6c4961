"""Distributions against scipy, quadrature, enumeration, and both numeric derivatives.

Budget: about 1.5 s.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numeric import check_gradient, error, sigmoid
from scipy import stats

from vae_np import distributions as dist

pytestmark = pytest.mark.core

GRID = np.linspace(-40, 40, 40001)


def integrate(values: np.ndarray, grid: np.ndarray = GRID) -> np.ndarray:
    """The trapezoid rule over the last axis, spectrally accurate for smooth functions that vanish at both ends."""
    return np.trapezoid(values, grid, axis=-1)


def random_cholesky(rng: np.random.Generator, batch: int, size: int) -> np.ndarray:
    chol = np.tril(rng.normal(0, 0.5, (batch, size, size)), -1)
    return chol + rng.uniform(0.4, 1.8, (batch, size))[..., None] * np.eye(size)


# --- Bernoulli --------------------------------------------------------------------------------------------------


def test_bernoulli_log_prob_is_the_mass_function(rng: np.random.Generator) -> None:
    logits = rng.normal(0, 2, (6, 5))
    x = rng.integers(0, 2, (6, 5)).astype(np.uint8)
    log_prob, _ = dist.bernoulli_log_prob_forward(x, logits)
    assert error(log_prob, stats.bernoulli.logpmf(x, sigmoid(logits)).sum(axis=1)) < 1e-12


def test_bernoulli_sums_to_one_over_all_images(rng: np.random.Generator) -> None:
    images = np.array(list(itertools.product([0, 1], repeat=4)), dtype=np.uint8)
    logits = np.tile(rng.normal(0, 2, 4), (16, 1))
    assert abs(np.exp(dist.bernoulli_log_prob_forward(images, logits)[0]).sum() - 1) < 1e-14


def test_bernoulli_of_grey_is_the_cross_entropy(rng: np.random.Generator) -> None:
    logits, grey = rng.normal(0, 2, (4, 5)), rng.uniform(0, 1, (4, 5))
    p = sigmoid(logits)
    expected = (grey * np.log(p) + (1 - grey) * np.log(1 - p)).sum(axis=1)
    assert error(dist.bernoulli_log_prob_forward(grey, logits)[0], expected) < 1e-12


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
@pytest.mark.parametrize("x_dtype", ["uint8", "float32"])
def test_bernoulli_at_logits_of_ten_thousand(dtype: str, x_dtype: str) -> None:
    logits = np.array([[1e4, -1e4], [-1e4, 1e4], [1e4, 1e4], [-1e4, -1e4], [1e4, 0]], dtype=dtype)
    x = np.array([[1, 0], [1, 0], [1, 0], [1, 0], [0, 1]], dtype=x_dtype)
    log_prob, cache = dist.bernoulli_log_prob_forward(x, logits)
    assert log_prob.dtype == dtype
    assert np.array_equal(log_prob[:4], [0, -2e4, -1e4, -1e4])
    assert abs(log_prob[4] + 1e4 + np.log(2)) < 1e4 * np.finfo(dtype).eps
    dlogits = dist.bernoulli_log_prob_backward(np.ones(5, dtype=dtype), cache)
    assert dlogits.dtype == dtype
    assert np.array_equal(dlogits, [[0, 0], [1, -1], [0, -1], [1, 0], [-1, 0.5]])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bernoulli_keeps_the_digits_of_a_confident_pixel(dtype: str) -> None:
    """log p of a pixel that is right with probability 1 − exp(−60) is −exp(−60), not 0."""
    log_prob, _ = dist.bernoulli_log_prob_forward(
        np.array([[1], [0]], dtype=np.uint8), np.array([[60], [-60]], dtype=dtype)
    )
    assert np.abs(log_prob / -np.exp(-60.0) - 1).max() < 10 * np.finfo(dtype).eps


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize(("batch", "samples"), [(1, 1), (3, 1), (1, 3), (5, 3)])
def test_bernoulli_gradient(rng: np.random.Generator, grey: bool, batch: int, samples: int) -> None:
    x = rng.uniform(0, 1, (batch, 5))
    x = x if grey else np.rint(x).astype(np.uint8)
    logits, upstream = rng.normal(0, 2, (samples * batch, 5)), rng.normal(size=samples * batch)
    _, cache = dist.bernoulli_log_prob_forward(x, logits)
    check_gradient(
        lambda v: (upstream * dist.bernoulli_log_prob_forward(x, v)[0]).sum(),
        logits,
        dist.bernoulli_log_prob_backward(upstream, cache),
    )


def test_samples_of_an_example_are_stacked_sample_major(rng: np.random.Generator) -> None:
    x = rng.integers(0, 2, (3, 5)).astype(np.uint8)
    logits = rng.normal(size=(6, 5))
    together, _ = dist.bernoulli_log_prob_forward(x, logits)
    apart = [dist.bernoulli_log_prob_forward(x, logits[rows])[0] for rows in (slice(0, 3), slice(3, 6))]
    assert np.array_equal(together, np.concatenate(apart))
    mean, logvar = logits, rng.normal(size=(3, 5))
    together, _ = dist.normal_log_prob_forward(x, mean, logvar)
    apart = [dist.normal_log_prob_forward(x, mean[rows], logvar)[0] for rows in (slice(0, 3), slice(3, 6))]
    assert np.array_equal(together, np.concatenate(apart))


def test_bernoulli_samples_have_the_sigmoid_as_their_probability(rng: np.random.Generator) -> None:
    n = 40_000
    logits = np.array([-3.0, -0.5, 0.0, 1.0, 4.0])
    draws = dist.bernoulli_sample(np.tile(logits, (n, 1)), rng.uniform(size=(n, 5)))
    assert draws.dtype == np.uint8
    p = sigmoid(logits)
    assert (np.abs(draws.mean(axis=0) - p) < 4 * np.sqrt(p * (1 - p) / n)).all()


def test_a_bernoulli_sample_is_one_where_the_uniform_is_below() -> None:
    draws = dist.bernoulli_sample(np.zeros((1, 4)), np.array([[0.0, 0.499, 0.5, 0.999]]))
    assert np.array_equal(draws, [[1, 1, 0, 0]])


def test_bernoulli_entropy_is_minus_the_mean_log_prob(rng: np.random.Generator) -> None:
    logits = rng.normal(0, 2, (3, 4))
    images = np.array(list(itertools.product([0, 1], repeat=4)), dtype=np.uint8)
    for row, entropy in zip(logits, dist.bernoulli_entropy(logits), strict=True):
        log_p, _ = dist.bernoulli_log_prob_forward(images, np.tile(row, (16, 1)))
        assert abs(entropy + (np.exp(log_p) * log_p).sum()) < 1e-13
    assert np.array_equal(dist.bernoulli_entropy(np.array([[1e4], [-1e4]])), [0, 0])


def test_bernoulli_kl_is_the_enumerated_one(rng: np.random.Generator) -> None:
    logits, other = rng.normal(0, 2, (3, 4)), rng.normal(0, 2, (3, 4))
    images = np.array(list(itertools.product([0, 1], repeat=4)), dtype=np.uint8)
    for row, other_row, kl in zip(logits, other, dist.bernoulli_kl(logits, other), strict=True):
        log_p, _ = dist.bernoulli_log_prob_forward(images, np.tile(row, (16, 1)))
        log_q, _ = dist.bernoulli_log_prob_forward(images, np.tile(other_row, (16, 1)))
        assert abs(kl - (np.exp(log_p) * (log_p - log_q)).sum()) < 1e-13
    assert np.array_equal(dist.bernoulli_kl(np.array([[1e4, -1e4]]), np.array([[-1e4, -1e4]])), [1e4])


# --- Normal with a variance per dimension -----------------------------------------------------------------------


@pytest.mark.parametrize("logvar_shape", [(1,), (5,), (4, 5)])
def test_normal_log_prob_is_scipys_with_its_constants(rng: np.random.Generator, logvar_shape: tuple[int, ...]) -> None:
    x, mean, logvar = rng.normal(size=(4, 5)), rng.normal(size=(4, 5)), rng.normal(0, 2, logvar_shape)
    expected = stats.norm.logpdf(x, mean, np.sqrt(np.exp(logvar))).sum(axis=1)
    assert error(dist.normal_log_prob_forward(x, mean, logvar)[0], expected) < 1e-12


def test_normal_log_prob_at_its_mean() -> None:
    at_zero, _ = dist.normal_log_prob_forward(np.zeros((1, 3)), np.zeros((1, 3)), np.zeros(1))
    assert abs(at_zero[0] + 1.5 * np.log(2 * np.pi)) < 1e-15
    doubled, _ = dist.normal_log_prob_forward(np.zeros((1, 3)), np.zeros((1, 3)), np.log([4.0]))
    assert abs(doubled[0] - at_zero[0] + 3 * np.log(2)) < 1e-14


@pytest.mark.parametrize("logvar_shape", [(1,), (5,), ("batch", 5), ("batch", 1)])
@pytest.mark.parametrize(("batch", "samples"), [(1, 1), (3, 1), (1, 3), (5, 3)])
def test_normal_gradients(
    rng: np.random.Generator, logvar_shape: tuple[int | str, ...], batch: int, samples: int
) -> None:
    x, mean = rng.normal(size=(batch, 5)), rng.normal(size=(samples * batch, 5))
    logvar = rng.normal(size=[batch if n == "batch" else n for n in logvar_shape])
    upstream = rng.normal(size=samples * batch)
    _, cache = dist.normal_log_prob_forward(x, mean, logvar)
    dx, dmean, dlogvar = dist.normal_log_prob_backward(upstream, cache)
    check_gradient(lambda v: (upstream * dist.normal_log_prob_forward(v, mean, logvar)[0]).sum(), x, dx)
    check_gradient(lambda v: (upstream * dist.normal_log_prob_forward(x, v, logvar)[0]).sum(), mean, dmean)
    check_gradient(lambda v: (upstream * dist.normal_log_prob_forward(x, mean, v)[0]).sum(), logvar, dlogvar)


def test_one_dimension_and_one_example_keep_their_gradients() -> None:
    """Where D = 1 a shared logvar and one a dimension have the same shape, and B = 1 must not be summed away."""
    _, cache = dist.normal_log_prob_forward(np.ones((1, 1)), np.zeros((1, 1)), np.log([[4.0]]))
    dx, dmean, dlogvar = dist.normal_log_prob_backward(np.ones(1), cache)
    assert (dx.shape, dmean.shape, dlogvar.shape) == ((1, 1), (1, 1), (1, 1))
    assert np.allclose([dx[0, 0], dmean[0, 0], dlogvar[0, 0]], [-0.25, 0.25, 0.5 * (0.25 - 1)], rtol=1e-14)


def test_normal_sample_scales_the_noise_by_the_standard_deviation() -> None:
    z = dist.normal_sample(np.array([[1.0, -2.0]]), np.log(np.array([[9.0, 0.25]])), np.array([[2.0, -1.0]]))
    assert np.abs(z - [[7.0, -2.5]]).max() < 1e-14


def test_normal_samples_follow_the_density(rng: np.random.Generator) -> None:
    """The sampler and the log-density must mean the same variance, which no gradient check can see."""
    mean, logvar = np.array([0.7, -3.0]), np.array([1.5, -2.0])
    z = dist.normal_sample(mean, logvar, rng.normal(size=(20_000, 2)))
    for j in range(2):
        density = np.exp(
            [
                dist.normal_log_prob_forward(np.array([[value]]), mean[None, j : j + 1], logvar[j : j + 1])[0][0]
                for value in GRID[::20]
            ]
        )
        cumulative = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(GRID[::20]))])
        assert stats.kstest(z[:, j], lambda v, c=cumulative: np.interp(v, GRID[::20], c)).pvalue > 1e-3


def test_normal_entropy_is_minus_the_mean_log_density() -> None:
    logvar = np.array([[1.3, -0.4, 0.0], [-2.0, 0.5, 2.5]])
    log_density = stats.norm.logpdf(GRID, 0, np.exp(logvar / 2)[..., None])
    expected = -integrate(np.exp(log_density) * log_density).sum(axis=-1)
    assert error(dist.normal_entropy(logvar), expected) < 1e-12


def test_normal_kl_is_the_integral() -> None:
    mu = np.array([[0.3, -2.0, 0.0], [1.5, 0.0, -0.7]])
    logvar = np.array([[0.8, -1.0, 0.0], [-3.0, 1.2, 0.1]])
    log_q = stats.norm.logpdf(GRID, mu[..., None], np.exp(logvar / 2)[..., None])
    expected = integrate(np.exp(log_q) * (log_q - stats.norm.logpdf(GRID))).sum(axis=-1)
    assert error(dist.normal_kl_forward(mu, logvar)[0], expected) < 1e-12


def test_normal_kl_is_summed_over_latents() -> None:
    kl, _ = dist.normal_kl_forward(np.full((2, 7), 2.0), np.zeros((2, 7)))
    assert np.array_equal(kl, [14.0, 14.0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normal_kl_near_the_prior_keeps_its_digits(dtype: str) -> None:
    kl, _ = dist.normal_kl_forward(np.zeros((1, 1), dtype=dtype), np.full((1, 1), 2.0**-8, dtype=dtype))
    v = 2.0**-8
    series = 0.5 * (v**2 / 2 + v**3 / 6 + v**4 / 24 + v**5 / 120 + v**6 / 720)
    # exp v − 1 is rounded to within eps·v, and v is what the difference loses: 4 eps / v of the result.
    assert abs(kl[0] / series - 1) < 2 * 4 * np.finfo(dtype).eps / v
    assert dist.normal_kl_forward(np.zeros((1, 3), dtype=dtype), np.zeros((1, 3), dtype=dtype))[0][0] == 0


@pytest.mark.parametrize("batch", [1, 3])
def test_normal_kl_gradient(rng: np.random.Generator, batch: int) -> None:
    mu, logvar, upstream = rng.normal(size=(batch, 4)), rng.normal(0, 2, (batch, 4)), rng.normal(size=batch)
    dmu, dlogvar = dist.normal_kl_backward(upstream, dist.normal_kl_forward(mu, logvar)[1])
    check_gradient(lambda v: (upstream * dist.normal_kl_forward(v, logvar)[0]).sum(), mu, dmu)
    check_gradient(lambda v: (upstream * dist.normal_kl_forward(mu, v)[0]).sum(), logvar, dlogvar)


# --- Normal with a full covariance ------------------------------------------------------------------------------


def test_full_normal_log_prob_and_entropy_are_scipys(rng: np.random.Generator) -> None:
    z, mu, chol = rng.normal(size=(5, 3)), rng.normal(size=(5, 3)), random_cholesky(rng, 5, 3)
    log_prob, _ = dist.full_normal_log_prob_forward(z, mu, chol)
    entropy = dist.full_normal_entropy(chol)
    for i in range(5):
        reference = stats.multivariate_normal(mu[i], chol[i] @ chol[i].T)
        assert abs(log_prob[i] - reference.logpdf(z[i])) < 1e-12
        assert abs(entropy[i] - reference.entropy()) < 1e-12


def test_full_normal_of_a_diagonal_is_the_diagonal_normal(rng: np.random.Generator) -> None:
    z, mu, logvar = rng.normal(size=(4, 3)), rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    chol = np.exp(logvar / 2)[..., None] * np.eye(3)
    pairs = [
        (dist.full_normal_log_prob_forward(z, mu, chol)[0], dist.normal_log_prob_forward(z, mu, logvar)[0]),
        (dist.full_normal_kl_forward(mu, chol)[0], dist.normal_kl_forward(mu, logvar)[0]),
        (dist.full_normal_entropy(chol), dist.normal_entropy(logvar)),
        (dist.full_normal_sample_forward(mu, chol, z)[0], dist.normal_sample(mu, logvar, z)),
    ]
    for full, diagonal in pairs:
        assert error(full, diagonal) < 1e-13


def test_full_normal_kl_is_the_integral(rng: np.random.Generator) -> None:
    grid = np.linspace(-14, 14, 401)
    plane = np.stack(np.meshgrid(grid, grid, indexing="ij"), axis=-1)
    mu, chol = rng.normal(size=(2, 2)), random_cholesky(rng, 2, 2)
    for i, kl in enumerate(dist.full_normal_kl_forward(mu, chol)[0]):
        log_q = stats.multivariate_normal(mu[i], chol[i] @ chol[i].T).logpdf(plane)
        integrand = np.exp(log_q) * (log_q - stats.norm.logpdf(plane).sum(axis=-1))
        assert abs(kl - integrate(integrate(integrand, grid), grid)) < 1e-12


def test_full_normal_kl_and_log_densities_agree(rng: np.random.Generator) -> None:
    """KL = −H(q) − E_q log p, and E_q log p = −½ (K log 2π + tr Σ + |mu|²), in five dimensions."""
    mu, chol = rng.normal(size=(3, 5)), random_cholesky(rng, 3, 5)
    covariance = chol @ np.swapaxes(chol, -1, -2)
    second_moment = np.trace(covariance, axis1=-2, axis2=-1) + (mu**2).sum(axis=-1)
    expected = -dist.full_normal_entropy(chol) + 0.5 * (5 * np.log(2 * np.pi) + second_moment)
    assert error(dist.full_normal_kl_forward(mu, chol)[0], expected) < 1e-13


def test_full_normals_take_several_points_of_each_example(rng: np.random.Generator) -> None:
    """z (S, B, K), as the objectives use them: the last axes are the distribution's own, whatever stands before."""
    z, mu = rng.normal(size=(2, 4, 3)), rng.normal(size=(2, 4, 3))
    chol = random_cholesky(rng, 8, 3).reshape(2, 4, 3, 3)
    for function, arguments in (
        (lambda *parts: dist.full_normal_log_prob_forward(*parts)[0], (z, mu, chol)),
        (lambda *parts: dist.full_normal_sample_forward(*parts)[0], (mu, chol, z)),
        (lambda *parts: dist.full_normal_kl_forward(*parts)[0], (mu, chol)),
        (dist.full_normal_entropy, (chol,)),
    ):
        together = function(*arguments)
        for s in range(2):
            assert error(together[s], function(*(part[s] for part in arguments))) < 1e-14


def test_full_normal_samples_have_the_mean_and_the_covariance(rng: np.random.Generator) -> None:
    n, chol = 40_000, random_cholesky(rng, 1, 3)
    mu = np.array([[1.0, -2.0, 0.5]])
    z, _ = dist.full_normal_sample_forward(np.tile(mu, (n, 1)), chol, rng.normal(size=(n, 3)))
    covariance = chol[0] @ chol[0].T
    assert (np.abs(z.mean(axis=0) - mu) < 4 * np.sqrt(np.diag(covariance) / n)).all()
    variances = np.diag(covariance)
    spread = np.sqrt((np.outer(variances, variances) + covariance**2) / n)
    assert (np.abs(np.cov(z.T) - covariance) < 4 * spread).all()


@pytest.mark.parametrize(("batch", "size"), [(1, 1), (1, 3), (3, 2)])
def test_full_normal_gradients(rng: np.random.Generator, batch: int, size: int) -> None:
    z, mu, eps = (rng.normal(size=(batch, size)) for _ in range(3))
    mu, chol, upstream = mu * 0.5 + 0.3, random_cholesky(rng, batch, size), rng.normal(size=batch)
    lower = np.tril(np.ones((size, size)))

    _, cache = dist.full_normal_log_prob_forward(z, mu, chol)
    dz, dmu, dchol = dist.full_normal_log_prob_backward(upstream, cache)
    log_prob = dist.full_normal_log_prob_forward
    check_gradient(lambda v: (upstream * log_prob(v, mu, chol)[0]).sum(), z, dz)
    check_gradient(lambda v: (upstream * log_prob(z, v, chol)[0]).sum(), mu, dmu)
    check_gradient(lambda v: (upstream * log_prob(z, mu, v * lower)[0]).sum(), chol, dchol)

    _, cache = dist.full_normal_kl_forward(mu, chol)
    dmu, dchol = dist.full_normal_kl_backward(upstream, cache)
    check_gradient(lambda v: (upstream * dist.full_normal_kl_forward(v, chol)[0]).sum(), mu, dmu)
    check_gradient(lambda v: (upstream * dist.full_normal_kl_forward(mu, v * lower)[0]).sum(), chol, dchol)

    _, cache = dist.full_normal_sample_forward(mu, chol, eps)
    dmu, dchol = dist.full_normal_sample_backward(z, cache)
    check_gradient(lambda v: (z * dist.full_normal_sample_forward(v, chol, eps)[0]).sum(), mu, dmu)
    check_gradient(lambda v: (z * dist.full_normal_sample_forward(mu, v * lower, eps)[0]).sum(), chol, dchol)


# --- Categorical ------------------------------------------------------------------------------------------------


def test_categorical_log_prob_is_the_mass_function(rng: np.random.Generator) -> None:
    logits, labels = rng.normal(0, 2, (6, 4)), np.array([0, 1, 2, 3, 3, 0])
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    log_prob, _ = dist.categorical_log_prob_forward(labels, logits)
    assert error(log_prob, np.log(p[np.arange(6), labels])) < 1e-13


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
def test_categorical_at_logits_of_ten_thousand(dtype: str) -> None:
    logits = np.array([[1e4, -1e4, 0]] * 3, dtype=dtype)
    log_prob, cache = dist.categorical_log_prob_forward(np.arange(3), logits)
    assert log_prob.dtype == dtype
    assert np.array_equal(log_prob, [0, -2e4, -1e4])
    dlogits = dist.categorical_log_prob_backward(np.ones(3, dtype=dtype), cache)
    assert np.array_equal(dlogits, [[0, 0, 0], [-1, 1, 0], [-1, 0, 1]])
    assert dist.categorical_entropy(logits)[0] == 0


@pytest.mark.parametrize("batch", [1, 5])
def test_categorical_gradient(rng: np.random.Generator, batch: int) -> None:
    logits, upstream = rng.normal(0, 2, (batch, 3)), rng.normal(size=batch)
    labels = rng.integers(0, 3, batch)
    _, cache = dist.categorical_log_prob_forward(labels, logits)
    check_gradient(
        lambda v: (upstream * dist.categorical_log_prob_forward(labels, v)[0]).sum(),
        logits,
        dist.categorical_log_prob_backward(upstream, cache),
    )


def test_categorical_entropy_and_kl_are_scipys(rng: np.random.Generator) -> None:
    logits, other = rng.normal(0, 2, (4, 5)), rng.normal(0, 2, (4, 5))
    p, q = (np.exp(v) / np.exp(v).sum(axis=1, keepdims=True) for v in (logits, other))
    assert error(dist.categorical_entropy(logits), stats.entropy(p, axis=1)) < 1e-12
    assert error(dist.categorical_kl(logits, other), stats.entropy(p, q, axis=1)) < 1e-12
    assert np.array_equal(dist.categorical_kl(logits, logits), np.zeros(4))


def test_categorical_samples_have_the_probabilities(rng: np.random.Generator) -> None:
    n, logits = 40_000, np.array([[0.5, -1.0, 2.0, 0.0]])
    labels = dist.categorical_sample(np.tile(logits, (n, 1)), rng.uniform(size=n))
    expected = n * np.exp(logits[0]) / np.exp(logits[0]).sum()
    assert stats.chisquare(np.bincount(labels, minlength=4), expected).pvalue > 1e-3


def test_a_categorical_sample_is_never_out_of_range() -> None:
    thirds = np.zeros((3, 3), dtype=np.float32)
    u = np.array([0.0, 0.5, np.nextafter(np.float32(1), np.float32(0))], dtype=np.float32)
    assert np.array_equal(dist.categorical_sample(thirds, u), [0, 1, 2])
    certain = np.array([[-1e4, 1e4, -1e4]] * 3)
    assert np.array_equal(dist.categorical_sample(certain, u), [1, 1, 1])
