"""Philox4x32-10 and its normals, one block and one pair at a time, inlined; bit for bit what `vae_np.noise` gives.

No fast-math flag here: a fused multiply-add would round once where the contract rounds twice.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.extending import register_jitable

from vae_np import noise
from vae_np._types import Array
from vae_np.kernels.cpu._jit import njit
from vae_np.kernels.cpu._vector import bits64, float64_of

_M0, _M1 = (np.uint64(m) for m in noise.MULTIPLIERS)
_W0, _W1 = (np.uint64(w) for w in noise.KEY_STEPS)
_LOW, _HIGH = np.uint64(2**32 - 1), np.uint64(32)
_SQRT_HALF = np.int64(noise.SQRT_HALF_BITS)
_LN2, _HALF_PI = noise.LN2, noise.HALF_PI
_LOG, _SIN, _COS = noise.LOG_SERIES, noise.SIN_SERIES, noise.COS_SERIES
_52, _30 = np.int64(52), np.int64(30)
_2_29, _2_30, _2_32 = np.int64(2**29), np.int64(2**30), np.int64(2**32)


@register_jitable(inline="always")
def philox(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> Any:
    """The four words of a block, each in uint64. [D37]"""
    for _ in range(10):
        p0, p1 = c0 * _M0, c2 * _M1
        c0, c1, c2, c3 = (p1 >> _HIGH) ^ c1 ^ k0, p1 & _LOW, (p0 >> _HIGH) ^ c3 ^ k1, p0 & _LOW
        k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
    return c0, c1, c2, c3


@register_jitable(inline="always")
def _log_unit(word: Any) -> Any:
    bits = bits64((np.float64(word) + 0.5) * 2.0**-32)
    exponent = (bits - _SQRT_HALF) >> _52
    m = float64_of(bits - (exponent << _52))
    s = (m - 1.0) / (m + 1.0)
    x = s * s
    t = _LOG[9]
    t = t * x + _LOG[8]
    t = t * x + _LOG[7]
    t = t * x + _LOG[6]
    t = t * x + _LOG[5]
    t = t * x + _LOG[4]
    t = t * x + _LOG[3]
    t = t * x + _LOG[2]
    t = t * x + _LOG[1]
    t = t * x + _LOG[0]
    return np.float64(exponent) * _LN2 + s * t


@register_jitable(inline="always")
def normal_pair(word0: Any, word1: Any) -> Any:
    """Two standard normals in float64, not yet rounded, from two words held in int64. [D38]"""
    radius = np.sqrt(-2.0 * _log_unit(word0))
    shifted = (word1 + _2_29) & (_2_32 - np.int64(1))
    quarter = shifted >> _30
    theta = (np.float64(shifted & (_2_30 - np.int64(1))) - (2.0**29 - 0.5)) * 2.0**-30 * _HALF_PI
    x = theta * theta
    c = _COS[8]
    c = c * x + _COS[7]
    c = c * x + _COS[6]
    c = c * x + _COS[5]
    c = c * x + _COS[4]
    c = c * x + _COS[3]
    c = c * x + _COS[2]
    c = c * x + _COS[1]
    c = c * x + _COS[0]
    s = _SIN[7]
    s = s * x + _SIN[6]
    s = s * x + _SIN[5]
    s = s * x + _SIN[4]
    s = s * x + _SIN[3]
    s = s * x + _SIN[2]
    s = s * x + _SIN[1]
    s = s * x + _SIN[0]
    s = theta * s
    odd = (quarter & np.int64(1)) == np.int64(1)
    cos = s if odd else c
    sin = c if odd else s
    cos = -cos if (quarter == np.int64(1)) | (quarter == np.int64(2)) else cos
    sin = -sin if quarter >= np.int64(2) else sin
    return radius * cos, radius * sin


@njit(fastmath=False)
def fill_words(
    rows: Array, samples: Array, first: int, last: int, blocks: int, k0: Any, k1: Any, stream: int, step: int, out: Array
) -> None:
    """The words of rows first..last−1, `blocks` blocks each, into out[0], out[1], … (int64), four a block."""
    at = 0
    for i in range(first, last):
        c1 = np.uint64(rows[i])
        c3 = np.uint64(stream) + np.uint64(256) * np.uint64(samples[i if samples.size > 1 else 0])
        for block in range(blocks):
            w0, w1, w2, w3 = philox(np.uint64(block), c1, np.uint64(step), c3, k0, k1)
            out[at] = np.int64(w0)
            out[at + 1] = np.int64(w1)
            out[at + 2] = np.int64(w2)
            out[at + 3] = np.int64(w3)
            at += 4


@njit(fastmath=False)
def fill_normals(
    rows: Array, samples: Array, first: int, last: int, columns: int, k0: Any, k1: Any, stream: int, step: int,
    words: Array, out: Array, at: int,
) -> None:  # fmt: skip
    """The normals of rows first..last−1 into out, from entry `at` on, `columns` a row; words: 4·⌈columns/4⌉ int64."""
    blocks = (columns + 3) // 4
    for i in range(first, last):
        fill_words(rows, samples, i, i + 1, blocks, k0, k1, stream, step, words)
        for j in range(2 * blocks):
            even, odd = normal_pair(words[2 * j], words[2 * j + 1])
            # The rounding to float32 is part of the contract, in float64 too. Words become bits of the pair.
            words[2 * j] = bits64(np.float64(np.float32(even)))
            words[2 * j + 1] = bits64(np.float64(np.float32(odd)))
        for j in range(columns):
            out[at + (i - first) * columns + j] = float64_of(words[j])


@njit(fastmath=False)
def fill_bernoulli(
    grey: Array, rows: Array, first: int, last: int, columns: int, k0: Any, k1: Any, stream: int, step: int,
    blocks: Array, out: Array,
) -> None:  # fmt: skip
    """Pixels of rows first..last−1: one where u < grey/255. A block of black and white pixels needs no draw.

    `grey` and `out` are flat bytes, rows first.. of both at the same place; `blocks` is scratch for ⌈columns/4⌉ indices.
    """
    c3 = np.uint64(stream)
    for i in range(first, last):
        base = i * columns
        count = 0
        for block in range(columns // 4):
            j = base + 4 * block
            drawn = 0
            for lane in range(4):
                g = grey[j + lane]
                out[j + lane] = np.uint8(1) if g == np.uint8(255) else np.uint8(0)
                drawn |= np.int64((g != np.uint8(0)) & (g != np.uint8(255)))
            blocks[count] = block
            count += drawn
        if columns % 4 != 0:
            blocks[count] = columns // 4
            count += 1
        c1 = np.uint64(rows[i])
        for n in range(count):
            block = blocks[n]
            w0, w1, w2, w3 = philox(np.uint64(block), c1, np.uint64(step), c3, k0, k1)
            j = base + 4 * block
            end = base + columns
            for lane in range(4):
                if j + lane < end:
                    word = w0 if lane == 0 else (w1 if lane == 1 else (w2 if lane == 2 else w3))
                    u = np.float32(word >> np.uint64(8)) * np.float32(2.0**-24)
                    p = np.float32(grey[j + lane]) / np.float32(255)
                    out[j + lane] = np.uint8(u < p)


def key(seed: int) -> tuple[Any, Any]:
    """The two key words of a seed. Raises InputError for what is no seed."""
    seed = noise.check_seed(seed)
    return np.uint64(seed % 2**32), np.uint64(seed // 2**32)
