"""The files of this folder as a verifier's test bed: what the manifest says of each subject, and what the verifier says.

`lines.toml` holds the one line that a subject's user adds where no trial finds its inputs; `open.toml` the subjects
whose verdict is not yet the right one, each with the reason.
"""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

from vae_np.verify.files import FileResult, PairResult, verify_files

HERE = Path(__file__).parent
# Statuses that each verdict of the manifest allows. A right gradient may come with a warning of a broken promise.
ALLOWED = {
    "right": {"passed", "warning"},
    "wrong": {"failed"},
    "warning": {"warning"},
    "cannot": {"unusable", "unchecked", "missing"},
}


def read(name: str) -> dict[str, Any]:
    """Return one of the folder's TOML files."""
    return tomllib.loads((HERE / name).read_text(encoding="utf-8"))


def files() -> list[dict[str, Any]]:
    """Return the manifest's files."""
    return read("manifest.toml")["files"]


def lines_of(file: str) -> dict[str, str]:
    """Return the lines that users of a file add, by the definition each stands above."""
    return {entry["above"]: entry["line"] for entry in read("lines.toml")["lines"] if entry["file"] == file}


def copy_with(folder: Path, file: str, lines: dict[str, str], edit: tuple[str, str] | None = None) -> Path:
    """Return a file's copy, with its neighbours, in a folder, lines added and one piece of its source replaced."""
    target = folder / "foreign"
    if not target.exists():
        shutil.copytree(HERE, target, ignore=shutil.ignore_patterns("__pycache__", "*.toml", "test_*", "corpus.py"))
    path = target / file
    text = (HERE / file).read_text(encoding="utf-8")
    if edit is not None:
        assert text.count(edit[0]) == 1, (file, edit[0])
        text = text.replace(*edit)
    if path.suffix == ".ipynb":
        notebook = json.loads(text)
        for cell in notebook["cells"]:
            cell["source"] = _with_lines("".join(cell["source"]), lines).splitlines(keepends=True)
        text = json.dumps(notebook)
    else:
        text = _with_lines(text, lines, all_of_them=True)
    path.write_text(text, encoding="utf-8")
    return path


def _with_lines(text: str, lines: dict[str, str], all_of_them: bool = False) -> str:
    """Return a source with each line above the definition that it belongs to.

    all_of_them: what has no definition of its own, such as a variable, has its line at the end, which then names it.
    """
    found = text.splitlines(keepends=True)
    for name, line in lines.items():
        places = [i for i, t in enumerate(found) if t.startswith((f"def {name}(", f"class {name}(", f"class {name}:"))]
        if places:
            place = places[0]
            while place and found[place - 1].startswith("@"):
                place -= 1
            found.insert(place, line + "\n")
        elif all_of_them:
            found.append(f"\n{line.replace('# vae-np:', f'# vae-np: {name}:', 1)}\n")
    return "".join(found)


def verify(path: Path, subject: str = "") -> FileResult:
    """Return what the verifier says of a file, or of one subject of it by the manifest's name."""
    only = subject.split(" / ")[-1].split(".")[0]
    (result,) = verify_files([path], timeout=180.0, seed=0, only=only)
    return result


def status(result: FileResult, subject: str) -> tuple[str, PairResult | None]:
    """Return what the verifier says of one subject, by the manifest's name: its status, "warning" where it has one."""
    names = {part.strip().split(".")[0] for part in subject.split(" / ")}
    exact = [p for p in result.pairs if " / ".join(p.functions) == subject or p.name == subject]
    found = (
        exact or [p for p in result.pairs if names <= set(p.functions)] or [p for p in result.pairs if p.name in names]
    )
    if not found:
        return ("unusable" if result.message else "missing"), None
    pair = found[0]
    warned = pair.report is not None and any(c["warning"] and not c["passed"] for c in pair.report["checks"])
    return ("warning" if pair.status == "passed" and warned else pair.status), pair


def allowed(subject: dict[str, Any]) -> set[str]:
    """Return the statuses that a subject may get."""
    accept = subject.get("accept", [])
    verdicts = [subject["verdict"], *([accept] if isinstance(accept, str) else accept)]
    return set().union(*(ALLOWED[verdict] for verdict in verdicts))
