"""Who is timed, by process: what each process builds, how a contestant's results are checked, and what is called.

A process has a role. `ours` has the kernels; `blas` the reference, and matrix products by a BLAS with its own threads;
`slabs` the same products by a BLAS on one thread in slabs of ours, and the triad; each peer has a process of its own,
and PyTorch another one, `torch flushed`, in which denormal numbers count as zero. `alone` has our step and no more, for
two revisions that are compared.
"""

from __future__ import annotations

import importlib
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any

import numpy as np
from triad import triad_in_threads
from workloads import (
    AFTER,
    DRAWN,
    EVAL,
    SEED,
    STEP,
    WORKLOADS,
    Step,
    Training,
    Workload,
    composed_step,
    evaluation_images,
    evaluation_products,
    fused_step,
    gemm_in_slabs,
    gemm_only,
    given_batches,
    grey_batches,
    operations,
    parameter_count,
    start,
    step_products,
    steps_at_once,
)

from vae_np import backends, objectives, ops
from vae_np.backends import Backend
from vae_np.evaluation import importance
from vae_np.model import Model, initialise
from vae_np.parameters import Parameters
from vae_np.precision import FULL
from vae_np.step import TrainingState

EVAL_SAMPLES, EVAL_IMAGES = 5000, 10
_GEMM_CHUNKS = (500, 5000)
# Of many that do the same, by the name that they are shown under, the fastest takes part.
FLOOR, FLUSHED = "gemm only", "torch flushed"
ALONE = "alone"
# The loss of so many steps from the start is compared, as the median of three: a single one may stand on a peak.
CHECK_STEPS = (40, 60, 80)
# Other noise parts these medians by less; as much for each of two.
_LEARNT_TOLERANCE = 0.04


class CheckError(AssertionError):
    """A contestant computes something else than it should."""


Figures = dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Contestant:
    """What to call, how many steps (or images) a call is, and whether it uses that x is binary and sparse.

    `begin` goes to a state, where there is one. Of all that share a `heat` only the fastest takes part, under that
    name. `check` is called before the timing and returns figures that all contestants must agree on, each with the
    error it has; `check_after` is called after it. Both raise CheckError for what is wrong by itself.
    """

    call: Step
    steps: int = 1
    sparse: bool = False
    is_peer: bool = False
    heat: str | None = None
    begin: Callable[[TrainingState], object] | None = None
    check: Callable[[], Figures] | None = None
    check_after: Callable[[], Figures] | None = None


Contest = dict[str, dict[str, Contestant]]


def build(role: str, what: str, name: str, backend: str, threads: int, precision: str = FULL) -> Contest:
    """All contestants of a role, by the title of what is timed and by name.

    In another `precision` than full, those are steps of ours and of peers that have it too.
    """
    workload = WORKLOADS[name]
    if precision != FULL:
        return _reduced(role, workload, backends.choose(backend), precision)
    if role == "ours":
        return _ours(what, workload, backends.choose(backend))
    if role == ALONE:
        return {STEP: {backend: _trains(workload, our_training(workload, backends.choose(backend)))}}
    if role == "blas":
        return _blas(what, workload)
    if role == "slabs":
        return _slabs(what, workload, threads)
    return _flushed(what, workload) if role == FLUSHED else _peer(what, workload, role)


def trained(name: str, backend: str, steps: int) -> TrainingState:
    """The state after so many steps of ours from the start, which everyone can go on from."""
    workload = WORKLOADS[name]
    training = our_training(workload, backends.choose(backend))
    training.begin(start(workload))
    for _ in range(steps):
        training.run()
    assert training.state is not None
    return training.state


def our_training(workload: Workload, backend: Backend) -> Training:
    """Our step at its best: fused where there is a fused one."""
    fused = backend.unfused(workload.arch) is None
    return fused_step(backend, workload) if fused else composed_step(backend.ops, workload)


def _trains(
    workload: Workload, training: Training, loss: Callable[..., float] | None = None, **said: Any
) -> Contestant:
    """A training as a contestant, with its checks."""
    checks = {"check": _learnt(workload, training, loss), "check_after": _still_learnt(workload, training)}
    return Contestant(training.run, training.steps, begin=training.begin, **checks, **said)


