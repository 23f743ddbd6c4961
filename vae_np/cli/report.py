"""`vae-np report`: a run as one HTML file, with its figures, its pictures and its decoder to play with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from vae_np import __version__, data, runs, storage
from vae_np._types import Array
from vae_np.cli import estimation
from vae_np.cli import eval as evaluating
from vae_np.cli.describe import describe_values
from vae_np.cli.estimation import Evaluation
from vae_np.cli.options import JsonFile, Overwrite, Run, RunBackend, RunSeed, Threads, setting, whole
from vae_np.cli.output import Output, check_target, writing
from vae_np.cli.pictured import density_around, points_of, refuse_conditional
from vae_np.errors import InputError
from vae_np.evaluation import held_out
from vae_np.evaluation.held_out import Examples
from vae_np.pictures import plots
from vae_np.pictures.report import Explorer, Report

_SAMPLES = 64
_PAIRS = 16
# Examples to start from in the explorer, and dots in the plane of two latents.
_EXAMPLES, _PLACES = 24, 2000


def command(
    run: Run = None,
    out: Annotated[
        str | None, typer.Option("--out", metavar="FILE", help="An .html. [default: report.html in the run's folder]")
    ] = None,
    overwrite: Overwrite = False,
    data_file: Annotated[
        str | None,
        typer.Option("--data", metavar="DATA", help="Other data than the run's own: a built-in name or a file."),
    ] = None,
    samples: Annotated[
        str | None, typer.Option("--samples", metavar="N", help="Importance samples per example. [default: 100]")
    ] = None,
    images: Annotated[
        str | None, typer.Option("--images", metavar="N", help="Evaluate only the first N test examples.")
    ] = None,
    backend: RunBackend = None,
    threads: Threads = None,
    seed: RunSeed = None,
    json_file: JsonFile = None,
) -> int:
    """Write a run as one page that opens from a disk: settings, curves, samples, the table of eval, a latent explorer.

    The page decodes in the browser, with the run's own weights; it loads nothing from elsewhere.
    """
    output = Output(json_file)
    folder = runs.find(run)
    target = _target(out, folder / runs.REPORT, overwrite)
    evaluation = evaluating.resolve(
        str(folder),
        samples=whole("samples", samples, None, bits=24),
        images=whole("images", images, None),
        data_file=data_file,
        backend=setting("backend", backend),
        threads=whole("threads", threads, None),
        seed=setting("seed", seed),
    )
    refuse_conditional(evaluation.vae, "report")
    trained = evaluating.trained_for(folder)
    shortened = evaluating.shortened_to(evaluation.vae.config, trained["steps"])
    evaluating.introduce(output, evaluation, shortened, data_file)
    result = evaluating.compute(output, evaluation)
    report = _report(evaluation, result, shortened, trained["steps"])
    content = report.to_html()
    with writing("out", target):
        target.parent.mkdir(parents=True, exist_ok=True)
        storage.write_atomic(target, content)
    size = len(content.encode())
    numbers = {
        "file": str(target),
        "bytes": size,
        "figures": {name.strip(): value for name, value in report.figures},
        "seed": evaluation.seed,
        "run": str(folder),
    }
    output.result("report", numbers, lambda: output.say(f"wrote    {target}, {size / 2**20:.1f} MB"))
    return 0


def _target(out: str | None, default: Path, overwrite: bool) -> Path:
    """Where the page goes; nothing that is there is overwritten unasked, whether it was named or not."""
    target = default if out is None else Path(out)
    if target.suffix != ".html":
        raise InputError(f"out: got {out!r}, expected a name that ends in .html")
    check_target("out", str(target), "a file's name that ends in .html")
    if target.exists() and not overwrite:
        raise InputError(f"out: {target}: exists; add --overwrite to replace it")
    return target


def _report(evaluation: Evaluation, result: evaluating.Result, shortened: str | None, steps: int) -> Report:
    """The page's content: what was evaluated, the pictures that the data allow, and the explorer."""
    vae, folder = evaluation.vae, evaluation.folder
    if vae.arch.observation is not None:
        raise InputError(
            f"run: {folder}: has likelihood {vae.arch.likelihood!r} and missing {vae.arch.missing!r}, which the page's "
            "explorer does not know; vae-np eval has the figures"
        )
    examples = evaluation.data.examples
    dataset = runs.load_data(evaluation.settings, examples.values, vae.arch.features)
    shape = dataset.image_shape
    some = Examples(examples.rows[:_PLACES], examples.values, examples.mode, examples.seed, examples.first)
    mu, _ = held_out.posterior_moments(vae.model, some)
    shown = _as_shown(some, max(_EXAMPLES, _PAIRS))
    drawn = vae.sample(_SAMPLES, evaluation.seed, mean=True)
    pictures = []
    metrics = runs.read_metrics(folder)
    if metrics:
        pictures.append(("Training", "", plots.curves(metrics)))
    points = points_of(dataset)
    if points is not None:
        density = density_around(vae, points, evaluation.seed)
        text = "Draws of the model over the data" + (
            "." if density is None else "; shades: the model's density, the mean of p(x|z) over the prior."
        )
        draws = vae.sample(len(points), evaluation.seed)
        pictures.append(("Samples and density", text, plots.over_data(points, draws, density)))
    else:
        pictures.append(("Samples", "E[x|z] for z drawn from the prior.", plots.samples(drawn, shape, title=None)))
    pictures.append(
        (
            "Reconstructions",
            "Test examples, and E[x|z] at the mean of their q(z|x).",
            plots.reconstructions(shown[:_PAIRS], vae.decode(mu[:_PAIRS]), shape, title=None),
        )
    )
    pictures.append(("KL per latent dimension", "", plots.kl_per_dimension(result.kl, result.active, title=None)))
    settings = evaluation.settings
    return Report(
        title=f"{folder.name}: a {vae.arch.sizes} VAE",
        lead=(
            f"{evaluation.data.name}; {describe_values(examples.values, evaluation.data.span, settings)}",
            f"{vae.arch.activation}, {vae.arch.likelihood}, {vae.parameters.dtype}; {steps} steps; "
            f"vae-np {__version__}",
        ),
        figures_title=evaluating.table_title(evaluation, shortened),
        figures=evaluating.table_rows(evaluation, result),
        notes=estimation.doubts(result.estimate, evaluation.estimation),
        pictures=pictures,
        settings=settings.to_mapping(),
        explorer=_explorer(evaluation, dataset, mu, shown, result.kl),
    )


def _as_shown(examples: Examples, count: int) -> Array:
    """The first examples as the model sees them, on the data's own scale."""
    x, _ = examples.batch(slice(0, min(count, len(examples))))
    return examples.values.from_model(np.asarray(x, dtype=np.float64))


def _explorer(evaluation: Evaluation, dataset: data.Dataset, mu: Array, shown: Array, kl: Array) -> Explorer:
    vae = evaluation.vae
    features = vae.arch.features
    # Affine where the data were standardised, and else the identity.
    offset = vae.values.from_model(np.zeros(features))
    labels = dataset.test_labels
    return Explorer(
        arch=vae.arch,
        parameters=vae.parameters,
        offset=offset,
        scale=vae.values.from_model(np.ones(features)) - offset,
        image_shape=dataset.image_shape,
        examples=shown[:_EXAMPLES],
        mu=mu[:_EXAMPLES],
        kl=kl[: vae.arch.latent],
        places=mu if vae.arch.latent == 2 else mu[:0],
        labels=None if labels is None else np.asarray(labels)[: len(mu)],
        points=points_of(dataset),
    )
