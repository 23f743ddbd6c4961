"""Arrays of other libraries: torch tensors, JAX and CuPy arrays, turned into NumPy arrays and back.

A library is imported only where a subject holds its arrays. NumPy itself has no bfloat16 (`ml_dtypes` adds it), so it
is carried in float32; the numbers are those that bfloat16 holds.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from vae_np.gradcheck import tree


@dataclass(frozen=True)
class Origin:
    """Where an array is from: its library, its dtype and its device there, and the machine epsilon of that dtype."""

    library: str
    dtype: str
    device: Any
    eps: float


EPS = {"bfloat16": 2.0**-7, "float16": 2.0**-10, "float32": 2.0**-23, "float64": 2.0**-52}


def library_of(value: Any) -> str:
    """Return the library of an array, "torch", "jax" or "cupy"; it is empty for NumPy's and for anything else.

    A NumPy array in bfloat16 counts as one of `ml_dtypes`.
    """
    kind = type(value)
    if isinstance(value, (np.ndarray, np.generic)):
        return "ml_dtypes" if str(value.dtype) == "bfloat16" else ""
    root = kind.__module__.split(".")[0]
    if root == "torch" and hasattr(value, "detach"):
        return "torch"
    if root in ("jax", "jaxlib") and hasattr(value, "dtype") and hasattr(value, "shape"):
        return "jax"
    if root == "cupy" and kind.__name__ == "ndarray":
        return "cupy"
    return ""


def origin(value: Any) -> Origin | None:
    """Return where an array is from, or None for NumPy's."""
    library = library_of(value)
    if not library:
        return None
    dtype = str(value.dtype).removeprefix("torch.")
    return Origin(library, dtype, getattr(value, "device", None), EPS.get(dtype, 0.0))


def to_numpy(value: Any) -> Any:
    """Return an array of another library as a NumPy array, and anything else as it is."""
    library = library_of(value)
    if not library:
        return value
    if library == "torch":
        value = value.detach()
        value = value.resolve_conj() if value.is_complex() else value
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
        return np.array(value.cpu().numpy())
    if library == "cupy":
        return value.get()
    if library == "ml_dtypes":
        return value.astype(np.float32)
    found = np.asarray(value)
    return np.array(found.astype(np.float32) if str(found.dtype) == "bfloat16" else found)


