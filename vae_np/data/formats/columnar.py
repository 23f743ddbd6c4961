"""Parquet and Arrow files, which hold a table column by column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vae_np.data.formats.parts import Parts, check_size
from vae_np.data.formats.tables import from_columns
from vae_np.errors import DataError


def read_parquet(path: Path, labels: str | None = None) -> Parts:
    """The rows of a Parquet file; raises DataError as `tables.from_columns` does."""
    table = _library(path, "parquet").read_table(path)
    return _rows(table, labels, path)


def read_arrow(path: Path, labels: str | None = None) -> Parts:
    """The rows of an Arrow file (Feather of version 2); raises DataError as `tables.from_columns` does."""
    table = _library(path, "feather").read_table(path)
    return _rows(table, labels, path)


def cells_of_columns(path: Path, part: str) -> tuple[list[str], list[list[Any]]]:
    """The names of the columns of a `parquet` or `feather` file, and each one's cells, None where there is no value."""
    table = _library(path, part).read_table(path)
    check_size(path, table.nbytes)
    return list(table.column_names), [column.to_pylist() for column in table.columns]


def _library(path: Path, part: str) -> Any:
    try:
        from importlib import import_module

        return import_module(f"pyarrow.{part}")
    except ImportError:
        raise DataError(f"{path}: needs PyArrow to be read: pip install 'vae-np[formats]'") from None


def _rows(table: Any, labels: str | None, path: Path) -> Parts:
    check_size(path, table.nbytes)
    return from_columns(table.column_names, lambda place: table.column(place).to_numpy(), labels, str(path))
