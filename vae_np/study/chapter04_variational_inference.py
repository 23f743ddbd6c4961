"""Chapter 4: the best substitute for the posterior, and the bound that finds it. Claims 11 to 16. [D11] [D12]"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vae_np._types import Array
from vae_np.distributions import normal_log_prob_backward, normal_log_prob_forward
from vae_np.exact import enumeration, quadrature
from vae_np.exact.decoder import Decoder
from vae_np.exact.inference import (
    ELBO,
    ClosedFormELBO,
    Family,
    Rule,
    Solution,
    forward_kl_optimum,
    kl_to_posterior,
    maximise,
)
from vae_np.exact.linear_gaussian import LinearGaussian, to_parameters
from vae_np.model import Architecture, initialise
from vae_np.study import models
from vae_np.study.claims import Claim, Result, at_least, at_most, equal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "The ELBO is log p(x) less the divergence to the posterior, so climbing it finds the best q."

CHAPTER = 4
FULL, DIAGONAL, ONE = Family("full", 2), Family("diagonal", 2), Family("diagonal", 1)
# Of a linear decoder the integrand is a square, for which three nodes an axis are exact.
SQUARES = Rule.gauss_hermite(2, 3)
# What x = |z| + noise is observed as: z is then about 1.5, or about −1.5.
FOLDED_X = 1.5


@dataclass(frozen=True)
class Tilted:
    """A linear-Gaussian model of two latents that compensate each other, data x (N, 4), and λ* in both families."""

    model: LinearGaussian
    x: Array
    full: Solution
    diagonal: Solution


def run(seed: int) -> Result:
    """λ* against the closed forms, both directions of the divergence, and the bound's identity by quadrature."""
    tilted = _tilted(seed)
    claims = [*_the_optimum(tilted, seed), *_two_directions(tilted), *_full_covariance(tilted, seed)]
    claims += [*_depends_on_x(tilted, seed), *_gradients_and_identity(seed)]
    figures = {"04-bound-touches-evidence": _bound_figure(tilted), "04-two-directions": _directions_figure(tilted)}
    return Result(claims, figures)


def _tilted(seed: int) -> Tilted:
    random = models.generator(seed, CHAPTER)
    shared = random.standard_normal((4, 1))
    weight = 1.5 * shared / np.linalg.norm(shared) * np.array([1.0, 0.8]) + 0.3 * random.standard_normal((4, 2))
    model = LinearGaussian(weight, random.standard_normal(4), 0.4)
    x = model.sample(random.standard_normal((12, 2)), random.standard_normal((12, 4)))
    decoder = Decoder.of(*to_parameters(model))
    full, diagonal = (
        maximise(ELBO(decoder, x, SQUARES, family), family.prior(len(x)), tolerance=1e-8) for family in (FULL, DIAGONAL)
    )
    return Tilted(model, x, full, diagonal)


def _curved(seed: int, *, latent: int = 1) -> Decoder:
    """A decoder with a hidden layer, whose posteriors are no normals."""
    return models.drawn_decoder(Architecture(features=4, latent=latent, hidden=(6,), activation="tanh"), seed, gain=2)


# --- claim 11: argmin D(q ‖ p(z|x)) ---------------------------------------------------------------------------------


def _the_optimum(found: Tilted, seed: int) -> list[Claim]:
    mean, variances, gap = found.model.best_diagonal(found.x)
    solved = np.diagonal(found.diagonal.covariance, axis1=1, axis2=2)
    left = found.model.log_prob(found.x) - found.diagonal.elbo
    by_bound, by_divergence = _solved_twice(_curved(seed), np.array([[1.0, 1.0, 0.0, 0.0]]))
    return [
        equal(11, "diagonal q: |μ* − posterior mean|, climbing", np.abs(found.diagonal.mu - mean).max(), 0, 1e-6),
        equal(11, "diagonal q: |variances · Λⱼⱼ − 1|", np.abs(solved / variances - 1).max(), 0, 1e-6),
        equal(11, "its gap, log p(x) − ELBO: worst of 12 x", left[np.abs(left - gap).argmax()], gap, 1e-6),
        equal(11, "curved decoder: |argmax ELBO − argmin KL|", np.abs(by_bound - by_divergence).max(), 0, 1e-5),
    ]


