"""Each family of p(x|z): density, gradient, moments and draws against SciPy, sums, quadrature and autograd; its tails.

Budget: about 4 s.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from likelihoods.cases import NAMES, Case, case
from scipy import special, stats

from vae_np.likelihoods import FAMILIES, continuous_bernoulli, gamma
from vae_np.likelihoods.categorical import Categorical
from vae_np.likelihoods.continuous_bernoulli import ContinuousBernoulli
from vae_np.likelihoods.discretized_logistic import DiscretizedLogistic
from vae_np.likelihoods.negative_binomial import NegativeBinomial
from vae_np.likelihoods.poisson import Poisson
from vae_np.likelihoods.student_t import StudentT

COUNTED = ("poisson", "negative-binomial", "discretized-logistic", "categorical", "bernoulli")
DRAWS = 20_000


def one(family: Any, x: Any, *out: float, **tensors: float) -> float:
    """The log-density of one cell."""
    cells, _ = family.log_prob_forward(
        np.array([[x]], dtype=np.float64),
        np.array(out).reshape(1, 1, 1, -1),
        {k: np.array([v]) for k, v in tensors.items()},
    )
    return float(cells[0, 0, 0])


def scipy_density(found: Case, name: str) -> np.ndarray:
    """The same cells by SciPy's densities."""
    x, out = found.x, found.out[..., 0]
    if name == "bernoulli":
        return stats.bernoulli.logpmf(x, special.expit(out))
    if name == "normal":
        return stats.norm.logpdf(x, out, np.exp(0.5 * found.tensors["logvar"]))
    if name == "poisson":
        return stats.poisson.logpmf(x, np.exp(out))
    if name == "negative-binomial":
        r = np.exp(found.tensors["log_dispersion"])
        return stats.nbinom.logpmf(x, r, r / (r + np.exp(out)))
    if name == "student-t":
        return stats.t.logpdf(x, np.exp(found.tensors["log_df"]), out, np.exp(0.5 * found.tensors["logvar"]))
    if name == "categorical":
        log_p = special.log_softmax(found.out, axis=-1)
        return np.take_along_axis(log_p, np.broadcast_to(x.astype(int), out.shape)[..., None], axis=-1)[..., 0]
    if name == "continuous-bernoulli":
        p = special.expit(out)
        constant = 2 * np.arctanh(1 - 2 * p) / (1 - 2 * p)
        return x * np.log(p) + (1 - x) * np.log1p(-p) + np.log(constant)
    last = found.family.levels - 1
    edge = (2 * np.stack([x - 0.5, x + 0.5]) - last) / last
    below, above = stats.logistic.cdf(edge[:, None], out, np.exp(found.out[..., 1]))
    return np.log(np.where(x == last, 1, above) - np.where(x == 0, 0, below))


