"""Chapter 9: the paths of three optimisers down a ravine. It has no numbered claims, but a figure and notes. [D31]"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from vae_np._types import Array
from vae_np.optim import adagrad_update, adam_update
from vae_np.study.claims import Claim

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "Adam gives each coordinate its own scale, which helps where the ravine lies along them."

# The loss is half the sum of these times the squares of the coordinates: a ravine a hundred times as steep as long.
CURVATURE = np.array([1.0, 100.0])
START = np.array([-4.0, 1.0])
STEPS = 1000
# Just below 2 / 100, beyond which plain descent runs away; the two others' rates suit a start four units away.
PLAIN_RATE, ADAM_RATE, ADAGRAD_RATE = 0.019, 0.1, 0.6
# Solved once the loss is this share of what it was.
SOLVED = 1e-6


def turned(angle: float) -> Array:
    """The loss's matrix (2, 2) with the ravine turned by an angle, in degrees."""
    c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    rotation = np.array([[c, -s], [s, c]])
    return rotation @ np.diag(CURVATURE) @ rotation.T


def loss(matrix: Array, theta: Array) -> Array:
    """½ θᵀ A θ of each row of theta (..., 2)."""
    return 0.5 * ((theta @ matrix) * theta).sum(axis=-1)


def path(method: str, angle: float = 0.0, *, steps: int = STEPS) -> Array:
    """Where an optimiser is before the first step and after each, (steps + 1, 2), with the start turned as well."""
    matrix = turned(angle)
    c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    theta = np.array([[c, -s], [s, c]]) @ START
    first, second, places = np.zeros(2), np.zeros(2), [theta.copy()]
    for step in range(1, steps + 1):
        gradient = matrix @ theta
        if method == "adam":
            adam_update(theta, gradient, first, second, step=step, lr=ADAM_RATE)
        elif method == "adagrad":
            adagrad_update(theta, gradient, second, lr=ADAGRAD_RATE)
        else:
            theta -= PLAIN_RATE * gradient
        places.append(theta.copy())
    return np.array(places)


def steps_needed(method: str, angle: float = 0.0) -> int | None:
    """The first step after which the loss stays below `SOLVED` of its start; None where it does not get there."""
    values = loss(turned(angle), path(method, angle))
    above = np.flatnonzero(values > SOLVED * values[0])
    return None if above[-1] == STEPS else int(above[-1]) + 1


def step_lengths(*, corrected: bool, steps: int) -> Array:
    """The lengths of Adam's first steps, in learning rates, while the gradient stays the same."""
    theta, first, second, lengths = np.zeros(1), np.zeros(1), np.zeros(1), []
    for step in range(1, steps + 1):
        before = theta[0]
        # At a step as late as this the corrections are 1, as if there were none.
        adam_update(theta, np.ones(1), first, second, step=step if corrected else 10**9, lr=1.0)
        lengths.append(before - theta[0])
    return np.array(lengths)


def figures(seed: int) -> dict[str, Figure]:
    """The paths, the loss along them for two directions of the ravine, and the first steps without bias correction."""
    from vae_np.pictures.drawing import blank_figure, head

    figure = blank_figure(1320, 450)
    paths, losses, lengths = figure.subplots(1, 3, width_ratios=(1.2, 1, 1))
    _draw_paths(paths)
    _draw_losses(losses)
    _draw_lengths(lengths)
    head(paths, "Forty steps down a ravine")
    head(losses, "The loss along the way")
    head(lengths, "Steps at a constant gradient")
    return {"09-paths": figure}


def notes(seed: int) -> list[str]:
    """Steps to the bottom for each optimiser, along the axes and across them, and the first step's length."""

    def said(method: str, angle: float) -> str:
        needed = steps_needed(method, angle)
        return f"more than {STEPS}" if needed is None else str(needed)

    words = "; ".join(
        f"{label} {said(method, 0)}, turned by 45° {said(method, 45)}"
        for method, label in (("plain", "plain descent"), ("adagrad", "Adagrad"), ("adam", "Adam"))
    )
    lengths = step_lengths(corrected=False, steps=1000)
    return [
        f"Steps until the loss is a millionth: {words}.",
        f"Without bias correction Adam's first step is {lengths[0]:.2f} learning rates long, and its longest, number "
        f"{lengths.argmax() + 1}, {lengths.max():.2f}.",
    ]


CLAIMS: dict[int, Callable[[int], list[Claim]]] = {}


# --- the figure -----------------------------------------------------------------------------------------------------


def _looks() -> tuple[tuple[str, str, str], ...]:
    from vae_np.pictures.drawing import BLUE, GREEN, ORANGE

    return (("plain", ORANGE, "plain descent"), ("adagrad", GREEN, "Adagrad"), ("adam", BLUE, "Adam"))


def _draw_paths(ax: Axes) -> None:
    from vae_np.pictures.drawing import INK, legend, style

    style(ax, "θ₁", "θ₂")
    across, up = np.linspace(-4.6, 1.4, 121), np.linspace(-1.25, 1.6, 121)
    values = loss(turned(0), np.stack(np.meshgrid(across, up), axis=-1))
    ax.contour(across, up, values, levels=np.geomspace(0.05, 120, 9), colors="#c5ccd4", linewidths=0.9)
    for method, colour, label in _looks():
        places = path(method, steps=40)
        ax.plot(*places.T, color=colour, linewidth=1.4, marker="o", markersize=3, label=label)
    ax.plot(0, 0, color=INK, marker="*", markersize=11, linestyle="none", label="the minimum")
    ax.set(xlim=(-4.6, 1.4), ylim=(-1.25, 1.6))
    legend(ax)


def _draw_losses(ax: Axes) -> None:
    from vae_np.pictures.drawing import INK, style

    style(ax, "step", "loss, of its start")
    for method, colour, _ in _looks():
        for angle, line in ((0, "-"), (45, (0, (3, 2)))):
            values = loss(turned(angle), path(method, angle))
            ax.plot(np.maximum(values / values[0], 1e-13), color=colour, linewidth=1.5, linestyle=line)
    ax.plot([], [], color=INK, label="along the axes")
    ax.plot([], [], color=INK, linestyle=(0, (3, 2)), label="turned by 45°")
    ax.set(yscale="log", ylim=(1e-12, 1e3))
    ax.legend(loc="upper right", fontsize=10, frameon=True, framealpha=0.9, edgecolor="none")


def _draw_lengths(ax: Axes) -> None:
    from vae_np.pictures.drawing import BLUE, ORANGE, legend, style

    style(ax, "step", "length, in learning rates")
    for corrected, colour, label in ((False, ORANGE, "without bias correction"), (True, BLUE, "Adam")):
        lengths = step_lengths(corrected=corrected, steps=2000)
        ax.plot(np.arange(1, len(lengths) + 1), lengths, color=colour, linewidth=1.6, label=label)
    ax.set(xscale="log", ylim=(0, 9))
    legend(ax)
