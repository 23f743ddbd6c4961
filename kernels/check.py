"""Compare a kernel's result with the reference's: one number, and the place where it is worst.

The error of a tensor is max|result − reference| / max|reference|, over the entries where the reference is finite. What
is not finite is compared by kind: NaN with NaN, +inf with +inf, −inf with −inf, each at the same place. A reference of
zeros has no scale, so it asks for exact zeros. A denormal number counts as zero on either side, by the narrower of the
two types: kernels flush what the reference keeps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from vae_np._types import Array
from vae_np.errors import InputError


@dataclass(frozen=True)
class Comparison:
    """How far a result is from its reference: `error` (0 is exact, inf is a mismatch in kind) and `worst`, in words."""

    error: float
    index: tuple[int, ...]
    result: Any
    reference: Any

    @property
    def worst(self) -> str:
        """The worst entry, named."""
        place = ", ".join(map(str, self.index))
        return f"error {self.error:.3g}, worst at [{place}]: got {self.result!r}, expected {self.reference!r}"

    def check(self, tolerance: float, what: str = "result") -> None:
        """Raises AssertionError unless the error is at most `tolerance`."""
        if not self.error <= tolerance:
            raise AssertionError(f"{what}: {self.worst}; tolerance {tolerance:.3g}")


def compare(result: ArrayLike, reference: ArrayLike) -> Comparison:
    """The error of `result` against `reference`, real or complex arrays of one shape; raises InputError if not of one.

    The error is infinite where the two differ in NaN or infinity, or where an all-zero reference meets anything else.
    """
    a, r = np.asarray(result), np.asarray(reference)
    if a.shape != r.shape:
        raise InputError(f"result: got shape {a.shape}, expected {r.shape}")
    if a.size == 0:
        return Comparison(0.0, (), None, None)
    # bool and integers have no subtraction that is safe; every value the contract holds is exact in float64.
    a, r = (v if v.dtype.kind in "fc" else v.astype(np.float64) for v in (a, r))
    normal = max(np.finfo(v.dtype).tiny for v in (a, r))
    wide = np.complex128 if "c" in (a.dtype.kind, r.dtype.kind) else np.float64
    a, r = (np.where(np.abs(v) < normal, 0, v.astype(wide)) for v in (a, r))
    finite = np.isfinite(a) & np.isfinite(r)
    same_kind = finite | (np.isnan(a) & np.isnan(r)) | (~finite & (a == r))
    if not same_kind.all():
        return _at(np.inf, int(np.argmin(same_kind)), result, reference)
    distance = np.zeros(a.shape)
    distance[finite] = np.abs(a[finite] - r[finite])
    worst = int(np.argmax(distance))
    scale = float(np.abs(r[finite]).max()) if finite.any() else 0.0
    largest = float(distance.flat[worst])
    if largest == 0:
        return _at(0.0, worst, result, reference)
    return _at(largest / scale if scale > 0 else np.inf, worst, result, reference)


def compare_all(results: Mapping[str, Array], references: Mapping[str, Array]) -> dict[str, Comparison]:
    """`compare` for every named tensor; raises InputError if the names differ."""
    if set(results) != set(references):
        raise InputError(f"results: got {sorted(results)}, expected {sorted(references)}")
    return {name: compare(results[name], references[name]) for name in references}


def _at(error: float, flat: int, result: ArrayLike, reference: ArrayLike) -> Comparison:
    a, r = np.asarray(result), np.asarray(reference)
    index = tuple(int(i) for i in np.unravel_index(flat, r.shape))
    return Comparison(float(error), index, a[index].item(), r[index].item())
