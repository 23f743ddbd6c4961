"""The only door to the kernels: which backends exist, whether they are present here, and which one to use.

`numpy` is the reference and always there. Kernels are imported when they are asked for, never before.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from types import ModuleType

from vae_np import ops as reference
from vae_np.errors import BackendError

NAMES = ("numpy", "numba", "cupy")
_MODULES = {"numba": "vae_np.kernels.cpu", "cupy": "vae_np.kernels.gpu"}


@dataclass(frozen=True)
class Backend:
    """A backend's name, its implementation of the contract (`vae_np.ops`), and why it was chosen."""

    name: str
    ops: ModuleType
    reason: str


def missing(name: str) -> str | None:
    """Why a backend cannot be used here, in a few words; None if it can. Raises BackendError for an unknown name."""
    if name not in NAMES:
        raise BackendError(f"backend: got {name!r}, expected one of auto, {', '.join(NAMES)}")
    if name == "numpy" or importlib.util.find_spec(_MODULES[name]) is not None:
        return None
    return f"this version of vae-np has no {name} kernels"


def present() -> list[str]:
    """The backends that can be used here, the reference first."""
    return [name for name in NAMES if missing(name) is None]


def choose(name: str = "auto") -> Backend:
    """The backend of that name; `auto` takes the fastest one present. Never another one in silence.

    Raises BackendError if the name is unknown or the backend is missing, with what can be used instead.
    """
    if name == "auto":
        candidates = [candidate for candidate in ("numba", "numpy") if missing(candidate) is None]
        reason = "the fastest on this machine's CPU" if len(candidates) > 1 else "the only one present"
        return _load(candidates[0], reason)
    why = missing(name)
    if why is not None:
        raise BackendError(f"backend: got {name!r}, but {why}; expected one of auto, {', '.join(present())}")
    return _load(name, "asked for")


def _load(name: str, reason: str) -> Backend:
    return Backend(name, reference if name == "numpy" else importlib.import_module(_MODULES[name]), reason)
