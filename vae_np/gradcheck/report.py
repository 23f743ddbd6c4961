"""The verdict as a table, as JSON and as HTML."""

from __future__ import annotations

import html
import json
import math
from dataclasses import dataclass, field
from typing import Any, Literal

from vae_np.gradcheck.numeric import Index

Verdict = Literal["ok", "FAIL", "unclear", "skipped"]
SCHEMA = "vae_np.gradcheck"
VERSION = 1
HEADER = ("tensor", "shape", "method", "max error", "index", "analytic", "numeric", "verdict")
# More kinks than these are counted, not listed.
KINKS_SHOWN = 4


@dataclass(frozen=True)
class Kink:
    """An entry where the function has no derivative: its one-sided slopes and the analytic value there.

    inside: the analytic value lies between the slopes (any value does at a jump, where a slope is infinite).
    """

    index: Index
    left: float
    right: float
    analytic: float
    inside: bool
    jump: bool = False

    def __str__(self) -> str:
        kind = "jump" if self.jump else "kink"
        slopes = f"slopes {number(self.left)} and {number(self.right)}"
        place = "left out of the verdict" if self.inside else "OUTSIDE of the interval between them"
        return f"{kind} at index {show_index(self.index)}: {slopes}, analytic {number(self.analytic)}, {place}"


@dataclass(frozen=True)
class Row:
    """One tensor's line: largest error, where it is, both values there, and the verdict.

    error = |analytic - numeric| / max(|analytic|, |numeric|, scale); a tensor passes where, at every entry,
    |analytic - numeric| <= atol + rtol * max(|analytic|, |numeric|, scale) + the numeric value's own error.
    """

    tensor: str
    shape: tuple[int, ...]
    dtype: str
    method: str
    verdict: Verdict
    error: float = math.nan
    index: Index | None = None
    analytic: float = math.nan
    numeric: float = math.nan
    rtol: float = math.nan
    atol: float = math.nan
    scale: float = math.nan
    checked: int = 0
    kinks: tuple[Kink, ...] = ()
    notes: tuple[str, ...] = ()

    def cells(self) -> tuple[str, ...]:
        """Return the row's cells as text, in the order of HEADER."""
        known = not math.isnan(self.error)
        placed = self.index is not None
        return (
            self.tensor,
            str(self.shape),
            self.method or "-",
            f"{self.error:.1e}" if known else "-",
            show_index(self.index) if self.index is not None else "-",
            number(self.analytic) if known or placed else "-",
            number(self.numeric) if known or placed else "-",
            self.verdict,
        )


@dataclass(frozen=True)
class Check:
    """A check beside the derivative, such as linearity in the upstream gradient."""

    name: str
    passed: bool
    detail: str = ""


