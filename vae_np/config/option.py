"""One setting as the command line and the messages see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vae_np.config.kinds import Choice, Flag, Kind, Sizes, shown, typed
from vae_np.errors import ConfigError, InputError


@dataclass(frozen=True)
class Option:
    """One field of `Config` as the command line and the messages see it.

    `name` and `default` are the field's own; `options()` fills them in.
    """

    kind: Kind
    metavar: str
    help: str
    name: str = ""
    default: Any = None

    @property
    def flag(self) -> str:
        """The name on the command line, such as `--batch-size`."""
        return "--" + self.name.replace("_", "-")

    @property
    def default_text(self) -> str:
        """The default as it would be typed on the command line; empty where there is none."""
        return "" if self.default is None else typed(self.default)

    @property
    def usage(self) -> str:
        """The help with the choices and the default, as the command line shows it."""
        choices = f" {self.kind.expected.capitalize()}." if isinstance(self.kind, Choice) else ""
        has_default = self.default_text and not isinstance(self.kind, Flag)
        return self.help + choices + (f" (default: {self.default_text})" if has_default else "")

    @property
    def expected(self) -> str:
        """What a value has to be."""
        return self._expected("")

    @property
    def _clearable(self) -> bool:
        """Whether `none` stands for None, and not for one of the words to choose from, or no sizes."""
        if self.default is not None:
            return False
        takes_none = isinstance(self.kind, Choice) and "none" in self.kind.choices
        return not (takes_none or (isinstance(self.kind, Sizes) and self.kind.count is None))

    def check(self, value: Any) -> Any:
        """`value` in the field's own type; raises ConfigError where it is not allowed."""
        if value is None and self.default is None:
            return None
        try:
            return self.kind.check(value)
        except InputError as error:
            raise ConfigError(str(error)) from None
        # a whole number too large for a float raises OverflowError
        except (ValueError, TypeError, OverflowError):
            raise ConfigError(self._message(value)) from None

    def parse(self, text: str) -> Any:
        """The value that was typed on the command line; raises ConfigError where it is not allowed."""
        if text == "none" and self._clearable:
            return None
        try:
            value = self.kind.read(text)
        except InputError as error:
            raise ConfigError(str(error)) from None
        except ValueError:
            raise ConfigError(self._message(text)) from None
        return self.check(value)

    def _message(self, value: Any) -> str:
        expected = self._expected(self.kind.limit(value))
        return f"{self.name}: got {shown(value)}, expected {expected}{self.kind.hint(value)}"

    def _expected(self, limit: str) -> str:
        return self.kind.expected + limit + (", or none" if self._clearable else "")
