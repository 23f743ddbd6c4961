"""How objects show themselves: one line in a terminal, a small table in a notebook, and never a wall of numbers.

The table has no colour of its own, so that it follows the notebook's theme, dark or light, and loads nothing.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, fields
from typing import Any, ClassVar

import numpy as np

# An error below this is written with an exponent.
_TINY = 1e-4
_TABLE = "border-collapse:collapse;color:inherit;background:transparent"
_CELL = "padding:2px 8px;text-align:{};border-bottom:1px solid currentColor"


class Shown:
    """A dataclass of arrays with one entry per example: its line has their means, and their shapes where they have more
    axes. `_shown` names the attributes to show, by default all fields."""

    _shown: ClassVar[tuple[str, ...]] = ()

    def _parts(self) -> list[tuple[str, str]]:
        names = self._shown or tuple(field.name for field in fields(self))  # type: ignore[arg-type]  # (of a dataclass)
        found = [(name, getattr(self, name)) for name in names]
        return [(name, array_text(value)) for name, value in found if value is not None]

    def _examples(self) -> int | None:
        arrays = (getattr(self, name) for name, _ in self._parts())
        return next((len(array) for array in arrays if isinstance(array, np.ndarray) and array.ndim == 1), None)

    def __repr__(self) -> str:
        count = self._examples()
        size = "" if count is None else f"; {counted_text(count, 'example')}"
        return f"{type(self).__name__}({', '.join(f'{name} {text}' for name, text in self._parts())}{size})"

    def _repr_html_(self) -> str:
        count = self._examples()
        title = type(self).__name__ + ("" if count is None else f", {counted_text(count, 'example')}")
        return table(title, ("", "mean ± standard error over examples"), self._parts())


def counted_text(number: int, what: str) -> str:
    """`1 example`, `12 examples`."""
    return f"{number} {what}" + ("" if number == 1 else "s")


def array_text(value: Any) -> str:
    """An array in a few words: mean ± standard error of (N,) numbers, how many of (N,) flags, else shape and dtype."""
    if not isinstance(value, np.ndarray):
        return value if isinstance(value, str) else repr(value)
    if value.ndim != 1 or value.dtype.kind not in "bf" or not len(value):
        return f"{value.shape} {value.dtype}"
    if value.dtype.kind == "b":
        return f"{int(value.sum())} of {len(value)}"
    with np.errstate(all="ignore"):
        wide = value.astype(np.float64)
        spread = wide.std(ddof=1) / math.sqrt(len(wide)) if len(wide) > 1 else math.nan
    if not (math.isfinite(spread) and spread > 0):
        return f"{wide.mean():.6g}"
    if spread < _TINY:
        return f"{wide.mean():.3g} ± {spread:.2g}"
    # Two digits of the error, and as many decimals of the mean.
    decimals = max(0, 1 - math.floor(math.log10(spread)))
    return f"{wide.mean():.{decimals}f} ± {spread:.{decimals}f}"


def shapes_text(name: str, arrays: Iterable[tuple[str, Any]]) -> str:
    """A class's line that tells of its arrays by their shapes alone."""
    return f"{name}({', '.join(f'{of} {value.shape} {value.dtype}' for of, value in arrays)})"


def settings_text(settings: Any, always: Sequence[str] = ()) -> str:
    """A dataclass of settings as an expression that makes it again, without those that have their default."""
    parts = []
    for field in fields(settings):
        value = getattr(settings, field.name)
        if field.name in always or field.default is MISSING or value != field.default:
            parts.append(f"{field.name}={value!r}")
    return f"{type(settings).__name__}({', '.join(parts)})"


def table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in HTML, every text escaped: the first column is text, and the others are numbers or few words."""

    def cells(texts: Sequence[str], tag: str) -> str:
        styled = ((_CELL.format("left" if column == 0 else "right"), text) for column, text in enumerate(texts))
        return "".join(f'<{tag} style="{style}">{html.escape(text)}</{tag}>' for style, text in styled)

    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    top = f"<thead><tr>{cells(head, 'th')}</tr></thead>" if any(head) else ""
    caption = f'<caption style="text-align:left;color:inherit">{html.escape(title)}</caption>'
    return f'<table style="{_TABLE}">{caption}{top}<tbody>{body}</tbody></table>'
