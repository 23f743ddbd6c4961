"""`vae-np eval`: what a run is worth on the test set, or on data that its own model simulates."""

from __future__ import annotations

import io
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from vae_np import checkpoint, data, distributed, runs, storage
from vae_np._types import Array
from vae_np.architecture import Architecture
from vae_np.choices import BINARIZATIONS, BackendChoice
from vae_np.cli import estimation, machine, ranks
from vae_np.cli.describe import TERM_NAMES, describe_values, tell_of_compilation, term_figures, train_figures
from vae_np.cli.estimation import Estimation, Evaluation, EvaluationData
from vae_np.cli.interrupts import INTERRUPTED
from vae_np.cli.options import JsonFile, Quiet, Run, RunBackend, RunSeed, Threads, setting, whole, words
from vae_np.cli.output import Output, check_target, with_error, writing
from vae_np.config import Config
from vae_np.data import KINDS
from vae_np.elbo import Terms
from vae_np.errors import CheckpointError, DataError, InputError
from vae_np.evaluation import held_out
from vae_np.evaluation.held_out import Examples, Surgery, mean_and_stderr
from vae_np.evaluation.importance import Estimate
from vae_np.pictures import plots
from vae_np.vae import VAE

_CELLS_PER_LINE = 6
_SIMULATED = 100


def command(
    run: Run = None,
    estimator: Annotated[
        str | None,
        typer.Option(
            "--estimator",
            metavar="NAME",
            help="How log p(x) is estimated: is, importance sampling from q(z|x); ais, annealed importance sampling; "
            "bdmc, the same from both sides, on data that the model simulates. [default: is]",
            autocompletion=words(*held_out.ESTIMATORS),
        ),
    ] = None,
    samples: Annotated[
        str | None,
        typer.Option(
            "--samples", "--chains", metavar="N", help="Importance samples, or chains, per example. [100, or 16]"
        ),
    ] = None,
    temperatures: Annotated[
        str | None, typer.Option("--temperatures", metavar="N", help="Steps from prior to posterior. [default: 1000]")
    ] = None,
    leapfrog: Annotated[
        str | None, typer.Option("--leapfrog", metavar="N", help="Leapfrog steps per temperature. [default: 5]")
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(
            "--images", "--limit", metavar="N", help="Only the first N test examples; how many bdmc simulates. [100]"
        ),
    ] = None,
    z_samples: Annotated[
        str | None, typer.Option("--z-samples", metavar="N", help="Noise draws per image for the ELBO.")
    ] = None,
    data_file: Annotated[
        str | None,
        typer.Option("--data", metavar="DATA", help="Other data than the run's own: a built-in name or a file."),
    ] = None,
    values: Annotated[
        str | None,
        typer.Option(
            "--values",
            metavar="KIND",
            help="What the numbers in --data are, where they differ from the run's: binary, byte or unit.",
            autocompletion=words(*KINDS),
        ),
    ] = None,
    scale: Annotated[
        str | None, typer.Option("--scale", metavar="X", help="The number in --data that is white.")
    ] = None,
    binarize: Annotated[
        str | None,
        typer.Option(
            "--binarize",
            metavar="MODE",
            help="As in train; by default the run's own.",
            autocompletion=words(*BINARIZATIONS),
        ),
    ] = None,
    backend: RunBackend = None,
    threads: Threads = None,
    seed: RunSeed = None,
    per_example: Annotated[
        str | None, typer.Option("--per-example", metavar="FILE", help="Write each example's values to this .npz file.")
    ] = None,
    no_plots: Annotated[bool, typer.Option("--no-plots", help="Draw no picture.")] = False,
    quiet: Quiet = False,
    json_file: JsonFile = None,
) -> int:
    """Evaluate a run on the test set: ELBO, reconstruction, KL, log p(x), KL per latent dimension, active units.

    Interrupted, it keeps what is done, and the same command goes on.
    """
    output = Output(json_file, quiet=quiet)
    if per_example is not None:
        _check_npz(per_example)
    evaluation = resolve(
        run,
        estimator=estimator,
        samples=whole("samples", samples, None, bits=24),
        temperatures=whole("temperatures", temperatures, None, bits=24),
        leapfrog=whole("leapfrog", leapfrog, None),
        images=whole("images", images, None),
        z_samples=whole("z_samples", z_samples, None, bits=24),
        data_file=data_file,
        named=_named(setting("values", values), setting("scale", scale), data_file),
        binarize=setting("binarize", binarize),
        backend=setting("backend", backend),
        threads=ranks.check_threads(whole("threads", threads, None)),
        seed=setting("seed", seed),
    )
    evaluation.vae.backend.join(ranks.communicator())
    distributed.check_agreement(ranks.communicator(), estimation.facts(evaluation))
    trained = trained_for(evaluation.folder)
    shortened = shortened_to(evaluation.vae.config, trained["steps"])
    introduce(output, evaluation, shortened, data_file)
    result = compute(output, evaluation)
    if not ranks.leave():
        return 0
    content = {**_as_json(evaluation, result), "train": trained, "shortened": shortened}
    try:
        if not no_plots:
            plots.save(plots.kl_per_dimension(result.kl, result.active), evaluation.folder / "kl.png")
        if per_example is not None:
            _write_npz(per_example, evaluation.data.examples, result.arrays())
    finally:
        output.result("eval", content, lambda: _tell(output, evaluation, result, shortened))
    if per_example is not None:
        output.say(f"wrote    {per_example}")
    return 0


