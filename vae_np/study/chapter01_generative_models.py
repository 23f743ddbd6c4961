"""Chapter 1: what it means to fit a generative model, and the two simplest families. Claims 1, 2 and 3. [D1] [D2]"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vae_np import data, noise, ops
from vae_np._types import Array
from vae_np.distributions import bernoulli_log_prob_forward, categorical_log_prob_forward
from vae_np.elbo import elbo_backward, elbo_forward
from vae_np.exact import enumeration, quadrature
from vae_np.exact.decoder import Decoder
from vae_np.model import Architecture, initialise
from vae_np.study import models
from vae_np.study.claims import Claim, Result, at_least, at_most, equal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "To fit is to maximise log p(x); the table of all outcomes fits best and is hopeless."

CHAPTER = 1
BARS_SIZE = 3
# A 3 × 4 lattice of the digits' pixels: D = 12, the most for which the table is still easily filled.
DIGIT_PIXELS = tuple(28 * row + column for row in (9, 11, 13) for column in (9, 12, 15, 18))
DIGIT_ROWS = 500


@dataclass(frozen=True)
class Scores:
    """What (table, independent pixels, decoder) score on the two halves of a data set, in nats an example.

    `unseen` is the share of test rows that never occur among `train_rows`, `ceiling` is −H(p̂) of those.
    """

    name: str
    train_rows: Array
    unseen: float
    parameters: tuple[int, int, int]
    train: tuple[float, float, float]
    test: tuple[float, float, float]
    ceiling: float


def run(seed: int) -> Result:
    """Fisher's identity, minibatches, and the full categorical against independent pixels and a decoder."""
    scores = [_bars(seed), _digits(seed)]
    claims = [*_maximum_likelihood(seed), *_minibatches(seed), *_counts(), *_ceilings(scores, seed)]
    return Result(claims, {"01-table-or-decoder": _figure(scores)})


# --- claim 1: maximise Σ log p(x), differentiable in θ ------------------------------------------------------------


def _gradient_error(decoder: Decoder, x: Array) -> float:
    """The largest error of Fisher's identity in any parameter, as a share of the largest gradient.

    The identity runs on a trapezoid grid; the differences (of order h⁴) are of log p(x) by Gauss-Hermite.
    """
    _, fisher = quadrature.log_likelihood_gradient(decoder, x, rule="trapezoid", nodes=2001)
    step, numeric = 1e-3, np.zeros_like(fisher.flat)

    def total(flat: Array) -> float:
        found = quadrature.log_likelihood(decoder.moved(flat), x, rule="gauss-hermite", nodes=80)
        return float(found.log_prob.sum())

    for index in range(len(numeric)):
        direction = np.zeros_like(numeric)
        direction[index] = step
        near, far = (
            total(decoder.parameters.flat + reach * direction) - total(decoder.parameters.flat - reach * direction)
            for reach in (1, 2)
        )
        numeric[index] = (8 * near - far) / (12 * step)
    return float(np.abs(fisher.flat - numeric).max() / np.abs(fisher.flat).max())


def _maximum_likelihood(seed: int) -> list[Claim]:
    binary = models.drawn_decoder(
        Architecture(features=4, latent=1, hidden=(5,), activation="tanh"), seed, gain=1.2
    )
    normal = models.drawn_decoder(
        Architecture(features=2, latent=1, hidden=(5,), activation="tanh", likelihood="normal", sigma=0.7), seed
    )
    rings, _ = data.rings(8, seed)
    images, _ = data.bars(2, 200, seed)
    by_rows = quadrature.log_likelihood(binary, images).log_prob.mean()
    seen, model = enumeration.empirical(images), enumeration.marginal(binary, rule="trapezoid")
    occurs = np.isfinite(seen.log_prob)
    kl = np.exp(seen.log_prob[occurs]) @ (seen.log_prob - model.log_prob)[occurs]
    _, _, trace = models.bars_decoder(seed, BARS_SIZE)
    return [
        equal(1, "∇ log p, Fisher − differences: Bernoulli", _gradient_error(binary, enumeration.states(4)), 0, 1e-6),
        equal(1, "∇ log p, Fisher − differences: normal, σ learned", _gradient_error(normal, rings), 0, 1e-6),
        equal(1, "mean log p = −H(p̂) − D(p̂‖p), nats", by_rows, -seen.entropy() - kl, 1e-10),
        at_least(1, "bars: nats an image that following ∇ log p gains", trace[-1] - trace[0], 1.0),
    ]


