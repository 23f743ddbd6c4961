"""What every picture is made of: one style, grids of images drawn pixel by pixel, and heat maps.

matplotlib is imported inside the functions; `vae_np.pictures.plots` has the pictures themselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from vae_np._types import Array
from vae_np.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.figure import Figure

ImageShape = tuple[int, int]

DPI = 120
PAD = 10
# Points: nothing in a picture is smaller, so that at half its size a text is still eight pixels high.
SMALLEST = 10.0
BAND_GAP = 10
INK, MUTED, GRID, FRAME = "#1f2933", "#66717e", "#e4e7eb", "#c5ccd4"
# Okabe and Ito's palette: told apart with every common kind of colour blindness, and in grey.
BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"
# Petroff's ten (arXiv:2107.02270), optimised for the same and for lightness that still separates neighbours.
TEN = ("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6",
       "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd")  # fmt: skip


def blank_figure(width: int, height: int, *, constrained: bool = True) -> Figure:
    """A white figure of `width` by `height` screen pixels, whose parts place themselves where `constrained`."""
    from matplotlib.figure import Figure

    # Agg truncates its width and height to whole pixels, and w / dpi * dpi can fall just short of w.
    size = ((width + 0.01) / DPI, (height + 0.01) / DPI)
    figure = Figure(figsize=size, dpi=DPI, facecolor="white")
    if constrained:
        figure.set_layout_engine("constrained", w_pad=PAD / DPI, h_pad=PAD / DPI, wspace=0.02)
    return figure


def chart(width: int, height: int, title: str | None) -> tuple[Figure, Axes]:
    """A figure with one pair of axes and its title."""
    figure = blank_figure(width, height)
    ax = figure.subplots()
    if title:
        head(ax, title)
    return figure, ax


def head(ax: Axes, title: str) -> None:
    """Give the axes a title, at the left."""
    ax.set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK, pad=8)


def style(ax: Axes, x: str, y: str) -> None:
    """Give the axes labels, a light grid behind the data, and no box."""
    ax.set_facecolor("white")
    ax.set_xlabel(x, fontsize=11, color=INK)
    ax.set_ylabel(y, fontsize=11, color=INK)
    ax.tick_params(labelsize=10, labelcolor=MUTED, color=FRAME, length=3)
    ax.grid(visible=True, color=GRID, linewidth=0.8)
    ax.set_axisbelow(True)
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(FRAME)


def style_bar(bar: Colorbar, label: str) -> None:
    """Give a colour bar its label, and no box."""
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=10, labelcolor=MUTED, color=FRAME)
    bar.set_label(label, fontsize=11, color=INK)


def plane(ax: Axes) -> None:
    """Style axes for points x = (x₁, x₂): one unit is as long in both directions."""
    style(ax, "x₁", "x₂")
    ax.set_aspect("equal", adjustable="datalim")


def legend(ax: Axes) -> None:
    """Add a legend where it covers least."""
    ax.legend(loc="best", fontsize=10, labelcolor=INK, frameon=True, framealpha=0.9, edgecolor="none")


def beneath(ax: Axes, data: Array | None) -> None:
    """Draw the data (n, 2) below all else, where there are any."""
    if data is not None:
        ax.scatter(data[:, 0], data[:, 1], s=7, color=MUTED, alpha=0.6 * opacity(len(data)), linewidths=0, zorder=0,
                   label="data")  # fmt: skip


def apart(places: Array, distance: float) -> Array:
    """Places (n, 2), moved as little as it takes until no two are nearer than `distance`; NaN stays where it is."""
    moved = np.array(places, dtype=np.float64)
    for _ in range(200):
        offsets = moved[:, None] - moved[None]
        lengths = np.hypot(offsets[..., 0], offsets[..., 1])
        first, second = np.nonzero(np.triu(lengths < distance, 1))
        if first.size == 0:
            break
        for i, j in zip(first, second, strict=True):
            along, length = moved[i] - moved[j], float(np.hypot(*(moved[i] - moved[j])))
            # Two at the same place part sideways.
            along = along / length if length > 0 else np.array([1.0, 0.0])
            push = 0.51 * max(0.0, distance - length) * along
            moved[i] += push
            moved[j] -= push
    return moved


def opacity(n: int) -> float:
    """The opacity at which n dots show both a single dot and a crowd."""
    return float(np.clip(40 / math.sqrt(n), 0.25, 0.9))


def number(value: float, digits: int = 2) -> str:
    """Write the number with a true minus sign, and never a negative zero."""
    return f"{round(float(value), digits) + 0.0:.{digits}f}".replace("-", "−")


def check_rows(name: str, values: Array, image_shape: ImageShape | None) -> Array:
    """`values` as an array (n, D), n and D at least 1, and D = H·W where there is an image shape.

    Raises `InputError` where it is not.
    """
    values = np.asarray(values)
    if values.ndim != 2 or 0 in values.shape:
        raise InputError(f"{name}: got shape {values.shape}, expected (n, D), both at least 1")
    if image_shape is not None and math.prod(image_shape) != values.shape[1]:
        high, wide = image_shape
        raise InputError(f"{name}: got {values.shape[1]} columns, expected {high * wide} for image_shape {high},{wide}")
    return values


def grid_columns(n: int, rows_each: int, columns: int | None) -> int:
    """A grid's columns for n examples of `rows_each` rows each: as asked, or about eight or a square."""
    if columns is not None and columns < 1:
        raise InputError(f"columns: got {columns}, expected a whole number >= 1")
    if columns is not None:
        return min(columns, n)
    widest = max(min(n, 8), math.ceil(math.sqrt(n * rows_each)))
    return math.ceil(n / math.ceil(n / widest))


