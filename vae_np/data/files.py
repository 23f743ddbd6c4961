"""Readers for `.npy`, `.npz` and IDX files, recognised by their first bytes.

Plain `.npy` and IDX are memory-mapped. Only arrays are read, never pickles. Values and shapes are judged in
`vae_np.data`; here a file either yields its arrays or raises one clear line.
"""

from __future__ import annotations

import gzip
import io
import math
import os
import textwrap
import warnings
import zipfile
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from vae_np._types import Array
from vae_np.errors import DataError, InputError, MissingFileError

_IDX_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_NPZ_KEYS = (
    ("train", "x_train"),
    ("test", "x_test"),
    ("train_labels", "y_train"),
    ("test_labels", "y_test"),
)
# MNIST's own names, which Fashion-MNIST and KMNIST have too; EMNIST's have the set's name in front.
_TRAINING_IMAGES = ("train-images-idx3-ubyte", "train-images.idx3-ubyte")
_TRAIN, _TEST_NAMES = "train-images", ("t10k", "test")
_IDX_HEAD = 4 + 4 * 255
_NPY_HEAD = 1 << 16
# What a compressed file may become in memory. A larger one is read in parts, as .npy.
_MOST_EXPANDED = 4 << 30


class Parts(NamedTuple):
    """What a file, or a file with its siblings, holds; arrays as they are stored."""

    train: Array
    test: Array | None = None
    train_labels: Array | None = None
    test_labels: Array | None = None


def read(path: Path, *, siblings: bool = True) -> Parts:
    """The arrays of a file, or of a folder with MNIST's four IDX files.

    Together with IDX images, `...labels-idx1...` beside them is read if it exists, and for `train-...` also `t10k-...`
    or `test-...`, as MNIST and EMNIST name them, unless `siblings` is False. Raises MissingFileError, or DataError for
    whatever is not a readable data file, or too large once it is expanded.
    """
    if not os.path.exists(path):
        raise MissingFileError(f"{path}: no such data file")
    if path.is_dir():
        path = _training_images(path)
    if not path.is_file():
        raise DataError(f"{path}: not a regular file")
    try:
        # NumPy warns of headers that are damaged, or of old Python versions; what matters is whether it can read them.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _read_file(path, siblings)
    except InputError:
        raise
    except Exception as error:
        # On a damaged file the NumPy, zip and gzip parsers raise a dozen unrelated classes.
        reason = textwrap.shorten(str(error), 120, placeholder=" ...") or type(error).__name__
        raise DataError(f"{path}: cannot be read as a data file ({reason})") from error


def _read_file(path: Path, siblings: bool) -> Parts:
    with path.open("rb") as file:
        magic = file.read(6)
    if not magic:
        raise DataError(f"{path}: the file is empty")
    if magic == b"\x93NUMPY":
        return Parts(np.load(path, mmap_mode="r", allow_pickle=False))
    if magic.startswith(b"PK"):
        return _read_npz(path)
    if magic.startswith((b"\x1f\x8b", b"\x00\x00")):
        return _read_idx_family(path, siblings)
    raise DataError(f"{path}: not a data file, expected .npy, .npz or IDX (may be gzipped)")


def _read_npz(path: Path) -> Parts:
    # np.load leaves a file that it opened itself open when the zip is damaged.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        keys = [next((key for key in aliases if key in archive.files), None) for aliases in _NPZ_KEYS]
        if len(archive.files) == 1:
            keys = [archive.files[0], None, None, None]
        if keys[0] is None:
            found = ", ".join(archive.files) or "nothing"
            raise DataError(f"{path}: expected an array 'train' or 'x_train', or a single one; found {found}")
        _check_expanded(path, archive.zip, [key for key in keys if key is not None])
        arrays: list[Any] = [None if key is None else archive[key] for key in keys]
    return Parts(*arrays)


def _check_expanded(path: Path, archive: zipfile.ZipFile, keys: list[str]) -> None:
    """Refuse, before they are expanded, members that would be too large, or are not what their heads announce.

    Raises DataError. The zip's directory says how many bytes a member has, and no more are read of it.
    """
    members = set(archive.namelist())
    names = {key: key if key in members else f"{key}.npy" for key in keys}
    _check_size(path, sum(archive.getinfo(name).file_size for name in names.values()))
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


