"""One training step as one compiled function: MLPs, a diagonal normal q, a Bernoulli likelihood. [D29] [D31] [D41]

Its objective is the ELBO, or IWAE's bound of K samples; these lie example by example, so that the decoder's rows are
one matrix. Every thread takes a slab of the batch through the whole forward pass, and, once the transposed weights are
there, back to the first hidden layer. Then the threads meet, and take units of weights: gradient, then Adam while it is
in cache. The first layer works on the active pixels alone, forward and backward. All buffers are made once.

The order of every sum is fixed by the layout, not by the threads: one thread or eight give the same bits.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Protocol

import numpy as np
from numba.core import config

from vae_np import noise
from vae_np._types import Array
from vae_np.elbo import Terms
from vae_np.errors import InputError
from vae_np.model import Architecture, Parameters, aligned_zeros
from vae_np.optim import adagrad_update
from vae_np.step import Optimiser, TrainingState

from ..arguments import check_batch
from .adam import constants as adam_constants
from .affine import (
    ACTIVATIONS,
    activate,
    activation_gradient,
    active_columns,
    column_sums,
)
from .engine.intrinsics import borrowed
from .engine.products import call_gemm, gemm_address, scratch_size, transpose
from .engine.random_words import fill_bernoulli, fill_normals
from .engine.vectors import SUM_VECTORS, adam_range, row_sum, sum_range
from .likelihoods import LANES, bernoulli_step_row
from .reparam import backward_row, kl_terms, log_ratio_row, sample_row
from .runtime.compilation import TILE_ROWS, VECTOR_BYTES, njit
from .runtime.pool import POOL
from .runtime.team import (
    FIRST,
    PARTS,
    SECOND,
    THIRD,
    Team,
    called_again,
    complete,
    current,
    finish,
    take_slab,
    take_unit,
)

_BINARIZE_STREAM, _EPS_STREAM = noise.BINARIZE, noise.EPS


# What steers a step: records of whole numbers, one of the plan, one of each affine layer, one of each unit of weights.
# Places count entries of the workspace, or where it is said, of the parameters. `ld` is the distance between rows.


class Plan(Protocol):
    """One step: its sizes, what the caller wants of it, and where things lie."""

    batch: int
    features: int
    latent: int
    # Of each example; the decoder's rows lie example by example.
    samples: int
    # 1 for IWAE's bound, 0 for the ELBO.
    weighs_samples: int

    # The numbers of layers: before `mu` lie the encoder's hidden ones, from `decoder` to `output` the decoder's.
    mu: int
    logvar: int
    decoder: int
    output: int

    # Of one call.
    key0: int
    key1: int
    step: int
    draws_pixels: int
    keeps_gradients: int
    applies_adam: int

    z: int
    eps: int
    dz: int
    kl_terms: int
    # w̃/B of each of the decoder's rows.
    row_share: int

    # Scratch: the first thread's, and how far the next one's is.
    pixel_terms: int
    pixel_terms_size: int
    unit_gradient: int
    unit_gradient_size: int
    gemm_scratch: int
    gemm_scratch_size: int

    # Address of the compiled product.
    gemm: int
    # Columns of the first layer that one pass sums: of its weights, and of its gradient.
    forward_strip: int
    gradient_strip: int


class Layer(Protocol):
    """One affine layer and its activation."""

    rows: int
    inputs: int
    outputs: int
    activation: int
    # Among the parameters.
    weight: int
    bias: int

    input: int
    dinput: int
    input_ld: int
    result: int
    dresult: int
    ld: int
    # The transposed weights; 0 where dy Wᵀ reads the weights as they are.
    turned: int
    turned_ld: int


class Unit(Protocol):
    """Rows first..last−1 of a layer's weights: one thread's, from their gradient to their update."""

    layer: int
    first: int
    last: int


class Constants(Protocol):
    """What a step multiplies with, in the precision of the parameters."""

    # As `adam_range` takes them.
    adam: Array
    # 1/B and β/B.
    share: Any
    beta_share: Any


def _of_whole_numbers(record: type) -> np.dtype[Any]:
    return np.dtype([(name, np.int64) for name in record.__annotations__], align=True)


PLAN, LAYER, UNIT = _of_whole_numbers(Plan), _of_whole_numbers(Layer), _of_whole_numbers(Unit)


def constants_of(real: Any) -> np.dtype[Any]:
    """The dtype of `Constants` in a precision."""
    return np.dtype([("adam", real, (7,)), ("share", real), ("beta_share", real)], align=True)


def records(count: int, kind: np.dtype[Any]) -> Any:
    """So many records of zeros, whose fields can be read as attributes also where nothing is compiled."""
    made = np.zeros(count, kind)
    return made.view(np.recarray) if config.DISABLE_JIT else made


class Buffers(NamedTuple):
    """All that a step reads and writes, made once: B examples of S samples, D features, K latents, P parameters."""

    # Records: one plan, the layers, the units, one of the constants.
    plan: Any
    layers: Any
    units: Any
    constants: Any
    # The batch: its bytes (B·D,), grey and binary, and its places in the data set (B,).
    grey: Array
    bits: Array
    rows: Array
    # The row and the number of each sample (B·S,), by which its noise is addressed.
    sample_rows: Array
    sample_numbers: Array
    # The pixels that are one of each example (B·(D+1),) and how many (B,); the examples of each pixel (D·B,) and (D,).
    active_columns: Array
    active_count: Array
    active_rows: Array
    row_count: Array
    # Scratch of the noise (threads, …), and of each thread, how much of its part of the weights is not finite.
    words: Array
    not_finite: Array
    # (P,) each.
    parameters: Array
    gradients: Array
    first_moment: Array
    second_moment: Array
    # Every intermediate value in the precision of the parameters, at the places that the plan and its layers name.
    work: Array
    # In float64: log p(x|z), then log w and w of each sample (B·S,), and scratch of the log ratio (B·K,).
    log_w: Array
    ratio_terms: Array
    # The results (B,).
    reconstruction: Array
    kl: Array
    bound: Array


@njit()
def _vectors(columns: int, width: int) -> tuple[int, int]:
    """How many vectors so many columns fill, and the lanes of the last one."""
    vectors = (columns + width - 1) // width
    return vectors, columns - (vectors - 1) * width


@njit()
def _affine_rows(
    plan: Plan, layer: Layer, first: int, last: int, parameters: Array, work: Array, scratch: int
) -> None:
    """Rows first..last−1 of a layer's output. [D25] [D26]"""
    result = layer.result + first * layer.ld
    call_gemm(
        plan.gemm, work, layer.input + first * layer.input_ld, layer.input_ld, 1,
        parameters, layer.weight, layer.outputs, 1, work, result, layer.ld,
        last - first, layer.outputs, layer.inputs, 0, work, scratch,
    )  # fmt: skip
    for i in range(last - first):
        activate(work, result + i * layer.ld, parameters, layer.bias, layer.outputs, layer.activation)


