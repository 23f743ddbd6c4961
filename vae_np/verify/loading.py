"""A user's file as a module, inside the package it belongs to, with its folder on the path; a notebook cell by cell."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

MAGIC = re.compile(r"^\s*(%|!|\?)|^\s*[\w.]+\?\??\s*$")
PYTHON2 = re.compile(
    r"Missing parentheses in call to '(print|exec)'|leading zeros|multiple exception types|inconsistent use"
)
PYTHON2_MODULES = frozenset(
    "cPickle Queue ConfigParser StringIO urllib2 httplib Tkinter __builtin__ itertools.izip cStringIO".split()  # noqa: SIM905
)


class LoadError(Exception):
    """A file cannot be executed; the text says why in one line."""


@dataclass
class Loaded:
    """An executed file: its module, its source (a notebook's cells one after the other), and what was skipped in it."""

    module: ModuleType
    source: str
    notes: list[str]


def load(path: Path) -> Loaded:
    """Execute the file; raises LoadError, and stops whatever exception the file raises."""
    notes: list[str] = []
    try:
        # Some editors begin a file with a mark that Python itself skips.
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        text = path.read_text(encoding="latin-1")
    if path.suffix == ".ipynb":
        cells, notes = notebook_cells(text)
        return _run_cells(path, cells, notes)
    if "\0" in text:
        raise LoadError("does not import: it is not text")
    try:
        tree = ast.parse(text, str(path))
    except SyntaxError as error:
        raise LoadError(f"does not import: {_syntax(error)}") from None
    try:
        return Loaded(_execute(path, text, tree), text, notes)
    except BaseException as error:  # sys.exit and KeyboardInterrupt included: nothing of theirs ends our report
        raise LoadError(f"does not import: {one_line(error, path)}{_hint(error)}") from None


def _execute(path: Path, text: str, tree: ast.Module) -> ModuleType:
    """Execute the source as a module of a name that no other module has, or of its package where it imports from it."""
    levels = [node.level for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]
    root, name = path.parent, f"checked_{path.stem}"
    package = [root.name]
    while (root / "__init__.py").exists() and root.parent != root:
        root = root.parent
        package.insert(0, root.name)
    sys.path.insert(0, str(path.parent))
    if levels:
        while len(package) - 1 < max(levels) and root.parent != root and not (path.parent / "__init__.py").exists():
            root = root.parent
            package.insert(0, root.name)
        package = package[1:] if (path.parent / "__init__.py").exists() else package[1:] or [path.parent.name]
        name = ".".join([*package, path.stem])
    if root != path.parent:
        sys.path.insert(1, str(root))
    if levels:
        for i in range(1, len(package) + 1):
            importlib.import_module(".".join(package[:i]))
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look their module up there
    exec(compile(text, str(path), "exec"), module.__dict__)
    return module


def notebook_cells(text: str) -> tuple[list[str], list[str]]:
    """Return a notebook's code cells, and what is skipped in them.

    The JSON is read directly. Only two keys of the format are needed, `cells` and `source`, which all versions since
    4.0 have, and nbformat would bring a dozen packages along to validate what is executed anyway.
    """
    try:
        cells = json.loads(text)["cells"]
        sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError):
        raise LoadError("is not a notebook of format 4 or later: it has no list of cells") from None
    notes, kept = [], []
    for number, source in enumerate(sources, start=1):
        lines = source.splitlines()
        if lines and lines[0].lstrip().startswith("%%"):
            notes.append(f"cell {number}: {lines[0].strip()} is skipped, with its cell")
            kept.append("")
            continue
        for position, line in enumerate(lines):
            if MAGIC.match(line):
                notes.append(f"cell {number}: {line.strip()} is skipped")
                lines[position] = ""
        kept.append("\n".join(lines))
    return kept, notes


def _run_cells(path: Path, cells: list[str], notes: list[str]) -> Loaded:
    """Execute the cells in one module; a cell that fails is named, and the cells after it still run."""
    name = f"checked_{path.stem}"
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent))
    import linecache  # inspect finds a function's source there

    for number, source in enumerate(cells, start=1):
        label = f"<cell {number} of {path.name}>"
        linecache.cache[label] = (len(source), None, source.splitlines(keepends=True), label)
        try:
            exec(compile(source, label, "exec"), module.__dict__)
        except SyntaxError as error:
            notes.append(f"cell {number} is left out: {_syntax(error)}")
        except BaseException as error:
            notes.append(f"cell {number} ends early: {one_line(error, path)}{_hint(error)}")
    return Loaded(module, "\n".join(cells), notes)


def _syntax(error: SyntaxError) -> str:
    text = f"SyntaxError: {error.msg} (line {error.lineno})"
    return f"it is written for Python 2: {text}" if PYTHON2.search(error.msg or "") else text


def _hint(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        if error.name in PYTHON2_MODULES:
            return "; it is written for Python 2"
        return f"; the package {error.name.split('.')[0]} is not installed"
    if isinstance(error, NameError) and error.name in ("xrange", "unicode", "raw_input", "reduce"):
        return "; it is written for Python 2"
    return ""


def one_line(error: BaseException, path: Path) -> str:
    """Return an exception as one line with its place in the user's file."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg} (line {error.lineno})"
    if isinstance(error, SystemExit):
        what = f"it calls sys.exit({error.code!r})"
    else:
        text = str(error).strip().splitlines()
        what = type(error).__name__ + (f": {text[0][:160]}" if text else "")
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return what + (f" (line {lines[-1]})" if lines else "")


def own(module: ModuleType) -> dict[str, Any]:
    """Return what the file itself defines, without what it imports."""
    name = module.__name__
    return {
        key: value
        for key, value in vars(module).items()
        if getattr(value, "__module__", name) == name or type(value).__module__.startswith(("jax", "numba", "torch"))
    }
