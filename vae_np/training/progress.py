"""How far a training is between sittings, how it is told to stop, and what it goes back to if a step is broken off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vae_np.choices import Split
from vae_np.errors import InputError
from vae_np.training.per_datapoint import LocalPosterior
from vae_np.training.trainer import Metrics, Origin, Running, Trainer, finite_number


class StopTraining(Exception):
    """Raised by `on_metrics` to end a training in good order: after this step, or this epoch's validation."""


class EarlyStopping:
    """An `on_metrics` that ends a training once the ELBO of a split has not risen for `patience` lines of that split.

    A rise counts where it is larger than `least`, in nats. `best` is the line with the highest ELBO so far.
    """

    def __init__(self, patience: int = 5, *, least: float = 0.0, split: Split = "validation") -> None:
        if isinstance(patience, bool) or not isinstance(patience, int) or patience < 1:
            raise InputError(f"patience: got {patience!r}, expected a whole number >= 1")
        self.patience, self.least, self.split = patience, least, split
        self.best: Metrics | None = None
        self._waited = 0

    def __call__(self, line: Metrics) -> None:
        if line["split"] != self.split:
            return
        if self.best is None or line["elbo"] > self.best["elbo"] + self.least:
            self.best, self._waited = line, 0
            return
        self._waited += 1
        if self._waited >= self.patience:
            raise StopTraining


@dataclass
class Progress:
    """What a model keeps of its training besides parameters, moments and step.

    `rows` and `batch_size` are those of the last sitting, None before the first. Where there is no encoder, `local` are
    the λ of the rows whose digest is `local_rows`.
    """

    rows: int | None = None
    batch_size: int | None = None
    origin: Origin = field(default_factory=Origin)
    running: Running = field(default_factory=Running)
    seconds: float = 0.0
    local: LocalPosterior | None = None
    local_rows: str | None = None

    def resumed(self, step: int, rows: int, batch_size: int) -> tuple[Progress, int]:
        """What a sitting on `rows` rows begins with after `step` steps, and how many epochs came before it.

        With as many rows and as large a batch as before it goes on within the epoch; else it begins a new one.
        """
        if self.rows is None or self.batch_size is None:
            return replace(self, rows=rows, batch_size=batch_size, origin=Origin(step, 0), running=Running()), 0
        per_epoch = self.rows // self.batch_size
        epoch, batch = divmod(self.origin.position(step, per_epoch), per_epoch)
        if (rows, batch_size) == (self.rows, self.batch_size):
            return replace(self, running=replace(self.running)), epoch
        begun = epoch + (batch > 0)
        origin = Origin(step, begun)
        return replace(self, rows=rows, batch_size=batch_size, origin=origin, running=Running()), begun

    @classmethod
    def after(cls, trainer: Trainer) -> Progress:
        """What is to be kept of a training as it stands."""
        return cls(
            len(trainer.rows),
            trainer.config.batch_size,
            trainer.origin,
            replace(trainer.running),
            trainer.seconds,
            trainer.local,
            trainer.local_rows,
        )

    def to_mapping(self) -> dict[str, Any]:
        """The numbers, as a checkpoint keeps them; the wall time has its own file."""
        return {
            **vars(self.running),
            "rows": self.rows,
            "origin_step": self.origin.step,
            "origin_epoch": self.origin.epoch,
            "local_rows": self.local_rows,
        }

    @classmethod
    def from_mapping(cls, held: Mapping[str, Any], batch_size: int, seconds: float) -> Progress:
        """What `to_mapping`, or a run of the command line, has kept; raises CheckpointError where a number is none."""
        if held.get("rows") is None:
            return cls()
        held = {"origin_step": 0, "origin_epoch": 0, **held}
        reconstruction, kl, objective = (finite_number(held, name) for name in ("reconstruction", "kl", "objective"))
        steps, rows = (int(finite_number(held, name)) for name in ("steps", "rows"))
        origin = Origin(*(int(finite_number(held, name)) for name in ("origin_step", "origin_epoch")))
        running = Running(reconstruction, kl, objective, steps)
        return cls(rows, batch_size, origin, running, seconds, None, held.get("local_rows"))


class Kept:
    """A copy of what a training has reached, in case a later step is broken off by an interrupt or a NaN.

    A step's metrics line is part of it: `lines` are those that are kept.
    """

    def __init__(self, trainer: Trainer, lines: list[Metrics]) -> None:
        self._trainer, self._lines = trainer, lines
        self._buffers = [trainer.state.parameters.flat, *trainer.moments().values()]
        self._copies = [buffer.copy() for buffer in self._buffers]
        self._numbers = self._now()

    def _now(self) -> tuple[int, Running, float, int]:
        trainer = self._trainer
        return trainer.state.step, replace(trainer.running), trainer.seconds, len(self._lines)

    @property
    def _is_whole(self) -> bool:
        return self._trainer.settled and not self._trainer.owes_line

    def add(self, line: Metrics) -> None:
        """Keep a line, and with it the state that it tells of."""
        self._lines.append(line)
        self._trainer.owes_line = False
        self.take()

    def take(self) -> None:
        """Copy the state as it stands, unless a step is under way."""
        if self._is_whole:
            for copy, buffer in zip(self._copies, self._buffers, strict=True):
                np.copyto(copy, buffer)
            self._numbers = self._now()

    def give_back(self) -> None:
        """Bring the training back to the last copy, if a step is under way; else leave it where it stands."""
        if not self._is_whole:
            for copy, buffer in zip(self._copies, self._buffers, strict=True):
                np.copyto(buffer, copy)
            self._trainer.state.step, self._trainer.running, self._trainer.seconds, told = self._numbers
            del self._lines[told:]
            self._trainer.settled, self._trainer.owes_line = True, False
