"""The fused step of two stochastic layers against the composed objectives: terms, gradients, threads, precision.

Budget: about 3 s.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vae_np import backends, noise, objectives
from vae_np import ops as reference
from vae_np.architecture import Architecture
from vae_np.kernels.check import compare
from vae_np.model import initialise
from vae_np.step import Optimiser, TrainingState

if backends.missing("numba") is not None:
    pytest.skip(str(backends.missing("numba")), allow_module_level=True)

from vae_np.kernels import cpu
from vae_np.kernels.cpu.fused import FusedStep, unsupported

SEED, STEPS = 11, 3
MODELS = {
    "burda": (Architecture(784, 100, (200, 200), "tanh", top_latent=50, top_hidden=(100, 100)), 20),
    "odd": (Architecture(61, 3, (37, 18), "softplus", top_latent=7, top_hidden=(11, 6, 5)), 7),
    "narrow above": (Architecture(61, 6, (17,), "relu", top_latent=1, top_hidden=(9,)), 5),
    "heads alone": (Architecture(30, 3, (8,), "tanh", top_latent=2, top_hidden=()), 4),
    "normal": (Architecture(12, 2, (5,), "tanh", "normal-diagonal", 0.8, top_latent=3, top_hidden=(4,)), 6),
}
TOLERANCE = {"float64": 1e-12, "float32": 1e-5}


def batch_of(arch: Architecture, batch: int, step: int) -> tuple[Any, Any]:
    """A batch that suits the likelihood, and its places."""
    rng = np.random.default_rng(step)
    x = rng.integers(0, 2, (batch, arch.features)).astype(np.uint8)
    return x if arch.is_bernoulli else rng.standard_normal(x.shape), rng.permutation(batch)


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize(("samples", "beta"), [(None, 1.0), (None, 0.3), (1, 0.3), (5, 1.0), (5, 0.3)])
@pytest.mark.parametrize("name", MODELS)
def test_terms_and_gradients_in_lock_step(name: str, samples: int | None, beta: float, dtype: Any) -> None:
    arch, batch = MODELS[name]
    tolerance, objective = TOLERANCE[np.dtype(dtype).name], "elbo" if samples is None else "iwae"
    state = TrainingState(initialise(arch, seed=SEED, dtype=dtype))
    fused = FusedStep(arch, state, batch, samples=samples)
    gradients = initialise(arch, seed=SEED, dtype=np.float64).zeros_like()
    for step in range(STEPS):
        x, rows = batch_of(arch, batch, step)
        eps = np.concatenate([
            noise.normal(
                rows, arch.noise_columns, seed=SEED, stream=noise.EPS, step=step, sample=k, dtype=np.float64
            )
            for k in range(samples or 1)
        ])  # fmt: skip
        expected, cache = objectives.objective_forward(
            reference, arch, state.parameters.astype(np.float64), x, eps, objective=objective, beta=beta
        )
        objectives.objective_backward(reference, arch, cache, gradients)
        found = fused(x, rows, seed=SEED, optimiser=Optimiser(), beta=beta, keep_gradients=True)
        assert fused.finite
        assert (found.bound is None) == (samples is None)
        for term in ("reconstruction", "kl", "bound"):
            if getattr(found, term) is not None:
                compare(getattr(found, term), getattr(expected, term)).check(tolerance, term)
        for tensor, gradient in gradients.items():
            compare(state.gradients[tensor], gradient).check(tolerance, f"gradient of {tensor}")


@pytest.mark.parametrize("samples", [None, 5])
def test_bits_do_not_depend_on_threads_or_on_keeping_gradients(samples: int | None) -> None:
    arch, batch = MODELS["burda"]
    results = []
    for threads in sorted({1, cpu.available()}):
        cpu.set_threads(threads)
        for keep in (False, True):
            state = TrainingState(initialise(arch, seed=SEED))
            fused = FusedStep(arch, state, batch, samples=samples)
            for step in range(4):
                x, rows = batch_of(arch, batch, step)
                fused(x, rows, seed=SEED, optimiser=Optimiser(), keep_gradients=keep)
            results.append(state.parameters.flat.copy())
    assert all(np.array_equal(results[0], other) for other in results[1:])


def test_a_layer_above_that_is_not_finite_is_noticed() -> None:
    arch, batch = MODELS["odd"]
    state = TrainingState(initialise(arch, seed=SEED))
    fused = FusedStep(arch, state, batch, samples=2)
    state.parameters["top.decoder.logvar.bias"][0] = np.nan
    x, rows = batch_of(arch, batch, 0)
    fused(x, rows, seed=SEED, optimiser=Optimiser())
    assert not fused.finite


def test_steps_are_fused_and_evaluation_is_composed() -> None:
    arch, _ = MODELS["odd"]
    assert unsupported(arch) is None
    backend = backends.choose("numba")
    assert backend.unfused_step(arch, "iwae", 5) is None
    assert backend.unfused_step(arch, "elbo", 1) is None
    assert backend.unfused_step(arch, "elbo", 2) == "nothing is fused for the ELBO of several samples"
    assert backend.fused_log_weights(arch) is None
    said = "composed evaluation (no evaluation is fused for two stochastic layers)"
    assert backend.describe("evaluation", arch) == said
