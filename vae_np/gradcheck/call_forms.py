"""The forms that pairs come in, brought into one: `out, cache = forward(*inputs)`, `grads = backward(dout, cache)`.

A forward may return its output alone, or several outputs before the cache. A backward may take the upstream gradient,
the cache, the inputs or the output, in any order that its names tell; where they leave a choice, each reading is tried
on the point at hand, and the first whose gradients fit the numbers is taken.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import permutations
from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.gradcheck import spelling, tree
from vae_np.gradcheck.complex_inputs import adapt, is_complex
from vae_np.gradcheck.foreign_arrays import Bridge, is_foreign, numpy_tree, over_like, to_numpy
from vae_np.gradcheck.gradients import chosen, match
from vae_np.gradcheck.randomness import Randomness
from vae_np.gradcheck.subject import CallError, Subject, flat, make_subject, upstream

# A reading fits where its gradient along a random direction agrees with the difference to this.
FITS = 1e-4
STEP = 1e-6
PLAIN = ("out, cache", "backward(dout, cache)")
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True)
class Reading:
    """A pair in the one form; text: how it was read, empty where it came in that form.

    linear: False for a backward that takes no upstream gradient; it is the gradient of the sum of the outputs,
    or of their mean where `mean` is True. eps: the
    machine epsilon of inputs whose dtype NumPy has not, by their positions.
    """

    forward: Callable[..., tuple[Any, Any]]
    backward: Callable[[Any, Any], Any]
    inputs: tuple[Any, ...]
    text: str = ""
    linear: bool = True
    mean: bool = False
    eps: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class _Kept:
    """What a forward leaves for its backward: everything that one may ask for."""

    out: Any
    cache: Any
    inputs: tuple[Any, ...]


@dataclass(frozen=True)
class _Call:
    """One way to call backward: roles are "dout", "dout0", "cache", "out", "out0" or an input's position."""

    roles: tuple[str | int, ...]
    names: tuple[str, ...]
    elementwise: bool = False

    def __call__(self, backward: Callable[..., Any], dout: Any, kept: _Kept) -> Any:
        arguments = [_argument(role, dout, kept) for role in self.roles]
        raw = backward(*arguments)
        return raw * dout if self.elementwise else raw

    def __str__(self) -> str:
        call = f"backward({', '.join(self.names)})"
        return f"{call} times the upstream gradient, entry by entry" if self.elementwise else call


def _argument(role: str | int, dout: Any, kept: _Kept) -> Any:
    if isinstance(role, int):
        return kept.inputs[role]
    if role == "dout":
        return dout
    if role == "cache":
        return kept.cache
    if role == "out":
        return kept.out
    part = dout if role.startswith("dout") else kept.out
    return part[int(role[-1])]


def read(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    inputs: tuple[Any, ...],
    names: list[str],
    seed: int,
    convention: str | None = None,
) -> Reading:
    """Return the pair in the one form, on NumPy arrays; names: the inputs' names.

    What cannot be read is handed on as it came. convention: of the gradients of complex inputs.
    """
    bridge = Bridge(inputs)
    mine = tree.transform(inputs, tree.fresh)
    randomness = Randomness(forward, backward)
    try:
        result = forward(*bridge.over(bridge.numpy(mine)))
    except (Exception, SystemExit):
        return Reading(forward, backward, inputs)
    finally:
        randomness.rewind()
    parameters = _parameters(backward)
    special = (
        bridge.foreign or is_foreign(result) or any(is_complex(leaf) for x in inputs for _, leaf in tree.leaves(x))
    )
    if not special and _is_plain(result, parameters, names):
        return Reading(forward, backward, inputs)
    found: list[tuple[int, Reading]] = []
    for split, split_text in _splits(result, len(inputs)):
        kept = split(result, inputs)
        calls = list(_calls(parameters, names, kept))
        if _is_plain(result, parameters, names):
            calls = calls[:1] if parameters else [_Call(("dout", "cache"), ("dout", "cache"))]
        for call in calls:
            reading = _reading(forward, backward, split, call, split_text, bridge, convention)
            score = rank(reading, reading.inputs, names, seed)
            if score == 0:
                return reading
            found.append((score, reading))
            if not reading.linear and flat(numpy_tree(kept.out)).size > 1:
                mean = replace(reading, mean=True, text=f"{reading.text}, the gradient of the mean of the outputs")
                if rank(mean, mean.inputs, names, seed) == 0:
                    return mean
            owners = _owners(reading, names, seed) if score < 3 else None
            if owners is not None:
                return owners
    found.sort(key=lambda pair: pair[0])
    return found[0][1] if found else Reading(forward, backward, inputs)


