"""`bernoulli_loglik_*` and `normal_loglik_*`: log p(x|z) and its gradients. [D4] [D5]"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.distributions import LOG_2PI

from ._arrays import flat, plain, precision
from .engine.functions import exp, exp_minus, log1p_unit, sigmoid
from .engine.intrinsics import fma
from .engine.vectors import sum_range
from .runtime import pool
from .runtime.compilation import njit

# Scratch that the fused rows need in addition to twice their pixels.
LANES = 64
_FEW_LANES, _SEGMENT = 16, 960


@njit()
def bernoulli_terms(x: Array, at_x: int, logits: Array, at: int, terms: Array, count: int) -> None:
    """−log p of each pixel of a row: max(l, 0) − x l + log1p(exp −|l|), whose first two cancel for binary x. [D4]"""
    zero, one = logits.dtype.type(0), logits.dtype.type(1)
    pixels, row = x[at_x : at_x + count], logits[at : at + count]
    for j in range(count):
        value, pixel = row[j], logits.dtype.type(pixels[j])
        size = abs(value)
        terms[j] = (one - pixel if value > zero else pixel) * size + log1p_unit(exp(-size))


@njit()
def bernoulli_gradient(
    x: Array, at_x: int, logits: Array, at: int, upstream: Any, out: Array, at_out: int, count: int
) -> None:
    """upstream · (x − σ(l)) of a row; `out` may be `logits`. [D4]"""
    pixels, row, result = x[at_x : at_x + count], logits[at : at + count], out[at_out : at_out + count]
    for j in range(count):
        result[j] = upstream * (logits.dtype.type(pixels[j]) - sigmoid(row[j]))


# Σ log1p(e) is the logarithm of Π (1 + e), which needs one logarithm per row. For x of 0 or 1, max(l, 0) − x l is
# exact.


@njit()
def bernoulli_row(x: Array, at_x: int, logits: Array, at: int, count: int, scratch: Array, at_scratch: int) -> Any:
    """log p of a row of pixels, in float64; binary ones lose nothing. [D4]"""
    zero, one = logits.dtype.type(0), logits.dtype.type(1)
    pixels, row = x[at_x : at_x + count], logits[at : at + count]
    missed, factor = scratch[at_scratch : at_scratch + count], scratch[at_scratch + count : at_scratch + 2 * count]
    for j in range(count):
        value = row[j]
        missed[j] = fma(-logits.dtype.type(pixels[j]), value, value if value > zero else zero)
        factor[j] = one + exp_minus(abs(value))
    return -_fold(scratch, at_scratch, count)


@njit()
def bernoulli_step_row(
    x: Array, at_x: int, logits: Array, at: int, scale: Any, count: int, scratch: Array, at_scratch: int
) -> Any:
    """log p of a row of pixels, in float64; the logits are replaced by −scale · (x − σ(l)). [D4]"""
    zero, one = logits.dtype.type(0), logits.dtype.type(1)
    pixels, row = x[at_x : at_x + count], logits[at : at + count]
    missed, factor = scratch[at_scratch : at_scratch + count], scratch[at_scratch + count : at_scratch + 2 * count]
    for j in range(count):
        value, pixel = row[j], logits.dtype.type(pixels[j])
        e = exp_minus(abs(value))
        missed[j] = fma(-pixel, value, value if value > zero else zero)
        factor[j] = one + e
        row[j] = scale * ((one if value > zero else e) / (one + e) - pixel)
    return -_fold(scratch, at_scratch, count)


@njit()
def _fold(scratch: Array, at: int, count: int) -> Any:
    """Σ missed + log Π factor, which lie one after the other from entry `at` on, with LANES entries of room after them.

    No factor exceeds 2: a lane of 60 of them stays within float32, 960 within float64.
    """
    factor, lanes = scratch[at + count : at + 2 * count], scratch[at + 2 * count : at + 2 * count + LANES]
    total = sum_range(scratch, at, count)
    for start in range(0, count, _SEGMENT):
        end = min(start + _SEGMENT, count)
        for j in range(LANES):
            lanes[j] = 1
        for block in range(start, end, LANES):
            some = factor[block : min(block + LANES, end)]
            for j in range(some.size):
                lanes[j] *= some[j]
        width = LANES
        while width > _FEW_LANES:
            width //= 2
            upper = lanes[width : 2 * width]
            for j in range(width):
                lanes[j] *= upper[j]
        whole = 1.0
        for j in range(_FEW_LANES):
            whole *= np.float64(lanes[j])
        total += math.log(whole)
    return total


@njit()
def _bernoulli_forward(part: int, parts: int, x: Array, logits: Array, out: Array, batch: int, features: int) -> None:
    terms = np.empty(features, dtype=logits.dtype)
    for i in range(part * out.size // parts, (part + 1) * out.size // parts):
        bernoulli_terms(x, i % batch * features, logits, i * features, terms, features)
        out[i] = -sum_range(terms, 0, features)


@njit()
def _bernoulli_backward(
    part: int, parts: int, x: Array, logits: Array, upstream: Array, out: Array, batch: int, features: int
) -> None:
    for i in range(part * upstream.size // parts, (part + 1) * upstream.size // parts):
        bernoulli_gradient(x, i % batch * features, logits, i * features, upstream[i], out, i * features, features)


def observed(x: Array, dtype: Any) -> Array:
    """x as compiled code takes it: floats in the parameters' precision, bytes as bytes."""
    # Bytes stay bytes: a quarter of the memory traffic.
    return plain(x, np.uint8 if x.dtype in (np.uint8, np.bool_) else dtype)


