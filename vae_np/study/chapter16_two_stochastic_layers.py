"""Chapter 16: two stochastic layers, whose gap has two parts and whose prior is no normal any more. [D59] [D61]"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from vae_np import ops
from vae_np._types import Array
from vae_np.architecture import Architecture
from vae_np.elbo import elbo_forward
from vae_np.evaluation.annealing import Annealing, Target, log_weights
from vae_np.evaluation.importance import importance_log_likelihood
from vae_np.exact.inference import Rule
from vae_np.exact.layered_gaussian import LayeredGaussian, LinearNormal
from vae_np.model import Model, initialise
from vae_np.parameters import Parameters
from vae_np.study import models, plain
from vae_np.study.claims import Claim, in_errors, zero

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "A second layer splits the gap in two, and gives z a prior that is learned."

CHAPTER = 16
EXAMPLES, NODES = 5, 3
# How far q is from the best: factors on the slope of q(z₂|z₁)'s mean, 1 where it is right.
SLOPES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
DRAWS, COPIES = 40_000, 4000
PLACES = np.linspace(-4, 4, 17)


@cache
def linear(seed: int) -> tuple[LayeredGaussian, Array]:
    """A linear-normal model whose posteriors are diagonal, 4 features, 2 latents in each layer, and some x (5, 4)."""
    random = models.generator(seed, CHAPTER)
    orthogonal, _ = np.linalg.qr(random.standard_normal((4, 2)))
    model = LayeredGaussian(
        LinearNormal(orthogonal * [1.5, 0.7], random.standard_normal(4), np.full(4, 0.3)),
        LinearNormal(np.diag([1.2, -0.8]), random.standard_normal(2), np.array([0.5, 0.2])),
    )
    return model, 1.5 * random.standard_normal((EXAMPLES, 4))


@cache
def log_prob(seed: int) -> Array:
    """log p(x) (5,) of the joint normal of z₂, z₁ and x, whose covariance is made of three linear maps."""
    model, x = linear(seed)
    a, w = model.upper.weight, model.likelihood.weight
    # (z₂, z₁, x) = M (normals of z₂, of z₁, of x) + a constant.
    down = np.block([[np.eye(2), np.zeros((2, 6))], [a, np.diag(np.sqrt(model.upper.variances)), np.zeros((2, 4))]])
    last = np.hstack([np.zeros((4, 4)), np.diag(np.sqrt(model.likelihood.variances))])
    whole = np.vstack([down, w @ down[2:] + last])
    covariance, mean = (whole @ whole.T)[4:, 4:], w @ model.upper.bias + model.likelihood.bias
    values, vectors = np.linalg.eigh(covariance)
    return plain.log_normal((x - mean) @ vectors, 0.0, np.sqrt(values))


def other(model: LayeredGaussian, slope: float = 1.4) -> tuple[LinearNormal, LinearNormal]:
    """A q that is off in both layers; the mean of q(z₂|z₁) has `slope` times the right slope."""
    lower, upper = model.best()
    return (
        LinearNormal(0.9 * lower.weight, lower.bias + 0.1, 1.3 * lower.variances),
        LinearNormal(slope * upper.weight, upper.bias - 0.1, 0.7 * upper.variances),
    )


def elbo(seed: int, q: tuple[LinearNormal, LinearNormal]) -> Array:
    """The ELBO (5,), the mean of the code's terms over Gauss-Hermite nodes in ε: log w is a square in ε, so exact."""
    model, x = linear(seed)
    arch, parameters = model.to_parameters(*q)
    points, each = np.polynomial.hermite_e.hermegauss(NODES)
    eps = np.stack(np.meshgrid(*[points] * 4, indexing="ij"), axis=-1).reshape(-1, 4)
    weights = np.prod(np.meshgrid(*[each / each.sum()] * 4, indexing="ij"), axis=0).reshape(-1)
    found = []
    for row in x:
        _, cache = elbo_forward(ops, arch, parameters, np.tile(row, (len(eps), 1)), eps)
        log_q = plain.log_normal(eps[:, :2]) - 0.5 * cache.logvar.sum(axis=1)
        found.append(weights @ (cache.loglik + cache.log_prior - log_q))
    return np.array(found)


