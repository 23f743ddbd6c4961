"""The numeric gradient of one tensor: entry by entry, or by random projections and a sample of entries.

Differences are always taken; the complex step sharpens them where the two agree, and is dropped, with the reason,
where they don't.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from vae_np._types import Array
from vae_np.gradcheck.budget import Budget
from vae_np.gradcheck.complexstep import ComplexStepRefused, complex_derivative, suspects
from vae_np.gradcheck.differences import FIRST_STEP, Estimate, Line, differentiate
from vae_np.gradcheck.kinks import Joint, find_kinks, together
from vae_np.gradcheck.places import Index, block_direction, unravel
from vae_np.gradcheck.subject import CallError

# How far the complex step may lie from the difference, beyond the error that the difference itself reports.
TRUST = 1e-8


@dataclass
class View:
    """One tensor's way into the function: `evaluate(array)` gives all outputs as one vector.

    weights: the upstream gradient; noise: the outputs' measured rounding errors (see `rounding`); eps: the
    machine epsilon of what carries the values in and out.
    """

    name: str
    x: Array
    evaluate: Callable[[Array], Array]
    base: Array
    weights: Array
    noise: Array
    eps: float
    budget: Budget = field(default_factory=Budget)
    scale: float = field(init=False)
    last_error: str = ""
    largest: float = 0.0

    def __post_init__(self) -> None:
        size = float(np.sqrt(np.mean(np.square(self.x.astype(np.float64))))) if self.x.size else 0.0
        self.scale = size if np.isfinite(size) and size > 0 else 1.0

    def _try(self, x: Array) -> Array:
        """Return the outputs as float64; where forward refuses x, not-a-number, as outside of its domain."""
        try:
            return self.evaluate(x).astype(np.float64)
        except CallError as error:
            self.last_error = str(error)
            return np.full(self.base.shape, np.nan)

    def estimate(self, index: Index) -> Estimate:
        """Return the partial derivative at an entry.

        The step follows the entry's own size or that of the whole tensor, whichever is larger; where that does not
        give a precise value, the entry's own size, and sizes at which rounding weighs less.
        """
        touched = np.zeros(self.base.shape, bool)

        def at(size: float) -> Estimate:
            def move(t: float) -> tuple[Array, float]:
                moved = self.x.copy(order="K")
                moved[index] += t * size
                return self._try(moved), (float(moved[index]) - float(self.x[index])) / size

            return differentiate(self._line(move, touched)).scaled(1.0 / size)

        entry = abs(float(self.x[index]))
        size = max(entry, self.scale)
        best = at(size)
        if not self._settled(best) and 0.0 < entry < 0.1 * size:
            small = at(entry)
            best = small if small.error < best.error else best
        best = self._climb(best, at, size)
        if best.value == 0.0 and not touched.any() and size < 1.0:
            # Nothing moved: either nothing depends on this entry, or it drowns in the rounding of larger terms.
            unit = at(1.0)
            best = unit if unit.kind == "smooth" and abs(unit.value) > 10 * unit.error else best
        if best.kind == "smooth":
            self.largest = max(self.largest, abs(best.value))
        return best

    def along(self, direction: Array) -> Estimate:
        """Return the derivative along a direction (an array like x)."""

        def at(size: float) -> Estimate:
            return differentiate(self.direction_line(direction * size)).scaled(1.0 / size)

        return self._climb(at(1.0), at, 1.0)

    def _settled(self, estimate: Estimate) -> bool:
        precise = estimate.error <= 1e-8 * max(abs(estimate.value), self.largest)
        return estimate.kind == "kink" or (estimate.kind == "smooth" and precise)

    def _climb(self, best: Estimate, at: Callable[[float], Estimate], size: float) -> Estimate:
        """Try larger steps for as long as they give a smaller error, where rounding blurs the estimate."""
        for _ in range(5):
            if self._settled(best) or best.kind == "nonfinite":
                break
            size *= 64.0
            larger = at(size)
            if larger.kind != "smooth" or not larger.error < 0.5 * best.error:
                break
            best = larger
        return best

    def direction_line(self, direction: Array) -> Line:
        """Return the line through x along a direction (an array like x)."""

        def move(t: float) -> tuple[Array, float]:
            return self._try((self.x + t * direction).astype(self.x.dtype)), t

        return self._line(move, np.zeros(self.base.shape, bool))

    def _line(self, move: Callable[[float], tuple[Array, float]], touched: Array) -> Line:
        first_step = FIRST_STEP.get(self.x.dtype.itemsize, FIRST_STEP[8])
        base = self.base.astype(np.float64)
        return Line(move, base, self.weights, self.noise, self.eps, first_step, touched, self.budget.halvings)

    def complex_step(self, direction: Index | Array) -> float:
        """Return the same by the complex step."""
        return complex_derivative(self.evaluate, self.weights, self.x, direction)


@dataclass(frozen=True)
class Projection:
    """The numeric derivative along one random direction."""

    direction: Array
    estimate: Estimate


@dataclass
class Numeric:
    """What is known numerically of one tensor's gradient.

    indices, values, errors: the entries where it exists, aligned; kinks: where it doesn't; unclear: where forward
    is not finite on both sides; joint: kinked entries moved together; sharp: the values are the complex step's;
    contested: complex steps that the differences contradict although nothing that fools them was seen; left: entries
    that the time did not suffice for.
    """

    indices: list[Index]
    values: Array
    errors: Array
    kinks: list[tuple[Index, Estimate]]
    unclear: list[Index]
    projections: list[Projection]
    sharp: bool
    exhaustive: bool
    reason: str = ""
    joint: list[Joint] = field(default_factory=list)
    contested: Array | None = None
    left: int = 0


def numeric_gradient(view: View, indices: list[Index], directions: list[Array], use_complex: bool) -> Numeric:
    """Return the numeric derivatives at the given entries and along the given directions.

    Where the view's time runs out, entries are left away, and the last of the directions.
    """
    projections: list[Projection] = []
    for direction in directions:
        if not projections or not view.budget.over:
            projections.append(Projection(direction, view.along(direction)))
    estimates: dict[Index, Estimate] = {}
    for index in indices:
        if (estimates or projections) and view.budget.over:
            break
        estimates[index] = view.estimate(index)
    left = len(indices) - len(estimates)
    if any(p.estimate.kind in ("kink", "jump") for p in projections):
        found = find_kinks(view, projections[0].direction) or []
        estimates.update({index: view.estimate(index) for index in found})
        bad = [index for index, e in estimates.items() if e.kind in ("kink", "jump")]
        smooth = [_without(p.direction, bad) for p in projections]
        projections = [Projection(d, view.along(d)) for d in smooth]
    sharp, reason = False, ""
    contested: dict[Index, float] = {}
    if use_complex:
        try:
            estimates, projections, reason, contested = _sharpen(view, estimates, projections)
            sharp = not reason
        except ComplexStepRefused as refused:
            reason = _why(view, str(refused))
    good = [index for index, e in estimates.items() if e.kind == "smooth"]
    kinks = [(index, e) for index, e in estimates.items() if e.kind in ("kink", "jump")]
    return Numeric(
        indices=good,
        values=np.array([estimates[index].value for index in good]),
        errors=np.array([estimates[index].error for index in good]),
        kinks=kinks,
        unclear=[index for index, e in estimates.items() if e.kind == "nonfinite"],
        projections=projections,
        sharp=sharp,
        exhaustive=len(set(estimates)) == view.x.size,
        reason=reason,
        joint=together(view, [index for index, e in kinks if e.kind == "kink"]),
        contested=np.array([contested[index] for index in good]) if contested else None,
        left=left,
    )


def _without(direction: Array, indices: list[Index]) -> Array:
    masked = direction.copy()
    for index in indices:
        masked[index] = 0.0
    return masked


def _sharpen(
    view: View, estimates: dict[Index, Estimate], projections: list[Projection]
) -> tuple[dict[Index, Estimate], list[Projection], str, dict[Index, float]]:
    """Replace smooth estimates by the complex step's values; or return them unchanged with the reason why not.

    Also returns the complex step's values where the two disagree without anything seen that could have fooled them.
    """
    sharp = {i: view.complex_step(i) for i, e in estimates.items() if e.kind == "smooth"}
    along = [view.complex_step(p.direction) if p.estimate.kind == "smooth" else None for p in projections]
    pairs = [(sharp[i], estimates[i]) for i in sharp]
    pairs += [(s, p.estimate) for s, p in zip(along, projections, strict=True) if s is not None]
    biggest = max((abs(estimate.value) for _, estimate in pairs), default=0.0)
    confirmed = 0
    for value, estimate in pairs:
        if not _agree(value, estimate, biggest):
            detail = f"complex step gives {value:.4g} where differences give {estimate.value:.4g}"
            finite = bool(np.isfinite(list(sharp.values())).all())
            believable = value != 0.0 and finite and not suspects(view.evaluate, view.x)
            return estimates, projections, _why(view, detail), sharp if believable else {}
        confirmed += 10 * estimate.error <= 1e-2 * max(abs(value), abs(estimate.value), biggest)
    if pairs and not confirmed and (names := suspects(view.evaluate, view.x)):
        reason = f"differences are too coarse to confirm the complex step past {_join(names)}"
        return estimates, projections, reason, {}
    estimates = {i: Estimate(sharp[i], 0.0) if i in sharp else e for i, e in estimates.items()}
    projections = [
        p if s is None else Projection(p.direction, Estimate(s, 0.0)) for s, p in zip(along, projections, strict=True)
    ]
    return estimates, projections, "", {}


def _agree(value: float, estimate: Estimate, biggest: float) -> bool:
    """Tell whether a complex step's value is within what the differences leave open.

    Values below 1e-6 of the tensor's biggest are compared on that scale: differences may be exact zeros there.
    """
    size = max(abs(value), abs(estimate.value), 1e-6 * biggest)
    return abs(value - estimate.value) <= TRUST * size + 10 * estimate.error


def _why(view: View, detail: str) -> str:
    names = suspects(view.evaluate, view.x)
    if names and "refused" not in detail:
        return f"complex step not trusted: {_join(names)} lost or flipped the imaginary part ({detail})"
    return f"complex step not trusted: {detail}"


def _join(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def random_direction(rng: np.random.Generator, view: View) -> Array:
    """Return a random direction whose entries are as large as what they move: sign times 0.5 to 1.5 of the size."""
    size = np.maximum(np.abs(view.x.astype(np.float64)), view.scale)
    direction: Array = rng.choice([-1.0, 1.0], view.x.shape) * rng.uniform(0.5, 1.5, view.x.shape) * size
    return direction


def locate(view: View, direction: Array, analytic: Array, use_complex: bool) -> Index:
    """Return an entry whose analytic derivative is wrong, by following the larger mismatch into halves."""
    block = np.flatnonzero(direction)
    while block.size > 1:
        halves = (block[: block.size // 2], block[block.size // 2 :])
        misses = []
        for half in halves:
            part = block_direction(direction, half)
            numeric = view.complex_step(part) if use_complex else view.along(part).value
            misses.append(abs(float((analytic * part).sum()) - numeric))
        block = halves[0] if misses[0] >= misses[1] else halves[1]
    return unravel(int(block[0]), direction.shape)
