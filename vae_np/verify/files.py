"""Checks what has a derivative in users' own files and notebooks, each file in a process of its own.

`conventions` says how a file is read. The inputs come from hints in the file, or are found by trial. The files are
executed: the process protects against accidents, not against malice.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vae_np.errors import InputError
from vae_np.verify import isolation

Status = Literal["passed", "failed", "unclear", "unchecked", "unusable"]
TIMEOUT = 60.0
MEMORY_LIMIT_MB = 4096
# Share of the timeout that numeric derivatives may take, so that a slow file is sampled before it is stopped.
TIME_FOR_CHECKS = 0.4


@dataclass(frozen=True)
class PairResult:
    """One subject's verdict: one line of text, the report as plain values, and the printed table.

    Where the subject was found and not checked, `line` is what to add to the file so that it is. `functions` holds its
    names in the file.
    """

    name: str
    status: Status
    message: str
    report: dict[str, Any] | None = None
    text: str = ""
    line: str = ""
    functions: tuple[str, ...] = ()


@dataclass(frozen=True)
class FileResult:
    """One file's verdict.

    A file is unusable if it or an input it gives cannot be used. Otherwise it failed if a check failed, and is unclear
    if a check is. It passed if something was checked and nothing is wrong, and is unchecked if nothing was checked.
    `message` says why the file as a whole is unusable, `output` is the start of what it printed, and `notes` say what
    was skipped.
    """

    path: str
    status: Status
    message: str = ""
    pairs: list[PairResult] = field(default_factory=list)
    output: str = ""
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return the result as plain values."""
        pairs = [
            {"name": p.name, "status": p.status, "message": p.message, "line": p.line, "report": p.report}
            for p in self.pairs
        ]
        return {
            "path": self.path,
            "status": self.status,
            "message": self.message,
            "pairs": pairs,
            "notes": self.notes,
            "output": self.output,
            "seconds": self.seconds,
        }


def verify_files(
    paths: Sequence[str | Path],
    *,
    timeout: float = TIMEOUT,
    memory_limit_mb: int = MEMORY_LIMIT_MB,
    seed: int = 0,
    strict: bool = False,
    only: str = "",
) -> list[FileResult]:
    """Check each file and return the results in the order of `paths`.

    `timeout` is the number of seconds that each file may take, and `memory_limit_mb` the memory that it may allocate.
    `strict` makes warnings fail. `only` is the name of the one subject to check, or of one of its functions. Raises
    InputError for a limit that is not positive. Whatever is wrong with a file is in its result.
    """
    for name, value in (("timeout", timeout), ("memory_limit_mb", memory_limit_mb)):
        if not value > 0:
            raise InputError(f"{name}: got {value}, expected a positive number")
    return [_verify(Path(path), timeout, memory_limit_mb, seed, strict, only) for path in paths]


def exit_code(results: Sequence[FileResult]) -> int:
    """Return 2 if a file is unusable or nothing in it was checked, else 1 if a check failed or is unclear, else 0."""
    statuses = {result.status for result in results}
    if statuses & {"unusable", "unchecked"}:
        return 2
    return 1 if statuses & {"failed", "unclear"} else 0


def summary_line(result: FileResult) -> str:
    """Return a file's verdict as one line."""
    states: tuple[Status, ...] = ("passed", "failed", "unclear", "unchecked", "unusable")
    counts = {status: sum(p.status == status for p in result.pairs) for status in states}
    parts = [
        f"{count} {'not checked' if status == 'unchecked' else status}" for status, count in counts.items() if count
    ]
    total = len(result.pairs)
    tally = f"{total} found: {', '.join(parts)}" if total else ""
    detail = "; ".join(part for part in (tally, result.message) if part)
    verdict = {"passed": "passed", "unchecked": "NOTHING CHECKED"}.get(result.status, result.status.upper())
    return f"{result.path}: {verdict} ({detail})"


def render(result: FileResult) -> str:
    """Return a file's tables, one line for each subject that has none, and the summary line."""
    blocks = [
        pair.text or f"{pair.name}: {pair.status.upper()} ({pair.message})" for pair in result.pairs if _shown(pair)
    ]
    left = [
        f"  {pair.name}: {pair.message}" + (f"; add {pair.line}" if pair.line else "")
        for pair in result.pairs
        if not _shown(pair)
    ]
    if left:
        blocks.append("\n".join(["found and not checked:", *left]))
    if result.notes:
        blocks.append("\n".join(result.notes))
    if result.output and result.status == "unusable":
        last = result.output.strip().splitlines()
        blocks.append(f"the file printed {len(last)} lines, the last: {last[-1][:200]}" if last else "")
    return "\n\n".join([block for block in blocks if block] + [summary_line(result)])


def _shown(pair: PairResult) -> bool:
    return pair.status != "unchecked"


def _status(message: str, pairs: Sequence[PairResult]) -> Status:
    statuses = {pair.status for pair in pairs}
    if message or "unusable" in statuses:
        return "unusable"
    order: tuple[Status, ...] = ("failed", "unclear", "passed")
    return next((status for status in order if status in statuses), "unchecked")


def _verify(path: Path, timeout: float, memory_limit_mb: int, seed: int, strict: bool, only: str) -> FileResult:
    if not path.exists():
        return FileResult(str(path), "unusable", "there is no such file")
    if not path.is_file():
        return FileResult(str(path), "unusable", "this is not a file")
    started = time.monotonic()
    limits = [str(seed), str(memory_limit_mb), str(timeout * TIME_FOR_CHECKS), "strict" if strict else "", only]
    ended = isolation.run("vae_np.verify.worker", path.resolve(), limits, timeout)
    seconds = time.monotonic() - started
    message, pairs, notes = _collect(ended, timeout)
    return FileResult(str(path), _status(message, pairs), message, pairs, ended.output, seconds, notes)


def _collect(ended: isolation.Ended, timeout: float) -> tuple[str, list[PairResult], list[str]]:
    """Return the message for the whole file, the subjects' results and notes from what the worker had written."""
    pairs: list[PairResult] = []
    notes: list[str] = []
    names: list[str] = []
    doing = "the check starts"
    current = ""
    for event in ended.events:
        match event.get("event"):
            case "unusable":
                return str(event["message"]), [], notes
            case "import":
                doing = "the file is imported"
            case "note":
                notes.append(str(event["text"]))
            case "pairs":
                names = [str(name) for name in event["names"]]
            case "pair":
                current = str(event["name"])
                doing = f"{current} is checked"
            case "none":
                names.remove(str(event["name"]))
                current = ""
            case "half":
                pairs.append(PairResult(event["name"], "unchecked", event["message"]))
            case "result":
                found = (
                    event["name"],
                    event["status"],
                    event["message"],
                    event["report"],
                    event["text"],
                    event["line"],
                )
                pairs.append(PairResult(*found, tuple(event["functions"])))
                current = ""
            case "done":
                return "", pairs, notes
    end = ended.how(timeout)
    for name in names[len(pairs) :]:
        pairs.append(PairResult(name, "unusable", end if name == current else "not reached"))
    return f"{end} while {doing}", pairs, notes
