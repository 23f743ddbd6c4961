"""Chapter 3: every claim holds at its tolerance, for more than one seed.

Budget: about 9 s.
"""

from __future__ import annotations

import pytest
from study_mistakes import record

from study import notebook
from study.prose import readable, says
from vae_np.study import chapter03_intractable, run_chapter

NAME = "03-intractable"


def test_every_claim_holds_and_the_figures_are_drawn() -> None:
    wide, grids = chapter03_intractable._biases(0)[-1], chapter03_intractable._grids(0)
    result = run_chapter(NAME, 0)
    readable(result)
    assert [claim for claim in result.claims if not claim.passed] == []
    record.check(result.claims)
    points = [round(grid.needed(1e-6) ** (1 / grid.latent)) for grid in grids]
    says(
        3,
        f"256 pixels cost {-wide.at(1)[0]:.0f} nats at one draw and still {-wide.at(16)[0]:.1f} at sixteen",
        f"it takes {points[0]} points for one latent, ${points[1]}^2$ for two and ${points[2]}^3$ for three",
        f"(dashed) ${points[0] ** 20 / 1e37:.0f} \\cdot 10^{{37}}$ for the twenty latents",
    )
    assert {claim.id for claim in result.claims} == {9, 10}
    assert set(result.figures) == {"03-prior-monte-carlo", "03-quadrature"}
    assert all(len(claim.statement) <= 70 for claim in result.claims)
    # The four widths and three dimensions that the figures show each have numbers of their own.
    statements = " ".join(claim.statement for claim in result.claims)
    assert all(f"D = {width}," in statements for width in (4, 16, 64, 256))
    assert all(f"K = {latent}" in statements for latent in (1, 2, 3))


def test_its_notebook_runs_from_top_to_bottom() -> None:
    notebook.in_a_copy(NAME).check(NAME)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_claim_holds_for_another_seed(seed: int) -> None:
    result = run_chapter(NAME, seed)
    assert [claim for claim in result.claims if not claim.passed] == []
