"""Chapter 12: two perspectives on one architecture. Claims 29 and 31. [D6] [D19]"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from vae_np import VAE, noise
from vae_np._types import Array
from vae_np.data.synthetic import RING_RADII, RING_SIGMA
from vae_np.elbo import Terms
from vae_np.exact import enumeration, quadrature
from vae_np.exact.amortisation import refit_encoder
from vae_np.exact.decoder import Decoder
from vae_np.exact.inference import ELBO, Family, Rule
from vae_np.parameters import Parameters
from vae_np.step import Optimiser
from vae_np.study import plain, trained
from vae_np.study.claims import Claim, at_least, at_most, equal, zero

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "The decoder is the model: its encoder can go, and a plain autoencoder is no generator."

REFIT_STEPS, BATCH = 600, 100
SAMPLES = 2000


@dataclass(frozen=True)
class Refit:
    """A VAE of digits, the same with its encoder deleted, with fresh weights in it, and with those trained; `trace` is
    the batches' mean ELBO on the way, in nats."""

    vae: VAE
    decoder_only: VAE
    untrained: VAE
    refitted: VAE
    trace: list[float]


@dataclass(frozen=True)
class Pair:
    """A VAE and a plain autoencoder, what each decodes z ~ N(0, I) to (M, D), and how far from the data that is."""

    models: tuple[VAE, VAE]
    x: Array
    samples: tuple[Array, Array]
    distances: tuple[Array, Array]


def figures(seed: int) -> dict[str, Figure]:
    """The encoder deleted and refitted, and a plain autoencoder's samples beside the VAE's."""
    rings, bars = _rings(seed), _bars(seed)
    return {
        "12-encoder-deleted": _refit_figure(_refit(seed), seed),
        "12-autoencoder-rings": _rings_figure(rings, seed),
        "12-autoencoder-distance": _distance_figure(rings, bars),
        "12-autoencoder-digits": _digits_figure(seed),
    }


def notes(seed: int) -> list[str]:
    """How far apart the two models are, and that they have as many weights."""
    rings, bars = _rings(seed), _bars(seed)
    return [
        f"{name}: {_layers(pair.models[0]):,} weights each; the autoencoder's samples lie "
        f"{pair.distances[1].mean() / pair.distances[0].mean():.1f} times as far from the data."
        for name, pair in (("Rings", rings), ("Bars", bars))
    ]


# --- claim 29: the decoder is what we are after ---------------------------------------------------------------------


def _like(vae: VAE, parameters: Parameters) -> VAE:
    """A model of the same architecture with these parameters."""
    other = VAE(**{**vae.arch.as_dict(), "hidden": vae.arch.hidden}, backend="numpy", seed=vae.config.seed)
    other.parameters.assign(parameters)
    return other


