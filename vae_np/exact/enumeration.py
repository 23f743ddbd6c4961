"""All 2^D binary vectors, D ≤ 16: the exact table of p(x), and what follows from it.

Here too live the two extremes between which a latent-variable model sits: the full categorical over every x, with as
many parameters as there are x, and D independent Bernoullis.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vae_np._types import Array
from vae_np.errors import InputError
from vae_np.exact import quadrature
from vae_np.exact.latent_model import LatentModel

MOST_FEATURES = 16


def states(features: int) -> Array:
    """Every binary x, (2^D, D) bytes; row i holds the bits of i, the first feature the highest. Raises InputError."""
    if not 1 <= features <= MOST_FEATURES:
        raise InputError(f"features: got {features}, expected 1 to {MOST_FEATURES}: there are 2^features states")
    return (np.arange(2**features)[:, None] >> np.arange(features)[::-1] & 1).astype(np.uint8)


def state_index(x: Array) -> Array:
    """The row of `states` that each binary x (N, D) is, (N,) integers; raises InputError."""
    if x.shape[1] > MOST_FEATURES or not ((x == 0) | (x == 1)).all():
        raise InputError(f"x: got shape {x.shape}, expected binary values with at most {MOST_FEATURES} columns")
    return x.astype(np.int64) @ (1 << np.arange(x.shape[1])[::-1])


@dataclass(frozen=True)
class Table:
    """A distribution over all binary x: `log_prob` (2^D,) in nats, `error` (2^D,) and `converged` (2^D,)."""

    log_prob: Array
    error: Array
    converged: Array

    @property
    def states(self) -> Array:
        """The x of each entry, (2^D, D)."""
        return states(len(self.log_prob).bit_length() - 1)

    def mean(self) -> Array:
        """E[x], (D,)."""
        return np.exp(self.log_prob) @ self.states

    def covariance(self) -> Array:
        """Cov[x], (D, D)."""
        centred = self.states - self.mean()
        return centred.T @ (np.exp(self.log_prob)[:, None] * centred)

    def entropy(self) -> float:
        """−Σ p log p in nats."""
        possible = np.isfinite(self.log_prob)
        return float(-np.exp(self.log_prob[possible]) @ self.log_prob[possible])

    def nll(self, x: Array) -> float:
        """The mean of −log p(x) over data x (N, D), in nats."""
        return float(-self.log_prob[state_index(x)].mean())


def marginal(
    decoder: LatentModel, *, rule: str = "adaptive", nodes: int | None = None, tolerance: float = 1e-8
) -> Table:
    """p(x) for every x, by quadrature over 1 or 2 latents; raises InputError beyond that, or for D > 16. [D3]"""
    if not decoder.is_bernoulli:
        raise InputError(f"likelihood: got {decoder.likelihood!r}, expected 'bernoulli': only binary x are finite")
    x = states(decoder.features)
    found = quadrature.log_likelihood(decoder, x, rule=rule, nodes=nodes, tolerance=tolerance)
    return Table(found.log_prob, found.error, found.converged)


def conditional(decoder: LatentModel, z: Array) -> Table:
    """p(x|z) for every x, at one z (K,): pixels are independent here, and not in `marginal`."""
    log_prob = decoder.loglik_matrix(states(decoder.features).astype(np.float64), z[None])[:, 0]
    return Table(log_prob, np.zeros_like(log_prob), np.ones(len(log_prob), dtype=bool))


def empirical(x: Array) -> Table:
    """The categorical's maximum-likelihood fit, p̃(x) = count / N: no distribution gives the data x (N, D) more. [D2]

    Its mean log-likelihood is −entropy(). States that never occur have log p = −inf.
    """
    counts = np.bincount(state_index(x), minlength=2 ** x.shape[1])
    with np.errstate(divide="ignore"):
        log_prob = np.log(counts / len(x))
    return Table(log_prob, np.zeros(len(counts)), np.ones(len(counts), dtype=bool))


def categorical_nll(x: Array) -> float:
    """H(p̃) in nats for binary x (N, D) of any width: what the full categorical's best fit scores per example. [D2]"""
    _, counts = np.unique(np.asarray(x), axis=0, return_counts=True)
    share = counts / len(x)
    return float(-share @ np.log(share))


def categorical_parameter_count(features: int) -> int:
    """2^D − 1, as an exact integer of any size. [D2]"""
    return int(2**features) - 1


def independent_bernoulli_nll(x: Array) -> float:
    """The best NLL that D independent Bernoullis reach on binary x (N, D), the sum of their entropies in nats. [D2]"""
    p = np.asarray(x).mean(axis=0, dtype=np.float64)
    inside = p[(p > 0) & (p < 1)]
    return float(-(inside * np.log(inside) + (1 - inside) * np.log1p(-inside)).sum())
