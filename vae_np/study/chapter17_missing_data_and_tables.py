"""Chapter 17: log p(x_obs), what fills a hole, and a model that was trained on rows with holes. [D67] [D71] [D74]"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from vae_np import VAE, ops
from vae_np._types import Array
from vae_np.evaluation import imputation
from vae_np.evaluation.imputation import Imputed
from vae_np.exact import missing, quadrature
from vae_np.exact.decoder import Decoder
from vae_np.exact.linear_gaussian import LinearGaussian, from_parameters, to_parameters
from vae_np.model import Model
from vae_np.study import models
from vae_np.study.claims import Claim

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "Cells that are missing are left out of log p(x|z), and filled in by what is known of the others."

CHAPTER = 17
FEATURES, LATENT, NOISE = 10, 2, 0.3
SHARES = (0.1, 0.5, 0.9)
ROWS, SAMPLES, REPEATS, DRAWS = 8, 1500, 48, 300
# Standard errors that the worst of some dozen cells may be off, and the worst of a hundred correlations.
WORST, WORST_CORRELATION = 4.0, 5.0
# The training with holes: cells missing, rows, epochs at each learning rate, and draws of z per row.
TRAINED_SHARE, TRAINED_ROWS, TRAINED_FEATURES = 0.5, 1000, 5
EPOCHS, RATES, CLIMBED = 40, (1e-2, 3e-3, 1e-3), 10


@cache
def model(seed: int, features: int = FEATURES, latent: int = LATENT) -> LinearGaussian:
    """A linear-Gaussian model with one σ² = 0.3."""
    random = models.generator(seed, CHAPTER, features)
    weight = 0.8 * random.standard_normal((features, latent))
    return LinearGaussian(weight, random.standard_normal(features), NOISE)


def holed(seed: int, share: float, rows: int = ROWS, features: int = FEATURES, latent: int = LATENT) -> Array:
    """Rows (N, D) that the model draws, each cell missing with the probability `share`."""
    random, linear = models.generator(seed, CHAPTER, rows, int(100 * share)), model(seed, features, latent)
    z = random.standard_normal((rows, latent))
    x = z @ linear.weight.T + linear.bias + np.sqrt(NOISE) * random.standard_normal((rows, features))
    return np.where(random.random(x.shape) < share, np.nan, x)


def _as_vae(linear: LinearGaussian) -> Model:
    arch, parameters = to_parameters(linear)
    return Model(ops, replace(arch, missing="zero"), parameters)


def proposal(linear: LinearGaussian, x: Array) -> tuple[Array, Array]:
    """mu and logvar (B, K) of a diagonal q that covers p(z|x_obs): weights then have a variance."""
    seen = ~np.isnan(x)
    pull = np.einsum("bd,dk,dl->bkl", seen / NOISE, linear.weight, linear.weight)
    covariance = np.linalg.inv(np.eye(linear.latent) + pull)
    residual = np.where(seen, x - linear.bias, 0) / NOISE
    mu = np.einsum("bkl,bl->bk", covariance, residual @ linear.weight)
    return mu, np.repeat(np.log(1.3 * np.linalg.eigvalsh(covariance).max(axis=1))[:, None], linear.latent, axis=1)


def imputed(seed: int, share: float, repeat: int, draws: int = 0) -> Imputed:
    """The rows with holes filled in, by other random numbers for each `repeat`."""
    x, of = holed(seed, share), _as_vae(model(seed))
    assert of.arch.observation is not None
    return imputation.impute(
        of, of.arch.observation, x, np.arange(ROWS), proposal(model(seed), x), samples=SAMPLES, draws=draws,
        seed=1000 * seed + repeat,
    )  # fmt: skip


@dataclass(frozen=True)
class Compared:
    """Of every missing cell, (M,): what imputation says, its standard error over repeats, and the exact answer."""

    found: Array
    error: Array
    exact: Array

    @property
    def worst(self) -> float:
        """How many standard errors the worst cell is off."""
        return float(np.abs((self.found - self.exact) / self.error).max())


@cache
def compared(seed: int, share: float) -> dict[str, Compared]:
    """`mean` and `spread` of all missing cells, by imputation and by the conditional normal."""
    x = holed(seed, share)
    holes, exact = np.isnan(x), missing.conditional(model(seed), x)
    spread = np.sqrt(np.diagonal(exact.covariance, axis1=1, axis2=2))
    every = [imputed(seed, share, repeat) for repeat in range(REPEATS)]
    result = {}
    for name, right in (("mean", exact.mean), ("spread", spread)):
        cells = np.stack([getattr(each, name)[holes] for each in every])
        error = cells.std(axis=0, ddof=1) / np.sqrt(REPEATS)
        result[name] = Compared(cells.mean(axis=0), error, right[holes])
    return result


def _worst_covariance(seed: int) -> float:
    """Of repeated imputations of rows with half of their cells: the worst correlation's distance, in its errors."""
    x = holed(seed, 0.5)
    draws = imputed(seed, 0.5, 0, draws=DRAWS).draws
    assert draws is not None
    exact, worst = missing.conditional(model(seed), x), 0.0
    for row in range(ROWS):
        holes = np.isnan(x[row])
        right = exact.covariance[row][np.ix_(holes, holes)]
        scale = np.sqrt(np.diag(right))
        centred = (draws[:, row, holes] - exact.mean[row, holes]) / scale
        correlation = right / np.outer(scale, scale)
        error = np.sqrt((1 + correlation**2) / DRAWS)
        worst = max(worst, float((np.abs(centred.T @ centred / DRAWS - correlation) / error).max()))
    return worst


