"""Semi-amortised inference: a few steps on λ = (mu, logvar) that begin where the encoder puts it. (Kim et al. 2018)

Each is a step along the natural gradient of the ELBO, of one draw of ε (or S) of its own. Training takes the gradient
through the steps, by hand, or stops it there, so that they count as constants. [D63] [D64]
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from vae_np import model
from vae_np._types import Array
from vae_np.architecture import Architecture
from vae_np.curvature import change_of_gradient
from vae_np.elbo import Terms, posterior_elbo_backward, posterior_elbo_forward
from vae_np.parameters import Parameters


class Visit(NamedTuple):
    """Where a step began: mu and logvar (B, K), the loss's dmu (B, K) there, and the step's ε (S·B, K)."""

    mu: Array
    logvar: Array
    dmu: Array
    eps: Array


def refine_forward(
    ops: ModuleType,
    arch: Architecture,
    parameters: Mapping[str, Array],
    x: Array,
    q: tuple[Array, Array],
    eps: Array,
    *,
    beta: float = 1.0,
) -> tuple[tuple[Array, Array], list[Visit]]:
    """mu and logvar (B, K) after all steps from `q`, and what backward needs; eps (N·S·B, K), step after step. [D63]

    One step is mu − ρ σ² ∂loss/∂mu and logvar − 2 ρ ∂loss/∂logvar, where ρ is `arch.refine_rate` and the loss each
    example's own: the derivatives over the Fisher information of N(mu, σ²), 1/σ² and ½.
    """
    mu, logvar = q
    # The loss is a mean: without the B, a step would depend on the batch size.
    rate = (arch.refine_rate or 0) * len(x)
    visits = []
    for noise in eps.reshape(arch.refine_steps, -1, arch.latent):
        _, cache = posterior_elbo_forward(ops, arch, parameters, x, mu, logvar, noise)
        dmu, dlogvar = posterior_elbo_backward(ops, arch, cache, None, beta=beta)
        visits.append(Visit(mu, logvar, dmu, noise))
        mu, logvar = mu - rate * np.exp(logvar) * dmu, logvar - 2 * rate * dlogvar
    return (mu, logvar), visits


def refine_backward(
    ops: ModuleType,
    arch: Architecture,
    parameters: Mapping[str, Array],
    x: Array,
    dq: tuple[Array, Array],
    visits: list[Visit],
    gradients: Parameters,
    *,
    beta: float = 1.0,
) -> tuple[Array, Array]:
    """dmu and dlogvar (B, K) where the steps began, from those where they end; adds to the decoder's gradients. [D64]

    With `arch.refine_gradient` stopped they are the same, and the decoder's gradients stay what they are.
    """
    dmu, dlogvar = dq
    if arch.refine_gradient == "stopped":
        return dmu, dlogvar
    rate = (arch.refine_rate or 0) * len(x)
    for visit in reversed(visits):
        variance = np.exp(visit.logvar)
        along = rate * variance * dmu, 2 * rate * dlogvar
        (mu_change, logvar_change), changes = change_of_gradient(
            ops, arch, parameters, x, visit.mu, visit.logvar, visit.eps, along, beta=beta
        )
        for name, change in changes.items():
            gradients[name][...] -= change
        # The variance in the step of mu depends on logvar, too.
        dlogvar = dlogvar - logvar_change - rate * variance * visit.dmu * dmu
        dmu = dmu - mu_change
    return dmu, dlogvar


def refined_elbo_forward(
    ops: ModuleType,
    arch: Architecture,
    parameters: Mapping[str, Array],
    x: Array,
    eps: Array,
    *,
    beta: float = 1.0,
) -> tuple[Terms, Any]:
    """The ELBO's terms for x (B, D) at the refined q, and what backward needs. [D63]

    The noise eps is ((1 + N)·S·B, K), sample-major: that of the bound first, then each step's own. Noise that λ has
    seen would make the bound too high. The steps climb what is trained, with `beta` on the KL.
    """
    of_bound = len(eps) // (1 + arch.refine_steps)
    (mu, logvar), encoder_cache = model.encode_forward(ops, arch, parameters, x)
    q, visits = refine_forward(ops, arch, parameters, x, (mu, logvar), eps[of_bound:], beta=beta)
    terms, passed = posterior_elbo_forward(ops, arch, parameters, x, *q, eps[:of_bound])
    return terms, (passed, encoder_cache, visits, parameters, x)


def refined_elbo_backward(
    ops: ModuleType, arch: Architecture, cache: Any, gradients: Parameters, *, beta: float = 1.0
) -> None:
    """Writes the loss's gradient with respect to every parameter into `gradients`. [D64]"""
    passed, encoder_cache, visits, parameters, x = cache
    dmu, dlogvar = posterior_elbo_backward(ops, arch, passed, gradients, beta=beta)
    dmu, dlogvar = refine_backward(ops, arch, parameters, x, (dmu, dlogvar), visits, gradients, beta=beta)
    model.encode_backward(ops, dmu, dlogvar, encoder_cache, gradients)
