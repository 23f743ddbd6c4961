"""Distributions: log-density, sample, entropy and KL divergence; where training differentiates one, its backward too.

Everything is in nats. Features and latents are summed, and one value per example is returned. Noise is an argument:
uniforms `u` in [0, 1) or standard normals `eps`. `logvar` is log σ². Where S samples share an example, rows are
stacked sample-major (row s·B + b), and an array with B rows is broadcast over the samples.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.layers import sigmoid, softplus

LOG_2PI = float(np.log(2 * np.pi))


def _unbroadcast(gradient: Array, shape: tuple[int, ...]) -> Array:
    """Sum a gradient over every axis along which an array of `shape` was broadcast."""
    extra = gradient.ndim - len(shape)
    stretched = [i for i, n in enumerate((1,) * extra + shape) if n == 1 and gradient.shape[i] > 1]
    return gradient.sum(axis=tuple(stretched), keepdims=True).reshape(shape)


# --- Bernoulli, from logits -------------------------------------------------------------------------------------


def bernoulli_log_prob_forward(x: Array, logits: Array) -> tuple[Array, Any]:
    """log p(x | logits) = Σ_d x l − log(1 + exp l); x (B, D), logits (S·B, D), result (S·B,) in nats. [D4]

    It is summed as −[max(l, 0) − x l + log1p(exp −|l|)], whose first two terms cancel exactly for binary x, so that it
    is finite and right for any finite logit. A grey x gives the cross-entropy, which is not a log-likelihood.
    """
    x = x.astype(logits.dtype)
    stacked = logits.reshape(-1, *x.shape)
    positive = stacked.real > 0
    magnitude = np.where(positive, stacked, -stacked)
    missed = np.where(positive, 1 - x, x) * magnitude
    log_prob = -(missed + np.log1p(np.exp(-magnitude))).sum(axis=-1)
    return log_prob.reshape(-1), (x, stacked)


def bernoulli_log_prob_backward(dlog_prob: Array, cache: Any) -> Array:
    """dlogits = dlog_prob (x − σ(l)). [D4]"""
    x, stacked = cache
    return (dlog_prob.reshape((*stacked.shape[:-1], 1)) * (x - sigmoid(stacked))).reshape(-1, x.shape[-1])


def bernoulli_sample(logits: Array, u: Array) -> Array:
    """x = 1 where u < σ(l), as bytes; logits and u (B, D). [D6]"""
    return (u < sigmoid(logits)).astype(np.uint8)


def bernoulli_entropy(logits: Array) -> Array:
    """H = Σ_d softplus(l) − l σ(l), result (B,) in nats. [D4]"""
    return (softplus(logits) - logits * sigmoid(logits)).sum(axis=-1)


def bernoulli_kl(logits: Array, other: Array) -> Array:
    """KL(Bernoulli(logits) ‖ Bernoulli(other)) summed over D, result (B,) in nats. [D4]"""
    return (sigmoid(logits) * (logits - other) + softplus(other) - softplus(logits)).sum(axis=-1)


# --- Normal with a variance per dimension -----------------------------------------------------------------------


def normal_log_prob_forward(x: Array, mean: Array, logvar: Array) -> tuple[Array, Any]:
    """log N(x; mean, exp logvar), constants included; x (B, D), mean (S·B, D), result (S·B,) in nats. [D5]

    `logvar` is (1,) for one shared σ, (D,) for one per dimension, or (B, D) for one per example and dimension (the
    encoder's q). [D13]
    """
    stacked = mean.reshape(-1, *x.shape)
    residual = x - stacked
    terms = LOG_2PI + logvar + residual * residual * np.exp(-logvar)
    return -0.5 * terms.sum(axis=-1).reshape(-1), (residual, logvar, mean.shape)


def normal_log_prob_backward(dlog_prob: Array, cache: Any) -> tuple[Array, Array, Array]:
    """dx = −r/σ², dmean = r/σ², dlogvar = ½(r²/σ² − 1), with r = x − mean, each times dlog_prob. [D5]"""
    residual, logvar, mean_shape = cache
    upstream = dlog_prob.reshape((*residual.shape[:-1], 1))
    scaled = residual * np.exp(-logvar)
    dmean = upstream * scaled
    dlogvar = _unbroadcast(0.5 * upstream * (residual * scaled - 1), logvar.shape)
    return -dmean.sum(axis=0), dmean.reshape(mean_shape), dlogvar


def normal_sample(mean: Array, logvar: Array, eps: Array) -> Array:
    """mean + exp(logvar / 2) ε: the standard deviation is exp(logvar / 2), and not exp(logvar). [D17]"""
    return mean + np.exp(0.5 * logvar) * eps


def normal_entropy(logvar: Array) -> Array:
    """H = ½ Σ (1 + log 2π + logvar), for logvar (B, K); result (B,) in nats. [D13]"""
    return 0.5 * (1 + LOG_2PI + logvar).sum(axis=-1)


def normal_kl_forward(mu: Array, logvar: Array) -> tuple[Array, Any]:
    """KL(N(mu, exp logvar) ‖ N(0, I)) = ½ Σ (mu² + exp logvar − 1 − logvar); (B, K) to (B,) in nats. [D22]

    It is written with expm1, so that the KL of a posterior close to the prior keeps its digits.
    """
    return 0.5 * (mu * mu + (np.expm1(logvar) - logvar)).sum(axis=-1), (mu, logvar)


def normal_kl_backward(dkl: Array, cache: Any) -> tuple[Array, Array]:
    """dmu = mu, dlogvar = ½ (exp logvar − 1), each times dkl. [D22]"""
    mu, logvar = cache
    upstream = dkl[..., None]
    return upstream * mu, upstream * (0.5 * np.expm1(logvar))


# --- Normal with a full covariance Σ = L Lᵀ, L lower triangular with a positive diagonal ------------------------


def _diagonal(matrix: Array) -> Array:
    return np.diagonal(matrix, axis1=-2, axis2=-1)


def _diagonal_matrix(diagonal: Array) -> Array:
    return diagonal[..., None] * np.eye(diagonal.shape[-1])


def full_normal_log_prob_forward(z: Array, mu: Array, chol: Array) -> tuple[Array, Any]:
    """log N(z; mu, L Lᵀ) = −½ |y|² − Σ log L_ii − ½ K log 2π, y = L⁻¹(z − mu); z, mu (B, K), chol (B, K, K). [D14]"""
    whitened = np.linalg.solve(chol, (z - mu)[..., None])[..., 0]
    log_det = np.log(_diagonal(chol)).sum(axis=-1)
    log_prob = -0.5 * ((whitened * whitened).sum(axis=-1) + z.shape[-1] * LOG_2PI) - log_det
    return log_prob, (whitened, chol)


def full_normal_log_prob_backward(dlog_prob: Array, cache: Any) -> tuple[Array, Array, Array]:
    """With s = L⁻ᵀ y: dz = −s, dmu = s, dL = tril(s yᵀ) − diag(1 / L_ii), each times dlog_prob. [D14]"""
    whitened, chol = cache
    score = np.linalg.solve(np.swapaxes(chol, -1, -2), whitened[..., None])[..., 0]
    upstream = dlog_prob[..., None]
    dmu = upstream * score
    outer = np.tril(score[..., :, None] * whitened[..., None, :])
    return -dmu, dmu, upstream[..., None] * (outer - _diagonal_matrix(1 / _diagonal(chol)))


def full_normal_sample_forward(mu: Array, chol: Array, eps: Array) -> tuple[Array, Any]:
    """z = mu + L ε; mu, eps (B, K), chol (B, K, K). [D14]"""
    return mu + (chol @ eps[..., None])[..., 0], eps


def full_normal_sample_backward(dz: Array, cache: Any) -> tuple[Array, Array]:
    """dmu = dz, dL = tril(dz εᵀ). [D17]"""
    eps = cache
    return dz, np.tril(dz[..., :, None] * eps[..., None, :])


def full_normal_entropy(chol: Array) -> Array:
    """H = ½ K (1 + log 2π) + Σ log L_ii, result (B,) in nats. [D14]"""
    return 0.5 * chol.shape[-1] * (1 + LOG_2PI) + np.log(_diagonal(chol)).sum(axis=-1)


def full_normal_kl_forward(mu: Array, chol: Array) -> tuple[Array, Any]:
    """KL(N(mu, L Lᵀ) ‖ N(0, I)) = ½ (tr Σ + |mu|² − K) − Σ log L_ii, result (B,) in nats. [D23]"""
    trace = (np.tril(chol) ** 2).sum(axis=(-2, -1))
    log_det = np.log(_diagonal(chol)).sum(axis=-1)
    return 0.5 * (trace + (mu * mu).sum(axis=-1) - mu.shape[-1]) - log_det, (mu, chol)


def full_normal_kl_backward(dkl: Array, cache: Any) -> tuple[Array, Array]:
    """dmu = mu, dL = tril(L) − diag(1 / L_ii), each times dkl. [D23]"""
    mu, chol = cache
    upstream = dkl[..., None]
    return upstream * mu, upstream[..., None] * (np.tril(chol) - _diagonal_matrix(1 / _diagonal(chol)))


# --- Categorical, from logits -----------------------------------------------------------------------------------


def log_softmax(logits: Array) -> Array:
    """log of the class probabilities: l − log Σ exp l, computed from the largest logit down. [D7]"""
    shifted = logits - logits.real.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def categorical_log_prob_forward(labels: Array, logits: Array) -> tuple[Array, Any]:
    """log p(label) for labels (B,) in 0..C−1 and logits (B, C); result (B,) in nats. [D7]"""
    log_p = log_softmax(logits)
    return np.take_along_axis(log_p, labels[:, None], axis=-1)[:, 0], (labels, log_p)


def categorical_log_prob_backward(dlog_prob: Array, cache: Any) -> Array:
    """dlogits = dlog_prob (one-hot(label) − softmax(l)). [D7]"""
    labels, log_p = cache
    one_hot = labels[:, None] == np.arange(log_p.shape[-1])
    return dlog_prob[:, None] * (one_hot - np.exp(log_p))


def categorical_sample(logits: Array, u: Array) -> Array:
    """The label whose interval of the cumulative probabilities holds u (B,). [D7]"""
    cumulative = np.cumsum(np.exp(log_softmax(logits)), axis=-1)
    # Rounding can leave the last cumulative probability just below a u; that u belongs to the last class.
    return (u[:, None] >= cumulative[:, :-1]).sum(axis=-1)


def categorical_entropy(logits: Array) -> Array:
    """H = −Σ_c p_c log p_c, result (B,) in nats. [D7]"""
    log_p = log_softmax(logits)
    return -(np.exp(log_p) * log_p).sum(axis=-1)


def categorical_kl(logits: Array, other: Array) -> Array:
    """KL(Categorical(logits) ‖ Categorical(other)), result (B,) in nats. [D7]"""
    log_p = log_softmax(logits)
    return (np.exp(log_p) * (log_p - log_softmax(other))).sum(axis=-1)
