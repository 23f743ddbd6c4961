"""From an analytic and a numeric gradient to one tensor's row, and the evidence for a diagnosis."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from vae_np._types import Array
from vae_np.gradcheck.differences import Estimate
from vae_np.gradcheck.findings import Kink, Row, show_index
from vae_np.gradcheck.numeric import Numeric
from vae_np.gradcheck.one_tensor import View
from vae_np.gradcheck.options import Tolerance
from vae_np.gradcheck.places import Index, unravel

# Tolerances where the caller gives none. Complex steps leave only the analytic side's rounding; differences reach
# 1e-9 to 1e-11; in lower precision rounding of the analytic side rules, about 2^10 units in the last place.
RTOL_SHARP = 1e-10
RTOL_DIFFERENCES = 1e-8
ROUNDINGS = 2.0**10
RTOL_CEILING = 0.05
# Where differences are lost to ill-conditioning, the complex step and the gradient have to agree to this.
RTOL_CONTESTED = 1e-6
# Entries below this share of the tensor's largest are judged on the tensor's scale, not on their own.
SCALE_SHARE = 1e-2
# A numeric value whose own error is above this share decides nothing.
UNDECIDED = 1e-2
# A miss below this many units in the last place may be the rounding of a delicate function, which is measured.
EXCUSABLE = 2.0**10


@dataclass
class Evidence:
    """What a diagnosis works from: the analytic array that backward returned, and the known numeric values."""

    name: str
    leaf: int
    x: Array
    analytic: Array | None
    numeric: Numeric
    missing: str = ""
    data: bool = False
    wrong: list[Index] = field(default_factory=list)
    projection_wrong: bool = False
    blurred: bool = False
    blind: bool = False
    size: float = 0.0

    @property
    def shaped(self) -> bool:
        """True where the analytic gradient has the tensor's own shape and finite values."""
        return (
            self.analytic is not None and self.analytic.shape == self.x.shape and bool(np.isfinite(self.analytic).all())
        )


def judge(
    view: View,
    evidence: Evidence,
    tolerance: Tolerance,
    eps: float,
    rounding: Callable[[View, list[Index]], float],
    method: str,
    notes: list[str],
) -> Row:
    """Return the row of one tensor, and note in `evidence` which entries are wrong.

    `eps` is the machine epsilon of the precision that the pair works in. `rounding(view, indices)` returns the largest
    rounding error of the two gradients at these entries.
    """
    numeric = evidence.numeric
    evidence.size = float(np.abs(numeric.values).max()) if len(numeric.values) else 0.0
    rtol = _rtol(view, numeric, tolerance, eps)
    scale = SCALE_SHARE * evidence.size if tolerance.scale is None else tolerance.scale
    faults = [] if evidence.analytic is None and (evidence.data or _matters_not(evidence)) else _faults(evidence)
    row = Row(
        tensor=evidence.name,
        shape=view.x.shape,
        dtype=str(evidence.x.dtype),
        method=method,
        verdict="FAIL",
        rtol=rtol,
        atol=tolerance.atol,
        scale=scale,
        checked=len(numeric.indices),
        notes=(*notes, *([numeric.reason] if numeric.reason else []), *faults),
    )
    if evidence.analytic is None and evidence.data:
        return replace(
            _noted(row, "backward returns no gradient for it; by its name it is data"), verdict="skipped", method=""
        )
    if evidence.analytic is None and _matters_not(evidence):
        return replace(
            _noted(row, "backward returns no gradient for it, and the output does not depend on it"), verdict="ok"
        )
    if evidence.analytic is None or not evidence.shaped:
        return _unusable(row, evidence)
    analytic = evidence.analytic.astype(np.float64)
    found = _compare(row, evidence, analytic)
    # A larger miss is not the rounding of sums and products, but a cast or a constant with too few digits.
    excusable = EXCUSABLE * max(eps, view.eps) * max(evidence.size, float(np.abs(view.weights).max()))
    if 0 < found.miss <= excusable:
        suspects = evidence.wrong or numeric.indices
        noise = min(8 * rounding(view, suspects), excusable) if suspects else 0.0
        row = replace(row, atol=row.atol + noise)
        found = _compare(row, evidence, analytic)
        if not found.miss:
            found.row = _noted(found.row, f"atol is raised to what rounding does to it: {noise:.1e}")
    if found.miss and numeric.contested is not None:
        found = _believe_complex(row, evidence, analytic, found)
        numeric = evidence.numeric
    row = found.row
    slack = float((4 * numeric.errors / np.maximum(found.bound, 1e-300)).max(initial=0.0))
    if slack > 10 * row.rtol and evidence.size > 0:
        row = _noted(row, f"differences are known to {min(slack, 1.0):.0e} only here")
    outside = _outside(evidence, analytic, row)
    row = _noted(row, *outside)
    if faults or outside or not all(kink.inside for kink in row.kinks):
        return row
    if found.miss:
        floor = _floor(view, eps)
        if found.gap.size and max(float(np.abs(analytic).max()), evidence.size) <= floor:
            text = f"all of it is below {floor:.1e}, where outputs are rounded: saturated or flat; try another point"
            return replace(_noted(row, text), verdict="unclear")
        return row
    blurred = (4 * numeric.errors > UNDECIDED * np.maximum(found.bound, evidence.size)) & (found.gap > 0)
    if blurred.any():
        # An analytic value that is rounding itself agrees with any numeric one that may be zero.
        noise = 8 * rounding(view, [numeric.indices[i] for i in np.flatnonzero(blurred)])
        blurred &= np.abs(found.entries) > noise
    doubts = _doubts(view, evidence, int(blurred.sum()))
    evidence.blind = not analytic.any() and evidence.size == 0.0 and not row.kinks and not numeric.unclear
    return replace(_noted(row, *doubts), verdict="unclear" if doubts else "ok")


