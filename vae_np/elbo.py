"""The evidence lower bound and its gradient, written by hand, in its two forms.

    analytic:  ELBO = E_q log p(x|z) − KL(q(z|x) ‖ p(z)), the KL in closed form          [D21] [D22]
    joint:     ELBO = E_q [log p(x, z) − log q(z|x)], every term at the sampled z         [D21]

The expectation is over S samples z = mu + exp(logvar / 2) ε of each example. The loss is −mean(reconstruction −
beta·kl) over the batch; anything called ELBO is without beta.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from vae_np import model
from vae_np._types import Array
from vae_np.distributions import LOG_2PI
from vae_np.errors import InputError
from vae_np.model import Architecture, Parameters

FORMS = ("analytic", "joint")


@dataclass(frozen=True)
class Terms:
    """The ELBO's parts, one value per example, in nats: `reconstruction` = E_q log p(x|z) and `kl`, each (B,).

    `bound` (B,) is what was maximised where that is something else, an objective of `vae_np.objectives`.
    """

    reconstruction: Array
    kl: Array
    bound: Array | None = None

    @property
    def elbo(self) -> Array:
        """reconstruction − kl, (B,)."""
        return self.reconstruction - self.kl

    def loss(self, beta: float = 1.0) -> Any:
        """What training minimises: −mean(reconstruction − beta·kl), or −mean(bound), a scalar. [D24] [D41]"""
        if self.bound is not None:
            return -np.mean(self.bound)
        return -(self.reconstruction - beta * self.kl).mean()


class Pass(NamedTuple):
    """What one forward pass leaves for backward: z (S·B, K), logvar (B, K), loglik (S·B,), kl (B,), and the caches."""

    encoder: Any
    reparam: Any
    decoder: Any
    likelihood: Any
    loglik: Array
    kl: Array
    z: Array
    logvar: Array
    form: str


def standard_normal_log_prob(z: Array) -> Array:
    """log p(z) of the prior N(0, I): (B, K) to (B,) in nats. [D13]"""
    return -0.5 * ((z * z).sum(axis=-1) + z.shape[-1] * LOG_2PI)


def posterior_log_prob(logvar: Array, eps: Array) -> Array:
    """log q(z|x) at z = mu + exp(logvar / 2) ε, written in ε: −½ Σ (ε² + logvar + log 2π); (S·B,) in nats. [D30]"""
    stacked = eps.reshape(-1, *logvar.shape)
    return -0.5 * (stacked * stacked + logvar + LOG_2PI).sum(axis=-1).reshape(-1)


def elbo_forward(
    ops: ModuleType,
    arch: Architecture,
    parameters: Mapping[str, Array],
    x: Array,
    eps: Array,
    *,
    form: str = "analytic",
) -> tuple[Terms, Pass]:
    """The ELBO's terms for x (B, D) with noise eps (S·B, K), sample-major, and what backward needs. [D21]

    Raises InputError for a `form` that is neither `analytic` nor `joint`.
    """
    if form not in FORMS:
        raise InputError(f"form: got {form!r}, expected one of {', '.join(FORMS)}")
    (mu, logvar), encoder_cache = model.encode_forward(ops, arch, parameters, x)
    (z, kl), reparam_cache = ops.reparam_kl_forward(mu, logvar, eps)
    out, decoder_cache = model.decode_forward(ops, arch, parameters, z)
    loglik, loglik_cache = model.loglik_forward(ops, arch, parameters, x, out)
    if form == "joint":
        sampled = posterior_log_prob(logvar, eps) - standard_normal_log_prob(z)
        kl = sampled.reshape(-1, len(x)).mean(axis=0)
    reconstruction = loglik.reshape(-1, len(x)).mean(axis=0)
    cache = Pass(encoder_cache, reparam_cache, decoder_cache, loglik_cache, loglik, kl, z, logvar, form)
    return Terms(reconstruction, kl), cache


def elbo_backward(
    ops: ModuleType, arch: Architecture, cache: Pass, gradients: Parameters, *, beta: float = 1.0
) -> None:
    """Writes the loss's gradient with respect to every parameter into `gradients`. [D29] [D30]

    The loss is a mean, and this is where its 1/B (and the 1/S of the samples) enters, once. [D24]
    """
    encoder_cache, reparam_cache, decoder_cache, loglik_cache, loglik, kl, z, _, form = cache
    rows, batch = len(loglik), len(kl)
    dloglik = np.full_like(loglik, -1 / rows)
    dout = model.loglik_backward(ops, arch, dloglik, loglik_cache, gradients)
    dz = model.decode_backward(ops, dout, decoder_cache, gradients)
    if form == "analytic":
        dkl = np.full_like(kl, beta / batch)
        dmu, dlogvar = ops.reparam_kl_backward((dz, dkl), reparam_cache)
    else:
        # log q − log p = ½ Σ (z² − ε² − logvar): z pulls along the path, logvar has a term of its own, mu has none.
        dmu, dlogvar = ops.reparam_kl_backward((dz + (beta / rows) * z, np.zeros_like(kl)), reparam_cache)
        dlogvar = dlogvar - 0.5 * beta / batch
    model.encode_backward(ops, dmu, dlogvar, encoder_cache, gradients)
