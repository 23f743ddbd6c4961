"""Chapter 11: what the random numbers look like. No numbered claims, but a figure and notes. [D37] [D38] [D40]"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from vae_np import noise
from vae_np._types import Array
from vae_np.architecture import Architecture
from vae_np.layers import affine_forward, relu_forward
from vae_np.model import initialise
from vae_np.study import models
from vae_np.study.claims import Claim

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "Ten rounds turn neighbouring counters into unrelated words; normals have their tails, and signals their size."

CHAPTER = 11
COUNTERS = 4000
NORMALS = 1 << 20
WIDTH, DEPTH, ROWS = 256, 12, 64


def rounds(counter: Array, key: tuple[int, int], count: int) -> Array:
    """`count` rounds of Philox4x32 on counters (N, 4), written once more from its definition; words (N, 4). [D37]"""
    words = counter.astype(np.uint64)
    low = np.uint64(0xFFFFFFFF)
    k0, k1 = key
    for _ in range(count):
        first, third = words[:, 0] * np.uint64(0xD2511F53), words[:, 2] * np.uint64(0xCD9E8D57)
        words = np.stack(
            [
                (third >> np.uint64(32)) ^ words[:, 1] ^ np.uint64(k0),
                third & low,
                (first >> np.uint64(32)) ^ words[:, 3] ^ np.uint64(k1),
                first & low,
            ],
            axis=1,
        )
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return words.astype(np.uint32)


@cache
def avalanche(seed: int) -> Array:
    """How many of the 128 bits change where one bit of the counter does, after 0 to 10 rounds: (11, N) of N counters.

    The counters are addresses as training has them, small numbers, and the bit is one that such addresses differ in.
    """
    random = models.generator(seed, CHAPTER)
    words = [random.integers(0, top, COUNTERS) for top in (196, 60_000, 10_000, 4)]
    counter = np.stack(words, axis=1).astype(np.uint32)
    flipped = counter.copy()
    word = random.integers(0, 3, COUNTERS)
    flipped[np.arange(COUNTERS), word] ^= (1 << random.integers(0, 8, COUNTERS)).astype(np.uint32)
    key = (seed % 2**32, seed // 2**32)
    return np.stack(
        [
            np.bitwise_count(rounds(counter, key, count) ^ rounds(flipped, key, count)).sum(axis=1)
            for count in range(noise.ROUNDS + 1)
        ]
    )


@cache
def normals(seed: int) -> Array:
    """The absolute values of 2²⁰ normals of the stream EPS, sorted."""
    drawn = noise.normal(np.arange(NORMALS // 64), 64, seed=seed, stream=noise.EPS)
    return np.sort(np.abs(drawn).reshape(-1))


def beyond(seed: int, t: float) -> tuple[float, float]:
    """The share of those normals beyond t on either side, and the normal distribution's."""
    return float((normals(seed) > t).mean()), math.erfc(t / math.sqrt(2))


@cache
def signal(seed: int, scheme: Literal["uniform", "glorot"], gain: float = 1.0) -> Array:
    """The mean square of the activations after each of 12 layers of 256 ReLU units, (13,), from normal inputs. [D40]"""
    arch = Architecture(features=WIDTH, latent=1, hidden=(WIDTH,) * DEPTH)
    parameters = initialise(arch, seed=seed, dtype=np.float64, scheme=scheme)
    h = models.generator(seed, CHAPTER, 1).standard_normal((ROWS, WIDTH))
    sizes = [float((h * h).mean())]
    for layer in range(DEPTH):
        weight, bias = (gain * parameters[f"encoder.hidden.{layer}.{part}"] for part in ("weight", "bias"))
        h, _ = relu_forward(affine_forward(h, weight, bias)[0])
        sizes.append(float((h * h).mean()))
    return np.array(sizes)