def _solved_twice(decoder: Decoder, x: Array) -> tuple[Array, Array]:
    """λ* (2,) of one x: by climbing the ELBO along its gradient, and by shrinking the divergence without one."""
    from scipy import optimize  # type: ignore[import-untyped]

    by_bound = maximise(ELBO(decoder, x, Rule.trapezoid(1, 0.1), ONE), ONE.prior(1)).lam[0]
    log_prob = quadrature.posterior(decoder, x, rule="trapezoid").log_prob

    def divergence(lam: Array) -> float:
        return float(kl_to_posterior(decoder, x, log_prob, ONE, lam[None])[0])

    options = {"xatol": 1e-8, "fatol": 1e-15, "maxiter": 400}
    return by_bound, optimize.minimize(divergence, np.zeros(2), method="Nelder-Mead", options=options).x


# --- claim 12: the KL is not symmetric ------------------------------------------------------------------------------


def _two_directions(found: Tilted) -> list[Claim]:
    x, precision = found.x[:1], found.model.precision
    decoder = Decoder.of(*to_parameters(found.model))
    posterior = quadrature.posterior(decoder, x)
    reverse, forward = 1 / np.diag(precision), np.diag(np.linalg.inv(precision))
    climbed = np.exp(found.diagonal.lam[0, 2:])
    searched = np.exp(_forward_by_search(posterior)[2:])
    moments = np.exp(forward_kl_optimum(posterior, DIAGONAL)[0, 2:])
    folded, one_side, both = _folded()
    valley = np.abs(folded.nodes[:, 0]) < 0.5
    inside = folded.weights[0, valley].sum()
    claims = []
    for j in range(2):
        claims += [
            equal(12, f"reverse KL: variance {j + 1} is 1/Λⱼⱼ", climbed[j], reverse[j], 1e-6, relative=True),
            equal(12, f"forward KL: variance {j + 1} is (Λ⁻¹)ⱼⱼ", searched[j], forward[j], 1e-6, relative=True),
        ]
    return [
        *claims,
        equal(12, "forward KL: |search − posterior's moments|", np.abs(searched - moments).max(), 0, 1e-6),
        at_least(12, "variances, forward over reverse, the smaller ratio", (searched / climbed).min(), 1.05),
        at_most(12, "two modes: P(|z| < ½) of the posterior", inside, 0.02),
        at_most(12, "two modes: P(|z| < ½) of the reverse optimum", _central(one_side), 0.02),
        at_least(12, "two modes: P(|z| < ½) of the forward optimum", _central(both), 0.2),
    ]


def _forward_by_search(posterior: quadrature.GridPosterior) -> Array:
    """argmin D(p(z|x) ‖ q) over [μ, v] (2K,): the posterior's expectation of log q, climbed along its gradient. [D13]

    Only the nodes and weights of the posterior's grid know the posterior; a sampler would do, if there were one.
    """
    from scipy import optimize

    z, weights = posterior.nodes, posterior.weights[0]
    k = z.shape[1]

    def negative(lam: Array) -> tuple[float, Array]:
        value, cache = normal_log_prob_forward(z, np.broadcast_to(lam[:k], z.shape), lam[k:])
        _, dmu, dlogvar = normal_log_prob_backward(-weights, cache)
        return -float(weights @ value), np.concatenate([dmu.sum(axis=0), dlogvar])

    result = optimize.minimize(negative, np.zeros(2 * k), jac=True, method="BFGS", options={"gtol": 1e-9})
    return np.asarray(result.x)


def _folded_decoder() -> Decoder:
    """x = |z| + noise, nearly: softplus(4z)/4 + softplus(−4z)/4. From x one learns |z|, and nothing of the sign."""
    arch = Architecture(features=1, latent=1, hidden=(2,), activation="softplus", likelihood="normal-fixed", sigma=0.3)
    parameters = initialise(arch, seed=0, dtype=np.float64)
    parameters["decoder.hidden.0.weight"][...] = [[4.0, -4.0]]
    parameters["decoder.out.weight"][...] = 0.25
    for name in ("decoder.hidden.0.bias", "decoder.out.bias"):
        parameters[name][...] = 0
    return Decoder.of(arch, parameters)


def _folded() -> tuple[quadrature.GridPosterior, Array, Array]:
    """The folded posterior, and [μ, v] of the reverse optimum (of two: the right-hand one) and the forward one."""
    decoder, x = _folded_decoder(), np.array([[FOLDED_X]])
    posterior = quadrature.posterior(decoder, x, rule="trapezoid")
    start = ONE.diagonal(np.array([[1.0]]), np.array([[-1.0]]))
    reverse = maximise(ELBO(decoder, x, Rule.trapezoid(1, 0.1), ONE), start)
    return posterior, reverse.lam[0], _forward_by_search(posterior)