def _is_plain(result: Any, parameters: list[str] | None, names: list[str]) -> bool:
    """Tell whether a pair is in the one form by its looks: two results, and two arguments whose names do not object."""
    if not isinstance(result, tuple) or len(result) != 2:
        return False
    if parameters is None:
        return True
    if len(parameters) != 2:
        return False
    if isinstance(result[0], dict):
        return False
    first, second = parameters
    turned = spelling.is_upstream(second) or spelling.is_cache(first) or (first in names and second not in names)
    return not turned


def _parameters(function: Callable[..., Any]) -> list[str] | None:
    """Return the names of the arguments that a function needs; None where they cannot be read or are any number."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None
    if any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters):
        return None
    return [p.name for p in parameters if p.kind in _POSITIONAL and p.default is inspect.Parameter.empty]


Split = Callable[[Any, tuple[Any, ...]], _Kept]


def _splits(result: Any, inputs: int) -> Iterator[tuple[Split, str]]:
    """Yield the ways to part forward's result into outputs and a cache, the likeliest first."""
    if isinstance(result, tuple) and len(result) >= 2:
        count = len(result)
        if count == 2:
            yield lambda r, x: _Kept(r[0], r[1], x), "out, cache"
            if isinstance(result[0], (dict, tuple, list)) and tree.is_number(to_numpy(result[1])):
                yield lambda r, x: _Kept(r[1], r[0], x), "cache, out"
        else:
            yield lambda r, x: _Kept(r[:-1], r[-1], x), f"{', '.join(f'out{i}' for i in range(count - 1))}, cache"
            yield lambda r, x: _Kept(r[0], r[1:], x), "out, and a cache of the others"
        if flat(numpy_tree(result[-1])).size:
            yield lambda r, x: _Kept(r, _alone(x), x), f"{count} outputs and no cache"
    else:
        yield lambda r, x: _Kept(r, _alone(x), x), "out alone"


def _alone(inputs: tuple[Any, ...]) -> Any:
    return inputs[0] if len(inputs) == 1 else inputs


def _calls(parameters: list[str] | None, names: list[str], kept: _Kept) -> Iterator[_Call]:
    """Yield the ways to call backward: as its names say, then the usual orders for so many arguments."""
    outs = len(kept.out) if isinstance(kept.out, tuple) else 0
    count = 2 if parameters is None else len(parameters)
    inputs = list(range(len(names)))
    labels: dict[str | int, str] = {"dout": "dout", "cache": "cache", "out": "out"} | dict(enumerate(names))
    labels |= {f"{what}{i}": f"{what}{i}" for what in ("dout", "out") for i in range(outs)}

    def call(*roles: str | int, elementwise: bool = False) -> _Call:
        return _Call(roles, tuple(labels[role] for role in roles), elementwise)

    told = None if parameters is None else _told(parameters, names, outs)
    derivative = count == 1 and not outs and tree.is_number(to_numpy(kept.out)) and np.ndim(kept.out) > 0
    if derivative and (told is None or not any(str(role).startswith("dout") for role in told)):
        yield call(0, elementwise=True)
        yield call("out", elementwise=True)
    if told is not None:
        yield call(*told)
    orders: list[tuple[str | int, ...]] = [("dout", "cache"), ("cache", "dout"), ("dout",), ("cache",)]
    if outs:
        douts = tuple(f"dout{i}" for i in range(outs))
        orders += [(*douts, "cache"), douts, (*douts, *inputs)]
    orders += [("dout", *inputs), (*inputs, "dout"), ("out", *inputs[1:]), (*inputs,), ("dout", "out"), ("out", "dout")]
    orders += [("dout", "out", *inputs), ("dout", *inputs, "cache"), ("dout", "cache", *inputs)]
    # What is called an upstream gradient gets it: any other value could make a wrong backward right.
    if any(p not in names and spelling.is_upstream(p) for p in parameters or []):
        orders = [order for order in orders if any(str(role).startswith("dout") for role in order)]
    tried = {told}
    for order in orders:
        if len(order) == count and order not in tried:
            tried.add(order)
            yield call(*order)
    if count > 1:  # backward wants only some of the inputs: those that it names
        known = [names.index(p) for p in parameters or [] if p in names]
        if known and len(known) == count - 1 and ("dout", *known) not in tried:
            yield call("dout", *known)
            yield call(*known, "dout")


