"""The shape of the weights' tail: against exact generalised Pareto quantiles, SciPy's fit, and quadrature's log p(x).

Budget: about 6 s.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from vae_np import ops
from vae_np.evaluation import pareto
from vae_np.evaluation.importance import estimate_from_log_weights


@pytest.mark.parametrize("shape", [-0.3, 0.2, 0.7, 1.5])
def test_exact_quantiles_give_their_shape_and_scale(shape: float) -> None:
    levels = (np.arange(4000) + 0.5) / 4000
    found, scale = pareto.fit(stats.genpareto(shape, scale=3.0).ppf(levels)[:, None])
    assert found[0] == pytest.approx(shape, abs=0.02)
    assert scale[0] == pytest.approx(3.0, rel=0.02)


@pytest.mark.parametrize("shape", [0.1, 0.5, 0.9])
def test_it_agrees_with_the_likelihoods_maximum(shape: float) -> None:
    """SciPy climbs the likelihood, which the average over b stands for; their difference is a fraction of its error."""
    draws = stats.genpareto(shape).rvs(size=1000, random_state=3)
    found, _ = pareto.fit(draws[:, None])
    most_likely, _, _ = stats.genpareto.fit(draws, floc=0)
    assert abs(found[0] - most_likely) < 0.3 * (1 + shape) / math.sqrt(1000)


def test_columns_are_fitted_each_by_itself() -> None:
    draws = stats.genpareto(0.4).rvs(size=(300, 3), random_state=1) * np.array([1.0, 10.0, 1e-3])
    together = pareto.fit(draws)
    for column in range(3):
        alone = pareto.fit(draws[:, column : column + 1])
        assert together[0][column] == pytest.approx(alone[0][0], rel=1e-12)
        assert together[1][column] == pytest.approx(alone[1][0], rel=1e-12)


def test_the_scale_of_the_weights_does_not_matter() -> None:
    log_w = np.random.default_rng(0).standard_normal((2000, 2)) * 1.5
    moved = log_w + np.array([-900.0, 400.0])
    np.testing.assert_allclose(pareto.tail_shape(moved), pareto.tail_shape(log_w), rtol=1e-8)


@pytest.mark.parametrize(("s2", "shape"), [(0.45, 1 - 0.45), (0.3, 1 - 0.3), (0.7, 1 - 0.7)])
def test_normal_weights_have_the_shape_that_theory_says(s2: float, shape: float) -> None:
    """Posterior N(0, 1), proposal N(0, s²): w grows as exp(½ (1/s² − 1) z²), so P(w > t) falls as t^(−1/(1 − s²))."""
    z = math.sqrt(s2) * np.random.default_rng(5).standard_normal((400_000, 4))
    log_w = -0.5 * z * z + 0.5 * z * z / s2
    # The logarithm of t slows the approach: at these sizes theory is met from below, within a tenth or so.
    np.testing.assert_allclose(pareto.tail_shape(log_w), shape, atol=0.15)


def test_thresholds() -> None:
    assert pareto.threshold(100) == pytest.approx(0.5)
    assert pareto.threshold(1000) == pytest.approx(2 / 3)
    assert pareto.threshold(5000) == 0.7
    assert pareto.tail_size(100) == 20
    assert pareto.tail_size(5000) == 213


def test_too_few_or_even_weights() -> None:
    assert np.isnan(pareto.tail_shape(np.zeros((4, 2)))).all()
    assert (pareto.tail_shape(np.zeros((100, 2))) == 0).all()
    estimate = estimate_from_log_weights(ops, np.random.default_rng(0).standard_normal((100, 3)))
    assert estimate.tail.shape == (3,)
    assert not estimate.heavy(100).any()
    assert not estimate_from_log_weights(ops, np.zeros((1, 3))).heavy(1).any()
