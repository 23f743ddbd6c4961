"""Chapter 2: simple distributions, mixed over a latent variable, are not simple. Claims 4 to 8. [D3] [D4] [D5] [D6]"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from vae_np import VAE, data, model, noise
from vae_np._types import Array
from vae_np.distributions import bernoulli_log_prob_forward
from vae_np.elbo import standard_normal_log_prob
from vae_np.exact import enumeration, quadrature
from vae_np.exact.decoder import Decoder
from vae_np.layers import sigmoid, softplus
from vae_np.model import Architecture
from vae_np.study import models
from vae_np.study.claims import Claim, Result, at_least, at_most, equal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "Simple distributions, mixed over a latent variable, become a complicated one."

CHAPTER = 2
DRAWS = 100_000
# Fine enough for the steepest of the fitted decoders; their outputs switch within a hundredth of the prior's width.
FINE = 16_001


def run(seed: int) -> Result:
    """p(x) by quadrature, independence given z and dependence without it, what mixing gains, and sampling."""
    claims = [*_integral(seed), *_dependence(seed), *_gains(seed), *_normal(seed), *_sampling(seed)]
    return Result(claims, {"02-mixture": _mixture_figure(seed), "02-covariance": _covariance_figure(seed)})


# --- claim 4: p(x) = ∫ p(z) p(x|z) dz -------------------------------------------------------------------------------


def _integral(seed: int) -> list[Claim]:
    x = enumeration.states(4)
    one, two = (
        models.drawn_decoder(Architecture(features=4, latent=k, hidden=(8,), activation="tanh"), seed, gain=gain)
        for k, gain in ((1, 1.5), (2, 1.5))
    )
    reference = quadrature.log_likelihood(one, x, rule="trapezoid").log_prob
    errors = [
        np.abs(quadrature.log_likelihood(one, x, rule="gauss-hermite", nodes=nodes).log_prob - reference).max()
        for nodes in (3, 20, 40, 80, 200)
    ]
    wide = [
        quadrature.log_likelihood(two, x, rule=rule, nodes=nodes).log_prob
        for rule, nodes in (("trapezoid", 201), ("gauss-hermite", 100))
    ]
    three = enumeration.marginal(one, rule="gauss-hermite", nodes=3)
    return [
        equal(4, "K = 1: Gauss-Hermite (200 nodes) − trapezoid, largest", errors[4], 0, 1e-10),
        equal(4, "K = 2: Gauss-Hermite (100²) − trapezoid (201²), largest", np.abs(wide[1] - wide[0]).max(), 0, 1e-8),
        at_most(4, "error with 40 nodes, as a share of the error with 20", errors[2] / errors[1], 0.5),
        at_most(4, "error with 80 nodes, as a share of the error with 40", errors[3] / errors[2], 0.5),
        equal(4, "with 3 nodes: Σₓ p(x), which tests nothing", np.exp(three.log_prob).sum(), 1, 1e-12),
        at_least(4, "with 3 nodes: the error of log p(x) all the same", errors[0], 1e-3),
    ]


# --- claim 5: pixels are independent given z, and dependent without it ----------------------------------------------


def _off_diagonal(matrix: Array) -> Array:
    return matrix[~np.eye(len(matrix), dtype=bool)]


def _covariance_of_means(decoder: Decoder) -> Array:
    """Cov_z(σ(logits)) under the prior, by the trapezoid rule over z: (D, D)."""
    z, log_spacing = quadrature.trapezoid_grid(1, FINE)
    weights = np.exp(standard_normal_log_prob(z) + log_spacing)
    means = sigmoid(decoder.output(z))
    centred = means - weights @ means
    return centred.T @ (weights[:, None] * centred)


def _dependence(seed: int) -> list[Claim]:
    z = models.generator(seed, CHAPTER).standard_normal((50, 1))
    claims = []
    for name, (decoder, _, _) in (("xor", models.xor_decoder(seed)), ("bars", models.bars_decoder(seed))):
        tables = [enumeration.conditional(decoder, row) for row in z]
        total = max(abs(np.exp(table.log_prob).sum() - 1) for table in tables)
        given = max(np.abs(_off_diagonal(table.covariance())).max() for table in tables)
        marginal = _off_diagonal(enumeration.marginal(decoder).covariance())
        through_z = _off_diagonal(_covariance_of_means(decoder))
        claims += [
            equal(5, f"{name}: Σₓ p(x|z) − 1, largest at 50 z", total, 0, 1e-12),
            equal(5, f"{name}: Cov(x_d, x_e | z), largest at 50 z", given, 0, 1e-12),
            equal(5, f"{name}: Cov(x_d, x_e) − Cov_z(π_d, π_e), largest", np.abs(marginal - through_z).max(), 0, 1e-6),
            at_least(5, f"{name}: the largest |Cov(x_d, x_e)|", np.abs(marginal).max(), 0.1),
        ]
    return claims


# --- claim 6: a mixture beats one simple distribution ---------------------------------------------------------------


def _single_normal(points: Array, x: Array) -> float:
    """The mean log-density of x under the one normal, mean and covariance free, that fits `points` best."""
    from scipy.stats import multivariate_normal  # type: ignore[import-untyped]

    fitted = multivariate_normal(points.mean(axis=0), np.cov(points.T, bias=True))
    return float(fitted.logpdf(x).mean())


def _gains(seed: int) -> list[Claim]:
    claims = []
    for name, (decoder, x, _) in (("xor", models.xor_decoder(seed)), ("bars", models.bars_decoder(seed))):
        best = enumeration.independent_bernoulli_nll(x)
        chance = x.mean(axis=0)
        logits = np.broadcast_to(np.log(chance / (1 - chance)), x.shape)
        claims += [
            equal(6, f"{name}: NLL of independent pixels, summed − by entropies",
                  -bernoulli_log_prob_forward(x, logits)[0].mean() - best, 0, 1e-12),
            at_most(6, f"{name}: the mixture's exact NLL, below theirs by half a nat",
                    enumeration.marginal(decoder).nll(x), best - 0.5),
        ]  # fmt: skip
    decoder, points, _ = models.rings_decoder(seed)
    new, _ = data.rings(1000, seed + 1_000_003)
    mixture = -quadrature.log_likelihood(decoder, new).log_prob.mean()
    best = -_single_normal(points.astype(np.float64), new)
    return [*claims, at_most(6, "rings: the mixture's NLL on new points, below one normal's", mixture, best - 0.3)]


# --- claim 7: normal p(x|z) for continuous data ---------------------------------------------------------------------


def _normal(seed: int) -> list[Claim]:
    from scipy.stats import norm

    random = models.generator(seed, CHAPTER, 1)
    claims = []
    for likelihood, name in (
        ("normal-fixed", "σ fixed"),
        ("normal", "one σ learned"),
        ("normal-diagonal", "σ learned per dimension"),
    ):
        arch = Architecture(features=3, latent=2, hidden=(8,), activation="tanh", likelihood=likelihood, sigma=0.8)
        decoder = models.drawn_decoder(arch, seed)
        if likelihood != "normal-fixed":
            decoder.parameters["likelihood.logvar"][...] += random.normal(size=decoder.logvar().shape)
        z = random.standard_normal((40, 2))
        x = decoder.sample(z, random.standard_normal((40, 3)))
        out = decoder.output(z)
        expected = norm.logpdf(x, out, np.exp(0.5 * decoder.logvar())).sum(axis=1)
        found, _ = model.loglik_forward(*decoder.model, x, out)
        every = np.diag(decoder.loglik_matrix(x, z))
        worst = max(np.abs(found - expected).max(), np.abs(every - expected).max())
        claims.append(equal(7, f"log N(x; f(z), σ²) − SciPy's, largest of 40: {name}", worst, 0, 1e-12))
    rings, _, _ = models.rings_decoder(seed)
    learned = math.exp(0.5 * rings.logvar()[0])
    claims.append(equal(7, "rings: the σ that is learned, against the one that drew them", learned, 0.1, 0.015))
    return claims


# --- claim 8: z from the prior, then x given z ----------------------------------------------------------------------


def _p_value(x: Array, table: enumeration.Table) -> float:
    """The χ² test's p-value of binary x against the enumerated p(x); states expected less than 5 times are merged."""
    from scipy.stats import chisquare

    expected = len(x) * np.exp(table.log_prob)
    seen = np.bincount(enumeration.state_index(x), minlength=len(expected))
    rare = expected < 5
    if rare.any():
        seen, expected = np.append(seen[~rare], seen[rare].sum()), np.append(expected[~rare], expected[rare].sum())
    return float(chisquare(seen, expected * (seen.sum() / expected.sum())).pvalue)


