"""`vae-np train`: train, and leave a run's folder behind."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from vae_np import backends, checkpoint, config, data, display, distributed, memory, runs
from vae_np.cli import ranks
from vae_np.cli.describe import (
    TERM_NAMES,
    describe_kinds,
    describe_values,
    tell_of_compilation,
    term_figures,
    train_figures,
)
from vae_np.cli.interrupts import INTERRUPTED, asking_to_stop
from vae_np.cli.options import JsonFile, Quiet, Threads, runs_here, whole, with_config_options, words
from vae_np.cli.output import Output, with_error
from vae_np.cli.pictured import prior_text, reconstruction_picture, sample_picture
from vae_np.config import Config
from vae_np.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    DeviceError,
    LostRankError,
    MissingFileError,
    NonFiniteError,
    WriteError,
)
from vae_np.evaluation import held_out
from vae_np.evaluation.held_out import Examples
from vae_np.likelihoods import measured_columns
from vae_np.optim import staged_epochs
from vae_np.pictures import plots
from vae_np.training import loop
from vae_np.training.trainer import Metrics, Trainer, validation_rows
from vae_np.vae import VAE

# One checkpoint is written per epoch; in long runs, from this epoch on, at most one in so many seconds.
_LONG, _CHECKPOINT_SECONDS = 100, 30.0
_DRAW_SECONDS = 0.1
# How long `--dry-run` trains to know how fast it is.
_TRIAL_SECONDS = 1.0
_PICTURE_EXAMPLES = 32
# What may differ when a run is resumed; the data have to hold the same rows.
_RESUMED = ("epochs", "data", "test_data", "labels")
_PICTURE_SAMPLES = 64
# As many rows of a table as its pictures need for a histogram.
_TABLE_SAMPLES = 2000
# Names of a table's columns that the first lines show, at most.
_COLUMNS = 6


@with_config_options
def command(
    overrides: Mapping[str, Any],
    config_file: Annotated[
        str | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="Settings from a TOML file, or a shipped one by name.",
            autocompletion=words(*config.shipped()),
        ),
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", metavar="FOLDER", help="The run's folder; by default runs/<date-time>.")
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            "--resume", metavar="RUN", help="Go on with a run from its last checkpoint.", autocompletion=runs_here
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.")] = False,
    stages: Annotated[
        str | None,
        typer.Option("--stages", metavar="1-N", help="Only the first N stages of the schedule; --resume can add more."),
    ] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the settings as a TOML file, and do nothing.")
    ] = False,
    propose_columns: Annotated[
        bool,
        typer.Option(
            "--propose-columns",
            help="Print a guess of each column's family in the table --data, to edit for --columns, and do nothing.",
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Say what was understood, and what memory and time it would take; write nothing."
        ),
    ] = False,
    no_plots: Annotated[bool, typer.Option("--no-plots", help="Draw no pictures at the end.")] = False,
    threads: Threads = None,
    quiet: Quiet = False,
    json_file: JsonFile = None,
) -> int:
    """Train a VAE; with no options on the built-in MNIST, leaving pictures and a checkpoint in runs/."""
    communicator = ranks.communicator()
    output = Output(json_file, quiet=quiet)
    with ExitStack() as held:
        if resume is None:
            base = config.load(config_file) if config_file is not None else Config()
            settings = config.merge(base, _with_stages(overrides, stages, base))
        else:
            _refuse_with_resume(config=config_file, out=out, overwrite=overwrite or None)
            with communicator.first_before_others():
                folder = runs.find(resume)
                if communicator.is_first:
                    held.enter_context(runs.hold(folder))
            settings = _resumed_settings(overrides, stages, folder)
        if propose_columns:
            output.say(data.propose_columns(settings.data).rstrip())
            return 0
        if print_config:
            output.say(settings.to_toml().rstrip())
            return 0
        # Messages name the data as they were given; a run keeps the full path, so that it can be used from any folder.
        dataset = runs.load_data(settings) if resume is None else _resumed_data(folder, settings, overrides)
        settings = runs.with_absolute_paths(settings).with_values(dataset.values)
        backend = backends.choose(settings.backend, ranks.check_threads(whole("threads", threads, None)))
        backend.check_precision(settings.precision)
        backend.join(communicator)
        distributed.check_blocks(settings.gradient_blocks, communicator.size)
        # What has to be compiled is compiled by one rank of a machine, and loaded by the others.
        with communicator.node.first_before_others():
            dataset, trainer = _trainer(settings, backend, dataset)
        if resume is not None:
            runs.resume(folder, trainer)
        distributed.check_agreement(communicator, {"out": str(out), **trainer.facts()})
        if dry_run:
            _introduce(output, trainer, dataset)
            _tell_what_it_takes(output, trainer)
            return 0
        if communicator.is_first and resume is None:
            folder = held.enter_context(runs.claim(out, overwrite=overwrite))
        # Before anything is written into it.
        folder = runs.shared(communicator, folder if communicator.is_first else None)
        if communicator.is_first:
            if resume is None:
                runs.start(folder, settings)
            else:
                runs.drop_metrics_after(folder, trainer.state.step)
                runs.start_again(folder, trainer)
        _introduce(output, trainer, dataset)
        output.say(f"run      {folder}" + (f", resumed at step {trainer.state.step}" if resume is not None else ""))
        if communicator.size > 1:
            # A launcher that ends all ranks when it has lost one leaves nobody to say so then.
            output.say(f"ranks    {communicator.size}; should one be lost, {_how_to_go_on(folder)}")
        return _train_and_tell(output, trainer, dataset, folder, draw=not no_plots)


def _train_and_tell(output: Output, trainer: Trainer, dataset: data.Dataset, folder: Path, *, draw: bool) -> int:
    try:
        if _run(trainer, folder, output):
            _close(output, trainer, dataset, folder, draw=draw)
            return 0
        if trainer.communicator.is_first:
            runs.save(folder, trainer)
    except (NonFiniteError, DeviceError, LostRankError) as error:
        output.warn(f"{error}; {_what_is_kept(folder)}")
        return 1
    except (WriteError, DataError) as error:
        output.warn(f"{error}; {_what_is_kept(folder)}")
        return 2
    except KeyboardInterrupt:
        output.warn(f"stopped at once; {_what_is_kept(folder)}")
        return INTERRUPTED
    output.warn(f"interrupted at step {trainer.state.step} of {trainer.total_steps}; {_what_is_kept(folder)}")
    return INTERRUPTED


def _what_is_kept(folder: Path) -> str:
    if runs.bring_back(folder):
        return f"there is no checkpoint yet, and the run that {folder} had before is kept"
    try:
        step = checkpoint.load_state(folder).step
    except MissingFileError:
        return "there is no checkpoint yet" if folder.exists() else "the run's folder is gone"
    except CheckpointError as error:
        return f"{error}"
    return f"the checkpoint of step {step} is kept; {_how_to_go_on(folder)}"


def _how_to_go_on(folder: Path) -> str:
    return f"go on with: vae-np train --resume {shlex.quote(str(folder))}"


def _with_stages(overrides: Mapping[str, Any], stages: str | None, base: Config) -> Mapping[str, Any]:
    """The overrides, with the epochs that `--stages` stands for."""
    if stages is None:
        return overrides
    if "epochs" in overrides:
        raise ConfigError("stages: cannot be given together with epochs, which it stands for")
    if overrides.get("schedule", base.schedule) == "constant":
        raise ConfigError(f"stages: got {stages!r}, but the learning rate is constant; --schedule burda2015 has stages")
    return {**overrides, "epochs": staged_epochs(config.parse_stages(stages))}


def _resumed_settings(overrides: Mapping[str, Any], stages: str | None, folder: Path) -> Config:
    base = runs.load_config(folder)
    overrides = _with_stages(overrides, stages, base)
    settings = runs.with_absolute_paths(config.merge(base, overrides))
    for name in overrides:
        given, trained = getattr(settings, name), getattr(base, name)
        if name not in _RESUMED and given != trained:
            raise ConfigError(
                f"{name}: got {given!r}, but {folder} was trained with {trained!r}; "
                "a resumed run can only change epochs, and where its data lie"
            )
    return settings


def _resumed_data(folder: Path, settings: Config, overrides: Mapping[str, Any]) -> data.Dataset:
    """A run's data, where they lie now; raises DataError, or MissingFileError, unless they are the same rows."""
    moved = [name for name in ("data", "test_data") if name in overrides]
    if moved and not checkpoint.load_state(folder).fingerprint:
        raise DataError(
            f"{moved[0]}: got {overrides[moved[0]]!r}, but {folder} was trained by an earlier version, which kept no "
            "digest of its data, so that nothing tells whether these are the same rows"
        )
    try:
        dataset = runs.load_data(settings, runs.load_values(folder, settings))
    except MissingFileError as error:
        again = shlex.quote(str(folder))
        raise MissingFileError(f"{error}; if it was moved, name where it is: --resume {again} --data FILE") from None
    runs.check_unchanged(folder, dataset, ("train", "test"), "a resumed run goes on with the rows that it had")
    return dataset


