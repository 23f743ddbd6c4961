"""Models whose p(x|z) is composed of families, or whose cells may be missing, and data that suit them. [D66] [D67]"""

from __future__ import annotations

import numpy as np

from vae_np._types import Array
from vae_np.architecture import Architecture
from vae_np.choices import COMPOSED_LIKELIHOODS
from vae_np.likelihoods import FAMILIES, Family

_LEVELS = 4
# Columns of every family, and two of one.
COLUMNS = {
    name: {"family": name, "levels": _LEVELS} if family.default_levels != 0 else name
    for name, family in FAMILIES.items()
} | {"another": "normal"}
# With likelihoods for a whole row, with columns, and with the contract's own where cells are missing.
OBSERVED = (
    *(Architecture(4, 2, (5,), "tanh", name) for name in COMPOSED_LIKELIHOODS if name != "columns"),
    Architecture(len(COLUMNS), 2, (5,), "tanh", "columns", columns=COLUMNS, missing="mask"),  # type: ignore[arg-type]
    Architecture(4, 2, (5,), "tanh", "bernoulli", missing="zero"),
    Architecture(4, 2, (5,), "tanh", "normal-diagonal", missing="mask"),
)


def rows_for(arch: Architecture, rows: int, rng: np.random.Generator) -> Array:
    """Data (rows, D) that suit an architecture's likelihood, NaN in a third of the cells if they may be missing."""
    assert arch.observation is not None
    x = np.empty((rows, arch.features))
    for group in arch.observation.groups:
        x[:, group.columns] = cells_for(group.family, (rows, len(group.columns)), rng)
    return x if arch.missing is None else np.where(rng.random(x.shape) < 1 / 3, np.nan, x)


def cells_for(family: Family, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Cells of a shape that a family has a density for: levels, counts, numbers in [0, 1], or any."""
    proposals = (
        rng.standard_normal(shape),
        rng.random(shape),
        rng.integers(0, family.levels or 6, shape).astype(np.float64),
        rng.integers(0, 2, shape).astype(np.float64),
    )
    return next(cells for cells in proposals if family.fits(cells).all())
