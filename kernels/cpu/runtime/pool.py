"""The one pool of threads: Python threads that run compiled code without the GIL, each a slab of the work.

Neither Numba's threads nor a BLAS's are used, so nothing has to be switched off around a call and put back after it. A
second Python thread that comes while the pool is at work does its own work alone; results do not depend on that.
"""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from numba.core import config

from vae_np.errors import InputError

_Job = tuple[Callable[..., Any], tuple[Any, ...]]


# Seconds of one wait for results.
_TURN = 0.1


def available() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Pool:
    """Workers that are started when first needed, and again in the child after a fork."""

    def __init__(self) -> None:
        self.threads = 1 if config.DISABLE_JIT else available()
        self.reset()

    def reset(self) -> None:
        self.lock = threading.Lock()
        self.inboxes: list[queue.SimpleQueue[_Job]] = []
        # Counts resets: after a fork, who believed that a worker is waiting for him has to know that it is gone.
        self.generation = getattr(self, "generation", -1) + 1
        # Asks workers that wait inside compiled code for one caller's next job to come back to their inboxes.
        self.dismiss: Callable[[], None] | None = None

    def claim(self, dismiss: Callable[[], None] | None = None) -> None:
        """Get the workers back from who used them last; `dismiss` is how the next one does. The lock is held.

        Who comes looks whether the lock is free, and works alone if not; then takes it by `with`: no exception can
        come between, not even Ctrl-C, as it can between a function that takes it and whoever has to give it back.
        """
        if self.dismiss is not None and self.dismiss != dismiss:
            self.dismiss()
        self.dismiss = dismiss

    def submit(self, worker: int, body: Callable[..., None], *args: Any) -> None:
        """Have worker 1, 2, … call body(*args), which is to catch what it raises."""
        while len(self.inboxes) < worker:
            inbox: queue.SimpleQueue[_Job] = queue.SimpleQueue()
            threading.Thread(target=_work, args=(inbox,), name="vae-np", daemon=True).start()
            self.inboxes.append(inbox)
        self.inboxes[worker - 1].put((body, args))


def _work(inbox: queue.SimpleQueue[_Job]) -> None:
    while True:
        body, args = inbox.get()
        body(*args)
        # Nothing is kept alive by who waits for the next job.
        del body, args


POOL = _Pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=POOL.reset)


def threads() -> int:
    """How many threads a large operation uses."""
    return POOL.threads


def set_threads(count: int) -> None:
    """Use `count` threads from now on. Raises InputError for less than one or more than there are processors."""
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= available():
        raise InputError(f"threads: got {count!r}, expected a whole number from 1 to {available()}, this machine's")
    POOL.threads = 1 if config.DISABLE_JIT else count


def run(body: Callable[..., Any], *args: Any, work: float) -> None:
    """body(part, parts, *args) for every part at once; `work` in nanoseconds decides if that is worth waking threads.

    Whoever is free takes the next part, so that nobody waits for a thread that has not come. Waits for all parts, and
    raises what the first of them raised.
    """
    count = POOL.threads
    if count == 1 or work < 200_000 or POOL.lock.locked():
        body(0, 1, *args)
        return
    with POOL.lock:
        POOL.claim()
        shared = _Shared(body, count, args)
        for worker in range(1, count):
            POOL.submit(worker, shared.work)
        shared.work()
        shared.wait()


class _Shared:
    """The parts of one call: those that nobody has taken, and what came of the others."""

    def __init__(self, body: Callable[..., Any], count: int, args: tuple[Any, ...]) -> None:
        self.body, self.count, self.args = body, count, args
        self.left = deque(range(count))
        self.results: queue.SimpleQueue[tuple[int, BaseException | None]] = queue.SimpleQueue()

    def work(self) -> None:
        """Take parts while there are any."""
        while True:
            try:
                part = self.left.popleft()
            except IndexError:
                return
            error = None
            try:
                self.body(part, self.count, *self.args)
            except BaseException as raised:
                error = raised
            self.results.put((part, error))

    def wait(self) -> None:
        """Wait for the parts that others have taken; raise what the first that failed has raised."""
        found: list[tuple[int, BaseException | None]] = []
        while len(found) < self.count:
            # In turns, for on some systems an interrupt is not heard inside.
            with suppress(queue.Empty):
                found.append(self.results.get(timeout=_TURN))
        for _, error in sorted(found, key=lambda result: result[0]):
            if error is not None:
                raise error
