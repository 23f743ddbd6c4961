"""What no derivative shows, as named checks: which noise is drawn and how often, which rows are seen, what is refused.

Kind `count` counts or records what is done; kind `rule` holds a promise that is not a number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest

from vae_np import data, noise, ops
from vae_np.architecture import Architecture
from vae_np.backends import Backend
from vae_np.config import Config
from vae_np.elbo import Terms
from vae_np.errors import DataError, NonFiniteError
from vae_np.evaluation import held_out, importance
from vae_np.gradcheck import check_grad
from vae_np.model import Model, initialise
from vae_np.step import Optimiser, TrainingState, first_non_finite, training_step
from vae_np.training import loop
from vae_np.training.trainer import Trainer
from vae_np.vae import VAE
from vae_np.verify import runner

from .checks_exact import close, exactly
from .plant import Check

ARCH = Architecture(4, 2, (3,), "tanh", "bernoulli")


def count(run: Callable[[], None]) -> Check:
    """A check that counts or records, named after its function."""
    return Check(run.__name__.strip("_").replace("_", " "), "count", run)


def rule(run: Callable[[], None]) -> Check:
    """A check of a promise, named after its function."""
    return Check(run.__name__.strip("_").replace("_", " "), "rule", run)


def _recording() -> tuple[Any, list[dict[str, Any]]]:
    """The reference whose normals note where they were drawn: one (row, sample) pair a draw."""
    calls: list[dict[str, Any]] = []

    def philox_normal(rows: Any, columns: int, *, sample: Any = 0, **address: Any) -> Any:
        pairs = list(zip(np.asarray(rows).tolist(), np.broadcast_to(sample, np.shape(rows)).tolist(), strict=True))
        calls.append({"pairs": pairs, **address})
        return noise.normal(rows, columns, sample=sample, **address)

    names = {name: getattr(ops, name) for name in ops.__all__}
    return SimpleNamespace(**{**names, "philox_normal": philox_normal}), calls


def _pixels(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2, (rows, ARCH.features)).astype(np.uint8)


def _examples(rows: int, first: int = 0) -> held_out.Examples:
    return held_out.Examples(_pixels(rows), data.BINARY, "none", seed=0, first=first)


PARAMETERS = initialise(ARCH, seed=0, dtype=np.float64)


# --- Estimating log p(x) ----------------------------------------------------------------------------------------


@count
def log_likelihood_draws_what_was_asked_for() -> None:
    recording, calls = _recording()
    x, rows = _pixels(3), np.array([7, 9, 8])
    importance.importance_log_likelihood(Model(recording, ARCH, PARAMETERS), x, rows, samples=5, seed=1, chunk_rows=9)
    drawn = [pair for call in calls for pair in call["pairs"]]
    assert sorted(drawn) == sorted((row, sample) for row in rows.tolist() for sample in range(5))
    assert {call["stream"] for call in calls} == {noise.EVAL_EPS}


@rule
def log_likelihood_does_not_depend_on_batches_or_chunks() -> None:
    x, rows = _pixels(3), np.array([7, 9, 8])
    options = {"samples": 5, "seed": 1}
    whole = importance.importance_log_likelihood(Model(ops, ARCH, PARAMETERS), x, rows, **options).log_likelihood
    chunks = importance.importance_log_likelihood(Model(ops, ARCH, PARAMETERS), x, rows, chunk_rows=6, **options)
    close(chunks.log_likelihood, whole, 1e-13)
    for b in range(3):
        part = slice(b, b + 1)
        alone = importance.importance_log_likelihood(Model(ops, ARCH, PARAMETERS), x[part], rows[part], **options)
        close(alone.log_likelihood, whole[part], 1e-13)


@count
def every_example_is_evaluated_once() -> None:
    recording, calls = _recording()
    examples = _examples(1003, first=50)
    terms = held_out.elbo_terms(Model(recording, ARCH, PARAMETERS), examples, seed=0, z_samples=2)
    assert terms.elbo.shape == (1003,)
    drawn = [pair for call in calls for pair in call["pairs"]]
    assert sorted(drawn) == [(50 + row, sample) for row in range(1003) for sample in range(2)]
    assert {call["stream"] for call in calls} == {noise.EVAL_EPS}
    mu, logvar = held_out.posterior_moments(Model(ops, ARCH, PARAMETERS), examples)
    assert mu.shape == logvar.shape == (1003, 2)
    few = _examples(203)
    assert held_out.log_likelihood(Model(ops, ARCH, PARAMETERS), few, samples=2, seed=0).log_likelihood.shape == (203,)


@rule
def evaluation_repeats_itself() -> None:
    grey = np.random.default_rng(1).integers(0, 256, (6, 4)).astype(np.uint8)
    whole = held_out.Examples(grey, data.BYTE, "dynamic", seed=0)
    tail = held_out.Examples(grey[2:], data.BYTE, "dynamic", seed=0, first=2)
    x, places = whole.batch(slice(0, 6))
    again, _ = whole.batch(slice(0, 6))
    close(again, x, 0.0)
    same, tail_places = tail.batch(slice(0, 4))
    close(same, x[2:], 0.0)
    close(tail_places, places[2:], 0.0)
    training = data.prepare(grey, data.BYTE, "dynamic", seed=0, stream=noise.BINARIZE, step=0, rows=np.arange(6))
    assert (training != x).any()


@rule
def kl_per_latent_adds_up_to_the_kl() -> None:
    rng = np.random.default_rng(2)
    mu, logvar = rng.normal(size=(5, 3)), rng.normal(size=(5, 3))
    (_, kl), _ = ops.reparam_kl_forward(mu, logvar, np.zeros((5, 3)))
    per_latent = held_out.kl_per_dimension(mu, logvar)
    close(per_latent.sum(), kl.mean(), 1e-13)
    close(per_latent[0], 0.5 * np.mean(mu[:, 0] ** 2 + np.exp(logvar[:, 0]) - 1 - logvar[:, 0]), 1e-13)


@rule
def active_units_vary_by_more_than_a_hundredth() -> None:
    mu = np.array([[1.0], [-1.0]]) * np.array([0.0, 0.09, 0.11, 2.0]) + 5.0
    close(held_out.active_units(mu), [0, 0, 1, 1], 0.0)


@rule
def mean_comes_with_the_error_of_the_mean() -> None:
    found = held_out.mean_and_stderr(np.array([1.0, 3.0, 8.0, 0.0]))
    close([found["mean"], found["stderr"]], [3.0, math.sqrt((4 + 0 + 25 + 9) / 3 / 4)], 1e-14)


# --- Data -------------------------------------------------------------------------------------------------------


@rule
def bernoulli_refuses_grey_values() -> None:
    grey = np.array([[0.0, 0.25, 1.0]], dtype=np.float32)
    with pytest.raises(DataError, match="not one for grey values"):
        data.check_values("x", data.UNIT, "bernoulli", "none")
    for mode in ("dynamic", "fixed", "threshold"):
        seen = data.prepare(grey, data.UNIT, mode, seed=0, stream=noise.BINARIZE, step=0, rows=np.arange(1))
        assert set(np.unique(seen)) <= {0, 1}


def _prepare(mode: str, step: int, stream: int = noise.BINARIZE) -> np.ndarray:
    grey = np.full((8, 16), 100, dtype=np.uint8)
    return data.prepare(grey, data.BYTE, mode, seed=0, stream=stream, step=step, rows=np.arange(8))


@rule
def dynamic_pixels_are_drawn_anew_and_fixed_ones_are_not() -> None:
    assert (_prepare("dynamic", 0) != _prepare("dynamic", 1)).any()
    close(_prepare("fixed", 0), _prepare("fixed", 1), 0.0)
    assert (_prepare("fixed", 0) != _prepare("fixed", 0, noise.EVAL_BINARIZE)).any()


@rule
def grey_bytes_become_values_up_to_one() -> None:
    grey = np.array([[0, 51, 127, 128, 255]], dtype=np.uint8)
    address = {"seed": 0, "stream": noise.BINARIZE, "step": 0, "rows": np.arange(1)}
    close(data.prepare(grey, data.BYTE, "none", **address), [[0, 0.2, 127 / 255, 128 / 255, 1]], 1e-7)
    close(data.prepare(grey, data.BYTE, "threshold", **address), [[0, 0, 0, 1, 1]], 0.0)
    half = np.array([[0.5]], dtype=np.float32)
    close(data.prepare(half, data.UNIT, "threshold", **address), [[1]], 0.0)


@exactly
def densities_of_standardised_data_are_those_of_the_data() -> None:
    """A model of zeros ignores z and has q = p(z), so that its every log-density is a normal's, known exactly."""
    x = np.random.default_rng(0).normal(size=(7, 3)) * (40.0, 0.01, 0) + (5.0, -300.0, 2.0)
    mean, sigma = x.mean(axis=0), np.array([x[:, 0].std(), x[:, 1].std(), 1.0])
    vae = VAE(3, hidden=(), latent=2, likelihood="normal-fixed", sigma=0.5, dtype="float64", backend="numpy")
    vae.fit(x, standardize=True, epochs=1, batch_size=7)
    vae.parameters.flat[:] = 0
    exact = (-0.5 * ((x - mean) / (0.5 * sigma)) ** 2 - np.log(0.5 * sigma) - 0.5 * np.log(2 * np.pi)).sum(axis=1)
    close(vae.elbo(x).elbo, exact, 1e-9)
    close(vae.log_likelihood(x, 4).log_likelihood, exact, 1e-9)
    close(vae.decode(np.ones((1, 2))), mean[None], 1e-12)
    close(vae.sample(4000).std(axis=0), 0.5 * sigma, 0.06)


