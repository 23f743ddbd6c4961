"""Threads that share out the work of a step inside compiled code, and wait there for each other and for the next step.

A step has three stages. The first two are cut into slabs, a share of the batch each, the third into units of weights.
Slab i belongs to thread i; if that thread has not come yet, any free thread takes it. So no thread ever waits for
another that does not run, but only for work that has begun, and a step can be done by whichever threads have come.

The threads agree by way of `control`, an int64 array: it has a line of the cache for each word that is waited for or
taken from, and then one for each thread. Its counts go up from step to step and are never set back, so that a thread
which comes late finds everything taken and does no harm.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from vae_np._types import Array

from . import waiting
from .atomics import atomic_load, atomic_store, atomic_swap
from .compilation import njit
from .denormals import flushed
from .pace import Pace
from .pool import POOL
from .processors import available
from .waiting import looks_in, raise_word, wait, wake

# Lines of eight words: the step's number, how much work is done and how many units are taken, since the start; what
# the session was made with; then the threads.
STEP, DONE, UNIT, FIXED, THREADS, _LINE = 0, 8, 16, 24, 40, 8
PARTS, UNITS, DONE_LOOKS, STEP_LOOKS, DONE_SLEEPS, STEP_SLEEPS, DONE_LIMIT, STEP_LIMIT = range(FIXED, FIXED + 16, 2)
# Words of a thread's line: the last stage of which its slab was taken, whether it is here, its looks and sleeps.
TAKEN, HERE, LOOKS, SLEEPS = range(4)
_ABSENT, _PRESENT = 0, 1
FIRST, SECOND, THIRD, _STAGES = 0, 1, 2, 3
# Microseconds of looking: a stage's threads end nearly at once, and between two steps there is a little Python.
_DONE_LOOK, _STEP_LOOK = 40, 200
# Nanoseconds of a sleep, and how many there are before a thread comes back to Python, or goes home.
_DONE_SLEEP, _DONE_SLEEPS = 1_000_000, 50
_STEP_SLEEP, _STEP_SLEEPS = 250_000_000, 4
# Seconds of a sleep in Python.
_NAP = 2e-4
_LAST_TRIES = 50
# No count gets this far: the session is over.
_OVER = 1 << 62


@njit()
def _line(thread: int) -> int:
    return THREADS + _LINE * thread


@njit()
def take_slab(control: Array, thread: int, step: int, stage: int) -> int:
    """A slab of a stage that no thread has taken, the thread's own first; −1 where there is none."""
    parts, tag = control[PARTS], step * _STAGES + stage
    for k in range(parts):
        slab = (thread + k) % parts
        place = _line(slab) + TAKEN
        seen = atomic_load(control, place)
        if seen < tag and atomic_swap(control, place, seen, tag) == seen:
            return slab
    return -1


@njit()
def take_unit(control: Array, step: int) -> int:
    """The next unit of the third stage; −1 where all are taken."""
    units = control[UNITS]
    while True:
        seen = atomic_load(control, UNIT)
        if seen >= step * units:
            return -1
        if atomic_swap(control, UNIT, seen, seen + 1) == seen:
            return seen - (step - 1) * units


@njit()
def finish(control: Array) -> None:
    """Say that a slab or unit is done; the last one of a stage wakes the threads that wait for the stage."""
    parts, units = control[PARTS], control[UNITS]
    done = raise_word(control, DONE, 1)
    rest = done % (2 * parts + units)
    if rest == 0 or rest == parts or rest == 2 * parts:
        wake(control, DONE)


@njit()
def complete(control: Array, thread: int, step: int, stage: int) -> bool:
    """Wait until all of a stage is done; False if that takes long: the caller then goes to Python and comes again."""
    parts, units = control[PARTS], control[UNITS]
    least = (step - 1) * (2 * parts + units) + (stage + 1) * parts
    if stage == THIRD:
        least = step * (2 * parts + units)
    return wait(control, DONE, least, control[DONE_LOOKS], control[DONE_SLEEPS], DONE_LIMIT, _line(thread) + LOOKS)


@njit()
def called_again(control: Array, thread: int, step: int) -> bool:
    """Wait for the step after `step`; False if none comes soon, and the thread is to go home."""
    if wait(control, STEP, step + 1, control[STEP_LOOKS], control[STEP_SLEEPS], STEP_LIMIT, _line(thread) + LOOKS):
        return atomic_load(control, STEP) < _OVER
    place = _line(thread) + HERE
    atomic_swap(control, place, _PRESENT, _ABSENT)
    # A step that began meanwhile counts on this thread, unless it has seen that the thread left and sends for it.
    if step < atomic_load(control, STEP) < _OVER:
        return atomic_swap(control, place, _ABSENT, _PRESENT) == _ABSENT
    return False


@njit()
def current(control: Array) -> int:
    """The number of the step that is under way, from 1; 0 once the session is over."""
    step = atomic_load(control, STEP)
    return step if step < _OVER else 0


@njit()
def _begin(control: Array, absent: Array) -> int:
    """Begin the next step; returns how many threads are not here and have to be sent for, their numbers in `absent`."""
    raise_word(control, STEP, 1)
    wake(control, STEP)
    count = 0
    for thread in range(1, control[PARTS]):
        if atomic_swap(control, _line(thread) + HERE, _ABSENT, _PRESENT) == _ABSENT:
            absent[count] = thread
            count += 1
    return count


