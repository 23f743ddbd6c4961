"""The door to the kernels: what is there is used, what is missing is an error with the remedy, and nothing in silence.

Budget: under 1 s.
"""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from vae_np import VAE, backends, config, ops
from vae_np.errors import BackendError


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
    assert ("auto", *backends.NAMES) == config.BACKENDS


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


def test_the_remedy_names_only_what_is_there(kernels: ModuleType) -> None:
    with pytest.raises(BackendError, match=r"expected one of auto, numpy, numba$"):
        backends.choose("cupy")


@pytest.mark.parametrize("name", ["torch", "", "NumPy"])
def test_an_unknown_name_is_refused(name: str) -> None:
    for call in (backends.choose, backends.missing):
        with pytest.raises(BackendError, match=rf"backend: got '{name}', expected one of auto, numpy, numba, cupy"):
            call(name)
