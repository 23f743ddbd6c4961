"""One found subject of a file, checked: with the inputs that the file gives, or with those that a trial finds."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vae_np.errors import InputError
from vae_np.gradcheck import Report, check_jvp, check_layer, check_value_and_grad, check_vjp, spelling
from vae_np.verify import loading
from vae_np.verify.conventions import Candidate, candidates, methods_of
from vae_np.verify.guessing import Guess, Making, TooLong, guess, makings_of, quiet
from vae_np.verify.hints import Hints

Runner = Callable[[Candidate, tuple[Any, ...], Any, dict[str, Any]], Report]
QUICK: dict[str, Any] = {"seconds": 2.0, "max_entries": 8, "projections": 1, "further": False}
ONE_TRIAL = 6.0
# Methods whose derivative, if it takes what they take, is that of an activation and not of a model's loss.
ACTIVATIONS = ("fn", "activate", "activation", "evaluate", "forward", "__call__")


@dataclass(frozen=True)
class Checked:
    """The result for a subject: its report, or the reason why it has none, with the line that would change that."""

    report: Report | None
    reason: str = ""
    line: str = ""


def check(candidate: Candidate, hints: Hints, seed: int, seconds: float, strict: bool = False) -> Checked | None:
    """Check one subject; the result is None where a guess was wrong and it is not a subject at all.

    Raises InputError where what the file gives for it cannot be used.
    """
    options: dict[str, Any] = {"seed": seed, "name": candidate.name, "seconds": seconds, "strict": strict}
    wrt = hints.wrt(candidate.name, *candidate.names)
    if wrt is not None:
        options["wrt"] = wrt
    with quiet():
        report = hints.report(seed, candidate.name, *candidate.names)
    if report is not None:
        report.name = candidate.name
        return Checked(report)
    given = hints.inputs(seed, candidate.name, *candidate.names)
    runner = _RUNNERS[candidate.kind]
    if given is not None:
        making = hints.layer(candidate.name, seed)
        if making is None and candidate.kind == "layer":
            making = _making_for(candidate, given, runner, {**options, **QUICK})
        with quiet():
            return Checked(runner(candidate, given, ((), {}) if making is None else making, options))
    making = hints.layer(candidate.name, seed)
    function, maker = _called(candidate)
    plain = replace(candidate, functions=tuple(getattr(f, "py_func", f) for f in candidate.functions))
    quick = {**options, **QUICK}

    def score(arguments: tuple[Any, ...], made: Making) -> tuple[int, int]:
        with quiet(ONE_TRIAL):
            return _score(lambda: runner(plain, arguments, made if making is None else making, quick))

    also = candidate.functions[1] if candidate.kind == "pair" else None
    hint = " ".join([candidate.name, *candidate.names])
    found = guess(function, score, maker if making is None else None, seed, hint, also)
    if found is None:
        return _unchecked(candidate, function) if candidate.sure else None
    if plain != candidate and "methods" not in options:
        options["methods"] = "central"  # Numba would compile once more for complex numbers
    with quiet():
        report = runner(candidate, found.arguments, found.making if making is None else making, options)
    if report.passed and all(row.blind for row in report.rows if row.verdict == "ok"):
        return _unchecked(
            candidate, function, "at the inputs found by trial every gradient is zero, which shows nothing"
        )
    report.reading = "; ".join(part for part in (_described(found, function), report.reading) if part)
    return Checked(report)


def _making_for(candidate: Candidate, given: tuple[Any, ...], runner: Runner, quick: dict[str, Any]) -> Making | None:
    """Return the constructor's arguments with which a class takes the given inputs, or None where none are found."""
    best: tuple[int, Making] | None = None
    for making in makings_of(candidate.functions[0]):
        with quiet(ONE_TRIAL):
            grade, _ = _score(partial(runner, candidate, given, making, quick))
        if grade < 3 and (best is None or grade < best[0]):
            best = grade, making
        if grade == 0:
            break
    return None if best is None else best[1]


def _score(run: Callable[[], Report]) -> tuple[int, int]:
    """Return 0 where the gradients fit, 1 where they have the right shapes, 2 where the subject runs, and 3 otherwise.

    The result also holds the number of tensors that are judged, since a guess that judges fewer says less.
    """
    try:
        report = run()
    except (Exception, SystemExit, TooLong):
        return 3, 0
    return _grade(report), sum(row.verdict != "skipped" and not row.blind for row in report.rows)


def _grade(report: Report) -> int:
    names = {c.name for c in report.checks if c.broken}
    if names & {"call", "output of forward"} or not report.rows:
        return 3
    if report.passed:
        return 0 if not all(row.blind for row in report.rows if row.verdict == "ok") else 1
    judged = [row for row in report.rows if row.verdict != "skipped"]
    if not judged:
        return 3
    return 2 if any(np.isnan(row.error) and row.verdict == "FAIL" for row in judged) else 1


