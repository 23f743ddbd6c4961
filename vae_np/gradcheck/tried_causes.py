"""Causes found by trying: backward with its arguments exchanged, or with forward's constants in place of its own.

What makes every wrong tensor right is the cause of all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import permutations
from types import FunctionType
from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.gradcheck import call_forms, object_parameters, patterns, tree
from vae_np.gradcheck.gradients import match
from vae_np.gradcheck.judge import Evidence
from vae_np.gradcheck.randomness import reachable_functions
from vae_np.gradcheck.subject import CallError, Subject

# At most this many pairs of constants are tried.
SUBSTITUTIONS = 36
# A constant up to this is one that keeps a logarithm or a division finite.
LARGEST_EPSILON = 1e-2
# Constants that say nothing by being equal or different.
ORDINARY = frozenset({0.0, 0.5, 1.0, 2.0, -1.0})


def explanation(subject: Subject, weights: Array, failing: Sequence[Evidence], tolerance: float) -> str | None:
    """Return what makes all the wrong tensors right, as one line, or None where nothing that is tried does."""

    def right(candidate: Subject) -> bool:
        try:
            with np.errstate(all="ignore"):
                found = match(candidate, candidate.vjp(weights), [evidence.leaf for evidence in failing])
        except CallError:
            return False
        return all(_agrees(evidence, found[evidence.leaf].value, tolerance) for evidence in failing)

    if not failing or any(not len(evidence.numeric.values) for evidence in failing):
        return None
    turned = call_forms.exchanged(subject)
    if turned is not None and right(replace(subject, backward=turned.backward)):
        return "right if backward's two arguments are exchanged: it computes as if it were called with (cache, dout)"
    for name in _square(subject):
        if right(replace(subject, backward=_with_transposed(subject, name))):
            return (
                f"right with {name} transposed in backward: {name} stands where its transpose is due, or the other way"
            )
    for text, candidate in _with_axes_mixed(subject, weights):
        if right(candidate):
            return text
    for text, substituted in _substitutions(*subject.origin):
        with substituted():
            if right(subject):
                return f"right with {text}: backward has another constant than forward"
    return None


def _square(subject: Subject) -> list[str]:
    """Return the inputs that are square matrices, whose transpose has the same shape."""
    named = zip(subject.names, subject.leaves, strict=True)
    return [
        n for n, v in named if tree.is_number(v) and np.ndim(v) == 2 and len(set(np.shape(v))) == 1 and np.size(v) > 1
    ]


def _with_transposed(subject: Subject, name: str) -> Callable[[Any, Any], Any]:
    """Return a backward that finds one input transposed in what forward kept, wherever it is kept."""
    value = np.asarray(subject.leaves[subject.names.index(name)])

    def backward(dout: Any, cache: Any) -> Any:
        return subject.backward(dout, object_parameters.exchanged(cache, value, value.T.copy()))

    return backward


def _with_axes_mixed(subject: Subject, weights: Array) -> Iterator[tuple[str, Subject]]:
    """Yield the pair with an upstream gradient whose axes are permuted under the same shape."""
    out, _ = subject.run()
    if not tree.is_array(out) or not 3 <= out.ndim <= 4:
        return
    for axes in list(permutations(range(out.ndim)))[1:]:
        moved = tuple(out.shape[axis] for axis in axes)
        inverse = tuple(int(place) for place in np.argsort(axes))

        def there(dout: Any, cache: Any, axes: tuple[int, ...] = axes) -> Any:
            return subject.backward(dout.transpose(axes).reshape(dout.shape), cache)

        def back(dout: Any, cache: Any, moved: Any = moved, inverse: Any = inverse) -> Any:
            return subject.backward(dout.reshape(moved).transpose(inverse), cache)

        text = f"right if the upstream gradient's axes came in the order {axes}: a reshape where a transpose is due"
        yield text, replace(subject, backward=there)
        text = f"right if the upstream gradient were reshaped to {moved}, and its axes then put back: they are mixed up"
        yield text, replace(subject, backward=back)


@contextmanager
def without_epsilons(*functions: Any) -> Iterator[list[float]]:
    """Run with every tiny constant of the functions, and of those of the user's that they call, set to zero.

    Yields the constants, largest first.
    """
    found = [f for f in reachable_functions(*functions) if any(map(_is_tiny, [*_floats(f)]))]
    kept = [(f, f.__code__, f.__defaults__) for f in found]
    try:
        for function, code, defaults in kept:
            zeroed = tuple(0.0 if _is_tiny(c) else c for c in code.co_consts)
            function.__code__ = code.replace(co_consts=zeroed)
            function.__defaults__ = None if defaults is None else tuple(0.0 if _is_tiny(d) else d for d in defaults)
        yield sorted({c for _, code, defaults in kept for c in (*code.co_consts, *(defaults or ())) if _is_tiny(c)})[
            ::-1
        ]
    finally:
        for function, code, defaults in kept:
            function.__code__, function.__defaults__ = code, defaults


def _floats(function: FunctionType) -> tuple[Any, ...]:
    return (*function.__code__.co_consts, *(function.__defaults__ or ()))


def _is_tiny(value: Any) -> bool:
    return isinstance(value, float) and 0.0 < abs(value) <= LARGEST_EPSILON


def _agrees(evidence: Evidence, gradient: Array | None, tolerance: float) -> bool:
    if gradient is None or gradient.shape != evidence.x.shape:
        return False
    values = np.array([gradient[index] for index in evidence.numeric.indices], dtype=np.float64)
    numeric = evidence.numeric.values
    size = float(np.abs(numeric).max(initial=0.0))
    return bool(np.isfinite(values).all()) and (
        patterns.close(values, numeric, tolerance) or float(np.abs(values - numeric).max()) <= 1e-12 * size
    )


Substituted = Callable[[], Any]


def _substitutions(forward: Any, backward: Any) -> Iterator[tuple[str, Substituted]]:
    """Yield ways to give backward a constant that only forward has, in place of one that only backward has."""
    theirs, function = _function(forward), _function(backward)
    if theirs is None or function is None or theirs is function:
        return
    wanted, own = _constants(theirs), _constants(function)
    count = 0
    for name, value in own.items():
        for new in dict.fromkeys(wanted.values()):
            if new != value and value not in wanted.values() and new not in own.values() and count < SUBSTITUTIONS:
                count += 1
                shown = f" ({name})" if not name.startswith("constant ") else ""
                text = f"{new:g} in place of {value:g}{shown}"
                yield text, partial(_with_constant, function, name, value, new)


def _function(callable_: Any) -> FunctionType | None:
    callable_ = getattr(callable_, "__func__", callable_)
    return callable_ if isinstance(callable_, FunctionType) else None


def _constants(function: FunctionType) -> dict[str, float]:
    """Return the floating constants of a function, its defaults included, by a name."""
    found = {
        f"constant {i}": value
        for i, value in enumerate(function.__code__.co_consts)
        if isinstance(value, float) and value not in ORDINARY
    }
    defaults = function.__defaults__ or ()
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    for name, value in zip(names[len(names) - len(defaults) :], defaults, strict=True):
        if isinstance(value, float):
            found[name] = value
    return found


@contextmanager
def _with_constant(function: FunctionType, name: str, value: float, new: float) -> Iterator[None]:
    """Run the function with another constant, and give it back its own afterwards."""
    code, defaults = function.__code__, function.__defaults__
    try:
        if name.startswith("constant "):
            changed = tuple(new if isinstance(c, float) and c == value else c for c in code.co_consts)
            function.__code__ = code.replace(co_consts=changed)
        else:
            function.__defaults__ = tuple(new if isinstance(d, float) and d == value else d for d in defaults or ())
        yield
    finally:
        function.__code__, function.__defaults__ = code, defaults
