"""Where machine code is kept between runs, and who hears that something has to be compiled.

Numba keys its cache by each function's own file, so that after an edit or an upgrade a caller would keep an old copy of
what it calls. Here one folder belongs to one state of all the sources together and one version of the compiler:
`<cache folder>/vae-np/<digest>`, below NUMBA_CACHE_DIR where that is set, else below the user's cache folder; nothing
is ever written beside the code. Numba's own key within it names the processor.
"""

from __future__ import annotations

import functools
import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core import config
from numba.core.caching import CompileResultCacheImpl, FunctionCache, NullCache, _CacheLocator
from numba.core.runtime import rtsys
from numba.misc.appdirs import AppDirs

from vae_np import noise

_FORGET_DAYS = 60
# Why there is no cache, in one line; empty where there is one.
CACHE_PROBLEM: list[str] = []
_LISTENERS: list[Callable[[], None]] = []


def on_compile(listener: Callable[[], None] | None) -> None:
    """Have `listener` called once, before the next compilation that no cache saves; None for nobody."""
    _LISTENERS[:] = [] if listener is None else [listener]


def _announce() -> None:
    while _LISTENERS:
        _LISTENERS.pop()()


@functools.cache
def digest() -> str:
    """A name for this state of the sources that compiled code is made of, and of what compiles them."""
    # `vae_np.noise` has the streams' numbers, which are compiled in.
    files = [*sorted(Path(__file__).parents[1].rglob("*.py")), Path(noise.__file__)]
    whole = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__}".encode())
    for file in files:
        whole.update(file.name.encode() + b"\0" + file.read_bytes())
    return whole.hexdigest()[:16]


@functools.cache
def folder() -> str | None:
    """The cache folder, made and tried out; None, with the reason in CACHE_PROBLEM, where it cannot be written."""
    base = Path(config.CACHE_DIR or AppDirs(appname="vae-np", appauthor=False).user_cache_dir)
    here = (base / "vae-np" if config.CACHE_DIR else base) / digest()
    try:
        is_new = not here.is_dir()
        here.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=here).close()
    except OSError as error:
        CACHE_PROBLEM[:] = [f"{here} cannot be written ({error.strerror or error})"]
        return None
    if is_new:
        _forget_old(here)
    return str(here)


def _forget_old(current: Path) -> None:
    """Remove what earlier versions left and nobody has added to for long."""
    limit = time.time() - 86400 * _FORGET_DAYS
    for other in current.parent.iterdir():
        if other != current and len(other.name) == len(current.name) and other.stat().st_mtime < limit:
            shutil.rmtree(other, ignore_errors=True)


class _Locator(_CacheLocator):
    def __init__(self, function: Any, file: str) -> None:
        self._py_file = file
        self._lineno = function.__code__.co_firstlineno

    def get_cache_path(self) -> str:
        found = folder()
        assert found is not None
        return found

    def get_source_stamp(self) -> str:
        return digest()

    def get_disambiguator(self) -> str:
        return str(self._lineno)

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> _Locator:
        return cls(py_func, py_file)


class _Place(CompileResultCacheImpl):
    _locator_classes = (_Locator,)


class _OnDisk(FunctionCache):
    _impl_class = _Place

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        # Numba would first import all that it can compile, SciPy for its BLAS included, as it does anyway before it
        # compiles. What is only loaded needs nothing of it but the memory management that its arrays call.
        rtsys.initialize(target_context)
        with self._guard_against_spurious_io_errors():
            found = self._load_overload(sig, target_context)
        if found is None:
            _announce()
        return found


class _Nowhere(NullCache):
    def load_overload(self, sig: Any, target_context: Any) -> None:
        _announce()


def attach(dispatcher: Any, function: Callable[..., Any]) -> Any:
    """Give a Numba dispatcher or callback of `function` its cache, and return it."""
    dispatcher._cache = _Nowhere() if folder() is None else _OnDisk(function)
    return dispatcher
