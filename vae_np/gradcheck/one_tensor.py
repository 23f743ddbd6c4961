"""One tensor's way into the function, and its derivatives there: of an entry, or along a direction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from vae_np._types import Array
from vae_np.gradcheck import budget
from vae_np.gradcheck.budget import Budget
from vae_np.gradcheck.complex_step import complex_derivative
from vae_np.gradcheck.differences import FIRST_STEP, Estimate, Line, differentiate
from vae_np.gradcheck.places import Index
from vae_np.gradcheck.subject import CallError


@dataclass
class View:
    """One tensor's way into the function: `evaluate(array)` returns all outputs as one vector.

    `weights` is the upstream gradient, and `noise` holds the measured rounding errors of the outputs (see `rounding`).
    `eps` is the machine epsilon of what carries the values in and out.
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
    calls: int = 0
    last_error: str = ""
    largest: float = 0.0

    def __post_init__(self) -> None:
        size = float(np.sqrt(np.mean(np.square(self.x.astype(np.float64))))) if self.x.size else 0.0
        self.scale = size if np.isfinite(size) and size > 0 else 1.0

    def _try(self, x: Array) -> Array:
        """Return the outputs as float64, or NaN where forward refuses x, as outside of its domain."""
        self.calls += 1
        try:
            return self.evaluate(x).astype(np.float64)
        except CallError as error:
            self.last_error = str(error)
            return np.full(self.base.shape, np.nan)

    def estimate(self, index: Index) -> Estimate:
        """Return the partial derivative at an entry.

        The step follows the entry's own size or that of the whole tensor, whichever is larger. Where that does not give
        a precise value, the entry's own size is tried, and then sizes at which rounding weighs less.
        """
        started, before = budget.now(), self.calls
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
            # Nothing moved: either nothing depends on this entry, or its effect is lost in rounding.
            unit = at(1.0)
            best = unit if unit.kind == "smooth" and abs(unit.value) > 10 * unit.error else best
        if best.kind == "smooth":
            self.largest = max(self.largest, abs(best.value))
        self.budget.learn(started, self.calls - before)
        return best

    def along(self, direction: Array) -> Estimate:
        """Return the derivative along a direction (an array like x)."""

        def at(size: float) -> Estimate:
            return differentiate(self.direction_line(direction * size)).scaled(1.0 / size)

        started, before = budget.now(), self.calls
        best = self._climb(at(1.0), at, 1.0)
        self.budget.learn(started, self.calls - before)
        return best

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
        started = budget.now()
        value = complex_derivative(self.evaluate, self.weights, self.x, direction)
        self.budget.learn_complex(started)
        return value


def random_direction(rng: np.random.Generator, view: View) -> Array:
    """Return a random direction whose entries have a random sign and 0.5 to 1.5 times the size of what they move."""
    size = np.maximum(np.abs(view.x.astype(np.float64)), view.scale)
    direction: Array = rng.choice([-1.0, 1.0], view.x.shape) * rng.uniform(0.5, 1.5, view.x.shape) * size
    return direction
