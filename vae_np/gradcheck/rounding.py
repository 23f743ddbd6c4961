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
STEP_LOW = 2.0**-14
DIRECTIONS = 2
# The sixth difference of independent errors is this many times their standard deviation: sqrt(binomial(12, 6)).
GAIN = 924.0**0.5
# Noise of more units in the last place than this, where entries move by the tensor's size, may be a kink crossed.
PLAUSIBLE = 64.0


def noise(
    function: Callable[[list[Any]], Array],
    leaves: Sequence[Any],
    moving: Sequence[int],
    rng: np.random.Generator,
    directions: int = DIRECTIONS,
    ways: tuple[bool, ...] = (False, True),
) -> Array:
    """Return the standard deviation of the rounding error of each value of `function(leaves)`.

    `moving` lists the positions of the leaves that move. Zeros stay zero, so that a kink there is not crossed. `ways`
    says which sizes the steps follow: False for each entry's own, and True for that of the tensor, because an entry too
    small to move what it is added to shows no rounding otherwise. Values that are not finite, or whose number changes,
    count as exact.
    """
    here = function(list(leaves))
    largest = np.zeros(here.shape)
    eps = float(np.finfo(here.dtype).eps) if np.issubdtype(here.dtype, np.floating) else 0.0
    for alike in ways * directions:
        steps = {i: _step(leaves[i], alike, rng) for i in moving}
        points = [
            function([_moved(v, k * steps[i]) if i in steps else v for i, v in enumerate(leaves)]) for k in range(-3, 4)
        ]
        if any(point.shape != here.shape for point in points):
            continue
        sixth = np.abs(np.diff(np.array(points, dtype=np.float64), n=6, axis=0)[0]) / GAIN
        believed = np.isfinite(sixth)
        if alike:
            believed &= sixth <= PLAUSIBLE * eps * np.maximum(np.abs(here), 1.0)
        largest = np.maximum(largest, np.where(believed, sixth, 0.0))
    return largest


def _step(leaf: Any, alike: bool, rng: np.random.Generator) -> Array:
    """Return random steps in proportion to each entry, or to the tensor where that is larger; a zero stays zero."""
    array = np.abs(np.asarray(leaf, dtype=np.float64))
    size = np.sqrt(np.mean(np.square(array))) if alike and array.size else 0.0
    unit = STEP if np.asarray(leaf).dtype.itemsize >= 8 else STEP_LOW
    step: Array = unit * rng.uniform(0.5, 1.5, array.shape) * rng.choice([-1, 1], array.shape)
    return np.where(array > 0, step * np.maximum(array, size), 0.0)


def _moved(leaf: Any, step: Array) -> Any:
    array = np.asarray(leaf)
    moved = (array + step).astype(array.dtype)
    return moved if tree.is_array(leaf) else moved[()]
