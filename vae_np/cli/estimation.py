"""How `eval` estimates log p(x), goes on where it was interrupted, and prints the estimate."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vae_np import __version__, data
from vae_np._types import Array
from vae_np.cli import ranks
from vae_np.cli.interrupts import asking_to_stop
from vae_np.cli.output import Output, with_error
from vae_np.config import Config
from vae_np.distributed import check_agreement
from vae_np.errors import InputError
from vae_np.evaluation import held_out, pareto
from vae_np.evaluation.annealing import AnnealedEstimate, Annealing, BidirectionalEstimate
from vae_np.evaluation.held_out import Examples, mean_and_stderr
from vae_np.evaluation.importance import DEGENERATE_ESS, Estimate
from vae_np.evaluation.partial_results import PartialResults, digest
from vae_np.vae import VAE

_SAMPLES = 100


@dataclass(frozen=True)
class Estimation:
    """How log p(x) is estimated: `estimator` one of `held_out.ESTIMATORS`, or None for a model without a likelihood.

    `samples` are an example's importance samples or chains; `annealing` is None for importance sampling.
    """

    estimator: str | None
    samples: int | None
    annealing: Annealing | None

    @classmethod
    def of(cls, estimator: str | None, samples: int | None, likelihood: str, **annealing: int | None) -> Estimation:
        """The estimation that options ask for; raises InputError for ones that do not belong together."""
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
class EvaluationData:
    """What is evaluated: `examples` out of `available`, what text calls them, and their `latents` if simulated.

    `span` is what the data run from and to, where they were not simulated.
    """

    examples: Examples
    available: int
    name: str
    latents: Array | None = None
    span: data.Span | None = None

    @property
    def title(self) -> str:
        """`Test set, 10000 examples`, or which part of it."""
        count = len(self.examples)
        if self.latents is not None:
            return f"{count} examples that the model simulated"
        if count < self.available:
            return f"First {count} of {self.available} test examples"
        return f"Test set, {count} examples"


@dataclass(frozen=True)
class Evaluation:
    """All that an evaluation depends on: the run's model, its settings with what was given, how and on what."""

    folder: Path
    vae: VAE
    settings: Config
    z_samples: int
    estimation: Estimation
    data: EvaluationData

    @property
    def seed(self) -> int:
        """The seed of every draw."""
        return self.settings.seed


def kept(evaluation: Evaluation) -> PartialResults[Any]:
    """What an interrupted run of the same evaluation has left, or an empty one; rank 0 keeps it.

    Raises InputError where the ranks that share the evaluation have found different ones.
    """
    kinds = {"is": Estimate, "ais": AnnealedEstimate, "bdmc": BidirectionalEstimate}
    communicator, kind = ranks.communicator(), kinds[str(evaluation.estimation.estimator)]
    most = len(evaluation.data.examples)
    partial: PartialResults[Any] = PartialResults(
        evaluation.folder, _key(evaluation), kind, most=most, writes=communicator.is_first
    )
    check_agreement(communicator, {"kept results": f"{len(partial)} examples in {evaluation.folder}"})
    return partial


def facts(evaluation: Evaluation) -> dict[str, str]:
    """What ranks that share an evaluation have to agree on, for `vae_np.distributed.check_agreement`."""
    key, said = _key(evaluation), {"model": "model", "data": "data", "backend": "backend"}
    rest = {name: value for name, value in key.items() if name not in said} | {"z_samples": evaluation.z_samples}
    return {name: str(key[name]) for name in said} | {"options": json.dumps(rest, sort_keys=True)}


def _key(evaluation: Evaluation) -> dict[str, Any]:
    """All that the estimates depend on."""
    estimation, examples = evaluation.estimation, evaluation.data.examples
    conditions = {} if examples.given is None else {"given": digest(examples.given)}
    return {
        **conditions,
        "version": __version__,
        "estimator": estimation.estimator,
        "samples": estimation.samples,
        "annealing": None if estimation.annealing is None else vars(estimation.annealing),
        "seed": evaluation.seed,
        "backend": evaluation.vae.backend.name,
        # The digest of what was loaded: the file may be another one by now, if the run goes on training.
        "model": digest(repr(evaluation.vae.arch).encode(), evaluation.vae.parameters.flat),
        "data": digest(examples.rows),
        "values": examples.values.to_mapping(),
        "binarize": examples.mode,
    }


