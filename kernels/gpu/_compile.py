"""From a `.cu` file to machine code, by NVRTC, and where that is kept between runs.

CuPy's own compilation adds `-ftz=true` to every program and keeps it under a name that does not depend on included
files. Here denormals stay, and one folder belongs to one state of all the sources and one version of the compiler:
`<cache folder>/vae-np/cuda-<digest>`, below CUPY_CACHE_DIR where that is set, else below the user's cache folder.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vae_np.errors import BackendError

from .. import code_cache

SOURCES = Path(__file__).parent
OPTIONS = ("--std=c++17",)
CACHE_PROBLEM = code_cache.Problem()
_LISTENERS: list[Callable[[], None]] = []


def on_compile(listener: Callable[[], None] | None) -> None:
    """Have `listener` called once, before the next compilation that no cache saves; None for nobody."""
    _LISTENERS[:] = [] if listener is None else [listener]


def options(precision: Any, target: str) -> tuple[str, ...]:
    """NVRTC's options for a precision, and a target such as sm_90 (or compute_90, for code that the driver compiles).

    None of them is fast-math: sums keep their order, denormals and NaN stay what they are.
    """
    real = {"float32": "float", "float64": "double"}[np.dtype(precision).name]
    return (*OPTIONS, f"-I{SOURCES}", f"-DREAL={real}", f"-arch={target}")


def target(capability: tuple[int, int], supported: tuple[int, ...]) -> str:
    """What to compile for: the device's own architecture, else what its driver can translate.

    `supported` are the compiler's architectures, 10·major + minor. A newer device than the compiler knows gets the
    newest intermediate code.
    """
    own = 10 * capability[0] + capability[1]
    if own in supported:
        return f"sm_{own}"
    older = [architecture for architecture in supported if architecture < own]
    if not older:
        raise BackendError(
            f"the device has compute capability {capability[0]}.{capability[1]}, and this NVRTC compiles for "
            f"{min(supported) / 10:.1f} and later only; an older CuPy has an older one"
        )
    return f"compute_{max(older)}"


def machine_code(file: str, precision: Any, where: str, compiler: Any) -> bytes:
    """The code of one `.cu` file in one precision for a target: from the cache, else compiled now.

    `compiler` is CuPy's `nvrtc` module. Raises BackendError with the first error of a file that does not compile.
    """
    cache = folder(compiler.getVersion())
    place = None if cache is None else cache / f"{Path(file).stem}-{np.dtype(precision).name}-{where}"
    known = None if place is None else code_cache.read(place)
    if known is not None:
        return known
    while _LISTENERS:
        _LISTENERS.pop()()
    code = _compiled(file, options(precision, where), where, compiler)
    if place is not None and CACHE_PROBLEM.line is None:
        try:
            code_cache.write(place, code)
        except OSError as error:
            CACHE_PROBLEM.warn(f"{place} cannot be written ({error.strerror or error})")
    return code


def _compiled(file: str, chosen: tuple[str, ...], where: str, compiler: Any) -> bytes:
    program = compiler.createProgram((SOURCES / file).read_text(encoding="utf-8"), file, (), ())
    try:
        compiler.compileProgram(program, chosen)
        return bytes(compiler.getCUBIN(program) if where.startswith("sm_") else compiler.getPTX(program))
    except compiler.NVRTCError as error:
        version = ".".join(map(str, compiler.getVersion()))
        raise BackendError(
            f"{file} does not compile for {where} with NVRTC {version}: {_first_error(compiler, program, error)}; "
            "another version of CuPy may work, and --backend numba needs none"
        ) from None
    finally:
        compiler.destroyProgram(program)


def _first_error(compiler: Any, program: Any, error: Exception) -> str:
    lines = [line.strip() for line in compiler.getProgramLog(program).splitlines()]
    return next((line for line in lines if "error" in line), str(error))


@functools.cache
def digest(version: tuple[int, int]) -> str:
    """A name for this state of the sources and this version of NVRTC."""
    whole = hashlib.sha256(f"{version} {OPTIONS}".encode())
    for file in sorted([*SOURCES.glob("*.cu"), *SOURCES.glob("*.cuh")]):
        whole.update(file.name.encode() + b"\0" + file.read_bytes())
    return whole.hexdigest()[:16]


@functools.cache
def folder(version: tuple[int, int]) -> Path | None:
    """The cache folder, created and tested; None, with the reason in CACHE_PROBLEM, where there is none to be had."""
    try:
        return code_cache.folder(os.environ.get("CUPY_CACHE_DIR"), f"cuda-{digest(version)}")
    except OSError as error:
        CACHE_PROBLEM.line = error.strerror
        return None
