"""Pictures of data, samples, latent spaces and training: each function returns a Figure and never shows it.

matplotlib is imported when the first picture is made and not before, figures are built without pyplot, and no global
setting is changed. In images each data pixel takes a whole number of screen pixels, so that nothing is blurred; their
values are grey levels, 0 black and 1 white.

Rows whose features form no image (`image_shape` is None) are drawn as a heat map that says so, or, where they
are points of the plane (D == 2), as a scatter.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from vae_np import storage
from vae_np._types import Array
from vae_np.errors import InputError
from vae_np.pictures.drawing import (
    BAND_GAP,
    BLUE,
    FRAME,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    TEN,
    ImageShape,
    apart,
    beneath,
    blank_figure,
    chart,
    check_rows,
    grid_columns,
    heat_map_figure,
    legend,
    mosaic,
    mosaic_figure,
    number,
    opacity,
    plane,
    style,
    style_bar,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SPLITS = (("train", BLUE, ""), ("validation", ORANGE, "o"), ("test", GREEN, "D"))
# Dots that an SVG draws one by one.
_CROWD = 1000
_PANELS = (("elbo", "ELBO"), ("reconstruction", "Reconstruction"), ("kl", "KL"))


def image_grid(
    images: Array,
    image_shape: ImageShape | None,
    *,
    columns: int | None = None,
    title: str | None = None,
    data: Array | None = None,
) -> Figure:
    """Draw rows as a grid of grey images, or as a scatter (D == 2) or a heat map where they form none.

    images (n, D), grey levels in [0, 1] (values outside are clipped) where `image_shape` = (H, W), H·W = D;
    any values where it is None. `columns` is the number of images in a row; `data` (m, 2) lie below a scatter.
    Raises `InputError` on other shapes.
    """
    images = check_rows("images", images, image_shape)
    if image_shape is not None:
        columns = grid_columns(len(images), 1, columns)
        return mosaic_figure(mosaic(images, image_shape, columns), title)[0]
    if images.shape[1] == 2:
        figure, ax = chart(600, 600, title)
        plane(ax)
        beneath(ax, data)
        ax.scatter(images[:, 0], images[:, 1], s=9, color=BLUE, alpha=opacity(len(images)), linewidths=0,
                   label="drawn by the model")  # fmt: skip
        if data is not None:
            legend(ax)
        return figure
    return heat_map_figure([("", images)], title)


def samples(
    images: Array,
    image_shape: ImageShape | None,
    *,
    columns: int | None = None,
    title: str | None = "Samples from the model",
    data: Array | None = None,
) -> Figure:
    """Draw the model's samples, images (n, D): `image_grid` under its usual title."""
    return image_grid(images, image_shape, columns=columns, title=title, data=data)


def reconstructions(
    originals: Array,
    reconstructed: Array,
    image_shape: ImageShape | None,
    *,
    columns: int | None = None,
    title: str | None = "Reconstructions",
) -> Figure:
    """Draw each example above its reconstruction; points of the plane are joined by a line.

    originals and reconstructed (n, D), grey levels in [0, 1] where `image_shape` is given. Without it and
    with D other than 2, two heat maps with common colours. `columns` is the number of images in a row. Raises
    `InputError` on other or unequal shapes.
    """
    originals = check_rows("originals", originals, image_shape)
    reconstructed = check_rows("reconstructed", reconstructed, image_shape)
    if originals.shape != reconstructed.shape:
        raise InputError(f"reconstructed: got shape {reconstructed.shape}, expected {originals.shape}, as originals")
    n, width = originals.shape
    if image_shape is None and width == 2:
        return _joined_points(originals, reconstructed, title)
    if image_shape is None:
        return heat_map_figure([("Originals", originals), ("Reconstructions", reconstructed)], title)
    columns = grid_columns(n, 2, columns)
    bands = math.ceil(n / columns)
    padded = np.full((2, bands * columns, width), np.nan)
    padded[:, :n] = originals, reconstructed
    pairs = padded.reshape(2, bands, columns, width).swapaxes(0, 1)
    canvas = mosaic(pairs.reshape(-1, width), image_shape, columns, band=2)
    figure, ax = mosaic_figure(canvas, title, left=104)
    step = (canvas.shape[0] + BAND_GAP) / bands
    for band in range(bands):
        for row, label in enumerate(("original", "reconstruction")):
            y = step * band + (step - BAND_GAP) * (0.25 + 0.5 * row)
            ax.text(-8, y, label, ha="right", va="center", fontsize=10, color=MUTED)
    return figure


