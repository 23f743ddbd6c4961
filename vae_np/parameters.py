"""One flat, named buffer: for parameters, for their gradients, and for the moments of an optimiser."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.display import counted_text

_ALIGNMENT = 64


class Parameters(Mapping[str, Array]):
    """Named views into one contiguous buffer; each tensor starts on a 64-byte boundary and the padding stays zero.

    Gradients and both Adam moments are held in buffers of the same layout, so an optimiser sees four flat arrays.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], dtype: Any = np.float32) -> None:
        self.shapes = dict(shapes)
        self.dtype = np.dtype(dtype)
        lane = _ALIGNMENT // self.dtype.itemsize
        self._offsets: dict[str, int] = {}
        end = 0
        for name, shape in self.shapes.items():
            self._offsets[name] = end
            end += -(-math.prod(shape) // lane) * lane
        self.flat = aligned_zeros(end, self.dtype)
        self._views = {
            name: self.flat[start : start + math.prod(self.shapes[name])].reshape(self.shapes[name])
            for name, start in self._offsets.items()
        }

    def __getitem__(self, name: str) -> Array:
        return self._views[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    def __repr__(self) -> str:
        return f"<Parameters: {counted_text(len(self), 'tensor')}, {self.count} numbers, {self.dtype}>"

    def __reduce__(self) -> tuple[Any, ...]:
        # If they were copied one by one, the views would no longer share the buffer.
        return _with_buffer, (self.shapes, self.dtype, self.flat)

    def offset(self, name: str) -> int:
        """Where a tensor begins in the flat buffer, in entries."""
        return self._offsets[name]

    @property
    def count(self) -> int:
        """The number of parameters, padding not counted."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def zeros_like(self) -> Parameters:
        """A buffer of the same layout, all zero."""
        return Parameters(self.shapes, self.dtype)

    def astype(self, dtype: Any) -> Parameters:
        """A copy in another precision (complex, for a complex-step check)."""
        other = Parameters(self.shapes, dtype)
        other.assign(self)
        return other

    def assign(self, values: Mapping[str, Array]) -> None:
        """Copy the tensors of the same names into this buffer."""
        for name, view in self._views.items():
            view[...] = values[name]


def _with_buffer(shapes: Mapping[str, tuple[int, ...]], dtype: Any, flat: Array) -> Parameters:
    """Parameters that have been copied or unpickled."""
    parameters = Parameters(shapes, dtype)
    parameters.flat[...] = flat
    return parameters


def aligned_zeros(size: int, dtype: np.dtype[Any]) -> Array:
    """A flat array (size,) of zeros that begins on a 64-byte boundary, where NumPy's own need not."""
    raw = np.zeros(size * dtype.itemsize + _ALIGNMENT, dtype=np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + size * dtype.itemsize].view(dtype)
