"""q(z|x) = N(mu, L Lᵀ), L lower triangular: diag exp(logvar / 2), and a head for what is below the diagonal. [D53]"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.posteriors.family import Draw, Family, Posterior, stacked


class Full(Family):
    """A normal with a covariance; where `below` is zero it is the diagonal one, to the bit."""

    def heads(self) -> dict[str, int]:
        """`below`: the entries under L's diagonal, row by row."""
        return {"below": self.latent * (self.latent - 1) // 2}

    def draw_forward(
        self, ops: ModuleType, parameters: Mapping[str, Array], q: Posterior, eps: Array
    ) -> tuple[Draw, Any]:
        """z = mu + L ε, and the KL: the diagonal normal's, and ½ Σ L_ij² over i > j. [D53]

        L's determinant is that of its diagonal, so the change of z₀ has determinant one.
        """
        mu, logvar, below = q
        (z, kl), cache = ops.reparam_kl_forward(mu, logvar, eps)
        noise = stacked(eps, len(mu))
        turned = stacked(z, len(mu)) + np.einsum("bij,sbj->sbi", self.strictly_lower(below), noise)
        return Draw(turned.reshape(z.shape), kl + 0.5 * (below * below).sum(axis=-1), None), (cache, below, noise)

    def draw_backward(
        self,
        ops: ModuleType,
        dout: tuple[Array, Array, Array],
        cache: Any,
        gradients: Mapping[str, Array] | None,
    ) -> Posterior:
        """dmu, dlogvar (B, K), and dbelow: Σ_s dz_i ε_j along the path, and L_ij from the KL. [D53]"""
        dz, dkl, _ = dout
        of_normal, below, noise = cache
        dmu, dlogvar = ops.reparam_kl_backward((dz, dkl), of_normal)
        rows, columns = np.tril_indices(self.latent, -1)
        outer = np.einsum("sbi,sbj->bij", stacked(dz, len(below)), noise)
        return dmu, dlogvar, outer[:, rows, columns] + dkl[:, None] * below

    def slope_of_log_q(self, logvar: Array, eps: Array, cache: Any) -> Array:
        """−L⁻ᵀ ε, by solving with Lᵀ, which is triangular. [D65]"""
        _, below, noise = cache
        upper = np.swapaxes(self.lower(logvar, below), 1, 2)
        # (B, K, S) and back to rows that are sample-major.
        solved = np.linalg.solve(upper, np.moveaxis(noise, 0, -1))
        return -np.moveaxis(solved, -1, 0).reshape(eps.shape)

    def moments(self, q: Posterior) -> tuple[Array, Array]:
        """mu, and the logarithms of (L Lᵀ)'s diagonal."""
        mu, logvar, below = q
        return mu, np.log(np.exp(logvar) + (self.strictly_lower(below) ** 2).sum(axis=-1))

    def covariance(self, logvar: Array, below: Array) -> Array:
        """L Lᵀ, (B, K, K)."""
        lower = self.lower(logvar, below)
        return lower @ np.swapaxes(lower, 1, 2)

    def lower(self, logvar: Array, below: Array) -> Array:
        """L, (B, K, K)."""
        lower = self.strictly_lower(below)
        every = np.arange(self.latent)
        lower[:, every, every] = np.exp(0.5 * logvar)
        return lower

    def strictly_lower(self, below: Array) -> Array:
        """L without its diagonal, (B, K, K), from `below` (B, K (K − 1) / 2)."""
        lower = np.zeros((len(below), self.latent, self.latent), dtype=below.dtype)
        rows, columns = np.tril_indices(self.latent, -1)
        lower[:, rows, columns] = below
        return lower
