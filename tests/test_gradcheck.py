"""The gradient checker: right gradients pass, wrong ones fail with their cause, and nothing passes by luck.

Budget: about 3 s.
"""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vae_np.errors import InputError
from vae_np.gradcheck import assert_grad, check_grad, check_vjp

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"


def normal(*shape, seed=0):
    return np.random.default_rng([seed, 99]).standard_normal(shape)


def affine_forward(x, W, b):
    return x @ W + b, (x, W)


def affine_backward(dout, cache):
    x, W = cache
    return dout @ W.T, x.T @ dout, dout.sum(axis=0)


def affine_inputs(dtype=np.float64, rows=5, columns=4, outputs=3):
    return tuple(a.astype(dtype) for a in (normal(rows, columns), normal(columns, outputs), normal(outputs, seed=1)))


def tanh_forward(x):
    return np.tanh(x), np.tanh(x)


def tanh_backward(dout, out):
    return dout * (1 - out**2)


def relu_forward(x):
    return np.where(x > 0, x, 0.0), x


def relu_backward(dout, x):
    return np.where(x > 0, dout, 0.0)


def softmax_forward(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    return p, p


def softmax_backward(dp, p):
    return p * (dp - (dp * p).sum(axis=1, keepdims=True))


def row_of(report, tensor):
    return next(row for row in report.rows if row.tensor == tensor)


def notes_of(report, tensor="x"):
    return " ".join(row_of(report, tensor).notes)


# --- right gradients -------------------------------------------------------------------------------------------------


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


# --- the ways in which the complex step is fooled --------------------------------------------------------------------

X = normal(4, 3)


def _assigned(x):
    out = np.empty(x.shape)
    out[:] = x**2
    return out.sum()


FOOLED = {
    "abs": (lambda x: np.abs(x).sum(), np.sign, "abs"),
    "conj": (lambda x: (x.conj() * x).sum(), lambda x: 2 * x, "conj"),
    "real": (lambda x: (x.real**2).sum(), lambda x: 2 * x, "real"),
    "np.real": (lambda x: (np.real(x) ** 2).sum(), lambda x: 2 * x, "real"),
    "cast by astype": (lambda x: (x.astype(float) ** 2).sum(), lambda x: 2 * x, "a cast"),
    "cast by assignment": (_assigned, lambda x: 2 * x, "a cast"),
    "cast by asarray": (lambda x: (np.asarray(x, dtype=float) ** 2).sum(), lambda x: 2 * x, "a cast"),
    "vdot": (lambda x: np.vdot(x, x), lambda x: 2 * x, "vdot"),
    "norm": (lambda x: np.linalg.norm(x), lambda x: x / np.linalg.norm(x), "norm"),
    "sign": (lambda x: (np.sign(x) * x).sum(), np.sign, "sign"),
    "a mixture": (
        lambda x: np.tanh(x).sum() + 1e-3 * np.abs(x).sum(),
        lambda x: 1 - np.tanh(x) ** 2 + 1e-3 * np.sign(x),
        "abs",
    ),
}


@pytest.mark.parametrize("way", FOOLED)
def test_the_complex_step_is_not_trusted_where_it_is_fooled(way):
    f, grad, name = FOOLED[way]
    report = check_grad(f, grad, X)
    assert report.passed, str(report)
    assert row_of(report, "x").method == "central differences"
    assert "complex step not trusted" in notes_of(report)
    assert name in notes_of(report)


def test_logaddexp_refuses_complex_numbers_and_the_row_says_so():
    report = check_grad(lambda x: np.logaddexp(0, x).sum(), lambda x: 1 / (1 + np.exp(-x)), X)
    assert report.passed
    assert row_of(report, "x").method == "central differences"
    assert "complex input is refused" in notes_of(report)
    assert "logaddexp" in notes_of(report)


def test_maximum_takes_a_side_at_a_tie_and_the_tie_is_named():
    x = np.array([1.0, 2.0, 3.0])
    ceiling = np.array([1.0, 5.0, 0.0])
    report = check_grad(lambda x: np.maximum(x, ceiling).sum(), lambda x: (x > ceiling) * 1.0, x)
    assert report.passed
    (kink,) = row_of(report, "x").kinks
    assert kink.index == (0,)
    assert (kink.left, kink.right) == pytest.approx((0.0, 1.0), abs=1e-6)


@pytest.mark.parametrize("way", ["abs", "conj", "real", "cast by astype", "norm"])
def test_a_gradient_wrong_in_the_way_the_complex_step_is_fooled_still_fails(way):
    f, _, _ = FOOLED[way]
    assert not check_grad(f, lambda x: np.zeros_like(x), X).passed


def test_branching_on_the_real_part_does_not_cost_the_complex_step():
    f = lambda x: np.where(x.real > 0, x, 0.1 * x).sum()  # noqa: E731
    report = check_grad(f, lambda x: np.where(x > 0, 1.0, 0.1), X)
    assert report.passed
    assert row_of(report, "x").method == "complex step"


# --- kinks -----------------------------------------------------------------------------------------------------------


def relu_point():
    x = normal(4, 3)
    x[1, 2] = 0.0
    return x


@pytest.mark.parametrize("methods", ["auto", "central", "projection"])
def test_a_kink_is_named_and_left_out(methods):
    report = check_vjp(relu_forward, relu_backward, (relu_point(),), methods=methods)
    assert report.passed
    (kink,) = row_of(report, "x").kinks
    assert kink.index == (1, 2)
    assert kink.inside
    assert not kink.jump
    assert "kink at index [1, 2]" in str(report)


def test_a_value_between_the_one_sided_slopes_is_accepted_and_one_outside_fails():
    for at_zero, good in ((0.0, True), (0.5, True), (1.0, True), (-0.1, False), (1.1, False)):
        backward = lambda dout, x, v=at_zero: dout * np.where(x > 0, 1.0, np.where(x == 0, v, 0.0))  # noqa: E731
        report = check_vjp(relu_forward, backward, (relu_point(),))
        assert report.passed == good
        assert ("OUTSIDE" in str(report)) != good


def test_the_average_slope_at_a_kink_does_not_pass_as_a_derivative():
    # Central differences and the complex step of |x| both give 0 at 0, and so does sign(0).
    report = check_grad(lambda x: np.abs(x).sum(), np.sign, np.array([0.0, 1.0]))
    assert report.passed
    assert [kink.index for kink in row_of(report, "x").kinks] == [(0,)]


def test_entries_close_to_a_kink_are_judged_on_their_own_side():
    x = np.array([1e-3, -1e-3, 1e-6, -1e-6, 1.0])
    for methods in ("complex", "central"):
        report = check_vjp(relu_forward, relu_backward, (x,), methods=methods)
        assert report.passed
        assert not row_of(report, "x").kinks
        wrong_side = lambda dout, x: np.where(x > -1e-5, dout, 0.0)  # noqa: E731
        report = check_vjp(relu_forward, wrong_side, (x,), methods=methods)
        assert row_of(report, "x").index == (3,)
        assert row_of(report, "x").verdict == "FAIL"


def test_wrong_entries_beside_a_kink_fail():
    report = check_vjp(relu_forward, lambda dout, x: 2 * relu_backward(dout, x), (relu_point(),))
    assert row_of(report, "x").verdict == "FAIL"


def test_nothing_but_kinks_is_unclear():
    report = check_vjp(relu_forward, relu_backward, (np.zeros(3),))
    assert row_of(report, "x").verdict == "unclear"
    assert not report.passed
    assert len(row_of(report, "x").kinks) == 3


def test_a_jump_is_named():
    x = np.array([0.0, 1.0])
    report = check_grad(lambda x: (np.where(x > 0, 1.0, 0.0) + x).sum(), np.ones_like, x)
    (kink,) = row_of(report, "x").kinks
    assert kink.jump
    assert "jump at index [0]" in str(report)
    assert report.passed


def test_steep_but_smooth_is_no_kink():
    f = lambda x: np.tanh(3e4 * x).sum()  # noqa: E731
    grad = lambda x: 3e4 / np.cosh(3e4 * x) ** 2  # noqa: E731
    report = check_grad(f, grad, np.array([0.0, 1e-5, 1e-4]), methods="central")
    assert not row_of(report, "x").kinks
    assert report.passed


def test_kinks_in_a_tensor_too_large_for_every_entry_are_found_by_halving():
    x = normal(4000)
    x[[7, 3000]] = 0.0
    report = check_vjp(relu_forward, relu_backward, (x,))
    assert report.passed
    assert "projections" in row_of(report, "x").method
    assert {kink.index for kink in row_of(report, "x").kinks} == {(7,), (3000,)}


# --- large tensors ---------------------------------------------------------------------------------------------------


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
    assert "projections" in row_of(report, "x").method
    assert not check_vjp(tanh_forward, lambda d, o: 1.001 * tanh_backward(d, o), (normal(30, 30),), seconds=1e-9).passed


# --- precision -------------------------------------------------------------------------------------------------------


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


# --- the other promises ----------------------------------------------------------------------------------------------


def failed_check(report):
    return [check.name for check in report.checks if not check.passed]


def test_a_forward_that_draws_noise_is_not_repeatable():
    rng = np.random.default_rng(0)
    report = check_vjp(lambda x: (x + rng.standard_normal(x.shape), None), lambda dout, _: dout, (normal(3),))
    assert failed_check(report) == ["repeated forward"]
    assert row_of(report, "x").verdict == "unclear"


def test_a_generator_passed_as_input_replays_its_noise():
    def forward(x, rng):
        return x * rng.standard_normal(x.shape), rng.bit_generator.state

    def backward(dout, state):
        rng = np.random.default_rng()
        rng.bit_generator.state = state
        return dout

    def right(dout, noise):
        return dout * noise

    def forward_noise(x, rng):
        noise = rng.standard_normal(x.shape)
        return x * noise, noise

    assert check_vjp(forward_noise, right, (normal(3), np.random.default_rng(3))).passed
    assert not check_vjp(forward, backward, (normal(3), np.random.default_rng(3))).passed


def test_a_backward_that_draws_fresh_noise_fails():
    rng = np.random.default_rng(0)
    report = check_vjp(tanh_forward, lambda d, o: d * (1 - o**2) * rng.standard_normal(d.shape), (normal(3),))
    assert failed_check(report) == ["repeated backward"]
    assert "fresh noise" in report.causes[0]


def test_a_cache_that_backward_uses_up_is_a_note_and_no_failure():
    def forward(x):
        return np.tanh(x), [np.tanh(x)]

    report = check_vjp(forward, lambda dout, cache: dout * (1 - cache.pop() ** 2), (normal(3),))
    assert report.passed
    assert "second call on the same cache fails" in str(report)


@pytest.mark.parametrize(
    ("backward", "text"),
    [
        (lambda dout, o: 1 - o**2, "does not change"),
        (lambda dout, o: dout * (1 - o**2) + 1, "for a zero upstream gradient"),
        (lambda dout, o: np.abs(dout) * (1 - o**2), "does not scale"),
        (lambda dout, o: np.sign(dout) * np.linalg.norm(dout), "is not additive"),
    ],
)
def test_backward_must_be_linear_in_its_upstream_gradient(backward, text):
    report = check_vjp(tanh_forward, backward, (normal(4, 3),))
    assert "linear in the upstream gradient" in failed_check(report)
    assert any(text in check.detail for check in report.checks)


def test_inputs_and_the_upstream_gradient_must_not_be_written_to():
    def forward(x):
        x *= 1.0000001
        return np.tanh(x), np.tanh(x)

    x = normal(3)
    kept = x.copy()
    report = check_vjp(forward, tanh_backward, (x,))
    assert "inputs unchanged" in failed_check(report)
    np.testing.assert_array_equal(x, kept)

    def in_place(dout, out):
        dout *= 1 - out**2
        return dout

    report = check_vjp(tanh_forward, in_place, (x,))
    assert failed_check(report) == ["inputs unchanged"]
    assert "the upstream gradient" in report.causes[0]
    assert row_of(report, "x").verdict == "ok"


def test_inputs_are_never_changed_by_the_checker():
    inputs = affine_inputs()
    kept = [a.copy() for a in inputs]
    for a in inputs:
        a.setflags(write=False)
    assert check_vjp(affine_forward, affine_backward, inputs).passed
    for a, b in zip(inputs, kept, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_upstream_gradient_does_not_repeat_inputs_drawn_from_the_same_seed():
    # With dout equal to x, x.T @ dout is symmetric, and a transposed gradient would pass.
    for seed in range(3):
        rng = np.random.default_rng(seed)
        inputs = (rng.standard_normal((3, 3)), rng.standard_normal((3, 3)), rng.standard_normal(3))

        def transposed(dout, cache):
            dx, dW, db = affine_backward(dout, cache)
            return dx, dW.T, db

        report = check_vjp(affine_forward, transposed, inputs, seed=seed)
        assert row_of(report, "W").verdict == "FAIL"
        assert report.causes == ["W: the gradient is transposed"]


# --- what backward returns -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda dx, dW, db: (dx, dW, None), "backward returned None"),
        (lambda dx, dW, db: (dx, dW, db * np.nan), "not finite at 3 of 3 entries"),
        (lambda dx, dW, db: (dx, dW, db * np.inf), "not finite"),
        (lambda dx, dW, db: (dx, dW, db[None]), "gradient has shape (1, 3), expected (3,)"),
        (lambda dx, dW, db: (dx, dW, db.astype(np.float32)), "gradient has dtype float32, expected float64"),
        (lambda dx, dW, db: (dx, dW, "no"), "backward returned a str"),
        (lambda dx, dW, db: (dx, dW, list(db)), "a list or a tuple"),
        (lambda dx, dW, db: (dx, dW, db + 0j), "expected real numbers"),
    ],
)
def test_gradients_that_cannot_be_right_fail_with_a_line_of_their_own(change, text):
    report = check_vjp(affine_forward, lambda d, c: change(*affine_backward(d, c)), affine_inputs())
    assert [row.verdict for row in report.rows] == ["ok", "ok", "FAIL"]
    assert text in notes_of(report, "b")
    assert text in str(report)


