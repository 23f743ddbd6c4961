"""After an exception: the pool is free, thread counts are what they were, and the next run gives its bits.

Budget: about 6 s once compiled.
"""

from __future__ import annotations

import linecache
import signal
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from vae_np import backends, data
from vae_np.config import Config
from vae_np.errors import InputError, NonFiniteError
from vae_np.training import loop
from vae_np.training.trainer import Trainer

if backends.missing("numba") is not None:
    pytest.skip(str(backends.missing("numba")), allow_module_level=True)

from vae_np.architecture import Architecture
from vae_np.kernels import cpu
from vae_np.kernels.cpu.fused import FusedStep, step
from vae_np.kernels.cpu.runtime import pool, processors, team
from vae_np.kernels.cpu.runtime.denormals import control_register
from vae_np.model import initialise
from vae_np.step import Optimiser, TrainingState

ARCH = Architecture(61, 3, (37, 18), "softplus")
X = (np.random.default_rng(0).random((16, 61)) < 0.2).astype(np.uint8)
# What of an x86 processor's register makes denormal numbers zero; the rest are flags that arithmetic raises.
DENORMALS = 0x8040
GREY = np.random.default_rng(1).integers(0, 256, (60, 16), np.uint8)


def trained(steps: int, fused: FusedStep | None = None) -> Any:
    fused = fused or FusedStep(ARCH, TrainingState(initialise(ARCH, seed=1, dtype=np.float32)), 16)
    for _ in range(steps):
        fused(X, np.arange(16), seed=0, optimiser=Optimiser())
    return fused.state.parameters.flat.copy()


def test_bad_input_leaves_the_step_as_it_was() -> None:
    expected, threads = trained(3), cpu.threads()
    fused = FusedStep(ARCH, TrainingState(initialise(ARCH, seed=1, dtype=np.float32)), 16)
    for x, rows, error in ((X[:, :5], np.arange(16), InputError), (X, np.arange(3), ValueError)):
        with pytest.raises(error):
            fused(x, rows, seed=0, optimiser=Optimiser())
        assert not pool.POOL.lock.locked()
    assert cpu.threads() == threads
    assert np.array_equal(trained(3, fused), expected)


def test_a_run_that_is_not_finite_leaves_the_next_one_its_bits() -> None:
    def run(lr: float) -> Any:
        config = Config(hidden=(8,), latent=2, batch_size=10, epochs=2, lr=lr)
        trainer = Trainer(config, backends.choose("numba"), GREY, data.BYTE)
        loop.run(trainer)
        return trainer.state.parameters.flat.copy()

    expected, threads = run(0.01), cpu.threads()
    with pytest.raises(NonFiniteError):
        run(1e30)
    assert not pool.POOL.lock.locked()
    assert cpu.threads() == threads
    assert np.array_equal(run(0.01), expected)


@pytest.mark.skipif(cpu.available() == 1, reason="one processor, so no worker")
@pytest.mark.parametrize("failing", [0, 1])
def test_what_one_part_raises_arrives_and_the_pool_is_free(failing: int) -> None:
    def body(part: int, parts: int) -> None:
        if part == failing:
            raise ZeroDivisionError(f"part {part} of {parts}")

    before = cpu.threads()
    cpu.set_threads(2)
    try:
        with pytest.raises(ZeroDivisionError, match=f"part {failing} of 2"):
            pool.run(body, work=1e9)
        assert not pool.POOL.lock.locked()
        seen: list[int] = []
        pool.run(lambda part, parts: seen.append(part), work=1e9)
        assert sorted(seen) == [0, 1]
    finally:
        cpu.set_threads(before)