# --- claim 2: data are i.i.d. ---------------------------------------------------------------------------------------


def _mean_log_likelihood_gradient(decoder: Decoder, x: Array) -> Array:
    _, gradient = quadrature.log_likelihood_gradient(decoder, x, rule="trapezoid", nodes=401)
    return gradient.flat / len(x)


def _minibatches(seed: int) -> list[Claim]:
    images, _ = data.bars(2, 120, seed)
    arch = Architecture(features=4, latent=1, hidden=(8,), activation="tanh")
    parameters = initialise(arch, seed=seed, dtype=np.float64)
    decoder = Decoder.of(arch, parameters)
    order = noise.order(len(images), seed=seed, epoch=0)
    # ε belongs to the row, not to the batch: that is what makes the two sides comparable.
    eps = noise.normal(np.arange(len(images)), 1, seed=seed, stream=noise.EPS, dtype=np.float64)

    def elbo_gradient(rows: Array) -> Array:
        gradients = parameters.zeros_like()
        _, cache = elbo_forward(ops, arch, parameters, images[rows].astype(np.float64), eps[rows])
        elbo_backward(ops, arch, cache, gradients)
        return gradients.flat

    batches = order.reshape(10, 12)
    full = _mean_log_likelihood_gradient(decoder, images)
    parts = np.mean([_mean_log_likelihood_gradient(decoder, images[rows]) for rows in batches], axis=0)
    of_elbo = np.mean([elbo_gradient(rows) for rows in batches], axis=0) - elbo_gradient(np.arange(len(images)))
    unequal = [_mean_log_likelihood_gradient(decoder, images[rows]) for rows in np.split(order, [100])]
    return [
        equal(2, "∇ log p: mean of 10 minibatches − full batch", np.abs(parts - full).max(), 0, 1e-12),
        equal(2, "∇ ELBO: mean of 10 minibatches − full batch", np.abs(of_elbo).max(), 0, 1e-12),
        at_least(2, "batches of 100 and 20, each weighed the same: off by",
                 np.abs(np.mean(unequal, axis=0) - full).max(), 1e-4),
    ]  # fmt: skip


# --- claim 3: the full categorical is flexible and hopeless ---------------------------------------------------------


def _counts() -> list[Claim]:
    table = enumeration.categorical_parameter_count(784)
    default = Decoder.of(Architecture(), initialise(Architecture(), seed=0))
    by_hand = (20 * 400 + 400) + (400 * 784 + 784)
    return [
        equal(3, "D = 784: log₁₀ of the table's parameters", math.log10(table), 784 * math.log10(2), 1e-9),
        equal(3, "D = 784: the decoder's parameters", default.parameters.count, by_hand, 0),
    ]


def _scores(name: str, decoder: Decoder, train: Array, test: Array) -> Scores:
    features = train.shape[1]
    table, model = enumeration.empirical(train), enumeration.marginal(decoder)
    chance = train.mean(axis=0, dtype=np.float64)
    logits = np.log(chance / (1 - chance))

    def independent(x: Array) -> float:
        return float(bernoulli_log_prob_forward(x, np.broadcast_to(logits, x.shape))[0].mean())

    return Scores(
        name,
        train,
        float(np.isneginf(table.log_prob[enumeration.state_index(test)]).mean()),
        (enumeration.categorical_parameter_count(features), features, decoder.parameters.count),
        (-table.nll(train), independent(train), -model.nll(train)),
        (-table.nll(test), independent(test), -model.nll(test)),
        -enumeration.categorical_nll(train),
    )


