"""Chapter 2: every claim holds at its tolerance, for more than one seed.

Budget: about 14 s.
"""

from __future__ import annotations

import re

import pytest
from study_mistakes import record

from study import notebook
from study.prose import readable, says
from vae_np.study import run_chapter

NAME = "02-latent-variables"


def test_every_claim_holds_and_the_figures_are_drawn() -> None:
    result = run_chapter(NAME, 0)
    readable(result)
    assert [claim for claim in result.claims if not claim.passed] == []
    record.check(result.claims)
    assert {claim.id for claim in result.claims} == {4, 5, 6, 7, 8}
    assert set(result.figures) == {"02-mixture", "02-covariance"}
    assert all(len(claim.statement) <= 70 for claim in result.claims)
    (missed,) = re.findall(r"miss log p\(x\) by (\S+) nats", result.notes[0])
    (learned,) = re.findall(r"σ = (\S+) is learned", result.notes[1])
    says(2, f"that miss $\\log p(x)$ by {missed} nats", f"The learned standard deviation is {learned},")


def test_its_notebook_runs_from_top_to_bottom() -> None:
    notebook.in_a_copy(NAME).check(NAME)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_claim_holds_for_another_seed(seed: int) -> None:
    result = run_chapter(NAME, seed)
    assert [claim for claim in result.claims if not claim.passed] == []
