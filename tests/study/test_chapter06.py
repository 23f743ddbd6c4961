"""Chapter 6: every claim holds at its tolerance, for more than one seed.

Budget: about 28 s.
"""

from __future__ import annotations

import numpy as np
import pytest
from study_mistakes import record

from study import notebook
from study.prose import readable, says
from vae_np.study import chapter06_amortisation, run_chapter

NAME = "06-amortisation"


def test_every_claim_holds_and_the_figures_are_drawn() -> None:
    gap = chapter06_amortisation._digits(0).gap
    result = run_chapter(NAME, 0)
    readable(result)
    assert [claim for claim in result.claims if not claim.passed] == []
    record.check(result.claims)
    says(6, f"which costs {gap.amortisation.max():.1f} nats")
    largest = np.sort(gap.amortisation)[::-1]
    assert largest[:3].sum() > largest.sum() / 2 > largest[:2].sum()
    assert gap.amortisation.sum() > 0.9 * gap.total.sum()
    assert {claim.id for claim in result.claims} == {22, 23, 24, 25, 32}
    assert set(result.figures) == {"06-gap-in-two", "06-q-and-posterior", "06-cost", "06-families"}
    panels = [ax for ax in result.figures["06-q-and-posterior"].axes if ax.get_xlabel()]
    spans = [high - low for ax in panels for low, high in (ax.get_xlim(), ax.get_ylim())]
    # A wide q looks wide beside a narrow one.
    assert spans == pytest.approx([spans[0]] * 8)
    assert max(len(claim.statement) for claim in result.claims) <= 70


def test_its_notebook_runs_from_top_to_bottom() -> None:
    notebook.in_a_copy(NAME).check(NAME)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_claim_holds_for_another_seed(seed: int) -> None:
    assert [claim for claim in run_chapter(NAME, seed).claims if not claim.passed] == []