def _bars(seed: int) -> Scores:
    decoder, train, _ = models.bars_decoder(seed, BARS_SIZE)
    test, _ = data.bars(BARS_SIZE, 1000, seed + 1_000_003)
    return _scores("bars, D = 9", decoder, train, test)


def _digits(seed: int) -> Scores:
    digits = data.load("mnist")
    chosen = models.generator(seed, CHAPTER).choice(len(digits.train), DIGIT_ROWS, replace=False)
    train, test = ((images[:, DIGIT_PIXELS] > 127).astype(np.uint8) for images in (digits.train[chosen], digits.test))
    arch = Architecture(features=len(DIGIT_PIXELS), latent=1, hidden=(16,), activation="tanh")
    decoder = models.drawn_decoder(arch, seed)
    rows, share = models.distinct(train)
    models.fit_exactly(decoder, rows, steps=300, lr=0.05, nodes=241, weights=share)
    return _scores("digits at 12 pixels", decoder, train, test)


def _ceilings(scores: list[Scores], seed: int) -> list[Claim]:
    claims = []
    for found in scores:
        rows, name = found.train_rows, found.name
        logits = np.broadcast_to(enumeration.empirical(rows).log_prob, (len(rows), 2 ** rows.shape[1]))
        fitted = categorical_log_prob_forward(enumeration.state_index(rows), logits)[0].mean()
        others = models.generator(seed, CHAPTER, 1).dirichlet(np.ones(logits.shape[1]), size=200)
        best = np.log(others[:, enumeration.state_index(rows)]).mean(axis=1).max()
        claims += [
            equal(3, f"{name}: the fitted table scores −H(p̂)", fitted, found.ceiling, 1e-12, relative=True),
            at_most(3, f"{name}: independent pixels score less", found.train[1], found.ceiling),
            at_most(3, f"{name}: a decoder scores less", found.train[2], found.ceiling),
            at_most(3, f"{name}: and so does the best of 200 other tables", best, found.ceiling),
        ]
    digits = scores[1]
    claims += [
        at_least(3, "digits: share of test digits that the table calls impossible", digits.unseen, 1e-3),
        at_least(3, "digits: test score, decoder − independent pixels", digits.test[2] - digits.test[1], 0.1),
    ]
    return claims


# --- the figure -----------------------------------------------------------------------------------------------------


def _figure(scores: list[Scores]) -> Figure:
    from vae_np.pictures.drawing import INK, blank_figure

    figure = blank_figure(1320, 470)
    images, counts, levels = figure.subplots(1, 3, width_ratios=(0.8, 1, 1.25))
    _draw_images(images, scores[0].train_rows)
    _draw_counts(counts)
    _draw_scores(levels, scores)
    for ax, title in (
        (images, "The data: 3 × 3 bars"),
        (counts, "Numbers that a model needs"),
        (levels, "What it gives the data"),
    ):
        ax.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK, pad=8)
    return figure


def _draw_images(ax: Axes, rows: Array) -> None:
    from vae_np.pictures.drawing import MUTED, mosaic

    canvas = mosaic(rows[:35].astype(np.float64), (BARS_SIZE, BARS_SIZE), 5, gap=4, width=320)
    shown = np.where(np.isnan(canvas), 1.0, np.where(canvas < 0, 0.75, canvas))
    ax.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.set_axis_off()
    ax.text(0.5, -0.03, "35 of 500 images; 14 different ones occur", transform=ax.transAxes, ha="center", va="top",
            fontsize=9, color=MUTED)  # fmt: skip


