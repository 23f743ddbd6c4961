"""The run that another one replaces: it lies aside, in the same folder, until its successor has a checkpoint.

A successor that ends without one, by a full disk, a NaN or Ctrl-C, leaves the earlier run as it was. What a kill leaves
is put in order by whoever writes in the folder next: files are renamed one after the other, and the name of the folder
that they are in tells whether all of them are there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from vae_np import checkpoint, storage

# Some files may still be on their way, in either direction; or all of the earlier run is here.
_MOVING, _ASIDE = ".replaced-moving", ".replaced"
FOLDERS = (_MOVING, _ASIDE)

Files = Callable[[Path], Iterable[Path]]


@contextlib.contextmanager
def hold(folder: Path, files: Files) -> Iterator[None]:
    """Hold the lock of a folder in which no run lies aside any more; raises what `storage.hold` does.

    `files` gives those of a folder's files that are a run's.
    """
    with storage.hold(folder):
        settle(folder, files)
        yield


@contextlib.contextmanager
def set_aside(folder: Path, files: Files) -> Iterator[None]:
    """Have the run in a folder, if there is one, lie aside inside; in the end there is either run, and not both."""
    moving = folder / _MOVING
    try:
        if held := list(files(folder)):
            moving.mkdir()
            for path in held:
                os.replace(path, moving / path.name)
            os.replace(moving, folder / _ASIDE)
        yield
    finally:
        # What cannot be put in order on a full disk is by whoever comes next, and hides no other error.
        with contextlib.suppress(OSError):
            settle(folder, files)


def is_due_back(folder: Path) -> bool:
    """Whether `settle` would bring a run back."""
    return (folder / _MOVING).exists() or ((folder / _ASIDE).exists() and not _has_checkpoint(folder))


def _has_checkpoint(folder: Path) -> bool:
    return all((folder / name).exists() for name in (checkpoint.WEIGHTS_FILE, checkpoint.STATE_FILE))


def settle(folder: Path, files: Files) -> bool:
    """Remove the run that lies aside where its successor has a checkpoint, else bring it back; True for the latter.

    The lock is held.
    """
    moving, aside = folder / _MOVING, folder / _ASIDE
    if aside.exists():
        if _has_checkpoint(folder):
            shutil.rmtree(aside)
            return False
        for path in files(folder):
            path.unlink()
        os.replace(aside, moving)
    if not moving.exists():
        return False
    for path in moving.iterdir():
        # Each file is in one place only, unless somebody has written another since a kill: that one is the newer.
        if not (folder / path.name).exists():
            os.replace(path, folder / path.name)
    shutil.rmtree(moving)
    return True
