"""Readers of data files, one file per family of formats, recognised by their first bytes.

A reader yields arrays as they are stored, or raises one clear line. Only data are read, never pickles. What values and
shapes mean is judged in `vae_np.data`. Formats that need a library of their own ask for it when such a file comes.
"""

from __future__ import annotations

import gzip
import os
import textwrap
import warnings
import zipfile
from pathlib import Path
from typing import Any

from vae_np.data.formats.columnar import cells_of_columns, read_arrow, read_parquet
from vae_np.data.formats.hdf5 import read_hdf5
from vae_np.data.formats.idx import TRAINING_IMAGES, read_idx, training_images
from vae_np.data.formats.images import is_image, read_images
from vae_np.data.formats.matlab import read_matlab
from vae_np.data.formats.numpy_files import read_npy, read_npz
from vae_np.data.formats.parts import Parts
from vae_np.data.formats.text import cells_of_text, looks_like_text, read_text
from vae_np.errors import DataError, InputError, MissingFileError

__all__ = ["EXPECTED", "Parts", "read", "read_cells"]

EXPECTED = ".npy, .npz, IDX, CSV or another text table, .mat, HDF5, Parquet, Arrow, or a folder of images"
_HEAD = 4096
_GZIP = b"\x1f\x8b"
# What other programs write, by its first bytes, and what its user can do.
_REFUSED = (
    (b"\x80", "a pickle, which can run code when it is read; load it where it comes from, and np.save the array"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook; save the sheet as CSV"),
    (b"FEA1", "a Feather file of version 1; write it anew as version 2"),
    (b"%PDF", "a PDF document"),
    (b"BZh", "compressed by bzip2; unpack it, or use gzip"),
    (b"\xfd7zXZ", "compressed by xz; unpack it, or use gzip"),
    (b"(\xb5/\xfd", "compressed by zstd; unpack it, or use gzip"),
    (b"SIMPLE  =", "a FITS file; save its array with np.save"),
    (b"CDF", "a NetCDF file of version 3; save its array with np.save"),
)
# What a zip file is that is no .npz, by a member's name.
_ZIPS = (
    ("xl/workbook.xml", "an Excel workbook; save the sheet as CSV"),
    ("data.pkl", "a PyTorch file, which holds a pickle; torch.load it, and np.save the tensor's .numpy()"),
    (".zgroup", "a Zarr store; save its array with np.save"),
)


def read(path: Path, *, siblings: bool = True, labels: str | None = None) -> Parts:
    """The arrays of a file, or of a folder: MNIST's four IDX files, or images.

    Together with IDX images, `...labels-idx1...` beside them is read if it exists, and for `train-...` also `t10k-...`
    or `test-...`, as MNIST and EMNIST name them, unless `siblings` is False. `labels` names the column of a table that
    holds the labels. Raises MissingFileError, or DataError for whatever is not a readable data file, or too large once
    it is expanded.
    """
    if not os.path.exists(path):
        raise MissingFileError(f"{path}: no such data file")
    if not (path.is_file() or path.is_dir()):
        raise DataError(f"{path}: not a regular file")
    try:
        # NumPy warns of headers that are damaged, or of old Python versions; what matters is whether it can read them.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _read_folder(path, siblings) if path.is_dir() else _read_file(path, siblings, labels)
    except InputError:
        raise
    except Exception as error:
        # On a damaged file the parsers of all these formats raise a dozen unrelated classes.
        reason = textwrap.shorten(str(error), 120, placeholder=" ...") or type(error).__name__
        raise DataError(f"{path}: cannot be read as a data file ({reason})") from error


def read_cells(path: Path) -> tuple[list[str], list[list[Any]]] | None:
    """The names of a table's columns and each one's cells, text or numbers; None where the file is no table.

    Raises what `read` does.
    """
    if not path.is_file():
        return None
    with path.open("rb") as file:
        head = file.read(_HEAD)
    try:
        if head.startswith(b"PAR1"):
            return cells_of_columns(path, "parquet")
        if head.startswith(b"ARROW1"):
            return cells_of_columns(path, "feather")
        if head.startswith(_GZIP):
            with gzip.open(path) as unpacked:
                head = unpacked.read(_HEAD)
        return cells_of_text(path) if not head.startswith(b"\x00\x00") and looks_like_text(head) else None
    except InputError:
        raise
    except Exception as error:
        reason = textwrap.shorten(str(error), 120, placeholder=" ...") or type(error).__name__
        raise DataError(f"{path}: cannot be read as a table ({reason})") from error


def _read_folder(folder: Path, siblings: bool) -> Parts:
    images = training_images(folder)
    if images is not None:
        return read_idx(images, siblings)
    parts = read_images(folder)
    if parts is None:
        expected = f"{TRAINING_IMAGES[0]} or the same .gz in it, or images (.png, .jpg, .bmp, .tif, .gif, .pgm)"
        raise DataError(f"{folder}: a folder without data, expected {expected}")
    return parts


def _read_file(path: Path, siblings: bool, labels: str | None) -> Parts:
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        raise DataError(f"{path}: the file is empty")
    if head.startswith(b"\x93NUMPY"):
        return read_npy(path)
    if head.startswith(b"PK"):
        return _read_zip(path)
    if head.startswith(b"MATLAB 5"):
        return read_matlab(path)
    # MATLAB's version 7.3 is HDF5 behind 512 bytes of its own.
    if head.startswith((b"\x89HDF\r\n\x1a\n", b"MATLAB 7.3")):
        return read_hdf5(path, transposed=head.startswith(b"MATLAB"))
    if head.startswith(b"PAR1"):
        return read_parquet(path, labels)
    if head.startswith(b"ARROW1"):
        return read_arrow(path, labels)
    if head.startswith(_GZIP):
        with gzip.open(path) as unpacked:
            head = unpacked.read(_HEAD)
    if head.startswith(b"\x00\x00"):
        return read_idx(path, siblings)
    # Before what other programs write: a column may be named BMI.
    if looks_like_text(head):
        return read_text(path, labels)
    if is_image(head):
        raise DataError(f"{path}: one image; give the folder that holds all of them")
    for magic, what in _REFUSED:
        if head.startswith(magic):
            raise DataError(f"{path}: {what}")
    raise DataError(f"{path}: not a data file, expected {EXPECTED}")


def _read_zip(path: Path) -> Parts:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    for member, what in _ZIPS:
        if any(name == member or name.endswith(f"/{member}") for name in names):
            raise DataError(f"{path}: {what}")
    return read_npz(path)
