"""Time the kernels against peers and floors, in turns, so that a busy machine is busy for all alike.

`vae-np bench` is its command line. Every role (`contestants.py`) is a process of its own, held to the same number of
processors before it loads any library; only one of them works at a time. pytest-benchmark and pyperf time one thing
after the other, so that a busy minute falls on one of them; therefore the harness is our own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from workloads import ADAM_BYTES, DRAWN, EVAL, STEP, WORKLOADS, parameter_count

__all__ = ["PEERS", "WHATS", "WORKLOADS", "BenchError", "Found", "run"]

WHATS = ("ops", "step", "eval")
PEERS = ("torch", "jax")
FLOOR = "gemm only"
# A turn takes about so many seconds; before it, threads of others that still spin have time to fall asleep.
TURN_SECONDS, PAUSE_SECONDS, MOST_CALLS = 0.1, 0.03, 1000
CHECK_STEPS = 40
_FLOOR_ROUNDS = 5


class BenchError(RuntimeError):
    """A contestant failed, or computes something else than the others."""


@dataclass
class Found:
    """What a benchmark found: `results` as the JSON has them, and what belongs to `environment`."""

    results: list[dict[str, Any]] = field(default_factory=list)
    first_calls_ms: dict[str, dict[str, float]] = field(default_factory=dict)
    gemm_only: dict[str, str] = field(default_factory=dict)
    bandwidth_gb_s: dict[str, float] = field(default_factory=dict)


class Process:
    """A worker and what it has built; `note` hears what it has to say in the meantime."""

    def __init__(self, role: str, threads: int, note: Callable[[str], None]) -> None:
        blas = "1" if role == "slabs" else str(threads)
        limits = {"OPENBLAS_NUM_THREADS": blas, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        self.role, self._note = role, note
        self._said = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115  # closed with the process
        # A session of its own: Ctrl-C reaches the command alone, which then ends its workers.
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("worker.py")), role, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env={**os.environ, **limits},
            start_new_session=True,
        )

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._said.close()

    def ask(self, method: str, *arguments: Any) -> Any:
        """The worker's answer. Raises BenchError with what went wrong there."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps([method, *arguments]) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None
        for line in self._process.stdout:
            answer = json.loads(line)
            if "note" in answer:
                self._note(answer["note"])
            elif "error" in answer:
                raise BenchError(f"{' '.join([self.role, *map(str, arguments[:2])])}: {answer['error']}")
            else:
                return answer["result"]
        raise self._ended()

    def _ended(self) -> BenchError:
        self._said.seek(0)
        said = self._said.read().split("\n")
        return BenchError(f"the process of {self.role} ended before its time: {' '.join(said[-2:-1])}")


@dataclass(frozen=True)
class Entrant:
    """A contestant as it is seen from here, `steps` per call."""

    process: Process
    title: str
    name: str
    steps: int
    sparse: bool
    is_peer: bool
    is_floor: bool

    def seconds(self, calls: int) -> float:
        """What so many calls take."""
        return float(self.process.ask("call", self.title, self.name, calls))

    def turn(self) -> float:
        """Milliseconds per step in one turn, after a call that is not counted."""
        time.sleep(PAUSE_SECONDS)
        calls = int(np.clip(TURN_SECONDS / max(self.seconds(1), 1e-9), 1, MOST_CALLS))
        return 1e3 * self.seconds(calls) / (calls * self.steps)


def run(
    what: str, name: str, backend: str, peers: list[str], threads: int, rounds: int, note: Callable[[str], None]
) -> Found:
    """All results of one kind on one workload. Raises BenchError if a contestant is wrong, before or after the timing.

    `note` hears of compilation and of what is being timed.
    """
    roles = [*(["ours"] if backend != "numpy" else []), "blas", *([] if what == "ops" else ["slabs"]), *peers]
    found = Found()
    with ExitStack() as stack:
        processes = [stack.enter_context(Process(role, threads, note)) for role in roles]
        contests: dict[str, list[Entrant]] = {}
        for process in processes:
            for title, everyone in process.ask("build", what, name, backend).items():
                entrants = contests.setdefault(title, [])
                entrants += [Entrant(process, title, who, **described) for who, described in everyone.items()]
        for title, entrants in contests.items():
            # Grey x has no pixels to draw: only the floor would be left.
            if all(entrant.is_floor for entrant in entrants):
                continue
            _time(title, name, entrants, threads, rounds, found)
        if what == "step":
            slabs = next(process for process in processes if process.role == "slabs")
            triad = next(result["median_ms"] for result in found.results if result["backend"] == "triad")
            moved = ADAM_BYTES * parameter_count(WORKLOADS[name])
            found.bandwidth_gb_s = {"parameters": 1e-6 * moved / triad, "memory": slabs.ask("bandwidth")}
    return found


def _time(title: str, workload: str, entrants: list[Entrant], threads: int, rounds: int, found: Found) -> None:
    """Time everyone of one title, and add the results to what was found."""
    found.first_calls_ms[title] = {one.name: 1e3 * one.seconds(1) for one in entrants}
    floors = [one for one in entrants if one.is_floor]
    if floors:
        times = _turns(floors, _FLOOR_ROUNDS)
        best = min(floors, key=lambda one: float(np.median(times[one.name])))
        found.gemm_only[title] = best.name
        entrants = [one for one in entrants if one is best or not one.is_floor]
    if title in (STEP, DRAWN):
        for one in entrants:
            one.seconds(CHECK_STEPS // one.steps - 1)
    _agree(title, entrants)
    times = _turns(entrants, rounds)
    _agree(title, entrants, same=title == EVAL)
    quartiles = {who: [float(q) for q in np.quantile(taken, [0.25, 0.5, 0.75])] for who, taken in times.items()}
    fastest = min((quartiles[one.name][1] for one in entrants if one.is_peer), default=None)
    floor = next((quartiles[one.name][1] for one in entrants if one.is_floor), None)
    for one in entrants:
        q25, median, q75 = quartiles[one.name]
        found.results.append(
            {
                "what": title,
                "workload": workload,
                "backend": FLOOR if one.is_floor else one.name,
                "median_ms": median,
                "q25_ms": q25,
                "q75_ms": q75,
                "rounds": rounds,
                "threads": threads,
                "sparse": one.sparse,
                "ratio_to_fastest_peer": None if fastest is None else median / fastest,
                "ratio_to_gemm_floor": None if floor is None else median / floor,
            }
        )


def _turns(entrants: list[Entrant], rounds: int) -> dict[str, list[float]]:
    """Milliseconds per step, of `rounds` turns each, after one that is not counted."""
    times: dict[str, list[float]] = {one.name: [] for one in entrants}
    for number in range(rounds + 1):
        for one in entrants:
            taken = one.turn()
            if number > 0:
                times[one.name].append(taken)
    return times


def _agree(title: str, entrants: Iterable[Entrant], *, same: bool = True) -> None:
    """Has everyone check itself, and where `same`, compares: two figures may differ by both errors together."""
    first: dict[str, tuple[str, float, float]] = {}
    for one in entrants:
        for figure, (value, error) in one.process.ask("check", title, one.name).items():
            who, other, its_error = first.setdefault(figure, (one.name, value, error))
            if same and not abs(value - other) <= error + its_error:
                raise BenchError(f"{title}: {figure} of {one.name} is {value:.6g}, but of {who} {other:.6g}")
