"""Nested dictionaries of parameters, as JAX's libraries have them: `kernel` (in, out) and `bias` under each layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from vae_np._types import Array

_THEIRS = {"weight": "kernel", "bias": "bias"}
_OURS = {theirs: ours for ours, theirs in _THEIRS.items()}


def to_tree(parameters: Mapping[str, Array]) -> dict[str, Any]:
    """Parameters as a nested dictionary: {"encoder": {"hidden_0": {"kernel": (in, out), "bias": (out,)}, ...}, ...}."""
    tree: dict[str, Any] = {}
    for name, tensor in parameters.items():
        *layers, part = name.replace(".hidden.", ".hidden_").split(".")
        place = tree
        for layer in layers:
            place = place.setdefault(layer, {})
        place[_THEIRS.get(part, part)] = np.array(tensor)
    return tree


def from_tree(tree: Mapping[str, Any]) -> dict[str, Array]:
    """The tensors of a nested dictionary by dotted names, weights (out, in), as a `state_dict` has them.

    A level `params` at the top, as Flax has it, is left out.
    """
    tree = tree["params"] if set(tree) == {"params"} else tree
    tensors = {name.replace(".hidden_", ".hidden."): np.asarray(tensor) for name, tensor in _flat(tree, "")}
    return {name: tensor.T if name.endswith(".weight") else tensor for name, tensor in tensors.items()}


def _flat(tree: Mapping[str, Any], before: str) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{_OURS.get(name, name)}", value
