"""The contract: every operation's value, gradient, precision, and what it may do to its inputs.

Budget: about 1 s.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numeric import check_gradient, error, sigmoid
from scipy import special, stats

from vae_np import noise, ops

pytestmark = pytest.mark.core

ACTIVATIONS = ["identity", "relu", "tanh", "softplus"]
PAIRS = ("affine_act", "binary_affine_act", "reparam_kl", "bernoulli_loglik", "normal_loglik")
NAMES = {
    *(f"{name}_forward" for name in PAIRS),
    *(f"{name}_backward" for name in PAIRS),
    "log_mean_exp_weights",
    "adam_update",
    "philox_normal",
    "philox_bernoulli",
}


def test_the_contract_names_the_hot_operations_and_no_others() -> None:
    assert set(ops.__all__) == NAMES
    assert all(callable(getattr(ops, name)) for name in NAMES)


# --- Layers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("batch", [1, 3])
def test_affine_act_gradients(rng: np.random.Generator, activation: str, batch: int) -> None:
    x, weight, bias, dy = (rng.normal(size=shape) for shape in [(batch, 5), (5, 4), (4,), (batch, 4)])

    def value(x: Any, weight: Any, bias: Any) -> complex:
        return (dy * ops.affine_act_forward(x, weight, bias, activation)[0]).sum()

    _, cache = ops.affine_act_forward(x, weight, bias, activation)
    dx, dweight, dbias = ops.affine_act_backward(dy, cache)
    check_gradient(lambda v: value(v, weight, bias), x, dx)
    check_gradient(lambda v: value(x, v, bias), weight, dweight)
    check_gradient(lambda v: value(x, weight, v), bias, dbias)
    without, *rest = ops.affine_act_backward(dy, cache, input_gradient=False)
    assert without is None
    assert np.array_equal(rest[0], dweight)
    assert np.array_equal(rest[1], dbias)
    alone, *none = ops.affine_act_backward(dy, cache, weight_gradient=False)
    assert none == [None, None]
    assert alone is not None
    assert dx is not None
    assert np.array_equal(alone, dx)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("batch", [1, 3])
def test_binary_affine_act_is_affine_act_on_bytes(rng: np.random.Generator, activation: str, batch: int) -> None:
    x = rng.integers(0, 2, (batch, 5)).astype(np.uint8)
    weight, bias, dy = rng.normal(size=(5, 4)), rng.normal(size=4), rng.normal(size=(batch, 4))
    y, cache = ops.binary_affine_act_forward(x, weight, bias, activation)
    rows = np.array([weight[x[b] == 1].sum(axis=0) + bias for b in range(batch)])
    plain, plain_cache = ops.affine_act_forward(x.astype(np.float64), weight, bias, activation)
    assert error(y, ops.affine_act_forward(rows, np.eye(4), np.zeros(4), activation)[0]) < 1e-14
    assert error(y, plain) < 1e-14
    dweight, dbias = ops.binary_affine_act_backward(dy, cache)
    _, *expected = ops.affine_act_backward(dy, plain_cache)
    assert error(dweight, expected[0]) < 1e-14
    assert error(dbias, expected[1]) < 1e-14
    assert not dweight[(x == 0).all(axis=0)].any()


# --- Reparameterisation and KL ----------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [1, 3])
def test_reparam_scales_each_samples_noise_by_sigma(rng: np.random.Generator, samples: int) -> None:
    mu, logvar, eps = rng.normal(size=(4, 3)), rng.normal(size=(4, 3)), rng.normal(size=(samples * 4, 3))
    (z, kl), _ = ops.reparam_kl_forward(mu, logvar, eps)
    sigma = np.sqrt(np.exp(logvar))
    for s in range(samples):
        assert error(z[4 * s : 4 * s + 4], mu + sigma * eps[4 * s : 4 * s + 4]) < 1e-14
    assert kl.shape == (4,)
    assert error(kl, 0.5 * (mu**2 + sigma**2 - 1 - np.log(sigma**2)).sum(axis=1)) < 1e-13


def test_the_drawn_z_has_the_variance_that_the_kl_charges_for(rng: np.random.Generator) -> None:
    """KL = E_q [log q(z) − log p(z)] with q fitted to the draws: a sampler of another σ than the KL's is seen here."""
    n, mu, logvar = 200_000, np.array([[0.4]]), np.array([[1.1]])
    (z, kl), _ = ops.reparam_kl_forward(mu, logvar, rng.normal(size=(n, 1)))
    m, s2 = z.mean(), z.var()
    fitted = 0.5 * (m * m + s2 - 1 - np.log(s2))
    # Var of (m² + s²)/2 − log(s²)/2 by the delta method: mean and variance of a sample are independent.
    stderr = np.sqrt((0.4**2 * s2 + 0.25 * (1 - 1 / s2) ** 2 * 2 * s2**2) / n)
    assert abs(kl[0] - fitted) < 4 * stderr


