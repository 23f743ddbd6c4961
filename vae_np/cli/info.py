"""`vae-np info`: versions, the machine, and the matrix of backend, objective and likelihood."""

from __future__ import annotations

import platform
from typing import Any

from vae_np import __version__, backends
from vae_np.architecture import Architecture
from vae_np.choices import (
    COMPOSED_LIKELIHOODS,
    LIKELIHOODS,
    OBJECTIVES,
    POSTERIORS,
    PRECISIONS,
    Likelihood,
    Objective,
    PosteriorFamily,
)
from vae_np.cli import machine
from vae_np.cli.options import JsonFile
from vae_np.cli.output import Output

_LIBRARIES = ("numpy", "scipy", "numba", "safetensors", "matplotlib", "cupy", "torch", "jax")


def command(json_file: JsonFile = None) -> int:
    """Show versions, the machine, and the matrix of backend, objective and likelihood."""
    output = Output(json_file)
    here = _machine()
    versions = {name: machine.version(name) for name in _LIBRARIES}
    rows, matrix = [], []
    for name in backends.NAMES:
        for objective in OBJECTIVES:
            hows = [_how(name, objective, likelihood) for likelihood in LIKELIHOODS]
            rows.append((f"{name}, {objective}", *(how or "-" for how in hows)))
            matrix += [
                {"backend": name, "objective": objective, "likelihood": likelihood, "how": how}
                for likelihood, how in zip(LIKELIHOODS, hows, strict=True)
            ]
    chosen = backends.choose("auto")
    here["composed_posteriors"] = [name for name in POSTERIORS if chosen.unfused(_of(name)) is not None]
    here["composed_likelihoods"] = list(COMPOSED_LIKELIHOODS)
    here["vector_bits"] = chosen.vector_bits
    here["missing_precisions"] = {
        name: why for name in PRECISIONS if (why := chosen.precision_problem(name)) is not None
    }
    here["precisions"] = [name for name in PRECISIONS if name not in here["missing_precisions"]]
    if chosen.used_threads is not None:
        here["threads"] = dict(zip(("count", "decided_by"), chosen.used_threads, strict=True))

    def tell() -> None:
        output.say(f"vae-np {__version__}, Python {platform.python_version()}, {here['system']}")
        output.say(f"{here['cores']} cores, SIMD {here['simd']}, BLAS {here['blas']}")
        output.say(", ".join(f"{name} {version or '(not installed)'}" for name, version in versions.items()))
        # In two lines each, so that the table fits eighty columns.
        heads = [name.replace("-", "\n-") for name in LIKELIHOODS]
        output.table("Backend and objective × likelihood", ("", *heads), rows)
        output.say(f"posterior diagonal in the table; {', '.join(here['composed_posteriors'])}: composed everywhere")
        output.say("one stochastic layer in the table; two: as in the table with numba, composed with numpy and cupy")
        output.say(f"{', '.join(COMPOSED_LIKELIHOODS)}, and missing cells: composed everywhere")
        for name in backends.NAMES:
            why = backends.missing(name)
            output.say(f"{name:<6} {_present(name) if why is None else why}")
        output.say(f"auto   {chosen.name} ({chosen.reason})")
        for name in PRECISIONS[1:]:
            why = chosen.precision_problem(name)
            output.say(f"{name:<6} {why if why is not None else chosen.describe_precision(name)}")
        if chosen.used_threads is not None:
            output.say("threads {}, decided by: {}".format(*chosen.used_threads))

    content = {"machine": here, "libraries": versions, "matrix": matrix, "auto": chosen.name}
    output.result("info", content, tell)
    return 0


def _of(posterior: PosteriorFamily) -> Architecture:
    return Architecture(posterior=posterior)


def _how(name: str, objective: Objective, likelihood: Likelihood) -> str | None:
    """fused or composed steps, for models with a hidden layer; None where the backend is missing."""
    if backends.missing(name) is not None:
        return None
    fused = backends.choose(name).unfused_step(Architecture(likelihood=likelihood), objective, 1) is None
    return "fused" if fused else "composed"


def _present(name: str) -> str:
    backend = backends.choose(name)
    said = ["present"] if backend.device is None else ["present", backend.device]
    if backend.vector_bits is not None:
        said.append(f"{backend.vector_bits}-bit vectors")
    if backend.cache_problem is not None:
        said.append(f"compiled code is not kept: {backend.cache_problem}")
    return ", ".join(said)


def _machine() -> dict[str, Any]:
    build = machine.numpy_build()
    blas = build["Build Dependencies"]["blas"]
    return {
        "system": machine.system(),
        "cores": machine.cores(),
        "simd": ", ".join(build["SIMD Extensions"]["found"][-1:]) or "baseline",
        "blas": f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip(),
    }
