"""Further points, where the given one cannot show a mistake.

At h = 0 nothing that multiplies h has a gradient. A batch of one hides a missing sum, indices that do not repeat hide a
scatter that overwrites, and without ties a maximum has one owner. In these cases the pair is checked once more, at a
point made from the given one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.errors import InputError
from vae_np.gradcheck import spelling, tree, tried_causes
from vae_np.gradcheck.complex_step import suspects
from vae_np.gradcheck.engine import Engine
from vae_np.gradcheck.findings import Check, Row
from vae_np.gradcheck.report import Report
from vae_np.gradcheck.subject import CallError, Subject

# Further points are there to show coarse mistakes: few entries and directions of each tensor suffice.
ENTRIES, PROJECTIONS = 128, 2
MAXIMA = frozenset({"max", "maximum", "min", "minimum", "fmax", "fmin", "sort", "argsort", "median"})
SCALES = (10.0, 0.1)
SMALL = 0.1


@dataclass(frozen=True)
class Point:
    """Other inputs, and what differs in them; what fails where `ties` is True is a warning, since ties are rare."""

    what: str
    leaves: list[Any]
    ties: bool = False


def look(engine: Engine, report: Report) -> None:
    """Try other points where a check compared gradients; where it failed, try it without its tiny constants.

    Sources of random numbers are left in the state they were in before.
    """
    if not engine.compared or engine.budget.dear:
        return
    try:
        with np.errstate(all="ignore"):
            if any(row.verdict == "FAIL" for row in report.rows):
                _look_without_epsilons(engine, report)
            else:
                _look_at_points(engine, report)
    finally:
        engine.subject.randomness.rewind()


def _look_at_points(engine: Engine, report: Report) -> None:
    """Check at further points where the report's rows cannot show a mistake, and report what fails there."""
    blind = [row.tensor for row in report.rows if row.blind]
    seen: set[str] = set()
    for point in points(engine, blind):
        if engine.budget.left < (engine.budget.seconds or 0.0) / 4:
            break
        if point.what in seen:
            continue
        other = _check_at(engine, point)
        if other is None:
            continue
        if point.ties:
            _add_tie(engine, report, other)
        elif not _take(report, other, point):
            shown = [row.tensor for row in other.rows if row.verdict == "ok" and not row.blind]
            blind = _seen_elsewhere(report, blind, shown, point)
    for name in blind:
        _note(report, name, f"this point cannot show a mistake in {name}: the output does not depend on it here")


def points(engine: Engine, blind: list[str]) -> Iterator[Point]:
    """Yield the points worth a try, the likeliest to show something first."""
    subject = engine.subject
    rng = np.random.default_rng(engine.settings.seed)
    if blind:
        constant = [i for i, leaf in enumerate(subject.leaves) if _constant(leaf)]
        if constant:
            names = ", ".join(subject.names[i] for i in constant)
            yield Point(f"{names} drawn at random", [_drawn(v, rng) if i in constant else v for i, v in _of(subject)])
        for scale in SCALES:
            yield Point(f"inputs times {scale:g}", [scale * v if _is_floats(v) else v for _, v in _of(subject)])
    for rows in _single_rows(subject):
        names = ", ".join(subject.names[i] for i in rows)
        yield Point(f"a batch of 2 ({names})", [_twice(v, rng) if i in rows else v for i, v in _of(subject)])
    whole = [i for i, v in _of(subject) if _unrepeated(v)]
    if whole:
        names = ", ".join(subject.names[i] for i in whole)
        yield Point(f"repeated indices in {names}", [_repeated(v) if i in whole else v for i, v in _of(subject)])
    if _takes_maxima(engine):
        # Where a margin decides, smaller inputs are on its other side; probabilities and labels have to stay.
        free = [i for i in engine.leaves if not spelling.is_data(subject.names[i])]
        moved = [i for i in free if _has_both_signs(subject.leaves[i])]
        if moved:
            yield Point(f"inputs times {SMALL:g}", [SMALL * v if i in moved else v for i, v in _of(subject)])
        yield Point("ties", [_tied(v) if i in engine.leaves else v for i, v in _of(subject)], ties=True)


def _of(subject: Subject) -> list[tuple[int, Any]]:
    return list(enumerate(subject.leaves))


def _check_at(engine: Engine, point: Point) -> Report | None:
    """Return the report at another point, or None where the pair does not accept it."""
    subject = replace(
        engine.subject,
        inputs=tree.rebuild(engine.subject.inputs, iter(point.leaves)),
        leaves=[tree.fresh(leaf) for leaf in point.leaves],
        mutates=set(engine.subject.mutates),
    )
    settings = replace(engine.settings, max_entries=ENTRIES, projections=PROJECTIONS)
    try:
        before = engine.subject.outputs()
        after = subject.outputs()
        moved = after.shape != before.shape or not np.array_equal(after, before)
        if moved and after.size and np.isfinite(after).all():
            run = Engine(subject, engine.leaves, settings, engine.linear, replace(engine.budget), mean=engine.mean)
            report = run.run(Report(name="", seed=settings.seed))
            # A gradient of another shape only says that this is not a batch, but a bias of one row or a broadcast.
            unfit = any(row.verdict == "FAIL" and math.isnan(row.error) for row in report.rows)
            return None if unfit or any(check.name == "call" for check in report.checks) else report
    except (CallError, InputError):
        pass
    return None


def _take(report: Report, other: Report, point: Point) -> bool:
    """Take over the rows that fail at a further point, and tell whether there are any."""
    failed = {row.tensor: row for row in other.rows if row.verdict == "FAIL"}
    for position, row in enumerate(report.rows):
        if row.tensor in failed and row.verdict == "ok":
            worse = failed[row.tensor]
            notes = (f"right here, wrong at another point: {point.what}", *worse.notes)
            report.rows[position] = replace(worse, notes=notes, shape=worse.shape)
    if failed:
        report.causes += [f"{cause} (seen with {point.what})" for cause in other.causes]
    return bool(failed)


