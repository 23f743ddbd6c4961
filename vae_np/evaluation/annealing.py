"""log p(x) by annealed importance sampling with Hamiltonian transitions, from below and from above. [D46] [D49]

Chains walk from the prior to the posterior of their example, over the distributions p(z) p(x|z)^τ with τ from 0 to 1,
and gather their weights on the way. No encoder is needed, so the estimate does not suffer where q(z|x) is poor. All
chains of all examples of a batch move at once: rows are chain-major, c·B + b. (Neal 2001, 2011; Wu et al. 2017)

What moves are the standard normals of which the model makes its latents: z itself where the prior is N(0, I), and with
two stochastic layers u = (u₁, z₂), of which z₁ is a function. So the prior is N(0, I) for both. [D60] A learned mixture
is no such function of normals: there z itself moves, and p(z) is drawn from and differentiated. [D76]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np

from vae_np import noise
from vae_np._types import Array
from vae_np.config import counted
from vae_np.elbo import prior_draw_backward, prior_draw_forward, prior_mixture
from vae_np.errors import InputError
from vae_np.evaluation import importance
from vae_np.evaluation.importance import Estimate
from vae_np.model import Model, decode_backward, decode_forward, given_in, loglik_backward, loglik_forward
from vae_np.priors import Components, components

# What a chain's draws are for: the number of its noise is 3 · chain + one of these, so that no two share a draw.
_PILOT, _FORWARD, _REVERSE = range(3)
# The sigmoid's ends: the schedule takes its smallest steps near the prior and near the posterior.
_STEEPNESS = 4.0
# Spread of the random factor on a step: without it a trajectory of a normal target can come back to where it began.
_JITTER = 0.1
_PILOT_CHAINS = 2
# Transitions that a pilot makes at least, and how far its step size moves after each.
_PILOT_TRANSITIONS = 200
_GAIN = 0.1
_FIRST_STEP = 0.5
# Rows (chains × examples) that move at once. At 784 pixels 256 took 5.2 µs per row and leapfrog step, and 512 took 8.5:
# their logits, 1.6 MB of float32, go back to the system whenever they are freed, and new pages have to be cleared each
# time.
_CHUNK_ROWS = 256


@dataclass(frozen=True)
class Annealing:
    """How chains move: `chains` per example, `temperatures` increments of τ, `leapfrog` steps per transition.

    `acceptance` is what the pilot adapts the step size to. Raises InputError for a value out of its range.
    """

    chains: int = 16
    temperatures: int = 1000
    leapfrog: int = 5
    acceptance: float = 0.65

    def __post_init__(self) -> None:
        for name in ("chains", "temperatures", "leapfrog"):
            # Each chain has three of the noise's 2**24 samples.
            counted(name, getattr(self, name), bits=22 if name == "chains" else 24)
        if not 0 < self.acceptance < 1:
            raise InputError(f"acceptance: got {self.acceptance!r}, expected a number > 0 and < 1")

    @property
    def batch(self) -> int:
        """How many examples are best estimated at once."""
        return max(1, _CHUNK_ROWS // self.chains)

    def schedule(self) -> Array:
        """τ_0 = 0 to τ_T = 1, (T + 1,): a logistic curve over [−4, 4], stretched to reach both ends. [D46]"""
        curve = 1 / (1 + np.exp(-np.linspace(-_STEEPNESS, _STEEPNESS, self.temperatures + 1)))
        return (curve - curve[0]) / (curve[-1] - curve[0])


@dataclass(frozen=True, repr=False)
class AnnealedEstimate(Estimate):
    """`Estimate` from annealed chains; `acceptance` (B,) is the share of an example's proposals that were accepted."""

    acceptance: Array


@dataclass(frozen=True, repr=False)
class BidirectionalEstimate(AnnealedEstimate):
    """Log p(x) from both sides, (B,) each: `log_likelihood` is the lower, `upper` the upper one. [D49]

    `upper_stderr` and `upper_ess` are those of the reverse chains. They share the exact posterior sample that they
    start from, which their spread does not show; the spread over examples does.
    """

    upper: Array
    upper_stderr: Array
    upper_ess: Array

    @property
    def degenerate(self) -> Array:
        """Which examples' weights have collapsed on either side, (B,) bool. [D35]"""
        return super().degenerate | ~(self.upper_ess >= importance.DEGENERATE_ESS)

    def shifted(self, by: float) -> Self:
        """The same estimates with `by` nats added to every log-density, on both sides."""
        return replace(super().shifted(by), upper=self.upper + by)


