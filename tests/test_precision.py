"""Rounding to bfloat16 and products of what is rounded, in plain NumPy. Budget: below a second."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vae_np import ops
from vae_np.choices import PRECISIONS
from vae_np.precision import ReducedOps, product, round_to_bfloat16

RNG = np.random.default_rng(5)
# Half a unit in the last of 8 bits, as a share of the number.
UNIT = 2.0**-8


def some_numbers() -> Any:
    """Numbers of all sizes, and those at which rounding can go wrong."""
    spread = (RNG.standard_normal(10_000) * 2.0 ** RNG.integers(-120, 120, 10_000)).astype(np.float32)
    ties = (RNG.integers(0, 2**16, 1000).astype(np.uint32) << 16 | 0x8000).view(np.float32)
    return np.concatenate([spread, ties[np.isfinite(ties)], np.float32([0, -0.0, 1, 1e-40, -1e-45, 3.4e38, np.inf])])


def test_rounding_goes_to_the_nearest_number_and_to_the_even_one_of_two() -> None:
    one = np.float32(1)
    for given, right in (
        (one + np.float32(2.0**-8), 1.0),
        (one + np.float32(3 * 2.0**-8), 1 + 2.0**-6),
        (one + np.float32(2.0**-8 + 2.0**-20), 1 + 2.0**-7),
        (one + np.float32(2.0**-8 - 2.0**-20), 1.0),
    ):
        assert round_to_bfloat16(np.array([given, -given])).tolist() == [right, -right]


def test_rounding_is_that_of_another_library() -> None:
    theirs = pytest.importorskip("ml_dtypes")
    given = some_numbers()
    normal = given[(np.abs(given) >= np.finfo(np.float32).tiny) | (given == 0)]
    np.testing.assert_array_equal(round_to_bfloat16(normal), normal.astype(theirs.bfloat16).astype(np.float32))


def test_what_rounding_keeps() -> None:
    given = some_numbers()
    found = round_to_bfloat16(given)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(round_to_bfloat16(found), found)
    np.testing.assert_array_equal(np.signbit(found), np.signbit(given))
    inside = (np.abs(given) >= np.finfo(np.float32).tiny) & (np.abs(given) < 3e38)
    assert (np.abs(found[inside] - given[inside].astype(float)) <= UNIT * np.abs(given[inside])).all()
    assert (found[np.abs(given) < np.finfo(np.float32).tiny] == 0).all()
    assert np.isnan(round_to_bfloat16(np.float32([np.nan]))).all()
    assert round_to_bfloat16(np.float64([1 + 2.0**-8 + 2.0**-12])).tolist() == [1 + 2.0**-7]


@pytest.mark.parametrize(("precision", "bound"), [("bf16", 2 * UNIT + UNIT**2), ("bf16x3", 3.1 * UNIT**2)])
def test_products_stay_within_their_bound(precision: str, bound: float) -> None:
    a, b = RNG.standard_normal((9, 300)), RNG.standard_normal((300, 7))
    worst = np.abs(product(a, b, precision) - a @ b) / (np.abs(a) @ np.abs(b))
    assert 0 < worst.max() <= bound


def test_binary_numbers_are_exact() -> None:
    x, weight = RNG.integers(0, 2, (5, 40)).astype(np.float64), round_to_bfloat16(RNG.standard_normal((40, 3)))
    np.testing.assert_array_equal(product(x, weight, "bf16"), x @ weight)


def test_full_products_are_the_contract() -> None:
    x, weight, bias = RNG.standard_normal((4, 6)), RNG.standard_normal((6, 5)), RNG.standard_normal(5)
    for precision, tolerance in zip(PRECISIONS, (0, 2e-2, 1e-4), strict=True):
        reduced: Any = ReducedOps(precision)
        (y, cache), (right, its) = (of.affine_act_forward(x, weight, bias, "tanh") for of in (reduced, ops))
        np.testing.assert_allclose(y, right, atol=tolerance, rtol=0)
        for mine, other in zip(reduced.affine_act_backward(y, cache), ops.affine_act_backward(y, its), strict=True):
            np.testing.assert_allclose(mine, other, atol=tolerance, rtol=0)
        assert reduced.affine_act_backward(y, cache, input_gradient=False)[0] is None
        assert reduced.affine_act_backward(y, cache, weight_gradient=False)[1:] == (None, None)
