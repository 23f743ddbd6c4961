"""A family for three columns of each kind, with data, decoder outputs and tensors that suit it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from vae_np.likelihoods import FAMILIES, Family

NAMES = tuple(FAMILIES)
COLUMNS, BATCH, SAMPLES = 3, 5, 2


@dataclass
class Case:
    """x (B, C), out (S, B, C, outputs) and the family's tensors."""

    family: Family
    x: np.ndarray
    out: np.ndarray
    tensors: dict[str, np.ndarray]

    def cells(self, out: Any = None, tensors: Any = None) -> np.ndarray:
        """Log-densities, perhaps at other outputs or tensors."""
        at = self.out if out is None else out, self.tensors if tensors is None else tensors
        return self.family.log_prob_forward(self.x, *at)[0]


def case(name: str, seed: int = 0) -> Case:
    """Random numbers for a family by name."""
    rng = np.random.default_rng(seed)
    levels = {"categorical": 4, "discretized-logistic": 8}.get(name, 0)
    family = FAMILIES[name](COLUMNS, levels)
    shape = (BATCH, COLUMNS)
    x = {
        "bernoulli": lambda: rng.integers(0, 2, shape),
        "continuous-bernoulli": lambda: rng.random(shape),
        "categorical": lambda: rng.integers(0, 4, shape),
        "poisson": lambda: rng.poisson(3, shape),
        "negative-binomial": lambda: rng.poisson(3, shape),
        "discretized-logistic": lambda: rng.integers(0, 8, shape),
    }.get(name, lambda: rng.standard_normal(shape))()
    out = rng.standard_normal((SAMPLES, *shape, family.outputs))
    tensors = {key: start + 0.5 * rng.standard_normal(held) for key, (held, start) in family.tensors().items()}
    return Case(family, x.astype(np.float64), out, tensors)