@dataclass
class Report:
    """The result of a gradient check: a row per tensor, the other checks, likely causes, and how to see it again."""

    name: str
    seed: int
    rows: list[Row] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    causes: list[str] = field(default_factory=list)
    snippet: str = ""
    exception: BaseException | None = None

    @property
    def passed(self) -> bool:
        """True where every tensor that has a gradient is right and every other check holds."""
        judged = [row for row in self.rows if row.verdict != "skipped"]
        rows_good = bool(judged) and all(row.verdict == "ok" for row in judged)
        return rows_good and all(check.passed for check in self.checks)

    @property
    def max_error(self) -> float:
        """The largest relative error of all rows; NaN where there is none."""
        return max((row.error for row in self.rows if not math.isnan(row.error)), default=math.nan)

    @property
    def method(self) -> str:
        """The methods used, without repetition."""
        return ", ".join(dict.fromkeys(row.method for row in self.rows if row.method))

    def raise_if_failed(self) -> Report:
        """Raise AssertionError with the whole table unless the check passed; return the report otherwise."""
        if not self.passed:
            raise AssertionError("\n" + str(self)) from self.exception
        return self

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values; numbers that are not finite become None."""
        rows = [
            {
                "tensor": row.tensor,
                "shape": list(row.shape),
                "dtype": row.dtype,
                "method": row.method,
                "max_rel_error": _finite(row.error),
                "index": None if row.index is None else list(row.index),
                "analytic": _finite(row.analytic),
                "numeric": _finite(row.numeric),
                "rtol": _finite(row.rtol),
                "atol": _finite(row.atol),
                "scale": _finite(row.scale),
                "entries_checked": row.checked,
                "kinks": [
                    {
                        "index": list(kink.index),
                        "left": _finite(kink.left),
                        "right": _finite(kink.right),
                        "analytic": _finite(kink.analytic),
                        "inside": kink.inside,
                        "jump": kink.jump,
                    }
                    for kink in row.kinks
                ],
                "notes": list(row.notes),
                "verdict": row.verdict,
            }
            for row in self.rows
        ]
        return {
            "schema": SCHEMA,
            "version": VERSION,
            "name": self.name,
            "passed": self.passed,
            "max_rel_error": _finite(self.max_error),
            "rows": rows,
            "checks": [{"name": c.name, "passed": c.passed, "detail": c.detail} for c in self.checks],
            "causes": list(self.causes),
            "seed": self.seed,
            "snippet": self.snippet,
        }

    def to_json(self) -> str:
        """Return `as_dict()` as JSON text."""
        return json.dumps(self.as_dict(), indent=2, allow_nan=False)

    def __str__(self) -> str:
        lines = [self.headline()]
        if self.rows:
            lines += _table([row.cells() for row in self.rows])
            lines.append(self._tolerances())
        lines += [f"  {line}" for line in self.details()]
        if not self.passed and self.snippet:
            lines += [
                f"reproduce (seed {self.seed}, same inputs):",
                *(f"    {line}" for line in self.snippet.splitlines()),
            ]
        return "\n".join(line.rstrip() for line in lines)

    def headline(self) -> str:
        """Return the one line that says it all."""
        wrong = [row.tensor for row in self.rows if row.verdict in ("FAIL", "unclear")]
        broken = [check.name for check in self.checks if not check.passed]
        if self.passed:
            return f"{self.name}: passed (max error {self.max_error:.1e}, seed {self.seed})"
        what = ", ".join([*wrong, *broken]) or "nothing to check"
        return f"{self.name}: FAILED ({what}; seed {self.seed})"

    def details(self) -> list[str]:
        """Return the lines below the table: notes, kinks, the other checks, likely causes."""
        lines = []
        for row in self.rows:
            lines += [f"{row.tensor}: {note}" for note in row.notes]
            shown = sorted(row.kinks, key=lambda kink: kink.inside)[:KINKS_SHOWN]
            lines += [f"{row.tensor}: {kink}" for kink in shown]
            if len(row.kinks) > len(shown):
                lines.append(f"{row.tensor}: and {len(row.kinks) - len(shown)} more kinks")
        good = [check.name for check in self.checks if check.passed]
        if good:
            lines.append(f"also holds: {', '.join(good)}")
        lines += [f"{check.name}: {check.detail}" for check in self.checks if check.passed and check.detail]
        lines += [f"FAIL {check.name}: {check.detail}" for check in self.checks if not check.passed]
        return lines + [f"likely cause: {cause}" for cause in self.causes]

    def _tolerances(self) -> str:
        groups: dict[str, list[str]] = {}
        for row in self.rows:
            if not math.isnan(row.rtol):
                scales = groups.setdefault(f"rtol {row.rtol:.1e}, atol {row.atol:.1e}", [])
                scales.append(f"{row.tensor} {row.scale:.1e}")
        return "tolerance: " + "; ".join(f"{text}, scale {', '.join(s)}" for text, s in groups.items())

    def _repr_html_(self) -> str:
        colours = {"ok": "#1a7f37", "FAIL": "#cf222e", "unclear": "#9a6700", "skipped": "#6e7781"}
        head = "".join(f"<th>{cell}</th>" for cell in HEADER)
        body = ""
        for row in self.rows:
            *cells, verdict = row.cells()
            mark = f'<td style="color:{colours[row.verdict]}"><b>{html.escape(verdict)}</b></td>'
            body += "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + mark + "</tr>"
        notes = "".join(f"<li>{html.escape(line)}</li>" for line in self.details())
        snippet = "" if self.passed else f"<pre>{html.escape(self.snippet)}</pre>"
        return (
            f"<p><b>{html.escape(self.headline())}</b></p><table><thead><tr>{head}</tr></thead>"
            f"<tbody>{body}</tbody></table><p>{html.escape(self._tolerances())}</p><ul>{notes}</ul>{snippet}"
        )


def number(value: float) -> str:
    """Return a number with ten significant digits, short where it is short."""
    return f"{value:.10g}"


def show_index(index: Index) -> str:
    """Return an index as it is typed: `[2, 0]`, or `[]` for a tensor without axes."""
    return "[" + ", ".join(map(str, index)) + "]"


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    """Return the rows under HEADER as aligned text; numbers to the right, words to the left."""
    widths = [max(len(cell) for cell in column) for column in zip(HEADER, *rows, strict=True)]
    right = {3, 5, 6}

    def line(cells: tuple[str, ...]) -> str:
        padded = [
            cell.rjust(width) if position in right else cell.ljust(width)
            for position, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "  ".join(padded).rstrip()

    return [line(HEADER), line(tuple("-" * width for width in widths)), *map(line, rows)]
