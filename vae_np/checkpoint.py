"""Checkpoints in safetensors files, never pickle: the weights for everybody, the state for resuming.

A run's folder holds two files. `checkpoint.safetensors` has the weights in PyTorch's layout, (out, in), under
nn.Linear's names, so that a plain PyTorch module loads them with `strict=True`. `state.safetensors` has all
that resuming needs: the parameters once more, the optimiser's moments, and the settings and counters as JSON.
Both are written in full beside the old ones before either is renamed, the state first: a kill at any moment
leaves a state that is complete in itself. Equal runs leave equal bytes in both: what differs, the wall time, is in a
third file, `wall-time.json`, which nothing needs.

The metadata of both has the SHA-256 of every tensor and of the rest of the metadata, so that a damaged file is refused
and never used. Values that are not finite are neither written nor loaded.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vae_np import storage
from vae_np._types import Array
from vae_np._version import __version__
from vae_np.errors import CheckpointError, InputError, MissingFileError, UnverifiedWarning, WriteError, one_line

# Version 2 has checksums, and says what the values of the data mean.
FORMAT_VERSION = 2
# The first version whose files have checksums: from it on, a file without them is a damaged one.
_WITH_CHECKSUMS = 2
WEIGHTS_FILE = "checkpoint.safetensors"
STATE_FILE = "state.safetensors"
TIME_FILE = "wall-time.json"
# The `source` in a state that `VAE.save` wrote.
PYTHON = "python"

# All metadata goes under one key, because safetensors writes several keys in an order that changes from
# process to process, and equal runs must leave equal files.
_METADATA_KEY = "vae_np"
_CHECKSUMS = "sha256"
_PARAMETER, _MOMENT = "parameter.", "moment."
_CONTENTS = {"weights": ("architecture",), "state": ("architecture", "config", "extra")}


@dataclass(frozen=True)
class Weights:
    """The parameters of a model, weights (in, out) as in memory, and the architecture they belong to.

    `values` says what the data mean to the model (`vae_np.data.Values.to_mapping`): None if the model was never fitted,
    and empty if an earlier version kept no record of it. `given` says what a conditional model's conditions are
    (`vae_np.data.Given.to_mapping`); else it is None.
    """

    parameters: dict[str, Array]
    architecture: dict[str, Any]
    step: int
    values: dict[str, Any] | None
    given: dict[str, Any] | None = None


@dataclass(frozen=True)
class State:
    """All that resuming a run needs; weights (in, out) as in memory.

    `values` and `given` are as in `Weights`; `fingerprint` identifies the run's data. `seconds` is the wall time of all
    sittings, None where it is not known.
    """

    parameters: dict[str, Array]
    moments: dict[str, Array]
    architecture: dict[str, Any]
    config: dict[str, Any]
    step: int
    extra: dict[str, Any]
    values: dict[str, Any] | None
    fingerprint: dict[str, Any]
    seconds: float | None
    given: dict[str, Any] | None = None

    @property
    def from_python(self) -> bool:
        """Whether `VAE.save` wrote it, so that it names no data, and not a run of the command line."""
        return not self.extra or self.extra.get("source") == PYTHON


def save(
    folder: str | os.PathLike[str],
    *,
    parameters: Mapping[str, Array],
    moments: Mapping[str, Array],
    architecture: Mapping[str, Any],
    config: Mapping[str, Any],
    step: int,
    extra: Mapping[str, Any],
    values: Mapping[str, Any] | None = None,
    fingerprint: Mapping[str, Any] | None = None,
    seconds: float | None = None,
    given: Mapping[str, Any] | None = None,
) -> None:
    """Write both files of a checkpoint into `folder`, and with `seconds` the wall time beside them.

    `parameters` has weights as (in, out); `moments` any named arrays; the other mappings anything JSON can
    hold (tuples come back as lists; floats come back exactly). Raises InputError where a number is not finite, and
    WriteError, with the file, where it cannot be written; an earlier checkpoint in the folder then stays as it was.
    """
    folder = Path(folder)
    about = {"step": int(step), "architecture": dict(architecture), "values": None if values is None else dict(values)}
    if given is not None:
        about["given"] = dict(given)
    state = {_PARAMETER + name: tensor for name, tensor in parameters.items()}
    state |= {_MOMENT + name: tensor for name, tensor in moments.items()}
    unusable = _first_non_finite(state)
    if unusable is not None:
        raise InputError(f"{folder}: the checkpoint of step {step} is not written: {unusable}")
    weights = {name: _transposed(name, tensor) for name, tensor in parameters.items()}
    # First, so that a kill can leave more seconds than steps, but none that were not spent.
    files = {} if seconds is None else {folder / TIME_FILE: (json.dumps({"seconds": seconds}) + "\n").encode()}
    files |= {
        folder / STATE_FILE: _encode(
            "state",
            state,
            about | {"config": dict(config), "extra": dict(extra), "fingerprint": dict(fingerprint or {})},
        ),
        folder / WEIGHTS_FILE: _encode("weights", weights, about),
    }
    try:
        storage.replace_all(files)
    except OSError as error:
        raise WriteError(f"{error.filename}: cannot be written at step {step} ({storage.reason(error)})") from error


def load_weights(path: str | os.PathLike[str]) -> Weights:
    """Read the weights of a run, given its folder or the file.

    If a kill came between the two renames, these weights are one checkpoint older than the state. Raises
    MissingFileError if there is no such file, and CheckpointError if it is truncated, is not a checkpoint, or is newer
    than this version.
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
    return Weights(parameters, about["architecture"], about["step"], about.get("values", {}), about.get("given"))


