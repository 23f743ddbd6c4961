"""Where an object keeps its parameters and their gradients: the paths to its arrays, and which of them belong together.

These belong together: `W` and `dW`, `grad_W` or `W_grad`; `params["W"]` and `grads["W"]`; `params[0]` and `grads[0]`;
`W.data` and `W.grad`; `weights` and `dweights`; and the same inside of layers that the object holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.gradcheck import spelling, tree
from vae_np.gradcheck.foreign_arrays import from_numpy, library_of, origin, to_numpy

Path = tuple[tuple[str, Any], ...]  # steps: ("attribute", name), ("key", key) or ("place", position)

DEPTH = 6
MOST = 4000
PARAMETERS = re.compile(r"_?(params?|parameters|weights?|variables|theta|p)", re.I)
GRADIENTS = re.compile(r"_?(d_?params?|grads?|gradients?|d_?parameters|dweights?|derivatives)", re.I)
# Containers of these names may hold gradients. An array of such a name is a parameter, such as the gain of a norm.
GRADIENT_HOLDERS = re.compile(rf"{GRADIENTS.pattern}|g|d", re.I)
VALUE = re.compile(r"data|value|val|array|param|tensor|w", re.I)
GRADIENT = re.compile(r"grad|gradient|g|delta", re.I)
INPUT_GRADIENT = re.compile(r"d_?(inputs?|x|values_in)|grad_?(inputs?|x)|(inputs?|x)_?grad|dLdx|dA_prev", re.I)
OUTPUT = re.compile(r"_?(outputs?|out|y|a|activations?|result|loss)", re.I)


@dataclass(frozen=True)
class Parameter:
    """One parameter: the paths that hold it (one array may have several), and the path of its gradient, if any."""

    name: str
    paths: tuple[Path, ...]
    gradient: Path | None


def arrays(thing: Any) -> dict[Path, Array]:
    """Return the floating arrays that an object holds, by their paths: attributes, items, and objects inside.

    Arrays of other libraries are returned as arrays of NumPy, one for each.
    """
    found: dict[Path, Array] = {}
    seen: set[int] = set()
    converted: dict[int, Array] = {}

    def walk(value: Any, path: Path) -> None:
        if len(found) > MOST or len(path) > DEPTH:
            return
        if library_of(value):
            value = converted.setdefault(id(value), to_numpy(value))
        if isinstance(value, np.ndarray):
            if np.issubdtype(value.dtype, np.floating):
                found[path] = value
            return
        if id(value) in seen:
            return
        steps = list(_steps(value))
        if steps:
            seen.add(id(value))
        for step, item in steps:
            walk(item, (*path, step))

    walk(thing, ())
    return found


def _steps(value: Any) -> Iterator[tuple[tuple[str, Any], Any]]:
    if isinstance(value, dict):
        yield from ((("key", key), item) for key, item in value.items())
    elif isinstance(value, (list, tuple)):
        yield from ((("place", position), item) for position, item in enumerate(value[:64]))
    elif hasattr(value, "__dict__") and not _is_function(value):
        yield from ((("attribute", name), item) for name, item in vars(value).items())


def _is_function(value: Any) -> bool:
    return isinstance(value, (type, ModuleType)) or hasattr(value, "__code__") or hasattr(value, "__func__")


def get(thing: Any, path: Path) -> Any:
    """Return what lies at a path, or None; an array of another library as one of NumPy."""
    return to_numpy(_held(thing, path))


def _held(thing: Any, path: Path) -> Any:
    for kind, step in path:
        try:
            thing = getattr(thing, step) if kind == "attribute" else thing[step]
        except (AttributeError, KeyError, IndexError, TypeError):
            return None
    return thing


def put(thing: Any, path: Path, value: Any) -> None:
    """Put another array at a path; where the path cannot be rebound, write into the array that is there."""
    holder, held = _held(thing, path[:-1]), _held(thing, path)
    came = origin(held)
    value = value if came is None else from_numpy(value, came)
    kind, step = path[-1]
    try:
        if kind == "attribute":
            setattr(holder, step, value)
        else:
            holder[step] = value
    except (TypeError, AttributeError):
        held[...] = value


def exchanged(kept: Any, old: Array, new: Array, depth: int = DEPTH) -> Any:
    """Return what forward kept (a tuple, a dictionary or an object) with one array in another's place.

    Nothing is written into arrays, tuples or dictionaries, which may be the caller's; objects get new attributes.
    """

    def swap(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return new if np.array_equal(value, old) else value
        return exchanged(value, old, new, depth - 1) if hasattr(value, "__dict__") and depth else value

    if isinstance(kept, (tuple, list, dict, np.ndarray)) or _is_function(kept):
        return tree.transform(kept, lambda value: value if _is_function(value) else swap(value))
    if is_dataclass(kept) and not isinstance(kept, type):
        return replace(kept, **{f.name: exchanged(getattr(kept, f.name), old, new, depth - 1) for f in fields(kept)})
    for name, value in list(getattr(kept, "__dict__", {}).items()):
        setattr(kept, name, exchanged(value, old, new, depth - 1) if depth else value)
    return kept


def show(path: Path) -> str:
    """Return a path as it is written: `layers[0].W`, `params['W']`."""
    text = ""
    for kind, step in path:
        text += (f".{step}" if text else str(step)) if kind == "attribute" else f"[{step!r}]"
    return text


def parameters(before: dict[Path, Array], after: dict[Path, Array]) -> list[Parameter]:
    """Return the parameters among the arrays held before the first call, with the gradients held after a backward."""
    groups: dict[int, list[Path]] = {}
    for path, array in before.items():
        groups.setdefault(id(array), []).append(path)
    gradients: set[Path] = set()
    found = []
    for paths in groups.values():
        shape = before[paths[0]].shape
        partner = next((g for path in paths if (g := _partner(path, shape, after)) is not None), None)
        listed = any(_in_parameters(path) for path in paths)
        if partner is not None or listed:
            if partner is not None:
                gradients.add(partner)
            found.append(Parameter(_name(paths, partner), tuple(paths), partner))
    # An array that serves as another's gradient is not a parameter, even where it looks like one.
    held = [p for p in found if not any(path in gradients for path in p.paths)]
    return [p for p in held if not any(_in_gradients(path) for path in p.paths)]


def returned(parts: list[Any], before: dict[Path, Array], known: list[Parameter]) -> list[Parameter]:
    """Return the parameters whose gradients backward returned: by shape and in order, or by their key."""
    taken = {path for p in known for path in p.paths}
    free = [path for path in before if path not in taken and not is_gradient(path)]
    found = []
    for part in parts:
        items = part.items() if isinstance(part, dict) else [(None, part)]
        for key, value in items:
            for path in free:
                named = key is None or spelling.owner(str(key), [str(path[-1][1])]) is not None
                if named and np.shape(value) == before[path].shape and np.ndim(value):
                    free.remove(path)
                    found.append(Parameter(_name([path]), (path,), None))
                    break
    return found


def _name(paths: list[Path], gradient: Path | None = None) -> str:
    """Return a short name: the shortest path, without a container called `params`, and without `data` beside `grad`."""
    path = min(paths, key=len)
    if len(path) == 2 and path[0][0] == "attribute" and PARAMETERS.fullmatch(str(path[0][1])) and path[1][0] == "key":
        return str(path[1][1])
    beside = gradient is not None and gradient[:-1] == path[:-1] and GRADIENT.fullmatch(str(gradient[-1][1]))
    if len(path) >= 2 and beside and VALUE.fullmatch(str(path[-1][1])):
        path = path[:-1]
    return show(path)


def _in_parameters(path: Path) -> bool:
    return any(kind == "attribute" and PARAMETERS.fullmatch(str(step)) for kind, step in path[:-1])


def _in_gradients(path: Path) -> bool:
    held = any(kind == "attribute" and GRADIENT_HOLDERS.fullmatch(str(step)) for kind, step in path[:-1])
    return held or bool(path and path[-1][0] == "attribute" and GRADIENTS.fullmatch(str(path[-1][1])))


def _partner(path: Path, shape: tuple[int, ...], after: dict[Path, Array]) -> Path | None:
    """Return the path of a parameter's gradient."""
    for candidate, array in after.items():
        if candidate != path and array.shape == shape and _belong_together(path, candidate):
            return candidate
    return None