def _told(parameters: list[str], names: list[str], outs: int) -> tuple[str | int, ...] | None:
    """Return the roles that the arguments' names tell; None where one of them tells nothing."""
    roles: list[str | int] = []
    upstreams = [p for p in parameters if p not in names and spelling.is_upstream(p)]
    for parameter in parameters:
        if parameter in names:
            roles.append(names.index(parameter))
        elif parameter in upstreams:
            several = outs > 1 and len(upstreams) == outs
            roles.append(f"dout{upstreams.index(parameter)}" if several else "dout")
        elif spelling.is_cache(parameter):
            roles.append("cache")
        elif parameter.lower() in ("out", "output", "outputs", "y_hat", "yhat", "y_pred", "probs", "p", "a"):
            roles.append("out")
        else:
            return None
    return tuple(roles)


def _reading(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    split: Split,
    call: _Call,
    split_text: str,
    bridge: Bridge,
    convention: str | None,
) -> Reading:
    def whole(*inputs: Any) -> tuple[Any, _Kept]:
        moved = bridge.over(inputs)
        kept = split(forward(*moved), moved)
        return numpy_tree(kept.out), kept

    def pulled(dout: Any, kept: _Kept) -> Any:
        return numpy_tree(call(backward, over_like(dout, kept.out), kept))

    # Signatures and closures are looked at for names and for sources of random numbers.
    whole.__wrapped__ = forward  # type: ignore[attr-defined]
    pulled.__wrapped__ = backward  # type: ignore[attr-defined]
    run, pull, inputs = adapt(whole, pulled, bridge.numpy(bridge.inputs), convention)
    linear = call.elementwise or any(str(role).startswith("dout") for role in call.roles)
    text = f"forward returns {split_text}; {call}" if (split_text, str(call)) != PLAIN else ""
    notes = [text, bridge.text, f"complex gradients as in {convention}" if run is not whole else ""]
    text = "; ".join(note for note in notes if note)
    return Reading(run, pull, inputs, text, linear, eps=bridge.eps)


def only_owner(subject: Subject) -> list[str] | None:
    """Return the input whose gradient a function without upstream gradient returns, where it returns one of several.

    By custom the gradient of f(theta, X) that comes alone is that of the first argument, and the others are data.
    """
    floats = [name for name, x in zip(subject.top_names, subject.inputs, strict=True) if tree.is_number(x)]
    try:
        out, kept = subject.run()
        raw = subject.pull_back(upstream(out, np.ones(flat(out).shape)), kept)
    except CallError:
        return None
    finally:
        subject.randomness.rewind()
    if len(floats) < 2 or not tree.is_number(raw):
        return None
    fitting = [n for n in floats if np.shape(subject.inputs[subject.top_names.index(n)]) == np.shape(raw)]
    return fitting[:1] or None