@pytest.mark.parametrize("name", NAMES)
def test_the_density_is_scipys(name: str) -> None:
    found = case(name)
    np.testing.assert_allclose(found.cells(), scipy_density(found, name), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", COUNTED)
def test_a_density_of_levels_sums_to_one(name: str) -> None:
    found = case(name)
    values = range(found.family.levels or (2 if name == "bernoulli" else 2000))
    total = sum(np.exp(Case(found.family, np.full_like(found.x, v), found.out, found.tensors).cells()) for v in values)
    np.testing.assert_allclose(total, 1, rtol=1e-12)


@pytest.mark.parametrize("logit", [0.0, 1e-9, 0.3, 0.999, 1.001, -7.0, 60.0])
def test_the_continuous_bernoulli_integrates_to_one_with_its_moments(logit: float) -> None:
    nodes, weights = np.polynomial.legendre.leggauss(200)
    x = 0.5 * (nodes + 1)
    out = np.full((1, 1, len(x), 1), logit)
    family = ContinuousBernoulli(len(x))
    density = 0.5 * weights * np.exp(family.log_prob_forward(x[None], out, {})[0][0, 0])
    mean, variance = family.mean(out, {})[0, 0, 0], family.variance(out, {})[0, 0, 0]
    assert density.sum() == pytest.approx(1, rel=1e-13)
    assert density @ x == pytest.approx(mean, rel=1e-13)
    assert density @ (x - mean) ** 2 == pytest.approx(variance, rel=1e-11)


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_is_that_of_complex_steps(name: str) -> None:
    found = case(name)
    dcells = np.random.default_rng(1).standard_normal(found.out.shape[:-1])
    cache = found.family.log_prob_forward(found.x, found.out, found.tensors)[1]
    dout, own = found.family.log_prob_backward(dcells, cache)
    numeric = np.empty_like(dout)
    for place in np.ndindex(*found.out.shape):
        moved = found.out.astype(complex)
        moved[place] += 1e-200j
        numeric[place] = (dcells * found.cells(moved)).sum().imag / 1e-200
    np.testing.assert_allclose(dout, numeric, rtol=1e-12, atol=1e-12 * abs(numeric).max())
    assert own.keys() == found.tensors.keys()
    for key, tensor in found.tensors.items():
        numeric = np.empty_like(tensor)
        for place in np.ndindex(*tensor.shape):
            moved = {**found.tensors, key: tensor.astype(complex)}
            moved[key][place] += 1e-200j
            numeric[place] = (dcells * found.cells(tensors=moved)).sum().imag / 1e-200
        np.testing.assert_allclose(own[key], numeric, rtol=1e-12, atol=1e-12 * abs(numeric).max())


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_is_autograds(name: str) -> None:
    """From textbook formulas, in which nothing is arranged for accuracy."""
    autograd, anp = pytest.importorskip("autograd"), pytest.importorskip("autograd.numpy")
    loggamma = pytest.importorskip("autograd.scipy.special").gammaln
    found = case(name)
    x, last = found.x, found.family.levels - 1

    def density(out: Any, tensors: Any) -> Any:
        first = out[..., 0]
        p = 1 / (1 + anp.exp(-first))
        if name in ("bernoulli", "continuous-bernoulli"):
            plain = x * anp.log(p) + (1 - x) * anp.log(1 - p)
            return plain if name == "bernoulli" else plain + anp.log(2 * anp.arctanh(1 - 2 * p) / (1 - 2 * p))
        if name == "normal":
            return -0.5 * (tensors["logvar"] + (x - first) ** 2 * anp.exp(-tensors["logvar"]))
        if name == "poisson":
            return x * first - anp.exp(first)
        if name == "negative-binomial":
            r, mu = anp.exp(tensors["log_dispersion"]), anp.exp(first)
            return loggamma(x + r) - loggamma(r) + r * anp.log(r / (r + mu)) + x * anp.log(mu / (r + mu))
        if name == "student-t":
            df, logvar = anp.exp(tensors["log_df"]), tensors["logvar"]
            head = loggamma((df + 1) / 2) - loggamma(df / 2) - 0.5 * anp.log(df) - 0.5 * logvar
            return head - (df + 1) / 2 * anp.log(1 + (x - first) ** 2 / df * anp.exp(-logvar))
        if name == "categorical":
            chosen = (x[..., None] == np.arange(last + 1)).astype(float)
            return (chosen * out).sum(-1) - anp.log(anp.exp(out).sum(-1))
        edges = [((2 * x + side - last) / last - first) * anp.exp(-out[..., 1]) for side in (-1, 1)]
        below, above = (1 / (1 + anp.exp(-edge)) for edge in edges)
        return anp.log(anp.where(x == last, 1.0, above) - anp.where(x == 0, 0.0, below))

    dcells = np.random.default_rng(1).standard_normal(found.out.shape[:-1])
    cache = found.family.log_prob_forward(x, found.out, found.tensors)[1]
    dout, own = found.family.log_prob_backward(dcells, cache)
    expected = autograd.grad(lambda out: (dcells * density(out, found.tensors)).sum())(found.out)
    np.testing.assert_allclose(dout, expected, rtol=1e-10, atol=1e-12)
    if own:
        expected = autograd.grad(lambda tensors: (dcells * density(found.out, tensors)).sum())(found.tensors)
        for key, gradient in own.items():
            np.testing.assert_allclose(gradient, expected[key], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_moments_are_the_densitys_own(name: str) -> None:
    """By summing over levels; for densities of real numbers by SciPy's moments."""
    found = case(name)
    if name == "categorical":
        p = special.softmax(found.out, axis=-1)
        assert (found.family.mean(found.out, {}) == p.argmax(-1)).all()
        level, doubt = found.family.told(found.family.features(found.out, {}))
        np.testing.assert_allclose(doubt, 1 - p.max(-1), rtol=1e-12)
        assert (level == p.argmax(-1)).all()
        return
    mean, variance = (getattr(found.family, what)(found.out, found.tensors) for what in ("mean", "variance"))
    if name in COUNTED:
        last = found.family.levels or (2 if name == "bernoulli" else 3000)
        p = [
            np.exp(Case(found.family, np.full_like(found.x, v), found.out, found.tensors).cells()) for v in range(last)
        ]
        expected = sum(v * each for v, each in enumerate(p))
        square = sum(v * v * each for v, each in enumerate(p))
        np.testing.assert_allclose(mean, expected, rtol=1e-10)
        np.testing.assert_allclose(variance, square - expected**2, rtol=1e-7)
    elif name == "student-t":
        found.tensors["log_df"] = np.log([1.5, 5.0, 40.0])
        df, scale = np.exp(found.tensors["log_df"]), np.exp(0.5 * found.tensors["logvar"])
        variance = found.family.variance(found.out, found.tensors)
        np.testing.assert_allclose(variance, np.broadcast_to(stats.t.var(df, scale=scale), variance.shape), rtol=1e-12)
        assert np.isinf(variance[..., 0]).all()
    told, spread = found.family.told(found.family.features(found.out, found.tensors))
    np.testing.assert_allclose(told, mean)
    np.testing.assert_allclose(spread, np.sqrt(variance), rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_draws_have_the_density(name: str) -> None:
    """Kolmogorov and Smirnov for densities of real numbers, χ² for levels and counts; 20,000 draws of one cell."""
    rng = np.random.default_rng(7)
    found = case(name, seed=2)
    family = FAMILIES[name](DRAWS, found.family.levels)
    out = np.broadcast_to(found.out[0, 0, 0], (DRAWS, family.outputs))
    tensors = {key: np.broadcast_to(tensor[0], DRAWS) for key, tensor in found.tensors.items()}
    x = family.draw(out, tensors, rng)
    assert family.fits(x).all()
    if name in COUNTED:
        values = np.arange(int(x.max()) + 1, dtype=np.float64)
        at = FAMILIES[name](1, found.family.levels)
        cell = {key: tensor[:1] for key, tensor in found.tensors.items()}
        p = np.exp([at.log_prob_forward(np.array([[v]]), out[None, None, :1], cell)[0][0, 0, 0] for v in values])
        seen = np.bincount(x.astype(int), minlength=len(values))
        often = DRAWS * p >= 5
        seen = np.append(seen[often], seen[~often].sum())
        expected = np.append(DRAWS * p[often], DRAWS * (1 - p[often].sum()))
        keep = expected > 1e-6
        assert stats.chisquare(seen[keep], expected[keep]).pvalue > 1e-3
        return
    middle = float(out[0, 0])
    if name == "continuous-bernoulli":
        distribution = lambda at: np.expm1(at * middle) / np.expm1(middle)  # noqa: E731
    else:
        scale = np.exp(0.5 * found.tensors["logvar"][0])
        frozen = stats.norm(middle, scale)
        if name == "student-t":
            frozen = stats.t(np.exp(found.tensors["log_df"][0]), middle, scale)
        distribution = frozen.cdf
    assert stats.kstest(x, distribution).pvalue > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_float32_stays_float32_and_close(name: str) -> None:
    found = case(name)
    small = Case(
        found.family, found.x.astype(np.float32), found.out.astype(np.float32),
        {key: value.astype(np.float32) for key, value in found.tensors.items()},
    )  # fmt: skip
    cells, cache = small.family.log_prob_forward(small.x, small.out, small.tensors)
    dout, own = small.family.log_prob_backward(np.ones_like(cells), cache)
    for array in (cells, dout, *own.values(), small.family.mean(small.out, small.tensors)):
        assert array.dtype == np.float32
    np.testing.assert_allclose(cells, found.cells(), rtol=1e-4, atol=1e-5)


# --- the tails ------------------------------------------------------------------------------------------------------


def test_the_gamma_functions_are_scipys() -> None:
    a = np.concatenate([np.geomspace(1e-8, 1e8, 400), np.arange(1, 60)])
    np.testing.assert_allclose(gamma.log_gamma(a), special.gammaln(a), rtol=2e-14, atol=2e-13)
    x = np.arange(0, 200.0)
    peak = x * np.log(np.where(x > 0, x, 1)) - x - special.gammaln(x + 1)
    np.testing.assert_allclose(gamma.log_poisson_peak(x), peak, rtol=1e-12, atol=1e-12)
    for r in (1e-3, 0.5, 7.0, 300.0):
        ratio = special.gammaln(r + x) - special.gammaln(r) - x * np.log(r)
        np.testing.assert_allclose(gamma.log_rising(np.array(r), x), ratio, rtol=1e-11, atol=1e-11)
        slope = special.psi(r + x) - special.psi(r) - x / r
        np.testing.assert_allclose(gamma.log_rising_slope(np.array(r), x), slope, rtol=1e-11, atol=1e-11)


def test_a_ratio_of_large_gammas_keeps_its_digits() -> None:
    """Γ(r + 3) / (Γ(r) r³) = (1 + 1/r)(1 + 2/r), of which nothing is left in the difference of two logarithms."""
    r = np.geomspace(1e6, 1e14, 9)
    np.testing.assert_allclose(gamma.log_rising(r, np.array(3.0)), np.log1p(1 / r) + np.log1p(2 / r), atol=1e-15)


def test_a_negative_binomial_of_large_dispersion_is_a_poisson() -> None:
    for x in (0.0, 1.0, 7.0, 1000.0):
        close = one(NegativeBinomial(1), x, 1.7, log_dispersion=np.log(1e15))
        assert close == pytest.approx(one(Poisson(1), x, 1.7), rel=1e-11)


def test_students_t_of_many_degrees_of_freedom_is_a_normal() -> None:
    for x in (0.0, 1.0, -5.0):
        assert one(StudentT(1), x, 0.3, logvar=0.2, log_df=np.log(1e15)) == pytest.approx(
            stats.norm.logpdf(x, 0.3, np.exp(0.1)), rel=1e-12
        )


def test_far_tails_are_finite_and_right() -> None:
    assert one(Poisson(1), 1e6, np.log(1e6)) == pytest.approx(-0.5 * np.log(2 * np.pi * 1e6) - 1 / 12e6, rel=1e-13)
    assert one(Poisson(1), 0, -800.0) == pytest.approx(0, abs=1e-300)
    assert one(Poisson(1), 3, -800.0) == pytest.approx(-2400 - np.log(6), rel=1e-14)
    t = one(StudentT(1), 1e200, 0.0, logvar=0.0, log_df=np.log(3))
    assert t == pytest.approx(stats.t.logpdf(1, 3) + 2 * np.log(4 / 3) - 4 * np.log(1e200 / np.sqrt(3)), rel=1e-13)
    assert one(ContinuousBernoulli(1), 1.0, 1e6) == pytest.approx(np.log(1e6), rel=1e-14)
    assert one(ContinuousBernoulli(1), 0.0, 1e6) == pytest.approx(np.log(1e6) - 1e6, rel=1e-14)
    assert one(ContinuousBernoulli(1), 0.3, 0.0) == 0
    assert one(Categorical(1, 3), 1, 900.0, -900.0, 0.0) == -1800
    sharp = DiscretizedLogistic(1, 256)
    level = (2 * 100 - 255) / 255
    assert one(sharp, 100, level, -40.0) == pytest.approx(0, abs=1e-300)
    # Three levels off, at a scale of 1e-3: σ(3½δ) − σ(2½δ).
    width, far = 2 / 255 / 1e-3, one(sharp, 103, level, np.log(1e-3))
    assert far == pytest.approx(np.log(special.expit(-2.5 * width) - special.expit(-3.5 * width)), rel=1e-12)
    # At a scale of 1e9 every inner level has the width of its bin over 4 s.
    assert one(sharp, 100, 0.0, np.log(1e9)) == pytest.approx(np.log(2 / 255 / 4e9), rel=1e-12)
    assert one(sharp, 255, 0.0, np.log(1e9)) == pytest.approx(np.log(0.5), rel=1e-8)
    assert one(NegativeBinomial(1), 5, 500.0, log_dispersion=0.0) == pytest.approx(-500.0, rel=1e-14)
    assert one(NegativeBinomial(1), 0, 2.0, log_dispersion=-700.0) == pytest.approx(0, abs=1e-280)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("extreme", [-60.0, 60.0])
def test_gradients_far_out_are_finite(name: str, extreme: float) -> None:
    found = case(name)
    out = np.full_like(found.out, extreme)
    cells, cache = found.family.log_prob_forward(found.x, out, found.tensors)
    dout, own = found.family.log_prob_backward(np.ones_like(cells), cache)
    assert all(np.isfinite(array).all() for array in (cells, dout, *own.values()))


def test_the_continuous_bernoulli_is_smooth_where_the_series_takes_over() -> None:
    edge = np.array([-1.0, 1.0])
    for function in (continuous_bernoulli.log_partition, continuous_bernoulli.mean_of):
        inside, outside = function(edge * (1 - 1e-15)), function(edge * (1 + 1e-15))
        np.testing.assert_allclose(inside, outside, rtol=1e-14)


def test_levels_and_cells_that_do_not_fit_are_told_apart() -> None:
    assert Poisson(1).fits(np.array([0, 2, 2.5, -1, np.inf])).tolist() == [True, True, False, False, False]
    assert Categorical(1, 3).fits(np.array([0, 2, 3, 1.5, -1])).tolist() == [True, True, False, False, False]
    assert DiscretizedLogistic(1, 256).fits(np.array([0, 255, 256, 0.5])).tolist() == [True, True, False, False]
    assert ContinuousBernoulli(1).fits(np.array([0, 0.5, 1, 1.01])).tolist() == [True, True, True, False]
