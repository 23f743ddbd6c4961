"""`vae-np eval`: what a run is worth on the test set, or on data that its own model simulates."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from vae_np import __version__, checkpoint, data, runs
from vae_np._types import Array
from vae_np.cli import machine
from vae_np.cli.output import Output, check_target, with_error
from vae_np.cli.train import (
    INTERRUPTED,
    TERM_NAMES,
    describe_values,
    tell_of_compilation,
    term_figures,
    train_figures,
)
from vae_np.config import Config
from vae_np.errors import CheckpointError, DataError, InputError
from vae_np.evaluation import held_out
from vae_np.evaluation.annealing import AnnealedEstimate, Annealing, BidirectionalEstimate
from vae_np.evaluation.held_out import Binarized, Surgery, mean_and_stderr
from vae_np.evaluation.importance import DEGENERATE_ESS, Estimate
from vae_np.evaluation.interrupted import Partial, digest
from vae_np.pictures import plots
from vae_np.vae import VAE

_CELLS_PER_LINE = 6
_SAMPLES, _SIMULATED = 100, 100


@dataclass(frozen=True)
class Plan:
    """How log p(x) is estimated: `estimator` one of `evaluate.ESTIMATORS`, or None for a model without a likelihood.

    `samples` are an example's importance samples or chains; `annealing` is None for importance sampling.
    """

    estimator: str | None
    samples: int | None
    annealing: Annealing | None

    @classmethod
    def of(cls, estimator: str | None, samples: int | None, likelihood: str, **annealing: int | None) -> Plan:
        """The plan that options ask for; raises InputError for ones that do not belong together."""
        if estimator not in (None, *held_out.ESTIMATORS):
            raise InputError(f"estimator: got {estimator!r}, expected one of {', '.join(held_out.ESTIMATORS)}")
        given = {name: value for name, value in annealing.items() if value is not None}
        if estimator in (None, "is"):
            for name, value in given.items():
                raise InputError(f"{name}: got {value}, but only --estimator ais and bdmc have it")
            # A grey model is evaluated as far as that goes, unless an estimate of log p(x) is asked for.
            if estimator is None and samples is None and likelihood == "bernoulli-grey":
                return cls(None, None, None)
            return cls("is", _SAMPLES if samples is None else samples, None)
        if samples is not None:
            given["chains"] = samples
        chains = Annealing(**given)
        return cls(estimator, chains.chains, chains)

    @property
    def text(self) -> str:
        """`100 samples`, `16 chains`."""
        return f"{self.samples} {'samples' if self.annealing is None else 'chains'}"


@dataclass(frozen=True)
class Subject:
    """What is evaluated: `examples` out of `available`, what text calls them, and their `latents` if simulated."""

    examples: Binarized
    available: int
    name: str
    latents: Array | None = None

    @property
    def title(self) -> str:
        """`Test set, 10000 examples`, and for a part of it that it is one."""
        count = len(self.examples)
        if self.latents is not None:
            return f"{count} examples that the model simulated"
        if count < self.available:
            return f"First {count} of {self.available} test examples"
        return f"Test set, {count} examples"


def evaluate_run(
    run: str | None,
    *,
    estimator: str | None,
    samples: int | None,
    temperatures: int | None,
    leapfrog: int | None,
    images: int | None,
    z_samples: int | None,
    data_file: str | None,
    binarize: str | None,
    backend: str | None,
    seed: int | None,
    per_example: str | None,
    draw: bool,
    json_file: str | None,
) -> int:
    """Print what a run is worth: the ELBO and its parts, log p(x), KL per latent, active units; return the exit code.

    An interrupted evaluation keeps the examples that are done, and the same call goes on behind them.
    """
    output = Output(json_file)
    if per_example is not None:
        _check_npz(per_example)
    folder = runs.find(run)
    # A checkpoint alone names no data; where they are given or simulated, it is enough.
    alone = (data_file is not None or estimator == "bdmc") and not (folder / runs.CONFIG).exists()
    vae, settings = _open(folder, Config() if alone else runs.load_config(folder), backend, seed, data_file, binarize)
    seed = settings.seed
    plan = Plan.of(estimator, samples, vae.arch.likelihood, temperatures=temperatures, leapfrog=leapfrog)
    if plan.estimator is not None:
        held_out.check_estimator(vae.arch)
    if plan.estimator == "bdmc":
        if data_file is not None:
            raise InputError("data: cannot be given together with --estimator bdmc, which simulates its own")
        subject = _simulated(vae, images or _SIMULATED, seed)
    else:
        dataset = _test_data(folder, vae, settings, data_file)
        examples = Binarized(dataset.test[:images], dataset.values, settings.binarization, seed)
        name = f"{dataset.name}: {len(examples)} test rows, {describe_values(dataset, settings)}"
        subject = Subject(examples, len(dataset.test), name)
    trained = _trained(folder)
    shortened = _shortened(vae.config, trained["steps"])
    output.say(f"run      {folder}")
    output.say(f"data     {subject.name}")
    if data_file is None and plan.estimator != "bdmc" and _saved_from_python(folder):
        output.say(f"note     the run was saved from Python, so its data are not known: taken to be {settings.data}")
    if shortened is not None:
        output.say(f"note     shortened: {shortened}")
    how = vae.backend.describe("evaluation", vae.arch) if plan.annealing is None else "composed chains"
    output.say(f"backend  {vae.backend.name} ({vae.backend.reason}), {vae.parameters.dtype}, {how}")
    tell_of_compilation(output, vae.backend)

    model, examples = vae.model, subject.examples
    terms = held_out.elbo_terms(
        model, examples, seed=seed, z_samples=settings.z_samples if z_samples is None else z_samples
    )
    mu, logvar = held_out.posterior_moments(model, examples)
    kl, active = held_out.kl_per_dimension(mu, logvar), held_out.active_units(mu)
    surgery = held_out.elbo_surgery(model.ops, mu, logvar, seed=seed)
    estimate, seconds = None, None
    if plan.estimator is not None:
        partial = _partial(folder, plan, vae, subject, seed)
        try:
            estimate = _estimate(output, partial, plan, vae, subject, seed)
        except KeyboardInterrupt:
            output.warn(_interrupted(partial, folder, subject))
            return INTERRUPTED
        seconds = partial.seconds
    figures = {**term_figures(terms), **_surgery_figures(surgery), **_estimate_figures(estimate)}
    output.table(
        f"{subject.title}, nats ± standard error over examples"
        + ("" if shortened is None else f"; shortened: {shortened}"),
        ("", "mean"),
        [
            *((name, with_error(figures[key])) for name, key in TERM_NAMES),
            ("  mutual information", f"{with_error(figures['mutual_information'])} of at most {surgery.ceiling:.2f}"),
            ("  marginal KL", with_error(figures["marginal_kl"])),
            *_estimate_rows(plan, figures),
            ("active units", f"{int(active.sum())} of {model.arch.latent}"),
        ],
    )
    for note in _doubts(estimate, plan):
        output.say(note)
    order = kl.argsort()[::-1]
    output.say("KL per latent dimension, largest first (* active):")
    cells = [f"{j:>5}: {kl[j]:.2f}{'*' if active[j] else ' '}" for j in order]
    for start in range(0, len(cells), _CELLS_PER_LINE):
        output.say("".join(cells[start : start + _CELLS_PER_LINE]).rstrip())
    if draw:
        plots.save(plots.kl_per_dimension(kl, active), folder / "kl.png")
    if per_example is not None:
        arrays = {"elbo": terms.elbo, **_arrays(terms), **_arrays(surgery), **_arrays(estimate)}
        _write_npz(per_example, examples, arrays)
        output.say(f"wrote    {per_example}")
    output.json(
        "eval",
        {
            "test": {
                "log_likelihood": None,
                "ess": None,
                **figures,
                "samples": plan.samples,
                "estimator": plan.estimator,
                "temperatures": None if plan.annealing is None else plan.annealing.temperatures,
                "leapfrog": None if plan.annealing is None else plan.annealing.leapfrog,
                "data": "test" if subject.latents is None else "simulated",
                "examples": len(examples),
                "available": subject.available,
                "mutual_information_ceiling": surgery.ceiling,
                "kl_per_dimension": kl.tolist(),
                "active_units": int(active.sum()),
                "seconds": seconds,
            },
            "train": trained,
            "shortened": shortened,
            "backend": vae.backend.name,
            "dtype": str(vae.parameters.dtype),
            "seed": seed,
            "run": str(folder),
            "environment": _environment(),
        },
    )
    return 0


def _open(
    folder: Path,
    settings: Config,
    backend: str | None,
    seed: int | None,
    data_file: str | None,
    binarize: str | None,
) -> tuple[VAE, Config]:
    """A run's model, and its settings with what was given in their place."""
    vae = VAE.load(
        folder, backend=settings.backend if backend is None else backend, seed=settings.seed if seed is None else seed
    )
    given: dict[str, Any] = {"binarize": binarize} if binarize is not None else {}
    if data_file is not None:
        given |= {"data": data_file, "test_data": None, "image_shape": None}
    return vae, replace(vae.config, **given)


