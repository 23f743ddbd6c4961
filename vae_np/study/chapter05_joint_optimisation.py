"""Chapter 5: one objective for θ and λ, and gradients through a sample. Claims 17 to 21. [D15] [D16] [D17] [D18]"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vae_np._types import Array
from vae_np.distributions import full_normal_kl_forward, normal_sample
from vae_np.exact import enumeration, quadrature
from vae_np.exact.candidate_objectives import (
    arbitrary_expectation,
    single_point,
)
from vae_np.exact.decoder import Decoder
from vae_np.exact.inference import ELBO, Family, Rule, kl_to_posterior, maximise
from vae_np.exact.linear_gaussian import (
    LinearGaussian,
    expectation_maximisation,
    from_parameters,
    ppca_log_likelihood,
    to_parameters,
)
from vae_np.exact.nested_and_joint import Optimum, joint_ascent, nested_ascent
from vae_np.model import Architecture, initialise
from vae_np.study import chapter05_gradient_noise, models
from vae_np.study.claims import Claim, Result, at_least, at_most, equal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "θ and λ climb the same bound, together, along gradients that run through the sample."

CHAPTER = 5
ONE = Family("diagonal", 1)
FINE = Rule.trapezoid(1, 0.02)


@dataclass(frozen=True)
class Climbs:
    """The two plans from the same start: a linear-Gaussian model (`log_prob` after each nested step, and pPCA's best),
    and a logistic decoder whose posteriors no normal matches."""

    linear: tuple[Optimum, Optimum]
    log_prob: list[float]
    em: list[float]
    best: float
    logistic: tuple[Optimum, Optimum]
    ceiling: float


@dataclass(frozen=True)
class Picked:
    """A curved decoder with one latent, x (B, 5), q* of each as λ (B, 2), and log p(x) (B,)."""

    decoder: Decoder
    x: Array
    lam: Array
    bound: Array
    log_prob: Array

    @property
    def q(self) -> tuple[Array, Array]:
        """Means (B, 1) and Cholesky factors (B, 1, 1) of q*."""
        return ONE.unpack(self.lam)


def run(seed: int) -> Result:
    """Nested and joint climbs, the objectives that are no bounds, and the gradient estimators with their noise."""
    climbs, picked = _climbs(seed), _picked(seed)
    claims = [*_nested(climbs), *_single_z(picked, seed), *_arbitrary_r(picked, seed)]
    claims += [*_envelope(seed), *_same_optimum(climbs), *chapter05_gradient_noise.gradient_claims(seed)]
    figures = {
        "05-nested-and-joint": _climbs_figure(climbs),
        "05-which-z": _which_figure(picked),
        "05-gradient-noise": chapter05_gradient_noise.noise_figure(seed),
    }
    return Result(claims, figures)


# --- claims 17 and 20: nested and joint -----------------------------------------------------------------------------


def _climbs(seed: int) -> Climbs:
    random = models.generator(seed, CHAPTER)
    truth = LinearGaussian(random.standard_normal((4, 2)), random.standard_normal(4), 0.3)
    x = truth.sample(random.standard_normal((40, 2)), random.standard_normal((40, 4)))
    start = LinearGaussian(0.3 * random.standard_normal((4, 2)), np.zeros(4), 1.0)
    decoder, squares, log_prob = Decoder.of(*to_parameters(start)), Rule.gauss_hermite(2, 3), []

    def note(there: Decoder, _: Array) -> None:
        log_prob.append(float(from_parameters(there.arch, there.parameters).log_prob(x).mean()))

    linear = (
        nested_ascent(decoder, x, squares, kind="full", on_step=note),
        joint_ascent(decoder, x, squares, kind="full", tolerance=1e-7),
    )
    _, em = expectation_maximisation(start, x, steps=200, isotropic=True)
    logistic, images, share = _logistic(seed)
    rule = Rule.gauss_hermite(1, 40)
    both = nested_ascent(logistic, images, rule, weights=share), joint_ascent(logistic, images, rule, weights=share)
    return Climbs(linear, log_prob, em, ppca_log_likelihood(x, 2), both, float(share @ np.log(share)))


def _logistic(seed: int) -> tuple[Decoder, Array, Array]:
    """A start without hidden layers, all 16 images of four pixels, and their shares under another such decoder."""
    arch, random = Architecture(features=4, latent=1, hidden=()), models.generator(seed, CHAPTER, 1)
    truth = Decoder.of(arch, initialise(arch, seed=seed, dtype=np.float64))
    truth.parameters["decoder.out.weight"][...] = random.choice([-1, 1], 4) * random.uniform(0.8, 2.2, 4)
    start = Decoder.of(arch, initialise(arch, seed=seed + 1, dtype=np.float64))
    return start, enumeration.states(4).astype(np.float64), np.exp(enumeration.marginal(truth).log_prob)


def _nested(climbs: Climbs) -> list[Claim]:
    of_linear, of_logistic = climbs.linear[0], climbs.logistic[0]
    return [
        at_least(17, "solves of λ in one nested climb", of_logistic.solves, 2),
        equal(17, "λ solved anew: solves per θ that was tried", of_logistic.solves / of_logistic.evaluations, 1, 0),
        at_least(17, "steps of λ, over all 16 x, for one gradient in θ",
                 of_logistic.inner_steps / of_logistic.evaluations, 1),
        at_least(17, "Q holds the posterior: smallest rise of log p(x)", np.diff(climbs.log_prob).min(), 0, 1e-10),
        equal(17, "and where it ends, against pPCA's eigenvalues", climbs.log_prob[-1], climbs.best, 1e-6),
        equal(17, "bound − log p(x) along the way, the largest",
              np.abs(np.subtract(of_linear.trace[1:], climbs.log_prob)).max(), 0, 1e-8),
        at_least(17, "exact EM: smallest rise of log p(x)", np.diff(climbs.em).min(), 0, 1e-10),
        at_least(17, "Q lacks the posterior: smallest rise of the ELBO", np.diff(of_logistic.trace).min(), 0, 1e-10),
        at_least(17, "its ELBO: nats gained", of_logistic.trace[-1] - of_logistic.trace[0], 0.05),
    ]  # fmt: skip


def _same_optimum(climbs: Climbs) -> list[Claim]:
    (nested_linear, joint_linear), (nested_logistic, joint_logistic) = climbs.linear, climbs.logistic
    return [
        equal(20, "linear: joint optimum, against pPCA", joint_linear.elbo, climbs.best, 1e-4),
        equal(20, "linear: joint optimum, against nested", joint_linear.elbo, nested_linear.elbo, 1e-4),
        equal(20, "logistic: joint optimum, against nested", joint_logistic.elbo, nested_logistic.elbo, 1e-4),
        at_most(20, "logistic: that bound, against −H of the data", joint_logistic.elbo, climbs.ceiling),
        at_most(20, "logistic: nats that half the quadrature would change", joint_logistic.rule_error, 1e-6),
        equal(20, "solves of λ that joint needs", joint_logistic.solves, 1, 0),
    ]


def _envelope(seed: int) -> list[Claim]:
    """The derivative of F(θ) = Σ L(θ, λ*(θ)), λ* solved again at every θ, and the partial one at a fixed λ*."""
    decoder = models.drawn_decoder(Architecture(features=3, latent=1, hidden=(3,), activation="tanh"), seed, gain=2)
    bound = ELBO(decoder, enumeration.states(3).astype(np.float64), Rule.gauss_hermite(1, 20), ONE)
    here = maximise(bound, ONE.prior(8), tolerance=1e-10).lam
    _, _, partial = bound.parameter_gradient(here, np.ones(8))
    total, fixed = np.zeros_like(partial.flat), np.zeros_like(partial.flat)
    moved = 0.0
    for index in range(len(total)):
        for reach, share in ((1, 8), (-1, -8), (2, -1), (-2, 1)):
            flat = decoder.parameters.flat.copy()
            flat[index] += reach * 1e-3
            there = ELBO(decoder.moved(flat), bound.x, bound.rule, ONE)
            solved = maximise(there, here, tolerance=1e-10)
            total[index] += share * solved.elbo.sum() / 12e-3
            fixed[index] += share * there.value_and_gradient(here, np.arange(8))[0].sum() / 12e-3
            moved = max(moved, float(np.abs(solved.lam - here).max()))
    scale = np.abs(partial.flat).max()
    return [
        equal(20, "dF/dθ with λ re-solved − ∂L/∂θ at λ*, share", np.abs(total - partial.flat).max() / scale, 0, 1e-6),
        equal(20, "the same with λ held still", np.abs(fixed - partial.flat).max() / scale, 0, 1e-6),
        at_least(20, "though λ* moved, the farthest by", moved, 1e-5),
    ]


# --- claims 18 and 19: which z? -------------------------------------------------------------------------------------


def _picked(seed: int) -> Picked:
    arch = Architecture(features=5, latent=1, hidden=(6,), activation="tanh")
    decoder = models.drawn_decoder(arch, seed, gain=3)
    x = models.generator(seed, CHAPTER, 2).permutation(enumeration.states(5))[:6].astype(np.float64)
    solved = maximise(ELBO(decoder, x, Rule.trapezoid(1, 0.1), ONE), ONE.prior(6), tolerance=1e-9)
    bound, _ = ELBO(decoder, x, FINE, ONE).value_and_gradient(solved.lam, np.arange(6))
    # The least normal of the six comes first: it is the one that the figure shows.
    log_prob = quadrature.log_likelihood(decoder, x, rule="trapezoid").log_prob
    order = np.argsort(bound - log_prob)
    return Picked(decoder, x[order], solved.lam[order], bound[order], log_prob[order])


def _single_z(found: Picked, seed: int) -> list[Claim]:
    mu, chol = found.q
    z = normal_sample(mu, 2 * np.log(chol[..., 0]), models.generator(seed, CHAPTER, 3).standard_normal((1000, 6, 1)))
    above = single_point(found.decoder, found.x, z, found.q) - found.log_prob
    off, error = above.mean(axis=0) - (found.bound - found.log_prob), above.std(axis=0) / np.sqrt(1000)
    # At the nodes of a grid the excess is log p(z|x) − log q*(z), with the posterior as the grid has it.
    grid = quadrature.posterior(found.decoder, found.x, rule="trapezoid")
    near = np.abs(grid.nodes[:, 0]) < 4
    nodes = grid.nodes[near]
    objective = single_point(found.decoder, found.x, np.broadcast_to(nodes[:, None], (len(nodes), 6, 1)), found.q)
    spacing = grid.nodes[1, 0] - grid.nodes[0, 0]
    scale = chol[:, 0, 0]
    log_q = -0.5 * ((nodes - mu[:, 0]) / scale) ** 2 - np.log(scale * np.sqrt(2 * np.pi))
    excess = np.log(grid.weights[:, near].T / spacing) - log_q
    return [
        at_least(18, "spread over z ~ q*, standard deviation, largest of 6 x", above.std(axis=0).max(), 0.05),
        at_least(18, "share of z for which it exceeds log p(x)", (above > 0).mean(), 0.1),
        at_least(18, "and by how much, the largest", above.max(), 0.02),
        at_most(18, "|mean over z ~ q* − ELBO|, in standard errors, worst x", (np.abs(off) / error).max(), 4),
        equal(18, "excess − (log p(z|x) − log q*(z)), largest on a grid",
              np.abs(objective - found.log_prob - excess).max(), 0, 1e-9),
    ]  # fmt: skip


def _between(r: tuple[Array, Array], q: tuple[Array, Array]) -> Array:
    """D(r ‖ q) of normals (B,): that of r seen from q, where q is the standard normal. [D23]"""
    mean = np.linalg.solve(q[1], (r[0] - q[0])[..., None])[..., 0]
    return full_normal_kl_forward(mean, np.linalg.solve(q[1], r[1]))[0]


def _arbitrary_r(found: Picked, seed: int) -> list[Claim]:
    random = models.generator(seed, CHAPTER, 4)
    worst, highest = 0.0, -np.inf
    for mu, sigma in zip(random.uniform(-3, 3, 40), random.uniform(0.1, 2, 40), strict=True):
        lam = ONE.diagonal(np.full((6, 1), mu), np.full((6, 1), 2 * np.log(sigma)))
        r = ONE.unpack(lam)
        value = arbitrary_expectation(found.decoder, found.x, r, found.q, FINE.eps, FINE.weights)
        to_posterior = kl_to_posterior(found.decoder, found.x, found.log_prob, ONE, lam, spacing=0.03)
        worst = max(worst, float(np.abs(value - found.log_prob - _between(r, found.q) + to_posterior).max()))
        highest = max(highest, float((value - found.log_prob).max()))
    at_q = arbitrary_expectation(found.decoder, found.x, found.q, found.q, FINE.eps, FINE.weights)
    # The posterior itself as r: an upper bound on log p(x), by the posterior's own grid.
    grid = quadrature.posterior(found.decoder, found.x, rule="trapezoid")
    stacked = np.broadcast_to(grid.nodes[:, None], (len(grid.nodes), 6, 1))
    at_posterior = (grid.weights.T * single_point(found.decoder, found.x, stacked, found.q)).sum(axis=0)
    return [
        equal(19, "E_r[…] − log p(x) − D(r‖q*) + D(r‖posterior), 40 r", worst, 0, 1e-8),
        at_least(19, "an r that exceeds log p(x), by", highest, 0.1),
        at_least(19, "r = posterior: excess over log p(x), smallest", (at_posterior - found.log_prob).min(), 0.0),
        at_most(19, "r = q*: excess over log p(x), largest", (at_q - found.log_prob).max(), 0.0),
        equal(19, "r = q*: difference from the ELBO", np.abs(at_q - found.bound).max(), 0, 1e-8),
    ]


# --- the figures ----------------------------------------------------------------------------------------------------


def _climbs_figure(climbs: Climbs) -> Figure:
    from vae_np.pictures.drawing import blank_figure, head

    figure = blank_figure(1320, 480)
    hill, linear, logistic = figure.subplots(1, 3, width_ratios=(1.15, 1, 1))
    _draw_hill(hill)
    _draw_traces(linear, climbs.linear, climbs.best, "log p(x) of the best pPCA − bound (nats)")
    top = max(optimum.elbo for optimum in climbs.logistic)
    _draw_traces(logistic, climbs.logistic, top, "best bound found − bound (nats)")
    head(hill, "One weight w, one mean μ")
    head(linear, "Q holds the posterior")
    head(logistic, "Q does not hold it")
    return figure


def _hill_paths(w: float, x: float, noise: float, rate: float) -> tuple[Array, Array]:
    """Gradient ascent on L(w, μ), q's variance at its best: (steps, 2) nested (μ re-solved each step) and joint."""
    arch, _ = to_parameters(LinearGaussian(np.array([[w]]), np.zeros(1), noise))
    paths = []
    for solving in (True, False):
        at, path = np.array([w, 0.0]), []
        for _ in range(120):
            model = LinearGaussian(at[:1, None], np.zeros(1), noise)
            decoder = Decoder.of(arch, to_parameters(model)[1])
            data = np.array([[x]])
            mean, variances, _ = model.best_diagonal(data)
            path.append(at.copy())
            if solving and abs(at[1] - mean[0, 0]) > 1e-6:
                at = np.array([at[0], mean[0, 0]])
                continue
            lam = ONE.diagonal(at[1:, None], np.log(variances)[None])
            _, dlam, dtheta = ELBO(decoder, data, Rule.gauss_hermite(1, 3), ONE).parameter_gradient(lam, np.ones(1))
            at = at + rate * np.array([dtheta["decoder.out.weight"][0, 0], 0.0 if solving else dlam[0, 0]])
        paths.append(np.array(path))
    return paths[0], paths[1]


def _draw_hill(ax: Axes) -> None:
    from vae_np.pictures.drawing import BLUE, FRAME, INK, MUTED, ORANGE, style

    x, noise = 2.0, 0.5
    style(ax, "model: weight w in x = w z + noise", "inference: mean μ of q")
    weights, means = np.linspace(0.15, 2.6, 121), np.linspace(-0.2, 1.9, 141)
    height, ridge = np.empty((len(means), len(weights))), np.empty(len(weights))
    for i, w in enumerate(weights):
        model = LinearGaussian(np.array([[w]]), np.zeros(1), noise)
        best, variances, _ = model.best_diagonal(np.array([[x]]))
        ridge[i] = best[0, 0]
        data = np.full((len(means), 1), x)
        height[:, i] = model.elbo(data, means[:, None], np.diag(variances))
    levels = height.max() - np.array([12, 8, 5.5, 4, 3, 2.2, 1.6, 1.1, 0.7, 0.4, 0.2, 0.07])
    ax.contour(weights, means, height, levels=levels, colors=[FRAME], linewidths=0.9, linestyles="solid")
    ax.grid(visible=False)
    ax.plot(weights, ridge, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)), label="λ*(θ): the best μ for each w")
    apart, together = _hill_paths(0.4, x, noise, 0.05)
    ax.plot(apart[:, 0], apart[:, 1], color=ORANGE, marker="o", markersize=3, linewidth=1.4, label="nested: re-solve μ")
    ax.plot(together[:, 0], together[:, 1], color=BLUE, marker="o", markersize=3, linewidth=1.4,
            label="joint: a step in both at once")  # fmt: skip
    ax.plot(apart[:1, 0], apart[:1, 1], marker="s", markersize=7, color=INK, linestyle="none")
    ax.set_xlim(weights[0], weights[-1])
    ax.set_ylim(means[0], means[-1])
    ax.legend(loc="lower right", fontsize=8.5, frameon=True, framealpha=0.9, edgecolor="none")


