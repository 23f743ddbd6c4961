"""Chapter 1: every claim holds at its tolerance, for more than one seed.

Budget: about 6 s.
"""

from __future__ import annotations

import pytest
from study_mistakes import record

from study import notebook
from study.prose import readable, says
from vae_np.study import run_chapter

NAME = "01-generative-models"


def test_every_claim_holds_and_the_figures_are_drawn() -> None:
    result = run_chapter(NAME, 0)
    readable(result)
    assert [claim for claim in result.claims if not claim.passed] == []
    record.check(result.claims)
    assert {claim.id for claim in result.claims} == {1, 2, 3}
    assert set(result.figures) == {"01-table-or-decoder"}
    assert all(len(claim.statement) <= 70 for claim in result.claims)
    assert "10^236" in result.notes[0]
    assert "322,784" in result.notes[0]
    value = {claim.statement: claim.value for claim in result.claims}
    says(
        1,
        f"comes within {value['bars, D = 9: its lead over a decoder']:.2f} nats of it",
        f"independent pixels are {value['bars, D = 9: its lead over independent pixels']:.1f} nats below",
        f"calls {value['digits: share of test digits that the table calls impossible']:.0%} of all new digits",
    )


def test_its_notebook_runs_from_top_to_bottom() -> None:
    notebook.in_a_copy(NAME).check(NAME)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_claim_holds_for_another_seed(seed: int) -> None:
    result = run_chapter(NAME, seed)
    assert [claim for claim in result.claims if not claim.passed] == []
