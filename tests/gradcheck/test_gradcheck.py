"""The gradient checker's verdicts: right gradients pass, wrong ones fail, and nothing passes by luck.

Budget: about 1.5 s.
"""

from __future__ import annotations

import numpy as np
import pytest
from gradcheck_pairs import (
    X,
    affine_backward,
    affine_forward,
    affine_inputs,
    normal,
    notes_of,
    relu_backward,
    relu_forward,
    row_of,
    softmax_backward,
    softmax_forward,
    tanh_backward,
    tanh_forward,
)

from vae_np.errors import InputError
from vae_np.gradcheck import assert_grad, check_grad, check_vjp

# --- right gradients --------------------------------------------------------------------------------------------------


def test_a_right_pair_passes_to_the_last_digits():
    report = check_vjp(affine_forward, affine_backward, affine_inputs())
    assert report.passed
    assert [row.tensor for row in report.rows] == ["x", "W", "b"]
    assert {row.method for row in report.rows} == {"complex step"}
    assert report.max_error < 1e-13
    assert [check.name for check in report.checks] == [
        "inputs unchanged",
        "repeated forward",
        "repeated backward",
        "linear in the upstream gradient",
    ]
    assert report.raise_if_failed() is report


@pytest.mark.parametrize("methods", ["auto", "complex", "central", "projection", ("central", "projection")])
@pytest.mark.parametrize(
    ("forward", "backward", "inputs"),
    [
        (affine_forward, affine_backward, affine_inputs()),
        (tanh_forward, tanh_backward, (normal(4, 3),)),
        (relu_forward, relu_backward, (normal(4, 3),)),
        (softmax_forward, softmax_backward, (normal(4, 3),)),
    ],
)
def test_every_method_passes_right_gradients(forward, backward, inputs, methods):
    assert check_vjp(forward, backward, inputs, methods=methods).passed


@pytest.mark.parametrize("scale", [1e-8, 1e-3, 1e4])
@pytest.mark.parametrize("methods", ["complex", "central", "projection"])
def test_the_verdict_does_not_depend_on_the_size_of_the_inputs(scale, methods):
    inputs = tuple(scale * a for a in affine_inputs())
    assert check_vjp(affine_forward, affine_backward, inputs, methods=methods).passed

    def wrong(dout, cache):
        dx, dW, db = affine_backward(dout, cache)
        return dx, dW * (1 + 1e-5), db

    assert row_of(check_vjp(affine_forward, wrong, inputs, methods=methods), "W").verdict == "FAIL"


@pytest.mark.parametrize(("methods", "size"), [("complex", 1e-9), ("central", 1e-7), ("projection", 1e-9)])
def test_one_entry_that_is_wrong_in_its_last_digits_fails(methods, size):
    def wrong(dout, out):
        dx = tanh_backward(dout, out)
        dx[2, 1] *= 1 + size
        return dx

    assert not check_vjp(tanh_forward, wrong, (0.3 * normal(4, 3),), methods=methods).passed


def test_entries_of_very_different_size_each_get_their_own_step():
    x = np.array([1e-9, 1e-3, 1.0, 1e3])
    report = check_grad(lambda x: np.log(x).sum(), lambda x: 1 / x, x, methods="central")
    assert report.passed
    assert report.max_error < 1e-8


def test_wrong_tiny_gradients_are_not_hidden_by_an_absolute_tolerance():
    forward, backward = lambda x: (1e-30 * np.sin(x), x), lambda dout, x: np.zeros_like(x)
    for methods in ("complex", "central"):
        assert not check_vjp(forward, backward, (normal(3),), methods=methods).passed
    assert check_vjp(forward, lambda dout, x: 1e-30 * np.cos(x) * dout, (normal(3),)).passed


def test_a_gradient_that_is_zero_but_for_rounding_passes():
    # The probabilities sum to one: the derivative is zero, and both sides only show rounding.
    forward = lambda x: (softmax_forward(x)[0].sum(axis=1), softmax_forward(x)[0])  # noqa: E731
    backward = lambda dout, p: softmax_backward(np.broadcast_to(dout[:, None], p.shape), p)  # noqa: E731
    for methods in ("complex", "central"):
        assert check_vjp(forward, backward, (normal(4, 3),), methods=methods).passed
    not_rounding = lambda dout, p: np.full(p.shape, 1e-11)  # noqa: E731
    assert not check_vjp(forward, not_rounding, (normal(4, 3),), methods="complex").passed