def _central(lam: Array) -> float:
    """P(|z| < ½) under N(μ, exp v)."""
    reach = math.sqrt(2) * math.exp(lam[1] / 2)
    return 0.5 * (math.erf((0.5 - lam[0]) / reach) + math.erf((0.5 + lam[0]) / reach))


# --- claims 13 and 14: a full covariance; λ* depends on x -----------------------------------------------------------


def _full_covariance(found: Tilted, seed: int) -> list[Claim]:
    random = models.generator(seed, CHAPTER, 1)
    larger = LinearGaussian(random.standard_normal((8, 5)), np.zeros(8), random.uniform(0.3, 1.0, 8))
    x = larger.sample(random.standard_normal((20, 5)), random.standard_normal((20, 8)))
    family = Family("full", 5)
    solved = maximise(ClosedFormELBO(larger, x, family), family.prior(20), tolerance=1e-8)
    gap = np.abs(found.model.log_prob(found.x) - found.full.elbo).max()
    kl = np.abs(found.model.kl_to_posterior(found.x, found.full.mu, found.full.covariance)).max()
    kl_larger = np.abs(larger.kl_to_posterior(x, solved.mu, solved.covariance)).max()
    return [
        equal(13, "K = 5: numbers in λ, K + K(K+1)/2", solved.lam.shape[1], 20, 0),
        at_most(13, "K = 2, by quadrature: |log p(x) − ELBO|, worst x", gap, 1e-10),
        at_most(13, "K = 2: D(q* ‖ posterior), closed form", kl, 1e-10),
        at_most(13, "K = 5: |log p(x) − ELBO|", np.abs(larger.log_prob(x) - solved.elbo).max(), 1e-10),
        at_most(13, "K = 5: D(q* ‖ posterior), closed form", kl_larger, 1e-10),
    ]


def _depends_on_x(found: Tilted, seed: int) -> list[Claim]:
    model, x = found.model, found.x
    moved = found.full.mu - found.full.mu[0]
    # Λ (μ₂ − μ₁) = WᵀΨ⁻¹ (x₂ − x₁), without the posterior's own formula.
    expected = np.linalg.solve(model.precision, model.weight.T @ np.linalg.solve(model.psi, (x - x[0]).T)).T
    covariance = found.full.covariance
    images = enumeration.states(4).astype(np.float64)
    curved = maximise(ELBO(_curved(seed), images, Rule.gauss_hermite(1, 30), ONE), ONE.prior(16))
    deviations = np.exp(0.5 * curved.lam[:, 1])
    return [
        at_least(14, "|μ*(x₂) − μ*(x₁)|, the largest of 12 x", np.abs(moved).max(), 0.5),
        equal(14, "and its difference from Λ⁻¹WᵀΨ⁻¹(x₂ − x₁)", np.abs(moved - expected).max(), 0, 1e-6),
        equal(14, "linear: change of the covariance with x", np.abs(covariance - covariance[0]).max(), 0, 1e-6),
        at_least(14, "curved: largest σ* over smallest, 16 x", deviations.max() / deviations.min(), 1.05),
    ]


# --- claims 15 and 16: log p(x) is constant in λ, and above the bound -----------------------------------------------


def _gradients_and_identity(seed: int) -> list[Claim]:
    decoder, random = _curved(seed), models.generator(seed, CHAPTER, 2)
    mu, sigma = random.uniform(-3, 3, (100, 1)), random.uniform(0.1, 2, (100, 1))
    x = np.repeat(random.integers(0, 2, (1, 4)).astype(np.float64), 100, axis=0)
    lam = ONE.diagonal(mu, 2 * np.log(sigma))
    bound, gradient = ELBO(decoder, x, Rule.trapezoid(1, 0.02), ONE).value_and_gradient(lam, np.arange(100))
    log_prob = quadrature.posterior(decoder, x[:1], rule="trapezoid").log_prob[0]
    divergence, slope = _divergence(decoder, x[0], lam)
    return [
        equal(15, "|∇KL + ∇ELBO|, the largest at 100 λ", np.abs(slope + gradient).max(), 0, 1e-10),
        at_least(15, "where the largest slope is", np.abs(gradient).max(), 1.0),
        equal(16, "|ELBO + KL − log p(x)|, the largest at 100 λ", np.abs(bound + divergence - log_prob).max(), 0, 1e-8),
        at_most(16, "the highest ELBO, against log p(x)", bound.max(), log_prob),
        at_least(16, "the smallest KL", divergence.min(), 0.0),
    ]


