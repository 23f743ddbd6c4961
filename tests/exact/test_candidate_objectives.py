"""The objectives on the way to the ELBO: the identity behind each, and where it stops being a bound; the variances of
the pathwise and score-function gradients against theory.

Budget: about 8 s, most of it ten million draws.
"""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from vae_np import model
from vae_np.architecture import Architecture
from vae_np.exact import inference, quadrature
from vae_np.exact.candidate_objectives import (
    arbitrary_expectation,
    best_baseline,
    pathwise_gradient,
    quadratic_variances,
    score_function_gradient,
    single_point,
)
from vae_np.exact.decoder import Decoder
from vae_np.exact.inference import ELBO, Family, Rule, maximise
from vae_np.exact.linear_gaussian import LinearGaussian, to_parameters


def _decoder() -> tuple[Decoder, np.ndarray]:
    arch = Architecture(features=5, latent=1, hidden=(6,), activation="tanh")
    parameters = model.initialise(arch, seed=4, dtype=np.float64)
    parameters["decoder.hidden.0.weight"][...] *= 3
    parameters["decoder.out.weight"][...] *= 4
    return Decoder.of(arch, parameters), np.array([[1.0, 0, 0, 1, 1], [0, 1, 0, 0, 1], [1, 1, 1, 1, 1]])


def test_single_z_is_log_p_everywhere_only_if_q_is_the_posterior() -> None:
    rng = np.random.default_rng(0)
    m = LinearGaussian(rng.normal(size=(4, 2)), np.zeros(4), 0.3)
    x, z = rng.normal(size=(3, 4)), rng.normal(size=(1000, 3, 2))
    mean, covariance = m.posterior(x)
    decoder = Decoder.of(*to_parameters(m))
    chol = np.broadcast_to(np.linalg.cholesky(covariance), (3, 2, 2))
    at_posterior = single_point(decoder, x, z, (mean, chol))
    assert at_posterior.shape == (1000, 3)
    np.testing.assert_allclose(at_posterior, np.broadcast_to(m.log_prob(x), (1000, 3)), rtol=1e-12)
    _, variances, _ = m.best_diagonal(x)
    diagonal = np.broadcast_to(np.diag(np.sqrt(variances)), (3, 2, 2))
    spread = single_point(decoder, x, z, (mean, diagonal))
    assert (spread.std(axis=0) > 0.1).all()
    assert (spread > m.log_prob(x) + 0.1).any(axis=0).all()
    assert (spread < m.log_prob(x) - 0.1).any(axis=0).all()


def test_an_arbitrary_r_is_log_p_plus_two_kls_and_can_exceed_it() -> None:
    decoder, x = _decoder()
    family, rule = Family("diagonal", 1), Rule.trapezoid(1, 0.05)
    solved = maximise(ELBO(decoder, x, rule, family), family.prior(3))
    q = family.unpack(solved.lam)
    log_p = quadrature.posterior(decoder, x).log_prob
    exceeded = np.zeros(3, dtype=bool)
    for mean, deviation in ((0.0, 0.5), (1.5, 0.3), (-1.5, 0.3), (3.0, 0.2), (-3.0, 0.2), (0.0, 2.0)):
        lam = family.diagonal(np.full((3, 1), mean), np.full((3, 1), 2 * np.log(deviation)))
        value = arbitrary_expectation(decoder, x, family.unpack(lam), q, rule.eps, rule.weights)
        to_posterior = inference.kl_to_posterior(decoder, x, log_p, family, lam, spacing=0.04)
        # KL(r ‖ q*) between two normals, by its textbook formula.
        variance, scale = deviation**2, q[1][:, 0, 0]
        to_q = np.log(scale / deviation) + (variance + (mean - q[0][:, 0]) ** 2) / (2 * scale**2) - 0.5
        np.testing.assert_allclose(value, log_p + to_q - to_posterior, atol=1e-6)
        exceeded |= value > log_p + 1e-3
    assert exceeded.any()
    at_q = arbitrary_expectation(decoder, x, q, q, rule.eps, rule.weights)
    assert (at_q <= log_p).all()
    np.testing.assert_allclose(at_q, solved.elbo, atol=1e-6)


@pytest.mark.parametrize(("mu", "sigma", "pathwise", "score"), [(1.0, 1.0, 4.0, 30.0), (2.0, 0.5, 1.0, 123.75)])
def test_estimator_variances_are_those_of_theory(mu: float, sigma: float, pathwise: float, score: float) -> None:
    expected = quadratic_variances(mu, sigma)
    assert (expected.pathwise, expected.score) == pytest.approx((pathwise, score))
    eps = np.random.Generator(np.random.Philox(12)).normal(size=(10_000_000, 1))
    sigmas = np.array([sigma])
    z = mu + sigma * eps
    f = z[:, 0] ** 2
    baseline = best_baseline(sigmas, eps[:1_000_000], f[:1_000_000])[0]
    assert baseline == pytest.approx(mu**2 + 3 * sigma**2, rel=0.01)
    draws = {
        expected.pathwise: pathwise_gradient(sigmas, eps, 2 * z),
        expected.score: score_function_gradient(sigmas, eps, f),
        expected.score_mean_baseline: score_function_gradient(sigmas, eps, f, mu**2 + sigma**2),
        expected.score_best_baseline: score_function_gradient(sigmas, eps, f, mu**2 + 3 * sigma**2),
    }
    for variance, (dmu, dlogvar) in draws.items():
        error = 4 / np.sqrt(len(eps))
        assert dmu.mean() == pytest.approx(2 * mu, abs=error * dmu.std())
        few = dlogvar[:1_000_000]
        assert few.mean() == pytest.approx(sigma**2, abs=4e-3 * few.std())
        assert dmu.var() == pytest.approx(variance, rel=0.02)
    assert expected.pathwise < expected.score_best_baseline < expected.score_mean_baseline < expected.score


def test_importing_the_exact_tools_leaves_scipy_out() -> None:
    tools = ["quadrature", "enumeration", "linear_gaussian", "inference", "amortisation", "nested_and_joint"]
    names = [*(f"exact.{tool}" for tool in (*tools, "candidate_objectives")), "training.per_datapoint"]
    imports = "\n".join(f"import vae_np.{name}" for name in names)
    code = f"import sys\n{imports}\nassert 'scipy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
