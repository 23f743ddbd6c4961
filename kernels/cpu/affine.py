"""`affine_act_*` and `binary_affine_act_*`: y = activation(x W + b) and its gradients. [D25] [D26] [D28]"""

from __future__ import annotations

from typing import Any

import numpy as np

from vae_np._types import Array

from ..arguments import ACTIVATIONS, check_layer
from ._arrays import flat, plain, precision
from .engine.functions import expm1, softplus, tanh
from .engine.products import call_gemm, gemm_address, scratch_size
from .engine.vectors import SUM_VECTORS, compress_columns, equal_share, row_sum
from .runtime import pool
from .runtime.compilation import njit
from .runtime.lowering import VECTOR_BYTES

# Rows are cut out as slices first: an index that may be negative, as `at + j` may, keeps LLVM from using vectors.


@njit()
def activate(y: Array, at: int, bias: Array, at_bias: int, count: int, activation: int) -> None:
    """One row: y ← activation(y + b). NaN stays NaN. [D26]"""
    row, b = y[at : at + count], bias[at_bias : at_bias + count]
    zero = y.dtype.type(0)
    if activation == 0:
        for j in range(count):
            row[j] += b[j]
    elif activation == 1:
        for j in range(count):
            a = row[j] + b[j]
            row[j] = zero if a <= zero else a
    elif activation == 2:
        for j in range(count):
            row[j] = tanh(row[j] + b[j])
    else:
        for j in range(count):
            row[j] = softplus(row[j] + b[j])


@njit()
def activation_gradient(
    dy: Array, at_dy: int, y: Array, at_y: int, out: Array, at: int, count: int, activation: int
) -> None:
    """One row: da from dy and the output y; `out` may be `dy`. [D26]"""
    upstream, value, result = dy[at_dy : at_dy + count], y[at_y : at_y + count], out[at : at + count]
    zero, one = y.dtype.type(0), y.dtype.type(1)
    if activation == 0:
        for j in range(count):
            result[j] = upstream[j]
    elif activation == 1:
        for j in range(count):
            # It is read before the choice, because a read on one side only would need a branch.
            d = upstream[j]
            result[j] = d if value[j] > zero else zero
    elif activation == 2:
        for j in range(count):
            result[j] = upstream[j] * (one - value[j] * value[j])
    else:
        for j in range(count):
            result[j] = -upstream[j] * expm1(-value[j])


@njit()
def column_sums(a: Array, at: int, ld: int, rows: int, first: int, last: int, out: Array, at_out: int) -> None:
    """out[j] = Σ_i a[i, j] for columns first..last−1."""
    total = out[at_out + first : at_out + last]
    for j in range(total.size):
        total[j] = 0
    for i in range(rows):
        row = a[at + i * ld + first : at + i * ld + last]
        for j in range(total.size):
            total[j] += row[j]


@njit()
def gather_rows(
    table: Array, at_table: int, ld: int, columns: int, index: Array, at_index: int, count: int, out: Array, at_out: int
) -> None:
    """out[:] = Σ_i table[index[i], :] over `count` indices."""
    width = VECTOR_BYTES // table.itemsize
    vectors = (columns + width - 1) // width
    groups = (vectors + SUM_VECTORS - 1) // SUM_VECTORS
    done = 0
    for groups_left in range(groups, 0, -1):
        some = equal_share(vectors - done, groups_left)
        column = done * width
        lanes = min(width, columns - column - (some - 1) * width)
        row_sum(some, table, at_table + column, ld, index, at_index, count, out, at_out + column, lanes)
        done += some


@njit()
def active_columns(x: Array, at: int, first: int, last: int, index: Array, at_index: int) -> Any:
    """The columns first..last−1 of one row of bytes that are not zero, into `index`; returns how many."""
    if VECTOR_BYTES == 64:
        return compress_columns(x, at, first, last, index, at_index)
    row, found = x[at + first : at + last], index[at_index : at_index + last - first + 1]
    count = np.uint64(0)
    for j in range(row.size):
        found[count] = first + j
        count += np.uint64(row[j] != np.uint8(0))
    return np.int64(count)


@njit()
def _forward(
    part: int, parts: int, call: int, x: Array, weight: Array, bias: Array, activation: int, batch: int, inputs: int,
    outputs: int, y: Array,
) -> None:  # fmt: skip
    first, last = part * batch // parts, (part + 1) * batch // parts
    scratch = np.empty(scratch_size(weight.itemsize), dtype=weight.dtype)
    call_gemm(
        call, x, first * inputs, inputs, 1, weight, 0, outputs, 1, y, first * outputs, outputs,
        last - first, outputs, inputs, 0, scratch, 0,
    )  # fmt: skip
    for i in range(first, last):
        activate(y, i * outputs, bias, 0, outputs, activation)


