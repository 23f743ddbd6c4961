"""The fused step on IWAE's bound against the composed objective: terms, gradients, threads, left-out samples.

Budget: about 6 s.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vae_np import backends, noise, objectives
from vae_np import ops as reference
from vae_np.architecture import Architecture
from vae_np.errors import InputError
from vae_np.kernels.check import compare
from vae_np.model import initialise
from vae_np.step import Optimiser, TrainingState

if backends.missing("numba") is not None:
    pytest.skip(str(backends.missing("numba")), allow_module_level=True)

from vae_np.kernels import cpu
from vae_np.kernels.cpu.fused import FusedStep

SEED, STEPS = 11, 3
MODELS = {
    "iwae": (Architecture(784, 50, (200, 200), "tanh"), 20),
    "odd": (Architecture(61, 3, (37, 18, 5), "softplus"), 7),
    "single": (Architecture(10, 1, (1,), "relu"), 1),
}
TOLERANCE = {"float64": 1e-12, "float32": 1e-5}


def batch_of(arch: Architecture, batch: int, step: int) -> tuple[Any, Any]:
    """Grey bytes and the places of a batch."""
    rng = np.random.default_rng(step)
    return np.clip(rng.integers(-300, 400, (batch, arch.features)), 0, 255).astype(np.uint8), rng.permutation(batch)


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("beta", [1.0, 0.3])
@pytest.mark.parametrize("samples", [1, 5, 50])
@pytest.mark.parametrize("name", MODELS)
def test_terms_and_gradients_in_lock_step(name: str, samples: int, beta: float, dtype: Any) -> None:
    arch, batch = MODELS[name]
    tolerance = TOLERANCE[np.dtype(dtype).name]
    state = TrainingState(initialise(arch, seed=SEED, dtype=dtype))
    fused = FusedStep(arch, state, batch, samples=samples)
    gradients = initialise(arch, seed=SEED, dtype=np.float64).zeros_like()
    for step in range(STEPS):
        grey, rows = batch_of(arch, batch, step)
        x = noise.bernoulli(grey, seed=SEED, stream=noise.BINARIZE, step=step, rows=rows)
        eps = np.concatenate(
            [noise.normal(rows, arch.latent, seed=SEED, stream=noise.EPS, step=step, sample=k, dtype=np.float64)
             for k in range(samples)]
        )  # fmt: skip
        expected, cache = objectives.objective_forward(
            reference, arch, state.parameters.astype(np.float64), x, eps, objective="iwae", beta=beta
        )
        objectives.objective_backward(reference, arch, cache, gradients)
        found = fused(grey, rows, seed=SEED, optimiser=Optimiser(), beta=beta, grey=True, keep_gradients=True)
        assert fused.finite
        for term in ("reconstruction", "kl", "bound"):
            compare(getattr(found, term), getattr(expected, term)).check(tolerance, term)
        for tensor, gradient in gradients.items():
            compare(state.gradients[tensor], gradient).check(tolerance, f"gradient of {tensor}")


def test_bits_do_not_depend_on_threads_or_on_keeping_gradients() -> None:
    arch, batch = MODELS["iwae"]
    results = []
    for threads in sorted({1, cpu.available()}):
        cpu.set_threads(threads)
        for keep in (False, True):
            state = TrainingState(initialise(arch, seed=SEED))
            fused = FusedStep(arch, state, batch, samples=13)
            for step in range(4):
                grey, rows = batch_of(arch, batch, step)
                fused(grey, rows, seed=SEED, optimiser=Optimiser(), grey=True, keep_gradients=keep)
            results.append(state.parameters.flat.copy())
    assert all(np.array_equal(results[0], other) for other in results[1:])


def spread(name: str, dtype: Any) -> tuple[Architecture, int, Any]:
    """A model whose q is far too wide, as training on the bound leaves it: most weights are next to nothing."""
    arch, batch = MODELS[name]
    parameters = initialise(arch, seed=SEED, dtype=dtype)
    parameters["encoder.logvar.bias"][...] = 5
    return arch, batch, parameters


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=lambda d: np.dtype(d).name)
def test_samples_that_are_left_out_could_not_reach_the_sum(dtype: Any) -> None:
    """The bound of [D42], from each sample's own gradient in float64; and the fused step against all of them."""
    samples, bits = 40, np.finfo(dtype).nmant + 1
    arch, batch, parameters = spread("odd", np.float32)
    start, state = parameters.astype(np.float64), TrainingState(parameters.astype(dtype))
    grey, rows = batch_of(arch, batch, 0)
    x = noise.bernoulli(grey, seed=SEED, stream=noise.BINARIZE, step=0, rows=rows)
    eps = np.stack([noise.normal(rows, arch.latent, seed=SEED, stream=noise.EPS, step=0, sample=k, dtype=np.float64)
                    for k in range(samples)])  # fmt: skip
    log_w, single = np.zeros((samples, batch)), np.zeros((samples, batch, start.flat.size))
    for k, i in np.ndindex(samples, batch):
        gradients = start.zeros_like()
        terms, cache = objectives.objective_forward(reference, arch, start, x[[i]], eps[k, [i]], objective="iwae")
        objectives.objective_backward(reference, arch, cache, gradients)
        log_w[k, i], single[k, i] = -terms.loss(), gradients.flat
    weights = np.exp(log_w - log_w.max(axis=0))
    weights /= weights.sum(axis=0)
    left_out = weights < 2.0 ** -(bits + 10) / samples
    assert left_out.mean() > 0.2

    fused = FusedStep(arch, state, batch, samples=samples)
    fused(x, rows, seed=SEED, optimiser=Optimiser(), keep_gradients=True)
    assert np.array_equal(fused._buffers.kept, (~left_out).sum(axis=0))
    everything = np.einsum("kb,kbp->p", weights, single) / batch
    lost = np.einsum("kb,kbp->p", weights * left_out, single) / batch
    assert (abs(lost) <= 2.0 ** -(bits + 10) * abs(single[left_out]).max(axis=0)).all()
    for tensor, value in state.gradients.items():
        place = slice(start.offset(tensor), start.offset(tensor) + value.size)
        assert abs(lost[place]).max() < 2.0**-bits * abs(everything[place]).max()
        compare(value.ravel(), everything[place]).check(TOLERANCE[np.dtype(dtype).name], f"gradient of {tensor}")


