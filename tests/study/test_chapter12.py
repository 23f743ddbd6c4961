"""Chapter 12: every claim holds at its tolerance, for more than one seed.

Budget: about 30 s.
"""

from __future__ import annotations

import numpy as np
import pytest
from study_mistakes import record

from study import notebook
from study.prose import readable, says
from vae_np.study import chapter12_perspectives, run_chapter
from vae_np.study.chapter12_perspectives import bars_distance, bars_images, ring_distance, ring_log_density

NAME = "12-perspectives"


def test_every_claim_holds_and_the_figures_are_drawn() -> None:
    rings, bars = (pair.distances for pair in (chapter12_perspectives._rings(0), chapter12_perspectives._bars(0)))
    result = run_chapter(NAME, 0)
    readable(result)
    assert [claim for claim in result.claims if not claim.passed] == []
    record.check(result.claims)
    says(
        12,
        f"Rings: {rings[0].mean():.2f} on average for the VAE, {rings[1].mean():.2f} for the autoencoder",
        f"Bars: {bars[0].mean():.2f} and {bars[1].mean():.2f} wrong pixels; "
        f"{(bars[0] == 0).mean():.0%} of the VAE's samples are images of bars, and {(bars[1] == 0).mean():.0%} of the",
    )
    assert {claim.id for claim in result.claims} == {29, 31}
    assert set(result.figures) == {
        "12-encoder-deleted",
        "12-autoencoder-rings",
        "12-autoencoder-distance",
        "12-autoencoder-digits",
    }
    assert max(len(claim.statement) for claim in result.claims) <= 70


def test_distances_are_exact() -> None:
    points = np.array([[1.0, 0.0], [0.0, -2.0], [1.5, 0.0], [0.0, 0.0], [0.0, 3.0]])
    np.testing.assert_allclose(ring_distance(points), [0, 0, 0.5, 1, 1], atol=1e-15)
    images = bars_images(3)
    assert len(images) == 14
    assert bars_distance(images).max() == 0
    assert bars_distance(np.array([[1, 1, 1, 0, 0, 0, 0, 1, 0], [0, 0, 0, 0, 1, 0, 0, 0, 0]])).tolist() == [1, 1]


def test_the_density_of_rings_integrates_to_one() -> None:
    axis = np.linspace(-3, 3, 601)
    z = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    assert np.exp(ring_log_density(z)).sum() * 0.01**2 == pytest.approx(1, abs=1e-9)


def test_its_notebook_runs_from_top_to_bottom() -> None:
    notebook.in_a_copy(NAME).check(NAME)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_claim_holds_for_another_seed(seed: int) -> None:
    assert [claim for claim in run_chapter(NAME, seed).claims if not claim.passed] == []
