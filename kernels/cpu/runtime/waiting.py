"""How one thread waits for another: it looks at a word for a while, then sleeps in the kernel until somebody wakes it.

A thread that looks without end keeps a core from the very thread that it waits for, if there are more threads than free
cores. Linux can put a thread to sleep on a word (futex) from compiled code. Elsewhere a thread that has looked in vain
returns to Python, which can sleep on every system.

A word that is waited for only ever grows. The next word counts the threads that sleep on it.
"""

from __future__ import annotations

import functools
import platform
import sys
import time

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import config
from numba.extending import intrinsic

from vae_np._types import Array

from .atomics import atomic_add, atomic_load, pause, pointer
from .compilation import njit

# The word after one that is waited for.
SLEEPERS = 1
# The number of the system call, by processor. A futex has 32 bits, which are the lower half of our words.
_NUMBERS = {"x86_64": 202, "aarch64": 98, "riscv64": 98}
_NUMBER = _NUMBERS.get(platform.machine()) if sys.platform == "linux" and sys.byteorder == "little" else None
_WAIT, _WAKE, _EVERYBODY = 128, 129, 0x7FFFFFFF
# Whether a thread can sleep inside compiled code here.
SLEEPS_IN_KERNEL = _NUMBER is not None and sys.maxsize > 2**32 and not config.DISABLE_JIT


@intrinsic
def _address(typing, array, index):  # type: ignore[no-untyped-def]
    """Where an entry lies in memory."""

    def code(context, builder, sig, args):  # type: ignore[no-untyped-def]
        return builder.ptrtoint(pointer(context, builder, sig.args[0], args[0], args[1]), ir.IntType(64))

    return types.int64(array, types.int64), code


if SLEEPS_IN_KERNEL:
    _futex_call = _NUMBER
    _syscall = types.ExternalFunction("syscall", types.int64(*[types.int64] * 7))

    @njit()
    def _sleep(words: Array, word: int, seen: int, limit: int) -> None:
        """Sleep while the word is what was seen, for at most the seconds and nanoseconds that stand at `limit`."""
        _syscall(_futex_call, _address(words, word), _WAIT, seen & 0xFFFFFFFF, _address(words, limit), 0, 0)

    @njit()
    def _wake(words: Array, word: int) -> None:
        _syscall(_futex_call, _address(words, word), _WAKE, _EVERYBODY, 0, 0, 0)

else:

    @njit()
    def _sleep(words: Array, word: int, seen: int, limit: int) -> None:
        return

    @njit()
    def _wake(words: Array, word: int) -> None:
        return


@njit()
def raise_word(words: Array, word: int, by: int) -> int:
    """Add to a word without waking anybody; returns what it is now."""
    return atomic_add(words, word, by) + by


@njit()
def wake(words: Array, word: int) -> None:
    """Wake all threads that sleep on a word, which has been raised before."""
    # An addition and not a load: no processor may look here before the word has been raised for all.
    if atomic_add(words, word + SLEEPERS, 0) > 0:
        _wake(words, word)


@njit()
def wait(words: Array, word: int, least: int, looks: int, sleeps: int, limit: int, counts: int) -> bool:
    """Wait until a word is `least` or more; False after that many looks and sleeps in vain.

    No sleep is longer than what stands at `limit`. The looks and sleeps are added to the two entries at `counts`.
    """
    value = atomic_load(words, word)
    looked = slept = 0
    while value < least and looked < looks:
        pause()
        looked += 1
        value = atomic_load(words, word)
    while value < least and slept < sleeps:
        atomic_add(words, word + SLEEPERS, 1)
        # A thread that raises it from here on sees a sleeper.
        value = atomic_load(words, word)
        if value < least:
            _sleep(words, word, value, limit)
            slept += 1
        atomic_add(words, word + SLEEPERS, -1)
        value = atomic_load(words, word)
    words[counts] += looked
    words[counts + 1] += slept
    return value >= least


@functools.cache
def looks_in(microseconds: int) -> int:
    """How many looks at a word take that long here: a pause is 10 cycles on one processor and 140 on another."""
    words, looks = np.zeros(8, dtype=np.int64), 500
    wait(words, 0, 1, 1, 0, 0, 2)
    fastest = np.inf
    for _ in range(5):
        started = time.perf_counter()
        wait(words, 0, 1, looks, 0, 0, 2)
        fastest = min(fastest, time.perf_counter() - started)
    return max(1, int(looks * microseconds * 1e-6 / fastest))
