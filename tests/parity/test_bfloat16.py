"""Products of bfloat16 operands, and the fused step that has them, against the same rounding in plain NumPy.

Budget: about 15 s once compiled.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vae_np import backends, noise, objectives
from vae_np.architecture import Architecture
from vae_np.errors import BackendError, InputError
from vae_np.model import initialise
from vae_np.precision import ReducedOps, product, round_to_bfloat16
from vae_np.step import Optimiser, TrainingState

if backends.missing("numba") is not None:
    pytest.skip(str(backends.missing("numba")), allow_module_level=True)

import numba
from numba import types

from vae_np.kernels import cpu
from vae_np.kernels.cpu.engine import bfloat16_pairs as pairs
from vae_np.kernels.cpu.engine.instructions import call
from vae_np.kernels.cpu.engine.products import call_gemm, scratch_size
from vae_np.kernels.cpu.fused import FusedStep
from vae_np.kernels.cpu.runtime import bfloat16
from vae_np.kernels.cpu.runtime.compilation import njit

SEED = 11
INSTRUCTIONS = [
    pytest.param(name, marks=pytest.mark.skipif(bfloat16.missing(name) is not None, reason=str(bfloat16.missing(name))))
    for name in bfloat16.NAMES
]
anyone = pytest.mark.skipif(bfloat16.best() is None, reason=str(bfloat16.missing("avx512")))
# m, n, k: single entries, edges of tiles, squares, panels and blocks, none to sum, and the shapes of the models.
SHAPES = [
    (1, 1, 1), (7, 5, 3), (16, 32, 32), (17, 33, 31), (33, 47, 65), (12, 64, 2), (256, 96, 511), (257, 16, 513),
    (513, 33, 40), (20, 200, 784), (100, 31, 1100), (16, 32, 0),
]  # fmt: skip
ARCHITECTURES = {
    "pt": (Architecture(784, 20, (400,), "relu"), 128),
    "iwae": (Architecture(784, 50, (200, 200), "tanh"), 20),
    "odd": (Architecture(61, 3, (37, 18, 5), "softplus"), 7),
    "normal": (Architecture(61, 7, (37, 18), "tanh", likelihood="normal"), 9),
}
# How far tensors are off, as a share of their length. A number that float32 rounds otherwise than the reference may be
# on the other side of a tie, once in some thousands, and is then off by a unit of bfloat16: in the larger models some
# do, in the small ones none in most steps. Of nine batches each, the largest distance was 1.2e-3 in the larger ones;
# products of numbers as they are were off by 4.7e-3 or more, and truncated ones by 2.7e-2.
STEPS = 5
STEP_TOLERANCE = {
    "bf16": {"pt": 1e-3, "iwae": 3e-3, "odd": 1e-5, "normal": 1e-5},
    "bf16x3": {"pt": 5e-5, "iwae": 5e-5, "odd": 5e-5, "normal": 5e-5},
}


@njit()
def _product(
    address: int, a: Any, row_a: int, step_a: int, b: Any, row_b: int, step_b: int, c: Any, ldc: int, m: int, n: int,
    k: int, accumulate: int, scratch: Any,
) -> None:  # fmt: skip
    call_gemm(address, a, 0, row_a, step_a, b, 0, row_b, step_b, c, 0, ldc, m, n, k, accumulate, scratch, 0)


Product = Callable[[Any, Any], Any]


def kernel(instructions: str, precision: str, *, turned: tuple[bool, bool] = (False, False)) -> Product:
    """The kernel's A B, of matrices that lie in memory as they are or turned; around them is nothing but NaN."""
    from vae_np.kernels.cpu.fused.precision import product_for

    address = product_for(np.float32, precision, instructions).address

    def multiply(a: Any, b: Any, start: Any = None) -> Any:
        (m, k), n = a.shape, b.shape[1]
        flat = [
            np.append((of.T if is_turned else of).ravel(), np.full(64, np.nan, np.float32))
            for of, is_turned in zip((a, b), turned, strict=True)
        ]
        strides = [
            (1, of.shape[0]) if is_turned else (of.shape[1], 1) for of, is_turned in zip((a, b), turned, strict=True)
        ]
        c = np.full((m, n + 3), np.nan, np.float32)
        if start is not None:
            c[:, :n] = start
        scratch = np.full(scratch_size(4) + 16, np.nan, np.float32)
        _product(
            address, flat[0], *strides[0], flat[1], *strides[1], c.reshape(-1), n + 3, m, n, k, start is not None,
            scratch[-scratch.ctypes.data // 4 % 16 :],
        )  # fmt: skip
        assert np.isnan(c[:, n:]).all()
        return c[:, :n]

    return multiply


def check_product(multiply: Product, shape: tuple[int, int, int], precision: str, start: Any = None) -> None:
    """Hold a product against the reference's within what float32 sums may round: γ of Σ |a b|, in any order."""
    m, n, k = shape
    rng = np.random.default_rng(m + n + k)
    a, b = (rng.standard_normal(of).astype(np.float32) for of in ((m, k), (k, n)))
    right = product(a.astype(np.float64), b.astype(np.float64), precision)
    size = np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64) * (1 + 2.0**-7)
    more: dict[str, Any] = {}
    if start is not None:
        begun = rng.standard_normal((m, n)).astype(np.float32)
        right, size, more = right + begun, size + np.abs(begun), {"start": begun}
    roundings = (3 * k if precision == "bf16x3" else k) + 2
    gamma = roundings * 2.0**-24 / (1 - roundings * 2.0**-24)
    assert (np.abs(multiply(a, b, **more) - right) <= gamma * size).all()