def mosaic(
    images: Array,
    image_shape: ImageShape,
    columns: int,
    *,
    gap: int = 2,
    band: int | None = None,
    width: int = 720,
) -> Array:
    """Set images (n, D) side by side on one canvas of screen pixels, with more room after `band` rows.

    A data pixel becomes a whole number of screen pixels, so that the canvas is about `width` wide. Grey
    levels are clipped to [0, 1]; the thin frame around each image is −1; what is empty is NaN, and an all-NaN
    image leaves its place empty.
    """
    high, wide = image_shape
    scale = max(1, round(min(width / columns, 200) / wide))
    high, wide = high * scale, wide * scale
    rows = math.ceil(len(images) / columns)
    band = band or rows
    step_y, step_x = high + gap, wide + gap
    bands = math.ceil(rows / band)
    canvas = np.full((rows * step_y + bands * (gap + BAND_GAP) - BAND_GAP, columns * step_x + gap), np.nan)
    for index, image in enumerate(np.clip(images, 0, 1)):
        if np.isnan(image).all():
            continue
        row, column = divmod(index, columns)
        top = row * step_y + row // band * (gap + BAND_GAP)
        left = column * step_x
        canvas[top : top + high + 2 * gap, left : left + wide + 2 * gap] = -1
        tile = image.reshape(image_shape).repeat(scale, axis=0).repeat(scale, axis=1)
        canvas[top + gap : top + gap + high, left + gap : left + gap + wide] = tile
    return canvas


def mosaic_figure(canvas: Array, title: str | None, *, left: int = 0, bottom: int = 0) -> tuple[Figure, Axes]:
    """A figure that shows the canvas pixel by pixel, with `left` and `bottom` more pixels of room on those sides."""
    import matplotlib

    margin = 14
    top = 44 if title else margin
    high, wide = canvas.shape
    # A title has to fit over a single image, too.
    room = max(wide, 420 - left if title else 0)
    width, height = left + room + 2 * margin, bottom + high + margin + top
    figure = blank_figure(width, height, constrained=False)
    ax = figure.add_axes(((left + margin) / width, (bottom + margin) / height, wide / width, high / height))
    colours = matplotlib.colormaps["gray"].with_extremes(under=FRAME, bad="white")
    ax.imshow(canvas, cmap=colours, vmin=0, vmax=1, interpolation="nearest", aspect="auto")
    ax.set_axis_off()
    if title:
        at = (left + margin) / width
        figure.text(at, 1 - 22 / height, title, va="center", fontsize=12, fontweight="bold", color=INK)
    return figure, ax


def heat_map_figure(panels: Sequence[tuple[str, Array]], title: str | None) -> Figure:
    """A figure with a heat map per panel (rows = examples, columns = features) and one colour bar.

    Colours mean the same in all panels. The title says that it is a heat map, and why.
    """
    from matplotlib.ticker import MaxNLocator

    features = panels[0][1].shape[1]
    said = f"Heat map, because the {features} column{'s form' if features > 1 else ' forms'} no image"
    figure = blank_figure(400 + 360 * len(panels), 500)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    values = np.concatenate([rows[np.isfinite(rows)] for _, rows in panels])
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    for ax, (name, rows) in zip(axes, panels, strict=True):
        picture = ax.imshow(rows, cmap="viridis", vmin=low, vmax=high, aspect="auto")
        style(ax, "feature", "example")
        ax.grid(visible=False)
        ax.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
        ax.yaxis.set_major_locator(MaxNLocator(10, integer=True, min_n_ticks=1))
        ax.set_title(name, loc="left", fontsize=11, color=INK)
    bar = figure.colorbar(picture, ax=axes, fraction=0.05, pad=0.02)
    style_bar(bar, "value")
    heading = f"{title}\n{said}" if title else said
    figure.suptitle(heading, x=PAD / 760, ha="left", fontsize=12, fontweight="bold", color=INK)
    return figure
