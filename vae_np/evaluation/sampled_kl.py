"""How far a sampled KL lies from the KL: the error that comes from the draws of z, and from nothing else. [D81]"""

from __future__ import annotations

import numpy as np

from vae_np._types import Array
from vae_np.elbo import prior_forward, sampled_kl, split_noise
from vae_np.model import Model
from vae_np.posteriors import Posterior


def draws(model: Model, q: Posterior, eps: Array) -> Array:
    """log q(z|x) − log p(z) at every draw, (S, B) in nats; q as in `held_out.posterior`, eps (S·B, K) sample-major."""
    lower, upper = split_noise(model.arch, eps)
    (z, _, log_det), _ = model.arch.family.draw_forward(model.ops, model.parameters, q, lower)
    log_prior, _ = prior_forward(*model, z, upper)
    logvar = q[1]
    return sampled_kl(logvar, lower, log_prior, log_det).reshape(-1, len(logvar))


def stderr(model: Model, q: Posterior, eps: Array, samples: int) -> Array:
    """The standard error of each example's mean over `samples` draws, (B,) in nats, from the spread of those of eps.

    eps (S·B, K) has at least two draws of each example, and may have more than the mean was taken over.
    """
    return draws(model, q, eps).std(axis=0, ddof=1) / np.sqrt(samples)