@pytest.mark.parametrize(
    ("backward", "text"),
    [
        (lambda d, c: affine_backward(d, c)[:2], "backward returned 2 gradients for 3 array inputs (x, W, b)"),
        (lambda d, c: affine_backward(d, c)[1], "backward returned a ndarray for 3 array inputs"),
        (lambda d, c: None, "backward returned None for 3 array inputs"),
        (lambda d, c: {"w": d}, "gradients for w; the inputs are x, W, b"),
        (lambda d, c: 1 / 0, "raised ZeroDivisionError: division by zero"),
        (lambda d, c: sys.exit(3), "called sys.exit(3)"),
    ],
)
def test_backwards_that_return_nothing_usable_fail_without_a_traceback(backward, text):
    report = check_vjp(affine_forward, backward, affine_inputs())
    assert not report.passed
    assert text in str(report)


@pytest.mark.parametrize(
    ("forward", "text"),
    [
        (lambda x: np.tanh(x), "returned a ndarray, expected (out, cache)"),
        (lambda x: (1, 2, 3), "returned a tuple of 3, expected (out, cache)"),
        (lambda x: (np.log(-np.abs(x)), None), "3 of 3 outputs are not finite"),
        (lambda x: (x.astype(int), None), "no floating-point output"),
        (lambda x: (x + 1j, None), "complex numbers"),
        (lambda x: [][0], "raised IndexError"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_forwards_that_return_nothing_usable_fail_without_a_traceback(forward, text):
    report = check_vjp(forward, lambda d, c: d, (normal(3),))
    assert not report.passed
    assert text in str(report)


def test_the_cause_of_an_error_is_kept_for_the_traceback():
    with pytest.raises(AssertionError, match="ZeroDivisionError") as caught:
        check_vjp(affine_forward, lambda d, c: 1 / 0, affine_inputs()).raise_if_failed()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_inputs_that_are_no_floating_arrays_pass_through():
    def forward(x, classes, power, name):
        assert name == "square"
        rows = np.arange(len(classes))
        return x[rows, classes] ** power, (x, rows, classes, power)

    def backward(dout, cache):
        x, rows, classes, power = cache
        dx = np.zeros_like(x)
        dx[rows, classes] = dout * power * x[rows, classes] ** (power - 1)
        return dx

    inputs = (normal(4, 3), np.array([0, 2, 1, 1]), 2, "square")
    for with_none in (backward, lambda d, c: (backward(d, c), None), lambda d, c: (backward(d, c), None, None, None)):
        report = check_vjp(forward, with_none, inputs)
        assert report.passed, str(report)
        assert row_of(report, "classes").verdict == "skipped"


def test_wrt_names_what_to_check():
    forward = lambda x, data: ((x * data).sum(axis=1), data)  # noqa: E731
    backward = lambda dout, data: dout[:, None] * data  # noqa: E731
    inputs = (normal(4, 3), normal(4, 3, seed=1))
    for wrt in ("x", ["x"], [0]):
        report = check_vjp(forward, backward, inputs, wrt=wrt)
        assert report.passed
        assert [row.tensor for row in report.rows] == ["x"]
    assert not check_vjp(forward, backward, inputs).passed
    assert check_vjp(forward, lambda d, c: (backward(d, c), None), inputs, wrt="x").passed
    with pytest.raises(InputError, match=r"no input is called 'y'; the inputs are x, data"):
        check_vjp(forward, backward, inputs, wrt="y")


def test_nested_inputs_outputs_and_gradients_get_a_row_per_tensor():
    def forward(x, params):
        hidden = np.tanh(x @ params["W"][0])
        return (hidden @ params["W"][1], hidden.sum()), (x, params, hidden)

    def backward(dout, cache):
        x, params, hidden = cache
        dhidden = dout[0] @ params["W"][1].T + dout[1]
        dpre = dhidden * (1 - hidden**2)
        return dpre @ params["W"][0].T, {"W": [x.T @ dpre, hidden.T @ dout[0]]}

    inputs = (normal(4, 3), {"W": [normal(3, 5), normal(5, 2)]})
    report = check_vjp(forward, backward, inputs)
    assert report.passed, str(report)
    assert [row.tensor for row in report.rows] == ["x", "params.W[0]", "params.W[1]"]
    assert [row.tensor for row in check_vjp(forward, backward, inputs, wrt="params").rows] == [
        "params.W[0]",
        "params.W[1]",
    ]
    missing = check_vjp(forward, lambda d, c: (backward(d, c)[0], {}), inputs)
    assert "returned no gradient for it" in notes_of(missing, "params.W[0]")


def test_gradients_may_come_by_name():
    report = check_vjp(
        affine_forward, lambda d, c: dict(zip(["x", "W", "b"], affine_backward(d, c), strict=True)), affine_inputs()
    )
    assert report.passed


def test_names_label_the_rows():
    report = check_vjp(affine_forward, affine_backward, affine_inputs(), names=["data", "weight", "bias"])
    assert [row.tensor for row in report.rows] == ["data", "weight", "bias"]
    with pytest.raises(InputError, match="2 names came for 3 inputs"):
        check_vjp(affine_forward, affine_backward, affine_inputs(), names=["a", "b"])


def test_misuse_is_one_clear_line():
    with pytest.raises(InputError, match=r"methods: autograd came, expected some of auto, central"):
        check_vjp(tanh_forward, tanh_backward, (X,), methods="autograd")
    with pytest.raises(InputError, match="x is complex"):
        check_vjp(tanh_forward, tanh_backward, (X + 0j,))
    with pytest.raises(InputError, match="must be positive"):
        check_vjp(tanh_forward, tanh_backward, (X,), max_entries=0)


def test_inputs_that_forward_does_not_let_move_are_unclear():
    def forward(x, data):
        if not np.isin(data, (0.0, 1.0)).all():
            raise ValueError("data must be binary")
        return x * data, (x, data)

    inputs = (normal(4), np.array([0.0, 1.0, 1.0, 0.0]))
    report = check_vjp(forward, lambda dout, c: (dout * c[1], dout * c[0]), inputs)
    assert row_of(report, "x").verdict == "ok"
    assert row_of(report, "data").verdict == "unclear"
    assert "data must be binary" in notes_of(report, "data")
    assert check_vjp(forward, lambda dout, c: (dout * c[1], None), inputs, wrt="x").passed


# --- check_grad and assert_grad --------------------------------------------------------------------------------------


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
    assert "f returned shape (4, 3), expected one number" in str(report)


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
    with pytest.raises(InputError, match="kind: 'both' came"):
        assert_grad(np.sin, np.cos, X, kind="both")


# --- the report ------------------------------------------------------------------------------------------------------


def failing_report():
    def wrong(dout, cache):
        dx, dW, _ = affine_backward(dout, cache)
        return dx, 2 * dW, dout

    return check_vjp(affine_forward, wrong, affine_inputs(), seed=7)


def test_the_table_is_aligned_and_complete():
    lines = str(failing_report()).splitlines()
    assert lines[0] == "affine: FAILED (W, b; seed 7)"
    header, rule, *rows = lines[1:6]
    assert header.split() == ["tensor", "shape", "method", "max", "error", "index", "analytic", "numeric", "verdict"]
    assert set(rule) == {"-", " "}
    verdict = header.index("verdict")
    assert [row[verdict:] for row in rows] == ["ok", "FAIL", "FAIL"]
    text = "\n".join(lines)
    assert "tolerance: rtol 1.0e-10, atol 0.0e+00, scale x" in text
    assert "likely cause: W: it is 2 times the numeric gradient everywhere" in text
    assert "likely cause: b: the sum over the batch (axis 0) is missing" in text
    assert "reproduce (seed 7, same inputs):" in text
    assert "print(check_vjp(affine_forward, wrong, inputs, seed=7))" in text


def test_the_same_seed_gives_the_same_report_and_another_another():
    first, again = str(failing_report()), str(failing_report())
    assert first == again
    other = check_vjp(affine_forward, affine_backward, affine_inputs(), seed=8)
    assert (
        row_of(other, "W").numeric != row_of(check_vjp(affine_forward, affine_backward, affine_inputs()), "W").numeric
    )


def test_json_holds_the_numbers_and_null_for_what_is_not_finite():
    data = json.loads(failing_report().to_json())
    assert data["schema"] == "vae_np.gradcheck"
    assert data["version"] == 1
    assert not data["passed"]
    assert data["rows"][1]["max_rel_error"] == pytest.approx(0.5)
    assert data["rows"][1]["verdict"] == "FAIL"
    assert data["rows"][2]["max_rel_error"] is None
    assert data["seed"] == 7
    nan = check_vjp(tanh_forward, lambda d, o: d * np.nan, (X,))
    assert json.loads(nan.to_json())["rows"][0]["analytic"] is None


def test_html_escapes_what_it_shows():
    report = check_vjp(tanh_forward, lambda d, o: d, (X,), names=["<x>"], name="a<b")
    page = report._repr_html_()
    assert "<table>" in page
    assert "&lt;x&gt;" in page
    assert "<x>" not in page
    assert "a&lt;b" in page


def test_the_snippet_reproduces_the_report():
    module = runpy.run_path(str(EXAMPLES / "homework.py"))
    report = check_vjp(
        module["affine_forward"],
        lambda d, c: (d, d, d),
        module["affine_example"](np.random.default_rng(0)),
        name="affine",
    )
    assert len(report.snippet.splitlines()) == 3


# --- the diagnosis ---------------------------------------------------------------------------------------------------


def diagnose_affine(change, **sizes):
    report = check_vjp(affine_forward, lambda d, c: change(*affine_backward(d, c)), affine_inputs(**sizes))
    assert not report.passed
    return report.causes


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda dx, dW, db: (dx, -dW, db), "W: the sign is wrong everywhere"),
        (lambda dx, dW, db: (dx, dW / 2, db), "W: it is 1/2 times the numeric gradient everywhere: a constant factor"),
        (
            lambda dx, dW, db: (dx, -3 * dW, db),
            "W: it is 3 times the numeric gradient everywhere: a constant factor, and the sign",
        ),
        (lambda dx, dW, db: (dx, dW * 5, db), "5 is the batch size: a sum where the mean is due"),
        (lambda dx, dW, db: (dx, dW / 5, db), "5 is the batch size: a mean where the sum is due"),
        (lambda dx, dW, db: (dx, dW / 15, db), "15 is the number of outputs"),
        (lambda dx, dW, db: (dx, dW * np.log(2), db), "ln 2"),
        (lambda dx, dW, db: (dx, dW * 0, db), "W: the gradient is zero everywhere"),
        (lambda dx, dW, db: (dx, dW.T, db), "W: the gradient is transposed"),
        (lambda dx, dW, db: (dx, dW.ravel(), db), "reshape to (4, 3)"),
        (lambda dx, dW, db: (dx, dW.T.reshape(4, 3), db), "reshaped where it should be transposed"),
        (lambda dx, dW, db: (dx, np.abs(dW), db), "an absolute value"),
        (lambda dx, dW, db: (dx, dW + 0.25, db), "a constant, 1/4, is added to every entry"),
        (lambda dx, dW, db: (dx, dW * (1 + 1e-8), db), "W: it agrees to 8 digits"),
        (lambda dx, dW, db: (dx, dW * np.arange(1, 4), db), "W: it is wrong only at some entries"),
        (lambda dx, dW, db: (dx, dW * np.arange(2, 5), db), "one factor per column"),
        (lambda dx, dW, db: (dx, dW * np.tri(4, 3), db), "above the diagonal"),
        (lambda dx, dW, db: (dx, dW.sum(axis=0), db), "a sum runs over an axis that the tensor keeps"),
        (lambda dx, dW, db: (dx, db, dW), "W: this is the gradient of b; the order"),
    ],
)
def test_the_cause_is_named(change, cause):
    assert any(cause in line for line in diagnose_affine(change)), diagnose_affine(change)