@cache
def _refit(seed: int) -> Refit:
    vae = trained.mnist_vae(seed)
    sizes = {**vae.arch.as_dict(), "hidden": vae.arch.hidden, "inference": "local"}
    alone = VAE(**sizes, backend="numpy", seed=seed)
    alone.parameters.assign({name: vae.parameters[name] for name in alone.parameters})
    images, trace = trained.digits()[0], []

    @cache
    def order(epoch: int) -> Array:
        return noise.order(len(images), seed=seed + 1, epoch=epoch)

    def batch(step: int) -> tuple[Array, Array]:
        epoch, part = divmod(step, len(images) // BATCH)
        rows = order(epoch)[part * BATCH : (part + 1) * BATCH]
        return images[rows], rows

    def record(step: int, terms: Terms) -> None:
        trace.append(float(terms.elbo.mean()))

    optimiser = Optimiser(lr=5e-3)
    untrained, refitted = (
        refit_encoder(
            vae.model, batch, steps=steps, seed=seed + 1, optimiser=optimiser, on_step=record
        )
        for steps in (0, REFIT_STEPS)
    )
    return Refit(vae, alone, _like(vae, untrained), _like(vae, refitted), trace)


def decoder_is_the_model(seed: int) -> list[Claim]:
    """Claim 29: what is left of a VAE without its encoder, and another encoder for the same decoder."""
    found = _refit(seed)
    return [*_deleted(found, seed), *_refitted(found, seed)]


def _deleted(found: Refit, seed: int) -> list[Claim]:
    x = trained.digits()[1][:6]
    alone = Decoder.of(found.decoder_only.arch, found.decoder_only.parameters)
    whole = Decoder.of(found.vae.arch, found.vae.parameters)
    off = quadrature.log_likelihood(alone, x).log_prob - plain.log_evidence(whole, whole.check(x))
    spoilt = _like(found.vae, found.vae.parameters)
    for name, view in spoilt.parameters.items():
        if name.startswith("encoder."):
            view[...] = np.nan
    drawn, by_decoder, by_spoilt = (each.sample(500, seed=seed) for each in (found.vae, found.decoder_only, spoilt))
    with_it = "500 samples of the whole VAE"
    return [
        equal(29, "500 samples: pixels that deleting the encoder changes", np.sum(drawn != by_decoder), 0, 0,
              by=(with_it, "500 samples of its decoder alone")),
        equal(29, "pixels changed by an encoder full of NaN", np.sum(drawn != by_spoilt), 0, 0,
              by=(with_it, "500 samples with every encoder weight NaN")),
        zero(29, "log p(x): the decoder alone − the whole VAE, largest", off, 1e-6,
             by=("adaptive lattice, no encoder", "Legendre sums of the whole VAE's decoder")),
    ]  # fmt: skip


def _refitted(found: Refit, seed: int) -> list[Claim]:
    x = trained.digits()[1][:500]
    old, untrained, new = (
        vae.elbo(x, seed=seed, z_samples=10).elbo for vae in (found.vae, found.untrained, found.refitted)
    )
    moved = sum(
        int(np.sum(found.refitted.parameters[name] != view))
        for name, view in found.vae.parameters.items()
        if not name.startswith("encoder.")
    )
    few = x[:6]
    decoder, family = Decoder.of(found.vae.arch, found.vae.parameters), Family("diagonal", 2)
    wide, lam = decoder.check(few), family.diagonal(*found.refitted.encode(few))
    value, _ = ELBO(decoder, wide, Rule.gauss_hermite(2, 17), family).value_and_gradient(lam, np.arange(len(few)))
    slack = quadrature.log_likelihood(decoder, few).log_prob - value
    known = plain.log_evidence(decoder, wide)
    left = [
        plain.divergence(decoder, row, at[:2], np.exp(0.5 * at[2:]), log_prob)
        for row, at, log_prob in zip(wide, lam, known, strict=True)
    ]
    return [
        at_most(29, "fresh encoder: ELBO less the old one's, in std. errors", _mean_in_errors(untrained - old), -4,
                by=("500 test digits, a fresh encoder", "the same digits, the old one")),
        equal(29, "refitted: numbers of the decoder that moved", moved, 0, 0,
              by=("the decoder after 600 steps", "and before them")),
        equal(29, "refitted: share of that loss which comes back", (new - untrained).mean() / (old - untrained).mean(),
              1, 0.02, by=("500 test digits, the refitted encoder", "the same digits, the old one")),
        zero(29, "refitted: log p(x) − ELBO − KL(q_φ‖p(z|x)), largest", slack - left, 1e-5,
             by=("adaptive lattice − the bound", "the divergence, Legendre sums")),
    ]  # fmt: skip


def _mean_in_errors(values: Array) -> float:
    """The mean of independent values in its own standard errors; NaN where they do not vary."""
    spread = values.std() / np.sqrt(len(values))
    return float(values.mean() / spread) if spread > 0 else float("nan")


def _difference_in_errors(first: Array, second: Array) -> float:
    """Mean of `first` less mean of `second`, of two independent samples, in its standard errors."""
    spread = np.sqrt(first.var() / len(first) + second.var() / len(second))
    return float((first.mean() - second.mean()) / spread) if spread > 0 else float("nan")


# --- claim 31: from the generative side the picture differs ---------------------------------------------------------


def ring_distance(points: Array) -> Array:
    """How far points (N, 2) lie from the nearest of the two circles, (N,)."""
    radius = np.linalg.norm(points, axis=1)
    return np.abs(radius[:, None] - np.array(RING_RADII)).min(axis=1)


def ring_log_density(points: Array) -> Array:
    """The exact log-density of rings at points (N, 2), (N,) in nats."""
    from scipy.special import ive  # type: ignore[import-untyped]

    radius, rings = np.linalg.norm(points, axis=1)[:, None], np.array(RING_RADII)
    variance = RING_SIGMA**2
    log_terms = -0.5 * (radius - rings) ** 2 / variance + np.log(ive(0, radius * rings / variance))
    return np.logaddexp(*log_terms.T) - np.log(2 * 2 * np.pi * variance)


def bars_images(size: int) -> Array:
    """Every image that bars can draw, (2^(size+1) − 2, size²) bytes."""
    lines = enumeration.states(size)
    horizontal = np.repeat(lines[:, :, None], size, axis=2)
    return np.unique(np.concatenate([horizontal, horizontal.transpose(0, 2, 1)]).reshape(-1, size * size), axis=0)


def bars_distance(images: Array) -> Array:
    """How many pixels of binary images (N, size²) differ from the nearest image of bars, (N,)."""
    possible = bars_images(round(images.shape[1] ** 0.5))
    return (images[:, None] != possible).sum(axis=2).min(axis=1)


@cache
def _rings(seed: int) -> Pair:
    vae, autoencoder, x = trained.rings_pair(seed)
    samples = vae.sample(SAMPLES, seed=seed, mean=True), autoencoder.sample(SAMPLES, seed=seed, mean=True)
    return Pair((vae, autoencoder), x, samples, (ring_distance(samples[0]), ring_distance(samples[1])))


@cache
def _bars(seed: int) -> Pair:
    vae, autoencoder, x = trained.bars_pair(seed)
    # Each z's most probable image.
    first, second = ((each.sample(SAMPLES, seed=seed, mean=True) > 0.5).astype(np.uint8) for each in (vae, autoencoder))
    return Pair((vae, autoencoder), x, (first, second), (bars_distance(first), bars_distance(second)))


def _layers(vae: VAE) -> int:
    return sum(view.size for name, view in vae.parameters.items() if not name.startswith("likelihood."))


def no_generator(seed: int) -> list[Claim]:
    """Claim 31: a plain autoencoder rebuilds better and generates worse than a VAE of the same layers."""
    rings, bars = _rings(seed), _bars(seed)
    two = ("2,000 samples of the autoencoder", "2,000 samples of the VAE")
    claims = []
    for name, pair in (("rings", rings), ("bars", bars)):
        of_vae, of_autoencoder = (
            ((vae.reconstruct(pair.x) - pair.x) ** 2).sum(axis=1) for vae in pair.models
        )
        claims += [
            at_least(31, f"{name}: samples' distance, autoencoder − VAE, in std. errors",
                     _difference_in_errors(pair.distances[1], pair.distances[0]), 4, by=two),
            at_most(31, f"{name}: reconstruction error, autoencoder − VAE, in std. errors",
                    _mean_in_errors(of_autoencoder - of_vae), -4,
                    by=("the autoencoder's squared error", "the VAE's, row by row")),
        ]  # fmt: skip
    heights = [ring_log_density(samples) for samples in rings.samples]
    hits = [(distance == 0).astype(float) for distance in bars.distances]
    return [
        *claims,
        at_most(31, "rings: true log-density there, autoencoder − VAE, in std. errors",
                _difference_in_errors(heights[1], heights[0]), -4, by=two),
        at_most(31, "bars: share of bars among samples, autoenc. − VAE, in std. errors",
                _difference_in_errors(hits[1], hits[0]), -4, by=two),
    ]  # fmt: skip


CLAIMS = {29: decoder_is_the_model, 31: no_generator}


# --- the figures ----------------------------------------------------------------------------------------------------


def _titles(*titled: tuple[Axes, str]) -> None:
    from vae_np.pictures.drawing import INK

    for ax, title in titled:
        ax.set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK, pad=8)


