"""`vae-np exercise`: the derivation's exercises listed, handed out, graded, one answer or a class, with hints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from vae_np import exercises
from vae_np.cli import machine
from vae_np.cli.options import JsonFile, whole, words
from vae_np.cli.output import Output, writing
from vae_np.errors import InputError, WriteError
from vae_np.exercises import Exercise, answers

_VERDICTS = {"passed": "passed", "wrong": "WRONG", "blank": "BLANK", "unusable": "UNUSABLE"}


def command(
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME|FILE",
            help="An exercise to hand out, such as D22, or a file to grade; by default all are listed.",
            autocompletion=words(*exercises.EXERCISES),
        ),
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", metavar="FILE", help="Where the exercise goes. [default: d22.py for D22]")
    ] = None,
    hint: Annotated[bool, typer.Option("--hint", help="The next hint; with a number behind it, that one.")] = False,
    solution: Annotated[bool, typer.Option("--solution", help="The solution.")] = False,
    folder: Annotated[
        str | None, typer.Option("--all", metavar="FOLDER", help="Grade every answer below a folder.")
    ] = None,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="SECONDS", help="What a file may take. [default: 60]")
    ] = None,
    memory: Annotated[
        str | None, typer.Option("--memory", metavar="MB", help="What a file may allocate. [default: 4096]")
    ] = None,
    json_file: JsonFile = None,
) -> int:
    """List the exercises, hand one out as a file to fill in, and grade it.

    An answer is held against exact answers, and its derivatives against numeric ones; what is wrong is named where the
    difference gives it away. Files are executed, each in a process of its own. The exit code is 0 where
    all passed, 1 where one is wrong, and 2 where one cannot be used.
    """
    output = Output(json_file)
    usual = answers.Limits()
    limits = answers.Limits(whole("timeout", timeout, usual.seconds), whole("memory", memory, usual.megabytes))
    names = list(targets or ())
    numbers = [name for name in names if hint and name.isdigit()]
    names = [name for name in names if name not in numbers]
    if folder is not None:
        if names or hint or solution or out is not None:
            raise InputError("all: it grades a folder, and takes no exercise, --out, --hint or --solution")
        return _grade_class(output, Path(folder), limits)
    if not names:
        if hint or solution or out is not None:
            raise InputError("exercise: none was named, expected one such as D22 or d22.py")
        return _list(output)
    if hint or solution:
        if len(names) > 1 or len(numbers) > 1:
            raise InputError(f"exercise: got {len(names)}, expected one for a hint or a solution")
        exercise, place = _meant(names[0])
        return _help(output, exercise, place, numbers[0] if numbers else None, hint=hint, solution=solution)
    files = [name for name in names if _is_file(name)]
    if files and len(files) < len(names):
        other = next(name for name in names if name not in files)
        raise InputError(f"exercise: got {other!r} beside a file, expected names or files, not both")
    if files:
        if out is not None:
            raise InputError(f"out: got {out!r}, but a file to grade: it says where an exercise goes")
        return _grade(output, [Path(name) for name in files], limits)
    if out is not None and len(names) > 1:
        raise InputError(f"out: got {out!r} for {len(names)} exercises, expected one")
    return _hand_out(output, [exercises.find(name) for name in names], out)


def _is_file(name: str) -> bool:
    """Whether a name is that of a file: it exists, or is written like one."""
    return Path(name).exists() or name.endswith(answers.SUFFIXES) or len(Path(name).parts) > 1


def _meant(name: str) -> tuple[Exercise, Path]:
    """The exercise of a name or of a student's file, and the folder that the student works in."""
    if _is_file(name):
        return answers.exercise_of(Path(name)), Path(name).parent
    return exercises.find(name), Path()


def _list(output: Output) -> int:
    every = list(exercises.EXERCISES.values())

    def tell() -> None:
        rows = [(one.name, str(one.chapter), one.title, one.asks) for one in every]
        output.listing(f"{len(every)} exercises", ("exercise", "chapter", "title", "what it asks"), rows)
        output.say("vae-np exercise D22 writes d22.py; fill it in, and vae-np exercise d22.py grades it")

    output.result("exercise", _content("list", exercises=[_entry(one) for one in every]), tell)
    return 0


def _entry(exercise: Exercise, file: str | None = None) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": exercise.name,
        "title": exercise.title,
        "chapter": exercise.chapter,
        "asks": exercise.asks,
    }
    return entry if file is None else {**entry, "file": file}


def _content(action: str, **parts: Any) -> dict[str, Any]:
    """What goes into the JSON: the same keys for every action."""
    empty: dict[str, Any] = {"exercises": [], "results": [], "hint": None, "solution": None}
    return {"action": action, **empty, **parts}


