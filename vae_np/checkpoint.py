"""Checkpoints in safetensors files, never pickle: the weights for everybody, the state for resuming.

A run's folder holds two files. `checkpoint.safetensors` has the weights in PyTorch's layout, (out, in), under
nn.Linear's names, so that a plain PyTorch module loads them with `strict=True`. `state.safetensors` has all
that resuming needs: the parameters once more, the optimiser's moments, and the settings and counters as JSON.
Both are written in full beside the old ones before either is renamed, the state first: a kill at any moment
leaves a state that is complete in itself. Libraries for atomic writes rename one file at a time, so the few lines that
do it for both are here.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np._version import __version__
from vae_np.errors import CheckpointError, InputError, MissingFileError

FORMAT_VERSION = 1
WEIGHTS_FILE = "checkpoint.safetensors"
STATE_FILE = "state.safetensors"

# All metadata goes under one key, because safetensors writes several keys in an order that changes from
# process to process, and equal runs shall leave equal files.
_METADATA_KEY = "vae_np"
_PARAMETER, _MOMENT = "parameter.", "moment."
_CONTENTS = {"weights": ("step", "architecture"), "state": ("step", "architecture", "config", "extra")}


@dataclass(frozen=True)
class Weights:
    """The parameters of a model, weights (in, out) as in memory, and the architecture they belong to."""

    parameters: dict[str, Array]
    architecture: dict[str, Any]
    step: int


@dataclass(frozen=True)
class State:
    """All that resuming a run needs; weights (in, out) as in memory."""

    parameters: dict[str, Array]
    moments: dict[str, Array]
    architecture: dict[str, Any]
    config: dict[str, Any]
    step: int
    extra: dict[str, Any]


def save(
    folder: str | os.PathLike[str],
    *,
    parameters: Mapping[str, Array],
    moments: Mapping[str, Array],
    architecture: Mapping[str, Any],
    config: Mapping[str, Any],
    step: int,
    extra: Mapping[str, Any],
) -> None:
    """Write both files of a checkpoint into `folder`, which is created where it is missing.

    `parameters` has weights as (in, out); `moments` any named arrays; the other mappings anything JSON can
    hold (tuples come back as lists; floats come back exactly). Raises CheckpointError where the folder cannot
    be written; an earlier checkpoint in it is then untouched.
    """
    folder = Path(folder)
    about = {"step": int(step), "architecture": dict(architecture)}
    state = {_PARAMETER + name: tensor for name, tensor in parameters.items()}
    state |= {_MOMENT + name: tensor for name, tensor in moments.items()}
    weights = {name: _transposed(name, tensor) for name, tensor in parameters.items()}
    files = {
        folder / STATE_FILE: _encode("state", state, about | {"config": dict(config), "extra": dict(extra)}),
        folder / WEIGHTS_FILE: _encode("weights", weights, about),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _replace_all(files)
    except OSError as error:
        raise CheckpointError(
            f"{folder}: the checkpoint of step {step} cannot be written ({error.strerror or error}); "
            "an earlier one there is still good"
        ) from error


def load_weights(path: str | os.PathLike[str]) -> Weights:
    """Read the weights of a run, given its folder or the file.

    Where a kill came between the two renames these are the weights of the checkpoint before the state's.
    Raises MissingFileError where there is none and CheckpointError where it is truncated, is not one, or is
    newer than this version.
    """
    path = Path(path)
    if path.is_dir():
        if not (path / WEIGHTS_FILE).exists() and (path / STATE_FILE).exists():
            raise MissingFileError(
                f"{path / WEIGHTS_FILE}: there is no such file; the run was stopped while it wrote its first "
                "checkpoint, and resuming the run writes it"
            )
        path = path / WEIGHTS_FILE
    tensors, about = _decode("weights", path)
    parameters = {name: _transposed(name, tensor) for name, tensor in tensors.items()}
    return Weights(parameters, about["architecture"], about["step"])


def load_state(folder: str | os.PathLike[str]) -> State:
    """Read all that resuming the run in `folder` needs.

    Raises MissingFileError where there is nothing and CheckpointError where the state is truncated, is not
    one, or is newer than this version.
    """
    tensors, about = _decode("state", Path(folder) / STATE_FILE)
    return State(
        parameters=_with_prefix(_PARAMETER, tensors),
        moments=_with_prefix(_MOMENT, tensors),
        architecture=about["architecture"],
        config=about["config"],
        step=about["step"],
        extra=about["extra"],
    )


def check_shapes(parameters: Mapping[str, Array], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Check that the tensors are just those that a model expects; raises CheckpointError otherwise."""
    missing = [name for name in expected if name not in parameters]
    unexpected = [name for name in parameters if name not in expected]
    if missing or unexpected:
        parts = (("lacks", missing), ("has no use for", unexpected))
        named = " and ".join(f"{verb} {', '.join(names)}" for verb, names in parts if names)
        raise CheckpointError(f"checkpoint: belongs to another architecture: {named}")
    for name, shape in expected.items():
        if parameters[name].shape != tuple(shape):
            raise CheckpointError(
                f"checkpoint: belongs to another architecture: {name} has shape {parameters[name].shape}, "
                f"expected {tuple(shape)}"
            )


