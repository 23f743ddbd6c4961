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
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from workloads import ADAM_BYTES, AFTER, STEP, WORKLOADS, parameter_count

from vae_np.precision import FULL

__all__ = ["PEERS", "WHATS", "WORKLOADS", "BenchError", "Found", "run"]

WHATS = ("ops", "step", "eval")
PEERS = ("torch", "jax")
FLOOR, FLUSHED = "gemm only", "torch flushed"
# A turn takes about so many seconds; before it, threads of others that still spin have time to fall asleep.
TURN_SECONDS, PAUSE_SECONDS, MOST_CALLS = 0.1, 0.03, 1000
# The first round does not count and is long: our steps find out meanwhile how many threads are worth it.
WARM_SECONDS = 1.0
_HEAT_ROUNDS = 3


class BenchError(RuntimeError):
    """A contestant failed, or computes something else than the others."""


@dataclass
class Found:
    """What a benchmark found: `results` as the JSON has them, and what belongs to `environment`."""

    results: list[dict[str, Any]] = field(default_factory=list)
    first_calls_ms: dict[str, dict[str, float]] = field(default_factory=dict)
    heats: dict[str, dict[str, str]] = field(default_factory=dict)
    bandwidth_gb_s: dict[str, float] = field(default_factory=dict)


def environment() -> dict[str, str]:
    """The variables of this process, less those that slow a library down for everyone but us."""
    return {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}