def _draw_traces(ax: Axes, both: tuple[Optimum, Optimum], top: float, y: str) -> None:
    from vae_np.pictures.drawing import BLUE, ORANGE, style

    style(ax, "θ steps", y)
    for optimum, colour, name in zip(both, (ORANGE, BLUE), ("nested", "joint"), strict=True):
        below = top - np.array(optimum.trace)
        shown = below > 1e-11
        steps = round(optimum.inner_steps / len(optimum.lam))
        solves = f"{optimum.solves} solve{'s' if optimum.solves > 1 else ''}, {steps} steps of each λ"
        ax.plot(np.flatnonzero(shown), below[shown], color=colour, linewidth=1.8, label=f"{name}: {solves}")
    ax.set_yscale("log")
    ax.set_ylim(1e-11, 1e3)
    ax.legend(loc="upper right", fontsize=8.5, frameon=False)


def _which_figure(found: Picked) -> Figure:
    from vae_np.pictures.drawing import blank_figure, head

    figure = blank_figure(1180, 480)
    single, arbitrary = figure.subplots(1, 2, width_ratios=(1, 1.1))
    _draw_single(single, found)
    _draw_arbitrary(arbitrary, found)
    head(single, "A single z: below log p(x), or above it")
    head(arbitrary, "z ~ r = N(m, s²): E_r[…] − log p(x)")
    return figure


