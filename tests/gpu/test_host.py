"""The GPU's host code and kernels together: steps, runs, evaluation, training, against the reference.

Each test runs twice: on a device, where there is one, and with the kernels compiled for the processor, which does not
show that a device would do the same (vae_np/exercises/shim/cuda_shim.h). Budget: about 20 s, half of it g++.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import shimlib

from vae_np import noise
from vae_np import ops as reference
from vae_np.architecture import Architecture
from vae_np.elbo import Terms, elbo_backward, elbo_forward, posterior_log_prob, standard_normal_log_prob
from vae_np.errors import InputError
from vae_np.evaluation.importance import log_weights
from vae_np.kernels import gpu
from vae_np.kernels.check import compare
from vae_np.kernels.gpu import _device, fused
from vae_np.model import Model, initialise
from vae_np.step import Optimiser, TrainingState, training_step

SEED = 11
ARCHITECTURES = {
    "odd": (Architecture(61, 3, (37, 18, 5), "softplus"), 7),
    "two": (Architecture(30, 6, (33, 17), "tanh"), 4),
    "one": (Architecture(70, 2, (40,), "relu"), 35),
    "single": (Architecture(10, 1, (1,), "tanh"), 1),
    "uneven": (Architecture(30, 3, (18, 7), "tanh", decoder_hidden=(9, 23, 11)), 5),
}
TOLERANCE = {"float64": 1e-12, "float32": 1e-5}
DTYPES = [np.float64, np.float32]
# None is the ELBO, a number IWAE's bound of so many samples.
SAMPLES = [None, 1, 5, 50]


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


def climbing(samples: int | None) -> dict[str, Any]:
    """How the reference is asked for the same objective."""
    return {} if samples is None else {"objective": "iwae", "samples": samples}


def new_state(arch: Architecture, dtype: Any) -> TrainingState:
    return TrainingState(initialise(arch, seed=SEED, dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("samples", SAMPLES)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_terms_and_gradients_in_lock_step(name: str, samples: int | None, dtype: Any, door: Any) -> None:
    arch, batch = ARCHITECTURES[name]
    tolerance = TOLERANCE[np.dtype(dtype).name]
    theirs, ours = new_state(arch, np.float64), new_state(arch, dtype)
    step = gpu.FusedStep(arch, ours, batch, samples)
    how = climbing(samples)
    for grey, x, rows in batches(arch, batch, 2):
        for mine, right in ((ours.parameters, theirs.parameters), (ours.first_moment, theirs.first_moment),
                            (ours.second_moment, theirs.second_moment)):  # fmt: skip
            mine.assign(right)
            # The reference starts from what float32 can hold, so that only this step's rounding is measured.
            right.assign(mine)
        expected = training_step(reference, arch, theirs, x, rows, seed=SEED, optimiser=Optimiser(), beta=0.7, **how)
        found = step(grey, rows, seed=SEED, optimiser=Optimiser(), beta=0.7, grey=True, keep_gradients=True)
        assert ours.step == theirs.step
        assert step.finite
        compare(found.reconstruction, expected.reconstruction).check(tolerance, "reconstruction")
        compare(found.kl, expected.kl).check(tolerance, "kl")
        assert (found.bound is None) == (expected.bound is None) == (samples is None)
        if expected.bound is not None:
            compare(found.bound, expected.bound).check(tolerance, "bound")
        for tensor, gradient in theirs.gradients.items():
            compare(ours.gradients[tensor], gradient).check(tolerance, f"gradient of {tensor}")
        for tensor, value in theirs.parameters.items():
            # Where a gradient is all rounding, Adam still moves by a whole step: parameters follow gradients loosely.
            compare(ours.parameters[tensor], value).check(1e-9 if dtype is np.float64 else 2e-3, tensor)


@pytest.mark.parametrize("samples", [None, 5])
def test_a_blocks_gradient_is_the_steps_and_moves_nothing(samples: int | None, door: Any) -> None:
    arch, batch = ARCHITECTURES["two"]
    moved, kept = new_state(arch, np.float64), new_state(arch, np.float64)
    grey, _, rows = next(batches(arch, batch, 1))
    how: dict[str, Any] = {"seed": SEED, "beta": 0.7, "grey": True}
    step = gpu.FusedStep(arch, moved, batch, samples)
    expected = step(grey, rows, optimiser=Optimiser(), keep_gradients=True, **how)
    before = kept.parameters.flat.copy()
    found = gpu.FusedStep(arch, kept, batch, samples).gradients(grey, rows, **how)
    assert np.array_equal(found.elbo, expected.elbo)
    assert np.array_equal(kept.gradients.flat, moved.gradients.flat)
    assert np.array_equal(kept.parameters.flat, before)
    assert kept.step == 0
    assert not kept.first_moment.flat.any()


@pytest.mark.parametrize("grey", [True, False])
def test_grey_and_binary_batches_give_the_same_step(grey: bool, door: Any) -> None:
    arch, batch = ARCHITECTURES["two"]
    one, other = new_state(arch, np.float64), new_state(arch, np.float64)
    drawn, x, rows = next(batches(arch, batch, 1))
    gpu.FusedStep(arch, one, batch)(drawn if grey else x, rows, seed=SEED, optimiser=Optimiser(), grey=grey)
    training_step(reference, arch, other, x, rows, seed=SEED, optimiser=Optimiser())
    compare(one.parameters.flat, other.parameters.flat).check(1e-9)


def test_a_bound_of_one_sample_is_log_p_and_q_at_that_sample(door: Any) -> None:
    arch, batch = ARCHITECTURES["two"]
    state, plain = new_state(arch, np.float64), new_state(arch, np.float64)
    _, x, rows = next(batches(arch, batch, 1))
    eps = noise.normal(rows, arch.latent, seed=SEED, stream=noise.EPS, step=0, dtype=np.float64)
    # The ELBO's joint form: every term at the sample.
    expected, passed = elbo_forward(reference, arch, state.parameters, x, eps, form="joint")
    gradients = state.parameters.zeros_like()
    elbo_backward(reference, arch, passed, gradients)
    found = gpu.FusedStep(arch, state, batch, 1)(x, rows, seed=SEED, optimiser=Optimiser(), keep_gradients=True)
    log_w = passed.loglik + standard_normal_log_prob(passed.z) - posterior_log_prob(passed.logvar, eps)
    compare(found.bound, log_w).check(1e-12)
    compare(found.bound, expected.elbo).check(1e-12)
    compare(state.gradients.flat, gradients.flat).check(1e-12)
    # Both draw the same sample, so they agree on what is one.
    elbo = gpu.FusedStep(arch, plain, batch)(x, rows, seed=SEED, optimiser=Optimiser())
    assert np.array_equal(found.reconstruction, elbo.reconstruction)
    assert np.array_equal(found.kl, elbo.kl)


@pytest.mark.parametrize("samples", [None, 5])
def test_two_stochastic_layers_are_composed(samples: int | None, door: Any) -> None:
    arch = Architecture(30, 6, (17,), "tanh", top_latent=3, top_hidden=(9,))
    assert gpu.unsupported(arch) == "nothing is fused for two stochastic layers"
    theirs, ours = new_state(arch, np.float64), new_state(arch, np.float64)
    _, x, rows = next(batches(arch, 4, 1))
    how = climbing(samples)
    expected = training_step(reference, arch, theirs, x, rows, seed=SEED, optimiser=Optimiser(), beta=0.7, **how)
    found = training_step(gpu, arch, ours, x, rows, seed=SEED, optimiser=Optimiser(), beta=0.7, **how)
    compare(found.elbo, expected.elbo).check(1e-12, "elbo")
    for tensor, gradient in theirs.gradients.items():
        compare(ours.gradients[tensor], gradient).check(1e-12, f"gradient of {tensor}")


def test_more_samples_than_a_block_has_threads(door: Any) -> None:
    arch, batch, samples = *ARCHITECTURES["single"], 300
    theirs, ours = new_state(arch, np.float64), new_state(arch, np.float64)
    _, x, rows = next(batches(arch, batch, 1))
    how = climbing(samples)
    expected = training_step(reference, arch, theirs, x, rows, seed=SEED, optimiser=Optimiser(), **how)
    found = gpu.FusedStep(arch, ours, batch, samples)(x, rows, seed=SEED, optimiser=Optimiser(), keep_gradients=True)
    compare(found.bound, expected.bound).check(1e-12)
    compare(ours.gradients.flat, theirs.gradients.flat).check(1e-12)


def test_weights_that_lie_thousands_of_nats_apart(door: Any) -> None:
    arch, batch = ARCHITECTURES["two"]
    theirs, ours = new_state(arch, np.float64), new_state(arch, np.float64)
    for state in (theirs, ours):
        state.parameters["decoder.out.weight"][...] *= 3000
    _, x, rows = next(batches(arch, batch, 1))
    expected = training_step(reference, arch, theirs, x, rows, seed=SEED, optimiser=Optimiser(), **climbing(5))
    found = gpu.FusedStep(arch, ours, batch, 5)(x, rows, seed=SEED, optimiser=Optimiser(), keep_gradients=True)
    # So far below that exp(log w) is zero, and so far apart that exp of a difference would be infinite.
    assert (expected.bound < -800).any()
    assert (expected.bound - expected.reconstruction > 800).any()
    compare(found.bound, expected.bound).check(1e-12)
    compare(ours.gradients.flat, theirs.gradients.flat).check(1e-12)


@pytest.mark.parametrize("samples", [None, 3])
def test_adagrad_takes_the_fused_gradients(samples: int | None, door: Any) -> None:
    arch, batch = ARCHITECTURES["two"]
    optimiser = Optimiser("adagrad", lr=0.01)
    theirs, ours = new_state(arch, np.float64), new_state(arch, np.float64)
    step = gpu.FusedStep(arch, ours, batch, samples)
    for _, x, rows in batches(arch, batch, 3):
        training_step(reference, arch, theirs, x, rows, seed=SEED, optimiser=optimiser, **climbing(samples))
        step(x, rows, seed=SEED, optimiser=optimiser)
    compare(ours.parameters.flat, theirs.parameters.flat).check(1e-9)


@pytest.mark.parametrize("samples", [None, 3])
def test_a_parameter_that_is_not_finite_is_noticed_at_the_next_step(samples: int | None, door: Any) -> None:
    arch, batch = ARCHITECTURES["two"]
    state = new_state(arch, np.float32)
    step = gpu.FusedStep(arch, state, batch, samples)
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
    data: Any, epochs: int, draw: bool, lr: list[float], samples: int | None, beta: float = 1.0, warmup: int = 0
) -> tuple[TrainingState, Any]:
    """The state after `epochs` of the reference, and (steps, 2 or 3): mean reconstruction, KL and bound, if any."""
    arch = ARCHITECTURES["two"][0]
    state, lines = new_state(arch, np.float64), []
    how: dict[str, Any] = {"seed": SEED, **climbing(samples)}
    for epoch in range(epochs):
        order = noise.order(EPOCH_ROWS, seed=SEED, epoch=epoch)
        for first in range(0, PER_EPOCH * BATCH, BATCH):
            rows, step = order[first : first + BATCH], state.step
            x = data[rows]
            if draw:
                x = noise.bernoulli(x, seed=SEED, stream=noise.BINARIZE, step=step, rows=rows)
            weight = beta if step >= warmup else beta * step / warmup
            optimiser = Optimiser(lr=lr[epoch])
            terms = training_step(reference, arch, state, x, rows, optimiser=optimiser, beta=weight, **how)
            lines.append(means_of(terms))
    return state, np.array(lines)


def means_of(terms: Terms) -> list[float]:
    parts = (terms.reconstruction, terms.kl, terms.bound)
    return [float(part.mean()) for part in parts if part is not None]


@pytest.mark.parametrize("draw", [True, False], ids=["grey", "binary"])
@pytest.mark.parametrize("samples", [None, 5])
@pytest.mark.usefixtures("short_graphs")
def test_a_run_of_graphs_is_the_references_run(samples: int | None, draw: bool, door: Any) -> None:
    arch = ARCHITECTURES["two"][0]
    data = grey_rows(arch, EPOCH_ROWS) if draw else (grey_rows(arch, EPOCH_ROWS) > 128).astype(np.uint8)
    lr = [0.01, 0.01, 0.002]
    expected, terms = reference_run(data, 3, draw, lr, samples, beta=0.6, warmup=9)
    state = new_state(arch, np.float64)
    run = gpu.FusedRun(
        arch, state, BATCH, data, seed=SEED, optimiser=Optimiser(lr=lr[0]), beta=0.6, beta_warmup=9, draw=draw,
        samples=samples,
    )  # fmt: skip
    found = []
    for epoch in range(3):
        run.order(epoch, noise.order(EPOCH_ROWS, seed=SEED, epoch=epoch))
        run.learning_rate(lr[epoch])
        # Two parts are on their way before the first is asked for.
        queued = [run.steps(4), run.steps(PER_EPOCH - 4)]
        for part in queued:
            means, bad = part.result()
            assert bad is None
            parts = [means.reconstruction, means.kl] + ([] if means.bound is None else [means.bound])
            found.append(np.stack(parts, axis=1))
    assert state.step == expected.step == 18
    compare(np.concatenate(found), terms).check(1e-10, "terms of every step")
    run.pull()
    for name in ("parameters", "first_moment", "second_moment"):
        compare(getattr(state, name).flat, getattr(expected, name).flat).check(1e-8, name)


@pytest.mark.parametrize("samples", [None, 5])
@pytest.mark.usefixtures("short_graphs")
def test_a_run_leaves_the_bits_that_its_steps_do_one_by_one(samples: int | None, door: Any) -> None:
    arch = ARCHITECTURES["two"][0]
    data, order = grey_rows(arch, EPOCH_ROWS), noise.order(EPOCH_ROWS, seed=SEED, epoch=0)
    ahead, single = new_state(arch, np.float32), new_state(arch, np.float32)
    run = gpu.FusedRun(arch, ahead, BATCH, data, seed=SEED, optimiser=Optimiser(), draw=True, samples=samples)
    run.order(0, order)
    means, _ = run.steps(5).result()
    run.pull()
    step = gpu.FusedStep(arch, single, BATCH, samples)
    for number in range(5):
        rows = order[number * BATCH : (number + 1) * BATCH]
        terms = step(data[rows], rows, seed=SEED, optimiser=Optimiser(), grey=True)
        compare(np.array([mean[number] for mean in (means.reconstruction, means.kl, means.bound) if mean is not None]),
                np.array(means_of(terms))).check(1e-6)  # fmt: skip
    for name in ("parameters", "first_moment", "second_moment"):
        assert np.array_equal(getattr(ahead, name).flat, getattr(single, name).flat)


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


@pytest.mark.parametrize(("samples", "launches"), [(None, 12), (2, 16)])
@pytest.mark.usefixtures("short_graphs")
def test_nothing_is_allocated_or_copied_while_steps_run(
    samples: int | None, launches: int, shim: shimlib.ShimDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    arch = ARCHITECTURES["two"][0]
    state, data = new_state(arch, np.float32), grey_rows(arch, EPOCH_ROWS)
    run = gpu.FusedRun(arch, state, BATCH, data, seed=SEED, optimiser=Optimiser(), draw=True, samples=samples)
    run.order(0, noise.order(EPOCH_ROWS, seed=SEED, epoch=0))

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a step needs the host")

    for name in ("empty", "put", "write", "prepare"):
        monkeypatch.setattr(shim, name, refuse)
    run.learning_rate(Optimiser().lr)
    run.steps(5).result()
    assert shim.launched == 5 * shim.launched[:launches]
    assert (shim.launched[0], shim.launched[launches - 1]) == ("step_begin", "step_weights_32")


@pytest.mark.parametrize("samples", [None, 2])
@pytest.mark.usefixtures("short_graphs")
def test_the_first_step_that_is_not_finite_is_named(samples: int | None, door: Any) -> None:
    arch = ARCHITECTURES["two"][0]
    state = new_state(arch, np.float32)
    data = grey_rows(arch, EPOCH_ROWS)
    run = gpu.FusedRun(arch, state, BATCH, data, seed=SEED, optimiser=Optimiser(), draw=True, samples=samples)
    run.order(0, noise.order(EPOCH_ROWS, seed=SEED, epoch=0))
    assert run.steps(2).result()[1] is None
    run.learning_rate(1e30)
    first, second = run.steps(3), run.steps(1)
    assert first.result()[1] == second.result()[1] == 3


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
    with pytest.raises(InputError, match="samples: got 0, expected at least 1"):
        gpu.FusedStep(arch, state, BATCH, samples=0)
    with pytest.raises(InputError, match=r"batch: got 5242880 rows with all samples, expected at most 4194240"):
        gpu.FusedRun(Architecture(1, 1, (1,)), new_state(Architecture(1, 1, (1,)), np.float32), BATCH, data[:, :1],
                     seed=0, optimiser=Optimiser(), samples=5 * 2**18)  # fmt: skip
    with pytest.raises(InputError, match=r"x: got float64 of shape \(4, 30\), expected uint8 of \(4, 30\)"):
        gpu.FusedStep(arch, state, BATCH)(np.zeros((4, 30)), np.arange(4), seed=0, optimiser=Optimiser())


# The likelihood


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("rows_at_once", [1, 20, 65_536])
def test_log_weights_agree_with_the_reference_whatever_the_chunk(
    rows_at_once: int, dtype: Any, door: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vae_np.kernels.gpu import importance_weights

    monkeypatch.setattr(importance_weights, "_CHUNK_ROWS", rows_at_once)
    arch = ARCHITECTURES["odd"][0]
    parameters = initialise(arch, seed=3, dtype=np.float32)
    wide, ours = parameters.astype(np.float64), parameters.astype(dtype)
    rng = np.random.default_rng(0)
    x, rows = (rng.random((5, arch.features)) < 0.2).astype(np.uint8), rng.permutation(9)[:5]
    samples = 13
    (mu, logvar), _ = importance_weights.encode_forward(reference, arch, wide, x)
    every, sample = noise.every_sample(rows, np.arange(samples))
    eps = noise.normal(every, arch.latent, seed=7, stream=noise.EVAL_EPS, sample=sample, dtype=np.float64)
    expected = log_weights(Model(reference, arch, wide), x, mu, logvar, eps)
    tolerance = TOLERANCE[np.dtype(dtype).name]
    found = gpu.log_weights(gpu, arch, ours, x, rows, samples=samples, seed=7)
    compare(found, expected).check(tolerance)
    assert type(found) is np.ndarray
    later = gpu.log_weights(gpu, arch, ours, x, rows, samples=6, seed=7, first=7)
    compare(later, expected[7:]).check(tolerance)


def test_warmup_compiles_both_loops(shim: shimlib.ShimDevice) -> None:
    assert gpu.warmup(Architecture(likelihood="normal")) == 0
    assert gpu.warmup(ARCHITECTURES["two"][0]) > 0
    assert {"step_weights_32", "bound_weights", "importance_sample", "importance_weights"} <= set(shim.launched)


@pytest.mark.parametrize("samples", [None, 3])
def test_large_batches_take_large_tiles_and_a_dense_first_layer(
    samples: int | None, door: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if the batch were large, which the kernels do not know.
    monkeypatch.setattr(fused, "tile", lambda rows, columns: 64)
    monkeypatch.setattr(fused, "_LARGE_BATCH", 1)
    arch, batch = ARCHITECTURES["two"]
    theirs, ours = new_state(arch, np.float64), new_state(arch, np.float64)
    step = gpu.FusedStep(arch, ours, batch, samples)
    grey, x, rows = next(batches(arch, batch, 1))
    expected = training_step(reference, arch, theirs, x, rows, seed=SEED, optimiser=Optimiser(), **climbing(samples))
    found = step(grey, rows, seed=SEED, optimiser=Optimiser(), grey=True, keep_gradients=True)
    compare(found.reconstruction, expected.reconstruction).check(1e-12)
    compare(ours.gradients.flat, theirs.gradients.flat).check(1e-12)
    if isinstance(door, shimlib.ShimDevice):
        assert "binary_forward_dense_64" in door.launched
        assert not [kernel for kernel in door.launched if kernel.endswith("_32")]


def test_a_product_has_large_tiles_where_they_are_enough_blocks(shim: shimlib.ShimDevice) -> None:
    from vae_np.kernels.gpu import _arrays

    shapes = [(4096, 500), (512, 1024), (512, 1023), (511, 960), (1000, 784), (1000, 200), (100, 784)]
    assert [_arrays.tile(*shape) for shape in shapes] == [64, 64, 64, 32, 64, 32, 32]
    # The decoder's rows are so many that the output has large tiles, and narrower results have not.
    arch, batch, samples = Architecture(310, 2, (3,)), 4, 420
    theirs, ours = new_state(arch, np.float64), new_state(arch, np.float64)
    _, x, rows = next(batches(arch, batch, 1))
    training_step(reference, arch, theirs, x, rows, seed=SEED, optimiser=Optimiser(), **climbing(samples))
    gpu.FusedStep(arch, ours, batch, samples)(x, rows, seed=SEED, optimiser=Optimiser(), keep_gradients=True)
    compare(ours.gradients.flat, theirs.gradients.flat).check(1e-12)
    assert {kernel for kernel in shim.launched if kernel.endswith("_64")} == {"bernoulli_output_64"}


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
