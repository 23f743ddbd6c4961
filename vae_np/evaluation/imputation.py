"""Missing cells filled in from p(x_mis | x_obs), by importance sampling from q: once, or several times. [D71]

(Mattei and Frellsen 2019; Rubin 1976 and 1987 for several imputations)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from vae_np import noise
from vae_np._types import Array
from vae_np.display import Shown
from vae_np.elbo import posterior_log_prob, prior_forward
from vae_np.likelihoods import Observation, generators
from vae_np.model import Model, decode_forward, given_in, loglik_forward
from vae_np.posteriors import Posterior

# Rows (samples × examples) decoded at once.
_CHUNK_ROWS = 8192


@dataclass(frozen=True, repr=False)
class Imputed(Shown):
    """x with its missing cells filled in. (N, D) each: `mean`, x with E[x_mis | x_obs] in them, or with a category's
    likeliest level; `spread`, the standard deviation of a missing cell given what was observed, or the probability that
    it has another level, and 0 where x was observed; `stderr`, how far `mean` may be off because so few z were drawn.

    `draws` (M, N, D) has M imputations at random, each a draw of p(x_mis | x_obs), or is None. Per example, (N,):
    `ess`, the effective sample size, and `unobserved`, whether nothing at all was there, so that the answer is the
    prior's.
    """

    _shown: ClassVar[tuple[str, ...]] = ("ess",)

    mean: Array
    spread: Array
    stderr: Array
    draws: Array | None
    ess: Array
    unobserved: Array


def impute(
    model: Model,
    observation: Observation,
    x: Array,
    places: Array,
    q: Posterior,
    *,
    samples: int,
    draws: int,
    seed: int,
) -> Imputed:
    """x (B, D), NaN where nothing was observed, filled in by `samples` draws of z from q for each row. [D71]

    A conditional model's x is (B, D + C). [D79] `places` (B,) are the rows' in their data set, of which alone, and of
    the seed, their noise depends.
    """
    size = max(1, _CHUNK_ROWS // samples)
    parts = [
        _impute(model, observation, x[part], places[part], tuple(each[part] for each in q), samples, draws, seed)
        for part in (slice(start, start + size) for start in range(0, len(x), size))
    ]
    return joined(parts)


def joined(parts: list[Imputed]) -> Imputed:
    """The imputations of several batches as one."""
    repeated = [part.draws for part in parts if part.draws is not None]
    together = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("mean", "spread", "stderr", "ess", "unobserved")
    }
    return Imputed(**together, draws=np.concatenate(repeated, axis=1) if repeated else None)


def _impute(
    model: Model, observation: Observation, x: Array, places: Array, q: Posterior, samples: int, draws: int, seed: int
) -> Imputed:
    ops, arch, parameters = model
    every, sample = noise.every_sample(places, np.arange(samples))
    eps = ops.philox_normal(
        every, arch.latent, seed=seed, stream=noise.EVAL_EPS, step=0, sample=sample, dtype=parameters.dtype
    )
    (z, _, log_det), _ = arch.family.draw_forward(ops, parameters, q, eps)
    rows, given = x[:, : arch.features], given_in(arch, x)
    missing = np.isnan(rows) if rows.dtype.kind == "f" else np.zeros(rows.shape, dtype=bool)
    unobserved = np.asarray(missing.all(axis=1))
    # Where nothing was observed the posterior is the prior, and the draws of N(0, I) are the noise itself.
    alone = np.tile(unobserved, samples) & (arch.prior == "standard")
    z = np.where(alone[:, None], eps, z)
    out, _ = decode_forward(ops, arch, parameters, z, given)
    loglik, _ = loglik_forward(ops, arch, parameters, x, out)
    log_prior, _ = prior_forward(ops, arch, parameters, z, None)
    log_w = loglik + log_prior - posterior_log_prob(q[1], eps)
    log_w = np.where(alone, 0, log_w if log_det is None else log_w + log_det).reshape(samples, -1)
    _, weights = ops.log_mean_exp_weights(log_w)
    value, spread, stderr = _averaged(observation, parameters, out.reshape(samples, len(x), -1), weights)
    repeated = None
    if draws:
        chosen = _resampled(z.reshape(samples, len(x), -1), weights, places, draws, seed)
        repeated = _drawn(model, observation, x, missing, chosen, places, seed)
    return Imputed(
        mean=np.where(missing, value, rows).astype(value.dtype, copy=False),
        spread=np.where(missing, spread, 0),
        stderr=np.where(missing, stderr, 0),
        draws=repeated,
        ess=1 / (weights * weights).sum(axis=0),
        unobserved=unobserved,
    )


def _averaged(
    observation: Observation, parameters: Mapping[str, Array], out: Array, weights: Array
) -> tuple[Array, Array, Array]:
    """Value, spread and Monte Carlo error of every cell, (B, D), from out (S, B, outputs) and weights (S, B). [D71]"""
    averaged, errors = [], []
    for features in observation.features_of(parameters, out):
        mean = np.einsum("sb,sbcf->bcf", weights, features)
        averaged.append(mean)
        # Of a mean that is normalised by its own weights, by the delta method. [D35]
        errors.append(np.sqrt(np.einsum("sb,sbcf->bcf", weights**2, (features - mean) ** 2)))
    return *observation.told(averaged), observation.error_of(averaged, errors)


def _resampled(z: Array, weights: Array, places: Array, draws: int, seed: int) -> Array:
    """z (draws, B, K), each one of z (S, B, K) with the probability of its weight (S, B). [D71]"""
    u = noise.uniform(places, draws, seed=seed, stream=noise.IMPUTE).T
    reached = np.cumsum(weights.astype(np.float64), axis=0)
    chosen = (u[:, None] * reached[-1] >= reached[:-1]).sum(axis=1) if len(z) > 1 else np.zeros(u.shape, dtype=int)
    return z[chosen, np.arange(len(places))]


def _drawn(
    model: Model, observation: Observation, x: Array, missing: Array, z: Array, places: Array, seed: int
) -> Array:
    """x (draws, B, D) whose missing cells are draws of p(x|z), for z (draws, B, K). [D6]"""
    filled, rows, given = [], x[:, : model.arch.features], given_in(model.arch, x)
    for number, of_draw in enumerate(z):
        out, _ = decode_forward(*model, of_draw, given)
        randoms = generators(places, seed=seed, stream=noise.IMPUTE, sample=1 + number)
        drawn = observation.draw(model.parameters, out, randoms)
        filled.append(np.where(missing, drawn, rows).astype(drawn.dtype, copy=False))
    return np.stack(filled)
