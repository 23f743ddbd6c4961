"""Ranks with a device each: blocks of gradients that stay there, and NCCL between them, told by MPI.

The kernels are compiled for the processor (tests/gpu/shimlib.py), the ranks are threads, and `Nccl` below stands for
CuPy's module: that proves what is sent where and added up in which order, and nothing about devices or NCCL itself.
Budget: about 15 s.
"""

from __future__ import annotations

import ctypes
import queue
import re
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import shimlib
from in_threads import results, together

from vae_np import VAE, backends, data
from vae_np.config import Config
from vae_np.data import bars
from vae_np.distributed import ALONE, Communicator
from vae_np.errors import DeviceError, InputError, NonFiniteError
from vae_np.kernels import gpu
from vae_np.kernels.check import compare
from vae_np.kernels.gpu import _device, exchange, problems
from vae_np.training import gradient_blocks, loop, trainer
from vae_np.training.progress import StopTraining
from vae_np.training.trainer import Trainer

GREY = np.where(bars(4, 60, 0)[0] == 1, 230, 25).astype(np.uint8)


class Nccl:
    """What `cupy.cuda.nccl` offers, among threads: a group's sendings are there at once, its receivings are waited for.

    `streams` has the stream of every call, `made` each communicator's number and rank.
    """

    NCCL_FLOAT32, NCCL_FLOAT64, available = 7, 8, True

    class NcclError(RuntimeError):
        pass

    def __init__(self) -> None:
        self._post: dict[tuple[Any, ...], queue.Queue[Any]] = defaultdict(queue.Queue)
        self._group = threading.local()
        self._lock = threading.Lock()
        self.streams: set[int] = set()
        self.made: list[tuple[bytes, int]] = []
        self.broken = False

    def get_unique_id(self) -> bytes:
        return bytes([len(self.made)]) * 128

    def groupStart(self) -> None:
        self._group.queued = []

    def groupEnd(self) -> None:
        sent, received = ([one for one in self._group.queued if one[0] == what] for what in ("send", "recv"))
        for _, address, place, kind, size in sent:
            self._at(place).put((kind, ctypes.string_at(address, size)))
        for _, address, place, kind, size in received:
            there, content = self._at(place).get(timeout=60)
            assert (there, len(content)) == (kind, size)
            ctypes.memmove(address, content, size)

    def _at(self, place: tuple[Any, ...]) -> queue.Queue[Any]:
        with self._lock:
            return self._post[place]

    def NcclCommunicator(self, size: int, number: bytes, rank: int) -> Any:
        assert isinstance(number, bytes)
        self.made.append((number, rank))

        def queued(what: str, address: int, count: int, kind: int, peer: int, stream: int) -> None:
            if self.broken:
                raise self.NcclError("NCCL_ERROR_SYSTEM_ERROR: unhandled system error")
            assert 0 <= peer < size
            assert peer != rank
            self.streams.add(stream)
            place = (number, rank, peer) if what == "send" else (number, peer, rank)
            self._group.queued.append((what, address, place, kind, count * (8 if kind == self.NCCL_FLOAT64 else 4)))

        return SimpleNamespace(
            send=lambda *args: queued("send", *args), recv=lambda *args: queued("recv", *args)
        )


class InTurns(shimlib.ShimDevice):
    """One kernel at a time: blocks of all threads would share their memory. Its work is queued on stream 5."""

    def __init__(self) -> None:
        super().__init__(library=Nccl())
        self._turn = threading.Lock()

    def prepare(self, *args: Any, **more: Any) -> Any:
        with self._turn:
            launch = super().prepare(*args, **more)

        def in_turn() -> None:
            with self._turn:
                launch()

        return in_turn

    def stream(self) -> int:
        return 5