def _draw_images(ax: Axes, images: Array, columns: int) -> None:
    from vae_np.pictures.drawing import mosaic

    canvas = mosaic(images, (28, 28), columns, gap=2, width=56 * columns)
    ax.imshow(np.where(np.isnan(canvas), 1.0, np.where(canvas < 0, 0.75, canvas)), cmap="gray", vmin=0, vmax=1,
              interpolation="nearest")  # fmt: skip
    ax.set_axis_off()


def _refit_figure(found: Refit, seed: int) -> Figure:
    from vae_np.pictures.drawing import BLUE, MUTED, ORANGE, blank_figure, legend, style

    figure = blank_figure(1320, 420)
    before, after, climb = figure.subplots(1, 3, width_ratios=(1, 1, 1.6))
    for ax, vae in ((before, found.vae), (after, found.decoder_only)):
        _draw_images(ax, vae.sample(36, seed=seed, mean=True), 6)
    old = float(found.vae.elbo(trained.digits()[0][:2000], seed=seed).elbo.mean())
    style(climb, "steps of the new encoder, decoder frozen", "ELBO (nats)")
    smooth = np.convolve(found.trace, np.full(10, 0.1), mode="valid")
    climb.plot(np.arange(len(found.trace)), found.trace, color=BLUE, alpha=0.25, linewidth=0.8)
    climb.plot(np.arange(len(smooth)) + 5, smooth, color=BLUE, linewidth=2, label="new encoder, from random weights")
    climb.axhline(old, color=ORANGE, linewidth=1.6, linestyle=(0, (4, 3)), label="the encoder that was deleted")
    climb.set_ylim(np.percentile(found.trace, 3) - 30, old + 25)
    climb.text(0.99, 0.02, "training digits; a batch of 100, and means of ten", transform=climb.transAxes, ha="right",
               fontsize=10, color=MUTED)  # fmt: skip
    legend(climb)
    _titles((before, "Samples of the VAE"), (after, "… with its encoder deleted"), (climb, "Another encoder will do"))
    return figure


