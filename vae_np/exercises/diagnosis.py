"""The likely cause of a wrong result, from how it differs from the right one in every case.

Each rule looks at one result over all cases, whose sizes differ: a factor that is one over the number of examples in
each of them is a mean where a sum is due, and no accident.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from vae_np._types import Array
from vae_np.exercises.exercise import SIZES, Case, Exercise
from vae_np.gradcheck.patterns import close, spell

# How closely a pattern has to fit, as a share of the largest entry.
FIT = 1e-8
# A difference below this share of the largest entry is one of digits.
NEARLY = 1e-3
_CONSTANTS = {
    0.5 * math.log(2 * math.pi): "½ log 2π",
    math.log(2 * math.pi): "log 2π",
    0.5: "½",
    1.0: "1",
}


@dataclass(frozen=True)
class Difference:
    """One result of an answer and the right one, case by case, with what may explain the difference.

    named: the arrays of each case by name, the arguments and whatever else is known.
    """

    name: str
    found: list[Array]
    exact: list[Array]
    cases: list[Case]
    named: list[dict[str, Array]]
    others: dict[str, list[Array]]

    def sizes(self, letter: str) -> list[int]:
        """One size in every case."""
        return [case.sizes[letter] for case in self.cases]


def explain(difference: Difference, letters: str) -> str | None:
    """Return what is wrong as one clause, or None; `letters` are the sizes that the exercise has."""
    rules: tuple[Callable[[Difference, str], str | None], ...] = (
        _not_finite,
        _nothing,
        _factor,
        _order,
        _rearranged,
        _constant,
        _function_of_it,
        _ratio,
        _term,
        _somewhere,
        _along_axis,
        _digits,
        _sign_of_some,
    )
    # Functions are tried on whatever an argument is, at which some overflow.
    with np.errstate(all="ignore"):
        return next((cause for rule in rules if (cause := rule(difference, letters))), None)


def explain_shape(found: Array, exact: Array, letters: str, case: Case) -> str | None:
    """Return why a result has another shape, or None."""
    if found.ndim == 2 and found.T.shape == exact.shape and close(found.T.ravel(), exact.ravel(), FIT):
        return "it is transposed"
    if found.size == exact.size and close(found.ravel(), exact.ravel(), FIT):
        return f"the values are right and the shape is not: reshape to {exact.shape}, or sum without keepdims"
    for count in range(1, found.ndim + 1):
        for axes in combinations(range(found.ndim), count):
            for what in ("sum", "mean"):
                reduced = getattr(found, what)(axis=axes)
                if reduced.shape == exact.shape and close(reduced.ravel(), exact.ravel(), FIT):
                    return f"the {what} over {_axes_text(found, axes, letters, case)} is missing"
    for count in range(1, exact.ndim + 1):
        for axes in combinations(range(exact.ndim), count):
            for what in ("sum", "mean"):
                reduced = getattr(exact, what)(axis=axes)
                if reduced.shape == found.shape and close(reduced.ravel(), found.ravel(), FIT):
                    return f"a {what} over {_axes_text(exact, axes, letters, case)} is too much"
    return None


def letters_of(exercise: Exercise) -> str:
    """The sizes that occur in an exercise, in the order of its arguments."""
    axes = [a.axes for a in exercise.arguments] + list(exercise.returns.values())
    return "".join(dict.fromkeys(letter for text in axes for letter in text if letter in SIZES))


def _axes_text(array: Array, axes: Sequence[int], letters: str, case: Case) -> str:
    names = []
    for axis in axes:
        letter = next((one for one in letters if case.sizes[one] == array.shape[axis]), None)
        names.append(f"the {SIZES[letter]} (axis {axis})" if letter else f"axis {axis}")
    return " and ".join(names)


def _not_finite(d: Difference, letters: str) -> str | None:
    if all(np.isfinite(found).all() for found in d.found):
        return None
    if any(np.isnan(found).any() for found in d.found):
        return "it is not a number in places: a logarithm or root of something negative, or 0/0"
    return "it is infinite in places: an overflow, a division by zero or the logarithm of zero"


def _nothing(d: Difference, letters: str) -> str | None:
    return "it is zero everywhere" if not any(found.any() for found in d.found) else None


def _factor(d: Difference, letters: str) -> str | None:
    """One number times the right result: a sign, a fraction, a size of the problem."""
    factors = []
    for found, exact in zip(d.found, d.exact, strict=True):
        square = float((exact * exact).sum())
        if not square:
            return None
        factor = float((found * exact).sum()) / square
        if not factor or not close(found.ravel(), factor * exact.ravel(), FIT):
            return None
        factors.append(factor)
    sign = ", and its sign is turned" if factors[0] < 0 else ""
    size = [abs(factor) for factor in factors]
    if _same(size, [1.0] * len(size)):
        return "its sign is turned" if factors[0] < 0 else None
    for count in (1, 2):
        for chosen in combinations(letters, count):
            product = [math.prod(sizes) for sizes in zip(*(d.sizes(letter) for letter in chosen), strict=True)]
            name, what = "·".join(chosen), " and ".join(SIZES[letter] for letter in chosen)
            for base in (1.0, 0.5, 2.0):
                if _same(size, [base * n for n in product]):
                    return f"it is {_times(base)}{name} times what it should be{sign}: 1/{name} is missing ({what})"
                if _same(size, [base / n for n in product]):
                    why = f"a mean over the {what} where a sum is due, or 1/{name} enters twice"
                    return f"it is {_times(base)}1/{name} of what it should be{sign}: {why}"
            root = "√" + (name if count == 1 else f"({name})")
            if _same(size, [math.sqrt(n) for n in product]):
                return f"it is {root} times what it should be{sign}: 1/{root} is missing ({what})"
            if _same(size, [1 / math.sqrt(n) for n in product]):
                return f"it is 1/{root} of what it should be{sign}: 1/{root} is too much ({what})"
    if max(size) - min(size) <= FIT * max(size):
        return f"it is {spell(size[0])} times what it should be{sign}: a constant factor"
    if any(exact.size < 2 for exact in d.exact):
        return None  # a single number always is some multiple
    times = " and ".join(f"{factor:.4g}" for factor in factors)
    return f"it is right but for a number that multiplies it, {times} in two cases"


def _times(base: float) -> str:
    return "" if abs(base - 1) <= FIT else f"{spell(base)} times "


def _same(a: Sequence[float], b: Sequence[float]) -> bool:
    return all(abs(x - y) <= 1e-7 * max(abs(x), abs(y)) for x, y in zip(a, b, strict=True))


def _order(d: Difference, letters: str) -> str | None:
    for name, arrays in d.others.items():
        if name != d.name and _all_close(d.found, arrays):
            return f"this is {name}: the results are in another order"
    for name in d.named[0]:
        if _all_close(d.found, [named[name] for named in d.named]):
            return f"this is {name} itself"
    return None


def _all_close(a: Sequence[Array], b: Sequence[Array]) -> bool:
    return all(x.shape == y.shape and close(x.ravel(), y.ravel(), FIT) for x, y in zip(a, b, strict=True))


def _rearranged(d: Difference, letters: str) -> str | None:
    if _all_close([found.T for found in d.found], d.exact):
        return "it is transposed"
    for axis in range(d.exact[0].ndim):
        if _all_close([np.flip(found, axis) for found in d.found], d.exact):
            return f"it is in the opposite order along axis {axis}"
        for by in (1, -1):
            if _all_close([np.roll(found, by, axis) for found in d.found], d.exact):
                return f"it is off by one along axis {axis}"
    if _all_close([np.sort(found, axis=None) for found in d.found], [np.sort(e, axis=None) for e in d.exact]):
        return "the values are right and at other places: axes or indices are mixed up"
    return None


def _constant(d: Difference, letters: str) -> str | None:
    """The right result plus one number in every case, which may grow with a size."""
    added = []
    for found, exact in zip(d.found, d.exact, strict=True):
        gap = found - exact
        scale = max(float(np.abs(exact).max()), float(np.abs(found).max()))
        if np.ptp(gap) > FIT * scale or abs(float(gap.mean())) <= FIT * scale:
            return None
        added.append(float(gap.mean()))
    what = "large" if added[0] > 0 else "small"
    size = [abs(gap) for gap in added]
    for letter in letters:
        n = d.sizes(letter)
        each = f"each of the {letter} {SIZES[letter]}"
        for base, text in _CONSTANTS.items():
            for count, where in ((n, each), ([one - 1 for one in n], f"{each} but one")):
                if _same(size, [base * one for one in count]):
                    return f"it is too {what} by {text} for {where}: a constant is missing, or too much"
        if _same(size, [math.log(one) for one in n]):
            turned = "missing" if added[0] > 0 else "too much"
            return f"it is off by log {letter}: the 1/{letter} of a mean over the {SIZES[letter]} is {turned}"
    if max(added) - min(added) <= FIT * max(size):
        text = next((text for base, text in _CONSTANTS.items() if _same([size[0]], [base])), spell(size[0]))
        return f"it is too {what} by a constant, {text}"
    return None


def _function_of_it(d: Difference, letters: str) -> str | None:
    """Some function of the right result."""
    functions: dict[str, Callable[[Array], Array]] = {
        "it is the exponential of what it should be: a logarithm is missing": np.exp,
        "it is the logarithm of what it should be": np.log,
        "it is the square of what it should be": np.square,
        "it is the square root of what it should be": np.sqrt,
        "it is one over what it should be": lambda e: 1 / e,
        "it is minus one over what it should be": lambda e: -1 / e,
        "it is one less what it should be": lambda e: 1 - e,
        "it is the sigmoid of what it should be": lambda e: 1 / (1 + np.exp(-e)),
    }
    for text, function in functions.items():
        images = [function(exact) for exact in d.exact]
        if all(np.isfinite(image).all() for image in images) and _all_close(d.found, images):
            return text
    return None


_FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "{}": lambda a: a,
    "{}²": np.square,
    "exp({})": np.exp,
    "(exp({}) - 1)": np.expm1,
    "exp({} / 2)": lambda a: np.exp(0.5 * a),
    "exp(-{})": lambda a: np.exp(-a),
    "exp(-{} / 2)": lambda a: np.exp(-0.5 * a),
    "√{}": lambda a: np.sqrt(np.abs(a)),
}
Named = tuple[str, list[Array]]


def _terms(d: Difference) -> Iterator[Named]:
    """What a result may have been multiplied with, or have gained or lost: functions of what is named, and products."""
    single = [
        (text.format(name), [function(np.asarray(named[name])) for named in d.named])
        for name in d.named[0]
        for text, function in _FUNCTIONS.items()
        if name not in _numbers(d)
    ]
    yield from _fitted(single, d)
    pairs = (
        (f"{a} {b}", [x * y for x, y in zip(of_a, of_b, strict=True)])
        for (a, of_a), (b, of_b) in combinations(single, 2)
        if all(x.shape == y.shape for x, y in zip(of_a, of_b, strict=True))
    )
    yield from _fitted(pairs, d)


def _numbers(d: Difference) -> dict[str, list[float]]:
    """The arguments that are single numbers, case by case."""
    return {name: [float(n[name]) for n in d.named] for name, value in d.named[0].items() if np.ndim(value) == 0}


def _fitted(terms: Iterable[Named], d: Difference) -> Iterator[Named]:
    """Arrays brought to the result's shape: as they are, spread over the last axis, or summed over one."""
    for text, images in terms:
        for label, way in _WAYS.items():
            try:
                shaped = [
                    np.broadcast_to(way(image, exact.shape), exact.shape)
                    for image, exact in zip(images, d.exact, strict=True)
                ]
            except ValueError:
                continue
            if all(np.isfinite(one).all() and one.any() for one in shaped):
                yield label.format(text), shaped


