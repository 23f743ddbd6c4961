"""The likely cause of a wrong gradient, where the pattern of its values gives it away."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from vae_np._types import Array
from vae_np.gradcheck import contracts, patterns, tree, tried_causes
from vae_np.gradcheck.budget import Budget
from vae_np.gradcheck.findings import Check
from vae_np.gradcheck.jacobian import CALLS, part_of_outputs
from vae_np.gradcheck.judge import Evidence
from vae_np.gradcheck.one_tensor import View
from vae_np.gradcheck.subject import Subject, upstream


@dataclass(frozen=True)
class Setting:
    """The check that failed: its pair, its upstream gradient, the tensors with fresh noise, and the other checks."""

    subject: Subject
    weights: Array
    fresh_noise: list[str]
    checks: list[Check]
    out: object
    budget: Budget

    @property
    def batch(self) -> int | None:
        """The length of the first axis that all output arrays share, or None where there is no such axis."""
        lengths = {np.shape(leaf)[:1] for _, leaf in tree.leaves(self.out) if tree.is_number(leaf)}
        first = next(iter(lengths)) if len(lengths) == 1 else ()
        return int(first[0]) if first and first[0] > 1 else None

    @property
    def labels(self) -> dict[str, Array]:
        """The inputs that are arrays of whole numbers."""
        named = zip(self.subject.names, self.subject.leaves, strict=True)
        return {name: leaf for name, leaf in named if tree.is_array(leaf) and leaf.dtype.kind in "iu" and leaf.size}


def diagnose(
    setting: Setting, failing: Sequence[tuple[Evidence, View]], every: Sequence[tuple[Evidence, View]]
) -> list[str]:
    """Return one line per cause, beginning with the tensors it applies to, or one line alone where it explains all."""
    shaped = [evidence for evidence, _ in failing if evidence.shaped and evidence.wrong]
    if shaped and len(shaped) == len(failing) and setting.budget.allows(40, 40) and not setting.fresh_noise:
        text = tried_causes.explanation(setting.subject, setting.weights, shaped, _tolerance(*failing[0]))
        if text is not None:
            return [f"{', '.join(evidence.name for evidence in shaped)}: {text}"]
    causes: dict[str, list[str]] = {}
    explained = set(setting.fresh_noise)
    if explained:
        text = "backward draws fresh noise; keep forward's in the cache and use it again"
        causes[text] = list(setting.fresh_noise)
    for check in setting.checks:
        if not check.passed and check.name == contracts.LINEAR:
            names = [e.name for e, _ in every if _mentions(check.detail, e.name)]
            explained |= set(names)
            causes.setdefault(_nonlinear(check.detail), []).extend(names)
    weak: dict[str, list[str]] = {}
    for evidence, view in failing:
        if evidence.name in setting.fresh_noise:
            continue
        cause = _cause(setting, evidence, view, every)
        if cause is not None:
            causes.setdefault(cause, []).append(evidence.name)
        elif evidence.name not in explained and evidence.shaped and evidence.wrong:
            cause = patterns.somewhere(evidence, *_values(evidence), setting.labels, anywhere=True)
            cause = cause or patterns.similarity(*_values(evidence))
            if cause is not None:
                weak.setdefault(cause, []).append(evidence.name)
    # Tensors without a pattern of their own follow from those that have one.
    return [f"{', '.join(names)}: {text}" for text, names in (causes or weak).items()]


def _tolerance(evidence: Evidence, view: View) -> float:
    """Return how closely a pattern has to fit."""
    return 1e-6 if np.asarray(evidence.x).dtype.itemsize >= 8 and view.eps < 1e-10 else 5e-3


def _mentions(detail: str, name: str) -> bool:
    return any(part.startswith(f"{name} ") for part in detail.split("; "))


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
    tolerance = _tolerance(evidence, view)
    if evidence.analytic is None or not len(evidence.numeric.values):
        return None
    if evidence.analytic.shape != evidence.x.shape:
        return _shape_cause(evidence, every, tolerance)
    if not evidence.shaped:
        return "not finite: an overflow, a logarithm or a division by zero in backward"
    if not evidence.wrong:
        return None
    analytic, numeric = _values(evidence)
    whole = evidence.analytic
    rules: list[Callable[[], str | None]] = [
        lambda: patterns.nothing(analytic, numeric),
        lambda: patterns.clipped(evidence, analytic, numeric),
        lambda: patterns.nearly(evidence, analytic, numeric, tolerance),
        lambda: patterns.factor(analytic, numeric, _sizes(setting, evidence), _norm(every), tolerance),
        lambda: _swapped(evidence, every, tolerance),
        lambda: _transposed(evidence, tolerance),
        lambda: patterns.rearranged(_full(evidence), whole, tolerance),
        lambda: patterns.factor_array(_full(evidence), whole, _companions(setting, evidence), tolerance),
        lambda: patterns.lost_sign(analytic, numeric, tolerance),
        lambda: patterns.somewhere(evidence, analytic, numeric, setting.labels),
        lambda: _part_of_outputs(setting, evidence, view, tolerance),
        lambda: _missing_term(setting, evidence, analytic - numeric, tolerance),
        lambda: patterns.along_axis(_full(evidence), whole, _companions(setting, evidence), evidence.x, tolerance),
    ]
    return next((cause for rule in rules if (cause := rule())), None)


def _part_of_outputs(setting: Setting, evidence: Evidence, view: View, tolerance: float) -> str | None:
    if not setting.budget.allows(CALLS):
        return None
    return part_of_outputs(setting.out, setting.weights, setting.batch, evidence, view, tolerance)


def _norm(every: Sequence[tuple[Evidence, View]]) -> float:
    """Return the length of all the analytic gradients together."""
    squares = [float(np.square(e.analytic.astype(np.float64)).sum()) for e, _ in every if e.analytic is not None]
    return math.sqrt(sum(squares))


def _companions(setting: Setting, evidence: Evidence) -> dict[str, Array]:
    """Return the arrays of the tensor's shape that a missing term may carry as a factor."""
    found = {"": np.ones(evidence.x.shape)}
    leaves = [("the output", leaf) for _, leaf in tree.leaves(setting.out)]
    leaves += list(zip(setting.subject.names, setting.subject.leaves, strict=True))
    leaves += [("the upstream gradient", leaf) for _, leaf in tree.leaves(upstream(setting.out, setting.weights))]
    for name, leaf in leaves:
        if leaf is not None and np.shape(leaf) == evidence.x.shape and tree.is_number(leaf) and np.asarray(leaf).all():
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
        return "it has fewer entries than the tensor: a sum runs over an axis that the tensor keeps"
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
            if not other.wrong:
                return f"this is the gradient of {other.name} once more; its own was never computed"
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
    for _, leaf in tree.leaves(upstream(setting.out, setting.weights)):
        if leaf is not None and np.shape(leaf) == evidence.x.shape:
            candidates.append(("the upstream gradient", np.asarray(leaf)))
        elif leaf is not None and np.ndim(leaf) == evidence.x.ndim + 1:  # that of one step, or of one row
            parts = [(axis, place) for axis in (0, 1) for place in (0, -1) if axis < np.ndim(leaf)]
            for axis, place in parts:
                end = "first" if place == 0 else "last"
                name = f"the upstream gradient at the {end} index of axis {axis}"
                candidates.append((name, np.take(leaf, place, axis)))
    candidates = [(name, array) for name, array in candidates if array.shape == evidence.x.shape]
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
