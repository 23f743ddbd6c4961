"""The ways in which numeric derivatives are fooled: operations that lose the imaginary part, kinks and jumps.

Budget: about 0.5 s.
"""

from __future__ import annotations

import numpy as np
import pytest
from gradcheck_pairs import (
    X,
    normal,
    notes_of,
    relu_backward,
    relu_forward,
    row_of,
)

from vae_np.gradcheck import check_grad, check_vjp

# --- the ways in which the complex step is fooled ---------------------------------------------------------------------


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


# --- kinks ------------------------------------------------------------------------------------------------------------


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
