"""Pictures: what is drawn, where, and that drawing leaves no trace.

Budget: about 4 s.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from vae_np.errors import InputError, WriteError
from vae_np.pictures import drawing, plots

SHAPE = (4, 6)


def _images(n: int, width: int = 24, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).uniform(0.2, 0.8, (n, width))


def _canvas(figure: Figure) -> np.ndarray[Any, Any]:
    """The one picture of a figure, NaN where nothing is drawn."""
    ((picture,),) = (ax.images for ax in figure.axes)
    return np.ma.filled(np.ma.asarray(picture.get_array()), np.nan)


def _tiles(figure: Figure, images: np.ndarray[Any, Any]) -> list[tuple[int, int]]:
    """Where each image begins in the canvas (row, column), found by its upper left value."""
    canvas = _canvas(figure)
    places = []
    for image in images:
        rows, columns = np.nonzero(canvas == image[0])
        places.append((int(rows.min()), int(columns.min())))
    return places


def _text(figure: Figure) -> str:
    """All words in a figure."""
    texts = [*figure.texts, *(text for ax in figure.axes for text in ax.texts)]
    titles = [ax.get_title(loc) for ax in figure.axes for loc in ("left", "center", "right")]
    return "\n".join([*(text.get_text() for text in texts), *titles])


def _line(step: int, split: str, elbo: float | None, **more: Any) -> dict[str, Any]:
    line = {"step": step, "epoch": 1, "split": split, "elbo": elbo, "beta": 1.0, "seconds": 1.0}
    return line | {"reconstruction": None if elbo is None else elbo + 20, "kl": 20.0} | more


def test_image_grid_holds_each_image_once_pixel_by_pixel() -> None:
    images = _images(10)
    figure = plots.image_grid(images, SHAPE, columns=4, title="Ten")
    canvas = _canvas(figure)
    places = _tiles(figure, images)
    assert len({row for row, _ in places}) == 3
    assert len({column for _, column in places}) == 4
    assert places == sorted(places)
    (top, left) = places[5]
    scale = int((canvas == images[5, 0]).sum() ** 0.5)
    tile = canvas[top : top + 4 * scale : scale, left : left + 6 * scale : scale]
    np.testing.assert_array_equal(tile, images[5].reshape(SHAPE))
    assert "Ten" in _text(figure)
    assert not figure.axes[0].axison
    assert np.isnan(canvas[-1, -1])


def test_image_grid_is_saved_without_blur(tmp_path: Path) -> None:
    images = np.random.default_rng(1).integers(0, 2, (6, 24)).astype(float)
    figure = plots.image_grid(images, SHAPE)
    plots.save(figure, tmp_path / "grid.png")
    pixels = imread(tmp_path / "grid.png")[:, :, 0]
    frame = int(drawing.FRAME[1:3], 16) / 255
    assert set(np.unique(pixels)) == {np.float32(0), np.float32(frame), np.float32(1)}
    assert (pixels == 0).sum() == (_canvas(figure) == 0).sum()


def test_grey_levels_are_clipped_and_mean_the_same_in_every_figure() -> None:
    figure = plots.image_grid(np.array([[-3.0, 0.5, 1.0, 7.0]]), (2, 2))
    canvas = _canvas(figure)
    assert set(np.unique(canvas[canvas >= 0])) == {0.0, 0.5, 1.0}
    assert figure.axes[0].images[0].get_clim() == (0, 1)


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_constant_images_and_a_single_one(level: float, tmp_path: Path) -> None:
    for n in (1, 5):
        images = np.full((n, 24), level)
        for figure in (plots.samples(images, SHAPE), plots.reconstructions(images, images, SHAPE)):
            assert (_canvas(figure) == level).any()
            plots.save(figure, tmp_path / "constant.png")


def test_default_columns_fill_the_rows_evenly() -> None:
    assert [drawing.grid_columns(n, 1, None) for n in (1, 5, 8, 10, 16, 64, 100)] == [1, 5, 8, 5, 8, 8, 10]
    assert drawing.grid_columns(32, 2, None) == 8
    assert drawing.grid_columns(3, 1, 10) == 3


def test_columns_that_form_no_image_become_a_heat_map_that_says_so() -> None:
    rows = _images(7, 5)
    for figure in (
        plots.image_grid(rows, None, title="Things"),
        plots.samples(rows, None),
        plots.interpolations(rows.reshape(1, 7, 5), None),
        plots.manifold(rows[:4], 2, None),
    ):
        picture, bar = figure.axes
        assert "Heat map, because the 5 columns form no image" in figure.get_suptitle()
        assert picture.images[0].get_array().shape[1] == 5
        assert bar.get_ylabel() == "value"
    assert "Things" in plots.image_grid(rows, None, title="Things").get_suptitle()


def test_heat_map_draws_a_single_and_a_constant_row(tmp_path: Path) -> None:
    figure = plots.image_grid(np.ones((1, 1)), None)
    assert "the 1 column forms no image" in figure.get_suptitle()
    low, high = figure.axes[0].images[0].get_clim()
    assert low < 1 < high
    plots.save(figure, tmp_path / "one.png")


def test_points_of_the_plane_become_a_scatter() -> None:
    points = np.random.default_rng(2).normal(size=(9, 2))
    (ax,) = plots.samples(points, None).axes
    np.testing.assert_array_equal(ax.collections[0].get_offsets(), points)
    assert ax.get_aspect() == 1


def test_reconstructions_lie_under_their_originals() -> None:
    originals, reconstructed = _images(5, seed=3), _images(5, seed=4)
    figure = plots.reconstructions(originals, reconstructed, SHAPE, columns=3)
    above, below = _tiles(figure, originals), _tiles(figure, reconstructed)
    assert [column for _, column in above] == [column for _, column in below]
    assert len({low - high for (high, _), (low, _) in zip(above, below, strict=True)}) == 1
    assert above[3][0] > below[0][0] > above[0][0]
    labels = {text.get_text(): text.get_position()[1] for text in figure.axes[0].texts[:2]}
    assert labels["original"] < labels["reconstruction"]
    assert len(figure.axes[0].texts) == 4


def test_reconstructions_of_points_are_joined_and_of_rows_are_two_panels() -> None:
    points = np.random.default_rng(5).normal(size=(6, 2))
    (ax,) = plots.reconstructions(points, points + 1, None).axes
    joins, before, after = ax.collections
    np.testing.assert_array_equal(joins.get_segments()[4], [points[4], points[4] + 1])
    np.testing.assert_array_equal(before.get_offsets() + 1, after.get_offsets())
    rows = _images(6, 3)
    left, right, _ = plots.reconstructions(rows, 2 * rows, None).axes
    np.testing.assert_array_equal(2 * left.images[0].get_array(), right.images[0].get_array())
    assert left.images[0].get_clim() == right.images[0].get_clim()


def test_curves_show_every_split_in_nats() -> None:
    metrics = [_line(step, "train", -100.0 - 50 / step) for step in range(1, 6)]
    metrics += [_line(3, "validation", -120.0), _line(5, "validation", -110.0), _line(5, "test", -111.25)]
    figure = plots.curves(metrics)
    assert [ax.get_ylabel() for ax in figure.axes] == ["ELBO (nats)", "Reconstruction (nats)", "KL (nats)"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["train", "validation", "test"]
    train, validation, test = figure.axes[0].lines
    np.testing.assert_array_equal(train.get_xdata(), [1, 2, 3, 4, 5])
    np.testing.assert_array_equal(validation.get_ydata(), [-120, -110])
    np.testing.assert_array_equal(test.get_ydata(), [-111.25])
    assert "test −111.25" in _text(figure)


def test_curves_are_not_squashed_by_the_first_steps() -> None:
    metrics = [_line(1, "train", -550.0), *(_line(s, "train", -110.0 + s / 100) for s in range(50, 1001, 50))]
    low, high = plots.curves(metrics).axes[0].get_ylim()
    assert -112 < low < -109
    assert -100 < high < -98
    gentle = [_line(s, "train", -110.0 + s / 100) for s in range(1, 1001, 50)]
    low, _ = plots.curves(gentle).axes[0].get_ylim()
    assert low < -109.99


def test_curves_draw_beta_only_where_it_varies() -> None:
    constant = [_line(step, "train", -100.0, beta=0.5) for step in (1, 2, 3)]
    assert len(plots.curves(constant).axes) == 3
    warm_up = [_line(step, "train", -100.0, beta=step / 3) for step in (1, 2, 3)]
    *_, right = plots.curves(warm_up).axes
    assert right.get_ylabel() == "β"
    np.testing.assert_allclose(right.lines[0].get_ydata(), [1 / 3, 2 / 3, 1])


def test_curves_leave_gaps_for_values_that_are_not_finite(tmp_path: Path) -> None:
    broken = [_line(1, "train", -100.0), _line(2, "train", None), _line(3, "train", float("-inf"))]
    del broken[0]["kl"]
    figure = plots.curves(broken)
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), [-100, np.nan, np.nan])
    plots.save(figure, tmp_path / "broken.png")
    for nothing in ([], [_line(1, "train", None, kl=None, beta=None)]):
        figure = plots.curves(nothing)
        assert _text(figure).count("no values") == 3
        plots.save(figure, tmp_path / "nothing.png")


def test_interpolations_run_from_left_to_right() -> None:
    decoded = _images(6).reshape(2, 3, 24)
    places = _tiles(plots.interpolations(decoded, SHAPE), decoded.reshape(6, 24))
    assert places == sorted(places)
    assert len({row for row, _ in places}) == 2
    paths = np.random.default_rng(6).normal(size=(2, 3, 2))
    (ax,) = plots.interpolations(paths, None).axes
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), paths[0])
    np.testing.assert_array_equal(ax.lines[1].get_xydata(), paths[0, -1:])


def test_manifold_grid_is_linear_or_holds_equal_shares_of_the_prior() -> None:
    linear = plots.manifold_grid(3, (-2.0, 2.0))
    np.testing.assert_array_equal(linear[:4], [[-2, 2], [0, 2], [2, 2], [-2, 0]])
    # The standard normal's quartiles and its median, to the digits of the tables.
    np.testing.assert_allclose(
        plots.manifold_grid(2)[0], [-0.6744897501960817, 0.6744897501960817], rtol=1e-12
    )
    np.testing.assert_array_equal(plots.manifold_grid(1), [[0, 0]])


@pytest.mark.parametrize("extent", [None, (-3.0, 3.0)])
def test_manifold_puts_each_image_at_its_coordinates(extent: tuple[float, float] | None) -> None:
    n, z = 5, plots.manifold_grid(5, extent)
    decoded = _images(n * n)
    figure = plots.manifold(decoded, n, SHAPE, extent)
    (ax,) = figure.axes
    places = _tiles(figure, decoded)
    assert places == sorted(places)
    across = [text.get_text() for text in ax.get_xticklabels()]
    down = [text.get_text() for text in ax.get_yticklabels()]
    assert across == [drawing.number(value, 1) for value in z[:n, 0]]
    assert down == [drawing.number(value, 1) for value in z[::n, 1]]
    assert ax.get_yticks()[0] < ax.get_yticks()[-1] < _canvas(figure).shape[0]
    assert (ax.get_xlabel()[:2], ax.get_ylabel()[:2]) == ("z₁", "z₂")


def test_manifold_of_points_is_the_bent_grid() -> None:
    z = plots.manifold_grid(4, (-1.0, 1.0))
    (ax,) = plots.manifold(2 * z, 4, None, (-1.0, 1.0)).axes
    assert len(ax.lines) == 8
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), 2 * z[:4])
    np.testing.assert_array_equal(ax.lines[4].get_xydata(), 2 * z[::4])


def test_latent_scatter_colours_by_label() -> None:
    mu = np.random.default_rng(7).normal(size=(30, 2))
    labels = np.arange(30) % 3
    (ax,) = plots.latent_scatter(mu, labels).axes
    (dots,) = ax.collections
    np.testing.assert_array_equal(dots.get_offsets(), mu)
    colours = dots.get_facecolor()
    np.testing.assert_array_equal(colours[:3], colours[3:6])
    assert len(np.unique(colours, axis=0)) == 3
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["0", "1", "2"]
    assert ax.get_aspect() == 1
    assert ax.get_xlim() == ax.get_ylim()
    names = np.array(["cat", "dog", "emu"])[labels]
    assert "emu" in _text(plots.latent_scatter(mu, names))


def test_latent_scatter_of_one_of_many_and_of_no_labels(tmp_path: Path) -> None:
    mu = np.random.default_rng(8).normal(size=(30, 2))
    assert plots.latent_scatter(mu).axes[0].get_legend() is None
    assert plots.latent_scatter(mu, np.arange(30)).axes[1].get_ylabel() == "label"
    plots.save(plots.latent_scatter(mu[:1], np.array([7])), tmp_path / "one.png")
    mu[3] = np.nan
    plots.save(plots.latent_scatter(mu, np.arange(30) % 4), tmp_path / "nan.png")


def test_kl_per_dimension_is_sorted_and_marks_active_units() -> None:
    kl = np.array([0.5, np.nan, 3.0, 0.001])
    figure = plots.kl_per_dimension(kl, np.array([True, False, True, False]))
    (ax,) = figure.axes
    active, inactive = ax.containers
    assert [bar.get_height() for bar in active] == [3.0, 0.5]
    assert [bar.get_height() for bar in inactive] == [0.001, 0.0]
    assert active[0].get_facecolor() != inactive[0].get_facecolor()
    assert [text.get_text() for text in ax.get_xticklabels()] == ["2", "0", "3", "1"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["active: 2 of 4", "inactive: 2"]
    assert "3.50 nats in all" in _text(figure)


def test_kl_per_dimension_where_all_has_collapsed(tmp_path: Path) -> None:
    figure = plots.kl_per_dimension(np.zeros(3), np.zeros(3, dtype=bool))
    assert figure.axes[0].get_ylim() == (0, 1)
    plots.save(figure, tmp_path / "collapsed.png")


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.image_grid(np.zeros((2, 5)), (2, 2)), "images: got 5 columns, expected 4 for image_shape 2,2"),
        (lambda: plots.image_grid(np.zeros(4), (2, 2)), r"images: got shape \(4,\), expected \(n, D\)"),
        (lambda: plots.samples(np.zeros((0, 4)), (2, 2)), r"images: got shape \(0, 4\)"),
        (lambda: plots.samples(np.zeros((1, 4)), (2, 2), columns=0), "columns: got 0"),
        (
            lambda: plots.reconstructions(np.zeros((2, 4)), np.zeros((3, 4)), (2, 2)),
            "reconstructed: got shape",
        ),
        (lambda: plots.interpolations(np.zeros((2, 4)), (2, 2)), r"decoded: got shape \(2, 4\)"),
        (lambda: plots.manifold(np.zeros((8, 4)), 3, (2, 2)), "decoded: got 8 rows, expected n² = 9"),
        (lambda: plots.manifold_grid(0), "n: got 0"),
        (lambda: plots.latent_scatter(np.zeros((3, 4))), "mu: got 4 columns, expected 2"),
        (lambda: plots.latent_scatter(np.zeros((3, 2)), np.zeros(2)), r"labels: got shape \(2,\)"),
        (lambda: plots.kl_per_dimension(np.zeros(3), np.zeros(2)), "kl, active: got shapes"),
    ],
)
def test_wrong_shapes_are_one_clear_line(draw: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        draw()
    assert "\n" not in str(caught.value)


def test_save_gives_the_same_bytes_and_nothing_but_the_picture(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        plots.save(plots.curves([_line(1, "train", -3.0), _line(2, "train", -2.0)]), tmp_path / name)
    first = (tmp_path / "a.png").read_bytes()
    assert first == (tmp_path / "b.png").read_bytes()
    assert first.startswith(b"\x89PNG")
    assert b"tEXt" not in first
    assert b"tIME" not in first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_save_that_fails_leaves_the_old_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "old.png"
    target.write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match=r"old\.png: cannot be written \(No space left on device\)$"):
        plots.save(plots.curves([]), target)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_matplotlib_is_imported_late_and_pyplot_never(tmp_path: Path) -> None:
    code = """
