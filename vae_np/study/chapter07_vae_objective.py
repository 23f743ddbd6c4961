"""Chapter 7: the objective as it is computed. Claims 26, 27, 28 and 30. [D21] [D22] [D23] [D24] [D34]"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from vae_np import VAE, data, noise, ops
from vae_np._types import Array
from vae_np.architecture import Architecture
from vae_np.distributions import full_normal_kl_forward, normal_kl_forward
from vae_np.elbo import elbo_backward, elbo_forward, posterior_log_prob, standard_normal_log_prob
from vae_np.evaluation.importance import Estimate, estimate_from_log_weights, importance_log_likelihood, log_weights
from vae_np.exact.decoder import Decoder
from vae_np.exact.linear_gaussian import LinearGaussian, to_parameters
from vae_np.model import Model, encode_forward, initialise
from vae_np.parameters import Parameters
from vae_np.step import Optimiser, TrainingState, training_step
from vae_np.study import models, plain, trained
from vae_np.study.claims import Claim, at_least, equal, in_errors, zero

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "Two forms of one bound, a loss that is its negative, and draws of z where they count."

CHAPTER = 7
DRAWS = 4000
# How many z each estimate of log p(x) gets, and how often it is repeated.
SAMPLES, REPEATS = 200, 40
# And how many where their bias is compared.
FEW = 10


@dataclass(frozen=True)
class Bars:
    """A VAE of 3 × 3 bars (two latents, double precision) after a short training, and its data x (N, 9)."""

    model: Model
    x: Array


@dataclass(frozen=True)
class Proposals:
    """Test digits x (B, 784) with exact log p(x), and the weights (S, B) that draws from q and from the prior get."""

    vae: VAE
    x: Array
    log_prob: Array
    of_q: Array
    of_prior: Array


def figures(seed: int) -> dict[str, Figure]:
    """One image's KL at single draws, and where two proposals look for z."""
    return {
        "07-two-forms": _forms_figure(_bars(seed), seed),
        "07-where-z-counts": _proposals_figure(_proposals(seed), seed),
    }


def notes(seed: int) -> list[str]:
    """Effective draws and biases of the two proposals, whose size depends on the digits."""
    found = _proposals(seed)
    sizes = [np.median(_effective(weights)) for weights in (found.of_q, found.of_prior)]
    biases = [np.median(errors.mean(axis=0)) for errors in _errors(found)]
    return [
        f"Digits: {sizes[0]:.0f} effective draws of {SAMPLES} from q and {sizes[1]:.0f} from p(z), medians of 8; "
        f"biases of log p̂(x) {biases[0]:.2f} and {biases[1]:.2f} nats.",
    ]


@cache
def _bars(seed: int) -> Bars:
    x, _ = data.bars(3, 500, seed)
    arch = Architecture(features=9, latent=2, hidden=(32,), activation="tanh")
    state = TrainingState(initialise(arch, seed=seed, dtype=np.float64))
    for epoch in range(80):
        for rows in noise.order(len(x), seed=seed, epoch=epoch).reshape(-1, 50):
            training_step(ops, arch, state, x[rows], rows, seed=seed, optimiser=Optimiser(lr=1e-2))
    return Bars(Model(ops, arch, state.parameters), x)


def _noise(found: Bars, rows: int, samples: int, seed: int) -> Array:
    """ε (samples·rows, K), sample-major."""
    every, sample = noise.every_sample(np.arange(rows), np.arange(samples))
    latent = found.model.arch.latent
    return noise.normal(every, latent, seed=seed, stream=noise.EVAL_EPS, sample=sample, dtype=np.float64)


# --- claim 26: two forms --------------------------------------------------------------------------------------------