@njit()
def _input_gradient_rows(
    plan: Plan, layer: Layer, first: int, last: int, parameters: Array, work: Array, accumulate: int, scratch: int
) -> None:
    """Rows first..last−1 of dx (+)= dy Wᵀ. [D25]"""
    dy, dx = layer.dresult + first * layer.ld, layer.dinput + first * layer.input_ld
    if layer.turned != 0:
        call_gemm(
            plan.gemm, work, dy, layer.ld, 1, work, layer.turned, layer.turned_ld, 1, work, dx, layer.input_ld,
            last - first, layer.inputs, layer.outputs, accumulate, work, scratch,
        )  # fmt: skip
    else:
        call_gemm(
            plan.gemm, work, dy, layer.ld, 1, parameters, layer.weight, 1, layer.outputs, work, dx, layer.input_ld,
            last - first, layer.inputs, layer.outputs, accumulate, work, scratch,
        )  # fmt: skip


@njit()
def _activation_rows(layer: Layer, first: int, last: int, work: Array) -> None:
    """dy → da in place, for rows of a hidden layer. [D26]"""
    for i in range(first, last):
        dy, y = layer.dresult + i * layer.ld, layer.result + i * layer.ld
        activation_gradient(work, dy, work, y, work, dy, layer.outputs, layer.activation)