import sys
import numpy as np
from vae_np.pictures import plots
assert "matplotlib" not in sys.modules
import matplotlib
# copy(), since looking up the backend one by one would import pyplot.
before = matplotlib.rcParams.copy()
rows, points = np.eye(4), np.eye(2)
figures = [
    plots.image_grid(rows, (2, 2)), plots.samples(rows, None), plots.reconstructions(rows, rows, (2, 2)),
    plots.reconstructions(points, points, None), plots.interpolations(rows[None], (2, 2)),
    plots.manifold(rows, 2, (2, 2)), plots.latent_scatter(points, np.arange(2)),
    plots.kl_per_dimension(np.ones(3), np.ones(3, dtype=bool)),
    plots.curves([{"step": step, "split": "train", "elbo": -1.0, "beta": step} for step in (1, 2)]),
]
for figure in figures:
    plots.save(figure, sys.argv[1])
assert matplotlib.rcParams.copy() == before
assert "matplotlib.pyplot" not in sys.modules
"""
    run = [sys.executable, "-W", "error", "-c", code, str(tmp_path / "any.png")]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_draws_over_data_show_both_and_a_density_below_them() -> None:
    points, drawn = _images(30, 2), _images(20, 2, seed=1)
    axis = np.linspace(0, 1, 7)
    density = np.exp(-((axis[:, None] - 0.5) ** 2 + (axis - 0.2) ** 2))
    figure = plots.over_data(points, drawn, (axis, axis, density))
    ax = figure.axes[0]
    offsets = [np.asarray(dots.get_offsets()) for dots in ax.collections if len(dots.get_offsets()) in (30, 20)]
    np.testing.assert_array_equal(offsets[0], points)
    np.testing.assert_array_equal(offsets[1], drawn)
    legend = ax.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["data", "drawn by the model"]
    assert len(ax.collections) == 3
    assert len(plots.over_data(points, drawn).axes[0].collections) == 2
    with pytest.raises(InputError, match="drawn: got shape"):
        plots.over_data(points, drawn[0])
