"""The page of results says what the files say: its table is the one that `bench/results_page.py` makes.

Budget: about 0.1 s.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
_SPEC = importlib.util.spec_from_file_location("results_page", ROOT / "bench" / "results_page.py")
assert _SPEC is not None
assert _SPEC.loader is not None
results_page = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(results_page)


def write(folder: Path, name: str, **changes: Any) -> Path:
    """A file as `vae-np eval --json` writes it, with some of its values changed."""
    test = {
        "log_likelihood": {"mean": -87.125, "stderr": 0.25}, "samples": 5000, "estimator": "is", "data": "test",
        "examples": 10000, "available": 10000, "ess": {"mean": 61.4, "stderr": 1.0}, "degenerate": 0, "seconds": 90.0,
    }  # fmt: skip
    content = {
        "schema": "vae-np/eval/1",
        "test": {**test, **{key: value for key, value in changes.items() if key in test}},
        "train": {"seconds": changes.get("trained", 7200.0)},
        "shortened": changes.get("shortened"),
        "backend": "numba",
        "dtype": "float32",
        "environment": {"cores": 2},
    }
    path = folder / name
    path.write_text(json.dumps(content))
    return path


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_page_has_the_table_of_the_files() -> None:
    page = results_page.PAGE.read_text(encoding="utf-8")
    assert results_page.written(page) == results_page.text(), "write it anew: python bench/results_page.py"


def test_a_row_says_what_the_file_says(tmp_path: Path) -> None:
    assert cells(results_page.row(write(tmp_path, "likelihood-burda2015-vae.json"))) == [
        "`burda2015-vae`", "all stages", "87.12 ± 0.25", "5000 importance samples", "61", "86.76", "+0.36", "2.0 h",
        "90 s", "numba, float32, 2 cores",
    ]  # fmt: skip


def test_what_is_shortened_partial_or_degenerate_says_so(tmp_path: Path) -> None:
    row = results_page.row(
        write(
            tmp_path, "likelihood-burda2015-iwae5-stages1-5.json", shortened="stages 1-5 of 8", examples=100,
            degenerate=7, trained=None, estimator="ais", samples=16,
        )
    )  # fmt: skip
    found = cells(row)
    assert found[:2] == ["`burda2015-iwae5`", "**shortened:** stages 1-5 of 8"]
    assert found[3:6] == ["16 annealed chains, first 100 images", "61, 7 below 2", "85.54"]
    assert found[7] == "not known"


def test_names_that_share_a_beginning_are_told_apart(tmp_path: Path) -> None:
    for name, expected in (("burda2015-iwae5", 85.54), ("burda2015-iwae50", 84.78)):
        assert f"{expected:.2f}" in cells(results_page.row(write(tmp_path, f"likelihood-{name}.json")))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("likelihood-mine.json", {}),
        ("likelihood-burda2015-vae.json", {"data": "simulated"}),
        ("likelihood-burda2015-vae.json", {"log_likelihood": None}),
    ],
)
def test_what_is_no_result_is_refused(tmp_path: Path, name: str, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        results_page.row(write(tmp_path, name, **changes))


def test_an_empty_folder_has_no_row_and_a_full_one_a_row_a_file(tmp_path: Path) -> None:
    assert "|" not in results_page.text(tmp_path)
    for name in ("burda2015-vae", "burda2015-iwae50-stages1-3"):
        write(tmp_path, f"likelihood-{name}.json")
    lines = results_page.text(tmp_path).strip().splitlines()
    assert [cells(line)[0] for line in lines[2:]] == ["`burda2015-iwae50`", "`burda2015-vae`"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3.2, "3 s"), (99, "99 s"), (170, "3 min"), (5400, "90 min"), (9000, "2.5 h"), (None, "not known")],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert results_page.duration(seconds) == text
