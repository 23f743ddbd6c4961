"""What the processor has for products of bfloat16 numbers: AVX-512's dot products of pairs, Intel's tile registers.

A program has to ask the kernel for the tile registers (AMX) before it may use them, because a thread's saved state
grows by their 8 KiB. The permission is the process's, and its threads' and children's.
"""

from __future__ import annotations

import ctypes
import functools
import sys

import llvmlite.binding as llvm
from numba.core import config

from .lowering import VECTOR_BYTES

# By what products of bfloat16 numbers can be computed, the fastest first, and what each is called in what users read.
NAMES = {"amx": "AMX", "avx512": "AVX512-BF16"}
_FEATURES = {"amx": ("amx-tile", "amx-bf16"), "avx512": ("avx512bf16",)}
# Linux on x86-64: the call, its request for a permission, and the number of the tiles' part of a thread's state.
_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18


def _has(feature: str) -> bool:
    """Whether the processor that Numba compiles for has a feature."""
    named: str | None = config.CPU_FEATURES
    if named is not None:
        return f"+{feature}" in named.split(",")
    return config.CPU_NAME in (None, "", "host") and bool(llvm.get_host_cpu_features().get(feature))


@functools.cache
def _tiles_permitted() -> bool:
    """Whether the kernel lets this process use the tile registers; it is asked here."""
    if sys.platform != "linux":
        return False
    return int(ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA)) == 0


def missing(instructions: str) -> str | None:
    """Why products cannot be computed by `amx` or `avx512` here; None if they can."""
    if config.DISABLE_JIT:
        return "nothing is compiled (NUMBA_DISABLE_JIT)"
    lacking = [feature for feature in _FEATURES[instructions] if not _has(feature)]
    if lacking or VECTOR_BYTES < 64:
        return f"this processor has no {NAMES[instructions]} ({', '.join(lacking) or 'avx512f'})"
    if instructions == "amx" and not _tiles_permitted():
        return "the operating system does not let this process use AMX"
    return None


def best() -> str | None:
    """The fastest instructions that are here; None where there are none."""
    return next((name for name in NAMES if missing(name) is None), None)
