"""Processes with a device each: which one is whose, and NCCL, by which their buffers go from device to device.

What lies in the host's memory goes on by MPI, which also tells all processes NCCL's number for them. Both kinds of
exchange put the same entries in the same places, and adding up is left to whoever asks for them: NCCL's own sums would
have an order that depends on the number of processes. [docs/scaling.md]
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import numpy as np

from vae_np.distributed import Communicator
from vae_np.errors import DeviceError, InputError

from ._device import device
from .problems import Probes


def join(communicator: Communicator, probes: Probes | None = None) -> None:
    """Take the device that this process has to itself: of those that it sees, the one with its number on the machine.

    Where it sees one only, that one. All processes call it together. Raises InputError, on all, where two of them would
    have the same device, or NCCL is missing.
    """
    probes = Probes() if probes is None else probes
    here, count, missing = communicator.node, probes.device_count(), probes.nccl_problem()
    own = here.rank if count > 1 else 0
    if own < count:
        probes.take_device(own)
    identity = probes.device_identity() if own < count else ""
    said = communicator.gather_bytes(json.dumps([platform.node(), count, here.size, identity, missing]).encode())
    held: dict[tuple[str, str], int] = {}
    for rank, (host, devices, ranks, found, lacks) in enumerate(map(json.loads, said)):
        got = f"backend: got 'cupy' for {communicator.size} ranks"
        if lacks is not None:
            raise InputError(f"{got}, but on rank {rank} on {host} {lacks}")
        if not found:
            raise InputError(f"{got}, {ranks} of them on {host}, which shows {devices} devices, expected one for each")
        if (host, found) in held:
            raise InputError(
                f"{got}, but ranks {held[host, found]} and {rank} on {host} have the same device; start as many ranks "
                "as there are devices, each with all of them visible, or with a CUDA_VISIBLE_DEVICES of its own"
            )
        held[host, found] = rank


class DeviceExchange(Communicator):
    """The processes of `host`, whose buffers NCCL moves where they lie on devices, on the stream that kernels run on.

    Nobody waits for an exchange but the kernels that are queued after it.
    """

    def __init__(self, host: Communicator) -> None:
        self._host = host
        self.rank, self.size = host.rank, host.size
        self._library = device().nccl()
        # Made at the first exchange, to which all processes come together.
        self._nccl: Any = None

    def _begun(self) -> Any:
        own = self._library.get_unique_id().hex() if self.is_first else ""
        number = bytes.fromhex(self._host.told_by_first(own))
        with self._told("its beginning"):
            return self._library.NcclCommunicator(self.size, number, self.rank)

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        try:
            yield
        except self._library.NcclError as error:
            raise DeviceError(f"NCCL failed at {what}: {' '.join(str(error).split())}") from None

    def alltoall(self, send: Any, to: Sequence[slice], receive: Any, of: Sequence[slice]) -> None:
        if not device().owns(send):
            self._host.alltoall(send, to, receive, of)
            return
        self._exchange(send, to, receive, of)

    def allgather(self, buffer: Any, parts: Sequence[slice]) -> None:
        if not device().owns(buffer):
            self._host.allgather(buffer, parts)
            return
        to, of = [parts[self.rank]] * self.size, list(parts)
        # The own part is in its place.
        to[self.rank] = of[self.rank] = slice(0, 0)
        self._exchange(buffer, to, buffer, of)

    def _exchange(self, send: Any, to: Sequence[slice], receive: Any, of: Sequence[slice]) -> None:
        """Queue the sendings and receivings of all as one, in which none waits for another."""
        # A wait for NCCL looks for nobody who is lost, so all meet before it, by MPI, whose waits do.
        if self._nccl is None:
            self._nccl = self._begun()
        nccl = self._nccl
        self._host.barrier()
        with self._told("an exchange"):
            self._library.groupStart()
            for peer in range(self.size):
                for method, buffer, part in ((nccl.send, send, to[peer]), (nccl.recv, receive, of[peer])):
                    if part.stop > part.start:
                        start = device().address(buffer) + part.start * buffer.dtype.itemsize
                        method(start, part.stop - part.start, self._kind(buffer), peer, device().stream())
            self._library.groupEnd()

    def _kind(self, buffer: Any) -> int:
        return int(self._library.NCCL_FLOAT64 if buffer.dtype == np.float64 else self._library.NCCL_FLOAT32)

    def barrier(self) -> None:
        self._host.barrier()

    def abort(self, code: int) -> NoReturn:
        self._host.abort(code)

    @property
    def node(self) -> Communicator:
        return self._host.node
