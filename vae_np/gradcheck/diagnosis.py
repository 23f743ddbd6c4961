"""The likely cause of a wrong gradient, where the pattern of its values gives it away."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from vae_np._types import Array
from vae_np.gradcheck import contracts, patterns, tree
from vae_np.gradcheck.judge import Evidence
from vae_np.gradcheck.numeric import View, numeric_gradient
from vae_np.gradcheck.report import Check
from vae_np.gradcheck.subject import Subject, upstream

# Rows of the batch, and entries of the tensor, that are tried one by one for "only one row's contribution".
ROWS_TRIED = 16
ENTRIES_TRIED = 24


@dataclass(frozen=True)
class Setting:
    """The check that failed: the pair, the upstream gradient, the tensors with fresh noise, the other checks."""

    subject: Subject
    weights: Array
    fresh_noise: list[str]
    checks: list[Check]
    out: object

    @property
    def batch(self) -> int | None:
        """The length of the first axis that all output arrays share; None where there is no such axis."""
        lengths = {np.shape(leaf)[:1] for _, leaf in tree.leaves(self.out) if tree.is_number(leaf)}
        first = next(iter(lengths)) if len(lengths) == 1 else ()
        return int(first[0]) if first and first[0] > 1 else None


def diagnose(
    setting: Setting, failing: Sequence[tuple[Evidence, View]], every: Sequence[tuple[Evidence, View]]
) -> list[str]:
    """Return one line per cause, with the tensors it applies to in front."""
    causes: dict[str, list[str]] = {}
    explained = set(setting.fresh_noise)
    if explained:
        text = "backward draws fresh noise; keep forward's in the cache and use it again"
        causes[text] = list(setting.fresh_noise)
    for check in setting.checks:
        if check.passed:
            continue
        if check.name == contracts.LINEAR:
            names = [e.name for e, _ in every if _mentions(check.detail, e.name)]
            explained |= set(names)
            causes.setdefault(_nonlinear(check.detail), []).extend(names)
        elif check.name == contracts.UNCHANGED:
            causes["it is modified in place; work on a copy"] = _changed(setting)
    for evidence, view in failing:
        cause = None if evidence.name in setting.fresh_noise else _cause(setting, evidence, view, every)
        if cause is None and evidence.name not in explained and evidence.shaped and evidence.wrong:
            cause = patterns.similarity(*_values(evidence))
        if cause is not None:
            causes.setdefault(cause, []).append(evidence.name)
    return [f"{', '.join(names)}: {text}" for text, names in causes.items()]


def _mentions(detail: str, name: str) -> bool:
    return any(part.startswith(f"{name} ") for part in detail.split("; "))


def _changed(setting: Setting) -> list[str]:
    return sorted(setting.subject.mutates) or ["the upstream gradient"]


def _nonlinear(detail: str) -> str:
    if "does not change" in detail:
        return "backward ignores its upstream gradient; multiply by it"
    if "zero upstream" in detail:
        return "a term is added that the upstream gradient does not multiply"
    return "backward is not linear in its upstream gradient; it may enter twice, squared or through a nonlinearity"


def _values(evidence: Evidence) -> tuple[Array, Array]:
    """Return the analytic and numeric values at the entries that are known."""
    assert evidence.analytic is not None
    analytic = np.array([evidence.analytic[index] for index in evidence.numeric.indices], dtype=np.float64)
    return analytic, evidence.numeric.values


def _cause(setting: Setting, evidence: Evidence, view: View, every: Sequence[tuple[Evidence, View]]) -> str | None:
    tolerance = 1e-6 if np.asarray(evidence.x).dtype.itemsize >= 8 and view.eps < 1e-10 else 5e-3
    if evidence.analytic is None or not len(evidence.numeric.values):
        return None
    if evidence.analytic.shape != evidence.x.shape:
        return _shape_cause(evidence, every, tolerance)
    if not evidence.shaped:
        return "not finite: an overflow, a logarithm or a division by zero in backward"
    if not evidence.wrong:
        wrong_dtype = evidence.analytic.dtype != evidence.x.dtype and not evidence.projection_wrong
        return f"the values are right, the dtype is not; a cast to {evidence.analytic.dtype}" if wrong_dtype else None
    analytic, numeric = _values(evidence)
    whole = evidence.analytic
    rules: list[Callable[[], str | None]] = [
        lambda: patterns.nothing(analytic, numeric),
        lambda: patterns.nearly(analytic, numeric, tolerance),
        lambda: patterns.factor(analytic, numeric, _sizes(setting, evidence), tolerance),
        lambda: _swapped(evidence, every, tolerance),
        lambda: _transposed(evidence, tolerance),
        lambda: patterns.lost_sign(analytic, numeric, tolerance),
        lambda: patterns.somewhere(evidence, analytic, numeric),
        lambda: _rows(setting, evidence, view, tolerance),
        lambda: _missing_term(setting, evidence, analytic - numeric, tolerance),
        lambda: patterns.along_axis(_full(evidence), whole, _companions(setting, evidence), tolerance),
    ]
    return next((cause for rule in rules if (cause := rule())), None)


def _companions(setting: Setting, evidence: Evidence) -> dict[str, Array]:
    """Return the arrays of the tensor's shape that a missing term may carry as a factor."""
    found = {"": np.ones(evidence.x.shape)}
    leaves = [("the output", leaf) for _, leaf in tree.leaves(setting.out)]
    leaves += list(zip(setting.subject.names, setting.subject.leaves, strict=True))
    for name, leaf in leaves:
        if tree.is_number(leaf) and np.shape(leaf) == evidence.x.shape and np.asarray(leaf).all():
            found.setdefault(name, np.asarray(leaf, dtype=np.float64))
    return found


