"""A model once more, straight from its definitions: the second computation of many rows. [D3] [D4] [D5] [D12]

Of the package only parameters are read. No layer, no density and no rule of quadrature of its own is called, so that a
mistake in one of them cannot hide in what it is compared with. Integrals are Gauss-Legendre sums over panels, where the
package has trapezoids and Gauss-Hermite; 1 or 2 latents.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vae_np._types import Array
from vae_np.exact.decoder import Decoder

_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(8)
_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": np.tanh,
    "relu": lambda a: np.where(a > 0, a, 0.0),
    "softplus": lambda a: np.logaddexp(0.0, a),
}
# Beyond 12 the prior weighs 1e-32.
EDGE = 12.0
# Panels an axis: for gentle decoders with one latent, and for fitted ones, which turn within a hundredth.
GENTLE, STEEP = 300, 3000
# With two latents panels are no wider than this, and no fewer than that: fitted decoders turn within a tenth.
_WIDEST, _FEWEST = 0.3, 6
# Nodes at which log p(x|z) is taken at once: at 784 pixels some tens of megabytes.
_BLOCK = 2048


def output(decoder: Decoder, z: Array) -> Array:
    """Logits or mean, (M, D) from z (M, K), layer by layer."""
    layers = [*(f"decoder.hidden.{index}" for index in range(len(decoder.arch.hidden))), "decoder.out"]
    for name in layers:
        z = z @ decoder.parameters[f"{name}.weight"] + decoder.parameters[f"{name}.bias"]
        if name != "decoder.out":
            z = _ACTIVATIONS[decoder.arch.activation](z)
    return z


def log_normal(z: Array, mean: Array | float = 0.0, sigma: Array | float = 1.0) -> Array:
    """log N(z; mean, sigma²), summed over the last axis, in nats."""
    each = -0.5 * ((z - mean) / sigma) ** 2 - np.log(sigma * np.sqrt(2 * np.pi) * np.ones_like(z))
    return np.asarray(each.sum(axis=-1))


def log_likelihood(decoder: Decoder, x: Array, z: Array) -> Array:
    """log p(x_b | z_m), (B, M) in nats: x log π + (1 − x) log (1 − π), or the normal's density, pixel by pixel."""
    result = np.empty((len(x), len(z)))
    for start in range(0, len(z), _BLOCK):
        part = slice(start, start + _BLOCK)
        out = output(decoder, z[part])
        if decoder.arch.is_bernoulli:
            # log π = −log(1 + e^(−l)), with the exponent never positive: a third of the time of logaddexp.
            log_on = np.minimum(out, 0) - np.log1p(np.exp(-np.abs(out)))
            # 1 − π = π e^(−l).
            result[:, part] = x @ log_on.T + (1 - x) @ (log_on - out).T
        elif decoder.arch.likelihood == "normal-fixed":
            result[:, part] = log_normal(x[:, None], out, decoder.arch.sigma)
        else:
            result[:, part] = log_normal(x[:, None], out, np.exp(0.5 * decoder.parameters["likelihood.logvar"]))
    return result


def log_joint(decoder: Decoder, x: Array, z: Array) -> Array:
    """log p(x_b, z_m), (B, M) in nats."""
    return log_likelihood(decoder, x, z) + log_normal(z)


def panels(low: Array, high: Array, count: int | None = None) -> tuple[Array, Array]:
    """Nodes (M, K) and weights (M,) for ∫ f dz over the box from low to high (K,), `count` panels of 8 an axis."""
    axes, weights = [], []
    for start, end in zip(np.atleast_1d(low), np.atleast_1d(high), strict=True):
        parts = count or max(_FEWEST, int(np.ceil((end - start) / _WIDEST)))
        edges = np.linspace(start, end, parts + 1)
        half = 0.5 * (end - start) / parts
        axes.append(((edges[:-1] + half)[:, None] + half * _POINTS).reshape(-1))
        weights.append(np.tile(half * _WEIGHTS, parts))
    nodes = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))
    return nodes, np.stack(np.meshgrid(*weights, indexing="ij"), axis=-1).prod(axis=-1).reshape(-1)


def around(mean: Array, sigma: Array, count: int | None = None) -> tuple[Array, Array]:
    """`panels` that hold all but 1e-15 of N(mean, sigma²), (K,) each."""
    return panels(mean - 8 * sigma, mean + 8 * sigma, count or (60 if len(mean) == 1 else None))


