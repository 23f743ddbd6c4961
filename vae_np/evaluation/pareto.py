"""The shape of importance weights' upper tail: how many of their moments are finite. [D35]

Above a high threshold nearly every tail is a generalised Pareto one, with density (1/σ)(1 + k y/σ)^(−1/k − 1), whose
moments of order 1/k and beyond are infinite: at k ≥ ½ the weights have no variance, and a standard error made from the
ones that were drawn says nothing. (Pickands 1975; Vehtari, Simpson, Gelman, Yao and Gabry 2024; the fit is Zhang and
Stephens 2009)
"""

from __future__ import annotations

import math

import numpy as np

from vae_np._types import Array

# The fewest exceedances that a fit is made of.
_FEWEST = 5
# Vehtari et al. pull k̂ towards ½ as ten observations of it would.
_PRIOR_SHAPE, _PRIOR_WEIGHT = 0.5, 10.0


def tail_size(samples: int) -> int:
    """How many of the largest weights are taken for the tail: min(S/5, 3√S)."""
    return int(min(math.ceil(0.2 * samples), math.ceil(3 * math.sqrt(samples))))


def threshold(samples: int) -> float:
    """The k̂ above which S samples are too few for an estimate to be trusted: min(1 − 1/log₁₀ S, 0.7)."""
    return min(1 - 1 / math.log10(samples), 0.7) if samples > 1 else -math.inf


def fit(exceedances: Array) -> tuple[Array, Array]:
    """Shape k and scale σ of generalised Pareto distributions, (B,) each, from exceedances (M, B) > 0 over a threshold.

    The likelihood depends on b = −k/σ alone once k = mean log(1 − b y) is put in; b is averaged over a grid of it,
    which stands for a prior that spans what the data allow. No optimiser, and no failure to converge.
    """
    y = np.sort(exceedances, axis=0)
    count, largest = len(y), y[-1]
    quartile = y[max(0, int(count / 4 + 0.5) - 1)]
    points = 30 + int(math.sqrt(count))
    places = (1 - np.sqrt(points / (np.arange(1, points + 1) - 0.5)))[:, None]
    b = 1 / largest + places / (3 * quartile)
    k = np.empty_like(b)
    for row, at in enumerate(b):
        k[row] = np.log1p(-at * y).mean(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        profile = count * (np.log(-b / k) - k - 1)
    share = np.exp(profile - profile.max(axis=0))
    mean = (b * share).sum(axis=0) / share.sum(axis=0)
    shape = np.log1p(-mean * y).mean(axis=0)
    return shape, -shape / mean


def tail_shape(log_w: Array) -> Array:
    """k̂ of the weights' upper tail, (B,), from log weights (S, B); NaN from too few, 0 where all weigh the same.

    Of weights that were never drawn it knows nothing: a posterior's mode that q misses leaves the tail light.
    """
    samples = len(log_w)
    count = tail_size(samples)
    if count < _FEWEST or samples <= count:
        return np.full(log_w.shape[1], np.nan)
    ordered = np.partition(log_w, samples - count - 1, axis=0)[samples - count - 1 :].astype(np.float64)
    top = ordered.max(axis=0)
    scaled = np.exp(ordered - top)
    exceedances = scaled[1:] - scaled[0]
    even = ~(exceedances.min(axis=0) > 0) | ~np.isfinite(top)
    usable = np.where(even, np.linspace(0.5, 1, count)[:, None], exceedances)
    shape, _ = fit(usable)
    pulled = (count * shape + _PRIOR_WEIGHT * _PRIOR_SHAPE) / (count + _PRIOR_WEIGHT)
    # Ties at the threshold leave no tail to fit; where every weight is the same there is none at all.
    flat = even & (scaled[0] == scaled.max(axis=0))
    return np.where(flat, 0.0, np.where(even, np.nan, pulled))