@njit()
def _binary_forward(
    part: int, parts: int, x: Array, weight: Array, bias: Array, activation: int, batch: int, inputs: int, outputs: int,
    y: Array,
) -> None:  # fmt: skip
    index = np.empty(inputs + 1, dtype=np.int32)
    for i in range(part * batch // parts, (part + 1) * batch // parts):
        count = active_columns(x, i * inputs, 0, inputs, index, 0)
        gather_rows(weight, 0, outputs, outputs, index, 0, count, y, i * outputs)
        activate(y, i * outputs, bias, 0, outputs, activation)


@njit()
def _backward(
    part: int, parts: int, call: int, x: Array, weight: Array, da: Array, batch: int, inputs: int, outputs: int,
    dx: Array, dweight: Array, dbias: Array,
) -> None:  # fmt: skip
    scratch = np.empty(scratch_size(weight.itemsize), dtype=weight.dtype)
    if dx.size > 0:
        first, last = part * batch // parts, (part + 1) * batch // parts
        call_gemm(
            call, da, first * outputs, outputs, 1, weight, 0, 1, outputs, dx, first * inputs, inputs,
            last - first, inputs, outputs, 0, scratch, 0,
        )  # fmt: skip
    if dweight.size > 0:
        first, last = part * inputs // parts, (part + 1) * inputs // parts
        call_gemm(
            call, x, first, 1, inputs, da, 0, outputs, 1, dweight, first * outputs, outputs,
            last - first, outputs, batch, 0, scratch, 0,
        )  # fmt: skip
        column_sums(da, 0, outputs, batch, part * outputs // parts, (part + 1) * outputs // parts, dbias, 0)


@njit()
def _binary_backward(
    part: int, parts: int, x: Array, da: Array, batch: int, inputs: int, outputs: int, dweight: Array, dbias: Array
) -> None:
    rows = np.empty(batch + 1, dtype=np.int32)
    for p in range(part * inputs // parts, (part + 1) * inputs // parts):
        count = 0
        for i in range(batch):
            rows[count] = i
            count += 1 if x[i * inputs + p] != np.uint8(0) else 0
        gather_rows(da, 0, outputs, outputs, rows, 0, count, dweight, p * outputs)
    column_sums(da, 0, outputs, batch, part * outputs // parts, (part + 1) * outputs // parts, dbias, 0)


@njit()
def _activation_gradient(
    part: int, parts: int, dy: Array, y: Array, batch: int, outputs: int, activation: int, out: Array
) -> None:
    for i in range(part * batch // parts, (part + 1) * batch // parts):
        activation_gradient(dy, i * outputs, y, i * outputs, out, i * outputs, outputs, activation)


def _layer(x: Array, weight: Array, bias: Array, activation: str) -> tuple[int, Any]:
    check_layer(x, weight, bias, activation)
    return ACTIVATIONS[activation], precision(weight, "weight")


def affine_act_forward(x: Array, weight: Array, bias: Array, activation: str) -> tuple[Array, Any]:
    """y = activation(x W + b): x (B, I), weight (I, O), bias (O,), y (B, O). [D25] [D26]"""
    kind, dtype = _layer(x, weight, bias, activation)
    x, weight, bias = plain(x, dtype), plain(weight, dtype), plain(bias, dtype)
    (batch, inputs), outputs = x.shape, weight.shape[1]
    y = np.empty((batch, outputs), dtype=dtype)
    work = 0.02 * batch * inputs * outputs
    pool.run(
        _forward, gemm_address(dtype), flat(x), flat(weight), bias, kind, batch, inputs, outputs, flat(y), work=work
    )
    return y, (x, weight, y, kind)


def affine_act_backward(
    dy: Array, cache: Any, *, input_gradient: bool = True, weight_gradient: bool = True
) -> tuple[Array | None, Array | None, Array | None]:
    """dx (B, I), dweight (I, O), dbias (O,), from dy (B, O); None for those not asked for. [D25] [D26]"""
    x, weight, y, kind = cache
    (batch, inputs), outputs, dtype = x.shape, weight.shape[1], weight.dtype
    da = _through_activation(dy, y, kind)
    dx = np.empty((batch, inputs) if input_gradient else (0, 0), dtype=dtype)
    dweight = np.empty((inputs, outputs) if weight_gradient else (0, 0), dtype=dtype)
    dbias = np.empty(outputs if weight_gradient else 0, dtype=dtype)
    pool.run(
        _backward, gemm_address(dtype), flat(x), flat(weight), flat(da), batch, inputs, outputs, flat(dx),
        flat(dweight), dbias, work=0.02 * (input_gradient + weight_gradient) * batch * inputs * outputs,
    )  # fmt: skip
    of_weights = (dweight, dbias) if weight_gradient else (None, None)
    return dx if input_gradient else None, *of_weights


def binary_affine_act_forward(x: Array, weight: Array, bias: Array, activation: str) -> tuple[Array, Any]:
    """The first layer on binary x (B, I), bytes: row b sums the rows of W where x is one, plus the bias. [D28]"""
    kind, dtype = _layer(x, weight, bias, activation)
    x, weight, bias = plain(x, np.uint8), plain(weight, dtype), plain(bias, dtype)
    (batch, inputs), outputs = x.shape, weight.shape[1]
    y = np.empty((batch, outputs), dtype=dtype)
    work = 0.01 * batch * inputs * outputs
    pool.run(_binary_forward, flat(x), flat(weight), bias, kind, batch, inputs, outputs, flat(y), work=work)
    return y, (x, y, kind)


def binary_affine_act_backward(dy: Array, cache: Any) -> tuple[Array, Array]:
    """dweight (I, O) and dbias (O,); x is data, so it has no gradient. [D28]"""
    x, y, kind = cache
    (batch, inputs), outputs = x.shape, y.shape[1]
    da = _through_activation(dy, y, kind)
    dweight, dbias = np.empty((inputs, outputs), dtype=y.dtype), np.empty(outputs, dtype=y.dtype)
    work = 0.01 * batch * inputs * outputs
    pool.run(_binary_backward, flat(x), flat(da), batch, inputs, outputs, flat(dweight), dbias, work=work)
    return dweight, dbias


def _through_activation(dy: Array, y: Array, kind: int) -> Array:
    dy = plain(dy, y.dtype)
    if kind == ACTIVATIONS["identity"]:
        return dy
    da = np.empty_like(y)
    pool.run(_activation_gradient, flat(dy), flat(y), *y.shape, kind, flat(da), work=1.0 * y.size)
    return da
