"""Chapter 4: the best substitute for the posterior, and the bound that finds it. Claims 11 to 16. [D11] [D12]"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from vae_np._types import Array
from vae_np.architecture import Architecture
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
    maximise_best,
    spread_starts,
)
from vae_np.exact.linear_gaussian import LinearGaussian, to_parameters
from vae_np.model import initialise
from vae_np.study import models, plain
from vae_np.study.claims import Claim, at_most, equal, zero

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "The ELBO is log p(x) less the divergence to the posterior, so climbing it finds the best q."

CHAPTER = 4
FULL, DIAGONAL, ONE = Family("full", 2), Family("diagonal", 2), Family("diagonal", 1)
# Of a linear decoder the integrand is a square, for which three nodes an axis are exact.
SQUARES = Rule.gauss_hermite(2, 3)
FOLDED_RULE = Rule.trapezoid(1, 0.1)
# What x = |z| + noise is observed as: z is then about 1.5, or about −1.5.
FOLDED_X = 1.5


@dataclass(frozen=True)
class Tilted:
    """A linear-Gaussian model of two latents that compensate each other, data x (N, 4), and λ* in both families."""

    model: LinearGaussian
    x: Array
    full: Solution
    diagonal: Solution


def figures(seed: int) -> dict[str, Figure]:
    """The bound on its way to the evidence, and what the order of the arguments decides."""
    tilted = _tilted(seed)
    return {"04-bound-touches-evidence": _bound_figure(tilted), "04-two-directions": _directions_figure(tilted)}


def notes(seed: int) -> list[str]:
    """Where the two kinds of optimum put their mass when there are two modes."""
    posterior, one_side, both = _folded()
    inside = posterior.weights[0, np.abs(posterior.nodes[:, 0]) < 0.5].sum()
    return [
        f"Two modes: P(|z| < ½) is {inside:.2g} under the posterior, {_central(one_side):.2g} under the best q, "
        f"{_central(both):.2g} under the forward optimum.",
    ]


@cache
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


# --- claim 11: argmin KL(q ‖ p(z|x)) ---------------------------------------------------------------------------------


def optimum(seed: int) -> list[Claim]:
    """Claim 11: λ* by climbing the ELBO, against closed forms and against a search for the least divergence."""
    found = _tilted(seed)
    mean, variances, gap = found.model.best_diagonal(found.x)
    solved = np.diagonal(found.diagonal.covariance, axis1=1, axis2=2)
    left = found.model.log_prob(found.x) - found.diagonal.elbo
    by_bound, by_divergence = _solved_twice(_curved(seed), np.array([1.0, 1.0, 0.0, 0.0]))
    climb = "a climb of the ELBO from the prior"
    return [
        zero(11, "diagonal q: μ* − posterior mean, climbing", found.diagonal.mu - mean, 1e-6,
             by=(climb, "posterior mean in closed form")),
        zero(11, "diagonal q: variances · Λⱼⱼ − 1", solved / variances - 1, 1e-6, by=(climb, "1/Λⱼⱼ")),
        equal(11, "its gap, log p(x) − ELBO: worst of 12 x", left[np.abs(left - gap).argmax()], gap, 1e-6,
              by=("log N(x; b, WWᵀ + Ψ) − the bound at λ*", "½ (Σ log Λⱼⱼ − log |Λ|)")),
        zero(11, "curved decoder: argmax ELBO − argmin KL", by_bound - by_divergence, 1e-5,
             by=(climb, "a search of the divergence by Legendre sums")),
    ]  # fmt: skip


def _solved_twice(decoder: Decoder, x: Array) -> tuple[Array, Array]:
    """λ* (2,) of one x (D,): by climbing the ELBO along its gradient, and by shrinking the divergence without one."""
    by_bound = maximise(ELBO(decoder, x[None], Rule.trapezoid(1, 0.1), ONE), ONE.prior(1)).lam[0]
    return by_bound, _least_divergence(decoder, x)


def _least_divergence(decoder: Decoder, x: Array) -> Array:
    """[μ, v] of the normal with the least divergence from p(z|x), by a search without gradients from the prior."""
    from scipy import optimize  # type: ignore[import-untyped]

    log_prob = float(plain.log_evidence(decoder, x[None])[0])

    def divergence(lam: Array) -> float:
        return plain.divergence(decoder, x, lam[:1], np.exp(0.5 * lam[1:]), log_prob)

    options = {"xatol": 1e-8, "fatol": 1e-15, "maxiter": 400}
    return np.asarray(optimize.minimize(divergence, np.zeros(2), method="Nelder-Mead", options=options).x)


# --- claim 12: the KL is not symmetric ------------------------------------------------------------------------------


def two_directions(seed: int) -> list[Claim]:
    """Claim 12: both directions of the divergence, on a tilted posterior and on one with two modes."""
    found = _tilted(seed)
    x, precision = found.x[:1], found.model.precision
    decoder = Decoder.of(*to_parameters(found.model))
    posterior = quadrature.posterior(decoder, x)
    reverse, forward = 1 / np.diag(precision), np.diag(np.linalg.inv(precision))
    climbed = np.exp(found.diagonal.lam[0, 2:])
    searched = np.exp(_forward_by_search(posterior)[2:])
    moments = np.exp(forward_kl_optimum(posterior, DIAGONAL)[0, 2:])
    z, weights, log_posterior, _ = plain.posterior(decoder, x[0], count=16)
    spread = np.cov(z.T, aweights=weights * np.exp(log_posterior), bias=True)
    correlation = spread[0, 1] / np.sqrt(spread[0, 0] * spread[1, 1])
    claims = []
    for j in range(2):
        claims += [
            equal(12, f"reverse KL: variance {j + 1} is 1/Λⱼⱼ", climbed[j], reverse[j], 1e-6, relative=True,
                  by=("a climb of the ELBO", "closed form")),
            equal(12, f"forward KL: variance {j + 1} is (Λ⁻¹)ⱼⱼ", searched[j], forward[j], 1e-6, relative=True,
                  by=("a climb of E_p log q", "closed form")),
        ]  # fmt: skip
    return [
        *claims,
        zero(12, "forward KL: search − posterior's moments", searched - moments, 1e-6,
             by=("a climb of E_p log q", "the posterior's variances")),
        equal(12, "variances, forward over reverse", (searched / climbed).min(), 1 / (1 - correlation**2), 1e-5,
              by=("two climbs", "1 / (1 − ρ²), ρ by Legendre sums")),
        *_stationary_points(),
    ]  # fmt: skip


def _stationary_points() -> list[Claim]:
    """Claim 12 on two modes: the normal family's ELBO has three maxima and two saddles, and a climb may stop at one."""
    decoder, x = _folded_decoder(), np.array([[FOLDED_X]])
    bound = ELBO(decoder, x, FOLDED_RULE, ONE)
    from_prior = maximise(bound, ONE.prior(1))
    best = maximise_best(bound, spread_starts(ONE, 1))
    at_prior, at_best = (
        plain.elbo(decoder, x[0], each.lam[0, :1], np.exp(0.5 * each.lam[0, 1:])) for each in (from_prior, best)
    )
    points = folded_points(bound)
    maxima, saddles = (sum(kind == wanted for _, _, kind in points) for wanted in ("maximum", "saddle"))
    mu = np.linspace(-2.5, 2.5, 201)
    ridge = np.array([_ridge(decoder, x[0], each) for each in mu])
    top = -_search(decoder, x[0], np.array([mu[ridge.argmax()], -1.5])).fun
    turns = np.diff(np.sign(np.diff(ridge)))
    log_prob = float(quadrature.log_likelihood(decoder, x).log_prob[0])
    least = plain.divergence(
        decoder, x[0], best.lam[0, :1], np.exp(0.5 * best.lam[0, 1:]), float(plain.log_evidence(decoder, x)[0])
    )
    newton, profile = "Newton from a lattice of starts, Hessian's signs", "the bound at the best v of each μ, Legendre"
    return [
        equal(12, "two modes: maxima of the ELBO", maxima, np.sum(turns < 0), 0, by=(newton, f"tops of {profile}")),
        equal(12, "two modes: saddles of the ELBO", saddles, np.sum(turns > 0), 0, by=(newton, f"dips of {profile}")),
        equal(12, "two modes: ELBO where a climb from the prior ends", from_prior.elbo[0], at_prior, 1e-8,
              by=("the package's bound there", "Legendre sums there")),
        equal(12, "two modes: the best ELBO from several starts", best.elbo[0], top, 1e-7,
              by=("maximise_best", "a search from a lattice of means, Legendre")),
        equal(12, "two modes: the package's bound there", best.elbo[0], at_best, 1e-8,
              by=("trapezoid rule, KL in closed form", "Legendre sums of the joint form")),
        equal(12, "two modes: log p(x) − the best ELBO", log_prob - best.elbo[0], least, 1e-6,
              by=("adaptive lattice − the bound", "KL(q*‖p(z|x)), Legendre sums")),
    ]  # fmt: skip


