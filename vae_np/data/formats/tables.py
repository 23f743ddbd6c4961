"""From the named columns of a table to rows and labels, whatever file or frame the table comes from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.data.formats.parts import Parts
from vae_np.errors import DataError

# Columns that are labels without being named; `y` and `target` may as well be numbers to learn.
LABEL_COLUMNS = ("label", "labels", "class")


def names_of(frame: Any) -> tuple[str, ...] | None:
    """The names of the columns of a DataFrame, of whichever library; None of what is none."""
    named = getattr(frame, "columns", None)
    return None if named is None or not hasattr(frame, "to_numpy") else tuple(map(str, named))


def label_column(names: Sequence[str], named: str | None, what: str) -> int | None:
    """The place of the column of labels: the one that is `named`, or else the one of `LABEL_COLUMNS`; or None.

    Raises DataError where there is no column of that name, or several.
    """
    if named is None:
        found = [place for place, name in enumerate(names) if name.strip().lower() in LABEL_COLUMNS]
        return found[0] if len(found) == 1 else None
    found = [place for place, name in enumerate(names) if name == named]
    if len(found) != 1:
        had = ", ".join(map(repr, names[:8])) + (" ..." if len(names) > 8 else "")
        raise DataError(f"labels {named!r}: {what} has {len(found) or 'no'} such columns, expected one of {had}")
    return found[0]


def as_labels(values: Array) -> Array:
    """Labels (N,) of any kind as numbers, or else as text."""
    return values if values.dtype.kind in "biuf" else values.astype(str)


def narrowed(rows: Array) -> Array:
    """Whole numbers as the smallest signed type that holds them: text does not say what a number was stored as."""
    if rows.dtype.kind != "i" or not rows.size:
        return rows
    low, high = int(rows.min()), int(rows.max())
    fits = (kind for kind in (np.int16, np.int32, np.int64) if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)
    return rows.astype(next(fits))


def from_columns(names: Sequence[str], column: Callable[[int], Any], labels: str | None, what: str) -> Parts:
    """A table whose columns are asked for one by one, as arrays (N,); raises DataError where one is not numbers."""
    at = label_column(names, labels, what)
    places = [place for place in range(len(names)) if place != at]
    if not places:
        raise DataError(f"{what}: has no column but the labels")
    columns = [np.asarray(column(place)) for place in places]
    for place, values in zip(places, columns, strict=True):
        if values.dtype.kind not in "biuf":
            shown = next((str(value) for value in values if value is not None), "nothing")
            raise not_numbers(names[place], shown, what)
        if values.dtype.kind == "f" and np.isnan(values).any():
            raise missing(names[place], f"row {int(np.argmax(np.isnan(values)))} (counted from 0)", what)
    return Parts(
        np.stack(columns, axis=1),
        train_labels=None if at is None else as_labels(np.asarray(column(at))),
        columns=tuple(names[place] for place in places),
        label_column=None if at is None else names[at],
    )


def not_numbers(name: str, shown: str, what: str) -> DataError:
    """The error for a column of something else, with the remedy."""
    return DataError(
        f"{what}: column {name!r} holds {shown!r}, expected numbers; leave it out, name it as the labels (--labels "
        f"{name}, in Python labels={name!r}), or give each column a family (--columns)"
    )


def missing(name: str, where: str, what: str) -> DataError:
    """The error for a cell without a value, with the remedy."""
    return DataError(
        f"{what}: column {name!r} has no value in {where}, expected numbers; drop that row, fill it, or say how the "
        "model takes missing cells (--missing, and --columns where columns are not all numbers)"
    )