@pytest.fixture(autouse=True)
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[InTurns]:
    shimlib.require_compiler()
    monkeypatch.setattr(gpu, "problem", lambda: None)
    monkeypatch.setattr(gpu, "join", lambda communicator: None)
    # The models here are so small that a whole one would be a single part.
    monkeypatch.setattr(gradient_blocks, "_PIECE", 16)
    with _device.use(InTurns()) as door:
        yield door  # type: ignore[misc]  # (what `use` gives is a Device)


def trained(communicator: Communicator = ALONE, backend: str = "cupy", **changes: Any) -> Trainer:
    how = {"hidden": (8,), "latent": 2, "batch_size": 12, "gradient_blocks": 6, "epochs": 2, "lr": 0.01, "seed": 4}
    config = Config(**{**how, "values": "byte", "scale": 255.0, **changes})
    made = Trainer(config, backends.choose(backend), GREY, data.BYTE, communicator=communicator)
    loop.run(made)
    return made


def bits(made: Trainer) -> list[Any]:
    arrays = made.state.parameters.flat, *made.moments().values()
    return [*(array.tobytes() for array in arrays), repr(made.running), made.state.step]


IWAE = {"dtype": "float64", "objective": "iwae", "samples": 3, "gradient_blocks": 4}


@pytest.mark.parametrize(("changes", "sizes"), [
    ({"epochs": 1}, (3,)), ({**IWAE, "epochs": 1}, (2,)),
    pytest.param({}, (2, 3, 4, 6), marks=pytest.mark.slow), pytest.param(IWAE, (2, 3, 4), marks=pytest.mark.slow),
])  # fmt: skip
def test_any_number_of_devices_leaves_the_same_bits(
    changes: dict[str, Any], sizes: Sequence[int], device: InTurns
) -> None:
    expected = bits(trained(**changes))
    assert device.library.made == []
    for size in sizes:
        assert all(found == expected for found in results(size, lambda them: bits(trained(them, **changes))))
        # Rank 0 has drawn a number, and all have it; and nothing is queued elsewhere than the kernels are.
        assert len({number for number, _ in device.library.made}) == 1
        assert [rank for _, rank in sorted(device.library.made)] == list(range(size))
        device.library.made.clear()
    assert device.library.streams == {5}


@pytest.mark.parametrize("changes", [{}, {"objective": "iwae", "samples": 3, "beta": 0.5, "beta_warmup": 1}])
def test_they_are_the_references_within_the_kernels_tolerance(changes: dict[str, Any]) -> None:
    ours, theirs = (trained(backend=name, dtype="float64", **changes) for name in ("cupy", "numpy"))
    compare(ours.state.parameters.flat, theirs.state.parameters.flat).check(1e-9, "parameters")
    assert ours.running == pytest.approx(theirs.running)


def test_what_has_no_fused_step_goes_through_the_hosts_memory(device: InTurns) -> None:
    """Adagrad's update and composed steps: the same bits, and nothing for NCCL to do."""
    for changes in ({"optimizer": "adagrad", "gradient_blocks": 2}, {"objective": "dreg", "gradient_blocks": 2}):
        expected = bits(trained(epochs=1, **changes))
        found = results(2, lambda them, changes=changes: bits(trained(them, epochs=1, **changes)))  # type: ignore[misc]  # early binding
        assert found == [expected, expected]
    assert device.library.made == []