def _saved_from_python(folder: Path) -> bool:
    return (folder / checkpoint.STATE_FILE).exists() and not checkpoint.load_state(folder).extra


def _test_data(folder: Path, vae: VAE, settings: Config, data_file: str | None) -> data.Dataset:
    dataset = runs.load_data(settings)
    try:
        data.check_columns(dataset.test, vae.arch.features, f"data {dataset.name!r}: test")
    except DataError as error:
        if data_file is not None or not _saved_from_python(folder):
            raise
        raise CheckpointError(
            f"{error}; the run was saved from Python, so its data are not known: name them with --data FILE"
        ) from None
    return dataset


def _shortened(settings: Config, steps: int) -> str | None:
    """Which part of its schedule a run has behind it after so many steps; None for all of it."""
    if settings.schedule == "constant":
        return None
    return runs.shortened(settings, len(runs.load_data(settings).train), steps)


def _simulated(vae: VAE, count: int, seed: int) -> Subject:
    examples, latents = vae.simulated(count, seed)
    return Subject(examples, count, f"simulated: {count} draws from the model itself", latents)


def _partial(folder: Path, plan: Plan, vae: VAE, subject: Subject, seed: int) -> Partial[Any]:
    """What an earlier evaluation by the same plan, of the same checkpoint on the same data, has left."""
    kinds = {"is": Estimate, "ais": AnnealedEstimate, "bdmc": BidirectionalEstimate}
    key = {
        "version": __version__,
        "estimator": plan.estimator,
        "samples": plan.samples,
        "annealing": None if plan.annealing is None else vars(plan.annealing),
        "seed": seed,
        "backend": vae.backend.name,
        "checkpoint": digest((folder / checkpoint.WEIGHTS_FILE).read_bytes()),
        "data": digest(subject.examples.rows),
        "binarize": subject.examples.mode,
    }
    return Partial(folder, key, kinds[str(plan.estimator)])