@njit(forceinline=True)
def _forward_rows(buffers: Buffers, part: int, first: int, last: int) -> None:
    """The forward pass of examples first..last−1, down to the logits' gradient. [D27] [D28] [D17] [D22] [D4]"""
    plan, layers, work, parameters = buffers.plan[0], buffers.layers, buffers.work, buffers.parameters
    bits, index, counts, log_w = buffers.bits, buffers.active_columns, buffers.active_count, buffers.log_w
    features, latent = plan.features, plan.latent
    scratch = plan.gemm_scratch + part * plan.gemm_scratch_size
    for i in range(first, last):
        counts[i] = active_columns(bits, i * features, 0, features, index, i * (features + 1))
    layer = layers[0]
    # A strip of the weights at a time: it stays in the second cache while all rows read from it.
    width = VECTOR_BYTES // work.itemsize
    for column in range(0, layer.outputs, plan.forward_strip):
        vectors, lanes = _vectors(min(plan.forward_strip, layer.outputs - column), width)
        for i in range(first, last):
            row_sum(
                vectors, parameters, layer.weight + column, layer.outputs,
                index, i * (features + 1), counts[i], work, layer.result + i * layer.ld + column, lanes,
            )  # fmt: skip
    for i in range(first, last):
        activate(work, layer.result + i * layer.ld, parameters, layer.bias, layer.outputs, layer.activation)
    for number in range(1, plan.decoder):
        _affine_rows(plan, layers[number], first, last, parameters, work, scratch)

    samples = plan.samples
    first_row, last_row = first * samples, last * samples
    mu, logvar, at = layers[plan.mu].result, layers[plan.logvar].result, first * latent
    fill_normals(
        buffers.sample_rows, buffers.sample_numbers, first_row, last_row, latent, np.uint64(plan.key0),
        np.uint64(plan.key1), _EPS_STREAM, plan.step, buffers.words[part], work, plan.eps + first_row * latent,
    )  # fmt: skip
    if samples == 1:
        sample_row(work, mu + at, work, logvar + at, work, plan.eps + at, work, plan.z + at, (last - first) * latent)
    else:
        for row in range(first_row, last_row):
            at_row, at_sample = row // samples * latent, row * latent
            sample_row(
                work, mu + at_row, work, logvar + at_row, work, plan.eps + at_sample, work, plan.z + at_sample, latent
            )
    kl_terms(work, mu + at, work, logvar + at, work, plan.kl_terms + at, (last - first) * latent)
    for i in range(first, last):
        buffers.kl[i] = 0.5 * sum_range(work, plan.kl_terms + i * latent, latent)

    for number in range(plan.decoder, plan.output + 1):
        _affine_rows(plan, layers[number], first_row, last_row, parameters, work, scratch)
    layer, terms = layers[plan.output], plan.pixel_terms + part * plan.pixel_terms_size
    # Where samples are weighed, what a row's gradient is to be multiplied with is known only then.
    scale = work.dtype.type(1) if plan.weighs_samples != 0 else buffers.constants[0].share
    for i in range(first, last):
        total = 0.0
        for row in range(i * samples, (i + 1) * samples):
            logits = layer.result + row * layer.ld
            log_w[row] = bernoulli_step_row(bits, i * features, work, logits, scale, features, work, terms)
            total += log_w[row]
        buffers.reconstruction[i] = total / samples