@pytest.mark.parametrize(
    ("part", "text"),
    [
        (np.s_[0, :], "the first row (0)"),
        (np.s_[-1, :], "the last row (3)"),
        (np.s_[:, 1], "column (1)"),
        (np.s_[:, 1:], "the last 2 columns"),
        (np.s_[2, 0], "index [2, 0]"),
        (np.s_[-1, -1], "index [3, 2] (the last)"),
    ],
)
def test_the_place_of_wrong_entries_is_named(part, text):
    def change(dx, dW, db):
        dW = dW.copy()
        dW[part] *= 1.5
        return dx, dW, db

    assert any(text in line for line in diagnose_affine(change)), diagnose_affine(change)


@pytest.mark.parametrize(
    ("backward", "cause"),
    [
        (lambda d, c: d[0], "only batch row 0 (the first) contributes"),
        (lambda d, c: d[2], "only batch row 2 contributes"),
        (lambda d, c: d[1:].sum(axis=0), "the contribution of batch row 0 (the first) is missing"),
        (lambda d, c: d[:-1].sum(axis=0), "the contribution of batch row 4 (the last) is missing"),
        (lambda d, c: d.sum(), "a sum runs over an axis"),
        (lambda d, c: d[:, None, :], "the sum over axes 0, 1 is missing"),
    ],
)
def test_a_missing_sum_over_the_batch_is_named(backward, cause):
    x = normal(5, 3)
    report = check_vjp(lambda b: (x + b, None), backward, (normal(3, seed=2),))
    assert any(cause in line for line in report.causes), report.causes


