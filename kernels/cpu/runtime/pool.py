"""The one pool of threads: Python threads that run compiled code without the GIL, each on a slab of the work.

Neither Numba's threads nor a BLAS's are used, so nothing has to be switched off around a call and put back after it. A
second Python thread that comes while the pool is at work does its own work alone; results do not depend on that.
"""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

from numba.core import config

from vae_np.errors import InputError

from .denormals import flushed
from .processors import available, decided_by

_Job = tuple[Callable[..., Any], tuple[Any, ...]]


_LIMIT: ContextVar[int | None] = ContextVar("threads", default=None)
# Seconds of one wait for results.
_TURN = 0.1


class _Pool:
    """Workers that are started when first needed, and again in the child after a fork."""

    def __init__(self) -> None:
        # How many threads were asked for from Python, for the whole process.
        self.asked: int | None = None
        self.reset()

    @property
    def threads(self) -> int:
        """How many threads work uses now."""
        if config.DISABLE_JIT:
            return 1
        return decided_by(_LIMIT.get() or self.asked)[0]

    def reset(self) -> None:
        self.lock = threading.Lock()
        self.inboxes: list[queue.SimpleQueue[_Job]] = []
        # Counts resets: after a fork, a caller that believes a worker waits for it must learn that the worker is gone.
        self.generation = getattr(self, "generation", -1) + 1
        # Asks workers that wait inside compiled code for one caller's next job to come back to their inboxes.
        self.dismiss: Callable[[], None] | None = None

    def claim(self, dismiss: Callable[[], None] | None = None) -> None:
        """Get the workers back from their last user; `dismiss` is how the next user gets them. The lock is held.

        A caller first looks whether the lock is free, and works alone if not. Then it takes the lock by `with`, so that
        no exception, not even Ctrl-C, can come between taking the lock and releasing it.
        """
        if self.dismiss is not None and self.dismiss != dismiss:
            self.dismiss()
        self.dismiss = dismiss

    def submit(self, worker: int, body: Callable[..., None], *args: Any) -> None:
        """Have worker 1, 2, … call body(*args), which is to catch what it raises.

        Where the system gives no more threads, nothing happens: no work depends on a certain thread.
        """
        while len(self.inboxes) < worker:
            inbox: queue.SimpleQueue[_Job] = queue.SimpleQueue()
            try:
                threading.Thread(target=_work, args=(inbox,), name="vae-np", daemon=True).start()
            except RuntimeError:
                return
            self.inboxes.append(inbox)
        self.inboxes[worker - 1].put((body, args))


def _work(inbox: queue.SimpleQueue[_Job]) -> None:
    while True:
        body, args = inbox.get()
        body(*args)
        # A worker that waits for its next job must keep nothing alive.
        del body, args


POOL = _Pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=POOL.reset)


def threads() -> int:
    """How many threads a large operation uses."""
    return POOL.threads


def describe_threads() -> tuple[int, str]:
    """How many threads a large operation uses, and what decided that."""
    if config.DISABLE_JIT:
        return 1, "NUMBA_DISABLE_JIT"
    return decided_by(_LIMIT.get() or POOL.asked)


def check_threads(count: int) -> int:
    """The count, if so many threads can be used; raises InputError if not."""
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= available():
        raise InputError(f"threads: got {count!r}, expected a whole number from 1 to {available()}, this machine's")
    return count


def set_threads(count: int) -> None:
    """Use `count` threads from now on. Raises InputError for less than one or more than there are processors."""
    POOL.asked = check_threads(count)


@contextmanager
def limited(count: int) -> Iterator[None]:
    """Use `count` threads inside, in this Python thread alone."""
    token = _LIMIT.set(count)
    try:
        yield
    finally:
        _LIMIT.reset(token)


def run(body: Callable[..., Any], *args: Any, work: float) -> None:
    """body(part, parts, *args) for every part at once; `work` in nanoseconds decides if that is worth waking threads.

    A thread that is free takes the next part, so that none waits for a thread that has not come. The call waits for all
    parts, and raises what the first of them raised.
    """
    count = POOL.threads
    if count == 1 or work < 200_000 or POOL.lock.locked():
        flushed(body, 0, 1, *args)
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
                flushed(self.body, part, self.count, *self.args)
            except BaseException as raised:
                error = raised
            self.results.put((part, error))

    def wait(self) -> None:
        """Wait for the parts that others have taken; raise what the first that failed has raised."""
        found: list[tuple[int, BaseException | None]] = []
        while len(found) < self.count:
            # In turns, since on some systems an interrupt is not noticed during a wait.
            with suppress(queue.Empty):
                found.append(self.results.get(timeout=_TURN))
        for _, error in sorted(found, key=lambda result: result[0]):
            if error is not None:
                raise error
