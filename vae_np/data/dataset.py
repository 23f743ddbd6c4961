"""Data sets: built-in names and files, checked once, and handed out with the values that they hold."""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vae_np._types import Array
from vae_np.data import builtin
from vae_np.data.batches import Rows
from vae_np.data.binarization import check_values
from vae_np.data.formats import Parts
from vae_np.data.formats import read as read_file
from vae_np.data.formats.tables import as_labels, names_of
from vae_np.data.mapped import chunks
from vae_np.data.named_columns import read_rows
from vae_np.data.values import Span, Values, decide, decide_as_before, flatten, scan, unmasked
from vae_np.errors import DataError, MissingFileError
from vae_np.likelihoods import Columns

BUILT_IN = builtin.BUILT_IN

# Fewer labels than this are sorted by chance too often to warn of it.
_ENOUGH_LABELS = 20


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Rows to train on and rows to test on, with the same columns and the same values.

    train (N, D), test (M, D), stored as `Values.convert` says; labels (N,), (M,), numbers or text, or None: for
    colouring only. `columns` are the names of a table's columns, and `label_column` is that of its labels, or None.
    `image_shape` (H, W) with H·W = D, or None where D is no square. `was_split` says that the test rows are the last
    tenth of the rows that were given; then `test_span` is the span of all of those, and else of the test rows alone.
    """

    name: str
    train: Array
    test: Array
    train_labels: Array | None
    test_labels: Array | None
    image_shape: tuple[int, int] | None
    values: Values
    test_span: Span
    was_split: bool
    columns: tuple[str, ...] | None = None
    label_column: str | None = None

    def __repr__(self) -> str:
        width = self.train.shape[1]
        images = "" if self.image_shape is None else f" ({self.image_shape[0]}x{self.image_shape[1]})"
        labels = "" if self.train_labels is None else ", with labels"
        rows = f"{len(self.train)} training and {len(self.test)} test rows of {width}{images}"
        return f"<Dataset {self.name}: {rows}, {self.values}{labels}>"

    @property
    def is_sorted_by_label(self) -> bool:
        """Whether the labels show that the last rows, which are held out, are of other classes than the first."""
        labels = self.train_labels
        if labels is None:
            return False
        if self.was_split and self.test_labels is not None:
            labels = np.concatenate([labels, self.test_labels])
        # Compared, not subtracted: a difference of unsigned numbers is never negative.
        before, after = labels[:-1], labels[1:]
        changes = int(np.count_nonzero(before != after))
        ordered = bool((before <= after).all() or (before >= after).all())
        in_blocks = changes == len(np.unique(labels)) - 1
        return len(labels) >= _ENOUGH_LABELS and changes > 0 and (ordered or in_blocks)


def load(
    name_or_path: str,
    *,
    test: str | None = None,
    image_shape: tuple[int, int] | None = None,
    seed: int = 0,
    values: Values | str | None = None,
    scale: float | None = None,
    likelihood: str = "bernoulli",
    features: int | None = None,
    as_before: bool = False,
    labels: str | None = None,
    columns: Columns | None = None,
    missing: bool = False,
) -> Dataset:
    """A built-in data set (`BUILT_IN`), a data file of one of the formats in `vae_np.data.formats`, or a folder.

    A folder holds MNIST's IDX files, or images. `labels` names the column of a table that holds the labels; without it
    a column named `label`, `labels` or `class` does. `test` names the file of the test rows; without it they come from
    the file itself (`test` or `x_test` in an `.npz`), from the `t10k-` or `test-` file beside `train-` IDX images, or
    else are the last tenth of the rows, at least one. `seed` draws the synthetic sets. A built-in name wins over a file
    of that name; write `./mnist` for the file. `columns` are the families of a table's columns, by name. [D66] The
    other arguments are those of `from_arrays`. Raises MissingFileError or DataError.
    """
    if name_or_path in BUILT_IN:
        if test is not None:
            raise DataError(
                f"test: got {test!r}, but data set {name_or_path!r} has its own test rows; give a file as data too"
            )
        if labels is not None:
            raise DataError(f"labels: got {labels!r}, but data set {name_or_path!r} is no table with named columns")
        if columns is not None:
            raise DataError(f"columns: got some, but data set {name_or_path!r} is no table with named columns")
        parts, name = builtin.built_in(name_or_path, seed), name_or_path
    else:
        parts, name = _read_parts(name_or_path, test, labels, columns, missing), Path(name_or_path).name
    found = from_arrays(
        parts.train,
        parts.test,
        train_labels=parts.train_labels,
        test_labels=parts.test_labels,
        image_shape=image_shape,
        name=name or name_or_path,
        values=values,
        scale=scale,
        likelihood=likelihood,
        features=features,
        as_before=as_before,
        columns=parts.columns,
        label_column=parts.label_column,
        missing=missing,
    )
    # Columns of a table are no pixels, even where their number is a square.
    return found if columns is None else replace(found, image_shape=image_shape)


def _read_parts(path: str, test: str | None, labels: str | None, columns: Columns | None, missing: bool) -> Parts:
    def read(path: Path, *, siblings: bool, labels: str | None) -> Parts:
        if columns is None and not missing:
            return read_file(path, siblings=siblings, labels=labels)
        return read_rows(str(path), columns, labels, siblings=siblings)

    if not os.path.exists(path):
        raise MissingFileError(f"data: got {path!r}, expected an existing file or one of {', '.join(BUILT_IN)}")
    parts = read(Path(path), siblings=test is None, labels=labels)
    if test is None:
        return parts
    other = read(Path(test), siblings=os.path.isdir(test), labels=labels)
    if parts.columns is not None and other.columns is not None and parts.columns != other.columns:
        differ = next(
            (pair for pair in zip(parts.columns, other.columns, strict=False) if pair[0] != pair[1]),
            (len(parts.columns), len(other.columns)),
        )
        raise DataError(f"{test}: its columns differ from those of {path}: got {differ[1]!r}, expected {differ[0]!r}")
    if other.test is None:
        return parts._replace(test=other.train, test_labels=other.train_labels)
    return parts._replace(test=other.test, test_labels=other.test_labels)


def from_arrays(
    train: Rows,
    test: Rows | None = None,
    *,
    train_labels: Array | None = None,
    test_labels: Array | None = None,
    image_shape: tuple[int, int] | None = None,
    name: str = "data",
    values: Values | str | None = None,
    scale: float | None = None,
    likelihood: str = "bernoulli",
    features: int | None = None,
    as_before: bool = False,
    columns: tuple[str, ...] | None = None,
    label_column: str | None = None,
    missing: bool = False,
) -> Dataset:
    """A checked data set from arrays (N, D), (N, H, W), (N, 1, H, W) or (N, H, W, 1) of numbers, or batches of such.

    A DataFrame brings the names of its columns; else `columns` does.

    Where a model knows already what the numbers mean, `values` says it. Otherwise it is decided from the training rows
    for a `likelihood`, as far as `values` (a kind) and `scale` do not name it; `as_before` decides by the rule of the
    versions that kept no record of it. `features` is the number of columns that a model needs. An array whose dtype
    fits already is not copied, and stays memory-mapped if it was. With `missing` NaN is a cell without a value. Without
    `test` the last tenth of the rows, at least one, is the test set. Raises DataError for a wrong shape, non-numbers,
    masked cells, no rows, NaN or infinity, values that do not fit, columns or labels that do not agree, and an
    `image_shape` that is not D.
    """
    if columns is None:
        columns = names_of(train)
    train_rows, stored_shape = flatten(train, f"{name}: train")
    if features is not None:
        check_columns(train_rows, features, f"data {name!r}: train")
    train_labels = _check_labels(train_labels, len(train_rows), f"{name}: train labels")
    span = scan(train_rows, f"{name}: train", missing=missing)
    test_span = span
    if test is not None:
        test_rows, _ = flatten(test, f"{name}: test")
        check_columns(test_rows, train_rows.shape[1], f"{name}: test")
        test_labels = _check_labels(test_labels, len(test_rows), f"{name}: test labels")
        test_span = scan(test_rows, f"{name}: test", missing=missing)
    if isinstance(values, Values):
        values.check(span, f"data {name!r}")
    elif as_before:
        values = decide_as_before(span, test_span, name)
    else:
        values = decide(span, train_rows.dtype, likelihood, kind=values, scale=scale, what=f"data {name!r}")
    if test is None:
        train_rows, test_rows = _split_last_tenth(train_rows, name)
        test_labels = None if train_labels is None else train_labels[len(train_rows) :]
        train_labels = None if train_labels is None else train_labels[: len(train_rows)]
    else:
        values.check(test_span, f"{name}: test")
    return Dataset(
        name=name,
        train=values.convert(train_rows),
        test=values.convert(test_rows),
        train_labels=train_labels,
        test_labels=test_labels,
        image_shape=_choose_image_shape(train_rows.shape[1], image_shape, stored_shape),
        values=values,
        test_span=test_span,
        was_split=test is None,
        columns=columns,
        label_column=label_column,
    )


def digest_of_rows(rows: Array, what: str = "data") -> str:
    """SHA-256 of rows (N, D) as they are stored in a `Dataset`, of their type and of their shape."""
    total = hashlib.sha256(f"{rows.dtype.str} {rows.shape}".encode())
    for _, part in chunks(rows, what):
        total.update(np.ascontiguousarray(part).data)
    return total.hexdigest()


def split_validation(rows: int, validation: int) -> tuple[int, int]:
    """How many of `rows` rows train the model, and how many, the last ones, validate it.

    Raises DataError if `validation` is negative or leaves no row to train on.
    """
    if validation < 0:
        raise DataError(f"validation: got {validation}, expected 0 or more rows")
    if validation >= rows:
        raise DataError(
            f"validation: got {validation}, expected fewer than the {rows} training rows, or none is left to train on"
        )
    return rows - validation, validation


def check_columns(array: Array, features: int, name: str = "x") -> None:
    """Raise DataError unless `array` is (N, features)."""
    if array.ndim != 2 or array.shape[1] != features:
        raise DataError(f"{name}: got shape {array.shape}, expected (N, {features})")


def check_for(dataset: Dataset, likelihood: str, binarize: str) -> None:
    """Refuse, with the remedy, a likelihood that does not suit the values which `binarize` makes of the data.

    Raises DataError; see `check_values`.
    """
    check_values(f"data {dataset.name!r}", dataset.values, likelihood, binarize)


def _check_labels(labels: Array | None, rows: int, what: str) -> Array | None:
    if labels is None:
        return None
    labels = unmasked(labels, what)
    if labels.dtype.kind not in "biufUSO" or labels.shape not in ((rows,), (rows, 1)):
        got = f"{labels.dtype} of shape {labels.shape}"
        raise DataError(f"{what}: got {got}, expected one number or text for each of {rows} rows")
    return as_labels(labels.reshape(rows))


def _split_last_tenth(rows: Array, name: str) -> tuple[Array, Array]:
    held_out = max(1, len(rows) // 10)
    if held_out == len(rows):
        raise DataError(f"{name}: one row cannot give both training and test rows; name a test file")
    return rows[:-held_out], rows[-held_out:]


def _choose_image_shape(
    features: int, given: tuple[int, int] | None, stored: tuple[int, int] | None
) -> tuple[int, int] | None:
    if given is not None:
        height, width = given
        if height < 1 or width < 1 or height * width != features:
            raise DataError(
                f"image_shape: got {height},{width}, expected two sizes whose product is {features}, the columns"
            )
        return (height, width)
    if stored is not None:
        return stored
    side = math.isqrt(features)
    return (side, side) if side * side == features else None
