"""`adam_update`: one pass over four flat arrays. [D31]"""

from __future__ import annotations

import math

from vae_np._types import Array

from ..arguments import check_adam_buffers
from ._arrays import blocks, launch, precision, put
from ._device import device


def constants(step: int, lr: float, beta1: float, beta2: float, eps: float) -> tuple[float, ...]:
    """What a kernel's Adam takes: β₁, 1−β₁, β₂, 1−β₂, lr / (1−β₁ᵗ), 1 / √(1−β₂ᵗ), eps. [D31]

    They are rounded to the kernel's precision once, where it is launched: the same numbers as in the fused step.
    """
    step_size, inverse_root = lr / (1 - beta1**step), 1 / math.sqrt(1 - beta2**step)
    return float(beta1), 1 - beta1, float(beta2), 1 - beta2, step_size, inverse_root, float(eps)


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
    work = [put(buffer, dtype) for buffer in buffers]
    launch(
        "adam_update", dtype, (blocks(gradient.size, 256),), (256,),
        work[0], put(gradient, dtype), work[1], work[2], gradient.size,
        *constants(step, lr, beta1, beta2, eps),
    )  # fmt: skip
    for buffer, updated in zip(buffers, work, strict=True):
        if updated is not buffer:
            buffer[...] = updated if device().owns(buffer) else device().get(updated)