@cache
def trained(seed: int) -> tuple[float, float, float]:
    """Mean log p(x_obs) in nats of a VAE trained on rows with holes: exactly, at the exact maximum of EM, and by the
    VAE's own importance sampling."""
    x = holed(seed, TRAINED_SHARE, TRAINED_ROWS, TRAINED_FEATURES, 1)
    best = LinearGaussian(np.ones((TRAINED_FEATURES, 1)), np.nanmean(x, axis=0), 1.0)
    for _ in range(200):
        best = missing.em_step(best, x)
    vae = VAE(
        TRAINED_FEATURES, hidden=(16,), decoder_hidden=(), latent=1, activation="tanh", likelihood="normal",
        missing="mask", dtype="float64", backend="numpy", seed=seed,
    )  # fmt: skip
    for rate in RATES:
        vae.fit(x, epochs=EPOCHS, batch_size=100, lr=rate, objective="iwae", samples=CLIMBED)
    linear = from_parameters(replace(vae.arch, hidden=(), decoder_hidden=None, missing=None), vae.parameters)
    exact, top = (float(missing.observed_log_prob(each, x).mean()) for each in (linear, best))
    return exact, top, float(vae.log_likelihood(x, samples=200).log_likelihood.mean())


def _claim_34(seed: int) -> list[Claim]:
    """In the linear-Gaussian model every answer about missing cells is the marginal or the conditional of a normal."""
    x, of = holed(seed, 0.5), _as_vae(model(seed))
    found = quadrature.log_likelihood(Decoder.of(of.arch, of.parameters), x, rule="trapezoid", nodes=241).log_prob
    exact = missing.observed_log_prob(model(seed), x)
    rows = [
        Claim(34, "log p(x_obs), mean of 8 rows with holes", ("quadrature over z, observed cells", "marginal normal"),
              float(found.mean()), float(exact.mean()), 1e-8)
    ]  # fmt: skip
    for share in SHARES:
        both = compared(seed, share)
        for name, what in (("mean", "values"), ("spread", "spreads")):
            rows.append(
                Claim(34, f"{what} for {share:.0%} missing cells: the worst, in standard errors",
                      ("weighted draws of z", "conditional normal"), both[name].worst, WORST, 0, "<=")
            )  # fmt: skip
    rows.append(
        Claim(34, "correlations of repeated imputations: the worst, in standard errors",
              ("sampling importance resampling", "conditional normal"), _worst_covariance(seed), WORST_CORRELATION, 0,
              "<=")
    )  # fmt: skip
    reached, top, estimate = trained(seed)
    rows += [
        Claim(34, "trained with half of the cells missing: mean log p(x_obs)",
              ("marginal normal of the VAE", "exact EM"),
              reached, top, 1e-2),
        Claim(34, "the same by the VAE's own weights", ("importance sampling", "marginal normal of the VAE"), estimate,
              reached, 1e-2),
    ]  # fmt: skip
    return rows


CLAIMS: dict[int, Callable[[int], list[Claim]]] = {34: _claim_34}


def notes(seed: int) -> list[str]:
    """How much is left open of a missing cell, and what training with holes reached."""
    whole = float(np.sqrt(np.diag(model(seed).covariance())).mean())
    lines = [
        f"With {share:.0%} of the cells missing, a missing cell's spread is on average "
        f"{compared(seed, share)['spread'].found.mean():.2f}; it is {np.sqrt(NOISE):.2f} where z is known, and "
        f"{whole:.2f} where nothing is."
        for share in SHARES
    ]
    reached, top, estimate = trained(seed)
    return [
        *lines,
        f"Trained on {TRAINED_ROWS} rows with half of their cells: log p(x_obs) is {reached:.4f} nats per row exactly, "
        f"{estimate:.4f} by its own weights, and {top:.4f} at the maximum that EM finds.",
    ]


def figures(seed: int) -> dict[str, Figure]:
    """What fills each hole against the exact answer, with its spread, at three shares of missing cells."""
    from vae_np.pictures.drawing import blank_figure, head

    figure = blank_figure(1320, 460)
    for ax, share in zip(figure.subplots(1, 3, sharex=True, sharey=True), SHARES, strict=True):
        _draw(ax, compared(seed, share), first=share == SHARES[0])
        head(ax, f"{share:.0%} of the cells missing")
    return {"17-imputation": figure}


def _draw(ax: Axes, both: dict[str, Compared], *, first: bool) -> None:
    from vae_np.pictures.drawing import BLUE, INK, style

    style(ax, "exact conditional mean", "imputed value ± spread" if first else "")
    mean, spread = both["mean"], both["spread"]
    ax.axline((0, 0), slope=1, color=INK, linewidth=1.2)
    ax.errorbar(mean.exact, mean.found, spread.found, color=BLUE, linestyle="none", marker="o", markersize=4,
                linewidth=0.8, alpha=0.8)  # fmt: skip
