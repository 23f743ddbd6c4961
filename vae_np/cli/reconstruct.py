"""`vae-np reconstruct`: test examples above what the model makes of them."""

from __future__ import annotations

from typing import Annotated

import typer

from vae_np.cli.options import JsonFile, Overwrite, Quiet, Run, RunSeed, whole
from vae_np.cli.pictured import OpenRun, file_to_write, reconstruction_picture, save_picture
from vae_np.evaluation.held_out import Examples


def command(
    run: Run = None,
    n: Annotated[str | None, typer.Option("-n", metavar="N", help="How many. [default: 32]")] = None,
    out: Annotated[str | None, typer.Option("--out", metavar="FILE", help="A .png.")] = None,
    overwrite: Overwrite = False,
    seed: RunSeed = None,
    quiet: Quiet = False,
    json_file: JsonFile = None,
) -> int:
    """Show test examples above their reconstructions."""
    count = whole("n", n, 32)
    opened = OpenRun.of(run, seed, json_file, quiet=quiet)
    settings, vae = opened.settings, opened.vae
    target = file_to_write(out, opened.folder / f"reconstructions-n{count}-seed{opened.seed}.png", (".png",), overwrite)
    opened.output.say(f"run      {opened.folder}")
    dataset = opened.dataset()
    conditions = opened.conditions(dataset)
    encoded = None if conditions is None else conditions.encoded_test
    examples = Examples(dataset.test[:count], dataset.values, settings.binarization, opened.seed, given=encoded)
    given = None if conditions is None else conditions.test[: len(examples)]
    save_picture(reconstruction_picture(vae, examples, dataset, given), target)
    opened.report("reconstruct", [target], {"n": len(examples)})
    return 0
