"""Two pages of the derivation that are written by what they speak of: the claims, and the index of the marks."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from trees import ROOT

from vae_np.study.claims import CLAIMS

from . import record
from .mistakes import EVIDENCE, LIKELIHOOD, MISTAKES
from .planting import CHAPTER

DERIVATION = ROOT / "docs" / "derivation"
_HEADING = re.compile(r'^## <a id="(D\d+)"></a>(.*) \*\*\[D\d+\]\*\*$', re.MULTILINE)
_MARK = re.compile(r"\[(D\d+)\b")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")


def counts() -> dict[str, int]:
    """How many claims, rows and mistakes there are, and rows that the two shifts turn."""
    found = record.read()
    shifted = {
        name: sum(map(len, found["turned"].get(mistake.text, {}).values()))
        for name, mistake in (("evidence", EVIDENCE), ("likelihood", LIKELIHOOD))
    }
    rows = sum(map(len, found["rows"].values()))
    return {"claims": len(found["rows"]), "rows": rows, "mistakes": len(MISTAKES), **shifted}


def claims_page() -> str:
    """docs/derivation/claims.md."""
    found, total = record.read(), counts()
    by_row = record.by_row(found)
    lines = [
        "# The claims",
        "",
        f"The derivation makes {len(CLAIMS)} claims, for which `vae-np study all` computes rows. A row compares two",
        "computations, which the second column names, and holds within the tolerance that the program prints. A row",
        "that nothing can turn proves nothing. So mistakes are planted in the package, one at a time,",
        f"{total['mistakes']} in all, and each of the {total['rows']} rows of {total['claims']} claims is turned",
        "to FAIL by at least one of them; the third column names the one that turns the fewest others. The page is",
        "written by the tests that plant the mistakes (`python -m tests.study_mistakes all`), and a test fails where",
        "it is out of date.",
        "",
        "Two of the mistakes move a level by a constant: one adds 5 nats to every quadrature's $\\log p(x)$, the other",
        f"2 nats to the decoder's $\\log p(x \\mid z)$. The first turns {total['evidence']} rows, the second",
        f"{total['likelihood']}; the last column has an E and an L for them. A row with neither speaks of a",
        "difference, a gradient, a shape or a count, and is blind to a constant: that moves both sides of a difference",
        "alike, and changes no gradient, no posterior and no $q$.",
        "",
    ]
    reach = {text: sum(map(len, claims.values())) for text, claims in found["turned"].items()}
    shifts = (EVIDENCE.text, LIKELIHOOD.text)
    for claim, (mark, said) in CLAIMS.items():
        chapter = CHAPTER[claim]
        test = f"tests/study/test_chapter{chapter[:2]}.py"
        lines += [
            f"## Claim {claim}",
            "",
            f"{_cell(said)}. [{mark}]({_page(mark)}#{mark}), `vae-np study {int(chapter[:2])}`, "
            f"[`{test}`](../../{test}).",
            "",
            "| row | compares | is turned by | |",
            "|---|---|---|---|",
        ]
        for statement, first, second in found["rows"][str(claim)]:
            turned = sorted(by_row[claim, statement], key=lambda text: (text in shifts, reach[text]))
            letters = "".join(letter for letter, text in zip("EL", shifts, strict=True) if text in turned)
            mistake = _cell(turned[0]) if turned else "**nothing**"
            lines.append(f"| {_cell(statement)} | {_cell(first)} · {_cell(second)} | {mistake} | {letters} |")
        lines.append("")
    return "\n".join(lines)


def _chapters() -> list[Path]:
    return sorted(DERIVATION.glob("[0-9][0-9]-*.md"))


def _page(mark: str) -> str:
    return next(path.name for path in _chapters() if f'id="{mark}"' in path.read_text(encoding="utf-8"))


def _implementations() -> dict[str, list[tuple[str, str]]]:
    """For each mark, the (file, function) whose docstring cites it."""
    found: dict[str, list[tuple[str, str]]] = {}
    for path in sorted((ROOT / "vae_np").rglob("*.py")):
        file = path.relative_to(ROOT).as_posix()
        if file.startswith(("vae_np/study/", "vae_np/kernels/")):
            continue

        def visit(body: list[ast.stmt], prefix: str, file: str = file) -> None:
            for node in body:
                if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                    for mark in dict.fromkeys(_MARK.findall(ast.get_docstring(node) or "")):
                        found.setdefault(mark, []).append((file, f"{prefix}{node.name}"))
                    if isinstance(node, ast.ClassDef):
                        visit(node.body, f"{prefix}{node.name}.")

        visit(ast.parse(path.read_text(encoding="utf-8")).body, "")
    return found


def _test_of(file: str) -> str | None:
    """The test file that mirrors a module, or else its room."""
    inner = Path(file).relative_to("vae_np")
    mirrors = (ROOT / "tests" / inner.parent / f"test_{inner.stem}.py", ROOT / "tests" / f"test_{inner.parent.name}.py")
    return next((at.relative_to(ROOT).as_posix() for at in mirrors if at.exists()), None)


def index_page() -> str:
    """docs/derivation/index.md."""
    implemented = _implementations()
    lines = [
        "# Index of the marks",
        "",
        "From a formula to the code that computes it, the tests of that code, and the claims of the study that rest on",
        "it. The page is written by `python -m tests.study_mistakes`, from the anchors of the chapters, the marks in",
        "docstrings and the table of claims; a test fails where it is out of date.",
        "",
        "| mark | formula | code | tests | claims |",
        "|---|---|---|---|---|",
    ]
    for path in _chapters():
        for mark, title in _HEADING.findall(path.read_text(encoding="utf-8")):
            places = implemented.get(mark, [])
            by_file: dict[str, list[str]] = {}
            for file, name in places:
                by_file.setdefault(file, []).append(name)
            code = "; ".join(f"`{file}` " + ", ".join(f"`{name}`" for name in names) for file, names in by_file.items())
            tests = ", ".join(f"[`{test}`](../../{test})" for test in filter(None, map(_test_of, by_file)))
            claims = ", ".join(
                f"[{claim}](claims.md#claim-{claim})" for claim, (of, _) in CLAIMS.items() if of == mark
            )
            lines.append(f"| [{mark}]({path.name}#{mark}) | {title.strip()} | {code} | {tests} | {claims} |")
    return "\n".join([*lines, ""])


PAGES = {"claims.md": claims_page, "index.md": index_page}


def write() -> None:
    """Write both pages."""
    for name, page in PAGES.items():
        (DERIVATION / name).write_text(page(), encoding="utf-8")