def _called(candidate: Candidate) -> tuple[Callable[..., Any], Any]:
    """Return the function whose arguments are guessed, and the class that has to be made first."""
    first = candidate.functions[0]
    if candidate.kind == "layer":
        name, _ = methods_of(first)
        return getattr(first, name or "forward"), first
    if candidate.kind in ("torch", "context"):
        return _without_context(first.forward), None
    if candidate.kind == "jax":
        return getattr(first, "__wrapped__", first), None
    if hasattr(first, "py_func"):
        return first.py_func, None
    if candidate.kind == "model":
        from vae_np.verify.models import signature_of

        return signature_of(candidate), None
    return first, None


def _without_context(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function with forward's signature but for its context."""

    def apply(*arguments: Any) -> Any:
        raise NotImplementedError

    parameters = list(inspect.signature(forward).parameters.values())
    apply.__signature__ = inspect.Signature(parameters[1:])  # type: ignore[attr-defined]
    return apply


def _pair(candidate: Candidate, arguments: tuple[Any, ...], making: Any, options: dict[str, Any]) -> Report:
    forward, backward = candidate.functions
    return check_vjp(forward, backward, arguments, **options)


def _jvp(candidate: Candidate, arguments: tuple[Any, ...], making: Any, options: dict[str, Any]) -> Report:
    """Check f and its derivative along tangents, one per floating input: `f_jvp(x, y, dx, dy)`."""
    function, tangent = candidate.functions
    floats = [i for i, value in enumerate(arguments) if isinstance(value, (float, np.ndarray))]

    def at(point: tuple[Any, ...]) -> list[Any]:
        moved = dict(zip(floats, point, strict=True))
        return [moved.get(i, value) for i, value in enumerate(arguments)]

    x = tuple(arguments[i] for i in floats)
    return check_jvp(lambda p: function(*at(p)), lambda p, v: tangent(*at(p), *v), x, **options)


def _loss(candidate: Candidate, arguments: tuple[Any, ...], making: Any, options: dict[str, Any]) -> Report:
    return check_value_and_grad(candidate.functions[0], *arguments, **options)


def _callback(candidate: Candidate, arguments: tuple[Any, ...], making: Any, options: dict[str, Any]) -> Report:
    function = candidate.functions[0]
    return check_vjp(function, lambda dout, pull_back: pull_back(dout), arguments, **options)


def _layer(candidate: Candidate, arguments: tuple[Any, ...], making: Any, options: dict[str, Any]) -> Report:
    kind = candidate.functions[0]
    thing = making if not isinstance(making, tuple) else kind(*making[0], **making[1])
    forward, backward = methods_of(kind)
    if backward is not None and not _needed(getattr(thing, backward)):
        return check_layer(thing, arguments, **options)
    if backward is not None and _is_derivative(getattr(thing, forward or ""), getattr(thing, backward)):
        call, derivative = getattr(thing, forward or ""), getattr(thing, backward)
        names = list(inspect.signature(call).parameters)[: len(arguments)]
        report = check_vjp(lambda *a: call(*a), _as_function(derivative), arguments, names=names, **options)
        if report.passed or forward in ACTIVATIONS:
            return report
    return check_layer(thing, arguments, forward=forward, backward=backward, **options)


def _is_derivative(forward: Callable[..., Any], backward: Callable[..., Any]) -> bool:
    """Tell whether a method takes what forward takes and no upstream gradient, like an activation's derivative."""
    ours, theirs = (list(inspect.signature(f).parameters.values()) for f in (forward, backward))
    needed = [p.name for p in theirs if p.default is inspect.Parameter.empty]
    if len(needed) == len(ours) == 1 and backward.__name__.startswith(("grad", "deriv", "df", "prime")):
        return not (spelling.is_upstream(needed[0]) or spelling.looks_like_gradient(needed[0]))
    return bool(needed) and set(needed) <= {p.name for p in ours}


def _needed(method: Callable[..., Any]) -> list[str]:
    return [p.name for p in inspect.signature(method).parameters.values() if p.default is inspect.Parameter.empty]


def _as_function(method: Callable[..., Any]) -> Callable[..., Any]:
    def derivative(*arguments: Any) -> Any:
        return method(*arguments)

    derivative.__signature__ = inspect.signature(method)  # type: ignore[attr-defined]
    return derivative


def _model(candidate: Candidate, arguments: tuple[Any, ...], making: Any, options: dict[str, Any]) -> Report:
    from vae_np.verify.models import check_model

    return check_model(candidate, arguments, options)


class Context:
    """What a static forward saves in, by whatever name."""

    def save_for_backward(self, *values: Any) -> None:
        self.saved_tensors = self.saved_values = self.saved = values

    save = store = save_for_backward


def _context(candidate: Candidate, arguments: tuple[Any, ...], making: Any, options: dict[str, Any]) -> Report:
    kind = candidate.functions[0]

    def forward(*inputs: Any) -> tuple[Any, Any]:
        context = Context()
        return kind.forward(context, *inputs), context

    names = list(inspect.signature(_without_context(kind.forward)).parameters)[: len(arguments)]
    return check_vjp(forward, lambda dout, cache: kind.backward(cache, dout), arguments, names=names, **options)


def _torch(candidate: Candidate, arguments: tuple[Any, ...], making: Any, options: dict[str, Any]) -> Report:
    from vae_np.gradcheck.foreign_arrays import torch_function

    function = candidate.functions[0]
    forward, backward = torch_function(function)
    names = list(inspect.signature(_without_context(function.forward)).parameters)[: len(arguments)]
    return check_vjp(forward, backward, arguments, names=names, **options)


def _jax(candidate: Candidate, arguments: tuple[Any, ...], making: Any, options: dict[str, Any]) -> Report:
    from vae_np.gradcheck.foreign_arrays import jax_function

    forward, backward = jax_function(candidate.functions[0])
    return check_vjp(forward, backward, arguments, **options)


_RUNNERS: dict[str, Runner] = {
    "pair": _pair,
    "jvp": _jvp,
    "loss": _loss,
    "callback": _callback,
    "layer": _layer,
    "model": _model,
    "context": _context,
    "torch": _torch,
    "jax": _jax,
}


def _described(found: Guess, function: Callable[..., Any]) -> str:
    """Return what was guessed, as one line."""
    try:
        names = [p for p in inspect.signature(function).parameters if p != "self"]
    except (TypeError, ValueError):
        names = []
    shown = [f"{name} {_short(value)}" for name, value in zip(names, found.arguments, strict=False)] or [
        _short(value) for value in found.arguments
    ]
    made = ", ".join(f"{name}={_short(value)}" for name, value in found.making[1].items())
    return f"inputs by trial: {', '.join(shown)}" + (f"; made with {made}" if made else "")


def _short(value: Any) -> str:
    if isinstance(value, np.ndarray):
        whole = " of whole numbers" if value.dtype.kind in "iu" else ""
        return f"{value.shape}{whole}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_short(item)}" for key, item in list(value.items())[:6]) + "}"
    text = repr(value)
    return text if len(text) <= 30 else type(value).__name__


