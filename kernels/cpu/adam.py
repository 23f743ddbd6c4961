"""`adam_update`: one pass over four flat arrays. [D31]"""

from __future__ import annotations

import math

import numpy as np

from vae_np._types import Array

from ..arguments import check_adam_buffers
from ._arrays import plain, precision
from .engine.vectors import adam_range
from .runtime import pool
from .runtime.compilation import njit


@njit()
def _adam(
    part: int,
    parts: int,
    parameters: Array,
    gradient: Array,
    first_moment: Array,
    second_moment: Array,
    constants: Array,
) -> None:
    blocks = (parameters.size + 1023) // 1024
    first = 1024 * (part * blocks // parts)
    last = min(1024 * ((part + 1) * blocks // parts), parameters.size)
    adam_range(parameters, first, gradient, first, first_moment, second_moment, last - first, constants)


def constants(step: int, lr: float, beta1: float, beta2: float, eps: float) -> Array:
    """What a step multiplies with: β₁, 1−β₁, β₂, 1−β₂, lr / (1−β₁ᵗ), 1 / √(1−β₂ᵗ), eps. [D31]"""
    return np.array([beta1, 1 - beta1, beta2, 1 - beta2, lr / (1 - beta1**step), 1 / math.sqrt(1 - beta2**step), eps])


def adam_update(
    parameters: Array,
    gradient: Array,
    first_moment: Array,
    second_moment: Array,
    *,
    step: int,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
) -> None:
    """One Adam step in place, with bias correction; all arrays (P,), `step` counts from 1. [D31] (Kingma & Ba 2015)"""
    dtype = precision(parameters, "parameters")
    check_adam_buffers(parameters, gradient, first_moment, second_moment)
    buffers = parameters, first_moment, second_moment
    work = [plain(buffer, dtype) for buffer in buffers]
    values = constants(step, lr, beta1, beta2, eps).astype(dtype)
    pool.run(
        _adam, work[0], plain(gradient, dtype), work[1], work[2], values, work=0.6 * parameters.size,
    )  # fmt: skip
    for buffer, updated in zip(buffers, work, strict=True):
        if updated is not buffer:
            buffer[...] = updated
