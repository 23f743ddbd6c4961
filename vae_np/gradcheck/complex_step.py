"""The complex step, and the operations that make it wrong.

f(x + ih) = f(x) + ih f'(x) + O(h^2). With h = 2^-100 the imaginary part holds the derivative to the last digit, as long
as every operation on the way is analytic. `abs`, `.real`, `conj`, a cast and an ordering are not analytic; `suspects`
names those that a function used.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.gradcheck.subject import CallError

STEP = 2.0**-100  # a power of two, so that dividing by it is exact

# NumPy functions that are not analytic in a complex argument, by the name they report.
NOT_ANALYTIC = frozenset(
    [
        "absolute",
        "fabs",
        "conjugate",
        "maximum",
        "minimum",
        "fmax",
        "fmin",
        "sign",
        "real",
        "imag",
        "angle",
        "vdot",
        "norm",
        "cholesky",
        "eigh",
        "svd",
        "clip",
        "max",
        "min",
        "amax",
        "amin",
        "sort",
        "argsort",
        "median",
        "nan_to_num",
        "real_if_close",
        "heaviside",
        "copysign",
        "hypot",
        "lexsort",
    ]
)
SPELLING = {"absolute": "abs", "fabs": "abs", "conjugate": "conj", "amax": "max", "amin": "min"}


class ComplexStepRefused(Exception):
    """The function cannot be evaluated on complex input, or gives a real result; the text says why."""


def complex_derivative(evaluate: Callable[[Array], Array], weights: Array, x: Array, direction: Any) -> float:
    """Return d/dt weights · outputs(x + t direction) at t = 0 from one complex evaluation.

    `direction` is an index of x (a tuple of integers) for a partial derivative, or an array like x. Raises
    ComplexStepRefused where the function raises an exception or where its output is real.
    """
    moved = x.astype(np.result_type(x.dtype, np.complex128))
    if isinstance(direction, tuple):
        moved[direction] += 1j * STEP
    else:
        moved += 1j * STEP * direction
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            out = evaluate(moved)
    except CallError as error:
        raise ComplexStepRefused(f"complex input is refused: {error}") from error
    if out.shape != weights.shape:
        raise ComplexStepRefused("the output changes its shape for complex input")
    if not np.iscomplexobj(out):
        raise ComplexStepRefused("the output stays real for complex input")
    return float(weights @ out.imag) / STEP


def suspects(evaluate: Callable[[Array], Array], x: Array) -> list[str]:
    """Return the operations that were given complex numbers and are not analytic, such as `["abs", "a cast"]`.

    The function runs once on a subclass of the array type that records what is done to it. Where the function does not
    work with the subclass, the result is what was recorded until then.
    """
    seen: list[str] = []

    def note(name: str) -> None:
        name = SPELLING.get(name, name)
        if name not in seen:
            seen.append(name)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with contextlib.suppress(CallError):
            evaluate(_spy(x.astype(np.complex128), note))
    # Deliberate casts go through `astype` or an assignment, which NumPy reports as a warning.
    if any(issubclass(warning.category, np.exceptions.ComplexWarning) for warning in caught):
        note("a cast")
    return seen


class _Spy(np.ndarray[Any, Any]):
    """A complex array that reports each operation in NOT_ANALYTIC before it is done."""

    _note: Callable[[str], None] | None = None

    def __array_finalize__(self, other: Any) -> None:
        self._note = getattr(other, "_note", None)

    def _report(self, name: str) -> None:
        if self._note is not None and np.iscomplexobj(_plain(self)):
            self._note(name)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        note = next(i._note for i in (*inputs, *kwargs.get("out", ())) if isinstance(i, _Spy))
        plain = [_plain(i) for i in inputs]
        if ufunc.__name__ in NOT_ANALYTIC and note is not None and any(np.iscomplexobj(i) for i in plain):
            note(ufunc.__name__)
        if "out" in kwargs:
            kwargs["out"] = tuple(_plain(i) for i in kwargs["out"])
        if isinstance(kwargs.get("where"), _Spy):
            kwargs["where"] = _plain(kwargs["where"])
        return _wrap(getattr(ufunc, method)(*plain, **kwargs), note)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if function.__name__ in NOT_ANALYTIC:
            self._report(function.__name__)
        # Functions that NumPy writes in terms of others report those.
        return super().__array_function__(function, (np.ndarray, _Spy), args, kwargs)

    @property  # type: ignore[misc]  # read-only here: the spy only looks
    def real(self) -> Any:
        self._report("real")
        return _wrap(_plain(self).real, self._note)

    @property  # type: ignore[misc]
    def imag(self) -> Any:
        self._report("imag")
        return _wrap(_plain(self).imag, self._note)

    def conj(self) -> Any:
        self._report("conjugate")
        return _wrap(_plain(self).conj(), self._note)

    conjugate = conj

    def astype(self, dtype: Any, *args: Any, **kwargs: Any) -> Any:
        if not np.issubdtype(np.dtype(dtype), np.complexfloating):
            self._report("a cast")
        return super().astype(dtype, *args, **kwargs)


def _spy(x: Array, note: Callable[[str], None]) -> Array:
    spy = x.view(_Spy)
    spy._note = note
    return spy


def _plain(value: Any) -> Any:
    return value.view(np.ndarray) if isinstance(value, _Spy) else value


def _wrap(value: Any, note: Callable[[str], None] | None) -> Any:
    if isinstance(value, tuple):
        return tuple(_wrap(v, note) for v in value)
    if isinstance(value, np.generic):
        value = np.asarray(value)
    if isinstance(value, np.ndarray) and note is not None:
        return _spy(value, note)
    return value
