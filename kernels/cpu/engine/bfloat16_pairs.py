"""Float32 matrices as pairs of bfloat16 numbers, the form in which instructions multiply them.

A bfloat16 is the upper half of a float32: 8 bits of exponent, 8 of mantissa with the leading one. A pair is two
neighbours along the depth of a product, over which it sums, the first in the lower half of 32 bits. Arrays of pairs are
float32 arrays of which nobody reads the numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from vae_np._types import Array
from vae_np.precision import round_to_bfloat16

from ..runtime.atomics import pointer
from ..runtime.compilation import intrinsic, njit
from .instructions import I32, I64, Vectors, call, cases

# A square has so many pairs along the depth, and so many rows or columns; a vector holds so many pairs.
SQUARE = 16
_INT = types.int64
_I16 = ir.IntType(16)


def _pair_square(
    across: bool, leading: bool, rest: bool, a: Array, at_a: int, lda: int, depth: int, count: int, out: Array,
    at_out: int, ldo: int,
) -> None:  # fmt: skip
    """A square of pairs from up to 32 entries along the depth, of up to 16 rows or columns; zeros beyond these.

    Entry k of number i is a[k, i] if `across`, else a[i, k]; its pair p goes to out[p, i] if `leading`, else to
    out[i, p]. With `rest` each entry is what its rounding has left over.
    """
    for i in range(SQUARE):
        for p in range(SQUARE):
            pair = np.zeros(2, np.float32)
            for half in range(2):
                k = 2 * p + half
                if k < depth and i < count:
                    pair[half] = a[at_a + (k * lda + i if across else i * lda + k)]
            if rest:
                pair -= round_to_bfloat16(pair)
            halves = (round_to_bfloat16(pair).view(np.uint32) >> 16).astype(np.uint16)
            place = at_out + (p * ldo + i if leading else i * ldo + p)
            out[place : place + 1] = halves.view(np.float32)


@intrinsic(_pair_square)
def pair_square(typing, across, leading, rest, a, at_a, lda, depth, count, out, at_out, ldo):
    flag = types.boolean
    signature = types.void(flag, flag, flag, a, _INT, _INT, _INT, _INT, out, _INT, _INT)

    def code(context, builder, sig, args):
        v = Vectors(context, builder, types.float32)
        across, leading, rest, a, at_a, lda, depth, count, out, at_out, ldo = args
        source = pointer(context, builder, sig.args[3], a, at_a)
        target = pointer(context, builder, sig.args[8], out, at_out)
        whole = builder.and_(
            builder.icmp_signed("==", depth, I64(2 * SQUARE)), builder.icmp_signed("==", count, I64(SQUARE))
        )
        number = I64(0)
        for place, flag in enumerate((across, leading, rest, whole)):
            number = builder.or_(number, builder.shl(builder.zext(flag, I64), I64(place)))
        for case in cases(builder, number, range(16), "square"):
            is_across, is_leading, is_rest, is_whole = (bool(case >> place & 1) for place in range(4))
            lines = _lines(v, source, lda, is_across, is_rest, None if is_whole else (depth, count))
            for place, line in enumerate(v.transposed(lines) if is_across != is_leading else lines):
                v.store(line, builder.gep(target, [builder.mul(ldo, I64(place))]))
        return context.get_dummy_value()

    return signature, code


def _lines(v: Vectors, source: Any, lda: Any, across: bool, rest: bool, edge: tuple[Any, Any] | None) -> list[Any]:
    """A square's vectors of pairs: one for each pair of rows of a matrix whose rows run across the depth, else for each
    row, along the depth."""
    builder = v.builder

    def loaded(row: int, start: int) -> Any:
        place = builder.gep(source, [builder.add(builder.mul(lda, I64(row)), I64(start))])
        mask = None
        if edge is not None:
            depth, count = edge
            rows, lanes = (depth, count) if across else (count, builder.sub(depth, I64(start)))
            mask = _first_lanes(v, builder.select(builder.icmp_signed("<", I64(row), rows), lanes, I64(0)))
        value = v.load(place, mask)
        return builder.fsub(value, _rounded(v, value)) if rest else value

    if across:
        return [_pair(v, loaded(2 * p, 0), loaded(2 * p + 1, 0), across=True) for p in range(SQUARE)]
    return [_pair(v, loaded(i, 0), loaded(i, SQUARE), across=False) for i in range(SQUARE)]


def _pair(v: Vectors, first: Any, second: Any, *, across: bool) -> Any:
    """Two vectors of float32 as one of pairs: entries at the same place if `across`, else neighbours in each vector."""
    halves = ir.VectorType(_I16, 2 * v.width)
    value = call(v.builder, "llvm.x86.avx512bf16.cvtne2ps2bf16.512", halves, second, first)
    if across:
        picks = [i // 2 + i % 2 * v.width for i in range(2 * v.width)]
        value = v.builder.shuffle_vector(value, value, ir.Constant(ir.VectorType(I32, 2 * v.width), picks))
    return v.builder.bitcast(value, v.type)


def _rounded(v: Vectors, value: Any) -> Any:
    """The nearest bfloat16 numbers, ties to even, as float32."""
    builder, words = v.builder, ir.VectorType(I32, v.width)

    def every(number: int) -> Any:
        return ir.Constant(words, [number] * v.width)

    bits = builder.bitcast(value, words)
    odd = builder.and_(builder.lshr(bits, every(16)), every(1))
    up = builder.add(bits, builder.add(odd, every(0x7FFF)))
    return builder.bitcast(builder.and_(up, every(-65536)), v.type)


def _first_lanes(v: Vectors, count: Any) -> Any:
    """True in the first `count` lanes, of which there may be none, or more than all."""
    lanes = ir.Constant(ir.VectorType(I64, v.width), list(range(v.width)))
    return v.builder.icmp_signed("<", lanes, v.splat(count))


@njit()
def pair_up(
    across: bool, leading: bool, rest: bool, a: Array, at_a: int, lda: int, depth: int, count: int, out: Array,
    at_out: int, ldo: int,
) -> None:  # fmt: skip
    """`depth` entries of `count` rows or columns as pairs, in whole squares filled with zeros; see `pair_square`."""
    along = 1 if not across else lda
    aside = lda if not across else 1
    for i in range(0, count, SQUARE):
        for k in range(0, depth, 2 * SQUARE):
            place = at_out + (k // 2 * ldo + i if leading else i * ldo + k // 2)
            pair_square(
                across, leading, rest, a, at_a + k * along + i * aside, lda,
                min(depth - k, 2 * SQUARE), min(count - i, SQUARE), out, place, ldo,
            )  # fmt: skip
