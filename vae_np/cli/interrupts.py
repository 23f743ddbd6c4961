"""Ctrl-C before there is anything to lose: the process ends at once, with one line and exit code 130."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

INTERRUPTED = 130


@contextlib.contextmanager
def leaving_at_once() -> Iterator[None]:
    """While modules are imported: a KeyboardInterrupt there can end in a traceback, or be swallowed by what it hits."""

    def leave(number: int, frame: object) -> None:
        with contextlib.suppress(OSError):
            os.write(2, b"vae-np: interrupted\n")
        os._exit(INTERRUPTED)

    try:
        before = signal.signal(signal.SIGINT, leave)
    except ValueError:
        # Not in the main thread, which alone hears signals.
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
