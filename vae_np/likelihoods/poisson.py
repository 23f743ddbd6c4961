"""Counts, by a Poisson whose log rate is the decoder's output. [D69]"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.likelihoods.family import Family
from vae_np.likelihoods.gamma import log_poisson_peak


def counts_fit(x: Array) -> Array:
    """Which cells are whole numbers from 0, bool."""
    return (x >= 0) & (x == np.rint(x)) & np.isfinite(x)


class Poisson(Family):
    """exp(x l − exp l) / x!."""

    def expects(self) -> str:
        """What it has a density for."""
        return "whole numbers from 0"

    def fits(self, x: Array) -> Array:
        """Whole numbers from 0."""
        return counts_fit(x)

    def seen(self, x: Array) -> Array:
        """log(1 + x): counts range over decades."""
        return np.log1p(x)[..., None]

    def log_prob_forward(self, x: Array, out: Array, tensors: Mapping[str, Array]) -> tuple[Array, Any]:
        """At its best rate, less x (exp δ − 1 − δ) with δ = l − log x; −exp l at x = 0. [D69]"""
        log_rate = out[..., 0]
        positive = x > 0
        surplus = log_rate - np.log(np.where(positive, x, 1))
        deviance = x * (np.expm1(surplus) - surplus)
        return np.where(positive, log_poisson_peak(x) - deviance, -np.exp(log_rate)), (x, log_rate)

    def log_prob_backward(self, dcells: Array, cache: Any) -> tuple[Array, dict[str, Array]]:
        """dl = x − exp l. [D69]"""
        x, log_rate = cache
        return (dcells * (x - np.exp(log_rate)))[..., None], {}

    def mean(self, out: Array, tensors: Mapping[str, Array]) -> Array:
        """exp l."""
        return np.exp(out[..., 0])

    def variance(self, out: Array, tensors: Mapping[str, Array]) -> Array:
        """exp l."""
        return np.exp(out[..., 0])

    def draw(self, out: Array, tensors: Mapping[str, Array], random: np.random.Generator) -> Array:
        """NumPy's draw at the rate exp l."""
        return random.poisson(np.exp(out[..., 0].astype(np.float64))).astype(out.dtype)
