"""Chapter 3: why log p(x) is hard, by the prior's samples and by grids. Claims 9 and 10. [D8] [D9]"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from vae_np import noise, ops
from vae_np._types import Array
from vae_np.architecture import Architecture
from vae_np.elbo import standard_normal_log_prob
from vae_np.exact import quadrature
from vae_np.exact.decoder import Decoder
from vae_np.exact.linear_gaussian import LinearGaussian
from vae_np.study import models, plain
from vae_np.study.claims import Claim, at_least, at_most, equal, in_errors, zero

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "log p(x) is an integral that samples of the prior miss and that grids cannot afford."

CHAPTER = 3
WIDTHS = (4, 16, 64, 256)
SAMPLES = (1, 4, 16, 64, 256)
EXAMPLES = 32
# Draws of z for each width: about as much work for each, and 64 or more averages of 256.
DRAWS = {4: 2**17, 16: 2**17, 64: 2**16, 256: 2**14}
# Where S is well above χ², so that the expansion of the bias in 1/S holds: widths and numbers of draws.
EXPANDED = ((4, 16), (4, 64), (4, 256), (16, 64), (16, 256), (64, 256))

LATENTS = (1, 2, 3)
AXES = tuple(range(9, 90, 8))


@dataclass(frozen=True)
class Bias:
    """Prior Monte Carlo on images of `width` pixels, in nats.

    `bias` and its standard error `error` are the mean of log p̂ − log p(x), for each of `SAMPLES`; `unbiased` the mean
    of p̂ / p(x) and its standard error. By quadrature: variance and third moment of p(x|z) / p(x) as `chi_squared` and
    `third`, the bias of `one_sample`, and a `posterior` over `z`.
    """

    width: int
    bias: Array
    error: Array
    unbiased: tuple[float, float]
    chi_squared: Array
    third: Array
    one_sample: float
    z: Array
    posterior: Array

    def at(self, samples: int) -> tuple[float, float]:
        """The bias and its standard error."""
        index = SAMPLES.index(samples)
        return float(self.bias[index]), float(self.error[index])

    def expanded(self, samples: int) -> float:
        """The bias to second order in 1/S: −χ²/2S + κ₃/3S² − 3χ⁴/4S². [D9]"""
        terms = -self.chi_squared / (2 * samples) + (self.third / 3 - 0.75 * self.chi_squared**2) / samples**2
        return float(terms.mean())


@dataclass(frozen=True)
class Grid:
    """The trapezoid rule on a model with `latent` latents: decoder calls, the largest error of log p(x) in nats, and
    how far the errors are from what Poisson's summation formula says they are."""

    latent: int
    calls: Array
    error: Array
    off_theory: Array

    def needed(self, tolerance: float) -> int:
        """The fewest calls from which on the error stays below `tolerance`."""
        bad = np.flatnonzero(self.error > tolerance)
        return int(self.calls[bad[-1] + 1 if len(bad) else 0])


def figures(seed: int) -> dict[str, Figure]:
    """The bias of averaging over the prior, and the price of a grid."""
    biases, grids = _biases(seed), _grids(seed)
    return {"03-prior-monte-carlo": _bias_figure(biases), "03-quadrature": _grid_figure(grids)}


def notes(seed: int) -> list[str]:
    """How many points a grid takes."""
    each = ", ".join(f"{grid.needed(1e-6):,} for K = {grid.latent}" for grid in _grids(seed))
    return [f"Grid points for an error of 1e-6 nats: {each}."]


@cache
def _biases(seed: int) -> list[Bias]:
    return [_prior_monte_carlo(seed, width) for width in WIDTHS]


@cache
def _grids(seed: int) -> list[Grid]:
    return [_trapezoid(seed, latent) for latent in LATENTS]


# --- claim 9: log p(x) is hard: averaging over the prior ------------------------------------------------------------