def test_missing_terms_are_named():
    kl = lambda mu: (0.5 * (mu**2).sum() + np.sin(mu).sum(), mu)  # noqa: E731
    report = check_vjp(kl, lambda d, mu: d * (2 * mu + np.cos(mu)), (normal(4, 3),))
    assert "times mu is too much" in report.causes[0]
    report = check_vjp(softmax_forward, lambda d, p: d * p, (normal(4, 3),))
    assert "constant along axis 1" in report.causes[0]
    residual = check_vjp(lambda x: (x + np.tanh(x), np.tanh(x)), tanh_backward, (normal(4, 3),))
    assert residual.causes == ["x: a term 1 times the upstream gradient is missing"]


def test_a_clamp_on_one_side_is_named():
    forward = lambda x: (np.where(x > 0.5, 0.5, x), x)  # noqa: E731
    report = check_vjp(forward, lambda d, x: d, (normal(4, 3),))
    assert "forward masks or clamps what backward lets through" in report.causes[0]
    report = check_vjp(tanh_forward, lambda d, o: tanh_backward(d, o) * (o > 0), (normal(4, 3),))
    assert "where the input is negative" in report.causes[0]
    assert "backward masks or clamps what forward lets through" in report.causes[0]


def test_without_a_pattern_the_two_are_compared_as_vectors():
    wrong = lambda d, o: tanh_backward(d, o) + 0.2 * np.cos(np.arange(12.0)).reshape(4, 3) * d  # noqa: E731
    report = check_vjp(tanh_forward, wrong, (normal(4, 3),))
    assert "cosine with the numeric gradient 0." in report.causes[0]


