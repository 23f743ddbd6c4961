"""What a command says: text for people (tables, bars and colours by rich), one JSON object for programs."""

from __future__ import annotations

import json
import math
import os
import sys
import textwrap
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.status import Status
from rich.table import Table
from rich.text import Text

from vae_np import __version__, storage
from vae_np.errors import InputError, WriteError

_WIDEST = 1000
# A column of text that is narrower than this is harder to read than rows that stand below each other.
_NARROWEST = 16


class Output:
    """Text goes to standard output, or to standard error where the JSON goes to standard output (`-`). Progress always
    goes to standard error.

    `json_file` is the value of `--json`: a file, `-`, or None. Raises InputError for a file that could not be written,
    at once and not after the work. With `quiet` only warnings are printed, and the JSON where it is asked for.
    """

    def __init__(self, json_file: str | None = None, *, quiet: bool = False) -> None:
        if json_file not in (None, "-"):
            check_target("json", json_file, "a file's name, or - for standard output")
        self.json_file, self.quiet = json_file, quiet
        self.progress = _console(sys.stderr)
        # Where both go to one place, one console writes both: else a line could be printed into a progress bar.
        together = json_file == "-" or (sys.stdout.isatty() and self.progress.is_terminal)
        self.text = self.progress if together else _console(sys.stdout)

    def say(self, line: str) -> None:
        """Print one line as it is."""
        if self.quiet:
            return
        self.text.print(line, markup=False, highlight=False, soft_wrap=True)

    def warn(self, line: str) -> None:
        """Print one line on standard error, where every mistake is reported."""
        self.progress.print(f"vae-np: {line}", markup=False, highlight=False, soft_wrap=True)

    def bar(self, before: str, after: str) -> Progress:
        """A progress bar between two texts and the time left, as wide as the terminal, and gone when it is done.

        Without a terminal nothing is shown.
        """
        columns = (TextColumn(before), BarColumn(bar_width=None), TextColumn(after), TimeRemainingColumn())
        hidden = self.quiet or not self.progress.is_terminal
        return Progress(
            *columns, TextColumn("left"), console=self.progress, transient=True, expand=True, disable=hidden
        )

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Print a table; the first column is text, the others are numbers."""
        self._table(title, columns, rows, "right")

    def listing(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Print a table of text."""
        self._table(title, columns, rows, "left")

    def _table(
        self, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], justify: Literal["left", "right"]
    ) -> None:
        if self.quiet:
            return
        # Not the table's own title, which would be folded to the table's width.
        self.say(title)
        lines = [tuple(map(Text, row)) for row in rows]
        # Whole numbers and verdicts come first: on a terminal that is too narrow only text is wrapped.
        table = _grid(columns, lines, justify)
        widest = Measurement.get(self.text, self.text.options.update(width=_WIDEST), table).maximum
        room = self.text.width if self.text.is_terminal else _WIDEST
        if widest > room:
            wrapped = range(len(columns)) if justify == "left" else (0,)
            texts = sum(_widest(columns, lines, index) for index in wrapped)
            if room - (widest - texts) < _NARROWEST * len(wrapped):
                return self._records(columns, lines)
            table = _grid(columns, lines, justify, wrapped)
        table.width = min(widest, room)
        self.text.print(table, crop=False)

    def _records(self, columns: Sequence[str], lines: Sequence[tuple[Text, ...]]) -> None:
        """Print each row as its first cell, and the others, named, below it; lines break between cells only."""
        for first, *others in lines:
            self.text.print(first, overflow="fold")
            named = [(name.replace("\n", ""), cell.plain) for name, cell in zip(columns[1:], others, strict=True)]
            cells = [f"{name} {text}".strip() for name, text in named if text]
            line = ""
            for cell in cells:
                if line and cell_len(f"    {line}   {cell}") > self.text.width:
                    self.say(f"    {line}")
                    line = ""
                line = f"{line}   {cell}" if line else cell
            self.say(f"    {line}")

    def report(self, text: str) -> None:
        """Print lines of a report: on a terminal too long ones break at spaces, so that every number stays whole.

        Lines that begin with four spaces are code, and stay as they are.
        """
        for line in text.split("\n"):
            if not self.text.is_terminal or cell_len(line) <= self.text.width or line.startswith("    "):
                self.say(line)
                continue
            wrapper = textwrap.TextWrapper(
                self.text.width, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
            )
            for part in wrapper.wrap(line):
                self.say(part)

    def status(self, line: str) -> Status:
        """A line with a spinner while something lasts; nothing without a terminal."""
        return self.progress.status(line, spinner="line" if self.progress.options.ascii_only else "dots")

    def result(self, command: str, content: dict[str, Any], tell: Callable[[], None]) -> None:
        """Write the result where `--json` said, then have `tell` print it; a failure of one does not prevent the other.

        `content` goes under a schema and version header; non-finite numbers become null.
        """
        try:
            self._write(command, content)
        finally:
            tell()

    def _write(self, command: str, content: dict[str, Any]) -> None:
        if self.json_file is None:
            return
        whole = {"schema": f"vae-np/{command}/1", "version": __version__, **content}
        text = json.dumps(_finite(whole), indent=2, allow_nan=False) + "\n"
        if self.json_file == "-":
            sys.stdout.write(text)
            sys.stdout.flush()
            return
        path = Path(self.json_file)
        with writing("json", path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() and not path.is_file():
                # A device or a pipe is written to; a rename would replace it by a file.
                path.write_text(text, encoding="utf-8")
            else:
                storage.write_atomic(path, text)


def _grid(
    columns: Sequence[str],
    lines: Iterable[tuple[Text, ...]],
    justify: Literal["left", "right"],
    wrapped: Container[int] = (),
) -> Table:
    """A table of the rows, in which the columns `wrapped` may be folded; in square brackets is text, not markup."""
    table = Table()
    for index, column in enumerate(columns):
        table.add_column(
            column, justify="left" if index == 0 else justify, no_wrap=index not in wrapped, overflow="fold"
        )
    for line in lines:
        table.add_row(*line)
    return table


def _widest(columns: Sequence[str], lines: Iterable[tuple[Text, ...]], index: int) -> int:
    """The width of the widest line in a column."""
    cells = [columns[index], *(line[index].plain for line in lines)]
    return max(cell_len(part) for cell in cells for part in cell.split("\n"))


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Where the library would exit with code 1, the command line itself has to notice it."""
        raise BrokenPipeError


def _console(stream: Any) -> Console:
    console = _Console(file=stream)
    # A pipe has no width of its own.
    return console if console.is_terminal else _Console(file=stream, width=160)


@contextmanager
def writing(option: str, path: Path) -> Iterator[None]:
    """Encloses writing a file or making a folder: if that fails, an InputError names the option and the path."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{option}: {path}: cannot be written ({storage.reason(error)})") from None
    except WriteError as error:
        raise InputError(f"{option}: {error}") from None


def check_target(option: str, name: str | None, expected: str) -> None:
    """Refuse, before the work, a file that could not be written after it; raises InputError."""
    if not name or Path(name).is_dir():
        raise InputError(f"{option}: got {name!r}, expected {expected}")
    # Missing folders are made when the file is written, so the nearest one that is there decides.
    present = next(folder for folder in Path(name).absolute().parents if folder.exists())
    if not present.is_dir() or not os.access(present, os.W_OK | os.X_OK):
        raise InputError(f"{option}: {name}: cannot be written ({present} is not a folder that can be written)")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def with_error(figure: dict[str, float], digits: int = 2) -> str:
    """`mean ± stderr` of a figure."""
    return f"{figure['mean']:.{digits}f} ± {figure['stderr']:.{digits}f}"
