"""The three functions that people call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from vae_np.errors import InputError
from vae_np.gradcheck import tree
from vae_np.gradcheck.engine import Engine, Plan
from vae_np.gradcheck.gradients import chosen
from vae_np.gradcheck.judge import Tolerance
from vae_np.gradcheck.report import Report
from vae_np.gradcheck.subject import Backward, Forward, make_subject

METHODS = frozenset({"auto", "complex", "central", "projection"})
MAX_ENTRIES = 2048
PROJECTIONS = 6


def check_vjp(
    forward: Forward,
    backward: Backward,
    inputs: Any,
    *,
    names: Sequence[str] | None = None,
    wrt: Sequence[str | int] | None = None,
    methods: str | Sequence[str] = "auto",
    seed: int = 0,
    rtol: float | None = None,
    atol: float = 0.0,
    scale: float | None = None,
    max_entries: int = MAX_ENTRIES,
    projections: int = PROJECTIONS,
    seconds: float | None = None,
    name: str | None = None,
    snippet: str | None = None,
) -> Report:
    """Check `grads = backward(dout, cache)` against numeric derivatives of `out, cache = forward(*inputs)`.

    inputs: a tuple of arrays, of dictionaries or tuples of arrays, and of anything else, which is passed through.
    Every floating array is checked, or those that `wrt` names (names or positions). `grads` has one entry per input
    that is checked, or per array input, None where there is no gradient. `out` may be a tuple; then `dout` is one.
    The upstream gradient is drawn from `seed`.

    methods: "auto" (complex step where it can be trusted, else central differences; every entry up to
    `max_entries`, beyond that `projections` random directions and a sample of entries), "complex" and "central"
    (every entry), "projection", or several of them. seconds: rough limit to the time for numeric derivatives; above
    it, tensors are sampled. rtol, scale: None for defaults that follow from precision and method; an entry is right
    where |a - n| <= atol + rtol * max(|a|, |n|, scale), plus the numeric value's own error.

    float32 inputs are checked in float32; numeric values come from a float64 copy only where forward then answers
    the same in float64, and the row says so. Whatever the pair does wrong is in the report. Raises InputError where
    the arguments of this function are wrong.
    """
    label = name if name is not None else _pair_name(forward)
    called = (getattr(forward, "__name__", "forward"), getattr(backward, "__name__", "backward"))
    subject = make_subject(forward, backward, inputs, names, called)
    leaves = chosen(subject, wrt, scalars=wrt is not None)
    plan = _plan(methods, max_entries, projections, seconds)
    asked = _asked(methods, rtol, atol, scale, max_entries, projections) | ({} if wrt is None else {"wrt": wrt})
    snippet = snippet or _snippet("check_vjp", (forward, backward), "inputs", asked | {"seed": seed})
    report = Report(name=label, seed=seed, snippet=snippet)
    return Engine(subject, leaves, plan, Tolerance(rtol, atol, scale), seed).run(report)


def check_grad(
    f: Callable[[Any], Any],
    grad: Any,
    x: Any,
    *,
    methods: str | Sequence[str] = "auto",
    seed: int = 0,
    rtol: float | None = None,
    atol: float = 0.0,
    scale: float | None = None,
    max_entries: int = MAX_ENTRIES,
    projections: int = PROJECTIONS,
    seconds: float | None = None,
    name: str | None = None,
    snippet: str | None = None,
) -> Report:
    """Check `grad(x)` against numeric derivatives of the scalar function `f(x)`.

    x: a number, an array, or a dictionary, tuple or list of arrays; `grad` returns the same structure, and may also
    be given as that value itself. The other arguments are those of `check_vjp`.
    """
    label = name if name is not None else getattr(f, "__name__", "f").replace("<lambda>", "f")

    def forward(point: Any) -> tuple[Any, Any]:
        value = f(point)
        if np.size(value) != 1:
            raise InputError(f"f returned shape {np.shape(value)}, expected one number; check_vjp takes arrays")
        return (value if tree.is_number(value) or np.iscomplexobj(value) else float(value)), point

    def backward(dout: Any, cache: Any) -> Any:
        return (grad(cache) if callable(grad) else grad,)

    subject = make_subject(forward, backward, (x,), ["" if isinstance(x, dict) else "x"], ("f", "grad"))
    leaves = chosen(subject, None, scalars=True)
    plan = _plan(methods, max_entries, projections, seconds)
    asked = _asked(methods, rtol, atol, scale, max_entries, projections)
    snippet = snippet or _snippet("check_grad", (f, grad), "x", asked | {"seed": seed})
    report = Report(name=label, seed=seed, snippet=snippet)
    return Engine(subject, leaves, plan, Tolerance(rtol, atol, scale), seed, linear=False).run(report)


def assert_grad(
    function: Callable[..., Any],
    derivative: Any,
    inputs: Any,
    *,
    kind: Literal["auto", "grad", "vjp"] = "auto",
    **options: Any,
) -> Report:
    """Check either style, and raise AssertionError with the table where the gradient is wrong.

    kind: "vjp" for `check_vjp`, "grad" for `check_grad`; "auto" takes a derivative that needs two arguments
    (dout, cache) for a backward. options: those of the two functions.
    """
    if kind not in ("auto", "grad", "vjp"):
        raise InputError(f"kind: {kind!r} came, expected 'auto', 'grad' or 'vjp'")
    pair = kind == "vjp" or (kind == "auto" and _needed(derivative, inputs) >= 2)
    report = (check_vjp if pair else check_grad)(function, derivative, inputs, **options)
    return report.raise_if_failed()


def _needed(derivative: Any, inputs: Any) -> int:
    """Return the number of arguments that a derivative needs; where it can't be read, inputs in a tuple mean two."""
    if not callable(derivative):
        return 1
    try:
        parameters = inspect.signature(derivative).parameters.values()
    except (TypeError, ValueError):
        return 2 if isinstance(inputs, tuple) else 1
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters):
        return 2 if isinstance(inputs, tuple) else 1
    return sum(p.kind in kinds and p.default is inspect.Parameter.empty for p in parameters)


