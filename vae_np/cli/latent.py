"""`vae-np latent`: walks between test examples, and the latent plane where there is one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from vae_np._types import Array
from vae_np.cli.options import JsonFile, Overwrite, Quiet, Run, RunSeed, whole
from vae_np.cli.pictured import OpenRun, density_around, file_to_write, points_of, refuse_conditional, save_picture
from vae_np.errors import InputError
from vae_np.evaluation import held_out
from vae_np.evaluation.held_out import Examples
from vae_np.pictures import plots
from vae_np.vae import VAE

_PATH_STEPS = 11
_MANIFOLD_SIDE = 20
_SCATTER_EXAMPLES = 5000


def command(
    run: Run = None,
    n: Annotated[str | None, typer.Option("-n", metavar="N", help="How many interpolations. [default: 8]")] = None,
    out: Annotated[str | None, typer.Option("--out", metavar="FOLDER", help="By default the run's folder.")] = None,
    overwrite: Overwrite = False,
    seed: RunSeed = None,
    quiet: Quiet = False,
    json_file: JsonFile = None,
) -> int:
    """Walk through latent space: interpolations; for 2-D latents also the decoded manifold and the labelled scatter.

    For data in the plane all of these lie over the data, and the model's density is drawn as well.
    """
    count = whole("n", n, 8)
    opened = OpenRun.of(run, seed, json_file, quiet=quiet)
    output, settings, vae = opened.output, opened.settings, opened.vae
    refuse_conditional(vae, "latent")
    place = opened.folder if out is None else Path(out)
    if place.exists() and not place.is_dir():
        raise InputError(f"out: {place}: is a file, expected a folder")
    dataset = opened.dataset()
    points = points_of(dataset)
    shaded = None if vae.arch.is_bernoulli else points
    in_plane = vae.arch.latent == 2 and vae.arch.top_latent is None
    names = ["interpolations.png"] + (["manifold.png", "scatter.png"] if in_plane else [])
    names += [] if shaded is None else ["density.png"]
    given = [None if out is None else str(place / name) for name in names]
    targets = [file_to_write(path, place / name, (".png",), overwrite) for path, name in zip(given, names, strict=True)]
    output.say(f"run      {opened.folder}")
    examples = Examples(dataset.test[:_SCATTER_EXAMPLES], dataset.values, settings.binarization, opened.seed)
    mu, _ = held_out.posterior_moments(vae.model, examples)
    pairs = min(count, len(mu) // 2)
    if pairs == 0:
        raise InputError(f"data {dataset.name!r}: has {len(mu)} test rows, expected at least 2 to interpolate between")
    shape = dataset.image_shape
    makers: list[Callable[[], Any]] = [lambda: plots.interpolations(interpolate(vae, mu, pairs), shape, data=points)]
    if in_plane:
        labels = None if dataset.test_labels is None else dataset.test_labels[: len(mu)]
        grid = plots.manifold_grid(_MANIFOLD_SIDE)
        makers.append(lambda: plots.manifold(vae.decode(grid), _MANIFOLD_SIDE, shape, data=points))
        makers.append(lambda: plots.latent_scatter(mu, labels))
        if vae.arch.prior != "standard":
            output.say(f"note     lattice and circles are those of N(0, I), and not of prior {vae.arch.prior}")
    else:
        held = str(vae.arch.latent) if vae.arch.top_latent is None else f"{vae.arch.latent} below {vae.arch.top_latent}"
        output.say(f"note     the manifold and the scatter need 2 latent dimensions; this run has {held}")
    if shaded is not None:
        draws, density = vae.sample(len(shaded), opened.seed), density_around(vae, shaded, opened.seed)
        makers.append(lambda: plots.over_data(shaded, draws, density))
    for target, make in zip(targets, makers, strict=True):
        save_picture(make(), target)
    opened.report("latent", targets, {"n": pairs})
    return 0


def interpolate(vae: VAE, mu: Array, pairs: int) -> Array:
    """E[x|z] along straight lines between the posterior means of examples 2i and 2i + 1: (pairs, steps, D)."""
    t = np.linspace(0, 1, _PATH_STEPS)[:, None]
    paths = [(1 - t) * mu[2 * i] + t * mu[2 * i + 1] for i in range(pairs)]
    return np.stack([vae.decode(path) for path in paths])
