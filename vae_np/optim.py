"""Optimisers on flat buffers, and the schedules of what changes while they run.

An optimiser is a function that updates `parameters` and its own moments in place. It minimises.
"""

from __future__ import annotations

import math

import numpy as np

from vae_np._types import Array

# Elements an update handles at once: its six streams (192 KiB in float32) then stay in a core's own cache, and one
# pass over memory replaces a dozen.
_CHUNK = 8192


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
    """One Adam step in place, with bias correction; all arrays (P,), `step` counts from 1. [D31] (Kingma & Ba 2015)

    m ← β₁ m + (1 − β₁) g;  v ← β₂ v + (1 − β₂) g²;  θ ← θ − lr · m̂ / (√v̂ + eps),
    with m̂ = m / (1 − β₁ᵗ) and v̂ = v / (1 − β₂ᵗ).
    """
    step_size = lr / (1 - beta1**step)
    root_correction = math.sqrt(1 - beta2**step)
    for start in range(0, len(parameters), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        g, m, v = gradient[chunk], first_moment[chunk], second_moment[chunk]
        m *= beta1
        m += (1 - beta1) * g
        v *= beta2
        v += (1 - beta2) * (g * g)
        parameters[chunk] -= step_size * m / (np.sqrt(v) / root_correction + eps)


def adagrad_update(
    parameters: Array, gradient: Array, squares: Array, *, lr: float, eps: float = 1e-10
) -> None:
    """One Adagrad step in place: s ← s + g², θ ← θ − lr · g / (√s + eps); all arrays (P,). [D32] (Duchi et al. 2011)"""
    squares += gradient * gradient
    parameters -= lr * gradient / (np.sqrt(squares) + eps)


def linear_warmup(step: int, *, steps: int, final: float) -> float:
    """A value that grows linearly from 0 at step 0 to `final` at step `steps`, and stays there. [D33]"""
    return final if step >= steps else final * step / steps


# Burda et al. 2015: stage i has 3^(i - 1) epochs, at a rate that falls from one stage to the next, to a tenth in all.
STAGES = 8


def staged_epochs(stages: int) -> int:
    """The epochs of the first `stages` stages together: 1 + 3 + 9 + …, 3280 for all eight. [D33]"""
    return (3**stages - 1) // 2


def stage_of(epoch: int) -> int:
    """The stage (counted from 1) that an epoch (counted from 0) belongs to. [D33]"""
    stage = 1
    while epoch >= staged_epochs(stage):
        stage += 1
    return stage


def staged_lr(epoch: int, *, first: float) -> float:
    """The learning rate of an epoch (counted from 0) in stage i: first · round(10^(1 − (i − 1)/7), 1) / 10. [D33]"""
    return first * round(10 ** (1 - (stage_of(epoch) - 1) / (STAGES - 1)), 1) / 10
