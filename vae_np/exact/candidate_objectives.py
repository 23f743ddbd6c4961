"""The objectives that the derivation considers on its way to the ELBO, and the two gradients of an expectation.

    one arbitrary z:        log p(x, z) − log q*(z)                     is log p(x) only if q* is the posterior   [D15]
    an arbitrary r:         E_r [log p(x, z) − log q*(z)] = log p(x) + KL(r ‖ q*) − KL(r ‖ p(z|x))                [D15]
    r = q*:                 the ELBO, the one choice that is always a bound                                      [D12]

Here q* and r are normals with means (B, K) and Cholesky factors (B, K, K), one an example.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vae_np._types import Array
from vae_np.distributions import full_normal_log_prob_forward, full_normal_sample_forward
from vae_np.elbo import standard_normal_log_prob
from vae_np.exact.decoder import Decoder

Normals = tuple[Array, Array]


def single_point(decoder: Decoder, x: Array, z: Array, q: Normals) -> Array:
    """log p(x, z) − log q*(z) at given points: (S, B) in nats, from x (B, D) and z (S, B, K). [D15]

    Were q* the posterior, every z would give log p(x). As it is not, z's spread around it, and some exceed it.
    """
    loglik, _ = decoder.loglik_forward(decoder.check(x), z.reshape(-1, z.shape[-1]))
    log_joint = loglik.reshape(z.shape[:-1]) + standard_normal_log_prob(z)
    mu, chol = (np.broadcast_to(part, (len(z), *part.shape)) for part in q)
    return log_joint - full_normal_log_prob_forward(z, mu, chol)[0]


def arbitrary_expectation(
    decoder: Decoder, x: Array, r: Normals, q: Normals, eps: Array, weights: Array
) -> Array:
    """E_r [log p(x, z) − log q*(z)], (B,) in nats, by points eps (S, K) and weights (S,) as in `inference.Rule`. [D15]

    A lower bound on log p(x) wherever KL(r ‖ q*) ≤ KL(r ‖ p(z|x)), so at r = q*; elsewhere nothing holds it down.
    """
    mu, chol = r
    points = np.broadcast_to(eps[:, None], (len(eps), *mu.shape))
    z, _ = full_normal_sample_forward(mu, chol, points)
    return weights @ single_point(decoder, x, z, q)


def pathwise_gradient(sigma: Array, eps: Array, df: Array) -> tuple[Array, Array]:
    """Draws of ∇_μ and ∇_v E f(z) for z = μ + σ ε, v = log σ²: g and ½ g σ ε, with df = g = ∇f(z) (S, K). [D17]"""
    return df, 0.5 * df * sigma * eps


def score_function_gradient(sigma: Array, eps: Array, f: Array, baseline: float | Array = 0.0) -> tuple[Array, Array]:
    """Draws of the same gradients without ∇f: (f(z) − b) ∇ log q(z), that is (f − b) ε/σ and (f − b) ½ (ε² − 1). [D18]

    f (S,), eps (S, K). E ∇ log q = 0, so any baseline b that does not see its own draw leaves the mean alone.
    """
    centred = (f - baseline)[:, None]
    return centred * eps / sigma, 0.5 * centred * (eps * eps - 1)


@dataclass(frozen=True)
class QuadraticVariances:
    """Variances of one draw of ∇_μ E z², z ~ N(μ, s²): what theory says the estimators' must be. [D18]"""

    pathwise: float
    score: float
    score_mean_baseline: float
    score_best_baseline: float


def quadratic_variances(mu: float, sigma: float) -> QuadraticVariances:
    """Pathwise 4s²; score function μ⁴/s² + 14μ² + 15s² without a baseline, 8μ² + 10s² with b = E f = μ² + s², and
    8μ² + 6s² with the best constant, b = E[f (∂ log q)²] / E[(∂ log q)²] = μ² + 3s². [D18]"""
    m2, s2 = mu * mu, sigma * sigma
    return QuadraticVariances(4 * s2, m2 * m2 / s2 + 14 * m2 + 15 * s2, 8 * m2 + 10 * s2, 8 * m2 + 6 * s2)


def best_baseline(sigma: Array, eps: Array, f: Array) -> Array:
    """E[f (∂_μ log q)²] / E[(∂_μ log q)²] from draws, (K,): the constant that makes each mean's variance least. [D18]

    Estimate it from other draws than those it is used on.
    """
    squared_score = (eps / sigma) ** 2
    return (f[:, None] * squared_score).mean(axis=0) / squared_score.mean(axis=0)
