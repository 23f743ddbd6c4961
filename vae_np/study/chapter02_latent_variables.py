"""Chapter 2: simple distributions, mixed over a latent variable, are not simple. Claims 4 to 8. [D3] [D4] [D5] [D6]"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from vae_np import VAE, data, model, noise
from vae_np._types import Array
from vae_np.architecture import Architecture
from vae_np.choices import Likelihood
from vae_np.distributions import bernoulli_log_prob_forward
from vae_np.elbo import standard_normal_log_prob
from vae_np.exact import enumeration, quadrature
from vae_np.exact.decoder import Decoder
from vae_np.layers import sigmoid
from vae_np.study import models, plain
from vae_np.study.claims import Claim, at_least, at_most, equal, in_errors, zero

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "Simple distributions, mixed over a latent variable, become a complicated one."

CHAPTER = 2
DRAWS = 100_000
# Fine enough for the steepest of the fitted decoders; their outputs switch within a hundredth of the prior's width.
FINE = 16_001


def figures(seed: int) -> dict[str, Figure]:
    """A mixture at work, and the covariances that come of it."""
    return {"02-mixture": _mixture_figure(seed), "02-covariance": _covariance_figure(seed)}


def notes(seed: int) -> list[str]:
    """What three nodes miss, and the σ that the rings' decoder has learned."""
    one = _small(seed, 1)
    few = quadrature.log_likelihood(one, enumeration.states(4), rule="gauss-hermite", nodes=3).log_prob
    off = np.abs(few - plain.log_evidence(one, enumeration.states(4))).max()
    rings, _, _ = models.rings_decoder(seed)
    return [
        f"Three nodes sum to one over all x as well, and miss log p(x) by {off:.2g} nats.",
        f"Rings: σ = {math.exp(0.5 * rings.logvar()[0]):.3f} is learned; the points were drawn with 0.1.",
    ]


# --- claim 4: p(x) = ∫ p(z) p(x|z) dz -------------------------------------------------------------------------------


def _small(seed: int, latent: int) -> Decoder:
    return models.drawn_decoder(Architecture(features=4, latent=latent, hidden=(8,), activation="tanh"), seed, gain=1.5)


def integral(seed: int) -> list[Claim]:
    """Claim 4: log p(x) by each rule of the package against Legendre sums over the definitions."""
    x = enumeration.states(4)
    one, two = _small(seed, 1), _small(seed, 2)
    expected = plain.log_evidence(one, x)

    def off(nodes: int) -> float:
        found = quadrature.log_likelihood(one, x, rule="gauss-hermite", nodes=nodes)
        return float(np.abs(found.log_prob - expected).max())

    errors = {nodes: off(nodes) for nodes in (20, 40, 80, 200)}
    lattice = quadrature.log_likelihood(one, x, rule="trapezoid").log_prob - expected
    wide = plain.log_evidence(two, x, count=32)
    legendre = "Legendre sums over the definitions"
    claims = [
        zero(4, "K = 1: trapezoid − Legendre, largest of 16 x", lattice, 1e-10, by=("4,001 nodes", legendre)),
        zero(4, "K = 1: Gauss-Hermite − Legendre, largest of 16 x", errors[200], 1e-10, by=("200 nodes", legendre)),
    ]
    for rule, name, nodes in (
        ("trapezoid", "trapezoid", 201), ("gauss-hermite", "Gauss-Hermite", 100), ("adaptive", "adaptive lattice", None)
    ):
        found = quadrature.log_likelihood(two, x, rule=rule, nodes=nodes).log_prob
        claims.append(
            zero(4, f"K = 2: {name} − Legendre, largest of 16 x", found - wide, 1e-8,
                 by=("lattice refined until it stands still" if nodes is None else f"{nodes}² nodes", legendre))
        )  # fmt: skip
    three = enumeration.marginal(one, rule="gauss-hermite", nodes=3)
    return [
        *claims,
        at_most(4, "Gauss-Hermite's error, 40 nodes over 20", errors[40] / errors[20], 0.5,
                by=("40 nodes", "20 nodes")),
        at_most(4, "Gauss-Hermite's error, 80 nodes over 40", errors[80] / errors[40], 0.5,
                by=("80 nodes", "40 nodes")),
        equal(4, "with 3 nodes: Σₓ p(x), the same for any rule", np.exp(three.log_prob).sum(), 1, 1e-12,
              by=("sum over all 16 x, 3 nodes", "one")),
    ]  # fmt: skip


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


