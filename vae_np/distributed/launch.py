"""How a process learns that mpiexec or Slurm has started it as one of several, and gets to the others."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vae_np.distributed.communicator import ALONE, Communicator
from vae_np.errors import InputError

if TYPE_CHECKING:
    from vae_np.distributed.mpi import MpiCommunicator

# The variables in which MPI's launchers give a process its number, and how many there are: MPICH's (also Intel's, and
# Slurm's by PMI), OpenMPI's, MVAPICH's, and PMIx under Slurm.
_VARIABLES = (
    ("PMI_RANK", "PMI_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"),
    ("PMIX_RANK", "SLURM_STEP_NUM_TASKS"),
)
_LOCAL = ("MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID")
REMEDY = "install it with: pip install 'vae-np[mpi]'"


@dataclass(frozen=True)
class Place:
    """What a launcher says of a process: its number and how many there are."""

    rank: int
    size: int
    # The number among those on the same machine.
    local_rank: int


def launched(environment: Mapping[str, str] = os.environ) -> Place | None:
    """The process's place among those that were started with it; None for one that was started alone."""
    for rank, size in _VARIABLES:
        texts = environment.get(rank, ""), environment.get(size, "")
        if all(text.isdecimal() for text in texts) and int(texts[1]) > 1:
            local = next((environment[name] for name in _LOCAL if environment.get(name, "").isdecimal()), texts[0])
            return Place(int(texts[0]), int(texts[1]), int(local))
    return None


def world(place: Place) -> MpiCommunicator:
    """All processes that were started together.

    Raises InputError where mpi4py is missing, cannot be loaded, or belongs to another MPI than the launcher: every
    process would then train for itself.
    """
    started = f"this is one of {place.size} processes that were started together"
    if importlib.util.find_spec("mpi4py") is None:
        raise InputError(f"mpi4py: is not installed, but {started}; {REMEDY}")
    try:
        import mpi4py

        # The threads of a rank compute, and only its first one talks to others.
        mpi4py.rc.thread_level = "funneled"
        from mpi4py import MPI

        from vae_np.distributed.mpi import MpiCommunicator
    except (ImportError, RuntimeError) as error:
        raise InputError(f"mpi4py: cannot be loaded ({error}), but {started}; {REMEDY}") from None
    found = MPI.COMM_WORLD.Get_size()
    if found != place.size:
        raise InputError(
            f"mpi4py: its MPI ({_library(MPI.Get_library_version())}) knows of {found} process, but {started}: start "
            "them with the mpiexec of the same MPI"
        )
    everyone = MpiCommunicator(MPI.COMM_WORLD)
    everyone.watch()
    return everyone


def _library(version: str) -> str:
    return " ".join(version.split()[:3]).rstrip(",")


def of(communicator: Any) -> Communicator:
    """The interface to an mpi4py communicator; None is the process alone. Raises InputError for anything else."""
    if communicator is None:
        return ALONE
    if isinstance(communicator, Communicator):
        return communicator
    if not hasattr(communicator, "Ialltoallv"):
        raise InputError(f"communicator: got {communicator!r}, expected one of mpi4py, such as MPI.COMM_WORLD, or None")
    from vae_np.distributed.mpi import MpiCommunicator

    return MpiCommunicator(communicator)


def threads_of_rank(communicator: Communicator) -> int:
    """How many threads this process may use so that no core of its machine has more than one, but at least one.

    The cores are those that it may run on; those that other ranks may run on, too, are shared with them.
    """
    mine = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    said = communicator.node.gather_bytes(" ".join(map(str, mine)).encode())
    sharers = sum(not set(mine).isdisjoint(map(int, text.split())) for text in said)
    return max(1, len(mine) // sharers)