def _log_sum(terms: Array, weights: Array) -> float:
    top = terms.max()
    return float(top + np.log(np.exp(terms - top) @ weights))


def _boxes(decoder: Decoder, x: Array) -> list[tuple[Array, Array]]:
    """Where each posterior lies, (K,) twice: what is within 30 nats of the highest on a lattice, and a step more."""
    step = 0.125
    axis = np.arange(-EDGE, EDGE + step / 2, step)
    lattice = np.stack(np.meshgrid(*[axis] * decoder.latent, indexing="ij"), axis=-1).reshape(-1, decoder.latent)
    heights = log_joint(decoder, x, lattice)
    inside = [lattice[row > row.max() - 30] for row in heights]
    return [(z.min(axis=0) - step, z.max(axis=0) + step) for z in inside]


def log_evidence(decoder: Decoder, x: Array, *, count: int | None = None) -> Array:
    """log p(x) = log ∫ p(z) p(x|z) dz, (B,) in nats: one latent over [−12, 12], two where each x's mass is."""
    return np.array([each[3] for each in posteriors(decoder, x, count=count)])


def posterior(decoder: Decoder, x: Array, *, count: int | None = None) -> tuple[Array, Array, Array, float]:
    """`posteriors` of a single x (D,)."""
    return posteriors(decoder, x[None], count=count)[0]


def posteriors(
    decoder: Decoder, x: Array, *, count: int | None = None
) -> list[tuple[Array, Array, Array, float]]:
    """For each x: nodes (M, K), weights (M,) and log p(z|x) (M,), normalised by its own sum; and that sum, log p(x)."""
    found = []
    if decoder.latent == 1:
        z, weights = panels(np.array([-EDGE]), np.array([EDGE]), count or GENTLE)
        shared = log_joint(decoder, x, z)
        grids = [(z, weights, heights) for heights in shared]
    else:
        grids = []
        for row, box in zip(x, _boxes(decoder, x), strict=True):
            z, weights = panels(*box, count)
            grids.append((z, weights, log_joint(decoder, row[None], z)[0]))
    for z, weights, heights in grids:
        log_prob = _log_sum(heights, weights)
        found.append((z, weights, heights - log_prob, log_prob))
    return found


def elbo(decoder: Decoder, x: Array, mu: Array, sigma: Array) -> float:
    """E_q [log p(x, z) − log q(z)] of one x (D,) and q = N(mu, sigma²), (K,) each, in nats."""
    z, weights = around(mu, sigma)
    log_q = log_normal(z, mu, sigma)
    return float(weights * np.exp(log_q) @ (log_joint(decoder, x[None], z)[0] - log_q))


def divergence(decoder: Decoder, x: Array, mu: Array, sigma: Array, log_prob: float) -> float:
    """KL(q ‖ p(z|x)) of one x (D,), in nats; `log_prob` is this module's own log p(x)."""
    z, weights = around(mu, sigma)
    log_q = log_normal(z, mu, sigma)
    return float(weights * np.exp(log_q) @ (log_q - (log_joint(decoder, x[None], z)[0] - log_prob)))


def divergence_gradient(decoder: Decoder, x: Array, mu: float, sigma: float, log_prob: float) -> Array:
    """∇ KL(q ‖ p(z|x)) in (μ, v), v = log σ², one latent: E_q[∇ log q · (log q − log p(z|x))], (2,)."""
    z, weights = around(np.array([mu]), np.array([sigma]))
    log_q = log_normal(z, mu, sigma)
    share = weights * np.exp(log_q) * (log_q - (log_joint(decoder, x[None], z)[0] - log_prob))
    unit = (z[:, 0] - mu) / sigma
    return np.array([share @ (unit / sigma), share @ (0.5 * (unit * unit - 1))])


def normal_divergence(mu: Array, chol: Array) -> float:
    """KL(N(mu, L Lᵀ) ‖ N(0, I)) of one normal, mu (K,) and L (K, K), by its integral over z."""
    z, weights = around(np.zeros(len(mu)), np.ones(len(mu)), 60 if len(mu) == 1 else 14)
    moved = mu + z @ chol.T
    log_q = log_normal(z) - np.log(np.diag(chol)).sum()
    return float(weights * np.exp(log_normal(z)) @ (log_q - log_normal(moved)))
