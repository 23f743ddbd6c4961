"""Configurations in TOML files: a user's own by path, the shipped ones by name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from vae_np.config.kinds import shown
from vae_np.config.settings import Config
from vae_np.errors import ConfigError, MissingFileError, did_you_mean

_MOST_BYTES = 1_000_000


def load_toml(path: str | os.PathLike[str]) -> Config:
    """The configuration in a TOML file; raises MissingFileError or ConfigError, which name the file."""
    try:
        with open(path, "rb") as file:
            # One byte more than is allowed: a device may have no end.
            content = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        raise MissingFileError(f"config: {os.fspath(path)}: there is no such file") from None
    except OSError as error:
        raise ConfigError(f"config: {os.fspath(path)}: cannot be read ({error.strerror})") from None
    return _from_toml(content, os.fspath(path))


def shipped() -> tuple[str, ...]:
    """The names of the configurations that come with the package."""
    return tuple(sorted(_shipped_files()))


def text(name: str) -> str:
    """A shipped configuration as it stands, with its comments; raises ConfigError for a name that is none."""
    files = _shipped_files()
    if name not in files:
        names = shipped()
        raise ConfigError(f"config: got {shown(name)}, expected one of {', '.join(names)}{did_you_mean(name, names)}")
    content: str = files[name].read_text(encoding="utf-8")
    return content


def load(name_or_path: str | os.PathLike[str]) -> Config:
    """A shipped configuration by name, or that of a TOML file by path; raises MissingFileError or ConfigError."""
    name = os.fspath(name_or_path)
    files = _shipped_files()
    if name in files:
        return _from_toml(files[name].read_bytes(), name)
    if name.endswith(".toml") or Path(name).name != name or Path(name).exists():
        return load_toml(name)
    names = shipped()
    hint = did_you_mean(name, names)
    raise ConfigError(f"config: got {shown(name)}, expected a .toml file or one of {', '.join(names)}{hint}")


def _shipped_files() -> dict[str, Any]:
    from importlib import resources

    entries = resources.files(__package__).joinpath("shipped").iterdir()
    return {entry.name.removesuffix(".toml"): entry for entry in entries if entry.name.endswith(".toml")}


def _from_toml(content: bytes, source: str) -> Config:
    import tomllib

    if len(content) > _MOST_BYTES:
        raise ConfigError(f"config: {source}: got more than {_MOST_BYTES} bytes, expected a file of settings")
    try:
        # Some editors begin a file with a mark that it is UTF-8.
        settings = tomllib.loads(content.decode("utf-8-sig"))
    except ValueError as error:
        raise ConfigError(f"config: {source}: not valid TOML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ConfigError(f"config: {source}: brackets are nested too deeply to be read") from None
    try:
        return Config.from_mapping(settings)
    except ConfigError as error:
        raise ConfigError(f"config: {source}: {error}") from None