def _sampling(seed: int) -> list[Claim]:
    drawn = VAE(4, hidden=(8,), latent=1, activation="tanh", dtype="float64", backend="numpy", seed=seed)
    for name, view in drawn.parameters.items():
        view *= 3.0 if name.startswith("decoder.") else 1.0
    decoder = Decoder.of(drawn.arch, drawn.parameters)
    table = enumeration.marginal(decoder)
    rows = np.arange(DRAWS)
    z = noise.normal(rows, 1, seed=seed, stream=noise.PRIOR, dtype=np.float64)
    u = noise.uniform(rows, 4, seed=seed, stream=noise.PRIOR, sample=1)
    wrong = (u < softplus(decoder.output(z))).astype(np.uint8)
    bars, _, _ = models.bars_decoder(seed)
    return [
        at_least(8, "χ² of 10⁵ draws of VAE.sample over 16 states: p",
                 _p_value(drawn.sample(DRAWS, seed), table), 1e-3),
        at_least(8, "χ² of 10⁵ draws of the fitted bars decoder: p",
                 _p_value(bars.sample(z, u), enumeration.marginal(bars)), 1e-3),
        at_most(8, "softplus(l) taken for the probability: p", _p_value(wrong, table), 1e-6),
    ]  # fmt: skip


# --- the figures ----------------------------------------------------------------------------------------------------


