"""Entries where the function has no derivative: finding them in a large tensor, and moving several of them together.

A single entry may take any value between its two one-sided slopes. Several entries that share a maximum may not each
take the whole of it: along a direction d that moves them together, the gradient's a·d has to lie between the two
one-sided slopes of that direction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vae_np._types import Array
from vae_np.gradcheck.differences import Slopes
from vae_np.gradcheck.one_tensor import View
from vae_np.gradcheck.places import Index, block_direction, unravel

KINK_TESTS = 256
# Random groups of kinked entries that are moved together, besides all of them.
GROUPS = 8
# Steps of one-sided slopes, as shares of the first step of differences.
SMALL = 2.0**-12


@dataclass(frozen=True)
class Joint:
    """Kinked entries moved together by one; their gradients' sum lies between `low` and `high`, within `error`."""

    indices: tuple[Index, ...]
    low: float
    high: float
    error: float


def together(view: View, indices: list[Index]) -> list[Joint]:
    """Return what the gradients of all the kinked entries, and of random groups of them, may sum to."""
    if len(indices) < 2:
        return []
    rng = np.random.default_rng(len(indices))
    groups = [list(range(len(indices)))]
    if len(indices) > 2:
        groups += [np.flatnonzero(rng.random(len(indices)) < 0.5).tolist() for _ in range(GROUPS)]
    found = []
    for group in groups:
        if len(group) >= 2 and not view.budget.over:
            found.append(_sum_allowed(view, tuple(indices[i] for i in group)))
    return [joint for joint in found if np.isfinite([joint.low, joint.high, joint.error]).all()]


def _sum_allowed(view: View, indices: tuple[Index, ...]) -> Joint:
    """Return the interval between the one-sided slopes, summed over outputs, since each output has its own maximum."""
    direction = np.zeros(view.x.shape)
    for index in indices:
        direction[index] = 1.0
    line = view.direction_line(direction * view.scale)
    slopes = []
    for h in (line.first_step * SMALL, line.first_step * SMALL / 4):
        up, down = line.move(h)[0], line.move(-h)[0]
        if up.shape != line.base.shape or down.shape != line.base.shape:
            return Joint(indices, float("nan"), float("nan"), float("nan"))
        slopes.append((line.weights * (line.base - down) / h, line.weights * (up - line.base) / h))
    (left, right), (fine_left, fine_right) = slopes
    low, high = np.minimum(fine_left, fine_right).sum(), np.maximum(fine_left, fine_right).sum()
    # What rounding or curvature does to the slopes, their change from one step to the next shows.
    error = float(np.abs(fine_left - left).sum() + np.abs(fine_right - right).sum())
    return Joint(indices, float(low) / view.scale, float(high) / view.scale, error / view.scale)


def find_kinks(view: View, direction: Array) -> list[Index] | None:
    """Return the entries that have a kink along the direction, by halving blocks of entries.

    Returns None where KINK_TESTS blocks, or the time, do not suffice.
    """
    blocks = [np.flatnonzero(direction)]
    found: list[Index] = []
    for _ in range(KINK_TESTS):
        if not blocks:
            return found
        if view.budget.over:
            return None
        block = blocks.pop()
        if not _has_gap(view, block_direction(direction, block)):
            continue
        if block.size == 1:
            found.append(unravel(int(block[0]), view.x.shape))
        else:
            blocks += [block[: block.size // 2], block[block.size // 2 :]]
    return None if blocks else found


def _has_gap(view: View, direction: Array) -> bool:
    """Tell whether the one-sided slopes stay apart between two steps so small that a smooth function's meet."""
    line = view.direction_line(direction)
    h = line.first_step * SMALL
    coarse: Slopes = line.slopes(h)
    fine: Slopes = line.slopes(h / 4)
    significant = abs(fine.gap) > max(20 * fine.noise, 1e-7 * (abs(fine.left) + abs(fine.right)))
    return bool(significant and abs(fine.gap) > 0.6 * abs(coarse.gap))
