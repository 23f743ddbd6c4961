"""Any family of q for one x, in two latents: its best member by climbing the bound, and what is left, integrated.

The bound is a sum over a fixed rule of ε, with the family's own draw and gradient. The divergence that is left is
another integral, over nodes that are handed in, and takes the density of q from the draw alone: the determinant is that
of complex steps through it. [D54] [D57]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vae_np import ops
from vae_np._types import Array
from vae_np.choices import PosteriorFamily
from vae_np.distributions import LOG_2PI
from vae_np.elbo import posterior_log_prob, standard_normal_log_prob
from vae_np.errors import InputError
from vae_np.exact.decoder import Decoder
from vae_np.exact.inference import Rule
from vae_np.parameters import Parameters
from vae_np.posteriors import FAMILIES, Family

_STEP = 1e-30


@dataclass(frozen=True)
class Member:
    """One q of a family, for one x: `tensors` has mu, logvar and the family's heads, (1, ·) each, and its networks."""

    family: Family
    tensors: Parameters

    @property
    def q(self) -> tuple[Array, ...]:
        """What an encoder would return for that x."""
        return tuple(self.tensors[name] for name in ("mu", "logvar", *self.family.heads()))

    def draw(self, eps: Array) -> tuple[Array, Array]:
        """z (M, K) and log q(z), (M,) in nats, at the noise eps (M, K). [D54]"""
        drawn, _ = self.family.draw_forward(ops, self.tensors, self.q, eps)
        log_q = posterior_log_prob(self.tensors["logvar"], eps)
        return drawn.z, log_q if drawn.log_det is None else log_q - drawn.log_det

    def draw_by_complex_steps(self, eps: Array) -> tuple[Array, Array]:
        """The same, where log q is log N(ε) less the logarithm of the Jacobian's determinant by complex steps."""
        columns = []
        tensors = self.tensors.astype(complex)
        for j in range(eps.shape[1]):
            moved = eps.astype(complex)
            moved[:, j] += _STEP * 1j
            columns.append(Member(self.family, tensors).draw(moved)[0].imag / _STEP)
        _, log_det = np.linalg.slogdet(np.stack(columns, axis=-1))
        log_normal = -0.5 * ((eps * eps).sum(axis=1) + eps.shape[1] * LOG_2PI)
        return self.draw(eps)[0], log_normal - log_det


def family_of(posterior: PosteriorFamily, latent: int, *, steps: int = 0, hidden: int = 0) -> Family:
    """The family of that name; raises InputError for an unknown one."""
    if posterior not in FAMILIES:
        raise InputError(f"posterior: got {posterior!r}, expected one of {', '.join(FAMILIES)}")
    kind = FAMILIES[posterior]
    return kind(latent, steps or kind.default_steps, hidden or kind.default_hidden)


def member(family: Family, mu: Array, logvar: Array, *, spread: float = 0.0, seed: int = 0) -> Member:
    """The q that begins with N(mu, exp logvar), (K,) each, and whose other numbers are drawn from N(0, spread²).

    With `spread` zero it is that normal, and a climb may stay among such.
    """
    shapes: dict[str, tuple[int, ...]] = {"mu": (1, family.latent), "logvar": (1, family.latent)}
    shapes |= {name: (1, width) for name, width in family.heads().items()} | family.shapes()
    tensors = Parameters(shapes, np.float64)
    random = np.random.Generator(np.random.PCG64(seed))
    for view in tensors.values():
        view[...] = spread * random.standard_normal(view.shape)
    tensors["mu"][...], tensors["logvar"][...] = mu, logvar
    family.start(tensors)
    return Member(family, tensors)


def encoded(family: Family, q: Sequence[Array], networks: Mapping[str, Array]) -> Member:
    """The q that an encoder returned for one x: mu, logvar and the family's heads (1, ·), in float64, and the networks
    of its draw among the model's parameters."""
    tensors = member(family, *np.zeros((2, family.latent))).tensors
    for name, part in zip(("mu", "logvar", *family.heads()), q, strict=True):
        tensors[name][...] = part
    for name in family.shapes():
        tensors[name][...] = networks[name]
    return Member(family, tensors)