def _narrower(decoder: Decoder, width: int) -> Decoder:
    """The same model of the first `width` pixels alone."""
    arch = Architecture(
        features=width, latent=decoder.latent, hidden=decoder.arch.hidden, activation=decoder.arch.activation
    )
    tensors = dict(decoder.parameters)
    for part in ("weight", "bias"):
        tensors[f"decoder.out.{part}"] = tensors[f"decoder.out.{part}"][..., :width]
    return Decoder.of(arch, tensors)


def _prior_monte_carlo(seed: int, width: int) -> Bias:
    wide = models.drawn_decoder(
        Architecture(features=WIDTHS[-1], latent=1, hidden=(16,), activation="tanh"), seed, gain=3.0
    )
    rows = np.arange(EXAMPLES)
    source = noise.normal(rows, 1, seed=seed, stream=noise.PRIOR, dtype=np.float64)
    pixels = noise.uniform(rows, WIDTHS[-1], seed=seed, stream=noise.PRIOR, sample=1)
    x = wide.sample(source, pixels)[:, :width].astype(np.float64)
    decoder = _narrower(wide, width)

    z, log_spacing = quadrature.trapezoid_grid(1, 4001)
    log_prior = standard_normal_log_prob(z)
    grid = quadrature.posterior(decoder, x, rule="trapezoid", nodes=4001)
    log_posterior = decoder.log_joint_matrix(x, z) - grid.log_prob[:, None]
    above = np.exp(log_posterior - log_prior) - 1
    prior = np.exp(log_prior + log_spacing)
    prior_kl = (prior * (log_prior - log_posterior)).sum(axis=1)

    # Rows from EXAMPLES on, so that no z of the estimate is one that made an image.
    draws = noise.normal(
        EXAMPLES + np.arange(DRAWS[width]), 1, seed=seed, stream=noise.PRIOR, dtype=np.float64
    )
    log_prob = plain.log_evidence(decoder, x)
    loglik = decoder.loglik_matrix(x, draws)
    bias, error = [], []
    for samples in SAMPLES:
        groups = loglik.reshape(-1, samples).T
        estimates = ops.log_mean_exp_weights(groups)[0].reshape(EXAMPLES, -1) - log_prob[:, None]
        # All images share a group's z, so the groups, not the images, are what is independent.
        means = estimates.mean(axis=0)
        bias.append(means.mean())
        error.append(means.std() / math.sqrt(len(means)))
    ratios = np.exp(loglik - log_prob[:, None]).mean(axis=0)
    shown = slice(1000, 3001)
    return Bias(
        width,
        np.array(bias),
        np.array(error),
        (float(ratios.mean()), float(ratios.std() / math.sqrt(len(ratios)))),
        above**2 @ prior,
        above**3 @ prior,
        float(-prior_kl.mean()),
        z[shown, 0],
        np.exp(log_posterior[0, shown]),
    )


def _below(value: float, error: float) -> float:
    """`value` in its errors, where an error of 0 says nothing."""
    return value / error if error > 0 else math.nan


def intractable(seed: int) -> list[Claim]:
    """Claim 9: how far an average over the prior falls short, and how many points a grid takes."""
    return [*_bias_claims(_biases(seed)), *_grid_claims(_grids(seed))]