def load_state(folder: str | os.PathLike[str]) -> State:
    """Read all that resuming the run in `folder` needs.

    Raises MissingFileError if there is no state, and CheckpointError if the file is truncated, is not a state, or is
    newer than this version.
    """
    tensors, about = _decode("state", Path(folder) / STATE_FILE)
    return State(
        parameters=_with_prefix(_PARAMETER, tensors),
        moments=_with_prefix(_MOMENT, tensors),
        architecture=about["architecture"],
        config=about["config"],
        step=about["step"],
        extra=about["extra"],
        values=about.get("values", {}),
        fingerprint=about.get("fingerprint", {}),
        seconds=_seconds(Path(folder) / TIME_FILE, about["extra"]),
        given=about.get("given"),
    )


def _seconds(path: Path, extra: Mapping[str, Any]) -> float | None:
    """The wall time beside a state; an earlier version kept it in the state. None where there is no such number."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["seconds"]
    # RecursionError: brackets nested thousands deep
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        found = extra.get("seconds")
    is_number = isinstance(found, int | float) and not isinstance(found, bool)
    return float(found) if is_number and 0 <= found < math.inf else None


def check_shapes(tensors: Mapping[str, Array], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Check that the tensors are exactly those that a model expects; raise CheckpointError, with the tensor, if not."""
    missing = [name for name in expected if name not in tensors]
    unexpected = [name for name in tensors if name not in expected]
    if missing or unexpected:
        parts = (("lacks", missing), ("has no use for", unexpected))
        named = " and ".join(f"{verb} {', '.join(names)}" for verb, names in parts if names)
        raise CheckpointError(f"checkpoint: belongs to another architecture: {named}")
    for name, shape in expected.items():
        if tensors[name].shape != tuple(shape):
            raise CheckpointError(
                f"checkpoint: belongs to another architecture: {name} has shape {tensors[name].shape}, "
                f"expected {tuple(shape)}"
            )


def check_dtypes(tensors: Mapping[str, Array], expected: Mapping[str, Any]) -> None:
    """Check the number format of every tensor; raise CheckpointError, with the tensor, otherwise."""
    for name, tensor in tensors.items():
        if tensor.dtype != np.dtype(expected[name]):
            raise CheckpointError(f"checkpoint: {name} holds {tensor.dtype} numbers, expected {expected[name]}")


def _transposed(name: str, tensor: Array) -> Array:
    """Change a weight matrix from (in, out) to (out, in) or back; leave any other tensor as it is."""
    # safetensors takes the memory as it lies, so the transpose has to be a copy
    return np.ascontiguousarray(tensor.T) if name.endswith(".weight") and tensor.ndim == 2 else tensor


def _with_prefix(prefix: str, tensors: Mapping[str, Array]) -> dict[str, Array]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _encode(kind: str, tensors: Mapping[str, Array], about: Mapping[str, Any]) -> bytes:
    from safetensors.numpy import save as encode

    header = {"kind": kind, "format_version": FORMAT_VERSION, "vae_np_version": __version__, **about}
    # As it will be read back, with lists in place of tuples.
    header = json.loads(json.dumps(header, default=_plain))
    contiguous = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
    checksums = {
        "header": _header_checksum(header),
        "tensors": {name: _checksum(tensor) for name, tensor in contiguous.items()},
    }
    return encode(contiguous, metadata={_METADATA_KEY: json.dumps(header | {_CHECKSUMS: checksums})})


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be kept in a checkpoint's metadata")


