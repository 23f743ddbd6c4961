"""The forms of pairs, brought into one: `out, cache = forward(*inputs)`, `grads = backward(dout, cache)`.

A forward may return its output alone, or several outputs before the cache. A backward may take the upstream gradient,
the cache, the inputs or the output, in any order that its names tell. Where the names leave a choice, each reading is
tried at the given point, and the first one whose gradients fit the numbers is taken.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vae_np.gradcheck import owners, spelling, tree
from vae_np.gradcheck.complex_inputs import adapt, is_complex
from vae_np.gradcheck.foreign_arrays import Bridge, is_foreign, numpy_tree, over_like, to_numpy
from vae_np.gradcheck.randomness import Randomness
from vae_np.gradcheck.reading import Reading, of_the_mean, rank
from vae_np.gradcheck.sources import called_at
from vae_np.gradcheck.subject import Subject, flat

PLAIN = ("out, cache", "backward(dout, cache)")
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True)
class _Kept:
    """Everything that a forward leaves and that a backward may ask for."""

    out: Any
    cache: Any
    inputs: tuple[Any, ...]


@dataclass(frozen=True)
class _Call:
    """One way to call backward.

    A role is "dout", "dout0", "cache", "out", "out0", or the position of an input. `keywords` holds the names of the
    arguments that are passed by name, which are the last ones.
    """

    roles: tuple[str | int, ...]
    names: tuple[str, ...]
    elementwise: bool = False
    keywords: tuple[str, ...] = ()

    @property
    def linear(self) -> bool:
        """True where an upstream gradient goes in."""
        return self.elementwise or any(str(role).startswith("dout") for role in self.roles)

    def __call__(self, backward: Callable[..., Any], dout: Any, kept: _Kept) -> Any:
        arguments = [_argument(role, dout, kept) for role in self.roles]
        count = len(arguments) - len(self.keywords)
        raw = backward(*arguments[:count], **dict(zip(self.keywords, arguments[count:], strict=True)))
        return raw * dout if self.elementwise else raw

    def __str__(self) -> str:
        call = f"backward({', '.join(self.names)})"
        return f"{call} times the upstream gradient, entry by entry" if self.elementwise else call


def _pulled_back(raw: Any, dout: Any, inputs: tuple[Any, ...]) -> Any:
    """Return the gradient that backward's result stands for: a pullback's, a Jacobian's, or the result itself."""
    if callable(raw):
        keyword = _keywords_needed(raw)
        return raw(**{keyword[0]: dout}) if len(keyword) == 1 and not _parameters(raw) else raw(dout)
    axes = np.ndim(dout)
    jacobian = _jacobian_of(raw, dout, inputs)
    if jacobian == "whole":
        return np.tensordot(dout, raw, axes)
    if jacobian == "row by row":
        widened = np.reshape(dout, np.shape(dout) + (1,) * (np.ndim(raw) - axes))
        return (widened * raw).sum(axis=tuple(range(1, axes)))
    return raw


def _jacobian_of(raw: Any, out: Any, inputs: tuple[Any, ...]) -> str:
    """Return which Jacobian an array is, by its shape: "whole", "row by row" along a batch, or none."""
    shapes = [x.shape for x in inputs if tree.is_array(x) and tree.is_number(x)]
    if not tree.is_array(raw) or np.ndim(out) == 0 or raw.shape in shapes:
        return ""
    if any(raw.shape == np.shape(out) + shape for shape in shapes):
        return "whole"
    rows = [shape for shape in shapes if shape[:1] == np.shape(out)[:1] and np.ndim(out) > 1]
    return "row by row" if any(raw.shape == np.shape(out) + shape[1:] for shape in rows) else ""