def without_tails(rule: Rule, below: float = 1e-8) -> Rule:
    """The rule without the points that weigh next to nothing, three quarters of them in two latents."""
    heavy = rule.weights > below
    return Rule(rule.eps[heavy], rule.weights[heavy] / rule.weights[heavy].sum())


def bound(decoder: Decoder, x: Array, at: Member, rule: Rule) -> float:
    """E_q [log p(x, z) − log q(z)] of one x (D,), in nats, by the rule. [D21] [D54]"""
    z, log_q = at.draw(rule.eps)
    loglik, _ = decoder.loglik_forward(x[None], z)
    return float(rule.weights @ (loglik + standard_normal_log_prob(z) - log_q))


def bound_gradient(decoder: Decoder, x: Array, at: Member, rule: Rule) -> tuple[float, Parameters]:
    """The bound, and its gradient in every number that describes q, by hand. [D54]"""
    drawn, cache = at.family.draw_forward(ops, at.tensors, at.q, rule.eps)
    loglik, decoder_cache = decoder.loglik_forward(x[None], drawn.z)
    log_q = posterior_log_prob(at.tensors["logvar"], rule.eps)
    log_q = log_q if drawn.log_det is None else log_q - drawn.log_det
    value = float(rule.weights @ (loglik + standard_normal_log_prob(drawn.z) - log_q))
    dz = decoder.loglik_backward(rule.weights, decoder_cache, None) - rule.weights[:, None] * drawn.z
    gradient = at.tensors.zeros_like()
    dq = at.family.draw_backward(ops, (dz, np.zeros(1), rule.weights), cache, gradient)
    for name, part in zip(("mu", "logvar", *at.family.heads()), dq, strict=True):
        gradient[name][...] = part
    # Apart from the path: log q, written in ε, has −½ logvar.
    gradient["logvar"][...] += 0.5 * rule.weights.sum()
    return value, gradient


def best(decoder: Decoder, x: Array, starts: Sequence[Member], rule: Rule, *, iterations: int = 400) -> Member:
    """The highest of the climbs from some starts of one family, for one x (D,), by L-BFGS. [D11] [D57]

    The bound of a flow has many maxima; nothing says that this is the highest of all.
    """
    from scipy import optimize  # type: ignore[import-untyped]

    def moved(flat: Array, start: Member) -> Member:
        tensors = start.tensors.zeros_like()
        tensors.flat[...] = flat
        return Member(start.family, tensors)

    def loss_of(start: Member) -> Callable[[Array], tuple[float, Array]]:
        def loss(flat: Array) -> tuple[float, Array]:
            # A step too far leaves the range of doubles, and is refused for it.
            with np.errstate(all="ignore"):
                value, gradient = bound_gradient(decoder, x, moved(flat, start), rule)
            usable = np.isfinite(value) and np.isfinite(gradient.flat).all()
            return (-value, -gradient.flat) if usable else (np.inf, np.zeros_like(flat))

        return loss

    found = []
    options = {"maxiter": iterations, "maxcor": 30, "ftol": 1e-13, "gtol": 1e-9}
    for start in starts:
        result = optimize.minimize(
            loss_of(start), start.tensors.flat.copy(), jac=True, method="L-BFGS-B", options=options
        )
        found.append((float(result.fun), moved(result.x, start)))
    return min(found, key=lambda each: each[0])[1]


def divergence(decoder: Decoder, x: Array, log_prob: float, at: Member, eps: Array, weights: Array) -> float:
    """KL(q ‖ p(z|x)) of one x (D,) in nats, by nodes eps (M, K) and weights (M,) for integrals over ε. [D57]

    `log_prob` is log p(x). Nothing in it knows of the bound, nor of a log-determinant by hand.
    """
    z, log_q = at.draw_by_complex_steps(eps)
    log_posterior = decoder.log_joint_matrix(x[None], z)[0] - log_prob
    density = np.exp(-0.5 * ((eps * eps).sum(axis=1) + eps.shape[1] * LOG_2PI))
    return float(weights * density @ (log_q - log_posterior))
