"""What data mean: how it is decided, what fits it, how it is stored, standardised, and kept with a model.

Budget: about 1 s.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vae_np import data
from vae_np.data import BINARY, BYTE, REAL, UNIT, Span, Standardisation, Values, mapped
from vae_np.errors import DataError


def decided(x: Any, likelihood: str = "bernoulli", **named: Any) -> Values:
    array = np.asarray(x)
    return data.decide(data.scan(array, "x"), array.dtype, likelihood, what="x", **named)


class TestDecide:
    @pytest.mark.parametrize(
        ("row", "dtype", "values"),
        [
            ([0, 1, 1, 0], np.uint8, BINARY),
            ([0, 1, 1, 0], bool, BINARY),
            ([0, 1, 1, 0], np.float64, BINARY),
            ([0, 128, 1, 0], np.uint8, BYTE),
            ([0, 255, 1, 0], np.int64, BYTE),
            ([0, 255, 1, 0], np.float32, BYTE),
            ([0, 0.5, 1, 0], np.float64, UNIT),
            ([0, 0.5, 0, 0], np.float16, UNIT),
            ([0, 256, 1, 0], np.int16, REAL),
            ([0, -1, 1, 0], np.int8, REAL),
            ([0, 0.5, 2, 0], np.float32, REAL),
        ],
    )
    def test_for_a_bernoulli_likelihood(self, row: list[float], dtype: object, values: Values) -> None:
        x = np.array([row], dtype)
        for likelihood in ("bernoulli", "bernoulli-grey"):
            found = decided(x, likelihood)
            assert (found.kind, found.scale) == (values.kind, values.scale)
            assert found.span == data.scan(x, "x")

    @pytest.mark.parametrize(
        ("row", "dtype", "values"),
        [
            ([0, 1, 1, 0], np.uint8, BINARY),
            ([0, 1, 1, 0], np.int64, BINARY),
            ([0, 1, 1, 0], np.float64, REAL),
            ([0, 0.5, 1, 0], np.float32, REAL),
            ([0, 255, 1, 0], np.uint8, BYTE),
            ([0, 128, 1, 0], np.uint8, BYTE),
            ([0, 99, 1, 0], np.float64, REAL),
            ([5, 10, 3, 1], np.int64, REAL),
            ([5, 200, 3, 1], np.int64, REAL),
            ([-1, 3, 5, 10], np.int64, REAL),
        ],
    )
    def test_for_a_normal_likelihood(self, row: list[float], dtype: object, values: Values) -> None:
        for likelihood in ("normal", "normal-fixed", "normal-diagonal"):
            found = decided(np.array([row], dtype), likelihood)
            assert (found.kind, found.scale) == (values.kind, values.scale)

    @pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float64])
    @pytest.mark.parametrize("high", [2, 16, 100, 127])
    def test_levels_are_not_taken_for_bytes(self, dtype: type, high: int) -> None:
        with pytest.raises(DataError, match=rf"^scale: x has whole numbers from 0 to {high}, .*--scale {high} .*255"):
            decided(np.array([[0, high]], dtype))

    @pytest.mark.parametrize(
        "x", [np.array([[0, 99]], np.uint8), np.array([[0, 255]], np.int64), np.array([[0.0, 255.0]])]
    )
    def test_what_may_be_grey_or_numbers_is_asked_for(self, x: np.ndarray) -> None:
        with pytest.raises(DataError, match=r"^values: x has whole numbers from 0 to \d+ as \w+, .*--values real"):
            decided(x, "normal")

    @pytest.mark.parametrize(
        ("row", "named", "values"),
        [
            ([0, 16], {"scale": 16}, Values("unit", 16.0)),
            ([0, 16], {"scale": 255}, BYTE),
            ([0, 0.5], {"scale": 255}, Values("unit", 255.0)),
            ([0, 1], {"scale": 1}, BINARY),
            ([0, 0.5], {"scale": 1}, UNIT),
            ([0, 16], {"kind": "byte"}, BYTE),
            ([0, 1], {"kind": "byte"}, BYTE),
            ([0, 1], {"kind": "unit"}, UNIT),
            ([0, 1], {"kind": "real"}, REAL),
            ([0, 100], {"kind": "unit", "scale": 100}, Values("unit", 100.0)),
        ],
    )
    def test_what_is_named_is_taken(self, row: list[float], named: dict[str, Any], values: Values) -> None:
        for likelihood in ("bernoulli", "normal"):
            found = decided([row], likelihood, **named)
            assert (found.kind, found.scale) == (values.kind, values.scale)

    @pytest.mark.parametrize(
        ("row", "named", "message"),
        [
            ([0, 17], {"scale": 16}, "x: got whole numbers from 0 to 17, expected numbers from 0 to 16"),
            ([-1, 1], {"scale": 16}, "x: got whole numbers from -1 to 1, expected numbers from 0 to 16"),
            ([0, 2], {"kind": "binary"}, "x: got whole numbers from 0 to 2, expected only 0 and 1"),
            ([0, 0.5], {"kind": "byte"}, "x: got numbers from 0 to 0.5, expected whole numbers from 0 to 255"),
            ([0, 1], {"kind": "grey"}, "values: got 'grey', expected one of binary, byte, unit, real"),
            ([0, 1], {"kind": "byte", "scale": 16}, "scale: got 16, expected 255 for values 'byte'"),
            ([0, 1], {"kind": "real", "scale": 16}, "scale: got 16, but values 'real' have none"),
            ([0, 1], {"scale": 0}, "scale: got 0, expected a finite number > 0"),
            ([0, 1], {"scale": float("inf")}, "scale: got inf, expected a finite number > 0"),
        ],
    )
    def test_what_is_named_has_to_fit(self, row: list[float], named: dict[str, Any], message: str) -> None:
        with pytest.raises(DataError, match=f"^{message}"):
            decided([row], **named)


class TestFit:
    @pytest.mark.parametrize(
        ("values", "good", "bad"),
        [
            (BINARY, [[0, 1], [0, 0], [1, 1]], [[0, 2], [0, 0.5], [-1, 1]]),
            (BYTE, [[0, 1], [0, 255], [7, 7]], [[0, 256], [0, 0.5], [-1, 3]]),
            (UNIT, [[0, 1], [0, 0.5]], [[0, 1.5], [0, 255], [-0.5, 1]]),
            (Values("unit", 16.0), [[0, 16], [0, 0.5]], [[0, 17], [-1, 3]]),
            (REAL, [[0, 1], [-3, 4.5], [0, 255]], []),
        ],
    )
    def test_later_arrays_fit_or_are_refused_with_both_ranges(
        self, values: Values, good: list[list[float]], bad: list[list[float]]
    ) -> None:
        fitted = replace(values, span=Span(0, 1, True))
        for row in good:
            fitted.check(data.scan(np.array([row]), "x"), "x")
        for row in bad:
            span = data.scan(np.array([row]), "x")
            with pytest.raises(DataError) as refused:
                fitted.check(span, "validation")
            assert str(refused.value).startswith(f"validation: got {span}, expected {values.expected}; the training")
            assert "whole numbers from 0 to 1" in str(refused.value)

    @pytest.mark.parametrize(
        ("values", "row", "named"),
        [
            (BYTE, [0, 0.5], "'unit'"),
            (BINARY, [0, 200], "'byte'"),
            (BINARY, [0, 0.5], "'unit'"),
            (UNIT, [0, 7], "'byte'"),
        ],
    )
    def test_the_refusal_names_what_the_array_may_hold(self, values: Values, row: list[float], named: str) -> None:
        with pytest.raises(DataError, match=f"; what it holds can be named: values {named}$"):
            values.check(data.scan(np.array([row]), "x"), "x")


class TestStorage:
    @pytest.mark.parametrize(
        ("values", "dtype", "stored"),
        [
            (BINARY, np.uint8, np.uint8),
            (BINARY, bool, np.uint8),
            (BINARY, np.float64, np.uint8),
            (BYTE, np.int64, np.uint8),
            (BYTE, np.float32, np.uint8),
            (UNIT, np.float64, np.float32),
            (UNIT, np.float16, np.float32),
            (UNIT, ">f4", np.float32),
            (Values("unit", 16.0), np.uint8, np.uint8),
            (Values("unit", 16.0), np.uint16, np.uint16),
            (Values("unit", 16.0), np.int64, np.float32),
            (REAL, np.int8, np.float32),
            (REAL, np.int16, np.float32),
            (REAL, np.int32, np.float64),
            (REAL, np.float32, np.float32),
            (REAL, ">f8", np.float64),
        ],
    )
    def test_dtypes(self, values: Values, dtype: Any, stored: type) -> None:
        x = np.array([[0, 1], [1, 0]], dtype)
        rows = values.convert(x)
        assert rows.dtype == stored
        assert rows.dtype.isnative
        assert np.array_equal(rows, x)
        assert np.shares_memory(rows, x) == (np.dtype(dtype) == stored)


class TestStandardisation:
    def columns(self, rows: int = 500) -> np.ndarray:
        """A large mean with a small spread, a large spread, and two constant columns, one of no exact mean."""
        x = np.random.default_rng(3).normal(size=(rows, 4)) * (0.01, 4e4, 0, 0) + (1e5, -20, 0.3, 7)
        assert x[:, 2].mean() != 0.3
        return x

    def test_columns_have_mean_0_and_sigma_1_and_constant_ones_become_0(self) -> None:
        x = self.columns()
        values = REAL.standardised(x)
        assert values.standardisation is not None
        np.testing.assert_allclose(values.standardisation.mean, x.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(values.standardisation.sigma[:2], x.std(axis=0)[:2], rtol=1e-9)
        assert values.standardisation.sigma[2:].tolist() == [1, 1]
        seen = values.to_model(x)
        np.testing.assert_allclose(seen[:, :2].mean(axis=0), 0, atol=1e-6)
        np.testing.assert_allclose(seen[:, :2].std(axis=0), 1, rtol=1e-9)
        assert (seen[:, 2:] == 0).all()

    def test_it_is_undone(self) -> None:
        x = self.columns()
        values = REAL.standardised(x)
        np.testing.assert_allclose(values.from_model(values.to_model(x)), x, rtol=1e-14, atol=1e-10)
        assert REAL.from_model(x) is x

    def test_float32_rows_keep_their_digits_under_a_large_mean(self) -> None:
        x = self.columns().astype(np.float32)
        values = REAL.standardised(x)
        seen = values.to_model(x)
        assert seen.dtype == np.float32
        exact = (x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)) / np.where(np.ptp(x, axis=0) > 0, x.std(
            axis=0, dtype=np.float64), 1)
        np.testing.assert_allclose(seen[:, :2], exact[:, :2], rtol=1e-6, atol=1e-6)

    def test_the_log_determinant_is_minus_the_sum_of_log_sigma(self) -> None:
        values = replace(REAL, standardisation=Standardisation(np.zeros(3), np.array([2.0, 0.5, 10.0])))
        assert values.log_det_jacobian == pytest.approx(-np.log(10.0), rel=1e-14)
        assert REAL.log_det_jacobian == BYTE.log_det_jacobian == 0

    def test_parts_of_a_file_give_the_same(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        x = self.columns(50)
        np.save(tmp_path / "x.npy", x)
        whole = Standardisation.of(x)
        monkeypatch.setattr(mapped, "_CHUNK_ELEMENTS", 13)
        parts = Standardisation.of(np.load(tmp_path / "x.npy", mmap_mode="r"))
        np.testing.assert_allclose(parts.mean, whole.mean, rtol=1e-13)
        np.testing.assert_allclose(parts.sigma, whole.sigma, rtol=1e-10)

    def test_what_has_no_finite_sigma_is_named(self) -> None:
        with pytest.raises(DataError, match=r"^x: column 1 \(counted from 0\) runs from -1e\+200 to 1e\+200, expected"):
            REAL.standardised(np.array([[1, -1e200], [2, 1e200]]), "x")

    @pytest.mark.parametrize("values", [BINARY, BYTE, UNIT])
    def test_grey_is_not_standardised(self, values: Values) -> None:
        with pytest.raises(DataError, match=r"^standardize: x holds .*, expected real values"):
            values.standardised(np.ones((2, 2), np.uint8), "x")


class TestRecord:
    @pytest.mark.parametrize(
        "values",
        [
            BINARY,
            replace(BYTE, span=Span(0, 230, True)),
            Values("unit", 16.0, Span(0.1, 15.7, False)),
            REAL.standardised(np.random.default_rng(1).normal(size=(9, 3)) * 1e3 + 0.1),
        ],
        ids=lambda values: values.kind,
    )
    def test_it_comes_back_from_json_to_the_bit(self, values: Values) -> None:
        held = values.to_mapping()
        back = Values.from_mapping(json.loads(json.dumps(held)), 3)
        assert (back.kind, back.scale, back.span) == (values.kind, values.scale, values.span)
        assert back.to_mapping() == held

    @pytest.mark.parametrize(
        "change",
        [
            {"kind": "grey"},
            {"scale": -1},
            {"scale": "wide"},
            {"span": [1]},
            {"standardisation": {"mean": [0, 0], "sigma": [1, 1]}},
            {"standardisation": {"mean": [0, 0, 0], "sigma": [1, 0, 1]}},
            {"standardisation": {"mean": [0, float("nan"), 0], "sigma": [1, 1, 1]}},
            {"standardisation": {"mean": [0, 0, 0]}},
            {"kind": "byte", "scale": 255, "standardisation": {"mean": [0, 0, 0], "sigma": [1, 1, 1]}},
        ],
    )
    def test_a_damaged_one_is_refused(self, change: dict[str, Any]) -> None:
        with pytest.raises(DataError, match=r"^(values|scale): "):
            Values.from_mapping({**REAL.to_mapping(), **change}, 3)
        whole = REAL.to_mapping()
        del whole["kind"]
        with pytest.raises(DataError, match=r"^values: cannot be read"):
            Values.from_mapping(whole, 3)

    @pytest.mark.parametrize(
        ("train", "test", "values"),
        [
            (Span(0, 99, True), Span(0, 1, True), BYTE),
            (Span(0, 1, True), Span(0, 7, True), BYTE),
            (Span(0, 1, True), Span(0, 0.5, False), UNIT),
            (Span(0, 1, True), Span(0, 1, True), BINARY),
            (Span(0, 7, True), Span(-1, 1, True), REAL),
        ],
    )
    def test_runs_without_one_keep_the_values_they_were_trained_with(
        self, train: Span, test: Span, values: Values
    ) -> None:
        rows = {span: np.array([[span.low, span.high]]) for span in (train, test)}
        found = data.from_arrays(rows[train], rows[test], as_before=True).values
        assert (found.kind, found.scale) == (values.kind, values.scale)
