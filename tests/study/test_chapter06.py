"""Chapter 6: every claim holds at its tolerance, for more than one seed.

Budget: about 15 s.
"""

from __future__ import annotations

import pytest
from study_mistakes import record

from vae_np.study import run_chapter

NAME = "06-amortisation"


def test_every_claim_holds_and_the_figures_are_drawn() -> None:
    result = run_chapter(NAME, 0)
    assert [claim for claim in result.claims if not claim.passed] == []
    record.check(result.claims)
    assert {claim.id for claim in result.claims} == {22, 23, 24, 25}
    assert set(result.figures) == {"06-gap-in-two", "06-q-and-posterior", "06-cost"}
    assert max(len(claim.statement) for claim in result.claims) <= 70


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_claim_holds_for_another_seed(seed: int) -> None:
    assert [claim for claim in run_chapter(NAME, seed).claims if not claim.passed] == []
