"""From whatever array a caller has to what compiled code takes, without changing it."""

from __future__ import annotations

from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.errors import InputError


def precision(array: Array, what: str) -> Any:
    """The dtype of an operation, from its parameters. Raises InputError for what is neither float32 nor float64."""
    if array.dtype not in (np.float32, np.float64):
        raise InputError(f"{what}: got dtype {array.dtype}, expected float32 or float64 for the numba backend")
    return array.dtype


def plain(array: Array, dtype: Any) -> Array:
    """The array as C-contiguous, aligned and writable in `dtype`, so that each kernel is compiled once per precision.

    It is the array itself where that already has all these properties, else a copy.
    """
    return (
        np.require(array, dtype, ("C", "A", "W", "E")) if array.flags.writeable else np.array(array, dtype, order="C")
    )


def flat(array: Array) -> Array:
    """A contiguous array's entries in one dimension."""
    return array.reshape(-1)
