"""The one place that chooses how a training runs: a step at a time on the host, or queued ahead on a device."""

from __future__ import annotations

from collections.abc import Callable

from vae_np.training import device_loop, host_loop
from vae_np.training.listeners import Listeners
from vae_np.training.trainer import Metrics, Trainer


def run(
    trainer: Trainer,
    *,
    on_step: Callable[[Trainer], None] | None = None,
    on_metrics: Callable[[Metrics], None] | None = None,
    on_epoch: Callable[[Trainer], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Train until `config.epochs` are done; True if they are, False if `should_stop` said so.

    The trainer may be fresh or restored; it goes on from the step at which it stands. On a device `on_step` is called
    once per part of many steps, and a stop comes between two parts. Raises NonFiniteError, with the tensor's name and
    the step, as soon as a loss or gradient is not finite, and what the backend raises.
    """
    listeners = Listeners(on_step, on_metrics, on_epoch, should_stop)
    steps = device_loop.resident_steps(trainer)
    return host_loop.run(trainer, listeners) if steps is None else device_loop.run(trainer, steps, listeners)
