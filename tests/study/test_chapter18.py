"""Chapter 18: every row of claim 35 holds, for more than one seed; the figure is drawn.

Budget: about 5 s.
"""

from __future__ import annotations

import pytest
from study_mistakes import record

from study import notebook
from study.prose import readable
from vae_np.study import chapter18_priors_and_conditions as chapter
from vae_np.study import run_chapter

NAME = "18-priors-and-conditions"


def test_every_claim_holds_and_the_figure_is_drawn() -> None:
    result = run_chapter(NAME, 0)
    readable(result)
    assert [claim for claim in result.claims if not claim.passed] == []
    record.check(result.claims)
    assert {claim.id for claim in result.claims} == {35}
    assert set(result.figures) == {"18-priors"}
    assert len(result.notes) == len(chapter.PRIORS) == 3


def test_its_notebook_runs_from_top_to_bottom() -> None:
    notebook.in_a_copy(NAME).check(NAME)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_claim_holds_for_another_seed(seed: int) -> None:
    assert [claim for claim in run_chapter(NAME, seed).claims if not claim.passed] == []
