"""Chapter 16: both parts of a two-layer gap, a prior that is learned, and chains in normals, as the prose says.

Budget: about 4 s.
"""

from __future__ import annotations

import numpy as np
from study_mistakes import record

from study import notebook
from study.prose import readable, says
from vae_np.study import chapter16_two_stochastic_layers as chapter
from vae_np.study import run_chapter

NAME = "16-two-stochastic-layers"


def test_the_claim_holds_and_the_figure_is_made() -> None:
    result = run_chapter(NAME)
    assert [claim.statement for claim in result.claims if not claim.passed] == []
    record.check(result.claims)
    readable(result)
    assert set(result.figures) == {"16-gap-and-prior"}


def test_the_claim_holds_with_other_random_numbers() -> None:
    assert all(claim.passed for claim in chapter.CLAIMS[33](1))


def test_the_prose_has_the_numbers_that_come_out() -> None:
    model, x = chapter.linear(0)
    below, above = (part.mean() for part in model.gap(x, *chapter.other(model)))
    z = chapter.draws(0)
    kurtosis = ((z - z.mean()) ** 4).mean() / z.var() ** 2
    says(
        16,
        f"{below:.3f} nats of the gap lie in $z_1$ and {above:.3f} in $z_2$",
        f"kurtosis of {kurtosis:.2f}",
        "three weights for each of five $x$",
    )


def test_the_two_layers_posteriors_are_diagonal_and_another_q_is_not_exact() -> None:
    model, x = chapter.linear(0)
    for covariance in (model.lower_posterior(x)[1], model.upper_posterior(x[:, :2])[1]):
        assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 1e-14
    assert min(part.min() for part in model.gap(x, *chapter.other(model))) > 0.01


def test_the_curved_prior_is_a_density() -> None:
    z = np.linspace(-12, 12, 2401)
    assert abs(chapter.prior_density(0, z).sum() * 0.01 - 1) < 1e-9


def test_its_notebook_runs_from_top_to_bottom() -> None:
    notebook.in_a_copy(NAME).check(NAME)
