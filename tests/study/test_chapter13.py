"""Chapter 13: the bounds of several samples, and the noise of their gradients, as the prose says.

Budget: about 6 s.
"""

from __future__ import annotations

import numpy as np
import pytest

from study import notebook
from study.prose import readable, says
from vae_np.study import Result, plain
from vae_np.study import chapter13_objectives as chapter

NAME = "13-objectives"


def test_the_notes_and_the_figure_are_made() -> None:
    result = Result(figures=chapter.figures(0), notes=chapter.notes(0))
    readable(result)
    assert chapter.CLAIMS == {}
    assert len(result.notes) == len(chapter.proposals()) + 2
    assert set(result.figures) == {"13-bounds-and-gradients"}


@pytest.mark.parametrize("name", ["q = prior", "the posterior's moments", "half as wide"])
def test_each_bound_begins_at_the_elbo_rises_and_stays_below(name: str) -> None:
    found = chapter.bounds(0, name)
    decoder, x = chapter._pixels(), chapter.X[0]
    elbo = plain.elbo(decoder, x, np.array([found.mu]), np.array([found.sigma]))
    assert abs(found.mean[0] - elbo) < 4.5 * found.stderr[0]
    slack = 4.5 * (found.stderr[1:] + found.stderr[:-1])
    assert (np.diff(found.mean) > -slack).all()
    top = plain.log_evidence(decoder, x[None])[0]
    assert (found.mean < top + 4.5 * found.stderr).all()


def test_the_gap_is_what_the_weights_variance_says_and_the_prose() -> None:
    top = float(chapter.posterior().log_prob[0])
    prior = chapter.bounds(0, "q = prior")
    gap, theory = top - prior.mean, prior.chi_squared / (2 * chapter.SAMPLES)
    # To first order in 1/S, so not for the first of them.
    np.testing.assert_allclose(gap[3:], theory[3:], rtol=0.25, atol=4.5 * float(prior.stderr.max()))
    says(13, f"from {gap[0]:.2f} nats with one sample to {gap[-1]:.3f} with 128")


def test_sticking_the_landing_has_no_variance_at_the_posterior() -> None:
    assert chapter.variance(0, "stl", 0.0) < 1e-25
    with_score = chapter.variance(0, "iwae", 0.0)
    assert with_score > 0.1
    assert chapter.variance(0, "stl", 0.75) > 1e-3
    says(13, f"the variance {with_score:.2f} there, and without the score none at all")


def test_signal_to_noise_falls_for_the_standard_gradient_and_rises_for_the_other() -> None:
    standard, double = (
        chapter.signal_to_noise(0, name, 64) / chapter.signal_to_noise(0, name, 1) for name in ("iwae", "dreg")
    )
    assert standard < 0.8
    assert double > 2
    says(13, f"by a factor of {standard:.2f} for the standard gradient and {double:.1f} for the doubly")


def test_its_notebook_runs_from_top_to_bottom() -> None:
    notebook.in_a_copy(NAME).check(NAME)
