"""The notebooks: each is what its chapter's program gives now, and runs from top to bottom without a claim that fails.

Budget: about 6 s, in a kernel (marked slow: two minutes more, nearly all of it the study itself).
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from study.notebook import in_a_kernel
from trees import ROOT

from vae_np import study
from vae_np.study.claims import as_text, at_most, equal

FOLDER = ROOT / "docs" / "notebooks"
_SPEC = importlib.util.spec_from_file_location("generate", FOLDER / "generate.py")
assert _SPEC is not None
assert _SPEC.loader is not None
generate = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(generate)
# The one that takes least. tests/study runs the cells of each, where its chapter is computed anyway.
QUICKEST = "04-variational-inference"


@pytest.mark.parametrize("name", study.CHAPTERS)
def test_a_notebook_is_what_its_chapter_gives(name: str) -> None:
    assert (FOLDER / f"{name}.ipynb").read_text(encoding="utf-8") == generate.as_json(name), (
        "python docs/notebooks/generate.py writes it anew"
    )


def test_there_is_no_other_notebook_and_each_is_listed() -> None:
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(study.CHAPTERS)
    assert (FOLDER / "README.md").read_text(encoding="utf-8") == generate.as_page()


@pytest.mark.parametrize("name", study.CHAPTERS)
def test_it_opens_with_a_change_that_is_possible(name: str) -> None:
    """The cell that is to be changed sets a name that the chapter has, to the value that it has."""
    cells = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    assert "**Change this first.**" in "".join(cells[0]["source"])
    change = "".join(cells[2]["source"])
    target, value = change.split("  #")[0].split(" = ")
    chapter = importlib.import_module(generate.module_of(name))
    assert eval(target, {"chapter": chapter, "seed": 0}) == eval(value)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == QUICKEST else pytest.mark.slow) for name in study.CHAPTERS]
)
def test_a_notebook_runs_in_a_kernel(name: str, tmp_path: Path) -> None:
    in_a_kernel(name, tmp_path).check(name)


def test_claims_as_text_say_what_fails() -> None:
    claims = [
        equal(1, "a", 1.0, 1.0, 1e-3, by=("one", "two"), relative=True),
        at_most(1, "b", 2.0, 1.0, by=("one", "two")),
    ]
    assert as_text(claims).splitlines() == [
        "ok   a", "     1 = 1, tolerance 0.001 relative", "     one | two",
        "FAIL b", "     2 <= 1, tolerance 0", "     one | two",
    ]  # fmt: skip