def _rings_figure(rings: Pair, seed: int) -> Figure:
    from vae_np.pictures.drawing import BLUE, MUTED, ORANGE, blank_figure, style

    figure = blank_figure(1180, 800)
    grid = figure.subplots(2, 3)
    turn = np.linspace(0, 2 * np.pi, 181)
    prior = noise.normal(np.arange(SAMPLES), 2, seed=seed, stream=noise.PRIOR, dtype=np.float64)
    for axes, vae, samples, colour, name in zip(
        grid, rings.models, rings.samples, (BLUE, ORANGE), ("VAE", "Autoencoder"), strict=True
    ):
        codes, drawn, rebuilt = axes
        style(codes, "z₁", "z₂")
        codes.set_aspect("equal", adjustable="datalim")
        mu, logvar = vae.encode(rings.x)
        shown = mu if name == "Autoencoder" else mu + np.exp(0.5 * logvar) * prior
        codes.plot(*prior.T, ".", markersize=2, color=MUTED, alpha=0.3, label="N(0, I)")
        codes.plot(*shown.T, ".", markersize=2, color=colour, alpha=0.6, label="codes of the data")
        codes.legend(loc="upper right", fontsize=10, frameon=True, framealpha=0.9, edgecolor="none", markerscale=5)
        for ax, points in ((drawn, samples), (rebuilt, vae.reconstruct(rings.x))):
            style(ax, "x₁", "x₂")
            ax.set_aspect("equal", adjustable="box")
            for radius in RING_RADII:
                ax.plot(radius * np.cos(turn), radius * np.sin(turn), color=MUTED, linewidth=0.8)
            ax.plot(*points.T, ".", markersize=2.5, color=colour, alpha=0.6)
            ax.set(xlim=(-2.8, 2.8), ylim=(-2.8, 2.8))
        _titles((codes, f"{name}: codes"), (drawn, f"{name}: samples"), (rebuilt, "Data, rebuilt"))
    return figure


def _distance_figure(rings: Pair, bars: Pair) -> Figure:
    from vae_np.pictures.drawing import BLUE, ORANGE, blank_figure, legend, number, style

    figure = blank_figure(1180, 400)
    left, right = figure.subplots(1, 2)
    names, colours = ("VAE", "autoencoder"), (BLUE, ORANGE)
    style(left, "distance from the nearer ring", "samples")
    edges = np.linspace(0, min(2.0, float(np.max(rings.distances)) + 0.05), 41)
    style(right, "pixels that differ from the nearest image of bars", "share of samples")
    places = np.arange(int(np.max(bars.distances)) + 1)
    for turn, (name, colour) in enumerate(zip(names, colours, strict=True)):
        distance = rings.distances[turn]
        left.hist(np.minimum(distance, edges[-1]), bins=edges.tolist(), color=colour, alpha=0.55,
                  label=f"{name}: {number(distance.mean())} on average")  # fmt: skip
        pixels = bars.distances[turn]
        shares = [np.mean(pixels == count) for count in places]
        right.bar(places + 0.4 * (turn - 0.5), shares, width=0.38, color=colour,
                  label=f"{name}: {number(pixels.mean())} on average")  # fmt: skip
    right.grid(visible=False, axis="x")
    legend(left)
    legend(right)
    _titles((left, "Rings"), (right, "4 × 4 bars"))
    return figure


def _digits_figure(seed: int) -> Figure:
    from vae_np.pictures.drawing import blank_figure

    models = trained.digits_pair(seed)
    x = trained.digits()[1][:6]
    figure = blank_figure(1180, 560)
    grid = figure.subplots(1, 4, width_ratios=(3, 1, 3, 1))
    for (samples, rebuilt), vae, name in zip((grid[:2], grid[2:]), models, ("VAE", "Autoencoder"), strict=True):
        _draw_images(samples, vae.sample(64, seed=seed, mean=True), 8)
        pairs = np.stack([x.astype(np.float64), vae.reconstruct(x)], axis=1).reshape(-1, 784)
        _draw_images(rebuilt, pairs, 2)
        _titles((samples, f"{name}: z ~ N(0, I), decoded"), (rebuilt, "Rebuilt"))
    return figure
