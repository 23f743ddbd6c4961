"""`vae-np info`: versions, the machine, and the matrix of backend, objective and likelihood."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from typing import Any

import numpy as np

from vae_np import __version__, backends
from vae_np.commands.output import Output
from vae_np.model import LIKELIHOODS, Architecture

_OBJECTIVES = ("elbo",)
_LIBRARIES = ("numpy", "scipy", "numba", "safetensors", "matplotlib", "cupy", "torch", "jax")


def info(*, json_file: str | None) -> int:
    """Print what this installation can do and return the exit code."""
    output = Output(json_file)
    machine = _machine()
    output.say(f"vae-np {__version__}, Python {platform.python_version()}, {machine['system']}")
    output.say(f"{machine['cores']} cores, SIMD {machine['simd']}, BLAS {machine['blas']}")
    versions = {name: _version(name) for name in _LIBRARIES}
    output.say(", ".join(f"{name} {version or '(not installed)'}" for name, version in versions.items()))
    rows, matrix = [], []
    for name in backends.NAMES:
        hows = [_how(name, likelihood) for likelihood in LIKELIHOODS]
        for objective in _OBJECTIVES:
            rows.append((f"{name}, {objective}", *(how or "-" for how in hows)))
            matrix += [
                {"backend": name, "objective": objective, "likelihood": likelihood, "how": how}
                for likelihood, how in zip(LIKELIHOODS, hows, strict=True)
            ]
    output.table("Backend and objective × likelihood", ("", *LIKELIHOODS), rows)
    for name in backends.NAMES:
        why = backends.missing(name)
        output.say(f"{name:<6} {_present(name) if why is None else why}")
    chosen = backends.choose("auto")
    machine["vector_bits"] = chosen.vector_bits
    output.say(f"auto   {chosen.name} ({chosen.reason})")
    output.json("info", {"machine": machine, "libraries": versions, "matrix": matrix, "auto": chosen.name})
    return 0


def _how(name: str, likelihood: str) -> str | None:
    """fused or composed, for models with a hidden layer; None where the backend is missing."""
    if backends.missing(name) is not None:
        return None
    fused = backends.choose(name).unfused(Architecture(likelihood=likelihood)) is None
    return "fused" if fused else "composed"


def _present(name: str) -> str:
    backend = backends.choose(name)
    said = ["present"]
    if backend.vector_bits is not None:
        said.append(f"{backend.vector_bits}-bit vectors")
    if backend.cache_problem is not None:
        said.append(f"compiled code is not kept: {backend.cache_problem}")
    return ", ".join(said)


def _machine() -> dict[str, Any]:
    build = np.show_config(mode="dicts")
    assert isinstance(build, dict)
    blas = build["Build Dependencies"]["blas"]
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "simd": ", ".join(build["SIMD Extensions"]["found"][-1:]) or "baseline",
        "blas": f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip(),
    }


def _version(name: str) -> str | None:
    candidates = ("cupy-cuda13x", "cupy-cuda12x", "cupy") if name == "cupy" else (name,)
    for candidate in candidates:
        try:
            return metadata.version(candidate)
        except metadata.PackageNotFoundError:
            continue
    return None
