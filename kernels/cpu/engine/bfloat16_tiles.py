"""What multiplies pairs of bfloat16 numbers: a tile of dot products in vector registers, and blocks of tile registers.

Both take the pairs of `bfloat16_pairs`, and add in float32. Their sums over a depth have one order each, which is not
the same: AVX-512 adds the second product of a pair first, and AMX adds 32 products by itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from vae_np._types import Array

from ..runtime.atomics import pointer
from ..runtime.compilation import intrinsic
from .bfloat16_pairs import SQUARE
from .instructions import I64, Vectors, call, cases, rounds
from .tile import tile_code, tile_signature
from .vectors import columns_of

# Squares of rows and of columns of a block: four sums, and two operands each way, are all eight tile registers.
BLOCK_SQUARES = 2
_SUMS, _ROWS, _COLUMNS = 0, 4, 6
_INT = types.int64
_I8, _VOID = ir.IntType(8), ir.VoidType()


def _numbers(pairs: Array) -> Array:
    """The two numbers of each pair, (..., 2)."""
    halves = np.ascontiguousarray(pairs).view(np.uint16).astype(np.uint32) << 16
    return halves.view(np.float32).reshape(*pairs.shape, 2)


def _pair_tile(
    rows: int, vectors: int, a: Array, at_a: int, step_a: int, b: Array, at_b: int, ldb: int,
    c: Array, at_c: int, ldc: int, k: int, lanes: int, accumulate: int,
) -> None:  # fmt: skip
    """`tile` for pairs: C[i, :] (+)= Σ_p A[i, p]·B[p, :], k pairs deep, each a sum of two products."""
    columns = columns_of(vectors, lanes, c.itemsize)
    for i in range(rows):
        total = np.zeros(columns, np.float32)
        for p in range(k):
            left = _numbers(a[at_a + i + p * step_a :][:1])
            right = _numbers(b[at_b + p * ldb : at_b + p * ldb + columns])
            for half in (1, 0):
                total += left[:, half] * right[:, half]
        place = slice(at_c + i * ldc, at_c + i * ldc + columns)
        c[place] = c[place] + total if accumulate else total


def _add_dots(v: Vectors, a: Any, b: Any, total: Any) -> Any:
    """total + the sum of both products of each pair."""
    halves = ir.VectorType(ir.IntType(32), v.width)
    pairs = (v.builder.bitcast(operand, halves) for operand in (a, b))
    return v.call("llvm.x86.avx512bf16.dpbf16ps.512", v.type, total, *pairs)


@intrinsic(_pair_tile)
def pair_tile(typing, rows, vectors, a, at_a, step_a, b, at_b, ldb, c, at_c, ldc, k, lanes, accumulate):
    return tile_signature(a, b, c), tile_code(_add_dots)


def _begin_tiles() -> None:
    """Make this thread's tile registers squares of pairs; what they held is lost, as in any call of a function."""


@intrinsic(_begin_tiles)
def begin_tiles(typing):
    def code(context, builder, sig, args):
        # Intel's palette 1: from byte 16 on each register's bytes in a row, and from byte 48 on its rows.
        layout = [1, *[0] * 15, *[4 * SQUARE, 0] * 8, *[0] * 16, *[SQUARE] * 8, *[0] * 8]
        kind = ir.ArrayType(_I8, len(layout))
        place = cgutils.alloca_once_value(builder, ir.Constant(kind, layout))
        call(builder, "llvm.x86.ldtilecfg", _VOID, builder.bitcast(place, _I8.as_pointer()))
        return context.get_dummy_value()

    return types.void(), code


def _end_tiles() -> None:
    """Give the tile registers up, so that no switch of threads has to save them."""


@intrinsic(_end_tiles)
def end_tiles(typing):
    def code(context, builder, sig, args):
        call(builder, "llvm.x86.tilerelease", _VOID)
        return context.get_dummy_value()

    return types.void(), code


