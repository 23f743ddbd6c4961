"""IDX files, MNIST's own format: images with their labels, and the test set beside the training set."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np

from vae_np._types import Array
from vae_np.data.formats.parts import Parts, check_size
from vae_np.errors import DataError

_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
# MNIST's own names, which Fashion-MNIST and KMNIST have too; EMNIST's have the set's name in front.
TRAINING_IMAGES = ("train-images-idx3-ubyte", "train-images.idx3-ubyte")
_TRAIN, _TEST_NAMES = "train-images", ("t10k", "test")
_HEAD = 4 + 4 * 255


def read_idx(path: Path, siblings: bool) -> Parts:
    """IDX images with their labels, and with `siblings` the test images and labels beside training ones."""
    labels_path = _labels_of(path)
    train_labels = None if labels_path is None else _read_one(labels_path)
    test = test_labels = None
    if siblings and _TRAIN in path.name:
        for name in _TEST_NAMES:
            test_path = _plain_or_gzipped(path.with_name(path.name.replace(_TRAIN, f"{name}-images")))
            if test_path is not None:
                others = read_idx(test_path, siblings=False)
                test, test_labels = others.train, others.train_labels
                break
    return Parts(_read_one(path), test, train_labels, test_labels)


def _read_one(path: Path) -> Array:
    """One IDX file of any type and rank, memory-mapped if plain, decompressed if gzipped.

    Its head: two zero bytes, a type byte, the number of axes, then one big-endian 32-bit size per axis.
    """
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    with gzip.open(path) if zipped else path.open("rb") as file:
        head = file.read(_HEAD)
        if len(head) < 4 or head[:2] != b"\x00\x00" or head[2] not in _DTYPES or head[3] == 0:
            raise DataError(f"{path}: not an IDX file, although its name or its first bytes are those of one")
        offset = 4 + 4 * head[3]
        if len(head) < offset:
            raise DataError(f"{path}: truncated, its IDX header is incomplete")
        dtype = np.dtype(_DTYPES[head[2]])
        shape = tuple(int(size) for size in np.frombuffer(head[4:offset], ">u4"))
        expected = offset + math.prod(shape) * dtype.itemsize
        if zipped:
            check_size(path, expected)
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


def training_images(folder: Path) -> Path | None:
    """The file of training images in a folder, None where there is none; raises DataError where there are several."""
    for name in TRAINING_IMAGES:
        found = _plain_or_gzipped(folder / name)
        if found is not None:
            return found
    others = sorted({path.name.removesuffix(".gz") for path in folder.iterdir() if _names_training_images(path.name)})
    if len(others) > 1:
        raise DataError(f"{folder}: has several data sets, expected the name of one of its files: {', '.join(others)}")
    return _plain_or_gzipped(folder / others[0]) if others else None


def _names_training_images(name: str) -> bool:
    """Whether a file is named as EMNIST's training images are: the set's name, then as MNIST's."""
    return name.removesuffix(".gz").endswith(tuple(f"-{ending}" for ending in TRAINING_IMAGES))


def _labels_of(images: Path) -> Path | None:
    name = images.name.replace("images", "labels").replace("idx3", "idx1")
    return None if name == images.name else _plain_or_gzipped(images.with_name(name))


def _plain_or_gzipped(path: Path) -> Path | None:
    plain = path.with_name(path.name.removesuffix(".gz"))
    candidates = (plain, plain.with_name(plain.name + ".gz"))
    return next((candidate for candidate in candidates if candidate.is_file()), None)
