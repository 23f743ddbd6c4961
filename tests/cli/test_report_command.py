"""`vae-np report`: what is in the page, and what is refused; tests/browser opens it.

Budget: about 6 s.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from commandline import TINY, good, vae_np, validate

from vae_np import VAE
from vae_np.data import bars

NUMPY = ("--backend", "numpy")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and a run on them."""
    place = tmp_path_factory.mktemp("place")
    np.save(place / "bars.npy", bars(4, 124, 0)[0])
    good("train", "--data", place / "bars.npy", "--epochs", 2, *TINY, *NUMPY, "--out", place / "run")
    return place


def test_it_is_one_file_with_the_figures_of_eval(place: Path, tmp_path: Path) -> None:
    target = tmp_path / "new" / "page.html"
    result = good("report", place / "run", "--samples", 7, *NUMPY, "--out", target, "--json", "-")
    content = result.json
    assert (content["file"], content["bytes"]) == (str(target), target.stat().st_size)
    text = target.read_text(encoding="utf-8")
    # The only addresses are data, and the page's own parts.
    assert [found for found in re.findall(r'(?:src|href)="([^"]*)"', text) if not found.startswith("data:")] == []
    told = good("eval", place / "run", "--samples", 7, *NUMPY, "--no-plots").out
    for name, value in content["figures"].items():
        assert re.search(rf"{re.escape(name)} +│ +{re.escape(value)} │", told)
        assert f"<td>{value}</td>" in text
    assert list(content["figures"])[:3] == ["ELBO", "reconstruction", "KL"]


def test_weights_are_float32_and_the_default_models_page_is_small(tmp_path: Path) -> None:
    """`pt` has 784-400-20: under 5 MB with pictures."""
    VAE(784, seed=0, backend="numpy").save(tmp_path / "pt")
    target = tmp_path / "pt.html"
    good("report", tmp_path / "pt", "--samples", 2, "--images", 40, *NUMPY, "--out", target)
    assert target.stat().st_size < 5 * 2**20
    found = re.search(r'id="decoder">(.*?)</script>', target.read_text(encoding="utf-8"))
    assert found is not None
    layers = json.loads(found[1])["layers"]
    assert [(layer["inputs"], layer["outputs"]) for layer in layers] == [(20, 400), (400, 784)]
    assert len(layers[1]["weight"]) == 4 * -(-4 * 400 * 784 // 3)


def test_data_of_ones_own_are_shown(place: Path, tmp_path: Path) -> None:
    other = bars(4, 40, 9)[0]
    np.save(tmp_path / "other.npy", other)
    result = good(
        "report", place / "run", "--data", tmp_path / "other.npy", "--samples", 2, *NUMPY, "--out", tmp_path / "a.html"
    )
    assert "data     other.npy: 4 test rows" in result.out
    assert "other.npy: 4 test rows" in (tmp_path / "a.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--out", "page.pdf"), "out: got 'page.pdf', expected a name that ends in .html"),
        (("--out", ""), "out: got '', expected a name that ends in .html"),
        (("--samples", "0"), "samples: got 0, expected a whole number >= 1"),
        (("--images", "x"), "images: got 'x', expected a whole number >= 1"),
        (("--data", "absent.npy"), "data: got 'absent.npy', expected an existing file"),
        (("--data", "narrow.npy"), "data 'narrow.npy': train: got shape (20, 3), expected (N, 16)"),
    ],
)
def test_bad_input_is_one_line(
    options: tuple[str, ...], said: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("narrow.npy", np.zeros((20, 3), dtype=np.uint8))
    result = vae_np("report", place / "run", *NUMPY, *options)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert result.err.startswith(f"vae-np: {said}")
    assert not list(tmp_path.glob("*.html"))


def test_a_run_that_is_missing_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert vae_np("report", "absent").err == "vae-np: run: absent: there is no such folder\n"


def test_nothing_is_overwritten_unasked(place: Path) -> None:
    """Also where no name was given; with --overwrite it is."""
    target = place / "run" / "report.html"
    target.write_text("mine", encoding="utf-8")
    try:
        result = vae_np("report", place / "run", "--samples", 2, *NUMPY)
        assert (result.code, result.err) == (2, f"vae-np: out: {target}: exists; add --overwrite to replace it\n")
        assert target.read_text(encoding="utf-8") == "mine"
        good("report", place / "run", "--samples", 2, *NUMPY, "--overwrite")
        assert target.read_text(encoding="utf-8").startswith("<!doctype html>")
    finally:
        target.unlink()


def test_text_from_a_file_is_text_in_the_page(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name may hold what HTML reads as a tag, or what would end the page's data."""
    monkeypatch.chdir(tmp_path)
    name = "<b>&.npy"
    np.save(name, bars(4, 60, 0)[0])
    good("report", place / "run", "--data", name, "--samples", 2, *NUMPY, "--out", "a.html")
    text = Path("a.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;&amp;.npy" in text
    assert "<b>" not in text


def test_the_json_fits_its_schema(place: Path, tmp_path: Path) -> None:
    good("report", place / "run", "--samples", 2, *NUMPY, "--out", tmp_path / "a.html", "--json", tmp_path / "a.json")
    validate(json.loads((tmp_path / "a.json").read_text()))


def test_a_new_run_in_the_folder_takes_the_old_ones_page_away(tmp_path: Path) -> None:
    np.save(tmp_path / "bars.npy", bars(4, 124, 0)[0])
    train = ("train", "--data", tmp_path / "bars.npy", "--epochs", 1, *TINY, *NUMPY, "--out", tmp_path / "run")
    good(*train)
    good("report", tmp_path / "run", "--samples", 2, *NUMPY)
    assert (tmp_path / "run" / "report.html").exists()
    good(*train, "--overwrite")
    assert not (tmp_path / "run" / "report.html").exists()
