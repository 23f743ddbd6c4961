"""Importance-sampled log p(x) against exact values, and that it draws exactly what it was asked for.

Budget: about 3.5 s.
"""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from numeric import Problem, error, make_problem
from scipy import special, stats

from vae_np import noise, ops
from vae_np.architecture import Architecture
from vae_np.choices import LIKELIHOODS
from vae_np.elbo import elbo_forward
from vae_np.errors import InputError
from vae_np.evaluation.importance import (
    Estimate,
    concatenate,
    estimate_from_log_weights,
    importance_log_likelihood,
    log_weights,
)
from vae_np.exact import quadrature as exact_quadrature
from vae_np.exact.decoder import Decoder
from vae_np.model import Model, encode_forward
from vae_np.parameters import Parameters

ROWS = np.array([3, 14, 0, 8, 21])


def problem(likelihood: str = "bernoulli", latent: int = 2, batch: int = 5, samples: int = 1) -> Problem:
    p = make_problem(Architecture(6, latent, (5,), "tanh", likelihood), batch=batch, samples=samples)
    # An encoder close to the prior, and wider: w = p(z) p(x|z) / q(z) then has a bound, so that errors are normal.
    for name in p.parameters:
        if name.startswith("encoder"):
            p.parameters[name][...] *= 0.1
    p.parameters["encoder.logvar.bias"][...] = 0.3
    return p


def estimate(p: Problem, samples: int, rows: np.ndarray | None = None, **options: Any) -> Estimate:
    rows = ROWS[: len(p.x)] if rows is None else rows
    model = Model(ops, p.arch, p.parameters)
    return importance_log_likelihood(model, p.x, rows, **{"samples": samples, "seed": 5, **options})


def repeated(p: Problem, times: int) -> tuple[Problem, np.ndarray]:
    """The first example as `times` examples of their own rows, so of independent noise."""
    return Problem(p.arch, p.parameters, np.repeat(p.x[:1], times, axis=0), p.eps), np.arange(times)


def quadrature(p: Problem) -> np.ndarray:
    """log ∫ p(z) p(x|z) dz for one latent by the trapezoid rule, (B,), from the weights themselves."""
    z = np.linspace(-12, 12, 4001)
    w = p.parameters
    h = np.tanh(z[:, None] @ w["decoder.hidden.0.weight"] + w["decoder.hidden.0.bias"])
    out = (h @ w["decoder.out.weight"] + w["decoder.out.bias"])[:, None, :]
    x = p.x.astype(np.float64)
    if p.arch.is_bernoulli:
        log_px = x * stats.logistic.logcdf(out) + (1 - x) * stats.logistic.logsf(out)
    else:
        sigma = np.exp(w["likelihood.logvar"] / 2) if "likelihood.logvar" in w else p.arch.sigma
        log_px = stats.norm.logpdf(x, out, sigma)
    log_joint = log_px.sum(axis=-1) + stats.norm.logpdf(z)[:, None]
    return special.logsumexp(log_joint, axis=0) + np.log(z[1] - z[0])


# --- Exact answers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_the_estimate_is_within_three_standard_errors_of_quadrature(likelihood: str) -> None:
    p = problem(likelihood, latent=1)
    exact, result = quadrature(p), estimate(p, 4000)
    assert (result.ess > 100).all()
    assert (result.stderr < 0.1).all()
    assert (np.abs(result.log_likelihood - exact) < 3 * result.stderr).all()


@pytest.mark.parametrize("likelihood", ["bernoulli", "normal-diagonal"])
def test_with_two_latents_too(likelihood: str) -> None:
    p = problem(likelihood, latent=2)
    truth, result = exact_quadrature.log_likelihood(Decoder.of(p.arch, p.parameters), p.x), estimate(p, 4000)
    assert truth.converged.all()
    assert (result.ess > 100).all()
    assert (np.abs(result.log_likelihood - truth.log_prob) < 3 * result.stderr).all()


@pytest.mark.parametrize(("samples", "tolerance"), [(16, 0.25), (64, 0.08)])
def test_the_gap_to_log_p_is_half_chi_squared_over_the_number_of_samples(samples: int, tolerance: float) -> None:
    """Posterior N(m, v) and q = N(mu, s²) in one latent, where χ² is known; terms of order 1/S² remain."""
    arch = Architecture(1, 1, (), likelihood="normal-fixed", sigma=0.5)
    parameters = Parameters(arch.shapes(), "float64")
    parameters["decoder.out.weight"][...] = 1.0
    x, v = 0.8, 0.25 / 1.25
    m, mu, s2 = x * v / 0.25, 0.9, 0.3
    parameters["encoder.mu.bias"][...], parameters["encoder.logvar.bias"][...] = mu, np.log(s2)
    chi2 = s2 / np.sqrt(v * (2 * s2 - v)) * np.exp((m - mu) ** 2 / (2 * s2 - v)) - 1
    rows = np.arange(40_000)
    copies = np.full((len(rows), 1), x)
    result = importance_log_likelihood(Model(ops, arch, parameters), copies, rows, samples=samples, seed=1)
    gap = stats.norm(0, np.sqrt(1.25)).logpdf(x) - result.log_likelihood
    predicted = chi2 / (2 * samples)
    assert 0.1 < chi2 < 3
    assert abs(gap.mean() - predicted) < 4 * gap.std() / np.sqrt(len(gap)) + tolerance * predicted