def _unchecked(
    candidate: Candidate, function: Callable[..., Any], why: str = "no inputs that it takes were found by trial"
) -> Checked:
    name = candidate.names[0]
    try:
        parameters = [p.name for p in inspect.signature(function).parameters.values() if p.name != "self"]
    except (TypeError, ValueError):
        parameters = ["…"]
    what = ", ".join(parameters)
    line = f"# vae-np: inputs = ({what}{',' if len(parameters) == 1 else ''})"
    if candidate.kind == "layer":
        line = f"# vae-np: layer = {name}(…)"
    return Checked(None, why, f"above {name}: {line}")


@dataclass(frozen=True)
class Named:
    """One subject of a file that was executed here."""

    candidate: Candidate
    hints: Hints
    seed: int

    def check(self, seconds: float = 10.0, strict: bool = False) -> Report:
        """Return its report; raises InputError where no inputs are known for it."""
        checked = check(self.candidate, self.hints, self.seed, seconds, strict)
        if checked is None or checked.report is None:
            raise InputError(f"{self.candidate.name}: {checked.reason if checked else 'it is no subject'}")
        return checked.report


def load(path: str, name: str, seed: int) -> Named:
    """Execute a file and return its subject of this name; raises InputError where it has none."""
    try:
        loaded = loading.load(Path(path).resolve())
    except loading.LoadError as error:
        raise InputError(f"{path}: {error}") from None
    found, _ = candidates(loaded.module)
    for candidate in found:
        if candidate.name == name:
            return Named(candidate, Hints(loaded.source, loaded.module), seed)
    raise InputError(f"name: got {name!r}, expected one of {path}: {', '.join(c.name for c in found) or 'none'}")


def check_named(candidate: Candidate, hints: Hints, seed: int, seconds: float, strict: bool) -> Checked | None:
    """Check a subject, and turn what the file gives wrongly into a reason."""
    try:
        return check(candidate, hints, seed, seconds, strict)
    except InputError as error:
        return Checked(None, str(error))
