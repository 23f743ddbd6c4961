"""Part of chapter 6: what is left of the gap as the family of q grows, on three posteriors of two latents. [D57]"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vae_np._types import Array
from vae_np.architecture import Architecture
from vae_np.choices import PosteriorFamily
from vae_np.exact.decoder import Decoder
from vae_np.exact.families import Member, best, bound, divergence, family_of, member, without_tails
from vae_np.exact.inference import Rule
from vae_np.exact.linear_gaussian import LinearGaussian, to_parameters
from vae_np.model import initialise
from vae_np.study import plain
from vae_np.study.claims import Claim, at_least, equal, zero

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CLAIM = 32
TILTED = LinearGaussian(np.array([[1.5, 1.2]]), np.zeros(1), 0.5)
# By its name in `vae_np.posteriors`: what it is called, its steps and its hidden units.
FAMILIES: dict[PosteriorFamily, tuple[str, int, int]] = {
    "diagonal": ("diagonal", 0, 0),
    "full": ("full", 0, 0),
    "planar": ("2 planar steps", 2, 0),
    "iaf": ("2 iaf steps", 2, 6),
}
# Spacings of the rule that is climbed and of the finer one that the bound is taken with; panels an axis of the
# divergence's own nodes, and how far they reach.
CLIMBED, FINE, PANELS, REACH = 0.3, 0.1, 16, 7.0
LEAST = 0.1
# Which family leaves less than which.
_STEPS: tuple[tuple[PosteriorFamily, PosteriorFamily], ...] = (
    ("diagonal", "full"),
    ("full", "planar"),
    ("full", "iaf"),
)


@dataclass(frozen=True)
class Posterior:
    """A decoder and one x (D,) of it; log p(x) by Legendre sums, and of each family's best q: the bound and KL left."""

    name: str
    decoder: Decoder
    x: Array
    log_prob: float
    best: dict[PosteriorFamily, Member]
    bounds: dict[PosteriorFamily, float]
    left: dict[PosteriorFamily, float]


def solve(seed: int) -> tuple[Posterior, ...]:
    """A curved posterior, one of two modes and a tilted normal, with the best q of each family."""
    linear = Decoder.of(*to_parameters(TILTED))
    return (
        _solved("curved", _folded(2.0, 0.2, 1.5, 1.0), np.array([0.7]), seed),
        _solved("two modes", _folded(4.0, 1.0, 1.3, 0.8), np.array([1.8]), seed),
        _solved("tilted", linear, np.array([1.0]), seed),
    )


def _folded(steepness: float, left: float, right: float, second: float) -> Decoder:
    """x = right · max(z₁, 0) + left · max(−z₁, 0) + second · z₂ + noise, nearly: a fold, as sharp as it is steep."""
    arch = Architecture(features=1, latent=2, hidden=(4,), activation="softplus", likelihood="normal-fixed", sigma=0.4)
    parameters = initialise(arch, seed=0, dtype=np.float64)
    parameters["decoder.hidden.0.weight"][...] = [[steepness, -steepness, 0, 0], [0, 0, 1, -1]]
    parameters["decoder.out.weight"][:, 0] = [right / steepness, left / steepness, second, -second]
    for name in ("decoder.hidden.0.bias", "decoder.out.bias"):
        parameters[name][...] = 0
    return Decoder.of(arch, parameters)


def _solved(name: str, decoder: Decoder, x: Array, seed: int) -> Posterior:
    log_prob = float(plain.log_evidence(decoder, x[None])[0])
    climbed, fine = without_tails(Rule.trapezoid(2, CLIMBED)), Rule.trapezoid(2, FINE)
    eps, weights = plain.panels(np.full(2, -REACH), np.full(2, REACH), PANELS)
    found, bounds, left = {}, {}, {}
    for kind, (_, steps, hidden) in FAMILIES.items():
        family = family_of(kind, 2, steps=steps, hidden=hidden)
        # At none of these places a fold's symmetry holds the climb.
        starts = [
            member(family, np.array([place, 0.0]), np.full(2, -0.5), spread=spread, seed=2 * seed + number)
            for number, (place, spread) in enumerate(((1.0, 0.3), (0.2, 0.7)))
        ]
        found[kind] = best(decoder, x, starts, climbed, iterations=100)
        bounds[kind] = bound(decoder, x, found[kind], fine)
        left[kind] = divergence(decoder, x, log_prob, found[kind], eps, weights)
    return Posterior(name, decoder, x, log_prob, found, bounds, left)


