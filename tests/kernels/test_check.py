"""The comparison that every kernel has to pass must itself notice errors. Budget: about 0.1 s."""

from __future__ import annotations

import numpy as np
import pytest

from vae_np.errors import InputError
from vae_np.kernels.check import compare, compare_all

NAN, INF = np.nan, np.inf


def test_error_is_relative_to_the_largest_reference_entry() -> None:
    found = compare(np.array([[1.0, 4.0], [2.5, 0.0]]), np.array([[1.0, 4.0], [2.0, 0.0]]))
    assert found.error == 0.5 / 4
    assert found.index == (1, 0)
    assert (found.result, found.reference) == (2.5, 2.0)
    assert "worst at [1, 0]: got 2.5, expected 2.0" in found.worst


def test_equal_arrays_have_no_error() -> None:
    values = np.array([0.0, -1.5, NAN, INF, -INF], dtype=np.float32)
    assert compare(values, values.astype(np.float64)).error == 0.0


@pytest.mark.parametrize(
    ("result", "reference"),
    [(NAN, 1.0), (1.0, NAN), (INF, 1.0), (1.0, INF), (INF, -INF), (-INF, INF), (NAN, INF), (INF, NAN)],
)
def test_nan_and_infinity_must_match_in_position_and_sign(result: float, reference: float) -> None:
    found = compare(np.array([1.0, result, 2.0]), np.array([1.0, reference, 2.0]))
    assert found.error == INF
    assert found.index == (1,)


def test_a_nan_does_not_hide_another_error() -> None:
    found = compare(np.array([NAN, 1.0, 3.0]), np.array([NAN, 1.0, 2.0]))
    assert (found.error, found.index) == (0.5, (2,))


def test_a_zero_reference_asks_for_exact_zeros() -> None:
    assert compare(np.array([0.0, -0.0]), np.zeros(2)).error == 0.0
    assert compare(np.array([0.0, 1e-300]), np.zeros(2)).error == INF
    assert compare(np.array([NAN, 1e-30]), np.array([NAN, 0.0])).error == INF


def test_bytes_complex_scalars_and_empty_arrays() -> None:
    assert compare(np.array([0, 255], dtype=np.uint8), np.array([1, 255], dtype=np.uint8)).error == 1 / 255
    assert compare(np.array([1 + 1j]), np.array([1 + 0j])).error == 1.0
    assert compare(3.0, 4.0).error == 0.25
    assert compare(np.zeros((0, 3)), np.zeros((0, 3))).error == 0.0


def test_shapes_and_names_must_agree() -> None:
    with pytest.raises(InputError, match=r"result: got shape \(2, 1\), expected \(2,\)"):
        compare(np.zeros((2, 1)), np.zeros(2))
    with pytest.raises(InputError, match="results: got"):
        compare_all({"a": np.zeros(1)}, {"b": np.zeros(1)})
    assert compare_all({"a": np.ones(1)}, {"a": np.ones(1)})["a"].error == 0.0


def test_check_names_what_is_wrong_and_refuses_nan() -> None:
    found = compare(np.array([1.0, 2.1]), np.array([1.0, 2.0]))
    found.check(0.06)
    with pytest.raises(AssertionError, match=r"dW: error 0.05, worst at \[1\]: got 2.1, expected 2.0; tolerance 0.01"):
        found.check(0.01, "dW")
    with pytest.raises(AssertionError, match="tolerance nan"):
        found.check(NAN)
