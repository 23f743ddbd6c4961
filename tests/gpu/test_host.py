"""The GPU's host code and kernels together: steps, runs, evaluation, training, against the reference.

Each test runs twice: on a device, where there is one, and with the kernels compiled for the processor, which does not
show that a device would do the same (shim/cuda_shim.h). Budget: about 12 s, most of it g++.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import shimlib
from vae_np.kernels import gpu
from vae_np.kernels.check import compare
from vae_np.kernels.gpu import _device, fused

from vae_np import likelihood, noise
from vae_np import ops as reference
from vae_np.elbo import elbo_backward, elbo_forward
from vae_np.errors import InputError
from vae_np.model import Architecture, initialise
from vae_np.step import Optimiser, TrainingState, training_step

SEED = 11
ARCHITECTURES = {
    "odd": (Architecture(61, 3, (37, 18, 5), "softplus"), 7),
    "two": (Architecture(30, 6, (33, 17), "tanh"), 4),
    "one": (Architecture(70, 2, (40,), "relu"), 35),
    "single": (Architecture(10, 1, (1,), "tanh"), 1),
}
TOLERANCE = {"float64": 1e-12, "float32": 1e-5}
DTYPES = [np.float64, np.float32]


@pytest.fixture
def shim() -> Iterator[shimlib.ShimDevice]:
    shimlib.require_compiler()
    device = shimlib.ShimDevice()
    with _device.use(device):
        yield device


@pytest.fixture(params=["shim", pytest.param("device", marks=pytest.mark.gpu)])
def door(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue("shim") if request.param == "shim" else _device.device()


def grey_rows(arch: Architecture, count: int) -> Any:
    rng = np.random.default_rng(3)
    return np.clip(rng.integers(-300, 400, (count, arch.features)), 0, 255).astype(np.uint8)


def batches(arch: Architecture, batch: int, steps: int) -> Any:
    """(grey, binary, rows) of each step."""
    pool = grey_rows(arch, 5 * batch)
    for step in range(steps):
        rows = np.random.default_rng(step).permutation(len(pool))[:batch]
        yield pool[rows], noise.bernoulli(pool[rows], seed=SEED, stream=noise.BINARIZE, step=step, rows=rows), rows


def new_state(arch: Architecture, dtype: Any) -> TrainingState:
    return TrainingState(initialise(arch, seed=SEED, dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_terms_and_gradients_in_lock_step(name: str, dtype: Any, door: Any) -> None:
    arch, batch = ARCHITECTURES[name]
    tolerance = TOLERANCE[np.dtype(dtype).name]
    theirs, ours = new_state(arch, np.float64), new_state(arch, dtype)
    step = gpu.FusedStep(arch, ours, batch)
    for grey, x, rows in batches(arch, batch, 2):
        for mine, right in ((ours.parameters, theirs.parameters), (ours.first_moment, theirs.first_moment),
                            (ours.second_moment, theirs.second_moment)):  # fmt: skip
            mine.assign(right)
            # The reference starts from what float32 can hold, so that only this step's rounding is measured.
            right.assign(mine)
        expected = training_step(reference, arch, theirs, x, rows, seed=SEED, optimiser=Optimiser(), beta=0.7)
        found = step(grey, rows, seed=SEED, optimiser=Optimiser(), beta=0.7, grey=True, keep_gradients=True)
        assert ours.step == theirs.step
        assert step.finite
        compare(found.reconstruction, expected.reconstruction).check(tolerance, "reconstruction")
        compare(found.kl, expected.kl).check(tolerance, "kl")
        for tensor, gradient in theirs.gradients.items():
            compare(ours.gradients[tensor], gradient).check(tolerance, f"gradient of {tensor}")
        for tensor, value in theirs.parameters.items():
            # Where a gradient is all rounding, Adam still moves by a whole step: parameters follow gradients loosely.
            compare(ours.parameters[tensor], value).check(1e-9 if dtype is np.float64 else 2e-3, tensor)


@pytest.mark.parametrize("grey", [True, False])
def test_grey_and_binary_batches_give_the_same_step(grey: bool, door: Any) -> None:
    arch, batch = ARCHITECTURES["two"]
    one, other = new_state(arch, np.float64), new_state(arch, np.float64)
    drawn, x, rows = next(batches(arch, batch, 1))
    gpu.FusedStep(arch, one, batch)(drawn if grey else x, rows, seed=SEED, optimiser=Optimiser(), grey=grey)
    training_step(reference, arch, other, x, rows, seed=SEED, optimiser=Optimiser())
    compare(one.parameters.flat, other.parameters.flat).check(1e-9)


def test_adagrad_takes_the_fused_gradients(door: Any) -> None:
    arch, batch = ARCHITECTURES["two"]
    optimiser = Optimiser("adagrad", lr=0.01)
    theirs, ours = new_state(arch, np.float64), new_state(arch, np.float64)
    step = gpu.FusedStep(arch, ours, batch)
    for _, x, rows in batches(arch, batch, 3):
        training_step(reference, arch, theirs, x, rows, seed=SEED, optimiser=optimiser)
        step(x, rows, seed=SEED, optimiser=optimiser)
    compare(ours.parameters.flat, theirs.parameters.flat).check(1e-9)


def test_a_parameter_that_is_not_finite_is_noticed_at_the_next_step(door: Any) -> None:
    arch, batch = ARCHITECTURES["two"]
    state = new_state(arch, np.float32)
    step = gpu.FusedStep(arch, state, batch)
    _, x, rows = next(batches(arch, batch, 1))
    step(x, rows, seed=SEED, optimiser=Optimiser())
    assert step.finite
    state.parameters["decoder.out.weight"][0, 0] = np.nan
    step(x, rows, seed=SEED, optimiser=Optimiser())
    assert not step.finite


# Runs whose steps are only launched


EPOCH_ROWS, BATCH = 26, 4
PER_EPOCH = EPOCH_ROWS // BATCH


@pytest.fixture
def short_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs of three steps and a ring of seven metrics, so that a few steps use both in every way."""
    monkeypatch.setattr(fused, "GRAPH_STEPS", 3)
    monkeypatch.setattr(fused, "SLOTS", 7)


