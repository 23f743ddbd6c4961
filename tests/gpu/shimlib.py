"""The CUDA sources compiled for the processor by g++, and a device on NumPy memory that launches them.

`ShimDevice` stands in for CuPy's device (`vae_np.kernels.gpu._device.use`): all host code and every kernel then run on
a machine without a GPU. vae_np/exercises/shim/cuda_shim.h says what that proves and what it does not.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from filelock import FileLock

from vae_np.exercises import cuda_on_cpu
from vae_np.exercises.cuda_on_cpu import ShimError, compile_library, compiler
from vae_np.kernels.gpu import _compile, _device
from vae_np.kernels.gpu._device import argument

Array = Any
ORDERS = cuda_on_cpu.ORDERS
WARNINGS = ("-Wall", "-Wno-unknown-pragmas", "-Wno-unused-function", "-Wno-unused-variable", "-Werror")
SANITIZE = ("-fsanitize=address", "-fsanitize-sections=cuda_shared", "-g1")


def require_compiler() -> None:
    """Skip what needs g++ where there is none; in CI that is a failure."""
    if compiler() is None:
        missing("g++ is not installed")


def sanitizer() -> Path | None:
    """AddressSanitizer's library, which a process has to load first; None where g++ has none."""
    found = Path(subprocess.check_output([str(compiler()), "-print-file-name=libasan.so"], text=True).strip())
    return found if found.is_absolute() else None


