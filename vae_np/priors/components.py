"""A mixture of diagonal normals: its log-density with the gradient in everything, and its draw. [D76]

The log-densities of all components at all z are one affine layer of (z², z), so the backends' operations compute them.
They are summed in float64, whatever the model's precision: where σ is small, squares of z / σ cancel.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from vae_np._types import Array
from vae_np.distributions import LOG_2PI, normal_sample


class Components(NamedTuple):
    """C normals and how much each weighs: `log_weights` (C,), whose exponentials add up to 1; the others (C, K)."""

    log_weights: Array
    means: Array
    logvars: Array


def log_prob_forward(ops: ModuleType, z: Array, mixture: Components) -> tuple[Array, Any]:
    """log Σ_c w_c N(z; m_c, exp v_c), (R,) in nats and in z's dtype, at z (R, K). [D76]"""
    wide = np.result_type(z, *mixture, np.float64)
    at, means, logvars = (np.asarray(a, dtype=wide) for a in (z, mixture.means, mixture.logvars))
    precision = np.exp(-logvars)
    weight = np.concatenate([-0.5 * precision, means * precision], axis=1).T
    constants = -0.5 * (means * means * precision + logvars + LOG_2PI).sum(axis=1)
    # The operation takes a mean over the components, where a sum is due.
    bias = constants + mixture.log_weights + np.log(len(means))
    features = np.concatenate([at * at, at], axis=1)
    terms, affine_cache = ops.affine_act_forward(features, np.ascontiguousarray(weight), bias, "identity")
    log_prob, shares = ops.log_mean_exp_weights(np.ascontiguousarray(terms.T))
    narrow = np.result_type(z, *mixture)
    return log_prob.astype(narrow, copy=False), (at, means, precision, shares, affine_cache, narrow)


def log_prob_backward(
    ops: ModuleType, dlog_prob: Array, cache: Any, *, component_gradient: bool = True
) -> tuple[Array, Components | None]:
    """dz (R, K), and the gradient of every component's numbers, shaped as they are; None unless it is wanted. [D76]

    A row's gradient is shared out by the probabilities r_c that z came from component c.
    """
    at, means, precision, shares, affine_cache, narrow = cache
    latent = at.shape[1]
    dterms = np.ascontiguousarray((shares * dlog_prob).T)
    dfeatures, dweight, dbias = ops.affine_act_backward(dterms, affine_cache, weight_gradient=component_gradient)
    dz = (2 * at * dfeatures[:, :latent] + dfeatures[:, latent:]).astype(narrow, copy=False)
    if not component_gradient:
        return dz, None
    dsquare, dlinear, dconstant = dweight[:latent].T, dweight[latent:].T, dbias[:, None]
    dmeans = precision * (dlinear - means * dconstant)
    dprecision = means * dlinear - 0.5 * dsquare - 0.5 * means * means * dconstant
    return dz, Components(dbias, dmeans, -precision * dprecision - 0.5 * dconstant)


def sample(mixture: Components, eps: Array, u: Array) -> Array:
    """z (R, K), from noise eps (R, K) and uniforms u (R,): where u lies among the summed weights says which component.
    [D76]"""
    cumulative = np.cumsum(np.exp(mixture.log_weights.astype(np.float64)))
    # Rounding can leave the last sum just below a u; that u belongs to the last component.
    chosen = np.searchsorted(cumulative[:-1], u, side="right")
    return normal_sample(mixture.means[chosen], mixture.logvars[chosen], eps)