def _bias_claims(biases: list[Bias]) -> list[Claim]:
    claims, sampled, legendre = [], "averages over draws of the prior", "log p(x), Legendre sums"
    for found in biases:
        claims.append(
            at_most(9, f"D = {found.width}, S = 16: bias of log p̂, in std. errors", _below(*found.at(16)), -4,
                    by=(sampled, legendre))
        )  # fmt: skip
    for found in biases[1:]:
        (few, few_error), (many, many_error) = found.at(4), found.at(64)
        claims.append(
            at_least(9, f"D = {found.width}: bias at S = 64 − at S = 4, in std. errors",
                     _below(many - few, math.hypot(few_error, many_error)), 4,
                     by=("averages of 64 draws", "averages of 4 draws"))
        )  # fmt: skip
    for narrow, wide in pairwise(biases):
        (small, small_error), (large, large_error) = narrow.at(16), wide.at(16)
        claims.append(
            at_most(9, f"S = 16: bias at D = {wide.width} − at D = {narrow.width}, in std. errors",
                    _below(large - small, math.hypot(small_error, large_error)), -4,
                    by=(f"averages for {wide.width} pixels", f"averages for {narrow.width} pixels"))
        )  # fmt: skip
    for found in biases:
        bias, error = found.at(1)
        claims.append(
            in_errors(9, f"D = {found.width}, S = 1: bias + KL(p(z)‖p(z|x)), in std. errors",
                      bias, found.one_sample, error, by=("single draws of the prior", "the trapezoid rule's posterior"))
        )  # fmt: skip
    slope, slope_error = _slope(biases)
    mean, mean_error = biases[1].unbiased
    return [
        *claims,
        in_errors(9, "slope of the bias on −χ²/2S + O(1/S²), less 1, in std. errors", slope, 1, slope_error,
                  by=("averages at 6 pairs of D and S", "moments of p(x|z) / p(x), trapezoid rule")),
        in_errors(9, "D = 16: mean of p̂ / p(x), less 1, in std. errors", mean, 1, mean_error,
                  by=(sampled, legendre)),
    ]  # fmt: skip


def _slope(biases: list[Bias]) -> tuple[float, float]:
    """The bias regressed on its expansion through the origin, by weights, and the slope's standard error."""
    by_width = {found.width: found for found in biases}
    at = [(by_width[width].expanded(samples), *by_width[width].at(samples)) for width, samples in EXPANDED]
    expected, bias, error = np.array(at).T
    information = float((expected**2 / error**2).sum())
    # Averages of the same draws at several S hang together; treated as if they all did, the error is too large.
    spread = float((np.abs(expected) / error).sum()) / information
    return float((expected * bias / error**2).sum()) / information, spread


# --- claim 9: log p(x) is hard: a grid ------------------------------------------------------------------------------


def _trapezoid(seed: int, latent: int) -> Grid:
    """Errors against the closed form: W has orthogonal columns of one length, so that every latent is as hard.

    Each latent's posterior is then a normal of its own, N(m, s²), and Poisson's summation formula has the sum at the
    spacing h exactly: the integral times 1 + 2 Σ_k exp(−2π²k²s²/h²) cos(2πkm/h). [D9]
    """
    random = models.generator(seed, CHAPTER)
    directions, _ = np.linalg.qr(random.standard_normal((8, LATENTS[-1])))
    linear = LinearGaussian(3.0 * directions[:, :latent], np.zeros(8), 1.0)
    z_of_x, residual = random.standard_normal((4, LATENTS[-1])), random.standard_normal((4, 8))
    x = linear.sample(z_of_x[:, :latent], residual)
    closed = linear.log_prob(x)
    means, covariance = linear.posterior(x)
    deviation = math.sqrt(covariance[0, 0])
    calls, errors, off = [], [], []
    for nodes in AXES:
        z, log_weights = quadrature.trapezoid_grid(latent, nodes)
        sums = []
        for row in x:
            terms = linear.log_joint(row[None], z) + log_weights
            sums.append(terms.max() + math.log(np.exp(terms - terms.max()).sum()))
        calls.append(len(z))
        spacing, k = 2 * quadrature.EDGE / (nodes - 1), np.arange(1, 20)
        damped = np.exp(-2 * (np.pi * k * deviation / spacing) ** 2)
        theory = np.log1p(2 * np.cos(2 * np.pi * means[..., None] * k / spacing) @ damped).sum(axis=1)
        errors.append(np.abs(np.array(sums) - closed).max())
        off.append(np.abs(np.array(sums) - closed - theory).max())
    return Grid(latent, np.array(calls), np.array(errors), np.array(off))


