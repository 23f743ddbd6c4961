"""How everything here is compiled: without the GIL, cached on disk, and for what width of vector."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numba.extending
from numba.core import config, sigutils
from numba.core.ccallback import CFunc

from .cache import attach
from .lowering import Compiler

# No fast-math flag anywhere. LLVM compiles what is inlined once more with each caller, and with `contract` it fuses
# other products and sums there: which copy runs depends on what the process loaded first, and so would a run's last
# bits. Where a fused multiply-add is wanted, it is written (`engine.intrinsics.fma`).
_SETTINGS = {"nogil": True, "error_model": "numpy", "fastmath": False}


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Numba's `njit`, without the GIL and cached on disk; where no cache folder can be written, compiled each time."""
    settings = {**_SETTINGS, "pipeline_class": Compiler, **options}

    def compile_function(function: Callable[..., Any]) -> Any:
        return function if config.DISABLE_JIT else attach(numba.njit(**settings)(function), function)

    return compile_function


def intrinsic(plain: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Numba's `intrinsic`, or, where nothing is compiled, the plain Python that says what it computes."""

    def choose(code: Callable[..., Any]) -> Any:
        return plain if config.DISABLE_JIT else numba.extending.intrinsic(code)

    return choose


def cached_cfunc(signature: Any, function: Callable[..., Any]) -> Any:
    """Numba's `cfunc`, under the same rules."""
    # Not numba.cfunc, which compiles before a cache can be attached.
    callback = CFunc(function, sigutils.normalize_signature(signature), {}, dict(_SETTINGS), pipeline_class=Compiler)
    attach(callback, function).compile()
    return callback
