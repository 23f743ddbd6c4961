"""Matrix products on slabs: C (+)= A B, as register tiles over panels that fit the caches.

    for each block of k                                  whose rows of B, a panel wide, fit the first cache
        for each block of rows of A                      which fits the second cache
            turn that block of A, or copy it, in tiles   not where its columns lie as wanted, for few panels
            for each panel of columns of B               two vectors wide
                copy the panel, or turn it               only for many rows, or where B's rows are its columns
                for each tile of rows
                    C's tile (+)= A's tile times panel   all of it in registers

Any strides of A and B will do, so x W, xᵀ dy and dy Wᵀ are all this one function. One call is one thread's work; the
order of the sum over k is the same wherever the rows and columns are cut, so results do not depend on threads.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.core import config
from numba.extending import register_jitable

from vae_np._types import Array

from ..runtime.atomics import pointer
from ..runtime.compilation import cached_cfunc, intrinsic, njit
from ..runtime.lowering import TILE_ROWS, VECTOR_BYTES
from .tile import TILE_VECTORS, copy_rows, pack_square, tile, transpose_tile
from .vectors import equal_share, in_vectors

# A panel of B (k × one tile's columns) stays in the first cache, a block of A in the second.
PANEL_K = 400
BLOCK_ROWS = 264 // TILE_ROWS * TILE_ROWS
# Bytes of scratch per thread: one panel of B and one block of A.
SCRATCH_BYTES = PANEL_K * TILE_VECTORS * VECTOR_BYTES + 8 * BLOCK_ROWS * PANEL_K
# Below so many rows the processor finds the next rows of a panel in time by itself, and copying them first only costs.
_PACK_ROWS = 20 * TILE_ROWS
# Where a column falls into few sets of the first cache, a copy pays from here on: a stride of whole quarter pages.
_PACK_ALIASED_ROWS = 6 * TILE_ROWS
_ALIASING = 1024
# Where so many panels read a block of A, it is copied although its columns lie as they are wanted: entries that follow
# each other fill their lines of the cache, and few pages.
_PACK_PANELS = 4


@register_jitable
def scratch_size(itemsize: int) -> int:
    """Elements of scratch that one thread's `gemm` needs."""
    return -(-SCRATCH_BYTES // itemsize)


@njit()
def _pack_a(a: Array, at: int, row: int, step: int, rows: int, k: int, out: Array, at_out: int) -> None:
    """out[j, i] = A[i, j], for a tile's rows: what `tile` reads, entry after entry."""
    width = VECTOR_BYTES // a.itemsize
    if row == 1:
        for i in range(0, rows, TILE_VECTORS * width):
            vectors, lanes = in_vectors(min(rows - i, TILE_VECTORS * width), width)
            copy_rows(vectors, a, at + i, step, k, lanes, out, at_out + i, rows)
        return
    whole = k - k % width if step == 1 else 0
    for i in range(0, rows, width):
        for j in range(0, whole, width):
            pack_square(min(rows - i, width), a, at + i * row + j, row, out, at_out + j * rows + i, rows)
    for j in range(whole, k):
        for i in range(rows):
            out[at_out + j * rows + i] = a[at + i * row + j * step]


@njit()
def transpose(a: Array, at_a: int, lda: int, rows: int, columns: int, out: Array, at_out: int, ldo: int) -> None:
    """out[j, i] = a[i, j]: squares in registers, the edges one by one."""
    width = VECTOR_BYTES // a.itemsize
    whole_rows, whole_columns = rows - rows % width, columns - columns % width
    for i in range(0, whole_rows, width):
        for j in range(0, whole_columns, width):
            transpose_tile(a, at_a + i * lda + j, lda, out, at_out + j * ldo + i, ldo)
        for j in range(whole_columns, columns):
            for r in range(i, i + width):
                out[at_out + j * ldo + r] = a[at_a + r * lda + j]
    for i in range(whole_rows, rows):
        for j in range(columns):
            out[at_out + j * ldo + i] = a[at_a + i * lda + j]


@njit()
def gemm(
    a: Array, at_a: int, row_a: int, step_a: int,
    b: Array, at_b: int, row_b: int, step_b: int,
    c: Array, at_c: int, ldc: int,
    m: int, n: int, k: int, accumulate: int, scratch: Array, at_scratch: int,
) -> None:  # fmt: skip
    """C[i, j] (+)= Σ_l A[i, l] B[l, j]; flat arrays with offsets and strides in elements, C's rows contiguous."""
    width = VECTOR_BYTES // a.itemsize
    panel = TILE_VECTORS * width
    aliased_b = (row_b * a.itemsize) % _ALIASING == 0
    pack_b = step_b != 1 or m >= (_PACK_ALIASED_ROWS if aliased_b else _PACK_ROWS)
    pack_a = row_a != 1 or n >= _PACK_PANELS * panel
    # Equal blocks, whether copied or not: the order of the sum has to depend on k alone.
    blocks = max(1, (k + PANEL_K - 1) // PANEL_K)
    block_k = max(1, (k + blocks - 1) // blocks)
    at_packed_a = at_scratch + PANEL_K * panel
    k0 = 0
    while True:
        kb = min(block_k, k - k0)
        add = 1 if (accumulate != 0 or k0 > 0) else 0
        for m0 in range(0, m, BLOCK_ROWS):
            mb = min(BLOCK_ROWS, m - m0)
            tiles = (mb + TILE_ROWS - 1) // TILE_ROWS
            if pack_a:
                i = 0
                for tiles_left in range(tiles, 0, -1):
                    rows = equal_share(mb - i, tiles_left)
                    _pack_a(
                        a, at_a + (m0 + i) * row_a + k0 * step_a, row_a, step_a, rows, kb, scratch, at_packed_a + i * kb
                    )
                    i += rows
            for n0 in range(0, n, panel):
                columns = min(panel, n - n0)
                vectors, lanes = in_vectors(columns, width)
                if pack_b:
                    at_panel = at_b + k0 * row_b + n0 * step_b
                    if step_b == 1:
                        copy_rows(vectors, b, at_panel, row_b, kb, lanes, scratch, at_scratch, panel)
                    else:
                        transpose(b, at_panel, step_b, columns, kb, scratch, at_scratch, panel)
                i = 0
                for tiles_left in range(tiles, 0, -1):
                    rows = equal_share(mb - i, tiles_left)
                    if pack_a:
                        source, start, step = scratch, at_packed_a + i * kb, rows
                    else:
                        source, start, step = a, at_a + m0 + i + k0 * step_a, step_a
                    if pack_b:
                        right, at_right, ld = scratch, at_scratch, panel
                    else:
                        right, at_right, ld = b, at_b + k0 * row_b + n0, row_b
                    tile(
                        rows, vectors, source, start, step, right, at_right, ld,
                        c, at_c + (m0 + i) * ldc + n0, ldc, kb, lanes, add,
                    )  # fmt: skip
                    i += rows
        k0 += kb
        if k0 >= k:
            break


# Numba compiles what a function calls once more with it, and the tiles are long. So `gemm` is compiled once a
# precision, and called through its address: that takes seven times less compilation.
_INT = types.int64
HUGE = 1 << 40


def gemm_signature(element: Any) -> Any:
    at = types.CPointer(element)
    return types.void(at, _INT, _INT, at, _INT, _INT, at, *(_INT,) * 5, at)


def _compiled(element: Any, dtype: Any) -> Any:
    def product(a, row_a, step_a, b, row_b, step_b, c, ldc, m, n, k, accumulate, scratch):
        gemm(
            carray(a, HUGE, dtype), 0, row_a, step_a, carray(b, HUGE, dtype), 0, row_b, step_b,
            carray(c, HUGE, dtype), 0, ldc, m, n, k, accumulate, carray(scratch, HUGE, dtype), 0,
        )  # fmt: skip

    return cached_cfunc(gemm_signature(element), product)


@functools.cache
def gemm_address(dtype: Any) -> int:
    """Where the machine code of `gemm` for a precision lies, for `call_gemm`; compiled, or loaded, when asked."""
    if config.DISABLE_JIT:
        return 0
    if np.dtype(dtype) == np.float32:
        return int(_compiled(types.float32, np.float32).address)
    return int(_compiled(types.float64, np.float64).address)


def _call_gemm(address: int, *args: Any) -> None:
    """`gemm` at an address from `gemm_address`."""
    gemm(*args)


@intrinsic(_call_gemm)
def call_gemm(
    typing, address, a, at_a, row_a, step_a, b, at_b, row_b, step_b, c, at_c, ldc, m, n, k, accumulate,
    scratch, at_scratch,
):  # fmt: skip
    matrix = (_INT, _INT, _INT)
    signature = types.void(_INT, a, *matrix, b, *matrix, c, _INT, *(_INT,) * 5, scratch, _INT)

    def code(context, builder, sig, args):
        def at(i: int) -> Any:
            return pointer(context, builder, sig.args[i], args[i], args[i + 1])

        values = [at(1), *args[3:5], at(5), *args[7:9], at(9), *args[11:16], at(16)]
        kind = ir.FunctionType(ir.VoidType(), [value.type for value in values])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), values)
        return context.get_dummy_value()

    return signature, code
