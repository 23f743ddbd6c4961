"""The chart of a benchmark: everyone's median, the quartiles on it, a panel for each thing that was timed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vae_np import backends
from vae_np.pictures import plots
from vae_np.pictures.drawing import BLUE, FRAME, GREEN, INK, MUTED, ORANGE, blank_figure, head, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_OURS = backends.NAMES[1:]
_FLOORS = ("gemm only", "triad")
_COLUMNS, _BAR = 2, 24


def figure(results: list[dict[str, Any]]) -> Figure:
    """Bars of the medians in milliseconds, `results` as in the JSON: ours, the peers, the reference, and floors."""
    titles = list(dict.fromkeys(result["what"] for result in results))
    panels = [[result for result in results if result["what"] == title] for title in titles]
    columns = min(_COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    drawn = blank_figure(520 * columns, rows * (110 + _BAR * max(map(len, panels))))
    axes = list(drawn.subplots(rows, columns, squeeze=False).flat)
    for ax, title, mine in zip(axes, titles, panels, strict=False):
        _bars(ax, f"{title}, {mine[0]['workload']}", mine)
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    return drawn


def save(results: list[dict[str, Any]], path: Path) -> None:
    """Write the chart as a PNG."""
    plots.save(figure(results), path)


def _bars(ax: Axes, title: str, results: list[dict[str, Any]]) -> None:
    head(ax, title)
    style(ax, f"milliseconds, {results[0]['threads']} threads", "")
    places = range(len(results))
    medians = [result["median_ms"] for result in results]
    spread = [[abs(result[q] - result["median_ms"]) for result in results] for q in ("q25_ms", "q75_ms")]
    ax.barh(places, medians, height=0.7, color=[_colour(result["backend"]) for result in results], zorder=2)
    ax.errorbar(medians, places, xerr=spread, fmt="none", ecolor=INK, elinewidth=1, zorder=3)
    for place, result in zip(places, results, strict=True):
        ax.annotate(
            f"{result['median_ms']:.3g}", (result["q75_ms"], place), (4, 0), textcoords="offset points",
            va="center", fontsize=8.5, color=MUTED,
        )  # fmt: skip
    ax.set_yticks(places, [result["backend"] for result in results])
    ax.invert_yaxis()
    ax.set_xlim(0, 1.15 * max(result["q75_ms"] for result in results))
    ax.grid(visible=False, axis="y")


def _colour(backend: str) -> str:
    if backend.startswith(_OURS):
        return BLUE
    if backend in _FLOORS:
        return FRAME
    return GREEN if backend == "numpy" else ORANGE
