"""Tables whose columns have families of their own: cells, text or numbers, as rows that a model reads. [D66]

A row holds numbers in the order in which the families were named: a category's level as its place, and NaN where there
is no value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.data.formats import Parts, read, read_cells
from vae_np.data.formats.tables import as_labels, label_column, names_of
from vae_np.data.values import flatten, with_holes
from vae_np.errors import DataError, MissingFileError
from vae_np.likelihoods.columns import Columns, numbers, places_of, proposed, words


def rows_of(x: Any, columns: Columns, what: str, mask: Any = None) -> Array:
    """A DataFrame, a mapping of names to cells, or an array (N, D) of numbers as rows (N, D) of a model, float64.

    An array has the columns in the order in which their families were named. Raises DataError for columns that do not
    agree with the families, and for cells that are not among a category's levels or no numbers.
    """
    names = list(map(str, x)) if isinstance(x, Mapping) else names_of(x)
    if names is not None:
        cells = [_cells(x, name, what) for name in x] if isinstance(x, Mapping) else _columns_of_frame(x)
        lengths = {len(column) for column in cells}
        if len(lengths) > 1:
            raise DataError(
                f"{what}: has columns of {min(lengths)} and of {max(lengths)} cells, expected as many in each"
            )
        rows = _converted(columns, list(names), cells, what)
    else:
        held, _ = flatten(with_holes(x, None, what), what)
        if held.shape[1] != len(columns):
            raise DataError(f"{what}: got shape {held.shape}, expected (N, {len(columns)})")
        by_column = [numbers(column, held[:, place], what) for place, column in enumerate(columns)]
        rows = np.stack(by_column, axis=1)
    return with_holes(rows, mask, what)


def read_rows(path: str, columns: Columns | None, labels: str | None, *, siblings: bool) -> Parts:
    """The rows of a file by the families of its columns, or, without `columns`, as numbers with cells missing.

    Raises what `vae_np.data.formats.read` and `rows_of` do.
    """
    table = read_cells(Path(path))
    if table is None:
        parts = read(Path(path), siblings=siblings, labels=labels)
        if columns is None:
            return parts
        test = None if parts.test is None else rows_of(parts.test, columns, path)
        return parts._replace(
            train=rows_of(parts.train, columns, path), test=test, columns=tuple(column[0] for column in columns)
        )
    names, cells = table
    named = [column[0] for column in columns or ()]
    at = label_column([name if name not in named else "" for name in names], labels, path)
    found = None if at is None else as_labels(_narrow(cells[at]))
    kept = [place for place in range(len(names)) if place != at]
    if not kept:
        raise DataError(f"{path}: has no column but the labels")
    own = columns or tuple((names[place], "normal") for place in kept)
    try:
        rows = _converted(own, [names[place] for place in kept], [cells[place] for place in kept], path)
    except DataError as error:
        remedy = "; columns of text need families of their own, which --columns names" if columns is None else ""
        raise DataError(f"{error}{remedy}") from None
    return Parts(
        rows,
        train_labels=found,
        columns=tuple(column[0] for column in own),
        label_column=None if at is None else names[at],
    )


def cells_of(rows: Any, columns: Columns) -> dict[str, list[Any]]:
    """What `VAE.sample`, `decode` or `impute` returned, rows (N, D), as a mapping of names to cells. [D66]

    A category's levels are words again, whole numbers are whole, and None stands where there is no value (NaN). A
    DataFrame can be made of it, and `rows_of` reads it back. Raises DataError for rows of another shape.
    """
    held, _ = flatten(rows, "rows")
    if held.shape[1] != len(columns):
        raise DataError(f"rows: got shape {held.shape}, expected (N, {len(columns)})")
    return {
        column[0]: [_cell(cell) for cell in words(column, own)] for column, own in zip(columns, held.T, strict=True)
    }


def propose_columns(table: Any) -> str:
    """A TOML file with a family for every column of a file or a DataFrame, to edit and to give as `columns`. [D66]

    It is a guess from the cells, and nothing uses it by itself. Raises DataError for what has no named columns.
    """
    names = None if isinstance(table, str | Path) else names_of(table)
    if names is not None:
        return proposed(names, _columns_of_frame(table))
    if isinstance(table, str | Path) and not Path(table).exists():
        raise MissingFileError(f"columns: got {str(table)!r}, expected an existing table: CSV, Parquet or Arrow")
    found = read_cells(Path(table)) if isinstance(table, str | Path) else None
    if found is None:
        raise DataError(f"columns: {table!r} is no table with named columns: CSV, another text, Parquet or Arrow")
    return proposed(*found)


def _converted(columns: Columns, names: list[str], cells: list[Any], what: str) -> Array:
    places = places_of(columns, names, what)
    return np.stack([numbers(column, cells[at], what) for column, at in zip(columns, places, strict=True)], axis=1)


def _columns_of_frame(frame: Any) -> list[Any]:
    """A DataFrame's columns: arrays of numbers, or lists of whatever they hold."""
    return [_listed(np.asarray(frame[name])) for name in frame.columns]


def _cells(mapping: Mapping[Any, Any], name: Any, what: str) -> Any:
    held = mapping[name]
    if isinstance(held, str) or not isinstance(held, Iterable):
        raise DataError(f"{what}: column {str(name)!r} got {held!r}, expected its cells, one per row")
    return _listed(held) if isinstance(held, np.ndarray) else list(held)


def _listed(column: Array) -> Any:
    return column if column.dtype.kind in "biuf" else column.tolist()


def _cell(cell: Any) -> Any:
    """A cell as a table writes it."""
    if not isinstance(cell, float | np.floating):
        return cell if cell is None else str(cell)
    # As few digits as tell it from its neighbours in its own precision: 119.6 and not 119.5999984741211.
    return None if np.isnan(cell) else int(cell) if float(cell).is_integer() else float(str(cell))


def _narrow(cells: list[Any]) -> Array:
    """A column of labels: numbers where all are, else text."""
    try:
        numeric = np.array(cells, dtype=np.float64)
    except (TypeError, ValueError):
        return np.array([str(cell).strip() for cell in cells])
    return numeric.astype(np.int64) if bool((numeric == np.rint(numeric)).all()) else numeric
