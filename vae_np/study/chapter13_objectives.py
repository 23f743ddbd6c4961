"""Chapter 13: bounds of several samples, and the noise of their gradients. No numbered claims, but a figure and notes.
[D41] [D43] [D44]
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from vae_np import ops
from vae_np._types import Array
from vae_np.architecture import Architecture
from vae_np.evaluation.importance import log_weights
from vae_np.exact import quadrature
from vae_np.exact.decoder import Decoder
from vae_np.exact.linear_gaussian import LinearGaussian, to_parameters
from vae_np.model import Model
from vae_np.objectives import objective_backward, objective_forward
from vae_np.study import models
from vae_np.study.claims import Claim

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "The bound rises with the samples; sticking the landing has no variance where q is the posterior."

CHAPTER = 13
# The decoder and the first x of the chapter's explorable.
PIXELS = Architecture(features=5, latent=1, hidden=(6,), activation="tanh")
X = np.array([[1.0, 1.0, 0.0, 0.0, 1.0]])
SAMPLES = 2 ** np.arange(8)
# Weights that are drawn; the bound of 128 samples has a 128th as many repeats.
WEIGHTS = 128 * 2000
# How far log σ² of q is from the posterior's, and how many samples, where the gradients' noise is measured.
OFFSETS, COUNTS = np.linspace(-1.5, 1.5, 13), (1, 2, 4, 8, 16, 32, 64)
OFF = 0.7
# Batches of so many copies of x: their means give a draw's mean and variance, in fewer calls than single draws.
BATCHES, COPIES = 100, 100


@dataclass(frozen=True)
class Bounds:
    """L_S of one q for each of `SAMPLES`, its standard error, and χ² of the weights by quadrature (inf where it is)."""

    mu: float
    sigma: float
    mean: Array
    stderr: Array
    chi_squared: float


@cache
def posterior() -> quadrature.GridPosterior:
    """p(z|x) and log p(x) of the x above, by quadrature."""
    return quadrature.posterior(_pixels(), X, rule="trapezoid")


@cache
def _pixels() -> Decoder:
    return models.drawn_decoder(PIXELS, 0, gain=3)


def proposals() -> dict[str, tuple[float, float]]:
    """μ and σ of each q by its name: the prior, the posterior's own moments, and the same mean with a smaller σ."""
    mean = float(posterior().mean()[0, 0])
    sigma = math.sqrt(float(posterior().covariance()[0, 0, 0]))
    return {"q = prior": (0.0, 1.0), "the posterior's moments": (mean, sigma), "half as wide": (mean, sigma / 2)}


