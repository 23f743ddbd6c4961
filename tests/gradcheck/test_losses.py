"""Functions that return their value with the gradient, and pairs in the forms that people write.

Budget: about 2 s.
"""

from __future__ import annotations

import numpy as np
import pytest
from gradcheck_pairs import affine_backward, affine_forward, affine_inputs, normal

from vae_np.errors import InputError
from vae_np.gradcheck import assert_value_and_grad, check_value_and_grad, check_vjp

X, LABELS = normal(5, 3), np.array([0, 2, 1, 1, 0])


def softmax_loss(x, y, scale=1.0):
    p = np.exp(x - x.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    d = p.copy()
    d[np.arange(len(y)), y] -= 1
    return -np.log(p[np.arange(len(y)), y]).mean(), scale * d / len(y)


def least_squares(W, X, y, reg):
    r = X @ W - y
    return 0.5 * (r**2).sum() + 0.5 * reg * (W**2).sum(), X.T @ r + reg * W


# --- value and gradient -----------------------------------------------------------------------------------------------


def test_a_loss_with_labels_and_settings():
    assert assert_value_and_grad(softmax_loss, X, LABELS).passed
    report = check_value_and_grad(softmax_loss, X, LABELS, 1.01)
    assert [row.tensor for row in report.rows if row.verdict == "FAIL"] == ["x"]
    assert check_value_and_grad(least_squares, normal(3), X, normal(5), 0.1).passed
    with pytest.raises(AssertionError, match="softmax_loss: FAILED"):
        assert_value_and_grad(softmax_loss, X, LABELS, 2.0)


def test_gradients_as_tuple_list_and_dictionary():
    def product(x, w, y):
        r = x @ w - y
        return (r**2).sum(), (2 * r @ w.T, 2 * x.T @ r)

    inputs = (X, normal(3, 2), normal(5, 2, seed=1))
    report = check_value_and_grad(product, *inputs)
    assert report.passed, str(report)
    assert [row.tensor for row in report.rows if row.verdict == "ok"] == ["x", "w"]
    assert report.reading == "the gradients are those of x, w"
    assert check_value_and_grad(lambda x, w, y: (product(x, w, y)[0], *product(x, w, y)[1]), *inputs).passed

    def named(x, w, y):
        value, (dx, dw) = product(x, w, y)
        return value, {"dw": dw, "grad_x": dx}

    assert check_value_and_grad(named, *inputs).passed
    assert not check_value_and_grad(lambda x, w, y: (named(x, w, y)[0], {"dw": normal(3, 2), "dx": X}), *inputs).passed

    def of_parameters(params, x):
        hidden = np.tanh(x @ params["W"])
        return hidden.sum(), {"dW": x.T @ (1 - hidden**2)}

    assert check_value_and_grad(of_parameters, {"W": normal(3, 2)}, X).passed
    assert check_value_and_grad(lambda x, params: of_parameters(params, x), X, {"W": normal(3, 2)}).passed


def test_what_f_returns_is_said_where_it_does_not_fit():
    with pytest.raises(InputError, match=r"f: got a float, expected a number and its gradient"):
        check_value_and_grad(lambda x: float(x.sum()), X)
    with pytest.raises(InputError, match=r"a tuple whose first part has shape \(5, 3\)"):
        check_value_and_grad(lambda x: (x, x), X)
    with pytest.raises(InputError, match="wrt: got 'z', expected some of x, y, scale"):
        check_value_and_grad(softmax_loss, X, LABELS, 1.0, wrt="z")


# --- forms of a pair --------------------------------------------------------------------------------------------------


def affine_alone(x, W, b):
    return x @ W + b


def from_inputs(dout, x, W, b):
    return dout @ W.T, x.T @ dout, dout.sum(axis=0)


def turned_round(x, W, b, dout):
    return from_inputs(dout, x, W, b)


def without_bias(dout, x, W):
    return from_inputs(dout, x, W, None)


def by_keys(dout, x, W, b):
    return dict(zip(("dx", "grad_W", "b"), from_inputs(dout, x, W, b), strict=True))


@pytest.mark.parametrize("backward", [from_inputs, turned_round, without_bias, by_keys])
def test_forward_may_return_its_output_alone(backward):
    report = check_vjp(affine_alone, backward, affine_inputs())
    assert report.passed, str(report)
    assert report.reading.startswith("forward returns out alone; backward(")
    wrong = {"dx": 1.01, "W": 1.0}
    report = check_vjp(lambda x, W, b: wrong["dx"] * affine_alone(x, W, b), backward, affine_inputs())
    assert not report.passed


def test_inputs_in_a_tuple_are_a_cache():
    backward = lambda dout, cache: from_inputs(dout, *cache)  # noqa: E731
    assert check_vjp(affine_alone, backward, affine_inputs()).passed
    assert check_vjp(np.tanh, lambda d, x: d * (1 - np.tanh(x) ** 2), (X,)).passed


def test_elementwise_derivatives_at_the_input_or_at_the_output():
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731

    def at_input(x):
        return sigmoid(x) * (1 - sigmoid(x))

    def at_output(a):
        return a * (1 - a)

    report = check_vjp(sigmoid, at_input, (X,))
    assert report.passed
    assert "backward(x) times the upstream gradient, entry by entry" in report.reading
    report = check_vjp(sigmoid, at_output, (X,))
    assert report.passed
    assert "backward(out) times" in report.reading
    assert not check_vjp(sigmoid, lambda x: sigmoid(x), (X,)).passed


def test_several_outputs_before_the_cache():
    def lstm_like(x, h, W):
        a = np.tanh(x @ W + h)
        c = a * h
        return a, c, (x, h, W, a)

    def backward(da, dc, cache):
        x, h, W, a = cache
        dpre = (da + dc * h) * (1 - a**2)
        return dpre @ W.T, dpre + dc * a, x.T @ dpre

    def of_a_tuple(dout, cache):
        return backward(*dout, cache)

    inputs = (X, normal(5, 2), normal(3, 2))
    assert check_vjp(lstm_like, backward, inputs).passed
    assert check_vjp(lstm_like, of_a_tuple, inputs).passed
    assert not check_vjp(lstm_like, lambda da, dc, cache: backward(da, 0 * dc, cache), inputs).passed


def test_a_loss_whose_backward_takes_no_upstream_gradient():
    def forward(x, y):
        p = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
        return -np.log(p[np.arange(len(y)), y]).sum(), (p, y)

    def backward(cache):
        p, y = cache
        d = p.copy()
        d[np.arange(len(y)), y] -= 1
        return d

    assert check_vjp(forward, backward, (X, LABELS)).passed
    assert not check_vjp(forward, lambda cache: 1.01 * backward(cache), (X, LABELS)).passed

    def of_logits(logits, y):
        return 0.5 * ((logits - y) ** 2).sum()

    def of_both(logits, y):
        return logits - y

    report = check_vjp(of_logits, of_both, (X, normal(5, 3, seed=1)))
    assert report.passed, str(report)
    assert [(row.tensor, row.verdict) for row in report.rows] == [("logits", "ok")]


def test_an_upstream_gradient_named_so_is_never_read_as_an_input():
    """A product whose backward ignores dout would be right if its two arguments were the inputs."""

    def product_backward(dout, cache):
        return cache, dout

    report = check_vjp(lambda x, y: x * y, product_backward, (normal(3), normal(3)))
    assert not report.passed, str(report)


def test_a_wrong_gradient_is_not_read_until_it_is_right():
    for factor in (1.01, -1.0, 0.5):
        for backward in (from_inputs, turned_round, without_bias):
            wrong = lambda *a, f=factor, g=backward: tuple(f * d for d in g(*a))  # noqa: E731
            wrong.__signature__ = __import__("inspect").signature(backward)
            assert not check_vjp(affine_alone, wrong, affine_inputs()).passed
    assert check_vjp(affine_forward, affine_backward, affine_inputs()).reading == ""
