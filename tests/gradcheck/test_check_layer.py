"""Objects with state: their methods, parameters and gradients are found where people keep them.

Budget: about 4 s.
"""

from __future__ import annotations

import threading

import numpy as np
import pytest
from gradcheck_pairs import normal

from vae_np.errors import InputError
from vae_np.gradcheck import assert_layer, check_layer

X = normal(4, 3)


class Attributes:
    """W and dW, as in many courses."""

    def __init__(self, scale=1.0):
        self.W, self.b = normal(3, 2), normal(2, seed=1)
        self.scale = scale

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, dout):
        self.dW = self.scale * self.x.T @ dout
        self.db = dout.sum(axis=0)
        return dout @ self.W.T


class Lists(Attributes):
    """params and grads as lists that share their arrays with the attributes."""

    def __init__(self, scale=1.0):
        super().__init__(scale)
        self.params = [self.W, self.b]
        self.grads = [np.zeros_like(self.W), np.zeros_like(self.b)]

    def backward(self, dout):
        dx = super().backward(dout)
        self.grads[0][...] = self.dW
        self.grads[1][...] = self.db
        return dx


class Dictionaries:
    def __init__(self, scale=1.0):
        self.parameters = {"W": normal(3, 2), "b": normal(2, seed=1)}
        self.gradients = {}
        self.scale = scale

    def fprop(self, X):
        self.X = X
        return X @ self.parameters["W"] + self.parameters["b"]

    def bprop(self, dLdy):
        self.gradients["W"] = self.scale * self.X.T @ dLdy
        self.gradients["b"] = dLdy.sum(axis=0)
        return dLdy @ self.parameters["W"].T


class Tensor:
    def __init__(self, data):
        self.data, self.grad = data, None


class Tensors:
    def __init__(self, scale=1.0):
        self.weight, self.bias, self.scale = Tensor(normal(3, 2)), Tensor(normal(2, seed=1)), scale

    def __call__(self, x):
        self.saved = x
        return x @ self.weight.data + self.bias.data

    def backward(self, grad_output):
        self.weight.grad = self.scale * self.saved.T @ grad_output
        self.bias.grad = grad_output.sum(axis=0)
        return grad_output @ self.weight.data.T


class Dinputs:
    """Nothing is returned: the output and the input's gradient are attributes."""

    def __init__(self, scale=1.0):
        self.weights, self.biases, self.scale = normal(3, 2), normal(1, 2), scale

    def forward(self, inputs):
        self.inputs = inputs
        self.output = inputs @ self.weights + self.biases

    def backward(self, dvalues):
        self.dweights = self.scale * self.inputs.T @ dvalues
        self.dbiases = dvalues.sum(axis=0, keepdims=True)
        self.dinputs = dvalues @ self.weights.T


class Returned:
    """All gradients are returned, and no attribute holds them."""

    def __init__(self, scale=1.0):
        self.W, self.b, self.scale = normal(3, 2), normal(2, seed=1), scale

    def forward(self, x):
        return x @ self.W + self.b, x

    def backward(self, dout, cache):
        return dout @ self.W.T, self.scale * cache.T @ dout, dout.sum(axis=0)


class Updating:
    """Backward takes a learning rate and updates the weights."""

    def __init__(self, scale=1.0):
        self.W, self.b, self.scale = normal(3, 2), normal(2, seed=1), scale

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, dout, learning_rate):
        dx = dout @ self.W.T
        self.W -= learning_rate * self.scale * self.x.T @ dout
        self.b -= learning_rate * dout.sum(axis=0)
        return dx


class Callback:
    def __init__(self, scale=1.0):
        self.W, self.dW, self.scale = normal(3, 2), np.zeros((3, 2)), scale

    def forward(self, X, is_train):
        def backprop(dY):
            self.dW += self.scale * X.T @ dY
            return dY @ self.W.T

        return X @ self.W, backprop


class Network:
    """Layers in a list."""

    def __init__(self, scale=1.0):
        self.layers = [Attributes(), Attributes(scale)]
        self.layers[1].W = normal(2, 2, seed=5)

    def forward(self, x):
        for layer in self.layers:
            x = np.tanh(layer.forward(x))
            layer.out = x
        return x

    def backward(self, dout):
        for layer in reversed(self.layers):
            dout = layer.backward(dout * (1 - layer.out**2))
        return dout


KINDS = [Attributes, Lists, Dictionaries, Tensors, Dinputs, Returned, Updating, Callback, Network]


@pytest.mark.parametrize("kind", KINDS)
def test_right_layers_pass_by_their_input_and_every_parameter(kind):
    layer = kind()
    report = check_layer(layer, X)
    assert report.passed, str(report)
    names = [row.tensor for row in report.rows]
    assert len(names) == {Callback: 2, Network: 5}.get(kind, 3), names
    assert not any(row.blind for row in report.rows)
    assert report.max_error < 1e-9
    assert report.reading


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_weight_gradient_fails_by_name_and_nothing_else_does(kind):
    report = check_layer(kind(1.01), X)
    wrong = [row.tensor for row in report.rows if row.verdict == "FAIL"]
    assert len(wrong) == 1, str(report)
    assert "eight" in wrong[0] or "W" in wrong[0]
    assert any("1.01" in cause or "101/100" in cause for cause in report.causes), report.causes