@pytest.mark.parametrize("samples", [1, 2, 50])
def test_with_the_exact_posterior_every_weight_is_the_answer(samples: int) -> None:
    """A linear decoder with orthogonal columns has a diagonal normal posterior, which a linear encoder can hold."""
    rng = np.random.default_rng(2)
    arch = Architecture(4, 2, (), likelihood="normal-fixed", sigma=0.6)
    basis, _ = np.linalg.qr(rng.normal(size=(4, 2)))
    columns, offset = basis * [1.5, 0.4], rng.normal(size=4)
    precision = 1 + (columns**2).sum(axis=0) / 0.36
    parameters = Parameters(arch.shapes(), "float64")
    parameters["decoder.out.weight"][...] = columns.T
    parameters["decoder.out.bias"][...] = offset
    parameters["encoder.mu.weight"][...] = columns / 0.36 / precision
    parameters["encoder.mu.bias"][...] = -offset @ parameters["encoder.mu.weight"]
    parameters["encoder.logvar.bias"][...] = -np.log(precision)
    x = rng.normal(0, 2, (5, 4))
    result = importance_log_likelihood(Model(ops, arch, parameters), x, ROWS, samples=samples, seed=0)
    exact = stats.multivariate_normal(offset, columns @ columns.T + 0.36 * np.eye(4)).logpdf(x)
    assert error(result.log_likelihood, exact) < 1e-12
    assert np.abs(result.ess / samples - 1).max() < 1e-12
    if samples > 1:
        assert (result.stderr < 1e-6).all()
    terms, _ = elbo_forward(ops, arch, parameters, x, rng.normal(size=(5, 2)), form="joint")
    assert error(terms.elbo, exact) < 1e-12


def test_a_decoder_that_ignores_z_and_the_prior_as_encoder_are_exact() -> None:
    arch = Architecture(6, 3, (5,))
    parameters = Parameters(arch.shapes(), "float64")
    parameters["decoder.out.bias"][...] = np.linspace(-3, 2, 6)
    x = np.random.default_rng(4).integers(0, 2, (5, 6)).astype(np.uint8)
    result = importance_log_likelihood(Model(ops, arch, parameters), x, ROWS, samples=7, seed=0)
    p_one = 1 / (1 + np.exp(-np.linspace(-3, 2, 6)))
    assert error(result.log_likelihood, stats.bernoulli.logpmf(x, p_one).sum(axis=1)) < 1e-13


def test_the_weights_average_to_p_of_x() -> None:
    """Unbiased: E w = p(x), over many independent single draws."""
    five = problem("normal-diagonal", latent=1)
    p, rows = repeated(five, 20_000)
    w = np.exp(estimate(p, 1, rows).log_likelihood - quadrature(five)[0])
    assert abs(w.mean() - 1) < 4 * w.std() / np.sqrt(len(w))


def test_more_samples_raise_the_bound_towards_log_p_of_x() -> None:
    five = problem("normal-diagonal", latent=1)
    exact, (p, rows) = quadrature(five)[0], repeated(five, 2000)
    values = [estimate(p, samples, rows).log_likelihood for samples in (1, 4, 16, 64)]
    means = [value.mean() for value in values]
    noises = [value.std() / np.sqrt(len(rows)) for value in values]
    for lower, higher, spread in zip(means, means[1:], noises, strict=False):
        assert higher > lower + 2 * spread
    assert means[-1] < exact + 4 * noises[-1]
    assert exact - means[-1] < 0.05


def test_the_standard_error_is_the_spread_of_repeated_estimates() -> None:
    p, rows = repeated(problem(), 1000)
    result = estimate(p, 300, rows)
    assert abs(np.sqrt((result.stderr**2).mean()) / result.log_likelihood.std() - 1) < 0.15


