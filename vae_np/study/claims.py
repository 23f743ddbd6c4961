"""What a chapter returns: claims, each with its number and the tolerance that it must meet, and figures."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from vae_np._types import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The claims of the derivation by number: the mark under which each is derived, and what it says.
CLAIMS = {
    1: ("D1", "To fit is to maximise the sum of log p(x), along its gradient"),
    2: ("D1", "Data are i.i.d.: the gradients of minibatches average to the full one"),
    3: ("D2", "The table of all outcomes fits best, and is hopeless"),
    4: ("D3", "p(x) is the integral of p(z) p(x|z)"),
    5: ("D3", "Pixels are independent given z, and dependent without it"),
    6: ("D3", "A mixture beats one simple distribution"),
    7: ("D5", "For continuous data p(x|z) is a normal"),
    8: ("D6", "To sample: z from the prior, then x given z"),
    9: ("D9", "log p(x) is hard: samples of the prior miss it, and grids cannot afford it"),
    10: ("D8", "log p(x) = log p(x, z) − log p(z|x) for any z"),
    11: ("D11", "Variational inference: the q that is closest to the posterior"),
    12: ("D11", "KL is not symmetric, and a climb may end at a local maximum"),
    13: ("D14", "With mean and full covariance nothing is left of the gap"),
    14: ("D12", "λ* depends on x"),
    15: ("D12", "log p(x) is constant in λ"),
    16: ("D12", "ELBO = log p(x) − KL(q‖p(z|x)) ≤ log p(x)"),
    17: ("D16", "Nested optimisation: λ* anew for every θ, and a likelihood that only rises"),
    18: ("D15", "One arbitrary z will not do"),
    19: ("D15", "Why z is drawn from q*"),
    20: ("D16", "Joint optimisation has the same objective"),
    21: ("D17", "Gradients run through the sample"),
    22: ("D19", "A λ of its own for every datapoint"),
    23: ("D20", "L(q_φ) ≤ L(q*) ≤ log p(x)"),
    24: ("D20", "Amortisation can only loosen the bound, and by how much"),
    25: ("D19", "… and is far cheaper"),
    26: ("D21", "The ELBO has two forms"),
    27: ("D24", "The loss is −ELBO"),
    28: ("D22", "A normal q and prior give the KL in closed form"),
    29: ("D19", "The decoder is the model; the encoder is a tool for training it"),
    30: ("D34", "Sample the z that contribute most"),
    31: ("D24", "A plain autoencoder is no generator"),
    32: ("D57", "A richer family leaves less of the gap"),
    33: ("D61", "With two layers the gap is that of z₁ and the mean gap of z₂"),
    34: ("D71", "What is missing is filled in by what is known of the rest"),
    35: ("D78", "A learned prior saves KL(q(z)‖p(z)), and a condition shifts p(x)"),
}


@dataclass(frozen=True)
class Claim:
    """One number of a claim: what came out, what was expected of it, and whether it holds.

    `id` is the claim's number in the derivation's list; a claim may take several numbers. `by` names the two
    computations that are compared, in a few words each. `relation` is `=` (within `tolerance`, of the expected value's
    size if `relative`), `<=` or `>=` (give or take `tolerance`).
    """

    id: int
    statement: str
    by: tuple[str, str]
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
            "by": list(self.by),
            "value": self.value,
            "expected": self.expected,
            "relation": self.relation,
            "tolerance": self.tolerance,
            "relative": self.relative,
            "passed": self.passed,
        }


def equal(
    number: int,
    statement: str,
    value: Any,
    expected: Any,
    tolerance: float,
    *,
    by: tuple[str, str],
    relative: bool = False,
) -> Claim:
    """value = expected within `tolerance` (nats, or whatever the numbers are in), or relative to `expected`."""
    return Claim(number, statement, by, float(value), float(expected), tolerance, "=", relative)


def zero(number: int, statement: str, value: float | Array, tolerance: float, *, by: tuple[str, str]) -> Claim:
    """The difference of two computations, the entry that is farthest from 0: it is 0 within `tolerance`."""
    return equal(number, statement, _worst(np.asarray(value, dtype=np.float64)), 0, tolerance, by=by)


def _worst(values: Array) -> float:
    flat = values.reshape(-1)
    # NaN is the worst there is, and argmax finds the first.
    return float(flat[np.abs(flat).argmax()]) if flat.size else math.nan


def in_errors(
    number: int, statement: str, value: float | Array, expected: float | Array, error: float | Array,
    *, by: tuple[str, str],
) -> Claim:
    """How far a sampled mean is from what it must be, in its standard errors, the farthest of several: at most 4.5."""
    return zero(number, statement, (np.asarray(value) - expected) / np.asarray(error), 4.5, by=by)


def at_most(
    number: int, statement: str, value: Any, bound: Any, tolerance: float = 0.0, *, by: tuple[str, str]
) -> Claim:
    """value ≤ bound, give or take `tolerance`."""
    return Claim(number, statement, by, float(value), float(bound), tolerance, "<=")


def at_least(
    number: int, statement: str, value: Any, bound: Any, tolerance: float = 0.0, *, by: tuple[str, str]
) -> Claim:
    """value ≥ bound, give or take `tolerance`."""
    return Claim(number, statement, by, float(value), float(bound), tolerance, ">=")


@dataclass
class Result:
    """A chapter's claims, figures by file name (without a suffix), and `notes`: what is worth a line, unjudged."""

    claims: list[Claim] = field(default_factory=list)
    figures: dict[str, Figure] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """How many claims do not hold."""
        return sum(not claim.passed for claim in self.claims)


def show(value: float) -> str:
    """A number as a table shows it: six digits, small and large ones with an exponent."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:.6g}" if 1e-4 <= abs(value) < 1e7 else f"{value:.3e}"


def as_text(claims: Iterable[Claim]) -> str:
    """Claims as text, three lines each: the verdict and the statement, the numbers, the two computations."""
    return "\n".join(
        f"{'ok  ' if claim.passed else 'FAIL'} {claim.statement}\n"
        f"     {show(claim.value)} {claim.relation} {show(claim.expected)}, tolerance {show(claim.tolerance)}"
        f"{' relative' if claim.relative else ''}\n     {claim.by[0]} | {claim.by[1]}"
        for claim in claims
    )
