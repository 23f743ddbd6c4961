"""The only door to the kernels: which backends exist, whether they are present here, and which one to use.

`numpy` is the reference and always there. Kernels are imported when they are asked for, never before.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from vae_np import ops as reference
from vae_np._types import Array
from vae_np.architecture import Architecture
from vae_np.choices import BACKENDS
from vae_np.distributed import Communicator, check_agreement
from vae_np.elbo import Terms
from vae_np.errors import BackendError
from vae_np.precision import FULL
from vae_np.step import Optimiser, TrainingState

_MODULES = {"numba": "vae_np.kernels.cpu", "cupy": "vae_np.kernels.gpu"}
NAMES = ("numpy", *_MODULES)
# What a setting or an option may name.
CHOICES = BACKENDS
_OLDEST_NUMBA = (0, 61)


class FusedStep(Protocol):
    """A training step as one compiled function, made for one architecture, state and batch size.

    It is called like `vae_np.step.training_step`, changes the same buffers and returns the same terms. x is bytes:
    binary ones or, with `grey`, values 0..255 whose pixels are drawn from the BINARIZE stream. A likelihood that takes
    floats takes them here too.
    """

    def __call__(
        self, x: Array, rows: Array, *, seed: int, optimiser: Optimiser, beta: float = ..., grey: bool = ...
    ) -> Terms: ...

    def gradients(self, x: Array, rows: Array, *, seed: int, beta: float = ..., grey: bool = ...) -> Terms:
        """The part of a step that moves nothing: the gradient of the batch's mean goes into the state's buffer."""

    @property
    def finite(self) -> bool:
        """Whether the last step's terms, and the parameters and moments that it left, are all finite."""


