"""One training step, composed from the contract: draw ε, forward, backward, update. Fused steps are held against it."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from vae_np import noise
from vae_np._types import Array
from vae_np.architecture import Architecture
from vae_np.elbo import Terms
from vae_np.objectives import objective_backward, objective_forward
from vae_np.optim import adagrad_update
from vae_np.parameters import Parameters


@dataclass(frozen=True)
class Optimiser:
    """Which optimiser, and its constants: `adam` [D31] or `adagrad` [D32]."""

    name: str = "adam"
    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8


@dataclass
class TrainingState:
    """Everything that a step changes: parameters, gradients, both moments and the number of steps taken."""

    parameters: Parameters
    step: int = 0
    gradients: Parameters = field(init=False)
    first_moment: Parameters = field(init=False)
    second_moment: Parameters = field(init=False)

    def __post_init__(self) -> None:
        self.gradients = self.parameters.zeros_like()
        self.first_moment = self.parameters.zeros_like()
        self.second_moment = self.parameters.zeros_like()

    def moments(self) -> dict[str, Array]:
        """Both moments' flat buffers, by name."""
        return {"first_moment": self.first_moment.flat, "second_moment": self.second_moment.flat}


def training_step(
    ops: ModuleType,
    arch: Architecture,
    state: TrainingState,
    x: Array,
    rows: Array,
    *,
    seed: int,
    optimiser: Optimiser,
    beta: float = 1.0,
    objective: str = "elbo",
    samples: int = 1,
) -> Terms:
    """Update `state` in place on the batch x (B, D), whose examples are `rows` (B,) of their data set.

    ε comes from the EPS stream at the number of steps taken so far, with `samples` draws per example. Returns the
    batch's terms before the update. [D24] [D29] [D31] [D42]
    """
    terms = gradient_step(ops, arch, state, x, rows, seed=seed, beta=beta, objective=objective, samples=samples)
    apply_gradients(ops, state, optimiser)
    return terms


def gradient_step(
    ops: ModuleType,
    arch: Architecture,
    state: TrainingState,
    x: Array,
    rows: Array,
    *,
    seed: int,
    beta: float = 1.0,
    objective: str = "elbo",
    samples: int = 1,
) -> Terms:
    """The part of `training_step` that moves nothing: the gradient of the batch's mean goes into `state.gradients`."""
    # Behind the bound's own draws come those of the steps that refine q.
    every, sample = noise.every_sample(rows, np.arange(samples * (1 + arch.refine_steps)))
    eps = ops.philox_normal(
        every,
        arch.noise_columns,
        seed=seed,
        stream=noise.EPS,
        step=state.step,
        sample=sample,
        dtype=state.parameters.dtype,
    )
    terms, cache = objective_forward(ops, arch, state.parameters, x, eps, objective=objective, beta=beta)
    objective_backward(ops, arch, cache, state.gradients)
    return terms


def apply_gradients(ops: ModuleType, state: TrainingState, optimiser: Optimiser, part: slice = slice(None)) -> None:
    """Count the step and move the parameters along the gradients that `state` holds: all, or a part of the buffer."""
    state.step += 1
    flat = state.parameters.flat[part], state.gradients.flat[part]
    if optimiser.name == "adam":
        ops.adam_update(
            *flat,
            state.first_moment.flat[part],
            state.second_moment.flat[part],
            step=state.step,
            lr=optimiser.lr,
            beta1=optimiser.beta1,
            beta2=optimiser.beta2,
            eps=optimiser.eps,
        )
    else:
        adagrad_update(*flat, state.second_moment.flat[part], lr=optimiser.lr)


def first_non_finite(state: TrainingState, terms: Terms) -> str | None:
    """The name of the first thing that is not finite: a term of the loss, gradient, parameter or moment; else None."""
    # A sum, or a sum of squares (the second moment holds those), finds a bad value at the price of one pass per buffer;
    # the search by name runs only after that.
    gradients = state.gradients.flat
    if all(np.isfinite(float(sum_)) for sum_ in (terms.loss(), gradients @ gradients, state.parameters.flat.sum())):
        return None
    candidates: list[tuple[str, Any]] = [("reconstruction", terms.reconstruction), ("kl", terms.kl)]
    candidates += [] if terms.bound is None else [("bound", terms.bound)]
    candidates += [(f"gradient of {name}", value) for name, value in state.gradients.items()]
    candidates += list(state.parameters.items())
    candidates += [(f"second moment of {name}", value) for name, value in state.second_moment.items()]
    return next((name for name, value in candidates if not bool(np.isfinite(value).all())), None)
