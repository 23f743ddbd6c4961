"""Chapter 6: one network in place of n optimisations, and what it costs the bound. Claims 22 to 25, 32. [D19] [D20]"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from vae_np import VAE, ops
from vae_np._types import Array
from vae_np.evaluation import held_out
from vae_np.exact import quadrature
from vae_np.exact.amortisation import Gap, split_gap
from vae_np.exact.decoder import Decoder
from vae_np.exact.inference import ELBO, Family, Rule, maximise
from vae_np.exact.linear_gaussian import LinearGaussian, from_parameters, ppca_log_likelihood, to_parameters
from vae_np.exact.nested_and_joint import joint_ascent
from vae_np.model import encode_forward
from vae_np.study import families, models, plain, trained
from vae_np.study.claims import Claim, at_least, equal, zero
from vae_np.training import per_datapoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "An encoder replaces a solve for every x; it loosens the bound a little and costs far less."

CHAPTER = 6
IMAGES = 20
ADAM_STEPS = 50
# Steps on the encoder's λ, and the nats that they have to bring.
REFINING, LEAST_REFINED = 10, 0.3
# An axis, for the solve whose price is counted.
SOLVE_NODES = 10
TWO = Family("diagonal", 2)
# One of each in the figure: the tightest bound, the middle one, and whose encoder's and family's fault is largest.
SHOWN = 4


@dataclass(frozen=True)
class Digits:
    """A VAE with two latents, test digits x (N, 784), its λ of them, the split gap, and both bounds (N,) in nats.

    By Legendre sums, normalised by themselves: `log_prob`, and the divergences `of_best_left` and `of_encoder_left` of
    q* and q_φ from the posterior (N,).
    """

    vae: VAE
    decoder: Decoder
    x: Array
    lam: Array
    gap: Gap
    of_encoder: Array
    of_best: Array
    log_prob: Array
    of_best_left: Array
    of_encoder_left: Array


@dataclass(frozen=True)
class Cost:
    """For one image: rows that the decoder decoded and multiply-adds of all layers, counted from outside."""

    rows: float
    products: float


@dataclass(frozen=True)
class Costs:
    """One pass of the encoder, 50 steps of Adam on λ, and a solve to convergence; and the clock's seconds an image."""

    encoder: Cost
    adam: Cost
    solve: Cost
    seconds: tuple[float, float, float]


class Counting:
    """NumPy's operations, with a count of the rows of a decoder's last layer and of all layers' multiply-adds."""

    def __init__(self, features: int) -> None:
        self.features, self.rows, self.products = features, 0, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(ops, name)

    def _add(self, x: Array, weight: Array) -> None:
        self.products += len(x) * weight.size
        self.rows += len(x) * (weight.shape[1] == self.features)

    def affine_act_forward(self, x: Array, weight: Array, bias: Array, activation: str) -> Any:
        self._add(x, weight)
        return ops.affine_act_forward(x, weight, bias, activation)

    def binary_affine_act_forward(self, x: Array, weight: Array, bias: Array, activation: str) -> Any:
        self._add(x, weight)
        return ops.binary_affine_act_forward(x, weight, bias, activation)

    def spent(self, images: int) -> Cost:
        """What was counted for each image, and a count that begins anew."""
        cost = Cost(self.rows / images, self.products / images)
        self.rows = self.products = 0
        return cost


def figures(seed: int) -> dict[str, Figure]:
    """The gap in its two parts, four posteriors with both q, and what an encoder saves."""
    found = _digits(seed)
    return {
        "06-gap-in-two": _gap_figure(found),
        "06-q-and-posterior": _posterior_figure(found),
        "06-cost": _cost_figure(_costs(seed)),
        "06-families": families.figure(_families(seed)),
    }


def notes(seed: int) -> list[str]:
    """Sizes of λ, the clock, which depends on the machine, and the gap of each family."""
    encoder, adam, solve = _costs(seed).seconds
    mean = _digits(seed).gap.amortisation.mean()
    return [
        f"n = 60,000 and K = 20: {60_000 * Family('full', 20).size:,} numbers in λ with full covariances, "
        f"{60_000 * Family('diagonal', 20).size:,} with diagonal ones.",
        f"The encoder gives away {mean:.2f} nats of the 20 digits' bound, on average; {REFINING} steps on λ give back "
        f"{_given_back(seed):.2f}.",
        f"On this machine one digit's q takes {encoder * 1e6:.0f} µs of the encoder, {adam * 1e3:.0f} ms of 50 Adam "
        f"steps, {solve * 1e3:.0f} ms of a solve to convergence.",
        *families.notes(_families(seed)),
    ]


