"""An answer judged: against exact answers, by the verifier where it is a derivative, and what is wrong with it.

A wrong result that equals a known mistake's gets that mistake's cause; else the verifier's, else whatever rule of
`diagnosis` fits.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from vae_np._types import Array
from vae_np.exercises import diagnosis
from vae_np.exercises.exercise import AnswerError, Case, Exercise, Mistake
from vae_np.gradcheck import Report

Status = Literal["passed", "wrong", "blank", "unusable"]
Source = Literal["mistake", "verifier", "pattern", "edge"]


@dataclass(frozen=True)
class Row:
    """One result, against an exact answer or a numeric derivative: where it is worst, and both values there."""

    result: str
    against: str
    error: float
    index: tuple[int, ...] | None
    got: float
    expected: float
    passed: bool


@dataclass(frozen=True)
class Cause:
    """Why results are wrong; by: a known mistake, the verifier, or the difference's own pattern."""

    results: tuple[str, ...]
    text: str
    by: Source

    def __str__(self) -> str:
        return f"{', '.join(self.results)}: {self.text}" if self.results else self.text


@dataclass
class Grade:
    """The verdict on one answer; message: the one line that says it, empty where it passed."""

    status: Status
    message: str = ""
    rows: list[Row] = field(default_factory=list)
    causes: list[Cause] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The grade as plain values; numbers that are not finite become None."""
        rows = [{name: _finite(value) for name, value in asdict(row).items()} for row in self.rows]
        return asdict(self) | {"rows": rows}


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def grade(exercise: Exercise, function: Callable[..., Any], *, where: Callable[[BaseException], str] = str) -> Grade:
    """Judge an answer; `where` puts what it raised into words, with its place in the student's file."""
    problem = _signature_problem(exercise, function) or (exercise.refuse and exercise.refuse(function))
    if problem:
        return Grade("unusable", problem)
    cases = exercise.cases()
    try:
        with _calmly():
            found = [results(exercise, function, case.arguments) for case in cases]
    except NotImplementedError as error:
        return Grade("blank", str(error) or f"{exercise.function} is still blank")
    except AnswerError as error:
        return Grade("wrong", str(error), causes=[Cause((), str(error), "pattern")])
    except Exception as error:
        return Grade("wrong", f"{exercise.function} raised {where(error)}")
    exact = [as_results(exercise, exercise.exact(*copies(case.arguments))) for case in cases]
    shapes = _shape_causes(exercise, found, exact, cases)
    if shapes:
        return Grade("wrong", str(shapes[0]), causes=shapes)
    rows = [_row(name, i, found, exact, exercise.tolerance) for i, name in enumerate(exercise.returns)]
    wrong = [row.result for row in rows if not row.passed]
    report = None
    if exercise.verify is not None:
        try:
            with _calmly():
                report = exercise.verify(function)
        except Exception as error:
            return Grade("wrong", f"{exercise.function} raised {where(error)}", rows)
        rows += _verifier_rows(report)
    # Where the verifier can't decide, as of an answer that takes long, the exact answers do.
    if wrong or (report is not None and not report.passed and not report.unclear):
        causes = _causes(exercise, found, exact, cases, wrong, report)
        return Grade("wrong", _first(causes, rows), rows, causes)
    edges, remarks = _edges(exercise, function)
    if edges:
        return Grade("wrong", str(edges[0]), rows, edges)
    return Grade("passed", "", rows, remarks=remarks)


def results(exercise: Exercise, function: Callable[..., Any], arguments: tuple[Any, ...]) -> list[Array]:
    """An answer's results at these arguments, as arrays; raises AnswerError where it has none, or changes an input."""
    given = copies(arguments)
    if exercise.writes:
        exact = as_results(exercise, exercise.exact(*copies(arguments)))
        value: Any = tuple(np.full_like(right, np.nan) for right in exact)
        function(*given, *value)
        if all(np.isnan(part).all() for part in value):
            raise AnswerError(f"{exercise.function} wrote nothing into {', '.join(exercise.returns)}")
    else:
        value = function(*given)
    for argument, before, after in zip(exercise.arguments, arguments, given, strict=True):
        if isinstance(before, np.ndarray) and not np.array_equal(before, after, equal_nan=True):
            raise AnswerError(f"{argument.name}: it is changed in place, expected to be left as it is")
    return as_results(exercise, value)


