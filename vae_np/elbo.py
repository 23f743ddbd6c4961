"""The evidence lower bound and its gradient, written by hand, in its two forms.

    analytic:  ELBO = E_q log p(x|z) − KL(q(z|x) ‖ p(z)), the KL in closed form          [D21] [D22]
    joint:     ELBO = E_q [log p(x, z) − log q(z|x)], every term at the sampled z         [D21] [D54]

The expectation is over S samples z = mu + exp(logvar / 2) ε of each example. The loss is −mean(reconstruction −
beta·kl) over the batch; anything called ELBO is without beta.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar, NamedTuple

import numpy as np

from vae_np import model
from vae_np._types import Array
from vae_np.display import Shown
from vae_np.distributions import LOG_2PI
from vae_np.errors import InputError
from vae_np.model import Architecture, Parameters
from vae_np.posteriors import Posterior

FORMS = ("analytic", "joint")


@dataclass(frozen=True, repr=False)
class Terms(Shown):
    """The ELBO's parts, one value per example, in nats: `reconstruction` = E_q log p(x|z) and `kl`, each (B,).

    `bound` (B,) is the objective that was maximised, where that is not the ELBO but another of `vae_np.objectives`.
    """

    _shown: ClassVar[tuple[str, ...]] = ("elbo", "reconstruction", "kl", "bound")

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
    """What one forward pass leaves for backward: z (S·B, K), logvar (B, K), loglik (S·B,), kl (B,), and the caches.

    `encoder` is None where mu and logvar were given, and `log_det` (S·B,) where the family's draw has none.
    """

    reparam: Any
    decoder: Any
    likelihood: Any
    loglik: Array
    kl: Array
    z: Array
    logvar: Array
    form: str
    log_det: Array | None = None
    encoder: Any = None


def standard_normal_log_prob(z: Array) -> Array:
    """log p(z) of the prior N(0, I): (B, K) to (B,) in nats. [D13]"""
    return -0.5 * ((z * z).sum(axis=-1) + z.shape[-1] * LOG_2PI)


def posterior_log_prob(logvar: Array, eps: Array) -> Array:
    """log q(z|x) at z = mu + exp(logvar / 2) ε, written in ε: −½ Σ (ε² + logvar + log 2π); (S·B,) in nats. [D30]"""
    stacked = eps.reshape(-1, *logvar.shape)
    return -0.5 * (stacked * stacked + logvar + LOG_2PI).sum(axis=-1).reshape(-1)


def posterior_elbo_forward(
    ops: ModuleType,
    arch: Architecture,
    parameters: Mapping[str, Array],
    x: Array,
    mu: Array,
    logvar: Array,
    eps: Array,
    *,
    form: str | None = None,
    more: Posterior = (),
) -> tuple[Terms, Pass]:
    """The ELBO's terms for x (B, D) and any q, given by mu and logvar (B, K), and what backward needs. [D21]

    `more` is what else describes q in the family of `arch`. The noise eps is (S·B, K), sample-major. `form` is by
    default the one that the family has. Raises InputError for a `form` that is neither `analytic` nor `joint`, and for
    `analytic` with a flow. [D54]
    """
    family = arch.family
    form = family.form if form is None else form
    if form not in FORMS:
        raise InputError(f"form: got {form!r}, expected one of {', '.join(FORMS)}")
    if form == "analytic" and not family.analytic:
        raise InputError(
            f"form: got 'analytic' with posterior {arch.posterior!r}, expected 'joint': a flow's KL has no closed form"
        )
    (z, kl, log_det), reparam_cache = family.draw_forward(ops, parameters, (mu, logvar, *more), eps)
    out, decoder_cache = model.decode_forward(ops, arch, parameters, z)
    loglik, loglik_cache = model.loglik_forward(ops, arch, parameters, x, out)
    if form == "joint":
        sampled = posterior_log_prob(logvar, eps) - standard_normal_log_prob(z)
        sampled = sampled if log_det is None else sampled - log_det
        kl = sampled.reshape(-1, len(x)).mean(axis=0)
    reconstruction = loglik.reshape(-1, len(x)).mean(axis=0)
    cache = Pass(reparam_cache, decoder_cache, loglik_cache, loglik, kl, z, logvar, form, log_det)
    return Terms(reconstruction, kl), cache


def posterior_elbo_backward(
    ops: ModuleType, arch: Architecture, cache: Pass, gradients: Parameters | None, *, beta: float = 1.0
) -> Posterior:
    """Writes the decoder's gradients of the loss into `gradients`, if any, and returns dmu, dlogvar (B, K). [D29] [D30]

    The gradients of what else describes q follow, and those of a flow's own networks are written, too. The loss is a
    mean, and this is where its 1/B (and the 1/S of the samples) enters, once. [D24]
    """
    loglik, kl = cache.loglik, cache.kl
    rows, batch = len(loglik), len(kl)
    dloglik = np.full_like(loglik, -1 / rows)
    dout = model.loglik_backward(ops, arch, dloglik, cache.likelihood, gradients)
    dz = model.decode_backward(ops, dout, cache.decoder, gradients)
    # log q is the first normal's, less the log-determinant of what follows it.
    dlog_det = np.full_like(loglik, -beta / rows)
    if cache.form == "analytic":
        dkl = np.full_like(kl, beta / batch)
        dmu, dlogvar, *more = arch.family.draw_backward(ops, (dz, dkl, dlog_det), cache.reparam, gradients)
    else:
        # log q − log p = ½ Σ (z² − ε² − logvar): besides the path through z, logvar has a term of its own, and mu has
        # none.
        dout_of_draw = (dz + (beta / rows) * cache.z, np.zeros_like(kl), dlog_det)
        dmu, dlogvar, *more = arch.family.draw_backward(ops, dout_of_draw, cache.reparam, gradients)
        dlogvar = dlogvar - 0.5 * beta / batch
    return dmu, dlogvar, *more


def elbo_forward(
    ops: ModuleType,
    arch: Architecture,
    parameters: Mapping[str, Array],
    x: Array,
    eps: Array,
    *,
    form: str | None = None,
) -> tuple[Terms, Pass]:
    """The ELBO's terms for x (B, D), with the encoder's q and noise eps (S·B, K), and what backward needs. [D21]

    The rest is as in `posterior_elbo_forward`.
    """
    (mu, logvar, *more), encoder_cache = model.encode_forward(ops, arch, parameters, x)
    terms, cache = posterior_elbo_forward(
        ops, arch, parameters, x, mu, logvar, eps, form=form, more=tuple(more)
    )
    return terms, cache._replace(encoder=encoder_cache)


def elbo_backward(
    ops: ModuleType, arch: Architecture, cache: Pass, gradients: Parameters, *, beta: float = 1.0
) -> None:
    """Writes the loss's gradient with respect to every parameter into `gradients`. [D29] [D30]"""
    dmu, dlogvar, *more = posterior_elbo_backward(ops, arch, cache, gradients, beta=beta)
    model.encode_backward(ops, dmu, dlogvar, cache.encoder, gradients, more)
