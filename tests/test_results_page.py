"""The page of results says what the files say: its tables are the ones that `bench/results_page.py` makes.

Budget: about 0.2 s.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
_SPEC = importlib.util.spec_from_file_location("results_page", ROOT / "bench" / "results_page.py")
assert _SPEC is not None
assert _SPEC.loader is not None
results_page = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = results_page
_SPEC.loader.exec_module(results_page)

TEST = {
    "log_likelihood": {"mean": -87.125, "stderr": 0.25}, "samples": 5000, "estimator": "is", "data": "test",
    "examples": 10000, "available": 10000, "ess": {"mean": 61.4, "stderr": 1.0}, "degenerate": 0, "seconds": 90.0,
    "temperatures": None,
}  # fmt: skip
CHAINS = {"estimator": "ais", "samples": 16, "temperatures": 500, "ess": {"mean": 5.82, "stderr": 1.0}}
BOTH = {
    **CHAINS, "estimator": "bdmc", "data": "simulated", "examples": 100, "available": 100,
    "log_likelihood_upper": {"mean": -86.875, "stderr": 0.5}, "gap": {"mean": 0.25, "stderr": 0.0625},
    "acceptance": {"mean": 0.625, "stderr": 0.01},
}  # fmt: skip


def write(folder: Path, name: str, trained: float | None = 7200.0, shortened: str | None = None, **test: Any) -> Any:
    """A file as `vae-np eval --json` writes it, with some of its values changed, as it is read."""
    content = {
        "schema": "vae-np/eval/1",
        "test": {**TEST, **test},
        "train": {"seconds": trained},
        "shortened": shortened,
        "backend": "numba",
        "dtype": "float32",
        "environment": {"cores": 2},
    }
    path = folder / name
    path.write_text(json.dumps(content))
    return results_page.Result.read(path)


def of_images(folder: Path, name: str, values: list[float], sizes: list[float], **test: Any) -> Any:
    """The same for the first images, with the file of --per-example beside it."""
    count = len(sizes)
    np.savez(folder / f"{name}.npz", row=np.arange(count), log_likelihood=values, ess=sizes)
    return write(folder, f"{name}.json", **{"examples": count, **test})


def test_the_page_has_the_tables_of_the_files() -> None:
    page = results_page.PAGE.read_text(encoding="utf-8")
    assert results_page.written(page) == results_page.tables(), "write it anew: python bench/results_page.py"


def test_a_row_says_what_the_file_says(tmp_path: Path) -> None:
    result = write(tmp_path, "likelihood-burda2015-vae.json")
    assert results_page.row(result, [result]) == (
        "`burda2015-vae`", "all stages", "87.12 ± 0.25", "5000 importance samples", "61", "86.76", "+0.36", "2.0 h",
        "90 s", "numba, float32, 2 cores",
    )  # fmt: skip


def test_what_is_shortened_or_degenerate_says_so(tmp_path: Path) -> None:
    result = write(
        tmp_path, "likelihood-burda2015-iwae5-stages1-5.json", None, "stages 1-5 of 8", degenerate=7, **CHAINS
    )
    cells = results_page.row(result, [result])
    assert cells[:2] == ("`burda2015-iwae5`", "**shortened:** stages 1-5 of 8")
    assert cells[3:6] == ("16 annealed chains of 500 temperatures", "5.8, 7 below 2", "85.54")
    assert cells[7] == "not known"


def test_the_same_images_are_compared_one_by_one(tmp_path: Path) -> None:
    base = of_images(tmp_path, "likelihood-burda2015-vae-a", [-80.0, -90.0, -100.0], [50.0, 1.5, 1.0], degenerate=2)
    chains = of_images(tmp_path, "likelihood-burda2015-vae-b", [-80.0, -89.0, -98.0], [6.0, 5.0, 4.0], **CHAINS)
    # Another model's, and more images of the same model: no base of theirs.
    other = of_images(tmp_path, "likelihood-burda2015-vae-c", [-1.0] * 3, [9.0] * 3, shortened="stages 1-5 of 8")
    more = of_images(tmp_path, "likelihood-burda2015-vae-d", [-1.0] * 4, [9.0] * 4)
    together = [other, more, chains, base]
    assert {each.table for each in together} == {"images"}
    cells = results_page.row(chains, together)
    # Differences 0, 1, 2: standard deviation 1 over √3 images.
    assert cells[2:8] == (
        "3", "87.12 ± 0.25", "16 annealed chains of 500 temperatures", "5.8", "+1.00 ± 0.58", "+1.50 on 2",
    )  # fmt: skip
    assert results_page.row(base, together)[5:8] == ("61, 2 below 2", "", "")
    good = of_images(tmp_path, "likelihood-burda2015-vae-e", [-1.0] * 4, [9.0] * 4, **CHAINS)
    assert results_page.row(good, [good, more])[6:8] == ("+0.00 ± 0.00", "none had")


def test_other_images_and_a_missing_base_are_refused(tmp_path: Path) -> None:
    base = of_images(tmp_path, "likelihood-burda2015-vae-a", [-80.0, -90.0], [50.0, 1.5])
    chains = of_images(tmp_path, "likelihood-burda2015-vae-b", [-80.0, -89.0], [6.0, 5.0], **CHAINS)
    with pytest.raises(ValueError, match="expected an estimate by 5000 importance samples"):
        results_page.row(chains, [chains])
    np.savez(tmp_path / "likelihood-burda2015-vae-b.npz", row=[0, 2], log_likelihood=[-80.0, -89.0], ess=[6.0, 5.0])
    with pytest.raises(ValueError, match=r"expected the images of likelihood-burda2015-vae-a\.json"):
        results_page.row(chains, [chains, base])


def test_a_bracket_has_both_sides(tmp_path: Path) -> None:
    result = write(tmp_path, "likelihood-burda2015-vae-simulated.json", **BOTH)
    assert result.table == "simulated"
    assert results_page.row(result, [result]) == (
        "`burda2015-vae`", "all stages", "100", "87.12 ± 0.25", "86.88 ± 0.50", "0.25 ± 0.06",
        "16 annealed chains of 500 temperatures", "5.8", "0.62", "90 s", "numba, float32, 2 cores",
    )  # fmt: skip


def evaluated(folder: Path, name: str, stages: str, elbo: list[float], rows: tuple[int, ...] = (0, 1)) -> None:
    """The two files that a family's line is made of, for two images with log p(x) −80 and −90 by chains."""
    trained = {"trained": 90.0, "shortened": f"stages {stages} of 8", "examples": 2}
    for kind, settings in (("is", {}), ("ais", CHAINS)):
        path = folder / f"likelihood-{name}-stages-{stages}-first-2-{kind}"
        write(folder, f"{path.name}.json", elbo={"mean": -95.5, "stderr": 0.25}, **trained, **settings)
        np.savez(path, row=rows, log_likelihood=[-80.0, -90.0], elbo=elbo, ess=[9.0, 9.0])