def test_cancellation_inside_of_the_function_is_counted_as_rounding():
    # exp(v) - 1 loses half of its digits at 1e-8, on the analytic side and in the outputs.
    forward = lambda v: (0.5 * (np.exp(v) - 1 - v), v)  # noqa: E731
    backward = lambda dout, v: 0.5 * dout * (np.exp(v) - 1)  # noqa: E731
    assert check_vjp(forward, backward, (1e-8 * normal(5),), methods="complex").passed


def test_a_saturated_point_is_unclear_and_not_a_failure():
    report = check_vjp(tanh_forward, tanh_backward, (np.array([40.0, -60.0]),))
    # tanh(40) is one: the derivative, 1e-34, is below what 1 - out^2 can hold.
    assert row_of(report, "x").verdict == "unclear"
    assert "saturated" in notes_of(report)
    assert not report.passed


def test_scalars_zero_dimensional_arrays_and_empty_tensors():
    report = check_vjp(
        lambda s, e: (s * 2.0, None), lambda dout, _: (dout * 2.0, np.zeros(0)), (np.array(3.0), np.zeros(0))
    )
    assert report.passed
    assert row_of(report, "s").shape == ()
    assert row_of(report, "e").verdict == "skipped"


# --- large tensors ----------------------------------------------------------------------------------------------------


def test_large_tensors_are_projected_at_a_cost_that_does_not_grow():
    calls = 0

    def forward(x):
        nonlocal calls
        calls += 1
        return np.tanh(x), np.tanh(x)

    counts = []
    for size in (5_000, 50_000):
        calls = 0
        report = check_vjp(forward, tanh_backward, (normal(size),))
        assert report.passed
        assert report.max_error < 1e-12
        counts.append(calls)
    assert counts[1] < 1.2 * counts[0] < 600


@pytest.mark.parametrize("methods", ["auto", ("central", "projection")])
def test_one_wrong_entry_in_a_large_tensor_is_found(methods):
    def wrong(dout, out):
        dx = tanh_backward(dout, out)
        dx[123, 45] *= 1.01
        return dx

    report = check_vjp(tanh_forward, wrong, (0.5 * normal(200, 60),), methods=methods)
    row = row_of(report, "x")
    assert row.verdict == "FAIL"
    assert row.index == (123, 45)
    assert row.analytic == pytest.approx(1.01 * row.numeric)
    assert "wrong only at some entries: index [123, 45]" in report.causes[0]


def test_a_time_limit_samples_and_still_judges():
    report = check_vjp(tanh_forward, tanh_backward, (normal(30, 30),), seconds=1e-9)
    assert report.passed
    assert "1 projection " in row_of(report, "x").method
    assert not check_vjp(tanh_forward, lambda d, o: 1.001 * tanh_backward(d, o), (normal(30, 30),), seconds=1e-9).passed


# --- precision --------------------------------------------------------------------------------------------------------


def test_float32_is_checked_in_float32_with_numeric_values_from_a_float64_copy():
    report = check_vjp(affine_forward, affine_backward, affine_inputs(np.float32))
    assert report.passed
    row = row_of(report, "W")
    assert row.dtype == "float32"
    assert row.rtol == pytest.approx(2**10 * np.finfo(np.float32).eps)
    assert "float64 copy" in notes_of(report, "W")
    assert 1e-9 < report.max_error < 1e-5


def _rounded_forward(x, W, b):
    return (x @ W + b).astype(np.float32), (x, W)


def _rounded_backward(dout, cache):
    return tuple(g.astype(np.float32) for g in affine_backward(dout, cache))


def test_functions_that_stay_in_float32_get_differences_in_float32():
    report = check_vjp(_rounded_forward, _rounded_backward, affine_inputs(np.float32))
    assert report.passed
    row = row_of(report, "W")
    assert row.method == "central differences"
    assert "given precision" in notes_of(report, "W")
    assert row.rtol == pytest.approx(2**13 * np.finfo(np.float32).eps)

    def wrong(dout, cache):
        dx, dW, db = _rounded_backward(dout, cache)
        return dx, np.float32(1.02) * dW, db

    assert row_of(check_vjp(_rounded_forward, wrong, affine_inputs(np.float32)), "W").verdict == "FAIL"


