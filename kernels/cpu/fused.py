"""One training step as one compiled function: MLPs, a diagonal normal q, a Bernoulli likelihood. [D29] [D31] [D41]

Its objective is the ELBO, or IWAE's bound of K samples; these lie example by example, so that the decoder's rows are
one matrix. Every thread takes a slab of the batch through the whole forward pass, and, once the transposed weights are
there, back to the first hidden layer. Then the threads meet, and take units of weights: gradient, then Adam while it is
in cache. The first layer works on the active pixels alone, forward and backward. All buffers are made once.

The order of every sum is fixed by the layout, not by the threads: one thread or eight give the same bits.
"""

from __future__ import annotations

import math

import numpy as np

from vae_np import noise
from vae_np._types import Array
from vae_np.elbo import Terms
from vae_np.errors import InputError
from vae_np.model import Architecture, Parameters, aligned_zeros
from vae_np.optim import adagrad_update
from vae_np.step import Optimiser, TrainingState

from ..arguments import check_batch
from .adam import constants
from .affine import (
    ACTIVATIONS,
    activate,
    activation_gradient,
    active_columns,
    column_sums,
)
from .engine.products import call_gemm, gemm_address, scratch_size, transpose
from .engine.random_words import fill_bernoulli, fill_normals, key
from .engine.vectors import SUM_VECTORS, adam_range, row_sum, sum_range
from .likelihoods import LANES, bernoulli_step_row
from .reparam import backward_row, kl_terms, log_ratio_row, sample_row
from .runtime.compilation import TILE_ROWS, VECTOR_BYTES, njit
from .runtime.pool import POOL
from .runtime.team import Team, called_again, meet, next_unit

# Header of the plan, then LAYER words for each affine layer, then UNIT_WORDS for each unit of weights.
_BATCH, _FEATURES, _LATENT, _ENCODER, _DECODER, _ACTIVATION, _KEY0, _KEY1, _STEP, _GREY, _KEEP, _ADAM = range(12)
_Z, _EPS, _DZ, _TERMS, _GRADIENT, _GRADIENT_SIZE, _GEMM, _GEMM_SIZE, _UNITS = range(12, 21)
_LAYERS, _SAMPLES, _CALL, _THREADS, _STRIP, _NARROW, _PULL, _KL_TERMS = range(21, 29)
_HEADER = 29
_LAYER = 12
_IN, _OUT, _WEIGHT, _BIAS, _INPUT, _RESULT, _DRESULT, _TURNED, _INPUT_LD, _LD, _TURNED_LD, _ROWS = range(_LAYER)
# Beside Adam's seven constants: 1/B and beta/B.
_SHARE, _BETA_SHARE = 7, 8
_BINARIZE_STREAM, _EPS_STREAM = noise.BINARIZE, noise.EPS


@njit()
def _at(plan: Array, layer: int, word: int) -> int:
    return plan[_HEADER + _LAYER * layer + word]


@njit()
def _vectors(columns: int, width: int) -> tuple[int, int]:
    """How many vectors so many columns fill, and the lanes of the last one."""
    vectors = (columns + width - 1) // width
    return vectors, columns - (vectors - 1) * width


@njit()
def _affine_rows(
    plan: Array, layer: int, first: int, last: int, parameters: Array, work: Array, scratch: int, activation: int
) -> None:
    """Rows first..last−1 of a layer's output."""
    inputs, outputs = _at(plan, layer, _IN), _at(plan, layer, _OUT)
    source_ld, ld = _at(plan, layer, _INPUT_LD), _at(plan, layer, _LD)
    source, result = _at(plan, layer, _INPUT) + first * source_ld, _at(plan, layer, _RESULT) + first * ld
    call_gemm(
        plan[_CALL], work, source, source_ld, 1, parameters, _at(plan, layer, _WEIGHT), outputs, 1, work, result, ld,
        last - first, outputs, inputs, 0, work, scratch,
    )  # fmt: skip
    for i in range(last - first):
        activate(work, result + i * ld, parameters, _at(plan, layer, _BIAS), outputs, activation)


