"""The scalars whose derivatives are the estimates of stl, dreg and score. [D43] [D44] [D45] [D65]

What an estimate takes for numbers (its weights, and q's own numbers in log q) is frozen at the point where the gradient
is taken. Either function returns the loss as a function of the parameters, which the complex step then judges.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import numpy as np

from vae_np import distributions, ops
from vae_np._types import Array
from vae_np.architecture import Architecture
from vae_np.elbo import posterior_log_prob, standard_normal_log_prob
from vae_np.model import decode_forward, encode_forward, given_in, loglik_forward
from vae_np.parameters import Parameters
from vae_np.posteriors import Posterior

_STEP = 1e-30


def frozen_loss(
    backend: ModuleType, arch: Architecture, point: Parameters, x: Array, eps: Array, objective: str, beta: float
) -> Callable[[Any], Any]:
    """For a diagonal q: each density is the general normal's."""
    batch, samples = len(x), len(eps) // len(x)

    def log_p(values: Any, z: Array) -> Array:
        out, _ = decode_forward(backend, arch, values, z, given_in(arch, x))
        return loglik_forward(backend, arch, values, x, out)[0].reshape(samples, batch)

    def log_q(z: Array, mu: Array, logvar: Array) -> Array:
        q = np.concatenate([mu] * samples), np.concatenate([logvar] * samples)
        return distributions.normal_log_prob_forward(z, *q)[0].reshape(samples, batch)

    def log_w(z: Array, mu: Array, logvar: Array) -> Array:
        return log_p(point, z) + beta * (log_q(z, 0 * mu, 0 * logvar) - log_q(z, mu, logvar))

    def sample(mu: Array, logvar: Array) -> Array:
        return distributions.normal_sample(mu, logvar, eps.reshape(samples, *mu.shape)).reshape(eps.shape)

    (mu0, logvar0), _ = encode_forward(backend, arch, point, x)
    z0 = sample(mu0, logvar0)
    if objective == "score":
        f = log_p(point, z0)
        weights = np.full_like(f, 1 / samples)
        signal = (f - (f.sum(axis=0) - f) / (samples - 1)) / samples
    else:
        w = np.exp(log_w(z0, mu0, logvar0))
        weights = w / w.sum(axis=0)
        signal = weights if objective == "stl" else (1 - beta) * weights + beta * weights**2

    def loss(values: Any) -> Any:
        (mu, logvar), _ = encode_forward(backend, arch, values, x)
        if objective == "score":
            kl, _ = distributions.normal_kl_forward(mu, logvar)
            of_encoder = (signal * log_q(z0, mu, logvar)).sum() - beta * kl.sum()
        else:
            of_encoder = (signal * log_w(sample(mu, logvar), mu0, logvar0)).sum()
        return -((weights * log_p(values, z0)).sum() + of_encoder) / batch

    return loss


def frozen_loss_of_any_family(
    backend: ModuleType, arch: Architecture, point: Parameters, x: Array, eps: Array, objective: str, beta: float
) -> Callable[[Any], Any]:
    """For stl and dreg of any q: log q is frozen to its tangent at the draws, whose slope is that of complex steps."""
    batch, samples, family = len(x), len(eps) // len(x), arch.family
    q0, _ = encode_forward(backend, arch, point, x)
    drawn, _ = family.draw_forward(backend, point, q0, eps)
    log_q = posterior_log_prob(q0[1], eps)
    log_q = log_q if drawn.log_det is None else log_q - drawn.log_det
    slope = slope_by_complex_steps(arch, point, q0, eps)

    def log_p(values: Any, z: Array) -> Array:
        out, _ = decode_forward(backend, arch, values, z, given_in(arch, x))
        return loglik_forward(backend, arch, values, x, out)[0].reshape(samples, batch)

    def log_w(z: Array) -> Array:
        log_ratio = standard_normal_log_prob(z) - log_q - (slope * (z - drawn.z)).sum(axis=-1)
        return log_p(point, z) + beta * log_ratio.reshape(samples, batch)

    w = np.exp(log_w(drawn.z))
    weights = w / w.sum(axis=0)
    signal = weights if objective == "stl" else (1 - beta) * weights + beta * weights**2

    def loss(values: Any) -> Any:
        q, _ = encode_forward(backend, arch, values, x)
        z = family.draw_forward(backend, values, q, eps)[0].z
        return -((weights * log_p(values, drawn.z)).sum() + (signal * log_w(z)).sum()) / batch

    return loss


def slope_by_complex_steps(arch: Architecture, parameters: Mapping[str, Array], q: Posterior, eps: Array) -> Array:
    """∂ log q/∂z (S·B, K) at the draws of eps (S·B, K), q's own numbers held still. [D65]

    Complex steps in ε give ∂z/∂ε and ∂ log q/∂ε; the slope solves with the first, transposed, and knows of no formula.
    """
    tensors = {name: np.asarray(value, dtype=complex) for name, value in parameters.items()}
    wide = tuple(part.astype(complex) for part in q)
    columns, changes = [], []
    for j in range(arch.latent):
        moved = eps.astype(complex)
        moved[:, j] += 1j * _STEP
        draw, _ = arch.family.draw_forward(ops, tensors, wide, moved)
        log_q = posterior_log_prob(wide[1], moved)
        log_q = log_q if draw.log_det is None else log_q - draw.log_det
        columns.append(draw.z.imag / _STEP)
        changes.append(log_q.imag / _STEP)
    jacobian = np.stack(columns, axis=-1)
    solved: Array = np.linalg.solve(np.swapaxes(jacobian, 1, 2), np.stack(changes, axis=-1)[..., None])[..., 0]
    return solved
