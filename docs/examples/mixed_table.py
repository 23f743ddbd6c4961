"""A made table of 20 columns and 10,000 rows: a VAE beside independent columns and a Gaussian copula, held out.

    python docs/examples/mixed_table.py [folder for the pictures]

It takes minutes. All three give a log-density or log-probability per row, in nats, of the same cells.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from scipy import stats

from vae_np import VAE
from vae_np.choices import Missing
from vae_np.pictures import plots, tables

ROWS, HELD_OUT = 10_000, 1000
COLUMNS = {
    **{f"measure{i}": "normal" for i in range(5)},
    **{f"outlier{i}": "student-t" for i in range(2)},
    **{f"colour{i}": {"family": "categorical", "levels": ["red", "green", "blue", "grey"]} for i in range(3)},
    **{f"count{i}": "negative-binomial" for i in range(3)},
    "arrivals": "poisson",
    **{f"flag{i}": "bernoulli" for i in range(3)},
    **{f"share{i}": "continuous-bernoulli" for i in range(3)},
}


def made(seed: int = 0) -> np.ndarray:
    """Rows (N, 20) of numbers, categories as places: all columns bend with three hidden causes."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((ROWS, 3))
    bent = np.tanh(z @ rng.normal(0, 1.2, (3, 8)) + rng.normal(0, 0.5, 8))
    signal = bent @ rng.normal(0, 1.0, (8, 28))
    columns = [signal[:, i] ** 2 * (i == 4) + signal[:, i] + 0.4 * rng.standard_normal(ROWS) for i in range(5)]
    columns += [signal[:, i] + 0.4 * rng.standard_t(2.5, ROWS) for i in (5, 6)]
    columns += [(1.5 * signal[:, 7 + 4 * i : 11 + 4 * i] + rng.gumbel(size=(ROWS, 4))).argmax(axis=1) for i in range(3)]
    for i in (19, 20, 21):
        columns.append(rng.poisson(rng.gamma(3, np.exp(1 + 0.6 * signal[:, i]) / 3)))
    columns.append(rng.poisson(np.exp(0.5 + 0.5 * signal[:, 22])))
    columns += [rng.random(ROWS) < 1 / (1 + np.exp(-1.5 * signal[:, i])) for i in (23, 24, 25)]
    columns += [rng.beta(*np.exp([0.5 + signal[:, i], 0.5 - signal[:, i]]).clip(1.2, 6)) for i in (26, 27, 0)]
    return np.stack([np.asarray(column, dtype=float) for column in columns], axis=1)


