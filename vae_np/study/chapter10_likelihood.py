"""Chapter 10: when an estimate of log p(x) may be believed. It has no numbered claims, but a figure and notes. [D35]"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from vae_np import VAE
from vae_np._types import Array
from vae_np.evaluation import pareto
from vae_np.evaluation.importance import Estimate, importance_log_likelihood
from vae_np.exact import quadrature
from vae_np.exact.decoder import Decoder
from vae_np.study import models, trained
from vae_np.study.claims import Claim

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "Importance sampling's own error can mislead; the weights' tail often tells."

CHAPTER = 10
TRAINED_ON, POINTS, SAMPLES = 2000, 200, 5000
# Steps of training after which the model is judged.
STEPS = (300, 1000, 3000)
SIGMA = 0.2
# An estimate is off where it is this many of its own stated errors from quadrature.
OFF = 4.0


@dataclass(frozen=True)
class Judged:
    """After `steps` of training: the model, new points (N, 2), importance sampling's estimates of their log p(x) from
    `SAMPLES` draws of q each, and quadrature's log p(x) (N,) in nats."""

    steps: int
    decoder: Decoder
    x: Array
    estimate: Estimate
    log_prob: Array

    @property
    def errors(self) -> Array:
        """How far each estimate is from quadrature, in the errors that it states, (N,)."""
        return (self.estimate.log_likelihood - self.log_prob) / self.estimate.stderr

    @property
    def off(self) -> Array:
        """Which are more than `OFF` of their errors away, (N,) bool."""
        return np.abs(self.errors) > OFF

    @property
    def flagged(self) -> Array:
        """Which k̂ warns of, (N,) bool."""
        return self.estimate.heavy(SAMPLES)


def parabola(rows: int, random: np.random.Generator) -> Array:
    """Points (rows, 2) along x₂ = x₁² − 1, x₁ ~ N(0, 1), with normal noise of 0.05 on both."""
    along = random.standard_normal(rows)
    return np.stack([along, along**2 - 1], axis=1) + 0.05 * random.standard_normal((rows, 2))


@cache
def judged(seed: int, steps: int) -> Judged:
    """A VAE with one latent and σ = 0.2 after `steps` of training, and 200 new points."""
    random = models.generator(seed, CHAPTER)
    x, new = parabola(TRAINED_ON, random), parabola(POINTS, random)
    vae = VAE(
        2, hidden=(32,), latent=1, activation="tanh", likelihood="normal-fixed", sigma=SIGMA, dtype="float64",
        backend="numpy", seed=seed,
    )  # fmt: skip
    trained.fit(vae, x, steps=steps, lr=1e-2, seed=seed)
    estimate = importance_log_likelihood(vae.model, new, np.arange(POINTS), samples=SAMPLES, seed=seed)
    decoder = Decoder.of(vae.arch, vae.parameters)
    return Judged(steps, decoder, new, estimate, quadrature.log_likelihood(decoder, new).log_prob)


def figures(seed: int) -> dict[str, Figure]:
    """Each estimate's error in its own units, against the tail's shape."""
    return {"10-stated-errors": _figure([judged(seed, steps) for steps in STEPS])}


def notes(seed: int) -> list[str]:
    """How many estimates are off, how far, and how many of them k̂ had warned of."""
    lines = []
    for steps in STEPS:
        found = judged(seed, steps)
        worst = int(np.abs(found.errors).argmax())
        nats = found.estimate.log_likelihood[worst] - found.log_prob[worst]
        lines.append(
            f"After {steps:,} steps {found.off.sum()} of {POINTS} estimates are more than {OFF:g} stated errors off, "
            f"the worst by {abs(found.errors[worst]):.1f} ({nats:+.2f} nats; effective sample size "
            f"{found.estimate.ess[worst]:,.0f} of {SAMPLES:,}); k̂ flags {found.flagged.sum()} points, "
            f"{(found.flagged & found.off).sum()} of those off."
        )
    return lines


CLAIMS: dict[int, Callable[[int], list[Claim]]] = {}


# --- the figure -----------------------------------------------------------------------------------------------------


def _figure(every: list[Judged]) -> Figure:
    from vae_np.pictures.drawing import blank_figure, head

    figure = blank_figure(1320, 430)
    axes = figure.subplots(1, len(every), sharex=True, sharey=True)
    for ax, found in zip(axes, every, strict=True):
        _draw(ax, found, first=ax is axes[0])
        head(ax, f"After {found.steps:,} steps")
    return figure


def _draw(ax: Axes, found: Judged, *, first: bool) -> None:
    from vae_np.pictures.drawing import BLUE, MUTED, ORANGE, style

    style(ax, "shape k̂ of the weights' tail", "(log p̂ − log p) / stated error" if first else "")
    shape, errors = found.estimate.tail, found.errors
    for chosen, colour, label in ((~found.off, BLUE, "within 4"), (found.off, ORANGE, "further off")):
        ax.plot(shape[chosen], errors[chosen], linestyle="none", marker="o", markersize=4, color=colour, alpha=0.6,
                markeredgewidth=0, label=f"{label}: {chosen.sum()} points")  # fmt: skip
    ax.axvline(pareto.threshold(SAMPLES), color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)), label="k̂'s threshold")
    ax.axhspan(-OFF, OFF, color=MUTED, alpha=0.12, linewidth=0)
    ax.set_yscale("symlog", linthresh=OFF)
    ax.set_ylim(-2000, 1000)
    ax.legend(loc="upper right", fontsize=10, frameon=True, framealpha=0.9, edgecolor="none")
