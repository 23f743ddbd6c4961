"""Exact answers and inference one datapoint at a time, as named checks: identities, quadrature, gradients in λ."""

from __future__ import annotations

import numpy as np

from vae_np import ops
from vae_np.architecture import Architecture
from vae_np.exact import candidate_objectives, enumeration, linear_gaussian, quadrature
from vae_np.exact.decoder import Decoder
from vae_np.exact.inference import ELBO, Family, Rule
from vae_np.exact.linear_gaussian import LinearGaussian
from vae_np.gradcheck import check_grad
from vae_np.model import initialise, loglik_forward
from vae_np.step import Optimiser
from vae_np.training import per_datapoint

from .checks_exact import close, exactly
from .checks_statistics import DRAWS, statistic
from .plant import Check

MODEL = LinearGaussian(np.array([[1.0, 0.3], [-0.5, 0.8], [0.2, -1.1]]), np.array([0.1, 0.0, -0.4]), 0.5)
X = np.array([[0.5, -1.0, 0.3], [2.0, 0.4, -0.7]])
BINARY = Decoder.of(*(lambda arch: (arch, initialise(arch, seed=3)))(Architecture(4, 2, (3,), "tanh")))
NORMAL = Decoder.of(*linear_gaussian.to_parameters(MODEL))
PIXELS = np.array([[1.0, 0, 0, 1], [0, 1, 0, 0]])


def _gradient_in_lambda(kind: str) -> Check:
    def run() -> None:
        bound = ELBO(BINARY, PIXELS, Rule.gauss_hermite(2, 4), Family(kind, 2))
        rows = np.arange(2)
        lam = np.random.default_rng(16).normal(0, 0.5, (2, bound.family.size))
        check_grad(
            lambda v: bound.value_and_gradient(v, rows)[0].sum(), lambda v: bound.value_and_gradient(v, rows)[1], lam
        ).raise_if_failed()

    return Check(f"gradient of the bound in λ ({kind})", "gradient", run)


DIAGONAL, FULL = _gradient_in_lambda("diagonal"), _gradient_in_lambda("full")


def _gradient_of_weighted_log_likelihood() -> None:
    z, weights = np.random.default_rng(17).normal(size=(3, 2)), np.array([[0.2, 0.5, 0.1], [0.9, 0.0, 0.4]])
    for decoder, x in ((BINARY, PIXELS), (NORMAL, X)):
        check_grad(
            lambda flat, d=decoder, x=x: (weights * d.moved(flat).loglik_matrix(x, z)).sum(),
            lambda flat, d=decoder, x=x: d.moved(flat).weighted_gradient(x, z, weights).flat,
            decoder.parameters.flat,
        ).raise_if_failed()


WEIGHTED = Check("gradient of a weighted log-likelihood", "gradient", _gradient_of_weighted_log_likelihood)


@exactly
def joint_over_posterior_is_log_p_at_any_z() -> None:
    z = np.random.default_rng(18).normal(size=(2, 2))
    close(MODEL.log_joint(X, z) - MODEL.posterior_log_prob(X, z), MODEL.log_prob(X), 1e-13)


@exactly
def bound_at_the_posterior_is_log_p() -> None:
    mean, covariance = MODEL.posterior(X)
    close(MODEL.elbo(X, mean, covariance), MODEL.log_prob(X), 1e-13)
    best, variances, gap = MODEL.best_diagonal(X)
    left = MODEL.kl_to_posterior(X, best, np.diag(variances))
    close(left, [gap, gap], 1e-12)
    close(MODEL.elbo(X, best, np.diag(variances)), MODEL.log_prob(X) - left, 1e-13)


@exactly
def bound_by_quadrature_is_the_closed_one() -> None:
    mu, logvar = np.array([[0.3, -0.2], [0.0, 0.5]]), np.array([[-1.0, 0.2], [-0.4, -2.0]])
    bound = ELBO(NORMAL, X, Rule.gauss_hermite(2, 6), Family("diagonal", 2))
    lam = bound.family.diagonal(mu, logvar)
    covariance = np.exp(logvar)[..., None] * np.eye(2)
    close(bound.family.covariance(lam), covariance, 1e-13)
    close(bound.value_and_gradient(lam, np.arange(2))[0], MODEL.elbo(X, mu, covariance), 1e-12)


