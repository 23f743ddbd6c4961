"""Processes that MPI connects, by mpi4py: the only module that imports it, and only when it is asked for.

Waiting is polite: MPI's own waits keep a core busy, which another process of the same machine may need. Here a wait
looks for a while, and offers its core to others between two looks; then it sleeps between them.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NoReturn

import numpy as np
from mpi4py import MPI

from vae_np._types import Array
from vae_np.distributed.communicator import Communicator
from vae_np.errors import LostRankError

# Seconds of looking: more than the ranks of a step are apart; then the length of a sleep.
_LOOK, _NAP = 0.02, 5e-4
# Seconds after which a wait looks whether the others are still there.
_PATIENCE = 2.0
# Waits that have not ended.
_PENDING: list[Any] = []
_yield = getattr(os, "sched_yield", lambda: time.sleep(0))


class MpiCommunicator(Communicator):
    """The processes of an mpi4py communicator."""

    def __init__(self, communicator: Any) -> None:
        self._mpi = communicator
        self.rank, self.size = communicator.Get_rank(), communicator.Get_size()
        self._here: dict[int, int] = {}

    def alltoall(self, send: Array, to: Sequence[slice], receive: Array, of: Sequence[slice]) -> None:
        self._wait(self._mpi.Ialltoallv(_parts(send, to), _parts(receive, of)))

    def allgather(self, buffer: Array, parts: Sequence[slice]) -> None:
        self._wait(self._mpi.Iallgatherv(MPI.IN_PLACE, _parts(buffer, parts)))

    def barrier(self) -> None:
        self._wait(self._mpi.Ibarrier())

    def _wait(self, request: Any) -> None:
        """Wait for a request to end; between two looks Python hears an interrupt. Raises LostRankError."""
        started = time.perf_counter()
        _PENDING.append(request)
        while not request.Test():
            waited = time.perf_counter() - started
            if waited < _LOOK:
                _yield()
                continue
            time.sleep(_NAP)
            if waited > _PATIENCE:
                self._check_others()
                started = time.perf_counter() - _LOOK
        _PENDING.pop()

    def watch(self) -> None:
        """Learn the numbers of the processes on this machine: a wait that lasts then looks whether they are there.

        A launcher ends all ranks when it loses one, but not every launcher, nor with every setting.
        """
        said = [json.loads(text) for text in self.gather_bytes(json.dumps([platform.node(), os.getpid()]).encode())]
        self._here = {rank: pid for rank, (host, pid) in enumerate(said) if host == platform.node()}

    def _check_others(self) -> None:
        for rank, pid in self._here.items():
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                raise LostRankError(f"rank {rank} (process {pid}) is gone") from None
            except PermissionError:
                continue

    def abort(self, code: int) -> NoReturn:
        self._mpi.Abort(code)
        raise AssertionError("not reached")

    @cached_property
    def node(self) -> Communicator:
        return MpiCommunicator(self._mpi.Split_type(MPI.COMM_TYPE_SHARED))

    def duplicate(self) -> MpiCommunicator:
        """The same processes, whose messages these are kept apart from."""
        return MpiCommunicator(self._mpi.Dup())

    def ends(self, code: int, seconds: float) -> tuple[list[int], bool] | None:
        """The exit codes of all processes, and whether they can leave MPI; None where one has not come in that time.

        They cannot where one was interrupted in a wait: what it waited for would never end.
        """
        said = np.zeros(2 * self.size, np.int64)
        said[2 * self.rank : 2 * self.rank + 2] = code, len(_PENDING)
        parts = [slice(2 * r, 2 * r + 2) for r in range(self.size)]
        request = self._mpi.Iallgatherv(MPI.IN_PLACE, _parts(said, parts))
        limit = time.monotonic() + seconds
        while not request.Test():
            if time.monotonic() > limit:
                return None
            time.sleep(_NAP)
        return [int(found) for found in said[::2]], not said[1::2].any()


def _parts(buffer: Array, parts: Sequence[slice]) -> list[Any]:
    return [buffer, ([part.stop - part.start for part in parts], [part.start for part in parts])]


def finalize() -> None:
    """Leave MPI; nothing of it can be used afterwards."""
    if not MPI.Is_finalized():
        MPI.Finalize()
