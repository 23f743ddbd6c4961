"""Chapter 6: one network in place of n optimisations, and what it costs the bound. Claims 22 to 25. [D19] [D20]"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vae_np import VAE
from vae_np._types import Array
from vae_np.exact import quadrature
from vae_np.exact.amortisation import Gap, split_gap
from vae_np.exact.decoder import Decoder
from vae_np.exact.inference import ELBO, Family, Rule, Solution, maximise
from vae_np.exact.linear_gaussian import LinearGaussian, from_parameters, ppca_log_likelihood, to_parameters
from vae_np.exact.nested_and_joint import joint_ascent
from vae_np.study import models, trained
from vae_np.study.claims import Claim, Result, at_least, at_most, equal
from vae_np.training import per_datapoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "An encoder replaces a solve for every x; it loosens the bound a little and costs far less."

CHAPTER = 6
IMAGES = 20
TWO = Family("diagonal", 2)
# One of each in the figure: the tightest bound, the middle one, and whose encoder's and family's fault is largest.
SHOWN = 4


@dataclass(frozen=True)
class Digits:
    """A VAE with two latents, test digits x (N, 784), its λ of them, the split gap, and both bounds (N,) in nats."""

    vae: VAE
    decoder: Decoder
    x: Array
    lam: Array
    gap: Gap
    of_encoder: Array
    of_best: Array


@dataclass(frozen=True)
class Seconds:
    """Seconds an image: one pass of the encoder, 50 steps of Adam on its λ, and a solve to convergence."""

    encoder: float
    adam: float
    solve: float


def run(seed: int) -> Result:
    """λ of its own for every x, then the encoder's: parameters, bounds, the gap in two parts, and time."""
    found = _digits(seed)
    seconds = _seconds(found, seed)
    claims = [*_own_lambdas(seed), *_no_encoder(found, seed), *_order(found), *_gaps(found), *_cheaper(seconds)]
    figures = {
        "06-gap-in-two": _gap_figure(found),
        "06-q-and-posterior": _posterior_figure(found),
        "06-cost": _cost_figure(seconds),
    }
    return Result(claims, figures)


def _digits(seed: int) -> Digits:
    vae = trained.mnist_vae(seed)
    decoder = Decoder.of(vae.arch, vae.parameters)
    test = trained.digits()[1]
    chosen = models.generator(seed, CHAPTER).choice(len(test), IMAGES, replace=False)
    x = decoder.check(test[chosen])
    mu, logvar = vae.encode(test[chosen])
    gap, lam = split_gap(decoder, x, mu, logvar), TWO.diagonal(mu, logvar)
    # Not the rule with which the gap was split.
    bound = ELBO(decoder, x, Rule.gauss_hermite(2, 17), TWO)
    of_encoder, of_best = (bound.value_and_gradient(at, np.arange(IMAGES))[0] for at in (lam, gap.solution.lam))
    return Digits(vae, decoder, x, lam, gap, of_encoder, of_best)


# --- claim 22: separate λ_i per datapoint ---------------------------------------------------------------------------


