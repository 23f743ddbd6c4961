"""What a pair promises beside its derivative, and what it may and may not return.

Budget: about 0.5 s.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
import pytest
from gradcheck_pairs import (
    X,
    affine_backward,
    affine_forward,
    affine_inputs,
    normal,
    notes_of,
    row_of,
    tanh_backward,
    tanh_forward,
)

from vae_np.errors import InputError
from vae_np.gradcheck import check_vjp

# --- the other promises -----------------------------------------------------------------------------------------------


def failed_check(report):
    return [check.name for check in report.checks if check.broken]


def test_a_forward_that_draws_noise_nobody_can_set_back_is_not_repeatable():
    fresh = lambda x: (x + np.random.default_rng().standard_normal(x.shape), None)  # noqa: E731
    report = check_vjp(fresh, lambda dout, _: dout, (normal(3),))
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
    assert "forward changes its input x in place" in report.warnings[0]
    assert "inputs unchanged" in failed_check(check_vjp(forward, tanh_backward, (x,), strict=True))
    np.testing.assert_array_equal(x, kept)

    def in_place(dout, out):
        dout *= 1 - out**2
        return dout

    report = check_vjp(tanh_forward, in_place, (x,))
    assert report.passed
    (warning,) = report.warnings
    assert "changes the upstream gradient" in warning
    assert "1 warning" in report.headline()
    assert f"warning: {warning}" in str(report)
    assert failed_check(check_vjp(tanh_forward, in_place, (x,), strict=True)) == ["inputs unchanged"]
    assert not check_vjp(tanh_forward, in_place, (x,), strict=True, allow="inplace_dout").warnings
    assert check_vjp(tanh_forward, in_place, (x,), strict=True, allow=("inplace_dout",)).passed


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


# --- what backward returns --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda dx, dW, db: (dx, dW, None), "backward returned None"),
        (lambda dx, dW, db: (dx, dW, db * np.nan), "not finite at 3 of 3 entries"),
        (lambda dx, dW, db: (dx, dW, db * np.inf), "not finite"),
        (lambda dx, dW, db: (dx, dW, db[None]), "gradient has shape (1, 3), expected (3,)"),
        (lambda dx, dW, db: (dx, dW, "no"), "backward returned a str"),
        (lambda dx, dW, db: (dx, dW, list(db)), "a list or a tuple"),
        (lambda dx, dW, db: (dx, dW, db + 0j), "expected real numbers"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_gradients_that_cannot_be_right_fail_with_a_line_of_their_own(change, text):
    report = check_vjp(affine_forward, lambda d, c: change(*affine_backward(d, c)), affine_inputs())
    assert [row.verdict for row in report.rows] == ["ok", "ok", "FAIL"]
    assert text in notes_of(report, "b")
    assert text in str(report)


def test_another_dtype_or_a_number_of_another_shape_is_a_warning():
    rounded = lambda d, c: tuple(g.astype(np.float32) for g in affine_backward(d, c))  # noqa: E731
    report = check_vjp(affine_forward, rounded, affine_inputs())
    assert report.passed
    assert "the gradient of b has dtype float32, expected float64" in report.warnings[0]
    assert not check_vjp(affine_forward, rounded, affine_inputs(), strict=True).passed
    assert check_vjp(affine_forward, rounded, affine_inputs(), strict=True, allow="dtype").passed
    wrong = lambda d, c: tuple(1.01 * g for g in rounded(d, c))  # noqa: E731
    assert not check_vjp(affine_forward, wrong, affine_inputs()).passed
    report = check_vjp(lambda s: (s * 2.0, None), lambda d, _: np.reshape(d * 2.0, (1,)), (np.array(3.0),))
    assert report.passed
    assert report.warnings == ["the gradient of s has shape (1,), expected ()"]
    assert not check_vjp(lambda s: (s * 2.0, None), lambda d, _: np.reshape(d, (1,)), (np.array(3.0),)).passed
    with pytest.raises(InputError, match="allow: got typo, expected some of accumulation, cache, clipping, dtype"):
        check_vjp(affine_forward, rounded, affine_inputs(), allow="typo")


@pytest.mark.parametrize(
    ("backward", "text"),
    [
        (lambda d, c: affine_backward(d, c)[:2], "backward returned 2 gradients for 3 array inputs (x, W, b)"),
        (lambda d, c: affine_backward(d, c)[1], "backward returned an array for 3 array inputs"),
        (lambda d, c: None, "backward returned None for 3 array inputs"),
        (lambda d, c: {"q": d}, "gradients for q; the inputs are x, W, b"),
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
        (lambda x: None, "no floating-point output"),
        (lambda x: (1, 2, 3), "no floating-point output"),
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
    with pytest.raises(InputError, match=r"wrt: got 'y', expected some of x, data"):
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


@dataclass(frozen=True)
class Weights:
    W: np.ndarray
    b: np.ndarray
    name: str = "dense"


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_dataclasses_hold_inputs_and_gradients(factor):
    def forward(x, weights):
        return x @ weights.W + weights.b, (x, weights)

    def backward(dout, cache):
        x, weights = cache
        return dout @ weights.W.T, Weights(x.T @ dout, factor * dout.sum(0))

    x, W, b = affine_inputs()
    report = check_vjp(forward, backward, (x, Weights(W, b)))
    assert [row.tensor for row in report.rows] == ["x", "weights.W", "weights.b"]
    assert [row.verdict for row in report.rows] == ["ok", "ok", "ok" if factor == 1.0 else "FAIL"]


def test_gradients_may_come_by_name():
    report = check_vjp(
        affine_forward, lambda d, c: dict(zip(["x", "W", "b"], affine_backward(d, c), strict=True)), affine_inputs()
    )
    assert report.passed


def test_names_label_the_rows():
    report = check_vjp(affine_forward, affine_backward, affine_inputs(), names=["data", "weight", "bias"])
    assert [row.tensor for row in report.rows] == ["data", "weight", "bias"]
    with pytest.raises(InputError, match="names: got 2, expected 3, one per input"):
        check_vjp(affine_forward, affine_backward, affine_inputs(), names=["a", "b"])


def test_misuse_is_one_clear_line():
    with pytest.raises(InputError, match=r"methods: got autograd, expected some of auto, central"):
        check_vjp(tanh_forward, tanh_backward, (X,), methods="autograd")
    with pytest.raises(InputError, match="convention: got None with a complex input, expected 'torch'"):
        check_vjp(tanh_forward, tanh_backward, (X + 0j,))
    with pytest.raises(InputError, match="max_entries: got 0, expected a positive number"):
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
