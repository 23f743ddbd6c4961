"""Chapter 14: log p(x) by annealing from both sides, and where importance sampling fails. No numbered claims, but a
figure and notes. [D46] [D49]
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from vae_np._types import Array
from vae_np.architecture import Architecture
from vae_np.evaluation.annealing import Annealing, BidirectionalEstimate, annealed_log_likelihood
from vae_np.evaluation.importance import Estimate, importance_log_likelihood
from vae_np.exact import quadrature
from vae_np.exact.decoder import Decoder
from vae_np.exact.inference import ELBO, Family, Rule, maximise_best, spread_starts
from vae_np.study import models
from vae_np.study.claims import Claim

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "Annealing closes in on log p(x) from both sides, and finds the mode that importance sampling never sees."

CHAPTER = 14
# What x = |z| + noise is observed as, as in chapter 4: z is then about 1.5, or about −1.5.
FOLDED_X = 1.5
CHAINS, LEAPFROG = 16, 3
TEMPERATURES = (3, 10, 30, 100, 300)
DRAWS = 10 ** np.arange(1, 6)
# Simulated examples whose log p(x) is enclosed from both sides.
EXAMPLES = 100
PIXELS = Architecture(features=24, latent=2, hidden=(10,), activation="tanh")


@cache
def folded() -> Decoder:
    """x = |z| + noise, nearly: softplus(4z)/4 + softplus(−4z)/4, and σ = 0.3."""
    arch = Architecture(features=1, latent=1, hidden=(2,), activation="softplus", likelihood="normal-fixed", sigma=0.3)
    decoder = models.drawn_decoder(arch, 0)
    decoder.parameters.flat[...] = 0
    decoder.parameters["decoder.hidden.0.weight"][...] = [[4.0, -4.0]]
    decoder.parameters["decoder.out.weight"][...] = 0.25
    return decoder


@cache
def one_sided() -> tuple[float, float]:
    """μ and log σ² of the best normal q, which sits on one of the two modes."""
    family = Family("diagonal", 1)
    bound = ELBO(folded(), np.array([[FOLDED_X]]), Rule.trapezoid(1, 0.1), family)
    mu, logvar = maximise_best(bound, spread_starts(family, 1)).lam[0]
    return abs(float(mu)), float(logvar)


@cache
def evidence() -> float:
    """log p(x) of the folded x, by quadrature."""
    return float(quadrature.log_likelihood(folded(), np.array([[FOLDED_X]]), rule="trapezoid").log_prob[0])


@cache
def sampled(seed: int, draws: int) -> Estimate:
    """Importance sampling of the folded x from that q."""
    mu, logvar = (np.array([[value]]) for value in one_sided())
    return importance_log_likelihood(
        folded().model, np.array([[FOLDED_X]]), np.arange(1), samples=draws, seed=seed, posterior=(mu, logvar)
    )


@cache
def annealed(seed: int, temperatures: int) -> Estimate:
    """Annealed chains for the folded x, which know nothing of q."""
    settings = Annealing(chains=CHAINS, temperatures=temperatures, leapfrog=LEAPFROG)
    return annealed_log_likelihood(folded().model, np.array([[FOLDED_X]]), np.arange(1), settings, seed=seed)


@dataclass(frozen=True)
class Enclosed:
    """Estimates from below and from above less log p(x) by quadrature, (N,) each, for simulated examples."""

    lower: Array
    upper: Array


@cache
def _simulated(seed: int) -> tuple[Decoder, Array, Array, Array]:
    """A decoder, examples that it drew with the z of each, and their log p(x) by quadrature."""
    decoder = models.drawn_decoder(PIXELS, seed, gain=5)
    random = models.generator(seed, CHAPTER)
    z = random.standard_normal((EXAMPLES, PIXELS.latent))
    x = decoder.sample(z, random.random((EXAMPLES, PIXELS.features))).astype(np.float64)
    return decoder, x, z, quadrature.log_likelihood(decoder, x, rule="trapezoid", nodes=241).log_prob


@cache
def enclosed(seed: int, temperatures: int) -> Enclosed:
    """Both sides of the simulated examples, with so many temperatures."""
    decoder, x, z, log_prob = _simulated(seed)
    settings = Annealing(chains=3, temperatures=temperatures, leapfrog=LEAPFROG)
    found = annealed_log_likelihood(decoder.model, x, np.arange(EXAMPLES), settings, seed=seed, posterior=z)
    assert isinstance(found, BidirectionalEstimate)
    return Enclosed(found.log_likelihood - log_prob, found.upper - log_prob)


def figures(seed: int) -> dict[str, Figure]:
    """The way from the prior to a posterior with two modes, two estimates of its log p(x), and both sides of others."""
    from vae_np.pictures.drawing import blank_figure, head

    figure = blank_figure(1320, 460)
    way, estimates, sides = figure.subplots(1, 3)
    _draw_way(way)
    _draw_estimates(estimates, seed)
    _draw_sides(sides, seed)
    head(way, "From the prior to two modes")
    head(estimates, "One mode is never sampled")
    head(sides, "From both sides")
    return {"14-both-sides": figure}


def notes(seed: int) -> list[str]:
    """How far both estimates are off, in nats and in their own errors, and the gap of both sides."""
    draws, top = int(DRAWS[-1]), TEMPERATURES[-1]
    guess, walk = sampled(seed, draws), annealed(seed, top)
    few, many = enclosed(seed, TEMPERATURES[1]), enclosed(seed, top)
    off = float(guess.log_likelihood[0] - evidence())
    return [
        f"Two modes, q on one: {draws:,} draws are {off:+.3f} nats off (log ½ is {math.log(0.5):.3f}), with a stated "
        f"error of {guess.stderr[0]:.4f}, an effective sample size of {guess.ess[0]:,.0f} and k̂ = {guess.tail[0]:.2f}.",
        f"Annealing, {CHAINS} chains of {top} temperatures: {walk.log_likelihood[0] - evidence():+.3f} nats off, with "
        f"a stated error of {walk.stderr[0]:.3f}.",
        f"{EXAMPLES} simulated examples, mean below and above log p(x): {few.lower.mean():+.3f} and "
        f"{few.upper.mean():+.3f} with {TEMPERATURES[1]} temperatures, {many.lower.mean():+.4f} and "
        f"{many.upper.mean():+.4f} with {top}.",
    ]


CLAIMS: dict[int, Callable[[int], list[Claim]]] = {}


# --- the figure -----------------------------------------------------------------------------------------------------


def way(temperature: float) -> tuple[Array, Array]:
    """z (M,) and the density of p(z) p(x|z)^τ there, normalised."""
    z = np.linspace(-3.2, 3.2, 641)
    grid = quadrature.posterior(folded(), np.array([[FOLDED_X]]), rule="trapezoid").nodes
    heights, sums = (
        temperature * folded().loglik_matrix(np.array([[FOLDED_X]]), places)[0] - 0.5 * (places * places)[:, 0]
        for places in (z[:, None], grid)
    )
    spacing = float(grid[1, 0] - grid[0, 0])
    return z, np.exp(heights - sums.max()) / (np.exp(sums - sums.max()).sum() * spacing)


def _draw_way(ax: Axes) -> None:
    import matplotlib

    from vae_np.pictures.drawing import ORANGE, legend, style

    style(ax, "z", "density")
    colours = matplotlib.colormaps["viridis"]
    for temperature in (0.0, 0.03, 0.1, 0.3, 1.0):
        z, density = way(temperature)
        said = {0.0: "τ = 0: the prior", 1.0: "τ = 1: the posterior"}.get(temperature, f"τ = {temperature:g}")
        ax.plot(z, density, color=colours(0.9 * (1 - temperature**0.35)), linewidth=1.7, label=said)
    mu, logvar = one_sided()
    sigma = math.exp(0.5 * logvar)
    z = np.linspace(-3.2, 3.2, 641)
    q = np.exp(-0.5 * ((z - mu) / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))
    ax.plot(z, q, color=ORANGE, linewidth=1.7, linestyle=(0, (4, 3)), label="the best normal q")
    ax.set_ylim(0, 1.9 * float(q.max()))
    legend(ax)


def _draw_estimates(ax: Axes, seed: int) -> None:
    from vae_np.pictures.drawing import BLUE, INK, MUTED, ORANGE, legend, style

    style(ax, "passes through the decoder", "estimate − log p(x) (nats)")
    for found, passes, colour, marker, label in (
        ([sampled(seed, int(draws)) for draws in DRAWS], DRAWS, ORANGE, "D", "importance sampling from q"),
        (
            [annealed(seed, temperatures) for temperatures in TEMPERATURES],
            CHAINS * LEAPFROG * np.array(TEMPERATURES), BLUE, "o", f"annealing, {CHAINS} chains",
        ),
    ):  # fmt: skip
        off = [float(each.log_likelihood[0]) - evidence() for each in found]
        ax.errorbar(passes, off, [2 * float(each.stderr[0]) for each in found], color=colour, marker=marker,
                    markersize=5, linewidth=1.5, capsize=3, label=label)  # fmt: skip
    ax.axhline(0, color=INK, linewidth=1.3)
    ax.axhline(math.log(0.5), color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)), label="log ½: half the mass")
    ax.set(xscale="log", ylim=(-1.6, 1.3))
    legend(ax)


def _draw_sides(ax: Axes, seed: int) -> None:
    from vae_np.pictures.drawing import BLUE, INK, ORANGE, legend, style

    style(ax, "temperatures T", "mean estimate − log p(x) (nats)")
    found = [enclosed(seed, temperatures) for temperatures in TEMPERATURES]
    for side, colour, marker, label in (
        ("upper", ORANGE, "D", "reverse chains, from an exact draw"),
        ("lower", BLUE, "o", "forward chains, from the prior"),
    ):
        each = [getattr(one, side) for one in found]
        error = [2 * one.std(ddof=1) / math.sqrt(EXAMPLES) for one in each]
        ax.errorbar(TEMPERATURES, [one.mean() for one in each], error, color=colour, marker=marker, markersize=5,
                    linewidth=1.5, capsize=3, label=label)  # fmt: skip
    ax.axhline(0, color=INK, linewidth=1.3)
    ax.set(xscale="log", ylim=(-0.8, 1.5))
    legend(ax)
