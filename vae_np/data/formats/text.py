"""Tables as text: CSV, TSV, `.amat`, and whatever separates numbers by commas, semicolons, tabs or spaces.

Lines that are empty or begin with # are skipped. A first line without any number names the columns.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vae_np._types import Array
from vae_np.data.formats.parts import Parts, check_size
from vae_np.data.formats.tables import label_column, missing, narrowed, not_numbers
from vae_np.errors import DataError
from vae_np.likelihoods.columns import MISSING

_SEPARATORS = (",", ";", "\t")
# Lines by which the separator is judged.
_SAMPLE = 20
# Whole numbers up to this one are exact in float64.
_EXACT = 2**53


def looks_like_text(head: bytes) -> bool:
    """Whether a file that begins with these bytes is a text with numbers in it."""
    if b"\0" in head:
        return False
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # The head may end within a character.
        if error.start < len(head) - 4:
            return False
        text = head[: error.start].decode("utf-8-sig")
    lines = _sample(text.splitlines())
    return any(_is_number(cell.replace(",", ".", 1)) for line in lines for cell in _cells(line, _separator(lines)))


def read_text(path: Path, labels: str | None = None) -> Parts:
    """The rows of a table, and its labels where one column is labels (see `tables.label_column`).

    Raises DataError, which names the line and the column, for cells that are empty or no numbers and for lines of
    another length.
    """
    table = _Table.of(path)
    at = label_column(table.names, labels, str(path))
    places = [place for place in range(len(table.names)) if place != at]
    if not places:
        raise DataError(f"{path}: has no column but the labels")
    table.check_widths()
    try:
        rows = np.loadtxt(
            table.lines[table.skipped :],
            delimiter=table.separator,
            quotechar='"',
            usecols=places,
            ndmin=2,
        )
        found = None if at is None else table.labels(at)
    except (ValueError, IndexError) as error:
        raise table.fault(places, error) from None
    if np.isnan(rows).any():
        row, column = (int(i) for i in np.argwhere(np.isnan(rows))[0])
        raise missing(table.names[places[column]], f"line {table.line_of(row)}", str(path))
    whole = bool((rows == np.rint(rows)).all() and np.abs(rows).max(initial=0) < _EXACT)
    return Parts(
        narrowed(rows.astype(np.int64)) if whole and not table.has_points(places) else rows,
        train_labels=found,
        columns=tuple(table.names[place] for place in places) if table.has_names else None,
        label_column=None if at is None else table.names[at],
    )


def cells_of_text(path: Path) -> tuple[list[str], list[list[str]]]:
    """The names of a table's columns, and each one's cells as they stand; raises DataError for lines of another length.
    """
    table = _Table.of(path)
    table.check_widths()
    rows = [cells for _, cells in table.cut()]
    return list(table.names), [[cells[place] for cells in rows] for place in range(len(table.names))]


@dataclass(frozen=True)
class _Table:
    """Lines of text, how they are cut into cells, and what the columns are called: by place where nothing names them.

    The first `skipped` lines stand before the first one of data.
    """

    path: Path
    lines: Sequence[str]
    skipped: int
    separator: str | None
    has_names: bool
    names: Sequence[str]

    @classmethod
    def of(cls, path: Path) -> _Table:
        lines = _text(path).splitlines()
        shown = _sample(lines)
        separator = _separator(shown)
        first = [cell.strip() for cell in _cells(shown[0], separator)]
        has_names = not any(map(_is_number, first)) and len(shown) > 1
        before = next(place for place, line in enumerate(lines) if _counts(line))
        names = first if has_names else list(map(str, range(len(first))))
        return cls(path, lines, before + has_names, separator, has_names, names)

    def cut(self) -> Iterator[tuple[int, list[str]]]:
        """The lines of data, cut into cells, each with its number in the file, counted from 1."""
        for number, line in enumerate(self.lines[self.skipped :], self.skipped + 1):
            if _counts(line):
                yield number, _cells(line, self.separator)

    def check_widths(self) -> None:
        """Raise DataError for the first line that has more cells than the first, or fewer."""
        width = len(self.names)
        for number, line in enumerate(self.lines, 1):
            # Counting is a hundred times faster than cutting.
            if self.separator is None or line.count(self.separator) != width - 1:
                cells = len(_cells(line, self.separator)) if _counts(line) else width
                if cells != width:
                    raise DataError(f"{self.path}: line {number} has {cells} cells, expected {width} as in the first")

    def line_of(self, row: int) -> int:
        """The number of the line that holds a row of data."""
        return next(number for count, (number, _) in enumerate(self.cut()) if count == row)

    def labels(self, at: int) -> Array:
        """The column of labels: whole numbers, numbers, or text."""
        cells = [cells[at].strip() for _, cells in self.cut()]
        if not all(map(_is_number, cells)):
            return np.array(cells)
        numbers = np.array(cells, dtype=np.float64)
        return narrowed(numbers.astype(np.int64)) if bool((numbers == np.rint(numbers)).all()) else numbers

    def has_points(self, places: Sequence[int]) -> bool:
        """Whether the first row writes its numbers with a point or an exponent."""
        _, cells = next(self.cut())
        return any(mark in cells[place].lower() for place in places for mark in ".e")

    def fault(self, places: Sequence[int], error: Exception) -> DataError:
        """What is wrong with a table that NumPy cannot read, by the first line that is wrong."""
        for number, cells in self.cut():
            for place in places:
                cell, name = cells[place].strip(), self.names[place]
                if cell.lower() in MISSING:
                    return missing(name, f"line {number}", str(self.path))
                if not _is_number(cell):
                    if _is_number(cell.replace(",", ".", 1)):
                        return DataError(f"{self.path}: line {number} has {cell!r}, expected a decimal point, no comma")
                    return not_numbers(name, cell, str(self.path))
        return DataError(f"{self.path}: cannot be read as a table of numbers ({error})")


def _text(path: Path) -> str:
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    content = bytearray()
    with gzip.open(path) if zipped else path.open("rb") as unpacked:
        while part := unpacked.read(1 << 24):
            content += part
            check_size(path, len(content))
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(f"{path}: line {line} is not UTF-8, expected a text in UTF-8") from None


def _sample(lines: Sequence[str]) -> list[str]:
    """The first lines that count."""
    return [line for line in lines[: 4 * _SAMPLE] if _counts(line)][:_SAMPLE]


def _counts(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _separator(lines: Sequence[str]) -> str | None:
    """The separator that cuts every line into the same number of cells, more than one; None for spaces."""
    for separator in _SEPARATORS:
        counts = {len(_cells(line, separator)) for line in lines}
        if len(counts) == 1 and counts.pop() > 1:
            return separator
    # Where lines differ in length, the fault is told by the separator that most of them have.
    often = max(_SEPARATORS, key=lambda separator: sum(separator in line for line in lines))
    return often if sum(often in line for line in lines) > len(lines) / 2 else None


def _cells(line: str, separator: str | None) -> list[str]:
    return line.split() if separator is None else next(csv.reader([line], delimiter=separator), [])


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return cell.strip().lower() not in MISSING