def resolve(
    run: str | None,
    *,
    estimator: str | None = None,
    samples: int | None,
    temperatures: int | None = None,
    leapfrog: int | None = None,
    images: int | None,
    z_samples: int | None = None,
    data_file: str | None,
    named: data.Values | None = None,
    binarize: str | None = None,
    backend: BackendChoice | None,
    threads: int | None,
    seed: int | None,
) -> Evaluation:
    """What the options ask for: the run, its model, the data and the estimator; raises InputError where they clash."""
    folder = runs.find(run)
    # A checkpoint alone names no data; where they are given or simulated, it is enough.
    alone = (data_file is not None or estimator == "bdmc") and not (folder / runs.CONFIG).exists()
    of_run = Config() if alone else runs.load_config(folder)
    vae, settings = _open(folder, of_run, backend, threads, seed, data_file, binarize)
    how = Estimation.of(estimator, samples, vae.arch.likelihood, temperatures=temperatures, leapfrog=leapfrog)
    if how.estimator is not None:
        held_out.check_estimator(vae.arch)
    if how.estimator == "bdmc":
        if data_file is not None:
            raise InputError("data: cannot be given together with --estimator bdmc, which simulates its own")
        evaluated = _simulated(vae, images or _SIMULATED, settings)
    else:
        evaluated = _test_examples(folder, vae, settings, data_file, images, named)
    return Evaluation(folder, vae, settings, settings.z_samples if z_samples is None else z_samples, how, evaluated)


def _named(kind: str | None, scale: float | None, data_file: str | None) -> data.Values | None:
    """What the numbers in `--data` are, by the options; None where these do not say it."""
    if kind is None and scale is None:
        return None
    if data_file is None:
        raise InputError("values, scale: they say what is in --data; the run knows what its own data are")
    return data.Values.named(kind or ("byte" if scale == 255 else "unit"), scale)


def _open(
    folder: Path,
    settings: Config,
    backend: BackendChoice | None,
    threads: int | None,
    seed: int | None,
    data_file: str | None,
    binarize: str | None,
) -> tuple[VAE, Config]:
    """A run's model, and its settings, in which given options replace the run's own."""
    vae = VAE.load(
        folder,
        backend=settings.backend if backend is None else backend,
        threads=threads,
        seed=settings.seed if seed is None else seed,
        moments=False,
    )
    given: dict[str, Any] = {"binarize": binarize} if binarize is not None else {}
    if data_file is not None:
        given |= {"data": data_file, "test_data": None, "labels": None, "image_shape": None}
    return vae, replace(vae.config, **given)


