"""A normal around the decoder's mean, with one σ, one for each column, or a fixed one: cell by cell. [D5]"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.distributions import normal_log_prob_backward, normal_log_prob_forward, normal_sample
from vae_np.likelihoods.family import Family, summed_to


@dataclass(frozen=True)
class Normal(Family):
    """N(m, σ²): σ starts at `sigma`; it is learned unless `fixed`, and is the same in all columns where `shared`."""

    sigma: float = 1.0
    shared: bool = False
    fixed: bool = False

    measured = True

    def tensors(self) -> dict[str, tuple[tuple[int, ...], float]]:
        """`logvar`, log σ²."""
        shape = (1,) if self.shared else (self.columns,)
        return {} if self.fixed else {"logvar": (shape, 2 * math.log(self.sigma))}

    def _logvar(self, out: Array, tensors: Mapping[str, Array]) -> Array:
        """log σ² of each column, (C,)."""
        learned = (
            np.full_like(out[..., :1, 0].ravel()[:1], 2 * math.log(self.sigma)) if self.fixed else tensors["logvar"]
        )
        return np.broadcast_to(learned, (self.columns,))

    def log_prob_forward(self, x: Array, out: Array, tensors: Mapping[str, Array]) -> tuple[Array, Any]:
        """−½ (log 2π + log σ² + r² / σ²), r = x − m. [D5]"""
        logvar = np.broadcast_to(self._logvar(out, tensors), x.shape).reshape(-1, 1)
        cells, cache = normal_log_prob_forward(x.reshape(-1, 1), out.reshape(-1, 1), logvar)
        return cells.reshape(out.shape[:-1]), (cache, out.shape)

    def log_prob_backward(self, dcells: Array, cache: Any) -> tuple[Array, dict[str, Array]]:
        """dm = r / σ², dlogvar = ½ (r² / σ² − 1), summed over the cells that share it. [D5]"""
        of_density, shape = cache
        _, dmean, dlogvar = normal_log_prob_backward(dcells.reshape(-1), of_density)
        by_cell = dlogvar.reshape(1, shape[1], self.columns)
        own = {name: summed_to(by_cell, held) for name, (held, _) in self.tensors().items()}
        return dmean.reshape(shape), own

    def mean(self, out: Array, tensors: Mapping[str, Array]) -> Array:
        """m."""
        return out[..., 0]

    def variance(self, out: Array, tensors: Mapping[str, Array]) -> Array:
        """σ²."""
        return np.broadcast_to(np.exp(self._logvar(out, tensors)), out.shape[:-1])

    def draw(self, out: Array, tensors: Mapping[str, Array], random: np.random.Generator) -> Array:
        """m + σ ε. [D17]"""
        return normal_sample(out[..., 0], self._logvar(out, tensors), random.standard_normal(self.columns))
