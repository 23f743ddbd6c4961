"""What a trained model is worth on held-out data: the ELBO and its parts, log p(x), KL per latent, active units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from vae_np import data, likelihood, local, model, noise
from vae_np._types import Array
from vae_np.distributions import normal_kl_forward
from vae_np.elbo import Terms
from vae_np.model import Architecture, Parameters

ACTIVE_UNIT_VARIANCE = 0.01
# Steps of `local.infer` where there is no encoder; a held-out example starts at the prior.
HELD_OUT_STEPS = 50
_BATCH = 500
# Examples whose log p(x) is estimated at once, and log weights that are held at once: 80 MB in float64.
_LIKELIHOOD_BATCH = 100
_LOG_WEIGHTS = 10_000_000


@dataclass(frozen=True)
class Binarized:
    """Rows of a data set as the model sees them at evaluation: grey pixels drawn once, from EVAL_BINARIZE.

    `rows` (N, D) as stored, `first` the place of the first one in its data set, `values` and `mode` as in
    `vae_np.data.prepare`. A batch is prepared when it is asked for, so a memory-mapped file is never held whole.
    """

    rows: Array
    values: data.Values
    mode: str
    seed: int
    first: int = 0

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, part: slice) -> tuple[Array, Array]:
        """x (B, D) and the places (B,) of its rows in their data set."""
        places = self.first + np.arange(len(self.rows))[part]
        x = data.prepare(
            self.rows[part],
            self.values,
            self.mode,
            seed=self.seed,
            stream=noise.EVAL_BINARIZE,
            step=0,
            rows=places,
        )
        return x, places


def posterior(
    ops: ModuleType, arch: Architecture, parameters: Parameters, x: Array, places: Array, *, seed: int
) -> tuple[Array, Array]:
    """mu and logvar of q for x (B, D), (B, K) each: the encoder's, or solved for where there is none. [D11] [D19]"""
    if arch.inference == "amortized":
        return model.encode_forward(ops, arch, parameters, x)[0]
    found = local.infer(ops, arch, parameters, x, places, steps=HELD_OUT_STEPS, seed=seed)
    return found.mu, found.logvar


def elbo_terms(
    ops: ModuleType,
    arch: Architecture,
    parameters: Parameters,
    examples: Binarized,
    *,
    seed: int,
    z_samples: int = 1,
) -> Terms:
    """The ELBO's terms of every example, (N,) each in nats, with `z_samples` draws of ε from EVAL_EPS. [D21]"""
    parts = []
    for start in range(0, len(examples), _BATCH):
        x, places = examples.batch(slice(start, start + _BATCH))
        eps = ops.philox_normal(
            np.tile(places, z_samples),
            arch.latent,
            seed=seed,
            stream=noise.EVAL_EPS,
            step=0,
            sample=np.repeat(np.arange(z_samples), len(places)),
            dtype=parameters["decoder.out.bias"].dtype,
        )
        mu, logvar = posterior(ops, arch, parameters, x, places, seed=seed)
        parts.append(local.local_elbo_forward(ops, arch, parameters, x, mu, logvar, eps)[0])
    return Terms(
        np.concatenate([part.reconstruction for part in parts]), np.concatenate([part.kl for part in parts])
    )


def posterior_moments(
    ops: ModuleType, arch: Architecture, parameters: Parameters, examples: Binarized, *, seed: int = 0
) -> tuple[Array, Array]:
    """mu and logvar of q(z|x) for every example, (N, K) each; `seed` matters only where there is no encoder. [D19]"""
    parts = [
        posterior(ops, arch, parameters, *examples.batch(slice(start, start + _BATCH)), seed=seed)
        for start in range(0, len(examples), _BATCH)
    ]
    return np.concatenate([mu for mu, _ in parts]), np.concatenate([logvar for _, logvar in parts])


def log_likelihood(
    ops: ModuleType,
    arch: Architecture,
    parameters: Parameters,
    examples: Binarized,
    *,
    samples: int,
    seed: int,
    on_batch: Callable[[int], None] | None = None,
    fused: Callable[..., Array] | None = None,
) -> likelihood.Estimate:
    """`likelihood.importance_log_likelihood` of every example; `on_batch` hears how many are done. [D34]

    `fused` is the backend's `fused_log_weights`, where it has some for the architecture.
    """
    parts = []
    size = max(1, min(_LIKELIHOOD_BATCH, _LOG_WEIGHTS // max(samples, 1)))
    for start in range(0, len(examples), size):
        x, places = examples.batch(slice(start, start + size))
        if fused is not None:
            log_w = fused(ops, arch, parameters, x, places, samples=samples, seed=seed)
            parts.append(likelihood.estimate_from_log_weights(ops, log_w))
        else:
            mu, logvar = posterior(ops, arch, parameters, x, places, seed=seed)
            parts.append(
                likelihood.importance_log_likelihood(
                    ops, arch, parameters, x, places, samples=samples, seed=seed, posterior=(mu, logvar)
                )
            )
        if on_batch is not None:
            on_batch(start + len(x))
    return likelihood.concatenate(parts)


def kl_per_dimension(mu: Array, logvar: Array) -> Array:
    """The mean KL of each latent, (K,) in nats, from mu and logvar (N, K). [D22]"""
    kl, _ = normal_kl_forward(mu[..., None], logvar[..., None])
    return kl.mean(axis=0, dtype=np.float64)


def active_units(mu: Array) -> Array:
    """Which latents carry information: Var_x(E_q z_j) > 0.01, (K,) bool. (Burda et al. 2015) [D36]"""
    return mu.var(axis=0, dtype=np.float64) > ACTIVE_UNIT_VARIANCE


def mean_and_stderr(values: Array) -> dict[str, float]:
    """The mean over examples and its standard error, the standard deviation over √N."""
    wide = np.asarray(values, dtype=np.float64)
    spread = wide.std(ddof=1) if len(wide) > 1 else 0.0
    return {"mean": float(wide.mean()), "stderr": float(spread / np.sqrt(len(wide)))}
