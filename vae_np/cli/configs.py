"""`vae-np configs`: the configurations that come with the package, by name or as they stand."""

from __future__ import annotations

from typing import Annotated

import typer

from vae_np import config
from vae_np.cli.options import words
from vae_np.cli.output import Output


def command(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Print this one.", autocompletion=words(*config.shipped())),
    ] = None,
) -> int:
    """List the configurations that `train --config` knows by name, or print one."""
    output = Output()
    if name is not None:
        output.say(config.text(name).rstrip())
        return 0
    names = config.shipped()
    for each in names:
        output.say(f"{each:<{max(map(len, names))}}  {_first_sentence(config.text(each))}")
    return 0


def _first_sentence(text: str) -> str:
    """What the comment at the top says before its first empty line."""
    said = []
    for line in text.splitlines():
        if not line.startswith("# "):
            break
        said.append(line.removeprefix("# "))
    return " ".join(said)