def _belong_together(path: Path, other: Path) -> bool:
    *holder, (kind, step) = path
    *other_holder, (other_kind, other_step) = other
    if holder == other_holder and kind == other_kind != "place":
        if VALUE.fullmatch(str(step)) and GRADIENT.fullmatch(str(other_step)) and holder:
            return True
        return str(step) != str(other_step) and spelling.owner(str(other_step), [str(step)]) is not None
    # Lists of weights and of their gradients: W[0] and dW[0].
    if kind == other_kind == "place" and step == other_step and holder and other_holder:
        (*rest, (_, name)), (*other_rest, (_, other_name)) = holder, other_holder
        if rest == other_rest and name != other_name and spelling.owner(str(other_name), [str(name)]) is not None:
            return True
    # params["W"] and grads["W"], params[0] and grads[0], or W and grads["W"].
    if other_holder and other_holder[-1][0] == "attribute" and GRADIENT_HOLDERS.fullmatch(str(other_holder[-1][1])):
        if holder and holder[:-1] == other_holder[:-1] and kind == other_kind:
            if not PARAMETERS.fullmatch(str(holder[-1][1])):
                return False
            return step == other_step or (kind == "key" and spelling.owner(str(other_step), [str(step)]) is not None)
        if holder == other_holder[:-1] and other_kind == "key":
            return spelling.owner(str(other_step), [str(step)]) is not None
    return False


def is_gradient(path: Path) -> bool:
    """Tell whether what lies at a path is a gradient by its name."""
    last = str(path[-1][1])
    return _in_gradients(path) or bool(INPUT_GRADIENT.fullmatch(last) or re.match(r"d_?[A-Za-z]\w*$|.*grad", last))


def input_gradient(thing: Any, shape: tuple[int, ...]) -> Array | None:
    """Return the gradient of the input where backward leaves it in the object, as `dinputs` or `dx`."""
    for path, array in arrays(thing).items():
        if len(path) == 1 and INPUT_GRADIENT.fullmatch(str(path[0][1])) and array.shape == shape:
            return array
    return None


def output(thing: Any) -> Any:
    """Return the output where forward leaves it in the object, as `output`."""
    for name, value in vars(thing).items():
        if OUTPUT.fullmatch(name) and (tree.is_number(to_numpy(value)) or isinstance(value, np.ndarray)):
            return value
    return None
