"""Chapter 4: every claim holds at its tolerance, for more than one seed.

Budget: about 5 s.
"""

from __future__ import annotations

import re

import pytest
from study_mistakes import record

from study import notebook
from study.prose import readable, says
from vae_np.study import run_chapter

NAME = "04-variational-inference"


def test_every_claim_holds_and_the_figures_are_drawn() -> None:
    result = run_chapter(NAME, 0)
    readable(result)
    assert [claim for claim in result.claims if not claim.passed] == []
    record.check(result.claims)
    assert {claim.id for claim in result.claims} == set(range(11, 17))
    assert set(result.figures) == {"04-bound-touches-evidence", "04-two-directions"}
    value = {claim.statement: claim.value for claim in result.claims}
    (posterior, _, forward) = re.findall(r"\d\S*(?= under)", result.notes[0])
    best, local = (
        value[f"two modes: {which}"]
        for which in ("the best ELBO from several starts", "ELBO where a climb from the prior ends")
    )
    says(
        4,
        f"gets close sooner and then stays {value['its gap, log p(x) − ELBO: worst of 12 x']:.3f} nats short",
        f"puts {float(forward):.0%} of its mass between",
        f"posterior has {float(posterior):.1%}",
        f"| ${best:.3f}$ | the two best",
        f"| ${local:.3f}$ | a local maximum",
        f"$\\log p(x)$ is ${best + value['two modes: log p(x) − the best ELBO']:.3f}$",
        f"local maximum, {best - local:.1f} nats below the best",
    )


def test_another_seed_is_another_computation() -> None:
    first, second = ({claim.statement: claim.value for claim in run_chapter(NAME, seed).claims} for seed in (0, 1))
    for statement in ("curved: largest σ* over smallest, 16 x", "reverse KL: variance 1 is 1/Λⱼⱼ"):
        assert first[statement] != second[statement]


def test_its_notebook_runs_from_top_to_bottom() -> None:
    notebook.in_a_copy(NAME).check(NAME)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_claim_holds_for_another_seed(seed: int) -> None:
    assert [claim for claim in run_chapter(NAME, seed).claims if not claim.passed] == []