def bernoulli_loglik_forward(x: Array, logits: Array) -> tuple[Array, Any]:
    """log p(x | z) of independent Bernoulli pixels: x (B, D), logits (S·B, D), result (S·B,) in nats. [D4]"""
    dtype = precision(logits, "logits")
    x, logits = observed(x, dtype), plain(logits, dtype)
    out = np.empty(len(logits), dtype=dtype)
    work = 2.0 * logits.size
    pool.run(_bernoulli_forward, flat(x), flat(logits), out, *x.shape, work=work)
    return out, (x, logits)


def bernoulli_loglik_backward(dloglik: Array, cache: Any) -> Array:
    """dlogits (S·B, D), from dloglik (S·B,). [D4]"""
    x, logits = cache
    out = np.empty_like(logits)
    upstream = plain(dloglik, logits.dtype)
    pool.run(_bernoulli_backward, flat(x), flat(logits), upstream, flat(out), *x.shape, work=1.5 * logits.size)
    return out


@njit()
def normal_scales(logvar: Array, at: int, count: int, inverse: Array, at_inverse: int, features: int) -> Any:
    """Each feature's 1/σ² into `inverse`, from one log σ² or one a feature; returns Σ (log 2π + log σ²). [D5]"""
    result = inverse[at_inverse : at_inverse + features]
    if count == 1:
        total = features * np.float64(logvar[at])
        for j in range(features):
            result[j] = -logvar[at]
    else:
        total = sum_range(logvar, at, features)
        values = logvar[at : at + features]
        for j in range(features):
            result[j] = -values[j]
    for j in range(features):
        result[j] = exp(result[j])
    return features * LOG_2PI + total


@njit()
def normal_row(
    x: Array, at_x: int, mean: Array, at: int, count: int, inverse: Array, at_inverse: int, terms: Array, at_terms: int
) -> Any:
    """Σ (x − mean)²/σ² of a row, in float64. [D5]"""
    seen, row = x[at_x : at_x + count], mean[at : at + count]
    scale, term = inverse[at_inverse : at_inverse + count], terms[at_terms : at_terms + count]
    for j in range(count):
        residual = seen[j] - row[j]
        term[j] = residual * (residual * scale[j])
    return sum_range(terms, at_terms, count)


