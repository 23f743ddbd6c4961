"""Matrix products of float32 matrices whose operands are rounded to bfloat16, with sums in float32.

    for each pair of parts of A and B                    one for `bf16`; three for `bf16x3`
        for each block of the depth
            for each block of rows of A                  which fits the second cache
                round that block of A to pairs
                for each panel of columns of B           which fits the first cache
                    round that panel to pairs
                    C's panel (+)= A's block times panel

`bf16x3` splits each entry into a bfloat16 and the bfloat16 of what is left, and leaves out the product of two rests.
A call takes what `gemm` takes, and one of each matrix's strides has to be 1. The order of the sum over k depends on k
alone. A product without a term counts as 0; NaN and infinity go through.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import carray, types

from vae_np._types import Array

from ..runtime.compilation import cached_cfunc, njit
from ..runtime.lowering import TILE_ROWS
from .bfloat16_pairs import SQUARE, pair_up
from .bfloat16_tiles import BLOCK_SQUARES, begin_tiles, end_tiles, pair_tile, tile_block
from .products import HUGE, SCRATCH_BYTES, gemm_signature
from .vectors import equal_share, in_vectors

# Pairs of a block of the depth, rows of a block of A, columns of a panel of B.
BLOCK_PAIRS, BLOCK_ROWS, PANEL = 256, 512, BLOCK_SQUARES * SQUARE
# Rows of pairs in the first cache would meet in few sets of it without a vector more. Tile registers take a row's pairs
# one after the other, dot products the rows' pairs of one place.
_ROW, _PLACE = BLOCK_PAIRS + SQUARE, BLOCK_ROWS + SQUARE
_AT_PANEL = max(BLOCK_ROWS * _ROW, BLOCK_PAIRS * _PLACE)
_AT_EDGE = _AT_PANEL + BLOCK_PAIRS * PANEL
assert 4 * (_AT_EDGE + PANEL * PANEL) <= SCRATCH_BYTES
# Which parts of A and B are multiplied, True for the rest: the small products first.
PARTS = {"bf16": ((False, False),), "bf16x3": ((True, False), (False, True), (False, False))}


@njit()
def _by_dots(
    scratch: Array, at_scratch: int, pairs: int, c: Array, at_c: int, ldc: int, rows: int, columns: int, accumulate: int
) -> None:
    """C (+)= A B of the pairs in the scratch, by dot products in vector registers."""
    vectors, lanes = in_vectors(columns, SQUARE)
    i = 0
    for tiles_left in range((rows + TILE_ROWS - 1) // TILE_ROWS, 0, -1):
        some = equal_share(rows - i, tiles_left)
        pair_tile(
            some, vectors, scratch, at_scratch + i, _PLACE, scratch, at_scratch + _AT_PANEL, PANEL,
            c, at_c + i * ldc, ldc, pairs, lanes, accumulate,
        )  # fmt: skip
        i += some


@njit()
def _by_tiles(
    scratch: Array, at_scratch: int, pairs: int, c: Array, at_c: int, ldc: int, rows: int, columns: int, accumulate: int
) -> None:
    """C (+)= A B of the pairs in the scratch, by tile registers; what is no whole square goes through the scratch."""
    begin_tiles()
    deep = (pairs + SQUARE - 1) // SQUARE
    edge = at_scratch + _AT_EDGE
    squares = (columns + SQUARE - 1) // SQUARE
    for i in range(0, rows, BLOCK_SQUARES * SQUARE):
        some = min(rows - i, BLOCK_SQUARES * SQUARE)
        high = (some + SQUARE - 1) // SQUARE
        at_row = at_scratch + i * _ROW
        if some == high * SQUARE and columns == squares * SQUARE:
            tile_block(
                high, squares, scratch, at_row, _ROW, scratch, at_scratch + _AT_PANEL, PANEL,
                c, at_c + i * ldc, ldc, deep, accumulate,
            )  # fmt: skip
        else:
            if accumulate != 0:
                for r in range(some):
                    for j in range(columns):
                        scratch[edge + r * PANEL + j] = c[at_c + (i + r) * ldc + j]
            tile_block(
                high, squares, scratch, at_row, _ROW, scratch, at_scratch + _AT_PANEL, PANEL,
                scratch, edge, PANEL, deep, accumulate,
            )  # fmt: skip
            for r in range(some):
                for j in range(columns):
                    c[at_c + (i + r) * ldc + j] = scratch[edge + r * PANEL + j]
    end_tiles()


def product_of(instructions: str, precision: str) -> Any:
    """`gemm` on operands in bfloat16, by `amx` or `avx512`, in `bf16` or `bf16x3`."""
    by_dots = instructions != "amx"
    multiply, ld = (_by_dots, _PLACE) if by_dots else (_by_tiles, _ROW)
    parts = PARTS[precision]

    @njit()
    def gemm(
        a: Array, at_a: int, row_a: int, step_a: int,
        b: Array, at_b: int, row_b: int, step_b: int,
        c: Array, at_c: int, ldc: int,
        m: int, n: int, k: int, accumulate: int, scratch: Array, at_scratch: int,
    ) -> None:  # fmt: skip
        pairs = (k + 1) // 2
        blocks = max(1, (pairs + BLOCK_PAIRS - 1) // BLOCK_PAIRS)
        # Equal blocks of whole squares.
        block = SQUARE * max(1, (pairs + blocks * SQUARE - 1) // (blocks * SQUARE))
        across_a, across_b = step_a != 1, step_b == 1
        lda, ldb = step_a if across_a else row_a, row_b if across_b else step_b
        add = accumulate
        for rest_a, rest_b in parts:
            for p0 in range(0, max(pairs, 1), block):
                some, depth = min(block, pairs - p0), min(2 * block, k - 2 * p0)
                for m0 in range(0, m, BLOCK_ROWS):
                    rows = min(BLOCK_ROWS, m - m0)
                    pair_up(
                        across_a, by_dots, rest_a, a, at_a + m0 * row_a + 2 * p0 * step_a, lda, depth, rows,
                        scratch, at_scratch, ld,
                    )  # fmt: skip
                    for n0 in range(0, n, PANEL):
                        columns = min(PANEL, n - n0)
                        pair_up(
                            across_b, True, rest_b, b, at_b + 2 * p0 * row_b + n0 * step_b, ldb, depth, columns,
                            scratch, at_scratch + _AT_PANEL, PANEL,
                        )  # fmt: skip
                        multiply(scratch, at_scratch, some, c, at_c + m0 * ldc + n0, ldc, rows, columns, add)
                add = 1

    return gemm


def _compiled(instructions: str, precision: str) -> Any:
    gemm = product_of(instructions, precision)

    def product(a, row_a, step_a, b, row_b, step_b, c, ldc, m, n, k, accumulate, scratch):
        gemm(
            carray(a, HUGE, np.float32), 0, row_a, step_a, carray(b, HUGE, np.float32), 0, row_b, step_b,
            carray(c, HUGE, np.float32), 0, ldc, m, n, k, accumulate, carray(scratch, HUGE, np.float32), 0,
        )  # fmt: skip

    return cached_cfunc(gemm_signature(types.float32), product)


@functools.cache
def bfloat16_gemm_address(instructions: str, precision: str) -> int:
    """Where the machine code of such a product lies, for `call_gemm`; compiled, or loaded, when asked."""
    return int(_compiled(instructions, precision).address)
