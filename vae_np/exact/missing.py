"""The linear-Gaussian model where cells of x are missing: marginals and conditionals of one normal. [D74]

Missing cells are NaN. (Little & Rubin 2002; Ilin & Raiko 2010 for the EM of principal components with missing values)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vae_np._types import Array
from vae_np.distributions import LOG_2PI
from vae_np.exact.linear_gaussian import LinearGaussian


class Conditional(NamedTuple):
    """p(x_mis | x_obs): `mean` (B, D), x where it was observed, and `covariance` (B, D, D), zero there."""

    mean: Array
    covariance: Array


def observed_log_prob(model: LinearGaussian, x: Array) -> Array:
    """log p(x_obs), (B,) in nats: log N of the rows and columns that were observed, 0 where nothing was. [D74]"""
    whole = model.covariance()
    result = np.zeros(len(x))
    for row, cells in enumerate(x):
        seen = ~np.isnan(cells)
        d = cells[seen] - model.bias[seen]
        part = whole[np.ix_(seen, seen)]
        result[row] = -0.5 * (seen.sum() * LOG_2PI + np.linalg.slogdet(part)[1] + d @ np.linalg.solve(part, d))
    return result


def conditional(model: LinearGaussian, x: Array) -> Conditional:
    """b_m + Σ_mo Σ_oo⁻¹ (x_o − b_o), and Σ_mm − Σ_mo Σ_oo⁻¹ Σ_om. [D74]"""
    whole = model.covariance()
    mean, covariance = x.copy(), np.zeros((*x.shape, x.shape[1]))
    for row, cells in enumerate(x):
        missing = np.isnan(cells)
        seen = ~missing
        gain = np.linalg.solve(whole[np.ix_(seen, seen)], whole[np.ix_(seen, missing)]).T
        mean[row, missing] = model.bias[missing] + gain @ (cells[seen] - model.bias[seen])
        rest = whole[np.ix_(missing, missing)] - gain @ whole[np.ix_(seen, missing)]
        covariance[row][np.ix_(missing, missing)] = rest
    return Conditional(mean, covariance)


def em_step(model: LinearGaussian, x: Array) -> LinearGaussian:
    """One step of exact EM for one σ² in all columns: no data make it fall. [D74]

    Each column is regressed on the posterior of z, over the rows where it was observed.
    """
    precision = 1 / np.diag(model.psi)
    seen = ~np.isnan(x)
    d = np.where(seen, x - model.bias, 0)
    k = model.weight.shape[1]
    scaled = model.weight * precision[:, None]
    inverse = np.linalg.inv(np.eye(k) + np.einsum("bd,dk,dl->bkl", seen.astype(float), scaled, model.weight))
    mean = np.einsum("bkl,bl->bk", inverse, d @ scaled)
    # Of (z, 1): mean and second moment for each row.
    first = np.hstack([mean, np.ones((len(x), 1))])
    second = first[:, :, None] * first[:, None, :]
    second[:, :k, :k] += inverse
    sums = np.einsum("bd,bkl->dkl", seen.astype(float), second)
    products = np.where(seen, x, 0).T @ first
    weight = np.linalg.solve(sums, products[..., None])[..., 0]
    squares = np.where(seen, x, 0) ** 2
    left = squares.sum() - 2 * (weight * products).sum() + np.einsum("dk,dkl,dl->", weight, sums, weight)
    return LinearGaussian(weight[:, :k], weight[:, k], float(left / seen.sum()))
