"""The derivative of each output by itself, and the part of it that a wrong gradient lacks, such as a row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.gradcheck import patterns, tree
from vae_np.gradcheck.complex_step import STEP
from vae_np.gradcheck.judge import Evidence
from vae_np.gradcheck.one_tensor import View
from vae_np.gradcheck.places import Index
from vae_np.gradcheck.subject import CallError, upstream

# Entries of the tensor whose derivatives are taken, and places along an axis of the output that are tried.
ENTRIES = 24
PLACES = 16
# Forward calls that this takes: four for each entry where the complex step cannot be used.
CALLS = 4 * ENTRIES


def jacobian(view: View, indices: list[Index], sharp: bool) -> Array | None:
    """Return the derivative of every output (columns) by each entry (rows), or None where forward refuses."""
    rows = []
    try:
        for index in indices:
            rows.append(_complex_row(view, index) if sharp else _row(view, index))
    except CallError:
        return None
    found = np.array(rows)
    return found if found.ndim == 2 and np.isfinite(found).all() else None


def _complex_row(view: View, index: Index) -> Array:
    moved = view.x.astype(np.complex128)
    moved[index] += 1j * STEP
    return np.asarray(view.evaluate(moved)).imag / STEP


def _row(view: View, index: Index) -> Array:
    """Return central differences, extrapolated once."""
    h = 2.0**-9 * max(abs(float(view.x[index])), view.scale)
    found = []
    for step in (h, h / 2):
        up, down = view.x.copy(), view.x.copy()
        up[index] += step
        down[index] -= step
        width = float(up[index]) - float(down[index])
        found.append((view.evaluate(up).astype(np.float64) - view.evaluate(down).astype(np.float64)) / width)
    return (4 * found[1] - found[0]) / 3


def part_of_outputs(
    out: Any, weights: Array, batch: int | None, evidence: Evidence, view: View, tolerance: float
) -> str | None:
    """Name the part of the outputs whose gradient is missing or is all there is, or the diagonal of a Jacobian."""
    right = [index for index in evidence.numeric.indices if index not in set(evidence.wrong)]
    indices = [*_spread(evidence.wrong, ENTRIES // 2), *_spread(right, ENTRIES // 2)]
    whole = jacobian(view, indices, evidence.numeric.sharp)
    if whole is None or evidence.analytic is None or whole.shape[1] != weights.size:
        return None
    analytic = np.array([evidence.analytic[index] for index in indices], dtype=np.float64)
    numeric = whole @ weights
    loose = max(tolerance, 1e-6)
    for mask, only, missing in _masks(out, weights, batch, evidence.x.shape):
        part = whole @ (weights * mask)
        if not np.abs(part).max() > 1e-9 * np.abs(numeric).max() or patterns.close(part, numeric, loose):
            continue
        if patterns.close(analytic, part, loose) and only:
            return only
        if patterns.close(analytic, numeric - part, loose):
            return missing
    if evidence.x.size == weights.size > 1:
        positions = [int(np.ravel_multi_index(index, evidence.x.shape)) if index else 0 for index in indices]
        diagonal = whole[np.arange(len(indices)), positions] * weights[positions]
        if patterns.close(analytic, diagonal, loose) and not patterns.close(numeric, diagonal, loose):
            return (
                "only the diagonal of the Jacobian: each output's derivative by its own input; the other terms are "
                "missing, as where p(1-p) stands for softmax"
            )
    return None


def _spread(indices: list[Index], count: int) -> list[Index]:
    """Return this number of indices from all over the tensor, since the first ones may share one row."""
    return [indices[i] for i in np.unique(np.linspace(0, len(indices) - 1, count).astype(int))] if indices else []


def _masks(out: Any, weights: Array, batch: int | None, shape: tuple[int, ...]) -> Iterator[tuple[Array, str, str]]:
    """Yield parts of the outputs as masks, with what to say where only that part is there and where it is missing."""
    leaves = [(name, leaf) for name, leaf in tree.leaves(upstream(out, weights)) if leaf is not None]
    starts = np.cumsum([0, *(np.size(leaf) for _, leaf in leaves)])
    if len(leaves) > 1:
        for number in range(len(leaves)):
            mask = np.zeros(weights.size)
            mask[starts[number] : starts[number + 1]] = 1.0
            yield mask, "", f"the gradient through output {number} is missing"
    axes = max((np.ndim(leaf) for _, leaf in leaves), default=0)
    for axis in range(axes):
        lengths = {np.shape(leaf)[axis] for _, leaf in leaves if np.ndim(leaf) > axis}
        if len(lengths) != 1 or (length := lengths.pop()) < 2:
            continue
        for place in sorted({*range(min(length, PLACES)), length - 1}):
            mask = np.concatenate([_at(np.shape(leaf), axis, place).ravel() for _, leaf in leaves])
            end = {0: " (the first)", length - 1: " (the last)"}.get(place, "")
            if axis == 0 and batch is not None and shape[:1] != (batch,):
                row = f"batch row {place}{end}"
                only = f"only {row} contributes; the sum over the batch is missing"
                yield mask, only, f"the contribution of {row} is missing"
            else:
                what = {0: "row"}.get(axis, f"place on axis {axis}")
                where = f"{what} {place}{end} of the output"
                yield mask, f"only {where} contributes", f"the contribution of {where} is missing"


def _at(shape: tuple[int, ...], axis: int, place: int) -> Array:
    mask = np.zeros(shape)
    if len(shape) > axis:
        mask[(slice(None),) * axis + (place,)] = 1.0
    return mask