def reference_run(
    data: Any, epochs: int, draw: bool, lr: list[float], beta: float = 1.0, warmup: int = 0
) -> tuple[TrainingState, Any]:
    """The state after `epochs` of the reference, and (steps, 2) of mean reconstruction and KL."""
    arch = ARCHITECTURES["two"][0]
    state, lines = new_state(arch, np.float64), []
    for epoch in range(epochs):
        order = noise.order(EPOCH_ROWS, seed=SEED, epoch=epoch)
        for first in range(0, PER_EPOCH * BATCH, BATCH):
            rows, step = order[first : first + BATCH], state.step
            x = data[rows]
            if draw:
                x = noise.bernoulli(x, seed=SEED, stream=noise.BINARIZE, step=step, rows=rows)
            weight = beta if step >= warmup else beta * step / warmup
            optimiser = Optimiser(lr=lr[epoch])
            terms = training_step(reference, arch, state, x, rows, seed=SEED, optimiser=optimiser, beta=weight)
            lines.append((terms.reconstruction.mean(), terms.kl.mean()))
    return state, np.array(lines)


@pytest.mark.parametrize("draw", [True, False], ids=["grey", "binary"])
@pytest.mark.usefixtures("short_graphs")
def test_a_run_of_graphs_is_the_references_run(draw: bool, door: Any) -> None:
    arch = ARCHITECTURES["two"][0]
    data = grey_rows(arch, EPOCH_ROWS) if draw else (grey_rows(arch, EPOCH_ROWS) > 128).astype(np.uint8)
    lr = [0.01, 0.01, 0.002]
    expected, terms = reference_run(data, 3, draw, lr, beta=0.6, warmup=9)
    state = new_state(arch, np.float64)
    run = gpu.FusedRun(
        arch, state, BATCH, data, seed=SEED, optimiser=Optimiser(lr=lr[0]), beta=0.6, beta_warmup=9, draw=draw
    )
    found = []
    for epoch in range(3):
        run.order(epoch, noise.order(EPOCH_ROWS, seed=SEED, epoch=epoch))
        run.learning_rate(lr[epoch])
        # Two parts are on their way before the first is asked for.
        queued = [run.steps(4), run.steps(PER_EPOCH - 4)]
        for part in queued:
            reconstruction, kl, bad = part.result()
            assert bad is None
            found.append(np.stack([reconstruction, kl], axis=1))
    assert state.step == expected.step == 18
    compare(np.concatenate(found), terms).check(1e-10, "terms of every step")
    run.pull()
    for name in ("parameters", "first_moment", "second_moment"):
        compare(getattr(state, name).flat, getattr(expected, name).flat).check(1e-8, name)


