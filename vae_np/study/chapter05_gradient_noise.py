"""The second half of chapter 5: gradients through a sample, and how noisy each kind is. Claim 21. [D17] [D18]"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vae_np._types import Array
from vae_np.architecture import Architecture
from vae_np.distributions import normal_kl_backward, normal_sample
from vae_np.exact.candidate_objectives import (
    QuadraticVariances,
    best_baseline,
    pathwise_gradient,
    quadratic_variances,
    score_function_gradient,
)
from vae_np.exact.decoder import Decoder
from vae_np.exact.inference import ELBO, Family, Rule
from vae_np.exact.linear_gaussian import LinearGaussian, to_parameters
from vae_np.study import models
from vae_np.study.claims import Claim, equal, in_errors, zero

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CHAPTER = 5
DRAWS, BLOCK = 10_000_000, 1_000_000
# (μ, s) of q at which the variances are measured.
PLACES = ((1.0, 1.0), (2.0, 0.5))


def gradient_claims(seed: int) -> list[Claim]:
    """Claim 21: the pathwise gradient against differences and closed forms, and the variances of four estimates."""
    return [*_pathwise(seed), *_noise(seed)]


def _common_noise_error(seed: int, kind: str) -> float:
    """The pathwise gradient in λ against differences at the same ε, as a share of the largest slope."""
    arch, family = Architecture(features=6, latent=2, hidden=(8,), activation="tanh"), Family(kind, 2)
    random = models.generator(seed, CHAPTER, 5)
    x = random.integers(0, 2, (4, 6)).astype(np.float64)
    decoder, eps = models.drawn_decoder(arch, seed, gain=2), random.standard_normal((10, 4, 2))
    bound, everyone = ELBO(decoder, x, Rule.common_noise(eps), family), np.arange(4)
    lam = 0.5 * random.standard_normal((4, family.size))
    _, gradient = bound.value_and_gradient(lam, everyone)
    numeric = np.zeros_like(gradient)
    for j in range(family.size):
        step = 1e-3 * (np.arange(family.size) == j)
        for reach, share in ((1, 8), (-1, -8), (2, -1), (-2, 1)):
            numeric[:, j] += share * bound.value_and_gradient(lam + reach * step, everyone)[0] / 12e-3
    return float(np.abs(gradient - numeric).max() / np.abs(gradient).max())


def _pathwise(seed: int) -> list[Claim]:
    random = models.generator(seed, CHAPTER, 6)
    model = LinearGaussian(random.standard_normal((4, 2)), random.standard_normal(4), 0.5)
    x = model.sample(random.standard_normal((1, 2)), random.standard_normal((1, 4)))
    mu, logvar = np.full((1, 2), 0.3), np.full((1, 2), -0.5)
    decoder, eps, sigma = Decoder.of(*to_parameters(model)), random.standard_normal((100_000, 2)), np.exp(logvar / 2)
    z = normal_sample(mu, logvar, eps)
    loglik, cache = decoder.loglik_forward(x, z)
    slope = decoder.loglik_backward(np.ones(len(z)), cache, None)
    # The KL's gradient needs no draws: only the reconstruction's is estimated.
    exactly = np.hstack(model.elbo_gradient(x, mu, logvar))
    of_kl = np.hstack(normal_kl_backward(np.ones(1), (mu, logvar)))

    def off(draws: tuple[Array, Array]) -> tuple[Array, Array, Array]:
        each = np.hstack(draws) - of_kl
        return each.mean(axis=0), exactly[0], each.std(axis=0) / np.sqrt(len(each))

    by_path = pathwise_gradient(sigma, eps, slope)
    by_score = score_function_gradient(sigma, eps, loglik)
    return [
        *(
            zero(21, f"{kind}: pathwise − common-noise differences", _common_noise_error(seed, kind), 1e-6,
                 by=("the pathwise gradient, by hand", "differences of the bound at the same ε"))
            for kind in ("diagonal", "full")
        ),
        in_errors(21, "pathwise mean − closed form, in std. errors", *off(by_path),
                  by=("100,000 draws through the decoder", "the linear-Gaussian bound's gradient")),
        in_errors(21, "score-function mean − closed form, likewise", *off(by_score),
                  by=("100,000 draws of log p(x|z)", "the linear-Gaussian bound's gradient")),
    ]  # fmt: skip


def _estimates(mu: float, sigma: float, eps: Array, baselines: tuple[float, float, float]) -> list[Array]:
    """Draws (S,) of the four estimates of ∇_μ E z²: pathwise, score function with each of three baselines."""
    sigmas, column = np.array([sigma]), eps[:, None]
    z = normal_sample(np.array([mu]), 2 * np.log(sigmas), column)
    f = z[:, 0] * z[:, 0]
    draws = [pathwise_gradient(sigmas, column, 2 * z)[0][:, 0]]
    return draws + [score_function_gradient(sigmas, column, f, b)[0][:, 0] for b in baselines]


def _variances(mu: float, sigma: float, seed: int, count: int = DRAWS) -> QuadraticVariances:
    """Measured variances of one draw, from `count` of them, a block at a time."""
    random = models.generator(seed, CHAPTER, 7, round(100 * mu))
    first = random.standard_normal((BLOCK // 10, 1))
    # From draws of its own: a baseline that has seen the draw it is subtracted from would bias the estimate.
    best = float(best_baseline(np.array([sigma]), first, (mu + sigma * first[:, 0]) ** 2)[0])
    sums = np.zeros((2, 4))
    for start in range(0, count, BLOCK):
        eps = random.standard_normal(min(BLOCK, count - start))
        draws = _estimates(mu, sigma, eps, (0.0, mu * mu + sigma * sigma, best))
        # Squares around the mean, which is known, so that nothing cancels.
        sums += [[(draw - 2 * mu).sum() for draw in draws], [((draw - 2 * mu) ** 2).sum() for draw in draws]]
    variances = (sums[1] - sums[0] ** 2 / count) / (count - 1)
    return QuadraticVariances(*(float(v) for v in variances))


def _noise(seed: int) -> list[Claim]:
    claims = []
    for mu, sigma in PLACES:
        found, theory, where = _variances(mu, sigma, seed), quadratic_variances(mu, sigma), f"μ = {mu:g}, s = {sigma:g}"
        claims += [
            # A variance from 10⁷ draws is good to 0.3% or so; the heaviest tails take it to 0.5%.
            equal(21, f"{where}: variance, {label}", getattr(found, name), getattr(theory, name), 0.02, relative=True,
                  by=("10⁷ draws", "moments of the normal"))
            for name, label in (
                ("pathwise", "pathwise"),
                ("score", "score function"),
                ("score_mean_baseline", "score, b = E f"),
                ("score_best_baseline", "score, the best b"),
            )
        ]  # fmt: skip
    return claims


# --- the figure -----------------------------------------------------------------------------------------------------


def noise_figure(seed: int) -> Figure:
    """Four estimators of one slope: how their draws are spread, and their variance as q moves."""
    from vae_np.pictures.drawing import blank_figure, head

    figure = blank_figure(1180, 460)
    shapes, lines = figure.subplots(1, 2, width_ratios=(1.1, 1))
    _draw_shapes(shapes, seed)
    _draw_variances(lines, seed)
    head(shapes, "200,000 estimates of one slope, 2μ = 2")
    head(lines, "Their variance: theory and measurement")
    return figure


def _draw_shapes(ax: Axes, seed: int) -> None:
    from vae_np.pictures.drawing import BLUE, GREEN, INK, ORANGE, style

    style(ax, "one draw's estimate of the slope (μ = s = 1)", "density")
    eps = models.generator(seed, CHAPTER, 8).standard_normal(200_000)
    pathwise, score, _, best = _estimates(1.0, 1.0, eps, (0.0, 2.0, 4.0))
    bins = np.linspace(-13, 23, 145).tolist()
    for draws, colour, label in (
        (score, ORANGE, "score function: variance 30"),
        (best, GREEN, "score function, best baseline: 14"),
        (pathwise, BLUE, "pathwise: 4"),
    ):
        ax.hist(draws, bins=bins, density=True, histtype="step", color=colour, linewidth=1.6, label=label)
    ax.axvline(2, color=INK, linewidth=1.2, linestyle=(0, (4, 3)), label="the slope itself")
    ax.set_yscale("log")
    ax.set_ylim(1e-4, 3e2)
    ax.set_xlim(-12.5, 22.5)
    ax.legend(loc="upper right", fontsize=10, frameon=False)


def _draw_variances(ax: Axes, seed: int) -> None:
    from vae_np.pictures.drawing import BLUE, GREEN, MUTED, ORANGE, TEN, style

    style(ax, "μ (s = 1)", "variance of one draw")
    fine, coarse = np.linspace(0, 4, 81), np.linspace(0, 4, 9)
    theory = [quadratic_variances(mu, 1.0) for mu in fine]
    measured = [_variances(mu, 1.0, seed, 200_000) for mu in coarse]
    for name, colour, label in (
        ("score", ORANGE, "score function"),
        ("score_mean_baseline", TEN[4], "with b = E f"),
        ("score_best_baseline", GREEN, "with the best b"),
        ("pathwise", BLUE, "pathwise"),
    ):
        ax.plot(fine, [getattr(found, name) for found in theory], color=colour, linewidth=1.6, label=label)
        ax.plot(coarse, [getattr(found, name) for found in measured], color=colour, marker="o", markersize=4.5,
                linestyle="none")  # fmt: skip
    ax.set_yscale("log")
    ax.text(0.02, 0.97, "lines: theory; dots: 200,000 draws", transform=ax.transAxes, fontsize=10, color=MUTED,
            va="top")  # fmt: skip
    ax.legend(loc="upper left", bbox_to_anchor=(0.0, 0.93), fontsize=10, frameon=False)