def _full(evidence: Evidence) -> Array | None:
    """Return the numeric gradient as an array like the tensor, or None where entries are missing."""
    numeric = evidence.numeric
    if len(numeric.indices) != evidence.x.size:
        return None
    full = np.empty(evidence.x.shape)
    for index, value in zip(numeric.indices, numeric.values, strict=True):
        full[index] = value
    return full


def _sizes(setting: Setting, evidence: Evidence) -> dict[int, str]:
    """Return the lengths that a wrong factor may be, with what they count; the batch comes first."""
    sizes: dict[int, str] = {}
    if setting.batch is not None:
        sizes[setting.batch] = "the batch size"
    for leaf in setting.subject.leaves:
        if tree.is_array(leaf) and leaf.ndim and leaf.shape[0] > 1:
            sizes.setdefault(leaf.shape[0], "the batch size" if not sizes else "the length of an axis")
            for length in leaf.shape[1:]:
                if length > 1:
                    sizes.setdefault(length, "the length of an axis")
    count = int(setting.weights.size)
    if count > 1:
        sizes.setdefault(count, "the number of outputs")
    if evidence.x.size > 1:
        sizes.setdefault(int(evidence.x.size), "the number of entries")
    return sizes


def _shape_cause(evidence: Evidence, every: Sequence[tuple[Evidence, View]], tolerance: float) -> str | None:
    analytic = evidence.analytic
    assert analytic is not None
    analytic = analytic.astype(np.float64)
    shape = evidence.x.shape

    def fits(candidate: Array) -> bool:
        if candidate.shape != shape:
            return False
        values = np.array([candidate[index] for index in evidence.numeric.indices])
        return patterns.close(values, evidence.numeric.values, tolerance)

    if analytic.ndim == 2 and fits(analytic.T):
        return "the gradient is transposed"
    axes = range(analytic.ndim)
    for count in range(1, analytic.ndim + 1):
        for chosen in combinations(axes, count):
            for keep in (False, True):
                if fits(analytic.sum(axis=chosen, keepdims=keep)):
                    return f"the sum over {_axes(chosen)} is missing"
                if fits(analytic.mean(axis=chosen, keepdims=keep)):
                    return f"the mean over {_axes(chosen)} is missing"
    if analytic.size == evidence.x.size and fits(analytic.reshape(shape)):
        return f"the values are right, the shape is not; reshape to {shape}"
    for other, _ in every:
        if other is not evidence and other.x.shape == analytic.shape and _matches(other, analytic, tolerance):
            return f"this is the gradient of {other.name}; the order of the returned gradients is wrong"
    if analytic.ndim > len(shape) and analytic.shape[analytic.ndim - len(shape) :] == shape:
        return f"the leading axis of length {analytic.shape[0]} is left over: a sum over the batch is missing"
    if analytic.size < evidence.x.size:
        return "fewer entries came than the tensor has: a sum runs over an axis that the tensor keeps"
    return None


def _axes(axes: tuple[int, ...]) -> str:
    if axes == (0,):
        return "the batch (axis 0)"
    return f"axis {axes[0]}" if len(axes) == 1 else f"axes {', '.join(map(str, axes))}"