def _keywords_needed(function: Callable[..., Any]) -> tuple[str, ...]:
    """Return the arguments that a function needs by name."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return ()
    return tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty)


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
    """Return the pair in the one form, on NumPy arrays.

    `names` are the names of the inputs, and `convention` is that of the gradients of complex inputs. A pair that cannot
    be read is returned as it is.
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
    against_names: list[str] = []
    for split, split_text in _splits(result, parameters):
        kept = split(result, inputs)
        calls = list(_calls(parameters, names, kept, _keywords_needed(backward)))
        if _is_plain(result, parameters, names):
            calls = calls[:1] if parameters else [_Call(("dout", "cache"), ("dout", "cache"))]
        for call in calls:
            reading = _reading(forward, backward, split, call, split_text, bridge, convention)
            caution = _caution(call, parameters, names, forward, backward)
            score = rank(reading, reading.inputs, names, seed)
            if caution is None:  # the names contradict this call, so it only explains what is wrong
                against_names += [_explained(call)] if score == 0 else []
                continue
            reading = replace(reading, caution=caution)
            if score == 0:
                return reading if reading.linear else replace(reading, owned=owners.with_gradient(reading, names))
            found.append((score, reading))
            if not reading.linear and flat(numpy_tree(kept.out)).size > 1:
                mean = replace(reading, mean=True, text=f"{reading.text}, the gradient of the mean of the outputs")
                if rank(mean, mean.inputs, names, seed) == 0:
                    return replace(mean, owned=owners.with_gradient(mean, names))
            assigned = owners.assigned(reading, names, seed, backward) if score < 3 else None
            if assigned is not None:
                return assigned
    found.sort(key=lambda pair: pair[0])
    best = found[0][1] if found else Reading(forward, backward, inputs)
    if not best.linear and of_the_mean(best, best.inputs, names, seed):
        best = replace(best, mean=True, text=f"{best.text}, the gradient of the mean of the outputs")
    return replace(best, instead=against_names[0]) if against_names else best


def _explained(call: _Call) -> str:
    """Return what a call that its names forbid would make right."""
    if "out" in call.roles:
        return "right if it is given forward's output, and not its input as the argument's name says"
    return f"right if it is called as {call}, which its arguments' names do not say"


def _caution(
    call: _Call, parameters: list[str] | None, names: list[str], forward: Callable[..., Any], backward: Any
) -> str | None:
    """Return a warning about a call, or None where the call contradicts the name of backward's argument.

    A derivative whose argument has the name of forward's input may still be a derivative in terms of the output. What
    its own file calls it with decides; where the file does not call it, the derivative is accepted with a warning.
    """
    pairs = [(p, role) for p, role in zip(parameters or [], call.roles, strict=False) if p in names]
    if all(role == names.index(p) for p, role in pairs):
        return ""
    if call.roles == ("dout",):
        return f"backward({pairs[0][0]}) is given the upstream gradient, although its argument is called like the input"
    if not call.elementwise:
        return None
    where = called_at(forward, backward)
    name = getattr(backward, "__name__", "the derivative")
    caution = f"{name} is the derivative in terms of the output: right only where it is called with that"
    return {"output": "", "input": None, "": caution}[where]