def _grid_claims(grids: list[Grid]) -> list[Claim]:
    return [
        zero(9, f"K = {grid.latent}: error of {len(AXES)} grids − Poisson's formula, largest", grid.off_theory, 1e-9,
             by=("trapezoid sums − closed-form log p(x)", "Poisson's summation formula"))
        for grid in grids
    ]  # fmt: skip


# --- claim 10: log p(x) = log p(x, z) − log p(z|x) for any z --------------------------------------------------------


def identity(seed: int) -> list[Claim]:
    """Claim 10: the identity at 1,000 z, in closed form and for a curved decoder."""
    from scipy.stats import multivariate_normal  # type: ignore[import-untyped]

    random = models.generator(seed, CHAPTER, 1)
    claims = []
    for latent, features in ((1, 3), (2, 5)):
        weight, bias = random.standard_normal((features, latent)), random.standard_normal(features)
        linear = LinearGaussian(weight, bias, random.uniform(0.5, 1.5, features))
        x = linear.sample(random.standard_normal((1, latent)), random.standard_normal((1, features)))
        z = random.standard_normal((1000, latent))
        values = linear.log_joint(x, z) - linear.posterior_log_prob(x, z)
        log_prob = float(multivariate_normal(bias, weight @ weight.T + linear.psi).logpdf(x[0]))
        size = max(1.0, abs(log_prob))
        two = ("log p(x, z)", "log p(z|x), closed forms")
        claims += [
            at_most(10, f"K = {latent}: spread of log p(x,z) − log p(z|x) over 1000 z", values.std(), 1e-13 * size,
                    by=two),
            equal(10, f"K = {latent}: its mean, against log N(x; b, WWᵀ + Ψ)", values.mean(), log_prob, 1e-12 * size,
                  by=("log p(x, z) − log p(z|x)", "scipy.stats.multivariate_normal")),
        ]  # fmt: skip
    decoder = models.drawn_decoder(
        Architecture(features=4, latent=1, hidden=(6,), activation="tanh"), seed, gain=2
    )
    row = random.integers(0, 2, 4).astype(np.float64)
    nodes, _, log_posterior, _ = plain.posterior(decoder, row)
    at = random.choice(np.flatnonzero(np.abs(nodes[:, 0]) < 4), 1000)
    values = decoder.log_joint_matrix(row[None], nodes[at])[0] - log_posterior[at]
    log_prob = float(quadrature.log_likelihood(decoder, row[None]).log_prob[0])
    again = float(plain.log_evidence(decoder, row[None])[0])
    return [
        *claims,
        zero(10, "curved decoder: log p(x,z) − log p(z|x) − log p(x), 1000 z", values - log_prob, 1e-8,
             by=("log p(x, z) − the normalised posterior", "log p(x), adaptive lattice")),
        zero(10, "curved decoder: the same, log p(x) by another rule", values - again, 1e-8,
             by=("log p(x, z) − the normalised posterior", "log p(x), Legendre sums")),
    ]  # fmt: skip


CLAIMS = {9: intractable, 10: identity}


# --- the figures ----------------------------------------------------------------------------------------------------

_COLOURS = ("#9ecae1", "#4a98c9", "#1764ab", "#08306b")