_WAYS: dict[str, Callable[[Array, tuple[int, ...]], Array]] = {
    "{}": lambda a, shape: a,
    "{} of the row": lambda a, shape: a[..., None],
    "Σ {}": lambda a, shape: a.sum(axis=-1) if a.ndim else a,
    "Σ {} over the first axis": lambda a, shape: a.sum(axis=0) if a.ndim else a,
    # Rows that are sample-major, s·B + b, added up for each example.
    "Σ {} over the samples": lambda a, shape: a.reshape(-1, *shape).sum(axis=0),
}


def _ratio(d: Difference, letters: str) -> str | None:
    """The right result times some function of an argument."""
    for text, factors in _terms(d):
        products = [exact * factor for exact, factor in zip(d.exact, factors, strict=True)]
        for base, more in ((1.0, ""), (-1.0, ", and its sign is turned"), (0.5, ", and ½"), (2.0, ", and 2")):
            if _all_close(d.found, [base * each for each in products]):
                return f"it has a factor {text} too much{more}"
            if all(f.all() for f in factors) and _all_close(
                d.found, [base * exact / factor for exact, factor in zip(d.exact, factors, strict=True)]
            ):
                return f"a factor {text} is missing{more}"
    return None


def _term(d: Difference, letters: str) -> str | None:
    """The right result plus a multiple of some function of an argument; it may depend on sizes and numbers."""
    gaps = [found - exact for found, exact in zip(d.found, d.exact, strict=True)]
    if any(gap.size < 2 for gap in gaps):
        return None
    for text, terms in _terms(d):
        multiples = [float((gap * t).sum()) / float((t * t).sum()) for gap, t in zip(gaps, terms, strict=True)]
        fits = all(close(g.ravel(), m * t.ravel(), FIT) for g, m, t in zip(gaps, multiples, terms, strict=True))
        if fits and all(multiples):
            return _multiple(d, letters, multiples, text)
    return None


