"""Taylor's remainder as a second opinion: f(x + t d) - f(x) - t a·d is of order t² where the gradient a is right.

Where a is wrong, the remainder shrinks like t. The order is read where the remainder is well above rounding (Farrell,
Ham, Funke and Rognes 2013 test adjoints in this way).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from vae_np._types import Array
from vae_np.gradcheck import tree
from vae_np.gradcheck.findings import Row, Taylor
from vae_np.gradcheck.judge import Evidence
from vae_np.gradcheck.one_tensor import View, random_direction
from vae_np.gradcheck.subject import CallError, Subject

# Steps 2^-3, 2^-5, ..., in units of each tensor's size.
STEPS = tuple(2.0**-k for k in range(3, 25, 2))
CALLS = len(STEPS) + 1
# A remainder below this many times its rounding shows no order.
CLEAR = 64.0


def verdict(
    found: Sequence[tuple[Row, Evidence, View]],
    subject: Subject,
    weights: Array,
    rng: np.random.Generator,
    noise: Array,
) -> Taylor:
    """Return the order of the remainder along one random direction of all tensors together."""
    directions = {evidence.leaf: random_direction(rng, view) for _, evidence, view in found}
    for _, evidence, _ in found:  # across a kink there is no expansion
        for index, _ in evidence.numeric.kinks:
            directions[evidence.leaf][index] = 0.0
    slope, length = 0.0, 0.0
    for _, evidence, _ in found:
        assert evidence.analytic is not None
        terms = evidence.analytic.astype(np.float64) * directions[evidence.leaf]
        slope += float(terms.sum())
        length += float(np.abs(terms).sum())
    if any(evidence.x.dtype.itemsize < 8 for _, evidence, _ in found):
        return Taylor(math.nan, "none", "rounding comes first in this precision")
    remainders = []
    try:
        base = subject.outputs().astype(np.float64)
        for t in STEPS:
            out = subject.outputs([_moved(v, t, directions.get(i)) for i, v in enumerate(subject.leaves)])
            if out.shape != base.shape or not np.isfinite(out).all():
                continue
            eps = float(np.finfo(out.dtype).eps) if np.issubdtype(out.dtype, np.floating) else 2.0**-52
            size = np.maximum(np.abs(out), np.abs(base))
            rounding = float((np.abs(weights) * (eps * size + noise)).sum()) + eps * t * length
            remainders.append((t, abs(float(weights @ (out - base)) - t * slope), rounding))
    except CallError as error:
        return Taylor(math.nan, "none", f"the point cannot be moved: {error}")
    return _read(remainders)


def _moved(leaf: object, t: float, direction: Array | None) -> object:
    if direction is None:
        return leaf
    moved = np.asarray(leaf) + t * direction
    return moved if tree.is_array(leaf) else moved[()]


def _read(remainders: list[tuple[float, float, float]]) -> Taylor:
    """Read the order from the smallest steps whose remainder is clear of rounding."""
    clear = []
    for t, remainder, rounding in remainders:
        if remainder <= CLEAR * rounding:
            break
        clear.append((t, remainder))
    if not remainders:
        return Taylor(math.nan, "none", "forward is not finite around this point")
    if not clear:
        return Taylor(math.nan, "right", "the remainder is at rounding from the first step on")
    if len(clear) < 3:
        return Taylor(math.nan, "none", "rounding comes before an order can be read")
    (t0, r0), (t1, r1) = clear[-3], clear[-1]
    order = math.log(r0 / r1) / math.log(t0 / t1)
    if order >= 1.7:
        return Taylor(order, "right")
    if order <= 1.2:
        return Taylor(order, "wrong")
    return Taylor(order, "none", f"order {order:.2f} lies between that of a right and that of a wrong gradient")