def folded_points(bound: ELBO) -> list[tuple[float, float, str]]:
    """The stationary points (μ, ELBO, maximum or saddle) of a bound with one latent, one x: Newton from a lattice."""

    def value_and_slope(lam: Array) -> tuple[float, Array]:
        value, slope = bound.value_and_gradient(lam[None], np.arange(1))
        return float(value[0]), slope[0]

    def hessian(lam: Array) -> Array:
        step = 1e-4 * np.eye(2)
        columns = [(value_and_slope(lam + h)[1] - value_and_slope(lam - h)[1]) / 2e-4 for h in step]
        return 0.5 * (np.array(columns) + np.array(columns).T)

    found: dict[tuple[float, float], tuple[float, float, str]] = {}
    for mu in np.linspace(-2, 2, 17):
        for logvar in (-3.0, -2.0, -1.0):
            lam = np.array([mu, logvar])
            for _ in range(40):
                move = np.linalg.solve(hessian(lam), value_and_slope(lam)[1])
                lam = lam - move * min(1.0, 0.5 / np.abs(move).max())
                if np.abs(move).max() < 1e-10 or np.abs(lam).max() > 8:
                    break
            value, slope = value_and_slope(lam)
            if np.abs(lam).max() > 4 or not np.abs(slope).max() < 1e-7:
                continue
            falls = int((np.linalg.eigvalsh(hessian(lam)) < 0).sum())
            kind = ("minimum", "saddle", "maximum")[falls]
            found[round(lam[0], 4) + 0.0, round(lam[1], 4)] = (float(lam[0]), value, kind)
    return sorted(found.values())