@dataclass
class _Comparison:
    """The two gradients entry by entry; `miss` is by how much the worst failing entry misses, zero if none fails."""

    row: Row
    entries: Array
    gap: Array
    bound: Array
    miss: float


def _compare(row: Row, evidence: Evidence, analytic: Array) -> _Comparison:
    """Compare entries, projections and kinks under the row's tolerance; note in `evidence` which entries are wrong."""
    numeric = evidence.numeric
    entries = np.array([analytic[index] for index in numeric.indices], dtype=np.float64)
    gap = np.abs(entries - numeric.values)
    bound = np.maximum(np.maximum(np.abs(entries), np.abs(numeric.values)), row.scale)
    bad = ~(gap <= row.atol + row.rtol * bound + 4 * numeric.errors)
    evidence.wrong = [numeric.indices[i] for i in np.flatnonzero(bad)]
    evidence.projection_wrong = evidence.blurred = False
    if len(gap):
        # What rounding excuses does not count as an error: a gradient of zeros that is 1e-17 off is not wrong by 200 %.
        excused = (row.atol + 4 * numeric.errors) / row.rtol if row.rtol > 0 else np.zeros(gap.shape)
        measure = np.maximum(bound, excused)
        error = gap / np.where(measure > 0, measure, 1.0)
        worst = int(np.argmax(np.where(bad, error, -1.0) if bad.any() else error))
        row = replace(
            row,
            error=float(error[worst]),
            index=numeric.indices[worst],
            analytic=float(entries[worst]),
            numeric=float(numeric.values[worst]),
        )
    miss = float(gap[bad].max()) if bad.any() else 0.0
    row, projected = _add_projections(row, evidence, analytic)
    kinks = tuple(_kink(index, e, float(analytic[index]), row) for index, e in numeric.kinks)
    return _Comparison(replace(row, kinks=kinks), entries, gap, bound, max(miss, projected))


