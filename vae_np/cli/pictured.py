"""What `sample`, `reconstruct` and `latent` share: a run's model, where a picture goes, and what is said of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from vae_np import data, noise, runs
from vae_np._types import Array
from vae_np.cli.options import setting
from vae_np.cli.output import Output, writing
from vae_np.config import Config
from vae_np.errors import InputError
from vae_np.evaluation import held_out
from vae_np.evaluation.held_out import Examples
from vae_np.exact.decoder import Decoder
from vae_np.likelihoods.columns import own_numbers
from vae_np.pictures import plots, tables
from vae_np.vae import VAE

# Points of the plane that are drawn, the lattice of a density, and the z whose p(x|z) it is the mean of, about so many.
POINTS, SIDE, PLACES = 1000, 81, 4000
# The level that is white.
_WHITE = 255.0


@dataclass(frozen=True)
class OpenRun:
    """A run's folder, settings and model, the seed of what is drawn, and where the command prints."""

    folder: Path
    settings: Config
    vae: VAE
    seed: int
    output: Output

    @classmethod
    def of(cls, run: str | None, seed: str | None, json_file: str | None, *, quiet: bool) -> OpenRun:
        """The run that was named, or the newest; the seed that was given, or the run's own."""
        output = Output(json_file, quiet=quiet)
        folder = runs.find(run)
        settings = runs.load_config(folder)
        vae = VAE.load(folder, backend=settings.backend, seed=settings.seed, moments=False)
        given = setting("seed", seed)
        return cls(folder, settings, vae, settings.seed if given is None else given, output)

    def dataset(self) -> data.Dataset:
        """The run's data, as the model was fitted to read them; raises DataError where the test rows have changed."""
        values = None if self.vae.config.values is None else self.vae.values
        dataset = runs.load_data(self.settings, values, self.vae.arch.features)
        if self.settings.data not in data.BUILT_IN:
            runs.check_unchanged(self.folder, dataset, ("test",), "the pictures of a run show the rows that it had")
        return dataset

    def conditions(self, dataset: data.Dataset) -> runs.Conditions | None:
        """Those of the run's data, for a conditional model; else None."""
        return runs.conditions_of(self.vae, self.settings, dataset)

    def report(self, command: str, written: list[Path], numbers: dict[str, int]) -> None:
        """Say which files were written, and write the JSON."""

        def tell() -> None:
            for path in written:
                self.output.say(f"wrote    {path}")

        content = {
            **numbers,
            "files": [str(path) for path in written],
            "dtype": self.settings.dtype,
            "seed": self.seed,
            "run": str(self.folder),
        }
        self.output.result(command, content, tell)


def refuse_conditional(vae: VAE, command: str) -> None:
    """Raise InputError for a conditional model: the places in z that `command` decodes have no conditions."""
    if vae.arch.conditions:
        raise InputError(
            f"{command}: got a run with {vae.arch.conditions} conditions, expected one without: the places in z that "
            "it decodes have none; sample --given shows such a model"
        )


def save_picture(figure: Any, path: Path) -> None:
    """Write a figure, and make its folder; raises InputError where that cannot be done."""
    with writing("out", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        plots.save(figure, path)


def file_to_write(out: str | None, default: Path, suffixes: tuple[str, ...], overwrite: bool) -> Path:
    """Where a picture goes. A file that was named is not overwritten unasked; a default name says what it holds."""
    if out is None:
        return default
    target = Path(out)
    if target.suffix not in suffixes:
        raise InputError(f"out: got {out!r}, expected a name that ends in {' or '.join(suffixes)}")
    if target.exists() and not overwrite:
        raise InputError(f"out: {out}: exists; add --overwrite to replace it")
    return target


def prior_text(vae: VAE) -> str:
    """How z is drawn, for a picture's title."""
    if vae.arch.prior != "standard":
        return f"z ~ p(z), {vae.arch.prior}"
    return "z ~ N(0, I)" if vae.arch.top_latent is None else "z ~ p(z|z₂), z₂ ~ N(0, I)"


def points_of(dataset: data.Dataset) -> Array | None:
    """The first training rows as points (n, 2) of the plane, on the data's own scale; None where they are none."""
    train = dataset.train
    if dataset.image_shape is not None or train.shape[1] != 2:
        return None
    return np.asarray(train[:POINTS], dtype=np.float64)


def density_around(vae: VAE, points: Array, seed: int) -> tuple[Array, Array, Array] | None:
    """p(x) on a lattice around points (n, 2): both axes (side,) and the density (side, side), second axis downwards.

    None for a Bernoulli likelihood, which has no density, and for families whose cells are no points of a plane. [D9]
    """
    if vae.arch.is_bernoulli or vae.arch.is_composed:
        return None
    low, high = points.min(axis=0), points.max(axis=0)
    room = 0.15 * (high - low) + 1e-12
    first, second = (np.linspace(low[j] - room[j], high[j] + room[j], SIDE) for j in range(2))
    places = np.stack(np.meshgrid(first, second), axis=-1).reshape(-1, 2)
    if vae.arch.prior == "standard":
        z = vae.lifted(_prior_places(vae.arch.noise_columns, seed))
    else:
        z = vae.prior(PLACES, seed).astype(np.float64)
    log_prob = Decoder.of(vae.arch, vae.parameters).prior_monte_carlo(vae.values.to_model(places), z)
    # Of standardised data the density is off by a constant, which shades do not show.
    return first, second, np.exp(log_prob - log_prob.max()).reshape(SIDE, SIDE)


def _prior_places(latent: int, seed: int) -> Array:
    """Places (about 4,000, K) that stand for the prior: for one and two latents equal shares of it, else draws."""
    if latent > 2:
        return noise.normal(np.arange(PLACES), latent, seed=seed, stream=noise.PRIOR, dtype=np.float64)
    side = round(PLACES ** (1 / latent))
    axis = np.array([NormalDist().inv_cdf((i + 0.5) / side) for i in range(side)])
    return np.stack(np.meshgrid(*[axis] * latent, indexing="ij"), axis=-1).reshape(-1, latent)


def reconstruction_picture(vae: VAE, examples: Examples, dataset: data.Dataset, given: Array | None = None) -> Any:
    """Examples above their reconstructions E[x|z] at the posterior mean; `given` are a conditional model's conditions.
    """
    originals: Array = examples.batch(slice(0, len(examples)))[0][:, : vae.arch.features]
    mu, _ = held_out.posterior_moments(vae.model, examples)
    shown = examples.values.from_model(np.asarray(originals, dtype=np.float64))
    return plots.reconstructions(as_grey(vae, shown), as_grey(vae, vae.decode(mu, given=given)), dataset.image_shape)


def as_grey(vae: VAE, x: Array) -> Array:
    """Rows as pictures show them: levels of grey on [0, 1], and all else as it is."""
    return x / _WHITE if vae.arch.likelihood == "discretized-logistic" else x


def sample_picture(
    vae: VAE, samples: Array, dataset: data.Dataset, title: str, *, pairs: bool = False, in_a_row: int | None = None
) -> Any:
    """Samples as images, `in_a_row` of them, or points; where columns have families of their own, beside the data,
    singly or in pairs."""
    columns = vae.arch.columns
    if columns is None:
        grey, points = as_grey(vae, samples), points_of(dataset)
        return plots.samples(grey, dataset.image_shape, columns=in_a_row, title=title, data=points)
    own = own_numbers(columns, np.asarray(dataset.train, dtype=np.float64))
    draw, what = (tables.pairs, "Pairs of columns") if pairs else (tables.marginals, "Columns")
    return draw(own, samples, columns, title=f"{what} of the data, and of the model's samples")
