"""The sources of a function's random numbers, and how they are set back, so that every forward draws the same.

The sources are the global states of NumPy and Python, that of torch where it is loaded, and every generator that the
functions hold: in a closure, in a default, in a module's variable that they name, or in the object whose method they
are.
"""

from __future__ import annotations

import functools
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

# A search looks into this many objects at most, so that it does not walk through a whole program.
LOOKED_AT = 2000
DEPTH = 5
_LEAVES = (str, bytes, int, float, complex, np.ndarray, np.generic, ModuleType, type, type(None))


class Randomness:
    """The state of every source of random numbers within reach of some functions, as it was at the start."""

    def __init__(self, *functions: Any) -> None:
        found = [_python(random), _numpy_global(), *map(_source, _generators(functions))]
        torch = sys.modules.get("torch")
        if torch is not None and hasattr(torch, "get_rng_state"):
            state = torch.get_rng_state()
            found.append(_Source(lambda: torch.set_rng_state(state), lambda: torch.rand(1)))
        self._sources = found

    def rewind(self) -> None:
        """Set every source back to where it was at the start."""
        for source in self._sources:
            source.restore()

    def disturb(self) -> None:
        """Draw once from every source, so that whoever draws next gets other numbers."""
        for source in self._sources:
            source.draw()


@dataclass(frozen=True)
class _Source:
    restore: Callable[[], None]
    draw: Callable[[], Any]


def _numpy_global() -> _Source:
    state = np.random.get_state(legacy=True)  # noqa: NPY002  # the global state is what has to be kept
    return _Source(lambda: np.random.set_state(state), np.random.random)  # noqa: NPY002


def _python(source: Any) -> _Source:
    state = source.getstate()
    return _Source(lambda: source.setstate(state), source.random)


def _source(source: Any) -> _Source:
    if isinstance(source, random.Random):
        return _python(source)
    if isinstance(source, np.random.RandomState):
        old = source.get_state(legacy=True)
        return _Source(lambda: source.set_state(old), source.random_sample)
    bits = source.bit_generator
    state = bits.state

    def restore() -> None:
        bits.state = state

    return _Source(restore, source.random)


def _generators(functions: tuple[Any, ...]) -> list[Any]:
    """Return the generators that the functions can reach."""
    return _reached(functions, (np.random.Generator, np.random.RandomState, random.Random))


def reachable_functions(*functions: Any) -> list[FunctionType]:
    """Return the functions that some functions are, hold or name, without those of installed packages and of ours."""
    found = [f for f in _reached(functions, ()) if isinstance(f, FunctionType)]
    ours = ("vae_np.gradcheck", "vae_np.verify")
    # Code that was executed without a module's name belongs to no module.
    theirs = [f for f in found if not (f.__module__ or "").startswith(ours)]
    return [f for f in theirs if "site-packages" not in f.__code__.co_filename]


def _reached(roots: tuple[Any, ...], wanted: tuple[type, ...]) -> list[Any]:
    """Return what can be reached from some objects, breadth first: instances of the wanted types, or everything."""
    found: list[Any] = []
    seen: set[int] = set()
    level: list[Any] = list(roots)
    for _ in range(DEPTH):
        following: list[Any] = []
        for item in level:
            if id(item) in seen or isinstance(item, _LEAVES) or len(seen) > LOOKED_AT:
                continue
            seen.add(id(item))
            if isinstance(item, wanted) or not wanted:
                found.append(item)
            if not wanted or not isinstance(item, wanted):
                following += _held(item)
        level = following
    return found


def _held(item: Any) -> Iterator[Any]:
    """Yield what an object holds: a closure, defaults and globals, attributes, the items of a list."""
    if isinstance(item, (list, tuple, set, frozenset)):
        yield from list(item)[:64]
    elif isinstance(item, dict):
        yield from list(item.values())[:64]
    elif isinstance(item, MethodType):
        yield from (item.__self__, item.__func__)
    elif isinstance(item, functools.partial):
        yield from (item.func, *item.args, *item.keywords.values())
    elif isinstance(item, FunctionType):
        if "site-packages" in item.__code__.co_filename:
            return
        for cell in item.__closure__ or ():
            try:
                yield cell.cell_contents
            except ValueError:  # a cell that is not filled yet
                continue
        yield from item.__defaults__ or ()
        yield from (item.__kwdefaults__ or {}).values()
        for name in _names(item.__code__):
            if name in item.__globals__:
                yield item.__globals__[name]
    elif isinstance(getattr(item, "__dict__", None), dict):
        yield from list(vars(item).values())
        yield from (value for value in vars(type(item)).values() if isinstance(value, FunctionType))


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):  # a function or a comprehension inside
            yield from _names(constant)