def claims(found: tuple[Posterior, ...]) -> list[Claim]:
    """Claim 32: the gap of each family by its bound and by its divergence, and that a richer one leaves less."""
    rows = []
    for each in found[:2]:
        missed = np.array([each.log_prob - each.bounds[kind] - each.left[kind] for kind in FAMILIES])
        rows.append(zero(CLAIM, f"{each.name}: log p(x) − L(q*) − KL(q*‖p(z|x)), of 4 q", missed, 1e-5,
                         by=("the bound, log-determinants by hand", "KL by Legendre, by complex steps")))  # fmt: skip
        for poorer, richer in _STEPS:
            less = each.log_prob - each.bounds[poorer] - each.left[richer]
            by = (f"log p(x) − the bound of {poorer} q", f"KL of {richer} q by Legendre")
            rows.append(at_least(CLAIM, f"{each.name}: gap of {poorer} − gap of {richer}, nats", less, LEAST, by=by))
    tilted = found[2]
    diagonal = TILTED.best_diagonal(tilted.x[None])[2]
    return [
        *rows,
        zero(CLAIM, "tilted normal: what a full covariance leaves", tilted.left["full"], 1e-6,
             by=("KL by Legendre, by complex steps", "the posterior is in the family")),
        equal(CLAIM, "tilted normal: what a diagonal one leaves", tilted.left["diagonal"], diagonal, 1e-6,
              by=("KL by Legendre, by complex steps", "½ (Σ log Λⱼⱼ − log |Λ|)")),
    ]  # fmt: skip


def notes(found: tuple[Posterior, ...]) -> list[str]:
    """The gap of each family, and of the flows on a posterior that is a normal."""
    return [
        f"{each.name}: " + ", ".join(f"{FAMILIES[kind][0]} {left:.2g}" for kind, left in each.left.items()) + " nats"
        for each in found
    ]


def figure(found: tuple[Posterior, ...]) -> Figure:
    """Each posterior in shades, and of each family's best q the images of the circles |ε| = 1 and |ε| = 2."""
    from vae_np.pictures.drawing import INK, blank_figure

    picture = blank_figure(1320, 700)
    axes = picture.subplots(2, len(FAMILIES))
    for row, each in zip(axes, found[:2], strict=True):
        for ax, kind in zip(row, FAMILIES, strict=True):
            _draw(ax, each, kind)
            ax.set_title(f"{each.name}, {FAMILIES[kind][0]}\n{each.left[kind]:.2g} nats left",
                         loc="left", fontsize=10.5, fontweight="bold", color=INK, pad=8)  # fmt: skip
    return picture


def _draw(ax: Axes, each: Posterior, kind: PosteriorFamily) -> None:
    from vae_np.pictures.drawing import BLUE, style

    style(ax, "z₁", "z₂")
    ax.grid(visible=False)
    axis = np.linspace(-3.2, 3.2, 81)
    z = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    density = np.exp(each.decoder.log_joint_matrix(each.x[None], z)[0] - each.log_prob)
    ax.contourf(axis, axis, density.reshape(81, 81) / density.max(), levels=np.linspace(0.02, 1, 11), cmap="Greys",
                alpha=0.75)  # fmt: skip
    turn = np.linspace(0, 2 * np.pi, 241)
    for radius in (1, 2):
        circle = radius * np.stack([np.cos(turn), np.sin(turn)], axis=-1)
        image, _ = each.best[kind].draw(circle)
        ax.plot(image[:, 0], image[:, 1], color=BLUE, linewidth=1.8)
    ax.set(xlim=(-3.2, 3.2), ylim=(-3.2, 3.2))
    ax.set_aspect("equal")