def _matches(evidence: Evidence, array: Array, tolerance: float) -> bool:
    """Tell whether `array` is the numeric gradient of this tensor."""
    if array.shape != evidence.x.shape or not len(evidence.numeric.values) or evidence.size == 0:
        return False
    values = np.array([array[index] for index in evidence.numeric.indices], dtype=np.float64)
    return patterns.close(values, evidence.numeric.values, tolerance)


def _swapped(evidence: Evidence, every: Sequence[tuple[Evidence, View]], tolerance: float) -> str | None:
    assert evidence.analytic is not None
    for other, _ in every:
        if other is not evidence and _matches(other, evidence.analytic, tolerance):
            return f"this is the gradient of {other.name}; the order of the returned gradients is wrong"
    return None


def _transposed(evidence: Evidence, tolerance: float) -> str | None:
    analytic = evidence.analytic
    assert analytic is not None
    if analytic.ndim != 2 or min(analytic.shape) < 2:
        return None
    if analytic.shape[0] == analytic.shape[1] and _matches(evidence, analytic.T, tolerance):
        return "the gradient is transposed"
    if _matches(evidence, analytic.reshape(analytic.shape[::-1]).T, tolerance):
        return "the gradient is reshaped where it should be transposed"
    return None


def _rows(setting: Setting, evidence: Evidence, view: View, tolerance: float) -> str | None:
    """Look for a gradient that holds only one batch row's contribution, or all but the first or the last."""
    batch = setting.batch
    if batch is None or evidence.x.shape[:1] == (batch,):
        return None
    indices = evidence.numeric.indices[:ENTRIES_TRIED]
    analytic, numeric = (values[: len(indices)] for values in _values(evidence))
    tried = sorted({*range(min(batch, ROWS_TRIED)), batch - 1})
    for row in tried:
        part = _row_contribution(setting, evidence, view, row, batch)
        place = {0: " (the first)", batch - 1: " (the last)"}.get(row, "")
        if part is None or not np.abs(part).max() > 0:
            continue
        if patterns.close(analytic, part, tolerance):
            return f"only batch row {row}{place} contributes; the sum over the batch is missing"
        if patterns.close(analytic, numeric - part, tolerance):
            return f"the contribution of batch row {row}{place} is missing"
    return None


def _row_contribution(setting: Setting, evidence: Evidence, view: View, row: int, batch: int) -> Array | None:
    """Return the numeric gradient for an upstream gradient that is zero outside of one batch row."""
    dout = upstream(setting.out, setting.weights)
    masks = []
    for _, leaf in tree.leaves(dout):
        if leaf is not None:
            mask = np.zeros(np.shape(leaf))
            mask[row] = 1.0
            masks.append(mask.ravel())
    only = replace(view, weights=view.weights * np.concatenate(masks))
    indices = evidence.numeric.indices[:ENTRIES_TRIED]
    numeric = numeric_gradient(only, indices, [], evidence.numeric.sharp)
    return numeric.values if numeric.indices == indices else None


def _missing_term(setting: Setting, evidence: Evidence, difference: Array, tolerance: float) -> str | None:
    """Look for a difference that is a multiple of the input, of the upstream gradient, or of one."""
    if difference.size < 3:
        return None
    candidates: list[tuple[str, Array]] = [
        ("a constant", np.ones(evidence.x.shape)),
        (evidence.name, evidence.x),
    ]
    candidates += [
        (name, np.asarray(leaf))
        for name, leaf in zip(setting.subject.names, setting.subject.leaves, strict=True)
        if name != evidence.name and tree.is_number(leaf) and np.shape(leaf) == evidence.x.shape
    ]
    candidates += [
        ("the upstream gradient", np.asarray(leaf))
        for _, leaf in tree.leaves(upstream(setting.out, setting.weights))
        if leaf is not None and np.shape(leaf) == evidence.x.shape
    ]
    for name, array in candidates:
        term = np.array([array[index] for index in evidence.numeric.indices], dtype=np.float64)
        if not np.abs(term).max() > 0:
            continue
        multiple = float(term @ difference / (term @ term))
        if patterns.close(difference, multiple * term, 10 * tolerance) and math.isfinite(multiple):
            if name == "a constant":
                return f"a constant, {patterns.spell(multiple)}, is added to every entry"
            kind = "too much" if multiple > 0 else "missing"
            return f"a term {patterns.spell(abs(multiple))} times {name} is {kind}"
    return None
