"""Time the CUDA kernels against PyTorch and JAX on the same device, in turns; `vae-np bench --backend cupy` calls it.

Everyone works in this process, on one device, one after the other; a turn ends when the device has nothing left to do.
Float32 for everyone, TF32 off.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import interleaved
import numpy as np
import workloads
from interleaved import FLOOR, BenchError, Found
from workloads import (
    DRAWN,
    EVAL,
    SEED,
    STEP,
    Workload,
    evaluation_images,
    given_batch,
    given_batches,
    grey_batches,
    step_products,
)

from vae_np import backends, objectives, ops
from vae_np.evaluation import importance
from vae_np.model import initialise
from vae_np.parameters import Parameters
from vae_np.step import Optimiser, TrainingState

WHATS, PEERS = ("step", "eval"), interleaved.PEERS
WORKLOADS = {
    name: one
    for name, one in workloads.WORKLOADS.items()
    if one.arch.is_bernoulli and one.arch.top_latent is None
}
# Where the device is full: the products alone should be what counts.
WORKLOADS["large"] = Workload(WORKLOADS["kingma"].arch, 4096)
HOST = "host time of a step"
TURN_SECONDS, MOST_STEPS = 0.05, 1000
SAMPLES, IMAGES = 5000, 100
HOST_STEPS = 500
# Two estimates of 100 images' mean log p(x) by 5000 samples each are this close by far.
_EVAL_TOLERANCE = 0.5
_SCAN = 50


@dataclass
class Contestant:
    """`call` does so many steps (or evaluations) and waits for the device; `outcome` is what can be checked then."""

    call: Callable[[int], object]
    unit: int = 1
    most: int = MOST_STEPS
    is_peer: bool = False
    is_floor: bool = False
    outcome: Callable[[], float] | None = None


def run(
    what: str, name: str, backend: str, peers: list[str], threads: int, rounds: int, note: Callable[[str], None]
) -> Found:
    """All results of one kind on one workload. Raises BenchError if a contestant is wrong, before or after the timing.

    `threads` is for the host's side, which does nothing here; `note` hears of what is being built.
    """
    workload, chosen = WORKLOADS[name], backends.choose(backend)
    _prepare(peers)
    found = Found()
    if what == "eval":
        _time(EVAL, name, _evaluations(chosen, workload, peers, note), threads, rounds, found)
        return found
    _check_losses(workload, peers)
    for title, grey in ((STEP, False), (DRAWN, True)):
        _time(title, name, _trainings(chosen, workload, peers, grey, note), threads, rounds, found)
    found.results.append(_result(HOST, name, chosen.name, _host_times(chosen, workload, rounds), rounds, threads))
    return found


def _prepare(peers: list[str]) -> None:
    # Peers that take most of the memory at once would leave none to the others.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if "torch" in peers:
        from peers import torch_gpu

        torch_gpu.prepare()
    if "jax" in peers:
        import jax

        jax.config.update("jax_default_matmul_precision", "highest")


def _start(workload: Workload) -> Parameters:
    return initialise(workload.arch, seed=SEED)


def _given(workload: Workload, seed: int) -> tuple[Any, Any]:
    """A batch, and noise for every sample of every example, sample-major."""
    x, rows = given_batch(workload)
    count = workload.samples or 1
    many, numbers = np.tile(rows, count), np.arange(count).repeat(len(rows))
    return x, ops.philox_normal(many, workload.arch.latent, seed=seed, stream=3, step=0, sample=numbers)


def _check_losses(workload: Workload, peers: list[str]) -> None:
    x, eps = _given(workload, SEED)
    parameters = _start(workload)
    ours = _loss_of(workload, dict(parameters), SEED)
    for peer in peers:
        module = importlib.import_module("peers.torch_gpu" if peer == "torch" else "peers.jax_peer")
        theirs = module.loss(workload.arch, parameters, x, eps, samples=workload.samples)
        if not abs(theirs / ours - 1) < 1e-5:
            raise BenchError(f"{peer}: its loss is {theirs:.8g}, ours {ours:.8g}")


def _loss_of(workload: Workload, values: dict[str, Any], seed: int = SEED + 1) -> float:
    """The reference's loss of parameters; unless told otherwise on noise that no training saw."""
    x, eps = _given(workload, seed)
    terms, _ = objectives.objective_forward(ops, workload.arch, values, x, eps, objective=workload.objective)
    return float(terms.loss())


def _our_run(backend: backends.Backend, workload: Workload, grey: bool) -> tuple[Any, TrainingState]:
    x = (grey_batches if grey else given_batches)(workload)[0]
    state = TrainingState(_start(workload))
    make = backend.fused_run(workload.arch)
    assert make is not None
    how: dict[str, Any] = {"seed": SEED, "optimiser": Optimiser(), "draw": grey, "samples": workload.samples}
    steps = make(workload.arch, state, workload.batch, x.reshape(-1, x.shape[-1]), **how)
    # The batches are all the data, and one order, the first to the last, serves every epoch.
    for parity in (0, 1):
        steps.order(parity, np.arange(x.shape[0] * x.shape[1]))
    return steps, state


