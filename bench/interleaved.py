"""Time the fused step against peers and the GEMM-only floor, in turns, so that a busy machine is busy for all alike.

Run with: python bench/interleaved.py --workload pt --peers torch,jax --rounds 20
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from vae_np.kernels import cpu
from vae_np.kernels.cpu.fused import FusedStep
from workloads import SEED, WORKLOADS, Workload, binary_batch, gemm_only

from vae_np import elbo, ops
from vae_np.model import initialise
from vae_np.step import Optimiser, TrainingState

BURST = 20


def fused_step(workload: Workload) -> Callable[[], object]:
    """Our step on given binary x: it draws ε, and does forward, backward and Adam."""
    x, rows = binary_batch(workload)
    step = FusedStep(workload.arch, TrainingState(initialise(workload.arch, seed=SEED)), workload.batch)
    return lambda: step(x, rows, seed=SEED, optimiser=Optimiser())


def check_peer(loss: Callable[..., float], workload: Workload) -> None:
    """Raises AssertionError unless the peer computes our loss."""
    x, rows = binary_batch(workload)
    parameters = initialise(workload.arch, seed=SEED)
    eps = ops.philox_normal(rows, workload.arch.latent, seed=SEED, stream=3, step=0)
    ours = float(elbo.elbo_forward(ops, workload.arch, parameters, x, eps)[0].loss())
    theirs = loss(workload.arch, parameters, x, eps)
    if not abs(theirs / ours - 1) < 1e-5:
        raise AssertionError(f"peer: its loss is {theirs}, ours {ours}")


def contestants(workload: Workload, peers: list[str], threads: int) -> dict[str, tuple[Callable[[], object], int]]:
    """By name, what to call and how many steps one call is."""
    found: dict[str, tuple[Callable[[], object], int]] = {
        "numba": (fused_step(workload), 1),
        "gemm only": (gemm_only(workload), 1),
    }
    x, _ = binary_batch(workload)
    parameters = initialise(workload.arch, seed=SEED)
    if "torch" in peers:
        from peers import torch_peer

        check_peer(torch_peer.loss, workload)
        for compiled in (False, True):
            name = "torch compiled" if compiled else "torch eager"
            found[name] = torch_peer.step(workload.arch, parameters, x, compiled=compiled, threads=threads), 1
    if "jax" in peers:
        from peers import jax_peer

        check_peer(jax_peer.loss, workload)
        found["jax"] = jax_peer.steps(workload.arch, parameters, x, count=BURST), BURST
    return found


def measure(workload: Workload, peers: list[str], threads: int, rounds: int) -> dict[str, dict[str, Any]]:
    """Quartiles in milliseconds a step, of `rounds` bursts each, in turns; a first burst of everyone is not counted."""
    everyone = contestants(workload, peers, threads)
    times: dict[str, list[float]] = {name: [] for name in everyone}
    for turn in range(rounds + 1):
        for name, (call, steps) in everyone.items():
            repeats = max(1, BURST // steps)
            call()
            started = time.perf_counter()
            for _ in range(repeats):
                call()
            if turn > 0:
                times[name].append(1e3 * (time.perf_counter() - started) / (repeats * steps))
    results = {}
    for name, values in times.items():
        q25, median, q75 = np.quantile(values, [0.25, 0.5, 0.75])
        results[name] = {"median_ms": median, "q25_ms": q25, "q75_ms": q75, "min_ms": min(values), "rounds": rounds}
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workload", default="pt", choices=list(WORKLOADS))
    parser.add_argument("--peers", default="torch,jax")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=cpu.available())
    parser.add_argument("--json")
    options = parser.parse_args()
    cpu.set_threads(options.threads)
    peers = options.peers.split(",")
    results = measure(WORKLOADS[options.workload], peers, options.threads, options.rounds)
    fastest = min((r["median_ms"] for n, r in results.items() if n not in ("numba", "gemm only")), default=None)
    for name, result in results.items():
        ratio = "" if fastest is None else f"  {result['median_ms'] / fastest:5.2f} of the fastest peer"
        spread = f"({result['q25_ms']:.3f} to {result['q75_ms']:.3f}, min {result['min_ms']:.3f})"
        print(f"{options.workload:8s}{name:16s}{result['median_ms']:9.3f} ms {spread}{ratio}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"workload": options.workload, "threads": options.threads, "results": results}, file, indent=2)


if __name__ == "__main__":
    main()
