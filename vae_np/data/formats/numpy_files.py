"""NumPy's own files: one array, which stays in its file, or a zip of several."""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np

from vae_np.data.formats.parts import Parts, check_size, choose
from vae_np.errors import DataError

_NPY_HEAD = 1 << 16


def read_npy(path: Path) -> Parts:
    """The array of an `.npy` file, memory-mapped."""
    return Parts(np.load(path, mmap_mode="r", allow_pickle=False))


def read_npz(path: Path) -> Parts:
    """The arrays of an `.npz` file; raises DataError for names that say nothing, and for one that is too large."""
    # np.load leaves a file that it opened itself open when the zip is damaged.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        keys = choose(archive.files, path)
        _check_expanded(path, archive.zip, [key for key in keys if key is not None])
        arrays: list[Any] = [None if key is None else archive[key] for key in keys]
    return Parts(*arrays)


def _check_expanded(path: Path, archive: zipfile.ZipFile, keys: list[str]) -> None:
    """Refuse, before they are expanded, members that would be too large, or are not what their heads announce.

    Raises DataError. The zip's directory says how many bytes a member has, and no more are read of it.
    """
    members = set(archive.namelist())
    names = {key: key if key in members else f"{key}.npy" for key in keys}
    check_size(path, sum(archive.getinfo(name).file_size for name in names.values()))
    for key, name in names.items():
        size = archive.getinfo(name).file_size
        with archive.open(name) as member:
            announced = _announced(member, size)
        if announced is None:
            raise DataError(f"{path}: a zip file whose member {key!r} is not an array")
        if announced != size:
            raise DataError(f"{path}: member {key!r} has {size} bytes, but its header announces {announced}")


def _announced(member: IO[bytes], size: int) -> int | None:
    """How many bytes an .npy file has by its own head; None where it has no such head."""
    head = io.BytesIO(member.read(_NPY_HEAD))
    if not head.getvalue().startswith(b"\x93NUMPY"):
        return None
    version = np.lib.format.read_magic(head)
    read_head = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_head(head)
    # Pickled objects have no size of their own, and are refused when the array is read.
    return size if dtype.hasobject else head.tell() + math.prod(shape) * dtype.itemsize
