"""Pictures of tables: each column of the data against the model's samples, and columns in pairs. [D70]"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

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
# Columns of a picture of pairs, and levels that are named under an axis.
_MOST_PAIRED = 4
_MOST_NAMED = 5
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
        own = data[:, place]
        _marginal(ax, own[~np.isnan(own)], samples[:, place], column, first=place == 0)
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
                own = data[:, row]
                _marginal(ax, own[~np.isnan(own)], samples[:, row], columns[row], first=row == 0)
                continue
            held, colour = (data, BLUE) if row > column else (samples, ORANGE)
            points = held[:_MOST_POINTS, [column, row]]
            points = points[~np.isnan(points).any(axis=1)]
            # Levels and counts lie on a lattice: shaken a little, so that how many there are can be seen.
            on_lattice = [columns[at][1] in (*_LEVELS, *_COUNTS) for at in (column, row)]
            shaken = points + 0.25 * random.uniform(-1, 1, points.shape) * on_lattice
            style(ax, columns[column][0] if row == count - 1 else "", columns[row][0] if column == 0 else "")
            ax.scatter(shaken[:, 0], shaken[:, 1], s=5, color=colour, alpha=opacity(len(points)), linewidths=0)
    return figure


def _marginal(ax: Axes, data: Array, samples: Array, column: Sequence[str], *, first: bool) -> None:
    """Bars for levels and small counts, a histogram for the rest: shares of the data, and of the samples as a line."""
    name, family, *_ = column
    style(ax, "", "share" if first else "")
    head(ax, name)
    # A heavy tail would leave one bar: what lies beyond the data's middle 99% is left out of the picture.
    low, high = np.percentile(data if len(data) else samples, [0.5, 99.5])
    if family in _LEVELS or (family in _COUNTS and high - low <= _BINS):
        lattice = np.unique(np.concatenate([data, samples]))
        values = lattice if family in _LEVELS else np.arange(int(low), int(high) + 1, dtype=np.float64)
        at = np.arange(len(values))
        shares = [[float((held == value).mean()) if len(held) else 0.0 for value in values] for held in (data, samples)]
        ax.bar(at - 0.2, shares[0], width=0.4, color=BLUE, label="data")
        ax.bar(at + 0.2, shares[1], width=0.4, color=ORANGE, label="samples")
        shown = at[:: max(1, -(-len(at) // _MOST_NAMED))]
        named = words(tuple(column), values) if family == "categorical" else values
        ax.set_xticks(shown, [named[i] if isinstance(named[i], str) else f"{named[i]:g}" for i in shown])
    else:
        edges = np.linspace(low, high if high > low else low + 1, _BINS + 1).tolist()
        for held, colour, label, filled in ((data, BLUE, "data", True), (samples, ORANGE, "samples", False)):
            share = np.full(len(held), 1 / max(len(held), 1))
            ax.hist(held, edges, weights=share, color=colour, label=label, alpha=0.55 if filled else 1.0,
                    histtype="stepfilled" if filled else "step", linewidth=1.6)  # fmt: skip
    if first:
        ax.legend(fontsize=10, frameon=False)


def _check(data: Array, samples: Array, columns: Columns) -> None:
    for name, held in (("data", data), ("samples", samples)):
        if held.ndim != 2 or held.shape[1] != len(columns):
            raise InputError(f"{name}: got shape {held.shape}, expected (N, {len(columns)}), as there are columns")
