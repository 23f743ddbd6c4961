"""The report of a check: its findings as text, as plain values, as HTML and as an exception."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from vae_np.gradcheck import render
from vae_np.gradcheck.findings import Findings

SCHEMA = "vae_np.gradcheck"
VERSION = 1


@dataclass
class Report(Findings):
    """The result of a gradient check: its findings, and how they are shown and raised."""

    def raise_if_failed(self) -> Report:
        """Raise AssertionError with the whole table unless the check passed; return the report otherwise."""
        if not self.passed:
            raise GradientError(self) from self.exception
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values, with None for numbers that are not finite."""
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
                "precision": row.precision,
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
        return render.headline(self)


class GradientError(AssertionError):
    """A gradient is wrong, or not known to be right; `report` holds the details."""

    def __init__(self, report: Report) -> None:
        super().__init__("\n" + str(report))
        self.report = report


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
