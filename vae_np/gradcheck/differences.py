"""Derivatives along a line by differences, with an estimate of their error, and the kinks that spoil them.

Central differences at h, h/2 and h/4 are combined by Richardson's extrapolation (Ridders 1982). The two one-sided
slopes are compared as h shrinks: their gap shrinks with h for a smooth function, stays at a kink, and grows like 1/h at
a jump.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np

from vae_np._types import Array

# First step, in units of the entry's scale: near the optimum eps^(1/7) of a sixth-order rule in float64, and large
# enough in float32 for rounding to stay below 1e-5.
FIRST_STEP = {8: 2.0**-7, 4: 2.0**-4, 2: 2.0**-2}
MAX_HALVINGS = 40
# Relative error at which no smaller step is tried.
ACCEPT = 1e-9

Kind = Literal["smooth", "kink", "jump", "nonfinite"]


@dataclass(frozen=True)
class Estimate:
    """A numeric derivative `value` within `error`, with the one-sided slopes `left` and `right` at a kink or a jump."""

    value: float
    error: float
    kind: Kind = "smooth"
    left: float = 0.0
    right: float = 0.0

    def scaled(self, factor: float) -> Estimate:
        """Return the estimate of `factor` times the derivative; a negative factor exchanges left and right."""
        left, right = (self.left, self.right) if factor >= 0 else (self.right, self.left)
        return replace(
            self,
            value=self.value * factor,
            error=self.error * abs(factor),
            left=left * factor,
            right=right * factor,
        )


@dataclass(frozen=True)
class Slopes:
    """One-sided and central slopes at step `h`, with the part of their error that rounding alone explains."""

    h: float
    left: float
    right: float
    central: float
    noise: float

    @property
    def gap(self) -> float:
        return self.right - self.left

    @property
    def finite(self) -> bool:
        return bool(np.isfinite([self.left, self.right, self.central]).all())


@dataclass(frozen=True)
class Line:
    """The function t -> weights · outputs(x + t d), to be differentiated at t = 0.

    `move(t)` returns the outputs at t as a vector, and the step that was really made after rounding. `base` holds the
    outputs at t = 0, and `noise` what is known of the rounding error of each output. Slopes come from the differences
    of each output by itself, so that outputs that do not depend on t cancel. `touched` is a boolean array, written to,
    that marks the outputs that any step has changed so far.
    """

    move: Callable[[float], tuple[Array, float]]
    base: Array
    weights: Array
    noise: Array
    eps: float
    first_step: float
    touched: Array
    halvings: int = MAX_HALVINGS

    def slopes(self, h: float) -> Slopes:
        """Return the slopes at step h."""
        up, step_up = self.move(h)
        down, step_down = self.move(-h)
        if step_up == 0.0 or step_down == 0.0 or up.shape != self.base.shape or down.shape != self.base.shape:
            nan = float("nan")
            return Slopes(h, nan, nan, nan, nan)
        right = float(self.weights @ (up - self.base)) / step_up
        left = float(self.weights @ (down - self.base)) / step_down
        central = float(self.weights @ (up - down)) / (step_up - step_down)
        self.touched[(up != down) | (up != self.base)] = True
        largest = np.maximum(np.abs(self.base), np.maximum(np.abs(up), np.abs(down)))
        rounding = np.abs(self.weights) * (self.eps * largest + self.noise)
        # Where no output moved, all of them may hide what is too small to move them.
        blur = float(rounding[self.touched].sum() if self.touched.any() else rounding.sum())
        return Slopes(h, left, right, central, blur / h)


def differentiate(line: Line) -> Estimate:
    """Return the derivative along the line, with large steps first and smaller ones only where those disagree."""
    h, window = _first_finite(line)
    if window is None:
        return Estimate(float("nan"), float("inf"), "nonfinite")
    levels = [window]
    best: Estimate | None = None
    plateau: Slopes | None = None
    stale = 0
    for _ in range(line.halvings):
        h /= 2
        level = line.slopes(h)
        if not level.finite:
            break
        levels.append(level)
        if len(levels) < 3:
            continue
        first, _, last = levels[-3:]
        if plateau is not None and 64 * last.noise > abs(plateau.gap) / 2:
            break
        if _gap_shrinks(first, last):
            plateau = None
            estimate = _richardson(levels[-3:])
            if best is None or estimate.error < best.error:
                best, stale = estimate, 0
            else:
                stale += 1
            if estimate.error <= max(ACCEPT * abs(estimate.value), 5 * last.noise) or stale >= 8:
                break
        elif abs(last.gap) > 20 * last.noise:
            plateau = last
    if plateau is None and best is not None:
        return best
    return _classify(levels, best)


def _first_finite(line: Line) -> tuple[float, Slopes | None]:
    """Return the largest step at which both sides are finite; near the edge of a domain it is small."""
    h = line.first_step
    for _ in range(14):
        level = line.slopes(h)
        if level.finite:
            return h, level
        h /= 8
    return h, None


def _gap_shrinks(first: Slopes, last: Slopes) -> bool:
    """Tell whether the one-sided slopes approach each other over two halvings, as a smooth function's do.

    A gap of 1e-7 of the slope, or one that rounding explains, is none.
    """
    negligible = max(1e-7 * (abs(last.left) + abs(last.right)), 64 * last.noise)
    return abs(last.gap) <= max(negligible, 0.35 * abs(first.gap))


def _richardson(levels: list[Slopes]) -> Estimate:
    coarse, middle, fine = (level.central for level in levels)
    fourth_coarse = middle + (middle - coarse) / 3
    fourth = fine + (fine - middle) / 3
    sixth = fourth + (fourth - fourth_coarse) / 15
    return Estimate(sixth, abs(sixth - fourth) + levels[-1].noise)


def _classify(levels: list[Slopes], best: Estimate | None) -> Estimate:
    """Name what keeps the two sides apart: a kink, a jump, or outputs that are only known to a few digits."""
    if len(levels) == 2:  # there was no time for more: what halving the step changes is the error
        coarse, fine = levels
        change = abs(fine.central - coarse.central)
        value = fine.central + (fine.central - coarse.central) / 3
        return Estimate(value, max(change, abs(fine.gap)) + fine.noise)
    clear = [level for level in levels if level.noise <= 0.02 * abs(level.gap)]
    if len(clear) < 4:
        return best if best is not None else Estimate(levels[0].central, abs(levels[0].gap))
    first, last = clear[0], clear[-1]
    grows = abs(last.gap) > 0.25 * abs(first.gap) * first.h / last.h
    if grows:
        return Estimate(last.central, float("inf"), "jump", last.left, last.right)
    return _kink(clear)


def _kink(levels: list[Slopes]) -> Estimate:
    """Return both one-sided slopes, each freed of curvature by one extrapolation, where they are steadiest."""
    found: Estimate | None = None
    for coarse, fine in pairwise(levels):
        left, right = 2 * fine.left - coarse.left, 2 * fine.right - coarse.right
        error = abs(left - fine.left) + abs(right - fine.right) + 3 * fine.noise
        if found is None or error < found.error:
            found = Estimate((left + right) / 2, error, "kink", left, right)
    assert found is not None  # the caller hands over at least four levels
    return found