@pytest.mark.parametrize(("batch", "samples"), [(1, 1), (3, 1), (1, 3), (5, 3)])
def test_reparam_kl_gradients_share_the_noise(rng: np.random.Generator, batch: int, samples: int) -> None:
    mu, logvar = rng.normal(size=(batch, 2)), rng.normal(size=(batch, 2))
    eps = rng.normal(size=(samples * batch, 2))
    dz, dkl = rng.normal(size=(samples * batch, 2)), rng.normal(size=batch)

    def value(mu: Any, logvar: Any) -> complex:
        (z, kl), _ = ops.reparam_kl_forward(mu, logvar, eps)
        return (dz * z).sum() + (dkl * kl).sum()

    dmu, dlogvar = ops.reparam_kl_backward((dz, dkl), ops.reparam_kl_forward(mu, logvar, eps)[1])
    check_gradient(lambda v: value(v, logvar), mu, dmu)
    check_gradient(lambda v: value(mu, v), logvar, dlogvar)


def test_no_clamp_hides_in_the_variance() -> None:
    """Far from zero the value and its gradient still are the formulas, in steps that no bound on logvar survives."""
    logvar = np.array([[-60.0, -25.0, -11.0, 11.0, 25.0, 60.0]])
    mu, eps, one = np.full((1, 6), 0.5), np.full((1, 6), -1.5), np.ones((1, 6))
    (z, kl), cache = ops.reparam_kl_forward(mu, logvar, eps)
    assert np.abs(z / (0.5 - 1.5 * np.exp(logvar / 2)) - 1).max() < 1e-14
    assert abs(kl[0] / (0.5 * (0.25 + np.exp(logvar) - 1 - logvar)).sum() - 1) < 1e-14
    along_z = ops.reparam_kl_backward((one, np.zeros(1)), cache)[1]
    along_kl = ops.reparam_kl_backward((0 * one, np.ones(1)), cache)[1]
    assert np.abs(along_z / (-0.75 * np.exp(logvar / 2)) - 1).max() < 1e-14
    assert np.abs(along_kl / (0.5 * (np.exp(logvar) - 1)) - 1).max() < 1e-14


# --- Likelihoods ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [1, 3])
def test_bernoulli_loglik(rng: np.random.Generator, samples: int) -> None:
    x, logits = rng.integers(0, 2, (5, 7)).astype(np.uint8), rng.normal(0, 2, (samples * 5, 7))
    upstream = rng.normal(size=samples * 5)
    loglik, cache = ops.bernoulli_loglik_forward(x, logits)
    repeated = np.tile(x, (samples, 1))
    assert error(loglik, stats.bernoulli.logpmf(repeated, sigmoid(logits)).sum(axis=1)) < 1e-12
    dlogits = ops.bernoulli_loglik_backward(upstream, cache)
    assert error(dlogits, upstream[:, None] * (repeated - sigmoid(logits))) < 1e-13
    check_gradient(lambda v: (upstream * ops.bernoulli_loglik_forward(x, v)[0]).sum(), logits, dlogits)


@pytest.mark.parametrize("width", [1, 7])
@pytest.mark.parametrize("samples", [1, 3])
def test_normal_loglik(rng: np.random.Generator, width: int, samples: int) -> None:
    x, mean, logvar = rng.normal(size=(5, 7)), rng.normal(size=(samples * 5, 7)), rng.normal(size=width)
    upstream = rng.normal(size=samples * 5)
    loglik, cache = ops.normal_loglik_forward(x, mean, logvar)
    assert error(loglik, stats.norm.logpdf(np.tile(x, (samples, 1)), mean, np.exp(logvar / 2)).sum(axis=1)) < 1e-12
    dmean, dlogvar = ops.normal_loglik_backward(upstream, cache)
    check_gradient(lambda v: (upstream * ops.normal_loglik_forward(x, v, logvar)[0]).sum(), mean, dmean)
    check_gradient(lambda v: (upstream * ops.normal_loglik_forward(x, mean, v)[0]).sum(), logvar, dlogvar)


