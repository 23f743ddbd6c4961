"""The tables of speed say what the files say. Budget: about 1 s."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vae_np.cli.bench import _load as load


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The module over a folder with two processors' made-up figures."""
    speed_page = load("speed_page")
    monkeypatch.setattr(speed_page, "RESULTS", tmp_path)
    monkeypatch.setattr(speed_page, "NAMES", {"fast": "Fast", "slow": "Slow"})
    times = {"numba": 1.0, "numba dense": 2.0, "jax": 4.0, "torch eager": 9.0, "torch whole graph": 5.0}
    times["gemm only"] = 2.5
    for processor, ratio in (("fast", 0.25), ("slow", 1.25)):
        (tmp_path / processor).mkdir()
        results = [
            {"what": "step", "workload": "pt", "backend": name, "median_ms": ms, "sparse": name == "numba",
             "ratio_to_fastest_peer": ratio, "ratio_to_gemm_floor": 0.4}
            for name, ms in times.items()
        ]  # fmt: skip
        (tmp_path / processor / "cpu-step-pt.json").write_text(json.dumps({"results": results}))
    return speed_page


def test_a_row_has_everyone_the_word_sparse_and_the_fastest_of_pytorch(page: Any) -> None:
    assert page.table("fast", "step").splitlines()[2] == (
        "| `pt` | sparse | 1 | 2 | 4 | 5, whole graph | – | 2.5 | 0.25 | 0.40 |"
    )
    assert page.table("fast", "step with binarisation") == page.table("none", "step") == "Nothing was measured."


def test_the_front_page_shows_the_worst_processor(page: Any) -> None:
    (line,) = page.front().splitlines()[2:]
    assert line == "| `pt` | Slow | 1 ms | sparse | 4 ms | 5, whole graph | **1.25** |"


def test_marks_are_filled_and_the_rest_stays(page: Any) -> None:
    text = "a\n<!-- speed fast step: begin -->\nold\n<!-- speed fast step: end -->\nb\n"
    filled = page.filled(text)
    assert filled.startswith("a\n<!-- speed fast step: begin -->\n| workload |")
    assert filled.endswith("|\n<!-- speed fast step: end -->\nb\n")
    assert page.filled(filled) == filled


@pytest.mark.parametrize("name", ["PAGE", "FRONT"])
def test_the_pages_say_what_the_files_say(name: str) -> None:
    speed_page = load("speed_page")
    text = getattr(speed_page, name).read_text(encoding="utf-8")
    assert "<!-- speed " in text
    assert speed_page.filled(text) == text