def _owners(reading: Reading, names: list[str], seed: int) -> Reading | None:
    """Return the reading in which fewer gradients than inputs belong to those that they fit, in any order."""
    subject = make_subject(reading.forward, reading.backward, reading.inputs, names, ("forward", "backward"))
    try:
        out, kept = subject.run()
        raw = subject.pull_back(upstream(out, np.ones(flat(out).shape)), kept)
    except Exception:
        return None
    finally:
        subject.randomness.rewind()
    parts = raw if isinstance(raw, (tuple, list)) else (raw,)
    floats = [i for i, x in enumerate(reading.inputs) if tree.is_number(x)]
    if not 1 <= len(parts) <= len(floats) <= 5 or any(not tree.is_number(part) for part in parts):
        return None
    for owners in permutations(floats, len(parts)):
        fitting = zip(owners, parts, strict=True)
        if owners == tuple(floats) or any(np.shape(reading.inputs[i]) != np.shape(part) for i, part in fitting):
            continue

        def pulled(dout: Any, kept: Any, owners: tuple[int, ...] = owners) -> Any:
            raw = reading.backward(dout, kept)
            parts = raw if isinstance(raw, (tuple, list)) else (raw,)
            return dict(zip([names[i] for i in owners], parts, strict=True))

        pulled.__wrapped__ = getattr(reading.backward, "__wrapped__", reading.backward)  # type: ignore[attr-defined]
        text = f"{reading.text}; gradients come in the order {', '.join(names[i] for i in owners)}"
        named = replace(reading, backward=pulled, text=text)
        if rank(named, named.inputs, names, seed) == 0:
            return named
    return None


def rank(reading: Reading, inputs: tuple[Any, ...], names: list[str], seed: int) -> int:
    """Return 0 where the reading fits the numbers, 1 where its gradients' shapes are right, 2 where it runs, else 3."""
    subject = make_subject(reading.forward, reading.backward, inputs, names, ("forward", "backward"))
    try:
        with np.errstate(all="ignore"):
            out, kept = subject.run([tree.fresh(leaf) for leaf in subject.leaves])
            weights = np.random.default_rng([seed, 7]).standard_normal(flat(out).shape)
            if not weights.size:
                return 3
            if not reading.linear:
                weights[:] = 1.0 / weights.size if reading.mean else 1.0
            raw = subject.pull_back(upstream(out, weights), kept)
            leaves = chosen(subject, None, scalars=False) or chosen(subject, None, scalars=True)
            gradients = {leaf: g.value for leaf, g in match(subject, raw, leaves).items()}
            came = {leaf: g for leaf, g in gradients.items() if g is not None}
            shaped = [leaf for leaf, g in came.items() if g.shape == np.shape(subject.leaves[leaf])]
            if not shaped or len(shaped) < len(came):
                return 2
            return 0 if _fits(subject, weights, came, seed) else 1
    except Exception:  # whatever a wrong reading makes of a function is no reading
        return 3
    finally:
        subject.randomness.rewind()


def _fits(subject: Subject, weights: Array, gradients: dict[int, Array], seed: int) -> bool:
    """Compare the gradients along a random direction of their tensors with a central difference."""
    rng = np.random.default_rng([seed, 8])
    for leaf, gradient in gradients.items():
        x = np.asarray(subject.leaves[leaf])
        low = x.dtype.itemsize < 8
        size = float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))) or 1.0
        direction = size * rng.choice([-1.0, 1.0], x.shape)
        h = 1e-2 if low else STEP

        def at(t: float, leaf: int = leaf, x: Array = x, direction: Array = direction) -> Array:
            moved = (x + t * direction).astype(x.dtype)
            leaves = list(subject.leaves)
            leaves[leaf] = moved if tree.is_array(leaves[leaf]) else moved[()]
            return subject.outputs(leaves).astype(np.float64)

        numeric = float(weights @ (at(h) - at(-h))) / (2 * h)
        analytic = float((gradient.astype(np.float64) * direction).sum())
        terms = float(np.linalg.norm(gradient.astype(np.float64) * direction))
        tolerance = (100 * FITS if low else FITS) * max(abs(numeric), abs(analytic), terms) + 1e-12
        if not abs(numeric - analytic) <= tolerance:
            return False
    return True


def exchanged(subject: Subject) -> Reading | None:
    """Return the pair with backward's two arguments the other way round; None where it has not two."""
    parameters = _parameters(subject.backward)
    if parameters is None or len(parameters) != 2:
        return None
    backward = subject.backward
    return Reading(subject.forward, lambda dout, cache: backward(cache, dout), subject.inputs)
