"""The report in a browser: opened from the disk, its decoder beside NumPy's, dragging, and both widths.

Budget: about 20 s.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commandline import good

from browser.widths import WIDTHS
from vae_np import VAE
from vae_np.data import bars

NUMPY = ("--backend", "numpy")
QUICK = ("--hidden", 8, "--batch-size", 20, "--no-plots", "--lr", 0.01, *NUMPY)
# A run of each kind: its options, and which plot one drags in.
RUNS: dict[str, tuple[object, ...]] = {
    "plane": ("--data", "images.npy", "--latent", 2, "--epochs", 2),
    "wide": ("--data", "wide.npy", "--image-shape", "2,8", "--latent", 3, "--epochs", 2, "--activation", "softplus"),
    "points": ("--data", "rings", "--likelihood", "normal", "--latent", 1, "--epochs", 1, "--activation", "tanh"),
    "scaled": ("--data", "points.npy", "--likelihood", "normal", "--standardize", "--latent", 2, "--epochs", 2),
    "columns": ("--data", "columns.npy", "--likelihood", "normal", "--latent", 20, "--epochs", 1),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, a run of each kind, and its report."""
    place = tmp_path_factory.mktemp("place")
    random = np.random.default_rng(0)
    np.save(place / "images.npy", bars(4, 200, 0)[0])
    np.save(place / "wide.npy", bars(4, 200, 1)[0])
    np.save(place / "points.npy", 40 + 7 * random.standard_normal((200, 2)))
    np.save(place / "columns.npy", random.standard_normal((200, 7)))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for name, options in RUNS.items():
            good("train", *options, *QUICK, "--out", name)
            good("report", name, "--samples", 5, *NUMPY)
    return place


def opened(watched: Any, place: Path, name: str, width: int) -> Any:
    """A window on a report, from the disk; anything that it loaded beside itself would be a problem."""
    address = (place / name / "report.html").as_uri()
    window = watched(width, address)
    window.page.goto(address)
    return window


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", RUNS)
def test_it_opens_from_the_disk_and_fits_the_window(name: str, width: int, place: Path, watched: Any) -> None:
    window = opened(watched, place, name, width)
    assert window.problems == []
    assert window.width() <= width
    said = window.page.locator("body").inner_text()
    for words in ("Evaluation", "ELBO", "active units", "Training", "Latent explorer", "Configuration", "batch_size"):
        assert words in said
    broken = "[...document.images].filter(image => !image.complete || !image.naturalWidth).length"
    assert window.page.evaluate(broken) == 0


@pytest.mark.parametrize("name", RUNS)
def test_the_decoder_in_the_page_is_numpys(name: str, place: Path, watched: Any) -> None:
    vae = VAE.load(place / name, backend="numpy")
    z = np.random.default_rng(1).standard_normal((20, vae.arch.latent)).astype(np.float32)
    window = opened(watched, place, name, 1280)
    found = np.array(window.page.evaluate("places => places.map(z => window.report.decode(z))", z.tolist()))
    expected = vae.decode(z)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-5 * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", RUNS)
def test_a_slider_and_a_drag_decode_anew(name: str, width: int, place: Path, watched: Any) -> None:
    window = opened(watched, place, name, width)

    def picture() -> str:
        return str(window.page.evaluate("document.querySelector('canvas.decoded').toDataURL()"))

    before = picture()
    slider = window.page.locator("input[data-latent]").first
    slider.focus()
    # An end of the slider, whichever is farther away.
    slider.press("End" if float(slider.input_value()) < 0 else "Home")
    assert picture() != before
    planes = window.page.locator("canvas.plane")
    assert planes.count() == (name in ("plane", "scaled"))
    if planes.count():
        planes.scroll_into_view_if_needed()
        box, before = planes.bounding_box(), window.page.evaluate("[...window.report.z]")
        window.page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 0.5 * box["height"])
        window.page.mouse.down()
        window.page.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + 0.25 * box["height"], steps=3)
        window.page.mouse.up()
        after = window.page.evaluate("[...window.report.z]")
        assert after != before
        assert after[0] == pytest.approx(after[1], abs=0.1)
    assert window.problems == []


def test_the_way_between_two_examples_ends_at_their_means(place: Path, watched: Any) -> None:
    window = opened(watched, place, "plane", 1280)
    thumbs = window.page.locator(".thumbs button")
    assert thumbs.count() == 20
    means = []
    for row in (3, 7):
        thumbs.nth(row).click()
        means.append(window.page.evaluate("[...window.report.z]"))
    between = window.page.locator("#between")
    between.focus()
    between.press("End")
    assert window.page.evaluate("[...window.report.z]") == pytest.approx(means[0])
    vae = VAE.load(place / "plane", backend="numpy")
    rows = np.load(place / "images.npy")[180:]
    assert np.array(means) == pytest.approx(vae.encode(rows)[0][[3, 7]], abs=1e-5)
