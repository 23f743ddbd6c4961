"""Compilation on request: what a run will call is compiled, or loaded from the cache on disk, before it is timed."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from vae_np import ops
from vae_np.model import Architecture, initialise
from vae_np.step import Optimiser, TrainingState

from . import importance
from .fused import FusedStep, unsupported


def warmup(
    arch: Architecture | None = None, dtype: Any = np.float32, *, step: bool = True, evaluation: bool = True
) -> float:
    """Compile the fused step and the fused evaluation for a dtype, on the smallest of models; returns the seconds.

    The machine code does not depend on sizes, so that is all of it; where a model has no fused loops there is nothing
    to compile ahead, and 0 comes back.
    """
    if arch is not None and unsupported(arch) is not None:
        return 0.0
    started = time.perf_counter()
    small = Architecture(4, 1, (2,))
    state = TrainingState(initialise(small, seed=0, dtype=dtype))
    grey, rows = np.full((2, 4), 100, np.uint8), np.arange(2)
    if step:
        FusedStep(small, state, 2)(grey, rows, seed=0, optimiser=Optimiser(), grey=True)
    if evaluation:
        importance.log_weights(ops, small, state.parameters, (grey > 0).astype(np.uint8), rows, samples=2, seed=0)
    return time.perf_counter() - started
