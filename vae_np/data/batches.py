"""Rows from any object in Python that has batches of them, which can be counted and indexed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeGuard, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike

from vae_np._types import Array
from vae_np.errors import DataError


@runtime_checkable
class Batches(Protocol):
    """`len(x)` batches: `x[i]` is an array of rows (B, D) or (B, H, W), or a pair of rows and their labels.

    Arrays, lists, and what turns into an array (DataFrames, tensors) count as rows themselves, not as batches.
    """

    def __len__(self) -> int:
        """The number of batches."""

    def __getitem__(self, index: int, /) -> Any:
        """The batch with this number, from 0."""


Rows = ArrayLike | Batches


def are_batches(x: Any) -> TypeGuard[Batches]:
    """Whether x has batches of rows, and is not an array of rows itself."""
    is_rows = isinstance(x, list | tuple | str | bytes | range | Mapping | memoryview)
    return isinstance(x, Batches) and not is_rows and not hasattr(x, "__array__")


def gathered(x: Batches, what: str) -> Array:
    """All rows of the batches, in their order, as one array (N, ...); labels are left out.

    Raises DataError where there is no batch, and for a batch whose rows have another shape or dtype than the first's.
    """
    count = len(x)
    if count < 1:
        raise DataError(f"{what}: got no batch, expected at least one")
    parts: list[Array] = []
    for index in range(count):
        item = x[index]
        rows = np.asarray(item[0] if isinstance(item, tuple) and len(item) == 2 else item)
        if rows.ndim < 2:
            raise DataError(f"{what}: batch {index} has shape {rows.shape}, expected rows: (B, D) or (B, H, W)")
        first = parts[0] if parts else rows
        if (rows.shape[1:], rows.dtype) != (first.shape[1:], first.dtype):
            raise DataError(
                f"{what}: batch {index} has rows of shape {rows.shape[1:]} in {rows.dtype}, expected "
                f"{first.shape[1:]} in {first.dtype}, as batch 0 has"
            )
        parts.append(rows)
    return np.concatenate(parts)
