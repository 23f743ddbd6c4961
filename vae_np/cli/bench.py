"""`vae-np bench`: the kernels against the reference, peers and floors, in turns, from a checkout."""

from __future__ import annotations

import importlib
import importlib.util
import platform
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import vae_np
from vae_np import backends
from vae_np.cli import machine
from vae_np.cli.options import Backend, JsonFile, setting, whole, words
from vae_np.cli.output import Output
from vae_np.errors import InputError
from vae_np.precision import FULL

_WHATS = ("ops", "step", "eval", "profile")
_LIBRARIES = ("numpy", "scipy", "numba", "cupy", "torch", "jax", "jaxlib")


def command(
    what: Annotated[
        str,
        typer.Argument(metavar="ops|step|eval|profile", help="What to time.", autocompletion=words(*_WHATS)),
    ] = "step",
    workload: Annotated[
        str,
        typer.Option(
            "--workload",
            metavar="NAME",
            help="pt, kingma, iwae, iwae50, wide, pt-grey, kingma-grey, two-layers or two-layers-iwae5.",
        ),
    ] = "pt",
    backend: Backend = "auto",
    peers: Annotated[
        str, typer.Option("--peers", metavar="NAMES", help="torch, jax or torch,jax: time them too.")
    ] = "",
    threads: Annotated[
        str | None, typer.Option("--threads", metavar="N", help="Threads for everyone. [default: all]")
    ] = None,
    rounds: Annotated[str | None, typer.Option("--rounds", metavar="N", help="[default: 20]")] = None,
    chart: Annotated[str | None, typer.Option("--chart", metavar="FILE", help="Draw the medians, as a .png.")] = None,
    after: Annotated[
        str | None,
        typer.Option("--after", metavar="N", help="Also time steps after N steps of training. [default: an epoch]"),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="REV", help="Compare this checkout's step with that of a git revision."),
    ] = None,
    precision: Annotated[
        str,
        typer.Option("--precision", metavar="NAME", help="Time steps with products in bf16 or bf16x3, too."),
    ] = FULL,
    json_file: JsonFile = None,
) -> int:
    """Time the kernels against the reference, PyTorch and JAX, in turns; from a checkout only."""
    backend, repeats = str(setting("backend", backend)), whole("rounds", rounds, 20)
    # On a device all take turns in one process, because only within one can it be shared without disturbance.
    interleaved = _load("interleaved_gpu" if backend == "cupy" else "interleaved")
    _check("what", what, (*interleaved.WHATS, *(() if backend == "cupy" else ("profile",))))
    _check("workload", workload, interleaved.WORKLOADS)
    named = [peer for peer in peers.split(",") if peer]
    for peer in named:
        _check("peers", peer, interleaved.PEERS)
        if importlib.util.find_spec(peer) is None:
            raise InputError(f"peers: got {peer!r}, which is not installed; the extra `bench` has it")
    arch = interleaved.WORKLOADS[workload].arch
    if named and (what in ("ops", "profile") or against is not None):
        raise InputError(f"peers: got {peers!r}, but peers are timed by step and eval alone")
    if what == "eval" and not arch.is_bernoulli:
        raise InputError(f"workload: got {workload!r}, but evaluation is timed for a Bernoulli likelihood alone")
    count = _threads(whole("threads", threads, None))
    chart_file = _chart_target(chart)
    chosen = backends.choose(backend)
    _check_reduced(str(setting("precision", precision)), what, chosen, against)
    output = Output(json_file)
    if against is not None:
        if chart is not None:
            raise InputError(f"chart: got {chart!r}, but a comparison of revisions draws none")
        return _against(what, workload, chosen, against, count, output)
    if what == "profile":
        return _profile(workload, chosen, count, repeats, chart_file, output)
    how = {} if backend == "cupy" else {"after": whole("after", after, None), "precision": precision}
    try:
        found = interleaved.run(what, workload, chosen.name, named, count, repeats, output.say, **how)
    except interleaved.BenchError as error:
        output.warn(str(error))
        return 1
    unit = {"step": "step", "eval": "image", "ops": "call"}[what]
    environment = {
        **_environment(chosen, count),
        "precision": "float32" if precision == FULL else precision,
        "first_calls_ms": found.first_calls_ms,
        "heats": found.heats,
        "bandwidth_gb_s": found.bandwidth_gb_s,
    }

    def tell() -> None:
        output.table(
            f"{what} at {workload}, {environment['precision']}, {count} thread{'s' if count > 1 else ''} for everyone, "
            f"medians of {repeats} rounds in turns, milliseconds per {unit}",
            ("", "", "first layer", "median", "quartiles", "of fastest peer", "of GEMM only"),
            [
                (
                    result["what"],
                    result["backend"],
                    "sparse" if result["sparse"] else "dense",
                    f"{result['median_ms']:.4f}",
                    f"{result['q25_ms']:.4f} to {result['q75_ms']:.4f}",
                    _ratio(result["ratio_to_fastest_peer"]),
                    _ratio(result["ratio_to_gemm_floor"]),
                )
                for result in found.results
            ],
        )
        for title, heats in found.heats.items():
            for heat, winner in heats.items():
                output.say(f"{title}: the fastest {heat} was {winner}")
        if found.bandwidth_gb_s:
            output.say(
                "triad: as many bytes as Adam has to move, at {parameters:.0f} GB/s where the parameters lie; "
                "memory {memory:.0f} GB/s".format_map(found.bandwidth_gb_s)
            )
        if chart_file is not None:
            output.say(f"wrote    {chart_file}")

    try:
        if chart_file is not None:
            _load("chart").save(found.results, chart_file)
    finally:
        output.result("bench", {"results": found.results, "environment": environment}, tell)
    return 0


