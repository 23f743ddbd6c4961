"""The words hold together: anchors, links, pointers into the code, and formulas that survive Markdown.

Budget: about 0.5 s.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from trees import KERNELS, ROOT

DERIVATION = ROOT / "docs" / "derivation"
DOCS = sorted((ROOT / "docs").rglob("*.md"))
WORDS = [ROOT / "README.md", *DOCS]
CODE = sorted(
    path
    for path in {*(ROOT / "vae_np").rglob("*"), *KERNELS.rglob("*")}
    if path.suffix in (".py", ".cu", ".cuh")
)
CHAPTERS = sorted(DERIVATION.glob("[0-9][0-9]-*.md"))

_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`[^`\n]*`")
_ANCHOR = re.compile(r'<a id="([^"]+)"></a>')
_MARK = re.compile(r"\[(D\d+)\b")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_DISPLAY = re.compile(r"^\$\$\n(.*?)\n\$\$$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"\$([^$\n]+)\$")
_POINTER = re.compile(r"`((?:[\w.-]+/)*[\w.-]+\.(?:py|cuh?))`((?:\s`[\w.]+`(?:,\s`[\w.]+`)*)?)")


def marks(text: str) -> set[str]:
    """The derivation's marks that a text cites: D7 for `[D7]`, and for `[D7; a source]`."""
    return set(_MARK.findall(text))


def anchors(text: str) -> list[str]:
    """What a link into this Markdown can point at: explicit anchors, and headings as GitHub names them."""
    text = _FENCE.sub("", text)
    headings = re.findall(r"^#+ (.*)$", _ANCHOR.sub("", text), re.MULTILINE)
    slugs = [re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings]
    return _ANCHOR.findall(text) + slugs


def broken_links(path: Path) -> list[str]:
    """The relative links of a Markdown file that lead nowhere."""
    broken = []
    for link in _LINK.findall(_SPAN.sub("", _FENCE.sub("", path.read_text(encoding="utf-8")))):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, fragment = link.partition("#")
        target = (path.parent / file) if file else path
        found = target.exists() and (not fragment or fragment in anchors(target.read_text(encoding="utf-8")))
        if not found:
            broken.append(link)
    return broken