@dataclass(frozen=True)
class Backend:
    """A backend's name, its implementation of the contract (`vae_np.ops`), and why it was chosen.

    A backend may also have fused loops for some architectures: one for the training step, and one for the log weights
    from which log p(x) is estimated. Everything else is composed from the contract's operations. With `threads`, the
    backend uses at most that many; results do not depend on their number.
    """

    name: str
    ops: ModuleType
    reason: str
    threads: int | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # By name: a module cannot be pickled, and another machine may lack this backend.
        return _again, (self.name, self.reason, self.threads)

    def unfused(self, arch: Architecture) -> str | None:
        """Why steps and evaluation of an architecture are composed; None if they are fused."""
        if not hasattr(self.ops, "unsupported"):
            return f"{self.name} has nothing fused"
        if arch.posterior != "diagonal":
            return f"nothing is fused for posterior {arch.posterior}"
        if arch.refine_steps:
            return "nothing is fused for refined inference"
        if arch.observation is not None and not arch.is_composed:
            return "nothing is fused for data with missing cells"
        if arch.prior != "standard":
            return f"nothing is fused for prior {arch.prior}"
        if arch.conditions:
            return "nothing is fused for a conditional model"
        why: str | None = self.ops.unsupported(arch)
        return why

    def unfused_step(self, arch: Architecture, objective: str, samples: int) -> str | None:
        """Why training steps for an objective are composed; None if they are fused."""
        why = self.unfused(arch)
        if why is None and objective not in getattr(self.ops, "OBJECTIVES", ("elbo",)):
            return f"nothing is fused for objective {objective}"
        if why is None and objective == "elbo" and samples > 1:
            return "nothing is fused for the ELBO of several samples"
        return why

    def unfused_evaluation(self, arch: Architecture) -> str | None:
        """Why the log weights of an evaluation are composed; None if they are fused."""
        why = self.unfused(arch)
        if why is None and arch.top_latent is not None:
            return "no evaluation is fused for two stochastic layers"
        return why

    def check_precision(
        self, precision: str, arch: Architecture | None = None, objective: str = "elbo", samples: int = 1
    ) -> None:
        """Raises BackendError where the matrix products of a training step cannot have this precision here."""
        why = self.precision_problem(precision)
        if why is None and precision != FULL and arch is not None:
            unfused = self.unfused_step(arch, objective, samples)
            why = None if unfused is None else f"only fused steps have such products, and {unfused}"
        if why is not None:
            raise BackendError(f"precision: got {precision!r}, but {why}")

    def precision_problem(self, precision: str) -> str | None:
        """Why no training step can have products of a precision here; None where some can."""
        if precision == FULL:
            return None
        if not hasattr(self.ops, "precision_problem"):
            return f"backend {self.name} has only {FULL} products"
        why: str | None = self.ops.precision_problem(precision)
        return why

    def describe_precision(self, precision: str) -> str | None:
        """`bf16 products by AMX`, or what else a precision is computed by here; None where products are full."""
        return None if precision == FULL else str(self.ops.precision_line(precision))

    def describe(self, what: str, arch: Architecture, objective: str = "elbo", samples: int = 1) -> str:
        """`fused steps` or `composed steps (reason)`, for what = steps or evaluation; no reason where none ever is."""
        why = self.unfused_step(arch, objective, samples) if what == "steps" else self.unfused_evaluation(arch)
        if why is None:
            return f"fused {what}"
        return f"composed {what} ({why})" if hasattr(self.ops, "unsupported") else f"composed {what}"

    def fused_step(
        self,
        arch: Architecture,
        state: TrainingState,
        batch: int,
        samples: int | None = None,
        precision: str = FULL,
    ) -> FusedStep | None:
        """The fused step that changes `state`, on batches of `batch` rows; None where steps are composed.

        It climbs the ELBO or, with `samples`, the bound of that many samples per example. Raises BackendError for a
        `precision` of its products that is not to be had here. [D41]
        """
        objective = "elbo" if samples is None else "iwae"
        self.check_precision(precision, arch, objective, samples or 1)
        if self.unfused_step(arch, objective, samples or 1) is not None:
            return None
        more: dict[str, Any] = {} if samples is None else {"samples": samples}
        more |= {} if precision == FULL else {"precision": precision}
        return self.ops.FusedStep(arch, state, batch, **more)

    def join(self, communicator: Communicator) -> None:
        """Share a computation with the same backend of other processes; on devices each takes one of its own.

        All processes call it together. Raises InputError, on all, where one has another backend, or no device of its
        own.
        """
        check_agreement(communicator, {"backend": self.name})
        if communicator.size > 1 and hasattr(self.ops, "join"):
            self.ops.join(communicator)

    def shared_step(
        self, arch: Architecture, state: TrainingState, batch: int, samples: int | None, communicator: Communicator
    ) -> Any:
        """Gradients of blocks of `batch` rows that stay on a device, and the buffers for steps that processes share.

        None where a backend has no device; then its `fused_step` leaves gradients on the host.
        """
        make = getattr(self.ops, "SharedStep", None)
        return None if make is None else make(arch, state, batch, samples, communicator)

    def fused_run(self, arch: Architecture) -> Callable[..., Any] | None:
        """Maker of steps on data that stay on a device, for `vae_np.training.device_loop`; None where there is none."""
        return getattr(self.ops, "FusedRun", None) if self.unfused(arch) is None else None

    def fused_log_weights(self, arch: Architecture) -> Callable[..., Array] | None:
        """(ops, arch, parameters, x, rows, *, samples, seed) → log w (S, B); None where that is composed. [D34]"""
        return None if self.unfused_evaluation(arch) is not None else self.ops.log_weights

    def warmup(self, arch: Architecture, dtype: Any, precision: str = FULL, **parts: bool) -> float:
        """Compile ahead what a model's `step` and `evaluation` call (both by default); return the seconds it took."""
        more = {} if precision == FULL else {"precision": precision}
        return float(self.ops.warmup(arch, dtype, **more, **parts)) if self.unfused(arch) is None else 0.0

    def on_compile(self, listener: Callable[[], None] | None) -> None:
        """Have `listener` called once, before the next compilation that no cache saves."""
        if hasattr(self.ops, "on_compile"):
            self.ops.on_compile(listener)

    @property
    def cache_problem(self) -> str | None:
        """Why compiled code is not kept between runs; None if it is, or if there is none."""
        line: str | None = self.ops.CACHE_PROBLEM.line if hasattr(self.ops, "CACHE_PROBLEM") else None
        return line

    def on_cache_problem(self, listener: Callable[[str], None] | None) -> None:
        """Have `listener` called with the reason when compiled code can no longer be kept, as on a full disk."""
        if hasattr(self.ops, "CACHE_PROBLEM"):
            self.ops.CACHE_PROBLEM.on_change(listener)

    @property
    def used_threads(self) -> tuple[int, str] | None:
        """How many threads the backend uses, and what decided that; None where that is up to a library or a device."""
        return self.ops.describe_threads() if hasattr(self.ops, "describe_threads") else None

    @property
    def device(self) -> str | None:
        """The device that the backend computes on, in a few words; None where that is the processor."""
        return str(self.ops.device_line()) if hasattr(self.ops, "device_line") else None

    @property
    def vector_bits(self) -> int | None:
        """How wide the vectors are that the backend computes with on this processor; None where that is not known."""
        size: int | None = getattr(self.ops, "VECTOR_BYTES", None)
        return None if size is None else 8 * size


