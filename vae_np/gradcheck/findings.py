"""What a check finds: one row per tensor, the other promises, the likely causes, and the verdict on all of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from vae_np.gradcheck.places import Index

Verdict = Literal["ok", "FAIL", "unclear", "skipped"]


@dataclass(frozen=True)
class Kink:
    """An entry where the function has no derivative, with its one-sided slopes and the analytic value there.

    `inside` is True where the analytic value lies between the slopes. At a jump any value does, since one slope is
    infinite.
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
    """One tensor's line: its largest error, where that is, both values there, and the verdict.

    The error is |analytic - numeric| / max(|analytic|, |numeric|, scale). A tensor passes where |analytic - numeric| <=
    atol + rtol * max(|analytic|, |numeric|, scale) + the numeric value's own error holds at every entry. `blind` is
    True where both gradients are zero, so that this point cannot show a mistake. `precision` is the verdict that
    float32 and lower precisions allow: right, wrong, right within what the dtype allows, or ill-conditioned here.
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
    precision: str = ""

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

    `promise` is the key in `options.PROMISES`, where a gradient with right values can break it. `warning` is True where
    it is broken without failing the check.
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
class Findings:
    """What a gradient check found: one row per tensor, the other checks, the likely causes, and how to repeat it.

    `reading` says how the subject was read, where that is not obvious. `taylor` is the order of the remainder, which
    stands beside the verdict.
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
        """True where every tensor's gradient is right and every other check holds; warnings do not count."""
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
        """The largest relative error of all rows, or NaN where there is none."""
        return max((row.error for row in self.rows if not math.isnan(row.error)), default=math.nan)

    @property
    def method(self) -> str:
        """The methods used, without repetition."""
        return ", ".join(dict.fromkeys(row.method for row in self.rows if row.method))


def number(value: float) -> str:
    """Return a number with ten significant digits, short where it is short."""
    return f"{value:.10g}"


def show_index(index: Index) -> str:
    """Return an index as it is typed: `[2, 0]`, or `[]` for a tensor without axes."""
    return "[" + ", ".join(map(str, index)) + "]"
