"""`philox_normal` and `philox_bernoulli`: the same bits as the reference. [D37] [D38]"""

from __future__ import annotations

from typing import Any

import numpy as np

from vae_np import noise
from vae_np._types import Array
from vae_np.errors import InputError

from ..arguments import noise_counters
from ._arrays import at_home, blocks, empty, give, launch, put
from ._device import device

_BLOCK = 256


def philox_normal(
    rows: Array,
    columns: int,
    *,
    seed: int,
    stream: int,
    step: int,
    sample: int | Array = 0,
    dtype: Any = np.float32,
) -> Array:
    """Standard normals (len(rows), columns), a pure function of row, column, seed, stream, step and sample. [D38]"""
    home = at_home(rows)
    rows, samples = noise_counters(_on_host(rows), _on_host(sample))
    # The reference's checks, on an empty request: they cost nothing and raise the same messages.
    noise.normal(rows[:0], columns, seed=seed, stream=stream, step=step, dtype=dtype)
    out = empty((rows.size, columns), dtype)
    launch(
        "philox_normal", dtype, _grid(rows.size, columns), (_BLOCK,),
        put(rows, np.uint32), rows.size, columns, put(samples, np.uint32), samples.size, *_address(seed, stream, step),
        out,
    )  # fmt: skip
    return give(home, out)[0]


def philox_bernoulli(grey: Array, *, seed: int, stream: int, step: int, rows: Array) -> Array:
    """Binary pixels (B, D) as bytes, one where a uniform falls below the grey value (bytes / 255, or floats). [D38]"""
    home = at_home(grey, rows)
    rows, _ = noise_counters(_on_host(rows), 0)
    noise.bernoulli(_on_host(grey[:0]), seed=seed, stream=stream, step=step, rows=rows[:0])
    if grey.dtype != np.uint8:
        # Every value's range is checked as given; then the values are compared as float32, as in the reference.
        noise.grey_probability(_on_host(grey))
    if rows.size != len(grey):
        raise InputError(f"rows: got {rows.size} rows, expected one for each of {len(grey)} examples")
    out = empty(grey.shape, np.uint8)
    kind, dtype = ("bytes", np.uint8) if grey.dtype == np.uint8 else ("real", np.float32)
    launch(
        f"philox_bernoulli_{kind}", np.float32, _grid(*grey.shape), (_BLOCK,),
        put(grey, dtype), put(rows, np.uint32), *grey.shape, *_address(seed, stream, step), out,
    )  # fmt: skip
    return give(home, out)[0]


def _grid(rows: int, columns: int) -> tuple[int]:
    return (blocks(rows * blocks(columns, 4), _BLOCK),)


def _address(seed: int, stream: int, step: int) -> tuple[Any, Any, Any]:
    return np.uint64(seed), np.uint32(stream), np.uint32(step)


def _on_host(array: Any) -> Any:
    return device().get(array) if device().owns(array) else np.asarray(array)
