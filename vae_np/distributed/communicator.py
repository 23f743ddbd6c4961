"""The interface behind which processes exchange buffers, and the one for a process that is alone.

A buffer is a flat array, which goes out from where it lies and comes in where it is to be: nothing is copied or
pickled on the way. All methods but `abort` are collective: every process calls them, in the same order.
"""

from __future__ import annotations

import io
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NoReturn

import numpy as np

from vae_np._types import Array

NOTHING = slice(0, 0)


class Communicator(ABC):
    """`size` processes, of which this one has the number `rank`, from 0."""

    rank: int
    size: int

    @abstractmethod
    def alltoall(self, send: Array, to: Sequence[slice], receive: Array, of: Sequence[slice]) -> None:
        """The entries `to[r]` of `send` (flat) go to process r, and those from r come into `of[r]` of `receive`."""

    @abstractmethod
    def allgather(self, buffer: Array, parts: Sequence[slice]) -> None:
        """Process r has the entries `parts[r]` of `buffer` (flat), and all processes get all of them, in place."""

    @abstractmethod
    def barrier(self) -> None:
        """Wait until every process has come here."""

    @abstractmethod
    def abort(self, code: int) -> NoReturn:
        """End all processes at once; what started them reports the exit code."""

    @property
    @abstractmethod
    def node(self) -> Communicator:
        """The processes among these that run on the same machine."""

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that prints and writes."""
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Whether any process says so."""
        said = np.zeros(self.size, np.uint8)
        said[self.rank] = flag
        self.allgather(said, [slice(rank, rank + 1) for rank in range(self.size)])
        return bool(said.any())

    def gather_bytes(self, own: bytes) -> list[bytes]:
        """What every process gives, in the order of their numbers."""
        lengths = np.zeros(self.size, np.int64)
        lengths[self.rank] = len(own)
        self.allgather(lengths, [slice(rank, rank + 1) for rank in range(self.size)])
        ends = [0, *np.cumsum(lengths).tolist()]
        parts = [slice(first, last) for first, last in pairwise(ends)]
        whole = np.zeros(ends[-1], np.uint8)
        whole[parts[self.rank]] = np.frombuffer(own, np.uint8)
        self.allgather(whole, parts)
        return [whole[part].tobytes() for part in parts]

    def gather_arrays(self, own: Sequence[Array]) -> list[list[Array]]:
        """The arrays of every process, in the order of their numbers; each may give another number of them."""
        content = io.BytesIO()
        for array in own:
            np.save(content, array, allow_pickle=False)
        return [_arrays(given) for given in self.gather_bytes(content.getvalue())]

    def told_by_first(self, text: str) -> str:
        """The text that process 0 gives; what the others give is not used."""
        return self.gather_bytes(text.encode() if self.is_first else b"")[0].decode()

    @contextmanager
    def first_before_others(self) -> Iterator[None]:
        """Process 0 does what is inside before the others begin with it."""
        if not self.is_first:
            self.barrier()
        yield
        if self.is_first:
            self.barrier()


def _arrays(content: bytes) -> list[Array]:
    file, found = io.BytesIO(content), []
    while file.tell() < len(content):
        found.append(np.load(file, allow_pickle=False))
    return found


class Alone(Communicator):
    """One process, which has nobody to talk to."""

    rank, size = 0, 1

    def any(self, flag: bool) -> bool:
        return flag

    def alltoall(self, send: Array, to: Sequence[slice], receive: Array, of: Sequence[slice]) -> None:
        receive[of[0]] = send[to[0]]

    def allgather(self, buffer: Array, parts: Sequence[slice]) -> None:
        return

    def barrier(self) -> None:
        return

    def abort(self, code: int) -> NoReturn:
        os._exit(code)

    @property
    def node(self) -> Communicator:
        return self

    def gather_arrays(self, own: Sequence[Any]) -> list[list[Array]]:
        return [list(own)]


ALONE = Alone()
