"""Chapter 14: annealing from both sides, and the mode that importance sampling misses, as the prose says.

Budget: about 6 s.
"""

from __future__ import annotations

import math

import numpy as np

from study import notebook
from study.prose import readable, says
from vae_np.study import Result, plain
from vae_np.study import chapter14_annealing as chapter

NAME = "14-annealing"


def test_the_notes_and_the_figure_are_made() -> None:
    result = Result(figures=chapter.figures(0), notes=chapter.notes(0))
    readable(result)
    assert chapter.CLAIMS == {}
    assert len(result.notes) == 3
    assert set(result.figures) == {"14-both-sides"}


def test_the_judge_is_right() -> None:
    again = plain.log_evidence(chapter.folded(), np.array([[chapter.FOLDED_X]]), count=plain.STEEP)
    assert abs(chapter.evidence() - again[0]) < 1e-8


def test_one_mode_is_missed_without_a_sign_of_it_and_annealing_finds_both() -> None:
    guess, walk = chapter.sampled(0, int(chapter.DRAWS[-1])), chapter.annealed(0, chapter.TEMPERATURES[-1])
    off = float(guess.log_likelihood[0]) - chapter.evidence()
    assert abs(off - math.log(0.5)) < 0.02
    assert guess.stderr[0] < 0.01
    assert abs(float(walk.log_likelihood[0]) - chapter.evidence()) < 4.5 * walk.stderr[0]
    says(
        14,
        f"{abs(off):.3f} nats too low, which is $\\log 2$",
        f"states an error of {guess.stderr[0]:.4f}",
        f"effective sample size of {guess.ess[0]:,.0f}",
    )


def test_both_sides_close_in_on_the_truth_as_the_prose_says() -> None:
    few, many = chapter.enclosed(0, chapter.TEMPERATURES[1]), chapter.enclosed(0, chapter.TEMPERATURES[-1])
    for sides in (few, many):
        slack = 4.5 / np.sqrt(chapter.EXAMPLES)
        assert sides.lower.mean() < slack * sides.lower.std(ddof=1)
        assert sides.upper.mean() > -slack * sides.upper.std(ddof=1)
    # Chains amplify the rounding of the processor, so that the last digits differ.
    assert abs(few.upper.mean() - few.lower.mean() - 0.9) < 0.1
    assert abs(many.upper.mean() - many.lower.mean() - 0.02) < 0.015
    says(14, "about 0.9 nats apart with 10 temperatures and 0.02 with 300")
    assert (chapter.TEMPERATURES[1], chapter.TEMPERATURES[-1], chapter.EXAMPLES) == (10, 300, 100)


def test_the_ways_densities_are_normalised_and_end_at_the_posterior() -> None:
    for temperature in (0.0, 0.1, 1.0):
        z, density = chapter.way(temperature)
        if temperature:
            assert abs(density.sum() * (z[1] - z[0]) - 1) < 2e-2
    z, density = chapter.way(1.0)
    decoder = chapter.folded()
    exact = plain.log_joint(decoder, np.array([[chapter.FOLDED_X]]), z[:, None])[0] - chapter.evidence()
    np.testing.assert_allclose(density, np.exp(exact), rtol=1e-6)


def test_its_notebook_runs_from_top_to_bottom() -> None:
    notebook.in_a_copy(NAME).check(NAME)