def two_forms(seed: int) -> list[Claim]:
    """Claim 26: both forms at the same z against the densities themselves, and the sampled KL against the analytic."""
    found = _bars(seed)
    x = found.x[:50]
    eps = _noise(found, len(x), 1, seed)
    joint, _ = elbo_forward(*found.model, x, eps, form="joint")
    analytic, _ = elbo_forward(*found.model, x, eps)
    mu, logvar = _encode(found, x)
    sigma = np.exp(0.5 * logvar)
    z = mu + sigma * eps
    decoder, wide = Decoder.of(found.model.arch, found.model.parameters), x.astype(np.float64)
    pairs = zip(wide[:, None], z[:, None], strict=True)
    loglik = np.array([plain.log_likelihood(decoder, *pair)[0, 0] for pair in pairs])
    log_q, log_prior = plain.log_normal(z, mu, sigma), plain.log_normal(z)
    kl = [plain.normal_divergence(m, np.diag(s)) for m, s in zip(mu, sigma, strict=True)]
    few = x[:8]
    draws = _sampled_kl(found, few, seed)
    mu, logvar = _encode(found, few)
    exactly, _ = normal_kl_forward(mu, logvar)
    negative = np.array([_share_below(*pair) for pair in zip(mu, np.exp(0.5 * logvar), strict=True)])
    training, densities = "the code that trains", "densities at the same z, by definition"
    return [
        zero(26, "joint form − [log p(x,z) − log q], same z: largest", joint.elbo - (loglik + log_prior - log_q), 1e-12,
             by=(training, densities)),
        zero(26, "analytic form − [log p(x|z) − KL], same z: largest", analytic.elbo - (loglik - kl), 1e-10,
             by=(training, f"{densities}; KL by Legendre sums")),
        in_errors(26, "mean sampled KL − analytic KL, in std. errors", draws.mean(axis=0), exactly,
                  draws.std(axis=0, ddof=1) / np.sqrt(DRAWS), by=(f"{DRAWS:,} draws of log q − log p", "closed form")),
        in_errors(26, "share of draws whose sampled KL is negative, likewise", (draws < 0).mean(axis=0), negative,
                  np.sqrt(negative * (1 - negative) / DRAWS) + 1 / DRAWS,
                  by=(f"{DRAWS:,} draws", "Legendre sums over where log q < log p")),
    ]  # fmt: skip


def _share_below(mu: Array, sigma: Array) -> float:
    """The probability under q = N(mu, sigma²), two latents, that log q(z) < log p(z)."""
    z, weights = plain.around(mu, sigma, 60)
    log_q = plain.log_normal(z, mu, sigma)
    return float(weights * np.exp(log_q) @ (log_q < plain.log_normal(z)))


def _encode(found: Bars, x: Array) -> tuple[Array, Array]:
    mu, logvar = encode_forward(*found.model, x)[0]
    return mu, logvar


def _sampled_kl(found: Bars, x: Array, seed: int) -> Array:
    """DRAWS draws of log q(z|x) − log p(z) an example, (DRAWS, B)."""
    eps = _noise(found, len(x), DRAWS, seed + 1)
    mu, logvar = _encode(found, x)
    z = (mu + np.exp(0.5 * logvar) * eps.reshape(DRAWS, *mu.shape)).reshape(eps.shape)
    return (posterior_log_prob(logvar, eps) - standard_normal_log_prob(z)).reshape(DRAWS, len(x))


# --- claim 27: the loss is −ELBO ------------------------------------------------------------------------------------


def loss_is_minus_elbo(seed: int) -> list[Claim]:
    """Claim 27: sign and scale of the loss, and that going down it the ELBO goes up."""
    found = _bars(seed)
    x, eps = found.x[:50], _noise(found, 50, 1, seed)
    arch, wide = found.model.arch, found.x[:50].astype(np.float64)
    start = initialise(arch, seed=seed, dtype=np.float64)
    terms, cache = elbo_forward(ops, arch, start, x, eps)
    gradients = start.zeros_like()
    elbo_backward(ops, arch, cache, gradients)

    def elbo(parameters: Parameters) -> float:
        """The mean ELBO at the same ε, from the definitions, with the KL of two normals as its expectation in ε."""
        mu, logvar = encode_forward(ops, arch, parameters, x)[0]
        sigma, decoder = np.exp(0.5 * logvar), Decoder.of(arch, parameters)
        pairs = zip(wide[:, None], (mu + sigma * eps)[:, None], strict=True)
        loglik = [plain.log_likelihood(decoder, *pair)[0, 0] for pair in pairs]
        kl = [plain.normal_divergence(m, np.diag(s)) for m, s in zip(mu, sigma, strict=True)]
        return float(np.mean(np.array(loglik) - kl))

    def stepped(step: float) -> float:
        moved = start.zeros_like()
        moved.flat[...] = start.flat - step * gradients.flat
        return elbo(moved)

    step = 1e-4
    rise = (stepped(step) - stepped(-step)) / (2 * step)
    by_definition = "mean ELBO by definition, KL by Legendre"
    return [
        zero(27, "loss + mean ELBO", terms.loss() + elbo(start), 1e-10,
             by=("the loss that is minimised", by_definition)),
        equal(27, "rise of the ELBO downhill on the loss, over |∇ loss|²",
              rise / float(gradients.flat @ gradients.flat), 1, 1e-6,
              by=(f"differences of the {by_definition}", "backpropagation")),
        at_least(27, "nats of ELBO that minimising the loss gained", elbo(found.model.parameters) - elbo(start), 0,
                 by=(f"{by_definition}, after training", "and before")),
    ]  # fmt: skip


