"""The callables that a training informs while it runs, and the one that may ask it to stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vae_np.training.trainer import Metrics, Trainer


@dataclass(frozen=True)
class Listeners:
    """Callables that a loop calls: after a step, with a metrics line, at an epoch's end; and before each step, to stop.

    Validation is computed only where somebody listens for its line.
    """

    on_step: Callable[[Trainer], None] | None = None
    on_metrics: Callable[[Metrics], None] | None = None
    on_epoch: Callable[[Trainer], None] | None = None
    should_stop: Callable[[], bool] = lambda: False

    def step(self, trainer: Trainer) -> None:
        """A step, or on a device a part of many, is done."""
        if self.on_step is not None:
            self.on_step(trainer)

    def metrics(self, line: Metrics) -> None:
        """A metrics line has come."""
        if self.on_metrics is not None:
            self.on_metrics(line)

    def epoch(self, trainer: Trainer) -> None:
        """An epoch has ended: its validation line, then the end itself."""
        if self.on_metrics is not None and trainer.validation is not None:
            self.on_metrics(trainer.validation_line())
        if self.on_epoch is not None:
            self.on_epoch(trainer)
