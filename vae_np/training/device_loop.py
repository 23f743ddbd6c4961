"""Training on a device that runs ahead of the host: steps are queued in parts, and one part is read when the next is on
its way. Metrics, validation, checkpoints and stops come at the same steps as in `vae_np.training.host_loop`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from vae_np import data, noise
from vae_np.errors import NonFiniteError
from vae_np.step import first_non_finite
from vae_np.training.listeners import Listeners
from vae_np.training.trainer import Metrics, Origin, Trainer

# Steps in one part, where no metrics line ends it sooner: a stop waits for so many at most.
_MOST_STEPS = 500


def resident_steps(trainer: Trainer) -> Any:
    """The backend's steps on data that it keeps, from the trainer's present state; None where it has none for this
    training.

    Grey bytes are drawn anew at every visit, on the device. What is binarised once and for all is so before it travels.
    """
    config, arch = trainer.config, trainer.arch
    if trainer.fused is None or trainer.blocks is not None or config.optimizer != "adam":
        return None
    # A device takes the epoch, and the place in its order, from the step's number alone.
    if trainer.origin != Origin():
        return None
    draw = trainer.values.kind == "byte" and config.binarization == "dynamic"
    if trainer.values.kind == "unit" and config.binarization == "dynamic":
        return None
    make = trainer.backend.fused_run(arch)
    if make is None:
        return None
    data.check_length(trainer.rows, "data")
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
        optimiser=trainer.optimiser(0),
        beta=config.beta,
        beta_warmup=config.beta_warmup * trainer.steps_per_epoch,
        draw=draw,
        samples=None if config.objective == "elbo" else config.samples,
    )


@dataclass(frozen=True)
class _Part:
    """A part of queued steps: the terms that they will give, and how many steps are done after the last of them."""

    queued: Any
    end: int


def run(trainer: Trainer, steps: Any, listeners: Listeners) -> bool:
    """Train as `vae_np.training.host_loop.run` does, with the steps of `resident_steps`; `on_step` is called per part.

    Raises NonFiniteError with the first step that left something not finite, and what its backend raises.
    """
    try:
        return _run(trainer, steps, listeners)
    except NonFiniteError:
        raise
    except BaseException:
        # What the device has done meanwhile is the state that was reached.
        steps.pull()
        trainer.settled = True
        raise


def _run(trainer: Trainer, steps: Any, listeners: Listeners) -> bool:
    per_epoch, total, state = trainer.steps_per_epoch, trainer.total_steps, trainer.state
    ordered: int | None = None
    following = trainer.order(state.step // per_epoch)
    waiting: _Part | None = None
    while state.step < total and not listeners.should_stop():
        started = time.perf_counter()
        epoch = state.step // per_epoch
        if ordered != epoch:
            steps.order(epoch, following)
            steps.learning_rate(trainer.optimiser(epoch).lr)
            ordered = epoch
        end = _end(trainer, state.step)
        trainer.settled = False
        part = _Part(steps.steps(end - state.step), end)
        epoch_ends = end % per_epoch == 0
        if epoch_ends and state.step < total:
            # The device works meanwhile.
            following = trainer.order(epoch + 1)
        lines = [] if waiting is None else _read(trainer, steps, waiting)
        if epoch_ends:
            lines += _read(trainer, steps, part)
            steps.pull()
            trainer.settled = True
        waiting = None if epoch_ends else part
        trainer.seconds += time.perf_counter() - started
        _tell(trainer, lines, listeners)
        if epoch_ends:
            listeners.epoch(trainer)
    if waiting is not None:
        lines = _read(trainer, steps, waiting)
        steps.pull()
        trainer.settled = True
        _tell(trainer, lines, listeners)
    return state.step >= total


def _end(trainer: Trainer, done: int) -> int:
    """Where the part ends that begins after `done` steps: where a metrics line is due, or after `_MOST_STEPS`."""
    end = done + 1
    while not trainer.line_is_due(end) and end - done < _MOST_STEPS:
        end += 1
    return end


def _read(trainer: Trainer, steps: Any, part: _Part) -> list[Metrics]:
    """Wait for a part, add it up, and return the metrics line that is due after it, if one is."""
    terms, bad = part.queued.result()
    if bad is not None:
        steps.pull()
        with np.errstate(over="ignore", invalid="ignore"):
            what = first_non_finite(trainer.state, terms) or "a parameter or second moment"
        raise trainer.not_finite(bad + 1, what)
    objective = terms.bound
    if objective is None:
        beta = [trainer.beta(part.queued.first + number) for number in range(len(terms.kl))]
        objective = terms.reconstruction - np.array(beta) * terms.kl
    log_det = trainer.values.log_det_jacobian
    for reconstruction, kl, value in zip(
        terms.reconstruction.tolist(), terms.kl.tolist(), objective.tolist(), strict=True
    ):
        trainer.add(reconstruction + log_det, kl, value + log_det)
    # Steps beyond this part may be on their way.
    return [trainer.train_line(part.end)] if trainer.line_is_due(part.end) else []


def _tell(trainer: Trainer, lines: list[Metrics], listeners: Listeners) -> None:
    listeners.step(trainer)
    for line in lines:
        listeners.metrics(line)