def _draw_single(ax: Axes, found: Picked) -> None:
    from vae_np.pictures.drawing import BLUE, INK, MUTED, ORANGE, number, style

    style(ax, "z", "nats")
    mu, chol = found.q
    z = np.linspace(mu[0, 0] - 3.2 * chol[0, 0, 0], mu[0, 0] + 3.2 * chol[0, 0, 0], 400)
    stacked = np.broadcast_to(z[:, None, None], (400, 6, 1))
    height = single_point(found.decoder, found.x, stacked, found.q)[:, 0]
    evidence, bound = found.log_prob[0], found.bound[0]
    ax.axhline(evidence, color=INK, linewidth=1.4, label=f"log p(x) = {number(evidence, 3)}")
    ax.plot(z, height, color=BLUE, linewidth=1.8, label="log p(x, z) − log q*(z)")
    ax.fill_between(z, evidence, height, where=(height > evidence).tolist(), color=ORANGE, alpha=0.25, linewidth=0,
                    label="no bound: above log p(x)")  # fmt: skip
    ax.axhline(bound, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)),
               label=f"its mean over q*, the ELBO = {number(bound, 3)}")  # fmt: skip
    span = 2.5 * np.std(single_point(found.decoder, found.x, stacked[60:-60], found.q)[:, 0])
    ax.set_ylim(evidence - 1.5 * span, evidence + 1.5 * span)
    density = np.exp(-0.5 * ((z - mu[0, 0]) / chol[0, 0, 0]) ** 2)
    low = evidence - 1.5 * span
    ax.fill_between(z, low, low + 0.5 * span * density, color=MUTED, alpha=0.2, linewidth=0, label="q*, not to scale")
    ax.legend(loc="upper right", fontsize=8.5, frameon=True, framealpha=0.9, edgecolor="none")