def _ours(what: str, workload: Workload, backend: Backend) -> Contest:
    name, fused = backend.name, backend.unfused(workload.arch) is None
    bernoulli = workload.arch.is_bernoulli
    if what == "ops":
        return _operations(name, backend.ops, workload)
    if what == "eval":
        log_weights = backend.fused_log_weights(workload.arch)
        return {EVAL: {name: _evaluation(ours_evaluated(backend.ops, workload, log_weights))}}
    composed = _trains(workload, composed_step(backend.ops, workload), sparse=bernoulli)
    if not fused:
        return {STEP: {name: composed}, AFTER: {name: composed}}
    ours = _trains(workload, fused_step(backend, workload), sparse=bernoulli)
    found = {STEP: {name: ours, f"{name} composed": composed}, AFTER: {name: ours}}
    if bernoulli:
        found[STEP][f"{name} dense"] = _trains(workload, composed_step(backend.ops, workload, dense=True))
        found[DRAWN] = {name: _trains(workload, fused_step(backend, workload, grey=True), sparse=True)}
    return found


def _reduced(role: str, workload: Workload, backend: Backend, precision: str) -> Contest:
    """Steps whose products are reduced: ours by all instructions that are here, beside our full one, or a peer's."""
    if role != "ours":
        peer = importlib.import_module(f"peers.{role}_peer")
        return _peer_steps(peer, workload, peer.REDUCED_MODES.get(precision, ()))
    steps = {backend.name: _trains(workload, fused_step(backend, workload), sparse=workload.arch.is_bernoulli)}
    for instructions, name in backend.ops.instructions_here().items():
        training = fused_step(backend, workload, precision=precision, instructions=instructions)
        steps[f"{backend.name} {precision}, {name}"] = _trains(workload, training, sparse=workload.arch.is_bernoulli)
    return {STEP: steps, AFTER: steps}


def _blas(what: str, workload: Workload) -> Contest:
    if what == "ops":
        return _operations("numpy", ops, workload)
    if what == "eval":
        found = {"numpy": _evaluation(ours_evaluated(ops, workload, None))}
        for chunk in _GEMM_CHUNKS:
            call = gemm_only(evaluation_products(workload, EVAL_SAMPLES, chunk))
            found[f"BLAS threads, chunks of {chunk}"] = Contestant(call, heat=FLOOR)
        return {EVAL: found}
    numpy = _trains(workload, composed_step(ops, workload))
    floor = {"BLAS threads": Contestant(gemm_only(step_products(workload)), heat=FLOOR)}
    return {STEP: {"numpy": numpy, **floor}, AFTER: floor, DRAWN: floor}


def _slabs(what: str, workload: Workload, threads: int) -> Contest:
    if what == "ops":
        return {}
    if what == "eval":
        products = {
            f"slabs, chunks of {chunk}": evaluation_products(workload, EVAL_SAMPLES, chunk) for chunk in _GEMM_CHUNKS
        }
        return {
            EVAL: {
                name: Contestant(gemm_in_slabs(mine, threads, "rows", EVAL_IMAGES), EVAL_IMAGES, heat=FLOOR)
                for name, mine in products.items()
            }
        }
    count = steps_at_once(workload)
    floors = {
        f"slabs of {by}": Contestant(gemm_in_slabs(step_products(workload), threads, by, count), count, heat=FLOOR)
        for by in ("rows", "columns")
    }
    # Two triads over as many entries as there are parameters move ADAM_BYTES a parameter.
    traffic = Contestant(triad_in_threads(parameter_count(workload), threads, 2 * count), count)
    return {STEP: {**floors, "triad": traffic}, AFTER: floors, DRAWN: floors}


def _flushed(what: str, workload: Workload) -> Contest:
    """PyTorch's steps, with denormal numbers flushed: set before its threads begin, which have it from this one."""
    import torch

    torch.set_flush_denormal(True)
    if what != "step":
        return {}
    everyone = _peer(what, workload, "torch")[AFTER]
    return {AFTER: {f"{mode}, flushed": replace(one, heat=FLUSHED) for mode, one in everyone.items()}}


