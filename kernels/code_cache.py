"""Files of machine code that outlive the process: where they lie, and whether what lies there can be trusted.

What is read back is executed. So a folder has to belong to this user, and nobody else may be able to write to it; and
each file begins with a digest of its name and content, which is checked before its content is used. A damaged file
counts as missing, and is replaced.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import platformdirs

NAME = "vae-np"
_MAGIC = b"vae-np machine code 1\n"


class Problem:
    """Why machine code is not kept, in one line; None where it is."""

    def __init__(self) -> None:
        self.line: str | None = None
        self._listener: Callable[[str], None] | None = None

    def on_change(self, listener: Callable[[str], None] | None) -> None:
        """Have `listener` called with the line, and no Python warning given, if code cannot be kept later."""
        self._listener = listener

    def warn(self, line: str) -> None:
        """Nothing is kept from now on: say so, the first time."""
        if self.line is not None:
            return
        self.line = line
        if self._listener is not None:
            self._listener(line)
        else:
            warnings.warn(f"compiled code is not kept: {line}", RuntimeWarning, stacklevel=3)


def folder(named: str | None, digest: str) -> Path:
    """The folder of one state of the sources, created and tested: below the folder `named`, or below the user's cache.

    Where a user has no home, or none that can be written to, it lies below the folder for temporary files, under a
    name with the user's number. Raises OSError, whose text says why, where no folder can be used.
    """
    if named:
        return _made(Path(named).absolute() / NAME / digest)
    try:
        users = platformdirs.user_cache_path(NAME, appauthor=False)
        # Without a home, some versions of platformdirs raise RuntimeError, and others name a folder called `~`.
        if users.is_absolute():
            return _made(users / digest)
    except _Refused:
        raise
    except (OSError, RuntimeError):
        pass
    return _made(Path(tempfile.gettempdir()) / f"{NAME}-{_user()}" / digest)


class _Refused(PermissionError):
    """A folder that somebody else could have put something into."""


def _user() -> object:
    return os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")


def _made(place: Path) -> Path:
    try:
        place.parent.parent.mkdir(parents=True, exist_ok=True)
        for part in (place.parent, place):
            part.mkdir(mode=0o700, exist_ok=True)
            _check(part)
        tempfile.TemporaryFile(dir=place).close()
    except _Refused:
        raise
    except OSError as error:
        raise type(error)(error.errno, f"{place} cannot be written ({error.strerror or error})") from None
    return place


def _check(place: Path) -> None:
    """Refuse a folder that is not this user's alone; Windows has other means, which are not checked."""
    if not hasattr(os, "getuid"):
        return
    found = place.stat()
    if found.st_uid != os.getuid():
        raise _Refused(errno.EPERM, f"{place} belongs to user {found.st_uid}, not to {os.getuid()}, who runs this")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        remedy = f"chmod go-w {place}"
        raise _Refused(errno.EPERM, f"{place} can be written to by others (mode {found.st_mode & 0o777:o}); {remedy}")


def read(place: Path) -> bytes | None:
    """What `write` has put there; None where there is nothing, or something else, or not all of it."""
    try:
        content = place.read_bytes()
    except OSError:
        return None
    head = len(_MAGIC) + hashlib.sha256().digest_size
    return content[head:] if content[:head] == _head(place, content[head:]) else None


def write(place: Path, content: bytes) -> None:
    """Put a file there, whole or not at all; raises OSError where that cannot be done."""
    # Through a file of its own, so that another process never reads half of it.
    handle, name = tempfile.mkstemp(dir=place.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(_head(place, content) + content)
        os.replace(name, place)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _head(place: Path, content: bytes) -> bytes:
    # With its name, so that no file passes for another one.
    return _MAGIC + hashlib.sha256(place.name.encode() + b"\0" + content).digest()