# --- One sample, and the parts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_one_sample_is_the_joint_form_of_the_elbo(likelihood: str) -> None:
    p = problem(likelihood)
    eps = noise.normal(ROWS, 2, seed=5, stream=noise.EVAL_EPS, dtype=np.float64)
    terms, _ = elbo_forward(ops, p.arch, p.parameters, p.x, eps, form="joint")
    assert error(estimate(p, 1).log_likelihood, terms.elbo) < 1e-13


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_log_weights_are_the_joint_terms_of_each_sample(likelihood: str) -> None:
    p = problem(likelihood, samples=3)
    (mu, logvar), _ = encode_forward(ops, p.arch, p.parameters, p.x)
    log_w = log_weights(Model(ops, p.arch, p.parameters), p.x, mu, logvar, p.eps)
    assert log_w.shape == (3, 5)
    for s in range(3):
        terms, _ = elbo_forward(ops, p.arch, p.parameters, p.x, p.eps[5 * s : 5 * s + 5], form="joint")
        assert error(log_w[s], terms.elbo) < 1e-13


def test_an_estimate_by_hand() -> None:
    """Weights 1 and 3: mean 2, normalised ¼ and ¾, variance 2 over 2 samples, relative to the mean squared."""
    result = estimate_from_log_weights(ops, np.log([[1.0], [3.0]]) - 100)
    assert abs(result.log_likelihood[0] - np.log(2) + 100) < 1e-13
    assert abs(result.ess[0] - 1.6) < 1e-14
    assert abs(result.stderr[0] - 0.5) < 1e-14


def test_the_standard_error_is_the_delta_method(rng: np.random.Generator) -> None:
    log_w = rng.normal(0, 2, (40, 6))
    w = np.exp(log_w)
    expected = w.std(axis=0, ddof=1) / np.sqrt(40) / w.mean(axis=0)
    assert error(estimate_from_log_weights(ops, log_w).stderr, expected) < 1e-12


def test_the_effective_sample_size_has_its_bounds(rng: np.random.Generator) -> None:
    ess = estimate_from_log_weights(ops, rng.normal(0, 3, (30, 200))).ess
    assert (ess >= 1 - 1e-12).all()
    assert (ess <= 30 + 1e-9).all()
    one = np.full((30, 1), -1e4)
    one[7] = 0
    assert np.array_equal(estimate_from_log_weights(ops, one).ess, [1])
    equal = estimate_from_log_weights(ops, np.full((32, 1), -500.0))
    assert (equal.ess[0], equal.stderr[0], equal.log_likelihood[0]) == (32, 0, -500)


def test_weights_that_have_collapsed_are_marked() -> None:
    log_w = np.full((50, 4), -100.0)
    log_w[3, 1] = -20.0
    log_w[[3, 4], 2] = -20.0
    log_w[7, 3] = np.nan
    with np.errstate(invalid="ignore"):
        result = estimate_from_log_weights(ops, log_w)
    assert np.array_equal(result.degenerate, [False, True, bool(result.ess[2] < 2), True])
    assert estimate_from_log_weights(ops, log_w[:1]).degenerate.all()


def test_collapsed_weights_are_lucky_ones_and_the_mean_is_too_low() -> None:
    """w = exp(3 ε − 4.5) has mean 1: who sees one huge weight is above the truth, who sees none is below. [D35]"""
    log_w = 3 * np.random.default_rng(0).normal(size=(50, 4000)) - 4.5
    result = estimate_from_log_weights(ops, log_w)
    collapsed = result.degenerate
    assert 0.1 < collapsed.mean() < 0.5
    for values, sign in ((result.log_likelihood[collapsed], 1), (result.log_likelihood[~collapsed], -1)):
        assert sign * values.mean() > 5 * values.std() / np.sqrt(len(values))
    assert result.log_likelihood.mean() < -0.3


def test_one_sample_says_nothing_about_its_error() -> None:
    result = estimate_from_log_weights(ops, np.array([[-80.0, -90.0]]))
    assert np.array_equal(result.log_likelihood, [-80, -90])
    assert np.isnan(result.stderr).all()
    assert np.array_equal(result.ess, [1, 1])


def test_estimates_of_batches_are_joined_in_order() -> None:
    parts = [Estimate(*np.arange(8.0).reshape(4, 2) + 10 * i) for i in range(2)]
    joined = concatenate(parts)
    assert np.array_equal(joined.log_likelihood, [0, 1, 10, 11])
    assert np.array_equal(joined.stderr, [2, 3, 12, 13])
    assert np.array_equal(joined.ess, [4, 5, 14, 15])


def test_any_normal_can_be_the_proposal() -> None:
    p = problem("normal-diagonal", latent=1)
    moments, _ = encode_forward(ops, p.arch, p.parameters, p.x)
    assert np.array_equal(estimate(p, 7).log_likelihood, estimate(p, 7, posterior=moments).log_likelihood)
    prior = np.zeros((5, 1)), np.zeros((5, 1))
    result, exact = estimate(p, 20_000, posterior=prior), quadrature(p)
    assert (result.ess > 100).all()
    assert (np.abs(result.log_likelihood - exact) < 3 * result.stderr).all()
    assert (result.log_likelihood != estimate(p, 20_000).log_likelihood).all()