def _estimate(output: Output, partial: Partial[Any], plan: Plan, vae: VAE, subject: Subject, seed: int) -> Any:
    """The estimates of every example, behind those that are done already; what is done is kept whatever happens."""
    examples = subject.examples
    if partial.problem is not None:
        output.warn(partial.problem)
    if len(partial):
        output.say(f"note     {len(partial)} examples were done by an evaluation that was interrupted: going on")
    with output.bar(f"log p(x), {plan.text}", "{task.completed:.0f}/{task.total:.0f} examples") as progress:
        task = progress.add_task("", total=len(examples), completed=len(partial))

        def on_batch(estimate: Any) -> None:
            partial.add(estimate)
            progress.update(task, completed=len(partial))

        try:
            if plan.annealing is None:
                assert plan.samples is not None
                result: Any = held_out.log_likelihood(
                    vae.model,
                    examples,
                    samples=plan.samples,
                    seed=seed,
                    on_batch=on_batch,
                    done=partial.done,
                    fused=vae.backend.fused_log_weights(vae.arch),
                )
            else:
                result = held_out.annealed_log_likelihood(
                    vae.model,
                    examples,
                    plan.annealing,
                    seed=seed,
                    posterior=subject.latents,
                    on_batch=on_batch,
                    on_progress=lambda done: progress.update(task, completed=done),
                    done=partial.done,
                )
        except BaseException:
            partial.write()
            raise
    partial.remove()
    return result


def _interrupted(partial: Partial[Any], folder: Path, subject: Subject) -> str:
    done = f"interrupted at {len(partial)} of {len(subject.examples)} examples"
    if partial.problem is not None:
        return f"{done}, and nothing is kept: {partial.problem}"
    if not len(partial):
        return f"{done}"
    return f"{done}; they are kept, and the same command on {shlex.quote(str(folder))} goes on behind them"