def missing(name: str) -> str | None:
    """Why a backend cannot be used here, with the remedy; None if it can. Raises BackendError for an unknown name."""
    if name not in NAMES:
        raise BackendError(f"backend: got {name!r}, expected one of {', '.join(CHOICES)}")
    if name == "numpy":
        return None
    why = _link_problem()
    if why is not None:
        return why
    if importlib.util.find_spec(_MODULES[name]) is None:
        return f"this version of vae-np has no {name} kernels"
    if name == "numba":
        why = _numba_problem()
        if why is not None:
            return why
    try:
        kernels = importlib.import_module(_MODULES[name])
    except ImportError as error:
        return f"its kernels cannot be imported ({' '.join(str(error).split())})"
    if not hasattr(kernels, "problem"):
        return None
    found: str | None = kernels.problem()
    return found


def _link_problem() -> str | None:
    """What is wrong with the folder of the kernels: in a checkout it is a symbolic link, which not every system has."""
    if not (Path(__file__).parent / "kernels").is_file():
        return None
    return (
        "vae_np/kernels: got a file, expected the folder of the kernels (a checkout without symbolic links has a file "
        "there); put a copy of the folder kernels in its place"
    )


def _numba_problem() -> str | None:
    """What is wrong with the Numba that is installed, if anything; Numba is not imported to find out."""
    oldest = ".".join(map(str, _OLDEST_NUMBA))
    remedy = f"install it with: pip install 'numba>={oldest}'"
    try:
        version = metadata.version("numba")
    except metadata.PackageNotFoundError:
        return f"Numba is not installed; {remedy}"
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    return None if numbers >= _OLDEST_NUMBA else f"Numba {version} is too old; {remedy}"


def present() -> list[str]:
    """The backends that can be used here, the reference first."""
    return [name for name in NAMES if missing(name) is None]


def choose(name: str = "auto", threads: int | None = None) -> Backend:
    """The backend of that name; `auto` takes the fastest one present. Another one is never taken silently.

    It uses at most `threads` threads. Raises BackendError if the name is unknown or the backend is missing (the message
    names what can be used instead), or if its threads cannot be limited; raises InputError if there are fewer threads.
    """
    found = _choose(name)
    if threads is None:
        return found
    if not hasattr(found.ops, "OnThreads"):
        why = {
            "numpy": "NumPy's BLAS has its own, which OMP_NUM_THREADS or OPENBLAS_NUM_THREADS set before Python starts",
            "cupy": "a device has its own",
        }[found.name]
        raise BackendError(f"threads: got {threads}, but backend {found.name} takes no number of threads: {why}")
    return replace(found, ops=found.ops.OnThreads(found.ops, threads), threads=threads)


def _choose(name: str) -> Backend:
    if name == "auto":
        why = missing("numba")
        if why is None:
            return _load("numba", "the fastest on this machine's CPU")
        # A broken installation is an error, and no reason to compute slowly without saying why.
        if why == _link_problem():
            raise BackendError(f"backend: got 'auto', but {why}")
        return _load("numpy", f"no numba: {why}")
    why = missing(name)
    if why is not None:
        raise BackendError(f"backend: got {name!r}, but {why}; expected one of auto, {', '.join(present())}")
    return _load(name, "asked for")


def _again(name: str, reason: str, threads: int | None) -> Backend:
    """A backend that has been copied or unpickled; raises BackendError where it is missing here."""
    found = choose(name)
    if threads is not None:
        # Another machine may have fewer processors.
        found = choose(name, min(threads, found.ops.available()))
    return replace(found, reason=reason)


def _load(name: str, reason: str) -> Backend:
    return Backend(name, reference if name == "numpy" else importlib.import_module(_MODULES[name]), reason)
