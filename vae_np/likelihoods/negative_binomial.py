"""Counts that spread more than a Poisson's: a negative binomial with a log mean, and a dispersion per column. [D70]"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.layers import sigmoid, softplus
from vae_np.likelihoods.family import Family, summed_to
from vae_np.likelihoods.gamma import log_poisson_peak, log_rising, log_rising_slope
from vae_np.likelihoods.poisson import counts_fit


class NegativeBinomial(Family):
    """Mean μ = exp l and variance μ + μ² / r, with r = exp ρ learned: a Poisson whose rate is drawn from a gamma."""

    def expects(self) -> str:
        """What it has a density for."""
        return "whole numbers from 0"

    def tensors(self) -> dict[str, tuple[tuple[int, ...], float]]:
        """`log_dispersion`, ρ = log r."""
        return {"log_dispersion": ((self.columns,), 0.0)}

    def fits(self, x: Array) -> Array:
        """Whole numbers from 0."""
        return counts_fit(x)

    def seen(self, x: Array) -> Array:
        """log(1 + x): counts range over decades."""
        return np.log1p(x)[..., None]

    def log_prob_forward(self, x: Array, out: Array, tensors: Mapping[str, Array]) -> tuple[Array, Any]:
        """log Γ(r + x) − log Γ(r) − x log r − log x! + x l − (x + r) log(1 + exp(l − ρ)). [D70]"""
        log_mean, rho = out[..., 0], tensors["log_dispersion"]
        r = np.exp(rho)
        positive = x > 0
        # x l − log x! = x (l − log x) + x + its peak; x l is never formed, nor log x!.
        surplus = log_mean - np.log(np.where(positive, x, 1))
        of_count = np.where(positive, log_poisson_peak(x) + x + x * surplus, 0)
        cells = log_rising(r, x) + of_count - (x + r) * softplus(log_mean - rho)
        return cells, (x, log_mean, rho, r)

    def log_prob_backward(self, dcells: Array, cache: Any) -> tuple[Array, dict[str, Array]]:
        """dl = x − h, with h = (x + r) σ(l − ρ); dρ = r (ψ(r + x) − ψ(r) − x / r − log(1 + exp(l − ρ))) + h. [D70]"""
        x, log_mean, rho, r = cache
        share = (x + r) * sigmoid(log_mean - rho)
        drho = dcells * (r * (log_rising_slope(r, x) - softplus(log_mean - rho)) + share)
        return (dcells * (x - share))[..., None], {"log_dispersion": summed_to(drho, (self.columns,))}

    def mean(self, out: Array, tensors: Mapping[str, Array]) -> Array:
        """exp l."""
        return np.exp(out[..., 0])

    def variance(self, out: Array, tensors: Mapping[str, Array]) -> Array:
        """μ + μ² / r."""
        mean = np.exp(out[..., 0])
        return mean + mean * mean * np.exp(-tensors["log_dispersion"])

    def draw(self, out: Array, tensors: Mapping[str, Array], random: np.random.Generator) -> Array:
        """A Poisson's draw, at a rate that is a gamma's: shape r, mean μ. [D70]"""
        r = np.exp(tensors["log_dispersion"].astype(np.float64))
        rate = random.standard_gamma(r) * np.exp(out[..., 0] - tensors["log_dispersion"])
        return random.poisson(rate).astype(out.dtype)
