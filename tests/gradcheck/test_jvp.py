"""Forward mode, second order, complex inputs, and Taylor's remainder beside the numeric check.

Budget: about 2 s.
"""

from __future__ import annotations

import numpy as np
import pytest
from gradcheck_pairs import normal, tanh_backward, tanh_forward

from vae_np.errors import InputError
from vae_np.gradcheck import check_grad, check_hvp, check_jvp, check_vjp

X, W = normal(4, 3), normal(3, 3, seed=1)


def f(x):
    return np.tanh(x @ W)


def jvp(x, v, factor=1.0):
    return factor * (1 - np.tanh(x @ W) ** 2) * (v @ W)


# --- forward mode -----------------------------------------------------------------------------------------------------


def test_a_right_jvp_passes_and_a_wrong_one_fails_at_its_entry():
    report = check_jvp(f, jvp, X)
    assert report.passed
    assert report.rows[0].method == "complex step"
    assert report.max_error < 1e-13
    assert check_jvp(f, jvp, X, normal(4, 3, seed=2)).passed
    assert not check_jvp(f, lambda x, v: jvp(x, v, 1 + 1e-8), X).passed

    def one_entry(x, v):
        out = jvp(x, v)
        out[2, 1] *= 1.01
        return out

    report = check_jvp(f, one_entry, X)
    assert report.rows[0].index == (2, 1)
    assert not report.passed
    report = check_jvp(f, lambda x, v: np.abs(jvp(x, v)), X)
    assert [check.name for check in report.checks if not check.passed] == ["linear in v"]


def test_jvp_of_trees_kinks_and_functions_that_refuse_complex_numbers():
    tree = {"a": X, "b": (normal(3), normal(2))}
    of_tree = lambda t: t["a"].sum() * t["b"][0]  # noqa: E731
    along = lambda t, v: v["a"].sum() * t["b"][0] + t["a"].sum() * v["b"][0]  # noqa: E731
    assert check_jvp(of_tree, along, tree).passed
    assert not check_jvp(of_tree, lambda t, v: v["a"].sum() * t["b"][0], tree).passed
    softplus = lambda x: np.logaddexp(0, x)  # noqa: E731
    report = check_jvp(softplus, lambda x, v: v / (1 + np.exp(-x)), X)
    assert report.passed
    assert report.rows[0].method == "central differences"
    relu = lambda x: np.maximum(x, 0)  # noqa: E731
    report = check_jvp(relu, lambda x, v: v * (x > 0), np.array([0.0, 1.0, -1.0]))
    assert report.passed
    assert len(report.rows[0].kinks) == 1
    with pytest.raises(InputError, match=r"v: got shapes \(3,\), expected those of x: \(4, 3\)"):
        check_jvp(f, jvp, X, normal(3))


# --- second order -----------------------------------------------------------------------------------------------------


def test_hessian_vector_products():
    A = normal(3, 3)
    value = lambda x: np.sin(x).sum() + 0.5 * x @ A @ x  # noqa: E731
    grad = lambda x: np.cos(x) + 0.5 * (A + A.T) @ x  # noqa: E731
    hvp = lambda x, v: -np.sin(x) * v + 0.5 * (A + A.T) @ v  # noqa: E731
    x = normal(3)
    assert check_hvp(grad, hvp, x).passed
    assert check_hvp(grad, hvp, x, f=value).passed
    assert not check_hvp(grad, lambda x, v: 1.01 * hvp(x, v), x).passed
    assert not check_hvp(lambda x: 2 * grad(x), hvp, x, f=value).passed
    one_sided = lambda x, v: -np.sin(x) * v + A @ v  # noqa: E731
    report = check_hvp(lambda x: np.cos(x) + A @ x, one_sided, x)
    assert [check.name for check in report.checks if not check.passed] == ["symmetric"]


# --- complex inputs ---------------------------------------------------------------------------------------------------


def spectrum_forward(z):
    return (np.abs(z) ** 2).sum(), z


@pytest.mark.parametrize(("convention", "sign"), [("torch", 1), ("jax", -1)])
def test_complex_inputs_in_both_conventions(convention, sign):
    z = normal(3, 2) + 1j * normal(3, 2, seed=1)
    follow = (lambda g: g) if sign == 1 else np.conj
    backward = lambda dout, z: 2 * dout * follow(z)  # noqa: E731
    report = check_vjp(spectrum_forward, backward, (z,), convention=convention)
    assert report.passed, str(report)
    assert f"complex gradients as in {convention}" in report.reading
    other = "jax" if convention == "torch" else "torch"
    assert not check_vjp(spectrum_forward, backward, (z,), convention=other).passed
    # A complex output: out = z w, with w complex, too.
    w = normal(3, 2, seed=2) + 1j * normal(3, 2, seed=3)
    conj = np.conj if sign == 1 else (lambda g: g)
    product = lambda z, w: (z * w, (z, w))  # noqa: E731
    pull = lambda d, c: (d * conj(c[1]), d * conj(c[0]))  # noqa: E731
    assert check_vjp(product, pull, (z, w), convention=convention).passed
    assert not check_vjp(product, pull, (z, w), convention=other).passed


# --- Taylor's remainder -----------------------------------------------------------------------------------------------


def test_taylors_remainder_has_a_verdict_of_its_own():
    report = check_vjp(tanh_forward, tanh_backward, (X,))
    assert (report.taylor.verdict, round(report.taylor.order)) == ("right", 2)
    report = check_vjp(tanh_forward, lambda d, o: 1.01 * tanh_backward(d, o), (X,))
    assert (report.taylor.verdict, round(report.taylor.order)) == ("wrong", 1)
    assert "Taylor: wrong (remainder of order 1.0" in str(report)
    linear = check_grad(lambda x: x.sum(), np.ones_like, X)
    assert linear.taylor.verdict == "right"
    assert "at rounding from the first step" in str(linear.taylor)
    cubic = check_grad(lambda x: (x**3).sum(), lambda x: 3 * x**2, np.zeros(4), further=False)
    assert cubic.taylor.order == pytest.approx(3.0, abs=0.1)
    single = check_vjp(tanh_forward, tanh_backward, (X.astype(np.float32),))
    assert single.taylor.verdict == "none"
    assert single.to_dict()["taylor"]["order"] is None
