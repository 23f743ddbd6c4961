"""The door to the device: memory, transfers, launches, graphs. Nothing else in this package touches CuPy.

Tests put another door in its place (`use`), behind which the same kernels, compiled for the processor, run on NumPy
memory: all host code of this package then runs on a machine that has no GPU.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import numpy as np

from vae_np._types import Array
from vae_np.errors import BackendError, DeviceError

from . import _compile

# A NULL pointer among a kernel's arguments.
NULL = np.uint64(0)
Launch = Callable[[], None]
Shape = tuple[int, ...]


class Pending(Protocol):
    """Numbers on their way from the device."""

    def result(self) -> Array:
        """Wait until they are here."""


class Device(Protocol):
    """What the host side needs of a device; its arrays are only passed on here, and never read."""

    def owns(self, array: Any) -> bool:
        """Whether an array lies on the device."""

    def empty(self, shape: Shape, dtype: Any) -> Any:
        """Memory that nothing was written to. Raises DeviceError, with what was needed, where there is too little."""

    def put(self, array: Any, dtype: Any) -> Any:
        """The array on the device, contiguous and in `dtype`; the array itself where it already is all of that."""

    def get(self, array: Any) -> Array:
        """A copy on the host, once all that was launched is done."""

    def write(self, target: Any, values: Array) -> None:
        """Copy host values of the same shape and dtype into an array, after all that was launched before."""

    def fetch(self, array: Any) -> Pending:
        """Start to copy an array to the host, after all that was launched before; nobody waits for it yet."""

    def copy(self, target: Any, source: Any) -> None:
        """Copy an array on the device into another one of the same shape and dtype."""

    def address(self, array: Any) -> int:
        """Where an array begins, for kernels that read pointers from memory."""

    def stream(self) -> int:
        """The stream on which work is queued, as other libraries take it."""

    def nccl(self) -> Any:
        """CuPy's module for NCCL."""

    def prepare(
        self, kernel: str, precision: Any, grid: Shape, block: Shape, args: Sequence[Any], shared: int = 0
    ) -> Launch:
        """A launch of a kernel that is compiled and loaded now; calling it only queues the work."""

    def graph(self, launches: Sequence[Launch], repeats: int) -> Launch:
        """All the launches, `repeats` times over, as one."""

    def memory(self) -> tuple[int, int]:
        """Bytes that are free on the device, and all it has."""


def argument(value: Any, precision: Any) -> Any:
    """What a kernel gets: arrays as they are, int as 32 bits, float in the kernel's precision, None as NULL."""
    if value is None:
        return NULL
    if isinstance(value, float):
        return np.dtype(precision).type(value)
    if isinstance(value, int):
        return np.int32(value)
    return value


_FILES = {
    "noise.cu": ("philox_words", "philox_normal", "philox_bernoulli_bytes", "philox_bernoulli_real"),
    "affine.cu": (
        "affine_forward", "affine_input_gradient", "affine_weight_gradient", "binary_weight_gradient",
        "active_columns", "binary_forward", "binary_forward_dense", "activation_gradient_all",
    ),
    "reparam.cu": ("reparam_forward", "reparam_backward"),
    "likelihoods.cu": (
        "bernoulli_forward_bytes", "bernoulli_forward_real", "bernoulli_backward_bytes", "bernoulli_backward_real",
        "normal_forward", "normal_backward", "normal_logvar_gradient",
    ),
    "weights.cu": ("log_mean_exp_weights",),
    "adam.cu": ("adam_update", "add_into", "update_part"),
    "importance.cu": ("importance_sample", "bernoulli_output", "importance_weights"),
    "step.cu": ("step_begin", "latent_forward", "latent_backward", "step_weights"),
    "bound.cu": ("bound_sample", "bound_weights", "scale_rows", "bound_backward"),
}  # fmt: skip
FILE_OF = {kernel: file for file, kernels in _FILES.items() for kernel in kernels}


def file_of(kernel: str) -> str:
    """The source that has a kernel; a kernel for tiles of 32 or 64 has that size as its last word."""
    return FILE_OF[kernel.removesuffix("_32").removesuffix("_64")]