def _mixture_figure(seed: int) -> Figure:
    """Rings: the points, mixtures of 8 and of 40 of the decoder's normals, and the integral over all of them."""
    from vae_np.pictures.drawing import BLUE, INK, blank_figure, opacity, style

    decoder, points, _ = models.rings_decoder(seed)
    figure = blank_figure(1400, 400)
    axes = figure.subplots(1, 4)
    side, reach = 121, 2.6
    axis = np.linspace(-reach, reach, side)
    places = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    z, log_spacing = quadrature.trapezoid_grid(1, 2401)
    density = np.exp(decoder.log_joint_matrix(places, z) + log_spacing).sum(axis=1)
    top = float(np.quantile(density, 0.995))
    points = points[:1000]
    axes[0].scatter(points[:, 0], points[:, 1], s=7, color=BLUE, alpha=opacity(len(points)), linewidths=0)
    for ax, count in ((axes[1], 8), (axes[2], 40)):
        middles = np.array([NormalDist().inv_cdf((i + 0.5) / count) for i in range(count)])[:, None]
        parts = np.exp(decoder.loglik_matrix(places, middles)).mean(axis=1)
        _draw_density(ax, parts, reach, float(np.quantile(parts, 0.995)))
        _draw_circles(ax, decoder.output(middles), 2 * math.exp(0.5 * decoder.logvar()[0]))
    _draw_density(axes[3], density, reach, top)
    titles = ("the data: points", "8 normals, equally likely", "40 normals", "∫ p(z) N(x; f(z), σ²) dz")
    for ax, title in zip(axes, titles, strict=True):
        style(ax, "x₁", "x₂" if ax is axes[0] else "")
        ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
        ax.set_xticks((-2, 0, 2))
        ax.set_yticks((-2, 0, 2))
        ax.grid(visible=ax is axes[0])
        ax.set_title(title, loc="left", fontsize=10.5, fontweight="bold", color=INK, pad=8)
    return figure


def _draw_density(ax: Axes, density: Array, reach: float, top: float) -> None:
    side = math.isqrt(len(density))
    extent = (-reach, reach, -reach, reach)
    ax.imshow(density.reshape(side, side), cmap="Blues", vmin=0, vmax=top, origin="lower", extent=extent,
              interpolation="bilinear")  # fmt: skip


def _draw_circles(ax: Axes, centres: Array, radius: float) -> None:
    from matplotlib.patches import Circle

    from vae_np.pictures.drawing import ORANGE

    for first, second in centres:
        ax.add_patch(Circle((first, second), radius, fill=False, edgecolor=ORANGE, linewidth=0.9, zorder=3))


def _covariance_figure(seed: int) -> Figure:
    """Covariances of the four pixels: given z (two places), of the model without z, and of the data."""
    from vae_np.pictures.drawing import INK, blank_figure, number, style_bar

    figure = blank_figure(1160, 620)
    axes = figure.subplots(2, 4)
    for row, (name, (decoder, x, _)) in enumerate(
        (("xor", models.xor_decoder(seed)), ("bars", models.bars_decoder(seed)))
    ):
        panels = [
            (f"{name}: given z = {number(z, 1)}", enumeration.conditional(decoder, np.array([z])).covariance())
            for z in _uncertain(decoder)
        ]
        panels.append(("the model, z forgotten", enumeration.marginal(decoder).covariance()))
        panels.append(("the data", np.cov(x.T, bias=True)))
        for ax, (title, matrix) in zip(axes[row], panels, strict=True):
            picture = ax.imshow(matrix, cmap="RdBu_r", vmin=-0.25, vmax=0.25)
            for (i, j), value in np.ndenumerate(matrix):
                ax.text(j, i, number(value), ha="center", va="center", fontsize=8.5,
                        color="white" if abs(value) > 0.17 else INK)  # fmt: skip
            ax.set_xticks(range(4), [f"x{d}" for d in "₁₂₃₄"])
            ax.set_yticks(range(4), [f"x{d}" for d in "₁₂₃₄"])
            ax.tick_params(labelsize=9, length=0, labelcolor=INK)
            for spine in ax.spines.values():
                spine.set_visible(False)
            ax.set_title(title, loc="left", fontsize=10, fontweight="bold", color=INK)
    style_bar(figure.colorbar(picture, ax=axes, fraction=0.02, pad=0.01), "covariance")
    return figure


def _uncertain(decoder: Decoder) -> tuple[float, float]:
    """Two z within the prior's reach, one on each side of 0, where p(x|z) leaves most open."""
    z = np.linspace(-1.5, 1.5, 301)
    means = sigmoid(decoder.output(z[:, None]))
    spread = (means * (1 - means)).sum(axis=1)
    return float(z[:150][spread[:150].argmax()]), float(z[151:][spread[151:].argmax()])
