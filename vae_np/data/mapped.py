"""Rows that stay in their file: read a part at a time, and never beyond the end of a file that was cut short."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.errors import DataError

_CHUNK_ELEMENTS = 1 << 22


def check_length(array: Array, what: str) -> None:
    """Raise DataError where `array` is memory-mapped and its file has become too short for it.

    Reading such an array would end the process with a SIGBUS and without a message. An array in memory passes.
    """
    base: Any = array
    offset, file = 0, ""
    while isinstance(base, np.ndarray | memoryview):
        # A copy of a part of a memory map has that class too, but maps no file.
        if isinstance(base, np.memmap) and base.offset is not None:
            offset, file = int(base.offset), str(base.filename)
        base = base.obj if isinstance(base, memoryview) else base.base
    if not isinstance(base, mmap.mmap):
        return
    needed, present = len(base) + offset - offset % mmap.ALLOCATIONGRANULARITY, base.size()
    if present < needed:
        named = f" ({file})" if file else ""
        raise DataError(f"{what}: its file{named} was cut short while in use: got {present} bytes, expected {needed}")


def chunks(rows: Array, what: str) -> Iterator[tuple[int, Array]]:
    """The rows (N, D) a few million values at a time, each part with the place of its first row.

    Raises DataError as `check_length` does.
    """
    step = max(1, _CHUNK_ELEMENTS // rows.shape[1])
    for start in range(0, len(rows), step):
        check_length(rows, what)
        yield start, rows[start : start + step]
