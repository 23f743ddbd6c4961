"""The roofline of a profile: what each phase reaches, by operations per byte, below what the processor can do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vae_np.pictures import plots
from vae_np.pictures.drawing import BLUE, FRAME, INK, MUTED, blank_figure, head, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_INTENSITIES = np.logspace(-2, 3, 200)


def figure(profile: dict[str, Any]) -> Figure:
    """Roofs of all threads together, and a point for each phase that computes and moves something."""
    drawn = blank_figure(760, 460)
    ax = drawn.subplots()
    head(ax, f"A step of {profile['workload']}: each phase below its roof")
    style(ax, "floating-point operations per byte", "GFLOP/s, all threads")
    peak = profile["peaks"]["fma_gflops"]
    for size, rate in profile["peaks"]["triad_gb_s"].items():
        ax.plot(_INTENSITIES, np.minimum(peak, rate * _INTENSITIES), color=FRAME, lw=1.2, zorder=1)
        ax.annotate(f"triad of {size}, {rate:.0f} GB/s", (0.012, 0.012 * rate), (0, 3), textcoords="offset points",
                    fontsize=7.5, color=MUTED, rotation=32)  # fmt: skip
    ax.annotate(f"multiply-adds, {peak:.0f} GFLOP/s", (900, peak), (0, 4), textcoords="offset points", ha="right",
                fontsize=8.5, color=MUTED)  # fmt: skip
    for one in profile["phases"]:
        if one["flop"] and one["bytes"]:
            place = one["flop"] / one["bytes"], profile["threads"] * 1e-6 * one["flop"] / one["ms"]
            ax.plot(*place, "o", color=BLUE, zorder=3)
            ax.annotate(f"{one['phase']}, {one['percent']:.0f}%", place, (7, -3), textcoords="offset points",
                        fontsize=8.5, color=INK)  # fmt: skip
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(0.01, 1000)
    ax.set_ylim(0.1, 3 * peak)
    return drawn


def save(profile: dict[str, Any], path: Path) -> None:
    """Write it as a PNG."""
    plots.save(figure(profile), path)
