"""Small models that several chapters share: decoders fitted to bars, xor and rings by exact maximum likelihood.

No encoder and no bound is needed for these: with one latent log p(x) and its gradient are sums over a grid. They are
cached by seed, so treat what comes back as read-only.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from vae_np import data
from vae_np._types import Array
from vae_np.architecture import Architecture
from vae_np.errors import InputError
from vae_np.exact.decoder import Decoder
from vae_np.model import initialise
from vae_np.optim import adam_update

# Beyond 6 the prior's tails weigh 2e-9.
_EDGE = 6.0


def generator(seed: int, chapter: int, *more: int) -> np.random.Generator:
    """The random numbers of a chapter, or of a part of it."""
    return np.random.Generator(np.random.PCG64([seed, chapter, *more]))


def drawn_decoder(arch: Architecture, seed: int, *, gain: float = 1.0) -> Decoder:
    """A decoder with initial parameters of `seed`, its weights and biases `gain` times as large as usual. [D40]"""
    decoder = Decoder.of(arch, initialise(arch, seed=seed, dtype=np.float64))
    for name, view in decoder.parameters.items():
        if name != "likelihood.logvar":
            view *= gain
    return decoder


def wiggly_decoder(arch: Architecture, seed: int, *, slope: float) -> Decoder:
    """A start for curves: tanh units that switch at places drawn from the prior, about `slope` steep. K = 1."""
    decoder = Decoder.of(arch, initialise(arch, seed=seed, dtype=np.float64))
    weight, bias = (decoder.parameters[f"decoder.hidden.0.{part}"] for part in ("weight", "bias"))
    random = generator(seed, 0)
    weight[...] = slope * random.standard_normal(weight.shape)
    bias[...] = -(weight * 1.2 * random.standard_normal(weight.shape))[0]
    decoder.parameters["decoder.out.weight"][...] *= 3
    return decoder


def fit_exactly(
    decoder: Decoder,
    x: Array,
    *,
    steps: int,
    lr: float,
    nodes: int,
    weights: Array | None = None,
    batch: int | None = None,
) -> list[float]:
    """Gradient ascent on the mean of log p(x_i) itself, for one latent, in place: its value before each step. [D10]

    x (N, D), `weights` (N,) that sum to one (default 1/N), `batch` rows a step, taken in turn (default all). The
    posterior on a grid of `nodes` is all that Fisher's identity asks for; Adam takes the steps, its rate falling
    linearly to zero. Too few nodes, and the decoder learns the grid instead of the data.
    """
    if decoder.latent != 1:
        raise InputError(f"latent: got {decoder.latent}, expected 1")
    x = decoder.check(x)
    everything = np.full(len(x), 1 / len(x)) if weights is None else weights
    batch = batch or len(x)
    z = np.linspace(-_EDGE, _EDGE, nodes)[:, None]
    log_spacing = math.log(2 * _EDGE / (nodes - 1))
    flat = decoder.parameters.flat
    first, second = np.zeros_like(flat), np.zeros_like(flat)
    trace = []
    for step in range(1, steps + 1):
        rows = np.arange((step - 1) * batch, step * batch) % len(x)
        share = everything[rows] * (len(x) / batch)
        log_joint = decoder.log_joint_matrix(x[rows], z) + log_spacing
        top = log_joint.max(axis=1, keepdims=True)
        mass = np.exp(log_joint - top)
        total = mass.sum(axis=1, keepdims=True)
        trace.append(float(share @ (top + np.log(total))[:, 0]))
        gradient = decoder.weighted_gradient(x[rows], z, mass * (share[:, None] / total))
        rate = lr * (1 - (step - 1) / steps)
        adam_update(flat, -gradient.flat, first, second, step=step, lr=rate)
    return trace


def distinct(x: Array) -> tuple[Array, Array]:
    """The different rows of x, (M, D), and the share of each, (M,): all that a likelihood sees of discrete data."""
    rows, counts = np.unique(x, axis=0, return_counts=True)
    return rows, counts / len(x)


@cache
def xor_decoder(seed: int) -> tuple[Decoder, Array, list[float]]:
    """A decoder with one latent fitted to 1,000 rows of xor: the decoder, the rows (N, 4), the log-likelihoods."""
    x, _ = data.xor(1000, seed)
    return _fitted(x, seed, hidden=16, steps=1000, lr=0.1)


@cache
def bars_decoder(seed: int, size: int = 2) -> tuple[Decoder, Array, list[float]]:
    """A decoder with one latent fitted to 500 images of bars: the decoder, the images (N, size²), log-likelihoods."""
    x, _ = data.bars(size, 500, seed)
    return _fitted(x, seed, hidden=16 if size == 2 else 32, steps=1500, lr=0.08)


def _fitted(x: Array, seed: int, *, hidden: int, steps: int, lr: float) -> tuple[Decoder, Array, list[float]]:
    arch = Architecture(features=x.shape[1], latent=1, hidden=(hidden,), activation="tanh")
    decoder = drawn_decoder(arch, seed)
    rows, share = distinct(x)
    return decoder, x, fit_exactly(decoder, rows, steps=steps, lr=lr, nodes=801, weights=share)


@cache
def rings_decoder(seed: int) -> tuple[Decoder, Array, list[float]]:
    """A decoder with one latent and a learned σ fitted to 2,000 points of rings: decoder, points, log-likelihoods."""
    x, _ = data.rings(2000, seed)
    arch = Architecture(features=2, latent=1, hidden=(64,), activation="tanh", likelihood="normal", sigma=0.25)
    decoder = wiggly_decoder(arch, seed, slope=16.0)
    return decoder, x, fit_exactly(decoder, x, steps=2000, lr=0.03, nodes=501, batch=200)
