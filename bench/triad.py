"""The memory's bandwidth by a triad, a = b + s c, with as many threads as everyone has."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numba import njit
from workloads import Step, in_threads

from vae_np.kernels.cpu.runtime.lowering import Compiler

# Three arrays of 128 MiB, beyond any processor's last cache.
_MEMORY_ENTRIES = 1 << 25
_REPEATS = 5


@njit(nogil=True, pipeline_class=Compiler)
def _triads(a: Any, b: Any, c: Any, scale: Any, repeats: Any) -> None:
    for _ in range(repeats):
        for i in range(a.size):
            a[i] = b[i] + scale * c[i]


def triad_in_threads(entries: int, threads: int, repeats: int) -> Step:
    """`repeats` triads over float32 arrays of that many entries, each thread its slab: 12 bytes an entry and triad."""
    whole = [np.ones(entries, np.float32) for _ in range(3)]

    def slab(part: int) -> Step:
        of = slice(part * entries // threads, (part + 1) * entries // threads)
        arrays = [array[of] for array in whole]
        return lambda: _triads(*arrays, np.float32(0.5), repeats)

    slabs = [slab(part) for part in range(threads)]
    slabs[0]()
    return in_threads(slabs, 1)


def memory_bandwidth(threads: int) -> float:
    """GB/s between the processor and its memory, the best of a few."""
    run = triad_in_threads(_MEMORY_ENTRIES, threads, 1)
    times = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return 12e-9 * _MEMORY_ENTRIES / min(times)
