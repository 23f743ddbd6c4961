"""The small models that chapters share: the gradient ascent climbs the exact log-likelihood, and refuses what it can't.

Budget: about 1 s.
"""

from __future__ import annotations

import numpy as np
import pytest

from vae_np import data
from vae_np.architecture import Architecture
from vae_np.errors import InputError
from vae_np.exact import quadrature
from vae_np.study import models


def test_the_trace_is_the_exact_log_likelihood() -> None:
    x, _ = data.xor(200, 3)
    rows, share = models.distinct(x)
    decoder = models.drawn_decoder(Architecture(features=4, latent=1, hidden=(6,), activation="tanh"), 3)
    before = share @ quadrature.log_likelihood(decoder, rows).log_prob
    trace = models.fit_exactly(decoder, rows, steps=40, lr=0.05, nodes=401, weights=share)
    after = quadrature.log_likelihood(decoder, x).log_prob.mean()
    assert trace[0] == pytest.approx(before, abs=1e-7)
    assert after > before + 0.2
    assert after >= trace[-1]


def test_weights_stand_for_repeated_rows() -> None:
    x, _ = data.bars(2, 60, 1)
    rows, share = models.distinct(x)
    arch = Architecture(features=4, latent=1, hidden=(5,), activation="tanh")
    one, other = models.drawn_decoder(arch, 1), models.drawn_decoder(arch, 1)
    models.fit_exactly(one, x, steps=5, lr=0.01, nodes=201)
    models.fit_exactly(other, rows, steps=5, lr=0.01, nodes=201, weights=share)
    np.testing.assert_allclose(one.parameters.flat, other.parameters.flat, atol=1e-12)


def test_minibatches_are_taken_in_turn() -> None:
    x, _ = data.rings(6, 2)
    arch = Architecture(features=2, latent=1, hidden=(4,), activation="tanh", likelihood="normal")
    one, other = (models.wiggly_decoder(arch, 2, slope=3.0) for _ in range(2))
    trace = models.fit_exactly(one, x, steps=4, lr=0.01, nodes=101, batch=3)
    assert len(trace) == 4
    assert trace[0] == models.fit_exactly(other, x[:3], steps=1, lr=0.01, nodes=101)[0]
    assert trace[1] != trace[0]


def test_two_latents_are_refused() -> None:
    decoder = models.drawn_decoder(Architecture(features=4, latent=2, hidden=(5,), activation="tanh"), 0)
    with pytest.raises(InputError, match="latent: got 2, expected 1"):
        models.fit_exactly(decoder, np.zeros((3, 4)), steps=1, lr=0.1, nodes=101)


def test_rings_need_no_more_noise_than_they_were_drawn_with() -> None:
    decoder, points, _ = models.rings_decoder(0)
    assert len(points) == 2000
    assert np.exp(0.5 * decoder.logvar()[0]) == pytest.approx(0.1, abs=0.015)
