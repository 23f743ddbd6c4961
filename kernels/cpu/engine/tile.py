"""The register tile of a matrix product, and the copies that feed it: panels of B as they lie, or turned.

Each intrinsic works on flat arrays and offsets, with vectors as wide as the processor's (AVX-512, AVX2 or what else
there is), the last one masked. The plain function above it says what it computes, and runs in its place where
compilation is off (NUMBA_DISABLE_JIT).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types

from vae_np._types import Array

from ..runtime.atomics import pointer
from ..runtime.compilation import intrinsic
from ..runtime.lowering import TILE_ROWS, VECTOR_BYTES
from .instructions import I64, Vectors, cases, rounds
from .vectors import columns_of

TILE_VECTORS = 2
# How many rows ahead of a tile's work its rows of B are asked for.
_ROWS_AHEAD = 8
_INT = types.int64


def _tile(
    rows: int, vectors: int, a: Array, at_a: int, step_a: int, b: Array, at_b: int, ldb: int,
    c: Array, at_c: int, ldc: int, k: int, lanes: int, accumulate: int,
) -> None:  # fmt: skip
    """C[i, :] (+)= Σ_k A[i, k] B[k, :] for up to TILE_ROWS rows and TILE_VECTORS vectors of columns.

    A's rows are neighbours: A[i, k] is a[at_a + i + k step_a].
    """
    columns = columns_of(vectors, lanes, a.itemsize)
    for i in range(rows):
        total = np.zeros(columns, a.dtype)
        for j in range(k):
            total += a[at_a + i + j * step_a] * b[at_b + j * ldb : at_b + j * ldb + columns]
        place = slice(at_c + i * ldc, at_c + i * ldc + columns)
        c[place] = c[place] + total if accumulate else total


@intrinsic(_tile)
def tile(typing, rows, vectors, a, at_a, step_a, b, at_b, ldb, c, at_c, ldc, k, lanes, accumulate):
    return tile_signature(a, b, c), tile_code(Vectors.fma)


def tile_signature(a: Any, b: Any, c: Any) -> Any:
    """What `tile` takes, for arrays of these types."""
    return types.void(_INT, _INT, a, _INT, _INT, b, _INT, _INT, c, _INT, _INT, _INT, _INT, _INT)


def tile_code(multiply_add: Callable[[Vectors, Any, Any, Any], Any]) -> Any:
    """The code of a register tile for a multiply-add of vectors (v, a, b, sum); arguments as `tile` has them."""

    def code(context, builder, sig, args):
        v = Vectors(context, builder, sig.args[2].dtype)
        rows, vectors, a, at_a, step_a, b, at_b, ldb, c, at_c, ldc, k, lanes, accumulate = args
        pa = pointer(context, builder, sig.args[2], a, at_a)
        pb = pointer(context, builder, sig.args[5], b, at_b)
        pc = pointer(context, builder, sig.args[8], c, at_c)
        mask = v.mask(lanes)
        # Whole tiles, which are most of them, go without a mask.
        sizes = {
            (256 if whole else 0) + 64 * n + m: (m, n, whole)
            for n in range(1, TILE_VECTORS + 1)
            for m in range(1, TILE_ROWS + 1)
            for whole in (False, True)
        }
        is_whole = builder.zext(builder.icmp_signed("==", lanes, I64(v.width)), I64)
        shape = builder.add(builder.mul(is_whole, I64(256)), builder.add(builder.mul(vectors, I64(64)), rows))
        for case in cases(builder, shape, sizes, "tile"):
            m, n, whole = sizes[case]
            masks = [None] * (n - 1) + [None if whole else mask]
            totals = _tile_sums(v, multiply_add, m, pa, step_a, pb, ldb, masks, k)
            _write_tile(v, totals, pc, ldc, masks, accumulate)
        return context.get_dummy_value()

    return code


def _tile_sums(
    v: Vectors, multiply_add: Any, rows: int, a: Any, step_a: Any, b: Any, ldb: Any, masks: list[Any], k: Any
) -> list[list[Any]]:
    """The sums of a register tile, vector by vector of each of its rows: all of k in one loop."""
    builder = v.builder
    far = builder.mul(ldb, I64(_ROWS_AHEAD))
    # AVX-512 multiplies with an entry in memory without an instruction more, but LLVM loads what is wanted twice once,
    # into a register, by an instruction of its own. So two of three rows are read through another name of A as well (of
    # all rows, there would be more loads than the processor begins meanwhile). Its step has another name, too: two
    # addresses that move together would become one with an index, which takes that instruction again.
    names, steps = [a], [step_a]
    if VECTOR_BYTES == 64 and len(masks) > 1:
        names, steps = [a, v.alias(a)], [step_a, v.alias(step_a)]

    def add(_: Any, carried: list[Any]) -> list[Any]:
        at_b, at_a, sums = carried[0], carried[1 : 1 + len(names)], carried[1 + len(names) :]
        vectors = [v.load(v.at(at_b, j), mask) for j, mask in enumerate(masks)]
        ahead = builder.gep(at_b, [far])
        for j in range(len(masks)):
            v.ask_for(v.at(ahead, j))
        updated = []
        for i in range(rows):
            read_from = at_a if i % 3 else at_a[:1]
            entries = [v.splat(_entry(v, name, i)) for name in read_from]
            for j, vector in enumerate(vectors):
                updated.append(multiply_add(v, entries[j % len(entries)], vector, sums[i * len(masks) + j]))
        moved = [builder.gep(name, [step]) for name, step in zip(at_a, steps, strict=True)]
        return [builder.gep(at_b, [ldb]), *moved, *updated]

    totals = rounds(builder, k, [b, *names, *[v.zero] * (rows * len(masks))], add)[1 + len(names) :]
    return [totals[i * len(masks) : (i + 1) * len(masks)] for i in range(rows)]


def _entry(v: Vectors, place: Any, number: int) -> Any:
    """The entry so many after a place."""
    value = v.builder.load(v.builder.gep(place, [I64(number)]))
    value.align = v.align
    return value


def _write_tile(v: Vectors, totals: list[list[Any]], c: Any, ldc: Any, masks: list[Any], accumulate: Any) -> None:
    """Write the sums of a tile to C, or add them to what is there."""
    builder = v.builder
    rows = [c]
    for _ in totals[1:]:
        rows.append(builder.gep(rows[-1], [ldc]))
    with builder.if_else(builder.icmp_signed("!=", accumulate, I64(0))) as branches:
        for branch, adds in zip(branches, (True, False), strict=True):
            with branch:
                for row, sums in zip(rows, totals, strict=True):
                    for j, (total, mask) in enumerate(zip(sums, masks, strict=True)):
                        place = v.at(row, j)
                        v.store(builder.fadd(v.load(place, mask), total) if adds else total, place, mask)


def _copy_rows(
    vectors: int, a: Array, at_a: int, lda: int, rows: int, lanes: int, out: Array, at_out: int, ldo: int
) -> None:
    """out[i, :] = a[i, :] for up to TILE_VECTORS vectors of columns, the last with `lanes`."""
    columns = columns_of(vectors, lanes, a.itemsize)
    for i in range(rows):
        out[at_out + i * ldo : at_out + i * ldo + columns] = a[at_a + i * lda : at_a + i * lda + columns]


@intrinsic(_copy_rows)
def copy_rows(typing, vectors, a, at_a, lda, rows, lanes, out, at_out, ldo):
    signature = types.void(_INT, a, _INT, _INT, _INT, _INT, out, _INT, _INT)

    def code(context, builder, sig, args):
        v = Vectors(context, builder, sig.args[1].dtype)
        vectors, a, at_a, lda, rows, lanes, out, at_out, ldo = args
        source = pointer(context, builder, sig.args[1], a, at_a)
        target = pointer(context, builder, sig.args[6], out, at_out)
        mask = v.mask(lanes)
        for n in cases(builder, vectors, range(1, TILE_VECTORS + 1), "copy"):
            masks = [None] * (n - 1) + [mask]

            def copy(i: Any, _: list[Any], masks: list[Any] = masks) -> list[Any]:
                from_row = builder.gep(source, [builder.mul(i, lda)])
                to_row = builder.gep(target, [builder.mul(i, ldo)])
                for j, mask in enumerate(masks):
                    v.store(v.load(v.at(from_row, j), mask), v.at(to_row, j), mask)
                return []

            rounds(builder, rows, [], copy)
        return context.get_dummy_value()

    return signature, code


def _pack_square(rows: int, a: Array, at_a: int, lda: int, out: Array, at_out: int, ldo: int) -> None:
    """out[j, i] = a[i, j] for up to a vector's width of rows, and as many columns as a vector is wide."""
    for i in range(rows):
        for j in range(VECTOR_BYTES // a.itemsize):
            out[at_out + j * ldo + i] = a[at_a + i * lda + j]


@intrinsic(_pack_square)
def pack_square(typing, rows, a, at_a, lda, out, at_out, ldo):
    signature = types.void(_INT, a, _INT, _INT, out, _INT, _INT)

    def code(context, builder, sig, args):
        v = Vectors(context, builder, sig.args[1].dtype)
        rows, a, at_a, lda, out, at_out, ldo = args
        source = pointer(context, builder, sig.args[1], a, at_a)
        target = pointer(context, builder, sig.args[4], out, at_out)
        mask, last = v.mask(rows), builder.sub(rows, I64(1))
        lines = []
        for i in range(v.width):
            # Beyond the rows the last one is read again; nothing of it is written.
            here = builder.select(builder.icmp_signed("<", I64(i), last), I64(i), last)
            lines.append(v.load(builder.gep(source, [builder.mul(lda, here)])))
        for j, line in enumerate(v.transposed(lines)):
            v.store(line, builder.gep(target, [builder.mul(ldo, I64(j))]), mask)
        return context.get_dummy_value()

    return signature, code


def _transpose_tile(a: Array, at_a: int, lda: int, out: Array, at_out: int, ldo: int) -> None:
    """out[j, i] = a[i, j] for a square as wide as a vector, in registers."""
    width = VECTOR_BYTES // a.itemsize
    for i in range(width):
        for j in range(width):
            out[at_out + j * ldo + i] = a[at_a + i * lda + j]


@intrinsic(_transpose_tile)
def transpose_tile(typing, a, at_a, lda, out, at_out, ldo):
    signature = types.void(a, _INT, _INT, out, _INT, _INT)

    def code(context, builder, sig, args):
        v = Vectors(context, builder, sig.args[0].dtype)
        a, at_a, lda, out, at_out, ldo = args
        source = pointer(context, builder, sig.args[0], a, at_a)
        target = pointer(context, builder, sig.args[3], out, at_out)
        rows = [v.load(builder.gep(source, [builder.mul(lda, I64(i))])) for i in range(v.width)]
        for i, row in enumerate(v.transposed(rows)):
            v.store(row, builder.gep(target, [builder.mul(ldo, I64(i))]))
        return context.get_dummy_value()

    return signature, code
