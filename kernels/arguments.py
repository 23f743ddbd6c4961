"""Checks of arguments that the backends share, so that each refuses the same in the same words."""

from __future__ import annotations

from typing import Any

import numpy as np

from vae_np import noise, ops
from vae_np._types import Array
from vae_np.errors import InputError


def check_adam_buffers(parameters: Array, gradient: Array, first_moment: Array, second_moment: Array) -> None:
    """Raises InputError unless what Adam changes in place are flat arrays of the parameters' dtype and equal length."""
    dtype = parameters.dtype
    buffers = {"parameters": parameters, "first_moment": first_moment, "second_moment": second_moment}
    for name, buffer in buffers.items():
        if buffer.dtype != dtype or buffer.shape != gradient.shape or buffer.ndim != 1:
            raise InputError(f"{name}: got {buffer.dtype} {buffer.shape}, expected {dtype} {gradient.shape}")


def check_layer(x: Array, weight: Array, bias: Array, activation: str) -> None:
    """Raises InputError unless x (B, I), weight (I, O) and bias (O,) are a layer with an activation of the contract."""
    if activation not in ops.ACTIVATIONS:
        raise InputError(f"activation: got {activation!r}, expected one of {', '.join(sorted(ops.ACTIVATIONS))}")
    if x.ndim != 2 or weight.ndim != 2 or x.shape[1] != weight.shape[0] or bias.shape != weight.shape[1:]:
        shapes = f"{x.shape}, {weight.shape}, {bias.shape}"
        raise InputError(f"x, weight, bias: got shapes {shapes}, expected (B, I), (I, O), (O,)")


def noise_counters(rows: Any, sample: Any) -> tuple[Array, Array]:
    """The rows (N,) and the samples (N,) or (1,) that address noise. Raises InputError as `vae_np.noise` does. [D37]"""
    row = noise.check_integers("rows", rows, 2**32)
    samples = noise.check_integers("sample", sample, 2**24)
    if samples.size not in (1, row.size):
        raise InputError(f"sample must be one integer or one for each of {row.size} rows, got {samples.size}")
    return row, samples


def check_batch(x: Array, batch: int, features: int) -> None:
    """Raises InputError unless x is what a fused step takes: bytes of (batch, features)."""
    if x.shape != (batch, features) or x.dtype != np.uint8:
        raise InputError(f"x: got {x.dtype} of shape {x.shape}, expected uint8 of {(batch, features)}")
