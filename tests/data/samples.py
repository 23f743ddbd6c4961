"""Small data and data files that several suites of this folder need."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np


def idx_bytes(array: np.ndarray) -> bytes:
    codes = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}
    head = struct.pack(">BBBB", 0, 0, codes[array.dtype.str[1:]], array.ndim)
    return (
        head
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.astype(array.dtype.newbyteorder(">")).tobytes()
    )


def grey(rows: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (rows, *shape), dtype=np.uint8)


def write_mnist_folder(folder: Path, *, suffix: str = "") -> dict[str, np.ndarray]:
    arrays = {
        "train-images-idx3-ubyte": grey(12, 3, 2),
        "train-labels-idx1-ubyte": np.arange(12, dtype=np.uint8),
        "t10k-images-idx3-ubyte": grey(5, 3, 2, seed=1),
        "t10k-labels-idx1-ubyte": np.arange(5, dtype=np.uint8),
    }
    for name, array in arrays.items():
        content = idx_bytes(array)
        (folder / (name + suffix)).write_bytes(gzip.compress(content) if suffix else content)
    return arrays
