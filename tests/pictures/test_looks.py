"""What lets a picture be read: sizes of text, colours, labels that keep apart, axes that say what they are, SVGs.

Budget: about 3 s.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from vae_np.pictures import drawing, plots

# Machado, Oliveira and Fernandes 2009: what linear RGB becomes for who lacks one kind of cone.
BLINDNESS = {
    "none": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
# Two patches of colour side by side differ to the eye from about 2 on; dots in a crowd need several times that.
APART = 8.0


def _points(n: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=(n, 2))


def _pictures() -> dict[str, Figure]:
    """One of each kind."""
    rows, points = np.random.default_rng(0).uniform(size=(16, 16)), _points(60)
    metrics = [
        {"step": step, "split": split, "elbo": -100.0 - step, "reconstruction": -80.0, "kl": 20.0, "beta": step / 9}
        for step in range(1, 10)
        for split in ("train", "validation")
    ]
    return {
        "samples": plots.samples(rows, (4, 4)),
        "heat map": plots.samples(rows, None),
        "points": plots.samples(points, None, data=points + 1),
        "reconstructions": plots.reconstructions(rows, rows, (4, 4)),
        "joined": plots.reconstructions(points, points + 0.1, None),
        "curves": plots.curves(metrics),
        "interpolations": plots.interpolations(points.reshape(6, 10, 2), None, data=points),
        "manifold": plots.manifold(rows, 4, (4, 4)),
        "bent": plots.manifold(points[:16], 4, None, data=points),
        "scatter": plots.latent_scatter(points, np.arange(60) % 10),
        "kl": plots.kl_per_dimension(np.ones(3), np.array([True, False, True])),
        "over data": plots.over_data(points, points),
    }


def smallest_text(figure: Figure) -> float:
    """The size in points of the smallest text that is shown."""
    # Ticks have their size before they have their text.
    return float(min(text.get_fontsize() for text in figure.findobj(Text) if text.get_visible()))


def lab(colour: str, seen: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A colour's CIELAB coordinates (white D65), as an eye with these cones sees it."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ np.clip(
        seen @ linear, 0, 1
    )
    scaled = xyz / [0.9505, 1.0, 1.089]
    f = np.where(scaled > 0.008856, np.cbrt(scaled), 7.787 * scaled + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def least_distance(colours: tuple[str, ...], blindness: str) -> float:
    """The distance in CIELAB of the two colours that are most alike."""
    places = np.array([lab(colour, BLINDNESS[blindness]) for colour in colours])
    distances = np.linalg.norm(places[:, None] - places[None], axis=-1)
    return float(distances[np.triu_indices(len(colours), 1)].min())


@pytest.mark.parametrize("blindness", BLINDNESS)
def test_ten_digits_are_told_apart_with_each_kind_of_colour_blindness(blindness: str) -> None:
    assert len(set(drawing.TEN)) == 10
    assert least_distance(drawing.TEN, blindness) > APART


def test_red_and_green_would_not_be() -> None:
    red, green = "#bd4f3a", "#7a7a2e"
    assert least_distance((red, green), "none") > 4 * APART
    assert least_distance((red, green), "deuteranopia") < least_distance((red, green), "none") / 3


def test_the_reports_page_has_the_same_colours() -> None:
    script = (Path(plots.__file__).parent / "page" / "explorer.js").read_text(encoding="utf-8")
    listed = script[script.index("COLOURS") :].split("]")[0]
    assert tuple(re.findall(r"#[0-9a-f]{6}", listed)) == drawing.TEN


def test_no_text_is_too_small_at_half_size() -> None:
    found = {name: smallest_text(figure) for name, figure in _pictures().items()}
    assert {name: size for name, size in found.items() if size < drawing.SMALLEST} == {}
    small = plots.latent_scatter(_points(9))
    small.axes[0].text(0, 0, "small", fontsize=8)
    assert smallest_text(small) < drawing.SMALLEST


def test_names_of_labels_keep_apart_wherever_the_clouds_lie() -> None:
    mu = _points(200, seed=3)
    (ax,) = plots.latent_scatter(mu, np.arange(200) % 10).axes
    figure = ax.figure
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert len(boxes) == 10
    assert [(i, j) for i in range(10) for j in range(i) if boxes[i].overlaps(boxes[j])] == []


def test_places_move_only_where_they_have_to() -> None:
    places = np.array([[0.0, 0.0], [0.0, 0.0], [5.0, 5.0], [0.1, 0.0]])
    moved = drawing.apart(places, 1.0)
    distances = np.linalg.norm(moved[:, None] - moved[None], axis=-1)[np.triu_indices(4, 1)]
    assert distances.min() >= 1.0
    np.testing.assert_array_equal(moved[2], places[2])
    np.testing.assert_array_equal(drawing.apart(places[2:], 1.0), places[2:])
    assert np.isnan(drawing.apart(np.array([[np.nan, 0.0], [0.0, 0.0]]), 1.0)[0, 0])


def test_an_axis_that_is_not_linear_says_so() -> None:
    rows = np.random.default_rng(0).uniform(size=(16, 16))
    (ax,) = plots.manifold(rows, 4, (4, 4)).axes
    assert "not to scale" in ax.get_xlabel()
    assert "not to scale" in ax.get_ylabel()
    (ax,) = plots.manifold(rows, 4, (4, 4), (-2.0, 2.0)).axes
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("z₁", "z₂")


@pytest.mark.parametrize("kind", ["samples", "interpolations", "manifold"])
def test_what_the_model_draws_of_points_lies_over_the_data(kind: str) -> None:
    data, drawn = _points(30), _points(16, seed=1)
    make = {
        "samples": lambda below: plots.samples(drawn, None, data=below),
        "interpolations": lambda below: plots.interpolations(drawn.reshape(4, 4, 2), None, data=below),
        "manifold": lambda below: plots.manifold(drawn, 4, None, data=below),
    }[kind]
    (ax,), (without,) = make(data).axes, make(None).axes
    below = [dots for dots in ax.collections if np.array_equal(np.asarray(dots.get_offsets()), data)]
    assert len(below) == 1
    others = [artist.get_zorder() for artist in (*ax.lines, *ax.collections) if artist is not below[0]]
    assert below[0].get_zorder() < min(others)
    legend = ax.get_legend()
    assert legend is not None
    assert "data" in [text.get_text() for text in legend.get_texts()]
    assert len(without.collections) == len(ax.collections) - 1


def test_an_svg_has_the_same_bytes_each_time_and_needs_nothing_else(tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        plots.save(plots.over_data(_points(2000), _points(40)), tmp_path / name)
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert text == (tmp_path / "b.svg").read_text(encoding="utf-8")
    assert "<dc:date>" not in text
    # Outlines in place of letters, and the crowd of 2,000 dots as one picture inside the file.
    assert "<text" not in text
    assert text.count("<image") == 1
    assert 'href="data:image/png' in text
    assert len(text) < 200_000
    plots.save(plots.over_data(_points(40), _points(40)), tmp_path / "few.svg")
    assert "<image" not in (tmp_path / "few.svg").read_text(encoding="utf-8")
