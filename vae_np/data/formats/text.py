"""Tables as text: CSV, TSV, `.amat`, and whatever separates numbers by commas, semicolons, tabs or spaces.

Lines that are empty or begin with # are skipped. A first line without any number names the columns.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vae_np._types import Array
from vae_np.data.formats.parts import Parts, check_size
from vae_np.data.formats.tables import label_column, missing, narrowed, not_numbers
from vae_np.errors import DataError

_SEPARATORS = (",", ";", "\t")
_MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?", "-"})
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
    lines = _sample(text)
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
            io.StringIO(table.text),
            delimiter=table.separator,
            quotechar='"',
            usecols=places,
            skiprows=table.skipped,
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


@dataclass(frozen=True)
class _Table:
    """A text, how its lines are cut into cells, and what its columns are called: by place where nothing names them."""

    path: Path
    text: str
    separator: str | None
    has_names: bool
    names: Sequence[str]

    @classmethod
    def of(cls, path: Path) -> _Table:
        text = _text(path)
        lines = _sample(text)
        separator = _separator(lines)
        first = [cell.strip() for cell in _cells(lines[0], separator)]
        has_names = not any(map(_is_number, first)) and len(lines) > 1
        return cls(path, text, separator, has_names, first if has_names else list(map(str, range(len(first)))))

    @property
    def skipped(self) -> int:
        """How many lines stand before the first one of data."""
        place = next(place for place, line in enumerate(self.text.splitlines()) if _counts(line))
        return place + self.has_names

    def lines(self) -> Iterator[tuple[int, list[str]]]:
        """The lines of data, cut into cells, each with its number in the file, counted from 1."""
        for number, line in enumerate(self.text.splitlines()[self.skipped :], self.skipped + 1):
            if _counts(line):
                yield number, _cells(line, self.separator)

    def check_widths(self) -> None:
        """Raise DataError for the first line that has more cells than the first, or fewer."""
        width = len(self.names)
        for number, line in enumerate(self.text.splitlines(), 1):
            # Counting is a hundred times faster than cutting.
            if self.separator is None or line.count(self.separator) != width - 1:
                cells = len(_cells(line, self.separator)) if _counts(line) else width
                if cells != width:
                    raise DataError(f"{self.path}: line {number} has {cells} cells, expected {width} as in the first")

    def line_of(self, row: int) -> int:
        """The number of the line that holds a row of data."""
        return next(number for count, (number, _) in enumerate(self.lines()) if count == row)

    def labels(self, at: int) -> Array:
        """The column of labels: whole numbers, numbers, or text."""
        cells = [cells[at].strip() for _, cells in self.lines()]
        if not all(map(_is_number, cells)):
            return np.array(cells)
        numbers = np.array(cells, dtype=np.float64)
        return narrowed(numbers.astype(np.int64)) if bool((numbers == np.rint(numbers)).all()) else numbers

    def has_points(self, places: Sequence[int]) -> bool:
        """Whether the first row writes its numbers with a point or an exponent."""
        _, cells = next(self.lines())
        return any(mark in cells[place].lower() for place in places for mark in ".e")

    def fault(self, places: Sequence[int], error: Exception) -> DataError:
        """What is wrong with a table that NumPy cannot read, by the first line that is wrong."""
        for number, cells in self.lines():
            for place in places:
                cell, name = cells[place].strip(), self.names[place]
                if cell.lower() in _MISSING:
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


def _sample(text: str) -> list[str]:
    """The first lines that count."""
    return [line for line in text[: 1 << 20].splitlines()[: 4 * _SAMPLE] if _counts(line)][:_SAMPLE]


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
    return cell.strip().lower() not in _MISSING