def _against(what: str, workload: str, backend: backends.Backend, revision: str, threads: int, output: Output) -> int:
    """This checkout's step beside another revision's."""
    against = _load("against")
    if what != "step" or backend.device is not None:
        raise InputError(f"against: got {revision!r}, but only steps on the processor are compared with a revision's")
    if against.commit_of(revision) is None:
        raise InputError(f"against: got {revision!r}, expected a revision that git knows in this checkout")
    try:
        found, commit = against.run(workload, backend.name, revision, threads, output.say)
    except against.BenchError as error:
        output.warn(str(error))
        return 1
    comparison = {
        "base": commit,
        "workload": workload,
        "verdict": found.verdict,
        **{name: getattr(found, name) for name in ("ratio", "low", "high", "blocks", "base_ms", "head_ms")},
    }

    def tell() -> None:
        output.say(
            f"{workload}, {threads} thread{'s' if threads > 1 else ''}: a step of this checkout takes "
            f"{found.ratio:.3f} of the time at {commit[:10]} (95% interval {found.low:.3f} to {found.high:.3f}, "
            f"{found.blocks} pairs of processes): {found.verdict}"
        )

    output.result(
        "bench", {"results": [], "comparison": comparison, "environment": _environment(backend, threads)}, tell
    )
    return 0


def _profile(
    workload: str, backend: backends.Backend, threads: int, rounds: int, chart: Path | None, output: Output
) -> int:
    """Each phase of the fused step as time, and as percent of the peak that bounds it."""
    if backend.name != "numba":
        raise InputError(f"backend: got {backend.name!r}, but only the fused step of numba has phases to profile")
    profile = _load("profile_step")
    try:
        found = profile.run(workload, threads, rounds, output.say)
    except profile.BenchError as error:
        output.warn(str(error))
        return 1
    peaks = found["peaks"]

    def tell() -> None:
        output.table(
            f"A step of {workload} by phases, float32, {threads} thread{'s' if threads > 1 else ''}, "
            f"medians of {rounds} rounds, milliseconds per thread",
            ("phase", "ms", "of the step", "bound by", "of that peak"),
            [
                (
                    one["phase"],
                    f"{one['ms']:.4f}",
                    f"{100 * one['ms'] / found['step_ms']:.0f}%",
                    one["bound"] or "",
                    "" if one["percent"] is None else f"{one['percent']:.0f}%",
                )
                for one in found["phases"]
            ],
        )
        output.say(
            f"step {found['step_ms']:.4f} ms, {found['plain_ms']:.4f} without clocks; peaks, measured in turns: "
            f"{peaks['fma_gflops']:.0f} GFLOP/s, and "
            + ", ".join(f"{rate:.0f} GB/s within {size}" for size, rate in peaks["triad_gb_s"].items())
        )
        if chart is not None:
            output.say(f"wrote    {chart}")

    try:
        if chart is not None:
            _load("roofline").save(found, chart)
    finally:
        output.result("bench", {"results": [], "profile": found, "environment": _environment(backend, threads)}, tell)
    return 0


def _load(name: str) -> Any:
    folder = Path(vae_np.__file__).resolve().parents[1] / "bench"
    if not (folder / f"{name}.py").is_file():
        raise InputError("bench: runs from a checkout only, with the package installed from it by pip install -e")
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return importlib.import_module(name)


def _check(name: str, given: str, allowed: Any) -> None:
    if given not in allowed:
        raise InputError(f"{name}: got {given!r}, expected one of {', '.join(allowed)}")


def _threads(asked: int | None) -> int:
    most = machine.cores() or 1
    if asked is None:
        return most
    if asked > most:
        raise InputError(f"threads: got {asked}, expected a whole number from 1 to {most}, this machine's")
    if asked < most and sys.platform != "linux":
        raise InputError(f"threads: got {asked}, but only Linux can hold every library to fewer than {most}")
    return asked


def _check_reduced(precision: str, what: str, backend: backends.Backend, against: str | None) -> None:
    """Raises InputError, or BackendError, where nothing is timed in a precision."""
    if precision != FULL and (what != "step" or against is not None):
        raise InputError(f"precision: got {precision!r}, but only steps are timed in it, beside those of full products")
    backend.check_precision(precision)


def _chart_target(name: str | None) -> Path | None:
    if name is None:
        return None
    path = Path(name)
    if path.suffix != ".png" or not path.absolute().parent.is_dir():
        raise InputError(f"chart: got {name!r}, expected the name of a .png file in a folder that is there")
    return path


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _environment(backend: backends.Backend, threads: int) -> dict[str, Any]:
    return {
        "system": machine.system(),
        "cpu": _processor(),
        "processor": _load("processor").name(),
        "commit": _load("processor").commit(),
        "cores": machine.cores(),
        "vector_bits": backend.vector_bits,
        "device": backend.device,
        "threads": threads,
        "blas": machine.numpy_build()["Build Dependencies"]["blas"].get("name"),
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