def figures(seed: int) -> dict[str, Figure]:
    """How a flipped bit spreads, the tails of the normals, and signals through a deep network by their weights."""
    from vae_np.pictures.drawing import blank_figure, head

    figure = blank_figure(1320, 450)
    bits, tails, sizes = figure.subplots(1, 3)
    _draw_bits(bits, seed)
    _draw_tails(tails, seed)
    _draw_sizes(sizes, seed)
    head(bits, "One bit of the counter is flipped")
    head(tails, f"{NORMALS:,} normals")
    head(sizes, "A signal through twelve layers")
    return {"11-noise": figure}


def notes(seed: int) -> list[str]:
    """Bits that change by round, tails beside the normal distribution's, and how signals shrink."""
    changed = avalanche(seed)
    mean = changed.mean(axis=1)
    three, four = beyond(seed, 3), beyond(seed, 4)
    default, glorot = signal(seed, "uniform"), signal(seed, "glorot")
    return [
        f"Bits that change of 128: {mean[1]:.1f} after one round, {mean[3]:.1f} after three, {mean[5]:.1f} after five, "
        f"{mean[10]:.2f} after ten, between {changed[10].min()} and {changed[10].max()}.",
        f"Normals beyond 3: {three[0]:.3e}, expected {three[1]:.3e}; beyond 4: {four[0]:.2e}, expected {four[1]:.2e}; "
        f"the largest: {normals(seed)[-1]:.2f}.",
        f"Mean square after {DEPTH} layers of ReLU, of the input's: {default[-1] / default[0]:.1e} by the default, "
        f"{glorot[-1] / glorot[0]:.1e} by glorot.",
    ]


CLAIMS: dict[int, Callable[[int], list[Claim]]] = {}


# --- the figure -----------------------------------------------------------------------------------------------------


def _draw_bits(ax: Axes, seed: int) -> None:
    from vae_np.pictures.drawing import BLUE, MUTED, legend, style

    style(ax, "rounds of Philox", "bits that change, of 128")
    changed = avalanche(seed)
    count = np.arange(len(changed))
    ax.fill_between(count, changed.min(axis=1), changed.max(axis=1), color=BLUE, alpha=0.15, linewidth=0,
                    label=f"least and most of {COUNTERS:,}")  # fmt: skip
    ax.plot(count, changed.mean(axis=1), color=BLUE, linewidth=1.8, marker="o", markersize=5, label="their mean")
    ax.axhline(64, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)), label="half of them: unrelated words")
    ax.set(xlim=(0, 10), ylim=(0, 130))
    legend(ax)


def _draw_tails(ax: Axes, seed: int) -> None:
    from vae_np.pictures.drawing import BLUE, MUTED, legend, style

    style(ax, "t", "share of |ε| beyond t")
    ordered = normals(seed)
    # Every value among the largest, and some of all the others.
    last = len(ordered) - 1
    kept = np.unique(np.concatenate([np.linspace(0, last, 400).astype(int), last - np.arange(50)]))
    ax.plot(ordered[kept], (len(ordered) - kept) / len(ordered), color=BLUE, linestyle="none", marker="o",
            markersize=3.5, label="as drawn")  # fmt: skip
    t = np.linspace(0, 5.4, 200)
    ax.plot(t, [math.erfc(each / math.sqrt(2)) for each in t], color=MUTED, linewidth=1.3, label="normal distribution")
    ax.set(yscale="log", xlim=(0, 5.4))
    legend(ax)


def _draw_sizes(ax: Axes, seed: int) -> None:
    from vae_np.pictures.drawing import BLUE, GREEN, ORANGE, TEN, legend, style

    style(ax, "layer", "mean square, of the input's")
    drawn: tuple[tuple[Literal["uniform", "glorot"], float, str, str], ...] = (
        ("uniform", 1.0, BLUE, "default: variance 1/(3n)"),
        ("glorot", 1.0, GREEN, "glorot: 1/n"),
        ("glorot", math.sqrt(2), TEN[4], "2/n"),
        ("glorot", 2.0, ORANGE, "4/n"),
    )
    for scheme, gain, colour, label in drawn:
        sizes = signal(seed, scheme, gain)
        ax.plot(sizes / sizes[0], color=colour, linewidth=1.6, marker="o", markersize=4, label=label)
    ax.set(yscale="log", ylim=(3e-5, 1e9))
    legend(ax)
