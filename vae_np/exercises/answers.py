"""Students' files: which exercise one answers, its grade in a process of its own, a whole class's, and the hints."""

from __future__ import annotations

import ast
import json
import os
import re
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vae_np import storage
from vae_np.errors import InputError
from vae_np.exercises import EXERCISES, Exercise
from vae_np.verify import isolation

SUFFIXES = (".py", ".ipynb", ".cu")
# What a student's file says of itself; in a notebook each line stands in quotes.
_MARK = re.compile(r"^[\s\"]*(?:#|//) vae-np exercise: *([\w-]+)", re.MULTILINE)
# Where the hints that were given are counted, in the folder that the student works in.
HINTS_FILE = ".vae-np-hints.json"
# Of what a student's file prints, this much is shown.
_OUTPUT_SHOWN = 2000
# Larger files are no answers.
_LARGEST = 1_000_000


@dataclass(frozen=True)
class Limits:
    """What grading one file may take: seconds in all, and megabytes that it may allocate."""

    seconds: float = 60.0
    megabytes: int = 4096


@dataclass(frozen=True)
class Result:
    """One file's result: passed, wrong, blank or unusable; message: the one line that says it, empty where it passed.

    exercise: the name of the one it answers, empty where that is unknown; the rest is as in `grading.Grade`.
    """

    path: str
    exercise: str
    status: str
    message: str = ""
    rows: list[dict[str, Any]] = field(default_factory=list)
    causes: list[dict[str, Any]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    output: str = ""
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """The result as plain values."""
        return dict(vars(self))


def exercise_of(path: Path) -> Exercise:
    """The exercise that a file answers: by its mark, else by its name, else by what it defines.

    Raises InputError where it answers none.
    """
    if not path.exists():
        raise InputError(f"{path}: there is no such file; vae-np exercise lists the exercises")
    if not path.is_file():
        raise InputError(f"{path}: this is not a file; --all FOLDER grades a folder")
    if path.stat().st_size > _LARGEST:
        raise InputError(f"{path}: it has {path.stat().st_size} bytes, which no answer has")
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: it cannot be read ({storage.reason(error)})") from None
    if b"\0" in raw:
        raise InputError(f"{path}: it is no text")
    text = raw.decode("utf-8", errors="replace").replace("\r\n", "\n")
    for found in (*_MARK.findall(text), *_named_by(path)):
        for name, exercise in EXERCISES.items():
            if found.lower() == name.lower():
                return exercise
    defined = _defined(text)
    answered = [exercise for exercise in EXERCISES.values() if exercise.function in defined]
    if len(answered) == 1:
        return answered[0]
    raise InputError(f"{path}: it answers no exercise: it has no line such as '# vae-np exercise: D22'")


def _named_by(path: Path) -> list[str]:
    """The names of exercises in a file's name: D22 in anna_d22.py."""
    return [name.replace("_", "-") for name in re.findall(r"(?i)(?<![a-z0-9])d\d+(?:[-_](?:numba|cuda))?", path.stem)]


def _defined(text: str) -> set[str]:
    try:
        return {node.name for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}
    except (SyntaxError, ValueError, RecursionError):
        return set()


def grade_file(path: Path, limits: Limits = Limits(), stop: threading.Event | None = None) -> Result:
    """Grade one file in a process of its own; whatever is wrong with the file is in the result.

    The process is ended at once when `stop` is set.
    """
    try:
        exercise = exercise_of(path)
    except InputError as error:
        return Result(str(path), "", "unusable", str(error).removeprefix(f"{path}: "))
    started = time.monotonic()
    arguments = [exercise.name, str(limits.megabytes)]
    ended = isolation.run("vae_np.exercises.worker", path.resolve(), arguments, limits.seconds, stop)
    seconds, output = time.monotonic() - started, ended.output[:_OUTPUT_SHOWN]
    doing = "the file is read"
    for event in ended.events:
        if event.pop("event", None) == "grade":
            return Result(str(path), exercise.name, **event, output=output, seconds=seconds)
        doing = str(event.get("what", doing))
    message = f"{ended.how(limits.seconds)} while {doing}"
    return Result(str(path), exercise.name, "unusable", message, output=output, seconds=seconds)


def files_of_class(folder: Path) -> list[Path]:
    """Every .py, .ipynb and .cu file below a folder, but for hidden ones; raises InputError where there is none."""
    if not folder.is_dir():
        raise InputError(f"all: got {str(folder)!r}, expected a folder with students' files")
    found = []
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
        found += [Path(root) / name for name in sorted(names) if name.endswith(SUFFIXES) and not name.startswith(".")]
    if not found:
        raise InputError(f"all: {folder}: there is no .py, .ipynb or .cu file in it")
    return found


def grade_files(paths: Sequence[Path], limits: Limits = Limits(), *, workers: int) -> Iterator[Result]:
    """Grade files, one process each and so many at a time, and yield the results in the files' order."""
    stop = threading.Event()
    pool = ThreadPoolExecutor(max_workers=workers)
    try:
        yield from pool.map(lambda path: grade_file(path, limits, stop), paths)
    finally:
        # Where the results are no longer wanted, Ctrl-C for one: what runs is ended, what waits is not begun.
        stop.set()
        pool.shutdown(cancel_futures=True)


def relative_to(result: Result, folder: Path) -> Result:
    """A result with its path as seen from the folder of the class: the student's name often stands there."""
    return replace(result, path=Path(result.path).relative_to(folder).as_posix())


def next_hint(exercise: Exercise, folder: Path) -> int:
    """The number of the hint that comes next for a student who works in a folder, from 1; the last one repeats."""
    return min(_hints_given(folder).get(exercise.name, 0) + 1, len(exercise.hints))


def count_hint(exercise: Exercise, folder: Path, number: int) -> None:
    """Remember that hints up to this number were given; raises WriteError where that cannot be written down."""
    given = _hints_given(folder) | {exercise.name: number}
    storage.write_atomic(folder / HINTS_FILE, json.dumps(given, indent=2) + "\n")


def _hints_given(folder: Path) -> dict[str, int]:
    """The hints given so far; a file that is damaged counts as none."""
    try:
        content = json.loads((folder / HINTS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    known = content.items() if isinstance(content, dict) else ()
    return {name: count for name, count in known if isinstance(count, int) and count >= 0}
