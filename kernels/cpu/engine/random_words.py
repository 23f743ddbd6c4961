"""Philox4x32-10 and its normals, one block and one pair at a time, inlined; bit for bit what `vae_np.noise` gives.

No fused multiply-add is used: it would round once where the contract rounds twice.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.extending import register_jitable

from vae_np import noise
from vae_np._types import Array

from ..runtime.compilation import njit
from .intrinsics import bits64, float64_of

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


@njit()
def fill_words(c1: Any, c3: Any, first: int, blocks: int, k0: Any, k1: Any, step: int, planes: Array, at: int) -> None:
    """The words of one row's blocks 0…: word i of a block into row i of planes (4, n) (int64), from column `at` on."""
    size = planes.size // 4
    a, b = planes[at : at + blocks], planes[size + at : size + at + blocks]
    c, d = planes[2 * size + at : 2 * size + at + blocks], planes[3 * size + at : 3 * size + at + blocks]
    row, last, now = np.uint64(c1) & _LOW, np.uint64(c3) & _LOW, np.uint64(step) & _LOW
    for block in range(blocks):
        w0, w1, w2, w3 = philox(np.uint64(block + first) & _LOW, row, now, last, k0, k1)
        a[block] = np.int64(w0)
        b[block] = np.int64(w1)
        c[block] = np.int64(w2)
        d[block] = np.int64(w3)


@njit()
def _to_normals(even: Array, odd: Array) -> None:
    """Pairs of words become the bits of pairs of normals. The rounding to float32 is the contract's, in float64 too."""
    for j in range(even.size):
        cos, sin = normal_pair(even[j], odd[j])
        even[j] = bits64(np.float64(np.float32(cos)))
        odd[j] = bits64(np.float64(np.float32(sin)))


@njit()
def fill_normals(
    rows: Array, samples: Array, first: int, last: int, columns: int, k0: Any, k1: Any, stream: int, step: int,
    words: Array, out: Array, at: int,
) -> None:  # fmt: skip
    """The normals of rows first..last−1 into out, from entry `at` on, `columns` per row.

    `words` (int64) is scratch of 4·⌈columns/4⌉ entries per row, for at least one row; as many rows as fit are done at
    once.
    """
    blocks = (columns + 3) // 4
    if blocks == 0:
        return
    group = max(1, words.size // (4 * blocks))
    for i0 in range(first, last, group):
        count = min(group, last - i0)
        size = count * blocks
        planes = words[: 4 * size]
        for i in range(count):
            sample = np.uint64(samples[i0 + i if samples.size > 1 else 0])
            c3 = np.uint64(stream) + np.uint64(256) * sample
            fill_words(rows[i0 + i], c3, 0, blocks, k0, k1, step, planes, i * blocks)
        _to_normals(planes[:size], planes[size : 2 * size])
        _to_normals(planes[2 * size : 3 * size], planes[3 * size :])
        for i in range(count):
            target = at + (i0 - first + i) * columns
            for j in range(columns):
                out[target + j] = float64_of(planes[(j & 3) * size + i * blocks + (j >> 2)])


@njit()
def fill_bernoulli(
    grey: Array, rows: Array, first: int, last: int, columns: int, k0: Any, k1: Any, stream: int, step: int,
    words: Array, out: Array,
) -> None:  # fmt: skip
    """Pixels of rows first..last−1: one where u < grey/255. A block of black and white pixels needs no draw.

    `grey` and `out` are flat bytes, each row at its own place in both; `words` is scratch of 5·⌈columns/4⌉ int64.
    """
    size = (columns + 3) // 4
    block_of = words[4 * size : 5 * size]
    a, b, c, d = words[:size], words[size : 2 * size], words[2 * size : 3 * size], words[3 * size : 4 * size]
    last_word, now = np.uint64(stream) & _LOW, np.uint64(step) & _LOW
    for i in range(first, last):
        shade, pixel = grey[i * columns : (i + 1) * columns], out[i * columns : (i + 1) * columns]
        for j in range(columns):
            pixel[j] = np.uint8(shade[j] == np.uint8(255))
        count = np.uint64(0)
        for block in range(size):
            block_of[count] = block
            drawn = False
            for j in range(4 * block, min(4 * block + 4, columns)):
                drawn |= (shade[j] != np.uint8(0)) & (shade[j] != np.uint8(255))
            count += np.uint64(drawn)
        row = np.uint64(rows[i]) & _LOW
        for n in range(np.int64(count)):
            w0, w1, w2, w3 = philox(np.uint64(block_of[n]) & _LOW, row, now, last_word, k0, k1)
            a[n] = np.int64(w0)
            b[n] = np.int64(w1)
            c[n] = np.int64(w2)
            d[n] = np.int64(w3)
        for n in range(np.int64(count)):
            start = 4 * block_of[n]
            for lane in range(min(4, columns - start)):
                u = np.float32(words[lane * size + n] >> 8) * np.float32(2.0**-24)
                p = np.float32(shade[start + lane]) / np.float32(255)
                pixel[start + lane] = np.uint8(u < p)


def key(seed: int) -> tuple[Any, Any]:
    """The two key words of a seed. Raises InputError for a value that is not a seed."""
    seed = noise.check_seed(seed)
    return np.uint64(seed % 2**32), np.uint64(seed // 2**32)
