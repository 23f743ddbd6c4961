"""Threads that share out a step: any number of them, late, missing, interrupted, with and without sleep in the kernel.

Looks and sleeps are counted; no time is measured. Budget: about 10 s once compiled.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vae_np import backends

if backends.missing("numba") is not None:
    pytest.skip(str(backends.missing("numba")), allow_module_level=True)

from vae_np.architecture import Architecture
from vae_np.kernels import cpu
from vae_np.kernels.cpu.fused import FusedStep
from vae_np.kernels.cpu.runtime import pool, processors, team, waiting
from vae_np.kernels.cpu.runtime.pace import Pace
from vae_np.model import initialise
from vae_np.step import Optimiser, TrainingState

ARCH = Architecture(61, 3, (37, 18), "softplus")
BATCH = 130
X = (np.random.default_rng(0).random((BATCH, 61)) < 0.2).astype(np.uint8)


class Shared:
    """A pace that always shares a step out."""

    def threads(self, most: int) -> int:
        return most

    def took(self, seconds: float) -> None:
        pass


def made(threads: int) -> FusedStep:
    with pool.limited(threads):
        step = FusedStep(ARCH, TrainingState(initialise(ARCH, seed=1, dtype=np.float32)), BATCH)
    step._team.pace = Shared()  # type: ignore[assignment]
    return step


def train(step: FusedStep, steps: int) -> Any:
    for _ in range(steps):
        step(X, np.arange(BATCH), seed=0, optimiser=Optimiser())
    return step.state.parameters.flat.copy()


@pytest.fixture(params=[True, False], ids=["futex", "no futex"])
def sleeps(request: Any, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Once with threads that sleep in the kernel, if this system has that, and once without."""
    if request.param and not waiting.SLEEPS_IN_KERNEL:
        pytest.skip("no futex here")
    monkeypatch.setattr(waiting, "SLEEPS_IN_KERNEL", request.param)
    return bool(request.param)