@cache
def curved(seed: int) -> Model:
    """One latent in each layer and a network between them that bends, for a p(z₁) of two heaps."""
    arch = Architecture(2, 1, (3,), "tanh", top_latent=1, top_hidden=(6,))
    parameters = Parameters(arch.shapes(), np.float64)
    parameters.assign(initialise(arch, seed=seed, dtype=np.float64))
    random = models.generator(seed, CHAPTER, 1)
    for name, view in parameters.items():
        if name.startswith("top."):
            view[...] = 0.3 * random.standard_normal(view.shape)
    # The mean of p(z₁|z₂) is a steep step, and its deviation about a half.
    parameters["top.decoder.hidden.0.weight"][0, 0] = 4.0
    parameters["top.decoder.mu.weight"][0, 0] = 1.5
    parameters["top.decoder.logvar.bias"][...] = -1.4
    # Wide enough for the rule in ε to see all of p(z₂|z₁).
    parameters["top.encoder.logvar.bias"][...] = 1.5
    return Model(ops, arch, parameters)


def prior_density(seed: int, z: Array) -> Array:
    """p(z₁) (M,) by Legendre sums over z₂, of networks written out once more."""
    p = curved(seed).parameters
    top, weights = plain.panels(np.array([-plain.EDGE]), np.array([plain.EDGE]), plain.GENTLE)
    h = np.tanh(top @ p["top.decoder.hidden.0.weight"] + p["top.decoder.hidden.0.bias"])
    mean, logvar = (h @ p[f"top.decoder.{end}.weight"] + p[f"top.decoder.{end}.bias"] for end in ("mu", "logvar"))
    weights = weights * np.exp(plain.log_normal(top))
    return np.exp(plain.log_normal(z[:, None, None], mean, np.exp(0.5 * logvar))) @ weights


def mean_weight(seed: int, z: Array) -> Array:
    """The mean over ε of exp(log p(z₁|z₂) + log p(z₂) − log q(z₂|z₁)), (M,), by the code's own draws of z₂."""
    model = curved(seed)
    upper = model.arch.upper
    assert upper is not None
    rule = Rule.trapezoid(1, 0.02)
    found = []
    for place in z:
        log_prior, _ = upper.log_prior_forward(ops, model.parameters, np.full_like(rule.eps, place), rule.eps)
        found.append(rule.weights @ np.exp(log_prior))
    return np.array(found)


@cache
def draws(seed: int) -> Array:
    """z₁ (40000,) of standard normals."""
    model = curved(seed)
    upper = model.arch.upper
    assert upper is not None
    normals = models.generator(seed, CHAPTER, 2).standard_normal((DRAWS, 2))
    return upper.draw_forward(ops, model.parameters, normals)[0][:, 0]


def _claim_33(seed: int) -> list[Claim]:
    """In a linear-normal model both posteriors are normals: with them as q every weight is p(x), and for another q the
    gap to log p(x) is the divergence in z₁ plus the mean divergence in z₂. [D61] [D62] Where the network between the
    layers bends, p(z₁) has no closed form, and the mean weight of the draws of z₂ is p(z₁) all the same. [D59] Chains
    in the normals of which the latents are made have the mean weight p(x). [D60]"""
    model, x = linear(seed)
    best, exact = model.best(), log_prob(seed)
    arch, parameters = model.to_parameters(*best)
    weighed = importance_log_likelihood(Model(ops, arch, parameters), x, np.arange(EXAMPLES), samples=3, seed=seed)
    blocks = "log N(x), the joint normal's block"
    rows = [
        zero(
            33, "linear-normal, exact q: log w − log p(x)", weighed.log_likelihood - exact, 1e-9,
            by=("three weights of the code", blocks),
        ),
    ]
    for name, q in (("both layers off", other(model)), ("z₂ off", (best[0], other(model)[1]))):
        below, above = model.gap(x, *q)
        rows.append(
            zero(
                33, f"linear-normal, {name}: log p(x) − ELBO − KL of z₁ − mean KL of z₂",
                exact - elbo(seed, q) - below - above, 1e-9,
                by=("the block's log N(x), terms at 81 Gauss-Hermite nodes", "two KLs in closed form"),
            )
        )  # fmt: skip
    below, _ = model.gap(x, best[0], other(model)[1])
    rows.append(
        zero(33, "linear-normal, z₂ off: KL of z₁", below, 1e-12, by=("KL in closed form", "q(z₁|x) is exact"))
    )
    density = prior_density(seed, PLACES)
    rows.append(
        zero(
            33, "curved: mean weight of z₂ − p(z₁), over the largest p(z₁)",
            (mean_weight(seed, PLACES) - density) / density.max(), 1e-6,
            by=("the code's weights over a rule in ε", "∫ p(z₁|z₂) p(z₂), Legendre sums"),
        )
    )  # fmt: skip
    share, expected = (draws(seed) < -1).mean(), _mass_below(seed, -1.0)
    rows.append(
        in_errors(
            33, "curved: share of draws with z₁ < −1, in std. errors", share, expected,
            np.sqrt(expected * (1 - expected) / DRAWS),
            by=("40,000 draws made of standard normals", "the density's mass, Legendre sums"),
        )
    )  # fmt: skip
    ratios = np.exp(_annealed(seed) - exact[0])
    rows.append(
        in_errors(
            33, "linear-normal: mean annealed weight over p(x), less 1, in std. errors", ratios.mean(), 1.0,
            ratios.std(ddof=1) / np.sqrt(COPIES), by=("4,000 chains of 6 temperatures in (u₁, z₂)", blocks),
        )
    )  # fmt: skip
    return rows


