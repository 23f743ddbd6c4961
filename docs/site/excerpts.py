"""Code in the pages that is taken from the sources, so that it cannot go stale.

    python docs/site/excerpts.py

In a page `<!-- excerpt: FILE NAME -->` stands above a code block, which holds the function or class of that name as
the file has it; `<!-- excerpt: FILE NAME from "A" to "B" -->` takes its lines from the first with A in it to the next
with B. The command writes every block anew. The site is built from the sources, too, and a test compares the files.
"""

from __future__ import annotations

import ast
import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LANGUAGES = {".py": "python", ".cu": "cuda", ".cuh": "cuda"}

_BLOCK = re.compile(
    r'^(<!-- excerpt: (?P<file>\S+) (?P<name>\w+)(?: from "(?P<first>[^"]+)" to "(?P<last>[^"]+)")? -->)'
    r"\n```\w*\n.*?^```$",
    re.MULTILINE | re.DOTALL,
)


def filled(text: str, root: Path = ROOT) -> str:
    """A page's text with each excerpt as its source has it now; raises ValueError for one that the source lacks."""

    def block(match: re.Match[str]) -> str:
        code = excerpt(root / match["file"], match["name"], match["first"], match["last"])
        return f"{match[1]}\n```{LANGUAGES[Path(match['file']).suffix]}\n{code}\n```"

    return _BLOCK.sub(block, text)


def excerpt(path: Path, name: str, first: str | None = None, last: str | None = None) -> str:
    """The lines of a definition, or of it those from the first with `first` in it to the next with `last`."""
    text = path.read_text(encoding="utf-8")
    lines = of_python(text, name) if path.suffix == ".py" else of_cuda(text, name)
    if not lines:
        raise ValueError(f"{path}: has no {name}")
    if first is not None and last is not None:
        start = next((i for i, line in enumerate(lines) if first in line), len(lines))
        end = next((i for i, line in enumerate(lines) if i >= start and last in line), None)
        if end is None:
            raise ValueError(f'{path}: {name} has no lines from "{first}" to "{last}"')
        lines = lines[start : end + 1]
    return textwrap.dedent("\n".join(lines))


def of_python(text: str, name: str) -> list[str]:
    """The lines of a function or class at the top of a module, with its decorators; none where there is none."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            start = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            return text.splitlines()[start - 1 : node.end_lineno]
    return []


def of_cuda(text: str, name: str) -> list[str]:
    """The lines of a function with the comment above it; none where there is none. Its last line begins with }."""
    lines = text.splitlines()
    for index, line in enumerate(lines):
        # A definition begins at the margin, or one line below what does, as where it is wrapped.
        if not re.search(rf"\b{name}\(", line) or line.startswith(("//", "#")) or line.rstrip().endswith(";"):
            continue
        start = index if not line.startswith(" ") else index - 1
        if lines[start].startswith(" "):
            continue
        while start > 0 and lines[start - 1].startswith("//"):
            start -= 1
        if line.endswith("}"):
            return lines[start : index + 1]
        end = next(i for i in range(index, len(lines)) if lines[i].startswith("}"))
        return lines[start : end + 1]
    return []


def main() -> None:
    """Write the excerpts of every page of docs/ anew."""
    for path in sorted((ROOT / "docs").rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        if filled(text) != text:
            path.write_text(filled(text), encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