def _add_tie(engine: Engine, report: Report, other: Report) -> None:
    """Warn where the only thing that fails at ties is what entries claim together."""
    for row in other.rows:
        together = [note for note in row.notes if "moved together" in note]
        if row.verdict == "FAIL" and together and not any(kept.kinks for kept in report.rows):
            engine.add(report, Check("ties", False, f"where entries of {row.tensor} tie, {together[0]}", "ties"))


def _seen_elsewhere(report: Report, blind: list[str], shown: list[str], point: Point) -> list[str]:
    for name in blind:
        if name in shown:
            _note(report, name, f"this point cannot show a mistake in {name}; right at another one: {point.what}")
    return [name for name in blind if name not in shown]


def _note(report: Report, name: str, text: str) -> None:
    for position, row in enumerate(report.rows):
        if row.tensor == name:
            blind = row.blind and "right at another" not in text
            report.rows[position] = _noted(row, text, blind)


def _noted(row: Row, text: str, blind: bool) -> Row:
    return replace(row, notes=(*row.notes, text), blind=blind)


def _is_floats(leaf: Any) -> bool:
    return tree.is_array(leaf) and tree.is_number(leaf)


def _has_both_signs(leaf: Any) -> bool:
    return _is_floats(leaf) and bool((leaf < 0).any() and (leaf > 0).any())


def _constant(leaf: Any) -> bool:
    return _is_floats(leaf) and leaf.size > 0 and bool((leaf == leaf.flat[0]).all())


def _drawn(leaf: Array, rng: np.random.Generator) -> Array:
    size = max(abs(float(leaf.flat[0])), 1.0)
    return (0.5 * size * rng.standard_normal(leaf.shape)).astype(leaf.dtype)


def _single_rows(subject: Subject) -> list[list[int]]:
    """Return sets of inputs that may be a batch of one: all arrays with a first axis of length one, or the first."""
    found = [i for i, leaf in _of(subject) if tree.is_array(leaf) and leaf.ndim >= 1 and leaf.shape[0] == 1]
    found = [i for i in found if subject.leaves[i].ndim >= 2 or not _is_floats(subject.leaves[i])]
    return [found, found[:1]] if len(found) > 1 else [found] if found else []


def _twice(leaf: Array, rng: np.random.Generator) -> Array:
    second = leaf
    if _is_floats(leaf):
        size = float(np.sqrt(np.mean(np.square(leaf)))) if leaf.size else 1.0
        second = (leaf + 0.5 * size * rng.standard_normal(leaf.shape)).astype(leaf.dtype)
    return np.concatenate([leaf, second])


def _unrepeated(leaf: Any) -> bool:
    if not tree.is_array(leaf) or not np.issubdtype(leaf.dtype, np.integer) or leaf.size < 2:
        return False
    return len(np.unique(leaf)) == leaf.size


def _repeated(leaf: Array) -> Array:
    """Return the indices with the second one the same as the first."""
    again = leaf.copy()
    again.flat[1] = again.flat[0]
    return again


def _takes_maxima(engine: Engine) -> bool:
    for leaf in engine.leaves:
        value = engine.subject.leaves[leaf]
        if _is_floats(value) and value.size > 1:
            others = engine.subject.leaves

            def evaluate(array: Array, leaf: int = leaf, others: list[Any] = others) -> Array:
                return engine.subject.outputs([*others[:leaf], array, *others[leaf + 1 :]])

            if MAXIMA & set(suspects(evaluate, value)):
                return True
    return False


def _tied(leaf: Any) -> Any:
    """Return the values rounded to halves of their size, so that many are equal."""
    if not _is_floats(leaf) or leaf.size < 2:
        return leaf
    size = float(np.sqrt(np.mean(np.square(leaf)))) or 1.0
    return (np.round(leaf / size) * size).astype(leaf.dtype)


# A gradient this close to the right one differs by an epsilon only, if an epsilon explains the difference.
NEARLY_RIGHT = 1e-4


def _look_without_epsilons(engine: Engine, report: Report) -> None:
    """Where gradients are nearly right, try whether forward without its tiny constants has exactly these gradients."""
    failed = [row for row in report.rows if row.verdict == "FAIL"]
    known = any(": right " in cause for cause in report.causes)
    if known or not all(row.error <= 0.5 for row in failed):
        return
    with tried_causes.without_epsilons(*engine.subject.origin) as epsilons:
        if not epsilons:
            return
        run = Engine(
            engine.subject, engine.leaves, engine.settings, engine.linear, replace(engine.budget), mean=engine.mean
        )
        try:
            other = run.run(Report(name="", seed=engine.settings.seed))
        except Exception:  # log(0), and whatever else the constants kept away
            return
    names = ", ".join(row.tensor for row in failed)
    shown = ", ".join(f"{epsilon:g}" for epsilon in epsilons)
    right = {row.tensor for row in other.rows if row.verdict == "ok"}
    if not {row.tensor for row in failed} <= right:
        return
    report.causes = [
        f"{names}: exactly right where {shown} is 0: an added epsilon that one of the two directions lacks"
    ]
    if all(row.error <= NEARLY_RIGHT for row in failed):
        worst = max(row.error for row in failed)
        text = f"{names}: forward and backward differ by an added epsilon ({shown}), gradients by {worst:.0e}"
        engine.add(report, Check("epsilon", False, text, promise="epsilon"))
        if report.checks[-1].broken:
            return
        report.causes = []
        for position, row in enumerate(report.rows):
            if row in failed:
                report.rows[position] = replace(row, verdict="ok")
