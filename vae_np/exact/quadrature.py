"""Exact answers where there are any: log p(x), p(z|x) and ∇_θ log p(x) by quadrature over 1 or 2 latents. [D3] [D10]

Three rules, each with its own estimate of its error:

- `trapezoid`: equal spacing on [−12, 12] in every latent; error = the change from twice the spacing. For a smooth
  integrand that dies out before the ends it converges faster than any power of the spacing: the reference.
- `gauss-hermite`: nodes and weights of the prior itself; error = the change from half as many nodes.
- `adaptive`: the trapezoid rule on a lattice that is halved, only where the posterior has mass, until log p(x) stops
  changing. The one for real decoders, whose posteriors can be a hundredth of the prior's width, and have several modes.

A sum Σ_x p(x) = 1 holds for any rule, also a wrong one, so it is no check of accuracy; the error estimates are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from vae_np._types import Array
from vae_np.display import Shown
from vae_np.errors import InputError
from vae_np.exact.decoder import Decoder
from vae_np.exact.latent_model import LatentModel
from vae_np.parameters import Parameters

RULES = ("adaptive", "trapezoid", "gauss-hermite")
EDGE = 12.0
_DEFAULT_NODES = {("trapezoid", 1): 4001, ("trapezoid", 2): 401, ("gauss-hermite", 1): 80, ("gauss-hermite", 2): 80}
# The coarse lattice: two modes' worth of nodes for a posterior standard deviation of 0.1, and it finds one of 0.02.
_COARSE = 0.125
_LEVELS = 8
# Nodes this many nats below an example's highest are dropped: a million of them weigh 1e-20.
_DEPTH = 60.0
# Beyond this many nodes at once the rule gives up and says so.
_MOST_NODES = 2_000_000
# A lattice on which a single node carries more than this cannot have resolved the posterior, whatever its change says.
_LARGEST_WEIGHT = 0.25
# Mass this close (in nats) to the highest on the edge of [−12, 12] means that the box cuts the posterior off.
_EDGE_DEPTH = 40.0
# Examples that share nodes: what they look at overlaps, and decoding a node costs far more than one more example on it.
_GROUP = 64


@dataclass(frozen=True, repr=False)
class GridPosterior(Shown):
    """p(z|x) as weights on nodes: `nodes` (M, K), `weights` (B, M) with rows that sum to one, and log p(x).

    `log_prob` (B,) in nats, `error` (B,) its change under refinement, `converged` (B,) whether that met the tolerance.
    """

    nodes: Array
    weights: Array
    log_prob: Array
    error: Array
    converged: Array

    def expectation(self, values: Array) -> Array:
        """E[f(z) | x] for f at the nodes, (M, ...): result (B, ...)."""
        return np.tensordot(self.weights, values, axes=1)

    def mean(self) -> Array:
        """E[z|x], (B, K)."""
        return self.weights @ self.nodes

    def covariance(self) -> Array:
        """Cov[z|x], (B, K, K)."""
        centred = self.nodes - self.mean()[:, None]
        return np.einsum("bm,bmi,bmj->bij", self.weights, centred, centred)


@dataclass(frozen=True, repr=False)
class LogLikelihood(Shown):
    """log p(x) of N examples: `log_prob` and `error` (N,) in nats, `converged` (N,), p(z|x)'s `mean` (N, K) and
    `covariance` (N, K, K)."""

    log_prob: Array
    error: Array
    converged: Array
    mean: Array
    covariance: Array


def _check(decoder: LatentModel, rule: str) -> None:
    if decoder.latent > 2:
        raise InputError(f"latent: got {decoder.latent}, expected 1 or 2: quadrature in more is out of reach")
    if rule not in RULES:
        raise InputError(f"rule: got {rule!r}, expected one of {', '.join(RULES)}")


def _tensor(axis: Array, latent: int) -> Array:
    return np.array(list(product(axis, repeat=latent))).reshape(-1, latent)


def trapezoid_grid(latent: int, nodes: int) -> tuple[Array, Array]:
    """Nodes (M, K) and log weights (M,) of the trapezoid rule for ∫ f dz on [−12, 12]^K; `nodes` (odd) an axis."""
    if nodes < 5 or nodes % 2 == 0:
        raise InputError(f"nodes: got {nodes}, expected an odd number >= 5")
    axis = np.linspace(-EDGE, EDGE, nodes)
    log_weight = np.full(nodes, math.log(2 * EDGE / (nodes - 1)))
    log_weight[[0, -1]] -= math.log(2)
    return _tensor(axis, latent), _tensor(log_weight, latent).sum(axis=1)


def gauss_hermite_rule(latent: int, nodes: int) -> tuple[Array, Array]:
    """Nodes (M, K) and weights (M,) with Σ w f(ε) ≈ E f(ε) for ε ~ N(0, I_K); `nodes` an axis."""
    if nodes < 1:
        raise InputError(f"nodes: got {nodes}, expected a whole number > 0")
    axis, weight = np.polynomial.hermite_e.hermegauss(nodes)
    return _tensor(axis, latent), _tensor(weight / weight.sum(), latent).prod(axis=1)


def _log_sum_exp(values: Array) -> Array:
    top = values.max(axis=1)
    terms = values - top[:, None]
    np.exp(terms, out=terms)
    return top + np.log(terms.sum(axis=1))


def _fixed(decoder: LatentModel, x: Array, rule: str, nodes: int, tolerance: float) -> GridPosterior:
    if rule == "trapezoid":
        z, log_weights = trapezoid_grid(decoder.latent, nodes)
        log_joint = decoder.log_joint_matrix(x, z)
        # Every other node of the same rule is the rule at twice the spacing.
        coarse = np.isin(z, np.linspace(-EDGE, EDGE, nodes)[::2]).all(axis=1)
        rough = _log_sum_exp((log_joint + log_weights)[:, coarse]) + decoder.latent * math.log(2)
        edge = (np.abs(z) == EDGE).any(axis=1)
        cut_off = log_joint[:, edge].max(axis=1) > log_joint.max(axis=1) - _EDGE_DEPTH
        terms = log_joint + log_weights
    else:
        z, weights = gauss_hermite_rule(decoder.latent, nodes)
        few, few_weights = gauss_hermite_rule(decoder.latent, max(1, nodes // 2))
        with np.errstate(divide="ignore"):  # the outermost weights of a large rule underflow to 0, rightly
            terms = decoder.loglik_matrix(x, z) + np.log(weights)
            rough = _log_sum_exp(decoder.loglik_matrix(x, few) + np.log(few_weights))
        cut_off = np.zeros(len(x), dtype=bool)
    log_prob = _log_sum_exp(terms)
    error = np.where(cut_off, np.inf, np.abs(log_prob - rough))
    return GridPosterior(z, np.exp(terms - log_prob[:, None]), log_prob, error, error <= tolerance)


def _coarse_lattice(latent: int) -> Array:
    half = round(EDGE / _COARSE)
    return _tensor(np.arange(-half, half + 1), latent)


def _children(index: Array, limit: int) -> Array:
    """The lattice points of half the spacing at and around `index` (M, K), once each, within ±limit."""
    steps = _tensor(np.arange(-1, 2), index.shape[1])
    around = (2 * index[:, None] + steps).reshape(-1, index.shape[1])
    width = 2 * limit + 3
    keys = np.zeros(len(around), dtype=np.int64)
    for column in around.T:
        keys = keys * width + (column + limit + 1)
    _, first = np.unique(keys, return_index=True)
    unique = around[first]
    return unique[(np.abs(unique) <= limit).all(axis=1)]


def _near_the_top(values: Array) -> Array:
    """Which nodes lie within _DEPTH nats of the highest, for any example: (M,) bool from (B, M)."""
    return (values > values.max(axis=1, keepdims=True) - _DEPTH).any(axis=0)


def _adaptive(decoder: LatentModel, x: Array, index: Array, values: Array, tolerance: float) -> GridPosterior:
    """Refine the coarse lattice's `index` (M, K), with log p(x, z) `values` (B, M), until log p(x) stands still."""
    latent, spacing, limit = decoder.latent, _COARSE, round(EDGE / _COARSE)
    log_prob = _log_sum_exp(values) + latent * math.log(spacing)
    for _ in range(_LEVELS):
        finer = _children(index[_near_the_top(values)], 2 * limit)
        if len(finer) > _MOST_NODES:
            break
        index, spacing, limit = finer, spacing / 2, 2 * limit
        values = decoder.log_joint_matrix(x, index * spacing)
        before, log_prob = log_prob, _log_sum_exp(values) + latent * math.log(spacing)
        error = np.abs(log_prob - before)
        weights = np.exp(values + (latent * math.log(spacing) - log_prob[:, None]))
        resolved = weights.max(axis=1) <= _LARGEST_WEIGHT
        if (resolved & (error <= tolerance)).all():
            break
    edge = (np.abs(index) == limit).any(axis=1)
    highest_on_edge = values[:, edge].max(axis=1, initial=-np.inf)
    error = np.where(highest_on_edge > values.max(axis=1) - _EDGE_DEPTH, np.inf, error)
    return GridPosterior(index * spacing, weights, log_prob, error, resolved & (error <= tolerance))


