"""Where an operation's arrays are, and where its results go.

An operation takes NumPy arrays and gives NumPy arrays; as soon as one argument lies on the device, so do the results,
and the caller decides when anything comes home. What a forward keeps for its backward stays on the device either way.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vae_np.errors import InputError

from ._device import device

# Kernels index with 32 bits.
_MOST_ENTRIES = 2**31 - 1
# About as many blocks as the larger devices have multiprocessors: with fewer, some of those have nothing to do.
_ENOUGH_BLOCKS = 128


def precision(array: Any, what: str) -> np.dtype[Any]:
    """The dtype of an operation, from its parameters. Raises InputError for what is neither float32 nor float64."""
    if array.dtype not in (np.float32, np.float64):
        raise InputError(f"{what}: got dtype {array.dtype}, expected float32 or float64 for the cupy backend")
    return np.dtype(array.dtype)


def at_home(*arrays: Any) -> bool:
    """Whether none of the arrays lies on the device, so that results are due on the host."""
    return not any(device().owns(array) for array in arrays)


def put(array: Any, dtype: Any) -> Any:
    """The array on the device, contiguous, in `dtype`. Raises InputError for more entries than kernels can count."""
    if array.size > _MOST_ENTRIES:
        raise InputError(f"array: got {array.size} entries, expected at most {_MOST_ENTRIES} for the cupy backend")
    return device().put(array, dtype)


def empty(shape: tuple[int, ...], dtype: Any) -> Any:
    """Memory on the device; the same limit."""
    return device().empty(shape, dtype)


def give(home: bool, *results: Any) -> tuple[Any, ...]:
    """The results where they are due; None stays None."""
    return tuple(device().get(result) if home and result is not None else result for result in results)


def launch(kernel: str, dtype: Any, grid: tuple[int, ...], block: tuple[int, ...], *args: Any, shared: int = 0) -> None:
    """Queue one kernel."""
    device().prepare(kernel, dtype, grid, block, args, shared)()


# The products' panels (product.cuh); a share of the depth has at least two of them.
_PANEL = 64


def blocks(count: int, size: int) -> int:
    """How many blocks of `size` cover `count`."""
    return -(-count // size)


def tile(rows: int, columns: int) -> int:
    """The edge of the tiles that a product's result (rows, columns) has: large ones, where they are enough blocks."""
    return 64 if blocks(rows, 64) * blocks(columns, 64) >= _ENOUGH_BLOCKS else 32


def depth_parts(rows: int, columns: int, depth: int) -> int:
    """Among how many blocks the depth of a product (rows, columns) is dealt: more, where tiles are few and it is deep.

    To add up the blocks' sums takes about as long as three panels.
    """
    edge = tile(rows, columns)
    tiles, panels = blocks(rows, edge) * blocks(columns, edge), blocks(depth, _PANEL)
    if panels < 6 or 2 * tiles > _ENOUGH_BLOCKS:
        return 1
    return min(blocks(2 * _ENOUGH_BLOCKS, tiles), panels // 2)
