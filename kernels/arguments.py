"""Checks of arguments that the backends share, so that each refuses the same in the same words."""

from __future__ import annotations

import numpy as np

from vae_np._types import Array
from vae_np.errors import InputError


def check_adam_buffers(parameters: Array, gradient: Array, first_moment: Array, second_moment: Array) -> None:
    """Raises InputError unless what Adam changes in place are flat arrays of the parameters' dtype and equal length."""
    dtype = parameters.dtype
    buffers = {"parameters": parameters, "first_moment": first_moment, "second_moment": second_moment}
    for name, buffer in buffers.items():
        if buffer.dtype != dtype or buffer.shape != gradient.shape or buffer.ndim != 1:
            raise InputError(f"{name}: got {buffer.dtype} {buffer.shape}, expected {dtype} {gradient.shape}")


def check_batch(x: Array, batch: int, features: int) -> None:
    """Raises InputError unless x is what a fused step takes: bytes of (batch, features)."""
    if x.shape != (batch, features) or x.dtype != np.uint8:
        raise InputError(f"x: got {x.dtype} of shape {x.shape}, expected uint8 of {(batch, features)}")
