"""Chapter 3: why log p(x) is hard, by the prior's samples and by grids. Claims 9 and 10. [D8] [D9]"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from vae_np import noise
from vae_np._types import Array
from vae_np.elbo import standard_normal_log_prob
from vae_np.exact import quadrature
from vae_np.exact.decoder import Decoder
from vae_np.exact.linear_gaussian import LinearGaussian
from vae_np.model import Architecture
from vae_np.study import models
from vae_np.study.claims import Claim, Result, at_least, at_most, equal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "log p(x) is an integral that samples of the prior miss and that grids cannot afford."

CHAPTER = 3
WIDTHS = (4, 16, 64, 256)
SAMPLES = (1, 4, 16, 64, 256)
EXAMPLES = 32
# Draws of z for each width: about as much work for each, and 64 or more averages of 256.
DRAWS = {4: 2**17, 16: 2**17, 64: 2**16, 256: 2**14}

LATENTS = (1, 2, 3)
AXES = tuple(range(9, 90, 8))


@dataclass(frozen=True)
class Bias:
    """Prior Monte Carlo on images of `width` pixels, in nats.

    `bias` and its standard error `error` are the mean of log p̂ − log p(x), for each of `SAMPLES`; `unbiased` the mean
    of p̂ / p(x) and its standard error. By quadrature: χ², the bias of `one_sample`, and a `posterior` over `z`.
    """

    width: int
    bias: Array
    error: Array
    unbiased: tuple[float, float]
    chi_squared: float
    one_sample: float
    z: Array
    posterior: Array

    def at(self, samples: int) -> tuple[float, float]:
        """The bias and its standard error."""
        index = SAMPLES.index(samples)
        return float(self.bias[index]), float(self.error[index])


@dataclass(frozen=True)
class Grid:
    """The trapezoid rule on a model with `latent` latents: decoder calls, and the largest error of log p(x) in nats."""

    latent: int
    calls: Array
    error: Array

    def needed(self, tolerance: float) -> int:
        """The fewest calls from which on the error stays below `tolerance`."""
        bad = np.flatnonzero(self.error > tolerance)
        return int(self.calls[bad[-1] + 1 if len(bad) else 0])


def run(seed: int) -> Result:
    """The bias of averaging over the prior, the price of a grid, and the identity that holds for every z."""
    biases = [_prior_monte_carlo(seed, width) for width in WIDTHS]
    grids = [_trapezoid(seed, latent) for latent in LATENTS]
    claims = [*_bias_claims(biases), *_grid_claims(grids), *_identity(seed)]
    figures = {"03-prior-monte-carlo": _bias_figure(biases), "03-quadrature": _grid_figure(grids)}
    return Result(claims, figures)


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
    chi_squared = np.exp(2 * log_posterior - log_prior + log_spacing).sum(axis=1) - 1
    prior_kl = (np.exp(log_prior + log_spacing) * (log_prior - log_posterior)).sum(axis=1)

    # Rows from EXAMPLES on, so that no z of the estimate is one that made an image.
    draws = noise.normal(
        EXAMPLES + np.arange(DRAWS[width]), 1, seed=seed, stream=noise.PRIOR, dtype=np.float64
    )
    ratio = decoder.loglik_matrix(x, draws) - grid.log_prob[:, None]
    bias, error = [], []
    for samples in SAMPLES:
        groups = ratio.reshape(EXAMPLES, -1, samples)
        top = groups.max(axis=2)
        estimates = top + np.log(np.exp(groups - top[..., None]).mean(axis=2))
        # All images share a group's z, so the groups, not the images, are what is independent.
        means = estimates.mean(axis=0)
        bias.append(means.mean())
        error.append(means.std() / math.sqrt(len(means)))
    ratios = np.exp(ratio).mean(axis=0)
    shown = slice(1000, 3001)
    return Bias(
        width,
        np.array(bias),
        np.array(error),
        (float(ratios.mean()), float(ratios.std() / math.sqrt(len(ratios)))),
        float(chi_squared.mean()),
        float(-prior_kl.mean()),
        z[shown, 0],
        np.exp(log_posterior[0, shown]),
    )


def _bias_claims(biases: list[Bias]) -> list[Claim]:
    claims = []
    for found in biases:
        bias, error = found.at(16)
        claims.append(at_most(9, f"D = {found.width}, S = 16: bias of log p̂, plus 4 std. errors", bias + 4 * error, 0))
    for found in biases[1:]:
        (few, few_error), (many, many_error) = found.at(4), found.at(64)
        slack = 4 * math.hypot(few_error, many_error)
        claims.append(
            at_least(9, f"D = {found.width}: bias at S = 64 − at S = 4, less 4 std. errors", many - few - slack, 0)
        )
    for narrow, wide in pairwise(biases):
        (small, small_error), (large, large_error) = narrow.at(16), wide.at(16)
        slack = 4 * math.hypot(small_error, large_error)
        claims.append(
            at_most(9, f"S = 16: bias at D = {wide.width} − at D = {narrow.width}, plus 4 std. errors",
                    large - small + slack, 0)
        )  # fmt: skip
    for found in biases:
        bias, error = found.at(1)
        claims.append(
            equal(9, f"D = {found.width}, S = 1: bias = −D(p(z)‖p(z|x)), 4 std. errors",
                  bias, found.one_sample, 4 * error)
        )  # fmt: skip
    second = biases[1]
    mean, mean_error = second.unbiased
    bias, error = second.at(64)
    expected = -second.chi_squared / 128
    return [
        *claims,
        equal(9, "D = 16, S = 64: bias = −χ²/2S, 4 std. errors + 10%", bias, expected, 4 * error - 0.1 * expected),
        equal(9, "D = 16: mean of p̂ / p(x), which has no bias, 4 std. errors", mean, 1, 4 * mean_error),
    ]


# --- claim 9: log p(x) is hard: a grid ------------------------------------------------------------------------------


def _trapezoid(seed: int, latent: int) -> Grid:
    """Errors against the closed form: W has orthogonal columns of one length, so that every latent is as hard."""
    random = models.generator(seed, CHAPTER)
    directions, _ = np.linalg.qr(random.standard_normal((8, LATENTS[-1])))
    linear = LinearGaussian(3.0 * directions[:, :latent], np.zeros(8), 1.0)
    z_of_x, residual = random.standard_normal((4, LATENTS[-1])), random.standard_normal((4, 8))
    x = linear.sample(z_of_x[:, :latent], residual)
    closed = linear.log_prob(x)
    calls, errors = [], []
    for nodes in AXES:
        z, log_weights = quadrature.trapezoid_grid(latent, nodes)
        sums = []
        for row in x:
            terms = linear.log_joint(row[None], z) + log_weights
            sums.append(terms.max() + math.log(np.exp(terms - terms.max()).sum()))
        calls.append(len(z))
        errors.append(np.abs(np.array(sums) - closed).max())
    return Grid(latent, np.array(calls), np.array(errors))


def _grid_claims(grids: list[Grid]) -> list[Claim]:
    claims = []
    for grid in grids:
        calls = grid.needed(1e-6)
        error = grid.error[grid.calls == calls][0]
        claims.append(at_most(9, f"K = {grid.latent}: error of log p(x) with {calls:,} grid points", error, 1e-6))
    for grid in grids[1:]:
        ratio = grid.needed(1e-6) / grids[0].needed(1e-6)
        claims.append(
            at_least(9, f"grid points for 1e-6: K = {grid.latent} over K = 1", ratio, 30 ** (grid.latent - 1))
        )
    return claims


# --- claim 10: log p(x) = log p(x, z) − log p(z|x) for any z --------------------------------------------------------


def _identity(seed: int) -> list[Claim]:
    random = models.generator(seed, CHAPTER, 1)
    claims = []
    for latent, features in ((1, 3), (2, 5)):
        weight, bias = random.standard_normal((features, latent)), random.standard_normal(features)
        linear = LinearGaussian(weight, bias, random.uniform(0.5, 1.5, features))
        x = linear.sample(random.standard_normal((1, latent)), random.standard_normal((1, features)))
        z = random.standard_normal((1000, latent))
        values = linear.log_joint(x, z) - linear.posterior_log_prob(x, z)
        log_prob = float(linear.log_prob(x)[0])
        size = max(1.0, abs(log_prob))
        claims += [
            at_most(10, f"K = {latent}: spread of log p(x,z) − log p(z|x) over 1000 z", values.std(), 1e-13 * size),
            equal(10, f"K = {latent}: its mean, against log N(x; b, WWᵀ + Ψ)", values.mean(), log_prob, 1e-12 * size),
            at_least(10, f"K = {latent}: spread of log p(x,z) alone", linear.log_joint(x, z).std(), 0.1),
        ]
    return claims


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
    left.legend(fontsize=8.5, frameon=False, labelcolor=INK)
    style(right, "S, draws from the prior", "log p(x) − mean of log p̂ (nats)")
    for found, colour in zip(biases, _COLOURS, strict=True):
        clear = -found.bias > 3 * found.error
        samples = np.array(SAMPLES)[clear]
        right.errorbar(samples, -found.bias[clear], 2 * found.error[clear], color=colour, marker="o", markersize=5,
                       linewidth=1.4, label=f"D = {found.width}")  # fmt: skip
        tail = np.geomspace(max(1.0, 2 * found.chi_squared), SAMPLES[-1], 20)
        right.plot(tail, found.chi_squared / (2 * tail), color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    right.plot([], [], color=MUTED, linewidth=1, linestyle=(0, (4, 3)), label="χ²/2S, from quadrature")
    right.set(xscale="log", yscale="log")
    right.set_xticks(SAMPLES, [str(samples) for samples in SAMPLES])
    right.minorticks_off()
    right.legend(fontsize=8.5, frameon=False, labelcolor=INK)
    for ax, title in (
        (left, "More pixels leave fewer z that explain the image"),
        (right, "Averaging over the prior falls short"),
    ):
        ax.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK, pad=8)
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
    left.text(0.99, 1.6e-6, "1e-6", fontsize=8.5, color=INK, ha="right", transform=left.get_yaxis_transform())
    left.set(xscale="log", yscale="log")
    left.legend(fontsize=9, frameon=False, labelcolor=INK)
    style(right, "latents K", "grid points for an error of 1e-6")
    needed = [grid.needed(1e-6) for grid in grids]
    every = np.arange(1, 21)
    right.plot(every, float(needed[0]) ** every, color=BLUE, linewidth=1.2, linestyle=(0, (4, 3)),
               label=f"{needed[0]} to the power K")  # fmt: skip
    right.plot([grid.latent for grid in grids], needed, color=ORANGE, marker="o", markersize=7, linestyle="none",
               label="measured")  # fmt: skip
    right.axhline(1e9, color=FRAME, linewidth=1)
    right.axhline(4.35e26, color=FRAME, linewidth=1)
    right.text(20.3, 1.8e9, "one second, at 10⁹ calls a second", fontsize=8.5, color=INK, ha="right")
    right.text(0.8, 8e26, "the age of the universe, at that rate", fontsize=8.5, color=INK)
    right.set(yscale="log", xlim=(0.5, 20.5))
    right.set_xticks((1, 2, 3, 5, 10, 15, 20))
    right.legend(fontsize=9, frameon=False, labelcolor=INK, loc="upper left")
    for ax, title in ((left, "A grid converges fast, in its points an axis"), (right, "but the points multiply")):
        ax.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK, pad=8)
    return figure
