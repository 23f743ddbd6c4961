"""What training can maximise, and the gradients, written by hand; S samples per example, weights w̃ = w / Σ w.

    elbo    the mean of the samples' terms, the KL in closed form                                    [D21] [D24]
    iwae    log (1/S) Σ w with log w = log p(x|z) + beta (log p(z) − log q(z|x)): rises with S       [D41] [D42]
    stl     the same bound; the encoder's gradient along the path alone, weights w̃                   [D43]
    dreg    the same bound; the encoder's gradient along the path alone, weights w̃², without bias    [D44]
    score   the ELBO; the encoder's gradient by the score function, not along the path               [D45]

The decoder's gradient is Σ w̃ ∂ log w in all of them. Whatever is maximised, the terms that come back are the ELBO's,
without beta; the objective's own value is their `bound`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np

from vae_np import model, priors
from vae_np._types import Array
from vae_np.architecture import Architecture
from vae_np.choices import OBJECTIVES
from vae_np.elbo import (
    Pass,
    Terms,
    adds_to_encoder,
    elbo_backward,
    elbo_forward,
    posterior_log_prob,
    prior_backward,
    split_noise,
    standard_normal_log_prob,
)
from vae_np.errors import InputError
from vae_np.parameters import Parameters
from vae_np.posteriors import check_objective
from vae_np.posteriors.family import over_sigma
from vae_np.refinement import refined_elbo_backward, refined_elbo_forward
from vae_np.two_layers import check_objective as check_layers


def objective_forward(
    ops: ModuleType,
    arch: Architecture,
    parameters: Mapping[str, Array],
    x: Array,
    eps: Array,
    *,
    objective: str = "elbo",
    beta: float = 1.0,
) -> tuple[Terms, Any]:
    """The terms of x (B, D) with noise eps (S·B, K), sample-major, and what backward needs. [D41]

    The loss is `terms.loss(beta)`. An architecture that refines q in N steps takes (1 + N) times as much noise. [D63]
    Raises InputError for an unknown objective, for `score` with a single sample, for one that has no gradient for the
    architecture's family of q [D65], and for one of stl, dreg and score with a learned prior or two stochastic layers.
    """
    if objective not in OBJECTIVES:
        raise InputError(f"objective: got {objective!r}, expected one of {', '.join(OBJECTIVES)}")
    check_objective(arch.posterior, objective, arch.refine_steps)
    check_layers(arch.top_latent, objective)
    priors.check_objective(arch.prior, objective)
    if arch.refine_steps:
        terms, refined = refined_elbo_forward(ops, arch, parameters, x, eps, beta=beta)
        return terms, ("refined", refined, None, None, beta)
    samples = len(eps) // len(x)
    if objective == "score" and samples < 2:
        raise InputError("samples: got 1, expected at least 2: score's baseline is the mean of the other samples")
    terms, passed = elbo_forward(ops, arch, parameters, x, eps)
    if objective in ("elbo", "score"):
        return terms, (objective, passed, eps, np.full_like(passed.loglik, 1 / samples), beta)
    log_prior = standard_normal_log_prob(passed.z) if passed.log_prior is None else passed.log_prior
    log_ratio = log_prior - posterior_log_prob(passed.logvar, split_noise(arch, eps)[0])
    log_ratio = log_ratio if passed.log_det is None else log_ratio + passed.log_det
    bound, weights = ops.log_mean_exp_weights((passed.loglik + beta * log_ratio).reshape(-1, len(x)))
    return replace(terms, bound=bound), (objective, passed, eps, weights.reshape(-1), beta)


def objective_backward(ops: ModuleType, arch: Architecture, cache: Any, gradients: Parameters) -> None:
    """Writes the gradient of −mean(objective) with respect to every parameter into `gradients`. [D42]

    For stl, dreg and score it is an estimate whose mean is the gradient (for stl with S > 1 nearly), and not the
    derivative of the number that forward returned.
    """
    objective, passed, eps, weights, beta = cache
    if objective == "elbo":
        elbo_backward(ops, arch, passed, gradients, beta=beta)
        return
    if objective == "refined":
        refined_elbo_backward(ops, arch, passed, gradients, beta=beta)
        return
    batch = len(passed.kl)
    # What a row of log w weighs in the loss: 1/B enters here, once. The weights are numbers, not differentiated.
    share = weights / batch
    dout = model.loglik_backward(ops, arch, -share, passed.likelihood, gradients)
    dz = model.decode_backward(ops, dout, passed.decoder, gradients)
    more: list[Array] = []
    if objective == "score":
        dmu, dlogvar = _score_backward(ops, passed, eps, beta)
    else:
        of_path = objective != "iwae"
        if of_path:
            pull = passed.z + arch.family.slope_of_log_q(passed.logvar, eps, passed.reparam)
            dz = dz + beta * share[:, None] * pull
        else:
            dz = dz + prior_backward(ops, arch, -beta * share, passed, gradients)
        if objective == "dreg":
            dz = dz * (1 - beta + beta * weights)[:, None]
        # Along the path alone log q, and so its log-determinant, has no parameters of its own.
        dlog_det = np.zeros_like(share) if of_path else -beta * share
        dout_of_draw = (dz, np.zeros_like(passed.kl), dlog_det)
        dmu, dlogvar, *more = arch.family.draw_backward(ops, dout_of_draw, passed.reparam, gradients)
        if objective == "iwae":
            # Apart from the path: log q, written in ε, has −½ logvar, and the weights sum to 1.
            dlogvar = dlogvar - 0.5 * beta / batch
    model.encode_backward(ops, dmu, dlogvar, passed.encoder, gradients, more, add=adds_to_encoder(arch))


def _score_backward(ops: ModuleType, passed: Pass, eps: Array, beta: float) -> tuple[Array, Array]:
    """dmu and dlogvar (B, K) by the score function; the baseline is the mean of the example's other samples. [D45]"""
    batch = len(passed.kl)
    loglik, stacked = passed.loglik.reshape(-1, batch), eps.reshape(-1, *passed.logvar.shape)
    # (f − b) / (S·B), where the mean of the others makes f − b = (f − mean f) S / (S − 1).
    signal = ((loglik - loglik.mean(axis=0)) / ((len(loglik) - 1) * batch))[..., None]
    no_path = np.zeros_like(passed.z), np.full_like(passed.kl, beta / batch)
    dmu, dlogvar = ops.reparam_kl_backward(no_path, passed.reparam)
    dmu = dmu - (signal * over_sigma(stacked, passed.logvar)).sum(axis=0)
    return dmu, dlogvar - 0.5 * (signal * (stacked * stacked - 1)).sum(axis=0)