def _given_back(seed: int) -> float:
    return float(refined(seed)[0].value)


@cache
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
    log_prob = plain.log_evidence(decoder, x)
    best_left, encoder_left = (_divergences(decoder, x, at, log_prob) for at in (gap.solution.lam, lam))
    return Digits(vae, decoder, x, lam, gap, of_encoder, of_best, log_prob, best_left, encoder_left)


def _divergences(decoder: Decoder, x: Array, lam: Array, log_prob: Array) -> Array:
    """KL(q ‖ p(z|x)) of each x and its λ, (N,) in nats, by Legendre sums."""
    return np.array([
        plain.divergence(decoder, row, at[:2], np.exp(0.5 * at[2:]), known)
        for row, at, known in zip(x, lam, log_prob, strict=True)
    ])


# --- claim 22: separate λ_i per datapoint ---------------------------------------------------------------------------


def own_lambdas(seed: int) -> list[Claim]:
    """Claim 22: all λ_i with full covariances beside θ, in the linear-Gaussian model, where the answers are known."""
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
    return [
        equal(22, "θ and all λᵢ trained: ELBO, against pPCA's log p", end.elbo, ppca_log_likelihood(x, latent), 1e-4,
              by=("a joint climb of the decoder's bound", "eigenvalues of the data's covariance")),
        zero(22, "and each λᵢ is its own x's posterior: off by", off.max(), 1e-3,
             by=("the λᵢ of that climb", "the posterior of that θ in closed form")),
        *_no_encoder(seed),
    ]  # fmt: skip


def _no_encoder(seed: int) -> list[Claim]:
    vae = VAE(784, hidden=(100,), latent=2, activation="tanh", inference="local", backend="numpy", seed=seed)
    rows, test = trained.digits()
    x = test[models.generator(seed, CHAPTER, 2).choice(len(test), 6, replace=False)]

    def evidence() -> Array:
        return quadrature.log_likelihood(Decoder.of(vae.arch, vae.parameters), x).log_prob

    before = evidence()
    vae.fit(rows[:2000], epochs=6, batch_size=100, lr=1e-2)
    after = evidence()
    decoder = Decoder.of(vae.arch, vae.parameters)
    wide, lam = decoder.check(x), TWO.diagonal(*vae.encode(x))
    value, _ = ELBO(decoder, wide, Rule.gauss_hermite(2, 30), TWO).value_and_gradient(lam, np.arange(len(x)))
    left = _divergences(decoder, wide, lam, plain.log_evidence(decoder, wide))
    return [
        at_least(22, "digits without an encoder: nats of log p(x) gained", (after - before).mean(), 0,
                 by=("adaptive lattice, after training", "and before")),
        zero(22, "ELBO, its λ found by Adam, − log p(x) + KL(q‖p(z|x))", value - after + left, 1e-5,
             by=("the bound − log p(x), adaptive lattice", "the divergence by Legendre sums")),
    ]  # fmt: skip


# --- claims 23 and 24: the bound, and what is left of it ------------------------------------------------------------


