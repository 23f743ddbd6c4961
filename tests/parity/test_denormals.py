"""Denormal numbers count as zero inside compiled regions, and the processor's register is what it was outside.

Budget: about 2 s once compiled.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vae_np import backends

if backends.missing("numba") is not None:
    pytest.skip(str(backends.missing("numba")), allow_module_level=True)

from vae_np.architecture import Architecture
from vae_np.kernels import cpu
from vae_np.kernels.check import compare
from vae_np.kernels.cpu.fused import FusedStep
from vae_np.kernels.cpu.runtime import denormals as denormals_module
from vae_np.kernels.cpu.runtime import pool
from vae_np.kernels.cpu.runtime.denormals import control_register, flushed
from vae_np.model import initialise
from vae_np.step import Optimiser, TrainingState

TINY = np.finfo(np.float32).tiny
ARCH = Architecture(61, 3, (37, 18), "tanh")
X = (np.random.default_rng(0).random((16, 61)) < 0.2).astype(np.uint8)


def modes() -> int:
    """This thread's register, without the six flags that arithmetic raises."""
    return control_register() & ~63


KNOWN = modes()
INSIDE = flushed(modes)
needs_register = pytest.mark.skipif(INSIDE == KNOWN, reason="this processor has no register that flushes denormals")


def denormals(values: Any) -> int:
    return int(((values != 0) & (np.abs(values) < TINY)).sum())


@needs_register
def test_the_register_flushes_inside_and_is_restored_outside() -> None:
    assert modes() == KNOWN
    seen: list[int] = []
    pool.run(lambda part, parts: seen.append(modes()), work=1e9)
    assert seen
    assert set(seen) == {INSIDE}
    assert modes() == KNOWN


@needs_register
def test_the_register_is_restored_after_an_exception() -> None:
    def body(part: int, parts: int) -> None:
        raise RuntimeError(part)

    for work in (0.0, 1e9):
        with pytest.raises(RuntimeError):
            pool.run(body, work=work)
        assert modes() == KNOWN


@needs_register
@pytest.mark.parametrize("call", ["control_register", "flush", "body", "restore"])
def test_ctrl_c_after_any_call_leaves_the_register_as_it_was(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interpreter hears of a signal when a call has ended: the call is made, and then its line fails."""

    def pressed(function: Any) -> Any:
        def then_pressed(*args: Any) -> None:
            function(*args)
            raise KeyboardInterrupt

        return then_pressed

    def body(part: int, parts: int) -> None:
        assert modes() == INSIDE

    if call != "body":
        monkeypatch.setattr(denormals_module, call, pressed(getattr(denormals_module, call)))
    with pytest.raises(KeyboardInterrupt):
        pool.run(pressed(body) if call == "body" else body, work=0)
    assert modes() == KNOWN


@needs_register
@pytest.mark.parametrize("threads", [1, 2])
def test_a_step_leaves_no_denormal_moment_and_the_register_as_it_was(threads: int) -> None:
    before, count = cpu.threads(), min(threads, cpu.available())
    cpu.set_threads(count)
    try:
        state = TrainingState(initialise(ARCH, seed=1, dtype=np.float32))
        step = FusedStep(ARCH, state, 16)
        # Moments of a pixel that is never active decay step by step, until they are denormal.
        state.first_moment.flat[:] = TINY * np.float32(1.05)
        state.second_moment.flat[:] = 0
        assert denormals(state.first_moment.flat * np.float32(0.9)) == state.first_moment.flat.size
        step(0 * X, np.arange(16), seed=0, optimiser=Optimiser())
        assert denormals(state.first_moment.flat) == denormals(state.second_moment.flat) == 0
        assert modes() == KNOWN
        assert (state.first_moment["encoder.hidden.0.weight"] == 0).all()
    finally:
        cpu.set_threads(before)


@needs_register
def test_numpy_keeps_its_denormals_after_an_operation() -> None:
    cpu.adam_update(*np.ones((4, 8), np.float32), step=1, lr=0.1)
    assert denormals(np.full(8, TINY) * np.float32(0.5)) == 8


def test_compare_counts_denormal_numbers_as_zero() -> None:
    assert compare(np.zeros(2, np.float32), np.array([1e-40, 0.0])).error == 0.0
    assert compare(np.array([1e-40, 1.0], np.float32), np.array([0.0, 1.0])).error == 0.0
    assert compare(np.array([1e-37, 0.0], np.float32), np.zeros(2)).error == np.inf
    assert compare(np.array([1e-40, 0.0]), np.zeros(2)).error == np.inf
