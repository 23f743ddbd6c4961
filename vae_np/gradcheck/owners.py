"""Whose gradients come, where backward returns fewer than there are inputs, or in another order than theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np

from vae_np.gradcheck import tree
from vae_np.gradcheck.gradients import match
from vae_np.gradcheck.reading import Reading, rank
from vae_np.gradcheck.sources import owners_told
from vae_np.gradcheck.subject import CallError, Subject, flat, make_subject, upstream

# With more inputs than this, orders are too many to try.
MOST_INPUTS = 5


def assigned(reading: Reading, names: list[str], seed: int, backward: Callable[..., Any]) -> Reading | None:
    """Return the reading in which the gradients belong to the inputs that they fit, or None where no choice fits.

    The names of the variables that backward returns decide, right or wrong. Where they tell nothing, each choice is
    tried.
    """
    _, raw = _gradients(reading, names)
    if raw is None or isinstance(raw, dict):
        return None
    parts = raw if isinstance(raw, (tuple, list)) else (raw,)
    if any(not tree.is_number(part) for part in parts):
        return None
    floats = [i for i, x in enumerate(reading.inputs) if tree.is_number(x)]
    told = owners_told(backward, names)
    in_order = told == [names[i] for i in floats]
    if told is not None and len(told) == len(parts) <= len(floats) and not in_order:
        return _named(reading, told)
    for owners in _choices(reading, floats, parts):
        candidate = _named(reading, [names[i] for i in owners])
        if rank(candidate, candidate.inputs, names, seed) == 0:
            return candidate
    return None


def with_gradient(reading: Reading, names: list[str]) -> tuple[str, ...]:
    """Return the inputs with a gradient where some floating array has none, and nothing otherwise."""
    subject, raw = _gradients(reading, names)
    if raw is None:
        return ()
    leaves = [i for i, leaf in enumerate(subject.leaves) if tree.is_number(leaf)]
    try:
        came = [i for i, gradient in match(subject, raw, leaves).items() if gradient.value is not None]
    except CallError:
        return ()
    lacking = [i for i in leaves if i not in came and tree.is_array(subject.leaves[i])]
    return tuple(subject.names[i] for i in came) if lacking else ()


def _gradients(reading: Reading, names: list[str]) -> tuple[Subject, Any]:
    """Return the reading's subject and what its backward returns, which is None where it cannot be called."""
    subject = make_subject(reading.forward, reading.backward, reading.inputs, names, ("forward", "backward"))
    try:
        out, kept = subject.run([tree.fresh(leaf) for leaf in subject.leaves])
        return subject, subject.pull_back(upstream(out, np.ones(flat(out).shape)), kept)
    except Exception:  # a function that is read wrongly may raise anything
        return subject, None
    finally:
        subject.randomness.rewind()


def _choices(reading: Reading, floats: list[int], parts: Any) -> Iterator[tuple[int, ...]]:
    """Yield the inputs that the gradients may belong to by their shapes."""
    if not 1 <= len(parts) <= len(floats) <= MOST_INPUTS:
        return
    for owners in permutations(floats, len(parts)):
        fitting = zip(owners, parts, strict=True)
        if owners != tuple(floats) and all(np.shape(reading.inputs[i]) == np.shape(part) for i, part in fitting):
            yield owners


def _named(reading: Reading, owners: list[str]) -> Reading:
    """Return the reading whose gradients come in a dictionary under the names of their inputs."""

    def pulled(dout: Any, kept: Any) -> Any:
        raw = reading.backward(dout, kept)
        parts = raw if isinstance(raw, (tuple, list)) else (raw,)
        return dict(zip(owners, parts, strict=True))

    pulled.__wrapped__ = getattr(reading.backward, "__wrapped__", reading.backward)  # type: ignore[attr-defined]
    text = f"{reading.text}; gradients of {', '.join(owners)} come, in this order"
    return replace(reading, backward=pulled, text=text, owned=tuple(owners))
