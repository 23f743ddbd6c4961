"""The kernels' lesson: its excerpts are the sources', its drawing the constants', its stages compute the same.

Budget: about 6 s, most of it compilation.
"""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trees import ROOT

from vae_np import backends

DOCS = ROOT / "docs"
EXCERPTS: dict[str, Any] = runpy.run_path(str(DOCS / "site" / "excerpts.py"))
LESSON = DOCS / "kernels-tutorial.md"
needs_numba = pytest.mark.skipif(backends.missing("numba") is not None, reason=str(backends.missing("numba")))

SOURCE = '''"""A module."""


@decorated
def kept(x):
    """What it does."""
    first = x
    second = first
    return second


def other():
    pass
'''
CUDA = """// Of another.
int before() { return 0; }

// What it does.
// And why.
extern "C" __global__ void
    kept(int x) {
    if (x) {
        before();
    }
}

__device__ int after(int x) { return kept(x); }
"""


@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.md")), ids=lambda path: path.relative_to(DOCS).as_posix())
def test_excerpts_in_the_pages_are_what_the_sources_have(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert EXCERPTS["filled"](text) == text, "python docs/site/excerpts.py writes them anew"


def test_the_lesson_shows_the_code_of_every_stage() -> None:
    text = LESSON.read_text(encoding="utf-8")
    found = [block for block in text.split("\n<!-- excerpt: ")[1:] if block.split("-->\n")[1].startswith("```")]
    assert len(found) == text.count("<!-- excerpt:") >= 13
    places = ("vae_np/ops.py", "cpu/reparam.py", "pool.py", "fused/rows.py", "math.cuh", "reparam.cu", "tile.py")
    assert [place for place in places if not any(place in block.split("-->")[0] for block in found)] == []


def test_an_excerpt_follows_its_source(tmp_path: Path) -> None:
    source = tmp_path / "a.py"
    source.write_text(SOURCE)
    page = "Before.\n\n<!-- excerpt: a.py kept -->\n```python\n```\n\nAfter.\n"
    filled = EXCERPTS["filled"](page, tmp_path)
    assert "```python\n@decorated\ndef kept(x):\n" in filled
    assert "    return second\n```\n\nAfter.\n" in filled
    assert EXCERPTS["filled"](filled, tmp_path) == filled
    source.write_text(SOURCE.replace("second = first", "second = 2 * first"))
    assert EXCERPTS["filled"](filled, tmp_path) != filled


def test_an_excerpt_takes_a_stretch_of_lines(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(SOURCE)
    assert EXCERPTS["excerpt"](tmp_path / "a.py", "kept", "first = x", "second") == "first = x\nsecond = first"


def test_an_excerpt_of_cuda_has_its_comment(tmp_path: Path) -> None:
    (tmp_path / "a.cu").write_text(CUDA)
    lines = EXCERPTS["excerpt"](tmp_path / "a.cu", "kept").splitlines()
    assert (lines[0], lines[2], lines[-1], len(lines)) == ("// What it does.", 'extern "C" __global__ void', "}", 8)
    assert EXCERPTS["excerpt"](tmp_path / "a.cu", "before") == "// Of another.\nint before() { return 0; }"
    assert EXCERPTS["excerpt"](tmp_path / "a.cu", "after").count("\n") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("gone",), "has no gone"), (("kept", "first = x", "absent"), 'no lines from "first = x" to "absent"')],
)
def test_an_excerpt_that_the_source_lacks_is_an_error(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(SOURCE)
    with pytest.raises(ValueError, match=message):
        EXCERPTS["excerpt"](tmp_path / "a.py", *arguments)


@needs_numba
def test_the_drawing_has_the_sizes_of_the_code() -> None:
    from vae_np.kernels.cpu.runtime.lowering import TILE_ROWS, VECTOR_BYTES

    drawn = runpy.run_path(str(DOCS / "pictures" / "panels_and_tiles.py"))
    assert drawn["drawing"]() == drawn["PATH"].read_text(encoding="utf-8"), "docs/pictures/panels_and_tiles.py draws it"
    if VECTOR_BYTES == 64:
        assert (drawn["TILE_ROWS"], 4 * drawn["LANES"]) == (TILE_ROWS, VECTOR_BYTES)


@needs_numba
def test_every_stage_computes_the_same() -> None:
    program = runpy.run_path(str(DOCS / "examples" / "kernel_stages.py"))
    found = {name: call() for name, call in program["stages"](7, 5).items()}
    assert len(found) >= 5
    for name, (z, kl) in found.items():
        np.testing.assert_allclose(z, found["1 NumPy, vae_np.ops"][0], rtol=1e-6, atol=1e-6, err_msg=name)
        np.testing.assert_allclose(kl, found["1 NumPy, vae_np.ops"][1], rtol=1e-6, atol=1e-6, err_msg=name)
