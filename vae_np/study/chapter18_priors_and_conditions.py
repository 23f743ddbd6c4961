"""Chapter 18: priors that are learned, and models that are told something. Claim 35. [D76] [D78] [D80]"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from vae_np import VAE, data, ops
from vae_np._types import Array
from vae_np.architecture import Architecture
from vae_np.distributions import normal_kl_forward
from vae_np.elbo import elbo_forward, prior_forward, prior_mixture
from vae_np.evaluation import held_out
from vae_np.evaluation.importance import importance_log_likelihood
from vae_np.exact.inference import Rule
from vae_np.exact.linear_gaussian import LinearGaussian
from vae_np.model import Model, encode_forward, initialise
from vae_np.parameters import Parameters
from vae_np.study import models, plain, trained
from vae_np.study.claims import Claim, at_least, at_most, equal, in_errors, zero

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "A learned prior takes away what the heap of posteriors misses of N(0, I); a condition shifts p(x)."

CLAIM, CHAPTER = 35, 18
COMPONENTS, DRAWS, ROWS = 6, 20_000, 40
# Of the trained models: rows, and how far apart two heaps of z lie.
TRAINED, HEAPS = 600, 4.0
# Rings, for the figure.
POINTS, STEPS = 1000, 700
PRIORS: dict[str, dict[str, Any]] = {
    "N(0, I)": {},
    "mixture of 8": {"prior": "mixture", "components": 8},
    "VampPrior of 20": {"prior": "vamp", "components": 20},
}


def _drawn(arch: Architecture, seed: int, part: int) -> Parameters:
    """A model whose tensors are all drawn from N(0, 0.6²)."""
    random, parameters = models.generator(seed, CHAPTER, part), Parameters(arch.shapes(), np.float64)
    for view in parameters.values():
        view[...] = 0.6 * random.standard_normal(view.shape)
    return parameters


def _plain_mixture(parameters: Parameters, z: Array) -> Array:
    """log Σ_c w_c N(z; m_c, σ_c²) from the tensors, component by component, (M,)."""
    weights = np.exp(parameters["prior.logits"]) / np.exp(parameters["prior.logits"]).sum()
    numbers = zip(weights, parameters["prior.means"], parameters["prior.logvars"], strict=True)
    return np.log(sum(w * np.exp(plain.log_normal(z, m, np.exp(0.5 * v))) for w, m, v in numbers))


def _density(seed: int) -> list[Claim]:
    arch = Architecture(4, 2, (), "tanh", prior="mixture", components=COMPONENTS)
    parameters = _drawn(arch, seed, 0)
    z, weights = plain.panels(np.full(2, -12.0), np.full(2, 12.0), 24)
    log_p, _ = prior_forward(ops, arch, parameters, z, None)
    by = ("an affine layer of (z², z)", "each component's normal, by definition")
    near = np.abs(z).max(axis=1) < 4
    return [
        zero(CLAIM, "log p(z) of a mixture of 6 normals", (log_p - _plain_mixture(parameters, z))[near], 1e-10, by=by),
        equal(CLAIM, "∫ p(z) dz over the plane", np.exp(log_p) @ weights, 1, 1e-9,
              by=("the density, by Legendre", "a density is one in all")),
    ]  # fmt: skip


def _evidence(seed: int) -> list[Claim]:
    """x = W z + b + noise with a mixture for z: p(x) is a mixture of normals, whatever q is."""
    arch = Architecture(3, 2, (), "tanh", "normal-fixed", 0.8, prior="mixture", components=COMPONENTS)
    parameters = initialise(arch, seed=seed, dtype=np.float64)
    random = models.generator(seed, CHAPTER, 1)
    for name in ("prior.logits", "prior.means", "prior.logvars"):
        parameters[name][...] = random.standard_normal(parameters[name].shape)
    weight, x = parameters["decoder.out.weight"], random.standard_normal((4, 3))
    logits = parameters["prior.logits"]
    total = np.zeros(len(x))
    for share, mean, logvar in zip(np.exp(logits) / np.exp(logits).sum(), parameters["prior.means"],
                                   parameters["prior.logvars"], strict=True):  # fmt: skip
        of_one = LinearGaussian(np.exp(0.5 * logvar)[:, None].T * weight.T,
                                mean @ weight + parameters["decoder.out.bias"], 0.64)  # fmt: skip
        total += share * np.exp(of_one.log_prob(x))
    found = importance_log_likelihood(
        Model(ops, arch, parameters), x, np.arange(len(x)), samples=DRAWS, seed=seed
    )
    by = ("importance sampling", "Σ w N(x; W m + b, W e^v Wᵀ + Ψ)")
    return [in_errors(CLAIM, "log p(x) with a mixture for z, in errors", found.log_likelihood, np.log(total),
                      found.stderr, by=by)]  # fmt: skip


def _surgery(seed: int) -> list[Claim]:
    """The mean KL's two parts, one latent: with all rows as pseudo-inputs the second is gone."""
    arch = Architecture(6, 1, (5,), "tanh", prior="vamp", components=ROWS)
    parameters = _drawn(arch, seed, 2)
    x = models.generator(seed, CHAPTER, 3).integers(0, 2, (ROWS, 6)).astype(np.float64)
    parameters["prior.pseudo_inputs"][...] = x
    mu, logvar = encode_forward(ops, arch, parameters, x)[0]
    eps = ops.philox_normal(np.arange(ROWS), 1, seed=seed, stream=5, step=0, dtype=np.float64)
    terms, _ = elbo_forward(ops, arch, parameters, x, eps)
    sigma = np.exp(0.5 * logvar)
    information = held_out.elbo_surgery(ops, mu, logvar, seed=seed).mutual_information
    # The mean KL to q(z) by a rule over ε, against what the definitions say of KL(q(z) ‖ N(0, 1)).
    rule = Rule.trapezoid(1, 0.05)
    z = mu + sigma * rule.eps.T
    log_own = plain.log_normal(rule.eps) - 0.5 * logvar
    log_prior = prior_forward(ops, arch, parameters, z.reshape(-1, 1), None)[0].reshape(z.shape)
    to_heap = ((log_own - log_prior) @ rule.weights).mean()
    nodes, weights = plain.panels(np.array([-12.0]), np.array([12.0]), 200)
    heap = np.mean([np.exp(plain.log_normal(nodes, m, s)) for m, s in zip(mu, sigma, strict=True)], axis=0)
    marginal = (weights * heap) @ (np.log(heap) - plain.log_normal(nodes))
    to_standard = normal_kl_forward(mu, logvar)[0].mean()
    return [
        zero(CLAIM, "sampled KL with 40 of 40 rows as u − log q(z|x)/q(z)", terms.kl - information, 1e-10,
             by=("the ELBO with a VampPrior", "the KL taken apart, by pairs")),
        zero(CLAIM, "mean KL to N(0, 1) − to q(z) − KL(q(z)‖N(0, 1))", to_standard - to_heap - marginal, 1e-8,
             by=("analytic KL, and VampPrior over ε", "q(z) by definition, Legendre")),
        at_least(CLAIM, "what the VampPrior saves, nats", to_standard - to_heap, 0.05,
                 by=("mean KL to N(0, 1) − to q(z)", "more than nothing")),
    ]  # fmt: skip


