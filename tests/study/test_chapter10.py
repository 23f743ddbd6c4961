"""Chapter 10: what it prints of importance sampling's stated errors is what quadrature says.

Budget: about 10 s.
"""

from __future__ import annotations

import numpy as np

from study import notebook
from study.prose import readable, says
from vae_np.study import chapter10_likelihood as chapter
from vae_np.study import plain, run_chapter

NAME = "10-likelihood"


def test_the_notes_and_the_figure_are_made() -> None:
    result = run_chapter(NAME, 0)
    readable(result)
    assert result.claims == []
    assert len(result.notes) == len(chapter.STEPS)
    assert set(result.figures) == {"10-stated-errors"}
    assert len({ax.get_xlim() + ax.get_ylim() for ax in result.figures["10-stated-errors"].axes}) == 1


def test_some_estimates_are_off_as_the_prose_says_and_most_of_those_are_flagged() -> None:
    found = [chapter.judged(0, steps) for steps in chapter.STEPS]
    off = [int(each.off.sum()) for each in found]
    caught = sum(int((each.off & each.flagged).sum()) for each in found)
    flagged = sum(int(each.flagged.sum()) for each in found)
    assert off[0] == 0
    says(
        10,
        f"{off[1]} are after 1,000, the worst by {np.abs(found[1].errors).max():.1f} of them",
        f"and {off[2]} are after 3,000",
        f"Of these {sum(off)}, $\\hat k$ flags {caught}; in all it flags {flagged} of the 600 estimates",
    )


def test_a_harmless_look_can_mislead() -> None:
    found = chapter.judged(1, 1000)
    worst = np.abs(found.errors).argmax()
    short = found.log_prob[worst] - found.estimate.log_likelihood[worst]
    says(
        10,
        f"{found.off.sum()} are off, the worst by {short:.2f} nats at an effective sample size of "
        f"{found.estimate.ess[worst]:.0f}, which looks harmless, "
        f"and {(found.off & found.flagged).sum()} of them are flagged",
    )


def test_the_judge_is_right() -> None:
    found = chapter.judged(0, chapter.STEPS[-1])
    again = plain.log_evidence(found.decoder, found.x[:20], count=plain.STEEP)
    np.testing.assert_allclose(found.log_prob[:20], again, atol=1e-8)


def test_parabola_points_lie_near_it() -> None:
    x = chapter.parabola(4000, np.random.default_rng(0))
    residual = x[:, 1] - (x[:, 0] ** 2 - 1)
    # Noise of 0.05 in x₂, and of 0.05 times the slope 2 x₁ from x₁.
    assert abs(residual.std() - 0.05 * np.sqrt(1 + 4)) < 0.01


def test_its_notebook_runs_from_top_to_bottom() -> None:
    notebook.in_a_copy(NAME).check(NAME)
