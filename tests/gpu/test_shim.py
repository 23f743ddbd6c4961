"""The CUDA kernels run on the processor, over the parity suite, with a block's threads in three orders.

The suite is that of tests/parity, on the GPU's own operations. vae_np/exercises/shim/cuda_shim.h says what it proves
and what it does not. Two of the three orders are slow in float64: what depends on the order of threads shows in
float32, which runs in all three, and what is wrong in float64 alone shows in any order. Budget: about 28 s, of which
g++ takes 10.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import cases
import numpy as np
import pytest
import shimlib
import trials
from test_operations import *  # noqa: F403 - its tests, on the fixture `ops` below

from vae_np import noise
from vae_np import ops as reference
from vae_np.architecture import Architecture
from vae_np.kernels import gpu
from vae_np.kernels.arguments import ACTIVATIONS
from vae_np.kernels.check import compare
from vae_np.kernels.gpu import _arrays, _device, affine
from vae_np.model import initialise
from vae_np.step import Optimiser, TrainingState

DTYPES = [np.float64, np.float32]
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)


@pytest.fixture(scope="module", params=shimlib.ORDERS)
def door(request: pytest.FixtureRequest) -> Iterator[shimlib.ShimDevice]:
    shimlib.require_compiler()
    with _device.use(shimlib.ShimDevice(order=request.param)) as device:
        yield device  # type: ignore[misc]


@pytest.fixture(scope="module")
def ops(door: shimlib.ShimDevice) -> ModuleType:
    return gpu


def launch(kernel: str, grid: tuple[int, ...], block: tuple[int, ...], *args: Any, dtype: Any = np.float32) -> None:
    _device.device().prepare(kernel, dtype, grid, block, args)()


@dtypes
@pytest.mark.parametrize("size", cases.SIZES, ids=lambda size: "x".join(map(str, size)))
def test_large_tiles_agree_as_small_ones_do(
    size: tuple[int, int, int], dtype: Any, ops: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(affine, "tile", lambda rows, columns: 64)
    for operation, case in (("affine_act", cases.affine(*size, "tanh")),
                            ("binary_affine_act", cases.affine(*size, "relu", is_binary=True))):  # fmt: skip
        expected = cases.expected(case)
        for what, result in case(ops, dtype).items():
            compare(result, expected[what]).check(cases.tolerance(operation, dtype), what)


@dtypes
@pytest.mark.parametrize("edge", [32, 64])
def test_the_dense_binary_layer_agrees(edge: int, dtype: Any, door: shimlib.ShimDevice) -> None:
    batch, inputs, outputs = 67, 90, 35
    x, bias = cases.binary(1, batch, inputs), cases.normals(2, outputs, dtype=dtype)
    weight = cases.normals(3, inputs, outputs, dtype=dtype)
    y = door.empty((batch, outputs), dtype)
    launch(
        f"binary_forward_dense_{edge}", (_arrays.blocks(outputs, edge), _arrays.blocks(batch, edge)), (256,),
        door.put(x, np.uint8), door.put(weight, dtype), door.put(bias, dtype), y, batch, inputs, outputs,
        ACTIVATIONS["softplus"], dtype=dtype,
    )  # fmt: skip
    expected, _ = reference.binary_affine_act_forward(x, weight.astype(np.float64), bias.astype(np.float64), "softplus")
    compare(door.get(y), expected).check(cases.tolerance("binary_affine_act", dtype))


@dtypes
def test_the_activation_gradient_inside_a_product_is_the_operations_own(dtype: Any, door: shimlib.ShimDevice) -> None:
    batch, inputs, outputs = 37, 50, 41
    below, da = cases.normals(1, batch, inputs, dtype=dtype), cases.normals(2, batch, outputs, dtype=dtype)
    weight = cases.normals(3, inputs, outputs, dtype=dtype)
    for activation, (_, backward) in reference.ACTIVATIONS.items():
        y = np.abs(below) if activation == "softplus" else np.tanh(below)
        for edge in (32, 64):
            dx = door.empty((batch, inputs), dtype)
            launch(
                f"affine_input_gradient_{edge}", (_arrays.blocks(inputs, edge), _arrays.blocks(batch, edge)), (256,),
                door.put(da, dtype), door.put(weight, dtype), door.put(y, dtype), dx, batch, inputs, outputs,
                ACTIVATIONS[activation], None, None, dtype=dtype,
            )  # fmt: skip
            wide = da.astype(np.float64) @ weight.astype(np.float64).T
            compare(door.get(dx), backward(wide, y.astype(np.float64))).check(cases.tolerance("affine_act", dtype))


@dtypes
def test_several_blocks_share_a_products_depth(dtype: Any, door: shimlib.ShimDevice) -> None:
    trials.dealt_depth(dtype)


def words(door: shimlib.ShimDevice, rows: Any, columns: int, sample: Any, seed: int, stream: int, step: int) -> Any:
    out = door.empty((len(rows), columns), np.uint32)
    launch(
        "philox_words", (_arrays.blocks(len(rows) * _arrays.blocks(columns, 4), 256),), (256,),
        door.put(rows, np.uint32), len(rows), columns, door.put(sample, np.uint32), len(sample), np.uint64(seed),
        np.uint32(stream), np.uint32(step), out,
    )  # fmt: skip
    return door.get(out)


def test_philox_gives_random123s_first_vector_and_the_references_words(door: shimlib.ShimDevice) -> None:
    zero = np.zeros(1, np.uint32)
    assert words(door, zero, 4, zero, 0, 0, 0).tolist() == [[0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]]
    rows, sample = np.array([0, 7, 2**32 - 1]), np.array([0, 5, 2**24 - 1])
    address = {"seed": 2**64 - 3, "stream": 8, "step": 2**32 - 1}
    expected = noise.words(rows, 70, sample=sample, **address)
    assert np.array_equal(words(door, rows, 70, sample, **address), expected)


@pytest.mark.parametrize("samples", [None, 3])
@dtypes
def test_the_fused_step_gives_the_same_bits_whatever_the_order_and_the_tiles_agree(
    dtype: Any, samples: int | None, door: shimlib.ShimDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vae_np.kernels.gpu import fused

    arch, batch = Architecture(70, 3, (40, 21), "tanh"), 19
    grey = np.random.default_rng(1).integers(0, 256, (batch, 70)).astype(np.uint8)

    def after_two_steps(order: str, edge: int) -> Any:
        monkeypatch.setattr(fused, "tile", lambda rows, columns: edge)
        monkeypatch.setattr(fused, "_LARGE_BATCH", 1 if edge == 64 else 512)
        state = TrainingState(initialise(arch, seed=2, dtype=dtype))
        with _device.use(shimlib.ShimDevice(order=order)):
            step = gpu.FusedStep(arch, state, batch, samples)
            for _ in range(2):
                terms = step(grey, np.arange(batch), seed=3, optimiser=Optimiser(), grey=True)
        return [state.parameters.flat, state.second_moment.flat, terms.reconstruction, terms.kl]

    small = after_two_steps("forward", 32)
    for found, expected in zip(after_two_steps(door.order, 32), small, strict=True):
        assert np.array_equal(found, expected)
    # Other tiles add up in another order, and Adam moves by a whole step where a gradient is all rounding.
    for found, expected in zip(after_two_steps(door.order, 64), small, strict=True):
        compare(found, expected).check(1e-9 if dtype is np.float64 else 2e-3)
