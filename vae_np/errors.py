"""What a user's mistake raises: one clear line that names the argument, what was given and what was expected.

The command line prints the message and exits with code 2; the Python API raises it. Every class is a subclass of
`ValueError`, or of `FileNotFoundError` where a path is missing, so that callers need not know this module.
"""

from __future__ import annotations

from typing import Any


def one_line(text: str) -> str:
    """A message as one line that is safe to print: control characters, as from a damaged file, are shown as escapes."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(text.split()))


def did_you_mean(value: Any, choices: tuple[str, ...]) -> str:
    """The choice that was probably meant, as the end of a message; empty where none is close."""
    import difflib

    if not isinstance(value, str):
        return ""
    canonical = value.strip().lower()
    # a hyphen for an underscore, or the reverse, is the commonest slip
    plain = {choice.replace("_", "-"): choice for choice in choices}
    close = difflib.get_close_matches(canonical.replace("_", "-"), plain, n=1, cutoff=0.5)
    return f" (did you mean '{plain[close[0]]}'?)" if close else ""


class InputError(ValueError):
    """An argument has a value that cannot be used."""

    def __str__(self) -> str:
        return one_line(super().__str__())


class DataError(InputError):
    """A data set cannot be used: wrong shape, wrong values, or not a data file at all."""


class ConfigError(InputError):
    """A configuration key or value is not known or not allowed."""


class CheckpointError(InputError):
    """A checkpoint is truncated, is no checkpoint at all, or belongs to another architecture."""


class WriteError(InputError):
    """A file cannot be written: the disk is full, the folder is gone, or writing is not allowed."""


class BusyError(InputError):
    """Another process is writing the folder of a run."""


class BackendError(InputError):
    """A backend is missing, or lacks what was asked of it."""


class DeviceError(BackendError):
    """A GPU failed at its work, or has too little memory for it."""


class MissingFileError(FileNotFoundError):
    """A file or a run that was named does not exist."""

    def __str__(self) -> str:
        # FileNotFoundError formats (errno, text) pairs; here the one argument is the whole message.
        return one_line(str(self.args[0]))


class LostRankError(InputError):
    """One of the processes that share a computation has gone."""


class NonFiniteError(ArithmeticError):
    """A value stopped being finite during training; the message names the tensor and the step."""


class NothingObservedWarning(UserWarning):
    """Rows are filled in of which no cell was observed: their answer is the prior's."""


class UnverifiedWarning(UserWarning):
    """A checkpoint without checksums is used: an older version or another program wrote it."""
