"""Kinds of value: what a setting accepts, how it is read from text, and what a message says of it."""

from __future__ import annotations

import math
import operator
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from vae_np.errors import InputError, did_you_mean
from vae_np.likelihoods import columns_of, read_columns


class Kind(ABC):
    """What a field accepts: a description, a reader for text, and a check.

    `check` returns the value in the field's own type. Both `read` and `check` raise a ValueError or a
    TypeError; `Option` turns it into the one-line message.
    """

    @property
    @abstractmethod
    def expected(self) -> str: ...

    def read(self, text: str) -> Any:
        return text

    @abstractmethod
    def check(self, value: Any) -> Any: ...

    def limit(self, value: Any) -> str:
        """What `expected` has to add for a value that only a limit of the computer forbids."""
        return ""

    def hint(self, value: Any) -> str:
        """What may have been meant."""
        return ""


@dataclass(frozen=True)
class Text(Kind):
    """Any text that is not empty; a path object counts as its text."""

    description: str

    @property
    def expected(self) -> str:
        return self.description

    def check(self, value: Any) -> str:
        text = os.fspath(value)
        if not isinstance(text, str) or not text.strip():
            raise ValueError
        # Text that is not Unicode, such as a file's name in another encoding, raises a ValueError: TOML could not hold
        # it.
        text.encode()
        return text

    def limit(self, value: Any) -> str:
        return " in UTF-8" if isinstance(value, str) and value.strip() else ""


@dataclass(frozen=True)
class Choice(Kind):
    """One of a few words."""

    choices: tuple[str, ...]

    @property
    def expected(self) -> str:
        return f"one of {', '.join(self.choices)}"

    def check(self, value: Any) -> str:
        if not isinstance(value, str) or value not in self.choices:
            raise ValueError
        return value

    def hint(self, value: Any) -> str:
        return did_you_mean(value, self.choices)


@dataclass(frozen=True)
class Flag(Kind):
    """Yes or no: a TOML boolean; on the command line an option without a value, or `--no-` and its name."""

    @property
    def expected(self) -> str:
        return "true or false"

    def read(self, text: str) -> bool:
        if text.lower() not in ("true", "false"):
            raise ValueError
        return text.lower() == "true"

    def check(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise TypeError
        return value


@dataclass(frozen=True)
class Integer(Kind):
    """A whole number at or above a bound, and below another where one is given.

    Without `below` it is below 2**`bits`, which a message says only where that limit was passed. Most numbers count
    what the noise addresses with words of 32 bits, and samples what it addresses with 24.
    """

    at_least: int
    below: int | None = None
    below_text: str = ""
    bits: int = 31

    @property
    def expected(self) -> str:
        upper = "" if self.below is None else f" and < {self.below_text or self.below}"
        return f"a whole number >= {self.at_least}{upper}"

    def read(self, text: str) -> int:
        return int(text)

    def check(self, value: Any) -> int:
        number = _whole(value)
        if not self.at_least <= number < (self.below or 2**self.bits):
            raise ValueError
        return number

    def limit(self, value: Any) -> str:
        if isinstance(value, bool) or self.below is not None:
            return ""
        if isinstance(value, str):
            is_large = value.isdecimal() and len(value) > 10
        else:
            is_large = hasattr(value, "__index__") and value >= 2**self.bits
        return f" and < 2**{self.bits}" if is_large else ""


@dataclass(frozen=True)
class Real(Kind):
    """A finite number above (or at least) a bound, and below another where one is given."""

    above: float | None = None
    at_least: float | None = None
    below: float | None = None

    @property
    def expected(self) -> str:
        bounds = ((">", self.above), (">=", self.at_least), ("<", self.below))
        return "a number " + " and ".join(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None)

    def read(self, text: str) -> float:
        return float(text)

    def check(self, value: Any) -> float:
        if isinstance(value, (bool, str, bytes)):
            raise TypeError
        number = float(value)
        inside = (
            math.isfinite(number)
            and (self.above is None or number > self.above)
            and (self.at_least is None or number >= self.at_least)
            and (self.below is None or number < self.below)
        )
        if not inside:
            raise ValueError
        return number

    def hint(self, value: Any) -> str:
        return " (finite)" if isinstance(value, float) and not math.isfinite(value) else ""


@dataclass(frozen=True)
class Sizes(Kind):
    """Sizes, all at least 1; any number of them, or just `count`."""

    description: str
    count: int | None = None

    @property
    def expected(self) -> str:
        return self.description

    def read(self, text: str) -> tuple[int, ...]:
        return () if text == "none" else tuple(int(part) for part in text.split(","))

    def check(self, value: Any) -> tuple[int, ...]:
        parts = value if isinstance(value, (tuple, list)) else (value,)
        sizes = tuple(_whole(part) for part in parts)
        if min(sizes, default=1) < 1 or (self.count is not None and len(sizes) != self.count):
            raise ValueError
        return sizes


@dataclass(frozen=True)
class ColumnFamilies(Kind):
    """A family for each column of a table, by name; as text, the file that says so. [D66]

    What is wrong within it is said by the error that it raises itself, an InputError.
    """

    @property
    def expected(self) -> str:
        return "a TOML or JSON file that names each column's family"

    def read(self, text: str) -> Any:
        return read_columns(text)

    def check(self, value: Any) -> Any:
        return columns_of(value)


def typed(value: Any) -> str:
    """A value as it would be typed on the command line."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def shown(value: Any) -> str:
    """A value as a message shows it: on one line and not long."""
    if isinstance(value, tuple) and value and all(isinstance(part, int) for part in value):
        return typed(value)
    # a NumPy scalar would show its type
    text = repr(value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value)
    text = " ".join(text.split())
    return text if len(text) <= 60 else text[:57] + "..."


def counted(name: str, value: Any, *, bits: int = 31) -> int:
    """A whole number from 1 and below 2**`bits`, for an argument that is not a setting; raises InputError."""
    kind = Integer(1, bits=bits)
    try:
        return kind.check(value)
    except (ValueError, TypeError):
        raise InputError(f"{name}: got {shown(value)}, expected {kind.expected}{kind.limit(value)}") from None


def _whole(value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError
    return operator.index(value)