def _multiple(d: Difference, letters: str, multiples: list[float], text: str) -> str:
    """In words, a term of this multiple in each case that is missing or too much."""
    what = "too much" if multiples[0] > 0 else "missing"
    for letter in letters:
        n = d.sizes(letter)
        if _same(multiples, [1 / one - 1 for one in n]):
            return f"{text} enters as a mean over the {SIZES[letter]} where a sum is due"
        if _same(multiples, [one - 1.0 for one in n]):
            return f"{text} enters as a sum over the {SIZES[letter]} where a mean is due"
    for name, values in ({"": [1.0] * len(multiples)} | _numbers(d)).items():
        if not all(values):
            continue
        rest = [multiple / value for multiple, value in zip(multiples, values, strict=True)]
        times = f"{name} " if name else ""
        if max(rest) - min(rest) <= FIT * max(map(abs, rest)):
            return f"a term {_times(abs(rest[0]))}{times}{text} is {what}"
        for letter in letters:
            whole = [one * n for one, n in zip(rest, d.sizes(letter), strict=True)]
            if max(whole) - min(whole) <= FIT * max(map(abs, whole)):
                share = spell(abs(whole[0]))
                share = f"({share})/{letter}" if "/" in share else f"{share}/{letter}"
                return f"a term {share} times {times}{text} is {what}"
    return f"a multiple of {text} is {what}"


