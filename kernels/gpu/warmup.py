"""Compilation on request: what a run will call is compiled, or loaded from the cache on disk, before it is timed."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from vae_np.architecture import Architecture
from vae_np.model import initialise
from vae_np.step import Optimiser, TrainingState

from . import affine
from .fused import FusedRun, unsupported
from .importance_weights import log_weights


def warmup(
    arch: Architecture | None = None, dtype: Any = np.float32, *, step: bool = True, evaluation: bool = True
) -> float:
    """Compile the fused step and the fused evaluation for a dtype, on the smallest of models; returns the seconds.

    Both sizes of tiles are in one module, and a step on IWAE's bound uses all modules, so nothing else is compiled
    later. Where a model has no fused loops there is nothing to compile ahead, and the result is 0.
    """
    if arch is not None and unsupported(arch) is not None:
        return 0.0
    started = time.perf_counter()
    small = Architecture(4, 1, (2,))
    state = TrainingState(initialise(small, seed=0, dtype=dtype))
    data = np.full((2, 4), 100, np.uint8)
    if step:
        run = FusedRun(small, state, 2, data, seed=0, optimiser=Optimiser(), draw=True, samples=1)
        run.order(0, np.arange(2))
        run.steps(1).result()
    if evaluation:
        # Of the contract, the evaluation needs only the layers.
        log_weights(affine, small, state.parameters, (data > 0).astype(np.uint8), np.arange(2), samples=2, seed=0)
    return time.perf_counter() - started
