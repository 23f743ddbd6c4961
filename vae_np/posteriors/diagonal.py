"""q(z|x) = N(mu, diag exp logvar): the family that the fused loops know. [D13] [D22]"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from vae_np._types import Array
from vae_np.posteriors.family import Draw, Family, Posterior, over_sigma


class Diagonal(Family):
    """A normal whose dimensions are independent; the whole of it is the contract's `reparam_kl`."""

    def draw_forward(
        self, ops: ModuleType, parameters: Mapping[str, Array], q: Posterior, eps: Array
    ) -> tuple[Draw, Any]:
        """z = mu + exp(logvar / 2) ε, and the KL. [D17] [D22]"""
        mu, logvar = q
        (z, kl), cache = ops.reparam_kl_forward(mu, logvar, eps)
        return Draw(z, kl, None), cache

    def draw_backward(
        self,
        ops: ModuleType,
        dout: tuple[Array, Array, Array],
        cache: Any,
        gradients: Mapping[str, Array] | None,
    ) -> Posterior:
        """dmu and dlogvar (B, K). [D17] [D22]"""
        dz, dkl, _ = dout
        return ops.reparam_kl_backward((dz, dkl), cache)

    def slope_of_log_q(self, logvar: Array, eps: Array, cache: Any) -> Array:
        """−ε / σ. [D43]"""
        return -over_sigma(eps, logvar)

    def moments(self, q: Posterior) -> tuple[Array, Array]:
        """mu and logvar themselves."""
        mu, logvar = q
        return mu, logvar