@pytest.fixture
def processors_here(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Have the system say that this process may run on so many processors; the workers are this test's own."""
    monkeypatch.setattr(processors, "quota", lambda: None)

    def fake(count: int) -> None:
        monkeypatch.setattr(processors, "affinity", lambda: count)

    fake(8)
    return fake


@pytest.mark.parametrize("count", [2, 3, 65, 96, 300])
def test_any_number_of_processors_gives_the_same_bits(count: int, sleeps: bool, processors_here: Any) -> None:
    processors_here(count)
    assert cpu.available() == count
    assert np.array_equal(train(made(count), 3), train(made(1), 3))


@pytest.mark.parametrize("count", [65, 70, 96, 300])
def test_every_thread_that_is_not_there_is_sent_for(count: int) -> None:
    control, absent = team._control(count, 1), np.zeros(count, np.int64)
    assert absent[: team._begin(control, absent)].tolist() == list(range(1, count))
    # Those that went home again, and nobody else.
    gone = sorted({1, 64 % count, 65 % count, count - 1} - {0})
    for thread in gone:
        control[team._line(thread) + team.HERE] = 0
    assert absent[: team._begin(control, absent)].tolist() == gone
    assert team._begin(control, absent) == 0


def test_a_step_needs_no_thread_but_the_callers(monkeypatch: pytest.MonkeyPatch, processors_here: Any) -> None:
    """Workers that never come: all work is taken by who is there, and nobody waits."""
    monkeypatch.setattr(pool.POOL, "submit", lambda *_: None)
    step = made(5)
    assert np.array_equal(train(step, 4), train(made(1), 4))
    line = team._line(0)
    assert step._team._control[[line + team.LOOKS, line + team.SLEEPS]].tolist() == [0, 0]


def test_no_more_threads_to_be_had_is_no_error(monkeypatch: pytest.MonkeyPatch, processors_here: Any) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(pool.POOL, "inboxes", [])
    monkeypatch.setattr(threading.Thread, "start", start)
    assert np.array_equal(train(made(4), 2), train(made(1), 2))
    seen: list[int] = []
    with pool.limited(4):
        pool.run(lambda part, parts: seen.append(part), work=1e9)
    assert sorted(seen) == [0, 1, 2, 3]


def _control_with_one_slab_under_way() -> Any:
    """Thread 1 has taken its slab of the first step and is not done; the caller has done its own."""
    control, absent = team._control(2, 1), np.zeros(2, np.int64)
    team._begin(control, absent)
    assert team.take_slab(control, 1, 1, team.FIRST) == 1
    assert team.take_slab(control, 0, 1, team.FIRST) == 0
    team.finish(control)
    return control


def test_who_waits_looks_a_while_and_then_sleeps(sleeps: bool) -> None:
    control = _control_with_one_slab_under_way()
    control[team.DONE_LIMIT : team.DONE_LIMIT + 2] = 0, 100_000
    # In vain, and so back to Python, where an interrupt is heard.
    assert not team.complete(control, 0, 1, team.FIRST)
    looks, slept = control[team._line(0) + team.LOOKS], control[team._line(0) + team.SLEEPS]
    assert looks == control[team.DONE_LOOKS]
    assert slept == (control[team.DONE_SLEEPS] if sleeps else 0)
    assert (slept > 0) == sleeps
    team.finish(control)
    assert team.complete(control, 0, 1, team.FIRST)
    assert control[team._line(0) + team.LOOKS] == looks


@pytest.mark.skipif(not waiting.SLEEPS_IN_KERNEL, reason="no futex here")
@pytest.mark.parametrize("what", ["finish", "end", "begin"])
def test_a_thread_that_sleeps_without_limit_is_woken(what: str) -> None:
    """By the last of what it waits for, by the end of the session, by the next step."""
    control = _control_with_one_slab_under_way()
    for limit in (team.DONE_LIMIT, team.STEP_LIMIT):
        control[limit : limit + 2] = 3600, 0
    woken: list[bool] = []

    def sleep() -> None:
        if what == "begin":
            woken.append(team.called_again(control, 1, 1))
        else:
            woken.append(team.complete(control, 1, 1, team.FIRST))

    word = team.STEP if what == "begin" else team.DONE
    sleeper = threading.Thread(target=sleep, daemon=True)
    sleeper.start()
    while control[word + waiting.SLEEPERS] == 0:
        time.sleep(0.001)
    {"finish": team.finish, "end": team._end, "begin": lambda c: team._begin(c, np.zeros(2, np.int64))}[what](control)
    sleeper.join(30)
    assert woken == [True]
    assert control[word + waiting.SLEEPERS] == 0


def test_a_worker_that_nobody_calls_goes_home_and_keeps_nothing(sleeps: bool) -> None:
    control, absent = team._control(2, 1), np.zeros(2, np.int64)
    control[team.STEP_LIMIT : team.STEP_LIMIT + 2] = 0, 100_000
    team._begin(control, absent)
    assert not team.called_again(control, 1, 1)
    assert control[team._line(1) + team.SLEEPS] == (control[team.STEP_SLEEPS] if sleeps else 0)
    # The next step sends for it.
    assert team._begin(control, absent) == 1


def test_a_session_that_is_over_gives_out_nothing() -> None:
    control = _control_with_one_slab_under_way()
    team._end(control)
    assert team.current(control) == 0
    assert team.take_slab(control, 1, 1, team.SECOND) == -1
    assert team.take_unit(control, 1) == -1
    assert team.complete(control, 1, 1, team.THIRD)
    assert not team.called_again(control, 1, 1)


def test_who_comes_late_finds_everything_taken() -> None:
    control, absent = team._control(2, 3), np.zeros(2, np.int64)
    for step in (1, 2):
        team._begin(control, absent)
        for stage in (team.FIRST, team.SECOND):
            assert [team.take_slab(control, 0, step, stage) for _ in range(3)] == [0, 1, -1]
            team.finish(control)
            team.finish(control)
        assert [team.take_unit(control, step) for _ in range(4)] == [0, 1, 2, -1]
        for _ in range(3):
            team.finish(control)
        assert team.complete(control, 0, step, team.THIRD)
    # Thread 1 still believes in step 1.
    assert team.take_slab(control, 1, 1, team.FIRST) == team.take_slab(control, 1, 1, team.SECOND) == -1
    assert team.take_unit(control, 1) == -1
    assert team.called_again(control, 1, 1)


def test_two_models_take_turns_and_a_fork_starts_anew(sleeps: bool, processors_here: Any) -> None:
    one, other, alone = made(3), made(3), made(1)
    for _ in range(3):
        found = [train(step, 1) for step in (one, other, alone)]
        assert all(np.array_equal(found[0], result) for result in found)
    pool.POOL.reset()
    assert np.array_equal(train(one, 2), train(alone, 2))


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer that sends a signal here")
@pytest.mark.parametrize("how", ["team", "pool"])
def test_an_interrupt_is_heard_while_a_worker_never_ends(how: str) -> None:
    """A process of its own, with a worker that takes work and keeps it."""
    code = (
        "import signal, sys, threading, time\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_team import made, train, pool, processors, team\n"
        "processors.affinity = lambda: 2\n"
        "processors.quota = lambda: None\n"
        "class Stop(Exception): pass\n"
        "def ring(*_): raise Stop\n"
        "signal.signal(signal.SIGALRM, ring)\n"
        "forever, begun = threading.Event(), threading.Event()\n"
        "def keep(control, thread, args):\n"
        "    team.take_slab(control, 1, 1, 0); begun.set(); forever.wait()\n"
        "def body(part, parts):\n"
        "    if threading.current_thread() is threading.main_thread(): begun.wait()\n"
        "    else: begun.set(); forever.wait()\n"
        "step = made(2)\n"
        "real = step._team._step\n"
        "def late(thread, *args): begun.wait(); return real(thread, *args)\n"
        "step._team._step, step._team._serve = late, keep\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.5)\n"
        "try:\n"
        "    if sys.argv[1] == 'team': train(step, 1)\n"
        "    else:\n"
        "        with pool.limited(2): pool.run(body, work=1e9)\n"
        "except Stop: print('heard')\n"
        "assert not pool.POOL.lock.locked()\n"
    )
    process = subprocess.run([sys.executable, "-c", code, how], capture_output=True, text=True, timeout=120)
    assert (process.returncode, process.stdout) == (0, "heard\n"), process.stderr


def test_what_a_worker_ran_into_is_raised(processors_here: Any) -> None:
    step = made(2)
    real, begun = step._team._step, threading.Event()

    def fail(thread: int, control: Any, *args: Any) -> bool:
        if thread == 0:
            begun.wait(30)
            return bool(real(thread, control, *args))
        team.take_slab(control, thread, 1, team.FIRST)
        begun.set()
        raise MemoryError("too little")

    step._team._step = fail
    with pytest.raises(MemoryError, match="too little"):
        train(step, 1)
    assert not pool.POOL.lock.locked()


def test_affinity_is_read_at_each_run(processors_here: Any) -> None:
    step = made(4)
    for count in (4, 2, 1, 3):
        processors_here(count)
        train(step, 1)
        if count > 1:
            assert step._team._control[team.PARTS] == count
    assert np.array_equal(train(step, 0), train(made(1), 4))


# How many threads a step gets


def tell(pace: Pace, seconds: dict[bool, float], steps: int) -> list[bool]:
    """Whether each of so many steps was shared out, where one takes so long shared or not."""
    shared = []
    for _ in range(steps):
        shared.append(pace.threads(2) == 2)
        pace.took(seconds[shared[-1]])
    return shared


def test_small_steps_are_never_shared_and_large_ones_nearly_always() -> None:
    small = tell(Pace(), {False: 40e-6, True: 30e-6}, 20_000)
    assert not any(small)
    large = tell(Pace(), {False: 2e-3, True: 1.2e-3}, 1000)
    assert large[:4] == [False] * 4
    assert all(large[4:])


def test_small_steps_are_not_taken_for_large_ones_where_this_thread_loses_its_core_now_and_then() -> None:
    pace, shared = Pace(), []
    for number in range(5000):
        shared.append(pace.threads(2) == 2)
        pace.took(4e-3 if number % 16 == 5 else 40e-6)
    assert not any(shared)


def test_many_threads_get_no_more_than_the_work_is_worth() -> None:
    pace = Pace()
    tell(pace, {False: 6e-3, True: 0.5e-3}, 10)
    assert pace.threads(300) == 20
    assert pace.threads(4) == 4


def test_where_a_core_is_busy_steps_are_done_alone_and_sharing_is_tried_ever_more_rarely() -> None:
    pace = Pace()
    before = tell(pace, {False: 1e-3, True: 0.6e-3}, 500)
    busy = tell(pace, {False: 1e-3, True: 4e-3}, 20_000)
    assert all(before[4:])
    assert sum(busy) < 20_000 * 0.01
    # And shared again, once that is faster.
    after = tell(pace, {False: 1e-3, True: 0.6e-3}, 10_000)
    assert all(after[5000:])


def test_where_the_whole_machine_slows_down_steps_stay_shared() -> None:
    pace = Pace()
    tell(pace, {False: 1e-3, True: 0.6e-3}, 500)
    slower = tell(pace, {False: 3e-3, True: 1.8e-3}, 2000)
    assert sum(slower[100:]) > 1800


# Shares of one call


def test_the_parts_of_a_call_are_taken_by_who_is_free(monkeypatch: pytest.MonkeyPatch, processors_here: Any) -> None:
    monkeypatch.setattr(pool.POOL, "submit", lambda *_: None)
    seen: list[tuple[int, int]] = []
    with pool.limited(3):
        pool.run(lambda part, parts: seen.append((part, parts)), work=1e9)
    assert seen == [(0, 3), (1, 3), (2, 3)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_worker_sleeping_in_the_kernel_does_not_hold_up_a_fork(processors_here: Any) -> None:
    step, alone = made(2), made(1)
    train(step, 2)
    child = os.fork()
    if child == 0:
        good = False
        try:
            good = np.array_equal(train(step, 2), train(alone, 4))
        finally:
            os._exit(0 if good else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert np.array_equal(train(step, 2), train(alone, 4))