@rule
def validation_rows_are_not_trained_on() -> None:
    assert data.split_validation(100, 10) == (90, 10)


# --- Noise ------------------------------------------------------------------------------------------------------


@rule
def each_word_of_the_address_changes_the_noise() -> None:
    address = {"seed": 1, "stream": noise.EPS, "step": 2, "sample": 3}
    base = noise.words([5], 4, **address)
    changes = [{"seed": 2}, {"seed": 1 + 2**32}, {"stream": noise.PRIOR}, {"step": 3}, {"sample": 4}]
    others = [noise.words([5], 4, **{**address, **change}) for change in changes]
    others += [noise.words([6], 4, **address), noise.words([5], 8, **address)[:, 4:]]
    assert all((base != other).all() for other in others)


@rule
def streams_and_samples_never_share_a_block() -> None:
    drawn = [noise.words([5], 1, seed=0, stream=stream, sample=n)[0, 0] for stream in range(9) for n in range(9)]
    assert len(set(drawn)) == 81


@rule
def uniforms_are_the_upper_bits_of_a_word() -> None:
    rows = np.arange(50)
    words = noise.words(rows, 3, seed=4, stream=noise.PRIOR)
    uniform = noise.uniform(rows, 3, seed=4, stream=noise.PRIOR)
    close(uniform.astype(np.float64) * 2**24, words >> 8, 0.0)