def shifted(seed: int) -> tuple[Model, LinearGaussian, Array]:
    """x = W z + A c + b + noise as a conditional VAE whose q is p(z|x, c); the model without c, and A (D, C)."""
    random = models.generator(seed, CHAPTER, 4)
    weight, shift = random.standard_normal((4, 2)), random.standard_normal((4, 3))
    exact = LinearGaussian(weight, random.standard_normal(4), 0.49)
    arch = Architecture(4, 2, (), "tanh", "normal-fixed", 0.7, posterior="full", conditions=3)
    parameters = Parameters(arch.shapes(), np.float64)
    parameters["decoder.out.weight"][...] = np.vstack([weight.T, shift.T])
    parameters["decoder.out.bias"][...] = exact.bias
    covariance = np.linalg.inv(exact.precision)
    gain, lower = exact.pull.T @ covariance, np.linalg.cholesky(covariance)
    parameters["encoder.mu.weight"][...] = np.vstack([gain, -shift.T @ gain])
    parameters["encoder.mu.bias"][...] = -exact.bias @ gain
    parameters["encoder.logvar.bias"][...] = 2 * np.log(np.diag(lower))
    parameters["encoder.below.bias"][...] = lower[1, 0]
    return Model(ops, arch, parameters), exact, shift


def _conditional(seed: int) -> list[Claim]:
    model, exact, shift = shifted(seed)
    random = models.generator(seed, CHAPTER, 5)
    x, c, eps = (random.standard_normal((8, width)) for width in (4, 3, 2))
    found, _ = elbo_forward(*model, np.hstack([x, c]), eps, form="joint")
    log_p = exact.log_prob(x - c @ shift.T)
    return [
        zero(CLAIM, "ELBO at p(z|x, c) − log p(x|c)", found.elbo - log_p, 1e-11,
             by=("a conditional VAE's joint form", "N(x; A c + b, WWᵀ + Ψ)")),
    ]  # fmt: skip


