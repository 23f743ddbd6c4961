"""MATLAB's `.mat` files, and the three published sets that come as one: their axes lie another way round."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.data.formats.parts import Parts, choose
from vae_np.errors import DataError


def read_matlab(path: Path) -> Parts:
    """The arrays of a `.mat` file up to version 7.2; raises DataError where nothing says which one is the data."""
    try:
        from scipy.io import loadmat  # type: ignore[import-untyped]
    except ImportError:
        raise DataError(f"{path}: needs SciPy to be read: pip install 'vae-np[formats]'") from None
    held = loadmat(path)
    return arrays_of({name: value for name, value in held.items() if not name.startswith("__")}, path)


def arrays_of(held: Mapping[str, Any], path: Path) -> Parts:
    """The published set that the names tell of, or else the arrays by their own names."""
    arrays = {name: value for name, value in held.items() if getattr(value, "dtype", np.dtype("O")).kind in "biuf"}
    for names, made in ((_OMNIGLOT, _omniglot), (_FREY, _frey_faces), (_SILHOUETTES, _silhouettes)):
        if names <= arrays.keys():
            return made(arrays)
    chosen = choose([name for name, array in arrays.items() if array.ndim > 1 or "label" in name], path)
    train, test, train_labels, test_labels = (None if name is None else arrays[name] for name in chosen)
    assert train is not None
    return Parts(train, test, _flat(train_labels), _flat(test_labels))


def _flat(labels: Array | None) -> Array | None:
    return None if labels is None else labels.reshape(-1)


def _upright(columns: Array) -> Array:
    """Square images (D, N), each a column in MATLAB's order, as (N, H, W)."""
    side = round(float(np.sqrt(len(columns))))
    return columns.T.reshape(-1, side, side).swapaxes(1, 2)


# Omniglot as Burda et al. (2016) published it, `chardata.mat`: images of 28 x 28 in columns, classes one-hot.
_OMNIGLOT = {"data", "testdata", "target", "testtarget"}


def _omniglot(arrays: Mapping[str, Array]) -> Parts:
    labels = (arrays[name].argmax(axis=0) for name in ("target", "testtarget"))
    return Parts(_upright(arrays["data"]), _upright(arrays["testdata"]), *labels)


# Frey faces, `frey_rawface.mat`: one image of 28 x 20 per column, bytes, no test set and no labels.
_FREY = {"ff"}


def _frey_faces(arrays: Mapping[str, Array]) -> Parts:
    return Parts(np.ascontiguousarray(arrays["ff"].T).reshape(-1, 28, 20))


# Caltech 101 Silhouettes, split 1 (Marlin et al., 2010): square images in rows, in MATLAB's order.
_SILHOUETTES = {"train_data", "train_labels", "val_data", "test_data", "test_labels"}


def _silhouettes(arrays: Mapping[str, Array]) -> Parts:
    return Parts(
        _upright(arrays["train_data"].T),
        _upright(arrays["test_data"].T),
        _flat(arrays["train_labels"]),
        _flat(arrays["test_labels"]),
    )