@cache
def bounds(seed: int, name: str) -> Bounds:
    """The bounds of a q from independent repeats, and what the theory needs to predict them."""
    mu, sigma = proposals()[name]
    random = models.generator(seed, CHAPTER)
    eps = random.standard_normal((WEIGHTS, 1))
    weights = log_weights(_pixels().model, X, np.array([[mu]]), np.array([[2 * math.log(sigma)]]), eps)[:, 0]
    mean, stderr = [], []
    for samples in SAMPLES:
        each = ops.log_mean_exp_weights(weights[: len(weights) // samples * samples].reshape(-1, samples).T)[0]
        mean.append(each.mean())
        stderr.append(each.std(ddof=1) / math.sqrt(len(each)))
    return Bounds(mu, sigma, np.array(mean), np.array(stderr), _chi_squared(mu, sigma))


def _chi_squared(mu: float, sigma: float) -> float:
    """∫ p(z|x)² / q(z) dz − 1 on the posterior's own grid, whose weights are p(z|x) times the spacing. [D34]

    The decoder's tanh is bounded, so far out p(z|x) falls like the prior, and p²/q does not fall unless 2σ² > 1.
    """
    if 2 * sigma * sigma <= 1:
        return math.inf
    z, weights = posterior().nodes[:, 0], posterior().weights[0]
    spacing = z[1] - z[0]
    log_q = -0.5 * ((z - mu) / sigma) ** 2 - math.log(sigma * math.sqrt(2 * math.pi))
    return float((weights * weights * np.exp(-log_q)).sum() / spacing - 1)


@cache
def linear() -> tuple[Model, Array]:
    """A linear-Gaussian VAE of one latent, whose encoder is its posterior, and one x (1, 3)."""
    model = LinearGaussian(np.array([[1.0], [-0.5], [0.8]]), np.zeros(3), 0.5)
    arch, parameters = to_parameters(model)
    return Model(ops, arch, parameters), np.array([[1.0, -0.3, 0.4]])


@cache
def gradient(seed: int, objective: str, samples: int, off: float, shift: float = 0.0) -> tuple[float, float]:
    """Mean and variance of one draw of the gradient in q's μ, q's log σ² being `off` from the posterior's, μ `shift`.

    The gradient of a batch of copies of x is the mean of as many draws, so its variance is that much smaller.
    """
    (_, arch, exact), x = linear()
    parameters = exact.astype(np.float64)
    parameters["encoder.logvar.bias"][...] += off
    parameters["encoder.mu.bias"][...] += shift
    copies, random = np.repeat(x, COPIES, axis=0), models.generator(seed, CHAPTER, 1)
    found, into = np.empty(BATCHES), parameters.zeros_like()
    for batch in range(BATCHES):
        eps = random.standard_normal((samples * COPIES, 1))
        _, kept = objective_forward(ops, arch, parameters, copies, eps, objective=objective)
        objective_backward(ops, arch, kept, into)
        found[batch] = into["encoder.mu.bias"][0]
    return float(found.mean()), COPIES * float(found.var(ddof=1))


def variance(seed: int, objective: str, off: float) -> float:
    """The variance of one draw's gradient in μ, with a single sample."""
    return gradient(seed, objective, 1, off)[1]


def signal_to_noise(seed: int, objective: str, samples: int) -> float:
    """|mean| over standard deviation of one draw's gradient in μ, away from the posterior."""
    mean, spread = gradient(seed, objective, samples, OFF, OFF)
    return abs(mean) / math.sqrt(spread)


def figures(seed: int) -> dict[str, Figure]:
    """L_S rising with S for three q, the variance of three gradients near the posterior, and signal to noise by S."""
    from vae_np.pictures.drawing import blank_figure, head

    figure = blank_figure(1320, 460)
    rising, noise, signal = figure.subplots(1, 3, width_ratios=(1.25, 1, 1))
    _draw_bounds(rising, seed)
    _draw_variances(noise, seed)
    _draw_signal(signal, seed)
    head(rising, "The bound rises with the samples")
    head(noise, "Noise near the posterior")
    head(signal, "Signal to noise, away from it")
    return {"13-bounds-and-gradients": figure}


def notes(seed: int) -> list[str]:
    """The gap of one and of 128 samples beside χ²/2S, and variances at the posterior."""
    top, lines = float(posterior().log_prob[0]), []
    for name in proposals():
        found = bounds(seed, name)
        gap = top - found.mean
        lines.append(
            f"{name}: log p(x) − L_S is {gap[0]:.3f} for one sample, {gap[4]:.4f} for 16 and {gap[-1]:.4f} for "
            f"{SAMPLES[-1]}, where "
            + (f"χ²/2S says {found.chi_squared / (2 * SAMPLES[-1]):.4f}." if math.isfinite(found.chi_squared) else
               "the weights have no variance.")
        )
    at = {objective: variance(seed, objective, 0.0) for objective in ("iwae", "stl")}
    ratio = {
        objective: signal_to_noise(seed, objective, 64) / signal_to_noise(seed, objective, 1)
        for objective in ("iwae", "dreg")
    }
    return [
        *lines,
        f"Where q is the posterior, the variance of the gradient in μ is {at['iwae']:.3f} with the score and "
        f"{at['stl']:.1e} without it.",
        f"From 1 to 64 samples the gradient's signal over its noise changes by a factor of {ratio['iwae']:.2f} for the "
        f"standard gradient and {ratio['dreg']:.1f} for the doubly reparameterised one.",
    ]


CLAIMS: dict[int, Callable[[int], list[Claim]]] = {}


# --- the figure -----------------------------------------------------------------------------------------------------


def _draw_bounds(ax: Axes, seed: int) -> None:
    from vae_np.pictures.drawing import BLUE, GREEN, INK, MUTED, ORANGE, style

    style(ax, "samples S", "L_S (nats)")
    top = float(posterior().log_prob[0])
    for name, colour, marker in zip(proposals(), (BLUE, GREEN, ORANGE), ("o", "s", "D"), strict=True):
        found = bounds(seed, name)
        ax.errorbar(SAMPLES, found.mean, 2 * found.stderr, color=colour, marker=marker, markersize=5, linewidth=1.6,
                    label=f"{name}, σ = {found.sigma:.2f}")  # fmt: skip
        if math.isfinite(found.chi_squared):
            ax.plot(SAMPLES[1:], top - found.chi_squared / (2 * SAMPLES[1:]), color=MUTED, linewidth=1.1,
                    linestyle=(0, (4, 3)), label="log p(x) − χ²/2S" if marker == "o" else None)  # fmt: skip
    ax.axhline(top, color=INK, linewidth=1.3, label="log p(x)")
    ax.set_xscale("log", base=2)
    ax.set_xticks(SAMPLES, [str(samples) for samples in SAMPLES])
    low = min(bounds(seed, name).mean[0] for name in proposals())
    ax.set_ylim(low - 0.9 * (top - low), top + 0.08 * (top - low))
    ax.legend(loc="lower right", fontsize=10, frameon=True, framealpha=0.9, edgecolor="none")


def _draw_variances(ax: Axes, seed: int) -> None:
    from vae_np.pictures.drawing import BLUE, GREEN, ORANGE, legend, style

    style(ax, "log σ² of q, less the posterior's", "variance of one draw's ∂/∂μ")
    for objective, colour, marker, label in (
        ("iwae", ORANGE, "D", "with the score"),
        ("elbo", GREEN, "s", "KL in closed form"),
        ("stl", BLUE, "o", "sticking the landing"),
    ):
        found = [max(variance(seed, objective, float(off)), 1e-7) for off in OFFSETS]
        ax.plot(OFFSETS, found, color=colour, linewidth=1.6, marker=marker, markersize=5, label=label)
    ax.set(yscale="log", ylim=(3e-8, 1e7))
    ax.text(0, 4e-8, "zero", ha="center", va="bottom", fontsize=10)
    legend(ax)


def _draw_signal(ax: Axes, seed: int) -> None:
    from vae_np.pictures.drawing import BLUE, GREEN, ORANGE, legend, style

    style(ax, "samples S", "|mean| / standard deviation of ∂/∂μ")
    for objective, colour, marker, label in (
        ("dreg", BLUE, "o", "doubly reparameterised"),
        ("stl", GREEN, "s", "sticking the landing (biased)"),
        ("iwae", ORANGE, "D", "standard"),
    ):
        found = [signal_to_noise(seed, objective, samples) for samples in COUNTS]
        ax.plot(COUNTS, found, color=colour, linewidth=1.6, marker=marker, markersize=5, label=label)
    ax.set_xscale("log", base=2)
    ax.set(yscale="log", ylim=(0.08, 200))
    ax.set_xticks(COUNTS, [str(samples) for samples in COUNTS])
    legend(ax)
