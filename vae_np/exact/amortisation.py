"""Amortisation: one network x → λ in place of a solve for every x, what that costs the bound, and how to redo it.

The inference gap log p(x) − L[q_φ] splits into what the family of normals cannot do (approximation) and what the
encoder does not find within it (amortisation). [D19] [D20]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from vae_np import noise
from vae_np._types import Array
from vae_np.display import Shown
from vae_np.elbo import Terms, elbo_backward, elbo_forward
from vae_np.exact import families, quadrature
from vae_np.exact.decoder import Decoder
from vae_np.exact.families import Member
from vae_np.exact.inference import ELBO, Family, Rule, Solution, kl_to_posterior, maximise, maximise_best
from vae_np.exact.latent_model import LatentModel
from vae_np.model import Model, initialise
from vae_np.parameters import Parameters
from vae_np.step import Optimiser, TrainingState, apply_gradients

# An axis: enough to bring λ to where a few steps with the real rule finish it, at a quarter of the price.
_ROUGH_NODES = 5
# Of a flow's gap, spacings in ε: of the rule that is climbed, of the finer one that bounds are taken with, and of the
# divergence's own lattice. What is drawn beside N(0, I) keeps a climb from staying where every step is the identity.
_CLIMBED, _FINE, _SPACING, _SPREAD = 0.3, 0.15, 0.125, 0.3
# Nats by which the three quadratures of a gap may miss their identity; more means that one of them is too coarse.
_AGREEMENT = 1e-6


@dataclass(frozen=True, repr=False)
class GapParts(Shown):
    """log p(x) − L[q_φ] split, (B,) each in nats: `approximation` KL(q* ‖ p(z|x)), `amortisation` L[q*] − L[q_φ] and
    `total` KL(q_φ ‖ p(z|x)), three separate quadratures. `converged` (B,): log p(x) and λ* did, and the three agree."""

    _shown: ClassVar[tuple[str, ...]] = ("log_prob", "approximation", "amortisation", "total", "converged")

    log_prob: Array
    log_prob_error: Array
    approximation: Array
    amortisation: Array
    total: Array
    converged: Array

    @property
    def residual(self) -> Array:
        """approximation + amortisation − total, which is 0: (B,)."""
        return self.approximation + self.amortisation - self.total


@dataclass(frozen=True, repr=False)
class Gap(GapParts):
    """The gap of a normal q; its `solution` is λ* of every example."""

    solution: Solution


@dataclass(frozen=True, repr=False)
class FamilyGap(GapParts):
    """The gap of a flow, and for every example the `best` member of its family that was found."""

    best: tuple[Member, ...]


def split_gap(
    decoder: LatentModel,
    x: Array,
    mu: Array,
    logvar: Array,
    *,
    kind: str = "diagonal",
    covariance: Array | None = None,
    nodes: int = 20,
    solver_nodes: int = 10,
    tolerance: float = 1e-8,
    agreement: float = _AGREEMENT,
) -> Gap:
    """The inference gap of an encoder's mu and logvar (B, K) on x (B, D), for 1 or 2 latents. [D20]

    With `kind` full the encoder's q has the `covariance` (B, K, K), where it has one, in place of exp logvar. λ* is the
    better of a start at the prior and one at the encoder's output, found with a handful of nodes and then solved to
    convergence with `solver_nodes` an axis; both bounds are taken with `nodes`, whatever rule found λ*. An example
    whose three quadratures miss their identity by more than `agreement` nats has `converged` False.
    """
    x = decoder.check(x)
    family = Family(kind, decoder.latent)
    amortised = family.diagonal(mu, logvar)
    if covariance is not None:
        amortised = family.pack(np.asarray(mu, dtype=np.float64), covariance)
    rough, solved, fine = (
        ELBO(decoder, x, Rule.gauss_hermite(decoder.latent, count), family)
        for count in (_ROUGH_NODES, solver_nodes, nodes)
    )
    near = maximise_best(rough, [family.prior(len(x)), amortised], tolerance=1e-3)
    solution = maximise(solved, near.lam)
    everyone = np.arange(len(x))
    found = quadrature.log_likelihood(decoder, x, tolerance=tolerance)
    best, of_encoder = (fine.value_and_gradient(lam, everyone)[0] for lam in (solution.lam, amortised))
    approximation, total = (
        kl_to_posterior(decoder, x, found.log_prob, family, lam) for lam in (solution.lam, amortised)
    )
    amortisation = best - of_encoder
    agreed = np.abs(approximation + amortisation - total) <= agreement
    converged = found.converged & solution.converged & agreed
    return Gap(found.log_prob, found.error, approximation, amortisation, total, converged, solution)


def split_family_gap(
    decoder: Decoder,
    x: Array,
    members: Sequence[Member],
    *,
    tolerance: float = 1e-8,
    agreement: float = _AGREEMENT,
) -> FamilyGap:
    """The inference gap of one q of any family for each x (B, D), such as an encoder's flows; 1 or 2 latents. [D57]

    q* is the higher of two climbs, from the encoder's q and from N(0, I), in everything that describes q, its networks
    too: what is shared by all examples counts as amortised. A flow's bound has several maxima, so `approximation` is
    at most too large, by what `amortisation` is too small. The sum of the two is `total` all the same; an example for
    which these three quadratures disagree by more than `agreement` nats has `converged` False.
    """
    x = decoder.check(x)
    climbed = families.without_tails(Rule.trapezoid(decoder.latent, _CLIMBED))
    fine = families.without_tails(Rule.trapezoid(decoder.latent, _FINE), below=1e-13)
    eps = Rule.trapezoid(decoder.latent, _SPACING).eps
    cells = np.full(len(eps), _SPACING**decoder.latent)
    found = quadrature.log_likelihood(decoder, x, tolerance=tolerance)
    parts, best = [], []
    for row, log_prob, of_encoder in zip(x, found.log_prob, members, strict=True):
        prior = families.member(of_encoder.family, *np.zeros((2, decoder.latent)), spread=_SPREAD)
        found_best = families.best(decoder, row, [of_encoder, prior], climbed)
        best.append(found_best)
        bounds = [families.bound(decoder, row, at, fine) for at in (found_best, of_encoder)]
        left = [
            families.divergence(decoder, row, float(log_prob), at, eps, cells) for at in (found_best, of_encoder)
        ]
        parts.append((left[0], bounds[0] - bounds[1], left[1]))
    approximation, amortisation, total = np.array(parts).reshape(-1, 3).T
    converged = found.converged & (np.abs(approximation + amortisation - total) <= agreement)
    return FamilyGap(
        found.log_prob, found.error, approximation, amortisation, total, converged, tuple(best)
    )


def refit_encoder(
    model: Model,
    batch: Callable[[int], tuple[Array, Array]],
    *,
    steps: int,
    seed: int,
    optimiser: Optimiser | None = None,
    on_step: Callable[[int, Terms], None] | None = None,
) -> Parameters:
    """A new encoder for a frozen decoder: fresh weights from `seed`, trained on the ELBO for `steps`. [D19]

    The encoder of `model` is never read, and its decoder comes back bit for bit. `batch(step)` returns x (B, D) and the
    places (B,) of its rows in their data set. ε comes from the EPS stream.
    """
    ops, arch, parameters = model
    fresh = initialise(arch, seed=seed, dtype=parameters.dtype)
    for name, view in fresh.items():
        if not name.startswith("encoder."):
            view[...] = parameters[name]
    state, optimiser = TrainingState(fresh), optimiser or Optimiser()
    frozen = [view for name, view in state.gradients.items() if not name.startswith("encoder.")]
    for step in range(steps):
        x, rows = batch(step)
        eps = ops.philox_normal(rows, arch.latent, seed=seed, stream=noise.EPS, step=step, dtype=parameters.dtype)
        terms, cache = elbo_forward(ops, arch, state.parameters, x, eps)
        elbo_backward(ops, arch, cache, state.gradients)
        # Zero gradients leave Adam's moments, and so the parameters, exactly where they are.
        for gradient in frozen:
            gradient[...] = 0
        apply_gradients(ops, state, optimiser)
        if on_step is not None:
            on_step(step, terms)
    return state.parameters