def _groups(decoder: LatentModel, x: Array, tolerance: float) -> Iterator[tuple[Array, GridPosterior]]:
    """Adaptive posteriors of a few examples at a time, neighbours in latent space together: they share their nodes."""
    lattice = _coarse_lattice(decoder.latent)
    # The coarse values of one block of examples are held at once, a hundred megabytes or so in two dimensions.
    for start in range(0, len(x), 256):
        block = x[start : start + 256]
        values = decoder.log_joint_matrix(block, lattice * _COARSE)
        peak = lattice[values.argmax(axis=1)] * _COARSE
        order = np.lexsort((peak[:, -1], np.round(2 * peak[:, 0])))
        for first in range(0, len(block), _GROUP):
            members = order[first : first + _GROUP]
            yield start + members, _adaptive(decoder, block[members], lattice, values[members], tolerance)


def posterior(
    decoder: LatentModel, x: Array, *, rule: str = "adaptive", nodes: int | None = None, tolerance: float = 1e-8
) -> GridPosterior:
    """p(z|x) and log p(x) of a few examples x (B, D) on one shared set of nodes.

    `nodes` an axis, for the two rules that take a number. An example whose error misses `tolerance` (nats) has
    `converged` False. Raises InputError for three latents or more.
    """
    _check(decoder, rule)
    x = decoder.check(x)
    if rule == "adaptive":
        lattice = _coarse_lattice(decoder.latent)
        return _adaptive(decoder, x, lattice, decoder.log_joint_matrix(x, lattice * _COARSE), tolerance)
    return _fixed(decoder, x, rule, nodes or _DEFAULT_NODES[rule, decoder.latent], tolerance)