def _refuse_with_resume(**options: Any) -> None:
    for name, given in options.items():
        if given is not None:
            raise ConfigError(f"{name}: cannot be given together with --resume, which goes on in the run's own folder")


def _trainer(settings: Config, backend: backends.Backend, dataset: data.Dataset) -> tuple[data.Dataset, Trainer]:
    """A fresh trainer, and the data as it reads them: standardised, if they are to be, by the rows it trains on."""
    rows, kept_back = data.split_validation(len(dataset.train), validation_rows(settings, len(dataset.train)))
    if settings.standardize and dataset.values.standardisation is None:
        values = dataset.values.standardised(
            dataset.train[:rows], f"data {dataset.name!r}", measured_columns(settings.columns)
        )
        dataset = replace(dataset, values=values)
    validation, conditions = None, runs.load_given(settings, dataset)
    encoded = None if conditions is None else conditions.encoded_train
    if kept_back:
        examples = Examples(
            dataset.train[rows:], dataset.values, settings.binarization, settings.seed, first=rows,
            given=None if encoded is None else encoded[rows:],
        )  # fmt: skip
        validation = held_out.validation(
            examples, seed=settings.seed, z_samples=settings.z_samples, communicator=ranks.communicator()
        )
    trainer = Trainer(
        settings, backend, dataset.train[:rows], dataset.values, validation,
        runs.fingerprint(dataset) | ({} if conditions is None else conditions.fingerprint()),
        communicator=ranks.communicator(),
        given=None if encoded is None else encoded[:rows],
        given_as=None if conditions is None else conditions.given,
    )  # fmt: skip
    return dataset, trainer