@cache
def names(path: Path) -> frozenset[str]:
    """Everything a module defines at its top, and `Class.member`."""

    def defined(body: list[ast.stmt]) -> list[str]:
        found = []
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                found.append(node.name)
            elif isinstance(node, (ast.Assign, ast.AnnAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                found += [leaf.id for target in targets for leaf in ast.walk(target) if isinstance(leaf, ast.Name)]
            if isinstance(node, ast.ClassDef):
                found += [f"{node.name}.{member}" for member in defined(node.body)]
        return found

    return frozenset(defined(ast.parse(path.read_text(encoding="utf-8")).body))


def broken_pointers(text: str) -> list[str]:
    """Pointers such as `vae_np/ops.py` `affine_act_backward` whose file or name does not exist."""
    broken = []
    for file, listed in _POINTER.findall(_FENCE.sub("", text)):
        wanted = re.findall(r"`([\w.]+)`", listed)
        path = KERNELS.parent / file if file.startswith("kernels/") else ROOT / file
        if not path.is_file():
            if "/" in file or wanted:
                broken.append(file)
        elif path.suffix == ".py":
            broken += [f"{file} {name}" for name in wanted if name not in names(path)]
        else:
            source = path.read_text(encoding="utf-8")
            broken += [f"{file} {name}" for name in wanted if not re.search(rf"\b{name}\b", source)]
    return broken


def broken_formulas(text: str) -> list[str]:
    """Formulas that GitHub's Markdown would spoil before they are typeset, and unbalanced dollars."""
    text = _FENCE.sub("", text)
    displayed = _DISPLAY.findall(text)
    text = _SPAN.sub("", _DISPLAY.sub("", text))
    broken = [line for line in _INLINE.sub("", text).splitlines() if "$" in line]
    for match in _INLINE.finditer(text):
        before, after = text[match.start() - 1 : match.start()] or "\n", text[match.end() : match.end() + 1] or "\n"
        if before not in " \n(" or after not in " \n.,;:?)" or match[1] != match[1].strip():
            broken.append(text[max(match.start() - 10, 0) : match.end() + 10])
    for formula in displayed + _INLINE.findall(text):
        depth = [formula[: i + 1].count("{") - formula[: i + 1].count("}") for i in range(len(formula))]
        # Markdown eats `\,` and `\\`, reads < and > as HTML, * and an underscore after a bracket as emphasis; one
        # line a display, since a line that begins with + or = is a list or a heading.
        if re.search(r"\\[^A-Za-z]|[<>*~]|[})\]'|]_|\\operatorname|\n", formula) or min(depth) < 0 or depth[-1] != 0:
            broken.append(formula)
    return broken


def test_every_mark_has_one_anchor() -> None:
    counts = Counter(name for path in CHAPTERS for name in _ANCHOR.findall(path.read_text(encoding="utf-8")))
    assert counts == {f"D{n}": 1 for n in range(1, len(counts) + 1)}


def test_anchors_are_unique_within_a_file() -> None:
    for path in DOCS:
        counts = Counter(_ANCHOR.findall(path.read_text(encoding="utf-8")))
        assert not [name for name, count in counts.items() if count > 1], path.name


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_an_anchor_shows_its_mark(path: Path) -> None:
    for line in path.read_text(encoding="utf-8").splitlines():
        for name in _ANCHOR.findall(line):
            assert f"**[{name}]**" in line


@pytest.mark.parametrize("path", [*CODE, *WORDS], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_cited_marks_resolve(path: Path) -> None:
    known = {name for chapter in CHAPTERS for name in _ANCHOR.findall(chapter.read_text(encoding="utf-8"))}
    assert marks(path.read_text(encoding="utf-8")) <= known


def test_the_code_cites_the_derivation() -> None:
    cited = set().union(*(marks(path.read_text(encoding="utf-8")) for path in CODE))
    # Chapters 7 to 11, 13 to 18 and the end of 6 are computed; each of their marks is implemented, but for the one
    # that compares what others have.
    assert {f"D{n}" for n in range(21, 82)} - cited == {"D75"}


@pytest.mark.parametrize("path", WORDS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_relative_links_resolve(path: Path) -> None:
    assert broken_links(path) == []


@pytest.mark.parametrize("path", WORDS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_pointers_into_the_code_resolve(path: Path) -> None:
    assert broken_pointers(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", WORDS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_formulas_survive_markdown(path: Path) -> None:
    assert broken_formulas(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_is_whole(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    code = text.split("## In the code\n")[1].split("## Exercises\n")[0]
    assert any(listed for _, listed in _POINTER.findall(code))
    exercises = text.split("## Exercises\n")[1]
    assert exercises.count("<details>") == exercises.count("</details>") >= 2
    assert path.name in (DERIVATION / "README.md").read_text(encoding="utf-8")


def test_each_figure_of_a_chapter_is_there_twice_and_is_shown() -> None:
    """As SVG, which the page shows, and as PNG; the chapters' own tests say which figures a program makes."""
    pages = "".join(path.read_text(encoding="utf-8") for path in CHAPTERS)
    shown = set(re.findall(r"\]\(pictures/([\w-]+)\.svg\)", pages))
    for suffix in (".svg", ".png"):
        assert {path.stem for path in (DERIVATION / "pictures").glob(f"*{suffix}")} == shown
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "study").glob("test_chapter*.py"))
    assert [name for name in sorted(shown) if f'"{name}"' not in tests] == []


def test_there_are_eighteen_chapters() -> None:
    assert [path.name[:2] for path in CHAPTERS] == [f"{n:02d}" for n in range(1, 19)]


def test_marks_are_found_with_and_without_a_source() -> None:
    assert marks("x [D7] y [D37; Salmon et al. 2011] [D24](a.md#D24) D5 [Dx]") == {"D7", "D37", "D24"}


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "b.md").write_text('# A title\n<a id="D1"></a>\n')
    good = "[b](b.md) [b](b.md#D1) [b](b.md#a-title) [web](https://example.org/x) `[c](c.md)`"
    (tmp_path / "a.md").write_text(f"{good} [c](c.md) [b](b.md#D2) [d](#D1)\n")
    assert broken_links(tmp_path / "a.md") == ["c.md", "b.md#D2", "#D1"]


def test_a_broken_pointer_is_found() -> None:
    good = "`tests/test_docs.py` `marks`,\n`WORDS` `setup.cfg` `no.py` `kernels/check.py` `compare`"
    assert broken_pointers(good) == []
    bad = "`tests/test_docs.py` `marks`, `gone`; `tests/absent.py`; `absent.py` `f`; `vae_np/errors.py` `InputError.f`"
    assert broken_pointers(bad) == [
        "tests/test_docs.py gone",
        "tests/absent.py",
        "absent.py",
        "vae_np/errors.py InputError.f",
    ]


@pytest.mark.parametrize(
    "text",
    [
        r"$a \, b$",
        "$a < b$",
        r"$\mathbb{E}_q$",
        "$a$-th",
        "x$a$",
        "$ a$",
        "costs 5$",
        "$$\na\n= b\n$$",
        r"$\frac{1}{2$",
        "$a*b$",
    ],
)
def test_a_spoilt_formula_is_found(text: str) -> None:
    assert broken_formulas(text) != []


def test_a_sound_formula_is_accepted() -> None:
    assert broken_formulas("So ($a_i$) and\n\n$$\n\\frac{1}{2} x_{ij} \\lt 3\n$$\n\n`cost $5`, $\\mathbb E_q f$.") == []