# --- claim 28: the KL in closed form --------------------------------------------------------------------------------


def kl_in_closed_form(seed: int) -> list[Claim]:
    """Claim 28: KL(q ‖ N(0, I)) of random normals, by formula and as the integral that it is."""
    random = models.generator(seed, CHAPTER)
    mu, sigma = random.uniform(-1.5, 1.5, (20, 1)), random.uniform(0.2, 1.1, (20, 1))
    means, factors = random.uniform(-1.5, 1.5, (6, 2)), np.zeros((6, 2, 2))
    factors[:, [0, 1], [0, 1]] = random.uniform(0.4, 0.9, (6, 2))
    diagonal = factors.copy()
    factors[:, 1, 0] = random.uniform(-0.5, 0.5, 6)

    def integrals(means: Array, chol: Array) -> Array:
        return np.array([plain.normal_divergence(*pair) for pair in zip(means, chol, strict=True)])

    one, _ = normal_kl_forward(mu, 2 * np.log(sigma))
    two, _ = normal_kl_forward(means, 2 * np.log(np.diagonal(diagonal, axis1=1, axis2=2)))
    full, _ = full_normal_kl_forward(means, factors)
    by = ("closed form", "E_q[log q − log p], Legendre sums")
    return [
        zero(28, "KL of 20 normals, K = 1: formula − integral", one - integrals(mu, sigma[..., None]), 1e-11, by=by),
        zero(28, "KL of 6 diagonal normals, K = 2", two - integrals(means, diagonal), 1e-11, by=by),
        zero(28, "KL of 6 normals with full covariance, K = 2", full - integrals(means, factors), 1e-11, by=by),
    ]


# --- claim 30: sample the z that contribute most --------------------------------------------------------------------


def proposals(seed: int) -> list[Claim]:
    """Claim 30: draws of z from q and from the prior, where answers are closed forms, and for digits."""
    return [*_closed_form(seed), *_digits(_proposals(seed))]


def _closed_form(seed: int) -> list[Claim]:
    """The linear-Gaussian model with one latent, where the variance of a weight is known for any normal proposal."""
    random = models.generator(seed, CHAPTER, 1)
    model = LinearGaussian(np.array([[0.9], [-0.7], [0.5]]), random.standard_normal(3), 0.6)
    x = model.sample(np.array([[1.2]]), random.standard_normal((1, 3)))
    arch, parameters = to_parameters(model)
    mean, covariance = model.posterior(x)
    m, v = float(mean[0, 0]), float(covariance[0, 0])
    claims = []
    # An encoder's q would be about as far off as this one.
    for name, mu, variance in (("q", m + 0.3 * v**0.5, 1.3 * v), ("prior", 0.0, 1.0)):
        # E w² / (E w)² = s² / √(v (2s² − v)) · exp((m − μ)² / (2s² − v)).
        spread = variance / np.sqrt(v * (2 * variance - v)) * np.exp((m - mu) ** 2 / (2 * variance - v))
        draws = 200_000
        found = importance_log_likelihood(
            Model(ops, arch, parameters), x, np.arange(1), samples=draws, seed=seed,
            posterior=(np.array([[mu]]), np.array([[np.log(variance)]])),
        )  # fmt: skip
        claims += [
            equal(30, f"proposal {name}: effective share", found.ess[0] / draws, 1 / spread, 0.03, relative=True,
                  by=("200,000 weights", "E w² of two normals, closed form")),
            in_errors(30, f"proposal {name}: log p̂ − log p, in std. errors", found.log_likelihood, model.log_prob(x),
                      found.stderr, by=("importance sampling through the decoder", "log N(x; b, WWᵀ + Ψ)")),
        ]  # fmt: skip
    return claims


@cache
def _proposals(seed: int) -> Proposals:
    vae = trained.mnist_vae(seed)
    test = trained.digits()[1]
    chosen = models.generator(seed, CHAPTER, 2).choice(len(test), 8, replace=False)
    x = test[chosen]
    decoder = Decoder.of(vae.arch, vae.parameters)
    log_prob = plain.log_evidence(decoder, decoder.check(x))
    mu, logvar = vae.encode(x)
    every, sample = noise.every_sample(np.arange(len(x)), np.arange(SAMPLES * REPEATS))
    eps = noise.normal(every, 2, seed=seed, stream=noise.EVAL_EPS, sample=sample)
    of_q, of_prior = (
        np.concatenate([
            log_weights(vae.model, x, *at, part)
            for part in np.split(eps, REPEATS)
        ])
        for at in ((mu, logvar), (np.zeros_like(mu), np.zeros_like(logvar)))
    )  # fmt: skip
    return Proposals(vae, x, log_prob, of_q, of_prior)