def _introduce(output: Output, trainer: Trainer, dataset: data.Dataset) -> None:
    arch, settings = trainer.arch, trainer.config
    kept_back = len(dataset.train) - len(trainer.rows)
    output.say(
        f"data     {dataset.name}: {len(trainer.rows)} training, {kept_back} validation and {len(dataset.test)} "
        f"test rows of {arch.features}"
    )
    output.say(f"values   {describe_values(dataset.values, dataset.values.span, settings)}")
    _tell_which_rows(output, dataset, len(trainer.rows))
    count = trainer.state.parameters.count
    if trainer.given_as is not None:
        output.say(f"given    {trainer.given_as}; p(z) does not depend on it, as a prior p(z|c) with a network would")
    output.say(f"model    {arch.sizes} {arch.activation}, {describe_kinds(arch)}: {count} parameters")
    products = trainer.backend.describe_precision(settings.precision)
    output.say(
        f"backend  {trainer.backend.name} ({trainer.backend.reason}), {settings.dtype}, "
        + ("" if products is None else f"{products}, ")
        + f"{trainer.backend.describe('steps', arch, settings.objective, settings.samples)}, seed {settings.seed}"
    )
    if settings.gradient_blocks > 1:
        shared = f", shared by {trainer.communicator.size} ranks" if trainer.communicator.size > 1 else ""
        rows = settings.batch_size // settings.gradient_blocks
        output.say(f"blocks   {settings.gradient_blocks} of {rows} rows{shared}")
    if (settings.objective, settings.samples) != ("elbo", 1):
        output.say(f"climbs   {settings.objective}, {settings.samples} samples of z per image")
    if arch.likelihood == "bernoulli-grey":
        output.say("note     bernoulli-grey is a cross-entropy on grey values: its ELBO bounds no likelihood")
    if settings.shortened() is not None:
        output.say(f"note     shortened: {settings.shortened()}")
    note_no_image(output, dataset, is_table=arch.columns is not None)
    tell_of_compilation(output, trainer.backend)
    # Compiled now, so that it counts as no step's time.
    with trainer.communicator.node.first_before_others():
        trainer.backend.warmup(arch, settings.dtype, settings.precision, evaluation=False)