def _search(decoder: Decoder, x: Array, start: Array) -> Any:
    """The top of the bound that a search without gradients climbs to from [μ, v] (2,), by Legendre sums."""
    from scipy import optimize

    def negative(lam: Array) -> float:
        return -plain.elbo(decoder, x, lam[:1], np.exp(0.5 * lam[1:]))

    options = {"xatol": 1e-8, "fatol": 1e-13, "maxiter": 400}
    return optimize.minimize(negative, start, method="Nelder-Mead", options=options)


def _ridge(decoder: Decoder, x: Array, mu: float) -> float:
    """The highest bound of any normal with this mean, by a search over v alone."""
    from scipy import optimize

    def negative(logvar: float) -> float:
        return -plain.elbo(decoder, x, np.array([mu]), np.exp([0.5 * logvar]))

    return -float(optimize.minimize_scalar(negative, bounds=(-5, 1), method="bounded").fun)


def _forward_by_search(posterior: quadrature.GridPosterior) -> Array:
    """argmin KL(p(z|x) ‖ q) over [μ, v] (2K,): the posterior's expectation of log q, climbed along its gradient. [D13]

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
    reverse = maximise(ELBO(decoder, x, FOLDED_RULE, ONE), start)
    return posterior, reverse.lam[0], _forward_by_search(posterior)


def _central(lam: Array) -> float:
    """P(|z| < ½) under N(μ, exp v)."""
    reach = math.sqrt(2) * math.exp(lam[1] / 2)
    return 0.5 * (math.erf((0.5 - lam[0]) / reach) + math.erf((0.5 + lam[0]) / reach))


# --- claims 13 and 14: a full covariance; λ* depends on x -----------------------------------------------------------


def full_covariance(seed: int) -> list[Claim]:
    """Claim 13: with a full covariance nothing is left between the bound and log p(x)."""
    found, random = _tilted(seed), models.generator(seed, CHAPTER, 1)
    larger = LinearGaussian(random.standard_normal((8, 5)), np.zeros(8), random.uniform(0.3, 1.0, 8))
    x = larger.sample(random.standard_normal((20, 5)), random.standard_normal((20, 8)))
    family = Family("full", 5)
    solved = maximise(ClosedFormELBO(larger, x, family), family.prior(20), tolerance=1e-8)
    kl = found.model.kl_to_posterior(found.x, found.full.mu, found.full.covariance)
    kl_larger = larger.kl_to_posterior(x, solved.mu, solved.covariance)
    gap, gap_larger = found.model.log_prob(found.x) - found.full.elbo, _scipy_log_prob(larger, x) - solved.elbo
    divergence = ("λ* of a climb", "divergence of two normals, closed form")
    return [
        zero(13, "K = 2: log p(x) − ELBO, worst x", gap, 1e-10,
             by=("log N(x; b, WWᵀ + Ψ)", "the decoder's bound at λ*, Gauss-Hermite")),
        at_most(13, "K = 2: KL(q* ‖ posterior), worst x", np.abs(kl).max(), 1e-10, by=divergence),
        zero(13, "K = 5: log p(x) − ELBO, worst x", gap_larger, 1e-10,
             by=("scipy.stats.multivariate_normal", "the bound at λ* in closed form")),
        at_most(13, "K = 5: KL(q* ‖ posterior), worst x", np.abs(kl_larger).max(), 1e-10, by=divergence),
    ]  # fmt: skip


def _scipy_log_prob(model: LinearGaussian, x: Array) -> Array:
    from scipy.stats import multivariate_normal  # type: ignore[import-untyped]

    return np.asarray(multivariate_normal(model.bias, model.weight @ model.weight.T + model.psi).logpdf(x))


def depends_on_x(seed: int) -> list[Claim]:
    """Claim 14: λ* moves with x; in a linear-Gaussian model only its mean does."""
    found = _tilted(seed)
    model, x = found.model, found.x
    moved = found.full.mu - found.full.mu[0]
    # Λ (μ₂ − μ₁) = WᵀΨ⁻¹ (x₂ − x₁), without the posterior's own formula.
    expected = np.linalg.solve(model.precision, model.weight.T @ np.linalg.solve(model.psi, (x - x[0]).T)).T
    posterior = np.linalg.inv(np.eye(2) + model.weight.T @ np.linalg.inv(model.psi) @ model.weight)
    images, decoder = enumeration.states(4).astype(np.float64), _curved(seed)
    curved = maximise(ELBO(decoder, images, Rule.trapezoid(1, 0.1), ONE), ONE.prior(16))
    deviations = np.exp(0.5 * curved.lam[:, 1])
    ends = int(deviations.argmin()), int(deviations.argmax())
    narrow, wide = (np.exp(0.5 * _least_divergence(decoder, images[row])[1]) for row in ends)
    climb = "climbs of the ELBO, one for each x"
    return [
        zero(14, "μ*(x₂) − μ*(x₁) less Λ⁻¹WᵀΨ⁻¹(x₂ − x₁), 12 x", moved - expected, 1e-6, by=(climb, "closed form")),
        zero(14, "linear: covariance of q* less Λ⁻¹, 12 x", found.full.covariance - posterior, 1e-6,
             by=(climb, "closed form, the same for every x")),
        equal(14, "curved: largest σ* over smallest, 16 x", deviations.max() / deviations.min(), wide / narrow, 1e-5,
              by=(climb, "two searches of the divergence, Legendre")),
    ]  # fmt: skip


# --- claims 15 and 16: log p(x) is constant in λ, and above the bound -----------------------------------------------


@dataclass(frozen=True)
class Hundred:
    """One x of a curved decoder at 100 λ (100, 2): the package's bound, its gradient and divergence, and the plain
    ones."""

    x: Array
    decoder: Decoder
    bound: Array
    gradient: Array
    divergence: Array
    plain_bound: Array
    plain_divergence: Array
    plain_slope: Array


@cache
def _hundred(seed: int) -> Hundred:
    decoder, random = _curved(seed), models.generator(seed, CHAPTER, 2)
    mu, sigma = random.uniform(-3, 3, (100, 1)), random.uniform(0.1, 2, (100, 1))
    x = random.integers(0, 2, 4).astype(np.float64)
    copies, lam = np.repeat(x[None], 100, axis=0), ONE.diagonal(mu, 2 * np.log(sigma))
    bound, gradient = ELBO(decoder, copies, Rule.trapezoid(1, 0.02), ONE).value_and_gradient(lam, np.arange(100))
    log_prob = np.repeat(quadrature.posterior(decoder, x[None], rule="trapezoid").log_prob, 100)
    again = float(plain.log_evidence(decoder, x[None])[0])
    return Hundred(
        x,
        decoder,
        bound,
        gradient,
        kl_to_posterior(decoder, copies, log_prob, ONE, lam, spacing=0.03),
        np.array([plain.elbo(decoder, x, *each) for each in zip(mu, sigma, strict=True)]),
        np.array([plain.divergence(decoder, x, *each, again) for each in zip(mu, sigma, strict=True)]),
        np.array([plain.divergence_gradient(decoder, x, m[0], s[0], again) for m, s in zip(mu, sigma, strict=True)]),
    )


def constant_in_lambda(seed: int) -> list[Claim]:
    """Claim 15: the slope of the divergence and that of the bound cancel."""
    found = _hundred(seed)
    return [
        zero(15, "∇KL + ∇ELBO, the largest at 100 λ", found.plain_slope + found.gradient, 1e-10,
             by=("E_q[∇ log q (log q − log p(z|x))], Legendre", "the pathwise gradient of the bound")),
    ]  # fmt: skip


def below_the_evidence(seed: int) -> list[Claim]:
    """Claim 16: ELBO, divergence and log p(x), each computed by itself."""
    found = _hundred(seed)
    log_prob = float(quadrature.log_likelihood(found.decoder, found.x[None]).log_prob[0])
    again = float(plain.log_evidence(found.decoder, found.x[None])[0])
    bound = "the package's bound, trapezoid rule in ε"
    return [
        zero(16, "ELBO + KL − log p(x), the largest at 100 λ", found.bound + found.plain_divergence - log_prob, 1e-8,
             by=(f"{bound}, and KL by Legendre", "log p(x), adaptive lattice")),
        zero(16, "the same with log p(x) by another rule", found.bound + found.plain_divergence - again, 1e-8,
             by=(f"{bound}, and KL by Legendre", "log p(x), Legendre sums")),
        zero(16, "ELBO: KL in closed form − joint form, 100 λ", found.bound - found.plain_bound, 1e-8,
             by=(bound, "E_q[log p(x, z) − log q], Legendre")),
        zero(16, "KL to the posterior − the same by another rule", found.divergence - found.plain_divergence, 1e-8,
             by=("kl_to_posterior, log p(x) by the trapezoid rule", "Legendre sums, normalised by themselves")),
        at_most(16, "the highest ELBO − log p(x)", found.bound.max() - again, 0,
                by=(bound, "log p(x), Legendre sums")),
    ]  # fmt: skip


CLAIMS = {
    11: optimum,
    12: two_directions,
    13: full_covariance,
    14: depends_on_x,
    15: constant_in_lambda,
    16: below_the_evidence,
}


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
    ax.text(steps[-1], evidence + 0.02, f"log p(x) = {number(evidence)}", ha="right", fontsize=10, color=INK)
    for kind, colour, label in (("full", BLUE, "ELBO, full covariance"), ("diagonal", ORANGE, "ELBO, diagonal")):
        ax.plot(steps, heights[kind], color=colour, marker="o", markersize=4, linewidth=1.8, label=label)
    ax.fill_between(steps, heights["full"], evidence, color=BLUE, alpha=0.1, linewidth=0,
                    label="slack = KL(q ‖ p(z|x))")  # fmt: skip
    ax.annotate("", (steps[-1] - 0.5, evidence), (steps[-1] - 0.5, evidence - gap),
                arrowprops={"arrowstyle": "<->", "color": ORANGE, "shrinkA": 0, "shrinkB": 0})  # fmt: skip
    ax.text(steps[-1] - 0.7, evidence - gap / 2, f"{number(gap, 3)} nats that no\ndiagonal q recovers", ha="right",
            va="center", fontsize=10, color=ORANGE)  # fmt: skip
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
    ax.text(1.04, 0.02, said, transform=ax.transAxes, fontsize=10, color=MUTED)
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize=10, frameon=False)


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
        (found.diagonal.mu[0], found.diagonal.covariance[0], ORANGE, "min KL(q ‖ p): variances 1/Λⱼⱼ"),
        (mean[0], forward, GREEN, "min KL(p ‖ q): variances (Λ⁻¹)ⱼⱼ"),
    ):
        ax.plot(*_ellipse(middle, spread, 1.5), color=colour, linewidth=1.8, label=label)
    ax.text(0.02, 0.02, "lines: 1.5 standard deviations", transform=ax.transAxes, fontsize=10, color=MUTED)
    low, high = ax.get_ylim()
    ax.set_ylim(low, high + 0.15 * (high - low))
    ax.legend(loc="upper right", fontsize=10, frameon=True, framealpha=0.9, edgecolor="none")


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
    ax.plot(z[shown], density(reverse), color=ORANGE, linewidth=1.8, label="min KL(q ‖ p), from a start at z = 1")
    ax.plot(z[shown], density(other), color=ORANGE, linewidth=1.3, linestyle=(0, (4, 3)), label="the other one")
    ax.plot(z[shown], density(forward), color=GREEN, linewidth=1.8, label="min KL(p ‖ q): the posterior's moments")
    ax.set_ylim(0, 1.75 * density(reverse).max())
    ax.legend(loc="upper center", fontsize=10, frameon=False)
