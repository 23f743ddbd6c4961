"""The fused step where x is no sparse binary row: grey, real, and binary x of many ones, under every likelihood.

Budget: about 6 s once compiled.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vae_np import backends, noise
from vae_np import ops as reference
from vae_np.architecture import Architecture
from vae_np.choices import LIKELIHOODS
from vae_np.errors import InputError
from vae_np.kernels.check import compare
from vae_np.model import initialise
from vae_np.step import Optimiser, TrainingState, training_step

if backends.missing("numba") is not None:
    pytest.skip(str(backends.missing("numba")), allow_module_level=True)

from vae_np.kernels import cpu
from vae_np.kernels.cpu.fused import FusedStep

SEED, STEPS = 11, 3
MODELS: dict[str, tuple[dict[str, Any], int]] = {
    "pt": ({"features": 784, "latent": 20, "hidden": (400,), "activation": "relu"}, 128),
    "odd": ({"features": 61, "latent": 3, "hidden": (37, 18, 5), "activation": "softplus"}, 7),
    "long": ({"features": 19, "latent": 2, "hidden": (16,), "activation": "tanh"}, 301),
    "single": ({"features": 1, "latent": 1, "hidden": (1,), "activation": "tanh"}, 1),
}
TOLERANCE = {"float64": 1e-12, "float32": 1e-5}
# With an error of x that large beside its σ, log σ² is what a float32 step moves most.
SIGMA = 0.4


def made(name: str, likelihood: str, dtype: Any = np.float32) -> tuple[Architecture, int, TrainingState]:
    sizes, batch = MODELS[name]
    arch = Architecture(likelihood=likelihood, sigma=SIGMA, **sizes)
    state = TrainingState(initialise(arch, seed=SEED, dtype=dtype))
    if "likelihood.logvar" in state.parameters:
        state.parameters["likelihood.logvar"][:] += np.linspace(-0.5, 0.5, state.parameters["likelihood.logvar"].size)
    return arch, batch, state


def batch_of(arch: Architecture, batch: int, step: int) -> Any:
    """What a likelihood is for: real numbers, grey ones, or binary ones of which most are one."""
    rng = np.random.default_rng(step)
    if not arch.is_bernoulli:
        return rng.standard_normal((batch, arch.features)).astype(np.float32)
    grey = rng.random((batch, arch.features)).astype(np.float32)
    return grey if arch.likelihood == "bernoulli-grey" else (grey < 0.8).astype(np.uint8)


def check_in_lock_step(name: str, likelihood: str, samples: int | None, dtype: Any) -> None:
    arch, batch, ours = made(name, likelihood, dtype)
    tolerance, theirs = TOLERANCE[np.dtype(dtype).name], made(name, likelihood, np.float64)[2]
    fused = FusedStep(arch, ours, batch, samples)
    how: dict[str, Any] = {"objective": "elbo"} if samples is None else {"objective": "iwae", "samples": samples}
    for step in range(STEPS):
        x, rows = batch_of(arch, batch, step), np.arange(batch)
        for mine, right in ((ours.parameters, theirs.parameters), (ours.first_moment, theirs.first_moment),
                            (ours.second_moment, theirs.second_moment)):  # fmt: skip
            right.assign(mine)
        expected = training_step(reference, arch, theirs, x, rows, seed=SEED, optimiser=Optimiser(), beta=0.7, **how)
        found = fused(x, rows, seed=SEED, optimiser=Optimiser(), beta=0.7, keep_gradients=True)
        assert fused.finite
        for term in ("reconstruction", "kl", *(["bound"] if samples else [])):
            compare(getattr(found, term), getattr(expected, term)).check(tolerance, term)
        for tensor, gradient in theirs.gradients.items():
            compare(ours.gradients[tensor], gradient).check(tolerance, f"gradient of {tensor}")
        for tensor, value in theirs.parameters.items():
            compare(ours.parameters[tensor], value).check(1e-9 if dtype is np.float64 else 2e-3, tensor)


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("name", MODELS)
def test_terms_and_gradients_in_lock_step(name: str, likelihood: str, dtype: Any) -> None:
    check_in_lock_step(name, likelihood, None, dtype)


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("samples", [1, 6])
def test_the_bound_of_several_samples_in_lock_step(samples: int, likelihood: str, dtype: Any) -> None:
    check_in_lock_step("odd", likelihood, samples, dtype)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_bits_do_not_depend_on_threads_or_on_keeping_gradients(likelihood: str) -> None:
    results = []
    for threads in sorted({1, cpu.available()}):
        cpu.set_threads(threads)
        for keep in (False, True):
            arch, batch, state = made("pt", likelihood)
            fused = FusedStep(arch, state, batch)
            for step in range(4):
                fused(batch_of(arch, batch, step), np.arange(batch), seed=SEED, optimiser=Optimiser(),
                      keep_gradients=keep)  # fmt: skip
            results.append(state.parameters.flat.copy())
    assert all(np.array_equal(results[0], other) for other in results[1:])


def test_free_running_in_float64_stays_with_the_reference() -> None:
    arch, batch, ours = made("odd", "normal-diagonal", np.float64)
    theirs = made("odd", "normal-diagonal", np.float64)[2]
    fused = FusedStep(arch, ours, batch)
    for step in range(200):
        x, rows = batch_of(arch, batch, step), np.arange(batch)
        expected = training_step(reference, arch, theirs, x, rows, seed=SEED, optimiser=Optimiser())
        found = fused(x, rows, seed=SEED, optimiser=Optimiser())
        assert float(found.loss()) == pytest.approx(float(expected.loss()), rel=1e-10)
    compare(ours.parameters["likelihood.logvar"], theirs.parameters["likelihood.logvar"]).check(1e-9)


def test_floats_of_either_precision_and_bytes_are_numbers_all_the_same() -> None:
    found = []
    for kind in (np.uint8, np.float32, np.float64):
        arch, batch, state = made("odd", "normal")
        x = (np.random.default_rng(0).random((batch, arch.features)) < 0.3).astype(kind)
        FusedStep(arch, state, batch)(x, np.arange(batch), seed=SEED, optimiser=Optimiser())
        found.append(state.parameters.flat.copy())
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


def test_drawn_pixels_serve_a_normal_likelihood_too() -> None:
    states = []
    for grey in (True, False):
        arch, batch, state = made("odd", "normal")
        x, rows = np.random.default_rng(0).integers(0, 256, (batch, arch.features), np.uint8), np.arange(batch)
        if not grey:
            x = noise.bernoulli(x, seed=SEED, stream=noise.BINARIZE, step=0, rows=rows)
        FusedStep(arch, state, batch)(x, rows, seed=SEED, optimiser=Optimiser(), grey=grey)
        states.append(state.parameters.flat)
    assert np.array_equal(*states)


@pytest.mark.parametrize(("share", "is_sparse"), [(0.13, 1), (0.35, 1), (0.45, 0), (0.9, 0)])
@pytest.mark.parametrize("kind", ["binary", "grey, black or white", "grey"])
def test_the_share_of_ones_chooses_how_the_first_layer_is_summed(kind: str, share: float, is_sparse: int) -> None:
    arch, batch, state = made("pt", "bernoulli")
    x = (np.random.default_rng(0).random((batch, arch.features)) < share).astype(np.uint8)
    if kind == "grey":
        # All pixels may become one, and that share of them will.
        x = np.full_like(x, round(255 * share))
    elif kind != "binary":
        x *= 255
    fused = FusedStep(arch, state, batch)
    fused(x, np.arange(batch), seed=SEED, optimiser=Optimiser(), grey=kind != "binary")
    # Only sums need to know how many pixels are one.
    assert fused._buffers.active_count.all() == is_sparse


def test_an_infinite_sigma_is_noticed() -> None:
    arch, batch, state = made("odd", "normal-diagonal")
    fused = FusedStep(arch, state, batch)
    state.parameters["likelihood.logvar"][0] = np.nan
    fused(batch_of(arch, batch, 0), np.arange(batch), seed=SEED, optimiser=Optimiser())
    assert not fused.finite


def test_what_is_no_number_or_no_batch_is_refused_by_name() -> None:
    arch, batch, state = made("odd", "normal")
    fused = FusedStep(arch, state, batch)
    for wrong in (np.zeros((batch, arch.features), np.int64), np.zeros((batch, 5), np.float32)):
        with pytest.raises(InputError, match=r"x: got .* of shape \(7, .*\), expected uint8 or floats of \(7, 61\)"):
            fused(wrong, np.arange(batch), seed=0, optimiser=Optimiser())
