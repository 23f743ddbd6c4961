"""Several processes that mpiexec or Slurm has started act as one command: one prints, and all end together."""

from __future__ import annotations

import io
import os
import platform
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TextIO

from vae_np.distributed.communicator import ALONE, Communicator
from vae_np.distributed.launch import Place, threads_of_rank, world
from vae_np.errors import InputError

if TYPE_CHECKING:
    from vae_np.distributed.mpi import MpiCommunicator

# The commands that share their work.
COMMANDS = ("train", "eval")
_THREAD_VARIABLES = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS")
# Seconds that a process which fails waits for the others to fail, too: only then do they agree on who says so.
_PATIENCE = 2.0
_NEVER = float("inf")


class _Together:
    """The processes of this command: those that work, and how their ends are told."""

    def __init__(self) -> None:
        self.communicator: Communicator = ALONE
        self.ending: MpiCommunicator | None = None
        self.threads: int | None = None


_TOGETHER = _Together()


def communicator() -> Communicator:
    """The processes that share this command's work; the process alone where there are no others."""
    return _TOGETHER.communicator


def check_threads(asked: int | None) -> int | None:
    """The number of threads that was asked for; raises InputError where the ranks of a machine would share cores."""
    most = _TOGETHER.threads
    if asked is not None and most is not None and asked > most:
        ranks = communicator().node.size
        raise InputError(
            f"threads: got {asked} for each of {ranks} ranks on this machine, expected at most {most}, its cores over "
            "its ranks"
        )
    return asked


def run_as_one(place: Place, arguments: Sequence[str], run: Callable[[], int]) -> int:
    """Run a command with the others that were started with it; the exit code of the first that failed, or 0.

    All but rank 0 are silent. If one fails alone, it says why, and all are ended.
    """
    terminal, told = sys.stderr, io.StringIO()
    if place.rank > 0:
        sys.stdout, sys.stderr = open(os.devnull, "w"), told  # noqa: SIM115 (as long as the process)
    try:
        code = _joined(place, arguments, run, terminal)
    except BaseException:
        traceback.print_exc(file=terminal)
        told.truncate(0)
        code = 1
    lines = told.getvalue().splitlines()
    line = lines[-1].removeprefix("vae-np: ") if lines and place.rank > 0 else None
    return _end(code, None if line is None else f"vae-np: rank {place.rank} on {platform.node()}: {line}", terminal)


def _joined(place: Place, arguments: Sequence[str], run: Callable[[], int], terminal: TextIO) -> int:
    try:
        name = next((argument for argument in arguments if not argument.startswith("-")), None)
        if name is not None and name not in COMMANDS:
            raise InputError(
                f"{name}: was started {place.size} times at once, but only {' and '.join(COMMANDS)} share their work; "
                "start it without mpiexec"
            )
        everyone = world(place)
    except InputError as error:
        # MPI was not entered, so nobody knows of the others: one rank of a machine says it.
        if place.local_rank == 0:
            print(f"vae-np: {error}", file=terminal)
        return 2
    _TOGETHER.communicator, _TOGETHER.ending = everyone, everyone.duplicate()
    _TOGETHER.threads = threads_of_rank(everyone)
    for variable in _THREAD_VARIABLES:
        given = os.environ.get(variable, "")
        if variable == _THREAD_VARIABLES[-1] or given:
            # NumPy's BLAS reads it, too, when it is imported.
            asked = int(given) if given.isdecimal() and int(given) > 0 else _TOGETHER.threads
            os.environ[variable] = str(min(asked, _TOGETHER.threads))
    return run()


def leave() -> bool:
    """Part with the others, all of whom have come to the end of the common work; whether this process goes on alone.

    What follows may start other programs, which a process of MPI should not.
    """
    if _TOGETHER.ending is None:
        return True
    first = _TOGETHER.communicator.is_first
    _end(0, None, sys.stderr)
    return first


def _end(code: int, line: str | None, terminal: TextIO) -> int:
    """Agree with the others on the end: they end by themselves, or are ended."""
    ending, everyone = _TOGETHER.ending, _TOGETHER.communicator
    if ending is None:
        return code
    _TOGETHER.communicator, _TOGETHER.ending = ALONE, None
    codes, can_leave = ending.ends(code, _NEVER if code == 0 else _PATIENCE) or ([], False)
    # Nobody has said it, or only ranks after this one would.
    if line is not None and code != 0 and not any(codes[: ending.rank]):
        print(line, file=terminal, flush=True)
    first = next((found for found in codes if found), code)
    if not can_leave:
        sys.stdout.flush()
        everyone.abort(first)
    from vae_np.distributed.mpi import finalize

    finalize()
    return first
