"""Runs in a process of its own: loads one student's file and grades it; one event each for the start and the grade.

Started by `vae_np.exercises.answers` as `python -P -m vae_np.exercises.worker FILE RESULTS EXERCISE MEGABYTES`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from vae_np.exercises import find
from vae_np.exercises.exercise import AnswerError, Exercise
from vae_np.exercises.grading import Grade, grade
from vae_np.verify.isolation import Emit, emitter, leave, limit_memory
from vae_np.verify.loading import LoadError, load, one_line


def judge(exercise: Exercise, path: Path, emit: Emit) -> Grade:
    """The grade of a file; whatever it does wrong, but for ending the process, is in it."""
    text = path.read_text(encoding="utf-8", errors="replace")
    if exercise.blank_text in text.replace("\r\n", "\n"):
        return Grade("blank", f"{exercise.function} is still blank")
    emit(event="doing", what="the file is imported")
    try:
        function = _function(exercise, path, text)
    except (LoadError, AnswerError) as error:
        return Grade("unusable", str(error))
    emit(event="doing", what=f"{exercise.function} runs")
    try:
        return grade(exercise, function, where=partial(one_line, path=path))
    except (SystemExit, KeyboardInterrupt) as error:
        return Grade("wrong", f"{exercise.function}: {one_line(error, path)}")


def _function(exercise: Exercise, path: Path, text: str) -> Callable[..., Any]:
    if exercise.language == "cuda":
        return exercise.loaded(text)
    module = load(path).module
    found = getattr(module, exercise.function, None)
    if not callable(found):
        if found is None:
            raise AnswerError(f"it has no function {exercise.function}")
        raise AnswerError(f"{exercise.function}: got {type(found).__name__}, expected a function")
    return found


def main(arguments: list[str]) -> None:
    """Grade one file; see the module's docstring for the arguments."""
    path, results, name, megabytes = Path(arguments[0]), arguments[1], arguments[2], int(arguments[3])
    exercise, emit = find(name), emitter(results)
    sys.argv = [str(path)]
    limit_memory(megabytes)
    emit(event="grade", **judge(exercise, path, emit).as_dict())
    leave()


if __name__ == "__main__":
    main(sys.argv[1:])