def _mass_below(seed: int, edge: float) -> float:
    z, weights = plain.panels(np.array([-10.0]), np.array([edge]), 40)
    return float(weights @ prior_density(seed, z[:, 0]))


def _annealed(seed: int) -> Array:
    """log w (4000,) of a short chain for each of many copies of the first x."""
    model, x = linear(seed)
    arch, parameters = model.to_parameters(*model.best())
    copies = np.repeat(x[:1], COPIES, axis=0)
    found, _ = log_weights(
        Target(Model(ops, arch, parameters), copies), np.arange(COPIES), np.full((5, COPIES), 0.4),
        Annealing(chains=1, temperatures=6, leapfrog=2), np.arange(1), seed=seed,
    )  # fmt: skip
    return found[0]


def notes(seed: int) -> list[str]:
    """The gap's parts for the q of the claim, and how far the learned prior is from a normal."""
    model, x = linear(seed)
    below, above = (part.mean() for part in model.gap(x, *other(model)))
    z = draws(seed)
    kurtosis = float(((z - z.mean()) ** 4).mean() / z.var() ** 2)
    return [
        f"Linear-normal, a q that is off in both layers: {below:.3f} nats of the gap lie in z₁, {above:.3f} in z₂.",
        f"The bent network's p(z₁) has a kurtosis of {kurtosis:.2f}, where every normal has 3.",
    ]


def figures(seed: int) -> dict[str, Figure]:
    """The gap in two parts, by formula and by the code; and a prior of two heaps, by sums and by draws."""
    from vae_np.pictures.drawing import blank_figure, head

    figure = blank_figure(1080, 440)
    gap, prior = figure.subplots(1, 2)
    _draw_gap(gap, seed)
    _draw_prior(prior, seed)
    head(gap, "The gap has two parts")
    head(prior, "A prior that is learned")
    return {"16-gap-and-prior": figure}


def _draw_gap(ax: Axes, seed: int) -> None:
    from vae_np.pictures.drawing import BLUE, INK, ORANGE, legend, style

    style(ax, "slope of q(z₂|z₁)'s mean, 1 is right", "mean gap (nats)")
    model, x = linear(seed)
    parts = np.array([[part.mean() for part in model.gap(x, *other(model, slope))] for slope in SLOPES])
    ax.fill_between(SLOPES, 0, parts[:, 0], color=BLUE, alpha=0.5, linewidth=0, label="KL of z₁")
    ax.fill_between(SLOPES, parts[:, 0], parts.sum(axis=1), color=ORANGE, alpha=0.5, linewidth=0, label="mean KL of z₂")
    found = [(log_prob(seed) - elbo(seed, other(model, slope))).mean() for slope in SLOPES]
    ax.plot(SLOPES, found, "o", color=INK, markersize=5, label="log p(x) − ELBO, by the code")
    ax.set_ylim(0, 1.35 * max(found))
    legend(ax)


def _draw_prior(ax: Axes, seed: int) -> None:
    from vae_np.pictures.drawing import BLUE, INK, MUTED, legend, style

    style(ax, "z₁", "density")
    z, found = np.linspace(-4, 4, 401), draws(seed)
    ax.hist(found, bins=80, range=(-4, 4), density=True, color=BLUE, alpha=0.45, label="40,000 draws")
    ax.plot(z, prior_density(seed, z), color=INK, linewidth=1.7, label="p(z₁), the integral over z₂")
    normal = np.exp(plain.log_normal(z[:, None], found.mean(), found.std()))
    ax.plot(z, normal, color=MUTED, linewidth=1.5, linestyle=(0, (4, 3)), label="the normal of the same moments")
    ax.set_ylim(0, 1.5 * float(prior_density(seed, z).max()))
    legend(ax)


CLAIMS: dict[int, Callable[[int], list[Claim]]] = {33: _claim_33}
