"""What random numbers must be right about on average: moments, densities, unbiased gradients, variances.

Every draw comes from the package's own counter-based noise at fixed seeds, so a result is the same on every machine and
with every version of NumPy. A mean may be off by 4 of its standard errors; a sample passes a test of fit at p > 1e-3.

Budget: about 4 s.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numeric import complex_step, sigmoid
from scipy import stats

from vae_np import distributions as dist
from vae_np import model, noise, ops
from vae_np._types import Array
from vae_np.architecture import Architecture
from vae_np.elbo import FORMS, elbo_backward, elbo_forward
from vae_np.evaluation.importance import estimate_from_log_weights, log_weights
from vae_np.exact.decoder import Decoder
from vae_np.exact.enumeration import marginal, state_index, states
from vae_np.exact.linear_gaussian import LinearGaussian
from vae_np.layers import softplus
from vae_np.model import Model, initialise
from vae_np.parameters import Parameters
from vae_np.vae import VAE

SEED = 2026


def normals(*shape: int, step: int = 0) -> Array:
    """Standard normals in float64; another `step` is another draw."""
    rows, columns = math.prod(shape[:-1]), shape[-1]
    draws = noise.normal(np.arange(rows), columns, seed=SEED, stream=noise.EPS, step=step, dtype=np.float64)
    return draws.reshape(shape)


def uniforms(*shape: int) -> Array:
    rows, columns = math.prod(shape[:-1]), shape[-1]
    return noise.uniform(np.arange(rows), columns, seed=SEED, stream=noise.EVAL_BINARIZE).reshape(shape)


def assert_mean(draws: Array, exact: Any) -> None:
    """The mean over the first axis is `exact` within 4 standard errors, in every entry."""
    stderr = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
    assert np.all(stderr > 0)
    assert np.all(np.abs(draws.mean(axis=0) - exact) < 4 * stderr)


def assert_variance(draws: Array, exact: Any) -> None:
    """The variance over the first axis is `exact` within 4 standard errors, in every entry."""
    assert_mean((draws - draws.mean(axis=0)) ** 2, exact)


def assert_standard_normal(draws: Array) -> None:
    """Every column of (N, K) is standard normal, and no two are correlated."""
    for column in draws.T:
        assert stats.kstest(column, "norm").pvalue > 1e-3
    correlation = np.atleast_2d(np.corrcoef(draws.T))
    assert np.abs(correlation - np.eye(draws.shape[1])).max() < 4 / np.sqrt(len(draws))


def fit(counts: Array, probability: Array) -> float:
    """The p-value of χ², for counts of cells that have these probabilities."""
    assert abs(probability.sum() - 1) < 1e-7
    expected = counts.sum() * probability / probability.sum()
    assert expected.min() > 5
    return float(stats.chisquare(counts, expected).pvalue)


# --- z, and the KL that is charged for it -----------------------------------------------------------------------


def test_z_has_the_mean_and_exp_logvar_as_its_variance() -> None:
    mu = np.array([[0.0, 3.0, -1.5, 0.2]])
    logvar = np.array([[-8.0, -1.0, 0.0, 3.0]])
    (z, _), _ = ops.reparam_kl_forward(mu, logvar, normals(100_000, 4))
    assert_mean(z, mu[0])
    assert_variance(z, np.exp(logvar[0]))
    assert_standard_normal((z - mu) / np.sqrt(np.exp(logvar)))


def test_the_sampled_kl_has_the_analytic_one_as_its_mean() -> None:
    """The ½ Σ (z² − ε² − v) of one draw: its variance ½ (eᵛ − 1)² + μ² eᵛ a latent is known too."""
    arch = Architecture(5, 3, (4,), "tanh", "bernoulli")
    parameters = spread_out(arch)
    x = states(5)[[3, 12, 21]]
    draws = 20_000
    eps = normals(draws, 3, 3)
    analytic = elbo_forward(ops, arch, parameters, x, eps[0])[0].kl
    sampled = np.array([elbo_forward(ops, arch, parameters, x, one, form="joint")[0].kl for one in eps[:2000]])
    assert_mean(sampled, analytic)
    (mu, logvar), _ = model.encode_forward(ops, arch, parameters, x)
    variance = (0.5 * np.expm1(logvar) ** 2 + mu**2 * np.exp(logvar)).sum(axis=1)
    assert_variance(sampled, variance)
    together = elbo_forward(ops, arch, parameters, x, eps.reshape(-1, 3), form="joint")[0].kl
    assert np.all(np.abs(together - analytic) < 4 * np.sqrt(variance / draws))


def test_the_sampled_kl_of_a_full_covariance_has_the_analytic_one_as_its_mean() -> None:
    mu, chol = np.array([[0.5, -1.0, 0.2]]), full_cholesky()
    z, _ = dist.full_normal_sample_forward(mu, chol, normals(50_000, 3))
    log_q, _ = dist.full_normal_log_prob_forward(z, mu, chol)
    log_p, _ = dist.normal_log_prob_forward(z, np.zeros_like(z), np.zeros(1))
    assert_mean(log_q - log_p, dist.full_normal_kl_forward(mu, chol)[0][0])
    assert_mean(-log_q, dist.full_normal_entropy(chol)[0])


def full_cholesky() -> Array:
    return np.array([[[1.2, 0, 0], [-0.7, 0.5, 0], [0.4, 0.9, 2.0]]])


def spread_out(arch: Architecture, scale: float = 3.0) -> Parameters:
    """Random parameters, large enough that everything in the model matters, and a q wider than any posterior."""
    parameters = initialise(arch, seed=SEED, dtype=np.float64)
    parameters.flat[...] *= scale
    parameters["encoder.logvar.weight"][...] /= 2 * scale
    parameters["encoder.logvar.bias"][...] = 0.5
    return parameters


# --- Unbiased gradients -----------------------------------------------------------------------------------------


def linear_gaussian_loss(arch: Architecture, values: Mapping[str, Array], x: Array, beta: float) -> Any:
    """The exact loss of a linear VAE: E_q |x − Wz − b|² = |x − Wμ − b|² + Σ W² eᵛ. Takes complex parameters."""
    mu = x @ values["encoder.mu.weight"] + values["encoder.mu.bias"]
    logvar = x @ values["encoder.logvar.weight"] + values["encoder.logvar.bias"]
    weight, noise_logvar = values["decoder.out.weight"], values["likelihood.logvar"]
    residual = x - mu @ weight - values["decoder.out.bias"]
    squares = residual * residual + np.exp(logvar) @ (weight * weight)
    log_likelihood = -0.5 * (np.log(2 * np.pi) + noise_logvar + squares * np.exp(-noise_logvar)).sum(axis=1)
    kl = 0.5 * (mu * mu + np.exp(logvar) - 1 - logvar).sum(axis=1)
    return -(log_likelihood - beta * kl).mean()


def quadrature_loss(arch: Architecture, values: Mapping[str, Array], x: Array, beta: float) -> Any:
    """The loss of a Bernoulli VAE with one latent, E_q as an integral over z, with no reparameterisation in it."""
    grid = np.linspace(-9, 9, 721)
    (mu, logvar), _ = model.encode_forward(ops, arch, values, x.astype(np.float64))
    density = np.exp(-0.5 * ((grid - mu) ** 2 * np.exp(-logvar) + logvar)) / np.sqrt(2 * np.pi)
    logits, _ = model.decode_forward(ops, arch, values, grid[:, None].astype(mu.dtype))
    log_likelihood = x @ logits.T - softplus(logits).sum(axis=1)
    kl = 0.5 * (mu * mu + np.exp(logvar) - 1 - logvar).sum(axis=1)
    return -((density * log_likelihood).sum(axis=1) * (grid[1] - grid[0]) - beta * kl).mean()


LINEAR = Architecture(4, 2, (), "tanh", "normal-diagonal")
BERNOULLI = Architecture(4, 1, (3,), "tanh", "bernoulli")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("arch", "exact_loss"), [(LINEAR, linear_gaussian_loss), (BERNOULLI, quadrature_loss)], ids=["linear", "bernoulli"]
)
def test_the_gradient_is_unbiased(arch: Architecture, exact_loss: Any, form: str) -> None:
    parameters, beta, replicates = spread_out(arch), 0.7, 2000
    x = states(4)[[1, 6, 13]] if arch.is_bernoulli else normals(3, 4, step=1)
    drawn = {name: np.empty((replicates, *value.shape)) for name, value in parameters.items()}
    gradients = parameters.zeros_like()
    for replicate, eps in enumerate(normals(replicates, 3, arch.latent)):
        _, cache = elbo_forward(ops, arch, parameters, x, eps, form=form)
        elbo_backward(ops, arch, cache, gradients, beta=beta)
        for name, gradient in gradients.items():
            drawn[name][replicate] = gradient
    for name, value in parameters.items():

        def loss(v: Array, name: str = name) -> Any:
            return exact_loss(arch, {**parameters, name: v}, x, beta)

        assert_mean(drawn[name], complex_step(loss, value))


def test_the_pathwise_gradient_of_a_full_covariance_is_unbiased() -> None:
    """f = ½ zᵀAz + bᵀz: ∇_μ E f = Aμ + b and, since E f = ½ tr(A L Lᵀ) + …, ∇_L E f = tril(A L)."""
    a, b = np.array([[2.0, 0.3, -0.5], [0.3, 1.0, 0.2], [-0.5, 0.2, 0.7]]), np.array([0.4, -1.0, 0.1])
    mu, chol = np.array([[0.5, -1.0, 0.2]]), full_cholesky()
    z, cache = dist.full_normal_sample_forward(mu, chol, normals(50_000, 3))
    dmu, dchol = dist.full_normal_sample_backward(z @ a + b, cache)
    assert_mean(dmu, a @ mu[0] + b)
    below = np.tril_indices(3)
    assert_mean(dchol[:, below[0], below[1]], np.tril(a @ chol[0])[below])
    assert not np.triu(dchol, 1).any()


@pytest.mark.parametrize(("mu", "sigma", "pathwise", "score"), [(1.0, 1.0, 4.0, 30.0), (2.0, 0.5, 1.0, 123.75)])
def test_variance_of_the_pathwise_and_of_the_score_function_gradient(
    mu: float, sigma: float, pathwise: float, score: float
) -> None:
    """f = z², z ~ N(μ, s²): both have mean 2μ; their variances are 4s² and μ⁴/s² + 14μ² + 15s²."""
    n = 200_000
    assert (pathwise, score) == (4 * sigma**2, mu**4 / sigma**2 + 14 * mu**2 + 15 * sigma**2)
    mean, logvar = np.full((n, 1), mu), np.full((n, 1), 2 * np.log(sigma))
    (z, kl), cache = ops.reparam_kl_forward(mean, logvar, normals(n, 1))
    along_path, dlogvar = ops.reparam_kl_backward((2 * z, np.zeros_like(kl)), cache)
    _, density_cache = dist.normal_log_prob_forward(z, mean, logvar)
    _, by_score, score_dlogvar = dist.normal_log_prob_backward(z[:, 0] ** 2, density_cache)
    for gradient, variance in ((along_path, pathwise), (by_score, score)):
        assert_mean(gradient, 2 * mu)
        assert_variance(gradient, variance)
    assert_mean(dlogvar, sigma**2)
    assert_mean(score_dlogvar, sigma**2)


# --- Samples against densities ----------------------------------------------------------------------------------


def test_bernoulli_sample_follows_its_density() -> None:
    logits = np.array([[-1.5, 0.0, 0.7, 1.2]])
    draws = dist.bernoulli_sample(np.broadcast_to(logits, (100_000, 4)), uniforms(100_000, 4))
    log_p, _ = dist.bernoulli_log_prob_forward(states(4), np.broadcast_to(logits, (16, 4)))
    assert fit(np.bincount(state_index(draws), minlength=16), np.exp(log_p)) > 1e-3


def test_normal_sample_follows_its_density() -> None:
    """The probability integral transform of each coordinate, with the log-density integrated numerically."""
    mean, logvar = np.array([[0.7, -3.0, 0.0]]), np.array([[1.5, -2.0, 0.0]])
    z = dist.normal_sample(mean, logvar, normals(50_000, 3))
    for j in range(3):
        grid = mean[0, j] + np.exp(0.5 * logvar[0, j]) * np.linspace(-9, 9, 3001)
        log_p, _ = dist.normal_log_prob_forward(grid[:, None], np.full((3001, 1), mean[0, j]), logvar[:, j])
        density = np.exp(log_p)
        steps = 0.5 * (density[1:] + density[:-1]) * np.diff(grid)
        cumulative = np.concatenate([[0], np.cumsum(steps)])
        assert abs(cumulative[-1] - 1) < 1e-10
        uniform = np.interp(z[:, j], grid, cumulative)
        assert stats.kstest(uniform, "uniform").pvalue > 1e-3


def test_full_normal_sample_follows_its_density() -> None:
    """−2 log of the density over its peak is χ² with K degrees of freedom, and every projection is normal."""
    mu, chol = np.array([[0.5, -1.0, 0.2]]), full_cholesky()
    z, _ = dist.full_normal_sample_forward(mu, chol, normals(50_000, 3))
    peak, _ = dist.full_normal_log_prob_forward(mu, mu, chol)
    log_q, _ = dist.full_normal_log_prob_forward(z, mu, chol)
    assert stats.kstest(2 * (peak - log_q), "chi2", args=(3,)).pvalue > 1e-3
    covariance = chol[0] @ chol[0].T
    for direction in np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [1, -2, 1]]):
        projected = (z - mu) @ direction / np.sqrt(direction @ covariance @ direction)
        assert stats.kstest(projected, "norm").pvalue > 1e-3


def test_categorical_sample_follows_its_density() -> None:
    logits = np.array([[0.3, -2.0, 1.5, 0.0, -0.4]])
    labels = dist.categorical_sample(np.broadcast_to(logits, (100_000, 5)), uniforms(100_000, 1)[:, 0])
    log_p, _ = dist.categorical_log_prob_forward(np.arange(5), np.broadcast_to(logits, (5, 5)))
    assert fit(np.bincount(labels, minlength=5), np.exp(log_p)) > 1e-3


@pytest.mark.parametrize(("latent", "hidden"), [(1, (3,)), (2, ()), (2, (3, 4))])
def test_samples_of_the_model_follow_p_of_x(latent: int, hidden: tuple[int, ...]) -> None:
    """χ² of 100,000 draws over the 16 states against p(x) = ∫ p(z) p(x|z) dz; independent pixels do not fit."""
    vae = VAE(4, latent=latent, hidden=hidden, activation="tanh", backend="numpy", seed=SEED)
    vae.parameters.assign(spread_out(vae.arch, 4.0))
    draws = vae.sample(100_000, seed=5)
    counts = np.bincount(state_index(draws), minlength=16)
    table = marginal(Decoder.of(vae.arch, vae.parameters))
    assert table.converged.all()
    assert fit(counts, np.exp(table.log_prob)) > 1e-3
    pixel = table.mean()
    independent = np.where(states(4) == 1, pixel, 1 - pixel).prod(axis=1)
    assert fit(counts, independent) < 1e-9


@pytest.mark.parametrize("likelihood", ["normal", "normal-fixed", "normal-diagonal"])
def test_samples_of_a_linear_model_follow_p_of_x(likelihood: str) -> None:
    """x ~ N(b, WᵀW + Ψ), W (K, D): whitened by that covariance, the draws are standard normal."""
    vae = VAE(3, latent=2, hidden=(), likelihood=likelihood, sigma=0.6, backend="numpy", dtype="float64")
    weight = np.array([[1.0, -0.5, 0.3], [0.2, 0.8, -1.1]])
    vae.parameters["decoder.out.weight"][...], vae.parameters["decoder.out.bias"][...] = weight, [1.0, -2.0, 0.5]
    deviations = np.full(3, 0.6)
    if likelihood == "normal-diagonal":
        deviations = np.array([0.3, 0.6, 1.5])
        vae.parameters["likelihood.logvar"][...] = np.log(deviations**2)
    chol = np.linalg.cholesky(weight.T @ weight + np.diag(deviations**2))
    assert_standard_normal(np.linalg.solve(chol, (vae.sample(50_000, seed=3) - [1.0, -2.0, 0.5]).T).T)


def test_two_seeds_draw_independent_samples() -> None:
    vae = VAE(4, latent=1, hidden=(), likelihood="normal", backend="numpy", dtype="float64")
    both = np.concatenate([vae.sample(20_000, seed=seed) for seed in (0, 1)], axis=1)
    across = np.corrcoef(both.T)[:4, 4:]
    assert np.abs(across).max() < 4 / np.sqrt(20_000)


# --- Noise as the model meets it --------------------------------------------------------------------------------


def test_binarised_pixels_have_their_grey_values_frequency() -> None:
    """All 256 grey values at once: the sum of squared deviations in standard errors is χ² with 254 degrees."""
    n, grey = 4000, np.arange(256, dtype=np.uint8)
    pixels = ops.philox_bernoulli(
        np.broadcast_to(grey, (n, 256)), seed=SEED, stream=noise.BINARIZE, step=3, rows=np.arange(n)
    )
    frequency, p = pixels.mean(axis=0), grey / 255
    assert (frequency[0], frequency[255]) == (0, 1)
    inner = slice(1, 255)
    chi_square = ((frequency - p)[inner] ** 2 / (p * (1 - p))[inner] * n).sum()
    assert 1e-3 < stats.chi2.sf(chi_square, 254) < 1 - 1e-3


def test_binarised_pixels_are_independent_across_rows_columns_and_visits() -> None:
    """Patterns of four fair pixels, taken along each of the three directions, are equally frequent."""
    grey = np.full((1000, 40), 0.5)
    visits = [
        ops.philox_bernoulli(grey, seed=SEED, stream=noise.BINARIZE, step=step, rows=np.arange(1000))
        for step in range(4)
    ]
    pixels = np.stack(visits)
    for axis in range(3):
        patterns = np.moveaxis(pixels, axis, -1).reshape(-1, 4)
        assert fit(np.bincount(state_index(patterns), minlength=16), np.full(16, 1 / 16)) > 1e-3


def test_epoch_orders_are_uniform_permutations() -> None:
    orders = [tuple(noise.order(4, seed=SEED, epoch=epoch)) for epoch in range(4800)]
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert fit(counts, np.full(24, 1 / 24)) > 1e-3


@pytest.mark.parametrize("scheme", ["uniform", "glorot"])
def test_initial_weights_fill_their_interval(scheme: str) -> None:
    parameters = initialise(Architecture(300, 20, (200,)), seed=SEED, scheme=scheme)
    for inputs, outputs, name in ((300, 200, "encoder.hidden.0"), (20, 200, "decoder.hidden.0")):
        bound = 1 / np.sqrt(inputs) if scheme == "uniform" else np.sqrt(6 / (inputs + outputs))
        weight = parameters[f"{name}.weight"].ravel()
        assert stats.kstest(weight, "uniform", args=(-bound, 2 * bound)).pvalue > 1e-3


# --- Importance weights -----------------------------------------------------------------------------------------


def test_importance_weights_average_to_p_of_x() -> None:
    """E_q w = p(x) for every x, by quadrature over z; the mean of log w is the ELBO, and lies below."""
    arch, draws = BERNOULLI, 20_000
    parameters = spread_out(arch)
    x = states(4)
    (mu, logvar), _ = model.encode_forward(ops, arch, parameters, x)
    log_w = log_weights(Model(ops, arch, parameters), x, mu, logvar, normals(draws, 16, 1).reshape(-1, 1))
    exact = marginal(Decoder.of(arch, parameters)).log_prob
    assert_mean(np.exp(log_w), np.exp(exact))
    elbo = np.array([-quadrature_loss(arch, parameters, row[None], 1.0) for row in x])
    assert_mean(log_w, elbo)
    assert (elbo < exact).all()


def one_latent_linear() -> tuple[Architecture, Parameters, LinearGaussian, Array]:
    """A linear-Gaussian model, an encoder that is not its posterior, and some x."""
    arch = Architecture(3, 1, (), "tanh", "normal-fixed", 0.8)
    parameters = initialise(arch, seed=SEED, dtype=np.float64)
    parameters["decoder.out.weight"][...] = [[0.9, -0.4, 0.6]]
    parameters["encoder.logvar.weight"][...], parameters["encoder.logvar.bias"][...] = 0, -0.5
    model_ = LinearGaussian(parameters["decoder.out.weight"].T, parameters["decoder.out.bias"], 0.64)
    return arch, parameters, model_, np.array([[0.5, -0.3, 0.8], [-0.4, 0.6, 0.1]])


def test_the_bias_and_the_error_of_the_likelihood_estimate_are_the_known_ones() -> None:
    """With χ² + 1 = s²/√(v(2s² − v)) · exp((m − μ)²/(2s² − v)) for posterior N(m, v) and q = N(μ, s²):

    E w² / p(x)² = 1 + χ², log p(x) − E log ŵ ≈ χ²/2S, and Var log ŵ ≈ χ²/S, which the estimate's own `stderr` must say.
    """
    arch, parameters, exact, x = one_latent_linear()
    samples, replicates = 40, 8000
    (mu, logvar), _ = model.encode_forward(ops, arch, parameters, x)
    eps = normals(samples * replicates, 2, 1).reshape(-1, 1)
    log_w = log_weights(Model(ops, arch, parameters), x, mu, logvar, eps)
    log_p = exact.log_prob(x)
    assert_mean(np.exp(log_w - log_p), 1.0)

    posterior_mean, covariance = exact.posterior(x)
    v, s2 = covariance[0, 0], np.exp(logvar[:, 0])
    difference = 2 * s2 - v
    chi2 = s2 / np.sqrt(v * difference) * np.exp((posterior_mean - mu)[:, 0] ** 2 / difference) - 1
    assert_mean(np.exp(2 * (log_w - log_p)), 1 + chi2)

    split = log_w.reshape(samples, replicates * 2)
    estimate = estimate_from_log_weights(ops, split)
    error = estimate.log_likelihood.reshape(replicates, 2) - log_p
    stderr = error.std(axis=0) / np.sqrt(replicates)
    # The next order of both expansions is a few percent at S = 40.
    assert (np.abs(-error.mean(axis=0) - chi2 / (2 * samples)) < 4 * stderr + 0.1 * chi2 / (2 * samples)).all()
    assert (error.mean(axis=0) < -4 * stderr).all()
    assert (np.abs(error.var(axis=0) / (chi2 / samples) - 1) < 0.1).all()
    said = (estimate.stderr.reshape(replicates, 2) ** 2).mean(axis=0)
    assert (np.abs(said / error.var(axis=0) - 1) < 0.1).all()
    assert (np.abs(estimate.ess.reshape(replicates, 2).mean(axis=0) * (1 + chi2) / samples - 1) < 0.1).all()


def test_the_reconstruction_is_the_mean_over_q() -> None:
    """E_q log p(x|z) with the pixel probabilities of single draws: several samples average, they do not add up."""
    arch, draws = BERNOULLI, 20_000
    parameters = spread_out(arch)
    x = states(4)[[2, 9]]
    eps = normals(draws, 2, 1)
    terms, _ = elbo_forward(ops, arch, parameters, x, eps.reshape(-1, 1))
    (mu, logvar), _ = model.encode_forward(ops, arch, parameters, x)
    logits, _ = model.decode_forward(ops, arch, parameters, (mu + np.sqrt(np.exp(logvar)) * eps).reshape(-1, 1))
    p = sigmoid(logits).reshape(draws, 2, 4)
    single = np.where(x == 1, np.log(p), np.log(1 - p)).sum(axis=2)
    assert np.abs(terms.reconstruction - single.mean(axis=0)).max() < 1e-12
    for row in range(2):
        exact = -quadrature_loss(arch, parameters, x[row : row + 1], 0.0)
        assert_mean(single[:, row], exact)