def estimate(output: Output, partial: PartialResults[Any], evaluation: Evaluation) -> Any:
    """The estimates of every example, after those that are done already; finished ones are kept, whatever happens."""
    vae, estimation, examples = evaluation.vae, evaluation.estimation, evaluation.data.examples
    if partial.problem is not None:
        output.warn(partial.problem)
    if len(partial):
        output.say(f"note     {len(partial)} examples were done by an evaluation that was interrupted: going on")
    communicator = ranks.communicator()
    bar = output.bar(f"log p(x), {estimation.text}", "{task.completed:.0f}/{task.total:.0f} examples")
    # Ranks stop together, after a batch; a process alone stops at once.
    stopping = asking_to_stop() if communicator.size > 1 else nullcontext(lambda: False)
    with bar as progress, stopping as asked_to_stop:
        task = progress.add_task("", total=len(examples), completed=len(partial))

        def on_batch(estimate: Any) -> None:
            partial.add(estimate)
            progress.update(task, completed=len(partial))
            if communicator.any(asked_to_stop()):
                raise KeyboardInterrupt

        try:
            if estimation.annealing is None:
                assert estimation.samples is not None
                result: Any = held_out.log_likelihood(
                    vae.model,
                    examples,
                    samples=estimation.samples,
                    seed=evaluation.seed,
                    on_batch=on_batch,
                    done=partial.done,
                    fused=vae.backend.fused_log_weights(vae.arch),
                    communicator=communicator,
                )
            else:
                result = held_out.annealed_log_likelihood(
                    vae.model,
                    examples,
                    estimation.annealing,
                    seed=evaluation.seed,
                    posterior=evaluation.data.latents,
                    on_batch=on_batch,
                    on_progress=lambda done: progress.update(task, completed=done),
                    done=partial.done,
                    communicator=communicator,
                )
        except BaseException:
            partial.write()
            raise
    partial.remove()
    return result


def interruption(partial: PartialResults[Any], evaluation: Evaluation) -> str:
    """How far an interrupted evaluation came, and how to go on with it."""
    done = f"interrupted at {len(partial)} of {len(evaluation.data.examples)} examples"
    if partial.problem is not None:
        return f"{done}, and nothing is kept: {partial.problem}"
    if not len(partial):
        return done
    folder = shlex.quote(str(evaluation.folder))
    return f"{done}; they are kept, and the same command on {folder} goes on after them"


def figures(estimate: Estimate | None, samples: int | None) -> dict[str, Any]:
    """What the JSON says of log p(x), from so many draws an example; nothing where it was not estimated."""
    if estimate is None or samples is None:
        return {}
    fitted = np.isfinite(estimate.tail)
    found: dict[str, Any] = {
        "log_likelihood": mean_and_stderr(estimate.log_likelihood, "log p(x)"),
        "ess": mean_and_stderr(estimate.ess),
        "degenerate": int(estimate.degenerate.sum()),
        "tail": {
            "median": float(np.median(estimate.tail[fitted])) if fitted.any() else None,
            "threshold": pareto.threshold(samples) if samples > 1 else None,
            "above": int(estimate.heavy(samples).sum()),
            "fitted": int(fitted.sum()),
        },
    }
    if isinstance(estimate, AnnealedEstimate):
        found["acceptance"] = mean_and_stderr(estimate.acceptance)
    if isinstance(estimate, BidirectionalEstimate):
        found["log_likelihood_upper"] = mean_and_stderr(estimate.upper, "log p(x) from above")
        found["gap"] = mean_and_stderr(estimate.upper - estimate.log_likelihood)
    return found


def rows(estimation: Estimation, figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The table's rows on log p(x): its estimate, and the figures by which to judge it."""
    if estimation.estimator is None:
        return [("log p(x)", "has none")]
    flag = " !" if figures["degenerate"] else ""
    value = with_error(figures["log_likelihood"]) + flag
    told = [(f"log p(x){' from below' if estimation.estimator == 'bdmc' else ''}, {estimation.text}", value)]
    if "gap" in figures:
        told.append((f"log p(x) from above, {estimation.text}", with_error(figures["log_likelihood_upper"])))
        told.append(("  gap", with_error(figures["gap"])))
    told.append(("  effective sample size", f"{figures['ess']['mean']:.1f} of {estimation.samples}{flag}"))
    tail = figures["tail"]
    if tail["fitted"]:
        heavy = f"{tail['above']} of {tail['fitted']} above {tail['threshold']:.2f}{' !' if tail['above'] else ''}"
        told.append(("  tail shape k̂ of the weights", f"{tail['median']:.2f}, the median; {heavy}"))
    if estimation.annealing is not None:
        chains = estimation.annealing
        told.append(("  acceptance", f"{figures['acceptance']['mean']:.2f}, aim {chains.acceptance:.2f}"))
        told.append(("  temperatures", f"{chains.temperatures}, {chains.leapfrog} leapfrog steps each"))
    return told


def doubts(estimate: Estimate | None, estimation: Estimation) -> list[str]:
    """What has to be said along with the number."""
    if estimate is None:
        return ["note     bernoulli-grey is a cross-entropy on grey values: its ELBO bounds no likelihood"]
    count, heavy = int(estimate.degenerate.sum()), int(estimate.heavy(estimation.samples or 0).sum())
    more = "more samples, or --estimator ais," if estimation.annealing is None else "more temperatures"
    said = []
    if heavy:
        said.append(
            f"!        {heavy} of {len(estimate.tail)} examples have weights with a tail so heavy (k̂ above "
            f"{pareto.threshold(estimation.samples or 0):.2f}) that their standard errors say little; {more} would tell"
        )
    if not count:
        return said
    return [
        *said,
        f"!        {count} of {len(estimate.ess)} examples have an effective sample size below {DEGENERATE_ESS:g}: "
        f"one draw carries their estimate, which may be nats off; {more} would tell",
    ]