def from_numpy(value: Any, came: Origin) -> Any:
    """Return a NumPy array as one of its library, in its own dtype, or in the wider one that it was promoted to."""
    array = np.asarray(value)
    own = "float32" if came.dtype == "bfloat16" else came.dtype
    dtype = came.dtype if str(array.dtype) == own else str(array.dtype)
    if came.library == "torch":
        torch = sys.modules["torch"]
        return torch.tensor(array, device=came.device).to(getattr(torch, dtype))
    if came.library == "cupy":
        return sys.modules["cupy"].asarray(array)
    if came.library == "ml_dtypes":
        return array.astype(sys.modules["ml_dtypes"].bfloat16)[()] if dtype == "bfloat16" else array[()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # without its flag for float64, JAX warns and takes float32
        return sys.modules["jax"].numpy.asarray(array, dtype=dtype)


def is_foreign(*values: Any) -> bool:
    """Tell whether an array of another library is among the leaves of some values."""
    return any(library_of(leaf) for value in values for _, leaf in tree.leaves(value))


def numpy_tree(value: Any) -> Any:
    """Return a tree with every array of another library as a NumPy array; other leaves stay as they are."""
    return tree.transform(value, to_numpy)


class Bridge:
    """Takes inputs to NumPy and back, and remembers which library each leaf is from."""

    def __init__(self, inputs: tuple[Any, ...]) -> None:
        self.inputs = inputs
        self._origins = [origin(leaf) for value in inputs for _, leaf in tree.leaves(value)]
        # True where an input is another library's array.
        self.foreign = any(came is not None for came in self._origins)

    @property
    def text(self) -> str:
        """The libraries of the inputs as one line, which is empty where all are NumPy's."""
        found = dict.fromkeys(f"{came.library} {came.dtype}" for came in self._origins if came is not None)
        return f"inputs are arrays of {', '.join(found)}" if found else ""

    @property
    def eps(self) -> dict[int, float]:
        """The machine epsilon of leaves in bfloat16, by their positions."""
        return {i: came.eps for i, came in enumerate(self._origins) if came is not None and came.dtype == "bfloat16"}

    def numpy(self, inputs: tuple[Any, ...]) -> Any:
        """Return the inputs with NumPy arrays in place of other libraries'."""
        return numpy_tree(inputs)

    def over(self, inputs: tuple[Any, ...]) -> Any:
        """Return NumPy inputs as arrays of the library each came from."""
        if not self.foreign:
            return inputs
        leaves = [leaf for value in inputs for _, leaf in tree.leaves(value)]
        moved = [
            from_numpy(leaf, came) if came is not None and isinstance(leaf, (np.ndarray, np.generic, float)) else leaf
            for leaf, came in zip(leaves, self._origins, strict=True)
        ]
        return tree.rebuild(inputs, iter(moved))


def over_like(value: Any, pattern: Any) -> Any:
    """Return a tree of NumPy arrays as arrays of the libraries that the leaves of `pattern` are of."""
    origins = [origin(leaf) for _, leaf in tree.leaves(pattern)]
    leaves = [leaf for _, leaf in tree.leaves(value)]
    if not any(origins) or len(leaves) != len(origins):
        return value
    moved = [
        leaf if came is None or leaf is None else from_numpy(leaf, came)
        for leaf, came in zip(leaves, origins, strict=True)
    ]
    return tree.rebuild(value, iter(moved))


def torch_function(function: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return a `torch.autograd.Function` as a pair: its forward, and its own backward as autograd calls it."""
    import torch

    def forward(*inputs: Any) -> tuple[Any, Any]:
        with torch.enable_grad():
            moved = [_tensor(torch, value) for value in inputs]
            out = function.apply(*moved)
        outs = out if isinstance(out, tuple) else (out,)
        return numpy_tree(out), (outs, moved)

    def backward(dout: Any, cache: Any) -> Any:
        outs, moved = cache
        wanted = [value for value in moved if isinstance(value, torch.Tensor) and value.requires_grad]
        parts = dout if isinstance(dout, tuple) else (dout,)
        douts = [torch.as_tensor(np.asarray(part)).to(out.dtype) for part, out in zip(parts, outs, strict=True)]
        found = iter(torch.autograd.grad(list(outs), wanted, douts, allow_unused=True))
        gradients = [
            next(found) if isinstance(value, torch.Tensor) and value.requires_grad else None for value in moved
        ]
        return tuple(None if gradient is None else to_numpy(gradient) for gradient in gradients)

    forward.__wrapped__ = lambda *inputs: function.forward(None, *inputs)  # type: ignore[attr-defined]
    forward.__name__ = function.__name__
    return forward, backward


def _tensor(torch: Any, value: Any) -> Any:
    if library_of(value) == "torch":
        value = value.detach().clone()
    elif isinstance(value, np.ndarray):
        value = torch.tensor(value)
    else:
        return value
    return value.requires_grad_(value.is_floating_point() or value.is_complex())


def jax_function(function: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return a JAX function (with a derivative of its own, or any other) as a pair, in float64."""
    import jax

    jax.config.update("jax_enable_x64", True)  # type: ignore[no-untyped-call]

    fixed = getattr(function, "nondiff_argnums", ())

    def forward(*inputs: Any) -> tuple[Any, Any]:
        places = [i for i, value in enumerate(inputs) if isinstance(value, (np.ndarray, float, np.floating))]
        places = [i for i in places if i not in fixed]
        places = [i for i in places if np.issubdtype(np.asarray(inputs[i]).dtype, np.inexact)]

        def of(*moving: Any) -> Any:
            arguments = list(inputs)
            for i, value in zip(places, moving, strict=True):
                arguments[i] = value
            return function(*arguments)

        out, pull = jax.vjp(of, *(jax.numpy.asarray(inputs[i]) for i in places))
        return numpy_tree(jax.tree.map(np.asarray, out)), (pull, places, len(inputs))

    def backward(dout: Any, cache: Any) -> Any:
        pull, places, count = cache
        found: list[Any] = [None] * count
        for i, gradient in zip(places, pull(jax.tree.map(jax.numpy.asarray, dout)), strict=True):
            found[i] = np.asarray(gradient)
        return tuple(found)

    forward.__wrapped__ = getattr(function, "__wrapped__", function)  # type: ignore[attr-defined]
    forward.__name__ = getattr(function, "__name__", "f")
    return forward, backward
