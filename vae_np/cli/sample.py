"""`vae-np sample`: draws from a run's model, as a picture or as an array."""

from __future__ import annotations

import csv
import io
from typing import Annotated

import numpy as np
import typer

from vae_np import data, storage
from vae_np.cli.options import JsonFile, Overwrite, Quiet, Run, RunSeed, whole
from vae_np.cli.output import writing
from vae_np.cli.pictured import OpenRun, file_to_write, prior_text, sample_picture, save_picture


def command(
    run: Run = None,
    n: Annotated[str | None, typer.Option("-n", metavar="N", help="How many. [default: 64]")] = None,
    draws: Annotated[bool, typer.Option("--draws", help="Draw x ~ p(x|z) instead of showing E[x|z].")] = False,
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
    default = opened.folder / f"samples-n{count}-seed{opened.seed}{'-draws' if draws else ''}.png"
    columns = opened.vae.arch.columns
    target = file_to_write(out, default, (".png", ".npy", *([] if columns is None else [".csv"])), overwrite)
    opened.output.say(f"run      {opened.folder}")
    # Of a table's columns a mean is no row: those are always drawn.
    draws = draws or columns is not None
    images = opened.vae.sample(count, opened.seed, mean=not draws)
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
        save_picture(sample_picture(opened.vae, images, opened.dataset(), title), target)
    opened.report("sample", [target], {"n": count})
    return 0
