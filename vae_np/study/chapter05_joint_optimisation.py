"""Chapter 5: one objective for θ and λ, and gradients through a sample. Claims 17 to 21. [D15] [D16] [D17] [D18]"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from vae_np._types import Array
from vae_np.architecture import Architecture
from vae_np.distributions import full_normal_kl_forward, normal_sample
from vae_np.exact import enumeration, quadrature
from vae_np.exact.candidate_objectives import (
    arbitrary_expectation,
    single_point,
)
from vae_np.exact.decoder import Decoder
from vae_np.exact.inference import ELBO, Family, Rule, maximise
from vae_np.exact.linear_gaussian import (
    LinearGaussian,
    expectation_maximisation,
    from_parameters,
    ppca_log_likelihood,
    to_parameters,
)
from vae_np.exact.nested_and_joint import Optimum, joint_ascent, nested_ascent
from vae_np.model import initialise
from vae_np.study import chapter05_gradient_noise, models, plain
from vae_np.study.claims import Claim, at_least, at_most, equal, in_errors, zero

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "θ and λ climb the same bound, together, along gradients that run through the sample."

CHAPTER = 5
ONE = Family("diagonal", 1)
FINE = Rule.trapezoid(1, 0.02)


@dataclass(frozen=True)
class CountingRule(Rule):
    """A rule that keeps count of how many x the bound was evaluated for: every evaluation asks it for its points."""

    asked: list[int] = field(default_factory=list)

    def of(self, rows: Array) -> Array:
        """The points of these examples, (S, R, K)."""
        self.asked.append(len(rows))
        return super().of(rows)


@dataclass(frozen=True)
class Climb:
    """One climb: where it ended, the (θ, λ) after each of its steps in θ, and evaluations of the bound, one x each."""

    end: Optimum
    path: list[tuple[Decoder, Array]]
    asked: int


@dataclass(frozen=True)
class Climbs:
    """The two plans, nested first, from the same start: a linear-Gaussian model (with x (N, D), pPCA's best and a climb
    by exact EM), and a logistic decoder whose posteriors no normal matches (with x, their shares and −H of the data).

    `first_solve` is what it takes to solve for every λ once at the logistic start, in evaluations of one x's bound.
    """

    linear: tuple[Climb, Climb]
    x: Array
    em: list[float]
    best: float
    logistic: tuple[Climb, Climb]
    images: Array
    share: Array
    ceiling: float
    first_solve: int


@dataclass(frozen=True)
class Picked:
    """A curved decoder with one latent, x (B, 5), q* of each as λ (B, 2), its bound (B,), and log p(x) (B,) by
    Legendre sums."""

    decoder: Decoder
    x: Array
    lam: Array
    bound: Array
    log_prob: Array

    @property
    def q(self) -> tuple[Array, Array]:
        """Means (B, 1) and Cholesky factors (B, 1, 1) of q*."""
        return ONE.unpack(self.lam)


def figures(seed: int) -> dict[str, Figure]:
    """The two plans, the objectives that are no bounds, and the noise of the gradients."""
    return {
        "05-nested-and-joint": _climbs_figure(_climbs(seed)),
        "05-which-z": _which_figure(_picked(seed)),
        "05-gradient-noise": chapter05_gradient_noise.noise_figure(seed),
    }


def notes(seed: int) -> list[str]:
    """What a nested climb costs beside a joint one."""
    nested, joint = _climbs(seed).logistic
    return [
        f"Logistic decoder: the nested climb evaluated one x's bound {nested.asked:,} times, the joint one "
        f"{joint.asked:,} times.",
    ]


# --- claims 17 and 20: nested and joint -----------------------------------------------------------------------------


def _climb(plan: Callable[..., Optimum], decoder: Decoder, x: Array, rule: Rule, **settings: Any) -> Climb:
    counting, path = CountingRule(rule.eps, rule.weights, rule.coarser), []
    end = plan(decoder, x, counting, on_step=lambda there, lam: path.append((there, lam.copy())), **settings)
    return Climb(end, path, sum(counting.asked))


@cache
def _climbs(seed: int) -> Climbs:
    random = models.generator(seed, CHAPTER)
    truth = LinearGaussian(random.standard_normal((4, 2)), random.standard_normal(4), 0.3)
    x = truth.sample(random.standard_normal((40, 2)), random.standard_normal((40, 4)))
    start = LinearGaussian(0.3 * random.standard_normal((4, 2)), np.zeros(4), 1.0)
    decoder, squares = Decoder.of(*to_parameters(start)), Rule.gauss_hermite(2, 3)
    linear = (
        _climb(nested_ascent, decoder, x, squares, kind="full"),
        _climb(joint_ascent, decoder, x, squares, kind="full", tolerance=1e-7),
    )
    _, em = expectation_maximisation(start, x, steps=200, isotropic=True)
    logistic, images, share = _logistic(seed)
    rule = Rule.gauss_hermite(1, 40)
    both = tuple(_climb(plan, logistic, images, rule, weights=share) for plan in (nested_ascent, joint_ascent))
    once = CountingRule(rule.eps, rule.weights)
    maximise(ELBO(logistic, images, once, ONE), ONE.prior(16))
    return Climbs(
        linear, x, em, ppca_log_likelihood(x, 2), (both[0], both[1]), images, share, float(share @ np.log(share)),
        sum(once.asked),
    )  # fmt: skip


def _logistic(seed: int) -> tuple[Decoder, Array, Array]:
    """A start without hidden layers, all 16 images of four pixels, and their shares under another such decoder."""
    arch, random = Architecture(features=4, latent=1, hidden=()), models.generator(seed, CHAPTER, 1)
    truth = Decoder.of(arch, initialise(arch, seed=seed, dtype=np.float64))
    truth.parameters["decoder.out.weight"][...] = random.choice([-1, 1], 4) * random.uniform(0.8, 2.2, 4)
    start = Decoder.of(arch, initialise(arch, seed=seed + 1, dtype=np.float64))
    return start, enumeration.states(4).astype(np.float64), np.exp(enumeration.marginal(truth).log_prob)


def _log_probs(climb: Climb, x: Array) -> Array:
    """The mean of log N(x; b, WWᵀ + Ψ) after each step in θ of a climb in a linear-Gaussian model."""
    models_there = [from_parameters(there.arch, there.parameters) for there, _ in climb.path]
    return np.array([model.log_prob(x).mean() for model in models_there])


def _plain_bounds(climb: Climb, x: Array, share: Array) -> Array:
    """The weighted bound after each step in θ, one latent, by Legendre sums."""
    return np.array([
        share @ [plain.elbo(there, row, at[:1], np.exp(0.5 * at[1:])) for row, at in zip(x, lam, strict=True)]
        for there, lam in climb.path
    ])


def _off_posterior(climb: Climb, x: Array) -> float:
    """How far λ is from the posterior of its x at any θ of a climb in a linear-Gaussian model, the largest entry."""
    family, worst = Family("full", 2), 0.0
    for there, lam in climb.path:
        model = from_parameters(there.arch, there.parameters)
        precision = np.eye(2) + model.weight.T @ np.linalg.inv(model.psi) @ model.weight
        mean = np.linalg.solve(precision, model.weight.T @ np.linalg.solve(model.psi, (x - model.bias).T)).T
        worst = max(
            worst,
            float(np.abs(family.covariance(lam) - np.linalg.inv(precision)).max()),
            float(np.abs(lam[:, :2] - mean).max()),
        )
    return worst


def nested(seed: int) -> list[Claim]:
    """Claim 17: λ solved anew for every θ, and a likelihood, or a bound, that only rises."""
    climbs = _climbs(seed)
    linear, logistic = climbs.linear[0], climbs.logistic[0]
    log_probs, along = _log_probs(linear, climbs.x), _plain_bounds(logistic, climbs.images, climbs.share)
    each = (logistic.asked - climbs.first_solve) / (len(climbs.images) * logistic.end.evaluations)
    closed = "log N(x; b, WWᵀ + Ψ)"
    return [
        # One for the gradient and one where λ stands: a third is a step of λ.
        at_least(17, "bounds evaluated for each x and gradient in θ", each, 3,
                 by=("calls counted from outside, less the first solve", "gradients in θ, with a step of λ each")),
        zero(17, "λ at every θ − that θ's own posterior, largest", _off_posterior(linear, climbs.x), 1e-5,
             by=("λ after each step in θ", "the posterior of that θ in closed form")),
        at_least(17, "Q holds the posterior: smallest rise of log p(x)", np.diff(log_probs).min(), 0, 1e-10,
                 by=(f"{closed} after each step", "and before it")),
        equal(17, "and where it ends, against pPCA's eigenvalues", log_probs[-1], climbs.best, 1e-6,
              by=("a climb of the bound", "eigenvalues of the data's covariance")),
        zero(17, "bound − log p(x) along the way, the largest", np.array(linear.end.trace[1:]) - log_probs, 1e-8,
             by=("the decoder's bound, Gauss-Hermite", closed)),
        at_least(17, "exact EM: smallest rise of log p(x)", np.diff(climbs.em).min(), 0, 1e-10,
                 by=(f"{closed} after each step", "and before it")),
        equal(17, "and where EM ends, against pPCA's eigenvalues", climbs.em[-1], climbs.best, 1e-5,
              by=("steps in closed form", "eigenvalues of the data's covariance")),
        at_least(17, "Q lacks the posterior: smallest rise of the ELBO", np.diff(along).min(), 0, 1e-8,
                 by=("the bound by Legendre sums after each step", "and before it")),
    ]  # fmt: skip


def same_optimum(seed: int) -> list[Claim]:
    """Claim 20: the envelope theorem, and joint and nested climbs that end at the same height."""
    climbs = _climbs(seed)
    (nested_linear, joint_linear), (nested_logistic, joint_logistic) = climbs.linear, climbs.logistic
    again = _plain_bounds(joint_logistic, climbs.images, climbs.share)[-1]
    # Half of the last rule is taken once more at the end, to know its error, and the whole of it.
    each = (joint_logistic.asked - climbs.first_solve) / len(climbs.images) - 1
    return [
        *_envelope(seed),
        equal(20, "linear: joint optimum, against pPCA", joint_linear.end.elbo, climbs.best, 1e-4,
              by=("a climb in θ and λ", "eigenvalues of the data's covariance")),
        equal(20, "linear: joint optimum, against nested", joint_linear.end.elbo, nested_linear.end.elbo, 1e-4,
              by=("a climb in θ and λ", "a climb in θ, λ re-solved")),
        equal(20, "logistic: joint optimum, against nested", joint_logistic.end.elbo, nested_logistic.end.elbo, 1e-4,
              by=("a climb in θ and λ", "a climb in θ, λ re-solved")),
        equal(20, "logistic: that bound, by another rule", joint_logistic.end.elbo, again, 1e-6,
              by=("Gauss-Hermite, KL in closed form", "Legendre sums of the joint form")),
        at_most(20, "logistic: that bound − (−H of the data)", joint_logistic.end.elbo - climbs.ceiling, 0,
                by=("the bound at the joint optimum", "entropy of the data's distribution")),
        equal(20, "logistic: bounds that joint evaluates, each x and θ", each / joint_logistic.end.evaluations, 1, 0,
              by=("calls counted from outside, less one solve", "gradients in θ")),
    ]  # fmt: skip


def _envelope(seed: int) -> list[Claim]:
    """The derivative of F(θ) = Σ L(θ, λ*(θ)), λ* solved again at every θ, and the partial one at a fixed λ*."""
    decoder = models.drawn_decoder(Architecture(features=3, latent=1, hidden=(3,), activation="tanh"), seed, gain=2)
    bound = ELBO(decoder, enumeration.states(3).astype(np.float64), Rule.gauss_hermite(1, 20), ONE)
    here = maximise(bound, ONE.prior(8), tolerance=1e-10).lam
    _, _, partial = bound.parameter_gradient(here, np.ones(8))
    total, fixed = np.zeros_like(partial.flat), np.zeros_like(partial.flat)
    for index in range(len(total)):
        for reach, share in ((1, 8), (-1, -8), (2, -1), (-2, 1)):
            flat = decoder.parameters.flat.copy()
            flat[index] += reach * 1e-3
            there = ELBO(decoder.moved(flat), bound.x, bound.rule, ONE)
            solved = maximise(there, here, tolerance=1e-10)
            total[index] += share * solved.elbo.sum() / 12e-3
            fixed[index] += share * there.value_and_gradient(here, np.arange(8))[0].sum() / 12e-3
    scale = np.abs(partial.flat).max()
    by_hand = "∂L/∂θ at λ*, by hand"
    return [
        zero(20, "dF/dθ with λ re-solved − ∂L/∂θ at λ*, share", (total - partial.flat) / scale, 1e-6,
             by=("differences of the solved bound", by_hand)),
        zero(20, "the same with λ held still", (fixed - partial.flat) / scale, 1e-6,
             by=("differences of the bound at fixed λ", by_hand)),
    ]  # fmt: skip


# --- claims 18 and 19: which z? -------------------------------------------------------------------------------------


@cache
def _picked(seed: int) -> Picked:
    arch = Architecture(features=5, latent=1, hidden=(6,), activation="tanh")
    decoder = models.drawn_decoder(arch, seed, gain=3)
    x = models.generator(seed, CHAPTER, 2).permutation(enumeration.states(5))[:6].astype(np.float64)
    solved = maximise(ELBO(decoder, x, Rule.trapezoid(1, 0.1), ONE), ONE.prior(6), tolerance=1e-9)
    bound, _ = ELBO(decoder, x, FINE, ONE).value_and_gradient(solved.lam, np.arange(6))
    # The least normal of the six comes first: it is the one that the figure shows.
    log_prob = plain.log_evidence(decoder, x)
    order = np.argsort(bound - log_prob)
    return Picked(decoder, x[order], solved.lam[order], bound[order], log_prob[order])


def _log_ratio(found: Picked, row: int) -> tuple[Array, Array, Array]:
    """log p(z|x) − log q*(z) at Legendre nodes that q* sees, of one x: nodes (M, 1), q*'s mass at each, the ratios."""
    mu, sigma = found.lam[row, :1], np.exp(0.5 * found.lam[row, 1:])
    # Many panels, for the share of q* at which the ratio is positive ends somewhere between two nodes.
    z, weights = plain.around(mu, sigma, 1000)
    log_q = plain.log_normal(z, mu, sigma)
    log_joint = plain.log_joint(found.decoder, found.x[row][None], z)[0]
    return z, weights * np.exp(log_q), log_joint - found.log_prob[row] - log_q


