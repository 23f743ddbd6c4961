"""The door to the kernels: what is there is used, what is missing is an error with the remedy, and nothing happens
silently.

Budget: under 1 s.
"""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest

from vae_np import VAE, backends, config, data, ops
from vae_np.architecture import Architecture
from vae_np.errors import BackendError
from vae_np.training.trainer import Trainer


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which there are no kernels at all."""
    monkeypatch.setattr(backends, "_MODULES", {"numba": "vae_np.no_such_cpu", "cupy": "vae_np.no_such_gpu"})


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A machine with CPU kernels, which are imported when they are asked for and not before."""
    monkeypatch.setattr(backends, "_MODULES", {"numba": "stand_in_kernels", "cupy": "vae_np.no_such_gpu"})
    module = ModuleType("stand_in_kernels")
    monkeypatch.setattr(backends.importlib.util, "find_spec", lambda name: module if name == module.__name__ else None)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def test_numpy_is_the_contract_itself_and_always_there() -> None:
    backend = backends.choose("numpy")
    assert (backend.name, backend.ops, backend.reason) == ("numpy", ops, "asked for")
    assert backends.missing("numpy") is None


def test_the_names_are_those_of_the_configuration() -> None:
    (option,) = (option for option in config.options() if option.name == "backend")
    assert isinstance(option.kind, config.Choice)
    assert option.kind.choices == backends.CHOICES == ("auto", *backends.NAMES)


def test_auto_takes_numpy_where_nothing_else_is_there(absent: None) -> None:
    backend = backends.choose("auto")
    assert (backend.name, backend.ops) == ("numpy", ops)
    assert backend.reason == "no numba: this version of vae-np has no numba kernels"


def test_auto_takes_the_cpu_kernels_and_says_why(kernels: ModuleType) -> None:
    backend = backends.choose()
    assert (backend.name, backend.ops) == ("numba", kernels)
    assert backend.reason == "the fastest on this machine's CPU"
    assert backends.choose("numpy").ops is ops
    assert backends.choose("numba").ops is kernels


@pytest.mark.parametrize("name", ["numba", "cupy"])
def test_a_backend_that_is_missing_is_an_error_with_the_remedy(name: str, absent: None) -> None:
    with pytest.raises(BackendError, match=rf"backend: got '{name}', but .*; expected one of auto, numpy$"):
        backends.choose(name)
    with pytest.raises(BackendError, match=rf"backend: got '{name}'"):
        VAE(4, hidden=(2,), latent=1, backend=name)
    assert name in (backends.missing(name) or "")


def test_kernels_that_are_there_may_still_say_what_is_in_their_way(kernels: ModuleType) -> None:
    kernels.problem = lambda: "no device was found"  # type: ignore[attr-defined]
    assert backends.missing("numba") == "no device was found"
    assert backends.choose("auto").reason == "no numba: no device was found"
    kernels.problem = lambda: None  # type: ignore[attr-defined]
    assert backends.missing("numba") is None
    assert backends.choose("numba").device is None
    kernels.device_line = lambda: "a device"  # type: ignore[attr-defined]
    assert backends.choose("numba").device == "a device"


def test_a_step_is_fused_for_the_objectives_that_the_kernels_name(kernels: ModuleType) -> None:
    """The bound of K samples is asked for with K; what is not named, or not for so many samples, is composed."""
    made: list[dict[str, int]] = []
    kernels.unsupported = lambda arch: None  # type: ignore[attr-defined]
    kernels.FusedStep = lambda arch, state, batch, **more: made.append(more)  # type: ignore[attr-defined]
    backend, arch = backends.choose("numba"), Architecture(4, 1, (2,))
    rows, settings = np.zeros((6, 4), np.uint8), {"hidden": (2,), "latent": 1, "batch_size": 2}

    def steps(objective: str, samples: int) -> str:
        Trainer(config.Config(objective=objective, samples=samples, **settings), backend, rows, data.BINARY)
        return backend.describe("steps", arch, objective, samples)

    assert steps("elbo", 1) == "fused steps"
    assert steps("iwae", 3) == "composed steps (nothing is fused for objective iwae)"
    kernels.OBJECTIVES = ("elbo", "iwae")  # type: ignore[attr-defined]
    assert steps("iwae", 3) == steps("iwae", 1) == "fused steps"
    assert steps("elbo", 2) == "composed steps (nothing is fused for the ELBO of several samples)"
    assert steps("dreg", 3) == "composed steps (nothing is fused for objective dreg)"
    assert made == [{}, {"samples": 3}, {"samples": 1}]
    kernels.unsupported = lambda arch: "nothing is fused today"  # type: ignore[attr-defined]
    assert steps("iwae", 3) == "composed steps (nothing is fused today)"


def test_the_remedy_names_only_what_is_there(kernels: ModuleType) -> None:
    with pytest.raises(BackendError, match=r"expected one of auto, numpy, numba$"):
        backends.choose("cupy")


@pytest.mark.parametrize("name", ["torch", "", "NumPy"])
def test_an_unknown_name_is_refused(name: str) -> None:
    for call in (backends.choose, backends.missing):
        with pytest.raises(BackendError, match=rf"backend: got '{name}', expected one of auto, numpy, numba, cupy"):
            call(name)