def _posteriors(
    decoder: LatentModel, x: Array, rule: str, nodes: int | None, tolerance: float
) -> Iterator[tuple[Array, GridPosterior]]:
    _check(decoder, rule)
    x = decoder.check(x)
    if rule == "adaptive":
        yield from _groups(decoder, x, tolerance)
        return
    for start in range(0, len(x), 64):
        rows = np.arange(start, min(start + 64, len(x)))
        yield rows, posterior(decoder, x[rows], rule=rule, nodes=nodes, tolerance=tolerance)


def log_likelihood(
    decoder: LatentModel,
    x: Array,
    *,
    rule: str = "adaptive",
    nodes: int | None = None,
    tolerance: float = 1e-8,
    on_examples: Callable[[int], None] | None = None,
) -> LogLikelihood:
    """log p(x) of any number of examples x (N, D), with error, flags and posterior moments; memory stays bounded.

    Arguments and errors as `posterior`; `on_examples` hears how many are done. [D3]
    """
    n, k = len(x), decoder.latent
    result = LogLikelihood(
        np.empty(n), np.empty(n), np.empty(n, dtype=bool), np.empty((n, k)), np.empty((n, k, k))
    )
    done = 0
    for rows, grid in _posteriors(decoder, x, rule, nodes, tolerance):
        result.log_prob[rows], result.error[rows], result.converged[rows] = grid.log_prob, grid.error, grid.converged
        result.mean[rows], result.covariance[rows] = grid.mean(), grid.covariance()
        done += len(rows)
        if on_examples is not None:
            on_examples(done)
    return result


def log_likelihood_gradient(
    decoder: Decoder, x: Array, *, rule: str = "adaptive", nodes: int | None = None, tolerance: float = 1e-8
) -> tuple[LogLikelihood, Parameters]:
    """log p(x) and ∇_θ Σ_n log p(x_n) = Σ_n E_{p(z|x_n)} ∇_θ log p(x_n, z), on the posterior's own nodes. [D10]"""
    total = decoder.gradients()
    found = []
    wide = decoder.check(x)
    for rows, grid in _posteriors(decoder, x, rule, nodes, tolerance):
        total.flat[...] += decoder.weighted_gradient(wide[rows], grid.nodes, grid.weights).flat
        found.append((rows, grid))
    order = np.argsort(np.concatenate([rows for rows, _ in found]))

    def gathered(name: str) -> Array:
        return np.concatenate([getattr(grid, name) for _, grid in found])[order]

    means = np.concatenate([grid.mean() for _, grid in found])[order]
    covariances = np.concatenate([grid.covariance() for _, grid in found])[order]
    return LogLikelihood(gathered("log_prob"), gathered("error"), gathered("converged"), means, covariances), total