def as_results(exercise: Exercise, value: Any) -> list[Array]:
    """What a function returned as one array a result; raises AnswerError with one line where it is something else."""
    names = tuple(exercise.returns)
    expected = ", ".join(names)
    if value is None or value is Ellipsis:
        raise AnswerError(f"{exercise.function} returned nothing, expected {expected}")
    parts = [value] if len(names) == 1 and not (isinstance(value, tuple) and len(value) == 1) else value
    if not isinstance(parts, (tuple, list)) or len(parts) != len(names):
        count = len(parts) if isinstance(parts, (tuple, list)) else 1
        raise AnswerError(f"{exercise.function} returned {count} results, expected {len(names)}: {expected}")
    arrays = []
    for name, part in zip(names, parts, strict=True):
        try:
            array = np.asarray(part)
        except ValueError:
            raise AnswerError(f"{name}: got rows of different lengths, expected an array") from None
        if array.dtype.kind not in "buif":
            what = "complex numbers" if array.dtype.kind == "c" else f"{type(part).__name__}"
            raise AnswerError(f"{name}: got {what}, expected an array of numbers")
        arrays.append(array.astype(np.float64))
    return arrays


def copies(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments, arrays copied: an answer may write into what it is given."""
    return tuple(a.copy() if isinstance(a, np.ndarray) else a for a in arguments)


@contextlib.contextmanager
def _calmly() -> Iterator[None]:
    """Warnings of the answer's arithmetic say nothing that its values don't."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _signature_problem(exercise: Exercise, function: Callable[..., Any]) -> str | None:
    names = [argument.name for argument in exercise.arguments] + list(exercise.returns if exercise.writes else ())
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return None
    try:
        signature.bind(*names)
    except TypeError:
        return f"{exercise.function}: takes {signature}, expected ({', '.join(names)})"
    return None


def _shape_causes(
    exercise: Exercise, found: list[list[Array]], exact: list[list[Array]], cases: list[Case]
) -> list[Cause]:
    causes = []
    letters = diagnosis.letters_of(exercise)
    for i, name in enumerate(exercise.returns):
        for got, right, case in zip(found, exact, cases, strict=True):
            if got[i].shape != right[i].shape:
                why = diagnosis.explain_shape(got[i], right[i], letters, case)
                text = f"got shape {got[i].shape}, expected {right[i].shape}"
                causes.append(Cause((name,), f"{text}: {why}" if why else text, "pattern"))
                break
    return causes


def _row(name: str, i: int, found: list[list[Array]], exact: list[list[Array]], tolerance: float) -> Row:
    """The worst entry of one result over all cases; a NaN is worse than all others, unless it is due."""
    worst = Row(name, "exact answer", 0.0, None, np.nan, np.nan, True)
    for got, right in zip(found, exact, strict=True):
        a, b = got[i], right[i]
        due = np.isfinite(b)
        scale = float(np.abs(b[due]).max(initial=0.0)) or 1.0
        same = np.where(np.isnan(b), np.isnan(a), a == b)
        with np.errstate(invalid="ignore"):
            gap = np.where(same, 0.0, np.abs(a - b) / scale)
        gap = np.where(np.isnan(gap), np.inf, gap)
        error = float(gap.max(initial=0.0))
        if error > worst.error or worst.index is None:
            index = tuple(int(k) for k in np.unravel_index(int(np.argmax(gap)), gap.shape))
            worst = Row(name, "exact answer", error, index, float(a[index]), float(b[index]), error <= tolerance)
    return worst


def _verifier_rows(report: Report) -> list[Row]:
    return [
        Row(f"∂/∂{row.tensor}", row.method, row.error, row.index, row.analytic, row.numeric, row.verdict == "ok")
        for row in report.rows
        if row.verdict in ("ok", "FAIL")
    ]


def _causes(
    exercise: Exercise,
    found: list[list[Array]],
    exact: list[list[Array]],
    cases: list[Case],
    wrong: Sequence[str],
    report: Report | None,
) -> list[Cause]:
    """One cause for each wrong result where one is found; results with the same cause together."""
    known = functools.cache(lambda mistake: _mistaken(exercise, mistake, cases))
    letters = diagnosis.letters_of(exercise)
    texts: dict[tuple[str, Source], list[str]] = {}
    for i, name in enumerate(exercise.returns):
        if name not in wrong:
            continue
        finite = all(np.isfinite(got[i]).all() for got in found)
        cause = _known(exercise, known, i, found, exact) or (_verifiers(name, report, sure=True) if finite else None)
        if cause is None:
            pattern = diagnosis.explain(_difference(exercise, i, found, exact, cases), letters)
            cause = _verifiers(name, report, sure=False) if pattern is None else (pattern, "pattern")
        if cause is not None:
            texts.setdefault(cause, []).append(name)
    if not wrong and report is not None:
        texts = {(text, "verifier"): [] for text in (*report.causes, *(c.detail for c in report.checks if c.broken))}
    return [Cause(tuple(names), text, by) for (text, by), names in texts.items()]


def _mistaken(exercise: Exercise, mistake: Mistake, cases: list[Case]) -> list[list[Array]] | None:
    """A known mistake's results; None where it has none."""
    try:
        with _calmly():
            function = exercise.loaded(mistake.applied_to(exercise.solution_text))
            return [results(exercise, function, case.arguments) for case in cases]
    except Exception:
        return None


def _known(
    exercise: Exercise,
    known: Callable[[Mistake], list[list[Array]] | None],
    i: int,
    found: list[list[Array]],
    exact: list[list[Array]],
) -> tuple[str, Source] | None:
    for mistake in exercise.mistakes:
        theirs = known(mistake)
        if theirs is None:
            continue
        same = all(_equal(got[i], other[i]) for got, other in zip(found, theirs, strict=True))
        other_than_right = any(not _equal(other[i], right[i]) for other, right in zip(theirs, exact, strict=True))
        if same and other_than_right:
            return mistake.cause, "mistake"
    return None


def _equal(a: Array, b: Array) -> bool:
    scale = float(np.abs(b[np.isfinite(b)]).max(initial=0.0)) or 1.0
    return a.shape == b.shape and np.allclose(a, b, rtol=1e-9, atol=1e-10 * scale, equal_nan=True)


def _verifiers(name: str, report: Report | None, *, sure: bool) -> tuple[str, Source] | None:
    """The verifier's cause for a result (the gradient of x is called dx); sure: none that only tells where it is."""
    vague = ("no simple pattern", "mostly right", "only at some entries: first [")
    for line in report.causes if report is not None else ():
        names, _, text = line.partition(": ")
        if name.removeprefix("d") in names.split(", ") and not (sure and any(one in text for one in vague)):
            return text, "verifier"
    return None


def _difference(
    exercise: Exercise, i: int, found: list[list[Array]], exact: list[list[Array]], cases: list[Case]
) -> diagnosis.Difference:
    names = tuple(exercise.returns)
    named = [
        {
            argument.name: np.asarray(value, dtype=np.float64)
            for argument, value in zip(exercise.arguments, case.arguments, strict=True)
            if isinstance(value, (np.ndarray, float, int))
        }
        for case in cases
    ]
    return diagnosis.Difference(
        names[i],
        [got[i] for got in found],
        [right[i] for right in exact],
        cases,
        named,
        {name: [right[k] for right in exact] for k, name in enumerate(names)},
    )


def _first(causes: list[Cause], rows: list[Row]) -> str:
    if causes:
        return str(causes[0])
    wrong = ", ".join(dict.fromkeys(row.result for row in rows if not row.passed))
    return f"{wrong}: wrong, in no pattern that is known"


def _edges(exercise: Exercise, function: Callable[..., Any]) -> tuple[list[Cause], list[str]]:
    """What goes wrong at extreme arguments: causes, and remarks where only digits are lost."""
    causes, remarks = [], []
    for edge in exercise.edges:
        exact = as_results(exercise, exercise.exact(*copies(edge.arguments)))
        try:
            with _calmly():
                found = results(exercise, function, edge.arguments)
        except Exception as error:
            causes.append(Cause((), f"{edge.cause} (it raised {type(error).__name__})", "edge"))
            continue
        for i, name in enumerate(exercise.returns):
            right = found[i].shape == exact[i].shape
            row = _row(name, i, [found], [exact], exercise.tolerance) if right else None
            if row is None or not row.passed:
                got = "" if row is None else f" (got {row.got:.6g}, expected {row.expected:.6g})"
                if edge.minor:
                    remarks.append(f"{name}: {edge.cause}{got}")
                else:
                    causes.append(Cause((name,), f"{edge.cause}{got}", "edge"))
    return causes, remarks