def single_z(seed: int) -> list[Claim]:
    """Claim 18: at a single z the objective has spread, and now and then exceeds log p(x)."""
    found, count = _picked(seed), 20_000
    mu, chol = found.q
    eps = models.generator(seed, CHAPTER, 3).standard_normal((count, 6, 1))
    z = normal_sample(mu, 2 * np.log(chol[..., 0]), eps)
    above = single_point(found.decoder, found.x, z, found.q) - found.log_prob
    nodes, masses, ratios = zip(*(_log_ratio(found, row) for row in range(6)), strict=True)
    objective = single_point(found.decoder, found.x, np.stack(nodes, axis=1), found.q) - found.log_prob
    mean = np.array([mass @ ratio for mass, ratio in zip(masses, ratios, strict=True)])
    second = np.array([mass @ ratio**2 for mass, ratio in zip(masses, ratios, strict=True)])
    fourth = np.array([mass @ ratio**4 for mass, ratio in zip(masses, ratios, strict=True)])
    share = np.array([mass @ (ratio > 0) for mass, ratio in zip(masses, ratios, strict=True)])
    draws, integral = f"{count:,} draws of z ~ q*", "Legendre sums over q*"
    share_error = np.sqrt(share * (1 - share) / count)
    return [
        zero(18, "excess − (log p(z|x) − log q*(z)), largest on a grid", objective - np.stack(ratios, axis=1), 1e-9,
             by=("the single-z objective − log p(x)", "the posterior, normalised by Legendre sums")),
        in_errors(18, "mean over z ~ q*, less −KL(q*‖p(z|x)), in std. errors", above.mean(axis=0), mean,
                  above.std(axis=0) / np.sqrt(count), by=(draws, integral)),
        in_errors(18, "its mean square, likewise", (above**2).mean(axis=0), second,
                  np.sqrt((fourth - second**2) / count), by=(draws, integral)),
        in_errors(18, "share of z for which it exceeds log p(x), likewise", (above > 0).mean(axis=0), share,
                  share_error, by=(draws, integral)),
        at_least(18, "and that share, the largest of 6 x", (above > 0).mean(axis=0).max(), 1 / count,
                 by=(draws, "log p(x), Legendre sums")),
    ]  # fmt: skip