def _peer(what: str, workload: Workload, name: str) -> Contest:
    peer = importlib.import_module(f"peers.{name}_peer")
    if what == "eval":
        parameters = initialise(workload.arch, seed=SEED)
        return {
            EVAL: {
                mode: _evaluation(_peer_evaluated(peer, mode, workload, parameters), is_peer=True)
                for mode in peer.EVAL_MODES
            }
        }

    contest = _peer_steps(peer, workload, peer.MODES)
    if workload.arch.is_bernoulli:
        contest[DRAWN] = _peer_trainings(peer, workload, peer.MODES, grey=True)
    return contest


def _peer_steps(peer: Any, workload: Workload, modes: tuple[str, ...]) -> Contest:
    given = _peer_trainings(peer, workload, modes, grey=False)
    return {STEP: given, AFTER: given}


def _peer_trainings(peer: Any, workload: Workload, modes: tuple[str, ...], *, grey: bool) -> dict[str, Contestant]:
    x, _ = (grey_batches if grey else given_batches)(workload)
    how: dict[str, Any] = {"count": steps_at_once(workload), "grey": grey, "samples": workload.samples}
    return {
        mode: _trains(workload, Training(*peer.training(mode, workload.arch, x, **how)), peer.loss, is_peer=True)
        for mode in modes
    }


def _operations(who: str, of: Any, workload: Workload) -> Contest:
    return {
        name: {who: Contestant(call, sparse=name.startswith("binary"))}
        for name, call in operations(of, workload).items()
    }


def reference_loss(workload: Workload) -> Callable[[Mapping[str, Any]], float]:
    """The reference's loss of parameters, on the last batch, which no check trains on, and one ε."""
    x, eps = _held_out(workload)

    def loss(of: Mapping[str, Any]) -> float:
        found = objectives.objective_forward(ops, workload.arch, of, x, eps, objective=workload.objective)
        return float(found[0].loss())

    return loss


def _held_out(workload: Workload) -> tuple[Any, Any]:
    x, rows = (of[-1] for of in given_batches(workload))
    many, numbers = np.tile(rows, workload.samples or 1), np.arange(workload.samples or 1).repeat(len(rows))
    # A revision that is compared with may know z alone.
    columns = getattr(workload.arch, "noise_columns", workload.arch.latent)
    return x, ops.philox_normal(many, columns, seed=SEED, stream=3, step=0, sample=numbers)


def _learnt(workload: Workload, training: Training, loss: Callable[..., float] | None) -> Callable[[], Figures]:
    """A check of training: from the start, a fixed number of steps on the same batches lead everyone as far.

    A peer's own `loss` must be the reference's to 1e-5.
    """
    reference = reference_loss(workload)

    def check() -> Figures:
        begin = start(workload)
        before = reference(begin.parameters)
        if loss is not None:
            theirs = loss(workload.arch, begin.parameters, *_held_out(workload), samples=workload.samples)
            if not abs(theirs / before - 1) < 1e-5:
                raise CheckError(f"its loss is {theirs}, the reference's {before}")
        training.begin(begin)
        losses, taken = [], 0
        for target in CHECK_STEPS:
            while taken < target:
                training.run()
                taken += training.steps
            losses.append(reference(training.parameters()))
        now = statistics.median(losses)
        if not now < before:
            raise CheckError(f"the loss went from {before} to {now}")
        return {"loss": (now, _LEARNT_TOLERANCE * abs(now))}

    return check


def _still_learnt(workload: Workload, training: Training) -> Callable[[], Figures]:
    """A check of what the timing left: parameters whose loss is below the start's."""
    reference = reference_loss(workload)

    def check() -> Figures:
        before, now = reference(start(workload).parameters), reference(training.parameters())
        if not now < before:
            raise CheckError(f"the loss went from {before} to {now}")
        return {}

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

    def check() -> Figures:
        found, sum_squares = evaluated(images[:EVAL_IMAGES])
        errors = np.sqrt(np.maximum(sum_squares - 1 / EVAL_SAMPLES, 0))
        mean = float(found.mean(dtype=np.float64))
        return {"log p(x)": (mean, 5 * float(np.sqrt((errors**2).sum())) / len(found) + 1e-5 * abs(mean))}

    return Contestant(lambda: evaluated(next(parts)), EVAL_IMAGES, is_peer=is_peer, check=check, check_after=check)