def _estimates(weights: Array) -> list[Estimate]:
    """REPEATS estimates of log p(x), from SAMPLES draws each."""
    return [estimate_from_log_weights(ops, part) for part in np.split(weights, REPEATS)]


def _errors(found: Proposals) -> tuple[Array, Array]:
    """log p̂(x) − log p(x), (REPEATS, B), of both proposals."""
    first, second = (
        np.stack([each.log_likelihood for each in _estimates(weights)]) - found.log_prob
        for weights in (found.of_q, found.of_prior)
    )
    return first, second


def _effective(weights: Array) -> Array:
    """The mean effective number of SAMPLES draws, (B,)."""
    return np.asarray(np.stack([each.ess for each in _estimates(weights)]).mean(axis=0))


def _of_few(weights: Array) -> Array:
    """log p̂(x) from FEW draws each, (S / FEW, B): where the bias of the prior's is largest."""
    groups = weights.reshape(-1, FEW, weights.shape[1]).swapaxes(0, 1)
    return np.asarray(ops.log_mean_exp_weights(groups.reshape(FEW, -1))[0].reshape(-1, weights.shape[1]))


def _in_errors(each: Array) -> Array:
    """Means over the first axis in their standard errors; NaN where nothing varies."""
    error = each.std(axis=0, ddof=1) / np.sqrt(len(each))
    return np.divide(each.mean(axis=0), error, out=np.full_like(error, np.nan), where=error > 0)


def _digits(found: Proposals) -> list[Claim]:
    by_q, by_prior = _errors(found)
    sizes = [np.stack([each.ess for each in _estimates(weights)]) for weights in (found.of_q, found.of_prior)]
    few = [_of_few(weights) for weights in (found.of_q, found.of_prior)]
    # The logarithm, so that a single estimate far off does not decide.
    spreads = [np.log((errors - errors.mean(axis=0)) ** 2) for errors in (by_q, by_prior)]
    mean, error = {}, {}
    for name, weights in (("q", found.of_q), ("p", found.of_prior)):
        scaled = np.exp(weights - found.log_prob)
        mean[name], error[name] = scaled.mean(axis=0), scaled.std(axis=0) / np.sqrt(len(scaled))
    # A q that covers a part m of the posterior is at least −log m away from it: the nearest one misses the least. Its
    # weights' own spread would not tell, since draws never come from where a q is not.
    well = int(np.argmin(found.log_prob - found.of_q.mean(axis=0)))
    two = (f"{REPEATS} × {SAMPLES} draws from q", "as many from p(z)")
    return [
        in_errors(30, "digits: mean weight of q over p(x), less 1, in std. errors", mean["q"][well], 1,
                  error["q"][well], by=("8,000 weights, 1 of 8 digits, the nearest q", "p(x), Legendre sums")),
        at_least(30, "digits: effective draws, q − p(z), std. errors, the median",
                 np.median(_in_errors(sizes[0] - sizes[1])), 4, by=two),
        at_least(30, "digits: log (log p̂ − mean)², p(z) − q, std. errors, median",
                 np.median(_in_errors(spreads[1] - spreads[0])), 4, by=two),
        at_least(30, f"digits: log p̂ of {FEW} draws, q − p(z), std. errors, the median",
                 np.median(_in_errors(few[0] - few[1])), 4, by=two),
    ]  # fmt: skip


CLAIMS = {26: two_forms, 27: loss_is_minus_elbo, 28: kl_in_closed_form, 30: proposals}


# --- the figures ----------------------------------------------------------------------------------------------------


def _titles(*titled: tuple[Axes, str]) -> None:
    from vae_np.pictures.drawing import INK

    for ax, title in titled:
        ax.set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK, pad=8)


