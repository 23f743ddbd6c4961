"""What a chapter returns: claims, each with its number and the tolerance that it must meet, and figures."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Claim:
    """One number of a claim: what came out, what was expected of it, and whether it holds.

    `id` is the claim's number in the derivation's list; a claim may take several numbers. `relation` is `=` (within
    `tolerance`, of the expected value's size if `relative`), `<=` or `>=` (give or take `tolerance`).
    """

    id: int
    statement: str
    value: float
    expected: float
    tolerance: float
    relation: str = "="
    relative: bool = False

    @property
    def passed(self) -> bool:
        """Whether the number meets its tolerance; NaN never does."""
        allowed = self.tolerance * (abs(self.expected) if self.relative else 1.0)
        difference = self.value - self.expected
        if self.relation == "=":
            return abs(difference) <= allowed
        if self.relation == "<=":
            return difference <= allowed
        return -difference <= allowed

    def as_dict(self) -> dict[str, object]:
        """The claim as it stands in the JSON."""
        return {
            "id": self.id,
            "statement": self.statement,
            "value": self.value,
            "expected": self.expected,
            "relation": self.relation,
            "tolerance": self.tolerance,
            "relative": self.relative,
            "passed": self.passed,
        }


def equal(
    number: int, statement: str, value: float, expected: float, tolerance: float, *, relative: bool = False
) -> Claim:
    """value = expected within `tolerance` (nats, or whatever the numbers are in), or relative to `expected`."""
    return Claim(number, statement, float(value), float(expected), tolerance, "=", relative)


def at_most(number: int, statement: str, value: float, bound: float, tolerance: float = 0.0) -> Claim:
    """value ≤ bound, give or take `tolerance`."""
    return Claim(number, statement, float(value), float(bound), tolerance, "<=")


def at_least(number: int, statement: str, value: float, bound: float, tolerance: float = 0.0) -> Claim:
    """value ≥ bound, give or take `tolerance`."""
    return Claim(number, statement, float(value), float(bound), tolerance, ">=")


@dataclass
class Result:
    """A chapter's claims and its figures by file name (without `.png`)."""

    claims: list[Claim] = field(default_factory=list)
    figures: dict[str, Figure] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        """How many claims do not hold."""
        return sum(not claim.passed for claim in self.claims)


def show(value: float) -> str:
    """A number as a table shows it: six digits, small and large ones with an exponent."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:.6g}" if 1e-4 <= abs(value) < 1e7 else f"{value:.3e}"
