"""`vae-np schema`: what stands in the JSON of each command, as JSON Schema."""

from __future__ import annotations

import json
from importlib import resources
from typing import Annotated, Any

import typer

from vae_np.cli.options import words
from vae_np.cli.output import Output
from vae_np.errors import InputError

# Every command that has a --json; `schemas/NAME.json` has the schema.
NAMES = (
    "train", "eval", "report", "sample", "reconstruct", "latent", "convert",
    "verify", "study", "exercise", "bench", "info",
)  # fmt: skip


def command(
    name: Annotated[
        str | None,
        typer.Argument(metavar="COMMAND", help="Whose schema; by default all, by name.", autocompletion=words(*NAMES)),
    ] = None,
) -> int:
    """Print the JSON Schema of what a command's --json writes."""
    if name is not None and name not in NAMES:
        raise InputError(f"command: got {name!r}, expected one of {', '.join(NAMES)}")
    content = {each: schema(each) for each in NAMES} if name is None else schema(name)
    Output().say(json.dumps(content, indent=2))
    return 0


def schema(name: str) -> dict[str, Any]:
    """The JSON Schema of a command's result."""
    text = resources.files(__package__).joinpath("schemas", f"{name}.json").read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    return content
