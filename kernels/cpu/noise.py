"""`philox_normal` and `philox_bernoulli`: the same bits as the reference. [D37] [D38]"""

from __future__ import annotations

from typing import Any

import numpy as np

from vae_np import noise
from vae_np._types import Array
from vae_np.errors import InputError

from ..arguments import noise_counters
from ._arrays import plain
from .engine.random_words import fill_bernoulli, fill_normals, key
from .runtime import pool
from .runtime.compilation import njit


@njit()
def _normals(
    part: int,
    parts: int,
    rows: Array,
    samples: Array,
    columns: int,
    k0: Any,
    k1: Any,
    stream: int,
    step: int,
    out: Array,
) -> None:
    first, last = part * rows.size // parts, (part + 1) * rows.size // parts
    words = np.empty(64 * ((columns + 3) // 4), dtype=np.int64)
    fill_normals(rows, samples, first, last, columns, k0, k1, stream, step, words, out, first * columns)


@njit()
def _bernoulli(
    part: int, parts: int, grey: Array, rows: Array, columns: int, k0: Any, k1: Any, stream: int, step: int, out: Array
) -> None:
    first, last = part * rows.size // parts, (part + 1) * rows.size // parts
    words = np.empty(5 * ((columns + 3) // 4), dtype=np.int64)
    fill_bernoulli(grey, rows, first, last, columns, k0, k1, stream, step, words, out)


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
    """Standard normals (len(rows), columns), a pure function of row, column, seed, stream, step and sample. [D38]"""
    # The reference's checks, on an empty request: they cost nothing and raise the same messages.
    noise.normal(np.asarray(rows)[:0], columns, seed=seed, stream=stream, step=step, dtype=dtype)
    row, samples = (counters.astype(np.int64) for counters in noise_counters(rows, sample))
    out = np.empty((row.size, columns), dtype=dtype)
    pool.run(_normals, row, samples, columns, *key(seed), stream, step, out.reshape(-1), work=10.0 * out.size)
    return out


def philox_bernoulli(grey: Array, *, seed: int, stream: int, step: int, rows: Array) -> Array:
    """Binary pixels (B, D) as bytes, one where a uniform falls below the grey value (bytes / 255, or floats). [D38]"""
    if grey.dtype != np.uint8:
        # Grey values that are not bytes are drawn once per data set and not per step: the reference does.
        return noise.bernoulli(grey, seed=seed, stream=stream, step=step, rows=rows)
    noise.bernoulli(grey[:0], seed=seed, stream=stream, step=step, rows=np.asarray(rows)[:0])
    row = noise_counters(rows, 0)[0].astype(np.int64)
    if row.size != len(grey):
        raise InputError(f"rows: got {row.size} rows, expected one for each of {len(grey)} examples")
    out = np.empty(grey.shape, dtype=np.uint8)
    pixels = plain(grey, np.uint8).reshape(-1)
    pool.run(_bernoulli, pixels, row, grey.shape[1], *key(seed), stream, step, out.reshape(-1), work=4.0 * out.size)
    return out