def _tell_what_it_takes(output: Output, trainer: Trainer) -> None:
    """Make some steps, of which nothing is kept, and say what memory and time the whole training would take."""
    begun, started = trainer.state.step, time.monotonic()
    left = trainer.total_steps - begun
    loop.run(trainer, should_stop=lambda: time.monotonic() - started > _TRIAL_SECONDS)
    made, seconds = trainer.state.step - begun, time.monotonic() - started
    if made == 0:
        output.say("time     nothing is left to train")
        return
    output.say(f"memory   {memory.size(memory.used())} in this process")
    rate = f"{made / seconds:.0f} per second in a trial of {made}"
    output.say(f"time     about {left * seconds / made:.1f} s for {left} steps, at {rate}; evaluation comes on top")
    output.say("nothing was written")


def _tell_which_rows(output: Output, dataset: data.Dataset, trained: int) -> None:
    """Say which rows are held out, and warn where their order makes them differ in kind from the training rows."""
    rows, test = len(dataset.train), len(dataset.test)
    parts = [f"0-{trained - 1} train", *([f"{trained}-{rows - 1} validation"] if trained < rows else [])]
    if dataset.was_split:
        parts.append(f"{rows}-{rows + test - 1} test, the last tenth")
    else:
        parts.append("test rows of their own")
    output.say(f"rows     {', '.join(parts)}")
    missing = float(np.isnan(dataset.train).mean()) if dataset.train.dtype.kind == "f" else 0.0
    if missing:
        empty = int(np.isnan(dataset.train).all(axis=1).sum())
        nothing = f"; in {display.counted_text(empty, 'row')} nothing was observed" if empty else ""
        output.say(f"missing  {missing:.1%} of the training rows' cells have no value{nothing}")
    if dataset.columns is not None:
        labels = "" if dataset.label_column is None else f"; labels from {dataset.label_column!r}"
        shown = ", ".join(dataset.columns[:_COLUMNS]) + (", ..." if len(dataset.columns) > _COLUMNS else "")
        output.say(f"columns  {len(dataset.columns)}: {shown}{labels}")
    if dataset.is_sorted_by_label and (dataset.was_split or trained < rows):
        output.warn(
            f"data {dataset.name!r}: its labels show that the rows are sorted, so the last ones, which are held out, "
            "are of other classes than those that are trained on; shuffle them, or name test rows with --test-data"
        )
    span = dataset.values.span
    if span is not None and dataset.values.is_far_from_standard(span):
        output.say("note     a model starts from numbers near 0 and 1: --standardize brings these columns there")


def note_no_image(output: Output, dataset: data.Dataset, *, is_table: bool = False) -> None:
    """Say that rows which form no image are not drawn as images."""
    columns = dataset.train.shape[1]
    if dataset.image_shape is None and columns != 2 and not is_table:
        output.say(f"note     {columns} columns form no square: pictures are heat maps unless --image-shape is given")


def _run(trainer: Trainer, folder: Path, output: Output) -> bool:
    metrics = runs.MetricsFile(folder) if trainer.communicator.is_first else None
    first_step, first_seconds = trainer.state.step, trainer.seconds
    bar = output.bar("epoch {task.fields[epoch]}", "{task.fields[numbers]}")
    long_name = "reconstruction" if output.progress.width > 100 else "rec."
    with bar as progress, asking_to_stop() as asked_to_stop:
        task = progress.add_task("", total=trainer.total_steps, completed=first_step, epoch="", numbers="")

        drawn = 0.0
        has_bound = trainer.config.objective in ("iwae", "stl", "dreg")

        def on_step(current: Trainer) -> None:
            nonlocal drawn
            is_last = current.state.step == current.total_steps
            if time.monotonic() - drawn < _DRAW_SECONDS and not is_last:
                return
            drawn = time.monotonic()
            epoch = (current.state.step - 1) // current.steps_per_epoch + 1
            numbers = ""
            if current.running.steps:
                reconstruction, kl, _ = current.running.means()
                rate = (current.state.step - first_step) / max(current.seconds - first_seconds, 1e-9)
                numbers = (
                    f"ELBO {reconstruction - kl:.2f}  {long_name} {reconstruction:.2f}  KL {kl:.2f}  {rate:.0f} steps/s"
                )
            progress.update(
                task, completed=current.state.step, epoch=f"{epoch}/{current.config.epochs}", numbers=numbers
            )

        def on_metrics(line: Metrics) -> None:
            if metrics is None:
                return
            metrics.write(line)
            ends_epoch = line["step"] % trainer.steps_per_epoch == 0
            if ends_epoch and line["split"] == ("train" if trainer.validation is None else "validation"):
                own = "" if line["objective"] is None or not has_bound else f"bound {line['objective']:.2f}  "
                output.say(
                    f"epoch {line['epoch']:>3}  {line['split']} {own}ELBO {line['elbo']:.2f}  "
                    f"reconstruction {line['reconstruction']:.2f}  KL {line['kl']:.2f}  {line['seconds']:.1f} s"
                )

        saved = time.monotonic()

        def on_epoch(current: Trainer) -> None:
            nonlocal saved
            if metrics is None:
                return
            is_long = current.steps_per_epoch * _LONG < current.state.step < current.total_steps
            if not is_long or time.monotonic() - saved >= _CHECKPOINT_SECONDS:
                runs.save(folder, current)
                saved = time.monotonic()

        try:
            finished = loop.run(
                trainer,
                on_step=None if progress.disable else on_step,
                on_metrics=on_metrics,
                on_epoch=on_epoch,
                should_stop=asked_to_stop,
            )
            if metrics is not None:
                metrics.check()
            return finished
        finally:
            if metrics is not None:
                metrics.close()