@njit()
def _input_gradient_rows(
    plan: Array, layer: int, first: int, last: int, parameters: Array, work: Array, target: int, accumulate: int,
    scratch: int,
) -> None:  # fmt: skip
    """Rows of dx = dy Wᵀ into work, from entry `target` on (the place of row 0). [D25]"""
    inputs, outputs = _at(plan, layer, _IN), _at(plan, layer, _OUT)
    dx_ld, ld = _at(plan, layer, _INPUT_LD), _at(plan, layer, _LD)
    dy = _at(plan, layer, _DRESULT) + first * ld
    if _at(plan, layer, _TURNED) != 0:
        call_gemm(
            plan[_CALL], work, dy, ld, 1, work, _at(plan, layer, _TURNED), _at(plan, layer, _TURNED_LD), 1, work,
            target + first * dx_ld, dx_ld, last - first, inputs, outputs, accumulate, work, scratch,
        )  # fmt: skip
    else:
        call_gemm(
            plan[_CALL], work, dy, ld, 1, parameters, _at(plan, layer, _WEIGHT), 1, outputs, work,
            target + first * dx_ld, dx_ld, last - first, inputs, outputs, accumulate, work, scratch,
        )  # fmt: skip


@njit()
def _activation_rows(plan: Array, layer: int, first: int, last: int, work: Array) -> None:
    """dy → da in place, for rows of a hidden layer. [D26]"""
    outputs, ld = _at(plan, layer, _OUT), _at(plan, layer, _LD)
    for i in range(first, last):
        dy, y = _at(plan, layer, _DRESULT) + i * ld, _at(plan, layer, _RESULT) + i * ld
        activation_gradient(work, dy, work, y, work, dy, outputs, plan[_ACTIVATION])


@njit()
def _forward_rows(
    plan: Array, part: int, first: int, last: int, bits: Array, rows: Array, numbers: Array, index: Array,
    active: Array, words: Array, reals: Array, parameters: Array, work: Array, loglik: Array, reconstruction: Array,
    kl: Array,
) -> None:  # fmt: skip
    """The forward pass of examples first..last−1, down to the logits' gradient. [D27] [D28] [D17] [D22] [D4]"""
    features, latent, activation = plan[_FEATURES], plan[_LATENT], plan[_ACTIVATION]
    heads = plan[_ENCODER]
    scratch = plan[_GEMM] + part * plan[_GEMM_SIZE]
    hidden, ld, weight, result = _at(plan, 0, _OUT), _at(plan, 0, _LD), _at(plan, 0, _WEIGHT), _at(plan, 0, _RESULT)
    for i in range(first, last):
        active[i] = active_columns(bits, i * features, 0, features, index, i * (features + 1))
    # A strip of the weights at a time: it stays in the second cache while all rows read from it.
    strip, width = plan[_STRIP], VECTOR_BYTES // work.itemsize
    for column in range(0, hidden, strip):
        vectors, lanes = _vectors(min(strip, hidden - column), width)
        for i in range(first, last):
            row_sum(
                vectors, parameters, weight + column, hidden, index, i * (features + 1), active[i],
                work, result + i * ld + column, lanes,
            )  # fmt: skip
    for i in range(first, last):
        activate(work, result + i * ld, parameters, _at(plan, 0, _BIAS), hidden, activation)
    for layer in range(1, heads):
        _affine_rows(plan, layer, first, last, parameters, work, scratch, activation)
    _affine_rows(plan, heads, first, last, parameters, work, scratch, 0)
    _affine_rows(plan, heads + 1, first, last, parameters, work, scratch, 0)

    # The first..last−1 examples' samples lie one after the other.
    samples = max(1, plan[_SAMPLES])
    first_row, last_row = first * samples, last * samples
    mu, logvar = _at(plan, heads, _RESULT), _at(plan, heads + 1, _RESULT)
    size = words.size // plan[_THREADS]
    fill_normals(
        rows, numbers, first_row, last_row, latent, np.uint64(plan[_KEY0]), np.uint64(plan[_KEY1]), _EPS_STREAM,
        plan[_STEP], words[part * size : (part + 1) * size], work, plan[_EPS] + first_row * latent,
    )  # fmt: skip
    at, terms = first * latent, plan[_KL_TERMS]
    if samples == 1:
        sample_row(
            work, mu + at, work, logvar + at, work, plan[_EPS] + at, work, plan[_Z] + at, (last - first) * latent
        )
    else:
        for row in range(first_row, last_row):
            at_row, at_sample = row // samples * latent, row * latent
            sample_row(
                work, mu + at_row, work, logvar + at_row, work, plan[_EPS] + at_sample, work, plan[_Z] + at_sample,
                latent,
            )  # fmt: skip
    kl_terms(work, mu + at, work, logvar + at, work, terms + at, (last - first) * latent)
    for i in range(first, last):
        kl[i] = 0.5 * sum_range(work, terms + i * latent, latent)

    out = heads + 2 + plan[_DECODER]
    for layer in range(heads + 2, out):
        _affine_rows(plan, layer, first_row, last_row, parameters, work, scratch, activation)
    _affine_rows(plan, out, first_row, last_row, parameters, work, scratch, 0)
    scratch, ld = plan[_TERMS] + part * (2 * features + LANES), _at(plan, out, _LD)
    scale = reals[_SHARE] if plan[_SAMPLES] == 0 else reals.dtype.type(1)
    for i in range(first, last):
        total = 0.0
        for row in range(i * samples, (i + 1) * samples):
            logits = _at(plan, out, _RESULT) + row * ld
            loglik[row] = bernoulli_step_row(bits, i * features, work, logits, scale, features, work, scratch)
            total += loglik[row]
        reconstruction[i] = total / samples


