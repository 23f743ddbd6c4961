"""What the campaign found, in turned.json beside this file: every claim's rows, and which each mistake turned."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from vae_np.study import Claim

from .mistakes import MISTAKES
from .planting import COMPUTE, rows, turned

FILE = Path(__file__).with_name("turned.json")


def read() -> dict[str, Any]:
    """`rows`: by claim, the statement and `by` of each; `turned`: by mistake, by claim, the statements."""
    return dict(json.loads(FILE.read_text(encoding="utf-8")))


def campaign(claims: Iterable[int] = COMPUTE, *, say: bool = True) -> None:
    """Run these claims with every mistake that is tried on them, and record what turned."""
    found = read() if FILE.exists() else {"rows": {}, "turned": {}}
    wanted = set(claims)
    for claim in sorted(wanted):
        computed = rows(claim)
        fallen = [row.statement for row in computed if not row.passed]
        if fallen:
            raise SystemExit(f"claim {claim} does not hold as it is: {fallen}")
        found["rows"][str(claim)] = [[row.statement, *row.by] for row in computed]
    for mistake in MISTAKES:
        some = tuple(claim for claim in mistake.claims if claim in wanted)
        if not some:
            continue
        outcome = turned(type(mistake)(mistake.text, mistake.edits, some, mistake.fresh))
        before = found["turned"].setdefault(mistake.text, {})
        before.update({str(claim): statements for claim, statements in outcome.items()})
        if say:
            counts = ", ".join(f"{claim}: {len(statements)}" for claim, statements in outcome.items())
            print(f"{mistake.text}: {counts}", flush=True)
        # As it goes, for a campaign takes minutes.
        write(found)
    write(found)


def write(found: dict[str, Any]) -> None:
    """Keep what the campaign found, in the order of claims and mistakes."""
    order = {mistake.text: number for number, mistake in enumerate(MISTAKES)}
    known = sorted((text for text in found["turned"] if text in order), key=lambda text: order[text])
    content = {
        "rows": {claim: found["rows"][claim] for claim in sorted(found["rows"], key=int)},
        "turned": {
            text: {
                claim: found["turned"][text][claim]
                for claim in sorted(found["turned"][text], key=int)
                if found["turned"][text][claim]
            }
            for text in known
        },
    }
    FILE.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def check(claims: Sequence[Claim]) -> None:
    """Whether a chapter's rows are those of the record, word for word; raises AssertionError."""
    found = read()["rows"]
    numbers = list(dict.fromkeys(claim.id for claim in claims))
    shown = {str(number): [[c.statement, *c.by] for c in claims if c.id == number] for number in numbers}
    assert shown == {str(number): found[str(number)] for number in numbers}
    assert max(len(claim.statement) for claim in claims) <= 75
    assert max(len(" | ".join(claim.by)) for claim in claims) <= 110


def by_row(found: dict[str, Any]) -> dict[tuple[int, str], list[str]]:
    """The mistakes that turned each row."""
    result: dict[tuple[int, str], list[str]] = {
        (int(claim), row[0]): [] for claim, listed in found["rows"].items() for row in listed
    }
    for text, claims in found["turned"].items():
        for claim, statements in claims.items():
            for statement in statements:
                result[int(claim), statement].append(text)
    return result


def unturned(found: dict[str, Any]) -> list[tuple[int, str]]:
    """The rows that no mistake turned: they prove nothing."""
    return [row for row, mistakes in by_row(found).items() if not mistakes]