def _simulated(vae: VAE, count: int, settings: Config) -> EvaluationData:
    given = None
    if vae.arch.conditions:
        dataset = runs.load_data(settings, None if vae.config.values is None else vae.values, vae.arch.features)
        conditions = runs.conditions_of(vae, settings, dataset)
        given = None if conditions is None else conditions.of_draws(count)
    examples, latents = vae.simulated(count, settings.seed, given=given)
    return EvaluationData(examples, count, f"simulated: {count} draws from the model itself", latents)


def _test_examples(
    folder: Path, vae: VAE, settings: Config, data_file: str | None, images: int | None, named: data.Values | None
) -> EvaluationData:
    known = None if vae.config.values is None and named is None else vae.values_as(named)
    try:
        dataset = runs.load_data(settings, known, vae.arch.features)
    except DataError as error:
        if data_file is not None or not _saved_from_python(folder):
            raise
        raise CheckpointError(
            f"{error}; the run was saved from Python, so its data are not known: name them with --data FILE"
        ) from None
    if data_file is None and settings.data not in data.BUILT_IN:
        again = "to evaluate on what is there now, name it: --data FILE"
        runs.check_unchanged(folder, dataset, ("test",), again)
    conditions = runs.conditions_of(vae, settings, dataset)
    encoded = None if conditions is None else conditions.encoded_test[:images]
    examples = Examples(dataset.test[:images], dataset.values, settings.binarization, settings.seed, given=encoded)
    first = len(dataset.train)
    place = f" (rows {first}-{first + len(examples) - 1}, from the last tenth)" if dataset.was_split else ""
    name = f"{dataset.name}: {len(examples)} test rows{place}"
    return EvaluationData(examples, len(dataset.test), name, span=dataset.test_span)


def _saved_from_python(folder: Path) -> bool:
    return (folder / checkpoint.STATE_FILE).exists() and checkpoint.load_state(folder).from_python


def trained_for(folder: Path) -> dict[str, Any]:
    """How many steps a run has been trained for, and how long, as in the JSON."""
    if not (folder / checkpoint.STATE_FILE).exists():
        return train_figures(checkpoint.load_weights(folder).step, None)
    state = checkpoint.load_state(folder)
    return train_figures(state.step, state.seconds)


def shortened_to(settings: Config, steps: int) -> str | None:
    """Which part of its schedule a run has done after `steps` steps; None for all of it."""
    if settings.schedule == "constant":
        return None
    return runs.shortened(settings, len(runs.load_data(settings).train), steps)


def introduce(output: Output, evaluation: Evaluation, shortened: str | None, data_file: str | None) -> None:
    """Say what is evaluated, and on what."""
    vae, settings = evaluation.vae, evaluation.settings
    output.say(f"run      {evaluation.folder}")
    output.say(f"data     {evaluation.data.name}")
    values, span = evaluation.data.examples.values, evaluation.data.span
    output.say(f"values   {describe_values(values, span, settings)}")
    if span is not None and values.is_grey and values.scale > 1 and data.BINARY.fits(span):
        output.say("note     only 0 and 1, on that scale nearly black; if they are pixels, name them: --values binary")
    if data_file is None and evaluation.data.latents is None and _saved_from_python(evaluation.folder):
        output.say(f"note     the run was saved from Python, so its data are not known: taken to be {settings.data}")
    if shortened is not None:
        output.say(f"note     shortened: {shortened}")
    is_annealed = evaluation.estimation.annealing is not None
    how = "composed chains" if is_annealed else vae.backend.describe("evaluation", vae.arch)
    output.say(f"backend  {vae.backend.name} ({vae.backend.reason}), {vae.parameters.dtype}, {how}")
    tell_of_compilation(output, vae.backend)


