"""`log_mean_exp_weights`: log of the mean weight and the normalised weights, from log weights. [D34]"""

from __future__ import annotations

import numpy as np

from vae_np._types import Array

from ._arrays import flat, plain, precision
from .engine.functions import exp
from .runtime import pool
from .runtime.compilation import njit

_COLUMNS = 64


@njit()
def _weights(part: int, parts: int, log_w: Array, out: Array, weights: Array, samples: int) -> None:
    batch = out.size
    blocks = (batch + _COLUMNS - 1) // _COLUMNS
    top, total = np.empty(_COLUMNS, dtype=log_w.dtype), np.empty(_COLUMNS)
    for block in range(part * blocks // parts, (part + 1) * blocks // parts):
        at = block * _COLUMNS
        count = min(_COLUMNS, batch - at)
        for j in range(count):
            top[j] = log_w[at + j]
            total[j] = 0.0
        for s in range(1, samples):
            for j in range(count):
                value = log_w[s * batch + at + j]
                # A NaN fails the comparison, so it becomes the maximum, and then it stays.
                top[j] = top[j] if (value <= top[j]) | (top[j] != top[j]) else value
        for j in range(count):
            # If all weights are zero, there is no maximum to subtract.
            top[j] = log_w.dtype.type(0) if top[j] == -np.inf else top[j]
        for s in range(samples):
            for j in range(count):
                w = exp(log_w[s * batch + at + j] - top[j])
                weights[s * batch + at + j] = w
                total[j] += np.float64(w)
        for j in range(count):
            out[at + j] = np.float64(top[j]) + np.log(total[j] / samples)
        for s in range(samples):
            for j in range(count):
                weights[s * batch + at + j] = weights[s * batch + at + j] / log_w.dtype.type(total[j])


def log_mean_exp_weights(log_w: Array) -> tuple[Array, Array]:
    """log (1/S) Σ_s exp log_w and the normalised weights, both from log_w (S, B); results (B,) and (S, B). [D34]"""
    dtype = precision(log_w, "log_w")
    log_w = plain(log_w, dtype)
    out, weights = np.empty(log_w.shape[1], dtype=dtype), np.empty_like(log_w)
    pool.run(_weights, flat(log_w), out, flat(weights), len(log_w), work=2.0 * log_w.size)
    return out, weights