def _hand_out(output: Output, chosen: list[Exercise], out: str | None) -> int:
    files = {Path(out if out is not None else one.file_name): one for one in chosen}
    there = [path for path in files if path.exists()]
    if there:
        raise InputError(_kept(there[0]))
    for path, exercise in files.items():
        with writing("out", path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                # Exclusively: what has come meanwhile, or a link that leads nowhere, stays as well.
                with open(path, "x", encoding="utf-8") as file:
                    file.write(exercise.file_text(exercise.blank_text, path.name))
            except FileExistsError:
                raise InputError(_kept(path)) from None
        output.say(f"wrote    {path}: {exercise.title} (chapter {exercise.chapter})")

    entries = [_entry(exercise, str(path)) for path, exercise in files.items()]
    grade = " ".join(map(str, files))
    output.result(
        "exercise", _content("write", exercises=entries), lambda: output.say(f"grade it: vae-np exercise {grade}")
    )
    return 0


def _kept(path: Path) -> str:
    return f"out: {path}: it is there already, and is kept; name another with --out"


def _help(output: Output, exercise: Exercise, place: Path, number: str | None, *, hint: bool, solution: bool) -> int:
    """Print a hint, the solution, or both."""
    shown: dict[str, Any] = {}
    count = len(exercise.hints)
    if hint:
        if number is None:
            which = answers.next_hint(exercise, place)
            try:
                answers.count_hint(exercise, place, which)
            except WriteError as error:
                output.warn(f"the next call gives this hint again: {error}")
        else:
            which = int(number)
            if not 1 <= which <= count:
                raise InputError(f"hint: got {number}, expected 1 to {count}: {exercise.name} has so many")
        shown["hint"] = {"number": which, "of": count, "text": exercise.hints[which - 1]}
    if solution:
        shown["solution"] = exercise.file_text(exercise.solution_text)

    def tell() -> None:
        if hint:
            output.say(f"{exercise.name}, hint {which} of {count}: {exercise.hints[which - 1]}")
            if which == count and not solution:
                output.say(f"That was the last one; vae-np exercise {exercise.name} --solution shows the solution.")
        if solution:
            output.say(exercise.solution_text.rstrip())

    action = "solution" if solution else "hint"
    output.result("exercise", _content(action, exercises=[_entry(exercise)], **shown), tell)
    return 0


def _grade(output: Output, paths: list[Path], limits: answers.Limits) -> int:
    results = []
    for path in paths:
        with output.status(str(path)):
            result = answers.grade_file(path, limits)
        results.append(result)
        _tell(output, result)
    _report(output, "grade", results, lambda: None)
    statuses = {result.status for result in results}
    return 2 if "unusable" in statuses else 1 if statuses - {"passed"} else 0


def _tell(output: Output, result: answers.Result) -> None:
    if result.exercise:
        exercise = exercises.find(result.exercise)
        if result.rows:
            output.table(
                f"{exercise.name} {exercise.title}",
                ("result", "against", "largest error", "at", "got", "expected", "verdict"),
                [_row(row) for row in result.rows],
            )
    causes = [_cause(cause) for cause in result.causes] or [result.message]
    for line in causes if result.status != "passed" else [""]:
        output.say(f"{result.path}: {_VERDICTS[result.status]}" + (f": {line}" if line else ""))
    for remark in result.remarks:
        output.say(f"remark   {remark}")
    if result.output.strip() and result.status == "unusable":
        output.say(f"printed  {result.output.strip().splitlines()[-1][:200]}")
    if result.status in ("wrong", "blank"):
        output.say(f"a hint:  vae-np exercise {result.path} --hint")


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    index = "" if row["index"] is None else "[" + ", ".join(map(str, row["index"])) + "]"
    return (
        row["result"],
        row["against"],
        _number(row["error"], "{:.1e}"),
        index,
        _number(row["got"], "{:.7g}"),
        _number(row["expected"], "{:.7g}"),
        "ok" if row["passed"] else "WRONG",
    )


def _number(value: float | None, form: str) -> str:
    return "not finite" if value is None else form.format(value)


def _cause(cause: dict[str, Any]) -> str:
    return f"{', '.join(cause['results'])}: {cause['text']}" if cause["results"] else str(cause["text"])


def _report(output: Output, action: str, results: list[answers.Result], tell: Callable[[], None]) -> None:
    counts = Counter(result.status for result in results)
    parts = {status: counts[status] for status in _VERDICTS}
    content = _content(action, results=[result.as_dict() for result in results], **parts)
    output.result("exercise", content, tell)


def _grade_class(output: Output, folder: Path, limits: answers.Limits) -> int:
    paths = answers.files_of_class(folder)
    results = []
    with output.status(f"{len(paths)} files") as status:
        for result in answers.grade_files(paths, limits, workers=machine.cores() or 1):
            results.append(answers.relative_to(result, folder))
            status.update(f"{len(results)} of {len(paths)} files graded")

    def tell() -> None:
        rows = [(one.path, one.exercise, _VERDICTS[one.status], one.message) for one in results]
        output.listing(f"{folder}: {len(results)} files", ("file", "exercise", "verdict", "cause"), rows)
        counts = Counter(one.status for one in results)
        output.say(", ".join(f"{counts[status]} {status}" for status in _VERDICTS))

    _report(output, "class", results, tell)
    return 0 if all(result.status == "passed" for result in results) else 1
