"""Pictures of tables: each column of the data against the model's samples, and columns in pairs. [D66]"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from vae_np._types import Array
from vae_np.errors import InputError
from vae_np.likelihoods.columns import Columns, words
from vae_np.pictures.drawing import BLUE, ORANGE, blank_figure, head, opacity, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PER_ROW = 4
_BINS = 30
# Columns of a picture of pairs.
_MOST_PAIRED = 4
# Characters that have room under an axis, of either picture, and the longest name.
_ROOM, _PAIRED_ROOM, _LONGEST = 30, 20, 10
# Names beside an upright axis.
_MOST_UPWARD = 6
_MOST_POINTS = 2000
_LEVELS = ("categorical", "bernoulli")
_COUNTS = ("poisson", "negative-binomial", "discretized-logistic")


def marginals(data: Array, samples: Array, columns: Columns, *, title: str | None = None) -> Figure:
    """Each column by itself: shares of the data (N, D), without what is missing (NaN), beside those of samples (n, D).

    Both hold the table's own numbers. Raises InputError where they do not have the columns.
    """
    _check(data, samples, columns)
    across = min(_PER_ROW, len(columns))
    down = -(-len(columns) // across)
    figure = blank_figure(across * 320, down * 240 + (40 if title else 0))
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    axes = np.atleast_1d(figure.subplots(down, across, squeeze=False)).ravel()
    for place, (ax, column) in enumerate(zip(axes, columns, strict=False)):
        _marginal(ax, data[:, place], samples[:, place], column, _ROOM, first=place == 0)
    for ax in axes[len(columns) :]:
        ax.set_visible(False)
    return figure


def pairs(data: Array, samples: Array, columns: Columns, *, title: str | None = None) -> Figure:
    """The first four columns in pairs: below the diagonal the data, above it the samples, on it both by themselves.

    A row lies in a panel only if both of its cells were observed. The arguments are those of `marginals`.
    """
    _check(data, samples, columns)
    count = min(_MOST_PAIRED, len(columns))
    figure = blank_figure(count * 230, count * 210 + (40 if title else 0))
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    axes = figure.subplots(count, count, squeeze=False)
    random = np.random.default_rng(0)
    for row in range(count):
        for column in range(count):
            ax = axes[row, column]
            if row == column:
                _marginal(ax, data[:, row], samples[:, row], columns[row], _PAIRED_ROOM, first=row == 0)
                continue
            held, colour = (data, BLUE) if row > column else (samples, ORANGE)
            points = held[:_MOST_POINTS, [column, row]]
            points = points[~np.isnan(points).any(axis=1)]
            # Levels and counts lie on a lattice: shaken a little, so that how many there are can be seen.
            on_lattice = [columns[at][1] in (*_LEVELS, *_COUNTS) for at in (column, row)]
            shaken = points + 0.25 * random.uniform(-1, 1, points.shape) * on_lattice
            style(ax, columns[column][0] if row == count - 1 else "", columns[row][0] if column == 0 else "")
            ax.scatter(shaken[:, 0], shaken[:, 1], s=5, color=colour, alpha=opacity(len(points)), linewidths=0)
            _scale(ax, "x", data[:, column], samples[:, column], columns[column])
            _scale(ax, "y", data[:, row], samples[:, row], columns[row])
    return figure


def _scale(ax: Axes, axis: Literal["x", "y"], data: Array, samples: Array, column: Sequence[str]) -> None:
    """One range for a column in all panels of a picture of pairs, with the names of its levels."""
    low, high = _span(data, samples)
    margin = 0.05 * (high - low) + 0.3 * (column[1] in (*_LEVELS, *_COUNTS))
    ax.set(**{f"{axis}lim": (low - margin, high + margin)})
    if column[1] in _LEVELS:
        values = _lattice(data, samples)
        names = _names(column, values)
        step = _step(names, _PAIRED_ROOM) if axis == "x" else -(-len(names) // _MOST_UPWARD)
        kept = slice(None, None, step)
        ax.set(**{f"{axis}ticks": values[kept], f"{axis}ticklabels": names[kept]})


def _span(data: Array, samples: Array) -> tuple[float, float]:
    """What of a column is shown: the data's middle 99%, because a heavy tail would leave one bar."""
    own = data[~np.isnan(data)]
    low, high = np.percentile(own if len(own) else samples, [0.5, 99.5]).tolist()
    return low, high if high > low else low + 1


def _lattice(data: Array, samples: Array) -> Array:
    """The levels that data or samples have."""
    return np.unique(np.concatenate([data[~np.isnan(data)], samples]))


def _names(column: Sequence[str], values: Array) -> list[str]:
    """What stands at an axis for levels or counts: their names, cut where they are long."""
    named = words(tuple(column), values) if column[1] == "categorical" else values
    texts = [each if isinstance(each, str) else f"{each:g}" for each in named]
    return [text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…" for text in texts]


def _step(names: list[str], room: int) -> int:
    """Every which name there is room for, in characters, along an axis."""
    return next(step for step in range(1, len(names) + 1) if sum(len(name) + 2 for name in names[::step]) <= room)


def _marginal(ax: Axes, data: Array, samples: Array, column: Sequence[str], room: int, *, first: bool) -> None:
    """Bars for levels and small counts, a histogram for the rest: shares of the data, and of the samples as a line."""
    name, family, *_ = column
    style(ax, "", "share" if first else "")
    head(ax, name)
    low, high = _span(data, samples)
    data = data[~np.isnan(data)]
    if family in _LEVELS or (family in _COUNTS and high - low <= _BINS):
        values = _lattice(data, samples) if family in _LEVELS else np.arange(int(low), int(high) + 1, dtype=np.float64)
        at = np.arange(len(values))
        shares = [[float((held == value).mean()) if len(held) else 0.0 for value in values] for held in (data, samples)]
        ax.bar(at - 0.2, shares[0], width=0.4, color=BLUE, label="data")
        ax.bar(at + 0.2, shares[1], width=0.4, color=ORANGE, label="samples")
        names = _names(column, values)
        step = _step(names, room)
        ax.set_xticks(at[::step], names[::step])
    else:
        edges: Array = np.linspace(low, high, _BINS + 1)
        if family in _COUNTS:
            # Bins of equally many whole numbers each.
            width = -(-(int(high) - int(low) + 1) // _BINS)
            edges = np.arange(int(low), int(high) + width + 1, width) - 0.5
        for held, colour, label, filled in ((data, BLUE, "data", True), (samples, ORANGE, "samples", False)):
            share = np.full(len(held), 1 / max(len(held), 1))
            ax.hist(held, edges.tolist(), weights=share, color=colour, label=label, alpha=0.55 if filled else 1.0,
                    histtype="stepfilled" if filled else "step", linewidth=1.6)  # fmt: skip
    if first:
        ax.legend(fontsize=10, frameon=False)


def _check(data: Array, samples: Array, columns: Columns) -> None:
    for name, held in (("data", data), ("samples", samples)):
        if held.ndim != 2 or held.shape[1] != len(columns):
            raise InputError(f"{name}: got shape {held.shape}, expected (N, {len(columns)}), as there are columns")