# --- log mean exp and its weights -------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [1, 2, 7])
def test_log_mean_exp_is_scipys_and_the_weights_are_its_gradient(rng: np.random.Generator, samples: int) -> None:
    log_w = rng.normal(0, 3, (samples, 4))
    log_mean, weights = ops.log_mean_exp_weights(log_w)
    assert error(log_mean, special.logsumexp(log_w, axis=0) - np.log(samples)) < 1e-13
    assert error(weights, special.softmax(log_w, axis=0)) < 1e-13
    assert np.abs(weights.sum(axis=0) - 1).max() < 1e-15
    check_gradient(lambda v: ops.log_mean_exp_weights(v)[0].sum(), log_w, weights)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("offset", [-1e4, 1e4])
def test_log_mean_exp_far_from_zero(dtype: str, offset: float) -> None:
    """2048 spaces apart, exp overflows or underflows unless the largest is taken out first."""
    log_w = (np.array([[0.0, 4.0], [1.0, 0.0], [-2.0, 1024.0]]) + offset).astype(dtype)
    log_mean, weights = ops.log_mean_exp_weights(log_w)
    expected = special.logsumexp(np.array([0.0, 1.0, -2.0])) - np.log(3)
    assert log_mean.dtype == dtype
    assert abs(float(log_mean[0]) - offset - expected) < 2e4 * np.finfo(dtype).eps
    assert abs(float(log_mean[1]) - offset - 1024 + np.log(3)) < 2e4 * np.finfo(dtype).eps
    assert error(weights[:, 0], special.softmax([0.0, 1.0, -2.0])) < 4 * np.finfo(dtype).eps
    assert np.array_equal(weights[:, 1], [0, 0, 1])


def test_log_mean_exp_of_one_sample_and_of_equal_ones() -> None:
    one, weight = ops.log_mean_exp_weights(np.array([[-123.456, 7.0]]))
    assert np.array_equal(one, [-123.456, 7.0])
    assert np.array_equal(weight, [[1, 1]])
    equal, weights = ops.log_mean_exp_weights(np.full((8, 2), -98.7))
    assert np.array_equal(equal, [-98.7, -98.7])
    assert np.array_equal(weights, np.full((8, 2), 1 / 8))


def test_log_mean_exp_gives_no_weight_to_an_impossible_sample() -> None:
    log_mean, weights = ops.log_mean_exp_weights(np.array([[-np.inf], [1.0], [1.0], [-np.inf]]))
    assert abs(log_mean[0] - (1 - np.log(2))) < 1e-15
    assert np.array_equal(weights[:, 0], [0, 0.5, 0.5, 0])


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
def test_log_mean_exp_of_impossible_samples_alone_is_minus_infinity_and_has_no_weights(dtype: str) -> None:
    log_mean, weights = ops.log_mean_exp_weights(np.array([[-np.inf, 0.0], [-np.inf, 0.0]], dtype))
    assert (log_mean.dtype, weights.dtype) == (dtype, dtype)
    assert np.array_equal(log_mean.real, [-np.inf, 0])
    assert np.isnan(weights[:, 0]).all()
    assert np.array_equal(weights[:, 1], [0.5, 0.5])


def test_log_mean_exp_lets_nan_through_in_its_own_column_only() -> None:
    log_mean, weights = ops.log_mean_exp_weights(np.array([[0.0, np.nan], [0.0, 1.0]]))
    assert np.array_equal(np.isnan(log_mean), [False, True])
    assert np.isnan(weights[:, 1]).all()
    assert np.array_equal(weights[:, 0], [0.5, 0.5])


# --- Noise ------------------------------------------------------------------------------------------------------


def test_philox_operations_are_the_noise_of_that_address(rng: np.random.Generator) -> None:
    rows, address = np.array([4, 0, 9]), {"seed": 5, "stream": noise.EPS, "step": 6}
    sample = np.array([0, 2, 1])
    assert np.array_equal(
        ops.philox_normal(rows, 5, **address, sample=sample, dtype=np.float64),
        noise.normal(rows, 5, **address, sample=sample, dtype=np.float64),
    )
    assert ops.philox_normal(rows, 5, **address).dtype == np.float32
    grey = rng.integers(0, 256, (3, 6)).astype(np.uint8)
    assert np.array_equal(ops.philox_bernoulli(grey, **address, rows=rows), noise.bernoulli(grey, **address, rows=rows))


# --- What holds for all of them ---------------------------------------------------------------------------------


