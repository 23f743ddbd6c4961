"""log p(x) by importance sampling from the encoder's q(z|x), with its error. (Burda et al. 2015) [D34] [D35]"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from types import ModuleType
from typing import Self, TypeVar

import numpy as np

from vae_np import noise
from vae_np._types import Array
from vae_np.display import Shown
from vae_np.elbo import posterior_log_prob, prior_forward, split_noise
from vae_np.errors import InputError
from vae_np.evaluation import pareto
from vae_np.model import Model, decode_forward, encode_forward, given_in, loglik_forward
from vae_np.posteriors import Posterior

# Rows (samples × examples) decoded at once: their logits and temporaries then take tens of megabytes, whatever the
# number of samples.
_CHUNK_ROWS = 8192
# Below this effective sample size an estimate rests on one or two weights: too high if they were lucky, else too low.
DEGENERATE_ESS = 2.0


@dataclass(frozen=True, repr=False)
class Estimate(Shown):
    """Per example, (B,) each: `log_likelihood` and its standard error `stderr` in nats, effective sample size `ess`,
    and `tail`, the Pareto shape k̂ of the largest weights (NaN from too few)."""

    log_likelihood: Array
    stderr: Array
    ess: Array
    tail: Array

    @property
    def degenerate(self) -> Array:
        """Which examples' weights have collapsed onto one or two draws, (B,) bool: not to be trusted. [D35]"""
        return ~(self.ess >= DEGENERATE_ESS)

    def heavy(self, samples: int) -> Array:
        """Which examples' weights have too heavy a tail for so many draws, (B,) bool: `stderr` says little there. [D35]

        NaN, where there were too few to tell, is not heavy; `degenerate` speaks of those.
        """
        return self.tail > pareto.threshold(samples)

    def shifted(self, by: float) -> Self:
        """The same estimates with `by` nats added to every log-density."""
        return replace(self, log_likelihood=self.log_likelihood + by)


AnyEstimate = TypeVar("AnyEstimate", bound=Estimate)


def log_weights(model: Model, x: Array, mu: Array, logvar: Array, eps: Array, more: Posterior = ()) -> Array:
    """log w = log p(x, z) − log q(z|x) at z = mu + exp(logvar / 2) ε; eps (S·B, K), result (S, B) in nats. [D34]

    `more` is what else describes q in the model's family, whose draw z then is. [D54] With two stochastic layers z is
    that of both, and the noise of the upper one stands behind that of the lower. [D59]
    """
    lower, upper = split_noise(model.arch, eps)
    (z, _, log_det), _ = model.arch.family.draw_forward(model.ops, model.parameters, (mu, logvar, *more), lower)
    out, _ = decode_forward(*model, z, given_in(model.arch, x))
    loglik, _ = loglik_forward(*model, x, out)
    log_prior, _ = prior_forward(*model, z, upper)
    log_w = loglik + log_prior - posterior_log_prob(logvar, lower)
    log_w = log_w if log_det is None else log_w + log_det
    return log_w.reshape(-1, len(x))


def estimate_from_log_weights(ops: ModuleType, log_w: Array) -> Estimate:
    """The estimate that log weights (S, B) give: log mean w, its delta-method error, 1 / Σ w̃², and k̂. [D34] [D35]

    One sample tells nothing about its own spread: `stderr` is then NaN.
    """
    log_mean, weights = ops.log_mean_exp_weights(log_w)
    samples = len(log_w)
    sum_squares = (weights * weights).sum(axis=0)
    # Var(log ŵ) ≈ Var(w) / (S mean(w)²), and mean(w²) / mean(w)² = S Σ w̃².
    spread = np.maximum(samples * sum_squares - 1, 0)
    relative_variance = spread / (samples - 1) if samples > 1 else np.full_like(spread, np.nan)
    return Estimate(log_mean, np.sqrt(relative_variance), 1 / sum_squares, pareto.tail_shape(log_w))


def importance_log_likelihood(
    model: Model,
    x: Array,
    rows: Array,
    *,
    samples: int,
    seed: int,
    posterior: Posterior | None = None,
    chunk_rows: int = _CHUNK_ROWS,
) -> Estimate:
    """log p(x) ≈ log (1/S) Σ_s w_s with exactly `samples` draws per example; x (B, D), `rows` (B,) in its data set.

    The proposal is the encoder's q(z|x), or the q of the same family that is given as `posterior`, its mu and logvar
    (B, K) first.
    The noise of a draw depends on its example and its number alone, so neither the batch split, nor `chunk_rows`, nor
    the number of samples changes it. Raises InputError for fewer than one sample. [D34] [D35]
    """
    if samples < 1:
        raise InputError(f"samples: got {samples}, expected a whole number > 0")
    mu, logvar, *more = posterior or encode_forward(*model, x)[0]
    count = max(1, chunk_rows // len(x))
    log_w = []
    for first in range(0, samples, count):
        every, sample = noise.every_sample(rows, np.arange(first, min(first + count, samples)))
        eps = model.ops.philox_normal(
            every,
            model.arch.noise_columns,
            seed=seed,
            stream=noise.EVAL_EPS,
            step=0,
            sample=sample,
            dtype=mu.dtype,
        )
        log_w.append(log_weights(model, x, mu, logvar, eps, tuple(more)))
    return estimate_from_log_weights(model.ops, np.concatenate(log_w))


def concatenate(parts: Sequence[AnyEstimate]) -> AnyEstimate:
    """The estimates of several batches as one."""
    kind = type(parts[0])
    return kind(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(kind)))
