"""Exact answers that the package must reproduce: each compares two ways that share no formula.

A closed form returns (value, exact) arrays and a tolerance; the error is max|value − exact| / max|exact|.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from vae_np import distributions, noise
from vae_np._types import Array
from vae_np.architecture import Architecture
from vae_np.elbo import elbo_forward, posterior_log_prob, standard_normal_log_prob
from vae_np.evaluation.importance import importance_log_likelihood
from vae_np.exact.linear_gaussian import LinearGaussian, to_parameters
from vae_np.model import Model, decode_forward, encode_forward, initialise, loglik_forward
from vae_np.objectives import objective_backward, objective_forward
from vae_np.optim import adagrad_update
from vae_np.verify.catalogue import example

Exact = tuple[Any, Any, float]
_STEP = 80 / 160_000
_GRID = np.linspace(-40, 40, 160_001)


def _integral(values: Array) -> Any:
    return values.sum(axis=-1) * _STEP


def bernoulli_sums_to_one(backend: ModuleType, seed: int) -> Exact:
    """Σ_x p(x | logits) over all 2⁵ binary x is 1. [D4]"""
    logits = np.random.default_rng(seed).normal(0, 3, 5)
    x = np.array(list(itertools.product((0, 1), repeat=5)), dtype=np.uint8)
    loglik, _ = backend.bernoulli_loglik_forward(x, np.tile(logits, (32, 1)))
    return math.fsum(np.exp(loglik)), 1.0, 1e-12


def bernoulli_at_large_logits(backend: ModuleType, seed: int) -> Exact:
    """At logits of ±10⁴ a right pixel costs nothing and a wrong one 10⁴ nats. [D4]"""
    x = np.array([[1], [0], [1], [0]], dtype=np.uint8)
    loglik, _ = backend.bernoulli_loglik_forward(x, np.array([[1e4], [-1e4], [-1e4], [1e4]]))
    return loglik, np.array([0.0, 0.0, -1e4, -1e4]), 1e-15


def normal_integrates_to_one(backend: ModuleType, seed: int) -> Exact:
    """∫ N(x; m, σ²) dx = 1 and its variance is exp(logvar): the constants are there. [D5]"""
    x = _GRID[:, None]
    mean, logvar = np.full_like(x, 0.3), np.array([0.8])
    density = np.exp(backend.normal_loglik_forward(x, mean, logvar)[0])
    found = [_integral(density), _integral(density * (_GRID - 0.3) ** 2)]
    return np.array(found), np.array([1.0, math.exp(0.8)]), 1e-12


def kl_by_quadrature(backend: ModuleType, seed: int) -> Exact:
    """The analytic KL of a diagonal normal to N(0, 1) against ∫ q log(q / p). [D22]"""
    rng = np.random.default_rng(seed)
    mu, logvar = rng.normal(0, 1, (5, 1)), rng.normal(0, 1, (5, 1))
    (_, kl), _ = backend.reparam_kl_forward(mu, logvar, np.zeros((5, 1)))
    log_q = -0.5 * (np.log(2 * np.pi) + logvar + (_GRID - mu) ** 2 / np.exp(logvar))
    log_p = -0.5 * (np.log(2 * np.pi) + _GRID**2)
    return kl, _integral(np.exp(log_q) * (log_q - log_p)), 1e-12


def full_kl_of_a_rotation(backend: ModuleType, seed: int) -> Exact:
    """The full-covariance KL to N(0, I) does not change when the normal is rotated into a diagonal one. [D23]"""
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    logvar, mu = rng.standard_normal((1, 3)), rng.standard_normal((1, 3))
    chol = np.linalg.cholesky(rotation @ np.diag(np.exp(logvar[0])) @ rotation.T)
    full, _ = distributions.full_normal_kl_forward(mu @ rotation.T, chol[None])
    diagonal, _ = distributions.normal_kl_forward(mu, logvar)
    return full, diagonal, 1e-12


def samples_have_the_variance(backend: ModuleType, seed: int) -> Exact:
    """At ε = ±1, z lies exp(logvar / 2) from mu: exp(logvar) is the variance, not the deviation. [D17]"""
    logvar = np.array([[-1.0, 0.5, 2.0]])
    (z, _), _ = backend.reparam_kl_forward(np.zeros((1, 3)), logvar, np.array([[1.0, 1, 1], [-1, -1, -1]]))
    return (z * z).mean(axis=0), np.array([math.exp(v) for v in logvar[0]]), 1e-14


def log_mean_exp_exactly(backend: ModuleType, seed: int) -> Exact:
    """log mean exp and the weights against sums in exact arithmetic, with weights that would overflow. [D34]"""
    log_w = np.random.default_rng(seed).normal(0, 2, (6, 2))
    value, weights = backend.log_mean_exp_weights(log_w + 5000)
    totals = [math.fsum(math.exp(w) for w in column) for column in log_w.T]
    exact = np.array([[math.log(total / 6) + 5000 for total in totals]])
    exact_weights = np.array([[math.exp(w) / total for w, total in zip(row, totals, strict=True)] for row in log_w])
    return np.concatenate([value[None] - 5000, weights]), np.concatenate([exact - 5000, exact_weights]), 1e-11


def forms_agree(backend: ModuleType, seed: int) -> Exact:
    """At the same (x, z): log p(x, z) − log q(z|x) = reconstruction − sampled KL, both from the densities. [D21]"""
    arch = Architecture(7, 2, (5,), "tanh", "bernoulli")
    parameters = initialise(arch, seed=seed, dtype=np.float64)
    x, eps = example(arch, seed)
    eps = eps[: len(x)]
    joint, _ = elbo_forward(backend, arch, parameters, x, eps, form="joint")
    (mu, logvar), _ = encode_forward(backend, arch, parameters, x)
    z = distributions.normal_sample(mu, logvar, eps)
    out, _ = decode_forward(backend, arch, parameters, z)
    loglik, _ = loglik_forward(backend, arch, parameters, x, out)
    log_q, _ = distributions.normal_log_prob_forward(z, mu, logvar)
    log_p, _ = distributions.normal_log_prob_forward(z, np.zeros_like(z), np.zeros(1))
    return joint.elbo, loglik + log_p - log_q, 1e-12


def joint_parts(backend: ModuleType, seed: int) -> Exact:
    """log q and log p written in ε and z against the general normal density. [D30]"""
    rng = np.random.default_rng(seed)
    mu, logvar, eps = (rng.standard_normal((4, 3)) for _ in range(3))
    z = distributions.normal_sample(mu, logvar, eps)
    log_q, _ = distributions.normal_log_prob_forward(z, mu, logvar)
    log_p, _ = distributions.normal_log_prob_forward(z, np.zeros((4, 3)), np.zeros(1))
    found = np.concatenate([posterior_log_prob(logvar, eps), standard_normal_log_prob(z)])
    return found, np.concatenate([log_q, log_p]), 1e-13


def importance_sampling_of_a_known_posterior(backend: ModuleType, seed: int) -> Exact:
    """Linear-Gaussian model whose q is the posterior: every weight is p(x), so one sample gives it exactly. [D34]"""
    rng = np.random.default_rng(seed)
    arch = Architecture(4, 1, (), "tanh", "normal-fixed", 0.6)
    parameters = initialise(arch, seed=seed, dtype=np.float64)
    w, b = rng.standard_normal((1, 4)), rng.standard_normal(4)
    precision = 1 + (w @ w.T).item() / 0.36
    parameters["decoder.out.weight"][...], parameters["decoder.out.bias"][...] = w, b
    parameters["encoder.mu.weight"][...] = w.T / 0.36 / precision
    parameters["encoder.mu.bias"][...] = -(b @ w.T) / 0.36 / precision
    parameters["encoder.logvar.weight"][...], parameters["encoder.logvar.bias"][...] = 0, -math.log(precision)
    x = rng.standard_normal((5, 4))
    estimate = importance_log_likelihood(Model(backend, arch, parameters), x, np.arange(5), samples=2, seed=seed)
    covariance = w.T @ w + 0.36 * np.eye(4)
    d = x - b
    quadratic = (d * np.linalg.solve(covariance, d.T).T).sum(axis=1)
    exact = -0.5 * (quadratic + np.linalg.slogdet(covariance)[1] + 4 * math.log(2 * math.pi))
    return estimate.log_likelihood, exact, 1e-12


def bound_of_several_samples(backend: ModuleType, seed: int) -> Exact:
    """log (1/S) Σ w, example by example, from single joint ELBO terms, with exact sums. [D41]"""
    arch = Architecture(7, 2, (5,), "tanh", "bernoulli")
    parameters = initialise(arch, seed=seed, dtype=np.float64)
    x, eps = example(arch, seed, 4)
    terms, _ = objective_forward(backend, arch, parameters, x, eps, objective="iwae")
    exact = []
    for b in range(len(x)):
        single = (elbo_forward(backend, arch, parameters, x[[b]], e[None], form="joint")[0] for e in eps[b :: len(x)])
        exact.append(math.log(math.fsum(math.exp(terms.elbo.item()) for terms in single) / 4))
    return terms.bound, np.array(exact), 1e-13


def paths_vanish_at_the_posterior(backend: ModuleType, seed: int) -> Exact:
    """Linear-Gaussian model whose q is the posterior: each bound is log p(x), stl and dreg leave the encoder alone."""
    rng = np.random.default_rng(seed)
    linear = LinearGaussian(rng.standard_normal((4, 1)), rng.standard_normal(4), 0.6)
    arch, parameters = to_parameters(linear)
    x, eps = rng.standard_normal((2, 4)), rng.standard_normal((6, 1))
    found, exact = [], []
    for objective in ("stl", "dreg"):
        terms, cache = objective_forward(backend, arch, parameters, x, eps, objective=objective)
        gradients = parameters.zeros_like()
        objective_backward(backend, arch, cache, gradients)
        assert terms.bound is not None
        # One is added, so that rounding is measured against the terms that cancel.
        of_encoder = [1 + gradients[name].ravel() for name in gradients if name.startswith("encoder")]
        found += [terms.bound, *of_encoder]
        exact += [linear.log_prob(x), *map(np.ones_like, of_encoder)]
    return np.concatenate(found), np.concatenate(exact), 1e-13


def dreg_has_the_mean_of_the_bounds_gradient(backend: ModuleType, seed: int) -> Exact:
    """Over both ε of two samples, by the trapezoid rule: Σ w̃² along the path is unbiased. [D44]"""
    return _mean_gradient(backend, seed, "dreg"), _mean_gradient(backend, seed, "iwae"), 1e-6


def the_score_function_has_the_mean_of_the_elbos_gradient(backend: ModuleType, seed: int) -> Exact:
    """Likewise: each sample's baseline, the other one's log-likelihood, takes nothing away. [D45]"""
    return _mean_gradient(backend, seed, "score"), _mean_gradient(backend, seed, "elbo"), 1e-6


def _mean_gradient(backend: ModuleType, seed: int, objective: str, nodes: int = 21) -> Array:
    arch = Architecture(4, 1, (3,), "tanh", "bernoulli")
    parameters = initialise(arch, seed=seed, dtype=np.float64)
    x = example(arch, seed)[0][:1]
    points = np.linspace(-6, 6, nodes)
    density = np.exp(-0.5 * points**2)
    density /= density.sum()
    total, gradients = parameters.zeros_like(), parameters.zeros_like()
    # Both samples are worth the same: half of the pairs will do.
    for i, j in zip(*np.tril_indices(nodes), strict=True):
        eps = points[[i, j], None]
        _, cache = objective_forward(backend, arch, parameters, x, eps, objective=objective, beta=0.6)
        objective_backward(backend, arch, cache, gradients)
        total.flat[...] += (2 if j < i else 1) * density[i] * density[j] * gradients.flat
    return total.flat


def adam_by_scalars(backend: ModuleType, seed: int) -> Exact:
    """Five Adam steps against the recursion written out for one number at a time. [D31]"""
    rng = np.random.default_rng(seed)
    start, gradients = rng.standard_normal(9), rng.standard_normal((5, 9))
    theta, m, v = start.copy(), np.zeros(9), np.zeros(9)
    for step, g in enumerate(gradients, start=1):
        backend.adam_update(theta, g.copy(), m, v, step=step, lr=0.01, beta1=0.9, beta2=0.99, eps=1e-8)
    exact = []
    for i in range(9):
        value = float(start[i])
        for t in range(1, 6):
            past = [float(g) for g in gradients[:t, i]]
            mean = sum(0.1 * 0.9 ** (t - 1 - k) * g for k, g in enumerate(past)) / (1 - 0.9**t)
            square = sum(0.01 * 0.99 ** (t - 1 - k) * g * g for k, g in enumerate(past)) / (1 - 0.99**t)
            value -= 0.01 * mean / (math.sqrt(square) + 1e-8)
        exact.append(value)
    return theta, np.array(exact), 1e-13


def adagrad_by_scalars(backend: ModuleType, seed: int) -> Exact:
    """Three Adagrad steps against the sum written out. [D32]"""
    gradients = np.random.default_rng(seed).standard_normal((3, 4))
    theta, squares = np.zeros(4), np.zeros(4)
    for g in gradients:
        adagrad_update(theta, g, squares, lr=0.1)
    exact = [-sum(0.1 * g[t] / (math.hypot(*g[: t + 1]) + 1e-10) for t in range(3)) for g in gradients.T]
    return theta, np.array(exact), 1e-13


def philox_vectors(backend: ModuleType, seed: int) -> Exact:
    """Random123's published vectors for Philox4x32-10. (Salmon et al. 2011) [D37]"""
    ones = 0xFFFFFFFF
    cases = (
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ones, ones, ones, ones), (ones, ones), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    )
    found = [[int(word) for word in noise.philox(counter, key)] for counter, key, _ in cases]
    return np.array(found, dtype=float), np.array([expected for *_, expected in cases], dtype=float), 0.0