@dataclass(frozen=True)
class Result:
    """What was computed: per example the ELBO's terms, its surgery and log p(x); per latent the KL and its activity.

    The surgery takes a mixture of diagonal normals and the prior N(0, I): there is none of another family or prior, nor
    of two stochastic layers. The latents of two layers are those of the lower one, then those of the upper one.
    """

    terms: Terms
    surgery: Surgery | None
    kl: Array
    active: Array
    estimate: Estimate | None
    seconds: float | None

    def arrays(self) -> dict[str, Array]:
        """The values of each example, by their names."""
        return {"elbo": self.terms.elbo, **_arrays(self.terms), **_arrays(self.surgery), **_arrays(self.estimate)}

    def figures(self, samples: int | None) -> dict[str, Any]:
        """Means over the examples, with their standard errors, as in the JSON; log p(x) from so many draws each."""
        return {
            **term_figures(self.terms),
            "kl_sampling_stderr": self.terms.kl_sampling_stderr,
            **self._surgery_figures(),
            **estimation.figures(self.estimate, samples),
        }

    def _surgery_figures(self) -> dict[str, Any]:
        if self.surgery is None:
            return {"mutual_information": None, "marginal_kl": None}
        return {
            "mutual_information": mean_and_stderr(self.surgery.mutual_information, "mutual information"),
            "marginal_kl": mean_and_stderr(self.surgery.marginal_kl, "marginal KL"),
        }


def compute(output: Output, evaluation: Evaluation) -> Result:
    """Every figure of the evaluation; where the estimate of log p(x) is interrupted, say so and exit."""
    vae, examples, seed = evaluation.vae, evaluation.data.examples, evaluation.seed
    # Overflow is reported by name, so NumPy's own warning is not needed.
    with np.errstate(over="ignore", invalid="ignore"):
        terms = held_out.elbo_terms(
            vae.model, examples, seed=seed, z_samples=evaluation.z_samples, communicator=ranks.communicator()
        )
    # Said at once, and not after an hour of sampling.
    term_figures(terms)
    surgery = None
    if vae.arch.top_latent is None:
        mu, logvar = held_out.posterior_moments(vae.model, examples, communicator=ranks.communicator())
        kl = held_out.kl_per_dimension(mu, logvar)
        if vae.arch.posterior == "diagonal" and vae.arch.prior == "standard":
            surgery = held_out.elbo_surgery(vae.backend.ops, mu, logvar, seed=seed)
    else:
        shares, mu = held_out.layers_kl_and_means(
            vae.model, examples, seed=seed, communicator=ranks.communicator()
        )
        kl = shares.mean(axis=0, dtype=np.float64)
    estimate, seconds = None, None
    if evaluation.estimation.estimator is not None:
        partial = estimation.kept(evaluation)
        try:
            estimate = estimation.estimate(output, partial, evaluation)
        except KeyboardInterrupt:
            output.warn(estimation.interruption(partial, evaluation))
            raise typer.Exit(INTERRUPTED) from None
        seconds = partial.seconds
    return Result(terms, surgery, kl, held_out.active_units(mu), estimate, seconds)


def table_title(evaluation: Evaluation, shortened: str | None) -> str:
    """What stands above the table."""
    cut = "" if shortened is None else f"; shortened: {shortened}"
    return f"{evaluation.data.title}, nats ± standard error over examples{cut}"


def table_rows(evaluation: Evaluation, result: Result) -> list[tuple[str, str]]:
    """The table: what each figure is called, and the figure."""
    figures = result.figures(evaluation.estimation.samples)
    layers = np.split(result.active, [evaluation.vae.arch.latent])
    sampling = result.terms.kl_sampling_stderr
    parts = [] if sampling is None else [("  error of sampling alone", f"± {sampling:.4f}")]
    if result.surgery is not None:
        ceiling = f"{with_error(figures['mutual_information'])} of at most {result.surgery.ceiling:.2f}"
        parts += [("  mutual information", ceiling), ("  marginal KL", with_error(figures["marginal_kl"]))]
    return [
        *((name, with_error(figures[key])) for name, key in TERM_NAMES),
        *parts,
        *estimation.rows(evaluation.estimation, figures),
        ("active units", " and ".join(f"{int(layer.sum())} of {len(layer)}" for layer in layers if len(layer))),
    ]