@pytest.mark.usefixtures("short_graphs")
def test_a_run_goes_on_from_the_state_it_is_given(door: Any) -> None:
    arch = ARCHITECTURES["two"][0]
    data = grey_rows(arch, EPOCH_ROWS)
    whole, parts = new_state(arch, np.float32), new_state(arch, np.float32)

    def go_on(state: TrainingState, pieces: list[int]) -> None:
        run = gpu.FusedRun(arch, state, BATCH, data, seed=SEED, optimiser=Optimiser(), draw=True)
        run.order(0, noise.order(EPOCH_ROWS, seed=SEED, epoch=0))
        for count in pieces:
            run.steps(count).result()
        run.pull()

    go_on(whole, [5])
    go_on(parts, [2])
    go_on(parts, [1, 2])
    # The same kernels in the same order, however many a graph has: the same bits.
    assert np.array_equal(whole.parameters.flat, parts.parameters.flat)
    assert np.array_equal(whole.second_moment.flat, parts.second_moment.flat)
    padding = whole.parameters.flat.size - whole.parameters.count
    assert padding > 0
    assert (whole.parameters.flat == 0).sum() >= padding


@pytest.mark.usefixtures("short_graphs")
def test_nothing_is_allocated_or_copied_while_steps_run(
    shim: shimlib.ShimDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    arch = ARCHITECTURES["two"][0]
    state = new_state(arch, np.float32)
    run = gpu.FusedRun(arch, state, BATCH, grey_rows(arch, EPOCH_ROWS), seed=SEED, optimiser=Optimiser(), draw=True)
    run.order(0, noise.order(EPOCH_ROWS, seed=SEED, epoch=0))

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a step needs the host")

    for name in ("empty", "put", "write", "prepare"):
        monkeypatch.setattr(shim, name, refuse)
    run.learning_rate(Optimiser().lr)
    run.steps(5).result()
    per_step = len(shim.launched) // 5
    assert shim.launched == 5 * shim.launched[:per_step]
    # One launch a hidden layer and direction beside the fixed five, and the first layer's gradient is in the last.
    assert (shim.launched[0], shim.launched[per_step - 1]) == ("step_begin", "step_weights_32")


@pytest.mark.usefixtures("short_graphs")
def test_the_first_step_that_is_not_finite_is_named(door: Any) -> None:
    arch = ARCHITECTURES["two"][0]
    state = new_state(arch, np.float32)
    data = grey_rows(arch, EPOCH_ROWS)
    run = gpu.FusedRun(arch, state, BATCH, data, seed=SEED, optimiser=Optimiser(), draw=True)
    run.order(0, noise.order(EPOCH_ROWS, seed=SEED, epoch=0))
    assert run.steps(2).result()[2] is None
    run.learning_rate(1e30)
    first, second = run.steps(3), run.steps(1)
    assert first.result()[2] == second.result()[2] == 3


def test_what_a_run_cannot_do_is_refused_by_name(door: Any) -> None:
    arch = ARCHITECTURES["two"][0]
    state, data = new_state(arch, np.float32), grey_rows(arch, EPOCH_ROWS)
    with pytest.raises(InputError, match="optimizer: got 'adagrad', expected 'adam'"):
        gpu.FusedRun(arch, state, BATCH, data, seed=0, optimiser=Optimiser("adagrad"))
    with pytest.raises(InputError, match=r"data: got uint8 of shape \(3, 30\), expected uint8 of \(4 or more, 30\)"):
        gpu.FusedRun(arch, state, BATCH, data[:3], seed=0, optimiser=Optimiser())
    run = gpu.FusedRun(arch, state, BATCH, data, seed=0, optimiser=Optimiser())
    for wrong in (0, fused.SLOTS + 1):
        with pytest.raises(InputError, match=f"count: got {wrong}, expected 1 to"):
            run.steps(wrong)
    with pytest.raises(InputError, match="architecture: nothing is fused for likelihood normal"):
        gpu.FusedStep(Architecture(4, 1, (2,), likelihood="normal"), state, 2)
    assert gpu.unsupported(Architecture(latent=2501)) == "nothing is fused for more than 2500 latents"
    with pytest.raises(InputError, match=r"x: got float64 of shape \(4, 30\), expected uint8 of \(4, 30\)"):
        gpu.FusedStep(arch, state, BATCH)(np.zeros((4, 30)), np.arange(4), seed=0, optimiser=Optimiser())


# The likelihood


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("rows_at_once", [1, 20, 65_536])
def test_log_weights_agree_with_the_reference_whatever_the_chunk(
    rows_at_once: int, dtype: Any, door: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vae_np.kernels.gpu import importance

    monkeypatch.setattr(importance, "_CHUNK_ROWS", rows_at_once)
    arch = ARCHITECTURES["odd"][0]
    parameters = initialise(arch, seed=3, dtype=np.float32)
    wide, ours = parameters.astype(np.float64), parameters.astype(dtype)
    rng = np.random.default_rng(0)
    x, rows = (rng.random((5, arch.features)) < 0.2).astype(np.uint8), rng.permutation(9)[:5]
    samples = 13
    (mu, logvar), _ = importance.encode_forward(reference, arch, wide, x)
    eps = noise.normal_samples(
        rows, arch.latent, seed=7, stream=noise.EVAL_EPS, count=samples, dtype=np.float64
    )
    expected = likelihood.log_weights(reference, arch, wide, x, mu, logvar, eps)
    tolerance = TOLERANCE[np.dtype(dtype).name]
    found = gpu.log_weights(gpu, arch, ours, x, rows, samples=samples, seed=7)
    compare(found, expected).check(tolerance)
    assert type(found) is np.ndarray
    later = gpu.log_weights(gpu, arch, ours, x, rows, samples=6, seed=7, first=7)
    compare(later, expected[7:]).check(tolerance)


def test_warmup_compiles_both_loops(shim: shimlib.ShimDevice) -> None:
    assert gpu.warmup(Architecture(likelihood="normal")) == 0
    assert gpu.warmup(ARCHITECTURES["two"][0]) > 0
    assert {"step_weights_32", "importance_sample", "importance_weights"} <= set(shim.launched)


def test_large_batches_take_large_tiles_and_a_dense_first_layer(door: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from vae_np.kernels.gpu import _arrays

    assert (_arrays.tile(511), _arrays.tile(512)) == (32, 64)
    # As if the batch were large, which the kernels do not know.
    monkeypatch.setattr(fused, "tile", lambda rows: 64)
    arch, batch = ARCHITECTURES["two"]
    theirs, ours = new_state(arch, np.float64), new_state(arch, np.float64)
    step = gpu.FusedStep(arch, ours, batch)
    grey, x, rows = next(batches(arch, batch, 1))
    expected = training_step(reference, arch, theirs, x, rows, seed=SEED, optimiser=Optimiser())
    found = step(grey, rows, seed=SEED, optimiser=Optimiser(), grey=True, keep_gradients=True)
    compare(found.reconstruction, expected.reconstruction).check(1e-12)
    compare(ours.gradients.flat, theirs.gradients.flat).check(1e-12)


# Where results lie


@pytest.mark.parametrize("likelihood", ["bernoulli", "normal"])
def test_results_lie_where_the_arguments_do(likelihood: str, door: Any) -> None:
    arch = Architecture(30, 6, (33, 17), "tanh", likelihood)
    parameters = initialise(arch, seed=2, dtype=np.float64)
    rng = np.random.default_rng(0)
    x, eps = (rng.random((4, 30)) < 0.3).astype(np.float64), rng.standard_normal((8, 6))
    terms, cache = elbo_forward(reference, arch, parameters, x, eps)
    expected = parameters.zeros_like()
    elbo_backward(reference, arch, cache, expected)

    there = {name: door.put(value, value.dtype) for name, value in parameters.items()}
    found, kept = elbo_forward(gpu, arch, there, door.put(x, x.dtype), door.put(eps, eps.dtype))
    gradients = {name: door.put(np.zeros_like(value), value.dtype) for name, value in parameters.items()}
    elbo_backward(gpu, arch, kept, gradients)  # type: ignore[arg-type]
    assert door.owns(found.reconstruction)
    assert door.owns(found.kl)
    compare(door.get(found.reconstruction), terms.reconstruction).check(1e-12)
    for name, gradient in expected.items():
        compare(door.get(gradients[name]), gradient).check(1e-12, name)

    # From the host to the host, though the cache lies on the device.
    home, kept = elbo_forward(gpu, arch, parameters, x, eps)
    assert type(home.reconstruction) is np.ndarray
    ours = parameters.zeros_like()
    elbo_backward(gpu, arch, kept, ours)
    compare(ours.flat, expected.flat).check(1e-12)


def test_adam_on_the_device_changes_the_arrays_it_is_given(door: Any) -> None:
    rng = np.random.default_rng(0)
    host = [np.abs(rng.standard_normal(100)) for _ in range(4)]
    there = [door.put(array, array.dtype) for array in host]
    for step in (1, 2):
        reference.adam_update(*host, step=step, lr=1e-2)
        gpu.adam_update(*there, step=step, lr=1e-2)
    for mine, right in zip(there, host, strict=True):
        compare(door.get(mine), right).check(1e-12)