@contextmanager
def confine(threads: int) -> Iterator[None]:
    """This process on so many processors, as a worker is."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[-threads:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Process:
    """A worker and what it has built; `note` hears what it has to say in the meantime.

    It takes the package from the folder `root`, where one is named: another revision's.
    """

    def __init__(self, role: str, threads: int, note: Callable[[str], None], root: Path | None = None) -> None:
        blas = "1" if role == "slabs" else str(threads)
        limits = {"OPENBLAS_NUM_THREADS": blas, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        if root is not None:
            limits["PYTHONPATH"] = str(root)
        self.role, self._note = role, note
        self._said = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115  # closed with the process
        # A session of its own: Ctrl-C reaches the command alone, which then ends its workers.
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("worker.py")), role, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env={**environment(), **limits},
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
    heat: str | None
    workload: str
    state: str | None

    def begin(self) -> None:
        """Go to the state that every turn begins with: each times the same steps of the same training."""
        self.process.ask("begin", self.title, self.name, self.workload, self.state)

    def seconds(self, calls: int) -> float:
        """What so many calls take."""
        return float(self.process.ask("call", self.title, self.name, calls))

    def turn(self, lasting: float) -> float:
        """Milliseconds per step in one turn of about so many seconds, after a call that is not counted."""
        self.begin()
        time.sleep(PAUSE_SECONDS)
        calls = int(np.clip(lasting / max(self.seconds(1), 1e-9), 1, MOST_CALLS))
        return 1e3 * self.seconds(calls) / (calls * self.steps)


def run(
    what: str, name: str, backend: str, peers: list[str], threads: int, rounds: int, note: Callable[[str], None],
    *, after: int | None = None, precision: str = FULL,
) -> Found:  # fmt: skip
    """All results of one kind on one workload. Raises BenchError if a contestant is wrong, before or after the timing.

    Steps are timed from the start, and after `after` steps of training: an epoch if it is None. `note` hears of
    compilation and of what is being timed. Steps in another `precision` than full have no floors, and of the peers only
    those in that precision take part.
    """
    workload, ours = WORKLOADS[name], "ours" if backend != "numpy" else "blas"
    flushed = [FLUSHED] if what == "step" and "torch" in peers else []
    roles = [*dict.fromkeys((ours, "blas")), *([] if what == "ops" else ["slabs"]), *peers, *flushed]
    if precision != FULL:
        roles = [ours, *peers]
    found = Found()
    with ExitStack() as stack:
        saved: str | None = None
        processes = {role: stack.enter_context(Process(role, threads, note)) for role in roles}
        contests: dict[str, list[Entrant]] = {}
        if what == "step":
            steps = workload.epoch if after is None else after
            saved = str(Path(stack.enter_context(tempfile.TemporaryDirectory())) / "state.npz")
            note(f"training {steps} steps, from which everyone goes on")
            processes[ours].ask("train", name, backend, steps, saved)
        for process in processes.values():
            for title, everyone in process.ask("build", what, name, backend, precision).items():
                state = None if title == STEP else saved
                contests.setdefault(title, []).extend(
                    Entrant(process, title, who, workload=name, state=state, **described)
                    for who, described in everyone.items()
                )
        for title, entrants in contests.items():
            # Grey x has no pixels to draw: only the floor would be left.
            if all(entrant.heat == FLOOR for entrant in entrants):
                continue
            _time(title, name, entrants, threads, rounds, found)
        if what == "step" and precision == FULL:
            triad = next(result["median_ms"] for result in found.results if result["backend"] == "triad")
            moved = ADAM_BYTES * parameter_count(workload)
            found.bandwidth_gb_s = {"parameters": 1e-6 * moved / triad, "memory": processes["slabs"].ask("bandwidth")}
    return found


def _time(title: str, workload: str, entrants: list[Entrant], threads: int, rounds: int, found: Found) -> None:
    """Time everyone of one title, and add the results to what was found."""
    first: dict[str, float] = {}
    for one in entrants:
        one.begin()
        first[one.name] = 1e3 * one.seconds(1)
    found.first_calls_ms[title] = first
    # After training it is the same contestants that go on, but for the flushed ones.
    _agree(title, [one for one in entrants if title != AFTER or one.heat == FLUSHED], "check")
    entrants = _winners(title, entrants, found)
    times = _turns(entrants, rounds, WARM_SECONDS)
    _agree(title, entrants, "check_after")
    quartiles = {who: [float(q) for q in np.quantile(taken, [0.25, 0.5, 0.75])] for who, taken in times.items()}
    fastest = min((quartiles[one.name][1] for one in entrants if one.is_peer), default=None)
    floor = next((quartiles[one.name][1] for one in entrants if one.heat == FLOOR), None)
    for one in entrants:
        q25, median, q75 = quartiles[one.name]
        found.results.append(
            {
                "what": title,
                "workload": workload,
                "backend": one.heat or one.name,
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


def _winners(title: str, entrants: list[Entrant], found: Found) -> list[Entrant]:
    """The fastest of each heat by a few rounds, and everyone who is in none."""
    heats = {one.heat: [other for other in entrants if other.heat == one.heat] for one in entrants if one.heat}
    best = {}
    for heat, rivals in heats.items():
        times = _turns(rivals, _HEAT_ROUNDS, TURN_SECONDS)
        best[heat] = min(rivals, key=lambda one, of=times: float(np.median(of[one.name])))
        found.heats.setdefault(title, {})[heat] = best[heat].name
    return [one for one in entrants if one.heat is None or best[one.heat] is one]


def _turns(entrants: list[Entrant], rounds: int, warm: float) -> dict[str, list[float]]:
    """Milliseconds per step, of `rounds` turns each, after one of `warm` seconds that is not counted."""
    times: dict[str, list[float]] = {one.name: [] for one in entrants}
    for number in range(rounds + 1):
        for one in entrants:
            taken = one.turn(TURN_SECONDS if number else warm)
            if number > 0:
                times[one.name].append(taken)
    return times


def _agree(title: str, entrants: Iterable[Entrant], check: str) -> None:
    """Has everyone check itself, and compares: two figures may differ by both errors together."""
    first: dict[str, tuple[str, float, float]] = {}
    for one in entrants:
        for figure, (value, error) in one.process.ask(check, title, one.name).items():
            who, other, its_error = first.setdefault(figure, (one.name, value, error))
            if not abs(value - other) <= error + its_error:
                raise BenchError(f"{title}: {figure} of {one.name} is {value:.6g}, but of {who} {other:.6g}")
