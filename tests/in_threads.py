"""A communicator whose processes are threads of this one: quick, and as many as are wanted on any machine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np

from vae_np.distributed import Communicator


class _Board:
    """Where threads put what the others read, between two barriers."""

    def __init__(self, size: int) -> None:
        self.barrier, self.shown = threading.Barrier(size, timeout=60), [None] * size


class InThreads(Communicator):
    def __init__(self, board: _Board, rank: int, size: int) -> None:
        self._board, self.rank, self.size = board, rank, size
        # Bytes that went to others or came from them.
        self.moved = 0

    def _show(self, what: Any) -> list[Any]:
        self._board.shown[self.rank] = what
        self._board.barrier.wait()
        return list(self._board.shown)

    def alltoall(self, send: Any, to: Sequence[slice], receive: Any, of: Sequence[slice]) -> None:
        for rank, (buffer, theirs) in enumerate(self._show((send, to))):
            receive[of[rank]] = buffer[theirs[self.rank]]
            self.moved += 0 if rank == self.rank else receive[of[rank]].nbytes + send[to[rank]].nbytes
        self._board.barrier.wait()

    def allgather(self, buffer: Any, parts: Sequence[slice]) -> None:
        for rank, theirs in enumerate(self._show(np.array(buffer[parts[self.rank]]))):
            buffer[parts[rank]] = theirs
            self.moved += 0 if rank == self.rank else theirs.nbytes + buffer[parts[self.rank]].nbytes
        self._board.barrier.wait()

    def barrier(self) -> None:
        self._board.barrier.wait()

    def abort(self, code: int) -> NoReturn:
        raise SystemExit(code)

    @property
    def node(self) -> Communicator:
        return self


def together(size: int, body: Callable[[Communicator], Any]) -> list[Any]:
    """What `body` returns in each of `size` threads; an exception is returned in its place, and ends the others."""
    board, found = _Board(size), [None] * size

    def run(rank: int) -> None:
        try:
            found[rank] = body(InThreads(board, rank, size))
        except BaseException as error:
            found[rank] = error  # type: ignore[call-overload]
            if not isinstance(error, threading.BrokenBarrierError):
                # All of them raise what all have noticed; who waits for one that will not come is let go.
                threading.Timer(1.0, board.barrier.abort).start()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def results(size: int, body: Callable[[Communicator], Any]) -> list[Any]:
    """The same, and the first exception is raised."""
    found = together(size, body)
    for one in found:
        if isinstance(one, BaseException):
            raise one
    return found
