"""What sanitized and planted kernels are tried on: cases of the parity suite, and the fused loops as well."""

from __future__ import annotations

from typing import Any

import cases
import numpy as np

from vae_np import model, noise
from vae_np import ops as reference
from vae_np.architecture import Architecture
from vae_np.distributed import ALONE
from vae_np.evaluation import importance
from vae_np.kernels import gpu
from vae_np.kernels.arguments import ACTIVATIONS
from vae_np.kernels.check import compare
from vae_np.kernels.gpu import _arrays, _device
from vae_np.model import Model, initialise
from vae_np.step import Optimiser, TrainingState, training_step
from vae_np.training.gradient_blocks import GradientBlocks

OPERATIONS = sorted({operation for operation, _, _ in cases.every()})
ARCHITECTURE, BATCH = Architecture(70, 3, (40, 21), "tanh"), 5
# The fused loops; more samples than a warp has lanes.
FUSED, SAMPLES = ("fused step", "fused bound", "fused evaluation", "dealt depth", "shared step"), 37
# Cases of a few megabytes add seconds and no edge.
_LARGE = ("97x131x129", "100x784x1", "40003", "64x785", "50x300x65", "5x1100x3")


def run(operation: str, dtype: Any) -> None:
    """Raises AssertionError where a result of the operation, or of a fused loop, is not the reference's."""
    if operation == "fused step":
        _step(dtype, None)
    elif operation == "fused bound":
        _step(dtype, SAMPLES)
    elif operation == "fused evaluation":
        _log_weights(dtype)
    elif operation == "dealt depth":
        dealt_depth(dtype)
    elif operation == "shared step":
        _shared_step(dtype)
    else:
        for name, case in [(name, case) for of, name, case in cases.every() if of == operation]:
            if name.split()[0] in _LARGE:
                continue
            expected = cases.expected(case)
            for what, result in case(gpu, dtype).items():
                compare(result, expected[what]).check(cases.tolerance(operation, dtype), f"{operation} {name}: {what}")


def _step(dtype: Any, samples: int | None) -> None:
    how: dict[str, Any] = {} if samples is None else {"objective": "iwae", "samples": samples}
    tolerance = cases.DEFAULT[np.dtype(dtype).name]
    ours = TrainingState(initialise(ARCHITECTURE, seed=2, dtype=dtype))
    theirs = TrainingState(ours.parameters.astype(np.float64))
    rows = np.arange(BATCH) + 3
    grey = np.random.default_rng(1).integers(0, 256, (BATCH, ARCHITECTURE.features)).astype(np.uint8)
    x = noise.bernoulli(grey, seed=3, stream=noise.BINARIZE, step=0, rows=rows)
    expected = training_step(reference, ARCHITECTURE, theirs, x, rows, seed=3, optimiser=Optimiser(), beta=0.5, **how)
    step = gpu.FusedStep(ARCHITECTURE, ours, BATCH, samples)
    found = step(grey, rows, seed=3, optimiser=Optimiser(), beta=0.5, grey=True, keep_gradients=True)
    compare(found.reconstruction, expected.reconstruction).check(tolerance, "reconstruction")
    compare(found.kl, expected.kl).check(tolerance, "kl")
    if found.bound is not None and expected.bound is not None:
        compare(found.bound, expected.bound).check(tolerance, "bound")
    for name, gradient in theirs.gradients.items():
        compare(ours.gradients[name], gradient).check(tolerance, f"gradient of {name}")
        compare(ours.first_moment[name], theirs.first_moment[name]).check(tolerance, f"first moment of {name}")


def _shared_step(dtype: Any) -> None:
    """Three blocks on the device give what the whole batch gives: the mean gradient, and Adam's step along it."""
    tolerance, blocks = cases.DEFAULT[np.dtype(dtype).name], 3
    ours = TrainingState(initialise(ARCHITECTURE, seed=2, dtype=dtype))
    theirs = TrainingState(ours.parameters.astype(np.float64))
    rows = np.arange(BATCH * blocks) + 3
    x = cases.binary(1, len(rows), ARCHITECTURE.features)
    expected = training_step(reference, ARCHITECTURE, theirs, x, rows, seed=3, optimiser=Optimiser(), beta=0.5)
    step = gpu.SharedStep(ARCHITECTURE, ours, BATCH, None, ALONE)
    made = GradientBlocks(step.buffers, ours, len(rows), blocks, 2)
    found, doubt = made.step(lambda part: step.gradients(x[part], rows[part], seed=3, beta=0.5), Optimiser())
    assert not doubt
    made.settle()
    step.buffers.bring_home(gradients=True)
    compare(found.reconstruction, expected.reconstruction).check(tolerance, "reconstruction")
    compare(found.kl, expected.kl).check(tolerance, "kl")
    for name, gradient in theirs.gradients.items():
        compare(ours.gradients[name], gradient).check(tolerance, f"gradient of {name}")
        compare(ours.second_moment[name], theirs.second_moment[name]).check(2 * tolerance, f"second moment of {name}")


def _log_weights(dtype: Any) -> None:
    parameters = initialise(ARCHITECTURE, seed=2, dtype=dtype)
    wide, rows = parameters.astype(np.float64), np.arange(BATCH) + 3
    x = cases.binary(1, BATCH, ARCHITECTURE.features)
    (mu, logvar), _ = model.encode_forward(reference, ARCHITECTURE, wide, x)
    every, sample = noise.every_sample(rows, np.arange(9))
    address = {"seed": 3, "stream": noise.EVAL_EPS, "sample": sample}
    eps = noise.normal(every, ARCHITECTURE.latent, dtype=np.float64, **address)
    expected = importance.log_weights(Model(reference, ARCHITECTURE, wide), x, mu, logvar, eps)
    found = gpu.log_weights(gpu, ARCHITECTURE, parameters, x, rows, samples=9, seed=3)
    compare(found, expected).check(cases.DEFAULT[np.dtype(dtype).name], "log weights")


def dealt_depth(dtype: Any) -> None:
    """A product whose depth several blocks share, with and without odd edges: twice, on the same counts of blocks."""
    door = _device.device()
    for rows, inputs, outputs, parts in ((37, 50, 261, 3), (33, 64, 200, 4), (5, 3, 40, 5)):
        da, weight = (
            cases.normals(seed, *shape, dtype=dtype) for seed, shape in ((1, (rows, outputs)), (2, (inputs, outputs)))
        )
        y = np.tanh(cases.normals(3, rows, inputs, dtype=dtype))
        expected = (da.astype(np.float64) @ weight.astype(np.float64).T) * (1 - y.astype(np.float64) ** 2)
        for edge in (32, 64):
            grid = _arrays.blocks(inputs, edge), _arrays.blocks(rows, edge), parts
            tiles = grid[0] * grid[1]
            dx, sums = door.empty((rows, inputs), dtype), door.empty((tiles * parts * edge**2,), dtype)
            arrived = door.put(np.zeros(tiles), np.uint32)
            launch = door.prepare(
                f"affine_input_gradient_{edge}", dtype, grid, (256,),
                (*(door.put(array, dtype) for array in (da, weight, y)), dx, rows, inputs, outputs, ACTIVATIONS["tanh"],
                 sums, arrived),
            )  # fmt: skip
            found = []
            for _ in range(2):
                door.write(dx, np.full((rows, inputs), np.nan, dtype))
                launch()
                found.append(door.get(dx))
            compare(found[0], expected).check(cases.tolerance("affine_act", dtype), f"{rows}x{inputs}x{outputs}")
            assert np.array_equal(found[0], found[1]), "the second time"