@exactly
def every_quadrature_gives_log_p_of_the_linear_model() -> None:
    for rule in quadrature.RULES:
        found = quadrature.log_likelihood(NORMAL, X, rule=rule)
        close(found.log_prob, MODEL.log_prob(X), 1e-7)


@exactly
def em_climbs_to_the_best_likelihood() -> None:
    x = np.random.default_rng(19).normal(size=(40, 3)) @ np.diag([2.0, 1.0, 0.5])
    best = linear_gaussian.ppca(x, 1)
    top = linear_gaussian.ppca_log_likelihood(x, 1)
    close(best.log_prob(x).mean(), top, 1e-12)
    start = LinearGaussian(np.ones((3, 1)), np.zeros(3), 1.0)
    _, trace = linear_gaussian.expectation_maximisation(start, x, steps=200, isotropic=True)
    assert (np.diff(trace) > -1e-12).all()
    close(trace[-1], top, 1e-6)


@exactly
def every_pair_of_x_and_z_has_its_log_likelihood() -> None:
    z = np.random.default_rng(20).normal(size=(3, 2))
    for decoder, x in ((BINARY, PIXELS), (NORMAL, X)):
        matrix = decoder.loglik_matrix(x, z)
        for b, m in np.ndindex(matrix.shape):
            out = decoder.output(z[m : m + 1])
            alone, _ = loglik_forward(ops, decoder.arch, decoder.parameters, x[b : b + 1], out)
            close(matrix[b, m : m + 1], alone, 1e-12)


@exactly
def table_of_all_x_is_a_distribution() -> None:
    close(enumeration.state_index(enumeration.states(4)), np.arange(16), 0.0)
    close(enumeration.states(2), [[0, 0], [0, 1], [1, 0], [1, 1]], 0.0)
    table = enumeration.conditional(BINARY, np.array([0.4, -1.0]))
    p = 1 / (1 + np.exp(-BINARY.output(np.array([[0.4, -1.0]]))[0]))
    close(table.mean(), p, 1e-13)
    close(table.covariance() + 1, np.diag(p * (1 - p)) + 1, 1e-13)
    x = np.array([[0, 0], [0, 1], [0, 1], [1, 1]])
    close(enumeration.categorical_nll(x), 1.5 * np.log(2), 1e-14)
    # Columns with shares ¼ and ¾ of ones.
    close(enumeration.independent_bernoulli_nll(x), 2 * np.log(4) - 1.5 * np.log(3), 1e-14)


@statistic
def both_gradients_of_an_expectation_are_unbiased() -> None:
    mu, sigma = np.array([0.5]), np.array([0.8])
    eps = np.random.default_rng(21).normal(size=(DRAWS, 1))
    z = mu + sigma * eps
    exact_gradients = 2 * mu, sigma**2  # of E z² = μ² + exp v
    estimates = (
        *candidate_objectives.pathwise_gradient(sigma, eps, 2 * z),
        *candidate_objectives.score_function_gradient(sigma, eps, (z * z)[:, 0], baseline=0.2),
    )
    for draws, expected in zip(estimates, exact_gradients * 2, strict=True):
        assert abs(draws.mean() - expected[0]) < 5 * draws.std() / np.sqrt(DRAWS)


@exactly
def single_point_at_the_posterior_is_log_p() -> None:
    z = np.random.default_rng(22).normal(size=(3, 2, 2))
    mean, covariance = MODEL.posterior(X)
    chol = np.broadcast_to(np.linalg.cholesky(covariance), (2, 2, 2))
    close(candidate_objectives.single_point(NORMAL, X, z, (mean, chol)), np.tile(MODEL.log_prob(X), (3, 1)), 1e-12)


@exactly
def each_row_has_an_adam_of_its_own() -> None:
    rng = np.random.default_rng(23)
    posterior = per_datapoint.LocalPosterior.prior(3, 2, np.float64)
    rows_of_steps = [np.array([0, 2]), np.array([2]), np.array([1, 2])]
    expected, moments, visits = np.zeros((3, 4)), np.zeros((2, 3, 4)), [0, 0, 0]
    for rows in rows_of_steps:
        g = rng.normal(size=(len(rows), 4))
        posterior.update(rows, g[:, :2], g[:, 2:], optimiser=Optimiser(lr=0.1))
        for i, row in enumerate(rows):
            visits[row] += 1
            ops.adam_update(expected[row], g[i], moments[0, row], moments[1, row], step=visits[row], lr=0.1)
    close(np.hstack([posterior.mu, posterior.logvar]), expected, 1e-12)