def of_one_triangle(evidence: Evidence) -> Array | None:
    """Return a symmetric gradient as one of a single triangle's entries, or None where forward reads both triangles.

    A function of a symmetric matrix that reads its lower triangle, as `cholesky` and `eigvalsh` do, moves A_ij and A_ji
    together. The derivative by the entry that is read is then G_ij + G_ji.
    """
    shape = evidence.x.shape
    if not evidence.shaped or evidence.analytic is None or len(shape) != 2 or shape[0] != shape[1] or shape[0] < 2:
        return None
    analytic = evidence.analytic.astype(np.float64)
    symmetric = np.allclose(analytic, analytic.T, rtol=1e-6, atol=1e-9 * float(np.abs(analytic).max(initial=0.0)))
    numeric = dict(zip(evidence.numeric.indices, evidence.numeric.values, strict=True))
    if not symmetric or len(numeric) < evidence.x.size:
        return None
    for triangle in (np.tril, np.triu):
        read = triangle(np.ones(shape))
        if all(value == 0.0 for index, value in numeric.items() if not read[index]):
            return read * (analytic + analytic.T) - np.diag(np.diag(analytic))
    return None


def _matters_not(evidence: Evidence) -> bool:
    """Tell whether the tensor changes no output, so that no gradient is due."""
    numeric = evidence.numeric
    still = not numeric.values.any() and not numeric.kinks and not numeric.unclear
    return still and all(p.estimate.value == 0.0 for p in numeric.projections) and len(numeric.values) > 0


def _believe_complex(row: Row, evidence: Evidence, analytic: Array, found: _Comparison) -> _Comparison:
    """Compare with the complex step where differences contradict both it and the gradient, and are therefore in doubt.

    Nothing was seen that makes a complex step wrong, and two computations that share no step agree to its precision.
    """
    differences = evidence.numeric
    assert differences.contested is not None
    exact = replace(differences, values=differences.contested, errors=np.zeros(len(differences.values)), projections=[])
    evidence.numeric = exact
    second = _compare(replace(row, rtol=max(row.rtol, RTOL_CONTESTED)), evidence, analytic)
    if second.miss:
        evidence.numeric = differences
        _compare(row, evidence, analytic)
        return found
    text = "the complex step agrees with the gradient and nothing fools it; differences are lost to ill-conditioning"
    second.row = replace(_noted(second.row, text), method=row.method.replace("central differences", "complex step"))
    return second


def _outside(evidence: Evidence, analytic: Array, row: Row) -> list[str]:
    """Return a line where kinked entries that move together claim what no choice of slopes gives, or nothing."""
    worst, text = 0.0, ""
    for joint in evidence.numeric.joint:
        values = np.array([analytic[index] for index in joint.indices])
        value = float(values.sum())
        size = max(abs(joint.low), abs(joint.high), float(np.abs(values).max()))
        miss = max(joint.low - value, value - joint.high) - row.atol - max(row.rtol, 1e-6) * size - 4 * joint.error
        if miss > 1.001 * worst:
            places = ", ".join(show_index(index) for index in joint.indices[:4])
            places += f" and {len(joint.indices) - 4} more" if len(joint.indices) > 4 else ""
            worst = miss
            text = (
                f"kinks at {places} moved together: slopes {joint.low:.6g} and {joint.high:.6g}, "
                f"the gradient claims {value:.6g}: each takes the whole of what they share"
            )
    return [text] if text else []


def _noted(row: Row, *notes: str) -> Row:
    return replace(row, notes=(*row.notes, *notes))


def _floor(view: View, eps: float) -> float:
    """Return the size of a gradient that changes the outputs by no more than their rounding."""
    outputs = float(np.abs(view.weights * view.base).sum())
    return 64 * max(eps, view.eps) * outputs / max(view.scale, 1.0)


def _rtol(view: View, numeric: Numeric, tolerance: Tolerance, eps: float) -> float:
    if tolerance.rtol is not None:
        return tolerance.rtol
    # Differences of low-precision outputs are themselves rounded: three more bits.
    roundings = 8 * ROUNDINGS if view.eps > 1e-10 else ROUNDINGS
    sharpest = RTOL_SHARP if numeric.sharp else RTOL_DIFFERENCES
    return max(sharpest, min(roundings * max(eps, view.eps), RTOL_CEILING))


