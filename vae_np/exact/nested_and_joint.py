"""Two ways to climb the same objective max_θ Σ_n w_n max_λn L(θ, λ_n): nested and joint. [D16]

Nested: F(θ) = Σ w_n L(θ, λ*_n(θ)), every λ solved anew to convergence at every θ that is tried. By the envelope theorem
its gradient is the partial one, ∂L/∂θ at λ*: nothing has to be differentiated through the solve. Joint: θ and λ move
together, as one vector. Both use L-BFGS, whose iterates never lower the objective.

The rule for E over ε must stay fine where θ ends up: with θ free, a climb finds the decoders that a coarse rule
flatters, and its "bound" passes log p(x). So the result carries the rule's error there, and is not `converged` if that
is large.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.errors import InputError
from vae_np.exact.decoder import Decoder
from vae_np.exact.inference import ELBO, Family, Rule, Solution, maximise


@dataclass(frozen=True)
class Optimum:
    """Where a climb ended: `decoder` (θ), `lam` (N, P), and the weighted ELBO in nats after each θ step in `trace`.

    `solves` counts the times that all λ were solved, `inner_steps` their solver iterations summed over examples,
    `evaluations` the gradients in θ. `rule_error` is what the ELBO changes by with half the rule (NaN for common noise,
    which has no such half). `converged`: L-BFGS met its tolerance, (nested) so did every inner solve at a θ that was
    accepted, and the rule's error is at most 1e-6.
    """

    decoder: Decoder
    lam: Array
    trace: list[float]
    solves: int
    inner_steps: int
    evaluations: int
    rule_error: float
    converged: bool

    @property
    def elbo(self) -> float:
        """The weighted ELBO reached, in nats."""
        return self.trace[-1]


_RULE_ERROR = 1e-6


@dataclass
class _Count:
    solves: int = 0
    inner_steps: int = 0
    evaluations: int = 0
    failed: int = 0


def _problem(
    decoder: Decoder, x: Array, weights: Array | None, rule: Rule, kind: str
) -> tuple[ELBO, Array]:
    x = decoder.check(x)
    if weights is None:
        weights = np.full(len(x), 1 / len(x))
    if weights.shape != (len(x),) or not (weights >= 0).all():
        raise InputError(f"weights: got shape {weights.shape}, expected ({len(x)},) numbers >= 0")
    return ELBO(decoder, x, rule, Family(kind, decoder.latent)), weights


def _finished(
    bound: ELBO, weights: Array, decoder: Decoder, lam: Array, trace: list[float], count: _Count, succeeded: bool
) -> Optimum:
    error = float("nan")
    if bound.rule.coarser is not None:
        everyone = np.arange(len(bound))
        here = replace(bound, decoder=decoder)
        fine, coarse = (
            weights @ replace(here, rule=rule).value_and_gradient(lam, everyone)[0]
            for rule in (bound.rule, bound.rule.coarser)
        )
        error = abs(float(fine - coarse))
    converged = succeeded and count.failed == 0 and not error > _RULE_ERROR
    return Optimum(decoder, lam, trace, count.solves, count.inner_steps, count.evaluations, error, converged)


def _lbfgs(
    negative: Callable[[Array], tuple[float, Array]],
    start: Array,
    iterations: int,
    tolerance: float,
    on_iterate: Callable[[Array], None],
) -> Any:
    # Here, because it takes half a second that nothing else should pay; SciPy ships no types.
    try:
        from scipy import optimize  # type: ignore[import-untyped]
    except ImportError:
        raise InputError("optimiser: needs SciPy: pip install 'vae-np[study]'") from None

    options = {"maxiter": iterations, "maxfun": 4 * iterations, "gtol": tolerance, "ftol": 1e-14, "maxcor": 30}
    return optimize.minimize(negative, start, jac=True, method="L-BFGS-B", callback=on_iterate, options=options)


def nested_ascent(
    decoder: Decoder,
    x: Array,
    rule: Rule,
    *,
    kind: str = "diagonal",
    weights: Array | None = None,
    iterations: int = 200,
    tolerance: float = 1e-6,
    inner_tolerance: float = 1e-8,
    on_step: Callable[[Decoder, Array], None] | None = None,
) -> Optimum:
    """Climb F(θ), solving every λ to convergence at each θ, warm-started from the last accepted θ's λ*.

    x (N, D) with weights (N,) (a mean unless given); `on_step` hears decoder and λ* (N, P) after each θ step. [D16]
    """
    bound, weights = _problem(decoder, x, weights, rule, kind)
    count, trace = _Count(), []
    lam = maximise(bound, bound.family.prior(len(bound)), tolerance=inner_tolerance).lam
    at: dict[bytes, tuple[float, Solution]] = {}

    def negative(theta: Array) -> tuple[float, Array]:
        here = replace(bound, decoder=decoder.moved(theta))
        solution = maximise(here, lam, tolerance=inner_tolerance)
        count.solves += 1
        count.inner_steps += int(solution.iterations.sum())
        value, _, gradient = here.parameter_gradient(solution.lam, weights)
        count.evaluations += 1
        at[theta.tobytes()] = float(weights @ value), solution
        return -float(weights @ value), -gradient.flat

    def accepted(theta: Array) -> None:
        nonlocal lam
        value, solution = at[theta.tobytes()]
        at.clear()
        lam = solution.lam
        count.failed += int((~solution.converged).sum())
        trace.append(value)
        if on_step is not None:
            on_step(decoder.moved(theta), lam)

    start = decoder.parameters.flat.copy()
    trace.append(-negative(start)[0])
    result = _lbfgs(negative, start, iterations, tolerance, accepted)
    return _finished(bound, weights, decoder.moved(result.x), lam, trace, count, bool(result.success))


def joint_ascent(
    decoder: Decoder,
    x: Array,
    rule: Rule,
    *,
    kind: str = "diagonal",
    weights: Array | None = None,
    iterations: int = 2000,
    tolerance: float = 1e-6,
    on_step: Callable[[Decoder, Array], None] | None = None,
) -> Optimum:
    """Climb L(θ, λ) in θ and all λ at once, from λ*(θ) at the first θ, where `nested` starts too; arguments as there.

    That start is the only solve. [D16]"""
    bound, weights = _problem(decoder, x, weights, rule, kind)
    theta_size, shape = decoder.parameters.flat.size, (len(bound), bound.family.size)
    count, trace = _Count(), []
    at: dict[bytes, float] = {}

    def split(both: Array) -> tuple[Array, Array]:
        return both[:theta_size], both[theta_size:].reshape(shape)

    def negative(both: Array) -> tuple[float, Array]:
        theta, lam = split(both)
        here = replace(bound, decoder=decoder.moved(theta))
        value, dlam, gradient = here.parameter_gradient(lam, weights)
        count.evaluations += 1
        at[both.tobytes()] = float(weights @ value)
        return -float(weights @ value), -np.concatenate([gradient.flat, dlam.reshape(-1)])

    def accepted(both: Array) -> None:
        trace.append(at[both.tobytes()])
        at.clear()
        if on_step is not None:
            theta, lam = split(both)
            on_step(decoder.moved(theta), lam)

    solved = maximise(bound, bound.family.prior(len(bound)))
    count.solves, count.inner_steps = 1, int(solved.iterations.sum())
    start = np.concatenate([decoder.parameters.flat, solved.lam.reshape(-1)])
    trace.append(-negative(start)[0])
    result = _lbfgs(negative, start, iterations, tolerance, accepted)
    theta, lam = split(result.x)
    return _finished(bound, weights, decoder.moved(theta), lam, trace, count, bool(result.success))