def _in_table(x: Array, log_prob: Array) -> float:
    """The p-value of χ² for binary x against probabilities of every state, as they stand: they are not made to sum to
    one. States that are expected less than 5 times are merged."""
    from scipy.stats import chi2  # type: ignore[import-untyped]

    expected = len(x) * np.exp(log_prob)
    seen = np.bincount(enumeration.state_index(x), minlength=len(expected))
    rare = expected < 5
    if rare.any():
        seen, expected = np.append(seen[~rare], seen[rare].sum()), np.append(expected[~rare], expected[rare].sum())
    possible = expected > 0
    statistic = ((seen - expected)[possible] ** 2 / expected[possible]).sum()
    return float(chi2.sf(statistic, max(1, possible.sum() - 1)))


def _sampled_covariances(x: Array) -> Array:
    """The covariances of pairs of pixels among draws x (M, D), each in its standard error under independence."""
    spread = x.var(axis=0)
    errors = np.sqrt(np.outer(spread, spread) / len(x))
    with np.errstate(invalid="ignore", divide="ignore"):
        units = np.where(errors > 0, np.cov(x.T, bias=True) / errors, 0)
    return _off_diagonal(units)


def dependence(seed: int) -> list[Claim]:
    """Claim 5: draws at one z, whose pixels are independent; draws without one, whose pixels are not."""
    claims = []
    rows = np.arange(DRAWS)
    for name, (decoder, _, _) in (("xor", models.xor_decoder(seed)), ("bars", models.bars_decoder(seed))):
        places = [np.array([z]) for z in _uncertain(decoder)]
        draws = [
            decoder.sample(
                np.broadcast_to(z, (DRAWS, 1)),
                noise.uniform(rows, 4, seed=seed, stream=noise.PRIOR, sample=2 + place),
            )
            for place, z in enumerate(places)
        ]
        tables = [enumeration.conditional(decoder, z).log_prob for z in places]
        given = np.concatenate([_sampled_covariances(each) for each in draws])
        z = noise.normal(rows, 1, seed=seed, stream=noise.PRIOR, dtype=np.float64)
        freely = decoder.sample(z, noise.uniform(rows, 4, seed=seed, stream=noise.PRIOR, sample=1))
        marginal = _off_diagonal(enumeration.marginal(decoder).covariance())
        through_z = _off_diagonal(_covariance_of_means(decoder))
        claims += [
            equal(5, f"{name}: Σₓ p(x|z), at an undecided z", np.exp(tables[0]).sum(), 1, 1e-12,
                  by=("log p(x|z) of all 16 x", "one")),
            at_least(5, f"{name}: χ² of 10⁵ draws at two z, the smaller p",
                     min(_in_table(*pair) for pair in zip(draws, tables, strict=True)), 1e-4,
                     by=("the sampler of training's model", "log p(x|z) of all 16 x")),
            in_errors(5, f"{name}: Cov(x_d, x_e | z) of these draws, std. errors", given, 0, 1,
                      by=("the sampler of training's model", "independence")),
            zero(5, f"{name}: Cov(x_d, x_e) − Cov_z(π_d, π_e), largest", marginal - through_z, 1e-6,
                 by=("enumerated p(x)", "means σ(l) on a grid of z")),
            at_least(5, f"{name}: largest |Cov| of draws without z, std. errors",
                     np.abs(_sampled_covariances(freely)).max(), 4.5,
                     by=("the sampler, z from the prior", "independence")),
        ]  # fmt: skip
    return claims


# --- claim 6: a mixture beats one simple distribution ---------------------------------------------------------------


def _single_normal(points: Array, x: Array) -> float:
    """The mean log-density of x under the one normal, mean and covariance free, that fits `points` best."""
    from scipy.stats import multivariate_normal

    fitted = multivariate_normal(points.mean(axis=0), np.cov(points.T, bias=True))
    return float(fitted.logpdf(x).mean())


def gains(seed: int) -> list[Claim]:
    """Claim 6: what the mixture gains over one simple distribution, by two ways of having its p(x)."""
    claims = []
    for name, (decoder, x, _) in (("xor", models.xor_decoder(seed)), ("bars", models.bars_decoder(seed))):
        best = enumeration.independent_bernoulli_nll(x)
        chance = x.mean(axis=0)
        logits = np.broadcast_to(np.log(chance / (1 - chance)), x.shape)
        rows, share = models.distinct(x)
        gain = best - enumeration.marginal(decoder).nll(x)
        again = best + share @ plain.log_evidence(decoder, rows, count=plain.STEEP)
        claims += [
            zero(6, f"{name}: NLL of independent pixels, summed − by entropies",
                 -bernoulli_log_prob_forward(x, logits)[0].mean() - best, 1e-12,
                 by=("log p(x) with the fitted logits", "entropies of the pixels")),
            equal(6, f"{name}: nats that the mixture gains over them", gain, again, 1e-8,
                  by=("enumerated p(x)", "Legendre sums of the distinct rows")),
            at_least(6, f"{name}: and these are more than none", gain, 0,
                     by=("enumerated p(x)", "entropies of the pixels")),
        ]  # fmt: skip
    decoder, points, _ = models.rings_decoder(seed)
    new, _ = data.rings(100, seed + 1_000_003)
    best = -_single_normal(points.astype(np.float64), new)
    gain = best + quadrature.log_likelihood(decoder, new).log_prob.mean()
    again = best + plain.log_evidence(decoder, new.astype(np.float64), count=plain.STEEP).mean()
    return [
        *claims,
        equal(6, "rings: nats gained over one normal, 100 new points", gain, again, 1e-8,
              by=("adaptive lattice", "Legendre sums")),
        at_least(6, "rings: and these are more than none", gain, 0, by=("adaptive lattice", "SciPy's normal density")),
    ]  # fmt: skip


