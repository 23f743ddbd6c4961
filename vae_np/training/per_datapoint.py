"""The non-amortised model: each of n datapoints has a λ of its own, λ_1, ..., λ_n, and there is no encoder. [D11] [D16]

The training step is the amortised one with the encoder taken out: draw ε, forward, backward, one Adam step on θ, and
one on the λ of the batch's rows. A row is visited once per epoch, so its λ gets an Adam of its own (moments and a count
of visits per row; rows that are not in the batch do not move) and a larger step than θ, which moves at every batch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from vae_np import noise
from vae_np._types import Array
from vae_np.architecture import Architecture
from vae_np.elbo import Terms, posterior_elbo_backward, posterior_elbo_forward
from vae_np.errors import InputError
from vae_np.model import Model
from vae_np.step import Optimiser, TrainingState, apply_gradients

# What a LocalPosterior holds, and a checkpoint of it.
ARRAYS = ("mu", "logvar", "first_moment", "second_moment", "visits")
# Measured on 20,000 rows of MNIST, 20 latents: with one step of 0.1 per visit, q stays near the prior for many epochs.
LOCAL_LR = 0.3
LOCAL_STEPS = 4


@dataclass
class LocalPosterior:
    """q_n(z) = N(mu_n, exp logvar_n) for every row of a data set: `mu` and `logvar` (N, K), at first the prior's.

    `first_moment` and `second_moment` (N, 2K) and `visits` (N,) are Adam's, row by row.
    """

    mu: Array
    logvar: Array
    first_moment: Array = field(init=False)
    second_moment: Array = field(init=False)
    visits: Array = field(init=False)

    def __post_init__(self) -> None:
        if self.mu.ndim != 2 or self.mu.shape != self.logvar.shape:
            raise InputError(f"mu, logvar: got shapes {self.mu.shape} and {self.logvar.shape}, expected (N, K) twice")
        rows, latent = self.mu.shape
        self.first_moment = np.zeros((rows, 2 * latent), dtype=self.mu.dtype)
        self.second_moment = np.zeros_like(self.first_moment)
        self.visits = np.zeros(rows, dtype=np.int64)

    @classmethod
    def prior(cls, rows: int, latent: int, dtype: Any = np.float32) -> LocalPosterior:
        """`rows` copies of N(0, I): 2K numbers per row, n·2K in all."""
        return cls(np.zeros((rows, latent), dtype=dtype), np.zeros((rows, latent), dtype=dtype))

    def arrays(self) -> dict[str, Array]:
        """What a checkpoint holds of it, by name."""
        return {f"local.{name}": getattr(self, name) for name in ARRAYS}

    def update(self, rows: Array, dmu: Array, dlogvar: Array, *, optimiser: Optimiser) -> None:
        """One Adam step, with bias correction, on these rows alone; rows (B,) all different. [D31]

        The constants are `optimiser`'s; each row counts its own visits.
        """
        gradient = np.hstack([dmu, dlogvar])
        m = optimiser.beta1 * self.first_moment[rows] + (1 - optimiser.beta1) * gradient
        v = optimiser.beta2 * self.second_moment[rows] + (1 - optimiser.beta2) * gradient * gradient
        self.first_moment[rows], self.second_moment[rows] = m, v
        self.visits[rows] += 1
        t = self.visits[rows, None]
        m_hat, v_hat = m / (1 - optimiser.beta1**t), v / (1 - optimiser.beta2**t)
        change = (optimiser.lr * m_hat / (np.sqrt(v_hat) + optimiser.eps)).astype(self.mu.dtype)
        latent = self.mu.shape[1]
        self.mu[rows] -= change[:, :latent]
        self.logvar[rows] -= change[:, latent:]


def local_training_step(
    ops: ModuleType,
    arch: Architecture,
    state: TrainingState,
    local: LocalPosterior,
    x: Array,
    rows: Array,
    *,
    seed: int,
    optimiser: Optimiser,
    local_lr: float = LOCAL_LR,
    local_steps: int = LOCAL_STEPS,
    beta: float = 1.0,
) -> Terms:
    """Update θ in `state` and the λ of `rows` (B,) in `local`, both in place, on the batch x (B, D) of those rows.

    With `local_steps` 1 both move along one gradient, at the same ε. Each further local step moves λ alone first, with
    ε of its own (the EPS stream's next sample). Returns the batch's terms before θ moves. [D16] [D17]
    """
    of_rows = Optimiser("adam", local_lr, optimiser.beta1, optimiser.beta2, optimiser.eps)
    for sample in reversed(range(local_steps)):
        eps = ops.philox_normal(
            rows, arch.latent, seed=seed, stream=noise.EPS, step=state.step, sample=sample, dtype=local.mu.dtype
        )
        terms, cache = posterior_elbo_forward(
            ops, arch, state.parameters, x, local.mu[rows], local.logvar[rows], eps
        )
        # θ moves once, along the gradient of the last of these passes.
        gradients = None if sample else state.gradients
        dmu, dlogvar = posterior_elbo_backward(ops, arch, cache, gradients, beta=beta)
        # The loss is a mean: without the B, a λ's step would depend on the batch size through Adam's eps.
        local.update(rows, dmu * len(x), dlogvar * len(x), optimiser=of_rows)
    apply_gradients(ops, state, optimiser)
    return terms


def infer(
    model: Model,
    x: Array,
    rows: Array,
    *,
    steps: int,
    seed: int,
    lr: float = LOCAL_LR,
    samples: int = 1,
) -> LocalPosterior:
    """λ of new examples x (B, D) for a fixed decoder, from the prior, by `steps` Adam steps: how held-out data are
    scored where there is no encoder.

    Every step draws `samples` ε per example, from EVAL_EPS; over the last half lr falls linearly to a tenth, so that
    λ settles. It is not solved to convergence (`inference.maximise` does that), and any λ gives a valid bound. [D11]
    """
    local = LocalPosterior.prior(len(x), model.arch.latent, model.parameters.dtype)
    everyone = np.arange(len(x))
    every, sample = noise.every_sample(rows, np.arange(samples))
    for step in range(steps):
        eps = model.ops.philox_normal(
            every,
            model.arch.latent,
            seed=seed,
            stream=noise.EVAL_EPS,
            step=step + 1,
            sample=sample,
            dtype=model.parameters.dtype,
        )
        _, cache = posterior_elbo_forward(*model, x, local.mu, local.logvar, eps)
        dmu, dlogvar = posterior_elbo_backward(model.ops, model.arch, cache, None)
        remaining = min(1.0, 2 * (1 - step / steps))
        optimiser = Optimiser("adam", lr * max(0.1, remaining))
        local.update(everyone, dmu * len(x), dlogvar * len(x), optimiser=optimiser)
    return local
