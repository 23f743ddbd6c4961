"""Weights: the gradient of a few rows of them, then Adam on these rows while they are in cache. [D25] [D28] [D31]"""

from __future__ import annotations

import numpy as np

from ..affine import column_sums
from ..engine.products import call_gemm
from ..engine.vectors import adam_range, in_vectors, row_sum
from ..likelihoods import normal_scales
from ..runtime.compilation import njit
from ..runtime.lowering import VECTOR_BYTES
from .bound import rows_kept
from .layout import Buffers, Unit


@njit(forceinline=True)
def active_rows(buffers: Buffers, part: int, parts: int) -> None:
    """For each of this part's pixels, the rows where it is one."""
    batch, features = buffers.plan[0].batch, buffers.plan[0].features
    active, active_count = buffers.active_columns, buffers.active_count
    index, counts = buffers.active_rows, buffers.row_count
    first, last = part * features // parts, (part + 1) * features // parts
    for p in range(first, last):
        counts[p] = 0
    for i in range(batch):
        columns = active[i * (features + 1) : i * (features + 1) + active_count[i]]
        # The columns of a row ascend.
        begin, end = 0, columns.size
        while begin < end:
            middle = (begin + end) >> 1
            if columns[middle] < first:
                begin = middle + 1
            else:
                end = middle
        for p in columns[begin:]:
            if p >= last:
                break
            index[p * batch + counts[p]] = i
            counts[p] += 1


@njit(forceinline=True)
def _update_sigma(buffers: Buffers, part: int) -> int:
    """Gradient of a normal likelihood's log σ², one or D of them, and Adam on these; returns 0 if they are finite. [D5]

    That is ½ Σ s (1 − r²/σ²) over the rows, s a row's share of the loss. The forward pass has left the mean's own
    gradient, g = s r/σ², whose g²/s · σ² is s r²/σ².
    """
    plan, work, parameters, sums = buffers.plan[0], buffers.work, buffers.parameters, buffers.sigma_sums
    layer, features = buffers.layers_back[plan.output], plan.features
    inverse = plan.pixel_terms + part * plan.pixel_terms_size
    normal_scales(parameters, plan.sigma, plan.sigmas, work, inverse, features)
    for j in range(features):
        sums[j] = 0.0
    shares = 0.0
    for row in range(rows_kept(buffers.kept, 0, buffers.kept.size)):
        share = np.float64(work[plan.kept_share + row] if plan.weighs_samples != 0 else buffers.constants[0].share)
        shares += share
        factor = 1 / share
        gradient = work[layer.dresult + row * layer.ld : layer.dresult + row * layer.ld + features]
        for j in range(features):
            sums[j] += factor * np.float64(gradient[j]) * np.float64(gradient[j])
    if plan.keeps_gradients != 0:
        target, at = buffers.gradients, plan.sigma
    else:
        target, at = work, plan.unit_gradient + part * plan.unit_gradient_size
    total = 0.0
    for j in range(features):
        scale = np.float64(work[inverse + j])
        # Where σ is beyond all bounds, r²/σ² is 0.
        mine = sums[j] / scale if scale != 0 else 0.0
        total += mine
        if plan.sigmas > 1:
            target[at + j] = 0.5 * (shares - mine)
    if plan.sigmas == 1:
        target[at] = 0.5 * (features * shares - total)
    if plan.applies_adam == 0:
        return 0
    moments, adam = (buffers.first_moment, buffers.second_moment), buffers.constants[0].adam
    return adam_range(parameters, plan.sigma, target, at, *moments, plan.sigmas, adam)


@njit(forceinline=True)
def update_unit(buffers: Buffers, unit: Unit, part: int, is_sparse: bool) -> int:
    """Gradient of a few rows of one layer's weights, and Adam on them while they are in cache. [D25] [D28] [D31]

    Returns 0 if what it updated is finite.
    """
    if unit.layer == buffers.layers.size:
        return _update_sigma(buffers, part)
    plan, layer, work, parameters = buffers.plan[0], buffers.layers_back[unit.layer], buffers.work, buffers.parameters
    rows = rows_kept(buffers.kept, 0, buffers.kept.size) if unit.layer >= plan.decoder else layer.rows
    first, count, outputs = unit.first, unit.last - unit.first, layer.outputs
    weight, dy = layer.weight + first * outputs, layer.dresult
    if plan.keeps_gradients != 0:
        target, at, at_bias = buffers.gradients, weight, layer.bias
    else:
        target, at = work, plan.unit_gradient + part * plan.unit_gradient_size
        at_bias = at + count * outputs
    if unit.layer == 0 and is_sparse:
        index, counts, width = buffers.active_rows, buffers.row_count, VECTOR_BYTES // work.itemsize
        for column in range(0, outputs, plan.gradient_strip):
            vectors, lanes = in_vectors(min(plan.gradient_strip, outputs - column), width)
            for i in range(count):
                row_sum(
                    vectors, work, dy + column, layer.ld, index, (first + i) * layer.rows, counts[first + i],
                    target, at + i * outputs + column, lanes,
                )  # fmt: skip
    else:
        call_gemm(
            plan.gemm, work, layer.input + first, 1, layer.input_ld, work, dy, layer.ld, 1, target, at, outputs,
            count, outputs, rows, 0, work, plan.gemm_scratch + part * plan.gemm_scratch_size,
        )  # fmt: skip
    moments, adam = (buffers.first_moment, buffers.second_moment), buffers.constants[0].adam
    bad = 0
    if plan.applies_adam != 0:
        bad += adam_range(parameters, weight, target, at, *moments, count * outputs, adam)
    if first == 0:
        column_sums(work, dy, layer.ld, rows, 0, outputs, target, at_bias)
        if plan.applies_adam != 0:
            bad += adam_range(parameters, layer.bias, target, at_bias, *moments, outputs, adam)
    return bad
