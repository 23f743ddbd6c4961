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
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contestants import Contest


class Worker:
    """The contestants of a role, and what can be asked about them."""

    def __init__(self, role: str, threads: int, answers: IO[str]) -> None:
        self.role, self.threads, self.answers = role, threads, answers
        self.contest: Contest = {}

    def answer(self, **content: Any) -> None:
        """Write one line of the answer."""
        self.answers.write(json.dumps(content) + "\n")
        self.answers.flush()

    def build(self, what: str, workload: str, backend: str) -> dict[str, dict[str, dict[str, Any]]]:
        """Make all contestants, and tell what is to be known of them."""
        import contestants

        from vae_np import backends

        if self.role == "ours":
            backends.choose(backend).on_compile(lambda: self.answer(note="compiling"))
        self.contest = contestants.build(self.role, what, workload, backend, self.threads)
        return {
            title: {
                name: {key: getattr(one, key) for key in ("steps", "sparse", "is_peer", "is_floor")}
                for name, one in everyone.items()
            }
            for title, everyone in self.contest.items()
        }

    def call(self, title: str, name: str, repeats: int) -> float:
        """Seconds that so many calls take."""
        call = self.contest[title][name].call
        started = time.perf_counter()
        for _ in range(repeats):
            call()
        return time.perf_counter() - started

    def check(self, title: str, name: str) -> dict[str, tuple[float, float]]:
        """The figures that everyone has to agree on, each with its error; none where nothing is checked."""
        check = self.contest[title][name].check
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
