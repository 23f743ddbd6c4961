"""Every GPU benchmark in one process, within a time limit: raw results under bench/results/, the table last.

    python bench/on_gpu.py --seconds 270 --results bench/results --peers torch,jax

`on_gpu.sh` calls it, after the tests. At the end it names what there was no time for.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import interleaved_gpu

from vae_np import __version__, backends
from vae_np.cli import machine

# What matters most comes first.
STEPS = ("pt", "kingma", "iwae", "iwae50", "large")
ORDER = (*(("step", name) for name in STEPS), ("eval", "iwae"), ("step", "wide"))
_LIBRARIES = ("numpy", "cupy", "torch", "jax", "jaxlib")
_ROW = "{:<24}{:<8}{:<17}{:>11}{:>22}{:>10}{:>10}"


def environment(folder: Path) -> dict[str, Any]:
    """What the figures belong to: date, commit, device, driver and versions."""
    query = "name,driver_version,memory.total,clocks.max.sm"
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        # A copy of a checkout may lack its history, or have an older one: then COMMIT says what it is a copy of.
        "commit": os.environ.get("COMMIT") or _said("git", "-C", str(folder), "rev-parse", "HEAD"),
        "device": backends.choose("cupy").device,
        "driver": _said("nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"),
        "precision": "float32, TF32 off",
        "system": machine.system(),
        "libraries": {name: machine.version(name) for name in _LIBRARIES},
    }


def _said(*command: str) -> str | None:
    """What a program prints; None where it is not here or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() or None


def lines(results: list[dict[str, Any]]) -> list[str]:
    """The table."""
    found = [_ROW.format("", "", "", "median ms", "quartiles", "/ peer", "/ GEMM")]
    for one in results:
        quartiles = f"{one['q25_ms']:.4f} to {one['q75_ms']:.4f}"
        ratios = ["" if value is None else f"{value:.2f}" for value in (
            one["ratio_to_fastest_peer"], one["ratio_to_gemm_floor"]
        )]  # fmt: skip
        names = one["what"], one["workload"], one["backend"]
        found.append(_ROW.format(*names, f"{one['median_ms']:.4f}", quartiles, *ratios))
    return found


def main() -> int:
    """Run what there is time for, and return 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=270)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--peers", default="torch,jax")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--workloads", default=",".join(dict.fromkeys(name for _, name in ORDER)))
    given = parser.parse_args()
    started, peers = time.monotonic(), [peer for peer in given.peers.split(",") if peer]
    where = environment(Path(__file__).parent)
    given.results.mkdir(parents=True, exist_ok=True)
    all_results: list[dict[str, Any]] = []
    failed, longest = [], 0.0
    for what, workload in ORDER:
        if workload not in given.workloads.split(","):
            continue
        begun = time.monotonic()
        if begun - started + longest > given.seconds:
            print(f"{what} {workload}: no time left", flush=True)
            continue
        try:
            found = interleaved_gpu.run(what, workload, "cupy", peers, 1, given.rounds, _note)
        except Exception as error:
            # One contestant that fails on this machine is no reason to lose the others.
            failed.append(f"{what} {workload}: {type(error).__name__}: {' '.join(str(error).split())}")
            print(failed[-1], flush=True)
            continue
        all_results += found.results
        whole = {
            "schema": "vae-np/bench/1",
            "version": __version__,
            "results": found.results,
            "environment": {**where, "first_calls_ms": found.first_calls_ms},
        }
        target = given.results / f"gpu-{what}-{workload}.json"
        target.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
        longest = max(longest, time.monotonic() - begun)
        print(f"{what} {workload}: {time.monotonic() - begun:.0f} s, wrote {target}", flush=True)
    print("\n".join([f"{where['date']}, {where['device']}, commit {where['commit']}", *lines(all_results), *failed]))
    return 1 if failed else 0


def _note(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
