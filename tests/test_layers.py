"""Layers against exact values, central differences and the complex step.

Budget: about 1 s.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numeric import COMPLEX_STEP, as_read_only, check_gradient, error, sigmoid

from vae_np import layers, ops

pytestmark = pytest.mark.core

SMOOTH = ["identity", "tanh", "softplus"]
ACTIVATIONS = [*SMOOTH, "relu"]
FORMULAS = {
    "identity": lambda a: a,
    "relu": lambda a: a * (a > 0),
    "tanh": lambda a: (np.exp(a) - np.exp(-a)) / (np.exp(a) + np.exp(-a)),
    "softplus": lambda a: np.log(1 + np.exp(a)),
}


def random_layers(rng: np.random.Generator, *widths: int) -> list[tuple[np.ndarray, np.ndarray]]:
    return [
        (rng.normal(0, 0.7, (inputs, outputs)), rng.normal(0, 0.7, outputs)) for inputs, outputs in pairwise(widths)
    ]


def test_affine_is_x_w_plus_b() -> None:
    x = np.array([[1.0, 2.0, 3.0], [0.0, -1.0, 5.0]])
    weight = np.array([[1.0, 0.0], [10.0, 1.0], [100.0, -2.0]])
    y, _ = layers.affine_forward(x, weight, np.array([0.5, -0.5]))
    assert np.array_equal(y, [[321.5, -4.5], [490.5, -11.5]])


@pytest.mark.parametrize("batch", [1, 3])
def test_affine_gradients(rng: np.random.Generator, batch: int) -> None:
    x, weight, bias, dy = (rng.normal(size=shape) for shape in [(batch, 5), (5, 4), (4,), (batch, 4)])
    _, cache = layers.affine_forward(x, weight, bias)
    dx, dweight, dbias = layers.affine_backward(dy, cache)
    check_gradient(lambda v: (dy * layers.affine_forward(v, weight, bias)[0]).sum(), x, dx)
    check_gradient(lambda v: (dy * layers.affine_forward(x, v, bias)[0]).sum(), weight, dweight)
    check_gradient(lambda v: (dy * layers.affine_forward(x, weight, v)[0]).sum(), bias, dbias)


def test_affine_leaves_out_the_input_gradient_when_it_is_not_wanted(rng: np.random.Generator) -> None:
    x, weight, dy = rng.normal(size=(3, 5)), rng.normal(size=(5, 4)), rng.normal(size=(3, 4))
    _, cache = layers.affine_forward(x, weight, np.zeros(4))
    dx, dweight, dbias = layers.affine_backward(dy, cache, input_gradient=False)
    _, *expected = layers.affine_backward(dy, cache)
    assert dx is None
    assert np.array_equal(dweight, expected[0])
    assert np.array_equal(dbias, expected[1])


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_their_formulas(name: str) -> None:
    a = np.linspace(-8, 8, 401)
    assert error(layers.ACTIVATIONS[name][0](a)[0], FORMULAS[name](a)) < 1e-14


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_gradients(rng: np.random.Generator, name: str) -> None:
    forward, backward = layers.ACTIVATIONS[name]
    a, dy = rng.normal(0, 2, (3, 7)), rng.normal(size=(3, 7))
    check_gradient(lambda v: (dy * forward(v)[0]).sum(), a, backward(dy, forward(a)[1]))


def test_sigmoid_is_the_derivative_of_softplus(rng: np.random.Generator) -> None:
    a = rng.normal(0, 3, 20)
    assert error(layers.sigmoid(a), sigmoid(a)) < 1e-14
    check_gradient(lambda v: layers.softplus(v).sum(), a, layers.sigmoid(a))


def test_sigmoid_takes_a_complex_step(rng: np.random.Generator) -> None:
    a = rng.normal(0, 3, 20)
    slope = layers.sigmoid(a + 1e-30j).imag / 1e-30
    assert error(slope, sigmoid(a) * sigmoid(-a)) < COMPLEX_STEP


def test_relu_at_its_kink_and_at_minus_zero() -> None:
    y, cache = layers.relu_forward(np.array([-1.0, -0.0, 0.0, 5e-324, 2.0]))
    assert np.array_equal(y, [0, 0, 0, 5e-324, 2])
    assert not np.signbit(y).any()
    assert np.array_equal(layers.relu_backward(np.full(5, 3.0), cache), [0, 0, 0, 3, 3])


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
def test_softplus_and_sigmoid_at_the_extremes(dtype: str) -> None:
    a = np.array([-1e4, -100, 0, 100, 1e4], dtype=dtype)
    tail = np.exp(np.array(-100, dtype=dtype))
    assert np.array_equal(layers.softplus(a)[[0, 3, 4]], np.array([0, 100, 1e4], dtype=dtype))
    assert error(layers.softplus(a)[2:3], np.log([2.0])) < 1e-7
    assert np.array_equal(layers.sigmoid(a), np.array([0, tail, 0.5, 1, 1], dtype=dtype))
    assert np.array_equal(layers.softplus_backward(np.ones_like(a), layers.softplus(a))[[0, 3, 4]], [0, 1, 1])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_softplus_keeps_its_tail(dtype: str) -> None:
    a = np.array([-80, -60, -20], dtype=dtype)
    y, cache = layers.softplus_forward(a)
    tail = np.exp(a.astype(np.float64))
    assert np.abs(y / np.log1p(tail) - 1).max() < 20 * np.finfo(dtype).eps
    slope = layers.softplus_backward(np.ones_like(a), cache)
    assert np.abs(slope / (tail / (1 + tail)) - 1).max() < 20 * np.finfo(dtype).eps


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_pass_nan_and_infinity_on(name: str) -> None:
    y, _ = layers.ACTIVATIONS[name][0](np.array([1.0, np.nan, np.inf, -np.inf]))
    assert np.array_equal(np.isnan(y), [False, True, False, False])
    expected = {"identity": [np.inf, -np.inf], "tanh": [1, -1]}.get(name, [np.inf, 0])
    assert np.array_equal(y[2:], expected)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
def test_activations_keep_the_precision(rng: np.random.Generator, name: str, dtype: str) -> None:
    forward, backward = layers.ACTIVATIONS[name]
    a = rng.normal(size=5).astype(dtype)
    y, cache = forward(a)
    assert y.dtype == dtype
    assert backward(a, cache).dtype == dtype


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("widths", [(5, 4), (5, 4, 3), (3, 5, 4, 2)])
@pytest.mark.parametrize("batch", [1, 3])
def test_mlp_gradients(rng: np.random.Generator, name: str, widths: tuple[int, ...], batch: int) -> None:
    stack = random_layers(rng, *widths)
    x, dh = rng.normal(size=(batch, widths[0])), rng.normal(size=(batch, widths[-1]))
    h, cache = layers.mlp_forward(ops, x, stack, name)

    expected = x
    for weight, bias in stack:
        expected = FORMULAS[name](expected @ weight + bias)
    assert error(h, expected) < 1e-13

    dx, gradients = layers.mlp_backward(ops, dh, cache, input_gradient=True)

    def value(changed: np.ndarray, layer: int | None = None, part: int = 0) -> complex:
        changed_stack = [list(pair) for pair in stack]
        if layer is not None:
            changed_stack[layer][part] = changed
        return (dh * layers.mlp_forward(ops, changed if layer is None else x, changed_stack, name)[0]).sum()

    check_gradient(value, x, dx)
    assert layers.mlp_backward(ops, dh, cache, input_gradient=False)[0] is None
    alone, none = layers.mlp_backward(ops, dh, cache, input_gradient=True, weight_gradient=False)
    assert np.array_equal(alone, dx)
    assert none == []
    assert len(gradients) == len(stack)
    for layer, pair in enumerate(stack):
        for part in (0, 1):
            check_gradient(lambda v, layer=layer, part=part: value(v, layer, part), pair[part], gradients[layer][part])


def test_mlp_of_no_layers_passes_everything_through(rng: np.random.Generator) -> None:
    x, dh = rng.normal(size=(3, 4)), rng.normal(size=(3, 4))
    h, cache = layers.mlp_forward(ops, x, [], "relu")
    dx, gradients = layers.mlp_backward(ops, dh, cache, input_gradient=True)
    assert h is x
    assert dx is dh
    assert gradients == []


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("kind", ["uint8", "bool"])
def test_mlp_on_bytes_is_the_mlp_on_the_same_floats(rng: np.random.Generator, depth: int, kind: str) -> None:
    stack = random_layers(rng, 6, 5, 4)[:depth]
    bits = rng.integers(0, 2, (3, 6)).astype(kind)
    h, cache = layers.mlp_forward(ops, bits, stack, "tanh")
    floats, floats_cache = layers.mlp_forward(ops, bits.astype(np.float64), stack, "tanh")
    assert h.dtype == np.float64
    assert np.array_equal(h, floats)
    dx, gradients = layers.mlp_backward(ops, np.ones_like(h), cache, input_gradient=False)
    _, expected = layers.mlp_backward(ops, np.ones_like(h), floats_cache, input_gradient=False)
    assert dx is None
    for got, wanted in zip(gradients, expected, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(got, wanted, strict=True))


def test_mlp_leaves_its_inputs_alone(rng: np.random.Generator) -> None:
    stack = random_layers(rng, 5, 4, 3)
    arrays = as_read_only(
        {f"{i}{j}": array for i, pair in enumerate(stack) for j, array in enumerate(pair)}
        | {"x": rng.normal(size=(2, 5)), "dh": rng.normal(size=(2, 3))}
    )
    kept = {name: array.copy() for name, array in arrays.items()}
    frozen = [(arrays["00"], arrays["01"]), (arrays["10"], arrays["11"])]
    for name in ACTIVATIONS:
        _, cache = layers.mlp_forward(ops, arrays["x"], frozen, name)
        layers.mlp_backward(ops, arrays["dh"], cache, input_gradient=True)
    assert all(np.array_equal(arrays[name], kept[name]) for name in arrays)
