"""Training on a device that runs ahead of the host: steps are queued in parts, and one part is read when the next is on
its way. Metrics, validation, checkpoints and stops come where they come in `vae_np.training.trainer.Trainer.run`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from vae_np import data, noise
from vae_np.errors import NonFiniteError
from vae_np.step import first_non_finite
from vae_np.training.trainer import Metrics, Running, Trainer

# Steps in one part, where no metrics line ends it sooner: so long does a stop wait.
_MOST_STEPS = 500


def resident_steps(trainer: Trainer) -> Any:
    """The backend's steps on data that it keeps, from the trainer's present state; None where it has none for these.

    Grey bytes are drawn anew at every visit, on the device. What is binarised once and for all is so before it travels.
    """
    config, arch = trainer.config, trainer.arch
    if trainer.fused is None or config.optimizer != "adam":
        return None
    draw = trainer.values == "byte" and config.binarization == "dynamic"
    if trainer.values == "unit" and config.binarization == "dynamic":
        return None
    make = trainer.backend.fused_run(arch)
    if make is None:
        return None
    rows = trainer.rows
    if not draw:
        places = np.arange(len(rows))
        rows = data.prepare(
            rows, trainer.values, config.binarization, seed=config.seed, stream=noise.BINARIZE, step=0, rows=places
        )
    return make(
        arch,
        trainer.state,
        config.batch_size,
        rows,
        seed=config.seed,
        optimiser=trainer.optimiser,
        beta=config.beta,
        beta_warmup=config.beta_warmup * trainer.steps_per_epoch,
        draw=draw,
        samples=None if config.objective == "elbo" else config.samples,
    )


@dataclass(frozen=True)
class _Part:
    """Steps that are queued: their metrics to come, the epoch, and the last one's batch in it."""

    queued: Any
    epoch: int
    batch: int


def run_ahead(
    trainer: Trainer,
    steps: Any,
    *,
    on_step: Callable[[Trainer], None] | None,
    on_metrics: Callable[[Metrics], None] | None,
    on_epoch: Callable[[Trainer], None] | None,
    should_stop: Callable[[], bool],
) -> bool:
    """What `Trainer.run` does, with `steps` of `resident_steps`; `on_step` hears of each part, not of each step.

    Raises NonFiniteError with the first step that left something not finite, and what its backend raises.
    """
    per_epoch, total, state = trainer.steps_per_epoch, trainer.total_steps, trainer.state
    ordered: int | None = None
    following = _order(trainer, state.step // per_epoch)
    waiting: _Part | None = None
    while state.step < total and not should_stop():
        started = time.perf_counter()
        epoch, batch = divmod(state.step, per_epoch)
        if ordered != epoch:
            steps.order(epoch, following)
            steps.learning_rate(trainer.lr(epoch))
            ordered = epoch
        last = _last_batch(trainer, epoch, batch)
        part = _Part(steps.steps(last - batch + 1), epoch, last)
        epoch_ends = last == per_epoch - 1
        if epoch_ends and state.step < total:
            # The device works meanwhile.
            following = _order(trainer, epoch + 1)
        lines = [] if waiting is None else _read(trainer, steps, waiting)
        if epoch_ends:
            lines += _read(trainer, steps, part)
            steps.pull()
        waiting = None if epoch_ends else part
        trainer.seconds += time.perf_counter() - started
        _tell(trainer, lines, on_step, on_metrics)
        if epoch_ends:
            if trainer.validation is not None and on_metrics is not None:
                on_metrics(trainer._validate(epoch, trainer.beta(state.step - 1)))
            if on_epoch is not None:
                on_epoch(trainer)
    if waiting is not None:
        _tell(trainer, _read(trainer, steps, waiting), on_step, on_metrics)
        steps.pull()
    return state.step >= total


def _order(trainer: Trainer, epoch: int) -> Any:
    return noise.order(len(trainer.rows), seed=trainer.config.seed, epoch=epoch)


def _last_batch(trainer: Trainer, epoch: int, batch: int) -> int:
    """The batch that ends the part which begins with `batch`: where a line is due, or there are enough."""
    last = batch
    while not trainer._line_is_due(epoch, last) and last - batch + 1 < _MOST_STEPS:
        last += 1
    return last


def _read(trainer: Trainer, steps: Any, part: _Part) -> list[Metrics]:
    """Wait for a part, add it up, and return the metrics line that is due behind it, if one is."""
    terms, bad = part.queued.result()
    if bad is not None:
        steps.pull()
        with np.errstate(over="ignore", invalid="ignore"):
            what = first_non_finite(trainer.state, terms) or "a parameter or second moment"
        raise NonFiniteError(f"step {bad + 1}: {what} is not finite; a smaller lr often helps")
    objective = terms.bound
    if objective is None:
        beta = [trainer.beta(part.queued.first + number) for number in range(len(terms.kl))]
        objective = terms.reconstruction - np.array(beta) * terms.kl
    for means in zip(terms.reconstruction.tolist(), terms.kl.tolist(), objective.tolist(), strict=True):
        trainer.running.add(*means)
    if not trainer._line_is_due(part.epoch, part.batch):
        return []
    end = part.epoch * trainer.steps_per_epoch + part.batch + 1
    line = trainer._line(part.epoch, "train", *trainer.running.means(), trainer.beta(end - 1))
    trainer.running = Running()
    # Steps beyond this one may be on their way.
    return [{**line, "step": end}]


def _tell(
    trainer: Trainer,
    lines: list[Metrics],
    on_step: Callable[[Trainer], None] | None,
    on_metrics: Callable[[Metrics], None] | None,
) -> None:
    if on_step is not None:
        on_step(trainer)
    if on_metrics is not None:
        for line in lines:
            on_metrics(line)