def _surgery_figures(surgery: Surgery) -> dict[str, dict[str, float]]:
    return {
        "mutual_information": mean_and_stderr(surgery.mutual_information),
        "marginal_kl": mean_and_stderr(surgery.marginal_kl),
    }


def _estimate_figures(estimate: Estimate | None) -> dict[str, Any]:
    """What the JSON says of log p(x); nothing where it was not estimated."""
    if estimate is None:
        return {}
    figures: dict[str, Any] = {
        "log_likelihood": mean_and_stderr(estimate.log_likelihood),
        "ess": mean_and_stderr(estimate.ess),
        "degenerate": int(estimate.degenerate.sum()),
    }
    if isinstance(estimate, AnnealedEstimate):
        figures["acceptance"] = mean_and_stderr(estimate.acceptance)
    if isinstance(estimate, BidirectionalEstimate):
        figures["log_likelihood_upper"] = mean_and_stderr(estimate.upper)
        figures["gap"] = mean_and_stderr(estimate.upper - estimate.log_likelihood)
    return figures


def _estimate_rows(plan: Plan, figures: dict[str, Any]) -> list[tuple[str, str]]:
    if plan.estimator is None:
        return [("log p(x)", "has none")]
    flag = " !" if figures["degenerate"] else ""
    value = with_error(figures["log_likelihood"]) + flag
    rows = [(f"log p(x){' from below' if plan.estimator == 'bdmc' else ''}, {plan.text}", value)]
    if "gap" in figures:
        rows.append((f"log p(x) from above, {plan.text}", with_error(figures["log_likelihood_upper"])))
        rows.append(("  gap", with_error(figures["gap"])))
    rows.append(("  effective sample size", f"{figures['ess']['mean']:.1f} of {plan.samples}{flag}"))
    if plan.annealing is not None:
        rows.append(("  acceptance", f"{figures['acceptance']['mean']:.2f}, aim {plan.annealing.acceptance:.2f}"))
        rows.append(("  temperatures", f"{plan.annealing.temperatures}, {plan.annealing.leapfrog} leapfrog steps each"))
    return rows


def _doubts(estimate: Estimate | None, plan: Plan) -> list[str]:
    """What has to be said beside the number."""
    if estimate is None:
        return ["note     bernoulli-grey is a cross-entropy on grey values: its ELBO bounds no likelihood"]
    count = int(estimate.degenerate.sum())
    if not count:
        return []
    more = "more samples, or --estimator ais," if plan.annealing is None else "more temperatures"
    return [
        f"!        {count} of {len(estimate.ess)} examples have an effective sample size below {DEGENERATE_ESS:g}: "
        f"one draw carries their estimate, which may be nats off; {more} would tell"
    ]


def _arrays(values: Any) -> dict[str, Array]:
    """The per-example arrays of a result by their names, those that it has; none for None."""
    held = {} if values is None else {field.name: getattr(values, field.name) for field in fields(values)}
    return {name: value for name, value in held.items() if value is not None}


def _check_npz(name: str) -> None:
    expected = "a file's name that ends in .npz"
    check_target("per_example", name, expected)
    if Path(name).suffix != ".npz":
        raise InputError(f"per_example: got {name!r}, expected {expected}")


def _write_npz(name: str, examples: Binarized, arrays: dict[str, Array]) -> None:
    """One entry an example and array, and `row`, the examples' places in the data; NaN where one was not computed."""
    count = len(examples)
    whole: dict[str, Any] = {
        key: np.concatenate([value, np.full(count - len(value), np.nan)]) for key, value in arrays.items()
    }
    path = Path(name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, row=examples.first + np.arange(count), **whole)
    except OSError as error:
        raise InputError(f"per_example: {path}: cannot be written ({error.strerror or error})") from None


def _environment() -> dict[str, Any]:
    """What the time that an evaluation took has to be read with."""
    return {
        "system": machine.system(),
        "cores": machine.cores(),
        "libraries": {name: machine.version(name) for name in ("numpy", "numba")},
    }


def _trained(folder: Path) -> dict[str, Any]:
    if not (folder / checkpoint.STATE_FILE).exists():
        return train_figures(checkpoint.load_weights(folder).step, None)
    state = checkpoint.load_state(folder)
    return train_figures(state.step, state.extra.get("seconds"))