def _is_plain(result: Any, parameters: list[str] | None, names: list[str]) -> bool:
    """Tell whether a pair looks like the one form: it has two results and two arguments, whose names do not object."""
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
    """Return the names of the arguments that a function needs, or None where they are unknown or variable in number."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None
    if any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters):
        return None
    return [p.name for p in parameters if p.kind in _POSITIONAL and p.default is inspect.Parameter.empty]


Split = Callable[[Any, tuple[Any, ...]], _Kept]


def _splits(result: Any, parameters: list[str] | None) -> Iterator[tuple[Split, str]]:
    """Yield the ways to split forward's result into outputs and a cache, the most likely one first.

    `parameters` are backward's. Where they name fewer upstream gradients than there are outputs, the last outputs have
    none.
    """
    if isinstance(result, tuple) and len(result) >= 2:
        count = len(result)
        if count == 2:
            yield lambda r, x: _Kept(r[0], r[1], x), "out, cache"
            if isinstance(result[0], (dict, tuple, list)) and tree.is_number(to_numpy(result[1])):
                yield lambda r, x: _Kept(r[1], r[0], x), "cache, out"
        else:
            yield lambda r, x: _Kept(r[:-1], r[-1], x), f"{', '.join(f'out{i}' for i in range(count - 1))}, cache"
            given = sum(map(spelling.is_upstream, parameters or []))
            if 1 < given < count - 1:
                text = f"outputs and a cache, and only the first {given} of {count - 1} have an upstream gradient"
                yield lambda r, x: _Kept(r[:given], r[-1], x), text
            if given == 1:
                text = f"outputs and a cache, and only the first of {count - 1} has an upstream gradient"
                yield lambda r, x: _Kept(r[0], r[-1], x), text
            yield lambda r, x: _Kept(r[0], r[1:], x), "out, and a cache of the others"
        if flat(numpy_tree(result[-1])).size:
            yield lambda r, x: _Kept(r, _alone(x), x), f"{count} outputs and no cache"
    else:
        yield lambda r, x: _Kept(r, _alone(x), x), "out alone"


def _alone(inputs: tuple[Any, ...]) -> Any:
    return inputs[0] if len(inputs) == 1 else inputs


def _calls(parameters: list[str] | None, names: list[str], kept: _Kept, keywords: tuple[str, ...]) -> Iterator[_Call]:
    """Yield the ways to call backward: first as its names say, then in the usual orders."""
    if keywords and parameters is not None:
        parameters = [*parameters, *keywords]
    outs = len(kept.out) if isinstance(kept.out, tuple) else 0
    count = 2 if parameters is None else len(parameters)
    inputs = list(range(len(names)))
    labels: dict[str | int, str] = {"dout": "dout", "cache": "cache", "out": "out"} | dict(enumerate(names))
    labels |= {f"{what}{i}": f"{what}{i}" for what in ("dout", "out") for i in range(outs)}

    def call(*roles: str | int, elementwise: bool = False) -> _Call:
        return _Call(roles, tuple(labels[role] for role in roles), elementwise, keywords)

    told = None if parameters is None else _told(parameters, names, outs, cached=kept.cache is not _alone(kept.inputs))
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
    # An argument named like an upstream gradient gets it, since any other value could make a wrong backward right.
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


def _told(parameters: list[str], names: list[str], outs: int, cached: bool) -> tuple[str | int, ...] | None:
    """Return the roles that the names of the arguments tell, or None where a name tells nothing.

    One name may tell nothing: it is the cache, where the others are known and forward leaves a cache.
    """
    roles: list[str | int] = []
    unknown = 0
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
            roles.append("cache")
            unknown += 1
    return tuple(roles) if unknown == 0 or (unknown == 1 and cached and len(roles) > 2) else None


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
        moved = over_like(dout, kept.out)
        return numpy_tree(_pulled_back(call(backward, moved, kept), moved, kept.inputs))

    # Signatures and closures are looked at for names and for sources of random numbers.
    whole.__wrapped__ = forward  # type: ignore[attr-defined]
    pulled.__wrapped__ = backward  # type: ignore[attr-defined]
    run, pull, inputs = adapt(whole, pulled, bridge.numpy(bridge.inputs), convention)
    linear = call.linear or _is_applied(forward, backward, split, call, bridge)
    text = f"forward returns {split_text}; {call}" if (split_text, str(call)) != PLAIN else ""
    notes = [text, bridge.text, f"complex gradients as in {convention}" if run is not whole else ""]
    text = "; ".join(note for note in notes if note)
    return Reading(run, pull, inputs, text, linear, eps=bridge.eps)


def _is_applied(
    forward: Callable[..., Any], backward: Callable[..., Any], split: Split, call: _Call, bridge: Bridge
) -> bool:
    """Tell whether backward takes no upstream gradient and returns what is applied to it: a pullback or a Jacobian."""
    randomness = Randomness(forward, backward)
    try:
        moved = bridge.over(bridge.numpy(tree.transform(bridge.inputs, tree.fresh)))
        kept = split(forward(*moved), moved)
        raw = call(backward, None, kept)
        return callable(raw) or bool(_jacobian_of(raw, kept.out, kept.inputs))
    except Exception:  # a wrong way to call backward may raise anything
        return False
    finally:
        randomness.rewind()


def exchanged(subject: Subject) -> Reading | None:
    """Return the pair with backward's two arguments exchanged, or None where backward does not take two."""
    parameters = _parameters(subject.backward)
    if parameters is None or len(parameters) != 2:
        return None
    backward = subject.backward
    return Reading(subject.forward, lambda dout, cache: backward(cache, dout), subject.inputs)