def test_a_single_number_off_by_any_factor_gets_no_invented_cause():
    report = check_grad(np.exp, lambda x: 1.234567 * np.exp(x), 0.3)
    assert not report.passed
    assert report.causes == []


PLANTED = {
    "sign": "logits: the sign is wrong everywhere",
    "quarter_for_half": "logvar: it is 1/2 times the numeric gradient everywhere: a constant factor (like -1/4",
    "no_batch_sum": "b: the sum over the batch (axis 0) is missing",
    "last_row_only": "b: only batch row 4 (the last) contributes; the sum over the batch is missing",
    "mean_for_sum": "W: it is 1/5 times the numeric gradient everywhere: a constant factor (5 is the batch size",
    "transposed": "W: the gradient is transposed",
    "fresh_noise": "logvar: backward draws fresh noise",
    "ignores_upstream": "x: backward ignores its upstream gradient",
    "in_place": "x: it is modified in place",
    "wrong_dtype": "x: the values are right, the dtype is not; a cast to float32",
    "never_computed": "W: the gradient is zero everywhere",
    "last_column": "W: it is wrong only at some entries: the last column (2)",
    "clamp": "x: it is wrong only at some entries: where the input is above",
    "swapped": "mu: this is the gradient of logvar; the order of the returned gradients is wrong",
    "softmax_term": "x: it is off by a term that is constant along axis 1",
    "not_finite": "x: not finite",
    "forgotten_path": "x: a term 1 times the upstream gradient is missing",
}


