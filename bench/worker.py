"""One process of a benchmark: it limits itself to a number of processors, builds its contestants, and calls them when
told.

Started by `interleaved.py` as `python worker.py ROLE THREADS`. Each line of standard input is a request, a JSON list of
a method's name and its arguments; each line of the answer is {"note": …}, {"result": …} or {"error": …}.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contestants import Contest

    from vae_np.step import TrainingState


class Worker:
    """The contestants of a role, and what can be asked about them."""

    def __init__(self, role: str, threads: int, answers: IO[str]) -> None:
        self.role, self.threads, self.answers = role, threads, answers
        self.contest: Contest = {}
        self.states: dict[tuple[str, str | None], TrainingState] = {}

    def answer(self, **content: Any) -> None:
        """Write one line of the answer."""
        self.answers.write(json.dumps(content) + "\n")
        self.answers.flush()

    def build(
        self, what: str, workload: str, backend: str, precision: str = "full"
    ) -> dict[str, dict[str, dict[str, Any]]]:
        """Make all contestants, and tell what is to be known of them."""
        import contestants

        from vae_np import backends

        if self.role in ("ours", contestants.ALONE):
            backends.choose(backend).on_compile(lambda: self.answer(note="compiling"))
        self.contest = contestants.build(self.role, what, workload, backend, self.threads, precision)
        return {
            title: {
                name: {key: getattr(one, key) for key in ("steps", "sparse", "is_peer", "heat")}
                for name, one in everyone.items()
            }
            for title, everyone in self.contest.items()
        }

    def package(self) -> str:
        """Where the package that it times lies."""
        import vae_np

        return str(Path(vae_np.__file__).resolve().parents[1])

    def train(self, workload: str, backend: str, steps: int, path: str) -> None:
        """Write the state after so many steps."""
        import contestants
        import workloads

        workloads.save(contestants.trained(workload, backend, steps), Path(path))

    def begin(self, title: str, name: str, workload: str, path: str | None) -> None:
        """Take a contestant to the start, or to the state in a file."""
        import workloads

        begin = self.contest[title][name].begin
        if begin is not None:
            if (workload, path) not in self.states:
                known = workloads.WORKLOADS[workload]
                self.states[workload, path] = (
                    workloads.start(known) if path is None else workloads.load(known, Path(path))
                )
            begin(self.states[workload, path])

    def call(self, title: str, name: str, repeats: int) -> float:
        """Seconds that so many calls take."""
        call = self.contest[title][name].call
        started = time.perf_counter()
        for _ in range(repeats):
            call()
        return time.perf_counter() - started

    def check(self, title: str, name: str) -> dict[str, tuple[float, float]]:
        """The figures that everyone has to agree on before the timing, each with its error; none where none are."""
        check = self.contest[title][name].check
        return {} if check is None else check()

    def check_after(self, title: str, name: str) -> dict[str, tuple[float, float]]:
        """The same after the timing."""
        check = self.contest[title][name].check_after
        return {} if check is None else check()

    def bandwidth(self) -> float:
        """GB/s of the memory."""
        from triad import memory_bandwidth

        return memory_bandwidth(self.threads)


def main() -> None:
    """Serve requests until standard input ends."""
    role, threads = sys.argv[1], int(sys.argv[2])
    # Before any library is loaded: they count processors then. What a library prints must not get among the answers.
    if hasattr(os, "sched_setaffinity"):
        # The last ones: the first also serves interrupts.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = Worker(role, threads, answers)
    for line in sys.stdin:
        method, *arguments = json.loads(line)
        try:
            worker.answer(result=getattr(worker, method)(*arguments))
        except Exception as error:
            text = " ".join(str(error).split())
            worker.answer(error=text if isinstance(error, AssertionError) else f"{type(error).__name__}: {text}")


if __name__ == "__main__":
    main()
