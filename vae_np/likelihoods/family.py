"""What every family of p(x|z) has: a log-density cell by cell, its backward, its moments, and a draw.

A family speaks for some columns of x at once, each of which is independent of the others given z. The decoder gives it
`outputs` numbers per column; what does not depend on z, such as a dispersion, it keeps in tensors of its own. Cells are
not summed here: which of them are observed is not a family's affair. [D67]

    x (B, C)    out (S, B, C, outputs)    cells (S, B, C), log-densities in nats
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from vae_np._types import Array


@dataclass(frozen=True)
class Family:
    """A family of densities for `columns` columns; `levels` is how many values a cell may have, 0 where that is open.

    Everything is composed of NumPy's operations. Smooth functions also accept complex numbers, for derivatives by
    complex steps, and therefore branch on `.real`.
    """

    columns: int
    levels: int = 0

    #: How many levels a column has unless it is said; 0 where the family has none, None where they have to be named.
    default_levels: ClassVar[int | None] = 0
    #: Whether its columns are measurements, which may be brought to mean 0 and standard deviation 1. [D51]
    measured: ClassVar[bool] = False

    @property
    def outputs(self) -> int:
        """The decoder's outputs per column."""
        return 1

    @property
    def inputs(self) -> int:
        """The encoder's inputs per column."""
        return 1

    def tensors(self) -> dict[str, tuple[tuple[int, ...], float]]:
        """What is learned beside the decoder's outputs: shape and starting value by name."""
        return {}

    def expects(self) -> str:
        """What its cells may hold, in words."""
        return "finite numbers"

    def fits(self, x: Array) -> Array:
        """Which cells of x (N, C) the family has a density for, bool."""
        return np.isfinite(x)

    def seen(self, x: Array) -> Array:
        """What the encoder sees of whole cells x (B, C), (B, C, inputs): themselves, unless the family says better."""
        return x[..., None]

    def log_prob_forward(self, x: Array, out: Array, tensors: Mapping[str, Array]) -> tuple[Array, Any]:
        """log p(x|z) of each cell, (S, B, C) in nats, and what backward needs."""
        raise NotImplementedError

    def log_prob_backward(self, dcells: Array, cache: Any) -> tuple[Array, dict[str, Array]]:
        """dout (S, B, C, outputs) and the gradients of the tensors, from dcells (S, B, C)."""
        raise NotImplementedError

    def mean(self, out: Array, tensors: Mapping[str, Array]) -> Array:
        """E[x|z], (..., C), from out (..., C, outputs)."""
        raise NotImplementedError

    def variance(self, out: Array, tensors: Mapping[str, Array]) -> Array:
        """Var[x|z], (..., C), from out (..., C, outputs)."""
        raise NotImplementedError

    def features(self, out: Array, tensors: Mapping[str, Array]) -> Array:
        """What is averaged over z to know p(x) of a cell: mean and mean square, (..., C, 2). [D71]"""
        mean = self.mean(out, tensors)
        return np.stack([mean, self.variance(out, tensors) + mean * mean], axis=-1)

    def told(self, features: Array) -> tuple[Array, Array]:
        """The value for a missing cell and its spread, (..., C) each, from averaged features: mean and σ. [D71]"""
        mean = features[..., 0]
        return mean, np.sqrt(np.maximum(features[..., 1] - mean * mean, 0))

    def error(self, features: Array, errors: Array) -> Array:
        """The error of the value that `told` says, (..., C), from those of averaged features. [D71]"""
        return errors[..., 0]

    def draw(self, out: Array, tensors: Mapping[str, Array], random: np.random.Generator) -> Array:
        """x ~ p(x|z) of one row, (C,), from out (C, outputs). [D6]"""
        raise NotImplementedError


def summed_to(gradient: Array, shape: tuple[int, ...]) -> Array:
    """A tensor's gradient (C,) or (1,) from that of each cell, (S, B, C)."""
    by_column = gradient.sum(axis=(0, 1))
    return by_column.sum(keepdims=True) if shape == (1,) and len(by_column) > 1 else by_column
