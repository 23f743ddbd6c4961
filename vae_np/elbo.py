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
from vae_np.architecture import Architecture
from vae_np.display import Shown
from vae_np.distributions import LOG_2PI
from vae_np.errors import InputError
from vae_np.parameters import Parameters
from vae_np.posteriors import Posterior
from vae_np.priors import Components

FORMS = ("analytic", "joint")


@dataclass(frozen=True, repr=False)
class Terms(Shown):
    """The ELBO's parts, one value per example, in nats: `reconstruction` = E_q log p(x|z) and `kl`, each (B,).

    `bound` (B,) is the objective that was maximised, where that is not the ELBO but another of `vae_np.objectives`. At
    evaluation a KL that is sampled has each example's standard error over its draws as `kl_stderr` (B,). [D81]
    """

    _shown: ClassVar[tuple[str, ...]] = ("elbo", "reconstruction", "kl", "bound")

    reconstruction: Array
    kl: Array
    bound: Array | None = None
    kl_stderr: Array | None = None

    @property
    def kl_sampling_stderr(self) -> float | None:
        """The standard error of the mean KL over the examples that comes from the draws of z alone, in nats. [D81]

        None where the KL is in closed form.
        """
        if self.kl_stderr is None:
            return None
        errors = self.kl_stderr.astype(np.float64)
        return float(np.sqrt((errors * errors).sum()) / len(errors))

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

    `encoder` is None where mu and logvar were given, `log_det` (S·B,) where the family's draw has none, and `log_prior`
    (S·B,), with its cache `prior`, in the analytic form, which does not need it.
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
    log_prior: Array | None = None
    prior: Any = None


def standard_normal_log_prob(z: Array) -> Array:
    """log p(z) of the prior N(0, I): (B, K) to (B,) in nats. [D13]"""
    return -0.5 * ((z * z).sum(axis=-1) + z.shape[-1] * LOG_2PI)


def prior_mixture(ops: ModuleType, arch: Architecture, parameters: Mapping[str, Array]) -> Components | None:
    """The components of a learned prior as they stand, for draws and densities; None for N(0, I). [D76]"""
    prior = arch.learned_prior
    return None if prior is None else prior.components_forward(parameters, model.encoder_of(ops, arch, parameters))[0]


def adds_to_encoder(arch: Architecture) -> bool:
    """Whether the prior has written gradients of the encoder, to which its own are to be added. [D78]"""
    return arch.learned_prior is not None and arch.learned_prior.uses_encoder


def posterior_log_prob(logvar: Array, eps: Array) -> Array:
    """log q(z|x) at z = mu + exp(logvar / 2) ε, written in ε: −½ Σ (ε² + logvar + log 2π); (S·B,) in nats. [D30]"""
    stacked = eps.reshape(-1, *logvar.shape)
    return -0.5 * (stacked * stacked + logvar + LOG_2PI).sum(axis=-1).reshape(-1)


def sampled_kl(logvar: Array, eps: Array, log_prior: Array, log_det: Array | None) -> Array:
    """log q(z|x) − log p(z), (S·B,) in nats, at the draws z that eps (S·B, K) and logvar (B, K) made. [D21] [D54]

    Its mean over ε is the KL. `log_prior` is log p(z), `log_det` that of what follows the normal, both (S·B,).
    """
    sampled = posterior_log_prob(logvar, eps) - log_prior
    return sampled if log_det is None else sampled - log_det


def split_noise(arch: Architecture, eps: Array) -> tuple[Array, Array | None]:
    """The noise (S·B, K) of q(z|x), and that of the layer above z, where there is one. [D59]"""
    return (eps, None) if arch.top_latent is None else (eps[:, : arch.latent], eps[:, arch.latent :])


def prior_forward(
    ops: ModuleType, arch: Architecture, parameters: Mapping[str, Array], z: Array, eps: Array | None
) -> tuple[Array, Any]:
    """log p(z) (S·B,) in nats at z (S·B, K), or its estimate by the noise eps of the layer above. [D13] [D59] [D76]"""
    upper, learned = arch.upper, arch.learned_prior
    if learned is not None:
        encoder = model.encoder_of(ops, arch, parameters)
        log_prior, cache = learned.log_prob_forward(ops, parameters, z, encoder)
        return log_prior, (cache, encoder)
    if upper is None or eps is None:
        return standard_normal_log_prob(z), None
    return upper.log_prior_forward(ops, parameters, z, eps)


def prior_backward(
    ops: ModuleType, arch: Architecture, dlog_prior: Array, cache: Pass, gradients: Parameters | None
) -> Array:
    """Returns dz (S·B, K) from dlog_prior (S·B,), and writes the gradients of the layer above z, or of a learned prior.

    Where that prior `uses_encoder` it writes that one's gradients as well, to which `encode_backward` then adds. [D30]
    [D59] [D76]
    """
    upper, learned = arch.upper, arch.learned_prior
    if learned is not None:
        of_prior, encoder = cache.prior
        return learned.log_prob_backward(ops, dlog_prior, of_prior, encoder, gradients)
    if upper is None:
        return -dlog_prior[:, None] * cache.z
    return upper.log_prior_backward(ops, dlog_prior, cache.prior, gradients)


