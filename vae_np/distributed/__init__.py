"""Several processes that share a computation: what they say to each other, and who does what.

Whatever the number of processes, results have the same bits: work is cut where its size says and not where the number
of processes does, each piece is computed whole by one of them, and pieces are put together in one fixed order.
"""

from vae_np.distributed.agreement import check_agreement, check_blocks, digest
from vae_np.distributed.communicator import ALONE, Alone, Communicator
from vae_np.distributed.launch import Place, launched, of, threads_of_rank, world
from vae_np.distributed.sharing import Tree, cut, share

__all__ = [
    "ALONE",
    "Alone",
    "Communicator",
    "Place",
    "Tree",
    "check_agreement",
    "check_blocks",
    "cut",
    "digest",
    "launched",
    "of",
    "share",
    "threads_of_rank",
    "world",
]