def missing(why: str) -> NoReturn:
    """Skip with the reason on a user's machine; fail in CI, where everything has to be there."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI has to run this, but {why}")
    pytest.skip(why)


def sources() -> dict[str, str]:
    """Every .cu and .cuh file by name."""
    files = sorted([*_compile.SOURCES.glob("*.cu"), *_compile.SOURCES.glob("*.cuh")])
    return {file.name: file.read_text(encoding="utf-8") for file in files}


def reached(text: dict[str, str]) -> dict[str, str]:
    """The headers, and of the .cu files those that differ from what is here, or include what does; all if none does."""
    real = sources()

    def differs(name: str) -> bool:
        included = re.findall(r'^#include "(\w+\.cuh)"', text[name], re.MULTILINE)
        return text[name] != real.get(name) or any(map(differs, included))

    changed = {name for name in text if name.endswith(".cu") and differs(name)}
    return {name: source for name, source in text.items() if name.endswith(".cuh") or not changed or name in changed}


@functools.cache
def _workshop() -> Path:
    """A folder for compiled libraries: that of the whole run, or one that is removed with the process."""
    if shared := os.environ.get("VAE_NP_TESTS_SHARED"):
        return Path(shared) / "shim"
    folder = tempfile.TemporaryDirectory(prefix="vae-np-shim-")
    _KEPT.append(folder)
    return Path(folder.name)


_KEPT: list[Any] = []


def build(text: dict[str, str], precision: str, *, sanitize: bool = False, quick: bool = False) -> Path:
    """The library of all .cu files in `text`, one after the other in one translation unit; built once a text.

    `quick` spares the optimiser, which takes longer than small cases do.
    """
    real = {"float32": "float", "float64": "double"}[precision]
    names = [name for name in text if name.endswith(".cu")]
    key = hashlib.sha256(repr((sorted(text.items()), precision, sanitize, quick)).encode()).hexdigest()[:16]
    folder = _workshop() / key
    library = folder / "kernels.so"
    if library.is_file():
        return library
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        # Another process may have built it meanwhile.
        if library.is_file():
            return library
        for name, source in text.items():
            (folder / name).write_text(source, encoding="utf-8")
        kernels = [kernel for name in names for kernel in kernels_of(text, name)]
        includes = "\n".join(f'#include "{name}"' for name in names)
        flags = (*WARNINGS, "-O0" if quick else "-O1", *(SANITIZE if sanitize else ()), f"-DREAL={real}")
        return compile_library(folder, includes, kernels, (f"-I{_headers(flags)}", *flags))


def _headers(flags: Sequence[str]) -> Path:
    """A folder with the shim's header as g++ reads it fastest, with these flags; built once."""
    folder = _workshop() / hashlib.sha256(" ".join(flags).encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        header, new = folder / "cuda_shim.h.gch", folder / "new.gch"
        if not header.exists():
            # One that includes the shim's: a `#pragma once` in the file that is compiled would be a warning.
            outer = folder / "cuda_shim.h"
            outer.write_text(f'#include "{cuda_on_cpu.SHIM / "cuda_shim.h"}"\n', encoding="utf-8")
            source = ("-x", "c++-header", str(outer), "-o", str(new))
            subprocess.run([str(compiler()), *cuda_on_cpu.FLAGS, *flags, *source], check=True)
            new.rename(header)
    return folder


def kernels_of(text: dict[str, str], name: str) -> list[str]:
    """The kernels that a .cu file defines, those that a macro makes for each size of tile included."""
    tile_sizes = re.findall(r"kernel\((\d+)\)", text["product.cuh"])
    found = []
    for kernel in re.findall(r"__global__ void (?:\w+(?:\([^()]*\))?[\s\\]+)?(\w[\w#]*)\(", text[name]):
        found += [kernel.replace("##edge", size) for size in tile_sizes] if "##edge" in kernel else [kernel]
    return found


@functools.cache
def load(library: Path) -> ctypes.CDLL:
    return ctypes.CDLL(str(library))


@dataclass
class ShimDevice:
    """The door to the kernels on NumPy memory: implements `vae_np.kernels.gpu._device.Device`.

    `order` is the order in which the threads of a block run. Memory comes filled with NaN (bytes of ones). `text`
    replaces the sources, for planted mistakes: the files that one reaches are compiled, with `sanitize` and `quick` of
    `build`, and all other kernels are those of the sources as they are. `library` stands for NCCL.
    """

    order: str = "forward"
    seed: int = 0
    sanitize: bool = False
    quick: bool = False
    text: dict[str, str] = field(default_factory=sources)
    launched: list[str] = field(default_factory=list)
    library: Any = None

    def __post_init__(self) -> None:
        self._reached = reached(self.text)

    def _built(self, kernel: str, precision: str) -> Path:
        file = _device.FILE_OF.get(kernel.removesuffix("_32").removesuffix("_64"))
        if file is None or file in self._reached:
            return build(self._reached, precision, sanitize=self.sanitize, quick=self.quick)
        return build(sources(), precision)

    def owns(self, array: Any) -> bool:
        return isinstance(array, OnDevice)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        array = np.empty(shape, dtype)
        array.reshape(-1).view(np.uint8)[...] = 0xFF
        return array.view(OnDevice)

    def put(self, array: Any, dtype: Any) -> Any:
        if self.owns(array) and array.dtype == dtype and array.flags.c_contiguous:
            return array
        return np.array(array, dtype, order="C", copy=True, subok=False).view(OnDevice)

    def get(self, array: Any) -> Array:
        return np.array(array, subok=False)

    def write(self, target: Any, values: Array) -> None:
        assert target.shape == values.shape
        target[...] = values

    def fetch(self, array: Any) -> Any:
        return Fetched(self.get(array))

    def copy(self, target: Any, source: Any) -> None:
        target[...] = source

    def address(self, array: Any) -> int:
        return int(array.ctypes.data)

    def stream(self) -> int:
        return 0

    def nccl(self) -> Any:
        return self.library

    def prepare(
        self, kernel: str, precision: Any, grid: Sequence[int], block: Sequence[int], args: Sequence[Any],
        shared: int = 0,
    ) -> Any:  # fmt: skip
        library = self._built(kernel, np.dtype(precision).name)
        given = [argument(value, precision) for value in args]

        def launch() -> None:
            if 0 in grid:
                return
            self.launched.append(kernel)
            values = [np.uint64(v.ctypes.data) if isinstance(v, np.ndarray) else v for v in given]
            for value in given:
                if isinstance(value, np.ndarray) and not (isinstance(value, OnDevice) and value.flags.c_contiguous):
                    raise ShimError(f"{kernel}: an argument is an array that is not on the device, or not contiguous")
            cuda_on_cpu.launch(
                load(library), kernel, grid, block, values, shared=shared, order=self.order, seed=self.seed
            )

        return launch

    def graph(self, launches: Sequence[Any], repeats: int) -> Any:
        def replay() -> None:
            for _ in range(repeats):
                for launch in launches:
                    launch()

        return replay

    def memory(self) -> tuple[int, int]:
        return 2**40, 2**40


class OnDevice(np.ndarray):  # type: ignore[type-arg]
    """An array that stands for one on the device."""


@dataclass
class Fetched:
    """Numbers that came home at once."""

    array: Array

    def result(self) -> Array:
        return self.array