def _draw_arbitrary(ax: Axes, found: Picked) -> None:
    from matplotlib.colors import SymLogNorm

    from vae_np.pictures.drawing import INK, style, style_bar

    style(ax, "mean m of r", "standard deviation s of r")
    mu, chol = found.q
    centre, scale = mu[0, 0], chol[0, 0, 0]
    means, deviations = centre + scale * np.linspace(-3, 3, 61), scale * np.linspace(0.05, 2, 49)
    rule, height = Rule.trapezoid(1, 0.15), np.empty((49, 61))
    x = np.repeat(found.x[:1], 61, axis=0)
    q = np.repeat(mu[:1], 61, axis=0), np.repeat(chol[:1], 61, axis=0)
    for i, deviation in enumerate(deviations):
        r = means[:, None], np.full((61, 1, 1), deviation)
        height[i] = arbitrary_expectation(found.decoder, x, r, q, rule.eps, rule.weights) - found.log_prob[0]
    reach = np.abs(height).max()
    colours = ax.pcolormesh(means, deviations, height, cmap="RdBu_r", norm=SymLogNorm(0.05, vmin=-reach, vmax=reach),
                            shading="gouraud")  # fmt: skip
    ax.contour(means, deviations, height, levels=[0.0], colors=[INK], linewidths=1.4)
    ax.plot((centre,), (scale,), marker="o", markersize=9, color="white", markeredgecolor=INK, linestyle="none",
            label="r = q*: the ELBO, always below")  # fmt: skip
    ax.grid(visible=False)
    style_bar(ax.figure.colorbar(colours, ax=ax, ticks=(-1, -0.1, 0, 0.1, 1), format="%g"), "nats above log p(x)")
    ax.legend(loc="upper right", fontsize=8.5, frameon=True, framealpha=0.9, edgecolor="none")
