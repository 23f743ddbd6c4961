"""What backward returned, brought together with the inputs it belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.errors import InputError
from vae_np.gradcheck import spelling, tree
from vae_np.gradcheck.subject import CallError, Subject, flat, kind_of, upstream


@dataclass(frozen=True)
class Gradient:
    """One tensor's analytic gradient, or in `missing` the reason why there is none.

    `data` is True where backward returned none and the name of the tensor says that it is data. `broken` holds the
    promises that the gradient breaks although its values can be compared, by their keys in `options.PROMISES`.
    """

    value: Array | None
    missing: str = ""
    data: bool = False
    broken: dict[str, str] = field(default_factory=dict)


def chosen(subject: Subject, wrt: Sequence[str | int] | None, scalars: bool) -> list[int]:
    """Return the positions of the leaves to check: those listed in `wrt`, or else every floating array.

    `wrt` lists names of inputs or of leaves, or positions of inputs. By default, what lies in a dictionary of settings
    is left out. `scalars` is True where floating numbers count as arrays. Raises InputError for a name that no input
    has, for a name that has no derivative, and where there are only integers.
    """

    def fits(leaf: Any) -> bool:
        return tree.is_number(leaf) and (scalars or tree.is_array(leaf))

    if wrt is None:
        settings = {n for n, v in zip(subject.top_names, subject.inputs, strict=True) if spelling.is_settings(v)}
        found = [i for i, leaf in enumerate(subject.leaves) if fits(leaf)]
        kept = [i for i in found if not any(_inside(subject.names[i], name) for name in settings)]
        if not found:
            _refuse_integers(subject)
        return kept or found
    if isinstance(wrt, str):
        wrt = (wrt,)
    names = [subject.top_names[w] if isinstance(w, int) else w for w in wrt]
    picked: list[int] = []
    for name in names:
        found = [i for i, leaf in enumerate(subject.names) if leaf == name or _inside(leaf, name)]
        if not found:
            raise InputError(f"wrt: got {name!r}, expected some of {', '.join(subject.names)}")
        picked += [i for i in found if tree.is_number(subject.leaves[i])]
        if not any(tree.is_number(subject.leaves[i]) for i in found):
            raise InputError(f"wrt: got {name!r}, which has no derivative, expected floating-point arrays")
    return list(dict.fromkeys(picked))


def scalars_come(subject: Subject) -> bool:
    """Tell whether backward returns gradients of floating numbers, too, and not of arrays only.

    It does where it returns one for each floating input, or names a number's in a dictionary. A number that is a
    setting, such as an epsilon, gets no gradient.
    """
    floats = [i for i, value in enumerate(subject.inputs) if tree.is_number(value)]
    numbers = [i for i in floats if not tree.is_array(subject.inputs[i])]
    if not numbers:
        return False
    try:
        out, cache = subject.run([tree.fresh(leaf) for leaf in subject.leaves])
        raw = subject.pull_back(upstream(out, np.ones(flat(out).shape)), cache)
    except CallError:
        return False
    finally:
        subject.randomness.rewind()
    if isinstance(raw, dict):
        owners = {spelling.owner(str(key), subject.top_names) for key in raw}
        return {subject.top_names[i] for i in numbers} <= owners
    return isinstance(raw, (tuple, list)) and len(raw) == len(floats) and all(tree.is_number(part) for part in raw)


def _refuse_integers(subject: Subject) -> None:
    for name, leaf in zip(subject.names, subject.leaves, strict=True):
        kind = leaf.dtype if isinstance(leaf, (np.ndarray, np.generic)) else type(leaf).__name__
        if isinstance(leaf, (int, np.integer)) or (isinstance(leaf, np.ndarray) and leaf.dtype.kind in "iu"):
            raise InputError(
                f"{name}: got {kind}, which has no derivative, expected floating-point numbers, such as 1.0"
            )


def _inside(leaf: str, name: str) -> bool:
    return leaf.startswith((f"{name}.", f"{name}["))


def match(subject: Subject, raw: Any, leaves: Iterable[int]) -> dict[int, Gradient]:
    """Return the gradient of each of the given leaves from what backward returned.

    Backward may return one entry per checked input, per floating input, per array, or per input of any kind. It may
    return fewer entries, where their shapes say whose they are; a dictionary by the name of the input or by `dx`,
    `grad_x` and the like; or, for a single input, its gradient alone. Raises CallError where the entries fit none of
    these.
    """
    wanted = list(leaves)
    tops, complaint = _by_input(subject, raw, wanted)
    found: dict[int, Gradient] = {}
    position = 0
    for top, (name, value) in enumerate(zip(subject.top_names, subject.inputs, strict=True)):
        inner = list(tree.leaves(value, name))
        given = _given(tops[top], name, value) if top in tops else {}
        for offset, (leaf_name, leaf) in enumerate(inner):
            if position + offset in wanted:
                one = _one(leaf_name, given, np.asarray(leaf))
                if one.value is None and (leaf_name not in given or spelling.is_data(leaf_name)):
                    one = Gradient(None, complaint or one.missing, spelling.is_data(leaf_name))
                found[position + offset] = one
        position += len(inner)
    return found


def _given(raw: Any, name: str, value: Any) -> dict[str, Any]:
    """Return the leaves of one input's gradient under the names of the input's own leaves."""
    if isinstance(raw, dict) and isinstance(value, dict) and not set(raw) <= set(value):
        keys = {str(key): key for key in value}
        owners = {key: spelling.owner(str(key), keys) for key in raw}
        raw = {keys[found]: raw[key] for key, found in owners.items() if found is not None}
    return dict(tree.leaves(raw, name))


def _one(name: str, given: dict[str, Any], leaf: Array) -> Gradient:
    if any(_inside(key, name) for key in given):
        return Gradient(None, "backward returned a list or a tuple for it, expected an array")
    if name not in given:
        return Gradient(None, "backward returned no gradient for it")
    value = given[name]
    if value is None:
        return Gradient(None, "backward returned None")
    try:
        array = np.array(value)
    except Exception:
        return Gradient(None, f"backward returned {kind_of(value)}, expected an array")
    if not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
        return Gradient(None, f"backward returned {kind_of(value)} of {array.dtype}, expected real numbers")
    broken = {}
    if array.dtype != leaf.dtype:
        broken["dtype"] = f"the gradient of {name} has dtype {array.dtype}, expected {leaf.dtype}"
        array = array if np.issubdtype(array.dtype, np.floating) else array.astype(np.float64)
    if array.size == leaf.size == 1 and array.shape != leaf.shape:
        broken["shape"] = f"the gradient of {name} has shape {array.shape}, expected {leaf.shape}"
        array = array.reshape(leaf.shape)
    return Gradient(array, broken=broken)


def _by_input(subject: Subject, raw: Any, wanted: list[int]) -> tuple[dict[int, Any], str]:
    """Return the part of `raw` that belongs to each input, by its position, and what to say where one misses."""
    owner = [i for i, value in enumerate(subject.inputs) for _ in tree.leaves(value)]
    every = list(range(len(subject.inputs)))
    arrays = list(dict.fromkeys(o for o, leaf in zip(owner, subject.leaves, strict=True) if tree.is_array(leaf)))
    floats = list(dict.fromkeys(o for o, leaf in zip(owner, subject.leaves, strict=True) if tree.is_number(leaf)))
    asked = list(dict.fromkeys(owner[i] for i in wanted))
    float_arrays = [o for o in floats if o in arrays]
    ways = [asked, float_arrays, arrays, floats, every]
    alone = next((way[0] for way in ways[:3] if len(way) == 1), None)
    named = isinstance(raw, dict) and alone is not None and list(raw) == [subject.top_names[alone]]
    named = named or (isinstance(raw, dict) and alone is not None and not isinstance(subject.inputs[alone], dict))
    if alone is not None and not named and _shaped_alike(raw, subject.inputs[alone]):
        return {alone: raw}, ""
    if isinstance(raw, dict):
        return _by_name(subject, raw, asked), ""
    parts = list(raw) if isinstance(raw, (tuple, list)) else [raw]
    for way in ways:
        if len(way) == len(parts):
            return dict(zip(way, parts, strict=True)), ""
    names = ", ".join(subject.top_names[i] for i in (arrays or every))
    what = f"{len(parts)} gradients" if isinstance(raw, (tuple, list)) else kind_of(raw)
    complaint = f"backward returned {what} for {len(arrays or every)} array inputs ({names}), expected one each"
    aligned = _aligned(subject, parts, asked)
    if aligned is None:
        raise CallError(f"{complaint} (None where an input has no gradient; wrt= names those that have one)")
    chosen = tuple(subject.top_names[i] for i in aligned)
    return dict(zip(aligned, parts, strict=True)), f"{complaint}; wrt={chosen!r} if the others have none"


def _by_name(subject: Subject, raw: dict[Any, Any], asked: list[int]) -> dict[int, Any]:
    """Return the entries of a dictionary by the inputs that their keys name; other keys, such as dZ1, are left out."""
    owners = {key: spelling.owner(str(key), subject.top_names) for key in raw}
    if any(owners.values()):
        found = {subject.top_names.index(name): raw[key] for key, name in owners.items() if name is not None}
        for i, value in enumerate(subject.inputs):  # parameters in a dictionary, their gradients beside those of x
            if isinstance(value, dict) and i not in found:
                keys = [
                    key for key, name in owners.items() if name is None and spelling.owner(str(key), map(str, value))
                ]
                found |= {i: {key: raw[key] for key in keys}} if keys else {}
        return found
    trees = [i for i in asked if isinstance(subject.inputs[i], dict)]
    if len(trees) == 1:  # the parameters lie in one dictionary, and so do their gradients
        return {trees[0]: raw}
    unknown, known = ", ".join(map(str, raw)), ", ".join(subject.top_names)
    raise CallError(f"backward returned gradients for {unknown}; the inputs are {known}")


def _aligned(subject: Subject, parts: list[Any], asked: list[int]) -> list[int] | None:
    """Return the inputs that fewer gradients belong to, by shape and in order; inputs that are data come last."""
    shapes = [np.shape(part) if not isinstance(part, (dict, tuple, list)) else None for part in parts]
    if len(parts) >= len(asked) or any(part is None for part in parts) or None in shapes:
        return None
    best = None
    for chosen in combinations(asked, len(parts)):
        if all(np.shape(subject.inputs[i]) == shape for i, shape in zip(chosen, shapes, strict=True)):
            cost = sum(spelling.is_data(subject.top_names[i]) for i in chosen)
            if best is None or cost < best[0]:
                best = (cost, list(chosen))
    return None if best is None else best[1]


def _shaped_alike(raw: Any, value: Any) -> bool:
    """Tell whether `raw` itself is the gradient of an input: it has the same branches, or both are leaves."""
    if isinstance(value, (dict, tuple, list)):
        return type(raw) is type(value) and (isinstance(raw, dict) or len(raw) == len(value))
    return not isinstance(raw, (dict, tuple, list))
