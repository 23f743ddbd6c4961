"""What the processor can do at most: multiply-adds that touch no memory, on as many threads as everyone has."""

from __future__ import annotations

from typing import Any

import numba
import numba.extending
from numba import types
from workloads import Step, in_threads

from vae_np.kernels.cpu.engine.instructions import Vectors, rounds
from vae_np.kernels.cpu.runtime.lowering import VECTOR_BYTES, Compiler

# So many sums at once hide an addition's latency, and leave registers for the factors.
_SUMS = 24 if VECTOR_BYTES == 64 else 12
FLOP_PER_ROUND = 2 * _SUMS * VECTOR_BYTES // 4


@numba.extending.intrinsic
def _multiply_adds(typing, count):  # type: ignore[no-untyped-def]
    """`count` rounds of x ← 0.5 x + 1 on vectors of float32 that stay in registers; returns an entry of their sum."""

    def code(context, builder, sig, args):  # type: ignore[no-untyped-def]
        v = Vectors(context, builder, types.float32)
        half, one = v.constant(0.5), v.constant(1.0)
        start = [v.constant(float(i)) for i in range(_SUMS)]
        total, *others = rounds(builder, args[0], start, lambda _, sums: [v.fma(x, half, one) for x in sums])
        for other in others:
            total = builder.fadd(total, other)
        return builder.extract_element(total, context.get_constant(types.int32, 0))

    return types.float32(types.int64), code


@numba.njit(nogil=True, pipeline_class=Compiler)
def _register_loop(count: Any) -> Any:
    return _multiply_adds(count)


def multiply_adds_in_threads(threads: int, rounds: int) -> Step:
    """So many rounds of FLOP_PER_ROUND operations in each thread."""
    _register_loop(1)
    return in_threads([lambda: _register_loop(rounds)] * threads, 1)