@njit(forceinline=True)
def _weigh_samples(buffers: Buffers, first: int, last: int) -> None:
    """IWAE's bound of each example, and its logits' gradient times w̃/B, from log w = log p(x|z) + β log p(z)/q(z|x).

    [D34] [D41]
    """
    plan, constants, work = buffers.plan[0], buffers.constants[0], buffers.work
    samples, latent = plan.samples, plan.latent
    output, logvar = buffers.layers[plan.output], buffers.layers[plan.logvar].result
    share, beta = np.float64(constants.share), np.float64(constants.beta_share) / np.float64(constants.share)
    for i in range(first, last):
        log_w = buffers.log_w[i * samples : (i + 1) * samples]
        for k in range(samples):
            at = (i * samples + k) * latent
            log_w[k] += beta * log_ratio_row(
                work, logvar + i * latent, work, plan.eps + at, work, plan.z + at, latent,
                buffers.ratio_terms, i * latent,
            )  # fmt: skip
        top = log_w[0]
        for k in range(1, samples):
            # A NaN is not below: it gets in, and stays.
            top = top if (log_w[k] <= top) | (top != top) else log_w[k]
        total = 0.0
        for k in range(samples):
            log_w[k] = math.exp(log_w[k] - top)
            total += log_w[k]
        buffers.bound[i] = top + math.log(total / samples)
        for k in range(samples):
            row = i * samples + k
            row_share = work.dtype.type(share * (log_w[k] / total))
            work[plan.row_share + row] = row_share
            at = output.result + row * output.ld
            gradient = work[at : at + output.outputs]
            for j in range(gradient.size):
                gradient[j] *= row_share


@njit(forceinline=True)
def _backward_rows(buffers: Buffers, part: int, first: int, last: int) -> None:
    """Back from the logits' gradient to the first layer's, for examples first..last−1. [D29] [D41]"""
    plan, layers, work, parameters = buffers.plan[0], buffers.layers, buffers.work, buffers.parameters
    constants, latent, samples = buffers.constants[0], plan.latent, plan.samples
    scratch = plan.gemm_scratch + part * plan.gemm_scratch_size
    first_row, last_row = first * samples, last * samples
    for number in range(plan.output, plan.decoder, -1):
        _input_gradient_rows(plan, layers[number], first_row, last_row, parameters, work, 0, scratch)
        _activation_rows(layers[number - 1], first_row, last_row, work)
    _input_gradient_rows(plan, layers[plan.decoder], first_row, last_row, parameters, work, 0, scratch)

    mu, logvar, dkl, half = layers[plan.mu], layers[plan.logvar], constants.beta_share, work.dtype.type(0.5)
    if plan.weighs_samples != 0:
        # The sampled log p(z)/q(z|x) in place of the KL: −z along the path, and ½ of log σ² itself.
        beta = dkl / constants.share
        for row in range(first_row, last_row):
            pull, at = beta * work[plan.row_share + row], row * latent
            along, z = work[plan.dz + at : plan.dz + at + latent], work[plan.z + at : plan.z + at + latent]
            for j in range(latent):
                along[j] += pull * z[j]
        dkl = work.dtype.type(0)
    # With one sample an example, all rows are one stretch.
    rows = max(1, last - first) if samples == 1 else 1
    for i in range(first, last, rows):
        at, row = i * latent, i * samples * latent
        backward_row(
            work, mu.result + at, work, logvar.result + at, work, plan.eps + row, work, plan.dz + row, latent, samples,
            dkl, work, mu.dresult + at, work, logvar.dresult + at, rows * latent,
        )  # fmt: skip
        if plan.weighs_samples != 0:
            dlogvar = work[logvar.dresult + at : logvar.dresult + at + rows * latent]
            for j in range(rows * latent):
                dlogvar[j] -= half * constants.beta_share

    _input_gradient_rows(plan, mu, first, last, parameters, work, 0, scratch)
    _input_gradient_rows(plan, logvar, first, last, parameters, work, 1, scratch)
    _activation_rows(layers[plan.mu - 1], first, last, work)
    for number in range(plan.mu - 1, 0, -1):
        _input_gradient_rows(plan, layers[number], first, last, parameters, work, 0, scratch)
        _activation_rows(layers[number - 1], first, last, work)