def order(seed: int) -> list[Claim]:
    """Claim 23: L(q_φ) ≤ L(q*) ≤ log p(x)."""
    found = _digits(seed)
    x, everyone = found.x, np.arange(IMAGES)
    bound = ELBO(found.decoder, x, Rule.gauss_hermite(2, 17), TWO)
    near = found.lam + 0.05 * np.sin(np.arange(found.lam.size)).reshape(found.lam.shape)
    others = [bound.value_and_gradient(lam, everyone)[0] for lam in (TWO.prior(IMAGES), near)]
    solved, legendre = "the bound at λ* (17² nodes)", "Legendre sums"
    return [
        zero(23, "log p(x) of 20 digits, by two rules, largest", found.gap.log_prob - found.log_prob, 1e-5,
             by=("adaptive lattice", f"{legendre} over the definitions")),
        zero(23, "log p(x) − L(q*) − KL(q*‖p(z|x)), largest",
             found.gap.log_prob - found.of_best - found.of_best_left, 1e-5,
             by=(f"adaptive lattice − {solved}", f"the divergence, {legendre}")),
        at_least(23, "log p(x) − L(q*), the least of 20 digits", (found.log_prob - found.of_best).min(), 0,
                 by=(f"log p(x), {legendre}", solved)),
        at_least(23, "L(q*) − L(q_φ), the least", (found.of_best - found.of_encoder).min(), 0,
                 by=(solved, "the bound at the encoder's λ")),
        at_least(23, "L(q*) − L of the prior and of λ beside q_φ's", (found.of_best - np.max(others, axis=0)).min(), 0,
                 by=(solved, "the bound at other λ")),
    ]  # fmt: skip


def gaps(seed: int) -> list[Claim]:
    """Claim 24: the encoder's gap is the family's and its own, three quantities from three computations."""
    found = _digits(seed)
    gap, legendre = found.gap, "Legendre sums, normalised by themselves"
    return [
        zero(24, "KL(q*‖p(z|x)), by two rules, largest", gap.approximation - found.of_best_left, 1e-5,
             by=("a lattice of q's own, log p(x) given", legendre)),
        zero(24, "KL(q_φ‖p(z|x)), by two rules, largest", gap.total - found.of_encoder_left, 1e-5,
             by=("a lattice of q's own, log p(x) given", legendre)),
        zero(24, "KL(q*‖p(z|x)) + L(q*) − L(q_φ) − KL(q_φ‖p(z|x)), largest",
             found.of_best_left + gap.amortisation - gap.total, 1e-5,
             by=("the divergence by Legendre + two bounds", "the divergence on a lattice of q's own")),
        zero(24, "log p(x) − L(q_φ) − KL(q_φ‖p(z|x)), largest", found.log_prob - found.of_encoder - gap.total, 1e-5,
             by=("log p(x), Legendre − the bound (17² nodes)", "the divergence on a lattice of q's own")),
        *refined(seed),
    ]  # fmt: skip


def _refined(seed: int) -> Array:
    """λ (N, 4) of the digits after some steps on the encoder's, each along the gradient of one draw. [D63]"""
    found = _digits(seed)
    arch = replace(found.vae.arch, refine_steps=REFINING)
    model = found.vae.model._replace(arch=arch)
    mu, logvar = held_out.posterior(model, found.x.astype(np.uint8), np.arange(IMAGES), seed=seed)
    return TWO.diagonal(mu, logvar)


def refined(seed: int) -> list[Claim]:
    """The end of claim 24: a few steps on λ give back a part of what amortisation costs."""
    found, lam = _digits(seed), _refined(seed)
    bound, _ = ELBO(found.decoder, found.x, Rule.gauss_hermite(2, 17), TWO).value_and_gradient(lam, np.arange(IMAGES))
    left = _divergences(found.decoder, found.x, lam, found.log_prob)
    steps = f"after {REFINING} steps on λ"
    return [
        at_least(24, f"mean gap − the mean gap {steps}, nats", (found.gap.total - (found.log_prob - bound)).mean(),
                 LEAST_REFINED, by=("KL(q_φ‖p(z|x)) on a lattice of q's own", "log p(x), Legendre − the bound (17²)")),
        zero(24, f"log p(x) − L(q) − KL(q‖p(z|x)) {steps}, largest", found.log_prob - bound - left, 1e-5,
             by=("log p(x), Legendre − the bound (17² nodes)", "the divergence by Legendre sums")),
    ]  # fmt: skip


# --- claim 25: and is far cheaper -----------------------------------------------------------------------------------


