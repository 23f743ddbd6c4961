"""Chapter 8: the gradient by hand beside complex steps and differences, and two planted mistakes.

Budget: about 2 s.
"""

from __future__ import annotations

import numpy as np

from study import notebook
from study.prose import readable, says
from vae_np import ops
from vae_np.elbo import FORMS
from vae_np.study import Result
from vae_np.study import chapter08_backpropagation as chapter

NAME = "08-backpropagation"


def test_the_notes_and_the_figure_are_made() -> None:
    result = Result(figures=chapter.figures(0), notes=chapter.notes(0))
    readable(result)
    assert chapter.CLAIMS == {}
    assert len(result.notes) == 2
    assert set(result.figures) == {"08-checked-by-numbers"}


def test_every_derivative_agrees_as_the_prose_says() -> None:
    found = chapter.checked(0)
    worst = max(max(found[form].values()) for form in FORMS)
    assert worst < 1e-14
    assert 1e-12 < max(found["differences"].values()) < 1e-8
    says(
        8,
        f"all {chapter.start(0)[0].count} derivatives of a small VAE",
        "differ by less than $10^{-14}$ of their tensor's largest",
        "central differences, with $h = 10^{-5}$, by less than $10^{-8}$",
    )


def test_one_mistake_is_seen_and_the_other_is_not_as_the_prose_says() -> None:
    found = chapter.checked(0)
    assert max(found["quarter"].values()) > 0.01
    # Only what the logvar head passes on is wrong: the decoder and the head of mu are not.
    assert {name for name, error in found["quarter"].items() if error > 1e-9} == {
        "encoder.hidden.0.weight", "encoder.hidden.0.bias", "encoder.logvar.weight", "encoder.logvar.bias",
    }  # fmt: skip
    assert max(found["variance"].values()) < 1e-12
    assert abs(chapter.spread(0, ops) - np.e) < 0.05
    wrong, right = chapter.spread(0, chapter.VARIANCE), chapter.spread(0, ops)
    says(8, f"the variance {wrong:.2f} where $v = 1$, and not {right:.2f}")


def test_complex_steps_get_better_with_smaller_steps_and_differences_do_not() -> None:
    differences = chapter.by_step(0, np.array([1e-1, 1e-5, 1e-13]), is_complex=False)
    assert differences[1] < 1e-4 * min(differences[0], differences[2])
    assert (chapter.by_step(0, np.array([1e-12, 1e-30]), is_complex=True) < 1e-13).all()


def test_its_notebook_runs_from_top_to_bottom() -> None:
    notebook.in_a_copy(NAME).check(NAME)