class Marginal:
    """One column by itself: smoothed shares of levels and counts, a kernel estimate of real numbers (by Silverman's
    rule, of the middle 99.8%, and a normal tail for the rest)."""

    def __init__(self, cells: np.ndarray, family: str) -> None:
        self.discrete = family in ("categorical", "bernoulli", "negative-binomial", "poisson")
        if self.discrete:
            shares = np.bincount(cells.astype(int), minlength=int(cells.max()) + 200) + 0.05
            self.p = shares / shares.sum()
            self.below = np.concatenate([[0], np.cumsum(self.p)])
            return
        # On the scale of ranks, so that heavy tails and edges do no harm: a kernel estimate of a monotone transform.
        self.low, self.high = (0.0, 1.0) if family == "continuous-bernoulli" else (-np.inf, np.inf)
        bent = self._bend(cells)
        self.centre, self.spread = np.median(bent), np.subtract(*np.percentile(bent, [75, 25])) / 1.349
        scores = np.arcsinh((bent - self.centre) / self.spread)
        self.kernel = stats.gaussian_kde(scores, "silverman")
        grid = np.linspace(scores.min() - 1, scores.max() + 1, 4000)
        density = self.kernel(grid)
        self.grid, self.reached = grid, np.cumsum(density) / density.sum()

    def _bend(self, x: np.ndarray) -> np.ndarray:
        return x if np.isinf(self.high) else np.log((x + 1e-6) / (1 - x + 1e-6))

    def log_density(self, x: np.ndarray) -> np.ndarray:
        if self.discrete:
            return np.log(self.p[x.astype(int)])
        bent = self._bend(x)
        scaled = (bent - self.centre) / self.spread
        slope = -0.5 * np.log1p(scaled**2) - np.log(self.spread)
        slope = slope if np.isinf(self.high) else slope + np.log(1 / (x + 1e-6) + 1 / (1 - x + 1e-6))
        return self.kernel.logpdf(np.arcsinh(scaled)) + slope

    def place(self, x: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Where x lies on [0, 1]; of a level, a place within its share that u tells."""
        if self.discrete:
            at = x.astype(int)
            found = self.below[at] + u * self.p[at]
        else:
            found = np.interp(np.arcsinh((self._bend(x) - self.centre) / self.spread), self.grid, self.reached)
        return found.clip(1e-6, 1 - 1e-6)


def copula(train: np.ndarray, test: np.ndarray, marginals: list[Marginal], draws: int = 2000) -> np.ndarray:
    """log p of each row: the marginals, and log E[c(u)] over the box that levels leave open, by so many draws."""
    rng = np.random.default_rng(1)

    def scores(x: np.ndarray) -> np.ndarray:
        u = rng.random(x.shape)
        return stats.norm.ppf(
            np.stack([marginal.place(x[:, i], u[:, i]) for i, marginal in enumerate(marginals)], axis=1)
        )

    # Ten jittered copies: a correlation of levels is that of their scores.
    correlation = np.mean([np.corrcoef(scores(train).T) for _ in range(10)], axis=0)
    inverse, log_det = np.linalg.inv(correlation) - np.eye(len(marginals)), np.linalg.slogdet(correlation)[1]
    weights = []
    for _ in range(draws):
        s = scores(test)
        weights.append(-0.5 * np.einsum("bi,ij,bj->b", s, inverse, s) - 0.5 * log_det)
    alone = sum(marginal.log_density(test[:, i]) for i, marginal in enumerate(marginals))
    return alone + np.logaddexp.reduce(weights, axis=0) - np.log(draws)


def told(name: str, log_p: np.ndarray) -> None:
    print(f"{name:45} {log_p.mean():8.3f} ± {log_p.std(ddof=1) / np.sqrt(len(log_p)):.3f} nats per row", flush=True)


def trained(x: np.ndarray, missing: Missing | None) -> VAE:
    vae = VAE(columns=COLUMNS, hidden=(64, 64), latent=5, activation="tanh", missing=missing, seed=0)
    for rate, epochs in ((3e-3, 30), (1e-3, 15), (3e-4, 15)):
        vae.fit(x, epochs=epochs, batch_size=100, lr=rate, objective="iwae", samples=10, standardize=True)
    return vae


def main() -> None:
    x = made()
    train, test = x[:-HELD_OUT], x[-HELD_OUT:]
    families = [how if isinstance(how, str) else how["family"] for how in COLUMNS.values()]
    marginals = [Marginal(train[:, i], family) for i, family in enumerate(families)]
    told("independent columns", sum(marginal.log_density(test[:, i]) for i, marginal in enumerate(marginals)))
    told("Gaussian copula", copula(train, test, marginals))
    vae = trained(train, None)
    told("VAE, 5 latents", vae.log_likelihood(test, samples=2000).log_likelihood)
    if len(sys.argv) > 1:
        folder, drawn = Path(sys.argv[1]), vae.sample(5000, seed=1)
        plots.save(tables.marginals(train, drawn, vae.arch.columns), folder / "17-table-columns.png")
        chosen = [4, 6, 7, 10]
        some = tuple(vae.arch.columns[i] for i in chosen)
        plots.save(tables.pairs(train[:, chosen], drawn[:, chosen], some), folder / "17-table-pairs.png")
    holes = np.where(np.random.default_rng(2).random(train.shape) < 0.3, np.nan, train)
    with_holes = trained(holes, "mask").log_likelihood(test, samples=2000)
    told("VAE, trained with 30% of the cells missing", with_holes.log_likelihood)


if __name__ == "__main__":
    main()
