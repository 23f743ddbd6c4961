"""Numbers in [0, 1]: the continuous Bernoulli of Loaiza-Ganem and Cunningham (2019), in its natural parameter. [D68]

Its density is exp(x l) over ∫ exp(x l) dx = (exp l − 1) / l, on [0, 1]. In λ = σ(l) that is their λ^x (1 − λ)^(1 − x)
with the constant 2 atanh(1 − 2λ) / (1 − 2λ), which is 0 / 0 at λ = ½; in l it is smooth, and even but for l / 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.likelihoods.family import Family

# Below this |l| the series takes over; its next term is then below 1e-18.
_NEAR = 1.0
# 2^(2n − 1) B_2n / (n (2n)!), n = 1, 2, ...: log(sinh h / h) in powers of h².
_SERIES = (
    1 / 6,
    -1 / 180,
    1 / 2835,
    -1 / 37800,
    1 / 467775,
    -691 / 3831077250,
    2 / 127702575,
    -3617 / 2605132530000,
    43867 / 350813659321125,
    -174611 / 15313294652906250,
)


def _even(h: Array, slope: bool) -> Array:
    """log(sinh h / h) by its series, or its derivative, for |h| ≤ ½."""
    square = h * h
    total = np.zeros_like(h)
    for place in reversed(range(len(_SERIES))):
        total = total * square + (2 * (place + 1) if slope else 1) * _SERIES[place]
    return total * (h if slope else square)


def _parted(logits: Array) -> tuple[Array, Array, Array]:
    """Where the series is due, the logits that it takes, and those of the closed form; elsewhere either has a stand-in.
    """
    near = abs(logits.real) < _NEAR
    return near, np.where(near, logits, 0), np.where(near, _NEAR, logits)


def log_partition(logits: Array) -> Array:
    """κ(l) = log((exp l − 1) / l), elementwise; κ(0) = 0. [D68]"""
    near, small, large = _parted(logits)
    positive = large.real > 0
    size = np.where(positive, large, -large)
    far = np.where(positive, large, 0) + np.log(-np.expm1(-size)) - np.log(size)
    return np.where(near, 0.5 * small + _even(0.5 * small, slope=False), far)


def mean_of(logits: Array) -> Array:
    """κ′(l) = 1 / (1 − exp −l) − 1 / l, the mean, elementwise; ½ at l = 0. [D68]"""
    near, small, large = _parted(logits)
    positive = large.real > 0
    size = np.where(positive, large, -large)
    above = -1 / np.expm1(-size) - 1 / size
    return np.where(near, 0.5 + 0.5 * _even(0.5 * small, slope=True), np.where(positive, above, 1 - above))


class ContinuousBernoulli(Family):
    """exp(x l − κ(l)) on [0, 1]."""

    def expects(self) -> str:
        """What it has a density for."""
        return "numbers in [0, 1]"

    def fits(self, x: Array) -> Array:
        """[0, 1]."""
        return (x >= 0) & (x <= 1)

    def log_prob_forward(self, x: Array, out: Array, tensors: Mapping[str, Array]) -> tuple[Array, Any]:
        """x l − κ(l), written in |l| and the distance of x from its likelier end. [D68]"""
        logits = out[..., 0]
        # x l − κ(l) is the same for (1 − x, −l): nothing is lost by a large l that way.
        positive = logits.real > 0
        size = np.where(positive, -logits, logits)
        distance = np.where(positive, 1 - x, x)
        return distance * size - log_partition(size), (x, logits)

    def log_prob_backward(self, dcells: Array, cache: Any) -> tuple[Array, dict[str, Array]]:
        """dl = x − κ′(l). [D68]"""
        x, logits = cache
        return (dcells * (x - mean_of(logits)))[..., None], {}

    def mean(self, out: Array, tensors: Mapping[str, Array]) -> Array:
        """κ′(l)."""
        return mean_of(out[..., 0])

    def variance(self, out: Array, tensors: Mapping[str, Array]) -> Array:
        """κ″(l) = 1 / l² − ¼ / sinh² (l / 2), by its series near 0, where it is 1/12. [D68]"""
        half = 0.5 * out[..., 0]
        near = abs(half) < 0.5 * _NEAR
        square = np.where(near, half, 0) ** 2
        total = np.zeros_like(square)
        for place in reversed(range(len(_SERIES))):
            total = total * square + 2 * (place + 1) * (2 * place + 1) * _SERIES[place]
        large = np.where(near, 1, abs(half))
        decayed = np.exp(-2 * large)
        return 0.25 * np.where(near, total, 1 / large**2 - 4 * decayed / np.expm1(-2 * large) ** 2)

    def draw(self, out: Array, tensors: Mapping[str, Array], random: np.random.Generator) -> Array:
        """Where the distribution function (exp(x l) − 1) / (exp l − 1) reaches a uniform. [D68]"""
        logits, u = out[..., 0].astype(np.float64), random.random(self.columns)
        size = -np.maximum(abs(logits), 1e-9)
        below = np.log1p(u * np.expm1(size)) / size
        return np.where(logits > 0, 1 - below, below).astype(out.dtype)
