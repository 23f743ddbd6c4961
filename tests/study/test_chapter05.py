"""Chapter 5: every claim holds at its tolerance, for more than one seed.

Budget: about 5 s.
"""

from __future__ import annotations

import re

import numpy as np
import pytest
from study_mistakes import record

from study import notebook
from study.prose import readable, says
from vae_np.study import run_chapter

NAME = "05-joint-optimisation"


def test_every_claim_holds_and_the_figures_are_drawn() -> None:
    result = run_chapter(NAME, 0)
    readable(result)
    assert [claim for claim in result.claims if not claim.passed] == []
    record.check(result.claims)
    assert {claim.id for claim in result.claims} == set(range(17, 22))
    assert set(result.figures) == {"05-nested-and-joint", "05-which-z", "05-gradient-noise"}
    variances = {claim.statement: claim.expected for claim in result.claims if "variance" in claim.statement}
    legends = [
        [int(count.replace(",", "")) for count in re.findall(r"([\d,]+) steps of each", str(legend.get_text()))]
        for ax in result.figures["05-nested-and-joint"].axes[1:]
        for legend in getattr(ax.get_legend(), "get_texts", list)()
    ]
    (linear, linear_joint), (logistic, logistic_joint) = np.array(legends).reshape(2, 2)
    says(
        5,
        f"{linear} steps for each of them in the middle and {logistic} on the right",
        f"where the joint climb had {linear_joint} and {logistic_joint} to find its start",
    )
    assert variances["μ = 1, s = 1: variance, pathwise"] == 4
    assert variances["μ = 2, s = 0.5: variance, score function"] == 123.75


def test_its_notebook_runs_from_top_to_bottom() -> None:
    notebook.in_a_copy(NAME).check(NAME)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_claim_holds_for_another_seed(seed: int) -> None:
    assert [claim for claim in run_chapter(NAME, seed).claims if not claim.passed] == []