# --- Which draws ------------------------------------------------------------------------------------------------


class Recorder:
    """The contract with a `philox_normal` that remembers what was asked of it."""

    def __init__(self) -> None:
        self.draws: list[tuple[int, int]] = []
        names = {name: getattr(ops, name) for name in ops.__all__}
        self.ops = cast(ModuleType, SimpleNamespace(**{**names, "philox_normal": self.philox_normal}))

    def philox_normal(self, rows: Any, columns: int, *, sample: Any, **where: Any) -> Any:
        assert (where["stream"], where["step"]) == (noise.EVAL_EPS, 0)
        self.draws += list(zip(rows.tolist(), sample.tolist(), strict=True))
        return ops.philox_normal(rows, columns, sample=sample, **where)


@pytest.mark.parametrize("samples", [1, 7, 10, 23])
@pytest.mark.parametrize("chunk_rows", [1, 5, 17, 50, 8192])
def test_exactly_the_samples_asked_for_are_drawn(samples: int, chunk_rows: int) -> None:
    p, recorder = problem(), Recorder()
    importance_log_likelihood(
        Model(recorder.ops, p.arch, p.parameters), p.x, ROWS, samples=samples, seed=5, chunk_rows=chunk_rows
    )
    assert sorted(recorder.draws) == sorted((row, number) for row in ROWS.tolist() for number in range(samples))


@pytest.mark.parametrize("chunk_rows", [1, 4, 5, 17, 60])
def test_the_chunk_does_not_matter(chunk_rows: int) -> None:
    p = problem()
    whole, chunked = estimate(p, 23), estimate(p, 23, chunk_rows=chunk_rows)
    for name in ("log_likelihood", "stderr", "ess"):
        assert error(getattr(chunked, name), getattr(whole, name)) < 1e-12


def test_the_batch_split_does_not_matter() -> None:
    p = problem()
    whole = estimate(p, 23)
    parts = concatenate(
        [
            importance_log_likelihood(Model(ops, p.arch, p.parameters), p.x[part], ROWS[part], samples=23, seed=5)
            for part in (slice(0, 2), slice(2, 3), slice(3, 5))
        ]
    )
    for name in ("log_likelihood", "stderr", "ess"):
        assert error(getattr(parts, name), getattr(whole, name)) < 1e-12


def test_fewer_samples_are_the_first_of_more() -> None:
    """The mean of 20 weights and of their first 8, and the mean of the 12 others, have to fit together."""
    p = problem()
    every, sample = noise.every_sample(ROWS, np.arange(20))
    eps = noise.normal(every, 2, seed=5, stream=noise.EVAL_EPS, sample=sample, dtype=np.float64)
    (mu, logvar), _ = encode_forward(ops, p.arch, p.parameters, p.x)
    log_w = log_weights(Model(ops, p.arch, p.parameters), p.x, mu, logvar, eps)
    for samples in (1, 8, 20):
        expected = special.logsumexp(log_w[:samples], axis=0) - np.log(samples)
        assert error(estimate(p, samples).log_likelihood, expected) < 1e-12


def test_an_example_does_not_feel_its_neighbours() -> None:
    p = problem()
    before = estimate(p, 9).log_likelihood
    p.x[2] = 1 - p.x[2]
    after = estimate(p, 9).log_likelihood
    assert np.array_equal(before == after, [True, True, False, True, True])


def test_seed_and_row_choose_the_noise() -> None:
    p = problem()
    usual = estimate(p, 9).log_likelihood
    assert np.array_equal(usual, estimate(p, 9).log_likelihood)
    assert (usual != estimate(p, 9, seed=6).log_likelihood).all()
    assert (usual != estimate(p, 9, rows=ROWS + 1).log_likelihood).all()


# --- Precision and bad input ------------------------------------------------------------------------------------


def test_single_precision_is_close_to_double() -> None:
    p = problem()
    single = Problem(p.arch, p.parameters.astype("float32"), p.x, p.eps)
    double = Problem(p.arch, single.parameters.astype("float64"), p.x, p.eps)
    got, wanted = estimate(single, 500), estimate(double, 500)
    assert got.log_likelihood.dtype == np.float32
    assert error(got.log_likelihood, wanted.log_likelihood) < 1e-5
    assert error(got.ess, wanted.ess) < 1e-4


@pytest.mark.parametrize("samples", [0, -3])
def test_no_samples_are_refused(samples: int) -> None:
    with pytest.raises(InputError, match=f"samples: got {samples}, expected a whole number > 0"):
        estimate(problem(), samples)


def test_nan_reaches_the_estimate() -> None:
    p = problem()
    p.parameters["decoder.out.bias"][0] = np.nan
    assert np.isnan(estimate(p, 3).log_likelihood).all()
