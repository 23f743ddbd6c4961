"""Where a fused step's time goes: each phase's own, and how near it comes to the peak that bounds it.

The phases are timed inside the real step, on its real threads and a state after an epoch of training. The step's own
functions are compiled once more with a clock around the calls that make up a phase; a test holds the result to the
step's own bits. What a phase has to compute and to move is counted from the shapes; the peaks are measured in turns
with the step: multiply-adds that touch no memory, and triads of four sizes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from types import FunctionType, SimpleNamespace
from typing import Any

import numba
import numba.extending
import numpy as np
from contestants import trained
from interleaved import BenchError, confine
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.dispatcher import Dispatcher
from peaks import FLOP_PER_ROUND, multiply_adds_in_threads
from triad import triad_in_threads
from workloads import (
    ADAM_BYTES,
    WORKLOADS,
    Workload,
    fused_step,
    given_batches,
    parameter_count,
    step_products,
)

from vae_np import backends
from vae_np.kernels.cpu.fused import step as fused
from vae_np.kernels.cpu.runtime.lowering import Compiler
from vae_np.kernels.cpu.runtime.team import Team

__all__ = ["BenchError", "clocked_step", "run"]

FIRST, PRODUCTS, LIKELIHOOD, ADAM, NOISE, WAITING, REST = PHASES = (
    "first layer", "products", "likelihood", "Adam", "noise and latents", "waiting", "between steps",
)  # fmt: skip
# The calls that belong to a phase, wherever the step makes them. What is left of a function in `_AROUND` when those
# inside it are taken away, is the first layer's own: loops that call nothing worth a clock.
_CALLS = {
    "active_rows": FIRST,
    "affine_rows": PRODUCTS, "input_gradient_rows": PRODUCTS, "activation_rows": PRODUCTS,
    "call_gemm": PRODUCTS, "column_sums": PRODUCTS,
    "bernoulli_step_row": LIKELIHOOD, "normal_step_row": LIKELIHOOD, "normal_scales": LIKELIHOOD,
    "weigh_samples": LIKELIHOOD, "weigh_rows": LIKELIHOOD,
    "adam_range": ADAM,
    "fill_normals": NOISE, "sample_row": NOISE, "kl_terms": NOISE, "backward_row": NOISE,
    "log_ratio_row": NOISE, "density_row": NOISE,
    "complete": WAITING,
}  # fmt: skip
_AROUND = ("forward_rows", "update_unit")
_TURN_SECONDS = 0.1
# Of all threads' three arrays together: the first cache's, the second's, the third's, and the memory.
_TRIADS = {"64 KiB": 2**16, "4 MiB": 2**22, "16 MiB": 2**24, "384 MiB": 3 * 2**27}
# Floating-point operations of a pixel's Bernoulli term and gradient, a multiply-add as two, counted in
# `bernoulli_step_row` of `kernels/cpu/likelihoods.py`: 20 of e⁻ˡ, 6 of the rest, 2 of the product that is folded.
_BERNOULLI_FLOP = 28
# Of a pixel's term under a normal likelihood in `normal_step_row`: a difference, three products and a sum.
_NORMAL_FLOP = 5


@numba.extending.intrinsic
def _nanoseconds(typing):  # type: ignore[no-untyped-def]
    """The monotonic clock. A call that LLVM does not see into: nothing is moved across it."""

    def code(context, builder, sig, args):  # type: ignore[no-untyped-def]
        i32, i64 = ir.IntType(32), ir.IntType(64)
        place = cgutils.alloca_once(builder, i64, size=2)
        kind = ir.FunctionType(i32, [i32, i64.as_pointer()])
        function = cgutils.get_or_insert_function(builder.module, kind, "clock_gettime")
        builder.call(function, [i32(time.CLOCK_MONOTONIC), place])
        seconds, rest = (builder.load(builder.gep(place, [i64(part)])) for part in (0, 1))
        return builder.add(builder.mul(seconds, i64(10**9)), rest)

    return types.int64(), code


@numba.extending.intrinsic
def _add_at(typing, address, value):  # type: ignore[no-untyped-def]
    """Adds to the int64 at an address, which several threads use."""

    def code(context, builder, sig, args):  # type: ignore[no-untyped-def]
        place = builder.inttoptr(args[0], ir.IntType(64).as_pointer())
        builder.atomic_rmw("add", place, args[1], "monotonic")
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), code


class Clocks:
    """The time that each clocked function took, all threads together, in nanoseconds: `spent[name]`."""

    def __init__(self) -> None:
        # A line of the cache each, so that threads in different phases do not wait for each other's.
        self._slots = np.zeros((64, 8), np.int64)
        self._names: dict[str, int] = {}

    def around(self, name: str, function: Any) -> Any:
        """The function, timed under a name."""
        slot = self._names.setdefault(name, len(self._names))
        address = int(self._slots.ctypes.data) + slot * self._slots.strides[0]

        @numba.njit(nogil=True, error_model="numpy", forceinline=True, pipeline_class=Compiler)
        def timed(*args: Any) -> Any:
            begun = _nanoseconds()
            result = function(*args)
            _add_at(address, _nanoseconds() - begun)
            return result

        return timed

    def clear(self) -> None:
        """Begin anew."""
        self._slots[:] = 0

    def spent(self, name: str) -> int:
        """Nanoseconds of all threads together."""
        return int(self._slots[self._names[name], 0]) if name in self._names else 0

    def names(self) -> list[str]:
        """What has been clocked."""
        return list(self._names)


def _clocked(function: Dispatcher, clocks: Clocks, inside: str = "") -> Dispatcher:
    """The same function of the same code, in which the calls of each phase are timed, also in what it calls."""
    own, replaced = function.py_func, {}
    for name in own.__code__.co_names:
        value = own.__globals__.get(name)
        if name == "update_unit":
            replaced[name] = _update_by_layer(value, clocks)
        elif name in _AROUND:
            replaced[name] = clocks.around(name, _clocked(value, clocks, name))
        elif name in _CALLS:
            replaced[name] = clocks.around(f"{inside}/{name}", value)
        elif isinstance(value, Dispatcher) and value.py_func.__module__.startswith(f"{fused.__package__}."):
            replaced[name] = _clocked(value, clocks, inside)
    copy = FunctionType(own.__code__, {**own.__globals__, **replaced}, own.__name__, own.__defaults__)
    inline = bool(function.targetoptions.get("forceinline"))
    return numba.njit(nogil=True, error_model="numpy", forceinline=inline, pipeline_class=Compiler)(copy)


def _update_by_layer(function: Dispatcher, clocks: Clocks) -> Dispatcher:
    """`update_unit` under two names: the first layer's units where they sum rows, and all others, which multiply."""
    of_first, of_others = (
        clocks.around(name, _clocked(function, clocks, name)) for name in ("update_unit 0", "update_unit")
    )

    @numba.njit(nogil=True, error_model="numpy", forceinline=True, pipeline_class=Compiler)
    def update(buffers: Any, unit: Any, part: Any, is_sparse: Any) -> Any:
        if unit.layer == 0 and is_sparse:
            return of_first(buffers, unit, part, is_sparse)
        return of_others(buffers, unit, part, is_sparse)

    return update


