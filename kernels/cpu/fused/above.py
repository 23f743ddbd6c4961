"""The second stochastic layer of some rows: z₂ and the log ratio of both layers, and back to z₁. [D59]"""

from __future__ import annotations

from typing import Any

import numpy as np

from vae_np._types import Array

from ..engine.functions import exp
from ..engine.vectors import sum_range
from ..reparam import log_ratio_row, sample_row
from ..runtime.compilation import njit
from .layer_rows import activation_rows, affine_rows, input_gradient_rows
from .layout import Buffers


@njit()
def density_row(
    z: Array, at_z: int, mean: Array, at_mean: int, spread: Array, at_spread: int,
    logvar: Array, at_logvar: int, eps: Array, at_eps: int,
    dmean: Array, at_dmean: int, dspread: Array, at_dspread: int, count: int, terms: Array, at: int,
) -> Any:  # fmt: skip
    """log p(z₁|z₂) − log q(z₁|x) of one row, in float64, and the first's derivatives in mean and spread. [D5] [D30]

    With r = z₁ − mean: ½ Σ (ε² + logvar − r² exp(−spread) − spread), r exp(−spread), ½ (r² exp(−spread) − 1).
    """
    half, one = z.dtype.type(0.5), z.dtype.type(1)
    place, m, s = z[at_z : at_z + count], mean[at_mean : at_mean + count], spread[at_spread : at_spread + count]
    v, e = logvar[at_logvar : at_logvar + count], eps[at_eps : at_eps + count]
    dm, ds = dmean[at_dmean : at_dmean + count], dspread[at_dspread : at_dspread + count]
    term = terms[at : at + count]
    for j in range(count):
        r = place[j] - m[j]
        dm[j] = r * exp(-s[j])
        ds[j] = half * (r * dm[j] - one)
    for j in range(count):
        noise, r = np.float64(e[j]), np.float64(place[j]) - np.float64(m[j])
        term[j] = (noise * noise - r * np.float64(dm[j])) + (np.float64(v[j]) - np.float64(s[j]))
    return 0.5 * sum_range(terms, at, count)


@njit(forceinline=True)
def forward_above(buffers: Buffers, part: int, first: int, last: int) -> None:
    """z₂ of the decoder's rows first..last−1, and their log p(z₁, z₂) − log q(z₁, z₂|x). [D58] [D59]"""
    plan, layers, work, parameters = buffers.plan[0], buffers.layers, buffers.work, buffers.parameters
    latent, top, scratch = plan.latent, plan.top_latent, plan.gemm_scratch + part * plan.gemm_scratch_size
    for number in range(plan.top, plan.top_decoder):
        affine_rows(plan, layers[number], first, last, parameters, work, scratch)
    mu, logvar, at = layers[plan.top_decoder - 2].result, layers[plan.top_decoder - 1].result, first * top
    sample_row(
        work, mu + at, work, logvar + at, work, plan.top_eps + at, work, plan.top_z + at, (last - first) * top
    )
    for number in range(plan.top_decoder, layers.size):
        affine_rows(plan, layers[number], first, last, parameters, work, scratch)
    mean, spread = layers[layers.size - 2], layers[layers.size - 1]
    below, width = layers[plan.logvar].result, max(latent, top)
    for row in range(first, last):
        example, at, at_top = row // plan.samples, row * latent, row * top
        above = log_ratio_row(
            work, logvar + at_top, work, plan.top_eps + at_top, work, plan.top_z + at_top, top,
            buffers.ratio_terms, example * width,
        )  # fmt: skip
        buffers.log_ratio[row] = above + density_row(
            work, plan.z + at, work, mean.result + at, work, spread.result + at, work, below + example * latent,
            work, plan.eps + at, work, mean.dresult + at, work, spread.dresult + at, latent,
            buffers.ratio_terms, example * width,
        )  # fmt: skip


@njit(forceinline=True)
def backward_above(buffers: Buffers, part: int, first: int, last: int) -> None:
    """Adds to dz of the decoder's rows first..last−1 what the layer above says, and leaves its layers' gradients. [D59]

    A row of the loss has −β w̃/B times its log ratio.
    """
    plan, layers, work, constants = buffers.plan[0], buffers.layers_back, buffers.work, buffers.constants[0]
    latent, top, beta = plan.latent, plan.top_latent, constants.beta_share / constants.share
    mean, spread, half = layers[layers.size - 2], layers[layers.size - 1], work.dtype.type(0.5)
    for row in range(first, last):
        pull, at = -beta * work[plan.row_share + row], row * latent
        dz = work[plan.dz + at : plan.dz + at + latent]
        dmean = work[mean.dresult + at : mean.dresult + at + latent]
        dspread = work[spread.dresult + at : spread.dresult + at + latent]
        for j in range(latent):
            dmean[j] *= pull
            dspread[j] *= pull
            dz[j] -= dmean[j]
    _network(buffers, part, plan.top_decoder, layers.size, first, last, 0)
    mu, logvar = layers[plan.top_decoder - 2], layers[plan.top_decoder - 1]
    for row in range(first, last):
        pull, at = -beta * work[plan.row_share + row], row * top
        dz, z = work[plan.top_dz + at : plan.top_dz + at + top], work[plan.top_z + at : plan.top_z + at + top]
        eps = work[plan.top_eps + at : plan.top_eps + at + top]
        dmu = work[mu.dresult + at : mu.dresult + at + top]
        dlogvar = work[logvar.dresult + at : logvar.dresult + at + top]
        v = work[logvar.result + at : logvar.result + at + top]
        for j in range(top):
            along = dz[j] - pull * z[j]
            dmu[j] = along
            dlogvar[j] = half * (along * eps[j] * exp(half * v[j]) + pull)
    _network(buffers, part, plan.top, plan.top_decoder, first, last, 1)


@njit(forceinline=True)
def _network(
    buffers: Buffers, part: int, begin: int, end: int, first: int, last: int, accumulate: int
) -> None:
    """Back through the layers begin..end−1, of which the last two are heads, to what the first of them reads. [D27]"""
    plan, layers, work, parameters = buffers.plan[0], buffers.layers_back, buffers.work, buffers.parameters
    scratch = plan.gemm_scratch + part * plan.gemm_scratch_size
    hidden = end - 2
    onto = accumulate if hidden == begin else 0
    input_gradient_rows(plan, layers[hidden], first, last, parameters, work, onto, scratch)
    input_gradient_rows(plan, layers[hidden + 1], first, last, parameters, work, 1, scratch)
    for number in range(hidden - 1, begin - 1, -1):
        activation_rows(layers[number], first, last, work)
        onto = accumulate if number == begin else 0
        input_gradient_rows(plan, layers[number], first, last, parameters, work, onto, scratch)
