"""0 or 1, from logits: the density of `vae_np.distributions`, cell by cell. [D4]"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.distributions import bernoulli_log_prob_backward, bernoulli_log_prob_forward, bernoulli_sample
from vae_np.layers import sigmoid
from vae_np.likelihoods.family import Family


class Bernoulli(Family):
    """p(1) = σ(l); a grey x gives the cross-entropy, which is no log-likelihood."""

    def expects(self) -> str:
        """What it has a density for."""
        return "0 or 1"

    def fits(self, x: Array) -> Array:
        """0 and 1."""
        return (x == 0) | (x == 1)

    def log_prob_forward(self, x: Array, out: Array, tensors: Mapping[str, Array]) -> tuple[Array, Any]:
        """x l − log(1 + exp l). [D4]"""
        cells, cache = bernoulli_log_prob_forward(x.reshape(-1, 1), out.reshape(-1, 1))
        return cells.reshape(out.shape[:-1]), (cache, out.shape)

    def log_prob_backward(self, dcells: Array, cache: Any) -> tuple[Array, dict[str, Array]]:
        """dl = x − σ(l). [D4]"""
        of_density, shape = cache
        return bernoulli_log_prob_backward(dcells.reshape(-1), of_density).reshape(shape), {}

    def mean(self, out: Array, tensors: Mapping[str, Array]) -> Array:
        """σ(l)."""
        return sigmoid(out[..., 0])

    def variance(self, out: Array, tensors: Mapping[str, Array]) -> Array:
        """σ(l) σ(−l)."""
        return sigmoid(out[..., 0]) * sigmoid(-out[..., 0])

    def draw(self, out: Array, tensors: Mapping[str, Array], random: np.random.Generator) -> Array:
        """1 where a uniform falls below σ(l). [D6]"""
        return bernoulli_sample(out[..., 0], random.random(self.columns)).astype(out.dtype)
