"""The function under check: its calls, its outputs as one vector, its upstream gradient, what it does to its inputs.

A call that raises, or that leaves through `sys.exit`, becomes a `CallError` with one line of text.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.errors import InputError
from vae_np.gradcheck import tree
from vae_np.gradcheck.randomness import Randomness

Forward = Callable[..., Any]
Backward = Callable[[Any, Any], Any]
_HERE = Path(__file__).parent


class CallError(Exception):
    """A function under check raised or returned something unusable; the text is one clear line."""

    def __init__(self, message: str, cause: BaseException | None = None) -> None:
        super().__init__(message)
        self.cause = cause


@dataclass
class Subject:
    """A forward and a backward at one point.

    `names` and `leaves` are the names and values of the leaves of `inputs`, and `top_names` the names of the inputs.
    `called` holds the names of the two functions in messages, and `origin` the functions as the user gave them, where
    these wrap them. `eps` holds the machine epsilon of leaves whose dtype NumPy lacks.
    """

    forward: Forward
    backward: Backward
    inputs: tuple[Any, ...]
    names: list[str]
    leaves: list[Any]
    top_names: list[str]
    called: tuple[str, str]
    randomness: Randomness
    origin: tuple[Any, Any]
    eps: dict[int, float] = field(default_factory=dict)
    mutates: set[str] = field(default_factory=set)
    accumulates: set[str] = field(default_factory=set)

    def run(self, values: Sequence[Any] | None = None) -> tuple[Any, Any]:
        """Call forward on the leaves (or on `values` in their place) and return `(out, cache)`."""
        result = self.call_forward(values)
        if not isinstance(result, tuple) or len(result) != 2:
            what = f"a tuple of {len(result)}" if isinstance(result, tuple) else kind_of(result)
            raise CallError(f"{self.called[0]} returned {what}, expected (out, cache)")
        return result[0], result[1]

    def call_forward(self, values: Sequence[Any] | None = None) -> Any:
        """Return what forward returns, in whatever form.

        Sources of random numbers are set back before the call, and backward continues from where forward leaves them.
        Arguments are passed as copies once the function has been seen to change one of them.
        """
        values = self.leaves if values is None else values
        if self.mutates:
            values = [tree.fresh(value) for value in values]
        else:
            values = [value if tree.is_array(value) else tree.fresh(value) for value in values]
        self.randomness.rewind()
        return _call(self.called[0], self.forward, *tree.rebuild(self.inputs, iter(values)))

    def outputs(self, values: Sequence[Any] | None = None) -> Array:
        """Return all floating (or complex) outputs of forward as one vector."""
        return flat(self.run(values)[0])

    def vjp(self, weights: Array, values: Sequence[Any] | None = None) -> Any:
        """Return what backward returns for the upstream gradient `weights`, after a forward pass of its own."""
        out, cache = self.run(values)
        return self.pull_back(upstream(out, weights), cache)

    def pull_back(self, dout: Any, cache: Any) -> Any:
        """Return what backward returns for this upstream gradient and this cache."""
        return _call(self.called[1], self.backward, dout, cache)


def make_subject(
    forward: Forward, backward: Backward, inputs: Any, names: Sequence[str] | None, called: tuple[str, str]
) -> Subject:
    """Return the subject, whose inputs are named by `names`, or else by the parameters of `forward`.

    `called` holds the names of the two functions in messages. Raises InputError where names and inputs differ in
    number, and for complex inputs.
    """
    inputs = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
    top = input_names(forward, inputs, names)
    pairs = [pair for name, value in zip(top, inputs, strict=True) for pair in tree.leaves(value, name)]
    for name, value in pairs:
        if np.iscomplexobj(value):
            raise InputError(
                f"{name}: got complex numbers, expected real ones (check_vjp takes both, with convention=)"
            )
    leaves = [tree.fresh(value) for _, value in pairs]
    randomness = Randomness(forward, backward)
    return Subject(
        forward, backward, inputs, [n for n, _ in pairs], leaves, top, called, randomness, _origin(forward, backward)
    )


def _origin(*functions: Any) -> tuple[Any, Any]:
    forward, backward = (getattr(function, "__wrapped__", function) for function in functions)
    return forward, backward


def input_names(forward: Forward, inputs: tuple[Any, ...], names: Sequence[str] | None) -> list[str]:
    """Return the names of the inputs: those given, else forward's parameters."""
    if names is not None:
        if len(names) != len(inputs):
            raise InputError(f"names: got {len(names)}, expected {len(inputs)}, one per input")
        return list(names)
    try:
        parameters = list(inspect.signature(forward).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    known = [p.name for p in parameters if p.kind in kinds][: len(inputs)]
    return known + [f"input {i}" for i in range(len(known), len(inputs))]


def flat(out: Any) -> Array:
    """Return the floating and complex leaves of an output as one vector, without integers and other objects."""
    parts = [np.asarray(leaf).ravel() for _, leaf in tree.leaves(out) if _carries_gradient(leaf)]
    return np.concatenate(parts) if parts else np.zeros(0)


def _carries_gradient(leaf: Any) -> bool:
    return tree.is_number(leaf) or (isinstance(leaf, (np.ndarray, np.generic, complex)) and np.iscomplexobj(leaf))


def upstream(out: Any, weights: Array) -> Any:
    """Return `weights` in the structure, shapes and dtypes of `out`, with None where a leaf is not floating."""

    def parts() -> Iterator[Any]:
        start = 0
        for _, leaf in tree.leaves(out):
            if not _carries_gradient(leaf):
                yield None
                continue
            value = np.asarray(leaf)
            piece = weights[start : start + value.size].reshape(value.shape).astype(value.dtype)
            start += value.size
            yield piece if isinstance(leaf, np.ndarray) else piece[()]

    return tree.rebuild(out, parts())


def output_eps(out: Any) -> float:
    """Return the machine epsilon of the coarsest floating dtype among the outputs."""
    dtypes = [np.asarray(leaf).dtype for _, leaf in tree.leaves(out) if tree.is_number(leaf)]
    return max((float(np.finfo(dtype).eps) for dtype in dtypes), default=float(np.finfo(np.float64).eps))


def kind_of(value: Any) -> str:
    """Return what a value is, with its article, as messages say it."""
    name = "array" if isinstance(value, np.ndarray) else type(value).__name__
    return "None" if value is None else f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def _call(what: str, function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except SystemExit as error:
        raise CallError(f"{what} called sys.exit({error.code!r})", error) from error
    except Exception as error:
        raise CallError(f"{what} raised {describe(error)}", error) from error


def describe(error: BaseException) -> str:
    """Return an exception as one line: its type, the first line of its text, and the source line that raised it."""
    text = str(error).strip().splitlines()
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).parent != _HERE]
    own = [f for f in frames if not {"site-packages", "<frozen importlib._bootstrap>"} & set(Path(f.filename).parts)]
    place = f" (line {own[-1].lineno} of {Path(own[-1].filename).name})" if own else ""
    return f"{type(error).__name__}{': ' + shorten(text[0]) if text else ''}{place}"


def shorten(text: str, length: int = 160) -> str:
    """Return the text, cut to `length` characters."""
    return text if len(text) <= length else text[: length - 3] + "..."