@njit()
def _weigh_samples(
    plan: Array, first: int, last: int, reals: Array, loglik: Array, ratio: Array, work: Array, bound: Array
) -> None:
    """IWAE's bound of each example, and its logits' gradient times w̃/B, from log w = log p(x|z) + β log p(z)/q(z|x).

    [D34] [D41]
    """
    samples, latent, heads = plan[_SAMPLES], plan[_LATENT], plan[_ENCODER]
    out, logvar = heads + 2 + plan[_DECODER], _at(plan, heads + 1, _RESULT)
    share, beta = np.float64(reals[_SHARE]), np.float64(reals[_BETA_SHARE]) / np.float64(reals[_SHARE])
    for i in range(first, last):
        log_w = loglik[i * samples : (i + 1) * samples]
        for k in range(samples):
            at = (i * samples + k) * latent
            log_w[k] += beta * log_ratio_row(
                work, logvar + i * latent, work, plan[_EPS] + at, work, plan[_Z] + at, latent, ratio, i * latent
            )
        top = log_w[0]
        for k in range(1, samples):
            # A NaN is not below: it gets in, and stays.
            top = top if (log_w[k] <= top) | (top != top) else log_w[k]
        total = 0.0
        for k in range(samples):
            log_w[k] = math.exp(log_w[k] - top)
            total += log_w[k]
        bound[i] = top + math.log(total / samples)
        for k in range(samples):
            row = i * samples + k
            pull = reals.dtype.type(share * (log_w[k] / total))
            work[plan[_PULL] + row] = pull
            at = _at(plan, out, _RESULT) + row * _at(plan, out, _LD)
            gradient = work[at : at + plan[_FEATURES]]
            for j in range(gradient.size):
                gradient[j] *= pull