def _plan(methods: str | Sequence[str], max_entries: int, projections: int, seconds: float | None) -> Plan:
    asked = frozenset([methods] if isinstance(methods, str) else methods)
    if not asked or not asked <= METHODS:
        unknown = ", ".join(sorted(asked - METHODS)) or "none"
        raise InputError(f"methods: {unknown} came, expected some of {', '.join(sorted(METHODS))}")
    if max_entries < 1 or projections < 1:
        raise InputError(f"max_entries and projections must be positive, got {max_entries} and {projections}")
    return Plan(asked, max_entries, projections, seconds)


def _pair_name(forward: Forward) -> str:
    name: str = getattr(forward, "__name__", type(forward).__name__)
    return name.removesuffix("_forward")


def _asked(
    methods: str | Sequence[str],
    rtol: float | None,
    atol: float,
    scale: float | None,
    max_entries: int,
    projections: int,
) -> dict[str, Any]:
    """Return the options that differ from their defaults."""
    given = {
        "methods": (methods, "auto"),
        "rtol": (rtol, None),
        "atol": (atol, 0.0),
        "scale": (scale, None),
        "max_entries": (max_entries, MAX_ENTRIES),
        "projections": (projections, PROJECTIONS),
    }
    return {name: value for name, (value, default) in given.items() if value != default}


def _snippet(check: str, functions: tuple[Any, Any], inputs: str, options: dict[str, Any]) -> str:
    """Return three lines that repeat the check, given the same inputs."""
    module = getattr(functions[0], "__module__", None) or "your_module"
    names = [getattr(f, "__name__", "derivative") for f in functions]
    names = [n if n.isidentifier() else f"your_{word}" for n, word in zip(names, ("f", "grad"), strict=True)]
    keywords = "".join(f", {name}={value!r}" for name, value in options.items())
    return "\n".join(
        [
            f"from vae_np.gradcheck import {check}",
            f"from {module} import {', '.join(dict.fromkeys(names))}",
            f"print({check}({names[0]}, {names[1]}, {inputs}{keywords}))",
        ]
    )
