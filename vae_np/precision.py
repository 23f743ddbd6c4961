"""What the matrix products of a training step do to their operands, in plain NumPy: what `--precision` names.

`full` products take numbers as they are. In `bf16` both operands are rounded to bfloat16, the upper half of a float32:
8 bits of exponent and 8 of mantissa, with the leading one that is not stored. In `bf16x3` each operand is split into
its bfloat16 and the bfloat16 of what that leaves over, and the product of the two rests is left out. Products of
bfloat16 numbers are exact in float32, and sums, biases, activations and everything else keep the precision of the
parameters. Binary x is exact in bfloat16, and its first layer has no products: it sums rows of weights as they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vae_np import ops
from vae_np._types import Array
from vae_np.choices import Precision
from vae_np.layers import ACTIVATIONS

FULL: Precision = "full"
# Which parts of both operands each precision multiplies, 0 their bfloat16 and 1 the rest's, the small products first.
_PARTS = {"bf16": ((0, 0),), "bf16x3": ((1, 0), (0, 1), (0, 0))}


def round_to_bfloat16(values: Array) -> Array:
    """The nearest bfloat16 numbers, ties to the even one, in the dtype of `values`, of any shape.

    NaN stays NaN, what is too large becomes infinite, and denormal numbers become zero, as processors have it.
    """
    single = np.asarray(values, np.float32)
    bits = single.view(np.uint32)
    # Half a unit less one is added to the lower half, and one more where the upper half is odd; then that half goes.
    nearest = ((bits + np.uint32(0x7FFF) + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)).view(np.float32)
    is_denormal = np.abs(single) < np.finfo(np.float32).tiny
    kept = np.where(is_denormal, np.copysign(np.float32(0), single), np.where(np.isnan(single), single, nearest))
    return kept.astype(np.asarray(values).dtype)


def _split(values: Array) -> tuple[Array, Array]:
    """The bfloat16 of each number, and that of what it leaves over."""
    first = round_to_bfloat16(values)
    return first, round_to_bfloat16(values - first)


def product(a: Array, b: Array, precision: str) -> Array:
    """A B (M, N) of A (M, K) and B (K, N), with the operands of a precision and sums in the dtype of A."""
    if precision == FULL:
        return a @ b
    of_a, of_b = _split(a), _split(b)
    return np.sum([of_a[i] @ of_b[j] for i, j in _PARTS[precision]], axis=0)


class ReducedOps:
    """The contract (`vae_np.ops`) with the products of a precision, to be passed where an `ops` is asked for."""

    def __init__(self, precision: str) -> None:
        self._precision = precision

    def __getattr__(self, name: str) -> Any:
        return getattr(ops, name)

    def affine_act_forward(self, x: Array, weight: Array, bias: Array, activation: str) -> tuple[Array, Any]:
        """y = activation(x W + b): x (B, I), weight (I, O), bias (O,), y (B, O). [D25] [D26]"""
        y, cache = ACTIVATIONS[activation][0](product(x, weight, self._precision) + bias)
        return y, (x, weight, cache, activation)

    def affine_act_backward(
        self, dy: Array, cache: Any, *, input_gradient: bool = True, weight_gradient: bool = True
    ) -> tuple[Array | None, Array | None, Array | None]:
        """dx (B, I), dweight (I, O), dbias (O,), from dy (B, O); None for those not asked for. [D25] [D26]"""
        x, weight, act_cache, activation = cache
        da = ACTIVATIONS[activation][1](dy, act_cache)
        dx = product(da, weight.T, self._precision) if input_gradient else None
        if not weight_gradient:
            return dx, None, None
        return dx, product(x.T, da, self._precision), da.sum(axis=0)