def write_atomic(path: str | os.PathLike[str], content: bytes | str) -> None:
    """Replace a file by `content` (text as UTF-8) at once: a kill leaves the old file or the new one.

    Raises InputError where the file cannot be written; an earlier one is then untouched.
    """
    path = Path(path)
    try:
        _replace_all({path: content.encode() if isinstance(content, str) else content})
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error


def _replace_all(files: Mapping[Path, bytes]) -> None:
    """Write every file in full before the first is renamed; rename in the order given."""
    # one fixed name per file, so that what a kill leaves behind is overwritten and never piles up
    temporary = {path: path.with_name(f".{path.name}.tmp") for path in files}
    try:
        for path, content in files.items():
            _write_synced(temporary[path], content)
        for path in files:
            os.replace(temporary[path], path)
    except BaseException:
        for path in temporary.values():
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        raise
    for folder in {path.parent for path in files}:
        _sync_folder(folder)


def _write_synced(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    # some systems cannot sync a folder; the renames have happened all the same
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _transposed(name: str, tensor: Array) -> Array:
    """Change a weight matrix from (in, out) to (out, in) or back; leave any other tensor as it is."""
    # safetensors takes the memory as it lies, so the transpose has to be a copy
    return np.ascontiguousarray(tensor.T) if name.endswith(".weight") and tensor.ndim == 2 else tensor


def _with_prefix(prefix: str, tensors: Mapping[str, Array]) -> dict[str, Array]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _encode(kind: str, tensors: Mapping[str, Array], about: Mapping[str, Any]) -> bytes:
    from safetensors.numpy import save as encode

    header = {"kind": kind, "format_version": FORMAT_VERSION, "vae_np_version": __version__, **about}
    contiguous = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
    metadata = {_METADATA_KEY: json.dumps(header, default=_plain)}
    return encode(contiguous, metadata=metadata)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be kept in a checkpoint's metadata")


def _decode(kind: str, path: Path) -> tuple[dict[str, Array], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except FileNotFoundError:
        raise MissingFileError(f"{path}: there is no such file") from None
    # ValueError: an empty file cannot be mapped; TypeError: a number format that NumPy lacks
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path}: is truncated or not a safetensors file ({reason})") from None
    if _METADATA_KEY not in metadata:
        raise CheckpointError(f"{path}: is a safetensors file, but not one that vae_np wrote")
    about = _about(metadata[_METADATA_KEY], path)
    if about["format_version"] > FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: has format version {about['format_version']}, expected at most {FORMAT_VERSION}; "
            f"it was written by vae_np {about['vae_np_version']}, newer than this one"
        )
    if about["kind"] != kind:
        raise CheckpointError(f"{path}: holds the {about['kind']} of a run, expected its {kind}")
    absent = [key for key in _CONTENTS[kind] if key not in about]
    if absent:
        raise CheckpointError(f"{path}: is damaged, its header has no {absent[0]}")
    return tensors, about


def _about(text: str, path: Path) -> dict[str, Any]:
    try:
        about = json.loads(text)
        return about | {key: about[key] for key in ("format_version", "vae_np_version", "kind")}
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: is damaged, its header cannot be read ({error!r})") from None