def _along_axis(d: Difference, letters: str) -> str | None:
    """A factor or a term that is the same all along one axis."""
    for axis in range(d.exact[0].ndim):
        if any(exact.shape[axis] < 2 or exact.size == exact.shape[axis] for exact in d.exact):
            continue
        letter = next((x for x in letters if d.sizes(x) == [exact.shape[axis] for exact in d.exact]), None)
        along = f"the {SIZES[letter]}" if letter else f"axis {axis}"
        ratios = [found / exact for found, exact in zip(d.found, d.exact, strict=True)]
        gaps = [found - exact for found, exact in zip(d.found, d.exact, strict=True)]
        if all(_steady(ratio, axis) for ratio in ratios):
            return f"it is off by a factor that is the same for all of {along}: a wrong norm, or a sum over {along}"
        if all(_steady(gap, axis) for gap in gaps):
            return f"it is off by a term that is the same for all of {along}: a sum over {along} is missing or wrong"
    return None


def _steady(values: Array, axis: int) -> bool:
    return bool(np.isfinite(values).all() and np.ptp(values, axis=axis).max() <= 1e-7 * np.abs(values).max())


def _somewhere(d: Difference, letters: str) -> str | None:
    """Right at some entries: those of a row or column, or where an argument has a sign."""
    wrong = [np.abs(found - exact) > FIT * np.abs(exact).max() for found, exact in zip(d.found, d.exact, strict=True)]
    if any(w.all() or not w.any() for w in wrong):
        return None
    zero = all(not found[w].any() for found, w in zip(d.found, wrong, strict=True))
    why = ", where it is zero" if zero else ""
    axes: dict[int, str] = (
        {0: "row", 1: "column"} if wrong[0].ndim == 2 else dict.fromkeys(range(wrong[0].ndim), "entry")
    )
    for axis, what in axes.items():
        rest = tuple(i for i in range(wrong[0].ndim) if i != axis)
        touched = [np.flatnonzero(w.any(axis=rest)) for w in wrong]
        whole = [w.any(axis=rest).sum() for w in wrong]
        if all(t.tolist() == [0] for t in touched):
            return f"it is wrong in the first {what} only{why}"
        if all(t.tolist() == [w.shape[axis] - 1] for t, w in zip(touched, wrong, strict=True)):
            return f"it is wrong in the last {what} only{why}"
        if all(n == w.shape[axis] - 1 and not w.any(axis=rest)[0] for n, w in zip(whole, wrong, strict=True)):
            return f"it is right in the first {what} only{why}"
        if all(n == w.shape[axis] - 1 and not w.any(axis=rest)[-1] for n, w in zip(whole, wrong, strict=True)):
            return f"it is right in the last {what} only{why}"
    if wrong[0].ndim >= 2 and wrong[0].shape[-1] == wrong[0].shape[-2]:
        places: dict[str, Callable[[Array], Array]] = {
            "on the diagonal": lambda w: np.broadcast_to(np.eye(w.shape[-1], dtype=bool), w.shape),
            "above the diagonal": lambda w: np.broadcast_to(np.triu(np.ones(w.shape[-2:], dtype=bool), 1), w.shape),
            "below the diagonal": lambda w: np.broadcast_to(np.tril(np.ones(w.shape[-2:], dtype=bool), -1), w.shape),
        }
        for text, mask in places.items():
            if all(not (w & ~mask(w)).any() for w in wrong):
                return f"it is wrong {text} only{why}"
    for name in d.named[0]:
        arrays = [np.asarray(named[name]) for named in d.named]
        if all(array.shape == w.shape for array, w in zip(arrays, wrong, strict=True)):
            if all(not w[array > 0].any() for array, w in zip(arrays, wrong, strict=True)):
                return f"it is wrong only where {name} ≤ 0{why}"
            if all(not w[array < 0].any() for array, w in zip(arrays, wrong, strict=True)):
                return f"it is wrong only where {name} ≥ 0{why}"
    return None


def _digits(d: Difference, letters: str) -> str | None:
    share = max(
        float(np.abs(found - exact).max() / np.abs(exact).max()) if exact.any() else math.inf
        for found, exact in zip(d.found, d.exact, strict=True)
    )
    if share > NEARLY:
        return None
    return f"it agrees to {int(-math.log10(share))} digits: a rounded constant, a lower precision, or an added epsilon"


def _sign_of_some(d: Difference, letters: str) -> str | None:
    if _all_close([np.abs(found) for found in d.found], [np.abs(exact) for exact in d.exact]):
        return "it is right but for the sign of some entries"
    return None