@rule
def black_pixels_stay_black() -> None:
    with mock.patch.object(noise, "uniform", return_value=np.zeros((1, 2), dtype=np.float32)):
        drawn = noise.bernoulli(np.array([[0, 1]], dtype=np.uint8), seed=0, stream=0, step=0, rows=[0])
    close(drawn, [[0, 1]], 0.0)


@rule
def an_epoch_visits_every_row_once_in_its_own_order() -> None:
    first, second = (noise.order(50, seed=0, epoch=epoch) for epoch in range(2))
    close(np.sort(first), np.arange(50), 0.0)
    close(np.sort(second), np.arange(50), 0.0)
    assert (first != second).any()


# --- Training ---------------------------------------------------------------------------------------------------


@count
def a_step_draws_the_noise_of_its_rows_and_its_number() -> None:
    recording, calls = _recording()
    state, rows = TrainingState(PARAMETERS.astype(np.float64)), np.array([7, 3])
    for _ in range(2):
        training_step(recording, ARCH, state, _pixels(2), rows, seed=0, optimiser=Optimiser())
    assert [call["step"] for call in calls] == [0, 1]
    assert [call["pairs"] for call in calls] == [[(7, 0), (3, 0)]] * 2
    assert {call["stream"] for call in calls} == {noise.EPS}


@rule
def a_step_is_adam_along_the_gradient_of_the_loss() -> None:
    constants = {"lr": 0.05, "beta1": 0.7, "beta2": 0.8, "eps": 1e-2}
    state = TrainingState(PARAMETERS.astype(np.float64))
    theta = state.parameters.flat.copy()
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    for step in (1, 2, 3):
        training_step(ops, ARCH, state, _pixels(4), np.arange(4), seed=0, optimiser=Optimiser("adam", **constants))
        g = state.gradients.flat
        m, v = 0.7 * m + 0.3 * g, 0.8 * v + 0.2 * g * g
        theta -= 0.05 * (m / (1 - 0.7**step)) / (np.sqrt(v / (1 - 0.8**step)) + 1e-2)
        close(state.parameters.flat, theta, 1e-12)


