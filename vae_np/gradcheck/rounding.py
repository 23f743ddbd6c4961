"""How large the rounding errors of a function are, measured by sixth differences (Hamming 1973, Moré and Wild 2011).

All inputs move together by equal tiny steps. What is smooth vanishes in the sixth difference and rounding does not,
also that of terms which cancel inside of the function and leave no trace in the size of its values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.gradcheck import tree

# Relative steps in float64 and below: many units in the last place, and still tiny.
STEP = 2.0**-20
STEP_LOW = 2.0**-10
DIRECTIONS = 3
# The sixth difference of independent errors is this many times their standard deviation: sqrt(binomial(12, 6)).
GAIN = 924.0**0.5


def noise(
    function: Callable[[list[Any]], Array],
    leaves: Sequence[Any],
    moving: Sequence[int],
    rng: np.random.Generator,
    directions: int = DIRECTIONS,
) -> Array:
    """Return the standard deviation of the rounding error of each value of `function(leaves)`.

    moving: positions of the leaves that move, by factors near one, so that zeros stay zero and a kink there is not
    crossed. Values that are not finite, or that change their number, count as exact.
    """
    here = function(list(leaves))
    largest = np.zeros(here.shape)
    for _ in range(directions):
        factors = {
            i: rng.uniform(0.5, 1.5, np.shape(leaves[i])) * rng.choice([-1, 1], np.shape(leaves[i])) for i in moving
        }
        points = [
            function([_moved(v, k * factors[i]) if i in factors else v for i, v in enumerate(leaves)])
            for k in range(-3, 4)
        ]
        if all(point.shape == here.shape for point in points):
            sixth = np.abs(np.diff(np.array(points, dtype=np.float64), n=6, axis=0)[0]) / GAIN
            largest = np.maximum(largest, np.where(np.isfinite(sixth), sixth, 0.0))
    return largest


def _moved(leaf: Any, steps: Array) -> Any:
    array = np.asarray(leaf)
    unit = STEP if array.dtype.itemsize >= 8 else STEP_LOW
    moved = (array * (1.0 + unit * steps)).astype(array.dtype)
    return moved if tree.is_array(leaf) else moved[()]
