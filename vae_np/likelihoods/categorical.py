"""One of several levels, by a softmax of one logit per level. [D7]"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.distributions import categorical_log_prob_backward, categorical_log_prob_forward, log_softmax
from vae_np.likelihoods.family import Family


class Categorical(Family):
    """p(level) = softmax(logits); a cell holds the place of its level, from 0."""

    default_levels = None

    def expects(self) -> str:
        """The places of the levels."""
        return f"a level's place, from 0 to {self.levels - 1}"

    @property
    def outputs(self) -> int:
        """A logit per level."""
        return self.levels

    @property
    def inputs(self) -> int:
        """One input per level."""
        return self.levels

    def fits(self, x: Array) -> Array:
        """Whole numbers below `levels`."""
        return (x >= 0) & (x < self.levels) & (x == np.rint(x))

    def seen(self, x: Array) -> Array:
        """One where the level is, and zero elsewhere."""
        return (x[..., None] == np.arange(self.levels)).astype(x.dtype)

    def log_prob_forward(self, x: Array, out: Array, tensors: Mapping[str, Array]) -> tuple[Array, Any]:
        """l_x − log Σ exp l. [D7]"""
        labels = np.broadcast_to(x.astype(np.int64), out.shape[:-1]).reshape(-1)
        cells, cache = categorical_log_prob_forward(labels, out.reshape(-1, self.levels))
        return cells.reshape(out.shape[:-1]), (cache, out.shape)

    def log_prob_backward(self, dcells: Array, cache: Any) -> tuple[Array, dict[str, Array]]:
        """dl = one-hot(x) − softmax(l). [D7]"""
        of_density, shape = cache
        return categorical_log_prob_backward(dcells.reshape(-1), of_density).reshape(shape), {}

    def mean(self, out: Array, tensors: Mapping[str, Array]) -> Array:
        """The likeliest level: a mean of names is none."""
        return out.argmax(axis=-1).astype(out.dtype)

    def features(self, out: Array, tensors: Mapping[str, Array]) -> Array:
        """The levels' probabilities, (..., C, levels), whose average over z is p(level). [D71]"""
        return np.exp(log_softmax(out))

    def told(self, features: Array) -> tuple[Array, Array]:
        """The likeliest level, and the probability that the cell has another. [D71]"""
        return features.argmax(axis=-1).astype(features.dtype), 1 - features.max(axis=-1)

    def error(self, features: Array, errors: Array) -> Array:
        """The error of the likeliest level's probability. [D71]"""
        return np.take_along_axis(errors, features.argmax(axis=-1)[..., None], axis=-1)[..., 0]

    def draw(self, out: Array, tensors: Mapping[str, Array], random: np.random.Generator) -> Array:
        """The level whose logit is largest once each has a Gumbel's noise of its own."""
        return (out + random.gumbel(size=out.shape)).argmax(axis=-1).astype(out.dtype)