@njit()
def _backward_rows(plan: Array, part: int, first: int, last: int, reals: Array, parameters: Array, work: Array) -> None:
    """Back from the logits' gradient to the first layer's, for examples first..last−1. [D29] [D41]"""
    latent, heads = plan[_LATENT], plan[_ENCODER]
    scratch = plan[_GEMM] + part * plan[_GEMM_SIZE]
    samples = max(1, plan[_SAMPLES])
    first_row, last_row = first * samples, last * samples
    for layer in range(heads + 2 + plan[_DECODER], heads + 2, -1):
        below = _at(plan, layer - 1, _DRESULT)
        _input_gradient_rows(plan, layer, first_row, last_row, parameters, work, below, 0, scratch)
        _activation_rows(plan, layer - 1, first_row, last_row, work)
    _input_gradient_rows(plan, heads + 2, first_row, last_row, parameters, work, plan[_DZ], 0, scratch)
    mu, logvar = _at(plan, heads, _RESULT), _at(plan, heads + 1, _RESULT)
    dmu, dlogvar = _at(plan, heads, _DRESULT), _at(plan, heads + 1, _DRESULT)
    dkl, half = reals[_BETA_SHARE], reals.dtype.type(0.5)
    if plan[_SAMPLES] != 0:
        # The sampled log p(z)/q(z|x) in place of the KL: −z along the path, and ½ of log σ² itself.
        beta = dkl / reals[_SHARE]
        for row in range(first_row, last_row):
            pull, at = beta * work[plan[_PULL] + row], row * latent
            along, z = work[plan[_DZ] + at : plan[_DZ] + at + latent], work[plan[_Z] + at : plan[_Z] + at + latent]
            for j in range(latent):
                along[j] += pull * z[j]
        dkl = reals.dtype.type(0)
    # With one sample an example, all rows are one stretch.
    rows = max(1, last - first) if samples == 1 else 1
    for i in range(first, last, rows):
        at, row = i * latent, i * samples * latent
        backward_row(
            work, mu + at, work, logvar + at, work, plan[_EPS] + row, work, plan[_DZ] + row, latent, samples, dkl,
            work, dmu + at, work, dlogvar + at, rows * latent,
        )  # fmt: skip
        if plan[_SAMPLES] != 0:
            of_logvar = work[dlogvar + at : dlogvar + at + rows * latent]
            for j in range(rows * latent):
                of_logvar[j] -= half * reals[_BETA_SHARE]
    dh = _at(plan, heads - 1, _DRESULT)
    _input_gradient_rows(plan, heads, first, last, parameters, work, dh, 0, scratch)
    _input_gradient_rows(plan, heads + 1, first, last, parameters, work, dh, 1, scratch)
    _activation_rows(plan, heads - 1, first, last, work)
    for layer in range(heads - 1, 0, -1):
        _input_gradient_rows(plan, layer, first, last, parameters, work, _at(plan, layer - 1, _DRESULT), 0, scratch)
        _activation_rows(plan, layer - 1, first, last, work)


