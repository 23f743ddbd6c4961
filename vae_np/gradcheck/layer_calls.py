"""The ways to call an object's backward: which argument is the upstream gradient, a cache, an input or a learning rate.

A role is "dout", "dout0", "out", "cache", "learning rate", "the object's output", or the position of an input.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from vae_np.gradcheck import spelling

LEARNING_RATE = frozenset({"lr", "learning_rate", "eta", "alpha", "step_size", "rate"})
Roles = tuple[str | int, ...]


def takes_upstream(call: Roles) -> bool:
    """Tell whether an upstream gradient is among the arguments."""
    return any(str(role).startswith("dout") for role in call)


def ways(backward: Any, inputs: int, names: list[str]) -> Iterator[Roles]:
    """Yield the ways to call an object's backward, the likeliest first; `inputs` and `names` are its forward's."""
    if backward is None:
        yield ("dout",)
        return
    try:
        parameters = list(inspect.signature(backward).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [p.name for p in parameters if p.kind in kinds and p.default is inspect.Parameter.empty]
    optional = [p for p in parameters if p.kind in kinds and p.default is not inspect.Parameter.empty]
    places = list(range(inputs))
    told = _told(needed, names)
    seen: set[Roles] = set()
    orders: list[Roles] = [told]
    if not needed and optional:
        orders.append(("dout",))  # backward(dout=1)
    orders += [("dout",), ("dout", "cache"), ("dout", "learning rate"), ("dout", *places), (*places, "dout")]
    orders += [("out", *places[1:]), tuple(places), ("cache", "dout"), ("dout", "out"), ()]
    # An argument named like an upstream gradient gets it, since any other value could make a wrong backward right.
    upstreams = [i for i, name in enumerate(needed) if name not in names and spelling.is_upstream(name)]
    orders = [o for o in orders if len(o) != len(needed) or all(str(o[i]).startswith("dout") for i in upstreams)]
    gradients = [i for i, name in enumerate(needed) if spelling.looks_like_gradient(name)]
    orders = [o for o in orders if len(o) != len(needed) or all(o[i] != "cache" for i in gradients)]
    if len(needed) > 1 and needed[0] not in names and set(needed[1:]) <= set(names):
        # A loss that takes its labels again also takes the predictions, whatever their name.
        labels = [names.index(name) for name in needed[1:]]
        orders += [(0, *labels), ("the object's output", *labels)]
    for order in orders:
        if order not in seen and (len(order) == len(needed) or (not needed and optional and order == ("dout",))):
            seen.add(order)
            yield order


def _told(needed: list[str], names: list[str]) -> Roles:
    """Return the roles of backward's arguments by their names; an unknown name counts as the upstream gradient."""
    roles: list[str | int] = []
    for name in needed:
        if name in names:
            roles.append(names.index(name))
        elif name.lower() in LEARNING_RATE:
            roles.append("learning rate")
        else:
            roles.append("cache" if spelling.is_cache(name) else "dout")
    if roles.count("dout") < 2:
        return tuple(roles)
    number = iter(range(len(roles)))  # one upstream gradient for each output
    return tuple(f"dout{next(number)}" if role == "dout" else role for role in roles)