def _trainings(
    backend: backends.Backend, workload: Workload, peers: list[str], grey: bool, note: Callable[[str], None]
) -> dict[str, Contestant]:
    steps, state = _our_run(backend, workload, grey)

    def ours(count: int) -> None:
        steps.steps(count).result()

    def our_loss() -> float:
        steps.pull()
        return _loss_of(workload, dict(state.parameters))

    found = {backend.name: Contestant(ours, outcome=our_loss)}
    x = (grey_batches if grey else given_batches)(workload)[0]
    if "torch" in peers:
        from peers import torch_gpu

        for mode in torch_gpu.MODES:
            note(f"building {mode}")
            call, values = torch_gpu.training(
                mode, workload.arch, _start(workload), x, grey=grey, samples=workload.samples
            )
            found[mode] = Contestant(call, is_peer=True, outcome=lambda now=values: _loss_of(workload, now()))
        found[FLOOR] = Contestant(torch_gpu.gemm_only(step_products(workload)), is_floor=True)
    if "jax" in peers:
        from peers import jax_peer

        once, unit, begin, now = jax_peer.training(
            "jax", workload.arch, x, count=_SCAN, grey=grey, samples=workload.samples
        )
        begin(TrainingState(_start(workload)))
        found["jax"] = Contestant(
            lambda count: [once() for _ in range(count)], unit, is_peer=True, outcome=lambda: _loss_of(workload, now())
        )
    return found


def _evaluations(
    backend: backends.Backend, workload: Workload, peers: list[str], note: Callable[[str], None]
) -> dict[str, Contestant]:
    """log p(x) of the same IMAGES by everyone's own draws; a call is all of them, a unit one image."""
    x, parameters, rows = evaluation_images()[:IMAGES], _start(workload), np.arange(IMAGES)
    fused = backend.fused_log_weights(workload.arch)
    assert fused is not None
    found: dict[str, Contestant] = {}

    def enter(name: str, estimate: Callable[[], Any], is_peer: bool) -> None:
        kept: list[float] = []

        def call(count: int) -> None:
            for _ in range(count):
                kept[:] = [float(np.mean(estimate()))]

        found[name] = Contestant(call, IMAGES, most=1, is_peer=is_peer, outcome=lambda: kept[0])

    def ours() -> Any:
        log_w = fused(backend.ops, workload.arch, parameters, x, rows, samples=SAMPLES, seed=SEED)
        return importance.estimate_from_log_weights(backend.ops, log_w).log_likelihood

    enter(backend.name, ours, False)
    if "torch" in peers:
        from peers import torch_gpu

        for mode in torch_gpu.EVAL_MODES:
            note(f"building {mode}")
            theirs = torch_gpu.log_likelihood(mode, workload.arch, parameters, samples=SAMPLES)
            enter(mode, lambda call=theirs: call(x), True)
    if "jax" in peers:
        from peers import jax_peer

        of_jax = jax_peer.log_likelihood("jax", workload.arch, parameters, samples=SAMPLES)
        enter("jax", lambda: of_jax(x)[0], True)
    return found


def _host_times(backend: backends.Backend, workload: Workload, rounds: int) -> list[float]:
    """Milliseconds that the host is busy with a step, of HOST_STEPS that are queued together."""
    steps, _ = _our_run(backend, workload, grey=True)
    steps.steps(HOST_STEPS).result()
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        queued = steps.steps(HOST_STEPS)
        times.append(1e3 * (time.perf_counter() - started) / HOST_STEPS)
        queued.result()
    return times


def _time(title: str, workload: str, everyone: dict[str, Contestant], threads: int, rounds: int, found: Found) -> None:
    """Time everyone of one title in turns, check what came out, and add the results."""
    first: dict[str, float] = {}
    counts: dict[str, int] = {}
    for name, one in everyone.items():
        first[name] = 1e3 * _seconds(one, 1)
        again = _seconds(one, 1)
        counts[name] = int(np.clip(TURN_SECONDS / max(again, 1e-9), 1, one.most))
    found.first_calls_ms[title] = first
    times: dict[str, list[float]] = {name: [] for name in everyone}
    for turn in range(rounds + 1):
        for name, one in everyone.items():
            taken = _seconds(one, counts[name])
            if turn > 0:
                times[name].append(1e3 * taken / (counts[name] * one.unit))
    _check_outcomes(title, workload, everyone)
    fastest = min((float(np.median(times[name])) for name, one in everyone.items() if one.is_peer), default=None)
    floor = next((float(np.median(times[name])) for name, one in everyone.items() if one.is_floor), None)
    for name in everyone:
        found.results.append(_result(title, workload, name, times[name], rounds, threads, fastest, floor))


def _seconds(one: Contestant, count: int) -> float:
    started = time.perf_counter()
    one.call(count)
    return time.perf_counter() - started


def _check_outcomes(title: str, workload: str, everyone: dict[str, Contestant]) -> None:
    outcomes = {name: one.outcome() for name, one in everyone.items() if one.outcome is not None}
    if title == EVAL:
        worst = max(outcomes.values()) - min(outcomes.values())
        if not worst < _EVAL_TOLERANCE:
            raise BenchError(f"{title}: log p(x) of {outcomes} are {worst:.2f} nats apart")
        return
    start = _loss_of(WORKLOADS[workload], dict(_start(WORKLOADS[workload])))
    for name, value in outcomes.items():
        # On one batch over and over the loss falls; who does not train does not count.
        if not value < 0.999 * start:
            raise BenchError(f"{title}: {name} ended with a loss of {value:.6g}, from {start:.6g}")


def _result(
    what: str,
    workload: str,
    backend: str,
    times: list[float],
    rounds: int,
    threads: int,
    fastest: float | None = None,
    floor: float | None = None,
) -> dict[str, Any]:
    q25, median, q75 = (float(q) for q in np.quantile(times, [0.25, 0.5, 0.75]))
    return {
        "what": what,
        "workload": workload,
        "backend": backend,
        "median_ms": median,
        "q25_ms": q25,
        "q75_ms": q75,
        "rounds": rounds,
        "threads": threads,
        "sparse": backend == "cupy" and WORKLOADS[workload].batch < 512,
        "ratio_to_fastest_peer": None if fastest is None else median / fastest,
        "ratio_to_gemm_floor": None if floor is None else median / floor,
    }
