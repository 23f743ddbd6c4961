"""`vae-np sample`, `reconstruct` and `latent`: what a run's model draws."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vae_np import runs
from vae_np._types import Array
from vae_np.cli.output import Output
from vae_np.cli.train import reconstruction_picture
from vae_np.config import Config
from vae_np.errors import InputError
from vae_np.evaluation import held_out
from vae_np.evaluation.held_out import Binarized
from vae_np.pictures import plots
from vae_np.vae import VAE

_PATH_STEPS = 11
_MANIFOLD_SIDE = 20
_SCATTER_EXAMPLES = 5000


def sample(
    run: str | None,
    *,
    n: int,
    draws: bool,
    out: str | None,
    overwrite: bool,
    seed: int | None,
    json_file: str | None,
) -> int:
    """n samples as a picture (`.png`) or as an array (`.npy`); `draws` asks for x itself rather than E[x|z]."""
    if n < 1:
        raise InputError(f"n: got {n}, expected a whole number > 0")
    output = Output(json_file)
    folder, settings, vae = _open(run)
    seed = settings.seed if seed is None else seed
    default = folder / f"samples-n{n}-seed{seed}{'-draws' if draws else ''}.png"
    target = _target(out, default, (".png", ".npy"), overwrite)
    output.say(f"run      {folder}")
    images = vae.sample(n, seed, mean=not draws)
    if target.suffix == ".npy":
        _write(target, lambda path: np.save(path, images))
    else:
        shape = runs.load_data(settings).image_shape
        title = "Samples: x ~ p(x|z), z ~ N(0, I)" if draws else "Samples: E[x|z], z ~ N(0, I)"
        _write(target, lambda path: plots.save(plots.samples(images, shape, title=title), path))
    return _report(output, "sample", folder, settings, seed, [target], {"n": n})


def reconstruct(
    run: str | None, *, n: int, out: str | None, overwrite: bool, seed: int | None, json_file: str | None
) -> int:
    """The first n test examples above their reconstructions E[x|z] at the posterior mean."""
    if n < 1:
        raise InputError(f"n: got {n}, expected a whole number > 0")
    output = Output(json_file)
    folder, settings, vae = _open(run)
    seed = settings.seed if seed is None else seed
    target = _target(out, folder / f"reconstructions-n{n}-seed{seed}.png", (".png",), overwrite)
    output.say(f"run      {folder}")
    dataset = runs.load_data(settings)
    examples = Binarized(dataset.test[:n], dataset.values, settings.binarization, seed)
    _write(target, lambda path: plots.save(reconstruction_picture(vae, examples, dataset), path))
    return _report(output, "reconstruct", folder, settings, seed, [target], {"n": len(examples)})


def latent(
    run: str | None, *, n: int, out: str | None, overwrite: bool, seed: int | None, json_file: str | None
) -> int:
    """n interpolations between test examples; for 2-D latents also the decoded manifold and the labelled scatter."""
    if n < 1:
        raise InputError(f"n: got {n}, expected a whole number > 0")
    output = Output(json_file)
    folder, settings, vae = _open(run)
    seed = settings.seed if seed is None else seed
    place = folder if out is None else Path(out)
    if place.exists() and not place.is_dir():
        raise InputError(f"out: {place}: is a file, expected a folder")
    names = ["interpolations.png"] + (["manifold.png", "scatter.png"] if vae.arch.latent == 2 else [])
    given = [None if out is None else str(place / name) for name in names]
    targets = [_target(path, place / name, (".png",), overwrite) for path, name in zip(given, names, strict=True)]
    output.say(f"run      {folder}")
    dataset = runs.load_data(settings)
    examples = Binarized(dataset.test[:_SCATTER_EXAMPLES], dataset.values, settings.binarization, seed)
    mu, _ = held_out.posterior_moments(vae.model, examples)
    pairs = min(n, len(mu) // 2)
    if pairs == 0:
        raise InputError(f"data {dataset.name!r}: has {len(mu)} test rows, expected at least 2 to interpolate between")
    shape = dataset.image_shape
    makers: list[Callable[[], Any]] = [lambda: plots.interpolations(interpolate(vae, mu, pairs), shape)]
    if vae.arch.latent == 2:
        labels = None if dataset.test_labels is None else dataset.test_labels[: len(mu)]
        grid = plots.manifold_grid(_MANIFOLD_SIDE)
        makers.append(lambda: plots.manifold(vae.decode(grid), _MANIFOLD_SIDE, shape))
        makers.append(lambda: plots.latent_scatter(mu, labels))
    else:
        output.say(f"note     the manifold and the scatter need 2 latent dimensions; this run has {vae.arch.latent}")
    place.mkdir(parents=True, exist_ok=True)
    for target, make in zip(targets, makers, strict=True):
        _write(target, lambda path, make=make: plots.save(make(), path))  # type: ignore[misc]  # early binding
    return _report(output, "latent", folder, settings, seed, targets, {"n": pairs})


def interpolate(vae: VAE, mu: Array, pairs: int) -> Array:
    """E[x|z] along straight lines between the posterior means of examples 2i and 2i + 1: (pairs, steps, D)."""
    t = np.linspace(0, 1, _PATH_STEPS)[:, None]
    paths = [(1 - t) * mu[2 * i] + t * mu[2 * i + 1] for i in range(pairs)]
    return np.stack([vae.decode(path) for path in paths])


def _open(run: str | None) -> tuple[Path, Config, VAE]:
    folder = runs.find(run)
    settings = runs.load_config(folder)
    vae = VAE.load(folder, backend=settings.backend, seed=settings.seed)
    return folder, settings, vae


def _target(out: str | None, default: Path, suffixes: tuple[str, ...], overwrite: bool) -> Path:
    """Where a picture goes. A name that was given is not overwritten unasked; a default names what it holds."""
    if out is None:
        return default
    target = Path(out)
    if target.suffix not in suffixes:
        raise InputError(f"out: got {out!r}, expected a name that ends in {' or '.join(suffixes)}")
    if target.exists() and not overwrite:
        raise InputError(f"out: {out}: exists; add --overwrite to replace it")
    return target


def _write(target: Path, write: Callable[[Path], None]) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write(target)
    except OSError as error:
        raise InputError(f"out: {target}: cannot be written ({error.strerror or error})") from None


def _report(
    output: Output,
    command: str,
    folder: Path,
    settings: Config,
    seed: int,
    written: list[Path],
    numbers: dict[str, int],
) -> int:
    for path in written:
        output.say(f"wrote    {path}")
    output.json(
        command,
        {
            **numbers,
            "files": [str(path) for path in written],
            "dtype": settings.dtype,
            "seed": seed,
            "run": str(folder),
        },
    )
    return 0
