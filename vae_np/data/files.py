"""Readers for `.npy`, `.npz` and IDX files, recognised by their first bytes.

Plain `.npy` and IDX are memory-mapped. Only arrays are read, never pickles. Values and shapes are judged in
`vae_np.data`; here a file either yields its arrays or raises one clear line.
"""

from __future__ import annotations

import gzip
import math
import os
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

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
_TRAINING_IMAGES = ("train-images-idx3-ubyte", "train-images.idx3-ubyte")


class Parts(NamedTuple):
    """What a file, or a file with its siblings, holds; arrays as they are stored."""

    train: Array
    test: Array | None = None
    train_labels: Array | None = None
    test_labels: Array | None = None


def read(path: Path, *, siblings: bool = True) -> Parts:
    """The arrays of a file, or of a folder with MNIST's four IDX files.

    Beside IDX images, `...labels-idx1...` is read when it is there, and for `train-...` also `t10k-...`
    unless `siblings` is False. Raises MissingFileError, or DataError for whatever is not a readable data
    file.
    """
    if not os.path.exists(path):
        raise MissingFileError(f"{path}: no such data file")
    if path.is_dir():
        path = _training_images(path)
    if not path.is_file():
        raise DataError(f"{path}: not a regular file")
    try:
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
        arrays: list[Any] = [None if key is None else archive[key] for key in keys]
    stray = [key for key, array in zip(keys, arrays, strict=True) if isinstance(array, bytes)]
    if stray:
        raise DataError(f"{path}: a zip file whose member {stray[0]!r} is not an array")
    return Parts(*arrays)


def _read_idx_family(path: Path, siblings: bool) -> Parts:
    labels_path = _labels_of(path)
    train_labels = None if labels_path is None else _read_idx(labels_path)
    test = test_labels = None
    if siblings and path.name.startswith("train"):
        test_path = _plain_or_gzipped(path.with_name("t10k" + path.name.removeprefix("train")))
        if test_path is not None:
            test, _, test_labels, _ = _read_idx_family(test_path, siblings=False)
    return Parts(_read_idx(path), test, train_labels, test_labels)


def _read_idx(path: Path) -> Array:
    """One IDX file of any type and rank, memory-mapped if plain, decompressed if gzipped.

    Its head: two zero bytes, a type byte, the number of axes, then one big-endian 32-bit size an axis.
    """
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        content = gzip.decompress(file.read()) if zipped else file.read(4 + 4 * 255)
    length = len(content) if zipped else path.stat().st_size
    if len(content) < 4 or content[:2] != b"\x00\x00" or content[2] not in _IDX_DTYPES or content[3] == 0:
        raise DataError(f"{path}: not a data file, expected .npy, .npz or IDX (may be gzipped)")
    offset = 4 + 4 * content[3]
    if length < offset:
        raise DataError(f"{path}: truncated, its IDX header is incomplete")
    dtype = np.dtype(_IDX_DTYPES[content[2]])
    shape = tuple(int(size) for size in np.frombuffer(content[4:offset], ">u4"))
    expected = offset + math.prod(shape) * dtype.itemsize
    if length != expected:
        raise DataError(f"{path}: {length} bytes, but its IDX header announces {expected}")
    if zipped or length == offset:
        return np.frombuffer(content, dtype, offset=offset).reshape(shape)
    return np.memmap(path, dtype, mode="r", offset=offset, shape=shape)


def _training_images(folder: Path) -> Path:
    for name in _TRAINING_IMAGES:
        found = _plain_or_gzipped(folder / name)
        if found is not None:
            return found
    raise DataError(f"{folder}: a folder without data, expected {_TRAINING_IMAGES[0]} or the same .gz in it")


def _labels_of(images: Path) -> Path | None:
    name = images.name.replace("images", "labels").replace("idx3", "idx1")
    return None if name == images.name else _plain_or_gzipped(images.with_name(name))


def _plain_or_gzipped(path: Path) -> Path | None:
    plain = path.with_name(path.name.removesuffix(".gz"))
    candidates = (plain, plain.with_name(plain.name + ".gz"))
    return next((candidate for candidate in candidates if candidate.is_file()), None)
