"""How much of a composed training step is the draw from q, for each family: `python bench/profile_flows.py [ROUNDS]`.

The steps of all families take turns, with the fused step of the diagonal one among them, on the workload `pt` and the
Numba backend. A clock around the family's `draw_forward` and `draw_backward` gives the draw's part; what a fused loop
could save at most is that, and what the composed step loses beside the fused one. It prints JSON, medians in ms.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import Any

from workloads import WORKLOADS, given_batches

from vae_np import backends
from vae_np.choices import POSTERIORS
from vae_np.model import initialise
from vae_np.posteriors import FAMILIES
from vae_np.step import Optimiser, TrainingState, training_step

_WARM = 20


class Clock:
    """The seconds spent in some functions since it was last read."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, whose time is counted."""

        def timed(*args: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*args)
            finally:
                self.seconds += time.perf_counter() - started

        return timed

    def read(self) -> float:
        """The seconds, and a new count."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds


def main(rounds: int) -> dict[str, Any]:
    """Each family's step and draw in ms, by its name."""
    workload, backend, clock = WORKLOADS["pt"], backends.choose("numba"), Clock()
    batches, places = given_batches(workload)
    for kind in FAMILIES.values():
        for name in ("draw_forward", "draw_backward"):
            setattr(kind, name, clock.around(getattr(kind, name)))
    states = {}
    for posterior in POSTERIORS:
        arch = replace(workload.arch, posterior=posterior)
        states[posterior] = arch, TrainingState(initialise(arch, seed=0))
    fused_state = TrainingState(initialise(workload.arch, seed=0))
    fused = backend.fused_step(workload.arch, fused_state, workload.batch)
    assert fused is not None
    steps: dict[str, list[float]] = {name: [] for name in ("fused", *POSTERIORS)}
    draws: dict[str, list[float]] = {name: [] for name in POSTERIORS}
    for number in range(_WARM + rounds):
        x, rows = batches[number % len(batches)], places[number % len(batches)]
        started = time.perf_counter()
        fused(x, rows, seed=0, optimiser=Optimiser())
        took = {"fused": time.perf_counter() - started}
        drew = {}
        for posterior, (arch, state) in states.items():
            clock.read()
            started = time.perf_counter()
            training_step(backend.ops, arch, state, x, rows, seed=0, optimiser=Optimiser())
            took[posterior], drew[posterior] = time.perf_counter() - started, clock.read()
        if number >= _WARM:
            for name, seconds in took.items():
                steps[name].append(seconds)
            for name, seconds in drew.items():
                draws[name].append(seconds)
    found: dict[str, Any] = {name: {"step_ms": 1e3 * median(times)} for name, times in steps.items()}
    for name, times in draws.items():
        found[name] |= {
            "draw_ms": 1e3 * median(times),
            "share": median(draw / step for draw, step in zip(times, steps[name], strict=True)),
        }
    return found


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    print(json.dumps({"rounds": count, "families": main(count)}, indent=2))
