"""The lock of a folder: one process at a time writes a run.

The lock is the operating system's own (by filelock: flock, or Windows' locking), so it goes with the process that holds
it, however that ends: there are no stale locks. The holder's name is in a file beside it, for the message alone: on
Windows a locked file cannot be read.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from vae_np.errors import BusyError, WriteError
from vae_np.storage.atomic import reason, remove_temporaries, write_atomic

LOCK, HOLDER = ".lock", ".lock-holder.json"


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder that is there, and clear away the temporary files of writers that were killed.

    Raises BusyError, with the holder's process and host, where another holds it, and WriteError where the folder cannot
    be written.
    """
    from filelock import FileLock, Timeout

    # The library would make a folder that is missing.
    if not folder.is_dir():
        raise WriteError(f"{folder}: cannot be written ({'Not a directory' if folder.exists() else 'No such folder'})")
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise BusyError(f"{folder}: {_holder(folder)} writes here; wait until it is done, or stop it") from None
    except OSError as error:
        raise WriteError(f"{folder}: cannot be written ({reason(error)})") from error
    try:
        remove_temporaries(folder)
        # This file only serves a message; if the disk is full, the work itself will say so.
        with contextlib.suppress(WriteError):
            write_atomic(folder / HOLDER, json.dumps({"pid": os.getpid(), "host": platform.node()}) + "\n")
        yield
    finally:
        with contextlib.suppress(OSError):
            (folder / HOLDER).unlink(missing_ok=True)
        lock.release()


def _holder(folder: Path) -> str:
    try:
        held = json.loads((folder / HOLDER).read_bytes())
        return f"process {int(held['pid'])} on {str(held['host'])[:80]}"
    # It is written just after the lock is taken, and removed just before it is released.
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