def _forms_figure(found: Bars, seed: int) -> Figure:
    from vae_np.pictures.drawing import BLUE, INK, ORANGE, blank_figure, legend, number, style

    figure = blank_figure(1180, 420)
    spread, curve = figure.subplots(1, 2)
    x = found.x[:1]
    draws = _sampled_kl(found, x, seed)[:, 0]
    exactly = float(normal_kl_forward(*_encode(found, x))[0][0])
    style(spread, "log q(z|x) − log p(z) at one draw of z (nats)", "draws")
    spread.hist(draws, bins=60, color=BLUE, alpha=0.6, label=f"sampled: {number(draws.mean(), 3)} on average")
    spread.axvline(exactly, color=ORANGE, linewidth=2, label=f"closed form: {number(exactly, 3)}")
    spread.axvline(0, color=INK, linewidth=0.8)
    legend(spread)
    style(curve, "draws of z", "mean over the draws (nats)")
    counts = np.arange(1, DRAWS + 1)
    curve.plot(counts, np.cumsum(draws) / counts, color=BLUE, linewidth=1.8, label="sampled KL")
    error = draws.std() / np.sqrt(counts)
    curve.fill_between(counts, exactly - 2 * error, exactly + 2 * error, color=ORANGE, alpha=0.15, linewidth=0,
                       label="closed form ± 2 standard errors")  # fmt: skip
    curve.axhline(exactly, color=ORANGE, linewidth=1.6)
    curve.set_xscale("log")
    curve.minorticks_off()
    legend(curve)
    _titles((spread, "One image: the KL at single draws"), (curve, "Its mean closes in on the closed form"))
    return figure


def _proposals_figure(found: Proposals, seed: int) -> Figure:
    from vae_np.pictures.drawing import blank_figure

    figure = blank_figure(1240, 440)
    plane, estimates = figure.subplots(1, 2, width_ratios=(1, 1.3))
    _draw_plane(plane, found, seed)
    _draw_estimates(estimates, found)
    _titles((plane, "200 draws, and where p(z|x) is"), (estimates, "40 estimates of log p(x) from 200 draws each"))
    return figure


def _draw_plane(ax: Axes, found: Proposals, seed: int) -> None:
    from vae_np.pictures.drawing import BLUE, MUTED, ORANGE, style

    style(ax, "z₁", "z₂")
    axis = np.linspace(-3.4, 3.4, 341)
    z = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    decoder = Decoder.of(found.vae.arch, found.vae.parameters)
    density = np.exp(decoder.log_joint_matrix(decoder.check(found.x[:1]), z)[0] - found.log_prob[0]).reshape(341, 341)
    mu, logvar = found.vae.encode(found.x[:1])
    eps = noise.normal(np.arange(SAMPLES), 2, seed=seed, stream=noise.PRIOR)
    ax.plot(*eps.T, ".", markersize=3.5, color=ORANGE, alpha=0.8, label="draws from p(z)")
    ax.plot(*(mu + np.exp(0.5 * logvar) * eps).T, ".", markersize=3.5, color=BLUE, alpha=0.8, label="draws from q(z|x)")
    ax.contour(axis, axis, density / density.max(), levels=(0.011, 0.135, 0.6), colors="#1f2933", linewidths=0.9)
    ax.set_aspect("equal")
    ax.set(xlim=(-3.4, 3.4), ylim=(-3.4, 3.4))
    inside = ax.inset_axes((0.02, 0.8, 0.18, 0.18))
    inside.imshow(1 - found.x[0].reshape(28, 28).astype(float), cmap="gray", vmin=0, vmax=1)
    inside.set_axis_off()
    ax.text(0.02, 0.02, "lines: 1, 2 and 3 σ levels of p(z|x)", transform=ax.transAxes, fontsize=10, color=MUTED)
    ax.legend(loc="upper right", fontsize=10, frameon=True, framealpha=0.9, edgecolor="none", markerscale=2)


def _draw_estimates(ax: Axes, found: Proposals) -> None:
    from vae_np.pictures.drawing import BLUE, INK, ORANGE, legend, style

    style(ax, "test digits", "log p̂(x) − log p(x) (nats)")
    for errors, colour, label, shift in zip(
        _errors(found), (BLUE, ORANGE), ("z drawn from q(z|x)", "z drawn from p(z)"), (-0.18, 0.18), strict=True
    ):
        places = np.arange(errors.shape[1]) + shift
        spread = 0.1 * np.linspace(-1, 1, len(errors))[:, None]
        ax.plot((places + spread).ravel(), errors.ravel(), ".", markersize=4, color=colour, alpha=0.7, label=label)
    ax.axhline(0, color=INK, linewidth=1)
    ax.grid(visible=False, axis="x")
    ax.set_xticks(np.arange(len(found.log_prob)), [""] * len(found.log_prob))
    ax.tick_params(axis="x", length=0, pad=26)
    for at, image in enumerate(found.x):
        inside = ax.inset_axes((at - 0.3, -0.1, 0.6, 0.09), transform=ax.get_xaxis_transform())
        inside.imshow(1 - image.reshape(28, 28).astype(float), cmap="gray", vmin=0, vmax=1)
        inside.set_axis_off()
    legend(ax)