@njit()
def _end(control: Array) -> None:
    """Send every thread home, from wherever it waits, as soon as it has done what it has begun."""
    for thread in range(control[PARTS]):
        atomic_store(control, _line(thread) + TAKEN, _OVER)
    atomic_store(control, UNIT, _OVER)
    for word in (DONE, STEP):
        raise_word(control, word, _OVER)
        wake(control, word)


def _control(parts: int, units: int) -> Array:
    """The words of a session of `parts` threads, whose steps have `units` units."""
    control = np.zeros(THREADS + _LINE * parts, dtype=np.int64)
    sleeps = waiting.SLEEPS_IN_KERNEL and parts > 1
    control[PARTS], control[UNITS] = parts, units
    if parts > 1:
        control[DONE_LOOKS], control[STEP_LOOKS] = looks_in(_DONE_LOOK), looks_in(_STEP_LOOK)
    control[DONE_SLEEPS], control[STEP_SLEEPS] = (_DONE_SLEEPS, _STEP_SLEEPS) if sleeps else (0, 0)
    for limit, nanoseconds in ((DONE_LIMIT, _DONE_SLEEP), (STEP_LIMIT, _STEP_SLEEP)):
        control[limit : limit + 2] = divmod(nanoseconds, 10**9)
    return control


def load_what_is_rare() -> None:
    """Compile, or load from the cache, what only a change of teams or an exception calls."""
    _end(_control(2, 1))


class Team:
    """Runs steps on the threads of the pool: `step(thread, control, *args)` until it returns True.

    `units` is how many units the third stage has. Thread 0 is the caller; for it the step returns True when all of it
    is done, for another thread when that goes home. False asks to be called again, as often as necessary: between two
    calls Python can notice an interrupt.
    """

    def __init__(self, step: Callable[..., bool], units: int) -> None:
        self._step, self._units = step, units
        self._alone = _control(1, units)
        self._nobody = np.zeros(0, dtype=np.int64)
        self._control, self._absent = self._alone, self._nobody
        self._generation = -1
        self._errors: list[BaseException] = []
        # Set where a step has been made, which it may have been although it ended in an exception.
        self.done = False
        # Whether workers sleep at once between two steps, and do not look for the next one first.
        self.parks = False
        self.pace = Pace()

    def _call(self, thread: int, control: Array, *args: Any) -> bool:
        """What a thread does of a step; denormal numbers count as zero there."""
        return bool(flushed(self._step, thread, control, *args))

    def end(self) -> None:
        """Send the workers home: the next step will send for them."""
        if self._control is not self._alone:
            _end(self._control)
            self._control = self._alone

    def run(self, args: tuple[Any, ...], most: int) -> None:
        """One step, on at most `most` threads; alone where the pool is busy with someone else's work."""
        most = min(available(), most)
        parts = self.pace.threads(most)
        started = time.perf_counter()
        self._run(args, parts)
        if most > 1:
            self.pace.took(time.perf_counter() - started)

    def _run(self, args: tuple[Any, ...], parts: int) -> None:
        if parts == 1 or POOL.lock.locked():
            self._make(self._alone, self._nobody, args)
        else:
            with POOL.lock:
                POOL.claim(self.end)
                self._gather(parts)
                self._make(self._control, self._absent, args)

    def _make(self, control: Array, absent: Array, args: tuple[Any, ...]) -> None:
        before = control[STEP]
        try:
            for thread in absent[: _begin(control, absent)].tolist():
                POOL.submit(thread, self._serve, control, thread, args)
            while not self._call(0, control, *args):
                self._look_around()
            self.done = True
        except BaseException:
            self._leave(control, args, begun=bool(control[STEP] > before))
            raise

    def _gather(self, parts: int) -> None:
        """A session of `parts` threads: the present one, if it has that many and no fork has lost them."""
        if self._generation != POOL.generation:
            self._control, self._generation = self._alone, POOL.generation
        if self._control is self._alone or self._control[PARTS] != parts:
            self.end()
            self._control, self._absent = _control(parts, self._units), np.zeros(parts, dtype=np.int64)
            if self.parks:
                self._control[STEP_LOOKS] = 0

    def _serve(self, control: Array, thread: int, args: tuple[Any, ...]) -> None:
        """What another thread does."""
        try:
            while not self._call(thread, control, *args):
                time.sleep(_NAP)
        except BaseException as error:
            self._errors.append(error)

    def _look_around(self) -> None:
        """What the caller does while others are at work: sleep, and notice interrupts and their exceptions."""
        if self._errors:
            raise self._errors.pop()
        time.sleep(_NAP)

    def _leave(self, control: Array, args: tuple[Any, ...], *, begun: bool) -> None:
        """After an exception: have the step's work done, if that takes no longer than usual, and end the session."""
        try:
            tries = 0
            while begun and not self.done and tries < _LAST_TRIES:
                self.done = bool(self._call(0, control, *args))
                tries += 1
                if not self.done:
                    time.sleep(_NAP)
        finally:
            self.end()
            self._control = self._alone = _control(1, self._units)
