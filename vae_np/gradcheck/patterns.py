"""The patterns that a wrong gradient can make, one function per pattern: it returns a sentence, or None."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import combinations, permutations

import numpy as np

from vae_np._types import Array
from vae_np.gradcheck.findings import show_index
from vae_np.gradcheck.judge import Evidence
from vae_np.gradcheck.places import Index

CONSTANTS = {
    math.sqrt(2): "√2",
    1 / math.sqrt(2): "1/√2",
    math.pi: "π",
    2 * math.pi: "2π",
    1 / (2 * math.pi): "1/2π",
    math.log(2): "ln 2 (nats for bits)",
    1 / math.log(2): "1/ln 2 (bits for nats)",
}


# A difference of at most this share of the largest entry is judged by its size and not by its pattern.
NEARLY = 1e-3
# With more entries than this, sorted values are not compared.
MOST_SORTED = 10_000


def close(a: Array, b: Array, tolerance: float) -> bool:
    """Tell whether two vectors agree to a share of their largest entry."""
    if not a.size:
        return False
    return bool(np.abs(a - b).max() <= tolerance * max(float(np.abs(a).max()), float(np.abs(b).max())))


def spell(value: float) -> str:
    """Return a number as a small fraction or a known constant where it is one, else with six digits."""
    fraction = Fraction(value).limit_denominator(12)
    if fraction and abs(float(fraction) - value) <= 1e-6 * abs(value) and abs(fraction.numerator) <= 100:
        return str(fraction)
    for constant, name in CONSTANTS.items():
        if abs(abs(value) - constant) <= 1e-6 * constant:
            return ("-" if value < 0 else "") + name
    return f"{value:.6g}"


def nothing(analytic: Array, numeric: Array) -> str | None:
    """Recognise a gradient that is zero everywhere on one side only."""
    if not np.abs(analytic).any():
        return "the gradient is zero everywhere; it was never computed, or a term is missing"
    if np.abs(numeric).max() <= 1e-12 * np.abs(analytic).max():
        return "the output does not depend on it here (the numeric gradient is zero), but the gradient is not zero"
    return None


def nearly(evidence: Evidence, analytic: Array, numeric: Array, tolerance: float) -> str | None:
    """Recognise a small difference at most entries: the size is judged before any pattern."""
    size = float(np.abs(numeric).max())
    gap = float(np.abs(analytic - numeric).max())
    informative = np.count_nonzero((analytic != 0) | (numeric != 0))
    if gap <= max(tolerance, NEARLY) * size and len(evidence.wrong) >= informative / 2:
        digits = int(-math.log10(gap / size)) if gap > 0 else 16
        return (
            f"it agrees to {digits} digits: an added epsilon, a rounded constant, a cast to lower precision, "
            "or a mistake in a term that hardly weighs here"
        )
    return None


def clipped(evidence: Evidence, analytic: Array, numeric: Array) -> str | None:
    """Recognise a limit: every wrong entry is at it, the right value lies beyond, and no right entry is at the limit.

    Where right entries are at it as well, the values are counts, and the wrong ones are other counts.
    """
    bad = np.array([index in set(evidence.wrong) for index in evidence.numeric.indices])
    limits = np.abs(analytic[bad])
    if len(limits) < 2 or not limits[0] > 0 or not (limits == limits[0]).all():
        return None
    beyond = (np.sign(analytic[bad]) == np.sign(numeric[bad])) & (np.abs(numeric[bad]) > limits[0])
    if not beyond.all() or np.abs(analytic).max() > limits[0] or (np.abs(analytic[~bad]) == limits[0]).any():
        return None
    return f"every wrong entry is ±{spell(float(limits[0]))}: clipped"


def rearranged(numeric: Array | None, analytic: Array, tolerance: float) -> str | None:
    """Recognise the right values at other places, because axes are permuted or the order is mixed up."""
    if numeric is None or numeric.ndim < 2 or numeric.size > MOST_SORTED:
        return None
    analytic = analytic.astype(np.float64)
    ordered = close(np.sort(analytic, axis=None), np.sort(numeric, axis=None), tolerance)
    if not ordered or close(analytic, numeric, tolerance):
        return None
    axes = tuple(range(numeric.ndim))
    for order in permutations(axes):
        if order != axes and close(analytic, numeric.transpose(order).reshape(numeric.shape), tolerance):
            way = f"; it is the right one with axes {order}, reshaped"
            return f"the values are right and at other places: a reshape where a transpose is due{way}"
        if order != axes:
            other = numeric.reshape([numeric.shape[i] for i in order]).transpose(np.argsort(order))
            if close(analytic, other, tolerance):
                return "the values are right and at other places: a reshape where a transpose is due"
    for axis in axes:
        if close(analytic, np.flip(numeric, axis), tolerance):
            return f"the values are right and in the opposite order along axis {axis}"
    return "the values are right and at other places: axes or indices are mixed up"


def factor(analytic: Array, numeric: Array, sizes: dict[int, str], norm: float, tolerance: float) -> str | None:
    """Recognise one factor everywhere: the sign, a size of the problem, a small fraction or a known constant.

    `norm` is the length of all gradients together, which is a round number where it was clipped.
    """
    c = float(analytic @ numeric / (numeric @ numeric))
    if not c or not close(analytic, c * numeric, tolerance):
        return None
    if abs(c + 1) <= tolerance:
        return "the sign is wrong everywhere"
    if abs(c - 1) <= tolerance:
        return None  # the two agree, and a factor of 1 explains nothing
    sign = ", and the sign is wrong" if c < 0 else ""
    size = abs(c)
    meanings = []
    for length, what in sizes.items():
        if abs(size - length) <= tolerance * length:
            meanings.append(f"{length} is {what}: a sum where the mean is due, or 1/{length} is missing")
        elif abs(size * length - 1) <= tolerance:
            meanings.append(f"{length} is {what}: a mean where the sum is due, or 1/{length} enters twice")
    nice = spell(size)
    if 0 < c < 1 and not meanings and "/" not in nice and abs(norm * 100 - round(norm * 100)) <= 1e-6 * norm:
        return f"it is {nice} times the numeric gradient everywhere, and its norm is {norm:.4g}: clipped by norm"
    informative = np.count_nonzero(np.abs(numeric) > 1e-9 * np.abs(numeric).max())
    if informative < 2 and not meanings and nice == f"{size:.6g}" and "/" not in nice and not size.is_integer():
        return None  # a single entry that is not zero always has some factor
    if size in (0.5, 2.0) or nice in ("1/2", "2"):
        example = "-1/4 where -1/2 is due" if size < 1 else "-1 where -1/2 is due"
        meanings.append(f"like {example}")
    meaning = f" ({'; '.join(meanings)})" if meanings else ""
    return f"it is {nice} times the numeric gradient everywhere: a constant factor{sign}{meaning}"


def factor_array(numeric: Array | None, analytic: Array, companions: dict[str, Array], tolerance: float) -> str | None:
    """Recognise an array that is missing or superfluous as a factor: the output, an input, the upstream gradient."""
    if numeric is None or numeric.size < 3:
        return None
    for name, array in companions.items():
        if name and np.ptp(array) > 0 and close(analytic * array, numeric, tolerance):
            return f"a factor of {name} is missing"
        if name and np.ptp(array) > 0 and close(analytic, numeric * array, tolerance):
            return f"a factor of {name} is too much"
    return None


def lost_sign(analytic: Array, numeric: Array, tolerance: float) -> str | None:
    """Recognise a gradient that is right but for signs."""
    if close(np.abs(analytic), np.abs(numeric), tolerance):
        if (analytic >= 0).all():
            return "every entry is right but for its sign, and none is negative: an absolute value"
        return "entries are right but for the sign of some"
    return None


def along_axis(
    numeric: Array | None, analytic: Array, companions: dict[str, Array], x: Array, tolerance: float
) -> str | None:
    """Recognise a difference or a factor that depends on one axis only.

    `companions` are factors that the difference may carry.
    """
    if numeric is None or numeric.ndim < 2 or min(numeric.shape) < 2:
        return None
    analytic = analytic.astype(np.float64)
    everywhere = np.abs(numeric).min() > 1e-9 * np.abs(numeric).max()
    for axes in _subsets(numeric.ndim):
        shown = f"axis {axes[0]}" if len(axes) == 1 else f"axes {', '.join(map(str, axes))}"
        each = _each(axes, numeric.ndim)
        centred = x.astype(np.float64) - x.mean(axis=axes, keepdims=True)
        carried = {"": np.ones(x.shape)} | ({"x - mean": centred} if centred.all() else {}) | companions
        for name, companion in carried.items():
            term = (analytic - numeric) / companion
            if np.ptp(term, axis=axes).max() <= 10 * tolerance * np.abs(term).max():
                times = f", times {name}" if name else ""
                what = "axis" if len(axes) == 1 else "axes"
                return (
                    f"it is off by a term that is constant along {shown} (one value per {each}{times}): "
                    f"a sum or mean over that {what} is missing or wrong, as in softmax or normalisation"
                )
        if everywhere:
            ratio = analytic / numeric
            if np.ptp(ratio, axis=axes).max() <= 10 * tolerance * np.abs(ratio).max():
                return f"it is off by one factor per {each} (the ratio is constant along {shown})"
    return None


def _subsets(count: int) -> list[tuple[int, ...]]:
    """Return the sets of axes that leave at least one out, the largest first; of one axis, the last first."""
    return [axes for size in range(count - 1, 0, -1) for axes in reversed(list(combinations(range(count), size)))]


def _each(axes: tuple[int, ...], count: int) -> str:
    """Return what remains of a tensor along whose axes nothing changes."""
    if count == 2:
        return {0: "column", 1: "row"}[axes[0]]
    rest = [axis for axis in range(count) if axis not in axes]
    return f"slice along axis {axes[0]}" if len(axes) == 1 else f"index of axis {', '.join(map(str, rest))}"


def similarity(analytic: Array, numeric: Array) -> str | None:
    """Return how the two compare as vectors, where there is no pattern."""
    lengths = float(np.linalg.norm(analytic)), float(np.linalg.norm(numeric))
    if min(lengths) == 0 or numeric.size < 2:
        return None
    cosine = float(analytic @ numeric) / (lengths[0] * lengths[1])
    hint = "mostly right: a small term may be missing" if cosine > 0.95 else "no simple pattern"
    return f"{hint} (cosine with the numeric gradient {cosine:.3f}, length ratio {lengths[0] / lengths[1]:.3g})"


def somewhere(
    evidence: Evidence, analytic: Array, numeric: Array, labels: dict[str, Array], anywhere: bool = False
) -> str | None:
    """Recognise a gradient that is wrong at some entries only, and say where and what they have in common.

    `labels` are the arrays of integers among the inputs, by their names. Where `anywhere` is True, the places are named
    also where they have nothing in common.
    """
    indices = evidence.numeric.indices
    wrong = set(evidence.wrong)
    informative = [i for i, n, a in zip(indices, numeric, analytic, strict=True) if n != 0 or a != 0]
    right = [i for i in informative if i not in wrong]
    if not right:
        return None
    place = _at_labels(evidence.x, wrong, right, labels) or _place(evidence.x, indices, wrong, right)
    if place is None:
        few = len(wrong) <= len(right)
        if not anywhere or not few:
            return None
        place = (
            f"first {show_index(min(wrong))}, last {show_index(max(wrong))}, {len(wrong)} of {len(indices)} looked at"
        )
    bad = np.array([index in wrong for index in indices])
    if not analytic[bad].any():
        why = "; they are zero where the numeric ones are not: backward masks or clamps what forward lets through"
    elif np.abs(numeric[bad]).max() <= 1e-12 * np.abs(numeric).max():
        why = "; the numeric ones are zero there: forward masks or clamps what backward lets through"
    else:
        ratio = analytic[bad] / np.where(numeric[bad] == 0, np.nan, numeric[bad])
        steady = np.isfinite(ratio).all() and np.ptp(ratio) <= 1e-6 * np.abs(ratio).max()
        why = f"; there it is {spell(float(ratio[0]))} times the numeric gradient" if steady and len(ratio) > 1 else ""
    return f"it is wrong only at some entries: {place}{why}"


def _at_labels(x: Array, wrong: set[Index], right: list[Index], labels: dict[str, Array]) -> str | None:
    """Return the labels at whose entries everything wrong lies, or nothing; the result is None where there are none."""
    for name, values in labels.items():
        found, counts = np.unique(values, return_counts=True)
        repeated = {int(value) for value in found[counts > 1]}
        rows = {index[0] for index in wrong if index}
        if repeated and rows and rows <= repeated and not repeated & {index[0] for index in right if index}:
            return f"in the rows that {name} names more than once: one overwrites the other where they have to be added"
        if x.ndim < 2 or values.shape != x.shape[:-1] or values.min() < 0 or values.max() >= x.shape[-1]:
            continue
        at = {(*place, int(label)) for place, label in np.ndenumerate(values)}
        if wrong <= at and not at & set(right):
            return f"at the entries that {name} names"
        if not wrong & at and set(right) <= at:
            return f"at all entries but those that {name} names"
    return None


def _place(x: Array, indices: list[Index], wrong: set[Index], right: list[Index]) -> str | None:
    """Return where the wrong entries are: an index, rows or columns, the diagonal, a sign of the input, or None."""
    known = f"{len(wrong)} of {len(indices)} looked at"
    if len(wrong) == 1:
        (index,) = wrong
        ends = {(0,) * x.ndim: " (the first)", tuple(n - 1 for n in x.shape): " (the last)"}
        return f"index {show_index(index)}{ends.get(index, '')}"
    for axis in range(x.ndim):
        spots = {index[axis] for index in wrong}
        if not spots & {index[axis] for index in right}:
            return f"{_spots(sorted(spots), axis, x)}, {known}"
    if x.ndim == 2:
        tests = {
            "on the diagonal": lambda i: i[0] == i[1],
            "off the diagonal": lambda i: i[0] != i[1],
            "above the diagonal": lambda i: i[0] < i[1],
            "below the diagonal": lambda i: i[0] > i[1],
        }
        for text, test in tests.items():
            if all(map(test, wrong)) and not any(map(test, right)):
                return f"{text}, {known}"
    signs = {"negative": x < 0, "positive": x > 0}
    for text, mask in signs.items():
        if all(mask[index] for index in wrong) and not any(mask[index] for index in right):
            return f"where the input is {text}, {known}"
    values = sorted(float(x[index]) for index in wrong)
    others = [float(x[index]) for index in right]
    if others and (values[0] > max(others) or values[-1] < min(others)):
        bound = f"above {max(others):.4g}" if values[0] > max(others) else f"below {min(others):.4g}"
        return f"where the input is {bound}, {known}"
    return None


def _spots(spots: list[int], axis: int, x: Array) -> str:
    length = x.shape[axis]
    what = {(2, 0): "row", (2, 1): "column", (1, 0): "entry"}.get((x.ndim, axis), f"index on axis {axis}")
    plural = {"row": "rows", "column": "columns", "entry": "entries"}.get(what, f"indices on axis {axis}")
    if len(spots) == 1:
        end = {0: "the first ", length - 1: "the last "}.get(spots[0], "")
        return f"{end}{what} ({spots[0]})"
    run = spots == list(range(spots[0], spots[-1] + 1))
    blocks = length // len(spots)
    if run and 3 <= blocks <= 4 and length == blocks * len(spots) and spots[0] % len(spots) == 0:
        place = f"{plural} {spots[0]} to {spots[-1]}"
        return f"block {spots[0] // len(spots) + 1} of {blocks} ({place}), one gate of {blocks}"
    if run and spots[0] == 0:
        return f"the first {len(spots)} {plural}"
    if run and spots[-1] == length - 1:
        return f"the last {len(spots)} {plural}"
    shown = ", ".join(map(str, spots[:6])) + (", ..." if len(spots) > 6 else "")
    return f"{plural} {shown}"
