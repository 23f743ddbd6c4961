"""CUDA kernels as C++ for the processor: compiled by g++ against the headers in shim/, launched through ctypes.

What that proves, and what it does not, says shim/cuda_shim.h.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

SHIM = Path(__file__).parent / "shim"
# The orders in which the threads of a block run.
ORDERS = ("forward", "reverse", "shuffled")
FLAGS = ("-std=c++17", "-shared", "-fPIC", "-U_FORTIFY_SOURCE", "-ffp-contract=off", "-fno-ipa-reference")


class ShimError(Exception):
    """What a compiler refuses, or a launch, or what its threads did, that no device would accept."""


def compiler() -> str | None:
    """g++'s path; None if there is none."""
    return shutil.which("g++")


def compile_library(folder: Path, text: str, kernels: Sequence[str], flags: Sequence[str]) -> Path:
    """The library of a text that defines these kernels, made in a folder; raises ShimError where g++ refuses it."""
    lines = ['#include "cuda_shim.h"', text, *(f"SHIM_KERNEL({kernel})" for kernel in kernels)]
    source, library = folder / "all.cpp", folder / "kernels.so"
    source.write_text("\n".join(lines) + "\n", encoding="utf-8")
    command = [str(compiler()), *FLAGS, *flags, f"-I{SHIM}", str(source), "-o", str(folder / "new.so")]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise ShimError(f"g++ refuses the kernels:\n{done.stderr[:4000]}")
    (folder / "new.so").rename(library)
    return library


def launch(
    library: ctypes.CDLL,
    kernel: str,
    grid: Sequence[int],
    block: Sequence[int],
    arguments: Sequence[Any],
    *,
    shared: int = 0,
    order: str = "forward",
    seed: int = 0,
) -> None:
    """Run a kernel on NumPy scalars, an array's address as np.uint64; raises ShimError where a device would not."""
    function = getattr(library, f"launch_{kernel}")
    function.restype = ctypes.c_char_p
    cells = [np.array(value) for value in arguments]
    wrong = function(
        (ctypes.c_uint * 3)(*(*grid, 1, 1)[:3]),
        (ctypes.c_uint * 3)(*(*block, 1, 1)[:3]),
        ctypes.c_uint(shared),
        ctypes.c_int(ORDERS.index(order)),
        ctypes.c_uint(seed),
        (ctypes.c_void_p * len(cells))(*(cell.ctypes.data for cell in cells)),
        (ctypes.c_size_t * len(cells))(*(cell.itemsize for cell in cells)),
        ctypes.c_size_t(len(cells)),
    )
    if wrong is not None:
        raise ShimError(f"{kernel}: {wrong.decode()}")
