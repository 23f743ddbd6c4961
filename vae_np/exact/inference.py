"""Variational inference one datapoint at a time: λ* = argmax_λ E_{q_λ} [log p(x, z) − log q_λ(z)]. [D11] [D12]

q_λ is a normal with a diagonal or a full covariance, S = L Lᵀ. λ is one row of numbers an example:

    diagonal   [μ, v]               L = diag(exp(v/2)), v = log variance              2K numbers
    full       [μ, log diag L, L below the diagonal, row by row]                      K + K(K+1)/2 numbers

A bound (`ELBO`, or `ClosedFormELBO` of the linear-Gaussian model) maps λ to value and gradient, written by hand. It is
deterministic: the expectation over ε is a fixed rule, quadrature (1 or 2 latents) or common random numbers. So
`maximise` can climb it to convergence, for a whole batch at once, and say for which examples it did; like any climb, to
a maximum that may be local. [D17]
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from vae_np._types import Array
from vae_np.display import Shown
from vae_np.distributions import (
    full_normal_entropy,
    full_normal_kl_backward,
    full_normal_kl_forward,
    full_normal_log_prob_forward,
    full_normal_sample_backward,
    full_normal_sample_forward,
)
from vae_np.errors import InputError
from vae_np.exact import quadrature
from vae_np.exact.latent_model import LatentModel
from vae_np.exact.linear_gaussian import LinearGaussian, cholesky
from vae_np.parameters import Parameters

FAMILIES = ("diagonal", "full")

# Rows (samples × examples) decoded at once; see `likelihood._CHUNK_ROWS`.
_CHUNK_ROWS = 8192
_SUFFICIENT_INCREASE = 1e-4
_BACKTRACKS = 40
# Standard deviations to either side of q's mean that a lattice covers: what lies outside weighs 1e-18.
_SPAN = 9.0


@dataclass(frozen=True)
class Family:
    """The normals among which q is sought: `kind` diagonal or full, over `latent` dimensions. [D13] [D14]"""

    kind: str
    latent: int

    def __post_init__(self) -> None:
        if self.kind not in FAMILIES:
            raise InputError(f"family: got {self.kind!r}, expected one of {', '.join(FAMILIES)}")

    @property
    def size(self) -> int:
        """How many numbers λ has: 2K, or K + K(K+1)/2."""
        k = self.latent
        return 2 * k if self.kind == "diagonal" else k + k * (k + 1) // 2

    def pack(self, mu: Array, covariance: Array) -> Array:
        """λ (N, P) from means (N, K) and covariances: (N, K) variances, or (K, K) or (N, K, K).

        A diagonal family keeps the variances only. Raises InputError unless positive definite.
        """
        n, k = mu.shape
        if covariance.shape == mu.shape:
            covariance = covariance[..., None] * np.eye(k)
        chol = cholesky(np.broadcast_to(covariance, (n, k, k)), "covariance")
        if self.kind == "diagonal":
            return np.hstack([mu, np.log(np.diagonal(covariance, axis1=-2, axis2=-1) * np.ones((n, k)))])
        rows, columns = np.tril_indices(k, -1)
        return np.hstack([mu, np.log(np.diagonal(chol, axis1=1, axis2=2)), chol[:, rows, columns]])

    def unpack(self, lam: Array) -> tuple[Array, Array]:
        """μ (N, K) and L (N, K, K)."""
        k = self.latent
        scale = 0.5 if self.kind == "diagonal" else 1.0
        chol = np.exp(scale * lam[:, k : 2 * k])[..., None] * np.eye(k)
        if self.kind == "full":
            rows, columns = np.tril_indices(k, -1)
            chol[:, rows, columns] = lam[:, 2 * k :]
        return lam[:, :k], chol

    def covariance(self, lam: Array) -> Array:
        """S = L Lᵀ, (N, K, K)."""
        _, chol = self.unpack(lam)
        return chol @ np.swapaxes(chol, 1, 2)

    def backward(self, dmu: Array, dchol: Array, chol: Array) -> Array:
        """dλ (N, P) from dμ and dL: ∂L_ii/∂log L_ii = L_ii, and half of that for v."""
        diagonal = np.diagonal(dchol, axis1=1, axis2=2) * np.diagonal(chol, axis1=1, axis2=2)
        if self.kind == "diagonal":
            return np.hstack([dmu, 0.5 * diagonal])
        rows, columns = np.tril_indices(self.latent, -1)
        return np.hstack([dmu, diagonal, dchol[:, rows, columns]])

    def prior(self, count: int) -> Array:
        """λ of `count` copies of N(0, I)."""
        return np.zeros((count, self.size))

    def diagonal(self, mu: Array, logvar: Array) -> Array:
        """λ of N(mu, exp logvar), such as an encoder's output; both (N, K)."""
        wide = np.asarray(mu, dtype=np.float64), np.asarray(logvar, dtype=np.float64)
        return self.pack(wide[0], np.exp(wide[1]))


