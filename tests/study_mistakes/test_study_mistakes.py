"""Every row of every claim can fail: mistakes planted in what it speaks of, and the rows that each is recorded to turn.

Budget: about 40 s (marked slow: some minutes more).
"""

from __future__ import annotations

import pytest

from study_mistakes import pages, record
from study_mistakes.mistakes import EVIDENCE, LIKELIHOOD, MISTAKES
from study_mistakes.planting import COMPUTE, SLOW, Mistake, turned
from vae_np.study.claims import CLAIMS

# Rows that state a level of log p(x) as a quadrature has it, and rows on the normalisation of p(x|z) or a level of
# log p(x) or the ELBO: what adds a constant to it has to turn them. By claim, and how many of each.
EVIDENCE_TURNS = {4: 8, 10: 1, 12: 1, 16: 2, 19: 1}


def _quick(mistake: Mistake) -> Mistake | None:
    """The part of it that is tried on claims that take no more than a moment."""
    claims = tuple(claim for claim in mistake.claims if claim not in SLOW | record.PENDING)
    return Mistake(mistake.text, mistake.edits, claims) if claims and not mistake.fresh else None


QUICK = [quick for mistake in MISTAKES if (quick := _quick(mistake)) is not None]


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
    tried = [mistake for mistake in MISTAKES if not record.PENDING & set(mistake.claims)]
    assert [mistake.text for mistake in tried if not record.read()["turned"].get(mistake.text)] == []
    assert len({mistake.text for mistake in MISTAKES}) == len(MISTAKES)


def test_all_claims_are_recorded() -> None:
    assert {int(claim) for claim in record.read()["rows"]} == set(COMPUTE) - record.PENDING
    assert set(COMPUTE) == set(CLAIMS) == set(range(1, 32))


def test_five_nats_on_log_p_turn_the_rows_that_state_it() -> None:
    found = record.read()["turned"][EVIDENCE.text]
    assert {int(claim): len(rows) for claim, rows in found.items()} == EVIDENCE_TURNS


@pytest.mark.parametrize("mistake", QUICK, ids=lambda mistake: mistake.text)
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


def test_likelihood_shift_reaches_the_levels_of_the_bound() -> None:
    found = record.read()["turned"][LIKELIHOOD.text]
    assert {"11", "13", "16", "26"} <= set(found)