def _own_lambdas(seed: int) -> list[Claim]:
    """All λ_i with full covariances beside θ, in the linear-Gaussian model, where the answers are known."""
    random, rows, latent = models.generator(seed, CHAPTER, 1), 30, 2
    truth = LinearGaussian(random.standard_normal((4, latent)), random.standard_normal(4), 0.3)
    x = truth.sample(random.standard_normal((rows, latent)), random.standard_normal((rows, 4)))
    start = Decoder.of(*to_parameters(LinearGaussian(0.3 * random.standard_normal((4, latent)), x.mean(axis=0), 1.0)))
    # The integrand is a square, for which three nodes an axis are exact.
    end = joint_ascent(start, x, Rule.gauss_hermite(latent, 3), kind="full", tolerance=1e-7)
    model = from_parameters(end.decoder.arch, end.decoder.parameters)
    mean, covariance = model.posterior(x)
    family = Family("full", latent)
    off = np.abs(np.hstack([end.lam[:, :2] - mean, (family.covariance(end.lam) - covariance).reshape(rows, -1)]))
    wide, many = Family("full", 20), 60_000
    diagonal = per_datapoint.LocalPosterior.prior(many, 20)
    return [
        equal(22, "n = 30, k = 2: numbers in λ, n·(k + k(k+1)/2)", end.lam.size, rows * (latent + 3), 0),
        equal(22, "n = 60,000, k = 20: numbers in λ", many * wide.prior(1).size, many * (20 + 20 * 21 // 2), 0),
        equal(22, "and with diagonal covariances", diagonal.mu.size + diagonal.logvar.size, many * 2 * 20, 0),
        equal(22, "θ and all λᵢ trained: ELBO, against pPCA's log p", end.elbo, ppca_log_likelihood(x, latent), 1e-4),
        equal(22, "and each λᵢ is its own x's posterior: off by", off.max(), 0, 1e-3),
    ]


def _no_encoder(found: Digits, seed: int) -> list[Claim]:
    vae = VAE(784, hidden=(100,), latent=2, activation="tanh", inference="local", backend="numpy", seed=seed)
    x = found.x[:6].astype(np.uint8)

    def evidence() -> float:
        return float(quadrature.log_likelihood(Decoder.of(vae.arch, vae.parameters), x).log_prob.mean())

    before = evidence()
    vae.fit(trained.digits()[0][:2000], epochs=6, batch_size=100, lr=1e-2)
    after = evidence()
    decoder = Decoder.of(vae.arch, vae.parameters)
    bound = ELBO(decoder, decoder.check(x), Rule.gauss_hermite(2, 17), TWO)
    value, _ = bound.value_and_gradient(TWO.diagonal(*vae.encode(x)), np.arange(len(x)))
    with_encoder = sum(name.startswith("encoder.") for name in vae.parameters)
    return [
        equal(22, "digits, inference local: tensors of an encoder", with_encoder, 0, 0),
        at_least(22, "nats of log p(x) gained on test digits", after - before, 100),
        at_most(22, "ELBO, its λ found by Adam, less log p(x)", value.mean() - after, 0),
    ]


# --- claims 23 and 24: the bound, and what is left of it ------------------------------------------------------------


def _order(found: Digits) -> list[Claim]:
    x, everyone = found.x, np.arange(IMAGES)
    bound = ELBO(found.decoder, x, Rule.gauss_hermite(2, 17), TWO)
    near = found.lam + 0.05 * np.sin(np.arange(found.lam.size)).reshape(found.lam.shape)
    others = [bound.value_and_gradient(lam, everyone)[0] for lam in (TWO.prior(IMAGES), near)]
    best_other = np.max(others, axis=0)
    return [
        at_least(23, "log p(x) − L(q*), the least of 20 digits", (found.gap.log_prob - found.of_best).min(), 0),
        at_least(23, "L(q*) − L(q_φ), the least", (found.of_best - found.of_encoder).min(), 0),
        at_least(23, "L(q*) − L of the prior and of λ beside q_φ's", (found.of_best - best_other).min(), 0),
        equal(23, "solves of λ* that did not converge", np.sum(~found.gap.solution.converged), 0, 0),
    ]


def _gaps(found: Digits) -> list[Claim]:
    gap = found.gap
    by_bounds = gap.log_prob - found.of_encoder
    return [
        at_least(24, "D(q*‖p(z|x)), the least of 20 digits", gap.approximation.min(), 0),
        at_least(24, "L(q*) − L(q_φ), the least", gap.amortisation.min(), 0),
        equal(24, "their sum − D(q_φ‖p(z|x)), the largest", np.abs(gap.residual).max(), 0, 1e-6),
        equal(24, "D(q_φ‖p(z|x)) − (log p(x) − L(q_φ)), the largest", np.abs(gap.total - by_bounds).max(), 0, 1e-6),
        at_most(24, "change of log p(x) when the grid is halved", gap.log_prob_error.max(), 1e-8),
        at_least(24, "nats that the encoder gives away, the mean", gap.amortisation.mean(), 0.01),
    ]


# --- claim 25: and is far cheaper -----------------------------------------------------------------------------------


def _least_time(task: Callable[[], Any], repeats: int) -> float:
    """The shortest of some runs, in seconds: what others do on the machine only adds."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        task()
        times.append(time.perf_counter() - started)
    return min(times)


def _seconds(found: Digits, seed: int) -> Seconds:
    vae, x = found.vae, found.x.astype(np.uint8)
    few = found.x[:4]
    bound = ELBO(found.decoder, few, Rule.gauss_hermite(2, 10), TWO)

    def adam() -> per_datapoint.LocalPosterior:
        return per_datapoint.infer(vae.model, x, np.arange(IMAGES), steps=50, seed=seed)

    def solve() -> Solution:
        return maximise(bound, TWO.prior(len(few)))

    encoder, by_adam, solved = _least_time(lambda: vae.encode(x), 20), _least_time(adam, 2), _least_time(solve, 1)
    return Seconds(encoder / IMAGES, by_adam / IMAGES, solved / len(few))


def _cheaper(seconds: Seconds) -> list[Claim]:
    return [
        at_most(25, "time of an encoder pass over 50 Adam steps on λ", seconds.encoder / seconds.adam, 0.1),
        at_most(25, "and over a solve to convergence", seconds.encoder / seconds.solve, 0.01),
    ]


# --- the figures ----------------------------------------------------------------------------------------------------


def _gap_figure(found: Digits) -> Figure:
    from vae_np.pictures.drawing import BLUE, INK, MUTED, ORANGE, chart, legend, number, style

    gap = found.gap
    figure, ax = chart(1000, 460, "What separates each digit's bound from its log p(x)")
    style(ax, "test digits, by the size of their gap", "nats")
    order = np.argsort(gap.total)
    place = np.arange(IMAGES)
    ax.bar(place, gap.approximation[order], color=BLUE, width=0.75,
           label=f"D(q* ‖ p(z|x)): no diagonal normal fits (mean {number(gap.approximation.mean(), 3)})")  # fmt: skip
    ax.bar(place, gap.amortisation[order], bottom=gap.approximation[order], color=ORANGE, width=0.75,
           label=f"L(q*) − L(q_φ): the encoder's own (mean {number(gap.amortisation.mean(), 3)})")  # fmt: skip
    ax.plot(place, gap.total[order], linestyle="none", marker="D", markersize=5, color=INK, markerfacecolor="white",
            label="D(q_φ ‖ p(z|x)), integrated on its own")  # fmt: skip
    ax.grid(visible=False, axis="x")
    # Each digit under its bar.
    ax.set_xticks(place, [""] * IMAGES)
    ax.tick_params(axis="x", length=0, pad=22)
    ax.text(0.01, 0.62, f"log p(x) is {number(gap.log_prob.mean(), 1)} nats on average", transform=ax.transAxes,
            fontsize=9, color=MUTED)  # fmt: skip
    for at, image in enumerate(found.x[order]):
        _thumbnail(ax, image, at)
    legend(ax)
    return figure


def _thumbnail(ax: Axes, image: Array, place: float) -> None:
    """The digit just below the axis, in data units along it."""
    inside = ax.inset_axes((place - 0.42, -0.09, 0.84, 0.08), transform=ax.get_xaxis_transform())
    inside.imshow(1 - image.reshape(28, 28), cmap="gray", vmin=0, vmax=1, aspect="auto")
    inside.set_axis_off()


def _posterior_figure(found: Digits) -> Figure:
    from vae_np.pictures.drawing import INK, blank_figure, number

    gap = found.gap
    order = np.argsort(gap.total)
    astray = int(gap.amortisation.argmax())
    others = np.where(np.arange(IMAGES) == astray, 0.0, gap.approximation)
    picks = [order[0], order[IMAGES // 2], int(others.argmax()), astray]
    names = ("The tightest of 20", "The middle one", "No diagonal normal fits", "The encoder errs most")
    figure = blank_figure(1320, 400)
    for ax, chosen, name in zip(figure.subplots(1, SHOWN), picks, names, strict=True):
        _draw_posterior(ax, found, chosen, with_legend=ax.get_subplotspec().is_first_col())
        ax.set_title(f"{name}\n{number(gap.approximation[chosen], 3)} + {number(gap.amortisation[chosen], 3)} nats",
                     loc="left", fontsize=10.5, fontweight="bold", color=INK, pad=8)  # fmt: skip
    return figure


def _draw_posterior(ax: Axes, found: Digits, chosen: int, *, with_legend: bool) -> None:
    """p(z|x) in shades, and q* and q_φ as ellipses of two standard deviations."""
    from vae_np.pictures.drawing import BLUE, ORANGE, style

    style(ax, "z₁", "z₂")
    ax.grid(visible=False)
    drawn = [(lam[chosen, :2], 2 * np.exp(0.5 * lam[chosen, 2:])) for lam in (found.gap.solution.lam, found.lam)]
    low = np.min([middle - reach for middle, reach in drawn], axis=0)
    high = np.max([middle + reach for middle, reach in drawn], axis=0)
    centre, half = (low + high) / 2, 1.0 * (high - low).max()
    first, second = (np.linspace(centre[j] - half, centre[j] + half, 141) for j in range(2))
    z = np.stack(np.meshgrid(first, second), axis=-1).reshape(-1, 2)
    density = np.exp(found.decoder.log_joint_matrix(found.x[chosen][None], z)[0] - found.gap.log_prob[chosen])
    ax.contourf(first, second, density.reshape(141, 141) / density.max(), levels=np.linspace(0.02, 1, 11),
                cmap="Greys", alpha=0.75)  # fmt: skip
    turn = np.linspace(0, 2 * np.pi, 181)
    labels = "q*: solved for", "q_φ: the encoder's"
    for (middle, reach), colour, label in zip(drawn, (BLUE, ORANGE), labels, strict=True):
        ax.plot(middle[0] + reach[0] * np.cos(turn), middle[1] + reach[1] * np.sin(turn), color=colour, linewidth=2,
                label=label)  # fmt: skip
    ax.set_aspect("equal")
    inside = ax.inset_axes((0.74, 0.74, 0.25, 0.25))
    inside.imshow(1 - found.x[chosen].reshape(28, 28), cmap="gray", vmin=0, vmax=1)
    inside.set_axis_off()
    if with_legend:
        ax.legend(loc="lower left", fontsize=8.5, frameon=True, framealpha=0.9, edgecolor="none")


def _cost_figure(seconds: Seconds) -> Figure:
    from vae_np.pictures.drawing import INK, blank_figure

    figure = blank_figure(1100, 400)
    numbers, clock = figure.subplots(1, 2, width_ratios=(1.2, 1))
    _draw_numbers(numbers)
    _draw_clock(clock, seconds)
    for ax, title in ((numbers, "Numbers that describe q for n examples"), (clock, "Time for one digit's q")):
        ax.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK, pad=8)
    return figure


def _draw_numbers(ax: Axes) -> None:
    from vae_np.pictures.drawing import BLUE, GREEN, ORANGE, style

    style(ax, "examples n", "numbers")
    n = np.geomspace(10, 1e6, 60)
    sizes = {kind: Family(kind, 20).size for kind in ("full", "diagonal")}
    encoder = sum(view.size for name, view in VAE(784, latent=20).parameters.items() if name.startswith("encoder."))
    for values, colour, label in (
        (n * sizes["full"], ORANGE, "own λ, full covariance: 230 n"),
        (n * sizes["diagonal"], BLUE, "own λ, diagonal: 40 n"),
        (np.full_like(n, encoder), GREEN, f"encoder with 400 hidden units: {encoder:,}"),
    ):
        ax.plot(n, values, color=colour, linewidth=2, label=label)
    ax.axvline(60_000, color="#c5ccd4", linewidth=1, linestyle=(0, (4, 3)))
    ax.text(66_000, 5e2, "MNIST", fontsize=8.5, color="#66717e")
    ax.set(xscale="log", yscale="log")
    ax.minorticks_off()
    ax.legend(loc="upper left", fontsize=8.5, frameon=False)


def _draw_clock(ax: Axes, seconds: Seconds) -> None:
    from vae_np.pictures.drawing import BLUE, GREEN, INK, ORANGE, style

    style(ax, "milliseconds an image", "")
    labels = ("solved to\nconvergence", "50 steps\nof Adam", "one pass of\nthe encoder")
    values = np.array([seconds.solve, seconds.adam, seconds.encoder]) * 1e3
    ax.barh(labels, values, color=(ORANGE, BLUE, GREEN), height=0.55)
    ax.set_xscale("log")
    ax.set_xlim(values.min() / 3, values.max() * 8)
    ax.grid(visible=False, axis="y")
    ax.minorticks_off()
    for at, value in enumerate(values):
        ax.text(value * 1.15, at, f"{value:.3g}", va="center", fontsize=9, color=INK)
