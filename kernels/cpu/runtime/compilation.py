"""How everything here is compiled: without the GIL, cached on disk, and for what width of vector."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numba
import numba.extending
from numba.core import config, sigutils
from numba.core.ccallback import CFunc

from .cache import attach

# No fast-math flag anywhere. LLVM compiles what is inlined once more with each caller, and with `contract` it fuses
# other products and sums there: which copy runs depends on what the process loaded first, and so would a run's last
# bits. Where a fused multiply-add is wanted, it is written (`engine.intrinsics.fma`).
_SETTINGS = {"nogil": True, "error_model": "numpy", "fastmath": False}


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Numba's `njit`, without the GIL and cached on disk; where no cache folder can be written, compiled each time."""
    settings = {**_SETTINGS, **options}

    def compile_function(function: Callable[..., Any]) -> Any:
        return function if config.DISABLE_JIT else attach(numba.njit(**settings)(function), function)

    return compile_function


def intrinsic(plain: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Numba's `intrinsic`, beside the plain Python that says what it computes and runs where nothing is compiled."""

    def choose(code: Callable[..., Any]) -> Any:
        return plain if config.DISABLE_JIT else numba.extending.intrinsic(code)

    return choose


def cached_cfunc(signature: Any, function: Callable[..., Any]) -> Any:
    """Numba's `cfunc`, under the same rules."""
    # Not numba.cfunc, which compiles before a cache can be attached.
    callback = CFunc(function, sigutils.normalize_signature(signature), {}, dict(_SETTINGS))
    attach(callback, function).compile()
    return callback


def _vector_bytes() -> int:
    """The widest vectors of the processor that Numba compiles for: 64 (AVX-512), 32 (AVX2) or 16 bytes."""
    name = config.CPU_NAME
    if name and name != "host":
        return 16 if name == "generic" else 32
    features = llvm.get_host_cpu_features()
    if features.get("avx512f") and features.get("avx512dq"):
        return 64
    return 32 if features.get("avx2") and features.get("fma") else 16


VECTOR_BYTES = _vector_bytes()
# Rows of a register tile: with two vectors a row, 24 of AVX-512's 32 registers add up, or 12 of the 16 others have.
TILE_ROWS = 12 if VECTOR_BYTES == 64 else 6