# --- claim 7: normal p(x|z) for continuous data ---------------------------------------------------------------------


def normal(seed: int) -> list[Claim]:
    """Claim 7: the normal decoder's density against SciPy's, and what a learned σ comes to."""
    from scipy.stats import norm

    random = models.generator(seed, CHAPTER, 1)
    claims = []
    kinds: dict[Likelihood, str] = {
        "normal-fixed": "σ fixed",
        "normal": "one σ learned",
        "normal-diagonal": "σ learned per dimension",
    }
    for likelihood, name in kinds.items():
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
        claims.append(zero(7, f"log N(x; f(z), σ²) − SciPy's, largest of 40: {name}", worst, 1e-12,
                           by=("pairs and matrix of log p(x|z)", "scipy.stats.norm")))  # fmt: skip
    rings, points, _ = models.rings_decoder(seed)
    learned = math.exp(0.5 * rings.logvar()[0])
    left = _residual(rings, points.astype(np.float64))
    return [
        *claims,
        equal(7, "rings: σ learned, against the root mean squared residual", learned, left, 0.03, relative=True,
              by=("gradient ascent on log p(x)", "E[(x − f(z))² | x], Legendre sums")),
    ]  # fmt: skip


def _residual(decoder: Decoder, x: Array) -> float:
    """√ of the mean over x of E[(x_d − f_d(z))² | x], which is what a learned σ settles at. [D5]"""
    z, weights = plain.panels(np.array([-6.0]), np.array([6.0]), 400)
    out, total = plain.output(decoder, z), 0.0
    for row in x:
        heights = plain.log_joint(decoder, row[None], z)[0]
        mass = weights * np.exp(heights - heights.max())
        total += float((mass / mass.sum()) @ ((row - out) ** 2).mean(axis=1))
    return math.sqrt(total / len(x))


# --- claim 8: z from the prior, then x given z ----------------------------------------------------------------------


def sampling(seed: int) -> list[Claim]:
    """Claim 8: draws against the enumerated p(x), and against Legendre sums."""
    drawn = VAE(4, hidden=(8,), latent=1, activation="tanh", dtype="float64", backend="numpy", seed=seed)
    for name, view in drawn.parameters.items():
        view *= 3.0 if name.startswith("decoder.") else 1.0
    decoder = Decoder.of(drawn.arch, drawn.parameters)
    rows = np.arange(DRAWS)
    z = noise.normal(rows, 1, seed=seed, stream=noise.PRIOR, dtype=np.float64)
    u = noise.uniform(rows, 4, seed=seed, stream=noise.PRIOR, sample=1)
    bars, _, _ = models.bars_decoder(seed)
    by_sums = plain.log_evidence(bars, enumeration.states(4), count=plain.STEEP)
    return [
        at_least(8, "χ² of 10⁵ draws of VAE.sample over 16 states: p",
                 _in_table(drawn.sample(DRAWS, seed), enumeration.marginal(decoder).log_prob), 1e-4,
                 by=("ancestral sampling", "enumerated p(x)")),
        at_least(8, "χ² of 10⁵ draws of the fitted bars decoder: p", _in_table(bars.sample(z, u), by_sums), 1e-4,
                 by=("ancestral sampling", "Legendre sums of all 16 x")),
    ]  # fmt: skip


CLAIMS = {4: integral, 5: dependence, 6: gains, 7: normal, 8: sampling}


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
        ax.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK, pad=8)
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
                ax.text(j, i, number(value), ha="center", va="center", fontsize=10,
                        color="white" if abs(value) > 0.17 else INK)  # fmt: skip
            ax.set_xticks(range(4), [f"x{d}" for d in "₁₂₃₄"])
            ax.set_yticks(range(4), [f"x{d}" for d in "₁₂₃₄"])
            ax.tick_params(labelsize=10, length=0, labelcolor=INK)
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