def _divergence(decoder: Decoder, x: Array, lam: Array) -> tuple[Array, Array]:
    """D(q_λ ‖ p(z|x)) (N,) and its gradient in λ = [μ, v] (N, 2) for one x, with neither ELBO nor log p(x) at hand.

    The posterior is p(x, z) on a lattice, divided by its own sum; ∇ D = E_q[∇ log q · (log q − log p(z|x))].
    """
    z, spacing = np.linspace(-24, 24, 12_001, retstep=True)
    log_joint = decoder.log_joint_matrix(x[None], z[:, None])[0]
    mass = np.exp(log_joint - log_joint.max())
    log_posterior = log_joint - log_joint.max() - math.log(mass.sum() * spacing)
    value, gradient = np.empty(len(lam)), np.empty_like(lam)
    for i, (mu, logvar) in enumerate(lam):
        log_q, cache = normal_log_prob_forward(z[:, None], np.full((len(z), 1), mu), np.array([logvar]))
        share = spacing * np.exp(log_q)
        excess = log_q - log_posterior
        value[i] = share @ excess
        _, dmu, dlogvar = normal_log_prob_backward(share * excess, cache)
        gradient[i] = dmu.sum(), dlogvar[0]
    return value, gradient


# --- the figures ----------------------------------------------------------------------------------------------------


def _bound_figure(found: Tilted) -> Figure:
    from vae_np.pictures.drawing import blank_figure, head

    figure = blank_figure(1180, 480)
    climb, meet = figure.subplots(1, 2, width_ratios=(1.15, 1))
    x = found.x[:1]
    decoder = Decoder.of(*to_parameters(found.model))
    paths = {
        family.kind: [
            maximise(ELBO(decoder, x, SQUARES, family), family.prior(1), iterations=steps) for steps in range(13)
        ]
        for family in (FULL, DIAGONAL)
    }
    _draw_climb(climb, found, paths)
    _draw_meeting(meet, found, paths["full"])
    head(climb, "The bound climbs to the evidence")
    head(meet, "… and q becomes the posterior")
    return figure


def _draw_climb(ax: Axes, found: Tilted, paths: dict[str, list[Solution]]) -> None:
    from vae_np.pictures.drawing import BLUE, INK, ORANGE, legend, number, style

    style(ax, "steps of the solver", "nats")
    evidence = float(found.model.log_prob(found.x[:1])[0])
    gap = found.model.best_diagonal(found.x[:1])[2]
    heights = {kind: [float(at.elbo[0]) for at in path] for kind, path in paths.items()}
    steps = np.arange(len(heights["full"]))
    ax.axhline(evidence, color=INK, linewidth=1.4)
    ax.text(steps[-1], evidence + 0.02, f"log p(x) = {number(evidence)}", ha="right", fontsize=9, color=INK)
    for kind, colour, label in (("full", BLUE, "ELBO, full covariance"), ("diagonal", ORANGE, "ELBO, diagonal")):
        ax.plot(steps, heights[kind], color=colour, marker="o", markersize=4, linewidth=1.8, label=label)
    ax.fill_between(steps, heights["full"], evidence, color=BLUE, alpha=0.1, linewidth=0,
                    label="slack = D(q ‖ p(z|x))")  # fmt: skip
    ax.annotate("", (steps[-1] - 0.5, evidence), (steps[-1] - 0.5, evidence - gap),
                arrowprops={"arrowstyle": "<->", "color": ORANGE, "shrinkA": 0, "shrinkB": 0})  # fmt: skip
    ax.text(steps[-1] - 0.7, evidence - gap / 2, f"{number(gap, 3)} nats that no\ndiagonal q recovers", ha="right",
            va="center", fontsize=8.5, color=ORANGE)  # fmt: skip
    # The first steps lie far below and would squeeze the end, which is what matters.
    ax.set_ylim(evidence - 6 * gap, evidence + 0.7 * gap)
    legend(ax)


def _ellipse(mean: Array, covariance: Array, reach: float) -> tuple[Array, Array]:
    turn = np.linspace(0, 2 * np.pi, 181)
    points = mean[:, None] + reach * np.linalg.cholesky(covariance) @ np.stack([np.cos(turn), np.sin(turn)])
    return points[0], points[1]