@njit()
def _turn_weights(plan: Array, part: int, parts: int, parameters: Array, work: Array) -> None:
    """This part's share of the transposed weights, which dy Wᵀ reads row by row, for the layers that have few rows."""
    width = VECTOR_BYTES // work.itemsize
    for layer in range(1, plan[_LAYERS]):
        if _at(plan, layer, _TURNED) == 0:
            continue
        inputs, outputs = _at(plan, layer, _IN), _at(plan, layer, _OUT)
        blocks = (inputs + width - 1) // width
        first, last = width * (part * blocks // parts), min(width * ((part + 1) * blocks // parts), inputs)
        if first < last:
            transpose(
                parameters, _at(plan, layer, _WEIGHT) + first * outputs, outputs, last - first, outputs,
                work, _at(plan, layer, _TURNED) + first, _at(plan, layer, _TURNED_LD),
            )  # fmt: skip


@njit()
def _active_rows(
    plan: Array, part: int, parts: int, row_index: Array, active: Array, index: Array, counts: Array
) -> None:
    """For each of this part's pixels, the rows where it is one."""
    batch, features = plan[_BATCH], plan[_FEATURES]
    first, last = part * features // parts, (part + 1) * features // parts
    for p in range(first, last):
        counts[p] = 0
    for i in range(batch):
        columns = row_index[i * (features + 1) : i * (features + 1) + active[i]]
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


@njit()
def _update_unit(
    plan: Array, unit: int, part: int, index: Array, counts: Array, reals: Array,
    parameters: Array, gradients: Array, first_moment: Array, second_moment: Array, work: Array,
) -> int:  # fmt: skip
    """Gradient of a few rows of one layer's weights, and Adam on them while they are in cache. [D25] [D28] [D31]"""
    place = _HEADER + _LAYER * plan[_LAYERS] + 3 * unit
    layer, first, last = plan[place], plan[place + 1], plan[place + 2]
    batch = _at(plan, layer, _ROWS)
    outputs, ld = _at(plan, layer, _OUT), _at(plan, layer, _LD)
    weight, bias, dy = _at(plan, layer, _WEIGHT) + first * outputs, _at(plan, layer, _BIAS), _at(plan, layer, _DRESULT)
    if plan[_KEEP] != 0:
        target, at, at_bias = gradients, weight, bias
    else:
        target, at = work, plan[_GRADIENT] + part * plan[_GRADIENT_SIZE]
        at_bias = at + (last - first) * outputs
    if layer == 0:
        narrow, width = plan[_NARROW], VECTOR_BYTES // work.itemsize
        for column in range(0, outputs, narrow):
            vectors, lanes = _vectors(min(narrow, outputs - column), width)
            for p in range(first, last):
                row_sum(
                    vectors, work, dy + column, ld, index, p * batch, counts[p],
                    target, at + (p - first) * outputs + column, lanes,
                )  # fmt: skip
    else:
        call_gemm(
            plan[_CALL], work, _at(plan, layer, _INPUT) + first, 1, _at(plan, layer, _INPUT_LD), work, dy, ld, 1,
            target, at, outputs,
            last - first, outputs, batch, 0, work, plan[_GEMM] + part * plan[_GEMM_SIZE],
        )  # fmt: skip
    bad = 0
    if plan[_ADAM] != 0:
        bad += adam_range(parameters, weight, target, at, first_moment, second_moment, (last - first) * outputs, reals)
    if first == 0:
        column_sums(work, dy, ld, batch, 0, outputs, target, at_bias)
        if plan[_ADAM] != 0:
            bad += adam_range(parameters, bias, target, at_bias, first_moment, second_moment, outputs, reals)
    return bad


@njit()
def _step(
    part: int, parts: int, control: Array, plan: Array, reals: Array, grey: Array, bits: Array, rows: Array,
    sample_rows: Array, numbers: Array, row_index: Array, active: Array, column_index: Array, counts: Array,
    words: Array, bad: Array, parameters: Array, gradients: Array, first_moment: Array, second_moment: Array,
    work: Array, loglik: Array, ratio: Array, reconstruction: Array, kl: Array, bound: Array,
) -> None:  # fmt: skip
    """One part of one step, and for a worker of every step that follows soon."""
    batch, features = plan[_BATCH], plan[_FEATURES]
    first, last = part * batch // parts, (part + 1) * batch // parts
    while True:
        if plan[_GREY] != 0:
            size = words.size // plan[_THREADS]
            fill_bernoulli(
                grey, rows, first, last, features, np.uint64(plan[_KEY0]), np.uint64(plan[_KEY1]), _BINARIZE_STREAM,
                plan[_STEP], words[part * size : (part + 1) * size], bits,
            )  # fmt: skip
        _turn_weights(plan, part, parts, parameters, work)
        _forward_rows(
            plan, part, first, last, bits, sample_rows, numbers, row_index, active, words, reals, parameters, work,
            loglik, reconstruction, kl,
        )  # fmt: skip
        if plan[_SAMPLES] != 0:
            _weigh_samples(plan, first, last, reals, loglik, ratio, work, bound)
        meet(control, parts)
        _active_rows(plan, part, parts, row_index, active, column_index, counts)
        _backward_rows(plan, part, first, last, reals, parameters, work)
        meet(control, parts)
        strange = 0
        unit = next_unit(control)
        while unit < plan[_UNITS]:
            strange += _update_unit(
                plan, unit, part, column_index, counts, reals, parameters, gradients, first_moment, second_moment, work
            )
            unit = next_unit(control)
        bad[part] = strange
        meet(control, parts)
        if part == 0 or not called_again(control, part):
            return


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
        dtype = state.parameters.dtype
        threads = POOL.threads
        self._threads = threads
        self._plan, size = _lay_out(arch, state.parameters, batch, samples or 0, threads)
        count = samples or 1
        self._reals = np.zeros(9, dtype)
        self._grey, self._bits = np.zeros(batch * arch.features, np.uint8), np.zeros(batch * arch.features, np.uint8)
        self._rows, self._sample_rows = np.zeros(batch, np.int64), np.zeros(batch * count, np.int64)
        self._terms = [np.zeros(batch, dtype) for _ in range(3)]
        self._bad = np.zeros(threads, np.int64)
        # Scratch of the noise: a row of pixels at a time, or sixteen rows of latents.
        word_count = threads * max(64 * ((arch.latent + 3) // 4), 5 * ((arch.features + 3) // 4))
        self._args = (
            self._plan, self._reals, self._grey, self._bits, self._rows, self._sample_rows,
            np.tile(np.arange(count), batch), np.zeros(batch * (arch.features + 1), np.int32),
            np.zeros(batch, np.int64), np.zeros(arch.features * batch, np.int32), np.zeros(arch.features, np.int64),
            np.zeros(word_count, np.int64), self._bad,
            state.parameters.flat, state.gradients.flat, state.first_moment.flat, state.second_moment.flat,
            aligned_zeros(size, state.parameters.dtype), np.zeros(batch * count), np.zeros(batch * arch.latent),
            *self._terms,
        )  # fmt: skip
        self._team = Team(_step)

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
        (self._grey if grey else self._bits).reshape(x.shape)[...] = x
        self._rows[...] = rows
        self._sample_rows.reshape(self.batch, -1)[...] = self._rows[:, None]
        plan, reals = self._plan, self._reals
        key0, key1 = key(seed)
        is_adam = optimiser.name == "adam"
        plan[_KEY0], plan[_KEY1], plan[_STEP], plan[_GREY] = int(key0), int(key1), state.step, int(grey)
        plan[_KEEP], plan[_ADAM] = int(keep_gradients or not is_adam), int(is_adam)
        if is_adam:
            reals[:7] = constants(state.step + 1, optimiser.lr, optimiser.beta1, optimiser.beta2, optimiser.eps)
        reals[_SHARE], reals[_BETA_SHARE] = 1 / self.batch, beta / self.batch
        self._bad[:] = 0
        self._team.run(self._args, self._threads)
        state.step += 1
        if not is_adam:
            adagrad_update(state.parameters.flat, state.gradients.flat, state.second_moment.flat, lr=optimiser.lr)
            self._bad[0] = not np.isfinite(state.parameters.flat.sum() + state.second_moment.flat.sum())
        terms = [term.copy() for term in self._terms]
        return Terms(*terms) if self.samples else Terms(*terms[:2])

    @property
    def finite(self) -> bool:
        """Whether the last step's terms, and the parameters and second moments that it left, are all finite."""
        return not self._bad.any() and bool(np.isfinite(sum(term.sum() for term in self._terms)))


def _lay_out(arch: Architecture, parameters: Parameters, batch: int, samples: int, threads: int) -> tuple[Array, int]:
    """The plan (int64) and the size of the workspace: every offset that a step needs."""
    encoder, decoder = len(arch.hidden), len(arch.hidden)
    names = [f"encoder.hidden.{i}" for i in range(encoder)] + ["encoder.mu", "encoder.logvar"]
    names += [f"decoder.hidden.{i}" for i in range(decoder)] + ["decoder.out"]
    itemsize = parameters.dtype.itemsize
    lane = VECTOR_BYTES // itemsize
    end = 0

    def take(count: int) -> int:
        nonlocal end
        # A line between buffers, so that no two threads share one.
        start, end = end, end + (-(-count // lane) + 1) * lane
        return start

    def row(count: int) -> int:
        # Rows begin where vectors do, and not so that a column of them falls into few sets of the first cache.
        entries = -(-count // lane) * lane
        return entries + (lane if entries * itemsize % 1024 == 0 else 0)

    decoded = batch * max(1, samples)
    z, eps, dz = (take(decoded * arch.latent) for _ in range(3))
    plan = np.zeros(_HEADER + _LAYER * len(names), np.int64)
    layers = plan[_HEADER:].reshape(-1, _LAYER)
    units: list[tuple[int, int, int]] = []
    largest = 0
    for number, name in enumerate(names):
        inputs, outputs = parameters[f"{name}.weight"].shape
        # Both heads read the last hidden layer, and the decoder reads z.
        before = encoder - 1 if number == encoder + 1 else number - 1
        source = z if number == encoder + 2 else int(layers[before, _RESULT])
        # The heads' outputs and z have rows of K entries, as ε has.
        ld = outputs if number in (encoder, encoder + 1) else row(outputs)
        rows = decoded if number >= encoder + 2 else batch
        result = take(rows * ld)
        is_last = number == len(names) - 1
        gradient = result if is_last else take(rows * ld)
        turned = number > 0 and rows // threads < _TURN_ROWS
        layers[number] = (
            inputs, outputs, parameters.offset(f"{name}.weight"), parameters.offset(f"{name}.bias"), source, result, gradient,
            take(row(inputs) * outputs) if turned else 0,
            inputs if number in (0, encoder + 2) else layers[before, _LD], ld, row(inputs), rows,
        )  # fmt: skip
        step = max(1, _UNIT_ENTRIES // outputs)
        if number > 0:
            # More rows where the batch is long: its panels are copied once a unit.
            step = max(TILE_ROWS, step // TILE_ROWS * TILE_ROWS, 96 if rows >= 256 else 0)
        step = min(step, inputs)
        units += [(number, i, min(i + step, inputs)) for i in range(0, inputs, step)]
        largest = max(largest, (step + 1) * outputs)
    # The costly ones first, so that the threads end together.
    units.sort(key=lambda u: -layers[u[0], _OUT] * (u[2] - u[1]) * (layers[u[0], _ROWS] if u[0] else batch // 4))
    # Equal strips of the first layer's columns: of its weights, and of dy as much as stays in the first cache.
    vectors = -(-int(layers[0, _OUT]) // lane)
    strip, narrow = (
        lane * -(-vectors // -(-vectors // most))
        for most in (SUM_VECTORS, min(SUM_VECTORS, max(4, _FIRST_CACHE // (batch * VECTOR_BYTES))))
    )
    gradient_size = -(-largest // lane) * lane + lane
    gemm_size = -(-scratch_size(itemsize) // lane) * lane + lane
    plan[:_HEADER] = (
        batch, arch.features, arch.latent, encoder, decoder, ACTIVATIONS[arch.activation], 0, 0, 0, 0, 0, 0,
        z, eps, dz, take(threads * (2 * arch.features + LANES)), take(threads * gradient_size), gradient_size,
        take(threads * gemm_size), gemm_size, len(units), len(names), samples,
        gemm_address(parameters.dtype), threads, strip, narrow, take(decoded), take(batch * arch.latent),
    )  # fmt: skip
    return np.concatenate([plan, np.array(units, np.int64).reshape(-1)]), end