def test_families_are_compared_where_all_have_been_trained_as_far(tmp_path: Path) -> None:
    evaluated(tmp_path, "burda2015-full", "1-4", [-82.0, -91.0])
    evaluated(tmp_path, "burda2015-vae", "1-4", [-83.0, -94.0])
    # Trained further than the others, and of another model: no line of this table.
    evaluated(tmp_path, "burda2015-vae", "1-5", [-81.0, -91.0])
    evaluated(tmp_path, "burda2015-iwae5", "1-4", [-81.0, -91.0])
    table = results_page.tables(tmp_path)["families"]
    common, end = "**shortened:** stages 1-4 of 8 |", "| 2 | 95.50 ± 0.25 | 87.12 ± 0.25 | 87.12 ± 0.25 |"
    # Gaps 3 and 4 beside 2 and 1: means, and the standard deviations √½ and √2 over √2 images.
    assert table.strip().splitlines()[2:] == [
        f"| `burda2015-vae` | {common} diagonal {end} 3.50 ± 0.50 |  | 90 s |",
        f"| `burda2015-full` | {common} full {end} 1.50 ± 0.50 | +2.00 ± 1.00 | 90 s |",
    ]


def test_families_over_other_images_are_refused(tmp_path: Path) -> None:
    evaluated(tmp_path, "burda2015-vae", "1-4", [-83.0, -94.0])
    evaluated(tmp_path, "burda2015-full", "1-4", [-82.0, -91.0], rows=(0, 2))
    with pytest.raises(ValueError, match=r"full-stages-1-4-first-2-ais\.json: expected the images of likelihood-"):
        results_page.tables(tmp_path)


