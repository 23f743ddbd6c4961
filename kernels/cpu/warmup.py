"""Compilation on request: what a run will call is compiled, or loaded from the cache on disk, before it is timed."""

from __future__ import annotations

import time
from importlib import import_module
from typing import Any

import numpy as np

from vae_np import noise
from vae_np.architecture import Architecture
from vae_np.elbo import elbo_forward
from vae_np.model import initialise
from vae_np.precision import FULL
from vae_np.step import Optimiser, TrainingState

from . import importance_weights
from .fused import FusedStep, unsupported
from .runtime.team import load_what_is_rare


def warmup(
    arch: Architecture | None = None,
    dtype: Any = np.float32,
    *,
    precision: str = FULL,
    step: bool = True,
    evaluation: bool = True,
) -> float:
    """Compile what a model's training and evaluation call in a dtype, on the smallest of models; returns the seconds.

    That is the ELBO of held-out rows, with `step` the fused step in a `precision`, and with `evaluation` the fused log
    weights. The machine code does not depend on sizes, so nothing else is compiled later. Where a model has no fused
    loops there is nothing to compile ahead, and the result is 0.
    """
    if arch is not None and unsupported(arch) is not None:
        return 0.0
    started = time.perf_counter()
    small = Architecture(4, 1, (2,), likelihood="bernoulli" if arch is None else arch.likelihood)
    state = TrainingState(initialise(small, seed=0, dtype=dtype))
    x, rows = np.ones((2, 4), np.uint8 if small.likelihood == "bernoulli" else dtype), np.arange(2)
    # This package's own operations, which are all there only once it has been imported.
    ops = import_module(str(__package__))
    eps = ops.philox_normal(rows, small.latent, seed=0, stream=noise.EVAL_EPS, step=0, sample=rows, dtype=dtype)
    elbo_forward(ops, small, state.parameters, x, eps)
    if step:
        FusedStep(small, state, 2, precision=precision)(x, rows, seed=0, optimiser=Optimiser())
        load_what_is_rare()
    if evaluation:
        importance_weights.log_weights(ops, small, state.parameters, x, rows, samples=2, seed=0)
    return time.perf_counter() - started
