"""Closed forms as named checks: the package's own (`vae_np.verify.closed_forms`), and more values known exactly."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np

from vae_np import distributions as dist
from vae_np import layers, ops
from vae_np.architecture import Architecture
from vae_np.elbo import elbo_backward, elbo_forward
from vae_np.evaluation import importance
from vae_np.model import initialise
from vae_np.verify import closed_forms

from .plant import Check

KIND = "closed form"


def close(value: object, exact: object, tolerance: float) -> None:
    """max|value − exact| ≤ tolerance · max|exact|; NaN and another shape are refused."""
    value, exact = np.asarray(value, dtype=np.float64), np.asarray(exact, dtype=np.float64)
    assert value.shape == exact.shape, f"shape {value.shape}, expected {exact.shape}"
    error = np.abs(value - exact).max()
    assert error <= tolerance * np.abs(exact).max(), f"error {error}: {value}, expected {exact}"


def _closed_form(form: Callable[..., closed_forms.Exact]) -> Check:
    def run() -> None:
        close(*form(ops, 0))

    return Check(form.__name__.replace("_", " "), KIND, run)


FORMS = {form.__name__: _closed_form(form) for form in closed_forms.CLOSED_FORMS}


def exactly(run: Callable[[], None]) -> Check:
    """A check named after its function."""
    return Check(run.__name__.strip("_").replace("_", " "), KIND, run)


def _binary(features: int) -> np.ndarray:
    return np.array(list(itertools.product((0, 1), repeat=features)), dtype=np.uint8)


@exactly
def softplus_and_sigmoid_at_the_ends() -> None:
    a = np.array([-1e4, -40.0, 0.0, 40.0, 1e4])
    small = math.exp(-40)
    close(layers.softplus(a)[:3], [0.0, math.log1p(small), math.log(2)], 1e-15)
    close(layers.softplus(a)[1:2], [math.log1p(small)], 1e-14)
    close(layers.softplus(a)[3:], [40 + small, 1e4], 1e-15)
    close(layers.sigmoid(a), [0.0, small / (1 + small), 0.5, 1 / (1 + small), 1.0], 1e-15)
    close(layers.sigmoid(a)[1:2], [small / (1 + small)], 1e-14)


@exactly
def binary_layer_sums_the_rows_of_its_weight() -> None:
    rng = np.random.default_rng(1)
    x, weight, bias = rng.integers(0, 2, (4, 6)).astype(np.uint8), rng.normal(size=(6, 3)), rng.normal(size=3)
    y, _ = ops.binary_affine_act_forward(x, weight, bias, "identity")
    close(y, [weight[row == 1].sum(axis=0) + bias for row in x], 1e-14)


@exactly
def every_draw_has_the_noise_of_its_own_row() -> None:
    rng = np.random.default_rng(2)
    mu, logvar, eps = rng.normal(size=(3, 2)), rng.normal(size=(3, 2)), rng.normal(size=(6, 2))
    (z, _), _ = ops.reparam_kl_forward(mu, logvar, eps)
    close(z, [mu[row % 3] + np.sqrt(np.exp(logvar[row % 3])) * eps[row] for row in range(6)], 1e-14)


@exactly
def rows_of_several_draws_are_sample_major() -> None:
    rng = np.random.default_rng(3)
    x, logits = rng.integers(0, 2, (3, 4)).astype(np.uint8), rng.normal(size=(6, 4))
    loglik, _ = ops.bernoulli_loglik_forward(x, logits)
    p = 1 / (1 + np.exp(-logits))
    of_pixels = np.where(np.concatenate([x, x]) == 1, np.log(p), np.log(1 - p))
    close(loglik, of_pixels.sum(axis=1), 1e-13)


@exactly
def kl_of_several_latents_is_the_sum() -> None:
    mu, variance = np.array([[0.5, -1.5, 0.0]]), np.array([[0.25, 2.0, 1.0]])
    (_, kl), _ = ops.reparam_kl_forward(mu, np.log(variance), np.zeros((1, 3)))
    each = [0.5 * (m * m + v - 1 - math.log(v)) for m, v in zip(mu[0], variance[0], strict=True)]
    close(kl, [math.fsum(each)], 1e-14)


@exactly
def entropy_is_minus_the_mean_log_density() -> None:
    logits, classes = np.array([[0.3, -2.0, 1.1]]), np.array([[0.2, -1.0, 2.0, 0.0]])
    log_p, _ = dist.bernoulli_log_prob_forward(_binary(3), np.tile(logits, (8, 1)))
    close(dist.bernoulli_entropy(logits), [-(np.exp(log_p) * log_p).sum()], 1e-13)
    log_p, _ = dist.categorical_log_prob_forward(np.arange(4), np.tile(classes, (4, 1)))
    close(dist.categorical_entropy(classes), [-(np.exp(log_p) * log_p).sum()], 1e-13)
    logvar = np.array([[0.7]])
    log_q, _ = dist.normal_log_prob_forward(_GRID, np.zeros_like(_GRID), logvar[0])
    close(dist.normal_entropy(logvar), [-(np.exp(log_q) * log_q).sum() * _STEP], 1e-12)
    chol = np.array([[[0.8, 0.0], [-0.3, 1.7]]])
    # At its mean a normal's log-density is its negative entropy plus K / 2.
    log_q, _ = dist.full_normal_log_prob_forward(np.zeros((1, 2)), np.zeros((1, 2)), chol)
    close(dist.full_normal_entropy(chol), 1 - log_q, 1e-13)


_STEP = 80 / 40_000
_GRID = np.linspace(-40, 40, 40_001)[:, None]


@exactly
def kl_is_the_enumerated_one() -> None:
    logits, other = np.array([[0.3, -2.0, 1.1]]), np.array([[1.0, 0.4, -0.6]])
    log_p, _ = dist.bernoulli_log_prob_forward(_binary(3), np.tile(logits, (8, 1)))
    log_q, _ = dist.bernoulli_log_prob_forward(_binary(3), np.tile(other, (8, 1)))
    close(dist.bernoulli_kl(logits, other), [(np.exp(log_p) * (log_p - log_q)).sum()], 1e-13)
    log_p, _ = dist.categorical_log_prob_forward(np.arange(3), np.tile(logits, (3, 1)))
    log_q, _ = dist.categorical_log_prob_forward(np.arange(3), np.tile(other, (3, 1)))
    close(dist.categorical_kl(logits, other), [(np.exp(log_p) * (log_p - log_q)).sum()], 1e-13)


@exactly
def classes_have_probabilities_at_any_logits() -> None:
    logits = np.array([[1e4, 1e4 - 1.0, -1e4], [0.0, math.log(3), math.log(4)]])
    e = math.exp(-1)
    close(np.exp(dist.log_softmax(logits)), [[1 / (1 + e), e / (1 + e), 0], [1 / 8, 3 / 8, 1 / 2]], 1e-12)


@exactly
def log_density_of_a_full_normal_is_the_diagonal_one() -> None:
    rng = np.random.default_rng(4)
    z, mu, logvar = (rng.normal(size=(3, 2)) for _ in range(3))
    chol = np.exp(0.5 * logvar)[..., None] * np.eye(2)
    full, _ = dist.full_normal_log_prob_forward(z, mu, chol)
    close(full, dist.normal_log_prob_forward(z, mu, logvar)[0], 1e-13)


ARCH = Architecture(5, 2, (4,), "tanh", "bernoulli")


def _problem(batch: int, samples: int) -> tuple[object, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    x = rng.integers(0, 2, (batch, ARCH.features)).astype(np.uint8)
    return initialise(ARCH, seed=5, dtype=np.float64), x, rng.normal(size=(samples * batch, ARCH.latent))


@exactly
def output_starts_at_the_logit_of_the_mean_pixel() -> None:
    parameters = initialise(ARCH, seed=0, scheme="glorot", mean=np.array([0.0, 0.1, 0.5, 0.9, 1.0]), dtype=np.float64)
    odds = np.array([1 / 999, 1 / 9, 1.0, 9.0, 999.0])
    close(parameters["decoder.out.bias"], np.log(odds), 1e-12)


@exactly
def loss_is_minus_the_mean_elbo() -> None:
    parameters, x, eps = _problem(batch=4, samples=1)
    terms, _ = elbo_forward(ops, ARCH, parameters, x, eps)
    close(terms.loss(), -math.fsum(terms.reconstruction - terms.kl) / 4, 1e-14)
    close(terms.elbo, terms.reconstruction - terms.kl, 1e-15)
    assert (terms.reconstruction < 0).all()
    assert (terms.kl > 0).all()


@exactly
def terms_are_those_of_their_own_example() -> None:
    parameters, x, eps = _problem(batch=3, samples=2)
    terms, _ = elbo_forward(ops, ARCH, parameters, x, eps)
    for b in range(3):
        alone, _ = elbo_forward(ops, ARCH, parameters, x[b : b + 1], eps[[b, b + 3]])
        close(terms.reconstruction[b : b + 1], alone.reconstruction, 1e-13)
        close(terms.kl[b : b + 1], alone.kl, 1e-13)


@exactly
def a_second_backward_gives_the_same_gradient() -> None:
    parameters, x, eps = _problem(batch=3, samples=1)
    gradients = parameters.zeros_like()
    _, cache = elbo_forward(ops, ARCH, parameters, x, eps)
    elbo_backward(ops, ARCH, cache, gradients)
    first = gradients.flat.copy()
    elbo_backward(ops, ARCH, cache, gradients)
    close(gradients.flat, first, 0.0)


@exactly
def estimate_is_the_log_of_the_mean_weight() -> None:
    weights = np.array([[1.0, 2.0], [3.0, 2.0], [8.0, 2.0]])
    estimate = importance.estimate_from_log_weights(ops, np.log(weights))
    close(estimate.log_likelihood, np.log([4.0, 2.0]), 1e-14)
    # Standard error of the mean weight (13 is the variance of 1, 3, 8), over the mean weight; none for equal weights.
    close(estimate.stderr, [math.sqrt(13 / 3) / 4, 0.0], 1e-7)
    close(estimate.ess, [144 / 74, 3.0], 1e-13)


@exactly
def adam_on_a_long_buffer_is_adam_entry_by_entry() -> None:
    rng = np.random.default_rng(6)
    size = 20_000
    whole, gradients = rng.normal(size=size), rng.normal(size=(2, size))
    pieces = whole.copy()
    moments = np.zeros((4, size))
    for step, g in enumerate(gradients, start=1):
        ops.adam_update(whole, g, moments[0], moments[1], step=step, lr=0.1)
        for start in range(0, size, 100):
            part = slice(start, start + 100)
            ops.adam_update(pieces[part], g[part], moments[2, part], moments[3, part], step=step, lr=0.1)
    close(whole, pieces, 0.0)
