"""Where machine code is kept between runs, and who is told that something has to be compiled.

Numba keys its cache by each function's own file, so that after an edit or an upgrade a caller would keep an old copy of
what it calls. Here one folder belongs to one state of all the sources together and one version of the compiler:
`<cache folder>/vae-np/<digest>`, below NUMBA_CACHE_DIR where that is set, else below the user's cache folder; nothing
is ever written beside the code. A file holds one function for one kind of arguments and one processor.
"""

from __future__ import annotations

import functools
import hashlib
import pickle
import platform
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core import config
from numba.core.caching import FunctionCache, NullCache
from numba.core.compiler import CompileResult
from numba.core.runtime import rtsys
from numba.core.serialize import dumps

from vae_np import noise

from ... import code_cache

_FORGET_DAYS = 60
CACHE_PROBLEM = code_cache.Problem()
_LISTENERS: list[Callable[[], None]] = []


def on_compile(listener: Callable[[], None] | None) -> None:
    """Have `listener` called once, before the next compilation that no cache saves; None for nobody."""
    _LISTENERS[:] = [] if listener is None else [listener]


def _announce() -> None:
    while _LISTENERS:
        _LISTENERS.pop()()


@functools.cache
def digest() -> str:
    """A name for this state of the sources that compiled code is made of, of what compiles them, and of the system.

    What the sources look up in the system decides what is compiled (whether threads sleep in the kernel, for one), and
    a home folder may be shared by several systems.
    """
    # `vae_np.noise` has the streams' numbers, which are compiled in.
    files = [*sorted(Path(__file__).parents[1].rglob("*.py")), Path(noise.__file__)]
    of = (numba.__version__, llvmlite.__version__, sys.platform, platform.machine(), sys.maxsize)
    whole = hashlib.sha256(" ".join(map(str, of)).encode())
    for file in files:
        whole.update(file.name.encode() + b"\0" + file.read_bytes())
    return whole.hexdigest()[:16]


@functools.cache
def folder() -> Path | None:
    """The cache folder, created and tested; None, with the reason in CACHE_PROBLEM, where there is none to be had."""
    try:
        here = code_cache.folder(config.CACHE_DIR, digest())
    except OSError as error:
        CACHE_PROBLEM.line = error.strerror
        return None
    _forget_old(here)
    return here


def _forget_old(current: Path) -> None:
    """Remove the folders of earlier versions to which nothing has been added for long."""
    if any(current.iterdir()):
        return
    limit = time.time() - 86400 * _FORGET_DAYS
    for other in current.parent.iterdir():
        if other != current and len(other.name) == len(current.name) and other.stat().st_mtime < limit:
            shutil.rmtree(other, ignore_errors=True)


class _OnDisk(FunctionCache):
    def __init__(self, function: Any, place: Path) -> None:
        self._py_func, self._place = function, place
        version = "".join(map(str, sys.version_info[:2])) + getattr(sys, "abiflags", "")
        code = function.__code__
        self._name = f"{Path(code.co_filename).stem}.{function.__qualname__}-{code.co_firstlineno}.py{version}"

    @property
    def cache_path(self) -> str:
        return str(self._place)

    def _file(self, sig: Any, codegen: Any) -> Path:
        # Numba's own key names argument types, processor, and what a function closes over.
        key = hashlib.sha256(repr(self._index_key(sig, codegen)).encode()).hexdigest()[:16]
        return self._place / f"{self._name.replace('<', '').replace('>', '')}-{key}"

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        # Numba would first import all that it can compile, SciPy for its BLAS included, as it does anyway before it
        # compiles. Code that is only loaded needs nothing but the memory management that its arrays call.
        rtsys.initialize(target_context)
        content, found = code_cache.read(self._file(sig, target_context.codegen())), None
        if content is not None:
            try:
                found = CompileResult._rebuild(target_context, *pickle.loads(content))
            except Exception:
                # Undamaged, but this Numba cannot use it, whatever the error: compiled anew, like a missing file.
                found = None
        if found is None:
            _announce()
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        # Code that contains an address of this process is of no use to the next one.
        if CACHE_PROBLEM.line is not None or data.library.has_dynamic_globals:
            return
        file = self._file(sig, data.codegen)
        try:
            code_cache.write(file, dumps(data._reduce()))
        except OSError as error:
            CACHE_PROBLEM.warn(f"{file} cannot be written ({error.strerror or error})")

    def flush(self) -> None:
        for file in self._place.glob(f"{self._name}-*"):
            file.unlink(missing_ok=True)


class _Nowhere(NullCache):
    def load_overload(self, sig: Any, target_context: Any) -> None:
        _announce()


def attach(dispatcher: Any, function: Callable[..., Any]) -> Any:
    """Give a Numba dispatcher or callback of `function` its cache, and return it."""
    place = folder()
    dispatcher._cache = _Nowhere() if place is None else _OnDisk(function, place)
    return dispatcher
