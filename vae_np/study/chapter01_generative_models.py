"""Chapter 1: what it means to fit a generative model, and the two simplest families. Claims 1, 2 and 3. [D1] [D2]"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from vae_np import data, noise, ops
from vae_np._types import Array
from vae_np.architecture import Architecture
from vae_np.distributions import bernoulli_log_prob_forward, categorical_log_prob_forward
from vae_np.elbo import elbo_backward, elbo_forward
from vae_np.exact import enumeration, quadrature
from vae_np.exact.decoder import Decoder
from vae_np.model import initialise
from vae_np.study import models, plain
from vae_np.study.claims import Claim, at_least, at_most, equal, zero

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

    `unseen` is the share of test rows that never occur among `train_rows`, `ceiling` is −H(p̃) of those.
    """

    name: str
    decoder: Decoder
    train_rows: Array
    test_rows: Array
    unseen: float
    parameters: tuple[int, int, int]
    train: tuple[float, float, float]
    test: tuple[float, float, float]
    ceiling: float


@cache
def _both_scores(seed: int) -> list[Scores]:
    return [_bars(seed), _digits(seed)]


def figures(seed: int) -> dict[str, Figure]:
    """The table of all outcomes, independent pixels and a decoder."""
    return {"01-table-or-decoder": _figure(_both_scores(seed))}


def notes(seed: int) -> list[str]:
    """How many numbers each model of a digit needs."""
    count = Decoder.of(Architecture(), initialise(Architecture(), seed=0)).parameters.count
    digits = math.log10(enumeration.categorical_parameter_count(784))
    return [
        f"At D = 784 the table needs 10^{digits:.0f} numbers, independent pixels 784, the default decoder {count:,}.",
    ]


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


def maximum_likelihood(seed: int) -> list[Claim]:
    """Claim 1: the gradient of log p(x), what its mean over the data is made of, and a climb along it."""
    binary = models.drawn_decoder(
        Architecture(features=4, latent=1, hidden=(5,), activation="tanh"), seed, gain=1.2
    )
    normal = models.drawn_decoder(
        Architecture(features=2, latent=1, hidden=(5,), activation="tanh", likelihood="normal", sigma=0.7), seed
    )
    rings, _ = data.rings(8, seed)
    images, _ = data.bars(2, 200, seed)
    by_rows = quadrature.log_likelihood(binary, images).log_prob.mean()
    rows, share = models.distinct(images)
    before = plain.log_evidence(binary, rows)
    expected = share @ np.log(share) - share @ (np.log(share) - before)
    slopes = (
        ("Bernoulli", _gradient_error(binary, enumeration.states(4))),
        ("normal, σ learned", _gradient_error(normal, rings)),
    )
    models.fit_exactly(binary, rows, steps=20, lr=0.02, nodes=401, weights=share)
    after = plain.log_evidence(binary, rows)
    return [
        *(
            zero(1, f"∇ log p, Fisher − differences: {name}", off, 1e-6,
                 by=("Fisher's identity, trapezoid", "differences of log p(x), Gauss-Hermite"))
            for name, off in slopes
        ),
        equal(1, "mean log p = −H(p̃) − KL(p̃‖p), nats", by_rows, expected, 1e-8,
              by=("mean over 200 rows, adaptive lattice", "shares of the distinct rows, Legendre sums")),
        at_least(1, "20 steps along ∇ log p: nats an image gained", share @ (after - before), 0,
                 by=("log p(x) after them, Legendre sums", "and before them")),
    ]  # fmt: skip


# --- claim 2: data are i.i.d. ---------------------------------------------------------------------------------------


def _mean_log_likelihood_gradient(decoder: Decoder, x: Array) -> Array:
    _, gradient = quadrature.log_likelihood_gradient(decoder, x, rule="trapezoid", nodes=401)
    return gradient.flat / len(x)


def minibatches(seed: int) -> list[Claim]:
    """Claim 2: gradients of minibatches, and of the whole data set."""
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
    pair = np.split(order, [100])
    unequal = sum(len(rows) / 120 * _mean_log_likelihood_gradient(decoder, images[rows]) for rows in pair)
    whole = "one gradient of all 120 rows"
    return [
        zero(2, "∇ log p: mean of 10 minibatches − full batch", parts - full, 1e-12,
             by=("10 gradients of 12 rows", whole)),
        zero(2, "∇ ELBO: mean of 10 minibatches − full batch", of_elbo, 1e-12,
             by=("10 backward passes of 12 rows", "one backward pass of all 120")),
        zero(2, "∇ log p: batches of 100 and 20, weighed by size − full", unequal - full, 1e-12,
             by=("gradients of 100 and of 20 rows", whole)),
    ]  # fmt: skip