def _draw_counts(ax: Axes) -> None:
    from vae_np.pictures.drawing import BLUE, GREEN, ORANGE, style

    style(ax, "pixels D", "parameters")
    pixels = np.unique(np.round(np.geomspace(1, 784, 80)).astype(int))
    narrow = pixels[pixels <= 45]
    sizes = [Architecture(features=int(d)) for d in pixels]
    decoder = [Decoder.of(arch, initialise(arch, seed=0)).parameters.count for arch in sizes]
    ax.plot(narrow, [enumeration.categorical_parameter_count(int(d)) for d in narrow], color=ORANGE, linewidth=2)
    ax.plot(pixels, decoder, color=BLUE, linewidth=2)
    ax.plot(pixels, pixels, color=GREEN, linewidth=2)
    ax.set(xscale="log", yscale="log", ylim=(0.7, 1e12))
    ax.set_xticks((1, 4, 12, 40, 200, 784), ("1", "4", "12", "40", "200", "784"))
    ax.minorticks_off()
    ax.text(44, 2e8, "table of all\noutcomes:\n$2^D - 1$", fontsize=9, color=ORANGE)
    ax.text(48, 3e11, "↑ $10^{236}$ at D = 784", fontsize=9, color=ORANGE, va="center")
    ax.text(784, 1.2e3, "decoder: 20 latents,\n400 hidden units", fontsize=9, color=BLUE, ha="right", va="bottom")
    ax.text(784, 4, "independent pixels: D", fontsize=9, color=GREEN, ha="right", va="bottom")


def _draw_scores(ax: Axes, scores: list[Scores]) -> None:
    from vae_np.pictures.drawing import BLUE, GREEN, INK, MUTED, ORANGE, number, style

    style(ax, "", "mean log-likelihood (nats an example)")
    finite = [value for found in scores for value in (*found.train, *found.test) if np.isfinite(value)]
    floor = min(finite) - 1.0
    places = [4.0 * group + index for group in range(len(scores)) for index in range(3)]
    for group, found in enumerate(scores):
        left, right = 4 * group - 0.5, 4 * group + 2.8
        ax.plot((left, right), (found.ceiling,) * 2, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        ax.text(right, found.ceiling + 0.1, r"ceiling $-H(\hat p)$", ha="right", fontsize=9, color=INK)
        for index, colour in enumerate((ORANGE, GREEN, BLUE)):
            place, train, test = 4 * group + index, found.train[index], found.test[index]
            ax.plot((place,), (train,), marker="o", markersize=10, color=colour, zorder=3)
            ax.text(place + 0.22, train - 0.12, number(train), va="top", fontsize=8.5, color=MUTED)
            if np.isfinite(test):
                ax.plot((place,), (test,), marker="D", markersize=6, color="white", markeredgecolor=colour, zorder=4)
            else:
                ax.annotate("", (place, floor), (place, train - 0.15),
                            arrowprops={"arrowstyle": "->", "color": colour, "linewidth": 1.6})  # fmt: skip
                ax.text(place + 0.2, floor + 0.2, "new: −∞", fontsize=8.5, color=colour)
    ax.plot([], [], marker="o", markersize=8, color=MUTED, linestyle="none", label="training examples")
    ax.plot([], [], marker="D", markersize=6, color="white", markeredgecolor=MUTED, linestyle="none",
            label="new examples")  # fmt: skip
    labels = [
        f"{name}\n{count:,}" + (f"\n\n{found.name}" if index == 1 else "")
        for found in scores
        for index, (name, count) in enumerate(zip(("table", "indep.", "decoder"), found.parameters, strict=True))
    ]
    ax.set_xticks(places, labels)
    ax.tick_params(axis="x", labelsize=9)
    ax.set_xlim(-0.8, 7.2)
    ax.set_ylim(floor - 0.2, max(found.ceiling for found in scores) + 0.7)
    ax.grid(visible=False, axis="x")
    ax.legend(loc="lower left", fontsize=8.5, frameon=False)
