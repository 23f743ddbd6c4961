"""Chapter 10: what it prints of importance sampling's stated errors is what quadrature says.

Budget: about 10 s.
"""

from __future__ import annotations

import numpy as np

from vae_np.evaluation import pareto
from vae_np.study import chapter10_likelihood as chapter
from vae_np.study import plain, run_chapter

NAME = "10-likelihood"


def test_the_notes_and_the_figure_are_made() -> None:
    result = run_chapter(NAME, 0)
    assert result.claims == []
    assert len(result.notes) == len(chapter.STEPS)
    assert set(result.figures) == {"10-stated-errors"}


def test_some_estimates_are_off_and_most_of_those_are_flagged() -> None:
    found = [chapter.judged(0, steps) for steps in chapter.STEPS]
    off = sum(int(each.off.sum()) for each in found)
    caught = sum(int((each.off & each.flagged).sum()) for each in found)
    # Were the errors what they say, one in 16,000 would be off by more than 4 of them.
    assert off >= 5
    assert 0 < caught <= off
    for each in found:
        assert (each.flagged == (each.estimate.tail > pareto.threshold(chapter.SAMPLES))).all()
        worst = np.abs(each.errors).max()
        assert (np.abs(each.estimate.log_likelihood - each.log_prob) <= worst * each.estimate.stderr * (1 + 1e-12)).all()


def test_the_judge_is_right() -> None:
    found = chapter.judged(0, chapter.STEPS[-1])
    again = plain.log_evidence(found.decoder, found.x[:20], count=plain.STEEP)
    np.testing.assert_allclose(found.log_prob[:20], again, atol=1e-8)


def test_parabola_points_lie_near_it() -> None:
    x = chapter.parabola(4000, np.random.default_rng(0))
    residual = x[:, 1] - (x[:, 0] ** 2 - 1)
    # Noise of 0.05 in x₂, and of 0.05 times the slope 2 x₁ from x₁.
    assert abs(residual.std() - 0.05 * np.sqrt(1 + 4)) < 0.01