class Bound(Protocol):
    """A lower bound on log p(x) of each of a batch, as a function of λ."""

    @property
    def family(self) -> Family:
        """The normals that λ describes."""

    def __len__(self) -> int:
        """The number of examples."""

    def value_and_gradient(self, lam: Array, rows: Array) -> tuple[Array, Array]:
        """L (R,) in nats and ∂L/∂λ (R, P) of the examples `rows` (R,), at lam (R, P)."""


@dataclass(frozen=True)
class Rule:
    """What stands for E over ε ~ N(0, I): points `eps` (S, K), or (S, N, K) with noise of its own for each of N
    examples, and `weights` (S,) that sum to one. `coarser` is quadrature's own half: their difference is its error."""

    eps: Array
    weights: Array
    coarser: Rule | None = None

    @classmethod
    def gauss_hermite(cls, latent: int, nodes: int) -> Rule:
        """`nodes` an axis; raises InputError for three latents or more."""
        if latent > 2:
            raise InputError(f"latent: got {latent}, expected 1 or 2; use Rule.common_noise in more dimensions")
        coarse = cls(*quadrature.gauss_hermite_rule(latent, -(-nodes // 2)))
        return cls(*quadrature.gauss_hermite_rule(latent, nodes), coarse)

    @classmethod
    def trapezoid(cls, latent: int, spacing: float) -> Rule:
        """Equal steps over [−9, 9] in each of 1 or 2 latents: better than Gauss-Hermite where the decoder turns within
        less than q's width, and needs more points where it does not."""
        if latent > 2:
            raise InputError(f"latent: got {latent}, expected 1 or 2; use Rule.common_noise in more dimensions")

        def lattice(spacing: float) -> tuple[Array, Array]:
            half = round(_SPAN / spacing)
            axis = np.arange(-half, half + 1) * spacing
            eps = np.stack(np.meshgrid(*[axis] * latent, indexing="ij"), axis=-1).reshape(-1, latent)
            weights = np.exp(-0.5 * (eps * eps).sum(axis=1))
            return eps, weights / weights.sum()

        return cls(*lattice(spacing), cls(*lattice(2 * spacing)))

    @classmethod
    def common_noise(cls, eps: Array) -> Rule:
        """The same draws at every λ: eps (S, K) for all examples, or (S, N, K)."""
        return cls(eps, np.full(len(eps), 1 / len(eps)))

    def of(self, rows: Array) -> Array:
        """The points of these examples, (S, R, K)."""
        if self.eps.ndim == 3:
            return self.eps[:, rows]
        return np.broadcast_to(self.eps[:, None], (len(self.eps), len(rows), self.eps.shape[1]))


@dataclass(frozen=True)
class ELBO:
    """L[q_λ] = Σ_s w_s log p(x | μ + L ε_s) − KL(q_λ ‖ p(z)), with the KL in closed form. [D21] [D23]"""

    decoder: LatentModel
    x: Array
    rule: Rule
    family: Family

    def __len__(self) -> int:
        return len(self.x)

    def value_and_gradient(self, lam: Array, rows: Array) -> tuple[Array, Array]:
        """L (R,) and ∂L/∂λ (R, P), pathwise: dμ = Σ w g, dL = tril(Σ w g εᵀ), g = ∇_z log p(x|z). [D17] [D23]"""
        value, dlam = np.empty(len(rows)), np.empty((len(rows), self.family.size))
        size = max(1, _CHUNK_ROWS // len(self.rule.weights))
        for start in range(0, len(rows), size):
            part = slice(start, start + size)
            value[part], dlam[part] = self._chunk(lam[part], rows[part], np.ones(len(rows[part])), None)
        return value, dlam

    def parameter_gradient(self, lam: Array, weights: Array) -> tuple[Array, Array, Parameters]:
        """L (N,), w_n ∂L_n/∂λ_n (N, P) and Σ_n w_n ∂L_n/∂θ at fixed λ, for weights (N,) over the examples. [D16]"""
        value, dlam = np.empty(len(lam)), np.empty_like(lam)
        total, scratch = self.decoder.gradients(), self.decoder.gradients()
        size = max(1, _CHUNK_ROWS // len(self.rule.weights))
        for start in range(0, len(lam), size):
            rows = np.arange(start, min(start + size, len(lam)))
            value[rows], dlam[rows] = self._chunk(lam[rows], rows, weights[rows], scratch)
            total.flat[...] += scratch.flat
        return value, dlam, total

    def _chunk(self, lam: Array, rows: Array, weights: Array, gradients: Parameters | None) -> tuple[Array, Array]:
        mu, chol = self.family.unpack(lam)
        eps = self.rule.of(rows)
        z, sample_cache = full_normal_sample_forward(mu, chol, eps)
        x = self.x[rows]
        loglik, cache = self.decoder.loglik_forward(x, z.reshape(-1, mu.shape[1]))
        kl, kl_cache = full_normal_kl_forward(mu, chol)
        value = self.rule.weights @ loglik.reshape(len(eps), -1) - kl
        dz = self.decoder.loglik_backward(np.outer(self.rule.weights, weights).reshape(-1), cache, gradients)
        dmu, dchol = full_normal_sample_backward(dz.reshape(z.shape), sample_cache)
        dmu_kl, dchol_kl = full_normal_kl_backward(-weights, kl_cache)
        return value, self.family.backward(dmu.sum(axis=0) + dmu_kl, dchol.sum(axis=0) + dchol_kl, chol)


@dataclass(frozen=True)
class ClosedFormELBO:
    """The same bound of the linear-Gaussian model, without any rule. [D12]"""

    model: LinearGaussian
    x: Array
    family: Family

    def __len__(self) -> int:
        return len(self.x)

    def value_and_gradient(self, lam: Array, rows: Array) -> tuple[Array, Array]:
        """L (R,) and ∂L/∂λ (R, P)."""
        mu, chol = self.family.unpack(lam)
        dmu, dchol = self.model.elbo_gradient_full(self.x[rows], mu, chol)
        # log p(x, μ) − ½ tr(Λ L Lᵀ) + H(q), on L itself: a trial step may have an S that is singular in rounding.
        spread = np.einsum("ij,njk,nik->n", self.model.precision, chol, chol)
        value = self.model.log_joint(self.x[rows], mu) - 0.5 * spread + full_normal_entropy(chol)
        return value, self.family.backward(dmu, dchol, chol)


@dataclass(frozen=True, repr=False)
class Solution(Shown):
    """λ* of N examples: `lam` (N, P) in `family`, `elbo` (N,) in nats, `gradient` (N,) its largest scaled slope,
    `converged` (N,), and how many `iterations` (N,) of the solver each took."""

    _shown: ClassVar[tuple[str, ...]] = ("family", "lam", "elbo", "converged")

    family: Family
    lam: Array
    elbo: Array
    gradient: Array
    converged: Array
    iterations: Array

    @property
    def mu(self) -> Array:
        """Means, (N, K)."""
        return self.lam[:, : self.family.latent]

    @property
    def covariance(self) -> Array:
        """Covariances, (N, K, K)."""
        return self.family.covariance(self.lam)


def _scaled_slope(family: Family, lam: Array, gradient: Array) -> Array:
    """The largest slope, (N,), each mean's taken per standard deviation of q so that its unit does not matter."""
    k = family.latent
    deviation = np.sqrt(np.diagonal(family.covariance(lam), axis1=1, axis2=2))
    return np.maximum(
        np.abs(gradient[:, :k] * deviation).max(axis=1), np.abs(gradient[:, k:]).max(axis=1, initial=0.0)
    )


def _first_metric(family: Family, lam: Array) -> Array:
    """The inverse Hessian that quasi-Newton starts from, (N, P, P): q's own variances for μ, what a normal has else."""
    k = family.latent
    diagonal = np.full(lam.shape, 2.0 if family.kind == "diagonal" else 0.5)
    variances = np.diagonal(family.covariance(lam), axis1=1, axis2=2)
    diagonal[:, :k] = variances
    rows, _ = np.tril_indices(k, -1)
    diagonal[:, 2 * k :] = variances[:, rows] if family.kind == "full" else diagonal[:, 2 * k :]
    return diagonal[..., None] * np.eye(lam.shape[1])


def maximise(bound: Bound, start: Array, *, tolerance: float = 1e-7, iterations: int = 200) -> Solution:
    """Maximise the bound of every example from start (N, P), by BFGS with backtracking, batched over examples.

    An example is done when no λ changes its bound by more than `tolerance` nats per unit (μ: per standard deviation);
    one that is not after `iterations`, or cannot climb, has `converged` False. The maximum may be a local one: start
    from several places with `maximise_best` and `spread_starts`. Raises InputError for a wrong start.
    """
    if start.shape != (len(bound), bound.family.size) or not np.isfinite(start).all():
        raise InputError(f"start: got shape {start.shape}, expected finite ({len(bound)}, {bound.family.size})")
    family, lam = bound.family, start.astype(np.float64)
    everyone = np.arange(len(bound))
    value, gradient = bound.value_and_gradient(lam, everyone)
    if not np.isfinite(value).all():
        raise InputError("start: the bound is not finite there, expected a start where it is")
    metric, fresh = _first_metric(family, lam), np.ones(len(lam), dtype=bool)
    slope, taken = _scaled_slope(family, lam, gradient), np.zeros(len(lam), dtype=np.int64)
    active = everyone[slope > tolerance]
    for _ in range(iterations):
        if not len(active):
            break
        direction = np.einsum("nij,nj->ni", metric[active], gradient[active])
        ahead = (direction * gradient[active]).sum(axis=1)
        uphill = np.isfinite(ahead) & (ahead > 0)
        step, new_value, new_gradient, moved = _climb(
            bound, lam[active], active, value[active], direction, np.where(uphill, ahead, 0.0), uphill
        )
        taken[active] += 1
        good = active[moved]
        change, turn = step[moved], gradient[good] - new_gradient[moved]
        lam[good] += change
        value[good], gradient[good] = new_value[moved], new_gradient[moved]
        metric[good] = _bfgs(metric[good], change, turn)
        fresh[good] = False
        # Whoever cannot climb starts over from a fresh metric; who cannot even then is left where it stands.
        stuck = active[~moved]
        metric[stuck] = _first_metric(family, lam[stuck])
        given_up = stuck[fresh[stuck]]
        fresh[stuck] = True
        slope[good] = _scaled_slope(family, lam[good], gradient[good])
        active = active[(slope[active] > tolerance) & ~np.isin(active, given_up)]
    return Solution(family, lam, value, slope, slope <= tolerance, taken)


def _climb(
    bound: Bound, lam: Array, rows: Array, value: Array, direction: Array, ahead: Array, searching: Array
) -> tuple[Array, Array, Array, Array]:
    """Halve each step until the bound rises enough: steps, values, gradients, and who found one."""
    length = np.ones(len(rows))
    found, searching = np.zeros(len(rows), dtype=bool), searching.copy()
    new_value, new_gradient = value.copy(), np.zeros_like(lam)
    # Close to the top a rise drowns in rounding: that much of a fall is let through, and the gradient decides.
    slack = 1e-13 * (1 + np.abs(value))
    for _ in range(_BACKTRACKS):
        who = np.flatnonzero(searching)
        if not len(who):
            break
        with np.errstate(all="ignore"):  # a step too far leaves the range of doubles, and is refused for it
            v, g = bound.value_and_gradient(lam[who] + length[who, None] * direction[who], rows[who])
        enough = v >= value[who] + _SUFFICIENT_INCREASE * length[who] * ahead[who] - slack[who]
        accept = enough & np.isfinite(g).all(axis=1)
        new_value[who[accept]], new_gradient[who[accept]] = v[accept], g[accept]
        found[who[accept]] = True
        searching[who[accept]] = False
        length[who[~accept]] *= 0.5
    return length[:, None] * direction, new_value, new_gradient, found


def _bfgs(metric: Array, s: Array, y: Array) -> Array:
    """The BFGS update of inverse Hessians (N, P, P) from steps s and falls of the gradient y; kept where y·s ≤ 0."""
    curvature = (s * y).sum(axis=1)
    usable = curvature > 1e-12 * np.linalg.norm(s, axis=1) * np.linalg.norm(y, axis=1)
    rho = np.where(usable, 1 / np.where(usable, curvature, 1), 0)[:, None, None]
    left = np.eye(s.shape[1]) - rho * s[:, :, None] * y[:, None, :]
    updated = left @ metric @ np.swapaxes(left, 1, 2) + rho * s[:, :, None] * s[:, None, :]
    return np.where(usable[:, None, None], updated, metric)


def spread_starts(family: Family, count: int, *, reach: float = 1.5) -> list[Array]:
    """Starts for `maximise_best` that do not share a symmetry: the prior, and half its width at ±`reach` on each axis.

    λ (count, P) each, 1 + 2K of them. From the prior alone a climb may end at a maximum that is only local. [D11]
    """
    narrow = np.full((count, family.latent), 2 * math.log(0.5))
    places = [side * reach * axis for axis in np.eye(family.latent) for side in (1, -1)]
    return [family.prior(count), *(family.diagonal(np.tile(place, (count, 1)), narrow) for place in places)]


def maximise_best(
    bound: Bound, starts: Sequence[Array], *, tolerance: float = 1e-7, iterations: int = 200
) -> Solution:
    """`maximise` from each start (the prior, an encoder's output, ...), keeping for every example the highest bound.

    `iterations` are summed over the starts.
    """
    best = maximise(bound, starts[0], tolerance=tolerance, iterations=iterations)
    for start in starts[1:]:
        other = maximise(bound, start, tolerance=tolerance, iterations=iterations)
        better = other.elbo > best.elbo
        wide = better[:, None]
        best = Solution(
            bound.family,
            np.where(wide, other.lam, best.lam),
            np.where(better, other.elbo, best.elbo),
            np.where(better, other.gradient, best.gradient),
            np.where(better, other.converged, best.converged),
            best.iterations + other.iterations,
        )
    return best


def forward_kl_optimum(posterior: quadrature.GridPosterior, family: Family) -> Array:
    """argmin_q KL(p(z|x) ‖ q), λ (B, P): the posterior's own mean and (co)variance. It needs p(z|x), as VI does not.
    [D11]"""
    return family.pack(posterior.mean(), posterior.covariance())


def kl_to_posterior(
    decoder: LatentModel, x: Array, log_prob: Array, family: Family, lam: Array, *, spacing: float = 0.25
) -> Array:
    """KL(q_λ ‖ p(z|x)) = ∫ q (log q − log p(z|x)) dz for 1 or 2 latents, integrated as it stands: (B,) in nats.

    The trapezoid rule on a lattice of q's own, z = μ + L u with u in [−9, 9] at `spacing`; `log_prob` (B,) is log p(x),
    which turns log p(x, z) into log p(z|x). Nothing in it knows of the ELBO. [D11]
    """
    if decoder.latent > 2:
        raise InputError(f"latent: got {decoder.latent}, expected 1 or 2: quadrature in more is out of reach")
    x = decoder.check(x)
    u = Rule.trapezoid(decoder.latent, spacing).eps
    mu, chol = family.unpack(lam)
    result = np.empty(len(x))
    for i in range(len(x)):
        z = mu[i] + u @ chol[i].T
        copies = (len(z), decoder.latent)
        log_q, _ = full_normal_log_prob_forward(
            z, np.broadcast_to(mu[i], copies), np.broadcast_to(chol[i], (*copies, copies[1]))
        )
        log_posterior = decoder.log_joint_matrix(x[i : i + 1], z)[0] - log_prob[i]
        cell = spacing**decoder.latent * np.diag(chol[i]).prod()
        result[i] = cell * (np.exp(log_q) * (log_q - log_posterior)).sum()
    return result
