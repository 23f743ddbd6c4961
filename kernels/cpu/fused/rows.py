"""Rows: a slab of the batch, from its pixels to the logits' gradient, and back to the first hidden layer. [D29] [D41]

Where x is sparse, the first layer sums the weights' rows of the active pixels alone; all other layers are products.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vae_np import noise

from ..affine import activate, active_columns
from ..engine.random_words import fill_normals
from ..engine.vectors import in_vectors, row_sum, sum_range
from ..likelihoods import bernoulli_step_row, normal_scales, normal_step_row
from ..reparam import backward_row, kl_terms, sample_row
from ..runtime.compilation import njit
from ..runtime.lowering import VECTOR_BYTES
from .above import backward_above, forward_above
from .bound import copy_entries, keep_rows, rows_kept, weigh_rows
from .layer_rows import activation_rows, affine_rows, input_gradient_rows
from .layout import Buffers

_EPS_STREAM = noise.EPS
# From this share of ones on, products of all pixels take less time than sums over the active ones, and so many rows
# tell which share a batch has.
_DENSE, _ROWS_LOOKED_AT = 0.4, 8


@njit(forceinline=True)
def has_few_ones(buffers: Buffers) -> bool:
    """Whether x is binary and few of its pixels are one, or can be expected to be drawn so, as its first rows tell.

    The first layer then sums those pixels alone. Each thread asks for itself, and all get the same answer.
    """
    plan = buffers.plan[0]
    if plan.has_bytes == 0 or plan.is_normal != 0:
        return False
    count = min(plan.batch, _ROWS_LOOKED_AT) * plan.features
    found: Any = 0
    if plan.draws_pixels != 0:
        for shade in buffers.grey[:count]:
            found += np.int64(shade)
        return found < _DENSE * 255 * count
    for pixel in buffers.bits[:count]:
        found += np.int64(pixel != np.uint8(0))
    return found < _DENSE * count


@njit(forceinline=True)
def _sparse_first_rows(buffers: Buffers, first: int, last: int) -> None:
    """The first layer's output for examples first..last−1, from their active pixels. [D28]"""
    plan, layer, work, parameters = buffers.plan[0], buffers.layers[0], buffers.work, buffers.parameters
    features, index, counts = plan.features, buffers.active_columns, buffers.active_count
    for i in range(first, last):
        counts[i] = active_columns(buffers.bits, i * features, 0, features, index, i * (features + 1))
    # A strip of the weights at a time: it stays in the second cache while all rows read from it.
    width = VECTOR_BYTES // work.itemsize
    for column in range(0, layer.outputs, plan.forward_strip):
        vectors, lanes = in_vectors(min(plan.forward_strip, layer.outputs - column), width)
        for i in range(first, last):
            row_sum(
                vectors, parameters, layer.weight + column, layer.outputs,
                index, i * (features + 1), counts[i], work, layer.result + i * layer.ld + column, lanes,
            )  # fmt: skip
    for i in range(first, last):
        activate(work, layer.result + i * layer.ld, parameters, layer.bias, layer.outputs, layer.activation)


@njit(forceinline=True)
def _bytes_as_floats(buffers: Buffers, first: int, last: int) -> None:
    """The bytes of examples first..last−1 as the first layer's input."""
    layer, bits, work = buffers.layers[0], buffers.bits, buffers.work
    for i in range(first, last):
        pixels = bits[i * layer.inputs : (i + 1) * layer.inputs]
        row = work[layer.input + i * layer.input_ld : layer.input + i * layer.input_ld + layer.inputs]
        for j in range(row.size):
            row[j] = pixels[j]


@njit(forceinline=True)
def _likelihood_rows(buffers: Buffers, part: int, first: int, last: int) -> None:
    """log p(x|z) of examples first..last−1, and the gradient of the decoder's output in its place. [D4] [D5]"""
    plan, work, log_w = buffers.plan[0], buffers.work, buffers.log_w
    samples, features, layer, seen = plan.samples, plan.features, buffers.layers[plan.output], buffers.layers[0]
    terms = plan.pixel_terms + part * plan.pixel_terms_size
    inverse, offset = terms + features, 0.0
    if plan.is_normal != 0:
        if plan.sigmas == 0:
            offset = normal_scales(work, plan.sigma, 1, work, inverse, features)
        else:
            offset = normal_scales(buffers.parameters, plan.sigma, plan.sigmas, work, inverse, features)
    # Where samples are weighed, what a row's gradient is to be multiplied with is known only then.
    scale = work.dtype.type(1) if plan.weighs_samples != 0 else buffers.constants[0].share
    for i in range(first, last):
        total, x = 0.0, seen.input + i * seen.input_ld
        for row in range(i * samples, (i + 1) * samples):
            out = layer.result + row * layer.ld
            if plan.is_normal != 0:
                squares = normal_step_row(work, x, work, out, scale, features, work, inverse, work, terms)
                log_w[row] = -0.5 * (offset + squares)
            elif plan.has_bytes != 0:
                log_w[row] = bernoulli_step_row(buffers.bits, i * features, work, out, scale, features, work, terms)
            else:
                log_w[row] = bernoulli_step_row(work, x, work, out, scale, features, work, terms)
            total += log_w[row]
        buffers.reconstruction[i] = total / samples


