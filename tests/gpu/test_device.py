"""What only a device can show: its own arithmetic against the reference, at the sizes in use and over many steps.

Without a device all of it is skipped and counted (`--require-gpu` fails instead). `test_host.py` and the parity suite
run on the device too. Budget: about 100 s on one; the tests named small are those that compute-sanitizer runs.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trials
from commandline import good

from vae_np import backends, data, noise
from vae_np import ops as reference
from vae_np.architecture import Architecture
from vae_np.errors import DeviceError
from vae_np.evaluation import held_out
from vae_np.kernels import gpu
from vae_np.kernels.check import compare
from vae_np.kernels.gpu import _device
from vae_np.model import Model, initialise
from vae_np.step import Optimiser, TrainingState, training_step

pytestmark = pytest.mark.gpu

SEED = 11
ARCHITECTURES = {
    "pt": (Architecture(784, 20, (400,), "relu"), 128),
    "kingma": (Architecture(784, 20, (500,), "tanh"), 100),
    "iwae": (Architecture(784, 50, (200, 200), "tanh"), 20),
    "iwae50": (Architecture(784, 50, (200, 200), "tanh"), 20),
    "large": (Architecture(784, 20, (500,), "tanh"), 2048),
}
# Samples of IWAE's bound; the others climb the ELBO. On it two correct runs part sooner: NumPy's and Numba's by 3e-6
# after 10 steps in float32, and by 1e-12 after 50 and 5e-9 after 80 in float64. The two layers of `iwae`, too, carry a
# rounding on: an H200's run was 3e-5 from NumPy's after 41 steps in float32, and within 1e-10 for 350 in float64.
SAMPLES = {"iwae50": 50}


@pytest.fixture(scope="module", autouse=True)
def _memory_as_it_is() -> None:
    """Under compute-sanitizer every array is an allocation of its own: a pool would hide what is out of bounds."""
    if os.environ.get("VAE_NP_NO_POOL"):
        import cupy

        cupy.cuda.set_allocator(None)


@pytest.fixture(scope="module")
def digits() -> Any:
    return data.load("mnist").train


def new_run(name: str, rows: Any, dtype: Any, *, draw: bool = True, **options: Any) -> tuple[Any, TrainingState]:
    arch, batch = ARCHITECTURES[name]
    state = TrainingState(initialise(arch, seed=SEED, dtype=dtype))
    options = {"seed": SEED, "optimiser": Optimiser(), "draw": draw, "samples": SAMPLES.get(name), **options}
    return gpu.FusedRun(arch, state, batch, rows, **options), state


def climbing(name: str) -> dict[str, Any]:
    """How the reference is asked for the same objective."""
    return {"objective": "iwae", "samples": SAMPLES[name]} if name in SAMPLES else {}


def device_losses(run: Any, state: TrainingState, rows: int, batch: int, steps: int) -> Any:
    per_epoch, losses = rows // batch, []
    while state.step < steps:
        epoch, first = divmod(state.step, per_epoch)
        run.order(epoch, noise.order(rows, seed=SEED, epoch=epoch))
        terms, bad = run.steps(min(per_epoch - first, steps - state.step, 200)).result()
        assert bad is None
        losses.append(-terms.elbo if terms.bound is None else -terms.bound)
    return np.concatenate(losses)


def reference_losses(ops: Any, name: str, rows: Any, dtype: Any, steps: int) -> Any:
    arch, batch = ARCHITECTURES[name]
    state, losses, per_epoch = TrainingState(initialise(arch, seed=SEED, dtype=dtype)), [], len(rows) // batch
    for step in range(steps):
        epoch, first = divmod(step, per_epoch)
        places = noise.order(len(rows), seed=SEED, epoch=epoch)[first * batch : (first + 1) * batch]
        x = noise.bernoulli(rows[places], seed=SEED, stream=noise.BINARIZE, step=step, rows=places)
        terms = training_step(ops, arch, state, x, places, seed=SEED, optimiser=Optimiser(), **climbing(name))
        losses.append(float(terms.loss()))
    return np.array(losses)


# Noise


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_normals_are_the_same_bits(dtype: Any) -> None:
    rows = np.random.default_rng(0).integers(0, 2**32, 4000)
    where = {"seed": 2**63 + 17, "stream": noise.EPS, "step": 2**31 + 5, "dtype": dtype}
    samples = np.arange(4000)
    found = gpu.philox_normal(rows, 501, sample=samples, **where)
    assert np.array_equal(found, reference.philox_normal(rows, 501, sample=samples, **where))


def test_words_are_the_same_bits() -> None:
    door = _device.device()
    rows = np.random.default_rng(1).integers(0, 2**32, 3000).astype(np.uint32)
    out = door.empty((3000, 785), np.uint32)
    one = door.put(np.array([7], np.uint32), np.uint32)
    args = door.put(rows, np.uint32), 3000, 785, one, 1, np.uint64(99), np.uint32(4), np.uint32(3), out
    door.prepare("philox_words", np.float32, (-(-3000 * 197 // 256),), (256,), args)()
    assert np.array_equal(door.get(out), noise.words(rows, 785, seed=99, stream=4, step=3, sample=7))


def test_binary_pixels_are_the_same_bits(digits: Any) -> None:
    rows = np.arange(20_000)
    where = {"seed": 3, "stream": noise.BINARIZE, "step": 12, "rows": rows}
    for grey in (digits[:20_000], (digits[:20_000] / 255).astype(np.float32)):
        assert np.array_equal(gpu.philox_bernoulli(grey, **where), reference.philox_bernoulli(grey, **where))


# Steps


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_gradients_at_full_size(name: str, digits: Any) -> None:
    arch, batch = ARCHITECTURES[name]
    theirs = TrainingState(initialise(arch, seed=SEED, dtype=np.float32).astype(np.float64))
    ours = TrainingState(initialise(arch, seed=SEED, dtype=np.float32))
    rows = np.arange(batch)
    x = noise.bernoulli(digits[rows], seed=SEED, stream=noise.BINARIZE, step=0, rows=rows)
    expected = training_step(reference, arch, theirs, x, rows, seed=SEED, optimiser=Optimiser(), **climbing(name))
    step = gpu.FusedStep(arch, ours, batch, SAMPLES.get(name))
    found = step(digits[rows], rows, seed=SEED, optimiser=Optimiser(), grey=True, keep_gradients=True)
    compare(found.reconstruction, expected.reconstruction).check(1e-5, "reconstruction")
    compare(found.kl, expected.kl).check(1e-5, "kl")
    if expected.bound is not None:
        compare(found.bound, expected.bound).check(1e-5, "bound")
    for tensor, gradient in theirs.gradients.items():
        compare(ours.gradients[tensor], gradient).check(1e-5, f"gradient of {tensor}")


@pytest.mark.parametrize(("name", "steps"), [("kingma", 500), ("iwae", 350), ("pt", 350), ("iwae50", 50)])
def test_long_runs_in_float64_stay_with_the_reference(name: str, steps: int, digits: Any) -> None:
    rows = digits[:12_800]
    run, state = new_run(name, rows, np.float64)
    found = device_losses(run, state, len(rows), ARCHITECTURES[name][1], steps)
    np.testing.assert_allclose(found, reference_losses(reference, name, rows, np.float64, steps), rtol=1e-10)


@pytest.mark.parametrize("other", ["numpy", "numba"])
@pytest.mark.parametrize(("name", "steps"), [("kingma", 500), ("iwae", 30), ("pt", 20), ("iwae50", 10)])
def test_runs_in_float32_stay_with_both_other_backends(name: str, steps: int, other: str, digits: Any) -> None:
    rows = digits[:12_800]
    run, state = new_run(name, rows, np.float32)
    found = device_losses(run, state, len(rows), ARCHITECTURES[name][1], steps)
    expected = reference_losses(backends.choose(other).ops, name, rows, np.float32, steps)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["pt", "iwae50"])
def test_graphs_give_the_bits_of_single_launches_and_runs_repeat(
    name: str, digits: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vae_np.kernels.gpu import fused

    results = []
    for length in (fused.GRAPH_STEPS, fused.GRAPH_STEPS, 1):
        monkeypatch.setattr(fused, "GRAPH_STEPS", length)
        run, state = new_run(name, digits[:12_800], np.float32)
        device_losses(run, state, 12_800, ARCHITECTURES[name][1], 130)
        run.pull()
        results.append(state.parameters.flat.copy())
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


def test_a_step_allocates_nothing(digits: Any) -> None:
    import cupy

    run, state = new_run("pt", digits[:12_800], np.float32)
    device_losses(run, state, 12_800, 128, 60)
    before = cupy.get_default_memory_pool().total_bytes(), cupy.get_default_memory_pool().used_bytes()
    device_losses(run, state, 12_800, 128, 98)
    assert (cupy.get_default_memory_pool().total_bytes(), cupy.get_default_memory_pool().used_bytes()) == before


# The likelihood, training, and what goes wrong


def test_the_likelihood_of_images_agrees_with_the_cpus(digits: Any) -> None:
    arch = ARCHITECTURES["iwae"][0]
    parameters = initialise(arch, seed=3)
    examples = held_out.Examples(digits[:64], data.BYTE, "dynamic", 1)
    found, expected = (
        held_out.log_likelihood(
            Model(backend.ops, arch, parameters), examples, samples=1000, seed=2, fused=backend.fused_log_weights(arch)
        )
        for backend in (backends.choose("cupy"), backends.choose("numba"))
    )
    compare(found.log_likelihood, expected.log_likelihood).check(1e-5)


def test_the_command_line_trains_and_evaluates(tmp_path: Path) -> None:
    def run(*arguments: str) -> Any:
        return good(*arguments, "--backend", "cupy", "--no-plots", "--json", "-").json

    folder = tmp_path / "run"
    trained = run("train", "--epochs", "1", "--out", str(folder))
    assert trained["test"]["elbo"]["mean"] > -140
    evaluated = run("eval", str(folder), "--limit", "100", "--samples", "50")
    assert evaluated["backend"] == "cupy"
    assert evaluated["test"]["log_likelihood"]["mean"] > -140


def test_more_than_the_device_has_is_refused_with_what_was_needed() -> None:
    _, total = _device.device().memory()
    arch = Architecture(784, 20, (400,))
    state = TrainingState(initialise(arch, seed=0))
    batch = total // (784 * 8)
    with pytest.raises(DeviceError, match=r"too little memory on the device: training needs \d+ MiB"):
        gpu.FusedStep(arch, state, batch)(np.broadcast_to(np.uint8(0), (batch, 784)), np.arange(1), seed=0,
                                          optimiser=Optimiser())  # fmt: skip


# Small ones, for compute-sanitizer


@pytest.mark.parametrize(("batch", "samples"), [(1, None), (7, None), (33, None), (1, 1), (7, 37)])
def test_small_steps(batch: int, samples: int | None) -> None:
    arch = Architecture(61, 3, (37, 18), "softplus")
    rows = np.random.default_rng(0).integers(0, 256, (3 * batch + 1, 61)).astype(np.uint8)
    state = TrainingState(initialise(arch, seed=0))
    run = gpu.FusedRun(arch, state, batch, rows, seed=0, optimiser=Optimiser(), draw=True, samples=samples)
    run.order(0, noise.order(len(rows), seed=0, epoch=0))
    assert run.steps(3).result()[1] is None


def test_small_operations() -> None:
    rng = np.random.default_rng(0)
    x, weight, bias = (rng.standard_normal(shape).astype(np.float32) for shape in ((5, 33), (33, 17), (17,)))
    y, cache = gpu.affine_act_forward(x, weight, bias, "tanh")
    gpu.affine_act_backward(y, cache)
    bits = (x > 0).astype(np.uint8)
    y, cache = gpu.binary_affine_act_forward(bits, weight, bias, "relu")
    gpu.binary_affine_act_backward(y, cache)
    (_, kl), cache = gpu.reparam_kl_forward(x, 0.1 * x, np.tile(x, (2, 1)))
    gpu.reparam_kl_backward((np.tile(x, (2, 1)), kl), cache)
    loglik, cache = gpu.bernoulli_loglik_forward(bits, np.tile(x, (3, 1)))
    gpu.bernoulli_loglik_backward(loglik, cache)
    loglik, cache = gpu.normal_loglik_forward(x, np.tile(x, (3, 1)), x[0])
    gpu.normal_loglik_backward(loglik, cache)
    gpu.log_mean_exp_weights(x)
    gpu.adam_update(*(np.abs(rng.standard_normal(1000)).astype(np.float32) for _ in range(4)), step=1, lr=1e-3)


def test_small_likelihoods() -> None:
    arch = Architecture(61, 3, (37, 18), "tanh")
    x = (np.random.default_rng(0).random((5, 61)) < 0.2).astype(np.uint8)
    log_w = gpu.log_weights(gpu, arch, initialise(arch, seed=0), x, np.arange(5), samples=13, seed=1)
    assert np.isfinite(log_w).all()


def test_small_products_whose_depth_is_dealt_to_several_blocks() -> None:
    trials.run("dealt depth", np.float32)
