"""The forms of a backward, and what the names of its arguments decide.

Budget: about 4 s.
"""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest
from gradcheck_pairs import normal

from vae_np.gradcheck import check_layer, check_vjp

X = normal(5, 3)


def load(tmp_path, source: str):
    """Return a module with this source, which lies in a file as a user's does."""
    path = tmp_path / "users_file.py"
    path.write_text("import numpy as np\n" + source)
    spec = importlib.util.spec_from_file_location("users_file", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["users_file"] = module
    spec.loader.exec_module(module)
    return module


SIGMOID = """
def sigmoid(z):
    return 1 / (1 + np.exp(-z))

def sigmoid_prime(z):
    return z * (1 - z)
"""


@pytest.mark.parametrize(
    ("usage", "passed", "warned"),
    [
        ("def net(x):\n    z = 2 * x\n    a = sigmoid(z)\n    return sigmoid_prime(z)", False, False),
        ("def net(x):\n    z = 2 * x\n    a = sigmoid(z)\n    return sigmoid_prime(a)", True, False),
        ("def net(x):\n    return sigmoid_prime(sigmoid(x))", True, False),
        ("", True, True),
    ],
)
def test_a_derivative_by_the_output_is_judged_by_how_its_file_calls_it(tmp_path, usage, passed, warned):
    module = load(tmp_path, SIGMOID + usage)
    report = check_vjp(module.sigmoid, module.sigmoid_prime, X)
    assert report.passed == passed, str(report)
    assert bool(report.warnings) == warned
    if not passed:
        assert report.causes == ["right if it is given forward's output, and not its input as the argument's name says"]
    if warned:
        assert "derivative in terms of the output: right only where it is called with that" in report.warnings[0]
        assert not check_vjp(module.sigmoid, module.sigmoid_prime, X, strict=True).passed


def test_an_argument_called_like_the_input_is_given_the_input():
    def tanh_backward(dout, x):
        return dout * (1 - x**2)

    report = check_vjp(lambda x: np.tanh(x), tanh_backward, X)
    assert not report.passed
    assert "right if it is given forward's output" in report.causes[0]
    assert check_vjp(lambda x: np.tanh(x), lambda dout, y: dout * (1 - y**2), X).passed


def test_twice_the_input_is_no_derivative_of_twice_the_input():
    """2x is what the adjoint of x -> 2x makes of x: the reading is taken with a warning only."""
    report = check_vjp(lambda x: 2 * x, lambda x: 2 * x, X)
    assert "although its argument is called like the input" in report.warnings[0]


def test_a_pullback_may_come_from_backward_and_take_its_argument_by_name():
    def pullback(x, w):
        def pull(*, grad):
            return grad * w, (grad * x).sum(axis=0)

        return pull

    forward = lambda x, w: x * w  # noqa: E731
    assert check_vjp(forward, pullback, (X, normal(3))).passed
    wrong = lambda x, w: lambda g: (g * w, (g * x).sum(axis=0) / 5)  # noqa: E731
    assert not check_vjp(forward, wrong, (X, normal(3))).passed


def test_a_jacobian_is_applied_to_the_upstream_gradient():
    W = normal(4, 3)
    assert check_vjp(lambda x: np.tanh(W @ x), lambda x: (1 - np.tanh(W @ x) ** 2)[:, None] * W, normal(3)).passed
    assert not check_vjp(lambda x: np.tanh(W @ x), lambda x: W, normal(3)).passed

    def rows(P):
        return P[:, :2] / P[:, 2:]

    def jacobians(P):
        J = np.zeros((len(P), 2, 3))
        J[:, 0, 0] = J[:, 1, 1] = 1 / P[:, 2]
        J[:, 0, 2], J[:, 1, 2] = -P[:, 0] / P[:, 2] ** 2, -P[:, 1] / P[:, 2] ** 2
        return J

    assert check_vjp(rows, jacobians, X + 4).passed
    assert not check_vjp(rows, lambda P: 1.01 * jacobians(P), X + 4).passed


def test_numbers_are_checked_where_their_gradients_come():
    def forward(x, a):
        return np.tanh(a * x), (x, a)

    def backward(dout, cache):
        x, a = cache
        d = dout * (1 - np.tanh(a * x) ** 2)
        return a * d, np.sum(d * x)

    report = check_vjp(forward, backward, (X, 0.7))
    assert [(row.tensor, row.verdict) for row in report.rows] == [("x", "ok"), ("a", "ok")]
    wrong = check_vjp(forward, lambda d, c: (backward(d, c)[0], 1.01 * backward(d, c)[1]), (X, 0.7))
    assert [row.verdict for row in wrong.rows] == ["ok", "FAIL"]
    only = check_vjp(lambda x, eps: (x * eps, eps), lambda d, eps: d * eps, (X, 0.1))
    assert [row.tensor for row in only.rows] == ["x"]


def test_gradients_belong_to_what_their_variables_are_called_or_to_what_they_fit():
    def nll(x, mean, logvar):
        return 0.5 * np.sum(logvar + (x - mean) ** 2 / np.exp(logvar))

    def told(x, mean, logvar):
        iv = np.exp(-logvar)
        dlogvar = 0.5 * (1 - (x - mean) ** 2 * iv)
        dmean = (mean - x) * iv
        return dlogvar, dmean

    point = (X, normal(5, 3, seed=1), normal(5, 3, seed=2))
    report = check_vjp(nll, told, point)
    assert {row.tensor: row.verdict for row in report.rows} == {"mean": "ok", "logvar": "ok"}
    by_trial = check_vjp(
        lambda x, z: np.sum(x * z - np.logaddexp(0, z)), lambda x, z: x - 1 / (1 + np.exp(-z)), point[:2]
    )
    assert {row.tensor: row.verdict for row in by_trial.rows} == {"z": "ok"}


def test_one_triangle_of_a_symmetric_matrix_is_all_that_forward_reads():
    A = np.diag([4.0, 5, 7, 11]) + np.cos(np.arange(4)[:, None] - np.arange(4))

    def adjoint(A, wbar):
        _, V = np.linalg.eigh(A)
        return (V * wbar) @ V.T

    report = check_vjp(np.linalg.eigvalsh, adjoint, (A,), names=["A"])
    assert report.passed, str(report)
    assert "forward reads one triangle of a symmetric matrix, and the gradient is the symmetric one" in str(report)
    assert not check_vjp(np.linalg.eigvalsh, lambda A, w: 2 * adjoint(A, w), (A,), names=["A"]).passed


class Coupling:
    """Two outputs with an upstream gradient each."""

    def __init__(self, right: bool = True) -> None:
        self.log_s, self._right = 0.3 * normal(3), right

    def forward(self, x):
        self.x = x
        return x * np.exp(self.log_s), np.full(len(x), self.log_s.sum())

    def backward(self, dy, dlogdet):
        self.dlog_s = (dy * self.x * np.exp(self.log_s)).sum(axis=0) + self._right * dlogdet.sum()
        return dy * np.exp(self.log_s)


def test_a_layer_with_two_outputs_gets_two_upstream_gradients():
    assert check_layer(Coupling(), X).passed
    report = check_layer(Coupling(right=False), X)
    assert [row.verdict for row in report.rows] == ["ok", "FAIL"]


class CrossEntropy:
    """A loss for each example, whose backward is given the predictions and the labels."""

    def __init__(self, factor: float = 1.0) -> None:
        self._factor = factor

    def forward(self, y_pred, y_true):
        return -np.log(y_pred[range(len(y_pred)), y_true])

    def backward(self, dvalues, y_true):
        self.dinputs = -self._factor * np.eye(dvalues.shape[1])[y_true] / dvalues / len(dvalues)


def test_a_loss_may_be_given_its_predictions_again():
    probabilities = np.abs(X) / np.abs(X).sum(axis=1, keepdims=True)
    labels = np.array([0, 2, 1, 1, 0])
    report = check_layer(CrossEntropy(), (probabilities, labels))
    assert report.passed, str(report)
    assert "the gradient of the mean of the outputs" in report.reading
    assert not check_layer(CrossEntropy(1.01), (probabilities, labels)).passed


def test_a_limit_that_usual_gradients_do_not_reach_is_a_warning():
    def clipped(dout, x):
        return np.clip(dout * np.cos(x), -100, 100)

    report = check_vjp(lambda x: (np.sin(x), x), clipped, X)
    assert report.passed
    assert "with an upstream gradient 1.04858e+06 times as large, the gradient of x stops at 100" in report.warnings[0]
    assert check_vjp(lambda x: (np.sin(x), x), clipped, X, allow="clipping").warnings == []
    assert not check_vjp(lambda x: (np.sin(x), x), lambda d, x: d * np.cos(x), X).warnings
