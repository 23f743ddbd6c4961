"""Where a step's time goes on a CUDA device: each kernel alone, and the whole step, in microseconds.

    python bench/profile_gpu.py pt kingma iwae iwae50 large --results bench/results

A kernel is timed as its repetitions in one graph, with the arguments and on the data that it has in the step. The
kernels' sum is more than the step where one kernel begins while another one ends, and less where they wait.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from interleaved_gpu import WORKLOADS
from on_gpu import environment
from workloads import SEED, Workload, grey_batches

from vae_np import __version__
from vae_np.kernels.gpu import _device, fused
from vae_np.kernels.gpu._device import Launch
from vae_np.model import initialise
from vae_np.step import Optimiser, TrainingState

_REPEATS, _ROUNDS = 100, 7
# An idle device needs a while until its clock is up.
_WARM_SECONDS = 0.3
_ROW = "{:<28}{:>12}{:>9}{:>10}"


class _Named:
    """A door that remembers which kernel each launch is of, and over how many blocks."""

    def __init__(self, door: Any) -> None:
        self._door, self.names = door, list[tuple[str, int]]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._door, name)

    def prepare(self, kernel: str, precision: Any, grid: tuple[int, ...], *rest: Any) -> Launch:
        self.names.append((kernel, int(np.prod(grid))))
        launch: Launch = self._door.prepare(kernel, precision, grid, *rest)
        return launch


def run(workload: Workload) -> list[dict[str, Any]]:
    """Each kernel of a step in order, then their sum and the step itself: its name, blocks and microseconds."""
    x = grey_batches(workload)[0]
    door = _Named(_device.device())
    with _device.use(door):
        state = TrainingState(initialise(workload.arch, seed=SEED))
        steps = fused.FusedRun(
            workload.arch, state, workload.batch, x.reshape(-1, x.shape[-1]), seed=SEED, optimiser=Optimiser(),
            draw=True, samples=workload.samples,
        )  # fmt: skip
        for parity in (0, 1):
            steps.order(parity, np.arange(x.shape[0] * x.shape[1]))
        until = time.perf_counter() + _WARM_SECONDS
        steps.steps(fused.GRAPH_STEPS).result()
        while time.perf_counter() < until:
            steps.steps(fused.GRAPH_STEPS).result()
        steps.pull()

        def timed(*launches: Launch) -> float:
            """On the state that the training has left: Adam over and over on one gradient ends far from any model."""
            steps.push()
            return _microseconds(door, launches)

        whole = timed(*steps.launches)
        found: list[dict[str, Any]] = [
            {"kernel": name, "blocks": blocks, "microseconds": timed(launch)}
            for (name, blocks), launch in zip(door.names, steps.launches, strict=True)
        ]
    total = sum(one["microseconds"] for one in found)
    ends = {"all kernels": total, "the step": whole}
    return found + [{"kernel": name, "blocks": None, "microseconds": value} for name, value in ends.items()]


def _microseconds(door: Any, launches: Sequence[Launch]) -> float:
    replay: Callable[[], None] = door.graph(launches, _REPEATS)
    last = door.empty((1,), np.uint8)
    replay()
    door.get(last)
    times = []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        replay()
        # A copy home waits for all that was queued.
        door.get(last)
        times.append(1e6 * (time.perf_counter() - started) / _REPEATS)
    return median(times)


def main() -> int:
    """Print a table per workload, and keep them all in one file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workloads", nargs="*", default=["pt", "kingma", "iwae", "iwae50", "large"])
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    given = parser.parse_args()
    tables = {}
    for name in given.workloads:
        tables[name] = run(WORKLOADS[name])
        print(_ROW.format(f"{name}: kernel", "microseconds", "blocks", "share"))
        whole = tables[name][-2]["microseconds"]
        for one in tables[name]:
            share = f"{one['microseconds'] / whole:.0%}"
            print(_ROW.format(one["kernel"], f"{one['microseconds']:.2f}", one["blocks"] or "", share), flush=True)
    given.results.mkdir(parents=True, exist_ok=True)
    target = given.results / "gpu-profile.json"
    whole_file = {
        "schema": "vae-np/bench/1",
        "version": __version__,
        "profiles": tables,
        "environment": environment(Path(__file__).parent),
    }
    target.write_text(json.dumps(whole_file, indent=2) + "\n", encoding="utf-8")
    print(f"wrote {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
