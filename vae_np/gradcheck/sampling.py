"""Which entries of a tensor are looked at, and along how many random directions, in the time that there is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from vae_np.gradcheck.gradients import Gradient
from vae_np.gradcheck.judge import Evidence
from vae_np.gradcheck.numeric import Numeric, locate, numeric_gradient
from vae_np.gradcheck.one_tensor import View
from vae_np.gradcheck.options import Settings
from vae_np.gradcheck.places import Index, unravel

# Forward calls that the differences of one entry cost, roughly; a complex step comes on top.
CALLS_PER_ENTRY = 8
# Numbers that all calls for one tensor may read and write before it is sampled instead.
WORK = 3e7
SAMPLE = 24
FEWEST = 3
MORE_AFTER_FAILURE = 48


@dataclass(frozen=True)
class Sample:
    """The entries and the number of random directions; `rationed` is True where the time decided, and not the size."""

    indices: list[Index]
    projections: int
    rationed: bool


def plan(
    view: View, gradient: Gradient, settings: Settings, calls: float, work: int, rng: np.random.Generator
) -> Sample:
    """Return all entries, or for a tensor too large for that a sample with both ends and the largest gradient.

    `calls` is the number of forward calls that this tensor may take, and `work` the amount of numbers that one call
    reads and writes.
    """
    size = view.x.size
    price = CALLS_PER_ENTRY + (view.budget.complex_calls if settings.complex else 0.0)
    forced = bool(settings.methods & {"complex", "central"}) and "projection" not in settings.methods
    small = size <= settings.max_entries and (size * work <= WORK or size <= SAMPLE)
    everything = forced or (small and settings.methods != {"projection"})
    if everything and size * price <= calls:
        projections = settings.projections if "projection" in settings.methods else 0
        return Sample([unravel(i, view.x.shape) for i in range(size)], projections, False)
    # Half of the calls go to directions, which see every entry at once, and half to single entries.
    projections = int(min(settings.projections, max(calls / 2 // price, 1)))
    affordable = int(min(SAMPLE, max((calls - projections * price) // price, 0)))
    count = min(size, affordable)
    picked = [0, size - 1]
    if gradient.value is not None and gradient.value.shape == view.x.shape and np.isfinite(gradient.value).all():
        picked.insert(0, int(np.argmax(np.abs(gradient.value))))
    picked += rng.choice(size, count, replace=False).tolist()
    indices = [unravel(i, view.x.shape) for i in list(dict.fromkeys(picked))[: max(count, 0 if affordable == 0 else 3)]]
    rationed = everything or affordable < SAMPLE or projections < settings.projections
    return Sample(indices, projections, rationed)


def blind_spot(numeric: Numeric, settings: Settings, sample: Sample) -> str:
    """Say what was looked at, and what mistake can be missed, where the time decided that."""
    if not (numeric.left or (sample.rationed and not numeric.exhaustive)):
        return ""
    entries = len(numeric.indices) + len(numeric.kinks) + len(numeric.unclear)
    return (
        f"sampled to end within {settings.seconds:g} s (entries: {entries}, random directions: "
        f"{len(numeric.projections)}); a mistake in few entries that is small beside the whole gradient can be missed"
    )


def look_closer(view: View, evidence: Evidence, rng: np.random.Generator, calls: float) -> None:
    """Add entries to a sample that failed: the one the projections lead to, its row and column, and others.

    `calls` is the number of forward calls that this may take.
    """
    numeric = evidence.numeric
    known = {*numeric.indices, *(index for index, _ in numeric.kinks), *numeric.unclear}
    more: list[Index] = []
    price = CALLS_PER_ENTRY + (view.budget.complex_calls if numeric.sharp else 0.0)
    one = view.budget.complex_calls if numeric.sharp else CALLS_PER_ENTRY
    halvings = 2 * math.log2(max(view.x.size, 2)) * one
    if evidence.shaped and evidence.analytic is not None and numeric.projections and calls > halvings:
        analytic = evidence.analytic.astype(np.float64)
        more.append(locate(view, numeric.projections[0].direction, analytic, numeric.sharp))
    size = view.x.size
    ends = [0, size - 1, *rng.choice(size, min(size, MORE_AFTER_FAILURE), replace=False).tolist()]
    if view.x.ndim:
        columns = view.x.shape[-1]
        ends += [*range(min(columns, 8)), *range(0, size, columns)[:8]]
    more += [unravel(i, view.x.shape) for i in ends]
    added = [i for i in dict.fromkeys(more) if i not in known]
    most = len(added) if calls == math.inf else int(calls / price)
    extra = numeric_gradient(view, added[:most], [], numeric.sharp)
    numeric.indices += extra.indices
    numeric.values = np.concatenate([numeric.values, extra.values])
    numeric.errors = np.concatenate([numeric.errors, extra.errors])
    both = numeric.contested is not None and extra.contested is not None
    numeric.contested = np.concatenate([numeric.contested, extra.contested]) if both else None
    numeric.kinks += extra.kinks
    numeric.unclear += extra.unclear