def _tell(output: Output, evaluation: Evaluation, result: Result, shortened: str | None) -> None:
    """Print the table, the remarks on it, and the KL of each latent dimension."""
    kl = result.kl
    output.table(table_title(evaluation, shortened), ("", "mean"), table_rows(evaluation, result))
    for note in estimation.doubts(result.estimate, evaluation.estimation):
        output.say(note)
    for note in _of_latents(evaluation.vae.arch, evaluation.z_samples):
        output.say(note)
    output.say("KL per latent dimension, largest first (* active):")
    cells = [f"{j:>5}: {kl[j]:.2f}{'*' if result.active[j] else ' '}" for j in kl.argsort()[::-1]]
    for start in range(0, len(cells), _CELLS_PER_LINE):
        output.say("".join(cells[start : start + _CELLS_PER_LINE]).rstrip())


def _of_latents(arch: Architecture, z_samples: int) -> list[str]:
    """What figures mean where a model has conditions, the prior is learned, or q is no product over latents."""
    said = []
    if arch.conditions:
        said.append("note     a conditional model: the ELBO and log p(x) are those of x given its condition")
    if arch.top_latent is not None:
        last = arch.latent + arch.top_latent - 1
        said.append(
            f"note     latents 0-{arch.latent - 1} are z₁, whose KL is to p(z₁|z₂), and {arch.latent}-{last} are z₂: "
            "they add up to the KL, but for the noise of one draw"
        )
    if arch.prior != "standard":
        draws = "one draw" if z_samples == 1 else f"{z_samples} draws"
        said.append(
            f"note     prior {arch.prior}: the KL is sampled, log q − log p at {draws} of z per example; its ± over "
            "examples has the error of sampling in it"
        )
        said.append("note     the KL of a latent is that to N(0, 1), and they do not add up to the KL")
    if arch.posterior != "diagonal":
        what = "its own marginal"
        what = what if arch.family.analytic else f"a normal with the moments of {held_out.MOMENT_DRAWS} draws"
        said.append(
            f"note     q is {arch.posterior}: the KL of a latent is that of {what}, and they do not add up to the KL"
        )
    return said


def _as_json(evaluation: Evaluation, result: Result) -> dict[str, Any]:
    how, evaluated, vae = evaluation.estimation, evaluation.data, evaluation.vae
    return {
        "test": {
            "log_likelihood": None,
            "ess": None,
            **result.figures(how.samples),
            "samples": how.samples,
            "estimator": how.estimator,
            "temperatures": None if how.annealing is None else how.annealing.temperatures,
            "leapfrog": None if how.annealing is None else how.annealing.leapfrog,
            "data": "test" if evaluated.latents is None else "simulated",
            "examples": len(evaluated.examples),
            "available": evaluated.available,
            "mutual_information_ceiling": None if result.surgery is None else result.surgery.ceiling,
            "kl_per_dimension": result.kl.tolist(),
            "active_units": int(result.active.sum()),
            "seconds": result.seconds,
        },
        "backend": vae.backend.name,
        "dtype": str(vae.parameters.dtype),
        "seed": evaluation.seed,
        "run": str(evaluation.folder),
        "environment": _environment(),
    }


def _arrays(values: Any) -> dict[str, Array]:
    """The per-example arrays of a result by their names, those that it has; none for None."""
    held = {} if values is None else {field.name: getattr(values, field.name) for field in fields(values)}
    return {name: value for name, value in held.items() if value is not None}


def _check_npz(name: str) -> None:
    expected = "a file's name that ends in .npz"
    check_target("per_example", name, expected)
    if Path(name).suffix != ".npz":
        raise InputError(f"per_example: got {name!r}, expected {expected}")


def _write_npz(name: str, examples: Examples, arrays: dict[str, Array]) -> None:
    """One entry per example and array, and `row`, the examples' places in the data; NaN where one was not computed."""
    count = len(examples)
    whole: dict[str, Any] = {
        key: np.concatenate([value, np.full(count - len(value), np.nan)]) for key, value in arrays.items()
    }
    path = Path(name)
    content = io.BytesIO()
    np.savez(content, row=examples.first + np.arange(count), **whole)
    with writing("per_example", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        storage.write_atomic(path, content.getvalue())


def _environment() -> dict[str, Any]:
    """What one must know to judge the time that an evaluation took."""
    return {
        "system": machine.system(),
        "cores": machine.cores(),
        "libraries": {name: machine.version(name) for name in ("numpy", "numba")},
    }
