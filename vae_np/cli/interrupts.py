"""Ctrl-C: it ends the process at once while there is nothing to lose, and asks a running training to stop."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator

INTERRUPTED = 130


@contextlib.contextmanager
def leaving_at_once() -> Iterator[None]:
    """While modules are imported, the process ends with one line and exit code 130.

    A KeyboardInterrupt there can end in a traceback, or be swallowed by the code that it interrupts. Where Ctrl-C is
    ignored, as in a process that a script's shell has started in the background, it stays ignored.
    """
    if _is_ignored(signal.SIGINT):
        yield
        return

    def leave(number: int, frame: object) -> None:
        with contextlib.suppress(OSError):
            os.write(2, b"vae-np: interrupted\n")
        os._exit(INTERRUPTED)

    try:
        before = signal.signal(signal.SIGINT, leave)
    except ValueError:
        # Not in the main thread, the only one that can handle signals.
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def asking_to_stop() -> Iterator[Callable[[], bool]]:
    """While a training runs, the first Ctrl-C or SIGTERM asks to stop after the step; a second one stops at once.

    A signal that is ignored stays ignored.
    """
    asked = False

    def ask(number: int, frame: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    heard = [number for number in (signal.SIGINT, signal.SIGTERM) if not _is_ignored(number)]
    before = {number: signal.signal(number, ask) for number in heard}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_ignored(number: signal.Signals) -> bool:
    return signal.getsignal(number) is signal.SIG_IGN