def _bias_figure(biases: list[Bias]) -> Figure:
    """Left: one image's posterior, ever narrower. Right: the bias against S, a line a width."""
    from vae_np.pictures.drawing import INK, MUTED, blank_figure, style

    figure = blank_figure(1160, 460)
    left, right = figure.subplots(1, 2, width_ratios=(0.9, 1))
    style(left, "z", "density")
    z = biases[0].z
    left.fill_between(z, np.exp(standard_normal_log_prob(z[:, None])), color="#d9dde2", label="prior p(z)", zorder=1)
    for found, colour in zip(biases, _COLOURS, strict=True):
        left.plot(found.z, found.posterior, color=colour, linewidth=1.8, label=f"p(z|x), D = {found.width}")
    centre = float(z[biases[-1].posterior.argmax()])
    left.set_xlim(min(-3.0, centre - 0.5), max(3.0, centre + 0.5))
    left.set_ylim(0, None)
    left.legend(fontsize=10, frameon=False, labelcolor=INK)
    style(right, "S, draws from the prior", "log p(x) − mean of log p̂ (nats)")
    for found, colour in zip(biases, _COLOURS, strict=True):
        clear = -found.bias > 3 * found.error
        samples = np.array(SAMPLES)[clear]
        right.errorbar(samples, -found.bias[clear], 2 * found.error[clear], color=colour, marker="o", markersize=5,
                       linewidth=1.4, label=f"D = {found.width}")  # fmt: skip
        chi_squared = float(found.chi_squared.mean())
        tail = np.geomspace(max(1.0, 2 * chi_squared), SAMPLES[-1], 20)
        right.plot(tail, chi_squared / (2 * tail), color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    right.plot([], [], color=MUTED, linewidth=1, linestyle=(0, (4, 3)), label="χ²/2S, from quadrature")
    right.set(xscale="log", yscale="log")
    right.set_xticks(SAMPLES, [str(samples) for samples in SAMPLES])
    right.minorticks_off()
    right.legend(fontsize=10, frameon=False, labelcolor=INK)
    for ax, title in (
        (left, "More pixels leave fewer z"),
        (right, "Averaging over the prior falls short"),
    ):
        ax.set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK, pad=8)
    return figure


def _grid_figure(grids: list[Grid]) -> Figure:
    """Left: error against grid points for one, two and three latents. Right: what 1e-6 takes, and would take."""
    from vae_np.pictures.drawing import BLUE, FRAME, GREEN, INK, ORANGE, blank_figure, style

    figure = blank_figure(1160, 440)
    left, right = figure.subplots(1, 2)
    style(left, "grid points, each one call of the decoder", "largest error of log p(x) (nats)")
    for grid, colour in zip(grids, (BLUE, ORANGE, GREEN), strict=True):
        left.plot(grid.calls, np.maximum(grid.error, 1e-15), color=colour, marker="o", markersize=4.5, linewidth=1.4,
                  label=f"K = {grid.latent}")  # fmt: skip
    left.axhline(1e-6, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    left.text(0.99, 1.6e-6, "1e-6", fontsize=10, color=INK, ha="right", transform=left.get_yaxis_transform())
    left.set(xscale="log", yscale="log")
    left.legend(fontsize=10, frameon=False, labelcolor=INK)
    style(right, "latents K", "grid points for an error of 1e-6")
    needed = [grid.needed(1e-6) for grid in grids]
    every = np.arange(1, 21)
    right.plot(every, float(needed[0]) ** every, color=BLUE, linewidth=1.2, linestyle=(0, (4, 3)),
               label=f"{needed[0]} to the power K")  # fmt: skip
    right.plot([grid.latent for grid in grids], needed, color=ORANGE, marker="o", markersize=7, linestyle="none",
               label="measured")  # fmt: skip
    right.axhline(1e9, color=FRAME, linewidth=1)
    right.axhline(4.35e26, color=FRAME, linewidth=1)
    right.text(20.3, 1.8e9, "one second, at 10⁹ calls a second", fontsize=10, color=INK, ha="right")
    right.text(0.8, 8e26, "the age of the universe, at that rate", fontsize=10, color=INK)
    right.set(yscale="log", xlim=(0.5, 20.5))
    right.set_xticks((1, 2, 3, 5, 10, 15, 20))
    right.legend(fontsize=10, frameon=False, labelcolor=INK, loc="upper left")
    for ax, title in ((left, "A grid converges fast, in its points an axis"), (right, "but the points multiply")):
        ax.set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK, pad=8)
    return figure