def _check_size(path: Path, size: int) -> None:
    if size > _MOST_EXPANDED:
        raise DataError(
            f"{path}: {size / 2**30:.1f} GiB when it is expanded, expected at most {_MOST_EXPANDED / 2**30:.0f} GiB; "
            "a file that is not compressed (.npy, or IDX) is read in parts and may have any size"
        )


def _read_idx_family(path: Path, siblings: bool) -> Parts:
    labels_path = _labels_of(path)
    train_labels = None if labels_path is None else _read_idx(labels_path)
    test = test_labels = None
    if siblings and _TRAIN in path.name:
        for name in _TEST_NAMES:
            test_path = _plain_or_gzipped(path.with_name(path.name.replace(_TRAIN, f"{name}-images")))
            if test_path is not None:
                test, _, test_labels, _ = _read_idx_family(test_path, siblings=False)
                break
    return Parts(_read_idx(path), test, train_labels, test_labels)


def _read_idx(path: Path) -> Array:
    """One IDX file of any type and rank, memory-mapped if plain, decompressed if gzipped.

    Its head: two zero bytes, a type byte, the number of axes, then one big-endian 32-bit size per axis.
    """
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    with gzip.open(path) if zipped else path.open("rb") as file:
        head = file.read(_IDX_HEAD)
        if len(head) < 4 or head[:2] != b"\x00\x00" or head[2] not in _IDX_DTYPES or head[3] == 0:
            raise DataError(f"{path}: not a data file, expected .npy, .npz or IDX (may be gzipped)")
        offset = 4 + 4 * head[3]
        if len(head) < offset:
            raise DataError(f"{path}: truncated, its IDX header is incomplete")
        dtype = np.dtype(_IDX_DTYPES[head[2]])
        shape = tuple(int(size) for size in np.frombuffer(head[4:offset], ">u4"))
        expected = offset + math.prod(shape) * dtype.itemsize
        if zipped:
            _check_size(path, expected)
            # One byte more than announced tells whether the file ends there.
            content = head + file.read(max(0, expected + 1 - len(head)))
            length = len(content)
        else:
            length = path.stat().st_size
    if length != expected:
        came = f"more than {expected}" if zipped and length > expected else str(length)
        raise DataError(f"{path}: {came} bytes, but its IDX header announces {expected}")
    if zipped:
        return np.frombuffer(content, dtype, offset=offset).reshape(shape)
    if length == offset:
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype, mode="r", offset=offset, shape=shape)


def _training_images(folder: Path) -> Path:
    for name in _TRAINING_IMAGES:
        found = _plain_or_gzipped(folder / name)
        if found is not None:
            return found
    others = sorted({path.name.removesuffix(".gz") for path in folder.iterdir() if _names_training_images(path.name)})
    if len(others) > 1:
        raise DataError(f"{folder}: has several data sets, expected the name of one of its files: {', '.join(others)}")
    if others:
        found = _plain_or_gzipped(folder / others[0])
        if found is not None:
            return found
    raise DataError(f"{folder}: a folder without data, expected {_TRAINING_IMAGES[0]} or the same .gz in it")


def _names_training_images(name: str) -> bool:
    """Whether a file is named as EMNIST's training images are: the set's name, then as MNIST's."""
    return name.removesuffix(".gz").endswith(tuple(f"-{ending}" for ending in _TRAINING_IMAGES))


def _labels_of(images: Path) -> Path | None:
    name = images.name.replace("images", "labels").replace("idx3", "idx1")
    return None if name == images.name else _plain_or_gzipped(images.with_name(name))


def _plain_or_gzipped(path: Path) -> Path | None:
    plain = path.with_name(path.name.removesuffix(".gz"))
    candidates = (plain, plain.with_name(plain.name + ".gz"))
    return next((candidate for candidate in candidates if candidate.is_file()), None)
