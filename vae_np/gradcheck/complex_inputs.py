"""Complex inputs, in either of the two conventions in use.

A real loss L of z = a + ib has the derivatives ∂L/∂a and ∂L/∂b. The convention "torch" (which TensorFlow shares)
combines them as ∂L/∂a + i ∂L/∂b. This is twice Wirtinger's ∂L/∂z̄, and it points uphill. The convention "jax" combines
them as ∂L/∂a - i ∂L/∂b, which is 2 ∂L/∂z. The upstream gradient of a complex output follows the same rule. This module
turns a complex array into a real one with a last axis of length two, so that every check works as before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from vae_np.errors import InputError
from vae_np.gradcheck import tree

Convention = Literal["torch", "jax"]
SIGNS = {"torch": 1.0, "jax": -1.0}


def is_complex(value: Any) -> bool:
    """Tell whether a leaf is a complex number or array."""
    return isinstance(value, (np.ndarray, np.generic, complex)) and np.iscomplexobj(value)


def split(value: Any, sign: float = 1.0) -> Any:
    """Return a tree with each complex leaf as a real array with real and imaginary parts along a last axis."""

    def parts(leaf: Any) -> Any:
        return np.stack([np.real(leaf), sign * np.imag(leaf)], axis=-1) if is_complex(leaf) else leaf

    return tree.transform(value, parts)


def joined(value: Any, pattern: Any, sign: float = 1.0) -> Any:
    """Return a tree whose leaves are complex again where those of `pattern` are."""

    def whole(leaf: Any, like: Any) -> Any:
        if not is_complex(like):
            return leaf
        if np.iscomplexobj(leaf):
            raise TypeError("the parts of a complex input are real")  # the complex step has no place here
        array = np.asarray(leaf)
        return (array[..., 0] + sign * 1j * array[..., 1]).astype(np.asarray(like).dtype)[()]

    leaves = [whole(a, b) for (_, a), (_, b) in zip(tree.leaves(value), tree.leaves(pattern), strict=True)]
    return tree.rebuild(value, iter(leaves))


def adapt(
    forward: Callable[..., Any], backward: Callable[[Any, Any], Any], inputs: tuple[Any, ...], convention: str | None
) -> tuple[Callable[..., Any], Callable[[Any, Any], Any], tuple[Any, ...]]:
    """Return the pair on real arrays together with its inputs, unchanged where no input is complex.

    Raises InputError where an input is complex and no convention is named.
    """
    if not any(is_complex(leaf) for value in inputs for _, leaf in tree.leaves(value)):
        return forward, backward, inputs
    if convention not in SIGNS:
        raise InputError(
            f"convention: got {convention!r} with a complex input, expected 'torch' where its gradient is "
            "∂/∂Re + i ∂/∂Im, or 'jax' where it is ∂/∂Re - i ∂/∂Im"
        )
    sign = SIGNS[convention]

    def run(*parts: Any) -> tuple[Any, Any]:
        out, cache = forward(*joined(parts, inputs))
        return split(out), (out, cache)

    def pull(dout: Any, kept: Any) -> Any:
        out, cache = kept
        return split(backward(joined(dout, out, sign), cache), sign)

    run.__wrapped__ = getattr(forward, "__wrapped__", forward)  # type: ignore[attr-defined]
    pull.__wrapped__ = getattr(backward, "__wrapped__", backward)  # type: ignore[attr-defined]
    return run, pull, split(inputs)