def _learned(seed: int) -> list[Claim]:
    """Two trainings that end where closed forms say: a shift by the condition, and two heaps of z."""
    random = models.generator(seed, CHAPTER, 6)
    c = random.standard_normal((TRAINED, 2))
    shift, weight = np.array([[2.0, 0.0], [-1.0, 1.0], [0.5, 3.0]]), np.array([[1.5], [1.2], [-0.4]])
    x = random.standard_normal((TRAINED, 1)) @ weight.T + c @ shift.T + 0.5 * random.standard_normal((TRAINED, 3))
    design = np.hstack([c, np.ones((TRAINED, 1))])
    left = x - design @ np.linalg.lstsq(design, x, rcond=None)[0]
    values, vectors = np.linalg.eigh(left.T @ left / TRAINED)
    noise = values[:2].mean()
    best = LinearGaussian(vectors[:, 2:] * np.sqrt(values[2] - noise), np.zeros(3), noise).log_prob(left).mean()
    vae = _vae(seed, 3, {"conditions": 2})
    for lr in (0.05, 0.01, 0.001):
        vae.fit(x, given=c, epochs=80, batch_size=100, lr=lr, values="real")
    elbo = vae.elbo(x, given=c, z_samples=200).elbo.mean()
    heaps = random.choice([-HEAPS, HEAPS], TRAINED) + 0.3 * random.standard_normal(TRAINED)
    two = heaps[:, None] * [1.0, 0.5] + 0.2 * random.standard_normal((TRAINED, 2))
    model = _vae(seed, 2, {"prior": "mixture", "components": 2})
    for lr in (0.05, 0.01):
        model.fit(two, epochs=60, batch_size=100, lr=lr, values="real")
    bound = model.elbo(two, z_samples=20).elbo.mean()
    # A normal z makes x normal: its best fit is the normal with the data's own moments.
    covariance = np.cov(two.T, bias=True)
    normal = -0.5 * (np.linalg.slogdet(2 * np.pi * covariance)[1] + 2)
    return [
        at_most(CLAIM, "best mean log p(x|c) − trained ELBO, nats", abs(best - elbo), 1e-2,
                by=("training with conditions", "least squares and pPCA")),
        at_least(CLAIM, "two heaps: ELBO of 2 components − best of N(0, 1)", bound - normal, 0.5,
                 by=("training with a mixture", "the normal with the data's moments")),
    ]  # fmt: skip


def _vae(seed: int, features: int, kind: dict[str, Any]) -> VAE:
    """A linear VAE with one latent."""
    how: dict[str, Any] = {"hidden": (), "latent": 1, "likelihood": "normal", "dtype": "float64", "backend": "numpy"}
    return VAE(features, seed=seed, **how, **kind)


def priors_and_conditions(seed: int) -> list[Claim]:
    """Claim 35: densities, what a learned prior saves, and what a condition shifts, each against a closed form."""
    return [*_density(seed), *_evidence(seed), *_surgery(seed), *_conditional(seed), *_learned(seed)]


CLAIMS: dict[int, Callable[[int], list[Claim]]] = {CLAIM: priors_and_conditions}


@cache
def rings(seed: int) -> tuple[dict[str, VAE], Array]:
    """A VAE of rings with each prior, trained alike, and the points (N, 2)."""
    x, _ = data.rings(POINTS, seed)
    found = {}
    for name, kind in PRIORS.items():
        how: dict[str, Any] = {"hidden": (32,), "latent": 2, "activation": "tanh", "dtype": "float64", "sigma": 0.2}
        vae = VAE(2, likelihood="normal", backend="numpy", seed=seed, **how, **kind)
        if vae.arch.learned_prior is not None:
            vae.arch.learned_prior.start_at_rows(vae.parameters, lambda places: x[places], len(x))
        found[name] = trained.fit(vae, x, steps=STEPS, lr=1e-2, seed=seed)
    return found, x


def notes(seed: int) -> list[str]:
    """The ELBO and the KL of rings with each prior."""
    said, x = [], rings(seed)[1]
    for name, vae in rings(seed)[0].items():
        terms = vae.elbo(x, z_samples=10, values="real")
        said.append(f"rings with {name}: ELBO {terms.elbo.mean():.2f}, KL {terms.kl.mean():.2f} nats")
    return said


def figures(seed: int) -> dict[str, Figure]:
    """Draws of q(z) over the density of each prior."""
    from vae_np.pictures.drawing import blank_figure, head

    figure = blank_figure(1320, 470)
    found, x = rings(seed)
    for ax, (name, vae) in zip(figure.subplots(1, len(PRIORS)), found.items(), strict=True):
        head(ax, name)
        _draw(ax, vae, x, seed)
    return {"18-priors": figure}


def _draw(ax: Axes, vae: VAE, x: Array, seed: int) -> None:
    from vae_np.pictures.drawing import BLUE, style

    style(ax, "z₁", "z₂")
    mu, logvar = vae.encode(x, values="real")
    z = mu + np.exp(0.5 * logvar) * models.generator(seed, CHAPTER, 7).standard_normal(mu.shape)
    reach = 1.1 * max(np.abs(z).max(), 3.0)
    axis = np.linspace(-reach, reach, 161)
    places = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    density = np.exp(prior_forward(*vae.model, places, None)[0]).reshape(len(axis), -1)
    # The root shows thin parts beside dense ones.
    ax.imshow(np.sqrt(density), extent=(-reach, reach, -reach, reach), origin="lower", cmap="Greys", aspect="equal")
    ax.plot(z[:, 0], z[:, 1], ".", color=BLUE, markersize=3, alpha=0.6)
    mixture = prior_mixture(*vae.model)
    if mixture is not None:
        ax.plot(mixture.means[:, 0], mixture.means[:, 1], "+", color="#bd1f01", markersize=8)
