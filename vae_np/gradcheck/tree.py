"""Nested inputs, outputs and gradients as flat lists of named leaves.

Tuples, lists, dictionaries and dataclasses that hold arrays are branches. Everything else (arrays, numbers, strings,
generators) is a leaf.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield `(name, leaf)` in a fixed order; a dictionary's keys and a sequence's positions extend the name."""
    if isinstance(tree, np.ndarray):
        yield path, tree
    elif isinstance(tree, dict):
        for key, branch in tree.items():
            yield from leaves(branch, f"{path}.{key}" if path else str(key))
    elif isinstance(tree, (tuple, list)):
        for position, branch in enumerate(tree):
            yield from leaves(branch, f"{path}[{position}]")
    elif (fields := _fields(tree)) is not None:
        for key in fields:
            yield from leaves(getattr(tree, key), f"{path}.{key}" if path else key)
    else:
        yield path, tree


def rebuild(tree: Any, values: Iterator[Any]) -> Any:
    """Return a tree of the same structure whose leaves are taken from `values` in the order of `leaves`."""
    if isinstance(tree, np.ndarray):
        return next(values)
    if isinstance(tree, dict):
        return {key: rebuild(branch, values) for key, branch in tree.items()}
    if isinstance(tree, (tuple, list)):
        parts = [rebuild(branch, values) for branch in tree]
        if hasattr(tree, "_fields"):  # a named tuple takes its parts as separate arguments
            return type(tree)(*parts)
        return tuple(parts) if isinstance(tree, tuple) else parts
    if (fields := _fields(tree)) is not None:
        found = copy.copy(tree)
        for key in fields:
            object.__setattr__(found, key, rebuild(getattr(tree, key), values))  # it may be frozen
        return found
    return next(values)


def _fields(value: Any) -> list[str] | None:
    """Return the names of a dataclass's fields, or None for anything else, and for one that holds no arrays."""
    if not hasattr(type(value), "__dataclass_fields__"):  # is_dataclass is slow, and this is asked of every leaf
        return None
    names = [field.name for field in dataclasses.fields(value) if hasattr(value, field.name)]
    held = [getattr(value, name) for name in names]
    arrays = any(isinstance(item, np.ndarray) or (hasattr(item, "dtype") and hasattr(item, "shape")) for item in held)
    return names if arrays else None


def transform(tree: Any, function: Callable[[Any], Any]) -> Any:
    """Return the tree with `function` applied to every leaf."""
    return rebuild(tree, iter([function(leaf) for _, leaf in leaves(tree)]))


def is_number(value: Any) -> bool:
    """Tell whether a leaf is a real floating-point array or scalar, that is, something with a derivative."""
    if isinstance(value, (np.ndarray, np.floating)):
        return bool(np.issubdtype(value.dtype, np.floating))
    return isinstance(value, float)


def is_array(value: Any) -> bool:
    """Tell whether a leaf is an array of any dtype."""
    return isinstance(value, np.ndarray)


def fresh(value: Any) -> Any:
    """Return a copy of a leaf, so that a call can neither change it nor advance it (a generator replays).

    Objects that can't be copied are handed on as they are.
    """
    if isinstance(value, np.ndarray):
        return value.copy(order="K")
    if value is None or isinstance(value, (str, bytes, int, float, complex, np.generic)):
        return value
    try:
        return copy.deepcopy(value)
    except Exception:
        return value


def same(a: Any, b: Any) -> bool:
    """Tell whether two leaves are bit for bit the same array, NaN included; leaves that are not arrays always are."""
    if not (isinstance(a, np.ndarray) and isinstance(b, np.ndarray)):
        return True
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype.hasobject:
        return True
    return a.tobytes() == b.tobytes()
