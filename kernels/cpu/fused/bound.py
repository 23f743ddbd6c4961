"""IWAE's bound: each sample's share of the gradient, and which samples have one that counts. [D41] [D42]"""

from __future__ import annotations

import math

import numpy as np

from vae_np._types import Array

from ..reparam import log_ratio_row
from ..runtime.compilation import njit
from .layout import Buffers


@njit()
def least_share(itemsize: int, samples: int) -> float:
    """The normalised weight below which a sample's gradient is left out: all of those change less than rounding. [D42]

    With p bits of mantissa it is 2^−(p+10)/K, so that what K samples leave out of an example adds up to less than
    2^−(p+10) of it, where rounding one gradient alone may change 2^−p.
    """
    return 2.0 ** (-34 if itemsize == 4 else -63) / samples


@njit()
def rows_kept(kept: Array, first: int, last: int) -> int:
    """How many samples of the examples first..last−1 are kept.

    A loop, since Numba's own sum would have a process that only loads this code import SciPy.
    """
    total = 0
    for i in range(first, last):
        total += kept[i]
    return total


@njit(forceinline=True)
def weigh_samples(buffers: Buffers, first: int, last: int) -> None:
    """IWAE's bound of each example, and each sample's w̃/B, from log w = log p(x|z) + β log p(z)/q(z|x). [D34] [D41]

    A share below `least_share` counts as 0, and the backward pass leaves that sample out; with two stochastic layers,
    whose log ratio was computed with z₂, it takes all. [D59]
    """
    plan, constants, work = buffers.plan[0], buffers.constants[0], buffers.work
    samples, latent = plan.samples, plan.latent
    logvar, least = buffers.layers[plan.logvar].result, least_share(work.itemsize, samples)
    share, beta = np.float64(constants.share), np.float64(constants.beta_share) / np.float64(constants.share)
    for i in range(first, last):
        log_w = buffers.log_w[i * samples : (i + 1) * samples]
        if plan.top != 0:
            kl = 0.0
            for k in range(samples):
                log_w[k] += beta * buffers.log_ratio[i * samples + k]
                kl -= buffers.log_ratio[i * samples + k]
            buffers.kl[i] = kl / samples
        else:
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
        buffers.kept[i] = 0
        for k in range(samples):
            weight = log_w[k] / total
            # A NaN is not below: it is kept.
            is_kept = plan.top != 0 or not weight < least
            work[plan.row_share + i * samples + k] = work.dtype.type(share * weight) if is_kept else 0
            buffers.kept[i] += is_kept


@njit(forceinline=True)
def weigh_rows(buffers: Buffers, first: int, last: int) -> None:
    """The output's gradient of the decoder's rows first..last−1 times their shares, where it lies. [D42]"""
    plan, work, layer = buffers.plan[0], buffers.work, buffers.layers_back[buffers.plan[0].output]
    for row in range(first, last):
        share = work[plan.row_share + row]
        gradient = work[layer.dresult + row * layer.ld : layer.dresult + row * layer.ld + layer.outputs]
        for j in range(layer.outputs):
            gradient[j] *= share


@njit(forceinline=True)
def keep_rows(buffers: Buffers, first: int, last: int, row: int) -> None:
    """What the backward pass needs of the samples with a share, one after the other from row `row` on. [D42]

    That is z, ε, the hidden layers, and the output's gradient times w̃/B.
    """
    plan, work, samples, latent = buffers.plan[0], buffers.work, buffers.plan[0].samples, buffers.plan[0].latent
    for sample in range(first * samples, last * samples):
        share = work[plan.row_share + sample]
        if share == 0:
            continue
        work[plan.kept_share + row] = share
        copy_entries(work, plan.z + sample * latent, plan.kept_z + row * latent, latent)
        copy_entries(work, plan.eps + sample * latent, plan.kept_eps + row * latent, latent)
        for number in range(plan.decoder, plan.output):
            layer = buffers.layers[number]
            target = buffers.layers_back[number].result + row * layer.ld
            copy_entries(work, layer.result + sample * layer.ld, target, layer.outputs)
        layer = buffers.layers[plan.output]
        from_row, to_row = layer.result + sample * layer.ld, buffers.layers_back[plan.output].dresult + row * layer.ld
        unweighed, gradient = work[from_row : from_row + layer.outputs], work[to_row : to_row + layer.outputs]
        for j in range(layer.outputs):
            gradient[j] = share * unweighed[j]
        row += 1


@njit()
def copy_entries(work: Array, source: int, target: int, count: int) -> None:
    """`count` entries of the workspace to another place in it."""
    given, out = work[source : source + count], work[target : target + count]
    for j in range(count):
        out[j] = given[j]