def run_all(arrays: dict[str, Any], activation: str = "tanh") -> list[Any]:
    """Every operation but the in-place one, forward and backward, on `arrays`; their results, flat."""
    results: list[Any] = []

    def keep(*values: Any) -> None:
        for value in values:
            if isinstance(value, tuple):
                keep(*value)
            else:
                results.append(value)

    a = arrays
    y, cache = ops.affine_act_forward(a["x"], a["weight"], a["bias"], activation)
    keep(y, ops.affine_act_backward(a["dy"], cache))
    y, cache = ops.binary_affine_act_forward(a["bits"], a["weight"], a["bias"], activation)
    keep(y, ops.binary_affine_act_backward(a["dy"], cache))
    out, cache = ops.reparam_kl_forward(a["mu"], a["logvar"], a["eps"])
    keep(out, ops.reparam_kl_backward((a["dz"], a["dkl"]), cache))
    y, cache = ops.bernoulli_loglik_forward(a["bits"], a["logits"])
    keep(y, ops.bernoulli_loglik_backward(a["dloglik"], cache))
    y, cache = ops.normal_loglik_forward(a["x"], a["logits"], a["sigma"])
    keep(y, ops.normal_loglik_backward(a["dloglik"], cache))
    keep(ops.log_mean_exp_weights(a["log_w"]))
    return results


def inputs(dtype: str = "float64") -> dict[str, Any]:
    draw = np.random.default_rng(37)
    shapes = {
        "x": (3, 6), "weight": (6, 4), "bias": (4,), "dy": (3, 4), "mu": (3, 2), "logvar": (3, 2), "eps": (6, 2),
        "dz": (6, 2), "dkl": (3,), "logits": (6, 6), "dloglik": (6,), "sigma": (6,), "log_w": (4, 3),
    }  # fmt: skip
    arrays: dict[str, Any] = {name: draw.normal(size=shape).astype(dtype) for name, shape in shapes.items()}
    return arrays | {"bits": draw.integers(0, 2, (3, 6)).astype(np.uint8)}


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
def test_results_have_the_precision_of_the_parameters(dtype: str) -> None:
    assert {result.dtype for result in run_all(inputs(dtype))} == {np.dtype(dtype)}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_single_precision_is_close_to_double(activation: str) -> None:
    single = inputs("float32")
    double = {name: value if name == "bits" else value.astype(np.float64) for name, value in single.items()}
    for got, wanted in zip(run_all(single, activation), run_all(double, activation), strict=True):
        assert error(got, wanted) < 1e-5


def read_only(array: Any) -> Any:
    array = array.copy()
    array.flags.writeable = False
    return array


def strided(array: Any) -> Any:
    """The same values with a gap after each, and along every axis."""
    wide = np.full(tuple(2 * n for n in array.shape), 77, dtype=array.dtype)
    view = wide[tuple(slice(None, None, 2) for _ in array.shape)]
    view[...] = array
    return view


@pytest.mark.parametrize("layout", [read_only, strided, np.asfortranarray, lambda a: a[::-1].copy()[::-1]])
def test_inputs_of_any_layout_are_read_and_never_changed(layout: Callable[[Any], Any]) -> None:
    plain = inputs()
    arrays = {name: layout(value) for name, value in plain.items()}
    for got, wanted in zip(run_all(arrays), run_all(plain), strict=True):
        assert error(got, wanted) < 1e-14
    assert all(np.array_equal(arrays[name], plain[name]) for name in plain)


def test_nothing_is_remembered_between_calls() -> None:
    first = run_all(inputs())
    run_all({name: value if name == "bits" else value + 1 for name, value in inputs().items()})
    assert all(np.array_equal(a, b) for a, b in zip(first, run_all(inputs()), strict=True))


@pytest.mark.parametrize("bad", ["weight", "mu", "logvar", "eps", "logits", "sigma", "log_w"])
def test_nan_never_disappears(bad: str) -> None:
    arrays = inputs()
    arrays[bad] = arrays[bad].copy()
    arrays[bad].flat[0] = np.nan
    for activation in ACTIVATIONS:
        assert any(np.isnan(result).any() for result in run_all(arrays, activation))


def test_extreme_logits_and_variances_raise_no_warning() -> None:
    arrays = inputs()
    arrays["logits"] = arrays["logits"] * 1e4
    arrays["x"] = arrays["x"] * 1e4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results = [result for activation in ACTIVATIONS for result in run_all(arrays, activation)]
    assert all(np.isfinite(result).all() for result in results)