@pytest.mark.parametrize("seed", [0, 1])
def test_each_planted_mistake_is_diagnosed(seed):
    module = runpy.run_path(str(EXAMPLES / "planted_mistakes.py"))
    names = [key.removesuffix("_forward") for key in module if key.endswith("_forward")]
    assert names == list(PLANTED)
    for name in names:
        forward, backward, example = (module[name + ending] for ending in ("_forward", "_backward", "_example"))
        inputs = example(np.random.default_rng(seed))
        report = check_vjp(forward, backward, inputs, wrt=module.get(name + "_wrt"), seed=seed)
        assert not report.passed, name
        assert report.causes[0].startswith(PLANTED[name]), (name, report.causes)
        assert all(cause.split(":")[0] in PLANTED[name] or name == "swapped" for cause in report.causes), report.causes


def test_each_pair_of_the_homework_passes():
    module = runpy.run_path(str(EXAMPLES / "homework.py"))
    for name in (key.removesuffix("_forward") for key in module if key.endswith("_forward")):
        forward, backward, example = (module[name + ending] for ending in ("_forward", "_backward", "_example"))
        report = check_vjp(forward, backward, example(np.random.default_rng(1)), wrt=module.get(name + "_wrt"))
        assert report.passed, str(report)
        assert report.max_error < 1e-12


def test_the_checker_imports_numpy_and_nothing_heavier():
    code = (
        "import sys, vae_np.gradcheck; "
        "heavy = {'scipy', 'numba', 'cupy', 'matplotlib', 'typer', 'torch'}; "
        "print(*sorted({m.split('.')[0] for m in sys.modules} & heavy))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""
