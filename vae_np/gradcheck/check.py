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
from vae_np.gradcheck.foreign_arrays import Bridge, numpy_tree
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

    `inputs` is a tuple of arrays, of dictionaries or tuples of arrays, and of anything else, which is passed through.
    The check covers every floating array, or those that `wrt` lists by name or position. `grads` has one entry per
    checked input, or one per array input, which is None where there is no gradient. `out` may be a tuple; `dout` is
    then a tuple as well. The upstream gradient is drawn from the seed. `Options` describes the options.

    Other forms are read by trial, and the report says how: a forward may return its output alone, or several outputs
    before the cache; a backward may take the cache alone, inputs, or the output, in any order. Arrays of torch, JAX and
    CuPy are accepted. For complex inputs, `convention` is "torch" where the gradient is ∂/∂Re + i ∂/∂Im, and "jax"
    where it is ∂/∂Re - i ∂/∂Im.

    float32 inputs are checked in float32. Numeric values come from a float64 copy only where forward gives the same
    answer in float64, and the row says so. Everything that the pair does wrong is in the report. The function raises
    InputError where its own arguments are wrong.
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

    `x` is a number, an array, or a dictionary, tuple or list of arrays. `grad` returns the same structure, or is that
    structure itself. `Options` describes the options.
    """

    bridge = Bridge((x,))

    def forward(point: Any) -> tuple[Any, Any]:
        value = numpy_tree(f(*bridge.over((point,))))
        if np.size(value) != 1:
            raise InputError(f"f: got shape {np.shape(value)}, expected one number (check_vjp takes arrays)")
        return (value if tree.is_number(value) or np.iscomplexobj(value) else float(value)), point

    def backward(dout: Any, cache: Any) -> Any:
        return (numpy_tree(grad(*bridge.over((cache,))) if callable(grad) else grad),)

    subject = make_subject(forward, backward, bridge.numpy((x,)), ["" if isinstance(x, dict) else "x"], ("f", "grad"))
    subject.eps, subject.origin = bridge.eps, (f, grad)
    leaves = chosen(subject, None, scalars=True)
    text = snippets.for_call("check_grad", (f, grad), "*inputs", dict(options))
    name = getattr(f, "__name__", "f").replace("<lambda>", "f")
    chosen_settings = settings(**options)
    report = Report(name, chosen_settings.seed, snippet=text, reading=bridge.text)
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

    `linear` is False where there is no upstream gradient; the gradient is then that of the sum of the outputs, or of
    their mean where `mean` is True. `more` returns further promises to check, given the upstream gradient. `given`
    holds the inputs as the user gave them, where the subject's inputs differ. `caution` is a warning about how the
    subject was read. `started` is the time from which the budget counts, where it began before this call.
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

    `kind` is "vjp" for `check_vjp` or "grad" for `check_grad`. With "auto", a derivative that needs two arguments (dout
    and cache) counts as a backward. The options are those of the two functions.
    """
    if kind not in ("auto", "grad", "vjp"):
        raise InputError(f"kind: got {kind!r}, expected 'auto', 'grad' or 'vjp'")
    if kind == "auto":
        _refuse_methods(function, derivative, inputs)
    pair = kind == "vjp" or (kind == "auto" and _needed(derivative, inputs) >= 2)
    report = (check_vjp if pair else check_grad)(function, derivative, inputs, **options)
    return report.raise_if_failed()


def _refuse_methods(function: Any, derivative: Any, inputs: Any) -> None:
    """Refuse two methods of one object whose backward takes no cache, because the object holds the state."""
    owner = getattr(function, "__self__", None)
    if owner is None or owner is not getattr(derivative, "__self__", None) or _needed(derivative, inputs) >= 2:
        return
    what = type(owner).__name__
    raise InputError(
        f"forward: got two methods of one {what}, expected two functions; call assert_layer(layer, x) on the {what}"
    )


def _needed(derivative: Any, inputs: Any) -> int:
    """Return the number of arguments that a derivative needs; where it is unknown, a tuple of inputs means two."""
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
