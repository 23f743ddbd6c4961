"""A user's file in a process of its own, which is started, limited, heard through a file of events, and ended.

One side runs here (`run`), and the other in the process (`limit_memory`, `emitter`, `leave`). Processes that the file
starts end with it. This protects against accidents, not against malice.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

# The number of characters kept of what a file prints.
OUTPUT_KEPT = 20_000
# Seconds between two looks at whether to stop.
_LOOK = 0.1

Emit = Callable[..., None]


@dataclass(frozen=True)
class Ended:
    """How a process ended: `code` is None if it was stopped, `output` is what it printed, `events` what it reported."""

    code: int | None
    output: str
    events: list[dict[str, Any]]

    def how(self, timeout: float) -> str:
        """The end in words."""
        if self.code is None:
            return f"stopped after {timeout:g} s"
        if self.code < 0:
            return f"the process was killed by {_signal_name(-self.code)}"
        return f"the process ended with exit code {self.code}"


def run(
    module: str, path: Path, arguments: Sequence[str], timeout: float, stop: threading.Event | None = None
) -> Ended:
    """Run `python -m module PATH RESULTS ARGUMENTS...` in the file's folder, for so many seconds at most.

    Once `stop` is set it is ended at once, as if its time were over.
    """
    with tempfile.TemporaryDirectory(prefix="vae-np-", ignore_cleanup_errors=True) as folder:
        results = Path(folder) / "events.jsonl"
        results.touch()
        code, output = _run([module, str(path), str(results), *arguments], path.parent, timeout, stop)
        return Ended(code, output, _read(results))


def _run(arguments: list[str], folder: Path, timeout: float, stop: threading.Event | None) -> tuple[int | None, str]:
    package_parent = str(Path(__file__).resolve().parents[2])
    search = [package_parent, *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.Popen(
        # -P: files beside the user's must not stand in for the standard library before we have imported it.
        [sys.executable, "-P", "-m", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(search),
            "PYTHONDONTWRITEBYTECODE": "1",
            "MPLBACKEND": "agg",
        },
        start_new_session=True,
    )
    kept = bytearray()
    assert process.stdout is not None
    reader = threading.Thread(target=_keep_start, args=(process.stdout, kept), daemon=True)
    reader.start()
    try:
        code = _wait(process, timeout, stop)
    finally:
        _kill_group(process)
        process.wait()
        # A grandchild in a session of its own may hold the pipe open: it is not waited for.
        reader.join(timeout=2.0)
        if not reader.is_alive():
            process.stdout.close()
    return code, bytes(kept).decode("utf-8", errors="replace")


def _wait(process: subprocess.Popen[bytes], timeout: float, stop: threading.Event | None) -> int | None:
    """The exit status, or None where the time is over before."""
    end = time.monotonic() + timeout
    while (left := end - time.monotonic()) > 0 and not (stop is not None and stop.is_set()):
        try:
            return process.wait(left if stop is None else min(left, _LOOK))
        except subprocess.TimeoutExpired:
            continue
    return None


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """End the worker and the processes it started."""
    try:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    except (ProcessLookupError, PermissionError):
        return


def _keep_start(stream: IO[bytes], kept: bytearray) -> None:
    """Read a stream to its end and keep only its start, since a file may print without end."""
    while chunk := stream.read1(65536):  # type: ignore[attr-defined]  # a BufferedReader has it, IO does not
        kept += chunk[: max(OUTPUT_KEPT - len(kept), 0)]


def _read(results: Path) -> list[dict[str, Any]]:
    """Return the events up to a line that was cut off when the worker died."""
    events: list[dict[str, Any]] = []
    for line in results.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            break
        if isinstance(event, dict):
            events.append(event)
    return events


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def limit_memory(megabytes: int) -> None:
    """Let allocations beyond this many megabytes fail with MemoryError, where the system can do that."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    size = megabytes * 2**20
    # Linux counts private writable memory under DATA; the address space also holds libraries and is a poor measure.
    kind = resource.RLIMIT_DATA if sys.platform == "linux" else resource.RLIMIT_AS
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        size = min(size, hard)
    resource.setrlimit(kind, (size, hard))


def emitter(results: str) -> Emit:
    """What writes one event as a line of a file, so that nothing the user's code prints, closes or exits spoils it."""
    own = os.getpid()

    def emit(**event: Any) -> None:
        if os.getpid() == own:  # a process that the user's code forked off reports nothing
            # Opened anew for each event, since the user's code may close what is open.
            with open(results, "a", encoding="utf-8") as file:
                file.write(json.dumps(event, allow_nan=False) + "\n")

    return emit


def leave() -> NoReturn:
    """End the process without waiting for the user's threads and exit handlers."""
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    os._exit(0)
