"""Threads that meet inside compiled code: a barrier, and workers that wait a moment for the next step.

`control` is a small int64 array: word 0 counts arrivals at the barrier, word UNIT hands out units of work, and word
SLOT·part says what worker `part` does. Each has a cache line of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types

from vae_np._types import Array

from .atomics import atomic_add, atomic_load, atomic_store, atomic_swap, pause
from .compilation import njit
from .pool import POOL

BARRIER, UNIT, SLOT = 0, 8, 16
# A worker's word: parked in its inbox, waiting in compiled code, at work.
PARKED, WAITING, WORKING = 0, 1, 2
# Looks at its word before a worker parks: about a millisecond, more than a step's Python takes.
_PATIENCE = 20_000
_YIELD_AFTER = 200
# More than a step's arrivals at the barrier, or its units of work.
_ABANDONED = 1 << 40

if os.name == "posix":
    _yield = types.ExternalFunction("sched_yield", types.int32())
else:

    @njit()
    def _yield() -> int:
        return 0


@njit()
def meet(control: Array, parts: int) -> None:
    """Wait until all parts are here, or the step has been abandoned."""
    if parts == 1:
        return
    arrived = atomic_add(control, BARRIER, 1) + 1
    if arrived > _ABANDONED:
        return
    target = (arrived + parts - 1) // parts * parts
    looks = 0
    while atomic_load(control, BARRIER) < target:
        pause()
        looks += 1
        if looks > _YIELD_AFTER:
            _yield()


@njit()
def next_unit(control: Array) -> int:
    """The number of the next unit of work that nobody has taken."""
    return atomic_add(control, UNIT, 1)


@njit()
def called_again(control: Array, part: int) -> bool:
    """Say that this part is done and wait for the next call; False if there is none and the worker has to park."""
    place = SLOT * part
    atomic_store(control, place, WAITING)
    looks = 0
    while True:
        word = atomic_load(control, place)
        if word == WORKING:
            return True
        if word == PARKED:
            return False
        looks += 1
        if looks > _PATIENCE:
            return atomic_swap(control, place, WAITING, PARKED) == WORKING
        pause()


@njit()
def _call(control: Array, parts: int) -> int:
    """Set every worker to work; returns a bit for each that is parked and has to be sent for."""
    # A worker may still be on its way out of the last barrier: the count is not touched before it has left.
    for part in range(1, parts):
        while atomic_load(control, SLOT * part) == WORKING:
            pause()
    atomic_store(control, BARRIER, 0)
    atomic_store(control, UNIT, 0)
    parked = 0
    for part in range(1, parts):
        place = SLOT * part
        if atomic_swap(control, place, WAITING, WORKING) == PARKED:
            atomic_store(control, place, WORKING)
            parked |= 1 << part
    return parked


@njit()
def _dismiss(control: Array) -> None:
    for place in range(SLOT, control.size, SLOT):
        atomic_swap(control, place, WAITING, PARKED)


@njit()
def _abandon(control: Array) -> None:
    """Let workers through every barrier, past every unit of work and home: part 0 is not coming."""
    atomic_store(control, UNIT, _ABANDONED)
    atomic_store(control, BARRIER, _ABANDONED)


def load_what_is_rare() -> None:
    """Compile, or load from the cache, what only a change of teams or an exception calls."""
    spare = np.zeros(SLOT, dtype=np.int64)
    _dismiss(spare)
    _abandon(spare)


class _Ignore:
    def put(self, _: object) -> None:
        """Nobody waits for this: the barrier at the end of a step is the answer."""


class Team:
    """Runs `step(part, parts, control, *args)` on all threads of the pool; part 0 returns after one step."""

    def __init__(self, step: Callable[..., Any]) -> None:
        self._step = step
        self._control = np.zeros(SLOT * 257, dtype=np.int64)
        self._generation = POOL.generation

    def _send_away(self) -> None:
        _dismiss(self._control)

    def run(self, args: tuple[Any, ...], most: int) -> None:
        """All parts of one step, on at most `most` threads; alone where the pool is busy with someone else's work."""
        if self._generation != POOL.generation:
            self._control[:] = PARKED
            self._generation = POOL.generation
        parts = min(POOL.threads, most)
        if parts == 1 or POOL.lock.locked():
            self._step(0, 1, np.zeros(SLOT, dtype=np.int64), *args)
            return
        with POOL.lock:
            POOL.claim(self._send_away)
            try:
                parked = _call(self._control, parts)
                if parked:
                    for part in range(1, parts):
                        if parked >> part & 1:
                            POOL.submit(part, self._step, (part, parts, self._control, *args), _Ignore())
                self._step(0, parts, self._control, *args)
            except BaseException:
                # Ctrl-C, between two calls of compiled code. Workers that already wait for part 0 would do so for ever;
                # where part 0 has run, the step is complete. They may take a moment to leave the old words.
                _abandon(self._control)
                self._control = np.zeros_like(self._control)
                raise