def test_thread_counts_of_others_are_not_touched() -> None:
    """A process of its own: asking Numba starts its threads."""
    code = (
        "import os, numba, numpy as np\n"
        "from vae_np.kernels import cpu\n"
        "try: from threadpoolctl import threadpool_info\n"
        "except ImportError: threadpool_info = list\n"
        "def counts(): return (numba.get_num_threads(), cpu.threads(), dict(os.environ),\n"
        "                      [(i['filepath'], i['num_threads']) for i in threadpool_info()])\n"
        "before = counts()\n"
        "cpu.warmup(evaluation=False)\n"
        "try: cpu.affine_act_forward(*np.zeros((3, 2, 2)), 'gelu')\n"
        "except ValueError: pass\n"
        "else: raise SystemExit('no exception')\n"
        "*after, pools = counts()\n"
        # Compiling, where no cache saves it, loads one more library of linear algebra.
        "assert after == list(before[:-1]) and all(pool in pools for pool in before[-1])\n"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


class Pressing:
    """Raises KeyboardInterrupt before the `at`-th line of Python in a fused step.

    An interpreter hears of a signal after a call, at a function's start and at a loop's end: so neither before a
    `with` lets go, nor before the one statement of a `finally`.
    """

    def __init__(self, at: int) -> None:
        self.at, self.count, self.line = at, 0, ""

    def __call__(self, frame: Any, event: str, argument: Any) -> Any:
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
        if event == "line" and not line.startswith(("with ", "state.step +=")):
            self.count += 1
            if self.count == self.at:
                self.line = line
                raise KeyboardInterrupt
        return self if frame.f_code.co_filename in (step.__file__, team.__file__) else None


@pytest.mark.parametrize("threads", [1, 2])
def test_ctrl_c_at_any_line_leaves_a_whole_step_or_none_and_counts_it(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the same step, which has its buffers and threads still, goes on to the same bits."""
    monkeypatch.setattr(processors, "affinity", lambda: 2)
    monkeypatch.setattr(processors, "quota", lambda: None)
    # By the number of steps: parameters and moments.
    expected = []
    fused = made(threads)
    for _ in range(5):
        expected.append(held(fused))
        trained(1, fused)
    ends, at, register = set(), 0, control_register() & DENORMALS
    while 2 not in ends:
        at += 1
        fused = made(threads)
        trained(2, fused)
        pressing = Pressing(at)
        sys.settrace(pressing)
        try:
            trained(1, fused)
        except KeyboardInterrupt:
            ends.add(fused.state.step - 2)
        else:
            ends.add(2)
        finally:
            sys.settrace(None)
        assert held(fused) == expected[fused.state.step], pressing.line
        assert not pool.POOL.lock.locked()
        assert control_register() & DENORMALS == register, pressing.line
        while fused.state.step < 4:
            trained(1, fused)
            assert held(fused) == expected[fused.state.step], pressing.line
    assert ends == {0, 1, 2}


def made(threads: int) -> FusedStep:
    with pool.limited(threads):
        fused = FusedStep(ARCH, TrainingState(initialise(ARCH, seed=1, dtype=np.float32)), 16)
    fused._team.pace.threads = lambda most: most  # type: ignore[method-assign]
    return fused


def held(fused: FusedStep) -> tuple[bytes, ...]:
    return fused.state.parameters.flat.tobytes(), *(moment.tobytes() for moment in fused.state.moments().values())


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer that sends a signal here")
def test_ctrl_c_at_any_moment_leaves_no_worker_waiting_and_no_lock_held() -> None:
    """A process of its own, which has to end: a worker that waits for ever would hang the next training."""
    code = (
        "import random, signal, sys\n"
        f"sys.path.insert(0, {str(__file__.rpartition('/')[0])!r})\n"
        "from test_exceptions import pool, np, trained\n"
        "def ring(*_): raise KeyboardInterrupt\n"
        "signal.signal(signal.SIGALRM, ring)\n"
        "expected, times = trained(20), random.Random(0)\n"
        "for _ in range(60):\n"
        "    try:\n"
        "        signal.setitimer(signal.ITIMER_REAL, 1e-4 + 4e-3 * times.random())\n"
        "        trained(10**9)\n"
        "    except KeyboardInterrupt: pass\n"
        "    assert not pool.POOL.lock.locked(), 'the lock is held'\n"
        "    assert np.array_equal(trained(20), expected), 'other bits'\n"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert process.returncode == 0, process.stderr
