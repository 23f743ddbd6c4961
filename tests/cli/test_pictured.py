"""What the pictures of a run share: the points of the plane, and the model's density over them.

Budget: about 1 s.
"""

from __future__ import annotations

import numpy as np
import pytest

from vae_np import VAE, data
from vae_np.cli.pictured import POINTS, density_around, points_of
from vae_np.exact import quadrature
from vae_np.exact.decoder import Decoder


@pytest.mark.parametrize("latent", [1, 2])
def test_the_density_is_the_models(latent: int) -> None:
    points = data.rings(100, 0)[0]
    vae = VAE(2, hidden=(8,), latent=latent, likelihood="normal-fixed", sigma=0.5, backend="numpy", seed=1)
    for name, view in vae.parameters.items():
        view *= 1.0 if name.startswith("encoder") else 3.0
    shaded = density_around(vae, points, 0)
    assert shaded is not None
    first, second, values = shaded
    assert values.shape == (len(second), len(first))
    # Every ninth place of the lattice, by quadrature.
    rows, columns = np.meshgrid(np.arange(0, len(second), 9), np.arange(0, len(first), 9), indexing="ij")
    places = np.stack([first[columns.ravel()], second[rows.ravel()]], axis=1)
    decoder = Decoder.of(vae.arch, vae.parameters)
    nodes = 4001 if latent == 1 else 241
    exact = np.exp(quadrature.log_likelihood(decoder, places, rule="trapezoid", nodes=nodes).log_prob)
    found = values[rows.ravel(), columns.ravel()]
    scale = found @ exact / (found @ found)
    assert np.abs(scale * found - exact).max() < 0.02 * exact.max()
    assert (first[0], second[0]) < (points[:, 0].min(), points[:, 1].min())


def test_a_bernoulli_likelihood_has_no_density() -> None:
    assert density_around(VAE(2, hidden=(4,), latent=1, backend="numpy", seed=0), np.zeros((3, 2)), 0) is None


def test_only_two_columns_that_form_no_image_are_points() -> None:
    found = points_of(data.load("rings", likelihood="normal"))
    assert found is not None
    assert found.shape == (POINTS, 2)
    assert points_of(data.load("bars")) is None
