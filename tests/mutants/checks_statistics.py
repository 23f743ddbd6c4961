"""Statistics as named checks: what is drawn, against the density it should have. Fixed seeds, so nothing flickers."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from vae_np import distributions as dist
from vae_np import model, noise, ops
from vae_np.architecture import Architecture
from vae_np.vae import VAE

from .plant import Check

DRAWS = 20_000


def statistic(run: Callable[[], None]) -> Check:
    """A check named after its function."""
    return Check(run.__name__.strip("_").replace("_", " "), "statistic", run)


def _near(found: np.ndarray, expected: object, spread: object) -> None:
    """Within 5 standard errors of the mean of DRAWS draws whose standard deviation is `spread`."""
    error = np.abs(np.asarray(found) - np.asarray(expected)).max()
    limit = 5 * np.max(spread) / math.sqrt(DRAWS)
    assert error <= limit, f"{found}, expected {expected} within {limit:.2g}"


@statistic
def z_has_the_moments_of_q() -> None:
    mu, logvar = np.array([[0.7, -3.0]]), np.array([[1.5, -2.0]])
    eps = np.random.default_rng(7).normal(size=(DRAWS, 2))
    (z, _), _ = ops.reparam_kl_forward(mu, logvar, eps)
    sigma = np.sqrt(np.exp(logvar[0]))
    _near((z.mean(axis=0) - mu[0]) / sigma, 0.0, 1.0)
    _near(z.var(axis=0) / sigma**2, 1.0, math.sqrt(2))


@statistic
def sampled_kl_agrees_with_the_analytic_one() -> None:
    mu, logvar = np.array([[0.7, -0.4]]), np.array([[0.9, -1.0]])
    (z, kl), _ = ops.reparam_kl_forward(mu, logvar, np.random.default_rng(8).normal(size=(DRAWS, 2)))
    log_q = -0.5 * (math.log(2 * math.pi) + logvar + (z - mu) ** 2 / np.exp(logvar)).sum(axis=1)
    log_p = -0.5 * (math.log(2 * math.pi) + z * z).sum(axis=1)
    _near((log_q - log_p).mean(), kl[0], (log_q - log_p).std())


@statistic
def samples_have_the_probabilities_of_their_logits() -> None:
    rng = np.random.default_rng(9)
    logits = np.array([-3.0, -0.5, 0.0, 1.0])
    drawn = dist.bernoulli_sample(np.tile(logits, (DRAWS, 1)), rng.random((DRAWS, 4)))
    _near(drawn.mean(axis=0), 1 / (1 + np.exp(-logits)), 0.5)
    drawn = dist.categorical_sample(np.tile(logits, (DRAWS, 1)), rng.random(DRAWS))
    _near(np.bincount(drawn, minlength=5)[:5] / DRAWS, [*np.exp(logits) / np.exp(logits).sum(), 0], 0.5)


@statistic
def samples_of_a_full_normal_have_its_covariance() -> None:
    chol = np.array([[1.0, 0.0], [-1.5, 0.5]])
    eps = np.random.default_rng(10).normal(size=(DRAWS, 2))
    z, _ = dist.full_normal_sample_forward(np.zeros((DRAWS, 2)), np.tile(chol, (DRAWS, 1, 1)), eps)
    _near(z.T @ z / DRAWS, chol @ chol.T, math.sqrt(2) * 2.5)


@statistic
def noise_is_standard_normal_and_uncorrelated() -> None:
    drawn = noise.normal(np.arange(DRAWS), 4, seed=11, stream=noise.EPS).astype(np.float64)
    _near(drawn.mean(axis=0), 0.0, 1.0)
    _near(drawn.T @ drawn / DRAWS, np.eye(4), math.sqrt(2))
    _near((drawn**4).mean(axis=0), 3.0, math.sqrt(96))


@statistic
def pixels_have_the_probability_of_their_grey() -> None:
    grey = np.tile(np.array([0, 51, 128, 255], dtype=np.uint8), (DRAWS, 1))
    drawn = noise.bernoulli(grey, seed=12, stream=noise.BINARIZE, step=0, rows=np.arange(DRAWS))
    _near(drawn.mean(axis=0), [0, 0.2, 128 / 255, 1], 0.5)
    assert not drawn[:, 0].any()
    assert drawn[:, 3].all()


@statistic
def initial_weights_are_uniform_within_their_bound() -> None:
    parameters = model.initialise(Architecture(100, 20, (200,)), seed=13)
    for name, value in parameters.items():
        bound = 1 / math.sqrt(parameters[name.rsplit(".", 1)[0] + ".weight"].shape[0])
        assert np.abs(value).max() <= bound, name
        # A uniform's mean and variance, with errors of 1/√3 and √(4/45) bounds over √n.
        limit = 5 / math.sqrt(value.size)
        assert abs(value.mean() / bound) <= limit / math.sqrt(3), name
        assert abs(value.var() / bound**2 - 1 / 3) <= limit * math.sqrt(4 / 45), name
    assert np.unique(parameters["encoder.mu.weight"]).size > 3900
    assert not np.isin(parameters["encoder.mu.weight"], parameters["encoder.logvar.weight"]).all()


@statistic
def samples_of_the_model_follow_the_decoder() -> None:
    vae = VAE(3, hidden=(), latent=1, dtype="float64", backend="numpy")
    vae.parameters["decoder.out.weight"][...] = np.array([[2.0, -1.0, 0.0]])
    vae.parameters["decoder.out.bias"][...] = [0.5, 0.0, -1.0]
    drawn = vae.sample(DRAWS, seed=14)
    assert set(np.unique(drawn)) == {0, 1}
    grid = np.linspace(-8, 8, 4001)
    p = 1 / (1 + np.exp(-(grid[:, None] * [[2.0, -1.0, 0.0]] + [0.5, 0.0, -1.0])))
    prior = np.exp(-0.5 * grid**2) / math.sqrt(2 * math.pi) * (grid[1] - grid[0])
    _near(drawn.mean(axis=0), prior @ p, 0.5)
    joint = drawn.astype(np.float64).T @ drawn / DRAWS
    _near(joint[0, 1], (prior * p[:, 0]) @ p[:, 1], 0.5)
    decoded = vae.decode(grid[:, None])
    assert np.abs(decoded - p).max() < 1e-12


@statistic
def samples_of_a_normal_likelihood_have_its_sigma() -> None:
    vae = VAE(2, hidden=(), latent=1, likelihood="normal-fixed", sigma=0.3, dtype="float64", backend="numpy")
    vae.parameters["decoder.out.weight"][...] = np.array([[1.0, 0.0]])
    vae.parameters["decoder.out.bias"][...] = 0
    drawn = vae.sample(DRAWS, seed=15)
    covariance = drawn.T @ drawn / DRAWS
    _near(covariance, [[1.09, 0.0], [0.0, 0.09]], math.sqrt(2) * 1.09)
    # x given z must not be drawn with z's own noise.
    _near(covariance[1, 1], 0.09, math.sqrt(2) * 0.09)
