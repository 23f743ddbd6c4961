"""Chapter 9: the paths down a ravine, and what the prose says of them.

Budget: about 1 s.
"""

from __future__ import annotations

import numpy as np
import pytest

from study import notebook
from study.prose import readable, says
from vae_np.study import Result
from vae_np.study import chapter09_optimisation as chapter

NAME = "09-optimisation"


def test_the_notes_and_the_figure_are_made() -> None:
    result = Result(figures=chapter.figures(0), notes=chapter.notes(0))
    readable(result)
    assert chapter.CLAIMS == {}
    assert len(result.notes) == 2
    assert set(result.figures) == {"09-paths"}


def test_the_steps_that_each_needs_are_those_of_the_prose() -> None:
    needed = {method: [chapter.steps_needed(method, angle) for angle in (0, 45)] for method in ("plain", "adam")}
    # Plain descent does not see the direction.
    assert needed["plain"][0] == needed["plain"][1]
    says(
        9,
        f"Plain descent needs {needed['plain'][0]} steps",
        f"Adam needs {needed['adam'][0]} along the axes, and {needed['adam'][1]} when the ravine is turned by 45°",
    )


def test_plain_descent_runs_away_just_above_its_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest stable rate is 2 over the largest curvature."""
    monkeypatch.setattr(chapter, "PLAIN_RATE", 0.0201)
    places = chapter.path("plain")
    assert chapter.loss(chapter.turned(0), places[-1]) > chapter.loss(chapter.turned(0), places[0])


def test_bias_correction_keeps_the_first_steps_at_the_learning_rate() -> None:
    np.testing.assert_allclose(chapter.step_lengths(corrected=True, steps=50), 1, rtol=1e-7)
    without = chapter.step_lengths(corrected=False, steps=1000)
    # The chapter's own number: 0.1 / √0.001.
    assert without[0] == pytest.approx(0.1 / np.sqrt(0.001), rel=1e-5)
    says(9, f"the longest, number {without.argmax() + 1}, is {without.max():.2f} times too long")


def test_its_notebook_runs_from_top_to_bottom() -> None:
    notebook.in_a_copy(NAME).check(NAME)
