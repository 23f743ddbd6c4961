"""What backward returned, brought together with the inputs it belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.errors import InputError
from vae_np.gradcheck import tree
from vae_np.gradcheck.subject import CallError, Subject, kind_of


@dataclass(frozen=True)
class Gradient:
    """One tensor's analytic gradient as it came, or `missing`: the reason why there is none."""

    value: Array | None
    missing: str = ""


def chosen(subject: Subject, wrt: Sequence[str | int] | None, scalars: bool) -> list[int]:
    """Return the positions of the leaves to check: those named in `wrt`, else every floating array.

    wrt: names of inputs or of leaves, or positions of inputs. scalars: floating numbers count as arrays. Raises
    InputError for a name that no input has and for one that has no derivative.
    """

    def fits(leaf: Any) -> bool:
        return tree.is_number(leaf) and (scalars or tree.is_array(leaf))

    if wrt is None:
        return [i for i, leaf in enumerate(subject.leaves) if fits(leaf)]
    if isinstance(wrt, str):
        wrt = (wrt,)
    names = [subject.top_names[w] if isinstance(w, int) else w for w in wrt]
    picked: list[int] = []
    for name in names:
        found = [i for i, leaf in enumerate(subject.names) if leaf == name or _inside(leaf, name)]
        if not found:
            raise InputError(f"wrt: no input is called {name!r}; the inputs are {', '.join(subject.names)}")
        picked += [i for i in found if tree.is_number(subject.leaves[i])]
        if not any(tree.is_number(subject.leaves[i]) for i in found):
            raise InputError(f"wrt: {name!r} is no floating-point array, so it has no gradient")
    return list(dict.fromkeys(picked))


def _inside(leaf: str, name: str) -> bool:
    return leaf.startswith((f"{name}.", f"{name}["))


def match(subject: Subject, raw: Any, leaves: Iterable[int]) -> dict[int, Gradient]:
    """Return the gradient of each of the given leaves from what backward returned.

    Accepted: one entry per checked input, per floating, per array, or per input of any kind; a dictionary by input
    name; for a single input, its gradient alone. Raises CallError where the number of entries fits none of these.
    """
    wanted = list(leaves)
    tops = _by_input(subject, raw, wanted)
    found: dict[int, Gradient] = {}
    position = 0
    for top, (name, value) in enumerate(zip(subject.top_names, subject.inputs, strict=True)):
        inner = list(tree.leaves(value, name))
        given = dict(tree.leaves(tops[top], name)) if top in tops else {}
        for offset, (leaf_name, _) in enumerate(inner):
            if position + offset in wanted:
                found[position + offset] = _one(leaf_name, given)
        position += len(inner)
    return found


def _one(name: str, given: dict[str, Any]) -> Gradient:
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
    return Gradient(array)


def _by_input(subject: Subject, raw: Any, wanted: list[int]) -> dict[int, Any]:
    """Return the part of `raw` that belongs to each input, keyed by the input's position."""
    owner = [i for i, value in enumerate(subject.inputs) for _ in tree.leaves(value)]
    every = list(range(len(subject.inputs)))
    arrays = list(dict.fromkeys(o for o, leaf in zip(owner, subject.leaves, strict=True) if tree.is_array(leaf)))
    floats = list(dict.fromkeys(o for o, leaf in zip(owner, subject.leaves, strict=True) if tree.is_number(leaf)))
    asked = list(dict.fromkeys(owner[i] for i in wanted))
    float_arrays = [o for o in floats if o in arrays]
    ways = [asked, float_arrays, arrays, floats, every]
    alone = next((way[0] for way in ways[:3] if len(way) == 1), None)
    named = isinstance(raw, dict) and alone is not None and list(raw) == [subject.top_names[alone]]
    if alone is not None and not named and _shaped_alike(raw, subject.inputs[alone]):
        return {alone: raw}
    if isinstance(raw, dict):
        unknown = [str(key) for key in raw if key not in subject.top_names]
        if unknown:
            known = ", ".join(subject.top_names)
            raise CallError(f"backward returned gradients for {', '.join(unknown)}; the inputs are {known}")
        return {subject.top_names.index(key): value for key, value in raw.items()}
    parts = list(raw) if isinstance(raw, (tuple, list)) else [raw]
    for way in ways:
        if len(way) == len(parts):
            return dict(zip(way, parts, strict=True))
    names = ", ".join(subject.top_names[i] for i in (arrays or every))
    what = f"{len(parts)} gradients" if isinstance(raw, (tuple, list)) else kind_of(raw)
    raise CallError(
        f"backward returned {what} for {len(arrays or every)} array inputs ({names}), expected one each "
        "(None where an input has no gradient)"
    )


def _shaped_alike(raw: Any, value: Any) -> bool:
    """Tell whether `raw` is by itself the gradient of an input: same branches, or a leaf for a leaf."""
    if isinstance(value, (dict, tuple, list)):
        return type(raw) is type(value) and (isinstance(raw, dict) or len(raw) == len(value))
    return not isinstance(raw, (dict, tuple, list))
