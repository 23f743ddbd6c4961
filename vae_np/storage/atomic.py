"""Files that are whole or not there: written in full beside the old ones, flushed to the disk, and then renamed."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

from vae_np.errors import WriteError

# How much of the file's own name is in its temporary one; with all of it, a long name would become too long.
_NAME_PART = 40
_TEMPORARY = re.compile(r"\..+\.\d+-[0-9a-f]{8}\.tmp")


def write_atomic(path: str | os.PathLike[str], content: bytes | str) -> None:
    """Replace a file by `content` (text as UTF-8) at once: a kill leaves the old file or the new one.

    Raises WriteError where the file cannot be written; an earlier one is then untouched.
    """
    path = Path(path)
    try:
        replace_all({path: content.encode() if isinstance(content, str) else content})
    except OSError as error:
        raise WriteError(f"{path}: cannot be written ({reason(error)})") from error


def replace_all(files: Mapping[Path, bytes]) -> None:
    """Write every file in full before the first is renamed; rename in the order given.

    Raises OSError, whose `filename` is the file that could not be written.
    """
    temporary = {path: temporary_name(path) for path in files}
    try:
        for path, content in files.items():
            with _naming(path):
                _write_synced(temporary[path], content)
        for path in files:
            with _naming(path):
                os.replace(temporary[path], path)
    except BaseException:
        for path in temporary.values():
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        raise
    for folder in {path.parent for path in files}:
        _sync_folder(folder)


def temporary_name(path: Path) -> Path:
    """A name beside `path` that no other process and no other call has: two writers never share a file."""
    return path.with_name(f".{path.name[:_NAME_PART]}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


def is_temporary(name: str) -> bool:
    """Whether a file's name is one that `temporary_name` gives."""
    return _TEMPORARY.fullmatch(name) is not None


def remove_temporaries(folder: Path) -> None:
    """Remove the temporary files that kills have left in a folder, which nobody else may be writing."""
    for path in folder.iterdir():
        if is_temporary(path.name):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def reason(error: OSError) -> str:
    """Why a file could not be written, in a few words."""
    return " ".join((error.strerror or str(error)).split())


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Have an OSError name the file that was to be written, and not the temporary one or none."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), os.fspath(path)) from error


def _write_synced(path: Path, content: bytes) -> None:
    with open(path, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    # Some systems cannot sync a folder; the renames have happened all the same.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
