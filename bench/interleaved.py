"""Time the kernels against peers and the GEMM-only floor, in turns, so that a busy machine is busy for all alike.

`vae-np bench` is its command line. What is timed is in `workloads.py` and `peers/`; here it is only called.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from workloads import SEED, WORKLOADS, Workload, binary_batch, gemm_only, operations, reference_step

from vae_np import data, elbo, likelihood, ops
from vae_np.backends import Backend
from vae_np.model import initialise
from vae_np.step import Optimiser, TrainingState

WHATS = ("ops", "step", "eval")
PEERS = ("torch", "jax")
FLOOR = "gemm only"
BURST = 20
EVAL_SAMPLES, EVAL_IMAGES = 5000, 4


@dataclass(frozen=True)
class Contestant:
    """What to call, how many steps one call is, and whether it uses that x is binary and sparse."""

    call: Callable[[], object]
    steps: int = 1
    sparse: bool = False
    is_peer: bool = False


def fused_step(backend: Backend, workload: Workload, grey: bool = False) -> Callable[[], object]:
    """Our step: it draws ε, and does forward, backward and Adam; with `grey` it draws binary pixels first."""
    x, rows = binary_batch(workload)
    state = TrainingState(initialise(workload.arch, seed=SEED))
    step = backend.fused_step(workload.arch, state, workload.batch)
    assert step is not None
    seen = data.load("mnist").train[rows] if grey else x
    return lambda: step(seen, rows, seed=SEED, optimiser=Optimiser(), grey=grey)


def check_peer(loss: Callable[..., float], workload: Workload) -> None:
    """Raises AssertionError unless the peer computes our loss."""
    x, rows = binary_batch(workload)
    parameters = initialise(workload.arch, seed=SEED)
    eps = ops.philox_normal(rows, workload.arch.latent, seed=SEED, stream=3, step=0)
    ours = float(elbo.elbo_forward(ops, workload.arch, parameters, x, eps)[0].loss())
    theirs = loss(workload.arch, parameters, x, eps)
    if not abs(theirs / ours - 1) < 1e-5:
        raise AssertionError(f"peer: its loss is {theirs}, ours {ours}")


def check_peers(peers: list[str], workload: Workload) -> None:
    """`check_peer` for every peer that is named: before and after the timing."""
    if "torch" in peers:
        from peers import torch_peer

        check_peer(torch_peer.loss, workload)
    if "jax" in peers:
        from peers import jax_peer

        check_peer(jax_peer.loss, workload)


def step_contestants(
    backend: Backend, workload: Workload, peers: list[str], threads: int, grey: bool
) -> dict[str, Contestant]:
    """Everyone's training step, on given binary x or, with `grey`, with dynamic binarisation in the step."""
    found: dict[str, Contestant] = {}
    if backend.name == "numpy":
        if not grey:
            found["numpy"] = Contestant(reference_step(workload))
    else:
        found[backend.name] = Contestant(fused_step(backend, workload, grey), sparse=True)
    found[FLOOR] = Contestant(gemm_only(workload))
    x, rows = binary_batch(workload)
    seen = data.load("mnist").train[rows] if grey else x
    parameters = initialise(workload.arch, seed=SEED)
    if "torch" in peers:
        from peers import torch_peer

        for compiled in (False, True):
            name = "torch compiled" if compiled else "torch eager"
            call = torch_peer.step(workload.arch, parameters, seen, compiled=compiled, threads=threads, grey=grey)
            found[name] = Contestant(call, is_peer=True)
    if "jax" in peers:
        from peers import jax_peer

        call = jax_peer.steps(workload.arch, parameters, seen, count=BURST, grey=grey)
        found["jax"] = Contestant(call, BURST, is_peer=True)
    return found