def test_the_object_stays_as_it_is():
    layer = Attributes()
    W = layer.W
    assert_layer(layer, X)
    assert layer.W is W
    assert not hasattr(layer, "dW")
    np.testing.assert_array_equal(W, normal(3, 2))


def test_a_factory_stands_for_an_object_that_cannot_be_copied():
    class Locked(Attributes):
        def __init__(self):
            super().__init__()
            self.W = np.random.standard_normal((3, 2))  # noqa: NPY002
            self.lock = threading.Lock()

    with pytest.raises(InputError, match=r"layer: got a Locked that cannot be copied .*, expected a function"):
        check_layer(Locked(), X)
    assert check_layer(Locked, X).passed
    assert check_layer(lambda: Locked(), X).passed


def test_gradients_that_accumulate_are_a_warning():
    report = check_layer(Callback(), X)
    assert "gradients accumulate" in report.warnings[0]
    assert not check_layer(Callback(), X, strict=True).passed
    assert not check_layer(Callback(), X, allow="accumulation").warnings
    used = Callback()
    used.dW += 1.0
    assert check_layer(used, X).passed


def test_a_layer_that_returns_an_old_result_is_noticed():
    class Caching(Attributes):
        out = None

        def forward(self, x):
            if self.out is None:
                self.out = super().forward(x)
            return self.out

    report = check_layer(Caching(), X)
    assert not report.passed
    assert "it caches" in str(report)


def test_backward_after_an_update_uses_the_wrong_weights():
    class Late(Updating):
        def backward(self, dout, learning_rate):
            super().backward(dout, learning_rate)
            return dout @ self.W.T

    report = check_layer(Late(), X)
    assert [row.tensor for row in report.rows if row.verdict == "FAIL"] == ["x"]


def test_dropout_draws_the_same_mask_in_every_call_and_a_backward_that_draws_anew_is_caught():
    class Dropout:
        def __init__(self, fresh=False):
            self.fresh, self.training = fresh, True

        def forward(self, x):
            self.mask = np.random.rand(*x.shape) > 0.5  # noqa: NPY002
            return x * self.mask

        def backward(self, dout):
            mask = np.random.rand(*dout.shape) > 0.5 if self.fresh else self.mask  # noqa: NPY002
            return dout * mask

    np.random.seed(5)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    assert check_layer(Dropout(), X).passed
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    report = check_layer(Dropout(fresh=True), X)
    assert not report.passed
    assert "fresh noise" in report.causes[0]


def test_models_with_a_loss_that_returns_its_gradients():
    class Model:
        def __init__(self):
            self.params = {"W1": normal(3, 5), "W2": normal(5, 2)}
            self.reg = 0.1

        def loss(self, X, y=None):
            hidden = np.tanh(X @ self.params["W1"])
            scores = hidden @ self.params["W2"]
            p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
            loss = -np.log(p[np.arange(len(y)), y]).mean() + self.reg * (self.params["W1"] ** 2).sum()
            d = p.copy()
            d[np.arange(len(y)), y] -= 1
            d /= len(y)
            dh = d @ self.params["W2"].T * (1 - hidden**2)
            return loss, {"W1": X.T @ dh + 2 * self.reg * self.params["W1"], "W2": hidden.T @ d}

    report = check_layer(Model(), (X, np.array([0, 1, 1, 0])))
    assert report.passed, str(report)
    assert [row.tensor for row in report.rows if row.verdict == "ok"] == ["W1", "W2"]


def test_a_loss_layer_whose_backward_needs_no_argument():
    class SoftmaxWithLoss:
        def forward(self, x, t):
            self.t = t
            self.y = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
            return -np.log(self.y[np.arange(len(t)), t]).mean()

        def backward(self, dout=1):
            dx = self.y.copy()
            dx[np.arange(len(self.t)), self.t] -= 1
            return dx * dout / len(self.t)

    assert check_layer(SoftmaxWithLoss(), (X, np.array([0, 2, 1, 0]))).passed


def test_an_upstream_gradient_named_so_is_never_read_as_the_output():
    """dout * (1 - out) without its factor out would be right if dout were the output itself."""

    class Sigmoid:
        def forward(self, x):
            self.out = 1 / (1 + np.exp(-x))
            return self.out

        def backward(self, dout):
            return dout * (1 - self.out)

    report = check_layer(Sigmoid(), X)
    assert not report.passed, str(report)
    assert "backward(dout)" in report.reading


def test_a_gradient_of_another_shape_than_a_second_input_is_shown():
    class Add:
        def forward(self, a, b):
            return a + b

        def backward(self, dout):
            return dout, dout.sum(axis=0)

    assert check_layer(Add(), (X, X[0])).passed
    wrong = check_layer(Add(), (X, X + 1.0))
    assert [row.verdict for row in wrong.rows] == ["ok", "FAIL"]
    assert f"gradient has shape {X[0].shape}, expected {X.shape}" in wrong.rows[1].notes


def test_misuse_is_one_clear_line():
    with pytest.raises(InputError, match="layer: got object without a forward method, expected one, or its name as"):
        check_layer(object(), X)
    with pytest.raises(
        InputError, match=r"x: got an array of shape \(4, 7\), on which Attributes.forward and backward do"
    ):
        check_layer(Attributes(), normal(4, 7))
    with pytest.raises(AssertionError, match="likely cause: W"):
        assert_layer(Attributes(2.0), X)