def _draw_posterior(ax: Axes, found: Tilted) -> None:
    """The posterior of the first x as shades, with room for two and a half standard deviations."""
    mean, covariance = found.model.posterior(found.x[:1])
    reach = 2.9 * math.sqrt(np.diag(covariance).max())
    first, second = (np.linspace(mean[0, j] - reach, mean[0, j] + reach, 161) for j in range(2))
    z = np.stack(np.meshgrid(first, second), axis=-1).reshape(-1, 2)
    density = np.exp(found.model.posterior_log_prob(found.x[:1], z)).reshape(161, 161)
    ax.pcolormesh(first, second, density, cmap="Greys", vmax=1.6 * density.max(), shading="gouraud", zorder=0)
    ax.grid(visible=False)
    ax.set_aspect("equal")


def _draw_meeting(ax: Axes, found: Tilted, path: list[Solution]) -> None:
    import matplotlib

    from vae_np.pictures.drawing import MUTED, style

    style(ax, "z₁", "z₂")
    _draw_posterior(ax, found)
    limits = ax.get_xlim(), ax.get_ylim()
    shown = (0, 1, 2, 3, 12)
    colours = matplotlib.colormaps["viridis_r"](np.linspace(0.1, 0.95, len(shown)))
    for steps, colour in zip(shown, colours, strict=True):
        at = path[steps]
        label = "start: the prior" if steps == 0 else f"after {steps} step{'s' if steps > 1 else ''}"
        ax.plot(*_ellipse(at.mu[0], at.covariance[0], 1.5), color=colour, linewidth=1.8, label=label)
    ax.set_xlim(limits[0])
    ax.set_ylim(limits[1])
    said = "shades: the posterior\nlines: q at 1.5 standard\ndeviations"
    ax.text(1.04, 0.02, said, transform=ax.transAxes, fontsize=8, color=MUTED)
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize=8.5, frameon=False)


def _directions_figure(found: Tilted) -> Figure:
    from vae_np.pictures.drawing import blank_figure, head

    figure = blank_figure(1180, 480)
    tilted, folded = figure.subplots(1, 2, width_ratios=(1, 1.15))
    _draw_directions(tilted, found)
    _draw_folded(folded)
    head(tilted, "A tilted posterior, two diagonal q")
    head(folded, "Two modes, one normal: x = |z| + noise")
    return figure


def _draw_directions(ax: Axes, found: Tilted) -> None:
    from vae_np.pictures.drawing import BLUE, GREEN, MUTED, ORANGE, style

    style(ax, "z₁", "z₂")
    _draw_posterior(ax, found)
    mean, covariance = found.model.posterior(found.x[:1])
    forward = np.diag(np.diag(covariance))
    for middle, spread, colour, label in (
        (mean[0], covariance, BLUE, "full covariance: the posterior"),
        (found.diagonal.mu[0], found.diagonal.covariance[0], ORANGE, "min D(q ‖ p): variances 1/Λⱼⱼ"),
        (mean[0], forward, GREEN, "min D(p ‖ q): variances (Λ⁻¹)ⱼⱼ"),
    ):
        ax.plot(*_ellipse(middle, spread, 1.5), color=colour, linewidth=1.8, label=label)
    ax.text(0.02, 0.02, "lines: 1.5 standard deviations", transform=ax.transAxes, fontsize=8, color=MUTED)
    low, high = ax.get_ylim()
    ax.set_ylim(low, high + 0.15 * (high - low))
    ax.legend(loc="upper right", fontsize=8.5, frameon=True, framealpha=0.9, edgecolor="none")


def _draw_folded(ax: Axes) -> None:
    from vae_np.pictures.drawing import GREEN, INK, ORANGE, style

    style(ax, f"z, given x = {FOLDED_X}", "density")
    posterior, reverse, forward = _folded()
    z = posterior.nodes[:, 0]
    shown = np.abs(z) < 4
    spacing = z[1] - z[0]
    ax.fill_between(z[shown], posterior.weights[0, shown] / spacing, color=INK, alpha=0.18, linewidth=0,
                    label="posterior p(z|x)")  # fmt: skip

    def density(lam: Array) -> Array:
        nodes = z[shown, None]
        return np.exp(normal_log_prob_forward(nodes, np.full_like(nodes, lam[0]), lam[1:])[0])

    other = reverse * np.array([-1.0, 1.0])
    ax.plot(z[shown], density(reverse), color=ORANGE, linewidth=1.8, label="min D(q ‖ p), from a start at z = 1")
    ax.plot(z[shown], density(other), color=ORANGE, linewidth=1.3, linestyle=(0, (4, 3)), label="the other one")
    ax.plot(z[shown], density(forward), color=GREEN, linewidth=1.8, label="min D(p ‖ q): the posterior's moments")
    ax.set_ylim(0, 1.75 * density(reverse).max())
    ax.legend(loc="upper center", fontsize=8.5, frameon=False)
