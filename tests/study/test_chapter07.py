"""Chapter 7: every claim holds at its tolerance, for more than one seed.

Budget: about 7 s.
"""

from __future__ import annotations

import pytest
from study_mistakes import record

from study import notebook
from study.prose import readable
from vae_np.study import run_chapter

NAME = "07-vae-objective"


def test_every_claim_holds_and_the_figures_are_drawn() -> None:
    result = run_chapter(NAME, 0)
    readable(result)
    assert [claim for claim in result.claims if not claim.passed] == []
    record.check(result.claims)
    assert {claim.id for claim in result.claims} == {26, 27, 28, 30}
    assert set(result.figures) == {"07-two-forms", "07-where-z-counts"}
    assert max(len(claim.statement) for claim in result.claims) <= 70


def test_its_notebook_runs_from_top_to_bottom() -> None:
    notebook.in_a_copy(NAME).check(NAME)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_claim_holds_for_another_seed(seed: int) -> None:
    assert [claim for claim in run_chapter(NAME, seed).claims if not claim.passed] == []