def clocked_step(workload: Workload, backend: backends.Backend) -> tuple[Any, Clocks]:
    """A training by the fused step with clocks inside, always on all threads, and these clocks."""
    clocks = Clocks()
    training = fused_step(backend, workload, make=lambda made: _with_clocks(made, clocks))
    return training, clocks


def _with_clocks(made: fused.FusedStep, clocks: Clocks) -> fused.FusedStep:
    made._team = Team(_clocked(fused._step, clocks), made._buffers.units.size)
    # A step that is now alone and now shared has no time per thread.
    made._team.pace = SimpleNamespace(threads=lambda most: most, took=lambda seconds: None)
    return made


def by_phase(clocks: Clocks, steps: int, threads: int, step_ms: float) -> dict[str, float]:
    """Milliseconds per step and thread of each phase, of what the clocks have counted in so many steps."""
    found = dict.fromkeys(PHASES, 0.0)
    per = 1e-6 / (steps * threads)
    inner = dict.fromkeys(("forward_rows", "update_unit 0", "update_unit"), 0)
    for name in clocks.names():
        inside, _, call = name.partition("/")
        if call:
            found[_CALLS[call]] += per * clocks.spent(name)
            if inside:
                inner[inside] += clocks.spent(name)
    for name, spent in inner.items():
        phase = PRODUCTS if name == "update_unit" else FIRST
        found[phase] += per * (clocks.spent(name) - spent)
    found[REST] = step_ms - sum(found.values())
    return found