@njit()
def normal_step_row(
    x: Array, at_x: int, mean: Array, at: int, weight: Any, count: int, inverse: Array, at_inverse: int,
    terms: Array, at_terms: int,
) -> Any:  # fmt: skip
    """Σ (x − mean)²/σ² of a row, in float64; the mean is replaced by −weight · (x − mean)/σ². [D5]"""
    seen, row = x[at_x : at_x + count], mean[at : at + count]
    scale, term = inverse[at_inverse : at_inverse + count], terms[at_terms : at_terms + count]
    for j in range(count):
        residual = seen[j] - row[j]
        scaled = residual * scale[j]
        term[j] = residual * scaled
        row[j] = -weight * scaled
    return sum_range(terms, at_terms, count)


@njit()
def _normal_forward(
    part: int, parts: int, x: Array, mean: Array, logvar: Array, out: Array, batch: int, features: int
) -> None:
    inverse, terms = np.empty(features, dtype=mean.dtype), np.empty(features, dtype=mean.dtype)
    offset = normal_scales(logvar, 0, logvar.size, inverse, 0, features)
    for i in range(part * out.size // parts, (part + 1) * out.size // parts):
        squares = normal_row(x, i % batch * features, mean, i * features, features, inverse, 0, terms, 0)
        out[i] = -0.5 * (offset + squares)


@njit()
def _normal_backward(
    part: int, parts: int, x: Array, mean: Array, logvar: Array, upstream: Array, dmean: Array, of_logvar: Array,
    batch: int, features: int,
) -> None:  # fmt: skip
    half, one = mean.dtype.type(0.5), mean.dtype.type(1)
    scales = np.empty(features, dtype=mean.dtype)
    normal_scales(logvar, 0, logvar.size, scales, 0, features)
    rows = upstream.size
    # Each thread has a slab of columns, so that one thread adds up the rows, in one order.
    first, last = part * features // parts, (part + 1) * features // parts
    total, inverse = of_logvar[first:last], scales[first:last]
    for j in range(last - first):
        total[j] = 0.0
    for i in range(rows):
        at_x, at = i % batch * features, i * features
        weight = upstream[i]
        seen, row, result = x[at_x + first : at_x + last], mean[at + first : at + last], dmean[at + first : at + last]
        for j in range(last - first):
            residual = seen[j] - row[j]
            scaled = residual * inverse[j]
            result[j] = weight * scaled
            total[j] += np.float64(half * weight * (residual * scaled - one))


def normal_loglik_forward(x: Array, mean: Array, logvar: Array) -> tuple[Array, Any]:
    """log p(x | z) of independent normals: x (B, D), mean (S·B, D), logvar (1,) or (D,), result (S·B,) in nats. [D5]"""
    dtype = precision(mean, "mean")
    x, mean, logvar = plain(x, dtype), plain(mean, dtype), plain(logvar, dtype)
    out = np.empty(len(mean), dtype=dtype)
    pool.run(_normal_forward, flat(x), flat(mean), logvar, out, *x.shape, work=0.5 * mean.size)
    return out, (x, mean, logvar)


def normal_loglik_backward(dloglik: Array, cache: Any) -> tuple[Array, Array]:
    """dmean (S·B, D) and dlogvar, shaped as logvar, from dloglik (S·B,). [D5]"""
    x, mean, logvar = cache
    dmean, of_logvar = np.empty_like(mean), np.empty(mean.shape[1])
    pool.run(
        _normal_backward, flat(x), flat(mean), logvar, plain(dloglik, mean.dtype), flat(dmean), of_logvar, *x.shape,
        work=1.0 * mean.size,
    )  # fmt: skip
    dlogvar = of_logvar if logvar.size > 1 or logvar.size == of_logvar.size else of_logvar.sum(keepdims=True)
    return dmean, dlogvar.astype(logvar.dtype)