class CupyDevice:
    """The device that CuPy makes current. Work is queued on CuPy's current stream; graphs are recorded on another."""

    def __init__(self, cupy: Any, nvrtc: Any) -> None:
        self._cupy, self._nvrtc = cupy, nvrtc
        runtime = cupy.cuda.runtime
        self._errors = (runtime.CUDARuntimeError, cupy.cuda.driver.CUDADriverError)
        properties = runtime.getDeviceProperties(runtime.getDevice())
        capability = int(properties["major"]), int(properties["minor"])
        self._target = _compile.target(capability, tuple(nvrtc.getSupportedArchs()))
        self._kernels: dict[tuple[str, str], Any] = {}
        # Code that no cache keeps still has to be a file when CuPy loads it.
        self._scratch = TemporaryDirectory(prefix="vae-np-")

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """A failure of CUDA as one line; it belongs to `what`, or to something queued before it."""
        try:
            yield
        except self._cupy.cuda.memory.OutOfMemoryError:
            free, total = self.memory()
            raise DeviceError(
                f"too little memory on the device for {what}: {_size(free)} of {_size(total)} are free; "
                "a smaller batch needs less, and --backend numba needs none"
            ) from None
        except self._errors as error:
            raise DeviceError(f"the device failed at {what}: {' '.join(str(error).split())}") from None

    def owns(self, array: Any) -> bool:
        return isinstance(array, self._cupy.ndarray)

    def empty(self, shape: Shape, dtype: Any) -> Any:
        with self._told(f"an array of {_size(math.prod(shape) * np.dtype(dtype).itemsize)}"):
            return self._cupy.empty(shape, dtype)

    def put(self, array: Any, dtype: Any) -> Any:
        with self._told(f"an array of {_size(array.size * np.dtype(dtype).itemsize)}"):
            if self.owns(array):
                return self._cupy.ascontiguousarray(array, dtype)
            return self._cupy.array(np.ascontiguousarray(array, dtype))

    def get(self, array: Any) -> Array:
        with self._told("a copy to the host"):
            return self._cupy.asnumpy(array)

    def write(self, target: Any, values: Array) -> None:
        with self._told("a copy from the host"):
            target.set(np.ascontiguousarray(values, target.dtype))

    def fetch(self, array: Any) -> Pending:
        return _Fetched(self, array)

    def copy(self, target: Any, source: Any) -> None:
        with self._told("a copy on the device"):
            target[...] = source

    def address(self, array: Any) -> int:
        return int(array.data.ptr)

    def stream(self) -> int:
        return int(self._cupy.cuda.get_current_stream().ptr)

    def nccl(self) -> Any:
        return importlib.import_module("cupy.cuda.nccl")

    def prepare(
        self, kernel: str, precision: Any, grid: Shape, block: Shape, args: Sequence[Any], shared: int = 0
    ) -> Launch:
        function = self._kernel(kernel, np.dtype(precision).name)
        given = tuple(argument(value, precision) for value in args)

        def launch() -> None:
            with self._told(kernel):
                function(grid, block, given, shared_mem=shared)

        return launch if 0 not in grid else lambda: None

    def _kernel(self, kernel: str, precision: str) -> Any:
        found = self._kernels.get((kernel, precision))
        if found is None:
            file = file_of(kernel)
            code = _compile.machine_code(file, precision, self._target, self._nvrtc)
            path = Path(self._scratch.name) / f"{Path(file).stem}-{precision}"
            if not path.is_file():
                path.write_bytes(code)
            with self._told(f"loading {file}"):
                found = self._cupy.RawModule(path=str(path)).get_function(kernel)
                found.compile()
            self._kernels[kernel, precision] = found
        return found

    def graph(self, launches: Sequence[Launch], repeats: int) -> Launch:
        # The default stream cannot be captured. The launches hold the arrays that the graph uses, and outlive it.
        with self._told("recording a graph"), self._cupy.cuda.Stream(non_blocking=True) as stream:
            stream.begin_capture()
            try:
                for _ in range(repeats):
                    for launch in launches:
                        launch()
            except BaseException:
                # The failure is reported, and not that the recording ended early.
                with suppress(*self._errors):
                    stream.end_capture()
                raise
            recorded = stream.end_capture()
            recorded.upload(stream)
            stream.synchronize()

        def replay() -> None:
            with self._told("a graph's launch"):
                recorded.launch()

        return replay

    def memory(self) -> tuple[int, int]:
        free, total = self._cupy.cuda.runtime.memGetInfo()
        # Unused memory in CuPy's pool is available, too.
        return int(free) + int(self._cupy.get_default_memory_pool().free_bytes()), int(total)


class _Fetched:
    def __init__(self, device: CupyDevice, array: Any) -> None:
        cupy = device._cupy
        self._device = device
        with device._told("a copy to the host"):
            # Page-locked, or the copy would wait for all that is queued.
            self._bytes = cupy.cuda.alloc_pinned_memory(array.nbytes)
            self._host: Array = np.frombuffer(self._bytes, array.dtype, array.size).reshape(array.shape)
            array.get(out=self._host, blocking=False)
            self._arrived = cupy.cuda.Event(disable_timing=True)
            self._arrived.record()

    def result(self) -> Array:
        with self._device._told("work that was queued before"):
            self._arrived.synchronize()
        return self._host.copy()


def _size(count: int) -> str:
    return f"{count / 2**20:.1f} MiB" if count < 2**30 else f"{count / 2**30:.1f} GiB"


_CURRENT: list[Device] = []


def device() -> Device:
    """The door in use; CuPy's is opened when it is first asked for. Raises BackendError where it cannot be opened."""
    if not _CURRENT:
        from .problems import problem

        why = problem()
        if why is not None:
            raise BackendError(f"backend: got 'cupy', but {why}")
        names = "cupy", "cupy_backends.cuda.libs.nvrtc"
        _CURRENT.append(CupyDevice(*(importlib.import_module(name) for name in names)))
    return _CURRENT[0]


@contextmanager
def use(other: Device) -> Iterator[Device]:
    """Another door, for as long as the block runs."""
    before = list(_CURRENT)
    _CURRENT[:] = [other]
    try:
        yield other
    finally:
        _CURRENT[:] = before