def noise_is_the_references(backend: ModuleType, seed: int) -> Exact:
    """The backend's normals and pixels are the reference's, bit for bit. [D38]"""
    rows = np.array([3, 60_000, 7])
    grey = np.random.default_rng(seed).integers(0, 256, (3, 9)).astype(np.uint8)
    address: dict[str, Any] = {"seed": seed, "step": 11}
    found = backend.philox_normal(rows, 9, stream=noise.EPS, **address)
    pixels = backend.philox_bernoulli(grey, stream=noise.BINARIZE, rows=rows, **address)
    exact = noise.normal(rows, 9, stream=noise.EPS, **address)
    exact_pixels = noise.bernoulli(grey, stream=noise.BINARIZE, rows=rows, **address)
    return np.concatenate([found, pixels]), np.concatenate([exact, exact_pixels]), 0.0


CLOSED_FORMS: tuple[Callable[[ModuleType, int], Exact], ...] = (
    bernoulli_sums_to_one,
    bernoulli_at_large_logits,
    normal_integrates_to_one,
    kl_by_quadrature,
    full_kl_of_a_rotation,
    samples_have_the_variance,
    log_mean_exp_exactly,
    forms_agree,
    joint_parts,
    importance_sampling_of_a_known_posterior,
    bound_of_several_samples,
    paths_vanish_at_the_posterior,
    dreg_has_the_mean_of_the_bounds_gradient,
    the_score_function_has_the_mean_of_the_elbos_gradient,
    adam_by_scalars,
    adagrad_by_scalars,
    philox_vectors,
    noise_is_the_references,
)
