"""The checks of a pair of functions, and of a scalar function with its gradient."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Literal, Unpack

import numpy as np

from vae_np.errors import InputError
from vae_np.gradcheck import budget, more_points, snippets, tree
from vae_np.gradcheck.call_forms import read
from vae_np.gradcheck.engine import Engine
from vae_np.gradcheck.findings import Check
from vae_np.gradcheck.gradients import chosen, scalars_come
from vae_np.gradcheck.options import Options, Settings, settings
from vae_np.gradcheck.report import Report
from vae_np.gradcheck.subject import Backward, Forward, Subject, input_names, make_subject


def check_vjp(
    forward: Forward,
    backward: Backward,
    inputs: Any,
    *,
    names: Sequence[str] | None = None,
    wrt: Sequence[str | int] | None = None,
    convention: Literal["torch", "jax"] | None = None,
    **options: Unpack[Options],
) -> Report:
    """Check `grads = backward(dout, cache)` against numeric derivatives of `out, cache = forward(*inputs)`.

    inputs: a tuple of arrays, of dictionaries or tuples of arrays, and of anything else, which is passed through.
    Every floating array is checked, or those that `wrt` names (names or positions). `grads` has one entry per input
    that is checked, or per array input, None where there is no gradient. `out` may be a tuple; then `dout` is one.
    The upstream gradient is drawn from the seed. options: see `Options`.

    Other forms are read by trial, and the report says how: a forward that returns its output alone, or several before
    the cache; a backward that takes the cache alone, inputs, or the output, in any order. Arrays of torch, JAX and CuPy
    are taken as they are. convention: for complex inputs, "torch" for ∂/∂Re + i ∂/∂Im, "jax" for ∂/∂Re - i ∂/∂Im.

    float32 inputs are checked in float32; numeric values come from a float64 copy only where forward then answers
    the same in float64, and the row says so. Whatever the pair does wrong is in the report. Raises InputError where
    the arguments of this function are wrong.
    """
    _refuse_methods(forward, backward, inputs)
    started = budget.now()
    called = (getattr(forward, "__name__", "forward"), getattr(backward, "__name__", "backward"))
    chosen_settings = settings(**options)
    inputs = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
    top = input_names(forward, inputs, names)
    reading = read(forward, backward, inputs, top, chosen_settings.seed, convention)
    subject = make_subject(reading.forward, reading.backward, reading.inputs, top, called)
    subject.eps = reading.eps
    if wrt is None and not reading.linear and reading.owned:
        wrt = reading.owned  # by custom the others are data
    leaves = chosen(subject, wrt, scalars=wrt is not None or scalars_come(subject))
    repeat = dict(options) | {"wrt": wrt, "convention": convention}
    text = snippets.for_call("check_vjp", (forward, backward), "inputs", repeat)
    report = Report(_pair_name(forward), chosen_settings.seed, snippet=text, reading=reading.text)
    report = run(
        subject,
        leaves,
        chosen_settings,
        report,
        linear=reading.linear,
        mean=reading.mean,
        caution=reading.caution,
        started=started,
    )
    if reading.instead and not report.passed:
        report.causes = [reading.instead]
    return report


def check_grad(f: Callable[[Any], Any], grad: Any, x: Any, **options: Unpack[Options]) -> Report:
    """Check `grad(x)` against numeric derivatives of the scalar function `f(x)`.

    x: a number, an array, or a dictionary, tuple or list of arrays; `grad` returns the same structure, and may also
    be given as that value itself. options: see `Options`.
    """

    def forward(point: Any) -> tuple[Any, Any]:
        value = f(point)
        if np.size(value) != 1:
            raise InputError(f"f returned shape {np.shape(value)}, expected one number; check_vjp takes arrays")
        return (value if tree.is_number(value) or np.iscomplexobj(value) else float(value)), point

    def backward(dout: Any, cache: Any) -> Any:
        return (grad(cache) if callable(grad) else grad,)

    subject = make_subject(forward, backward, (x,), ["" if isinstance(x, dict) else "x"], ("f", "grad"))
    leaves = chosen(subject, None, scalars=True)
    text = snippets.for_call("check_grad", (f, grad), "*inputs", dict(options))
    name = getattr(f, "__name__", "f").replace("<lambda>", "f")
    chosen_settings = settings(**options)
    report = Report(name, chosen_settings.seed, snippet=text)
    return run(subject, leaves, chosen_settings, report, linear=False)


def run(
    subject: Subject,
    leaves: list[int],
    chosen: Settings,
    report: Report,
    linear: bool = True,
    more: Callable[[Any], list[Check]] | None = None,
    mean: bool = False,
    given: tuple[Any, ...] | None = None,
    caution: str = "",
    started: float | None = None,
) -> Report:
    """Fill in and return the report on a subject.

    linear: False where there is no upstream gradient; more: promises that are checked besides, given the upstream one;
    mean: without an upstream gradient, the gradient is that of the mean of the outputs and not of their sum;
    given: the inputs as the user gave them, where the subject's are others; caution: a warning about how it was read;
    started: when the time began that the check may take, where that was before.
    """
    report.name = chosen.name or report.name
    kept = tree.transform(subject.inputs if given is None else given, tree.fresh)
    time = budget.Budget(chosen.seconds, started=budget.now() if started is None else started)
    engine = Engine(subject, leaves, chosen, linear, time, more=more, mean=mean)
    engine.run(report)
    if caution:
        engine.add(report, Check("reading", False, caution, promise="reading"))
    if chosen.further:
        more_points.look(engine, report)
    report.snippet = chosen.snippet or report.snippet
    if not chosen.snippet and not report.passed:
        report.snippet = snippets.with_inputs(report.snippet, kept, "inputs")
    return report


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
    if kind == "auto":
        _refuse_methods(function, derivative, inputs)
    pair = kind == "vjp" or (kind == "auto" and _needed(derivative, inputs) >= 2)
    report = (check_vjp if pair else check_grad)(function, derivative, inputs, **options)
    return report.raise_if_failed()


def _refuse_methods(function: Any, derivative: Any, inputs: Any) -> None:
    """Refuse forward and backward of one object, where backward takes no cache: the state lies in the object."""
    owner = getattr(function, "__self__", None)
    if owner is None or owner is not getattr(derivative, "__self__", None) or _needed(derivative, inputs) >= 2:
        return
    what = type(owner).__name__
    raise InputError(f"these are two methods of one {what}: call assert_layer(layer, x), with layer the {what}")


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


def _pair_name(forward: Forward) -> str:
    name: str = getattr(forward, "__name__", type(forward).__name__)
    return name.removesuffix("_forward")
