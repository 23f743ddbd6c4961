"""Tensors from safetensors files that anybody wrote, and from a PyTorch `state_dict`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.errors import CheckpointError, InputError, MissingFileError

_DTYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16}
_BFLOAT16 = "BF16"
_MAGIC_ZIP, _MAGIC_PICKLE = b"PK\x03\x04", b"\x80"


def read_weights(source: Mapping[str, Any] | str | os.PathLike[str]) -> dict[str, Array]:
    """The tensors of a `state_dict` or of a `.safetensors` file, in float32, or float64 where they are that.

    float16 and bfloat16 become float32, which holds their values exactly. Raises MissingFileError, CheckpointError for
    a file that cannot be read (a `.pt` is a pickle, which can run code, and is refused), and InputError for what is not
    finite or no number.
    """
    tensors = dict(source) if isinstance(source, Mapping) else _of_file(Path(source))
    read = {str(name): _as_array(name, tensor) for name, tensor in tensors.items()}
    for name, array in read.items():
        if not np.isfinite(array).all():
            raise InputError(f"weights: {name} has values that are not finite")
    return read


def _as_array(name: str, tensor: Any) -> Array:
    # PyTorch's tensors may need a gradient, lie on a device, or be bfloat16, which NumPy lacks.
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().cpu()
        tensor = (tensor.float() if tensor.element_size() < 4 else tensor).numpy()
    array = np.asarray(tensor)
    if array.dtype.name in ("float16", "bfloat16"):
        array = array.astype(np.float32)
    if array.dtype not in (np.float32, np.float64):
        raise InputError(f"weights: {name} holds {array.dtype}, expected floating-point numbers")
    return array


def _of_file(path: Path) -> dict[str, Array]:
    from safetensors import SafetensorError, deserialize

    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise MissingFileError(f"{path}: there is no such file") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from None
    if content.startswith((_MAGIC_ZIP, _MAGIC_PICKLE)):
        raise CheckpointError(
            f"{path}: is a pickle, which can run code when it is read, expected a .safetensors file; where it comes "
            "from, write one: import torch, safetensors.torch; "
            "safetensors.torch.save_file(torch.load(path, weights_only=True), name)"
        )
    try:
        held = deserialize(content)  # type: ignore[no-untyped-call]  # (it is compiled)
    except (SafetensorError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: is truncated or not a safetensors file ({error})") from None
    return {name: _decoded(path, name, about) for name, about in held}


def _decoded(path: Path, name: str, about: Mapping[str, Any]) -> Array:
    kind, shape, content = about["dtype"], about["shape"], about["data"]
    if kind == _BFLOAT16:
        # The upper half of a float32.
        words = np.frombuffer(content, "<u2").astype(np.uint32) << 16
        return words.view(np.float32).reshape(shape)
    if kind not in _DTYPES:
        raise CheckpointError(f"{path}: {name} holds {kind} numbers, expected one of {', '.join(_DTYPES)}, {_BFLOAT16}")
    return np.frombuffer(content, np.dtype(_DTYPES[kind]).newbyteorder("<")).astype(_DTYPES[kind]).reshape(shape)