def prior_draw_forward(
    ops: ModuleType, arch: Architecture, parameters: Mapping[str, Array], normals: Array
) -> tuple[Array, Any]:
    """z ~ p(z) (R, K) as a function of standard normals (R, `noise_columns`): themselves, for N(0, I). [D6] [D60]"""
    upper = arch.upper
    return (normals, None) if upper is None else upper.draw_forward(ops, parameters, normals)


def prior_draw_backward(ops: ModuleType, arch: Architecture, dz: Array, cache: Any) -> Array:
    """The gradient with respect to the normals, from dz (R, K). [D60]"""
    upper = arch.upper
    return dz if upper is None else upper.draw_backward(ops, dz, cache)


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

    `more` is what else describes q in the family of `arch`. The noise eps is (S·B, K), sample-major, with the columns
    of the layer above z behind it. `form` is by default the one that the model has. Raises InputError for a `form` that
    is neither `analytic` nor `joint`, and for `analytic` with a flow, a learned prior or two stochastic layers. [D54]
    [D59] [D76]
    """
    family = arch.family
    form = arch.form if form is None else form
    if form not in FORMS:
        raise InputError(f"form: got {form!r}, expected one of {', '.join(FORMS)}")
    if form == "analytic" and arch.top_latent is not None:
        raise InputError(
            f"form: got 'analytic' with top_latent {arch.top_latent}, expected 'joint': two stochastic layers have "
            "no KL in closed form"
        )
    if form == "analytic" and not family.analytic:
        raise InputError(
            f"form: got 'analytic' with posterior {arch.posterior!r}, expected 'joint': a flow's KL has no closed form"
        )
    if form == "analytic" and arch.prior != "standard":
        raise InputError(
            f"form: got 'analytic' with prior {arch.prior!r}, expected 'joint': a KL to a mixture has no closed form"
        )
    lower, upper = split_noise(arch, eps)
    (z, kl, log_det), reparam_cache = family.draw_forward(ops, parameters, (mu, logvar, *more), lower)
    out, decoder_cache = model.decode_forward(ops, arch, parameters, z, model.given_in(arch, x))
    loglik, loglik_cache = model.loglik_forward(ops, arch, parameters, x, out)
    log_prior, prior_cache = None, None
    if form == "joint":
        log_prior, prior_cache = prior_forward(ops, arch, parameters, z, upper)
        kl = sampled_kl(logvar, lower, log_prior, log_det).reshape(-1, len(x)).mean(axis=0)
    reconstruction = loglik.reshape(-1, len(x)).mean(axis=0)
    cache = Pass(
        reparam_cache, decoder_cache, loglik_cache, loglik, kl, z, logvar, form, log_det,
        log_prior=log_prior, prior=prior_cache,
    )  # fmt: skip
    return Terms(reconstruction, kl), cache


def posterior_elbo_backward(
    ops: ModuleType, arch: Architecture, cache: Pass, gradients: Parameters | None, *, beta: float = 1.0
) -> Posterior:
    """Writes the decoder's gradients of the loss, and a learned prior's, into `gradients`, if any, and returns dmu,
    dlogvar (B, K). [D29] [D30] [D76]

    The gradients of what else describes q follow, and those of a flow's own networks are written, too. The loss is a
    mean, and this is where its 1/B (and the 1/S of the samples) enters, once. [D24]
    """
    loglik, kl = cache.loglik, cache.kl
    rows, batch = len(loglik), len(kl)
    dloglik = np.full_like(loglik, -1 / rows)
    dout = model.loglik_backward(ops, arch, dloglik, cache.likelihood, gradients)
    dz = model.decode_backward(ops, dout, cache.decoder, gradients)
    # log q is the first normal's, less the log-determinant of what follows it; and log p(z) has the same share.
    dlog_det = np.full_like(loglik, -beta / rows)
    if cache.form == "analytic":
        dkl = np.full_like(kl, beta / batch)
        dmu, dlogvar, *more = arch.family.draw_backward(ops, (dz, dkl, dlog_det), cache.reparam, gradients)
    else:
        # log q − log p = ½ Σ (z² − ε² − logvar): besides the path through z, logvar has a term of its own, and mu has
        # none.
        dz = dz + prior_backward(ops, arch, -(beta / rows) * np.ones_like(loglik), cache, gradients)
        dout_of_draw = (dz, np.zeros_like(kl), dlog_det)
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
    model.encode_backward(ops, dmu, dlogvar, cache.encoder, gradients, more, add=adds_to_encoder(arch))
