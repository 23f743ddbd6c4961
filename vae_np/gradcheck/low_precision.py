"""Gradients in float32, float16 and bfloat16: a verdict of their own.

What is given is already rounded, and the truth is the derivative in float64 at exactly those values. Whether the pair's
formula is right, its own gradient in float64 tells; how far rounding takes the gradient from it in low precision is
compared with what rounding the inputs alone does: by that much no backward can do better.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.gradcheck import tree
from vae_np.gradcheck.findings import Row

# A gradient that is further from the truth than this, relative to max(|a|, |n|, scale), in float64, is a wrong formula:
# constants that were rounded to low precision stay below.
FORMULA, FORMULA_HALF = 1e-4, 2e-3
# Rounding errors that are as good as rounding the result once.
GOOD = 8.0
# Roundings of the inputs that the gradient may be off by, since every operation on the way rounds as well.
ALLOWED = 64.0
# Where rounding the inputs changes the gradient by this share of it, low precision cannot tell anything.
ILL = 0.1
# In half precision, a gradient with a right formula that is off by more than this share is not off by rounding.
GROSS = 0.3
SHIFTS = 3


def quantised(values: Array, eps: float) -> Array:
    """Return values rounded to the precision of a dtype with this machine epsilon."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.round(mantissa * (2.0 / eps)) * (eps / 2.0), exponent)


def sensitivity(
    gradient: Callable[[Sequence[Any]], Array | None], leaves: Sequence[Any], eps: float, rng: np.random.Generator
) -> Array | None:
    """Return by how much a gradient in float64 changes where the inputs are off by roundings of size eps."""
    here = gradient(leaves)
    if here is None:
        return None
    largest = np.zeros(here.shape)
    for _ in range(SHIFTS):
        shifted = [
            (np.asarray(v) * (1.0 + eps * rng.uniform(-0.5, 0.5, np.shape(v))))[()] if tree.is_number(v) else v
            for v in leaves
        ]
        there = gradient(shifted)
        if there is not None and np.isfinite(there).all():
            largest = np.maximum(largest, np.abs(there - here))
    return largest


def is_wrong(wide: Row, eps: float) -> bool:
    """Tell whether a gradient is wrong by its row in float64: by more than constants of low precision explain."""
    return wide.verdict == "FAIL" and not wide.error <= (FORMULA if eps < 1e-4 else FORMULA_HALF)


def verdict(low: Row, analytic: Array, truth: Array, moved: Array, eps: float, dtype: str) -> Row:
    """Return the row of a gradient whose formula is right, with the verdict that low precision allows.

    `analytic` and `truth` are the gradients in low precision and in float64. `moved` is how much rounding the inputs
    changes the gradient.
    """
    size = float(np.abs(truth).max(initial=0.0))
    gap = np.abs(analytic - truth)
    off, unsure = float(gap.max(initial=0.0)), float(moved.max(initial=0.0))
    if size > 0 and unsure > ILL * size:
        text = f"ill-conditioned here: rounding the inputs to {dtype} changes it by {unsure / size:.0e} of its size"
        doubt = "unclear" if low.verdict == "FAIL" else low.verdict
        return replace(low, verdict=doubt, precision="ill-conditioned here", notes=(*low.notes, text))
    explained = off <= ALLOWED * (unsure + eps * size)
    if not explained and (low.verdict == "FAIL" or off > GROSS * size):
        text = f"right in float64, and off by {off / size if size else off:.0e} of its size in {dtype}: not by rounding"
        return replace(low, verdict="FAIL", precision="wrong", notes=(*low.notes, text))
    if (gap <= GOOD * eps * np.maximum(np.abs(truth), 1e-2 * size)).all():
        return replace(low, verdict="ok", precision="right")
    share = off / size if size else 0.0
    text = (
        f"right within what {dtype} allows: off by {share:.0e} of its size, {unsure / size if size else 0.0:.0e} from"
    )
    text += " rounding the inputs alone"
    return replace(low, verdict="ok", precision=f"right within what {dtype} allows", notes=(*low.notes, text))
