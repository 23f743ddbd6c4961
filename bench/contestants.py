"""Who is timed, by process: what each process builds, how a contestant's results are checked, and what is called.

A process has a role. `ours` has the kernels; `blas` the reference, and matrix products by a BLAS with its own threads;
`slabs` the same products by a BLAS on one thread in slabs of ours, and the triad; each peer has a process of its own.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np
from triad import triad_in_threads
from workloads import (
    DRAWN,
    EVAL,
    SEED,
    STEP,
    WORKLOADS,
    Step,
    Workload,
    composed_step,
    evaluation_images,
    evaluation_products,
    fused_step,
    gemm_in_slabs,
    gemm_only,
    given_batch,
    grey_batch,
    operations,
    parameter_count,
    step_products,
    steps_at_once,
)

from vae_np import backends, objectives, ops
from vae_np.backends import Backend
from vae_np.evaluation import importance
from vae_np.model import Model, Parameters, initialise

EVAL_SAMPLES, EVAL_IMAGES = 5000, 10
_GEMM_CHUNKS = (500, 5000)


class CheckError(AssertionError):
    """A contestant computes something else than it should."""


@dataclass(frozen=True)
class Contestant:
    """What to call, how many steps (or images) a call is, and whether it uses that x is binary and sparse.

    `check` is called before the timing and after it and returns figures that all contestants must agree on, each with
    the error it has; it raises CheckError for what is wrong by itself. `floor` marks variants of the GEMM floor.
    """

    call: Step
    steps: int = 1
    sparse: bool = False
    is_peer: bool = False
    is_floor: bool = False
    check: Callable[[], dict[str, tuple[float, float]]] | None = None


Contest = dict[str, dict[str, Contestant]]


def build(role: str, what: str, name: str, backend: str, threads: int) -> Contest:
    """All contestants of a role, by the title of what is timed and by name."""
    workload = WORKLOADS[name]
    if role == "ours":
        return _ours(what, workload, backends.choose(backend))
    if role == "blas":
        return _blas(what, workload)
    if role == "slabs":
        return _slabs(what, workload, threads)
    return _peer(what, workload, role)


def _ours(what: str, workload: Workload, backend: Backend) -> Contest:
    name, fused = backend.name, backend.unfused(workload.arch) is None
    bernoulli = workload.arch.is_bernoulli
    if what == "ops":
        return _operations(name, backend.ops, workload)
    if what == "eval":
        log_weights = backend.fused_log_weights(workload.arch)
        return {EVAL: {name: _evaluation(ours_evaluated(backend.ops, workload, log_weights))}}

    def ours(call: Step, state: Any, sparse: bool) -> Contestant:
        return Contestant(call, sparse=sparse, check=_learnt(workload, lambda: state.parameters))

    given: dict[str, Contestant] = {}
    if fused:
        given[name] = ours(*fused_step(backend, workload), bernoulli)
        given[f"{name} composed"] = ours(*composed_step(backend.ops, workload), bernoulli)
        if not bernoulli:
            return {STEP: given}
        given[f"{name} dense"] = ours(*composed_step(backend.ops, workload, dense=True), False)
        return {STEP: given, DRAWN: {name: ours(*fused_step(backend, workload, grey=True), True)}}
    return {STEP: {name: ours(*composed_step(backend.ops, workload), bernoulli)}}


def _blas(what: str, workload: Workload) -> Contest:
    if what == "ops":
        return _operations("numpy", ops, workload)
    if what == "eval":
        found = {"numpy": _evaluation(ours_evaluated(ops, workload, None))}
        for chunk in _GEMM_CHUNKS:
            call = gemm_only(evaluation_products(workload, EVAL_SAMPLES, chunk))
            found[f"BLAS threads, chunks of {chunk}"] = Contestant(call, is_floor=True)
        return {EVAL: found}
    call, state = composed_step(ops, workload)
    numpy = Contestant(call, check=_learnt(workload, lambda: state.parameters))
    floor = {"BLAS threads": Contestant(gemm_only(step_products(workload)), is_floor=True)}
    return {STEP: {"numpy": numpy, **floor}, DRAWN: floor}


def _slabs(what: str, workload: Workload, threads: int) -> Contest:
    if what == "ops":
        return {}
    if what == "eval":
        products = {
            f"slabs, chunks of {chunk}": evaluation_products(workload, EVAL_SAMPLES, chunk) for chunk in _GEMM_CHUNKS
        }
        return {
            EVAL: {
                name: Contestant(gemm_in_slabs(mine, threads, "rows", EVAL_IMAGES), EVAL_IMAGES, is_floor=True)
                for name, mine in products.items()
            }
        }
    count = steps_at_once(workload)
    floors = {
        f"slabs of {by}": Contestant(gemm_in_slabs(step_products(workload), threads, by, count), count, is_floor=True)
        for by in ("rows", "columns")
    }
    # Two triads over as many entries as there are parameters move ADAM_BYTES a parameter.
    traffic = Contestant(triad_in_threads(parameter_count(workload), threads, 2 * count), count)
    return {STEP: {**floors, "triad": traffic}, DRAWN: floors}


def _peer(what: str, workload: Workload, name: str) -> Contest:
    peer = importlib.import_module(f"peers.{name}_peer")
    parameters = initialise(workload.arch, seed=SEED)
    if what == "eval":
        return {
            EVAL: {
                mode: _evaluation(_peer_evaluated(peer, mode, workload, parameters), is_peer=True)
                for mode in peer.MODES
            }
        }
    found: Contest = {STEP: {}, DRAWN: {}} if workload.arch.is_bernoulli else {STEP: {}}
    for title, mine in found.items():
        grey = title == DRAWN
        x, _ = grey_batch(workload) if grey else given_batch(workload)
        for mode in peer.MODES:
            count = steps_at_once(workload)
            call, steps, now = peer.training(
                mode, workload.arch, parameters, x, count=count, grey=grey, samples=workload.samples
            )
            mine[mode] = Contestant(call, steps, is_peer=True, check=_learnt(workload, now, peer.loss))
    return found


def _operations(who: str, of: Any, workload: Workload) -> Contest:
    return {
        name: {who: Contestant(call, sparse=name.startswith("binary"))}
        for name, call in operations(of, workload).items()
    }


def _learnt(
    workload: Workload, parameters: Callable[[], Mapping[str, Any]], loss: Callable[..., float] | None = None
) -> Callable[[], dict[str, tuple[float, float]]]:
    """A check of training: the reference's loss of a contestant's parameters, on one batch and one ε.

    After as many steps from the same start everyone must have come as far: other noise parts them by 1%, so each is
    allowed 4%. A peer's own `loss` must be the reference's to 1e-5.
    """
    x, rows = given_batch(workload)
    start = initialise(workload.arch, seed=SEED)
    many, numbers = np.tile(rows, workload.samples or 1), np.arange(workload.samples or 1).repeat(len(rows))
    eps = ops.philox_normal(many, workload.arch.latent, seed=SEED, stream=3, step=0, sample=numbers)

    def reference(of: Mapping[str, Any]) -> float:
        found = objectives.objective_forward(ops, workload.arch, of, x, eps, objective=workload.objective)
        return float(found[0].loss())

    def check() -> dict[str, tuple[float, float]]:
        before = reference(start)
        if loss is not None:
            theirs = loss(workload.arch, start, x, eps, samples=workload.samples)
            if not abs(theirs / before - 1) < 1e-5:
                raise CheckError(f"its loss is {theirs}, the reference's {before}")
        now = reference(parameters())
        if not now < before:
            raise CheckError(f"the loss went from {before} to {now}")
        return {"loss": (now, 0.04 * abs(now))}

    return check


Evaluated = Callable[[Any], tuple[Any, Any]]


def ours_evaluated(of: Any, workload: Workload, log_weights: Callable[..., Any] | None) -> Evaluated:
    """log p(x) and Σ w̃² of x (B, D), by the fused log weights or composed."""
    arch, parameters = workload.arch, initialise(workload.arch, seed=SEED)

    def run(x: Any) -> tuple[Any, Any]:
        rows = np.arange(len(x))
        if log_weights is None:
            model = Model(of, arch, parameters)
            found = importance.importance_log_likelihood(model, x, rows, samples=EVAL_SAMPLES, seed=SEED)
        else:
            log_w = log_weights(of, arch, parameters, x, rows, samples=EVAL_SAMPLES, seed=SEED)
            found = importance.estimate_from_log_weights(of, log_w)
        return found.log_likelihood, 1 / found.ess

    return run


def _peer_evaluated(peer: Any, mode: str, workload: Workload, parameters: Parameters) -> Evaluated:
    evaluated: Evaluated = peer.log_likelihood(mode, workload.arch, parameters, samples=EVAL_SAMPLES)
    return evaluated


def _evaluation(evaluated: Evaluated, *, is_peer: bool = False) -> Contestant:
    """Images in turns, EVAL_IMAGES per call. The check: the mean log p(x) of the first, within 5 Monte Carlo errors."""
    images = evaluation_images()
    parts = cycle(images.reshape(-1, EVAL_IMAGES, images.shape[1]))

    def check() -> dict[str, tuple[float, float]]:
        found, sum_squares = evaluated(images[:EVAL_IMAGES])
        errors = np.sqrt(np.maximum(sum_squares - 1 / EVAL_SAMPLES, 0))
        mean = float(found.mean(dtype=np.float64))
        return {"log p(x)": (mean, 5 * float(np.sqrt((errors**2).sum())) / len(found) + 1e-5 * abs(mean))}

    return Contestant(lambda: evaluated(next(parts)), EVAL_IMAGES, is_peer=is_peer, check=check)