def test_bits_do_not_depend_on_threads_where_samples_are_left_out() -> None:
    results = []
    for threads in sorted({1, cpu.available()}):
        cpu.set_threads(threads)
        arch, batch, parameters = spread("iwae", np.float32)
        state = TrainingState(parameters)
        fused = FusedStep(arch, state, batch, samples=13)
        for step in range(4):
            grey, rows = batch_of(arch, batch, step)
            fused(grey, rows, seed=SEED, optimiser=Optimiser(), grey=True)
            assert 0 < fused._buffers.kept.mean() < 10
        results.append(state.parameters.flat.copy())
    assert all(np.array_equal(results[0], other) for other in results[1:])


def test_an_infinite_log_weight_is_noticed() -> None:
    arch, batch = MODELS["odd"]
    state = TrainingState(initialise(arch, seed=SEED))
    fused = FusedStep(arch, state, batch, samples=4)
    state.parameters["decoder.out.bias"][0] = np.nan
    grey, rows = batch_of(arch, batch, 0)
    fused(grey, rows, seed=SEED, optimiser=Optimiser(), grey=True)
    assert not fused.finite


def test_less_than_one_sample_is_refused() -> None:
    arch, batch = MODELS["odd"]
    with pytest.raises(InputError, match="samples: got 0, expected at least 1"):
        FusedStep(arch, TrainingState(initialise(arch, seed=SEED)), batch, samples=0)
