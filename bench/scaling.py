"""What a step costs that several ranks share, with its parts, beside one rank with as many threads. [docs/scaling.md]

    python bench/scaling.py                        the rounds, in turns, and the ratios of medians
    mpiexec -n 2 python bench/scaling.py --rank    what one of them runs

A rank has one thread where several share the cores. Replicated Adam, with which each rank updates everything, is timed
beside the sharded one that is used.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

STEPS = {"wide": 40, "pt": 400}


class Timed:
    """A communicator that counts the seconds of its calls."""

    def __init__(self, inner: Any) -> None:
        self._inner, self.seconds = inner, {"alltoall": 0.0, "allgather": 0.0}
        self.rank, self.size = inner.rank, inner.size

    def _timed(self, name: str, *args: Any) -> None:
        started = time.perf_counter()
        getattr(self._inner, name)(*args)
        self.seconds[name] += time.perf_counter() - started

    def alltoall(self, *args: Any) -> None:
        self._timed("alltoall", *args)

    def allgather(self, *args: Any) -> None:
        self._timed("allgather", *args)


def rank_main(workload: str, threads: int, blocks: int, *, replicated: bool) -> None:
    """Steps of one rank; rank 0 prints the median seconds of a step, and those of the fastest one with its parts.

    On a machine that others use, too, the fastest step is the one that was disturbed least.
    """
    import numpy as np
    from workloads import WORKLOADS, grey_batches

    from vae_np import backends, data
    from vae_np.config import Config
    from vae_np.distributed import ALONE, of
    from vae_np.training import gradient_blocks
    from vae_np.training.trainer import Trainer

    communicator: Any = ALONE
    if blocks > 1:
        from mpi4py import MPI

        communicator = Timed(of(MPI.COMM_WORLD))
    how = WORKLOADS[workload]
    x, rows = grey_batches(how)
    config = Config(
        hidden=how.arch.hidden, latent=how.arch.latent, activation=how.arch.activation, batch_size=how.batch,
        gradient_blocks=blocks, values="byte", scale=255.0,
    )  # fmt: skip
    trainer = Trainer(
        config, backends.choose("numba", threads), x.reshape(-1, 784), data.Values.named("byte", None),
        communicator=communicator,
    )  # fmt: skip
    updates = [0.0]
    plain = gradient_blocks.apply_gradients

    def update(ops: Any, state: Any, optimiser: Any, part: slice) -> None:
        if replicated:
            # Everyone needs the whole gradient, and then no parameters.
            communicator.allgather(state.gradients.flat, trainer.blocks._parts)  # type: ignore[union-attr]
        started = time.perf_counter()
        plain(ops, state, optimiser, slice(None) if replicated else part)
        updates[0] += time.perf_counter() - started

    gradient_blocks.apply_gradients = update
    if replicated:
        gather = communicator.allgather
        parameters = trainer.state.parameters.flat
        communicator.allgather = lambda buffer, parts: None if buffer is parameters else gather(buffer, parts)
    optimiser, steps = trainer.optimiser(0), STEPS[workload]
    places = np.arange(len(rows) * how.batch).reshape(-1, how.batch)
    took = []
    for number in range(steps + 8):
        updates[0] = 0.0
        if blocks > 1:
            communicator.seconds.update(alltoall=0.0, allgather=0.0)
        started = time.perf_counter()
        trainer.step(places[number % len(places)], optimiser)
        seconds = {"fastest": time.perf_counter() - started}
        took.append({**seconds, **getattr(communicator, "seconds", {}), "update": updates[0]})
    found = min(took[8:], key=lambda one: one["fastest"])
    found["median"] = statistics.median(one["fastest"] for one in took[8:])
    if blocks > 1:
        found["bytes"] = trainer.blocks.bytes_per_step  # type: ignore[union-attr]
    if communicator.rank == 0:
        print(json.dumps(found))


def measure(workload: str, ranks: int, threads: int, blocks: int, *more: str) -> dict[str, float]:
    """One turn in processes of its own."""
    launcher = ["mpiexec", "-n", str(ranks)] if blocks > 1 else []
    own = ["--rank", "--workload", workload, "--threads", str(threads), "--blocks", str(blocks), *more]
    command = [*launcher, sys.executable, str(Path(__file__)), *own]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def rounds(workload: str, count: int, ranks: Sequence[int]) -> None:
    """Turns of all settings, and their medians over the rounds."""
    kinds: dict[str, tuple[Any, ...]] = {"1 rank, 2 threads": (1, 2, 1), "1 rank, 1 thread": (1, 1, 1)}
    for size in ranks:
        kinds[f"{size} ranks, 1 thread each"] = size, 1, size
    kinds["2 ranks, replicated Adam"] = 2, 1, 2, "--replicated"
    found: dict[str, list[dict[str, float]]] = {name: [] for name in kinds}
    for _ in range(count):
        for name, kind in kinds.items():
            found[name].append(measure(workload, *kind))
    print(f"{workload}: the fastest step of {count} rounds, in ms, and the median of their medians")
    base = min(one["fastest"] for one in found["1 rank, 2 threads"])
    for name, ones in found.items():
        parts = min(ones, key=lambda one: one["fastest"])
        parts["median"] = statistics.median(one["median"] for one in ones)
        ratio = base / parts["fastest"]
        told = ", ".join(f"{key} {1e3 * value:.3f}" for key, value in parts.items() if key != "bytes")
        print(f"  {name:<26} {told}, {parts.get('bytes', 0) / 1e6:.2f} MB; speed {ratio:.2f} of the first")


def main() -> None:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rank", action="store_true")
    parser.add_argument("--workload", default="wide", choices=STEPS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--blocks", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ranks", type=int, nargs="*", default=[2, 4])
    parser.add_argument("--replicated", action="store_true")
    given = parser.parse_args()
    if given.rank:
        rank_main(given.workload, given.threads, given.blocks, replicated=given.replicated)
    else:
        rounds(given.workload, given.rounds, given.ranks)


if __name__ == "__main__":
    main()