def _close(output: Output, trainer: Trainer, dataset: data.Dataset, folder: Path, *, draw: bool) -> None:
    settings, conditions = trainer.config, runs.load_given(trainer.config, dataset, trainer.given_as)
    encoded = None if conditions is None else conditions.encoded_test
    examples = Examples(dataset.test, dataset.values, settings.binarization, settings.seed, given=encoded)
    terms = held_out.elbo_terms(
        trainer.model, examples, seed=settings.seed, z_samples=settings.z_samples, communicator=trainer.communicator
    )
    figures = term_figures(terms)
    if not ranks.leave():
        return
    speed = train_figures(trainer.state.step, trainer.seconds)
    shortened = settings.shortened()

    def tell() -> None:
        output.table(
            f"Test set, {len(examples)} examples, nats ± standard error over examples"
            + ("" if shortened is None else f"; shortened: {shortened}"),
            ("", "mean"),
            [(name, with_error(figures[key])) for name, key in TERM_NAMES],
        )
        rate = f"{speed['steps_per_second']:.0f} per second"
        output.say(f"trained  {speed['steps']} steps in {speed['seconds']:.1f} s, {rate}")
        output.say(f"run      {folder}")

    content = {
        "test": {**figures, "log_likelihood": None, "samples": None},
        "train": speed,
        "shortened": shortened,
        "backend": trainer.backend.name,
        "dtype": settings.dtype,
        "precision": settings.precision,
        "seed": settings.seed,
        "run": str(folder),
    }
    try:
        if draw:
            threads = trainer.backend.threads
            vae = VAE.load(folder, backend=settings.backend, threads=threads, seed=settings.seed, moments=False)
            draw_pictures(folder, vae, examples, dataset, conditions)
    finally:
        output.result("train", content, tell)


def draw_pictures(
    folder: Path, vae: VAE, examples: Examples, dataset: data.Dataset, conditions: runs.Conditions | None = None
) -> None:
    """Write `samples.png`, `reconstructions.png` and `curves.png` into the run's folder; a table has `pairs.png`.

    A conditional model's samples are given every label in turn, a column for each, or what the test rows are.
    """
    is_table = vae.arch.columns is not None
    count = _TABLE_SAMPLES if is_table else _PICTURE_SAMPLES
    given = None if conditions is None else conditions.of_draws(count)
    samples = vae.sample(count, vae.config.seed, mean=dataset.image_shape is not None, given=given)
    title = f"Samples: E[x|z], {prior_text(vae)}" if dataset.image_shape is not None else "Samples from the model"
    in_a_row = None if conditions is None else conditions.in_a_row
    title += "" if in_a_row is None else ", a column for each label"
    plots.save(sample_picture(vae, samples, dataset, title, in_a_row=in_a_row), folder / "samples.png")
    if is_table:
        plots.save(sample_picture(vae, samples, dataset, title, pairs=True), folder / "pairs.png")
    else:
        first = replace(examples, rows=examples.rows[:_PICTURE_EXAMPLES])
        shown = None if conditions is None else conditions.test[: len(first)]
        plots.save(reconstruction_picture(vae, first, dataset, shown), folder / "reconstructions.png")
    plots.save(plots.curves(runs.read_metrics(folder)), folder / "curves.png")