@njit(forceinline=True)
def _turn_weights(buffers: Buffers, part: int, parts: int) -> None:
    """This part's share of the transposed weights, which dy Wᵀ reads row by row, for the layers that have few rows."""
    width = VECTOR_BYTES // buffers.work.itemsize
    for number in range(1, buffers.layers.size):
        layer = buffers.layers[number]
        if layer.turned == 0:
            continue
        blocks = (layer.inputs + width - 1) // width
        first, last = width * (part * blocks // parts), min(width * ((part + 1) * blocks // parts), layer.inputs)
        if first < last:
            transpose(
                buffers.parameters, layer.weight + first * layer.outputs, layer.outputs, last - first, layer.outputs,
                buffers.work, layer.turned + first, layer.turned_ld,
            )  # fmt: skip


@njit(forceinline=True)
def _active_rows(buffers: Buffers, part: int, parts: int) -> None:
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
def _update_unit(buffers: Buffers, unit: Unit, part: int) -> int:
    """Gradient of a few rows of one layer's weights, and Adam on them while they are in cache. [D25] [D28] [D31]

    Returns 0 if what it updated is finite.
    """
    plan, layer, work, parameters = buffers.plan[0], buffers.layers[unit.layer], buffers.work, buffers.parameters
    first, count, outputs = unit.first, unit.last - unit.first, layer.outputs
    weight, dy = layer.weight + first * outputs, layer.dresult
    if plan.keeps_gradients != 0:
        target, at, at_bias = buffers.gradients, weight, layer.bias
    else:
        target, at = work, plan.unit_gradient + part * plan.unit_gradient_size
        at_bias = at + count * outputs
    if unit.layer == 0:
        index, counts, width = buffers.active_rows, buffers.row_count, VECTOR_BYTES // work.itemsize
        for column in range(0, outputs, plan.gradient_strip):
            vectors, lanes = _vectors(min(plan.gradient_strip, outputs - column), width)
            for i in range(count):
                row_sum(
                    vectors, work, dy + column, layer.ld, index, (first + i) * layer.rows, counts[first + i],
                    target, at + i * outputs + column, lanes,
                )  # fmt: skip
    else:
        call_gemm(
            plan.gemm, work, layer.input + first, 1, layer.input_ld, work, dy, layer.ld, 1, target, at, outputs,
            count, outputs, layer.rows, 0, work, plan.gemm_scratch + part * plan.gemm_scratch_size,
        )  # fmt: skip
    moments, adam = (buffers.first_moment, buffers.second_moment), buffers.constants[0].adam
    bad = 0
    if plan.applies_adam != 0:
        bad += adam_range(parameters, weight, target, at, *moments, count * outputs, adam)
    if first == 0:
        column_sums(work, dy, layer.ld, layer.rows, 0, outputs, target, at_bias)
        if plan.applies_adam != 0:
            bad += adam_range(parameters, layer.bias, target, at_bias, *moments, outputs, adam)
    return bad


@njit()
def _step(thread: int, control: Array, *everything: Any) -> bool:
    """What one thread does of a step, and a worker of every step that follows soon; False to be called again.

    `everything` are the buffers in order.
    """
    # Put together only here: Python's call of compiled code takes twice as long with a named tuple as with its entries.
    buffers = Buffers(*borrowed(everything))
    plan, parts = buffers.plan[0], control[PARTS]
    while True:
        step = current(control)
        if step == 0:
            return True
        slab = take_slab(control, thread, step, FIRST)
        while slab >= 0:
            _forward_slab(buffers, slab, parts)
            finish(control)
            slab = take_slab(control, thread, step, FIRST)
        if not complete(control, thread, step, FIRST):
            return False
        slab = take_slab(control, thread, step, SECOND)
        while slab >= 0:
            _active_rows(buffers, slab, parts)
            _backward_rows(buffers, slab, slab * plan.batch // parts, (slab + 1) * plan.batch // parts)
            finish(control)
            slab = take_slab(control, thread, step, SECOND)
        if not complete(control, thread, step, SECOND):
            return False
        unit = take_unit(control, step)
        while unit >= 0:
            buffers.not_finite[thread] += _update_unit(buffers, buffers.units[unit], thread)
            finish(control)
            unit = take_unit(control, step)
        if thread == 0:
            return complete(control, thread, step, THIRD)
        if not called_again(control, thread, step):
            return True


@njit()
def _forward_slab(buffers: Buffers, slab: int, parts: int) -> None:
    """The first stage: a share of the pixels drawn, of the weights turned, and of the batch taken to its gradient."""
    plan = buffers.plan[0]
    first, last = slab * plan.batch // parts, (slab + 1) * plan.batch // parts
    if plan.draws_pixels != 0:
        fill_bernoulli(
            buffers.grey, buffers.rows, first, last, plan.features, np.uint64(plan.key0), np.uint64(plan.key1),
            _BINARIZE_STREAM, plan.step, buffers.words[slab], buffers.bits,
        )  # fmt: skip
    _turn_weights(buffers, slab, parts)
    _forward_rows(buffers, slab, first, last)
    if plan.weighs_samples != 0:
        _weigh_samples(buffers, first, last)


# Entries of weight gradient that one unit computes: they stay in the second cache until Adam has used them.
_UNIT_ENTRIES = 24_576
_FIRST_CACHE = 40_960
# From this many rows a thread on, `gemm` turns the panels of W while it copies them; below, threads share the turning.
_TURN_ROWS = 200


# What the fused step can maximise.
OBJECTIVES = ("elbo", "iwae")


def unsupported(arch: Architecture) -> str | None:
    """Why an architecture's steps and evaluation are composed, not fused; None if they are fused."""
    if arch.likelihood != "bernoulli":
        return f"nothing is fused for likelihood {arch.likelihood}"
    if arch.inference != "amortized":
        return f"nothing is fused for inference {arch.inference}"
    if not arch.hidden:
        return "nothing is fused without a hidden layer"
    if arch.activation not in ACTIVATIONS:
        return f"nothing is fused for activation {arch.activation}"
    return None


class FusedStep:
    """The training step of one architecture, state and batch size, with its buffers and threads.

    The objective is the ELBO, or with `samples` IWAE's bound of so many samples. It changes the same buffers as
    `vae_np.step.training_step` and returns the same terms, within the kernels' tolerance. Raises InputError for an
    architecture that has no fused step, and for less than one sample.
    """

    def __init__(self, arch: Architecture, state: TrainingState, batch: int, samples: int | None = None) -> None:
        why = unsupported(arch)
        if why is not None:
            raise InputError(f"architecture: {why}")
        if samples is not None and samples < 1:
            raise InputError(f"samples: got {samples}, expected at least 1")
        self.arch, self.state, self.batch, self.samples = arch, state, batch, samples
        self._threads = POOL.threads
        self._buffers = _buffers(arch, state, batch, samples, self._threads)
        self._plan, self._constants = self._buffers.plan[0], self._buffers.constants[0]
        self._adam = self._constants["adam"]
        results = self._buffers.reconstruction, self._buffers.kl, self._buffers.bound
        self._terms = results if samples else results[:2]
        self._team = Team(_step, self._buffers.units.size)

    def __call__(
        self,
        x: Array,
        rows: Array,
        *,
        seed: int,
        optimiser: Optimiser,
        beta: float = 1.0,
        grey: bool = False,
        keep_gradients: bool = False,
    ) -> Terms:
        """Update the state on the batch x (B, D), bytes: binary, or with `grey` 0..255, drawn from BINARIZE here.

        `rows` (B,) are the examples' places in their data set. The gradients of a step are left in the state only if
        asked for (Adagrad needs them); otherwise they never leave the caches. [D24] [D29] [D31]
        """
        state = self.state
        check_batch(x, self.batch, self.arch.features)
        buffers, plan, constants = self._buffers, self._plan, self._constants
        (buffers.grey if grey else buffers.bits).reshape(x.shape)[...] = x
        buffers.rows[...] = rows
        buffers.sample_rows.reshape(self.batch, -1)[...] = buffers.rows[:, None]
        is_adam = optimiser.name == "adam"
        plan["key1"], plan["key0"] = divmod(noise.check_seed(seed), 2**32)
        plan["step"], plan["draws_pixels"] = state.step, grey
        plan["keeps_gradients"], plan["applies_adam"] = keep_gradients or not is_adam, is_adam
        if is_adam:
            self._adam[:] = adam_constants(
                state.step + 1, optimiser.lr, optimiser.beta1, optimiser.beta2, optimiser.eps
            )
        constants["share"], constants["beta_share"] = 1 / self.batch, beta / self.batch
        buffers.not_finite[:] = 0
        self._team.run(buffers, self._threads)
        state.step += 1
        if not is_adam:
            adagrad_update(state.parameters.flat, state.gradients.flat, state.second_moment.flat, lr=optimiser.lr)
            buffers.not_finite[0] = not np.isfinite(state.parameters.flat.sum() + state.second_moment.flat.sum())
        return Terms(*(term.copy() for term in self._terms))

    @property
    def finite(self) -> bool:
        """Whether the last step's terms, and the parameters and second moments that it left, are all finite."""
        return not self._buffers.not_finite.any() and bool(np.isfinite(sum(term.sum() for term in self._terms)))


def _buffers(arch: Architecture, state: TrainingState, batch: int, samples: int | None, threads: int) -> Buffers:
    """The buffers of a step, with its plan laid out in them."""
    real, count = state.parameters.dtype, samples or 1
    plan, layers, units, size = _lay_out(arch, state.parameters, batch, samples, threads)
    # A row of pixels at a time, or sixteen rows of latents.
    words = max(64 * ((arch.latent + 3) // 4), 5 * ((arch.features + 3) // 4))
    return Buffers(
        plan=plan,
        layers=layers,
        units=units,
        constants=records(1, constants_of(real)),
        grey=np.zeros(batch * arch.features, np.uint8),
        bits=np.zeros(batch * arch.features, np.uint8),
        rows=np.zeros(batch, np.int64),
        sample_rows=np.zeros(batch * count, np.int64),
        sample_numbers=np.tile(np.arange(count), batch),
        active_columns=np.zeros(batch * (arch.features + 1), np.int32),
        active_count=np.zeros(batch, np.int64),
        active_rows=np.zeros(arch.features * batch, np.int32),
        row_count=np.zeros(arch.features, np.int64),
        words=np.zeros((threads, words), np.int64),
        not_finite=np.zeros(threads, np.int64),
        parameters=state.parameters.flat,
        gradients=state.gradients.flat,
        first_moment=state.first_moment.flat,
        second_moment=state.second_moment.flat,
        work=aligned_zeros(size, real),
        log_w=np.zeros(batch * count),
        ratio_terms=np.zeros(batch * arch.latent),
        reconstruction=np.zeros(batch, real),
        kl=np.zeros(batch, real),
        bound=np.zeros(batch, real),
    )


class _Workspace:
    """Hands out places in an array of so many entries as are asked for, each beginning where a vector does."""

    def __init__(self, itemsize: int) -> None:
        self.itemsize, self.lane, self.size = itemsize, VECTOR_BYTES // itemsize, 0

    def whole(self, count: int) -> int:
        """So many entries, in whole vectors."""
        return -(-count // self.lane) * self.lane

    def take(self, count: int) -> int:
        """The place of the next `count` entries, a line behind the last, so that no two threads share one."""
        place = self.size
        self.size += self.whole(count) + self.lane
        return place

    def row(self, count: int) -> int:
        """The distance of rows of `count` entries: a column of them is not to fall into few sets of the first cache."""
        entries = self.whole(count)
        return entries + (self.lane if entries * self.itemsize % 1024 == 0 else 0)


def _lay_out(
    arch: Architecture, parameters: Parameters, batch: int, samples: int | None, threads: int
) -> tuple[Any, Any, Any, int]:
    """The records of the plan, the layers and the units, and how many entries the workspace has."""
    real, depth = parameters.dtype, len(arch.hidden)
    names = [f"encoder.hidden.{i}" for i in range(depth)] + ["encoder.mu", "encoder.logvar"]
    names += [f"decoder.hidden.{i}" for i in range(depth)] + ["decoder.out"]
    mu, logvar, decoder, output = depth, depth + 1, depth + 2, 2 * depth + 2
    count = samples or 1
    decoded = batch * count
    work = _Workspace(real.itemsize)
    z, eps, dz = (work.take(decoded * arch.latent) for _ in range(3))

    layers = records(len(names), LAYER)
    units: list[tuple[int, int, int]] = []
    for number, (layer, name) in enumerate(zip(layers, names, strict=True)):
        inputs, outputs = parameters[f"{name}.weight"].shape
        rows = decoded if number >= decoder else batch
        is_head, is_linear = number in (mu, logvar), number in (mu, logvar, output)
        layer["rows"], layer["inputs"], layer["outputs"] = rows, inputs, outputs
        layer["activation"] = ACTIVATIONS["identity" if is_linear else arch.activation]
        layer["weight"], layer["bias"] = parameters.offset(f"{name}.weight"), parameters.offset(f"{name}.bias")
        if number == decoder:
            layer["input"], layer["dinput"], layer["input_ld"] = z, dz, inputs
        elif number > 0:
            # Both heads read the last hidden layer.
            below = layers[mu - 1 if is_head else number - 1]
            layer["input"], layer["dinput"], layer["input_ld"] = below["result"], below["dresult"], below["ld"]
        # The heads' outputs have rows of K entries, as z and ε have.
        ld = outputs if is_head else work.row(outputs)
        layer["ld"], layer["result"] = ld, work.take(rows * ld)
        layer["dresult"] = layer["result"] if number == output else work.take(rows * ld)
        layer["turned_ld"] = work.row(inputs)
        if number > 0 and rows // threads < _TURN_ROWS:
            layer["turned"] = work.take(work.row(inputs) * outputs)
        units += _units(number, rows, inputs, outputs)
    # The costly ones first, so that the threads end together.
    units.sort(key=lambda u: -layers[u[0]]["outputs"] * (u[2] - u[1]) * (layers[u[0]]["rows"] if u[0] else batch // 4))

    pixel_terms = 2 * arch.features + LANES
    gradient = work.whole(max((last - first + 1) * layers[n]["outputs"] for n, first, last in units)) + work.lane
    gemm = work.whole(scratch_size(real.itemsize)) + work.lane
    # Equal strips of the first layer's columns: of its weights, and of dy as much as stays in the first cache.
    vectors = work.whole(arch.hidden[0]) // work.lane
    forward_strip, gradient_strip = (
        work.lane * -(-vectors // -(-vectors // most))
        for most in (SUM_VECTORS, min(SUM_VECTORS, max(4, _FIRST_CACHE // (batch * VECTOR_BYTES))))
    )
    plan = records(1, PLAN)
    for field, value in {
        "batch": batch, "features": arch.features, "latent": arch.latent, "samples": count,
        "weighs_samples": samples is not None, "mu": mu, "logvar": logvar, "decoder": decoder, "output": output,
        "z": z, "eps": eps, "dz": dz, "pixel_terms": work.take(threads * pixel_terms), "pixel_terms_size": pixel_terms,
        "unit_gradient": work.take(threads * gradient), "unit_gradient_size": gradient,
        "gemm_scratch": work.take(threads * gemm), "gemm_scratch_size": gemm, "row_share": work.take(decoded),
        "kl_terms": work.take(batch * arch.latent), "gemm": gemm_address(real), "forward_strip": forward_strip,
        "gradient_strip": gradient_strip,
    }.items():  # fmt: skip
        plan[field] = value
    return plan, layers, np.array(units, UNIT), work.size


def _units(layer: int, rows: int, inputs: int, outputs: int) -> list[tuple[int, int, int]]:
    """The fields of a layer's units: rows of its weights, in parts that stay in the second cache."""
    count = max(1, _UNIT_ENTRIES // outputs)
    if layer > 0:
        # More rows where the batch is long: its panels are copied once a unit.
        count = max(TILE_ROWS, count // TILE_ROWS * TILE_ROWS, 96 if rows >= 256 else 0)
    return [(layer, first, min(first + count, inputs)) for first in range(0, inputs, count)]
