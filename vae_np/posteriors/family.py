"""What every family of q(z|x) has: its heads and tensors, a draw with its log-determinant, and the draw's backward.

A family begins with the normal N(mu, diag exp logvar) of two heads, whose draw z₀ = mu + exp(logvar / 2) ε is the
contract's `reparam_kl`; what makes it richer is a change of variables on top. So log q(z|x) is always the log-density
of z₀, written in ε, less the logarithm of that change's determinant, and both gradients of training need no more than
this class names. [D54]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar, NamedTuple

import numpy as np

from vae_np._types import Array

# What an encoder returns: mu and logvar (B, K), and one array (B, M) more where the family has a head of its own.
Posterior = tuple[Array, ...]


class Draw(NamedTuple):
    """z (S·B, K); `kl` (B,) in nats, q's own where `analytic`; `log_det` (S·B,) of the change of z₀, None where it is
    one throughout."""

    z: Array
    kl: Array
    log_det: Array | None


@dataclass(frozen=True)
class Family:
    """A family of q over `latent` dimensions; flows have `steps`, networks of their own a `hidden` width too."""

    latent: int
    steps: int = 0
    hidden: int = 0
    activation: str = "tanh"

    #: Whether the KL to N(0, I) is in closed form; otherwise it is the mean of log q − log p over the draws.
    analytic: ClassVar[bool] = True
    #: How many steps and which width a family of this kind has unless they are named; 0 where it has none.
    default_steps: ClassVar[int] = 0
    default_hidden: ClassVar[int] = 0

    @property
    def form(self) -> str:
        """The ELBO's form that the family has by itself. [D21]"""
        return "analytic" if self.analytic else "joint"

    def heads(self) -> dict[str, int]:
        """The encoder's heads beside mu and logvar, with their widths."""
        return {}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The tensors that belong to no head, in buffer order."""
        return {}

    def start(self, parameters: Mapping[str, Array]) -> None:
        """Bring freshly drawn parameters into the shape that the family asks for, in place."""

    def draw_forward(
        self, ops: ModuleType, parameters: Mapping[str, Array], q: Posterior, eps: Array
    ) -> tuple[Draw, Any]:
        """z of q at the noise eps (S·B, K), and what backward needs. [D54]"""
        raise NotImplementedError

    def draw_backward(
        self,
        ops: ModuleType,
        dout: tuple[Array, Array, Array],
        cache: Any,
        gradients: Mapping[str, Array] | None,
    ) -> Posterior:
        """dq, shaped as q, from dz (S·B, K), dkl (B,) and dlog_det (S·B,); writes the gradients of `shapes`. [D54]

        A family whose draw has no log-determinant looks at dz and dkl alone, and a flow's KL is no output of its
        draw: its dkl is zero.
        """
        raise NotImplementedError

    def slope_of_log_q(self, logvar: Array, eps: Array, cache: Any) -> Array:
        """∂ log q/∂z (S·B, K) at the draws of eps (S·B, K) that left `cache`, q's own numbers held still. [D43] [D65]

        A family without it has no gradient for the objectives stl and dreg, which are refused before this.
        """
        raise NotImplementedError

    def moments(self, q: Posterior) -> tuple[Array, Array] | None:
        """The mean and log-variance of each z_j under q, (B, K) each; None where they are no closed form."""
        return None


def over_sigma(eps: Array, logvar: Array) -> Array:
    """ε / σ, shaped as eps (S·B, K): ∂ log q₀/∂mu at fixed z₀, and −∂ log q₀/∂z₀, of the first normal. [D43] [D45]"""
    return (eps.reshape(-1, *logvar.shape) * np.exp(-0.5 * logvar)).reshape(eps.shape)


def stacked(rows: Array, batch: int) -> Array:
    """Rows (S·B, …), sample-major, as (S, B, …)."""
    return rows.reshape(-1, batch, *rows.shape[1:])


def repeated(rows: Array, samples: int) -> Array:
    """Rows (B, …) once for every sample, (S·B, …), sample-major."""
    return np.concatenate([rows] * samples) if samples > 1 else rows
