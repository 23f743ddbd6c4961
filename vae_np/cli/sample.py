"""`vae-np sample`: draws from a run's model, as a picture or as an array."""

from __future__ import annotations

import csv
import io
from typing import Annotated, Any

import numpy as np
import typer

from vae_np import data, storage
from vae_np.cli.options import JsonFile, Overwrite, Quiet, Run, RunSeed, whole
from vae_np.cli.output import writing
from vae_np.cli.pictured import OpenRun, file_to_write, prior_text, sample_picture, save_picture
from vae_np.errors import InputError


def command(
    run: Run = None,
    n: Annotated[str | None, typer.Option("-n", metavar="N", help="How many. [default: 64]")] = None,
    draws: Annotated[bool, typer.Option("--draws", help="Draw x ~ p(x|z) instead of showing E[x|z].")] = False,
    given: Annotated[
        str | None,
        typer.Option(
            "--given",
            metavar="LABELS",
            help="What a conditional run's draws are given: a label, or several, separated by commas, in turn; or the "
            "numbers of one row.",
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option("--out", metavar="FILE", help="A .png, a .npy for the values, or a .csv for a table's rows."),
    ] = None,
    overwrite: Overwrite = False,
    seed: RunSeed = None,
    quiet: Quiet = False,
    json_file: JsonFile = None,
) -> int:
    """Sample from a run's model: z from the prior, then x given z."""
    count = whole("n", n, 64)
    opened = OpenRun.of(run, seed, json_file, quiet=quiet)
    conditions, in_a_row = _conditions(opened, given, count)
    named = f"{'-draws' if draws else ''}{'' if given is None else '-given'}"
    default = opened.folder / f"samples-n{count}-seed{opened.seed}{named}.png"
    columns = opened.vae.arch.columns
    target = file_to_write(out, default, (".png", ".npy", *([] if columns is None else [".csv"])), overwrite)
    opened.output.say(f"run      {opened.folder}")
    # Of a table's columns a mean is no row: those are always drawn.
    draws = draws or columns is not None
    images = opened.vae.sample(count, opened.seed, mean=not draws, given=conditions)
    if target.suffix in (".npy", ".csv"):
        content = io.BytesIO()
        if target.suffix == ".csv" and columns is not None:
            text = io.StringIO(newline="")
            cells = data.cells_of(images, columns)
            csv.writer(text).writerows([cells, *zip(*cells.values(), strict=True)])
            content.write(text.getvalue().encode())
        else:
            np.save(content, images)
        with writing("out", target):
            target.parent.mkdir(parents=True, exist_ok=True)
            storage.write_atomic(target, content.getvalue())
    else:
        title = f"Samples: {'x ~ p(x|z)' if draws else 'E[x|z]'}, {prior_text(opened.vae)}"
        title += "" if given is None else f", given {given}"
        save_picture(sample_picture(opened.vae, images, opened.dataset(), title, in_a_row=in_a_row), target)
    opened.report("sample", [target], {"n": count})
    return 0


def _conditions(opened: OpenRun, given: str | None, count: int) -> tuple[Any, int | None]:
    """What each of the draws is given, and how many pictures stand in a row: one of each of several labels."""
    known = opened.vae.given
    if given is not None and not opened.vae.arch.conditions:
        raise InputError(f"given: got {given!r} for a run without conditions, expected none; train --given makes one")
    if given is None or known is None:
        # What is missing the model says.
        return given, None
    told = known.parse(given)
    if known.names is None:
        return told, None
    if len(told) > count:
        raise InputError(f"given: got {len(told)} labels for -n {count}, expected at most one for each of the draws")
    return told[np.arange(count) % len(told)], len(told) if len(told) > 1 else None
