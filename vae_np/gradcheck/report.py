"""The verdict: a row for each tensor, the other promises, the likely causes; as text, as plain values and as HTML."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any, Literal

from vae_np.gradcheck import render
from vae_np.gradcheck.places import Index

Verdict = Literal["ok", "FAIL", "unclear", "skipped"]
SCHEMA = "vae_np.gradcheck"
VERSION = 1
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
    |analytic - numeric| <= atol + rtol * max(|analytic|, |numeric|, scale) + the numeric value's own error. blind: both
    gradients are zero, so that this point cannot show a mistake.
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
    blind: bool = False

    def cells(self) -> tuple[str, ...]:
        """Return the row's cells as text, in the order of `render.HEADER`."""
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
    """A check beside the derivative, such as linearity in the upstream gradient.

    promise: the key of `options.PROMISES`, where a gradient with right values can break it; warning: it is broken and
    does not fail.
    """

    name: str
    passed: bool
    detail: str = ""
    promise: str = ""
    warning: bool = False

    @property
    def broken(self) -> bool:
        """True where the check fails the whole."""
        return not self.passed and not self.warning


@dataclass(frozen=True)
class Taylor:
    """The order of the remainder f(x + t d) - f(x) - t a·d along a random direction d: 2 or more where a is right."""

    order: float
    verdict: Literal["right", "wrong", "none"]
    why: str = ""

    def __str__(self) -> str:
        if self.verdict == "none":
            return f"no verdict ({self.why})"
        if math.isnan(self.order):
            return f"{self.verdict} ({self.why})"
        due = "2 or more is due" if self.verdict == "right" else "a right gradient has 2 or more"
        return f"{self.verdict} (remainder of order {self.order:.2f} along a random direction; {due})"


@dataclass
class Report:
    """The result of a gradient check: a row per tensor, the other checks, likely causes, and how to see it again.

    reading: how the subject was read, where that is not plain; taylor: the remainder's order, beside the verdict.
    """

    name: str
    seed: int
    rows: list[Row] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    causes: list[str] = field(default_factory=list)
    snippet: str = ""
    exception: BaseException | None = None
    reading: str = ""
    taylor: Taylor | None = None

    @property
    def passed(self) -> bool:
        """True where every tensor that has a gradient is right and every other check holds; warnings do not count."""
        judged = [row for row in self.rows if row.verdict != "skipped"]
        rows_good = bool(judged) and all(row.verdict == "ok" for row in judged)
        return rows_good and not any(check.broken for check in self.checks)

    @property
    def unclear(self) -> bool:
        """True where nothing is wrong, and not everything could be decided."""
        failed = any(row.verdict == "FAIL" for row in self.rows) or any(check.broken for check in self.checks)
        return not self.passed and not failed and bool(self.rows)

    @property
    def warnings(self) -> list[str]:
        """A line for each promise that is broken although the values are right."""
        return [check.detail for check in self.checks if check.warning and not check.passed]

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
            raise GradientError(self) from self.exception
        return self

    def to_dict(self) -> dict[str, Any]:
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
                "blind": row.blind,
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
            "checks": [
                {"name": c.name, "passed": c.passed, "warning": c.warning, "promise": c.promise, "detail": c.detail}
                for c in self.checks
            ],
            "reading": self.reading,
            "taylor": None
            if self.taylor is None
            else {"order": _finite(self.taylor.order), "verdict": self.taylor.verdict, "detail": str(self.taylor)},
            "causes": list(self.causes),
            "seed": self.seed,
            "snippet": self.snippet,
        }

    def to_json(self) -> str:
        """Return `to_dict()` as JSON text."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def __str__(self) -> str:
        return render.long(self)

    def short(self) -> str:
        """Return what has to be known, in at most 20 lines: headline, wrong tensors, warnings, causes, snippet."""
        return render.short(self)

    def _repr_html_(self) -> str:
        return render.page(self)

    def headline(self) -> str:
        """Return the one line that says it all."""
        wrong = [row.tensor for row in self.rows if row.verdict in ("FAIL", "unclear")]
        broken = list(dict.fromkeys(check.name for check in self.checks if check.broken))
        if self.passed:
            return f"{self.name}: passed ({', '.join([*self._qualified(), f'seed {self.seed}'])})"
        what = ", ".join([*wrong, *broken]) or "nothing to check"
        return f"{self.name}: {'UNCLEAR' if self.unclear else 'FAILED'} ({what}; seed {self.seed})"

    def _qualified(self) -> list[str]:
        """Return what a verdict of "passed" has to be read with."""
        blind = [row.tensor for row in self.rows if row.blind]
        judged = [row for row in self.rows if row.verdict != "skipped"]
        parts = [] if len(blind) == len(judged) else [f"max error {self.max_error:.1e}"]
        if blind:
            parts.append(f"gradient of {', '.join(blind)} zero here, which shows little")
        if self.warnings:
            parts.append(f"{len(self.warnings)} warning{'s' if len(self.warnings) > 1 else ''}")
        return parts

    def details(self) -> list[str]:
        """Return the lines below the table: notes, kinks, the other checks, likely causes."""
        lines = [f"reading: {self.reading}"] if self.reading else []
        for row in self.rows:
            lines += [f"{row.tensor}: {note}" for note in row.notes]
            shown = sorted(row.kinks, key=lambda kink: kink.inside)[:KINKS_SHOWN]
            lines += [f"{row.tensor}: {kink}" for kink in shown]
            if len(row.kinks) > len(shown):
                lines.append(f"{row.tensor}: and {len(row.kinks) - len(shown)} more kinks")
        good = [check.name for check in self.checks if check.passed]
        if good:
            lines.append(f"also holds: {', '.join(dict.fromkeys(good))}")
        if self.taylor is not None:
            lines.append(f"Taylor: {self.taylor}")
        lines += [f"{check.name}: {check.detail}" for check in self.checks if check.passed and check.detail]
        return lines + self.complaints()

    def complaints(self) -> list[str]:
        """Return a line for each warning, for each broken promise that fails, and for each likely cause."""
        lines = [f"warning: {line}" for line in self.warnings]
        lines += [f"FAIL {check.name}: {check.detail}" for check in self.checks if check.broken]
        return lines + [f"likely cause: {cause}" for cause in self.causes]

    def tolerances(self) -> str:
        """Return the tolerances of all rows as one line."""
        groups: dict[str, list[str]] = {}
        for row in self.rows:
            if not math.isnan(row.rtol):
                scales = groups.setdefault(f"rtol {row.rtol:.1e}, atol {row.atol:.1e}", [])
                scales.append(f"{row.tensor} {row.scale:.1e}")
        return "tolerance: " + "; ".join(f"{text}, scale {', '.join(s)}" for text, s in groups.items())


class GradientError(AssertionError):
    """A gradient is wrong, or not known to be right; `report` has all there is to say."""

    def __init__(self, report: Report) -> None:
        super().__init__("\n" + str(report))
        self.report = report


def number(value: float) -> str:
    """Return a number with ten significant digits, short where it is short."""
    return f"{value:.10g}"


def show_index(index: Index) -> str:
    """Return an index as it is typed: `[2, 0]`, or `[]` for a tensor without axes."""
    return "[" + ", ".join(map(str, index)) + "]"


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