@pytest.mark.parametrize("precision", ["bf16", "bf16x3"])
@pytest.mark.parametrize("instructions", INSTRUCTIONS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_products(shape: tuple[int, int, int], instructions: str, precision: str) -> None:
    for turned in ((False, False), (True, False), (False, True), (True, True)):
        multiply = kernel(instructions, precision, turned=turned)
        check_product(multiply, shape, precision)
        check_product(multiply, shape, precision, start=True)


def _truncated(values: Any) -> Any:
    return (np.asarray(values, np.float32).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def _swapped(values: Any) -> Any:
    """Both of each pair of rows exchanged."""
    return values.reshape(-1, 2, values.shape[1])[:, ::-1].reshape(values.shape)


MISTAKES: dict[str, Product] = {
    "truncation in place of rounding": lambda a, b: _truncated(a) @ _truncated(b),
    "one operand truncated": lambda a, b: round_to_bfloat16(a) @ _truncated(b),
    "a swapped pair": lambda a, b: round_to_bfloat16(a) @ _swapped(round_to_bfloat16(b)),
    "an operand that is not rounded": lambda a, b: round_to_bfloat16(a) @ b,
    "nothing rounded": lambda a, b: a @ b,
    "the last pair forgotten": lambda a, b: round_to_bfloat16(a[:, :-2]) @ round_to_bfloat16(b[:-2]),
    "sums in bfloat16": lambda a, b: round_to_bfloat16(round_to_bfloat16(a) @ round_to_bfloat16(b)),
}


def test_the_right_product_passes_its_check() -> None:
    check_product(lambda a, b: round_to_bfloat16(a) @ round_to_bfloat16(b), (12, 32, 64), "bf16")


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_noticed(name: str) -> None:
    with pytest.raises(AssertionError):
        check_product(MISTAKES[name], (12, 32, 64), "bf16")


@pytest.mark.parametrize("instructions", INSTRUCTIONS)
def test_what_is_not_finite_goes_through(instructions: str) -> None:
    a, b = np.ones((3, 5), np.float32), np.ones((5, 4), np.float32)
    a[1, 2], b[0, 3] = np.nan, np.inf
    found = kernel(instructions, "bf16")(a, b)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(a @ b))
    np.testing.assert_array_equal(np.isinf(found), np.isinf(a @ b))


@njit()
def _square(
    across: bool, leading: bool, rest: bool, a: Any, lda: int, depth: int, count: int, out: Any, ldo: int
) -> None:
    pairs.pair_square(across, leading, rest, a, 0, lda, depth, count, out, 0, ldo)


@anyone
@pytest.mark.parametrize("rest", [False, True])
@pytest.mark.parametrize("leading", [False, True])
@pytest.mark.parametrize("across", [False, True])
def test_pairs_to_the_bit(across: bool, leading: bool, rest: bool) -> None:
    rng = np.random.default_rng(1)
    a = np.append(rng.standard_normal(32 * 40), np.full(100, np.nan)).astype(np.float32)
    for depth, count in ((32, 16), (31, 16), (32, 1), (1, 1), (7, 5), (17, 15)):
        found, right = np.full((2, 16 * 20), 7, np.float32)
        _square(across, leading, rest, a, 40, depth, count, found, 20)
        pairs._pair_square(across, leading, rest, a, 0, 40, depth, count, right, 0, 20)
        assert found.tobytes() == right.tobytes()


def batch_of(arch: Architecture, batch: int, step: int) -> tuple[Any, Any]:
    """x and the places of a batch: binary and sparse, or grey in float32."""
    rng = np.random.default_rng(step)
    x = rng.random((batch, arch.features)).astype(np.float32)
    return (x < 0.2).astype(np.uint8) if arch.is_bernoulli else x, rng.permutation(batch)


@pytest.mark.parametrize("precision", ["bf16", "bf16x3"])
@pytest.mark.parametrize("instructions", INSTRUCTIONS)
@pytest.mark.parametrize("samples", [None, 5])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_terms_and_gradients_in_lock_step(name: str, samples: int | None, instructions: str, precision: str) -> None:
    arch, batch = ARCHITECTURES[name]
    worst = []
    state = TrainingState(initialise(arch, seed=SEED))
    fused = FusedStep(arch, state, batch, samples, precision=precision, instructions=instructions)
    gradients = initialise(arch, seed=SEED, dtype=np.float64).zeros_like()
    how: dict[str, Any] = {"objective": "elbo" if samples is None else "iwae", "beta": 0.7}
    reference: Any = ReducedOps(precision)
    for step in range(STEPS):
        x, rows = batch_of(arch, batch, step)
        every, sample = noise.every_sample(rows, np.arange(samples or 1))
        eps = noise.normal(every, arch.latent, seed=SEED, stream=noise.EPS, step=step, sample=sample, dtype=np.float64)
        parameters = state.parameters.astype(np.float64)
        expected, cache = objectives.objective_forward(
            reference, arch, parameters, x if arch.is_bernoulli else x.astype(np.float64), eps, **how
        )
        objectives.objective_backward(reference, arch, cache, gradients)
        found = fused(x, rows, seed=SEED, optimiser=Optimiser(), beta=0.7, keep_gradients=True)
        assert fused.finite
        terms = [distance(getattr(found, term), getattr(expected, term)) for term in ("reconstruction", "kl")]
        worst.append(max(*terms, *(distance(state.gradients[tensor], right) for tensor, right in gradients.items())))
    assert np.median(worst) <= STEP_TOLERANCE[precision][name], worst


def distance(found: Any, right: Any) -> float:
    """How far a tensor is from the right one, as a share of its length."""
    return float(np.linalg.norm(found - right) / np.linalg.norm(right))


@pytest.mark.parametrize("instructions", INSTRUCTIONS)
@pytest.mark.parametrize("name", ["pt", "odd"])
def test_bits_do_not_depend_on_threads(name: str, instructions: str) -> None:
    arch, batch = ARCHITECTURES[name]
    for samples in (None, 13):
        results = []
        for threads in sorted({1, cpu.available()}):
            cpu.set_threads(threads)
            state = TrainingState(initialise(arch, seed=SEED))
            fused = FusedStep(arch, state, batch, samples, precision="bf16", instructions=instructions)
            fused._team.pace.threads = lambda most: most  # type: ignore[method-assign]
            for step in range(4):
                x, rows = batch_of(arch, batch, step)
                fused(x, rows, seed=SEED, optimiser=Optimiser())
            results.append(state.parameters.flat.copy())
        assert all(np.array_equal(results[0], other) for other in results[1:])


@pytest.mark.parametrize("instructions", INSTRUCTIONS[:1])
def test_tile_registers_are_given_up_at_the_end_of_a_step(instructions: str) -> None:
    from llvmlite import ir
    from numba.core import cgutils
    from numba.extending import intrinsic

    @intrinsic
    def palette(typing):  # type: ignore[no-untyped-def]
        """The first byte of what this thread's tile registers are set to; 0 where they are not in use."""

        def code(context, builder, sig, args):  # type: ignore[no-untyped-def]
            place = cgutils.alloca_once(builder, ir.ArrayType(ir.IntType(8), 64))
            first = builder.bitcast(place, ir.IntType(8).as_pointer())
            call(builder, "llvm.x86.sttilecfg", ir.VoidType(), first)
            return builder.zext(builder.load(first), ir.IntType(64))

        return types.int64(), code

    in_use = numba.njit(lambda: palette())
    arch, batch = ARCHITECTURES["odd"]
    fused = FusedStep(arch, TrainingState(initialise(arch, seed=SEED)), batch, precision="bf16", instructions="amx")
    assert in_use() == 0
    fused(*batch_of(arch, batch, 0), seed=SEED, optimiser=Optimiser())
    assert in_use() == 0


def test_a_processor_without_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bfloat16, "_has", lambda feature: False)
    backend, arch = backends.choose("numba"), ARCHITECTURES["odd"][0]
    with pytest.raises(BackendError, match=r"^precision: got 'bf16', but this processor has no AMX \(amx"):
        backend.fused_step(arch, TrainingState(initialise(arch, seed=0)), 7, precision="bf16")
    with pytest.raises(InputError, match="has no AVX512-BF16"):
        FusedStep(arch, TrainingState(initialise(arch, seed=0)), 7, precision="bf16")


