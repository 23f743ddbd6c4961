"""The numeric gradient of one tensor: entry by entry, or by random projections and a sample of entries.

Differences are always taken. The complex step sharpens them where the two agree, and is dropped where they do not; the
report then gives the reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from vae_np._types import Array
from vae_np.gradcheck.complex_step import ComplexStepRefused, suspects
from vae_np.gradcheck.differences import Estimate
from vae_np.gradcheck.kinks import Joint, find_kinks, together
from vae_np.gradcheck.one_tensor import View
from vae_np.gradcheck.places import Index, block_direction, unravel

# How far the complex step may lie from the difference, beyond the error that the difference itself reports.
TRUST = 1e-8
# Differences with a smaller error than this share of their value decide without a complex step.
PRECISE = 1e-6


@dataclass(frozen=True)
class Projection:
    """The numeric derivative along one random direction."""

    direction: Array
    estimate: Estimate


@dataclass
class Numeric:
    """What is known numerically of one tensor's gradient.

    `indices`, `values` and `errors` belong together and cover the entries where the gradient exists. `kinks` are
    entries where it does not, and `unclear` those where forward is not finite on both sides. `joint` are kinked entries
    moved together. `sharp` is True where the values are those of the complex step. `contested` holds complex steps that
    the differences contradict although nothing was seen that makes them wrong. `left` counts the entries for which
    there was no time.
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
        # The complex steps that sharpen what is known already have to be paid as well.
        paid = len(estimates) + len(projections)
        if paid and view.budget.short_of(0, use_complex * paid):
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
    known = [*estimates.values(), *(p.estimate for p in projections)]
    if use_complex and view.budget.short_of(0, len(known)) and all(map(_is_precise, known)):
        use_complex, reason = False, "there was no time for complex steps"
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


def _is_precise(estimate: Estimate) -> bool:
    """Tell whether differences alone can decide, so that no complex step is needed."""
    return estimate.kind != "smooth" or estimate.error <= PRECISE * abs(estimate.value)


def _without(direction: Array, indices: list[Index]) -> Array:
    masked = direction.copy()
    for index in indices:
        masked[index] = 0.0
    return masked


def _sharpen(
    view: View, estimates: dict[Index, Estimate], projections: list[Projection]
) -> tuple[dict[Index, Estimate], list[Projection], str, dict[Index, float]]:
    """Replace smooth estimates by the complex step's values, or return them unchanged with the reason why not.

    The last part of the result is the complex step's values, where the two disagree and nothing was seen that makes the
    complex step wrong.
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
    """Tell whether a complex step's value lies within what the differences leave open.

    Values below 1e-6 of the tensor's largest are compared on that scale, because differences may be exact zeros there.
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
