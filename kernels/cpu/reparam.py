"""`reparam_kl_*`: z = mu + σ ε and the KL to N(0, I), with their gradients. [D17] [D22]

The functions of a row serve any stretch of mu and logvar as well: rows that lie one after the other are one long row.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vae_np._types import Array

from ._arrays import flat, plain, precision
from .engine.functions import exp, expm1
from .engine.vectors import sum_range
from .runtime import pool
from .runtime.compilation import njit


@njit()
def sample_row(
    mu: Array, at_mu: int, logvar: Array, at_logvar: int, eps: Array, at_eps: int, z: Array, at_z: int, count: int
) -> None:
    """z = mu + exp(logvar / 2) ε. [D17]"""
    half = mu.dtype.type(0.5)
    m, s = mu[at_mu : at_mu + count], logvar[at_logvar : at_logvar + count]
    e, out = eps[at_eps : at_eps + count], z[at_z : at_z + count]
    for j in range(count):
        out[j] = m[j] + exp(half * s[j]) * e[j]


@njit()
def kl_terms(mu: Array, at_mu: int, logvar: Array, at_logvar: int, terms: Array, at_terms: int, count: int) -> None:
    """mu² + expm1(logvar) − logvar: the KL is half their sum over a row. [D22]"""
    m, s, term = mu[at_mu : at_mu + count], logvar[at_logvar : at_logvar + count], terms[at_terms : at_terms + count]
    for j in range(count):
        term[j] = m[j] * m[j] + (expm1(s[j]) - s[j])


@njit()
def log_ratio_row(
    logvar: Array, at_logvar: int, eps: Array, at_eps: int, z: Array, at_z: int, count: int, terms: Array, at: int
) -> Any:
    """log p(z) − log q(z|x) = ½ Σ (ε² + logvar − z²) of one row, in float64. [D13] [D30]"""
    s, e, place = logvar[at_logvar : at_logvar + count], eps[at_eps : at_eps + count], z[at_z : at_z + count]
    term = terms[at : at + count]
    for j in range(count):
        noise, where = np.float64(e[j]), np.float64(place[j])
        term[j] = (noise * noise - where * where) + np.float64(s[j])
    return 0.5 * sum_range(terms, at, count)


@njit()
def backward_row(
    mu: Array, at_mu: int, logvar: Array, at_logvar: int, eps: Array, at_eps: int, dz: Array, at_dz: int,
    stride: int, samples: int, dkl: Any, dmu: Array, at_dmu: int, dlogvar: Array, at_dlogvar: int, count: int,
) -> None:  # fmt: skip
    """dmu and dlogvar of one row, from its samples `stride` entries apart. [D17] [D22]"""
    half = mu.dtype.type(0.5)
    m, s = mu[at_mu : at_mu + count], logvar[at_logvar : at_logvar + count]
    along, with_eps = dmu[at_dmu : at_dmu + count], dlogvar[at_dlogvar : at_dlogvar + count]
    for sample in range(samples):
        e = eps[at_eps + sample * stride : at_eps + sample * stride + count]
        d = dz[at_dz + sample * stride : at_dz + sample * stride + count]
        if sample == 0:
            for j in range(count):
                along[j] = d[j]
                with_eps[j] = d[j] * e[j]
        else:
            for j in range(count):
                along[j] += d[j]
                with_eps[j] += d[j] * e[j]
    for j in range(count):
        along[j] += dkl * m[j]
        with_eps[j] = dkl * (half * expm1(s[j])) + half * exp(half * s[j]) * with_eps[j]


@njit()
def _forward(part: int, parts: int, mu: Array, logvar: Array, eps: Array, z: Array, kl: Array, latent: int) -> None:
    batch = kl.size
    samples = eps.size // max(1, mu.size)
    terms = np.empty(latent, dtype=mu.dtype)
    for i in range(part * batch // parts, (part + 1) * batch // parts):
        for s in range(samples):
            place = (s * batch + i) * latent
            sample_row(mu, i * latent, logvar, i * latent, eps, place, z, place, latent)
        kl_terms(mu, i * latent, logvar, i * latent, terms, 0, latent)
        kl[i] = 0.5 * sum_range(terms, 0, latent)


@njit()
def _backward(
    part: int, parts: int, mu: Array, logvar: Array, eps: Array, dz: Array, dkl: Array, dmu: Array, dlogvar: Array,
    latent: int,
) -> None:  # fmt: skip
    batch = dkl.size
    samples = eps.size // max(1, mu.size)
    for i in range(part * batch // parts, (part + 1) * batch // parts):
        at = i * latent
        backward_row(mu, at, logvar, at, eps, at, dz, at, batch * latent, samples, dkl[i], dmu, at, dlogvar, at, latent)


def reparam_kl_forward(mu: Array, logvar: Array, eps: Array) -> tuple[tuple[Array, Array], Any]:
    """z = mu + exp(logvar / 2) ε, and the KL of q(z|x) to N(0, I) in nats. [D17] [D22]

    mu, logvar (B, K), eps (S·B, K); z (S·B, K), kl (B,).
    """
    dtype = precision(mu, "mu")
    mu, logvar, eps = plain(mu, dtype), plain(logvar, dtype), plain(eps, dtype)
    z, kl = np.empty_like(eps), np.empty(len(mu), dtype=dtype)
    work = 4.0 * eps.size
    pool.run(_forward, flat(mu), flat(logvar), flat(eps), flat(z), kl, mu.shape[1], work=work)
    return (z, kl), (mu, logvar, eps)


def reparam_kl_backward(dout: tuple[Array, Array], cache: Any) -> tuple[Array, Array]:
    """dmu and dlogvar (B, K), from dz (S·B, K) along the path and dkl (B,). [D17] [D22]"""
    mu, logvar, eps = cache
    dz, dkl = (plain(d, mu.dtype) for d in dout)
    dmu, dlogvar = np.empty_like(mu), np.empty_like(mu)
    pool.run(
        _backward, flat(mu), flat(logvar), flat(eps), flat(dz), dkl, flat(dmu), flat(dlogvar), mu.shape[1],
        work=4.0 * eps.size,
    )  # fmt: skip
    return dmu, dlogvar