@anyone
def test_a_system_that_forbids_tile_registers_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bfloat16, "_has", lambda feature: feature.startswith("amx"))
    monkeypatch.setattr(bfloat16, "_tiles_permitted", lambda: False)
    assert bfloat16.best() is None
    assert "operating system does not let this process use AMX" in str(cpu.precision_problem("bf16"))


def test_what_else_is_refused() -> None:
    arch, backend = ARCHITECTURES["odd"][0], backends.choose("numba")
    state = TrainingState(initialise(arch, seed=0, dtype=np.float64))
    with pytest.raises(InputError, match="precision: got 'half', expected one of full, bf16, bf16x3"):
        FusedStep(arch, state, 7, precision="half")
    with pytest.raises(InputError, match="got 'bf16' with parameters in float64"):
        FusedStep(arch, state, 7, precision="bf16")
    with pytest.raises(BackendError, match="backend numpy has only full products"):
        backends.choose("numpy").fused_step(arch, state, 7, precision="bf16")
    if bfloat16.best() is not None:
        with pytest.raises(BackendError, match="only fused steps have such products, and nothing is fused for"):
            backend.check_precision("bf16", arch, "dreg", 5)


def test_the_command_line_without_such_a_processor(tmp_path: Path) -> None:
    environment = {**os.environ, "NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma"}
    train = [sys.executable, "-m", "vae_np", "train", "--data", "bars", "--precision", "bf16", "--out", "a"]
    done = subprocess.run(train, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == [
        "vae-np: precision: got 'bf16', but this processor has no AMX (amx-tile, amx-bf16) and this processor has no "
        "AVX512-BF16 (avx512bf16)"
    ]
    assert not (tmp_path / "a").exists()