def curves(metrics: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw ELBO, reconstruction and KL (nats) against the step, for every split, and β where it varies.

    metrics: the lines of `metrics.jsonl`, with keys step, split ('train', 'validation' or 'test'), elbo,
    reconstruction, kl, beta; None, a missing key or a non-finite number leaves a gap. The limits follow the
    later nine tenths of the run where its first steps would squash the rest.
    """
    from matplotlib.ticker import MaxNLocator

    figure = blank_figure(1080, 400)
    figure.suptitle("Training", x=10 / 1080, ha="left", fontsize=12, fontweight="bold", color=INK)
    axes = figure.subplots(1, 3)
    lines: dict[str, Any] = {}
    for ax, (key, name) in zip(axes, _PANELS, strict=True):
        style(ax, "step", f"{name} (nats)")
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        drawn = []
        for split, colour, marker in _SPLITS:
            steps, values = _series(metrics, split, key)
            if not np.isfinite(values).any():
                continue
            drawn.append((steps, values))
            marker = marker or ("o" if len(values) < 3 else "")
            (lines[split],) = ax.plot(
                steps, values, color=colour, marker=marker, markersize=4.5 if split != "test" else 6.5,
                markeredgecolor="white", markeredgewidth=0.7, linewidth=1.6 if split == "validation" else 1.2,
                linestyle="none" if split == "test" else "-", label=split,
            )  # fmt: skip
            last = values[np.isfinite(values)][-1]
            ax.set_title(f"{split} {number(last)}", loc="right", fontsize=10, color=colour)
        limits = _curve_limits(drawn)
        if limits is None:
            ax.set(xticks=[], yticks=[])
            ax.text(0.5, 0.5, "no values", transform=ax.transAxes, ha="center", color=MUTED, fontsize=10)
        else:
            ax.set_ylim(*limits)
    beta_steps, betas = _series(metrics, "train", "beta")
    if np.unique(betas[np.isfinite(betas)]).size > 1:
        lines["β (right axis)"] = _beta_axis(axes[2], beta_steps, betas)
    if lines:
        figure.legend(
            list(lines.values()), list(lines), loc="outside upper right", ncols=len(lines), frameon=False,
            fontsize=10, labelcolor=INK,
        )  # fmt: skip
    return figure


def interpolations(
    decoded: Array,
    image_shape: ImageShape | None,
    *,
    title: str | None = "Interpolations in latent space",
    data: Array | None = None,
) -> Figure:
    """Draw paths through latent space, one per row, from left to right.

    decoded (rows, steps, D), grey levels in [0, 1] where `image_shape` is given. Without it, points of the
    plane (D == 2) are joined along each path, over `data` (m, 2) where they are given, and other rows become a heat
    map. Raises `InputError` on other shapes.
    """
    decoded = np.asarray(decoded)
    if decoded.ndim != 3 or 0 in decoded.shape:
        raise InputError(f"decoded: got shape {decoded.shape}, expected (rows, steps, D), each at least 1")
    rows, steps, width = decoded.shape
    flat = check_rows("decoded", decoded.reshape(rows * steps, width), image_shape)
    if image_shape is not None:
        return mosaic_figure(mosaic(flat, image_shape, steps, band=1), title)[0]
    if width == 2:
        figure, ax = chart(600, 600, title)
        plane(ax)
        beneath(ax, data)
        for row in range(rows):
            colour = TEN[row % len(TEN)]
            ax.plot(*decoded[row].T, color=colour, linewidth=1.2, marker="o", markersize=3)
            ax.plot(*decoded[row, -1], color=colour, marker="s", markersize=6)
        ax.plot([], [], color=MUTED, marker="s", linestyle="none", label="end of a path")
        legend(ax)
        return figure
    spaced = np.full((rows, steps + 1, width), np.nan)
    spaced[:, :steps] = decoded
    figure = heat_map_figure([("", spaced.reshape(-1, width)[:-1])], title)
    ax = figure.axes[0]
    ax.set_ylabel("path, its steps downwards")
    ax.set_yticks((steps + 1) * np.arange(rows) + (steps - 1) / 2, [str(row + 1) for row in range(rows)])
    return figure


def manifold_grid(n: int, extent: tuple[float, float] | None = None) -> Array:
    """A square grid of points in a 2-D latent space, in the order in which `manifold` draws them.

    Returns z (n², 2), float64: row after row from the top (largest z₂), each from left (smallest z₁) to
    right. With `extent` = (lowest, highest) the grid is linear; without it, the points are the standard
    normal's quantiles at (i + ½)/n, so that every cell holds the same share of the prior.
    """
    z = _grid_axis(n, extent)
    return np.stack([np.tile(z, n), np.repeat(z[::-1], n)], axis=1)


def manifold(
    decoded: Array,
    n: int,
    image_shape: ImageShape | None,
    extent: tuple[float, float] | None = None,
    *,
    title: str | None = "Decoded grid of the latent space",
    data: Array | None = None,
) -> Figure:
    """Draw the decoded grid of a 2-D latent space over its coordinates.

    decoded (n², D), grey levels in [0, 1] where `image_shape` is given: the decoder's means at
    `manifold_grid(n, extent)`. Without an `extent` the axes are not linear, and say so. Without an image shape, points
    of the plane (D == 2) are drawn as the bent grid, over `data` (m, 2) where they are given, and other rows as a heat
    map. Raises `InputError` on other shapes.
    """
    decoded = check_rows("decoded", decoded, image_shape)
    if len(decoded) != n * n:
        raise InputError(f"decoded: got {len(decoded)} rows, expected n² = {n * n} for n = {n}")
    z = _grid_axis(n, extent)
    if image_shape is None and decoded.shape[1] == 2:
        return _bent_grid(decoded.reshape(n, n, 2), z, title, data)
    if image_shape is None:
        return heat_map_figure([("", decoded)], title)
    canvas = mosaic(decoded, image_shape, n, gap=0, width=860)
    figure, ax = mosaic_figure(canvas, title, left=66, bottom=46)
    ax.set_axis_on()
    for spine in ax.spines.values():
        spine.set_visible(False)
    shown = np.unique(np.linspace(0, n - 1, min(n, 7 if n % 2 else 6)).round().astype(int))
    high, wide = canvas.shape[0] / n, canvas.shape[1] / n
    labels = [number(value, 1) for value in z]
    ax.set_xticks((shown + 0.5) * wide - 0.5, [labels[i] for i in shown])
    ax.set_yticks((shown + 0.5) * high - 0.5, [labels[n - 1 - i] for i in shown])
    ax.tick_params(labelsize=10, labelcolor=MUTED, color=FRAME)
    # Equal steps on the picture are equal shares of the prior: 0.1 in the middle is as long as 0.5 at the edge.
    note = "" if extent is not None else " (not to scale: equal shares of N(0, 1))"
    ax.set_xlabel(f"z₁{note}", color=INK, fontsize=11)
    ax.set_ylabel(f"z₂{note}", color=INK, fontsize=11)
    return figure


def latent_scatter(
    mu: Array, labels: Array | None = None, *, title: str | None = "Means of q(z|x)"
) -> Figure:
    """Draw the means of q(z|x) in a 2-D latent space, coloured by label, with the prior's 1σ and 2σ.

    mu (N, 2); labels (N,) of any type that can be sorted, or None. Up to ten labels get a colour and a name
    each, more get a colour scale. Raises `InputError` on other shapes.
    """
    from matplotlib.patches import Circle

    mu = check_rows("mu", mu, None)
    if mu.shape[1] != 2:
        raise InputError(f"mu: got {mu.shape[1]} columns, expected 2: only a 2-D latent space can be drawn")
    if labels is not None and np.shape(labels) != (len(mu),):
        raise InputError(f"labels: got shape {np.shape(labels)}, expected ({len(mu)},), one per row of mu")
    figure, ax = chart(720 if labels is not None else 640, 640, title)
    style(ax, "z₁", "z₂")
    for radius in (1, 2):
        dashed: dict[str, Any] = {"linestyle": (0, (4, 3)), "linewidth": 0.9, "edgecolor": INK, "zorder": 3}
        ax.add_patch(Circle((0, 0), radius, fill=False, **dashed))
    ax.set_title("dashed: 1σ and 2σ of the prior", loc="right", fontsize=10, color=MUTED)
    dots: dict[str, Any] = {"s": 7, "alpha": opacity(len(mu)), "linewidths": 0, "zorder": 2}
    if labels is None:
        ax.scatter(mu[:, 0], mu[:, 1], color=BLUE, **dots)
    else:
        _labelled_dots(ax, mu, np.asarray(labels), dots)
    finite = np.abs(mu[np.isfinite(mu)])
    reach = max(2.3, 1.05 * finite.max() if finite.size else 0.0)
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    return figure


def over_data(points: Array, drawn: Array, density: tuple[Array, Array, Array] | None = None) -> Figure:
    """Draw the model's draws over data in the plane, points and drawn (n, 2) each, and its density as shades.

    density: the two axes (w,) and (h,), and non-negative values (h, w), or None. Raises `InputError` on other shapes.
    """
    points, drawn = check_rows("points", points, None), check_rows("drawn", drawn, None)
    figure, ax = chart(760, 640, None)
    style(ax, "x₁", "x₂")
    ax.set_aspect("equal")
    if density is not None:
        first, second, values = density
        # The few places where a density peaks would leave all others white.
        top = float(np.quantile(values, 0.995)) or 1.0
        ax.pcolormesh(first, second, values, cmap="Greys", vmin=0, vmax=1.4 * top, shading="gouraud", zorder=0)
        ax.grid(visible=False)
    for rows, colour, label in ((points, BLUE, "data"), (drawn, ORANGE, "drawn by the model")):
        ax.scatter(rows[:, 0], rows[:, 1], s=7, color=colour, alpha=opacity(len(rows)), linewidths=0, label=label)
    legend(ax)
    return figure


def kl_per_dimension(kl: Array, active: Array, *, title: str | None = "KL per latent dimension") -> Figure:
    """Draw each latent dimension's mean KL (nats) as bars from the largest down, active units marked [D36].

    kl (K,), active (K,) bool. A non-finite entry comes last and has no bar. Raises `InputError` on other
    shapes.
    """
    kl, active = np.asarray(kl), np.asarray(active)
    if kl.ndim != 1 or kl.size == 0 or active.shape != kl.shape:
        raise InputError(f"kl, active: got shapes {kl.shape} and {active.shape}, expected (K,) twice")
    finite = np.isfinite(kl)
    order = np.argsort(np.where(finite, -kl, np.inf), kind="stable")
    figure, ax = chart(900, 400, title)
    style(ax, "latent dimension, largest KL first", "KL (nats)")
    place = np.arange(kl.size)
    marked = active[order].astype(bool)
    heights = np.where(finite, kl, 0.0)[order]
    count = int(marked.sum())
    for chosen, colour, label in (
        (marked, BLUE, f"active: {count} of {kl.size}"),
        (~marked, FRAME, f"inactive: {kl.size - count}"),
    ):
        if chosen.any():
            ax.bar(place[chosen], heights[chosen], width=0.78, color=colour, label=label, zorder=2)
    ax.set_title(f"{number(float(kl[finite].sum()))} nats in all", loc="right", fontsize=10, color=MUTED)
    every = math.ceil(kl.size / 30)
    ax.set_xticks(place[::every], [str(index) for index in order[::every]])
    # A few bars keep the width of bars and do not fill the picture.
    ax.set_xlim(-0.7, max(kl.size, 8) - 0.3)
    ax.set_ylim(0, 1.08 * heights.max() if heights.max() > 0 else 1.0)
    ax.grid(visible=False, axis="x")
    legend(ax)
    return figure


def save(figure: Figure, path: str | Path) -> None:
    """Write the figure at `path`, whole or not at all: as an SVG where the name ends so, else as a PNG.

    Neither a date nor a software version goes into the file, so that the same picture gives the same bytes. In an SVG
    letters are outlines, so that no font is needed, and what has thousands of parts is a picture inside it.
    Raises WriteError where it cannot be written.
    """
    import matplotlib

    content = io.BytesIO()
    # Given explicitly, because savefig's defaults are the user's settings.
    look: dict[str, Any] = {"dpi": figure.dpi, "facecolor": figure.get_facecolor()}
    if Path(path).suffix == ".svg":
        crowds = [artist for ax in figure.axes for artist in ax.get_children() if _is_crowd(artist)]
        with matplotlib.rc_context({"svg.hashsalt": "vae-np", "svg.fonttype": "path", "svg.image_inline": True}):
            for artist in crowds:
                artist.set_rasterized(True)
            figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None}, **look)
            for artist in crowds:
                artist.set_rasterized(False)
    else:
        figure.savefig(content, format="png", metadata={"Software": None}, **look)
    storage.write_atomic(path, content.getvalue())


def _is_crowd(artist: Any) -> bool:
    """Whether it has so many dots or cells that an SVG would take a line of text for each, and megabytes for all."""
    from matplotlib.collections import PathCollection, QuadMesh
    from matplotlib.lines import Line2D

    if isinstance(artist, Line2D):
        return artist.get_marker() not in ("", "None", None, " ") and np.size(artist.get_xdata()) > _CROWD
    if isinstance(artist, PathCollection):
        return len(np.asarray(artist.get_offsets())) > _CROWD
    return isinstance(artist, QuadMesh)


def _joined_points(originals: Array, reconstructed: Array, title: str | None) -> Figure:
    """Draw points of the plane, each joined by a line to its reconstruction."""
    from matplotlib.collections import LineCollection

    figure, ax = chart(600, 600, title)
    plane(ax)
    pairs = list(np.stack([originals, reconstructed], axis=1))
    ax.add_collection(LineCollection(pairs, colors=FRAME, linewidths=1))
    for points, colour, label in ((originals, BLUE, "original"), (reconstructed, ORANGE, "reconstruction")):
        ax.scatter(points[:, 0], points[:, 1], s=12, color=colour, linewidths=0, label=label, zorder=2)
    legend(ax)
    return figure


def _bent_grid(points: Array, z: Array, title: str | None, data: Array | None) -> Figure:
    """Draw a latent grid where the decoder sends it: points (n, n, 2) in the order of `manifold_grid`."""
    span = f"from {number(z[0], 1)} to {number(z[-1], 1)}"
    figure, ax = chart(640, 600, title)
    plane(ax)
    beneath(ax, data)
    for index, line in enumerate((*points, *points.transpose(1, 0, 2))):
        across = index < len(points)
        label = {0: f"z₁ {span}", len(points): f"z₂ {span}"}.get(index)
        ax.plot(*line.T, color=BLUE if across else ORANGE, linewidth=0.9, alpha=0.8, label=label)
    legend(ax)
    return figure


def _series(metrics: Sequence[Mapping[str, Any]], split: str, key: str) -> tuple[Array, Array]:
    """The steps and values of one split, float64, in the order of the steps; NaN where not finite."""
    lines = [line for line in metrics if line.get("split") == split]
    lines.sort(key=lambda line: int(line["step"]))
    steps = np.array([line["step"] for line in lines], dtype=np.float64)
    values = np.array([line.get(key) for line in lines], dtype=np.float64)
    values[~np.isfinite(values)] = np.nan
    return steps, values


def _curve_limits(drawn: Sequence[tuple[Array, Array]]) -> tuple[float, float] | None:
    """Limits that hold all values, or the later nine tenths' where the first steps would squash those.

    None where nothing is drawn.
    """
    if not drawn:
        return None
    steps, values = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
    steps, values = steps[np.isfinite(values)], values[np.isfinite(values)]
    late = values[steps >= steps.min() + 0.1 * (steps.max() - steps.min())]
    whole = np.ptp(values)
    kept = late if late.size > 2 and whole > 3 * np.ptp(late) > 0 else values
    pad = 0.06 * np.ptp(kept) or 0.05 * abs(float(kept[0])) or 0.5
    return float(kept.min() - pad), float(kept.max() + pad)


def _beta_axis(ax: Axes, steps: Array, betas: Array) -> Any:
    """Draw β against the step on a second axis to the right; its line."""
    right = ax.twinx()
    (line,) = right.plot(steps, betas, color=MUTED, linewidth=1.2, linestyle=(0, (4, 2)))
    right.set_ylabel("β", fontsize=11, color=INK, rotation=0, labelpad=8)
    right.set_ylim(0, 1.06 * float(np.nanmax(betas)))
    right.tick_params(labelsize=10, labelcolor=MUTED, color=FRAME, length=3)
    for spine in right.spines.values():
        spine.set_visible(False)
    return line


def _labelled_dots(ax: Axes, mu: Array, labels: Array, dots: Mapping[str, Any]) -> None:
    """Draw dots coloured by label in the order of the rows, so that no label lies on top of all others."""
    from matplotlib.lines import Line2D
    from matplotlib.patheffects import withStroke

    names, codes = np.unique(labels, return_inverse=True)
    if len(names) > len(TEN):
        numeric = np.issubdtype(labels.dtype, np.number)
        picture = ax.scatter(mu[:, 0], mu[:, 1], c=labels if numeric else codes, cmap="viridis", **dots)
        bar = ax.figure.colorbar(picture, ax=ax, fraction=0.045, pad=0.02)
        if bar.solids is not None:
            bar.solids.set_alpha(1)
        style_bar(bar, "label" if numeric else "label, in sorted order")
        return
    ax.scatter(mu[:, 0], mu[:, 1], c=np.array(TEN)[codes], **dots)
    medians = np.array([np.nanmedian(mu[codes == code], axis=0) for code in range(len(names))])
    # A name takes about a sixteenth of the picture: side by side they can be read wherever the clouds lie.
    reach = float(np.nanmax(np.abs(mu), initial=2.3))
    for name, (x, y) in zip(names, apart(medians, reach / 8), strict=True):
        ax.text(
            x, y, str(name), ha="center", va="center", fontsize=12, fontweight="bold", color=INK, zorder=5,
            path_effects=[withStroke(linewidth=3, foreground="white")],
        )  # fmt: skip
    handles = [Line2D([], [], color=colour, marker="o", linestyle="none") for colour in TEN[: len(names)]]
    ax.legend(
        handles, [str(name) for name in names], title="label", loc="upper left", bbox_to_anchor=(1.0, 1.0),
        frameon=False, fontsize=10, title_fontsize=10, labelcolor=INK,
    )  # fmt: skip


def _grid_axis(n: int, extent: tuple[float, float] | None) -> Array:
    """The n coordinates of one side of `manifold_grid`, increasing, float64."""
    if n < 1:
        raise InputError(f"n: got {n}, expected a whole number >= 1")
    if extent is not None:
        return np.linspace(extent[0], extent[1], n)
    return np.array([NormalDist().inv_cdf((i + 0.5) / n) for i in range(n)])
