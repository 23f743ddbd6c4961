"""Measurements with outliers: Student's t around the decoder's mean, its scale and freedom per column. [D73]"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.distributions import LOG_2PI
from vae_np.likelihoods.family import Family, summed_to
from vae_np.likelihoods.gamma import log_rising, log_rising_slope

# Where the degrees of freedom start: heavy tails, and yet a variance.
_START = 5.0


def _log1p_square(t: Array) -> Array:
    """log(1 + t²), also where t² overflows."""
    size = np.where(t.real > 0, t, -t)
    large = size.real > 1
    inner, outer = np.where(large, 1, size), np.where(large, size, 1)
    return np.where(large, 2 * np.log(outer) + np.log1p((1 / outer) ** 2), np.log1p(inner * inner))


class StudentT(Family):
    """m + σ T_ν, with log σ² and log ν learned for each column."""

    measured = True

    def tensors(self) -> dict[str, tuple[tuple[int, ...], float]]:
        """`logvar`, log σ², and `log_df`, log ν."""
        shape = (self.columns,)
        return {"logvar": (shape, 0.0), "log_df": (shape, float(np.log(_START)))}

    def log_prob_forward(self, x: Array, out: Array, tensors: Mapping[str, Array]) -> tuple[Array, Any]:
        """−½ (log 2π + log σ²) + log Γ(½ν + ½) − log Γ(½ν) − ½ log ½ν − ½ (ν + 1) log(1 + r² / (ν σ²)). [D73]"""
        logvar, log_df = tensors["logvar"], tensors["log_df"]
        half = 0.5 * np.exp(log_df)
        scaled = (x - out[..., 0]) * np.exp(-0.5 * (logvar + log_df))
        constant = log_rising(half, 0.5 * np.ones_like(half)) - 0.5 * (LOG_2PI + logvar)
        return constant - (half + 0.5) * _log1p_square(scaled), (scaled, logvar, log_df, half)

    def log_prob_backward(self, dcells: Array, cache: Any) -> tuple[Array, dict[str, Array]]:
        """With q = t² / (1 + t²), t = r / (σ √ν): dm = (ν + 1) q / r, dlogvar = ½ (ν + 1) q − ½, and dlog ν. [D73]"""
        scaled, logvar, log_df, half = cache
        size = abs(scaled)
        large = size > 1
        inner, outer = np.where(large, 0, scaled), np.where(large, scaled, 1)
        # t / (1 + t²) and t² / (1 + t²), neither of which squares a large number.
        ratio = np.where(large, 1 / (outer + 1 / outer), inner / (1 + inner * inner))
        share = np.where(large, 1 / (1 + (1 / outer) ** 2), inner * inner / (1 + inner * inner))
        freedom = 2 * half + 1
        dmean = dcells * freedom * ratio * np.exp(-0.5 * (logvar + log_df))
        dlogvar = dcells * 0.5 * (freedom * share - 1)
        slope = log_rising_slope(half, 0.5 * np.ones_like(half))
        dlog_df = dcells * (half * (slope - _log1p_square(scaled)) + 0.5 * freedom * share)
        shape = (self.columns,)
        return dmean[..., None], {"logvar": summed_to(dlogvar, shape), "log_df": summed_to(dlog_df, shape)}

    def mean(self, out: Array, tensors: Mapping[str, Array]) -> Array:
        """m, the mean where ν > 1, and the median always."""
        return out[..., 0]

    def variance(self, out: Array, tensors: Mapping[str, Array]) -> Array:
        """σ² ν / (ν − 2); infinite for ν ≤ 2."""
        df = np.exp(tensors["log_df"])
        factor = np.where(df > 2, df / np.where(df > 2, df - 2, 1), np.inf)
        return np.broadcast_to(np.exp(tensors["logvar"]) * factor, out.shape[:-1])

    def draw(self, out: Array, tensors: Mapping[str, Array], random: np.random.Generator) -> Array:
        """NumPy's draw of T_ν, scaled and moved."""
        t = random.standard_t(np.exp(tensors["log_df"].astype(np.float64)))
        return (out[..., 0] + np.exp(0.5 * tensors["logvar"]) * t).astype(out.dtype)