@dataclass(frozen=True)
class Target:
    """log p(x|z) of some examples and its gradient in z, and the prior: all that the chains need to know of a model."""

    model: Model
    x: Array

    def __call__(self, z: Array) -> tuple[Array, Array]:
        """log p(x_b | z_cb), (C·B,) in nats, and its gradient (C·B, K) by hand, for z (C·B, K). [D29] [D60]"""
        lowest, prior_cache = prior_draw_forward(*self.model, z)
        out, decoder_cache = decode_forward(*self.model, lowest, given_in(self.model.arch, self.x))
        loglik, loglik_cache = loglik_forward(*self.model, self.x, out)
        dout = loglik_backward(self.model.ops, self.model.arch, np.ones_like(loglik), loglik_cache, None)
        dlowest = decode_backward(self.model.ops, dout, decoder_cache, None)
        return loglik, prior_draw_backward(self.model.ops, self.model.arch, dlowest, prior_cache)

    @cached_property
    def mixture(self) -> Components | None:
        """A learned prior's components; None where p(z) is N(0, I)."""
        return prior_mixture(*self.model)

    def pull(self, z: Array) -> Array:
        """−∂ log p(z)/∂z, (C·B, K): z itself for N(0, I). [D76]"""
        if self.mixture is None:
            return z
        log_prob, cache = components.log_prob_forward(self.model.ops, z, self.mixture)
        ones = np.ones_like(log_prob)
        return -components.log_prob_backward(self.model.ops, ones, cache, component_gradient=False)[0]

    def potential(self, z: Array) -> Array:
        """−2 log p(z) but for a constant, (C·B,) in float64: |z|² for N(0, I). [D76]"""
        z = z.astype(np.float64)
        if self.mixture is None:
            return (z * z).sum(axis=1)
        return -2 * components.log_prob_forward(self.model.ops, z, self.mixture)[0]


@dataclass
class State:
    """Where chains are: `z` (C·B, K), with `loglik` (C·B,) and `gradient` (C·B, K) of log p(x|z) there."""

    z: Array
    loglik: Array
    gradient: Array


def leapfrog(
    target: Target, state: State, momentum: Array, beta: float, step: Array, steps: int
) -> tuple[State, Array]:
    """`steps` leapfrog steps of size `step` (C·B, 1) under −log p(z) − τ log p(x|z): the end, and its momentum. [D47]

    It is reversible and keeps volume: from its end, with the momentum reversed, it comes back to where it began.
    """
    z, loglik, gradient = state.z, state.loglik, state.gradient
    momentum = momentum + 0.5 * step * (beta * gradient - target.pull(z))
    for number in range(steps):
        z = z + step * momentum
        loglik, gradient = target(z)
        # Between two steps their half kicks make a whole one.
        momentum = momentum + (step if number < steps - 1 else 0.5 * step) * (beta * gradient - target.pull(z))
    return State(z, loglik, gradient), momentum


def energy(target: Target, state: State, momentum: Array, beta: float) -> Array:
    """−log p(z) − τ log p(x|z) + ½ |momentum|² but for a constant, (C·B,) in float64: what a trajectory of small steps
    keeps. [D47]"""
    momentum = momentum.astype(np.float64)
    kinetic = (momentum * momentum).sum(axis=1)
    return 0.5 * (target.potential(state.z) + kinetic) - beta * state.loglik.astype(np.float64)


