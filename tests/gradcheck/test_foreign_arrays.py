"""Arrays of torch as they are, in every check: results and gradients are torch's, and so are a layer's parameters.

Budget: about 3 s, most of it the import of torch.
"""

from __future__ import annotations

import numpy as np
import pytest

from vae_np.gradcheck import check_grad, check_layer, check_value_and_grad, check_vjp

torch = pytest.importorskip("torch")


def drawn(*shape: int):
    return torch.tensor(np.random.default_rng(sum(shape)).standard_normal(shape))


def test_a_scalar_function_may_return_a_tensor_without_axes():
    assert check_grad(lambda x: (x**2).sum(), lambda x: 2 * x, drawn(3, 2)).passed
    wrong = check_grad(lambda x: (x**2).sum(), lambda x: 3 * x, drawn(3, 2))
    assert "it is 3/2 times the numeric gradient everywhere" in wrong.causes[0]
    assert wrong.reading == "inputs are arrays of torch float64"
    assert check_grad(
        lambda p: (p["a"] * p["b"]).sum(), lambda p: {"a": p["b"], "b": p["a"]}, {"a": drawn(3), "b": drawn(3)}
    ).passed


def test_a_pair_on_tensors():
    def forward(x, W):
        return torch.tanh(x @ W), (x, W)

    def backward(dout, cache):
        x, W = cache
        d = dout * (1 - torch.tanh(x @ W) ** 2)
        return d @ W.T, x.T @ d

    assert check_vjp(forward, backward, (drawn(4, 3), drawn(3, 2))).passed


@pytest.mark.parametrize("factor", [1.0, 1.01])
def test_a_loss_on_tensors_with_labels(factor):
    def loss(scores, labels):
        log_p = torch.log_softmax(scores, 1)
        rows = torch.arange(len(labels))
        d = torch.exp(log_p)
        d[rows, labels] -= 1
        return -log_p[rows, labels].sum(), factor * d

    report = check_value_and_grad(loss, drawn(4, 3), torch.tensor([0, 2, 1, 0]))
    assert report.passed is (factor == 1.0), str(report)


class Dense:
    def __init__(self, factor: float = 1.0) -> None:
        self.W, self.b, self.factor = drawn(3, 2), torch.zeros(2, dtype=torch.float64), factor
        self.dW, self.db = torch.zeros_like(self.W), torch.zeros_like(self.b)

    def forward(self, x):
        self.x = x
        return torch.relu(x @ self.W + self.b)

    def backward(self, dout):
        d = dout * (self.x @ self.W + self.b > 0)
        self.dW, self.db = self.x.T @ d, self.factor * d.sum(0)
        return d @ self.W.T


def test_a_layer_whose_parameters_are_tensors():
    layer = Dense()
    before = layer.W.clone()
    report = check_layer(layer, drawn(4, 3))
    assert report.passed, str(report)
    assert [row.tensor for row in report.rows] == ["x", "W", "b"]
    assert torch.equal(layer.W, before)
    wrong = check_layer(Dense(0.5), drawn(4, 3))
    assert [row.verdict for row in wrong.rows] == ["ok", "ok", "FAIL"]
    assert "b: it is 1/2 times" in wrong.causes[0]


@pytest.mark.parametrize("factor", [1.0, 1.02])
def test_a_pair_on_arrays_of_jax(factor):
    jnp = pytest.importorskip("jax.numpy")

    def forward(x, W):
        return jnp.tanh(x @ W), (x, W)

    def backward(dout, cache):
        x, W = cache
        d = dout * (1 - jnp.tanh(x @ W) ** 2)
        return d @ W.T, factor * (x.T @ d)

    x, W = (jnp.asarray(drawn(*shape).numpy(), dtype=jnp.float32) for shape in ((4, 3), (3, 2)))
    report = check_vjp(forward, backward, (x, W))
    assert report.reading == "inputs are arrays of jax float32"
    assert [row.verdict for row in report.rows] == ["ok", "ok" if factor == 1.0 else "FAIL"]
