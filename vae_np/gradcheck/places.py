"""Entries of a tensor: their indices, and directions that move only some of them."""

from __future__ import annotations

import numpy as np

from vae_np._types import Array

Index = tuple[int, ...]


def block_direction(direction: Array, block: Array) -> Array:
    """Return the direction with all entries outside of `block` (flat positions) set to zero."""
    part = np.zeros(direction.size)
    part[block] = direction.ravel()[block]
    return part.reshape(direction.shape)


def unravel(position: int, shape: tuple[int, ...]) -> Index:
    """Return a flat position as a tuple of plain integers."""
    return tuple(int(i) for i in np.unravel_index(position, shape)) if shape else ()