def transition(
    target: Target, state: State, beta: float, step: Array, normals: Array, steps: int
) -> tuple[State, Array]:
    """One Hamiltonian transition that leaves p(z) p(x|z)^τ as it is; the new state and each chain's chance. [D47]

    `step` (C·B,); `normals` (C·B, K + 3) are the momentum, the two numbers that decide on the proposal, and the one for
    the jitter. The chance, (C·B,) in [0, 1], is the probability with which the proposal was to be accepted.
    """
    latent = state.z.shape[1]
    momentum, decision, jitter = normals[:, :latent], normals[:, latent : latent + 2], normals[:, latent + 2]
    size = (step * np.exp(_JITTER * jitter)).astype(state.z.dtype)[:, None]
    # A trajectory that runs away overflows, and is rejected: its energy is then infinite or NaN.
    with np.errstate(over="ignore", invalid="ignore"):
        end, final = leapfrog(target, state, momentum, beta, size, steps)
        change = energy(target, end, final, beta) - energy(target, state, momentum, beta)
        chance = np.nan_to_num(np.exp(np.minimum(-change, 0)), nan=0.0)
    # −log of a uniform number, as half the squared length of two normals.
    threshold = 0.5 * (decision.astype(np.float64) ** 2).sum(axis=1)
    accepted = threshold > change
    moved = accepted[:, None]
    return State(
        np.where(moved, end.z, state.z),
        np.where(accepted, end.loglik, state.loglik),
        np.where(moved, end.gradient, state.gradient),
    ), chance


class _Chains:
    """Chains of one role, and their noise, which depends on seed, role, example and chain alone."""

    def __init__(self, target: Target, rows: Array, chains: Array, *, seed: int, role: int) -> None:
        self.target, self.seed = target, seed
        self.rows, self.numbers = noise.every_sample(rows, 3 * chains + role)
        self.shape = (len(chains), len(rows))

    def normals(self, step: int, columns: int) -> Array:
        """Standard normals (C·B, columns) of the chains' transition `step`; the start is step 0."""
        return self.target.model.ops.philox_normal(
            self.rows,
            columns,
            seed=self.seed,
            stream=noise.AIS,
            step=step,
            sample=self.numbers,
            dtype=self.target.model.parameters.dtype,
        )

    def start(self) -> Array:
        """Exact draws of the prior, (C·B, K): the noise itself for N(0, I). [D76]"""
        latent = self.target.model.arch.noise_columns
        if self.target.mixture is None:
            return self.normals(0, latent)
        drawn = self.normals(0, latent + 2)
        # Half the squared length of two normals is −log of a uniform number.
        u = np.exp(-0.5 * (drawn[:, latent:].astype(np.float64) ** 2).sum(axis=1))
        return components.sample(self.target.mixture, drawn[:, :latent], u)

    def at(self, z: Array) -> State:
        """The state of chains that stand at z (C·B, K)."""
        return State(z, *self.target(z))

    def move(self, state: State, beta: float, step: Array, number: int, steps: int) -> tuple[State, Array]:
        """Transition `number`, with step sizes (B,); the new state and the mean chance of each example, (B,)."""
        normals = self.normals(number, self.target.model.arch.noise_columns + 3)
        state, chance = transition(self.target, state, beta, np.tile(step, self.shape[0]), normals, steps)
        return state, chance.reshape(self.shape).mean(axis=0)