def _least_time(task: Callable[[], Any], repeats: int) -> float:
    """The shortest of some runs, in seconds: what others do on the machine only adds."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        task()
        times.append(time.perf_counter() - started)
    return min(times)


@cache
def _costs(seed: int) -> Costs:
    found = _digits(seed)
    x, few = found.x.astype(np.uint8), found.x[:4]
    # It stands in for the module of operations, whose names it has.
    counting: Any = Counting(found.vae.arch.features)
    whole = found.vae.model._replace(ops=counting)
    decoder = Decoder(found.decoder.model._replace(ops=counting))
    encode_forward(*whole, x)
    encoder = counting.spent(IMAGES)
    per_datapoint.infer(whole, x, np.arange(IMAGES), steps=ADAM_STEPS, seed=seed)
    adam = counting.spent(IMAGES)
    maximise(ELBO(decoder, few, Rule.gauss_hermite(2, SOLVE_NODES), TWO), TWO.prior(len(few)))
    solve = counting.spent(len(few))
    uncounted = ELBO(found.decoder, few, Rule.gauss_hermite(2, SOLVE_NODES), TWO)
    seconds = (
        _least_time(lambda: found.vae.encode(x), 20) / IMAGES,
        _least_time(
            lambda: per_datapoint.infer(found.vae.model, x, np.arange(IMAGES), steps=ADAM_STEPS, seed=seed), 1
        ) / IMAGES,
        _least_time(lambda: maximise(uncounted, TWO.prior(len(few))), 1) / len(few),
    )  # fmt: skip
    return Costs(encoder, adam, solve, seconds)


def cheaper(seed: int) -> list[Claim]:
    """Claim 25: what a pass of the encoder, 50 Adam steps and a solve ask of the networks; the clock judges nothing."""
    found, arch = _costs(seed), _digits(seed).vae.arch
    width, features, latent = arch.hidden[0], arch.features, arch.latent
    pass_down, pass_up = features * width + 2 * width * latent, latent * width + width * features
    outside = "counted from outside"
    return [
        equal(25, "multiply-adds of an encoder pass, for each digit", found.encoder.products, pass_down, 0,
              by=(outside, "784 · H + 2 H K")),
        equal(25, f"decoder passes of {ADAM_STEPS} Adam steps on λ, each digit", found.adam.rows, ADAM_STEPS, 0,
              by=(outside, "one a step")),
        equal(25, "their multiply-adds over an encoder pass's", found.adam.products / found.encoder.products,
              ADAM_STEPS * pass_up / pass_down, 1e-12, by=(outside, "the layers' sizes")),
        at_least(25, "decoder passes of a solve, over those of one bound", found.solve.rows / SOLVE_NODES**2, 2,
                 by=(outside, f"the rule's {SOLVE_NODES}² nodes")),
    ]  # fmt: skip


# --- claim 32: and a richer family leaves less ----------------------------------------------------------------------


@cache
def _families(seed: int) -> tuple[families.Posterior, ...]:
    return families.solve(seed)


def richer(seed: int) -> list[Claim]:
    """Claim 32: on a curved posterior, one of two modes and a tilted normal."""
    return families.claims(_families(seed))


CLAIMS = {22: own_lambdas, 23: order, 24: gaps, 25: cheaper, 32: richer}


# --- the figures ----------------------------------------------------------------------------------------------------


def _gap_figure(found: Digits) -> Figure:
    from vae_np.pictures.drawing import BLUE, INK, MUTED, ORANGE, chart, legend, number, style

    gap = found.gap
    figure, ax = chart(1000, 460, "What separates each digit's bound from its log p(x)")
    style(ax, "test digits, by the size of their gap", "nats")
    order = np.argsort(gap.total)
    place = np.arange(IMAGES)
    ax.bar(place, gap.approximation[order], color=BLUE, width=0.75,
           label=f"KL(q* ‖ p(z|x)): no diagonal normal fits (mean {number(gap.approximation.mean(), 3)})")  # fmt: skip
    ax.bar(place, gap.amortisation[order], bottom=gap.approximation[order], color=ORANGE, width=0.75,
           label=f"L(q*) − L(q_φ): the encoder's own (mean {number(gap.amortisation.mean(), 3)})")  # fmt: skip
    ax.plot(place, gap.total[order], linestyle="none", marker="D", markersize=5, color=INK, markerfacecolor="white",
            label="KL(q_φ ‖ p(z|x)), integrated on its own")  # fmt: skip
    ax.grid(visible=False, axis="x")
    # Each digit under its bar.
    ax.set_xticks(place, [""] * IMAGES)
    ax.tick_params(axis="x", length=0, pad=22)
    ax.text(0.01, 0.62, f"log p(x) is {number(gap.log_prob.mean(), 1)} nats on average", transform=ax.transAxes,
            fontsize=10, color=MUTED)  # fmt: skip
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
    # The same span in every panel, so that a wide q looks wide beside a narrow one.
    span = max(_span(found, chosen)[1] for chosen in picks)
    for ax, chosen, name in zip(figure.subplots(1, SHOWN), picks, names, strict=True):
        _draw_posterior(ax, found, chosen, span, with_legend=ax.get_subplotspec().is_first_col())
        ax.set_title(f"{name}\n{number(gap.approximation[chosen], 3)} + {number(gap.amortisation[chosen], 3)} nats",
                     loc="left", fontsize=11, fontweight="bold", color=INK, pad=8)  # fmt: skip
    return figure


def _ellipses(found: Digits, chosen: int) -> list[tuple[Array, Array]]:
    """Middle and half-axes (2,) each of q* and q_φ at two standard deviations."""
    return [(lam[chosen, :2], 2 * np.exp(0.5 * lam[chosen, 2:])) for lam in (found.gap.solution.lam, found.lam)]


def _span(found: Digits, chosen: int) -> tuple[Array, float]:
    """The centre (2,) of both ellipses, and half the side of the square that has room for them."""
    drawn = _ellipses(found, chosen)
    low = np.min([middle - reach for middle, reach in drawn], axis=0)
    high = np.max([middle + reach for middle, reach in drawn], axis=0)
    return (low + high) / 2, float(0.75 * (high - low).max())


def _draw_posterior(ax: Axes, found: Digits, chosen: int, half: float, *, with_legend: bool) -> None:
    """p(z|x) in shades, and q* and q_φ as ellipses of two standard deviations, in a square of 2 `half`."""
    from vae_np.pictures.drawing import BLUE, ORANGE, style

    style(ax, "z₁", "z₂")
    ax.grid(visible=False)
    drawn, (centre, _) = _ellipses(found, chosen), _span(found, chosen)
    first, second = (np.linspace(centre[j] - half, centre[j] + half, 241) for j in range(2))
    z = np.stack(np.meshgrid(first, second), axis=-1).reshape(-1, 2)
    density = np.exp(found.decoder.log_joint_matrix(found.x[chosen][None], z)[0] - found.gap.log_prob[chosen])
    ax.contourf(first, second, density.reshape(241, 241) / density.max(), levels=np.linspace(0.02, 1, 11),
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
        ax.legend(loc="lower left", fontsize=10, frameon=True, framealpha=0.9, edgecolor="none")


def _cost_figure(costs: Costs) -> Figure:
    from vae_np.pictures.drawing import INK, blank_figure

    figure = blank_figure(1100, 400)
    numbers, clock = figure.subplots(1, 2, width_ratios=(1.2, 1))
    _draw_numbers(numbers)
    _draw_clock(clock, costs.seconds)
    for ax, title in ((numbers, "Numbers that describe q for n examples"), (clock, "Time for one digit's q")):
        ax.set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK, pad=8)
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
    ax.text(66_000, 5e2, "MNIST", fontsize=10, color="#66717e")
    ax.set(xscale="log", yscale="log")
    ax.minorticks_off()
    ax.legend(loc="upper left", fontsize=10, frameon=False)


def _draw_clock(ax: Axes, seconds: tuple[float, float, float]) -> None:
    from vae_np.pictures.drawing import BLUE, GREEN, INK, ORANGE, style

    style(ax, "milliseconds an image", "")
    labels = ("solved to\nconvergence", "50 steps\nof Adam", "one pass of\nthe encoder")
    values = 1e3 * np.array(seconds[::-1])
    ax.barh(labels, values, color=(ORANGE, BLUE, GREEN), height=0.55)
    ax.set_xscale("log")
    ax.set_xlim(values.min() / 3, values.max() * 8)
    ax.grid(visible=False, axis="y")
    ax.minorticks_off()
    for at, value in enumerate(values):
        ax.text(value * 1.15, at, f"{value:.3g}", va="center", fontsize=10, color=INK)