def test_a_function_that_answers_differently_in_float64_is_not_promoted():
    def forward(x):
        return (x**2 if x.dtype == np.float32 else x**3), x

    report = check_vjp(forward, lambda dout, x: 2 * x * dout, (normal(4).astype(np.float32),))
    assert report.passed
    assert "answers differently in float64" in notes_of(report)


def test_a_cast_to_float32_inside_of_a_float64_function_only_costs_precision():
    forward = lambda x: (np.tanh(x.real.astype(np.float32)).astype(np.float64), np.tanh(x))  # noqa: E731
    report = check_vjp(forward, tanh_backward, (normal(4, 3),))
    assert not row_of(report, "x").kinks
    assert report.passed
    assert not check_vjp(forward, lambda d, o: 1.01 * tanh_backward(d, o), (normal(4, 3),)).passed


def test_a_gradient_rounded_to_float32_on_the_way_fails_in_float64():
    rounded = lambda d, o: tanh_backward(d, o).astype(np.float32).astype(np.float64)  # noqa: E731
    report = check_vjp(tanh_forward, rounded, (normal(4, 3),))
    assert not report.passed
    assert "cast to lower precision" in report.causes[0]


def test_tolerances_are_taken_and_printed():
    wrong = lambda d, o: 1.001 * tanh_backward(d, o)  # noqa: E731
    x = (normal(4, 3),)
    assert not check_vjp(tanh_forward, wrong, x).passed
    assert check_vjp(tanh_forward, wrong, x, rtol=1e-2).passed
    assert check_vjp(tanh_forward, wrong, x, atol=1e-2).passed
    assert check_vjp(tanh_forward, wrong, x, rtol=1e-3, scale=10.0).passed
    text = str(check_vjp(tanh_forward, wrong, x, rtol=1e-4, atol=1e-6, scale=0.5))
    assert "rtol 1.0e-04, atol 1.0e-06, scale x 5.0e-01" in text


# --- check_grad and assert_grad ---------------------------------------------------------------------------------------


def test_check_grad_takes_numbers_arrays_dictionaries_and_tuples():
    assert check_grad(np.exp, np.exp, 0.3).passed
    assert check_grad(lambda x: (x**2).sum(), lambda x: 2 * x, X).passed
    tree = {"a": X, "b": (normal(2), 0.5)}

    def f(t):
        return (t["a"] ** 2).sum() + np.sin(t["b"][0]).sum() * t["b"][1]

    def grad(t):
        return {"a": 2 * t["a"], "b": (np.cos(t["b"][0]) * t["b"][1], np.sin(t["b"][0]).sum())}

    report = check_grad(f, grad, tree)
    assert report.passed, str(report)
    assert [row.tensor for row in report.rows] == ["a", "b[0]", "b[1]"]
    assert check_grad(f, grad(tree), tree).passed
    pair = check_grad(lambda t: (t[0] * t[1]).sum(), lambda t: (t[1], t[0]), (normal(3), normal(3, seed=1)))
    assert pair.passed
    assert [row.tensor for row in pair.rows] == ["x[0]", "x[1]"]


def test_check_grad_refuses_functions_that_are_no_scalars():
    report = check_grad(np.sin, np.cos, X)
    assert not report.passed
    assert "f: got shape (4, 3), expected one number" in str(report)


def test_assert_grad_takes_either_style():
    assert assert_grad(affine_forward, affine_backward, affine_inputs()).passed
    assert assert_grad(tanh_forward, tanh_backward, X).passed
    assert assert_grad(lambda x: (x**2).sum(), lambda x: 2 * x, X).passed
    assert assert_grad(lambda t: (t[0] * t[1]).sum(), lambda t: (t[1], t[0]), (normal(3), normal(3, seed=1))).passed
    assert assert_grad(lambda x: (x**2).sum(), 2 * X, X).passed
    with pytest.raises(AssertionError, match="the sign is wrong everywhere"):
        assert_grad(lambda x: (x**2).sum(), lambda x: -2 * x, X)
    with pytest.raises(AssertionError, match="tanh: FAILED"):
        assert_grad(tanh_forward, lambda dout, out: dout * out, X)
    with pytest.raises(InputError, match="kind: got 'both', expected"):
        assert_grad(np.sin, np.cos, X, kind="both")