def _faults(evidence: Evidence) -> list[str]:
    """Return what is wrong with the analytic array before any value is compared."""
    array = evidence.analytic
    if array is None:
        return [evidence.missing]
    faults = []
    if array.shape != evidence.x.shape:
        faults.append(f"gradient has shape {array.shape}, expected {evidence.x.shape}")
    bad = int((~np.isfinite(array)).sum())
    if bad:
        first = unravel(int(np.flatnonzero(~np.isfinite(array))[0]), array.shape)
        faults.append(f"gradient is not finite at {bad} of {array.size} entries, first {show_index(first)}")
    return faults


def _unusable(row: Row, evidence: Evidence) -> Row:
    """Return the row of a gradient that can't be compared, with a value where there is one to show."""
    known = dict(zip(evidence.numeric.indices, evidence.numeric.values.tolist(), strict=True))
    array = evidence.analytic
    if array is None or array.shape != evidence.x.shape:
        return row
    index = unravel(int(np.flatnonzero(~np.isfinite(array))[0]), array.shape)
    return replace(row, index=index, analytic=float(array[index]), numeric=known.get(index, math.nan))


def _add_projections(row: Row, evidence: Evidence, analytic: Array) -> tuple[Row, float]:
    """Judge the projections; the row shows the worst one where it is worse than every entry.

    The result also says by how much, per unit of direction, the worst failing projection misses.
    """
    miss = 0.0
    for projection in evidence.numeric.projections:
        estimate = projection.estimate
        weighted = analytic * projection.direction
        length = float(np.abs(projection.direction).sum())
        value = float(weighted.sum())
        # A projection is as large as its terms make it, also where they cancel.
        size = max(abs(value), abs(estimate.value), float(np.sqrt(np.square(weighted).sum())))
        slack = row.atol * length + row.rtol * size + 4 * estimate.error
        gap = abs(value - estimate.value)
        if estimate.kind == "smooth":
            wrong = not gap <= slack
            measure = max(size, (row.atol * length + 4 * estimate.error) / row.rtol if row.rtol > 0 else 0.0)
            error = gap / measure if measure > 0 else 0.0
            evidence.blurred |= gap > 0 and not 4 * estimate.error <= UNDECIDED * size
            if math.isnan(row.error) or error > row.error:
                row = replace(row, error=error)
                if not evidence.wrong:
                    row = replace(row, index=None, analytic=value, numeric=estimate.value)
        else:
            wrong = estimate.kind == "kink" and not _between(estimate, value, slack)
        if wrong:
            evidence.projection_wrong = True
            miss = max(miss, gap / length)
    return row, miss


def _kink(index: Index, estimate: Estimate, analytic: float, row: Row) -> Kink:
    size = max(abs(estimate.left), abs(estimate.right), abs(analytic), row.scale)
    jump = estimate.kind == "jump"
    inside = jump or _between(estimate, analytic, row.atol + row.rtol * size + 4 * estimate.error)
    return Kink(index, estimate.left, estimate.right, analytic, inside, jump)


def _between(estimate: Estimate, value: float, slack: float) -> bool:
    low, high = sorted((estimate.left, estimate.right))
    return low - slack <= value <= high + slack


def _doubts(view: View, evidence: Evidence, blurred: int) -> list[str]:
    """Return why a tensor without a wrong entry may still not be called right."""
    numeric = evidence.numeric
    doubts = []
    if numeric.unclear:
        places = ", ".join(show_index(index) for index in numeric.unclear[:3])
        why = view.last_error or "forward is not finite on both sides"
        doubts.append(f"{len(numeric.unclear)} entries can't be moved (first: {places}): {why}; name the others in wrt")
    elif not numeric.indices and not any(p.estimate.kind == "smooth" for p in numeric.projections):
        doubts.append("every entry that was looked at lies on a kink; check at another point")
    if blurred:
        doubts.append(f"at {blurred} entries the numeric value is too coarse to decide; use float64 or another point")
    elif evidence.blurred and not numeric.exhaustive:
        doubts.append("along a random direction the numeric value is too coarse to decide")
    return doubts