# --- claim 3: the full categorical is flexible and hopeless ---------------------------------------------------------


def _scores(name: str, decoder: Decoder, train: Array, test: Array) -> Scores:
    features = train.shape[1]
    table, model = enumeration.empirical(train), enumeration.marginal(decoder)
    chance = train.mean(axis=0, dtype=np.float64)
    logits = np.log(chance / (1 - chance))

    def independent(x: Array) -> float:
        return float(bernoulli_log_prob_forward(x, np.broadcast_to(logits, x.shape))[0].mean())

    return Scores(
        name,
        decoder,
        train,
        test,
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


def _near_the_table(rows: Array, seed: int) -> tuple[Array, float]:
    """How much less than the fitted table 200 others score, that lie near it, and what a second-order theory expects.

    log p̃ + h u, normalised anew, with u standard normal in each state, falls by h²/2 · Var_p̃(u) on average.
    """
    distinct, share = models.distinct(rows)
    reach, u = 0.05, models.generator(seed, CHAPTER, 1).standard_normal((200, len(distinct)))
    places = np.broadcast_to(np.arange(len(share)), (200, len(share))).reshape(-1)
    logits = np.repeat(np.log(share) + reach * u, len(share), axis=0)
    scores = categorical_log_prob_forward(places, logits)[0].reshape(200, -1) @ share
    variances = ((u - (u @ share)[:, None]) ** 2) @ share
    return scores, 0.5 * reach**2 * float(variances.mean())


def ceilings(seed: int) -> list[Claim]:
    """Claim 3: what the fitted table scores, that all else scores less, and by how much; what it gives new data."""
    claims = []
    for found in _both_scores(seed):
        rows, name = found.train_rows, found.name
        logits = np.broadcast_to(enumeration.empirical(rows).log_prob, (len(rows), 2 ** rows.shape[1]))
        fitted = categorical_log_prob_forward(enumeration.state_index(rows), logits)[0].mean()
        distinct, share = models.distinct(rows)
        chance = share @ distinct
        inside = chance[(chance > 0) & (chance < 1)]
        apart = -(inside * np.log(inside) + (1 - inside) * np.log(1 - inside)).sum() + share @ np.log(share)
        divergence = share @ (np.log(share) - plain.log_evidence(found.decoder, distinct, count=plain.STEEP))
        others, fall = _near_the_table(rows, seed)
        claims += [
            equal(3, f"{name}: the fitted table scores −H(p̃)", fitted, found.ceiling, 1e-12, relative=True,
                  by=("log-softmax of the table of counts", "entropy of the distinct rows' shares")),
            equal(3, f"{name}: its lead over independent pixels", found.ceiling - found.train[1], apart, 1e-10,
                  by=("−H(p̃) − the fitted pixels' mean log p", "Σ H(x_d) − H(p̃), by entropies")),
            equal(3, f"{name}: its lead over a decoder", found.ceiling - found.train[2], divergence, 1e-7,
                  by=("−H(p̃) − enumerated log p(x)", "KL(p̃‖p), p(x) by Legendre sums")),
            at_most(3, f"{name}: the best of 200 tables near it − the table", others.max() - found.ceiling, 0,
                    by=("log-softmax of disturbed tables", "entropy of the distinct rows' shares")),
            equal(3, f"{name}: their mean fall, over ½ h² Var(u)", (found.ceiling - others.mean()) / fall, 1, 0.05,
                  by=("scores of 200 disturbed tables", "second-order expansion of the log-sum")),
        ]  # fmt: skip
    digits = _both_scores(seed)[1]
    known = {row.tobytes() for row in digits.train_rows}
    new = np.mean([row.tobytes() not in known for row in digits.test_rows])
    return [
        *claims,
        equal(3, "digits: share of test digits that the table calls impossible", digits.unseen, new, 0,
              by=("log p = −∞ under the table", "rows that a set of the training rows lacks")),
        at_least(3, "digits: test score, decoder − independent pixels", digits.test[2] - digits.test[1], 0,
                 by=("enumerated log p(x) of the decoder", "the fitted pixels' log p(x)")),
    ]  # fmt: skip


CLAIMS = {1: maximum_likelihood, 2: minibatches, 3: ceilings}


# --- the figure -----------------------------------------------------------------------------------------------------


def _figure(scores: list[Scores]) -> Figure:
    from vae_np.pictures.drawing import INK, blank_figure

    figure = blank_figure(1320, 470)
    images, counts, levels = figure.subplots(1, 3, width_ratios=(0.75, 1, 1.75))
    _draw_images(images, scores[0].train_rows)
    _draw_counts(counts)
    _draw_scores(levels, scores)
    for ax, title in (
        (images, "The data: 3 × 3 bars"),
        (counts, "Numbers that a model needs"),
        (levels, "What it gives the data"),
    ):
        ax.set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK, pad=8)
    return figure


