"""Evaluation over a data set: which rows and noise it sees, batch by batch, and its summaries.

Budget: about 1 s.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numeric import error

from vae_np import data, noise, ops
from vae_np.architecture import Architecture
from vae_np.elbo import elbo_forward
from vae_np.errors import InputError
from vae_np.evaluation.held_out import (
    Examples,
    active_units,
    elbo_surgery,
    elbo_terms,
    kl_per_dimension,
    log_likelihood,
    mean_and_stderr,
    posterior_moments,
)
from vae_np.evaluation.importance import importance_log_likelihood
from vae_np.model import Model, encode_forward, initialise
from vae_np.parameters import Parameters

ARCH = Architecture(6, 3, (4,), "tanh")
# More rows than two batches of 500, and no multiple of one.
N = 1037


def parameters(arch: Architecture = ARCH, dtype: str = "float64") -> Parameters:
    drawn = initialise(arch, seed=1, dtype=dtype)
    drawn.flat[...] *= 2
    return drawn


def grey(rows: int = N) -> np.ndarray:
    return np.random.default_rng(6).integers(0, 256, (rows, 6)).astype(np.uint8)


def binary(rows: int = N) -> np.ndarray:
    return (grey(rows) > 127).astype(np.uint8)


def examples(rows: int = N) -> Examples:
    return Examples(binary(rows), data.BINARY, "none", 0)


# --- Rows -------------------------------------------------------------------------------------------------------


def test_a_batch_is_drawn_at_the_places_of_its_rows() -> None:
    whole = Examples(grey(20), data.BYTE, "dynamic", seed=4, first=100)
    x, places = whole.batch(slice(5, 12))
    assert len(whole) == 20
    assert np.array_equal(places, np.arange(105, 112))
    expected = noise.bernoulli(grey(20)[5:12], seed=4, stream=noise.EVAL_BINARIZE, step=0, rows=places)
    assert np.array_equal(x, expected)
    assert x.dtype == np.uint8


def test_a_row_is_drawn_the_same_in_every_batch_and_at_every_visit() -> None:
    whole = Examples(grey(20), data.BYTE, "dynamic", seed=4)
    everything, _ = whole.batch(slice(0, 20))
    pieces = [whole.batch(slice(start, start + 7))[0] for start in range(0, 20, 7)]
    assert np.array_equal(np.concatenate(pieces), everything)
    tail = Examples(grey(20)[13:], data.BYTE, "dynamic", seed=4, first=13)
    assert np.array_equal(tail.batch(slice(0, 7))[0], everything[13:])
    assert not np.array_equal(Examples(grey(20), data.BYTE, "dynamic", seed=5).batch(slice(0, 20))[0], everything)


def test_a_batch_past_the_end_is_what_is_left() -> None:
    x, places = examples(20).batch(slice(15, 40))
    assert len(x) == len(places) == 5


@pytest.mark.parametrize("mode", data.BINARIZATIONS)
def test_binary_rows_are_left_as_they_are(mode: str) -> None:
    x, _ = Examples(binary(9), data.BINARY, mode, 3).batch(slice(0, 9))
    assert np.array_equal(x, binary(9))


# --- Terms, moments, likelihood ---------------------------------------------------------------------------------


@pytest.mark.parametrize("z_samples", [1, 3])
def test_elbo_terms_are_those_of_one_large_batch(z_samples: int) -> None:
    w = parameters()
    rows = np.arange(N)
    every, sample = noise.every_sample(rows, np.arange(z_samples))
    eps = noise.normal(every, 3, seed=7, stream=noise.EVAL_EPS, sample=sample, dtype=np.float64)
    expected, _ = elbo_forward(ops, ARCH, w, binary(), eps)
    terms = elbo_terms(Model(ops, ARCH, w), examples(), seed=7, z_samples=z_samples)
    assert error(terms.reconstruction, expected.reconstruction) < 1e-13
    assert error(terms.kl, expected.kl) < 1e-13


def test_the_first_draw_is_the_same_whatever_the_number_of_draws() -> None:
    w = parameters()
    one, two = (elbo_terms(Model(ops, ARCH, w), examples(20), seed=7, z_samples=s).reconstruction for s in (1, 2))
    second = noise.normal(np.arange(20), 3, seed=7, stream=noise.EVAL_EPS, sample=1, dtype=np.float64)
    other, _ = elbo_forward(ops, ARCH, w, binary(20), second)
    assert error(two, (one + other.reconstruction) / 2) < 1e-13


def test_more_draws_leave_the_kl_and_narrow_the_reconstruction() -> None:
    w = parameters()
    one, many = (elbo_terms(Model(ops, ARCH, w), examples(200), seed=7, z_samples=s) for s in (1, 50))
    assert np.array_equal(one.kl, many.kl)
    other = elbo_terms(Model(ops, ARCH, w), examples(200), seed=8, z_samples=50)
    once_more = elbo_terms(Model(ops, ARCH, w), examples(200), seed=8)
    spread = (many.reconstruction - other.reconstruction).std()
    assert spread < 0.3 * (one.reconstruction - once_more.reconstruction).std()


def test_posterior_moments_are_the_encoders() -> None:
    w = parameters()
    mu, logvar = posterior_moments(Model(ops, ARCH, w), examples())
    (expected_mu, expected_logvar), _ = encode_forward(ops, ARCH, w, binary())
    assert error(mu, expected_mu) < 1e-13
    assert error(logvar, expected_logvar) < 1e-13


def test_log_likelihood_covers_every_example_once() -> None:
    w, done = parameters(), []
    result = log_likelihood(
        Model(ops, ARCH, w), examples(257), samples=4, seed=7, on_batch=lambda so_far: done.append(len(so_far.ess))
    )
    expected = importance_log_likelihood(Model(ops, ARCH, w), binary(257), np.arange(257), samples=4, seed=7)
    for name in ("log_likelihood", "stderr", "ess"):
        assert error(getattr(result, name), getattr(expected, name)) < 1e-12
    assert done == [100, 200, 257]


def test_log_likelihood_of_a_part_is_that_part_of_the_whole() -> None:
    """The last rows, evaluated alone at their places: the same pixels, the same ε, the same numbers."""
    w = parameters()
    whole = log_likelihood(Model(ops, ARCH, w), Examples(grey(30), data.BYTE, "dynamic", 2), samples=5, seed=7)
    tail = Examples(grey(30)[18:], data.BYTE, "dynamic", 2, first=18)
    part = log_likelihood(Model(ops, ARCH, w), tail, samples=5, seed=7)
    assert error(part.log_likelihood, whole.log_likelihood[18:]) < 1e-12
    both = (tail, Examples(grey(30), data.BYTE, "dynamic", 2))
    terms = [elbo_terms(Model(ops, ARCH, w), each, seed=7).elbo for each in both]
    assert error(terms[0], terms[1][18:]) < 1e-12


def test_no_samples_are_refused() -> None:
    with pytest.raises(InputError, match="samples: got 0"):
        log_likelihood(Model(ops, ARCH, parameters()), examples(3), samples=0, seed=0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("stored", ["float32", "float64"])
def test_the_model_fixes_the_precision_of_what_is_measured(dtype: str, stored: str) -> None:
    arch = Architecture(6, 3, (4,), "tanh", "normal")
    rows = Examples(np.random.default_rng(1).normal(size=(9, 6)).astype(stored), data.REAL, "none", 0)
    w = parameters(arch, dtype)
    terms = elbo_terms(Model(ops, arch, w), rows, seed=0)
    estimate = log_likelihood(Model(ops, arch, w), rows, samples=3, seed=0)
    arrays = (terms.reconstruction, terms.kl, estimate.log_likelihood, *posterior_moments(Model(ops, arch, w), rows))
    assert {array.dtype for array in arrays} == {np.dtype(dtype)}


def test_what_is_done_is_not_done_again() -> None:
    w, so_far = parameters(), []
    options: Any = {"samples": 4, "seed": 7}
    whole = log_likelihood(Model(ops, ARCH, w), examples(257), on_batch=so_far.append, **options)
    for done in so_far:
        heard: list[Any] = []
        again = log_likelihood(Model(ops, ARCH, w), examples(257), on_batch=heard.append, done=done, **options)
        for name in ("log_likelihood", "stderr", "ess"):
            assert np.array_equal(getattr(again, name), getattr(whole, name))
        assert [len(part.ess) for part in heard] == [n for n in (100, 200, 257) if n > len(done.ess)]


# --- The KL taken apart -----------------------------------------------------------------------------------------


def test_the_mutual_information_is_that_of_the_mixture() -> None:
    """One latent and 300 normals: Monte Carlo over z against a sum over a fine grid."""
    rng = np.random.default_rng(3)
    mu, logvar = rng.normal(0, 2, (300, 1)), rng.normal(-1, 0.5, (300, 1))
    z = np.linspace(-15, 15, 6001)
    q = np.exp(-0.5 * (z - mu) ** 2 / np.exp(logvar)) / np.sqrt(2 * np.pi * np.exp(logvar))
    mixture = q.mean(axis=0)
    terms = np.where(q > 0, q * (np.log(np.maximum(q, 1e-300)) - np.log(mixture)), 0)
    exact = terms.sum(axis=1).mean() * (z[1] - z[0])
    prior = np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
    marginal = (mixture * np.log(mixture / prior)).sum() * (z[1] - z[0])
    found = [elbo_surgery(ops, mu, logvar, seed=seed) for seed in range(50)]
    information = np.array([each.mutual_information.mean() for each in found])
    rest = np.array([each.marginal_kl.mean() for each in found])
    for values, truth in ((information, exact), (rest, marginal)):
        assert abs(values.mean() - truth) < 4 * values.std() / np.sqrt(50)
        assert values.std() < 0.1


def test_the_two_parts_are_the_kl() -> None:
    w = parameters()
    mu, logvar = posterior_moments(Model(ops, ARCH, w), examples())
    parts = elbo_surgery(ops, mu, logvar, seed=0)
    kl = elbo_terms(Model(ops, ARCH, w), examples(), seed=0).kl
    assert error(parts.mutual_information + parts.marginal_kl, kl) < 1e-12


def test_codes_that_say_nothing_and_codes_that_say_all() -> None:
    same = elbo_surgery(ops, np.full((600, 2), 0.5), np.full((600, 2), -1.0), seed=0)
    assert np.abs(same.mutual_information).max() < 1e-12
    apart = elbo_surgery(ops, 20.0 * np.arange(600)[:, None], np.zeros((600, 1)), seed=0)
    assert np.abs(apart.mutual_information - np.log(600)).max() < 1e-6
    assert apart.ceiling == np.log(600)


def test_the_mixture_is_summed_over_every_example_one_by_one() -> None:
    rng = np.random.default_rng(4)
    mu, logvar = rng.normal(size=(700, 3)), rng.normal(size=(700, 3))
    whole = elbo_surgery(ops, mu, logvar, seed=0)
    eps = noise.normal(np.arange(700), 3, seed=0, stream=noise.EVAL_EPS, dtype=np.float64)
    log_q = [
        np.logaddexp.reduce(-0.5 * ((z - mu) ** 2 / np.exp(logvar) + logvar + np.log(2 * np.pi)).sum(axis=1))
        - np.log(700)
        for z in mu + np.exp(0.5 * logvar) * eps
    ]
    own = -0.5 * (eps**2 + logvar + np.log(2 * np.pi)).sum(axis=1)
    assert error(whole.mutual_information, own - np.array(log_q)) < 1e-10


# --- Summaries --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_kl_per_dimension_sums_to_the_mean_kl(dtype: str) -> None:
    w = parameters(dtype=dtype)
    kl = kl_per_dimension(*posterior_moments(Model(ops, ARCH, w), examples()))
    assert (kl.shape, kl.dtype) == ((3,), np.float64)
    assert (kl > 0).all()
    total = elbo_terms(Model(ops, ARCH, w), examples(), seed=0).kl.mean(dtype=np.float64)
    assert abs(kl.sum() / total - 1) < 10 * np.finfo(dtype).eps


def test_kl_per_dimension_by_hand() -> None:
    mu, logvar = np.array([[0.0, 2.0], [0.0, 0.0]]), np.array([[0.0, 0.0], [0.0, np.log(4)]])
    expected = [0, (2 + 0.5 * (3 - np.log(4))) / 2]
    assert np.abs(kl_per_dimension(mu, logvar) - expected).max() < 1e-15


def test_active_units_vary_by_more_than_a_hundredth() -> None:
    """Variance over the examples of the posterior mean: 0, just below and just above 0.01, and a large constant."""
    signs = np.array([[1.0], [-1.0]] * 50)
    scales = np.array([0.0, np.sqrt(0.009995), np.sqrt(0.010005), 2.0])
    mu = np.hstack([signs * scales, np.full((100, 1), 100.0)])
    assert np.array_equal(active_units(mu), [False, False, True, True, False])
    # Over many rows a float32 sum of large means loses more than the hundredth in question: it must be wider.
    many = np.tile(mu + 100, (1000, 1)).astype(np.float32)
    assert np.array_equal(active_units(many), [False, False, True, True, False])


def test_mean_and_stderr_are_the_usual_ones() -> None:
    values = np.array([1.0, 2.0, 4.0, 5.0])
    result: Any = mean_and_stderr(values)
    assert result["mean"] == 3.0
    assert abs(result["stderr"] - np.sqrt((4 + 1 + 1 + 4) / 3) / 2) < 1e-15
    assert {type(number) for number in result.values()} == {float}


def test_the_mean_of_many_single_precision_values_is_a_wide_one() -> None:
    values = np.full(1_000_003, 0.1, dtype=np.float32)
    assert mean_and_stderr(values)["mean"] == float(np.float32(0.1))