def _between(r: tuple[Array, Array], q: tuple[Array, Array]) -> Array:
    """KL(r ‖ q) of normals (B,): that of r seen from q, where q is the standard normal. [D23]"""
    mean = np.linalg.solve(q[1], (r[0] - q[0])[..., None])[..., 0]
    return full_normal_kl_forward(mean, np.linalg.solve(q[1], r[1]))[0]


def arbitrary_r(seed: int) -> list[Claim]:
    """Claim 19: averaged over an arbitrary r, and over q* itself."""
    found, random = _picked(seed), models.generator(seed, CHAPTER, 4)
    log_prob = quadrature.log_likelihood(found.decoder, found.x).log_prob
    off, highest = [], -np.inf
    for mu, sigma in zip(random.uniform(-3, 3, 40), random.uniform(0.1, 2, 40), strict=True):
        r = ONE.unpack(ONE.diagonal(np.full((6, 1), mu), np.full((6, 1), 2 * np.log(sigma))))
        value = arbitrary_expectation(found.decoder, found.x, r, found.q, FINE.eps, FINE.weights)
        to_posterior = [
            plain.divergence(found.decoder, x, np.array([mu]), np.array([sigma]), known)
            for x, known in zip(found.x, found.log_prob, strict=True)
        ]
        off.append(value - log_prob - _between(r, found.q) + to_posterior)
        highest = max(highest, float((value - found.log_prob).max()))
    at_q = arbitrary_expectation(found.decoder, found.x, found.q, found.q, FINE.eps, FINE.weights)
    # The posterior itself as r: an upper bound on log p(x), by the posterior's own grid.
    grid = quadrature.posterior(found.decoder, found.x, rule="trapezoid")
    stacked = np.broadcast_to(grid.nodes[:, None], (len(grid.nodes), 6, 1))
    at_posterior = (grid.weights.T * single_point(found.decoder, found.x, stacked, found.q)).sum(axis=0)
    to_q, from_q = [], []
    for row in range(6):
        z, weights, log_posterior, _ = plain.posterior(found.decoder, found.x[row])
        log_q = plain.log_normal(z, found.lam[row, :1], np.exp(0.5 * found.lam[row, 1:]))
        to_q.append(weights * np.exp(log_posterior) @ (log_posterior - log_q))
        _, mass, ratio = _log_ratio(found, row)
        from_q.append(-mass @ ratio)
    legendre = "a divergence, Legendre sums"
    return [
        zero(19, "E_r[…] − log p(x) − KL(r‖q*) + KL(r‖posterior), 40 r", np.array(off), 1e-8,
             by=("the objective − log p(x), adaptive lattice", "two divergences: closed form, Legendre")),
        at_least(19, "an r that exceeds log p(x), by", highest, 0,
                 by=("the objective averaged over r", "log p(x), Legendre sums")),
        zero(19, "r = posterior: excess over log p(x) − KL(posterior‖q*)", at_posterior - found.log_prob - to_q, 1e-8,
             by=("the objective on the trapezoid rule's posterior", legendre)),
        at_least(19, "and this divergence, the smallest of 6 x", (at_posterior - found.log_prob).min(), 0,
                 by=("the objective on the trapezoid rule's posterior", "log p(x), Legendre sums")),
        zero(19, "r = q*: excess over log p(x) + KL(q*‖posterior)", at_q - found.log_prob + from_q, 1e-8,
             by=("the objective averaged over q*", legendre)),
        at_most(19, "r = q*: excess over log p(x), largest", (at_q - found.log_prob).max(), 0,
                by=("the objective averaged over q*", "log p(x), Legendre sums")),
        zero(19, "r = q*: difference from the ELBO", at_q - found.bound, 1e-8,
             by=("every density at z", "the bound with its KL in closed form")),
    ]  # fmt: skip