def _draw_images(ax: Axes, rows: Array) -> None:
    from vae_np.pictures.drawing import MUTED, mosaic

    canvas = mosaic(rows[:35].astype(np.float64), (BARS_SIZE, BARS_SIZE), 5, gap=4, width=320)
    shown = np.where(np.isnan(canvas), 1.0, np.where(canvas < 0, 0.75, canvas))
    ax.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.set_axis_off()
    ax.text(0.5, -0.03, "35 of 500 images; 14 kinds occur", transform=ax.transAxes, ha="center", va="top",
            fontsize=10, color=MUTED)  # fmt: skip


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
    ax.text(44, 2e8, "table of all\noutcomes:\n$2^D - 1$", fontsize=10, color=ORANGE)
    ax.text(48, 3e11, "↑ $10^{236}$ at D = 784", fontsize=10, color=ORANGE, va="center")
    ax.text(784, 3e2, "decoder: 20 latents,\n400 hidden", fontsize=10, color=BLUE, ha="right", va="bottom")
    ax.text(784, 1.5, "independent pixels: D", fontsize=10, color=GREEN, ha="right", va="bottom")


def _draw_scores(ax: Axes, scores: list[Scores]) -> None:
    from vae_np.pictures.drawing import BLUE, GREEN, INK, MUTED, ORANGE, number, style

    style(ax, "", "mean log-likelihood (nats an example)")
    finite = [value for found in scores for value in (*found.train, *found.test) if np.isfinite(value)]
    floor = min(finite) - 1.0
    places = [4.0 * group + index for group in range(len(scores)) for index in range(3)]
    for group, found in enumerate(scores):
        left, right = 4 * group - 0.5, 4 * group + 2.8
        ax.plot((left, right), (found.ceiling,) * 2, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        ax.text(right, found.ceiling + 0.1, r"ceiling $-H(\tilde p)$", ha="right", fontsize=10, color=INK)
        for index, colour in enumerate((ORANGE, GREEN, BLUE)):
            place, train, test = 4 * group + index, found.train[index], found.test[index]
            ax.plot((place,), (train,), marker="o", markersize=10, color=colour, zorder=3)
            ax.text(place + 0.22, train - 0.12, number(train), va="top", fontsize=10, color=MUTED)
            if np.isfinite(test):
                ax.plot((place,), (test,), marker="D", markersize=6, color="white", markeredgecolor=colour, zorder=4)
            else:
                ax.annotate("", (place, floor), (place, train - 0.15),
                            arrowprops={"arrowstyle": "->", "color": colour, "linewidth": 1.6})  # fmt: skip
                ax.text(place + 0.2, floor + 0.2, "new: −∞", fontsize=10, color=colour)
    ax.plot([], [], marker="o", markersize=8, color=MUTED, linestyle="none", label="training examples")
    ax.plot([], [], marker="D", markersize=6, color="white", markeredgecolor=MUTED, linestyle="none",
            label="new examples")  # fmt: skip
    labels = [
        f"{name}\n{count:,}" + (f"\n\n{found.name}" if index == 1 else "")
        for found in scores
        for index, (name, count) in enumerate(zip(("table", "pixels", "decoder"), found.parameters, strict=True))
    ]
    ax.set_xticks(places, labels)
    ax.tick_params(axis="x", labelsize=10)
    ax.set_xlim(-0.8, 7.2)
    ax.set_ylim(floor - 0.2, max(found.ceiling for found in scores) + 0.7)
    ax.grid(visible=False, axis="x")
    ax.legend(loc="lower left", fontsize=10, frameon=False)
