"""Runs in a process of its own: it executes one user's file, checks its subjects, and writes one JSON line per event.

`vae_np.verify.files` starts it as `python -P -m vae_np.verify.worker FILE RESULTS SEED MEGABYTES SECONDS STRICT ONLY`.
The events go to the file RESULTS, so that nothing the user's code prints, closes or exits can spoil them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from vae_np.verify import subjects
from vae_np.verify.conventions import Candidate, candidates, hinted
from vae_np.verify.guessing import TooLong
from vae_np.verify.hints import Hints
from vae_np.verify.isolation import Emit, emitter, leave, limit_memory
from vae_np.verify.loading import LoadError, load, one_line

# The most that one subject may take where the file has few.
SECONDS = 10.0


def run(path: Path, emit: Emit, seed: int, seconds: float, strict: bool = False, only: str = "") -> None:
    """Import the file, then check each subject, and announce every step before it starts."""
    emit(event="import")
    try:
        loaded = load(path)
    except LoadError as error:
        emit(event="unusable", message=str(error))
        return
    found, halves = candidates(loaded.module)
    hints = Hints(loaded.source, loaded.module)
    known = {name for c in found for name in (c.name, *c.names)}
    extra = [hinted(name, loaded.module) for name in hints.names if name not in known]
    found += [candidate for candidate in extra if candidate is not None]
    found = [c for c in found if not hints.skipped(c.name, *c.names) and only in ("", c.name, *c.names)]
    for note in loaded.notes:
        emit(event="note", text=note)
    if not found and not halves:
        emit(event="unusable", message=NOTHING if not only else f"has nothing called {only}")
        return
    emit(event="pairs", names=[candidate.name for candidate in found])
    for candidate in found:
        emit(event="pair", name=candidate.name)
        result = check(candidate, hints, path, seed, min(seconds / len(found), SECONDS), strict)
        if result is None:
            emit(event="none", name=candidate.name)
        else:
            emit(event="result", name=candidate.name, functions=candidate.names, **result)
    for line in halves if not only else []:
        name, _, reason = line.partition(": ")
        emit(event="half", name=name, message=reason)


NOTHING = (
    "has nothing with a derivative that its name tells: no pair <name>_forward and <name>_backward, no function with "
    "its <name>_grad, no loss that returns its gradient, no class with forward and backward"
)


def check(
    candidate: Candidate, hints: Hints, path: Path, seed: int, seconds: float, strict: bool
) -> dict[str, Any] | None:
    """Return status, message, line, report and text of one subject, or None where it is not a subject after all."""
    try:
        checked = subjects.check_named(candidate, hints, seed, seconds, strict)
    except (Exception, SystemExit, KeyboardInterrupt, TooLong) as error:
        return _without_report("unusable", f"{candidate.name} ended the check: {one_line(error, path)}")
    if checked is None:
        return None
    report = checked.report
    if report is None:
        status = "unchecked" if checked.line else "unusable"
        return _without_report(status, checked.reason, checked.line)
    report.snippet = "\n".join(
        [
            "from vae_np.verify import load_subject",
            f"subject = load_subject({path.name!r}, {candidate.name!r}, seed={seed})",
            "print(subject.check())",
        ]
    )
    calls = [check.detail for check in report.checks if check.broken and check.name == "call"]
    status = "passed" if report.passed else "unclear" if report.unclear else "failed"
    message = calls[0] if calls else report.headline()
    return {"status": status, "message": message, "line": "", "report": report.to_dict(), "text": str(report)}


def _without_report(status: str, message: str, line: str = "") -> dict[str, Any]:
    return {"status": status, "message": message, "line": line, "report": None, "text": ""}


def main(arguments: list[str]) -> None:
    """Check one file; see the module's docstring for the arguments."""
    path, results = Path(arguments[0]), arguments[1]
    seed, megabytes, seconds = int(arguments[2]), int(arguments[3]), float(arguments[4])
    strict, only = arguments[5] == "strict", arguments[6]
    emit = emitter(results)
    sys.argv = [str(path)]
    limit_memory(megabytes)
    run(path, emit, seed, seconds, strict, only)
    emit(event="done")
    leave()


if __name__ == "__main__":
    main(sys.argv[1:])
