"""Every row of every claim can fail: mistakes planted in what it speaks of, and the rows that each is recorded to turn.

Budget: about 70 s (marked slow: some minutes more).
"""

from __future__ import annotations

import pytest

from study_mistakes import pages, record
from study_mistakes.mistakes import EVIDENCE, LIKELIHOOD, MISTAKES
from study_mistakes.planting import COMPUTE, SLOW, Mistake, turned
from vae_np.study.claims import CLAIMS

# How many rows of each claim the two shifts turn: all that state a level of log p(x) as one of the package's
# quadratures has it; and all on the normalisation of p(x|z), or on a level of log p(x) or of the ELBO. Rows of
# differences are blind to both.
EVIDENCE_TURNS = {1: 1, 3: 2, 4: 8, 5: 2, 6: 3, 8: 1, 9: 5, 10: 1, 12: 1, 16: 2, 19: 1, 22: 1, 23: 2, 24: 4, 29: 2}
LIKELIHOOD_TURNS = {1: 1, 3: 2, 4: 8, 5: 6, 6: 3, 7: 3, 8: 1, 9: 10, 10: 1, 11: 1, 12: 3, 13: 1, 16: 3, 17: 1, 18: 4}
LIKELIHOOD_TURNS |= {19: 3, 20: 2, 22: 1, 23: 2, 24: 2, 26: 2, 27: 1, 29: 1, 30: 3}


def _quick(mistake: Mistake) -> Mistake | None:
    """The part of it that turns rows of claims that take no more than a moment."""
    turns = record.read()["turned"].get(mistake.text, {})
    claims = tuple(claim for claim in mistake.claims if claim not in SLOW and str(claim) in turns)
    return Mistake(mistake.text, mistake.edits, claims) if claims and not mistake.fresh else None


# One that is tried on many claims takes as long as all of their chapters.
_MANY = 3
QUICK = [
    pytest.param(quick, marks=[pytest.mark.slow] if len(set(mistake.claims) - SLOW) > _MANY else [], id=quick.text)
    for mistake in MISTAKES
    if (quick := _quick(mistake)) is not None
]


def _missed(mistake: Mistake) -> list[tuple[int, str]]:
    """The rows that the mistake is recorded to turn and does not."""
    recorded, found = record.read()["turned"].get(mistake.text, {}), turned(mistake)
    return [
        (claim, statement)
        for claim in mistake.claims
        for statement in recorded.get(str(claim), [])
        if statement not in found[claim]
    ]


def test_every_row_is_turned_by_a_mistake() -> None:
    assert record.unturned(record.read()) == []


def test_every_mistake_turns_a_row() -> None:
    assert [mistake.text for mistake in MISTAKES if not record.read()["turned"].get(mistake.text)] == []
    assert len({mistake.text for mistake in MISTAKES}) == len(MISTAKES)


def test_all_claims_are_recorded() -> None:
    assert {int(claim) for claim in record.read()["rows"]} == set(COMPUTE)
    assert set(COMPUTE) == set(CLAIMS) == set(range(1, 36))


@pytest.mark.parametrize(("shift", "turns"), [(EVIDENCE, EVIDENCE_TURNS), (LIKELIHOOD, LIKELIHOOD_TURNS)])
def test_a_shift_turns_every_row_that_states_a_level(shift: Mistake, turns: dict[int, int]) -> None:
    found = record.read()["turned"][shift.text]
    assert {int(claim): len(rows) for claim, rows in found.items()} == turns


@pytest.mark.parametrize("mistake", QUICK)
def test_a_mistake_turns_the_rows_that_it_is_recorded_to_turn(mistake: Mistake) -> None:
    assert _missed(mistake) == []


@pytest.mark.slow
@pytest.mark.parametrize("mistake", [m for m in MISTAKES if m.slow], ids=lambda mistake: mistake.text)
def test_a_slow_one_as_well(mistake: Mistake) -> None:
    assert _missed(mistake) == []


@pytest.mark.parametrize("name", pages.PAGES)
def test_a_page_is_up_to_date(name: str) -> None:
    written = (pages.DERIVATION / name).read_text(encoding="utf-8")
    assert written == pages.PAGES[name](), "write it anew: python -m tests.study_mistakes"