def adapt_steps(target: Target, rows: Array, annealing: Annealing, *, seed: int) -> Array:
    """Step sizes (T − 1, B) for τ_1 to τ_(T−1), each example's own, from a pilot run that is then thrown away. [D48]

    The pilot's noise is its own. Adapting the chains that are weighed would spoil their weights.
    """
    betas = annealing.schedule()
    pilot = _Chains(target, rows, np.arange(_PILOT_CHAINS), seed=seed, role=_PILOT)
    state = pilot.at(pilot.start())
    log_step = np.full(len(rows), np.log(_FIRST_STEP))
    found = np.empty((annealing.temperatures - 1, len(rows)))
    visits = -(-_PILOT_TRANSITIONS // annealing.temperatures)
    for index, beta in enumerate(betas[1:-1]):
        for visit in range(visits):
            number = 1 + index * visits + visit
            state, chance = pilot.move(state, float(beta), np.exp(log_step), number, annealing.leapfrog)
            log_step = log_step + _GAIN * (chance - annealing.acceptance)
        found[index] = np.exp(log_step)
    return found


def log_weights(
    target: Target,
    rows: Array,
    steps: Array,
    annealing: Annealing,
    chains: Array,
    *,
    seed: int,
    start: Array | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> tuple[Array, Array]:
    """log w (C, B) of chains with these numbers (C,), and the examples' mean chance of acceptance (B,). [D46]

    E w = p(x), without a `start`. With `start` z (B, K), exact samples of p(z|x), the chains run from the posterior to
    the prior, and E 1/w = 1/p(x). `steps` (T − 1, B) are the step sizes; `on_progress` is told the share that is done.
    """
    forward = start is None
    runs = _Chains(target, rows, chains, seed=seed, role=_FORWARD if forward else _REVERSE)
    betas = annealing.schedule() if forward else annealing.schedule()[::-1]
    steps = steps if forward else steps[::-1]
    state = runs.at(runs.start() if start is None else np.tile(start, (len(chains), 1)))
    log_w, chances = np.zeros(state.loglik.shape), np.zeros(len(rows))
    for number in range(annealing.temperatures):
        # Weighed before it moves: where it stands is a draw of the temperature that is being left.
        log_w += abs(betas[number + 1] - betas[number]) * state.loglik
        if number < annealing.temperatures - 1:
            beta = float(betas[number + 1])
            state, chance = runs.move(state, beta, steps[number], number + 1, annealing.leapfrog)
            chances += chance
        if on_progress is not None:
            on_progress((number + 1) / annealing.temperatures)
    return log_w.reshape(runs.shape), chances / max(annealing.temperatures - 1, 1)


def annealed_log_likelihood(
    model: Model,
    x: Array,
    rows: Array,
    annealing: Annealing,
    *,
    seed: int,
    posterior: Array | None = None,
    chunk_rows: int = _CHUNK_ROWS,
    on_progress: Callable[[float], None] | None = None,
) -> AnnealedEstimate:
    """log p(x) of x (B, D), `rows` (B,) in its data set, by exactly `annealing.chains` chains per example. [D46]

    With `posterior` (B, K), an exact sample of p(z|x) for every example, the result is a BidirectionalEstimate; such
    samples are known where the data were simulated from the model. What a chain draws depends on its example, its
    number and its temperature alone, and not on how many move at the same time: at most `chunk_rows`, or one chain of
    every example. (Long chains amplify the rounding in which matrix products of other sizes differ, by less than their
    own error.) `on_progress` is told the share of the work that is done. [D49]
    """
    target = Target(model, x)
    blocks = _blocks(annealing.chains, max(1, chunk_rows // len(x)))
    sides: tuple[Array | None, ...] = (None,) if posterior is None else (None, posterior)
    runs, done = len(sides) * annealing.chains + _PILOT_CHAINS, _PILOT_CHAINS

    def report(share: float, block: Array) -> None:
        if on_progress is not None:
            on_progress((done + share * len(block)) / runs)

    steps = adapt_steps(target, rows, annealing, seed=seed)
    estimates, chances = [], np.zeros(len(x))
    for start in sides:
        parts = []
        for block in blocks:
            log_w, chance = log_weights(
                target, rows, steps, annealing, block, seed=seed, start=start,
                on_progress=lambda share, block=block: report(share, block),  # type: ignore[misc]  # early binding
            )  # fmt: skip
            parts.append(log_w)
            chances += len(block) * chance
            done += len(block)
        log_w = np.concatenate(parts)
        estimates.append(importance.estimate_from_log_weights(model.ops, log_w if start is None else -log_w))
    forward = estimates[0]
    acceptance = chances / (len(sides) * annealing.chains)
    if posterior is None:
        return AnnealedEstimate(forward.log_likelihood, forward.stderr, forward.ess, forward.tail, acceptance)
    # The mean of 1/w estimates 1/p(x): its logarithm, turned round, lies above log p(x) on average.
    reverse = estimates[1]
    return BidirectionalEstimate(
        forward.log_likelihood, forward.stderr, forward.ess, forward.tail, acceptance,
        -reverse.log_likelihood, reverse.stderr, reverse.ess,
    )  # fmt: skip


def _blocks(chains: int, size: int) -> list[Array]:
    return [np.arange(first, min(first + size, chains)) for first in range(0, chains, size)]
