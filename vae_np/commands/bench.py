"""`vae-np bench`: the kernels against the reference, peers and floors, in turns, from a checkout."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import sys
from pathlib import Path
from typing import Any

import vae_np
from vae_np import backends
from vae_np.commands import machine
from vae_np.commands.output import Output
from vae_np.commands.train import tell_of_compilation
from vae_np.errors import InputError

_LIBRARIES = ("numpy", "scipy", "numba", "torch", "jax")


def bench(
    what: str, *, workload: str, backend: str, peers: str, threads: int | None, rounds: int, json_file: str | None
) -> int:
    """Print a table of times, quartiles and ratios, and return the exit code.

    Raises InputError outside a checkout, and for a name that is not there.
    """
    interleaved = _load()
    _check("what", what, interleaved.WHATS)
    _check("workload", workload, interleaved.WORKLOADS)
    named = [peer for peer in peers.split(",") if peer]
    for peer in named:
        _check("peers", peer, interleaved.PEERS)
        if importlib.util.find_spec(peer) is None:
            raise InputError(f"peers: got {peer!r}, which is not installed; the extra `bench` has it")
    chosen = backends.choose(backend)
    output = Output(json_file)
    count = _set_threads(chosen, threads)
    tell_of_compilation(output, chosen)
    results = interleaved.run(what, workload, chosen, named, count, rounds)
    output.table(
        f"{what} at {workload}, float32, {count} threads, medians of {rounds} rounds in turns, milliseconds",
        ("", "", "median", "quartiles", "of fastest peer", "of GEMM only"),
        [
            (
                result["what"],
                result["backend"],
                f"{result['median_ms']:.4f}",
                f"{result['q25_ms']:.4f} to {result['q75_ms']:.4f}",
                _ratio(result["ratio_to_fastest_peer"]),
                _ratio(result["ratio_to_gemm_floor"]),
            )
            for result in results
        ],
    )
    longest = max(result["median_ms"] for result in results)
    for result in results:
        bar = "█" * max(1, round(50 * result["median_ms"] / longest))
        output.say(f"{result['what'][:26]:<27}{result['backend']:<16}{bar}")
    output.json("bench", {"results": results, "environment": _environment(chosen, count)})
    return 0


def _load() -> Any:
    folder = Path(vae_np.__file__).resolve().parents[1] / "bench"
    if not (folder / "interleaved.py").is_file():
        raise InputError("bench: runs from a checkout only, with the package installed from it by pip install -e")
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return importlib.import_module("interleaved")


def _check(name: str, given: str, allowed: Any) -> None:
    if given not in allowed:
        raise InputError(f"{name}: got {given!r}, expected one of {', '.join(allowed)}")


def _set_threads(backend: backends.Backend, threads: int | None) -> int:
    if hasattr(backend.ops, "set_threads"):
        if threads is not None:
            backend.ops.set_threads(threads)
        return int(backend.ops.threads())
    return threads or 1


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _environment(backend: backends.Backend, threads: int) -> dict[str, Any]:
    return {
        "system": machine.system(),
        "cpu": _processor(),
        "cores": machine.cores(),
        "vector_bits": backend.vector_bits,
        "threads": threads,
        "blas": machine.numpy_build()["Build Dependencies"]["blas"].get("name"),
        "blas_threads": os.environ.get("OPENBLAS_NUM_THREADS", "all"),
        "precision": "float32",
        "python": platform.python_version(),
        "libraries": {name: machine.version(name) for name in _LIBRARIES},
    }


def _processor() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)
