"""THE CONTRACT: the hot operations of a VAE, in plain NumPy.

What these functions return is right by definition. Every backend offers the same names, signatures and shapes, and is
held against them. Inputs are never changed, except the buffers that `adam_update` exists to change.

    B examples, D features, K latents, I and O the widths of a layer, S samples per example (rows sample-major: s·B + b)

Binary data are bytes (uint8, 0 or 1); everything else is float32 or float64, and an operation computes in the precision
of its parameters. A cache is what backward needs, and is opaque to the caller.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vae_np import distributions, noise
from vae_np._types import Array
from vae_np.layers import ACTIVATIONS, affine_backward, affine_forward
from vae_np.optim import adam_update

__all__ = [
    "adam_update",
    "affine_act_backward",
    "affine_act_forward",
    "bernoulli_loglik_backward",
    "bernoulli_loglik_forward",
    "binary_affine_act_backward",
    "binary_affine_act_forward",
    "log_mean_exp_weights",
    "normal_loglik_backward",
    "normal_loglik_forward",
    "philox_bernoulli",
    "philox_normal",
    "reparam_kl_backward",
    "reparam_kl_forward",
]


def affine_act_forward(x: Array, weight: Array, bias: Array, activation: str) -> tuple[Array, Any]:
    """y = activation(x W + b): x (B, I), weight (I, O), bias (O,), y (B, O). [D25] [D26]

    `activation` is identity, relu, tanh or softplus.
    """
    a, affine_cache = affine_forward(x, weight, bias)
    y, act_cache = ACTIVATIONS[activation][0](a)
    return y, (affine_cache, act_cache, activation)


def affine_act_backward(
    dy: Array, cache: Any, *, input_gradient: bool = True, weight_gradient: bool = True
) -> tuple[Array | None, Array | None, Array | None]:
    """dx (B, I), dweight (I, O), dbias (O,), from dy (B, O); None for those not asked for. [D25] [D26]"""
    affine_cache, act_cache, activation = cache
    da = ACTIVATIONS[activation][1](dy, act_cache)
    return affine_backward(da, affine_cache, input_gradient=input_gradient, weight_gradient=weight_gradient)


def binary_affine_act_forward(x: Array, weight: Array, bias: Array, activation: str) -> tuple[Array, Any]:
    """The first layer on binary x (B, I), bytes: row b sums the rows of W where x is one, plus the bias. [D28]"""
    return affine_act_forward(x.astype(weight.dtype), weight, bias, activation)


def binary_affine_act_backward(dy: Array, cache: Any) -> tuple[Array, Array]:
    """dweight (I, O) and dbias (O,); x is data, so it has no gradient. [D28]"""
    _, dweight, dbias = affine_act_backward(dy, cache, input_gradient=False)
    assert dweight is not None
    assert dbias is not None
    return dweight, dbias


def reparam_kl_forward(mu: Array, logvar: Array, eps: Array) -> tuple[tuple[Array, Array], Any]:
    """z = mu + exp(logvar / 2) ε, and the KL of q(z|x) to N(0, I) in nats. [D17] [D22]

    mu, logvar (B, K), eps (S·B, K); z (S·B, K), kl (B,).
    """
    stacked = eps.reshape(-1, *mu.shape)
    z = distributions.normal_sample(mu, logvar, stacked).reshape(eps.shape)
    kl, kl_cache = distributions.normal_kl_forward(mu, logvar)
    return (z, kl), (stacked, logvar, kl_cache)


def reparam_kl_backward(dout: tuple[Array, Array], cache: Any) -> tuple[Array, Array]:
    """dmu and dlogvar (B, K), from dz (S·B, K) along the path and dkl (B,). [D17] [D22]

    Along the path ∂z/∂mu = 1 and ∂z/∂logvar = ½ exp(logvar / 2) ε, with the same ε as forward.
    """
    dz, dkl = dout
    eps, logvar, kl_cache = cache
    dz = dz.reshape(eps.shape)
    dmu, dlogvar = distributions.normal_kl_backward(dkl, kl_cache)
    return dmu + dz.sum(axis=0), dlogvar + 0.5 * np.exp(0.5 * logvar) * (dz * eps).sum(axis=0)


def bernoulli_loglik_forward(x: Array, logits: Array) -> tuple[Array, Any]:
    """log p(x | z) of independent Bernoulli pixels: x (B, D), logits (S·B, D), result (S·B,) in nats. [D4]"""
    return distributions.bernoulli_log_prob_forward(x, logits)


def bernoulli_loglik_backward(dloglik: Array, cache: Any) -> Array:
    """dlogits (S·B, D), from dloglik (S·B,). [D4]"""
    return distributions.bernoulli_log_prob_backward(dloglik, cache)


def normal_loglik_forward(x: Array, mean: Array, logvar: Array) -> tuple[Array, Any]:
    """log p(x | z) of independent normals: x (B, D), mean (S·B, D), logvar (1,) or (D,), result (S·B,) in nats. [D5]"""
    return distributions.normal_log_prob_forward(x, mean, logvar)


def normal_loglik_backward(dloglik: Array, cache: Any) -> tuple[Array, Array]:
    """dmean (S·B, D) and dlogvar, shaped as logvar, from dloglik (S·B,). [D5]"""
    _, dmean, dlogvar = distributions.normal_log_prob_backward(dloglik, cache)
    return dmean, dlogvar


def log_mean_exp_weights(log_w: Array) -> tuple[Array, Array]:
    """log (1/S) Σ_s exp log_w and the normalised weights, both from log_w (S, B); results (B,) and (S, B). [D34]

    The weights are also the gradient of the first result. Where all of an example's weights are zero (log w = −inf) the
    log of their mean is −inf, and there is nothing to normalise: its weights are NaN.
    """
    top = log_w.real.max(axis=0)
    top = np.where(np.isneginf(top), 0, top)
    w = np.exp(log_w - top)
    total = w.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return top + np.log(total / len(log_w)), w / total


def philox_normal(
    rows: Array,
    columns: int,
    *,
    seed: int,
    stream: int,
    step: int,
    sample: int | Array = 0,
    dtype: Any = np.float32,
) -> Array:
    """Standard normals (len(rows), columns), a pure function of row, column, seed, stream, step and sample. [D38]

    `sample` is one number for all rows, or one per row (len(rows),).
    """
    return noise.normal(rows, columns, seed=seed, stream=stream, step=step, sample=sample, dtype=dtype)


def philox_bernoulli(grey: Array, *, seed: int, stream: int, step: int, rows: Array) -> Array:
    """Binary pixels (B, D) as bytes, one where a uniform falls below the grey value (bytes / 255, or floats). [D38]"""
    return noise.bernoulli(grey, seed=seed, stream=stream, step=step, rows=rows)