@njit(forceinline=True)
def forward_rows(buffers: Buffers, part: int, first: int, last: int, is_sparse: bool) -> None:
    """The forward pass of examples first..last−1, down to the gradient of the decoder's output. [D27] [D17] [D22]"""
    plan, layers, work, parameters = buffers.plan[0], buffers.layers, buffers.work, buffers.parameters
    latent, scratch = plan.latent, plan.gemm_scratch + part * plan.gemm_scratch_size
    if is_sparse:
        _sparse_first_rows(buffers, first, last)
    elif plan.has_bytes != 0:
        _bytes_as_floats(buffers, first, last)
    for number in range(1 if is_sparse else 0, plan.decoder):
        affine_rows(plan, layers[number], first, last, parameters, work, scratch)

    samples = plan.samples
    first_row, last_row = first * samples, last * samples
    mu, logvar, at = layers[plan.mu].result, layers[plan.logvar].result, first * latent
    columns, noise_of_all = latent + plan.top_latent, plan.eps if plan.top == 0 else plan.all_eps
    fill_normals(
        buffers.sample_rows, buffers.sample_numbers, first_row, last_row, columns, np.uint64(plan.key0),
        np.uint64(plan.key1), _EPS_STREAM, plan.step, buffers.words[part], work, noise_of_all + first_row * columns,
    )  # fmt: skip
    if plan.top != 0:
        for row in range(first_row, last_row):
            drawn = plan.all_eps + row * columns
            copy_entries(work, drawn, plan.eps + row * latent, latent)
            copy_entries(work, drawn + latent, plan.top_eps + row * plan.top_latent, plan.top_latent)
    if samples == 1:
        sample_row(work, mu + at, work, logvar + at, work, plan.eps + at, work, plan.z + at, (last - first) * latent)
    else:
        for row in range(first_row, last_row):
            at_row, at_sample = row // samples * latent, row * latent
            sample_row(
                work, mu + at_row, work, logvar + at_row, work, plan.eps + at_sample, work, plan.z + at_sample, latent
            )
    if plan.top != 0:
        # The KL is then the sampled one, which `weigh_samples` computes.
        forward_above(buffers, part, first_row, last_row)
    else:
        kl_terms(work, mu + at, work, logvar + at, work, plan.kl_terms + at, (last - first) * latent)
        for i in range(first, last):
            buffers.kl[i] = 0.5 * sum_range(work, plan.kl_terms + i * latent, latent)

    for number in range(plan.decoder, plan.output + 1):
        affine_rows(plan, layers[number], first_row, last_row, parameters, work, scratch)
    _likelihood_rows(buffers, part, first, last)


@njit(forceinline=True)
def backward_rows(buffers: Buffers, part: int, first: int, last: int) -> None:
    """Back from the output's gradient to the first layer's, for examples first..last−1. [D29] [D41]"""
    plan, layers, work, parameters = buffers.plan[0], buffers.layers_back, buffers.work, buffers.parameters
    constants, latent, kept = buffers.constants[0], plan.latent, buffers.kept
    scratch = plan.gemm_scratch + part * plan.gemm_scratch_size
    first_row = rows_kept(kept, 0, first)
    last_row = first_row + rows_kept(kept, first, last)
    if plan.top != 0:
        weigh_rows(buffers, first_row, last_row)
    elif plan.weighs_samples != 0:
        keep_rows(buffers, first, last, first_row)
    for number in range(plan.output, plan.decoder, -1):
        input_gradient_rows(plan, layers[number], first_row, last_row, parameters, work, 0, scratch)
        activation_rows(layers[number - 1], first_row, last_row, work)
    input_gradient_rows(plan, layers[plan.decoder], first_row, last_row, parameters, work, 0, scratch)

    mu, logvar, dkl, half = layers[plan.mu], layers[plan.logvar], constants.beta_share, work.dtype.type(0.5)
    if plan.top != 0:
        backward_above(buffers, part, first_row, last_row)
        dkl = work.dtype.type(0)
    elif plan.weighs_samples != 0:
        # The sampled log p(z)/q(z|x) in place of the KL: −z along the path, and ½ of log σ² itself.
        beta = dkl / constants.share
        for row in range(first_row, last_row):
            pull, at = beta * work[plan.kept_share + row], row * latent
            along, z = work[plan.dz + at : plan.dz + at + latent], work[plan.kept_z + at : plan.kept_z + at + latent]
            for j in range(latent):
                along[j] += pull * z[j]
        dkl = work.dtype.type(0)
    # With one sample an example, all rows are one stretch.
    rows, row = max(1, last - first) if plan.samples == 1 else 1, first_row
    for i in range(first, last, rows):
        at, at_row = i * latent, row * latent
        backward_row(
            work, mu.result + at, work, logvar.result + at, work, plan.kept_eps + at_row, work, plan.dz + at_row,
            latent, kept[i], dkl, work, mu.dresult + at, work, logvar.dresult + at, rows * latent,
        )  # fmt: skip
        row += kept[i]
        if plan.weighs_samples != 0:
            dlogvar = work[logvar.dresult + at : logvar.dresult + at + rows * latent]
            for j in range(rows * latent):
                dlogvar[j] -= half * constants.beta_share

    input_gradient_rows(plan, mu, first, last, parameters, work, 0, scratch)
    input_gradient_rows(plan, logvar, first, last, parameters, work, 1, scratch)
    activation_rows(layers[plan.mu - 1], first, last, work)
    for number in range(plan.mu - 1, 0, -1):
        input_gradient_rows(plan, layers[number], first, last, parameters, work, 0, scratch)
        activation_rows(layers[number - 1], first, last, work)
