"""The linear-Gaussian model's closed forms against quadrature, SciPy, finite differences and the package's linear VAE.

Budget: about 3 s.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from vae_np import model, ops
from vae_np.distributions import normal_log_prob_forward
from vae_np.elbo import elbo_forward
from vae_np.errors import InputError
from vae_np.exact import quadrature
from vae_np.exact.decoder import Decoder
from vae_np.exact.linear_gaussian import (
    LinearGaussian,
    cholesky,
    expectation_maximisation,
    from_parameters,
    ppca,
    ppca_log_likelihood,
    to_parameters,
)

RNG = np.random.default_rng(4)


def _model(features: int = 5, latent: int = 2, *, full: bool = False) -> LinearGaussian:
    rng = np.random.default_rng(features + 10 * latent)
    noise = rng.uniform(0.1, 0.5, features)
    if full:
        a = rng.normal(size=(features, features))
        noise = a @ a.T / features + 0.1 * np.eye(features)
    return LinearGaussian(rng.normal(size=(features, latent)), rng.normal(size=features), noise)


def _draw(m: LinearGaussian, n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return m.sample(rng.normal(size=(n, m.latent)), rng.normal(size=(n, m.features)))


def _difference(f, x: np.ndarray, h: float = 1e-5) -> np.ndarray:  # type: ignore[no-untyped-def]
    gradient = np.empty_like(x)
    for i in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[i] += h
        down[i] -= h
        gradient[i] = (f(up) - f(down)) / (2 * h)
    return gradient


@pytest.mark.parametrize("full", [False, True])
def test_log_prob_equals_scipy_and_covariance_equals_draws(full: bool) -> None:
    m = _model(full=full)
    x = _draw(m, 40)
    expected = stats.multivariate_normal(m.bias, m.weight @ m.weight.T + m.psi).logpdf(x)
    np.testing.assert_allclose(m.log_prob(x), expected, rtol=1e-12)
    many = _draw(m, 200_000, seed=1)
    np.testing.assert_allclose(np.cov(many.T), m.covariance(), atol=0.06)


@pytest.mark.parametrize("latent", [1, 2])
def test_log_prob_and_posterior_equal_quadrature(latent: int) -> None:
    m = _model(latent=latent)
    x = _draw(m, 30)
    found = quadrature.log_likelihood(Decoder.of(*to_parameters(m)), x)
    mean, covariance = m.posterior(x)
    assert found.converged.all()
    np.testing.assert_allclose(found.log_prob, m.log_prob(x), rtol=1e-12)
    np.testing.assert_allclose(found.mean, mean, atol=1e-12)
    np.testing.assert_allclose(found.covariance, np.broadcast_to(covariance, found.covariance.shape), atol=1e-12)


def test_log_joint_less_log_posterior_is_log_p_at_any_z() -> None:
    m = _model(6, 3, full=True)
    x = _draw(m, 1)
    z = RNG.normal(size=(1000, 3)) * 2
    difference = m.log_joint(x, z) - m.posterior_log_prob(x, z)
    log_prob = float(m.log_prob(x)[0])
    assert difference.std() <= 1e-13 * max(1, abs(log_prob))
    np.testing.assert_allclose(difference, log_prob, rtol=1e-12)


def test_best_diagonal_has_the_gap_that_the_determinants_say_and_no_neighbour_is_better() -> None:
    m = _model(5, 3)
    x = _draw(m, 4)
    mean, variances, gap = m.best_diagonal(x)
    np.testing.assert_allclose(variances, 1 / np.diag(m.precision))
    elbo = m.elbo(x, mean, np.diag(variances))
    np.testing.assert_allclose(m.log_prob(x) - elbo, gap, rtol=1e-10)
    np.testing.assert_allclose(m.kl_to_posterior(x, mean, np.diag(variances)), gap, rtol=1e-10)
    assert gap > 0.01
    for factor in (0.99, 1.01):
        assert (m.elbo(x, mean, np.diag(variances * factor)) < elbo).all()
        assert (m.elbo(x, mean * factor, np.diag(variances)) < elbo).all()


def test_forward_kl_optimum_is_wider_and_best_in_its_own_direction() -> None:
    m = _model(5, 2)
    x = _draw(m, 1)
    _, covariance = m.posterior(x)
    _, forward = m.best_diagonal_forward(x)
    _, reverse, _ = m.best_diagonal(x)
    np.testing.assert_allclose(forward, np.diag(np.linalg.inv(m.precision)))
    assert (forward > reverse * 1.001).all()
    # KL(p ‖ q) of two normals, written out; its minimum over variances is searched for on a grid.
    def divergence(variances: np.ndarray) -> float:
        return float(0.5 * (np.diag(covariance) / variances + np.log(variances)).sum())

    scales = np.linspace(0.5, 1.5, 101)
    for j in range(2):
        trial = [divergence(np.where(np.arange(2) == j, forward * s, forward)) for s in scales]
        assert scales[int(np.argmin(trial))] == pytest.approx(1)


def test_elbo_equals_its_three_part_definition_with_a_full_covariance() -> None:
    m = _model(4, 2, full=True)
    x = _draw(m, 3)
    mu = RNG.normal(size=(3, 2))
    a = RNG.normal(size=(3, 2, 2))
    s = a @ np.swapaxes(a, 1, 2) + 0.1 * np.eye(2)
    identity = m.log_prob(x) - m.kl_to_posterior(x, mu, s)
    np.testing.assert_allclose(m.elbo(x, mu, s), identity, rtol=1e-11)
    assert (m.elbo(x, mu, s) <= m.log_prob(x)).all()


def test_elbo_gradients_equal_finite_differences() -> None:
    m = _model(5, 2)
    x = _draw(m, 3)
    mu, logvar = RNG.normal(size=(3, 2)), RNG.normal(size=(3, 2)) - 1

    def diagonal(mu: np.ndarray, logvar: np.ndarray) -> float:
        return float(m.elbo(x, mu, np.exp(logvar)[..., None] * np.eye(2)).sum())

    dmu, dlogvar = m.elbo_gradient(x, mu, logvar)
    np.testing.assert_allclose(dmu, _difference(lambda v: diagonal(v, logvar), mu), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(dlogvar, _difference(lambda v: diagonal(mu, v), logvar), rtol=1e-6, atol=1e-7)
    chol = np.tril(RNG.normal(size=(3, 2, 2))) * 0.3 + np.eye(2)

    def full(chol: np.ndarray) -> float:
        lower = np.tril(chol)
        return float(m.elbo(x, mu, lower @ np.swapaxes(lower, 1, 2)).sum())

    _, dchol = m.elbo_gradient_full(x, mu, chol)
    np.testing.assert_allclose(dchol, _difference(full, chol), rtol=1e-6, atol=1e-7)


def _data(n: int = 400) -> np.ndarray:
    return _draw(_model(6, 3), n, seed=3) * np.array([1.0, 1, 2, 1, 1, 0.5])


def test_ppca_has_the_likelihood_of_its_eigenvalues_and_no_perturbation_beats_it() -> None:
    x = _data()
    for latent in (1, 2, 4):
        m = ppca(x, latent)
        assert m.log_prob(x).mean() == pytest.approx(ppca_log_likelihood(x, latent), rel=1e-12)
        for seed in range(5):
            rng = np.random.default_rng(seed)
            noise = float(m.psi[0, 0]) * math.exp(0.02 * rng.normal())
            near = LinearGaussian(m.weight + 0.02 * rng.normal(size=m.weight.shape), m.bias, noise)
            assert near.log_prob(x).mean() < m.log_prob(x).mean()


def test_a_linear_vae_at_ppca_is_exact_unrotated_and_strictly_below_when_rotated() -> None:
    x = _data()
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(2, 2)))[0]
    nodes, weights = quadrature.gauss_hermite_rule(2, 4)
    for turn, tight in ((None, True), (rotation, False)):
        m = ppca(x, 2, rotation=turn)
        arch, parameters = to_parameters(m)
        assert m.log_prob(x).mean() == pytest.approx(ppca_log_likelihood(x, 2), rel=1e-12)
        # Quadrature in ε is exact here: the log-likelihood is quadratic in z.
        elbo = np.zeros(len(x))
        for eps, weight in zip(nodes, weights, strict=True):
            elbo += weight * elbo_forward(ops, arch, parameters, x, np.tile(eps, (len(x), 1)))[0].elbo
        (mu, logvar), _ = model.encode_forward(ops, arch, parameters, x)
        big_m = m.weight.T @ m.weight + m.psi[0, 0] * np.eye(2)
        np.testing.assert_allclose(mu, (x - m.bias) @ m.weight @ np.linalg.inv(big_m), atol=1e-12)
        expected = np.broadcast_to(m.psi[0, 0] / np.diag(big_m), mu.shape)
        np.testing.assert_allclose(np.exp(logvar), expected, rtol=1e-12)
        if tight:
            np.testing.assert_allclose(elbo, m.log_prob(x), rtol=1e-12)
        else:
            assert (m.log_prob(x) - elbo > 1e-3).all()
            np.testing.assert_allclose(m.log_prob(x) - elbo, m.best_diagonal(x)[2], rtol=1e-9)


@pytest.mark.parametrize("isotropic", [True, False])
def test_em_never_lowers_the_likelihood(isotropic: bool) -> None:
    x = _data()
    rng = np.random.default_rng(1)
    start = LinearGaussian(rng.normal(size=(6, 2)), np.zeros(6), 1.0)
    m, trace = expectation_maximisation(start, x, steps=300, isotropic=isotropic)
    assert (np.diff(trace) >= -1e-12).all()
    assert trace[-1] - trace[0] > 1
    if isotropic:
        assert trace[-1] == pytest.approx(ppca_log_likelihood(x, 2), abs=1e-9)
    else:
        assert trace[-1] > ppca_log_likelihood(x, 2) + 1e-3  # pPCA is a factor analysis with Ψ tied
        assert (np.diag(m.psi) > 0).all()


def test_factor_analysis_ends_where_the_likelihood_is_flat() -> None:
    x = _draw(_model(5, 1), 200)
    rng = np.random.default_rng(2)
    start = LinearGaussian(rng.normal(size=(5, 1)), np.zeros(5), 1.0)
    m, _ = expectation_maximisation(start, x, steps=3000, isotropic=False, tolerance=1e-13)
    arch, parameters = to_parameters(m)
    _, gradient = quadrature.log_likelihood_gradient(Decoder.of(arch, parameters), x)
    assert arch.likelihood == "normal-diagonal"
    for name, value in gradient.items():
        assert np.abs(value).max() / len(x) < 1e-4, name


def test_conversion_round_trip_and_the_fixed_likelihood() -> None:
    m = _model()
    back = from_parameters(*to_parameters(m))
    np.testing.assert_allclose(back.weight, m.weight)
    np.testing.assert_allclose(back.psi, m.psi)
    arch = model.Architecture(features=5, latent=2, hidden=(), likelihood="normal-fixed", sigma=0.3)
    fixed = from_parameters(arch, model.initialise(arch, seed=0))
    np.testing.assert_allclose(fixed.psi, 0.09 * np.eye(5))


def test_a_normal_decoder_has_scipys_density() -> None:
    x, mean = RNG.normal(size=(7, 3)), RNG.normal(size=(7, 3))
    for logvar in (np.array([0.4]), np.array([0.1, -1.0, 2.0])):
        expected = stats.norm(mean, np.exp(logvar / 2)).logpdf(x).sum(axis=1)
        np.testing.assert_allclose(normal_log_prob_forward(x, mean, logvar)[0], expected, rtol=1e-12)
        kind = "normal" if logvar.size == 1 else "normal-diagonal"
        arch = model.Architecture(features=3, latent=2, hidden=(4,), likelihood=kind)
        decoder = Decoder.of(arch, model.initialise(arch, seed=3, dtype=np.float64))
        decoder.parameters["likelihood.logvar"][...] = logvar
        z = RNG.normal(size=(4, 2))
        table = decoder.loglik_matrix(x, z)
        wanted = stats.norm(decoder.output(z), np.exp(logvar / 2)).logpdf(x[:, None]).sum(axis=2)
        np.testing.assert_allclose(table, wanted, rtol=1e-12)


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        (np.diag([1.0, -1.0]), "positive definite"),
        (np.array([[1.0, 2.0], [0.0, 1.0]]), "not symmetric"),
        (np.array([1.0, 0.0]), "positive definite"),
        (-1.0, "positive definite"),
        (np.full((2, 2), np.nan), "not finite"),
        (np.ones((3, 3)), "expected a number"),
    ],
)
def test_a_noise_that_is_no_covariance_is_refused_in_one_line(noise: np.ndarray | float, message: str) -> None:
    with pytest.raises((InputError, ValueError), match=message) as caught:
        LinearGaussian(np.ones((2, 1)), np.zeros(2), noise)
    assert "\n" not in str(caught.value)


def test_other_bad_input() -> None:
    m = _model()
    with pytest.raises(InputError, match="covariance"):
        m.elbo(_draw(m, 1), np.zeros((1, 2)), np.diag([1.0, -0.1]))
    with pytest.raises(InputError, match="square"):
        cholesky(np.ones((2, 3)), "covariance")
    with pytest.raises(InputError, match="latent"):
        ppca(_data(), 6)
    with pytest.raises(InputError, match="variance outside"):
        ppca(np.outer(np.arange(5.0), np.ones(3)), 1)
    with pytest.raises(InputError, match="full covariance"):
        to_parameters(_model(full=True))
    with pytest.raises(InputError, match="hidden"):
        from_parameters(model.Architecture(features=5, latent=2), {})
    with pytest.raises(InputError, match="shapes"):
        LinearGaussian(np.ones((2, 1)), np.zeros(3), 1.0)
