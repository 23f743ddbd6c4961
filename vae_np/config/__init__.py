"""A run's configuration: its settings and their kinds, read from TOML files and from the command line."""

from vae_np.config.files import load, load_toml, shipped, text
from vae_np.config.kinds import Choice, ColumnFamilies, Flag, Integer, Real, Sizes, Text, counted, shown
from vae_np.config.option import Option
from vae_np.config.settings import Config, merge, options, parse_field, parse_stages

__all__ = [
    "Choice",
    "ColumnFamilies",
    "Config",
    "Flag",
    "Integer",
    "Option",
    "Real",
    "Sizes",
    "Text",
    "counted",
    "load",
    "load_toml",
    "merge",
    "options",
    "parse_field",
    "parse_stages",
    "shipped",
    "shown",
    "text",
]