CLAIMS = {
    17: nested,
    18: single_z,
    19: arbitrary_r,
    20: same_optimum,
    21: chapter05_gradient_noise.gradient_claims,
}


# --- the figures ----------------------------------------------------------------------------------------------------


def _climbs_figure(climbs: Climbs) -> Figure:
    from vae_np.pictures.drawing import blank_figure, head

    figure = blank_figure(1320, 480)
    hill, linear, logistic = figure.subplots(1, 3, width_ratios=(1.15, 1, 1))
    _draw_hill(hill)
    _draw_traces(linear, climbs.linear, climbs.best, "log p(x) of the best pPCA − bound (nats)")
    top = max(climb.end.elbo for climb in climbs.logistic)
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
    ax.legend(loc="lower right", fontsize=10, frameon=True, framealpha=0.9, edgecolor="none")


def _draw_traces(ax: Axes, both: tuple[Climb, Climb], top: float, y: str) -> None:
    from vae_np.pictures.drawing import BLUE, ORANGE, style

    style(ax, "θ steps", y)
    for climb, colour, name in zip(both, (ORANGE, BLUE), ("nested", "joint"), strict=True):
        optimum = climb.end
        below = top - np.array(optimum.trace)
        shown = below > 1e-11
        steps = round(optimum.inner_steps / len(optimum.lam))
        solves = f"{optimum.solves} solve{'s' if optimum.solves > 1 else ''}, {steps} steps of each λ"
        ax.plot(np.flatnonzero(shown), below[shown], color=colour, linewidth=1.8, label=f"{name}: {solves}")
    ax.set_yscale("log")
    ax.set_ylim(1e-11, 1e6)
    ax.legend(loc="upper right", fontsize=10, frameon=False)


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
    ax.set_ylim(evidence - 1.5 * span, evidence + 3.2 * span)
    density = np.exp(-0.5 * ((z - mu[0, 0]) / chol[0, 0, 0]) ** 2)
    low = evidence - 1.5 * span
    ax.fill_between(z, low, low + 0.5 * span * density, color=MUTED, alpha=0.2, linewidth=0, label="q*, not to scale")
    ax.legend(loc="upper right", fontsize=10, frameon=True, framealpha=0.9, edgecolor="none")


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
    ax.legend(loc="upper right", fontsize=10, frameon=True, framealpha=0.9, edgecolor="none")