@rule
def training_raises_the_elbo() -> None:
    state, x, rows = TrainingState(PARAMETERS.astype(np.float64)), np.tile(_pixels(1), (20, 1)), np.arange(20)
    steps = [
        training_step(ops, ARCH, state, x, rows, seed=0, optimiser=Optimiser(lr=0.05)).elbo.mean() for _ in range(40)
    ]
    assert np.mean(steps[-5:]) > np.mean(steps[:5]) + 0.5


def _trainer(**settings: Any) -> Trainer:
    config = Config(
        **{
            "hidden": (3,),
            "latent": 2,
            "activation": "tanh",
            "batch_size": 4,
            "epochs": 3,
            "dtype": "float64",
            "binarize": "none",
            **settings,
        }
    )
    return Trainer(config, Backend("numpy", ops, "a check"), _pixels(14), data.BINARY)


@count
def an_epochs_batches_share_no_row() -> None:
    seen: list[np.ndarray] = []
    trainer = _trainer()
    step = trainer.step
    with mock.patch.object(trainer, "step", lambda rows, *more: (seen.append(rows), step(rows, *more))):
        assert loop.run(trainer)
    assert [len(rows) for rows in seen] == [4] * 9
    epochs = [np.concatenate(seen[first : first + 3]) for first in (0, 3, 6)]
    assert all(len(np.unique(rows)) == 12 for rows in epochs)
    assert any((epochs[0] != epoch).any() for epoch in epochs[1:])


@rule
def warm_up_grows_over_its_epochs_to_the_final_beta() -> None:
    trainer = _trainer(beta=0.8, beta_warmup=2)
    close([trainer.beta(step) for step in (0, 3, 6, 7)], [0.0, 0.4, 0.8, 0.8], 1e-14)


@rule
def what_is_not_finite_stops_the_training_by_name() -> None:
    trainer = _trainer()
    trainer.state.parameters["encoder.logvar.bias"][0] = 800.0
    with pytest.raises(NonFiniteError, match="step 1: kl is not finite"):
        loop.run(trainer)
    trainer = _trainer()
    trainer.state.parameters["decoder.out.bias"][1] = np.nan
    with pytest.raises(NonFiniteError, match="step 1: reconstruction is not finite"):
        loop.run(trainer)


@rule
def a_bad_gradient_is_named_under_a_finite_loss() -> None:
    state = TrainingState(PARAMETERS.astype(np.float64))
    terms = Terms(np.full(2, -3.0), np.full(2, 1.0))
    assert first_non_finite(state, terms) is None
    state.gradients["encoder.mu.weight"][1, 0] = np.inf
    assert first_non_finite(state, terms) == "gradient of encoder.mu.weight"


@rule
def metrics_are_means_over_the_steps() -> None:
    lines: list[dict[str, Any]] = []
    trainer = _trainer(epochs=1, lr=1e-12)
    assert loop.run(trainer, on_metrics=lines.append)
    line, *_ = lines
    x = _pixels(14)[noise.order(14, seed=0, epoch=0)[:12]]
    mu_logvar = held_out.posterior_moments(trainer.model, held_out.Examples(x, data.BINARY, "none", seed=0))
    close(line["kl"], held_out.kl_per_dimension(*mu_logvar).sum(), 1e-9)
    close(line["elbo"], line["reconstruction"] - line["kl"], 1e-15)


# --- The checkers themselves ------------------------------------------------------------------------------------


@rule
def a_gradient_of_nan_fails() -> None:
    x = np.array([0.5, 2.0])
    assert check_grad(lambda v: (v * v).sum(), lambda v: 2 * v, x).passed
    assert not check_grad(lambda v: (v * v).sum(), lambda v: np.array([1.0, np.nan]), x).passed
    nan, one = np.array([np.nan, 1.0]), np.array([1.0, 1.0])
    assert not runner._compared("x", "numpy", "compare", nan, one, 1e-12).passed


@rule
def a_gradient_of_zeros_fails_however_small_the_right_one_is() -> None:
    x = np.array([0.5, 2.0])
    for size in (1.0, 1e-9):
        assert check_grad(lambda v, s=size: s * (v * v).sum(), lambda v, s=size: 2 * s * v, x).passed
        assert not check_grad(lambda v, s=size: s * (v * v).sum(), np.zeros_like, x).passed
    assert not runner._compared("x", "numpy", "compare", np.zeros(2), np.full(2, 1e-14), 1e-12).passed
