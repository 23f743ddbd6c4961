"""Data sets: built-in names and files, checked once, then handed out row by row as what the model sees.

A data set has one of four kinds of `values`:

- `byte`: uint8 grey 0..255, meaning grey/255;
- `binary`: uint8 0 or 1;
- `unit`: float32 in [0, 1];
- `real`: any finite float32 or float64.

The kind is found by looking at all values (in chunks: a memory-mapped file is never held whole): only 0 and
1 is binary, other whole numbers within 0..255 are bytes, other values within [0, 1] are unit, the rest is
real.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from vae_np import noise
from vae_np._types import Array
from vae_np.data import builtin
from vae_np.errors import ConfigError, DataError, MissingFileError

Values = Literal["byte", "binary", "unit", "real"]

BUILT_IN = builtin.BUILT_IN
BINARIZATIONS = ("dynamic", "fixed", "threshold", "none")

_CHUNK_ELEMENTS = 1 << 22


@dataclass(frozen=True, eq=False)
class Dataset:
    """Rows to train on and rows to test on, with the same columns and the same kind of values.

    train (N, D), test (M, D): uint8 for `byte` and `binary`, float32 for `unit`, float32 or float64 for
    `real`; labels (N,), (M,) or None: for colouring only. `image_shape` (H, W) with H·W = D, or None where
    D is no square.
    """

    name: str
    train: Array
    test: Array
    train_labels: Array | None
    test_labels: Array | None
    image_shape: tuple[int, int] | None
    values: Values


def load(
    name_or_path: str, *, test: str | None = None, image_shape: tuple[int, int] | None = None, seed: int = 0
) -> Dataset:
    """A built-in data set (`BUILT_IN`), a `.npy`, `.npz` or IDX file, or a folder of MNIST's IDX files.

    `test` names the file of the test rows; without it they come from the file itself (`test` or `x_test` in
    an `.npz`), from the `t10k-` file beside `train-` IDX images, or else are the last tenth of the rows, at
    least one. `seed` draws the synthetic sets. A built-in name wins over a file of that name; write
    `./mnist` for the file. Raises MissingFileError or DataError.
    """
    if name_or_path in BUILT_IN:
        if test is not None:
            raise DataError(
                f"test {test!r}: data set {name_or_path!r} has its own test rows; give a file as data too"
            )
        parts, name = builtin.built_in(name_or_path, seed), name_or_path
    else:
        parts, name = _read_parts(name_or_path, test), Path(name_or_path).name
    return from_arrays(
        parts.train,
        parts.test,
        train_labels=parts.train_labels,
        test_labels=parts.test_labels,
        image_shape=image_shape,
        name=name or name_or_path,
    )


def _read_parts(path: str, test: str | None) -> builtin.Parts:
    if not os.path.exists(path):
        raise MissingFileError(f"data {path!r}: no such file, and not one of {', '.join(BUILT_IN)}")
    parts = builtin.read(Path(path), siblings=test is None)
    if test is None:
        return parts
    other = builtin.read(Path(test), siblings=os.path.isdir(test))
    if other.test is None:
        return parts._replace(test=other.train, test_labels=other.train_labels)
    return parts._replace(test=other.test, test_labels=other.test_labels)


def from_arrays(
    train: Array,
    test: Array | None = None,
    *,
    train_labels: Array | None = None,
    test_labels: Array | None = None,
    image_shape: tuple[int, int] | None = None,
    name: str = "data",
) -> Dataset:
    """A checked data set from arrays (N, D) or (N, H, W) of numbers.

    An array whose dtype fits already is not copied, and stays memory-mapped if it was. Without `test` the
    last tenth of the rows, at least one, is the test set. Raises DataError for a wrong shape, non-numbers,
    no rows, NaN or infinity, columns or labels that do not agree, and an `image_shape` that is not D.
    """
    train_rows, stored_shape = _flatten(train, f"{name}: train")
    train_labels = _check_labels(train_labels, len(train_rows), f"{name}: train labels")
    train_span = _scan(train_rows, f"{name}: train")
    if test is None:
        train_rows, test_rows = _split_last_tenth(train_rows, name)
        values = _classify(train_span)
        test_labels = None if train_labels is None else train_labels[len(train_rows) :]
        train_labels = None if train_labels is None else train_labels[: len(train_rows)]
    else:
        test_rows, _ = _flatten(test, f"{name}: test")
        check_columns(test_rows, train_rows.shape[1], f"{name}: test")
        test_labels = _check_labels(test_labels, len(test_rows), f"{name}: test labels")
        values = _common_values(train_span, _scan(test_rows, f"{name}: test"), name)
    return Dataset(
        name=name,
        train=_convert(train_rows, values),
        test=_convert(test_rows, values),
        train_labels=train_labels,
        test_labels=test_labels,
        image_shape=_choose_image_shape(train_rows.shape[1], image_shape, stored_shape),
        values=values,
    )


def as_rows(array: Array, name: str = "x") -> tuple[Array, Values]:
    """One array (N, D) or (N, H, W) of numbers, checked, as rows (N, D) and their kind of values.

    Raises DataError as `from_arrays` does.
    """
    rows, _ = _flatten(array, name)
    values = _classify(_scan(rows, name))
    return _convert(rows, values), values


def split_validation(rows: int, validation: int) -> tuple[int, int]:
    """How many of `rows` rows train the model, and how many, the last ones, validate it.

    Raises DataError if `validation` is negative or leaves no row to train on.
    """
    if validation < 0:
        raise DataError(f"validation {validation}: expected 0 or more rows")
    if validation >= rows:
        raise DataError(
            f"validation {validation}: leaves nothing to train on, the data have {rows} training rows"
        )
    return rows - validation, validation


def check_columns(array: Array, features: int, name: str = "x") -> None:
    """Raise DataError unless `array` is (N, features)."""
    if array.ndim != 2 or array.shape[1] != features:
        raise DataError(f"{name} has shape {array.shape}, expected (N, {features})")


def check_for(dataset: Dataset, likelihood: str, binarize: str) -> None:
    """Refuse, with the remedy, a likelihood that does not suit the values which `binarize` makes of the data.

    Raises DataError; see `check_values`.
    """
    what = f"data {dataset.name!r}"
    check_values(what, (dataset.train, dataset.test), dataset.values, likelihood, binarize)


def check_values(
    what: str, arrays: Sequence[Array], values: Values, likelihood: str, binarize: str
) -> None:
    """Refuse, with the remedy, a likelihood that does not suit the values which `binarize` makes of `arrays`.

    Binary data suit every likelihood and every binarisation. Grey values (`byte`, `unit`) are binarised for
    `bernoulli`, and only for it. Real values take a normal likelihood and are never binarised. Raises
    DataError.
    """
    _check_mode(binarize)
    if values == "binary":
        return
    if values == "real":
        if likelihood.startswith("bernoulli"):
            low = min(array.min() for array in arrays)
            high = max(array.max() for array in arrays)
            raise DataError(
                f"{what}: likelihood {likelihood!r} takes values in [0, 1] or whole numbers in [0, 255], "
                f"but they run from {low:.6g} to {high:.6g}; use likelihood 'normal' with binarize 'none', "
                "or rescale the data"
            )
        if binarize != "none":
            raise DataError(f"{what}: real values cannot be binarised by {binarize!r}; use binarize 'none'")
    elif likelihood == "bernoulli" and binarize == "none":
        raise DataError(
            f"{what}: likelihood 'bernoulli' is none for grey values; use binarize 'dynamic', 'fixed' or "
            "'threshold', or ask for likelihood 'normal' or 'bernoulli-grey' by name"
        )
    elif likelihood != "bernoulli" and binarize != "none":
        raise DataError(
            f"{what}: likelihood {likelihood!r} takes the grey values, but binarize {binarize!r} "
            "removes them; use binarize 'none', or likelihood 'bernoulli'"
        )


def prepare(
    batch: Array, values: Values, mode: str, *, seed: int, stream: int, step: int, rows: Array
) -> Array:
    """What the model sees of the rows `batch` (B, D): uint8 0/1, or floats where nothing is binarised.

    `dynamic` draws x ~ Bernoulli(grey) [D38] at (seed, stream, step, rows), `rows` (B,) being the rows'
    places in their data set; `fixed` does so too, but training rows (stream BINARIZE) always get their one
    FIXED_BINARIZE draw of step 0; `threshold` is grey >= 1/2; `none` gives grey as float32 in [0, 1], real
    values as they are. Binary data stay as they are in every mode and draw nothing. Raises DataError if
    real values are to be binarised.
    """
    _check_mode(mode)
    batch = np.asarray(batch)  # or a memory-mapped slice would pass its class on to all that follows
    if values == "binary":
        return batch
    if values == "real":
        if mode != "none":
            raise DataError(f"real values cannot be binarised by {mode!r}; use binarize 'none'")
        return batch
    if mode == "none":
        return _probabilities(batch)
    if mode == "threshold":
        return (_probabilities(batch) >= 0.5).astype(np.uint8)
    if mode == "fixed" and stream == noise.BINARIZE:
        stream, step = noise.FIXED_BINARIZE, 0
    return noise.bernoulli(batch, seed=seed, stream=stream, step=step, rows=rows)


def _probabilities(grey: Array) -> Array:
    unit = grey.astype(np.float32, copy=False)
    return unit / np.float32(255) if grey.dtype == np.uint8 else unit


def _check_mode(mode: str) -> None:
    if mode not in BINARIZATIONS:
        raise ConfigError(f"binarize {mode!r}: expected one of {', '.join(BINARIZATIONS)}")


class _Span(NamedTuple):
    low: float
    high: float
    whole: bool


def _flatten(array: Array, what: str) -> tuple[Array, tuple[int, int] | None]:
    if array.dtype.kind not in "biuf":
        raise DataError(f"{what} holds {array.dtype}, expected numbers")
    if array.ndim not in (2, 3):
        raise DataError(f"{what} has shape {array.shape}, expected (N, D) or (N, H, W)")
    if array.size == 0:
        raise DataError(f"{what} is empty, its shape is {array.shape}")
    if array.ndim == 2:
        return array, None
    rows, height, width = array.shape
    return array.reshape(rows, height * width), (height, width)


def _check_labels(labels: Array | None, rows: int, what: str) -> Array | None:
    if labels is None:
        return None
    if labels.dtype.kind not in "biuf" or labels.shape not in ((rows,), (rows, 1)):
        came = f"{labels.dtype} of shape {labels.shape}"
        raise DataError(f"{what} are {came}, expected one number for each of {rows} rows")
    return labels.reshape(rows)


def _split_last_tenth(rows: Array, name: str) -> tuple[Array, Array]:
    held_out = max(1, len(rows) // 10)
    if held_out == len(rows):
        raise DataError(f"{name}: one row cannot give both training and test rows; name a test file")
    return rows[:-held_out], rows[-held_out:]


def _scan(rows: Array, what: str) -> _Span:
    """The span of all values, a chunk at a time; DataError naming the first NaN or infinity, in row order."""
    chunk_rows = max(1, _CHUNK_ELEMENTS // rows.shape[1])
    low, high, whole = math.inf, -math.inf, True
    for start in range(0, len(rows), chunk_rows):
        chunk = rows[start : start + chunk_rows]
        if chunk.dtype.kind == "f":
            finite = np.isfinite(chunk)
            if not finite.all():
                row, column = np.argwhere(~finite)[0]
                where = f"row {start + row}, column {column} (counted from 0)"
                raise DataError(
                    f"{what} has the value {chunk[row, column]} at {where}, expected finite numbers"
                )
            whole = whole and bool((chunk == np.rint(chunk)).all())
        low, high = min(low, float(chunk.min())), max(high, float(chunk.max()))
    return _Span(low, high, whole)


def _classify(span: _Span) -> Values:
    if span.low < 0:
        return "real"
    if span.whole and span.high <= 255:
        return "binary" if span.high <= 1 else "byte"
    return "unit" if span.high <= 1 else "real"


def _common_values(train: _Span, test: _Span, name: str) -> Values:
    kinds = {_classify(train), _classify(test)}
    if kinds == {"unit", "byte"}:
        scales = {"unit": "in [0, 1]", "byte": "whole numbers in [0, 255]"}
        raise DataError(
            f"{name}: train values are {scales[_classify(train)]}, test values {scales[_classify(test)]}; "
            "bring both to one scale"
        )
    return _classify(_Span(min(train.low, test.low), max(train.high, test.high), train.whole and test.whole))


def _convert(rows: Array, values: Values) -> Array:
    if values == "real":
        # float32 only where it holds every value of the stored type.
        dtype = np.dtype(np.float32 if np.can_cast(rows.dtype, np.float32) else np.float64)
    else:
        dtype = np.dtype(np.float32 if values == "unit" else np.uint8)
    return rows.astype(dtype, copy=False)


def _choose_image_shape(
    features: int, given: tuple[int, int] | None, stored: tuple[int, int] | None
) -> tuple[int, int] | None:
    if given is not None:
        height, width = given
        if height < 1 or width < 1 or height * width != features:
            raise DataError(
                f"image shape {height},{width}: expected two sizes whose product is {features}, the columns"
            )
        return (height, width)
    if stored is not None:
        return stored
    side = math.isqrt(features)
    return (side, side) if side * side == features else None
