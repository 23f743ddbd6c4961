"""What LLVM's loop vectoriser does not find by itself, written as vector instructions.

Each intrinsic works on flat arrays and offsets, with vectors as wide as the processor's, the last one masked. The plain
function above it says what it computes, and runs in its place where compilation is off (NUMBA_DISABLE_JIT).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from vae_np._types import Array

from ..runtime.atomics import pointer
from ..runtime.compilation import intrinsic, njit
from ..runtime.lowering import VECTOR_BYTES
from .instructions import I32, I64, Vectors, call, cases, rounds, splat

SUM_VECTORS = 8
# How many entries ahead of its work Adam prefetches.
_ENTRIES_AHEAD = 256
_INT = types.int64


@njit()
def in_vectors(columns: int, width: int) -> tuple[int, int]:
    """How many vectors `columns` columns fill, and the lanes of the last one."""
    vectors = (columns + width - 1) // width
    return vectors, columns - (vectors - 1) * width


@njit()
def equal_share(left: int, parts: int) -> int:
    """What the next of `parts` parts gets of what is left, so that no two parts differ by more than one."""
    return (left + parts - 1) // parts


def columns_of(vectors: int, lanes: int, itemsize: int) -> int:
    """How many columns `vectors` vectors hold, the last with `lanes`."""
    return VECTOR_BYTES // itemsize * (vectors - 1) + lanes


def _row_sum(
    vectors: int, table: Array, at_table: int, ld: int, index: Array, at_index: int, count: int,
    out: Array, at_out: int, lanes: int,
) -> None:  # fmt: skip
    """out[:] = Σ_i table[index[i], :], over up to SUM_VECTORS vectors of columns, the last with `lanes`."""
    columns = columns_of(vectors, lanes, table.itemsize)
    total = np.zeros(columns, table.dtype)
    for row in index[at_index : at_index + count]:
        total += table[at_table + row * ld : at_table + row * ld + columns]
    out[at_out : at_out + columns] = total


@intrinsic(_row_sum)
def row_sum(typing, vectors, table, at_table, ld, index, at_index, count, out, at_out, lanes):
    signature = types.void(_INT, table, _INT, _INT, index, _INT, _INT, out, _INT, _INT)

    def code(context, builder, sig, args):
        v = Vectors(context, builder, sig.args[1].dtype)
        vectors, table, at_table, ld, index, at_index, count, out, at_out, lanes = args
        base = pointer(context, builder, sig.args[1], table, at_table)
        indices = pointer(context, builder, sig.args[4], index, at_index)
        result = pointer(context, builder, sig.args[7], out, at_out)
        mask = v.mask(lanes)
        for n in cases(builder, vectors, range(1, SUM_VECTORS + 1), "sum"):
            masks = [None] * (n - 1) + [mask]

            def add(i: Any, sums: list[Any], masks: list[Any] = masks) -> list[Any]:
                row = builder.sext(builder.load(builder.gep(indices, [i])), I64)
                place = builder.gep(base, [builder.mul(row, ld)])
                return [builder.fadd(total, v.load(v.at(place, j), masks[j])) for j, total in enumerate(sums)]

            for j, total in enumerate(rounds(builder, count, [v.zero] * n, add)):
                v.store(total, v.at(result, j), masks[j])
        return context.get_dummy_value()

    return signature, code


def _compress_columns(x: Array, at: int, first: int, last: int, index: Array, at_index: int) -> int:
    """The columns first..last−1 of a row of bytes that are not zero, into `index`; returns how many. For AVX-512."""
    found = first + np.flatnonzero(x[at + first : at + last])
    index[at_index : at_index + found.size] = found
    return found.size


@intrinsic(_compress_columns)
def compress_columns(typing, x, at, first, last, index, at_index):
    signature = _INT(x, _INT, _INT, _INT, index, _INT)

    def code(context, builder, sig, args):
        x, at, first, last, index, at_index = args
        row = pointer(context, builder, sig.args[0], x, at)
        found = pointer(context, builder, sig.args[4], index, at_index)
        bytes16, words16 = ir.VectorType(ir.IntType(8), 16), ir.VectorType(I32, 16)
        no_bytes, no_words = ir.Constant(bytes16, [0] * 16), ir.Constant(words16, [0] * 16)
        steps = ir.Constant(words16, list(range(16)))

        def first_lanes(count: Any) -> Any:
            return builder.icmp_signed("<", steps, splat(builder, builder.trunc(count, I32), 16))

        count = cgutils.alloca_once_value(builder, I64(0))
        with cgutils.for_range_slice(builder, first, last, I64(16)) as (j, _):
            place = builder.bitcast(builder.gep(row, [j]), bytes16.as_pointer())
            here = first_lanes(builder.sub(last, j))
            pixels = call(builder, "llvm.masked.load.v16i8.p0", bytes16, place, I32(1), here, no_bytes)
            active = builder.icmp_unsigned("!=", pixels, no_bytes)
            columns = builder.add(splat(builder, builder.trunc(j, I32), 16), steps)
            compressed = call(builder, "llvm.x86.avx512.mask.compress.v16i32", words16, columns, no_words, active)
            bits = builder.bitcast(active, ir.IntType(16))
            many = builder.zext(call(builder, "llvm.ctpop.i16", ir.IntType(16), bits), I64)
            before = builder.load(count)
            target = builder.bitcast(builder.gep(found, [before]), words16.as_pointer())
            call(builder, "llvm.masked.store.v16i32.p0", ir.VoidType(), compressed, target, I32(4), first_lanes(many))
            builder.store(builder.add(before, many), count)
        return builder.load(count)

    return signature, code


def _sum_range(a: Array, at: int, count: int) -> float:
    """Σ of `count` entries from `at` on, in float64: one sum per lane, then the lanes in pairs."""
    return float(a[at : at + count].sum(dtype=np.float64))


@intrinsic(_sum_range)
def sum_range(typing, a, at, count):
    signature = types.float64(a, _INT, _INT)

    def code(context, builder, sig, args):
        v = Vectors(context, builder, sig.args[0].dtype)
        a, at, count = args
        source = pointer(context, builder, sig.args[0], a, at)
        wide = ir.VectorType(ir.DoubleType(), v.width)

        def add(i: Any, mask: Any, sums: list[Any]) -> list[Any]:
            value = v.load(builder.gep(source, [i]), mask)
            return [builder.fadd(sums[0], value if v.bits == 64 else builder.fpext(value, wide))]

        (lanes,) = v.along(count, [ir.Constant(wide, [0.0] * v.width)], add)
        width = v.width
        while width > 1:
            width //= 2
            halves = [
                builder.shuffle_vector(
                    lanes, lanes, ir.Constant(ir.VectorType(I32, width), list(range(start, start + width)))
                )
                for start in (0, width)
            ]
            lanes = builder.fadd(*halves)
        return builder.extract_element(lanes, I32(0))

    return signature, code


def _adam_range(
    parameters: Array, at: int, gradient: Array, at_gradient: int, first: Array, second: Array, count: int,
    constants: Array,
) -> int:  # fmt: skip
    """One Adam step on `count` entries from `at` on; constants: β₁, 1−β₁, β₂, 1−β₂, step size, 1/root correction, eps.

    Returns 0 if every new parameter and second moment is finite. [D31]
    """
    beta1, rest1, beta2, rest2, step_size, inverse_root, eps = constants[:7]
    here = slice(at, at + count)
    g = gradient[at_gradient : at_gradient + count]
    first[here] = beta1 * first[here] + rest1 * g
    second[here] = beta2 * second[here] + rest2 * (g * g)
    parameters[here] -= step_size * first[here] / (np.sqrt(second[here]) * inverse_root + eps)
    return int((~(np.isfinite(parameters[here]) & np.isfinite(second[here]))).sum())


@intrinsic(_adam_range)
def adam_range(typing, parameters, at, gradient, at_gradient, first, second, count, constants):
    signature = _INT(parameters, _INT, gradient, _INT, first, second, _INT, constants)

    def code(context, builder, sig, args):
        v = Vectors(context, builder, sig.args[0].dtype)
        parameters, at, gradient, at_gradient, first, second, count, constants = args
        pp = pointer(context, builder, sig.args[0], parameters, at)
        pg = pointer(context, builder, sig.args[2], gradient, at_gradient)
        pm = pointer(context, builder, sig.args[4], first, at)
        pv = pointer(context, builder, sig.args[5], second, at)
        pc = pointer(context, builder, sig.args[7], constants, I64(0))
        beta1, rest1, beta2, rest2, step_size, inverse_root, eps = (
            v.splat(builder.load(builder.gep(pc, [I64(i)]))) for i in range(7)
        )

        def update(i: Any, mask: Any, bad: list[Any]) -> list[Any]:
            places = [builder.gep(p, [i]) for p in (pp, pg, pm, pv)]
            for place in (places[0], *places[2:]):
                v.ask_for(builder.gep(place, [I64(_ENTRIES_AHEAD)]), write=True)
            theta, g, m, s = (v.load(place, mask) for place in places)
            m = v.fma(beta1, m, builder.fmul(rest1, g))
            s = v.fma(beta2, s, builder.fmul(rest2, builder.fmul(g, g)))
            change = builder.fdiv(builder.fmul(step_size, m), v.fma(_root(v, s), inverse_root, eps))
            theta = builder.fsub(theta, change)
            for value, place in ((theta, places[0]), (m, places[2]), (s, places[3])):
                v.store(value, place, mask)
            # x − x is 0 if x is finite, and else NaN, which stays. An infinite second moment would stop θ.
            return [builder.fadd(bad[0], builder.fsub(builder.fsub(theta, theta), builder.fsub(s, s)))]

        (bad,) = v.along(count, [v.zero], update)
        strange = builder.zext(builder.fcmp_unordered("uno", bad, bad), ir.VectorType(I64, v.width))
        return v.call(f"llvm.vector.reduce.add.v{v.width}i64", I64, strange)

    return signature, code


def _root(v: Vectors, x: Any) -> Any:
    """√x; in float32 with AVX-512 from a 14-bit estimate of 1/√x and a Newton step, below 2 units in the last place.

    This leaves the divider to the division that follows. The estimate of 0 would be infinite, so x is raised to the
    smallest normal number; for an infinite x the step would be 0·∞, so infinity is selected.
    """
    builder = v.builder
    if not (VECTOR_BYTES == 64 and v.bits == 32):
        return v.sqrt(x)
    floor = v.constant(float(np.finfo(np.float32).tiny))
    every = ir.Constant(ir.IntType(16), -1)
    above = builder.select(builder.fcmp_ordered("<", x, floor), floor, x)
    estimate = v.call("llvm.x86.avx512.rsqrt14.ps.512", v.type, above, v.zero, every)
    s = builder.fmul(x, estimate)
    near = v.fma(v.fma(builder.fneg(s), s, x), builder.fmul(estimate, v.constant(0.5)), s)
    return builder.select(builder.fcmp_ordered("==", x, v.constant(float("inf"))), x, near)