def _checksum(tensor: Array) -> str:
    """SHA-256 of a tensor: its number format, its shape, and its bytes in C order."""
    total = hashlib.sha256(f"{tensor.dtype.name} {tensor.shape}\n".encode())
    total.update(np.asarray(tensor, order="C").data)
    return total.hexdigest()


def _header_checksum(header: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()


def _first_non_finite(tensors: Mapping[str, Array]) -> str | None:
    """Which tensor holds a number that is not finite, and where; None if all are finite."""
    for name, tensor in tensors.items():
        bad = np.argwhere(~np.isfinite(tensor))
        if len(bad):
            place = tuple(int(index) for index in bad[0])
            return f"{name} has the value {tensor[place]} at {list(place)}"
    return None


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
        raise CheckpointError(f"{path}: is truncated or not a safetensors file ({error})") from None
    if _METADATA_KEY not in metadata:
        raise CheckpointError(f"{path}: is a safetensors file, but not one that vae_np wrote")
    about = _about(metadata[_METADATA_KEY], path)
    if about["format_version"] > FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: has format version {about['format_version']}, expected at most {FORMAT_VERSION}; "
            f"it was written by vae_np {str(about['vae_np_version'])[:40]}, newer than this one"
        )
    _verify(tensors, about, path)
    if about["kind"] != kind:
        raise CheckpointError(f"{path}: holds the {str(about['kind'])[:40]} of a run, expected its {kind}")
    _check_contents(kind, about, path)
    unusable = _first_non_finite(tensors)
    if unusable is not None:
        raise CheckpointError(f"{path}: {unusable}, expected finite numbers")
    return tensors, about


def _about(text: str, path: Path) -> dict[str, Any]:
    try:
        about = json.loads(text)
        held = {key: about[key] for key in ("format_version", "vae_np_version", "kind")}
    # RecursionError: brackets nested thousands deep
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: is damaged, its header cannot be read ({error!r})") from None
    version = held["format_version"]
    if not _is_count(version) or version < 1:
        raise CheckpointError(
            f"{path}: is damaged, its header has the format version {repr(version)[:40]}, expected a whole number"
        )
    return dict(about)


def _verify(tensors: Mapping[str, Array], about: dict[str, Any], path: Path) -> None:
    """Hold header and tensors against their checksums; raise CheckpointError with what does not agree.

    A file of an older format has none: a warning says so. The checksums are taken out of `about`.
    """
    checksums = about.pop(_CHECKSUMS, None)
    if checksums is None and about["format_version"] < _WITH_CHECKSUMS:
        said = one_line(
            f"{path}: has no checksums (vae_np {str(about['vae_np_version'])[:40]} wrote it), so damage to it would "
            "not be seen"
        )
        warnings.warn(said, UnverifiedWarning, stacklevel=5)
        return
    try:
        header, expected = checksums["header"], dict(checksums["tensors"])
    except (KeyError, TypeError, ValueError):
        raise CheckpointError(f"{path}: is damaged, its header has no checksums") from None
    if header != _header_checksum(about):
        raise CheckpointError(f"{path}: is damaged, its header does not agree with its checksum")
    for name in sorted(expected.keys() | tensors.keys()):
        if name not in tensors:
            raise CheckpointError(f"{path}: is damaged, {name} is not in it")
        if expected.get(name) != _checksum(tensors[name]):
            raise CheckpointError(f"{path}: is damaged, {name} does not agree with its checksum")


def _check_contents(kind: str, about: Mapping[str, Any], path: Path) -> None:
    for key in ("step", *_CONTENTS[kind]):
        if key not in about:
            raise CheckpointError(f"{path}: is damaged, its header has no {key}")
        good = _is_count(about[key]) if key == "step" else isinstance(about[key], dict)
        if not good:
            expected = "a whole number >= 0 and < 2**32" if key == "step" else "a table"
            raise CheckpointError(
                f"{path}: is damaged, its header has the {key} {repr(about[key])[:40]}, expected {expected}"
            )


def _is_count(value: Any) -> bool:
    # Noise is addressed by the step, in a word of 32 bits.
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**32
