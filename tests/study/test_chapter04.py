"""Chapter 4: every claim holds at its tolerance, for more than one seed.

Budget: about 2 s.
"""

from __future__ import annotations

import pytest
from study_mistakes import record

from vae_np.study import run_chapter

NAME = "04-variational-inference"


def test_every_claim_holds_and_the_figures_are_drawn() -> None:
    result = run_chapter(NAME, 0)
    assert [claim for claim in result.claims if not claim.passed] == []
    record.check(result.claims)
    assert {claim.id for claim in result.claims} == set(range(11, 17))
    assert set(result.figures) == {"04-bound-touches-evidence", "04-two-directions"}


def test_another_seed_is_another_computation() -> None:
    first, second = ({claim.statement: claim.value for claim in run_chapter(NAME, seed).claims} for seed in (0, 1))
    for statement in ("curved: largest σ* over smallest, 16 x", "reverse KL: variance 1 is 1/Λⱼⱼ"):
        assert first[statement] != second[statement]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_claim_holds_for_another_seed(seed: int) -> None:
    assert [claim for claim in run_chapter(NAME, seed).claims if not claim.passed] == []