def work(workload: Workload) -> dict[str, tuple[float, float, int]]:
    """Of each phase with a bound, in a whole step: floating-point operations, bytes to be moved, and bytes in use.

    A product reads both factors and writes the result once; a sum of rows reads a row for each active pixel.
    """
    arch, batch = workload.arch, workload.batch
    width, parameters = arch.hidden[0], parameter_count(workload)
    products, first = step_products(workload), {}
    if arch.is_bernoulli:
        # The first two are the first layer's, which is no product then.
        products = products[2:]
        active = float(given_batches(workload)[0].sum(dtype=np.int64)) / len(given_batches(workload)[0])
        moved_first = 8 * active * width + 8 * batch * width
        first = {FIRST: (2 * active * width, moved_first, 4 * arch.features * width)}
    moved = sum(4 * (a.size + b.size + out.size) for a, b, out in products)
    pixels = workload.decoded * arch.features
    flop, seen = (_BERNOULLI_FLOP, 0) if arch.is_bernoulli else (_NORMAL_FLOP, 4 * batch * arch.features)
    return {
        **first,
        PRODUCTS: (sum(2.0 * out.size * a.shape[1] for a, b, out in products), moved, moved),
        LIKELIHOOD: (flop * pixels, 8 * pixels + seen, 4 * pixels + seen),
        ADAM: (12 * parameters, ADAM_BYTES * parameters, ADAM_BYTES // 2 * parameters),
    }


def bound(of: tuple[float, float, int], gflops: float, gb_s: dict[str, float]) -> tuple[float, str]:
    """Milliseconds that a phase cannot go below, on all threads together, and by which peak."""
    flop, moved, in_use = of
    size = next((size for size, limit in _TRIADS.items() if in_use <= limit), "384 MiB")
    return max((1e-6 * flop / gflops, "multiply-adds"), (1e-6 * moved / gb_s[size], f"triad of {size}"))


def run(name: str, threads: int, rounds: int, note: Callable[[str], None]) -> dict[str, Any]:
    """The profile of a workload, as the JSON has it. Raises BenchError for one whose step is not fused."""
    workload, backend = WORKLOADS[name], backends.choose("numba")
    if backend.unfused(workload.arch) is not None:
        raise BenchError(f"workload: got {name!r}, expected one whose step is fused")
    with confine(threads):
        note("compiling the step with clocks in it, which is not kept")
        state = trained(name, backend.name, workload.epoch)
        plain, (clocked, clocks) = fused_step(backend, workload), clocked_step(workload, backend)
        for training in (plain, clocked):
            training.begin(state)
            training.run()
        steps = max(1, round(_TURN_SECONDS / _seconds(plain.run, 5)))
        fma_rounds = 400_000
        fma = multiply_adds_in_threads(threads, fma_rounds)
        repeats = {size: max(1, int(5e9 * _TURN_SECONDS * threads / limit)) for size, limit in _TRIADS.items()}
        triads = {size: triad_in_threads(limit // 12, threads, repeats[size]) for size, limit in _TRIADS.items()}
        times: list[dict[str, float]] = []
        plain_ms, gflops = [], []
        rates: dict[str, list[float]] = {size: [] for size in _TRIADS}
        for number in range(rounds + 1):
            note(f"round {number} of {rounds}")
            gflops.append(1e-9 * threads * fma_rounds * FLOP_PER_ROUND / _seconds(fma, 1))
            for size, triad in triads.items():
                rates[size].append(1e-9 * (_TRIADS[size] // 12 * 12) * repeats[size] / _seconds(triad, 1))
            plain.begin(state)
            plain.run()
            plain_ms.append(1e3 * _seconds(plain.run, steps))
            clocked.begin(state)
            clocked.run()
            clocks.clear()
            step_ms = 1e3 * _seconds(clocked.run, steps)
            times.append({**by_phase(clocks, steps, threads, step_ms), "step": step_ms})
    # The first round warms up. A peak is what was reached at best.
    peaks = {"fma_gflops": max(gflops), "triad_gb_s": {size: max(mine) for size, mine in rates.items()}}
    medians = {phase: median(one[phase] for one in times[1:]) for phase in times[0]}
    counted = work(workload)
    return {
        "workload": name,
        "threads": threads,
        "step_ms": medians.pop("step"),
        "plain_ms": median(plain_ms[1:]),
        "peaks": peaks,
        "phases": [_row(phase, ms, counted.get(phase), peaks, threads) for phase, ms in medians.items()],
    }


def _row(phase: str, ms: float, of: Any, peaks: dict[str, Any], threads: int) -> dict[str, Any]:
    if of is None:
        return {"phase": phase, "ms": ms, "flop": 0.0, "bytes": 0.0, "bound": None, "percent": None}
    least, by = bound(of, peaks["fma_gflops"], peaks["triad_gb_s"])
    per_thread = {"flop": of[0] / threads, "bytes": of[1] / threads}
    return {"phase": phase, "ms": ms, **per_thread, "bound": by, "percent": 100 * least / ms}


def _seconds(call: Callable[[], object], times: int) -> float:
    """Seconds per call."""
    started = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - started) / times