def test_priors_are_compared_image_by_image_after_the_same_steps(tmp_path: Path) -> None:
    terms = {"elbo": {"mean": -95.5, "stderr": 0.25}, "kl": {"mean": 24.5, "stderr": 0.125}}
    for name, values in (("standard", [-80.0, -90.0]), ("vamp", [-79.0, -87.0])):
        content = write(tmp_path, "likelihood-burda2015-vae.json", **terms, examples=2).content
        content["train"]["steps"] = 22000
        (tmp_path / f"prior-{name}-first-2.json").write_text(json.dumps(content))
        np.savez(tmp_path / f"prior-{name}-first-2.npz", row=[0, 1], log_likelihood=values, ess=[9.0, 9.0])
    plain, vamp = results_page.prior_rows(tmp_path)
    assert plain[:9] == (
        "standard", "**shortened:** 22,000 steps", "2", "95.50 ± 0.25", "24.50 ± 0.12", "87.12 ± 0.25",
        "5000 importance samples", "61", "",
    )  # fmt: skip
    # Differences 1 and 3: their mean, and the standard deviation √2 over √2 images.
    assert vamp[8:11] == ("+2.00 ± 1.00", "82.38", "2.0 h")
    content["train"]["steps"] = 11000
    (tmp_path / "prior-vamp-first-2.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="expected the same of the standard prior after 11000 steps"):
        results_page.prior_rows(tmp_path)


def test_a_model_that_no_paper_has_is_compared_with_none(tmp_path: Path) -> None:
    result = write(tmp_path, "likelihood-burda2015-planar.json")
    assert results_page.row(result, [result])[5:7] == ("none", "")


def test_names_that_share_a_beginning_are_told_apart(tmp_path: Path) -> None:
    for name, expected in (
        ("burda2015-iwae5", 85.54), ("burda2015-iwae50", 84.78),
        ("burda2015-two-layers-vae", 85.33), ("burda2015-two-layers-iwae5", 83.89),
    ):  # fmt: skip
        result = write(tmp_path, f"likelihood-{name}.json")
        assert f"{expected:.2f}" in results_page.row(result, [])


@pytest.mark.parametrize(
    ("name", "changes"),
    [("likelihood-mine.json", {}), ("likelihood-burda2015-vae.json", {"log_likelihood": None})],
)
def test_what_is_no_result_is_refused(tmp_path: Path, name: str, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        write(tmp_path, name, **changes)


def test_an_empty_folder_has_no_row_and_a_full_one_a_row_a_file(tmp_path: Path) -> None:
    assert not any("|" in table for table in results_page.tables(tmp_path).values())
    for name in ("burda2015-vae", "burda2015-iwae50-stages1-3"):
        write(tmp_path, f"likelihood-{name}.json")
    write(tmp_path, "likelihood-burda2015-vae-simulated.json", **BOTH)
    found = results_page.tables(tmp_path)
    lines = {name: table.strip().splitlines() for name, table in found.items()}
    assert [line.split("|")[1].strip() for line in lines["results"][2:]] == ["`burda2015-vae`", "`burda2015-iwae50`"]
    assert len(lines["simulated"]) == 3
    for name, rows in lines.items():
        assert all(line.count("|") == len(results_page.TABLES[name]) + 1 for line in rows if "|" in line)


def test_rows_of_a_model_go_from_cheap_to_dear(tmp_path: Path) -> None:
    settings = ((50000, "is", None), (16, "ais", 2000), (5000, "is", None), (16, "ais", 500))
    results = [
        write(tmp_path, f"likelihood-burda2015-vae-{i}.json", samples=samples, estimator=kind, temperatures=count)
        for i, (samples, kind, count) in enumerate(settings)
    ]
    found = [each.by for each in sorted(results, key=results_page.Result.order)]
    assert found == [
        "5000 importance samples", "50000 importance samples", "16 annealed chains of 500 temperatures",
        "16 annealed chains of 2000 temperatures",
    ]  # fmt: skip


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="no part between two marks 'images'"):
        results_page.written("<!-- results: begin -->\n<!-- results: end -->\n")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3.2, "3 s"), (99, "99 s"), (170, "3 min"), (5400, "90 min"), (9000, "2.5 h"), (None, "not known")],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert results_page.duration(seconds) == text
