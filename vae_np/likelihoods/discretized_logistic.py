"""Levels of grey, 0 to 255 or another number of them: a logistic's mass between their edges. [D72]

Kingma et al. (2016) and Salimans et al. (2017) have it; the lowest level reaches down to −∞, and the highest up to ∞.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.layers import sigmoid, softplus
from vae_np.likelihoods.family import Family


class DiscretizedLogistic(Family):
    """σ(c + ½δ) − σ(c − ½δ), with c = (t − m) / s for the level t on [−1, 1], and δ its width over s."""

    default_levels = 256

    def expects(self) -> str:
        """The levels."""
        return f"whole numbers from 0 to {self.levels - 1}"

    @property
    def outputs(self) -> int:
        """m, and log s."""
        return 2

    def fits(self, x: Array) -> Array:
        """Whole numbers below `levels`."""
        return (x >= 0) & (x < self.levels) & (x == np.rint(x))

    def _placed(self, x: Array) -> Array:
        """Levels on [−1, 1]."""
        return (2 * x - (self.levels - 1)) / (self.levels - 1)

    def seen(self, x: Array) -> Array:
        """The level on [−1, 1]."""
        return self._placed(x)[..., None]

    def log_prob_forward(self, x: Array, out: Array, tensors: Mapping[str, Array]) -> tuple[Array, Any]:
        """log σ(a) + log σ(−b) + log(1 − exp −δ), a = c + ½δ, b = c − ½δ; an open end has its one term alone. [D72]"""
        mean, log_scale = out[..., 0], out[..., 1]
        inverse = np.exp(-log_scale)
        centre = (self._placed(x) - mean) * inverse
        width = 2 / (self.levels - 1) * inverse
        lowest, highest = x == 0, x == self.levels - 1
        above = np.where(highest, 0, softplus(-(centre + 0.5 * width)))
        below = np.where(lowest, 0, softplus(centre - 0.5 * width))
        # Of an open end the width is no part; 1 stands for it, so that its logarithm is finite.
        inner = np.where(lowest | highest, 1, width)
        between = np.where(lowest | highest, 0, np.log(-np.expm1(-inner)))
        return between - above - below, (centre, width, inverse, lowest, highest)

    def log_prob_backward(self, dcells: Array, cache: Any) -> tuple[Array, dict[str, Array]]:
        """dc = σ(−a) − σ(b), dδ = ½ σ(−a) + ½ σ(b) + 1 / (exp δ − 1); dm = −dc / s, dlog s = −c dc − δ dδ. [D72]"""
        centre, width, inverse, lowest, highest = cache
        above = np.where(highest, 0, sigmoid(-(centre + 0.5 * width)))
        below = np.where(lowest, 0, sigmoid(centre - 0.5 * width))
        inner = np.where(lowest | highest, 1, width)
        # δ / (exp δ − 1), without an exponential that overflows.
        ratio = np.where(lowest | highest, 0, -inner * np.exp(-inner) / np.expm1(-inner))
        dcentre = above - below
        dlog_scale = -centre * dcentre - 0.5 * width * (above + below) - ratio
        return np.stack([-dcells * inverse * dcentre, dcells * dlog_scale], axis=-1), {}

    def _survival(self, out: Array, level: int) -> Array:
        """P(x ≥ level), (..., C)."""
        edge = (2 * level - self.levels) / (self.levels - 1)
        return sigmoid((out[..., 0] - edge) * np.exp(-out[..., 1]))

    def mean(self, out: Array, tensors: Mapping[str, Array]) -> Array:
        """Σ_k P(x ≥ k), k from 1."""
        total = np.zeros_like(out[..., 0])
        for level in range(1, self.levels):
            total += self._survival(out, level)
        return total

    def variance(self, out: Array, tensors: Mapping[str, Array]) -> Array:
        """Σ_k (2k − 1) P(x ≥ k), which is E x², less the mean's square."""
        square, mean = np.zeros_like(out[..., 0]), np.zeros_like(out[..., 0])
        for level in range(1, self.levels):
            reached = self._survival(out, level)
            mean += reached
            square += (2 * level - 1) * reached
        return np.maximum(square - mean * mean, 0)

    def draw(self, out: Array, tensors: Mapping[str, Array], random: np.random.Generator) -> Array:
        """A logistic's draw, rounded to the nearest level: that has the levels' masses. [D72]"""
        place = out[..., 0] + np.exp(out[..., 1]) * random.logistic(size=self.columns)
        level = np.rint(0.5 * ((self.levels - 1) * place + (self.levels - 1)))
        return np.clip(level, 0, self.levels - 1).astype(out.dtype)