def test_blocks_that_are_added_in_another_order_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: each rank's blocks first, and then the ranks' sums."""

    class ByRank(gradient_blocks.Tree):
        def sum(self, held: Any, add: Any) -> Any:
            first, *others = (held[branch] for branch in sorted(held))
            for other in others:
                add(first, other)
            return first

    monkeypatch.setattr(gradient_blocks, "Tree", ByRank)
    (of_three, *_), (of_two, *_) = (results(size, lambda them: bits(trained(them))) for size in (3, 2))
    assert of_three != of_two


def test_a_stop_leaves_the_whole_state_on_all_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    # A metrics line comes in the middle of an epoch, too.
    monkeypatch.setattr(trainer, "METRICS_STEPS", 2)

    def body(communicator: Communicator) -> Any:
        vae = VAE(16, hidden=(8,), latent=2, backend="cupy")

        def stop(line: Any) -> None:
            raise StopTraining

        vae.fit(GREY, batch_size=12, gradient_blocks=3, epochs=1, on_metrics=stop, communicator=communicator)
        begun = vae._state.step
        vae.fit(GREY, batch_size=12, gradient_blocks=3, epochs=1, communicator=communicator)
        return [array.tobytes() for array in (vae.parameters.flat, *vae._state.moments().values())], begun

    expected = body(ALONE)
    assert 0 < expected[1] < 5
    assert all(found == expected for found in results(2, body))


def test_a_stop_before_the_first_step_changes_nothing() -> None:
    config = Config(hidden=(8,), latent=2, batch_size=12, gradient_blocks=3, values="byte", scale=255.0)

    def body(communicator: Communicator) -> bool:
        ours = Trainer(config, backends.choose("cupy"), GREY, data.BYTE, communicator=communicator)
        before = ours.state.parameters.flat.copy()
        assert not loop.run(ours, should_stop=lambda: True)
        return np.array_equal(ours.state.parameters.flat, before)

    assert results(2, body) == [True, True]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_is_not_finite_has_the_same_name_on_all() -> None:
    errors = together(2, lambda communicator: trained(communicator, lr=1e30, epochs=5))
    (alone,) = together(1, lambda communicator: trained(communicator, lr=1e30, epochs=5))
    assert all(isinstance(error, NonFiniteError) for error in errors)
    assert {str(error) for error in errors} == {str(alone)}


def test_a_failure_of_nccl_is_one_line(device: InTurns) -> None:
    device.library.broken = True
    for error in together(2, trained):
        assert isinstance(error, DeviceError)
        assert str(error) == "NCCL failed at an exchange: NCCL_ERROR_SYSTEM_ERROR: unhandled system error"


# Which device is whose


class Machine(problems.Probes):
    """What one rank finds: how many devices it sees, and their identities."""

    def __init__(self, devices: Sequence[str], lacks: str | None = None) -> None:
        self._devices, self._lacks, self.taken = devices, lacks, 0

    def device_count(self) -> int:
        return len(self._devices)

    def take_device(self, number: int) -> None:
        self.taken = number

    def device_identity(self) -> str:
        return self._devices[self.taken]

    def nccl_problem(self) -> str | None:
        return self._lacks


def joined(*machines: Machine) -> list[Any]:
    return together(len(machines), lambda communicator: exchange.join(communicator, machines[communicator.rank]))


def test_each_rank_takes_a_device_of_its_own() -> None:
    machines = [Machine(["a", "b", "c"]) for _ in range(3)]
    assert joined(*machines) == [None] * 3
    assert [machine.taken for machine in machines] == [0, 1, 2]
    # With a CUDA_VISIBLE_DEVICES of its own, each sees one, as the first.
    machines = [Machine([name]) for name in "ab"]
    assert joined(*machines) == [None] * 2
    assert [machine.taken for machine in machines] == [0, 0]


@pytest.mark.parametrize(("machines", "why"), [
    ([Machine(["a"]), Machine(["a"])], "for 2 ranks, but ranks 0 and 1 on .* have the same device; start as many"),
    ([Machine(["a", "b"]) for _ in range(3)], "for 3 ranks, 3 of them on .*, which shows 2 devices, expected one for"),
    ([Machine(["a"]), Machine(["b"], "NCCL was not found")], "for 2 ranks, but on rank 1 on .* NCCL was not found"),
])  # fmt: skip
def test_too_few_devices_are_a_mistake_on_all(machines: list[Machine], why: str) -> None:
    for error in joined(*machines):
        assert isinstance(error, InputError)
        assert re.match(f"backend: got 'cupy' {why}", str(error)), error