def _tile_block(
    rows: int, columns: int, a: Array, at_a: int, lda: int, b: Array, at_b: int, ldb: int, c: Array, at_c: int,
    ldc: int, squares: int, accumulate: int,
) -> None:  # fmt: skip
    """C (+)= Σ A B for `rows` by `columns` squares, one or two each; A[i, p] and B[p, j] are `squares` squares deep."""
    for i in range(rows * SQUARE):
        for j in range(columns * SQUARE):
            total = c[at_c + i * ldc + j] if accumulate else np.float32(0)
            for p in range(squares * SQUARE):
                left, right = (
                    _numbers(of[at : at + 1])[0] for of, at in ((a, at_a + i * lda + p), (b, at_b + p * ldb + j))
                )
                total += left[0] * right[0] + left[1] * right[1]
            c[at_c + i * ldc + j] = total


@intrinsic(_tile_block)
def tile_block(typing, rows, columns, a, at_a, lda, b, at_b, ldb, c, at_c, ldc, squares, accumulate):
    signature = types.void(_INT, _INT, a, _INT, _INT, b, _INT, _INT, c, _INT, _INT, _INT, _INT)

    def code(context, builder, sig, args):
        rows, columns, a, at_a, lda, b, at_b, ldb, c, at_c, ldc, squares, accumulate = args
        pa = pointer(context, builder, sig.args[2], a, at_a)
        pb = pointer(context, builder, sig.args[5], b, at_b)
        pc = pointer(context, builder, sig.args[8], c, at_c)
        sizes = {4 * n + m: (m, n) for n in range(1, BLOCK_SQUARES + 1) for m in range(1, BLOCK_SQUARES + 1)}
        for case in cases(builder, builder.add(builder.mul(columns, I64(4)), rows), sizes, "block"):
            m, n = sizes[case]
            _block(builder, m, n, (pa, lda), (pb, ldb), (pc, ldc), squares, accumulate)
        return context.get_dummy_value()

    return signature, code


def _block(builder: Any, rows: int, columns: int, a: Any, b: Any, c: Any, squares: Any, accumulate: Any) -> None:
    """A block of sums in tile registers, over all of the depth; each matrix an address and its rows' distance."""
    (pa, lda), (pb, ldb), (pc, ldc) = a, b, c

    def moves(name: str, register: int, matrix: Any, ld: Any, row: int, column: int) -> None:
        at = builder.gep(matrix, [builder.add(builder.mul(ld, I64(row * SQUARE)), I64(column * SQUARE))])
        byte, stride = builder.bitcast(at, _I8.as_pointer()), builder.mul(ld, I64(4))
        call(builder, f"llvm.x86.{name}", _VOID, _I8(register), byte, stride)

    sums = [(_SUMS + 2 * i + j, i, j) for i in range(rows) for j in range(columns)]
    with builder.if_else(builder.icmp_signed("!=", accumulate, I64(0))) as (adds, begins):
        with adds:
            for register, i, j in sums:
                moves("tileloadd64", register, pc, ldc, i, j)
        with begins:
            for register, _, _ in sums:
                call(builder, "llvm.x86.tilezero", _VOID, _I8(register))

    def add(_: Any, carried: list[Any]) -> list[Any]:
        at_a, at_b = carried
        for j in range(columns):
            moves("tileloadd64", _COLUMNS + j, at_b, ldb, 0, j)
        for i in range(rows):
            moves("tileloadd64", _ROWS + i, at_a, lda, i, 0)
            for j in range(columns):
                registers = (_SUMS + 2 * i + j, _ROWS + i, _COLUMNS + j)
                call(builder, "llvm.x86.tdpbf16ps", _VOID, *map(_I8, registers))
        return [builder.gep(at_a, [I64(SQUARE)]), builder.gep(at_b, [builder.mul(ldb, I64(SQUARE))])]

    rounds(builder, squares, [pa, pb], add)
    for register, i, j in sums:
        moves("tilestored64", register, pc, ldc, i, j)
