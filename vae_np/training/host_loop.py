"""Training on the host: a step at a time, each finished before the next is asked for."""

from __future__ import annotations

import time

from vae_np._types import Array
from vae_np.training.listeners import Listeners
from vae_np.training.trainer import Trainer


def run(trainer: Trainer, listeners: Listeners) -> bool:
    """Train until all epochs are done; True if they are, False if `should_stop` said so."""
    size, per_epoch = trainer.config.batch_size, trainer.steps_per_epoch
    order: Array | None = None
    while trainer.state.step < trainer.total_steps:
        if trainer.communicator.any(listeners.should_stop()):
            trainer.settle()
            return False
        started = time.perf_counter()
        epoch, batch = trainer.place(trainer.state.step)
        if order is None or batch == 0:
            order, optimiser = trainer.order(epoch), trainer.optimiser(epoch)
        trainer.step(order[batch * size : (batch + 1) * size], optimiser)
        trainer.seconds += time.perf_counter() - started
        listeners.step(trainer)
        if trainer.line_is_due(trainer.state.step):
            # Whoever keeps the state with the line keeps all of it.
            trainer.settle()
            listeners.metrics(trainer.train_line(trainer.state.step))
        if batch == per_epoch - 1:
            listeners.epoch(trainer)
    return True