def eval_contestants(backend: Backend, workload: Workload) -> dict[str, Contestant]:
    """log p(x) of EVAL_IMAGES images from EVAL_SAMPLES samples each: the reference, and the fused evaluation."""
    x, rows = (part[:EVAL_IMAGES] for part in binary_batch(workload))
    arch, parameters = workload.arch, initialise(workload.arch, seed=SEED)

    def composed() -> object:
        return likelihood.importance_log_likelihood(ops, arch, parameters, x, rows, samples=EVAL_SAMPLES, seed=SEED)

    found = {"numpy": Contestant(composed)}
    fused = backend.fused_log_weights(arch)
    if fused is not None:

        def fused_estimate() -> object:
            log_w = fused(backend.ops, arch, parameters, x, rows, samples=EVAL_SAMPLES, seed=SEED)
            return likelihood.estimate_from_log_weights(backend.ops, log_w)

        found[backend.name] = Contestant(fused_estimate)
    return found


def contests(
    what: str, name: str, backend: Backend, peers: list[str], threads: int
) -> dict[str, dict[str, Contestant]]:
    """By the name of what is timed, who is timed."""
    workload = WORKLOADS[name]
    if what == "step":
        return {
            "step": step_contestants(backend, workload, peers, threads, grey=False),
            "step with binarisation": step_contestants(backend, workload, peers, threads, grey=True),
        }
    if what == "eval":
        return {"eval": eval_contestants(backend, workload)}
    calls = {"numpy": operations(ops, workload), backend.name: operations(backend.ops, workload)}
    return {
        operation: {
            who: Contestant(mine[operation], sparse=operation.startswith("binary")) for who, mine in calls.items()
        }
        for operation in ops.__all__
    }


def measure(everyone: dict[str, Contestant], rounds: int) -> dict[str, dict[str, float]]:
    """Quartiles in milliseconds, of `rounds` bursts each in turns; first calls and the first burst are apart."""
    times: dict[str, list[float]] = {name: [] for name in everyone}
    first: dict[str, float] = {}
    for name, one in everyone.items():
        started = time.perf_counter()
        one.call()
        first[name] = 1e3 * (time.perf_counter() - started)
    for turn in range(rounds + 1):
        for name, one in everyone.items():
            started = time.perf_counter()
            one.call()
            # What takes long needs no burst.
            slow = time.perf_counter() - started > 0.1 * one.steps
            repeats = 1 if slow else max(1, BURST // one.steps)
            started = time.perf_counter()
            for _ in range(repeats):
                one.call()
            if turn > 0:
                times[name].append(1e3 * (time.perf_counter() - started) / (repeats * one.steps))
    results = {}
    for name, values in times.items():
        q25, median, q75 = (float(q) for q in np.quantile(values, [0.25, 0.5, 0.75]))
        results[name] = {"median_ms": median, "q25_ms": q25, "q75_ms": q75, "first_ms": first[name]}
    return results


def run(what: str, name: str, backend: Backend, peers: list[str], threads: int, rounds: int) -> list[dict[str, Any]]:
    """All results of one kind on one workload, as the JSON has them. Peers are checked before and after."""
    if what == "step":
        check_peers(peers, WORKLOADS[name])
    results = []
    for title, everyone in contests(what, name, backend, peers, threads).items():
        found = measure(everyone, rounds)
        fastest = min((found[who]["median_ms"] for who, one in everyone.items() if one.is_peer), default=None)
        floor = found[FLOOR]["median_ms"] if FLOOR in found else None
        for who, one in everyone.items():
            median = found[who]["median_ms"]
            results.append(
                {
                    "what": title,
                    "workload": name,
                    "backend": who,
                    **found[who],
                    "rounds": rounds,
                    "threads": threads,
                    "sparse": one.sparse,
                    "ratio_to_fastest_peer": None if fastest is None else median / fastest,
                    "ratio_to_gemm_floor": None if floor is None else median / floor,
                }
            )
    if what == "step":
        check_peers(peers, WORKLOADS[name])
    return results
