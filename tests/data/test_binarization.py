"""Which values suit which likelihood, and what the model sees of them.

Budget: about 1 s.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from samples import grey

from vae_np import data, noise
from vae_np.data import BINARY, BYTE, REAL, UNIT, Values
from vae_np.errors import ConfigError, DataError

ODD = replace(REAL, span=data.Span(-0.3, 400.0, False))


class TestCheckValues:
    @pytest.mark.parametrize(
        ("values", "likelihood", "binarize"),
        [
            *(
                (BINARY, likelihood, mode)
                for likelihood in ("bernoulli", "normal")
                for mode in data.BINARIZATIONS
            ),
            *(
                (grey, "bernoulli", mode)
                for grey in (BYTE, UNIT)
                for mode in ("dynamic", "fixed", "threshold")
            ),
            *(
                (grey, name, "none")
                for grey in (BYTE, UNIT)
                for name in ("bernoulli-grey", "normal", "normal-fixed")
            ),
            *((REAL, name, "none") for name in ("normal", "normal-fixed", "normal-diagonal")),
        ],
    )
    def test_allowed(self, values: Values, likelihood: str, binarize: str) -> None:
        data.check_values("x", values, likelihood, binarize)

    @pytest.mark.parametrize(
        ("values", "likelihood", "binarize", "remedy"),
        [
            (
                BYTE,
                "bernoulli",
                "none",
                "use binarize 'dynamic', 'fixed' or 'threshold', or .*'bernoulli-grey'",
            ),
            (
                UNIT,
                "bernoulli",
                "none",
                "use binarize 'dynamic', 'fixed' or 'threshold', or .*'bernoulli-grey'",
            ),
            (BYTE, "normal", "dynamic", "use binarize 'none'"),
            (BYTE, "bernoulli-grey", "fixed", "use binarize 'none', or likelihood 'bernoulli'"),
            (ODD, "bernoulli", "dynamic", "the data have numbers from -0.3 to 400; use likelihood 'normal'"),
            (ODD, "bernoulli-grey", "none", "the data have numbers from -0.3 to 400; use likelihood 'normal'"),
            (REAL, "bernoulli", "dynamic", "the data have real values; use likelihood 'normal'"),
            (REAL, "normal", "dynamic", "use binarize 'none'"),
        ],
    )
    def test_refused_with_the_remedy(
        self, values: Values, likelihood: str, binarize: str, remedy: str
    ) -> None:
        with pytest.raises(DataError, match=f"^x: .*{remedy}"):
            data.check_values("x", values, likelihood, binarize)

    def test_values_that_a_scale_would_make_grey_are_told_so(self) -> None:
        span = data.Span(0, 65535, True)
        with pytest.raises(DataError, match="name the scale on which 1 is white, such as scale 65535"):
            data.check_values("x", replace(REAL, span=span), "bernoulli", "dynamic")

    def test_unknown_binarisation(self) -> None:
        with pytest.raises(
            ConfigError, match="binarize: got 'static', expected one of dynamic, fixed, threshold, none"
        ):
            data.check_values("x", BINARY, "bernoulli", "static")


class TestPrepare:
    def prepare(
        self,
        batch: np.ndarray,
        values: data.Values,
        mode: str,
        *,
        stream: int = noise.BINARIZE,
        step: int = 7,
    ) -> np.ndarray:
        rows = np.arange(100, 100 + len(batch))
        return data.prepare(batch, values, mode, seed=5, stream=stream, step=step, rows=rows)

    def draw(self, batch: np.ndarray, *, stream: int, step: int) -> np.ndarray:
        return noise.bernoulli(batch, seed=5, stream=stream, step=step, rows=np.arange(100, 100 + len(batch)))

    def test_dynamic_is_the_draw_of_stream_step_and_rows(self) -> None:
        x = grey(20, 30)
        drawn = self.prepare(x, BYTE, "dynamic")
        assert drawn.dtype == np.uint8
        assert np.array_equal(drawn, self.draw(x, stream=noise.BINARIZE, step=7))
        assert not np.array_equal(drawn, self.prepare(x, BYTE, "dynamic", step=8))

    def test_dynamic_draws_with_the_grey_probability(self) -> None:
        x = np.full((200, 500), 51, np.uint8)
        p = 0.2
        drawn = self.prepare(x, BYTE, "dynamic")
        assert abs(drawn.mean() - p) < 4 * np.sqrt(p * (1 - p) / drawn.size)
        assert np.array_equal(
            drawn, self.prepare(np.full((200, 500), 51 / 255, np.float32), UNIT, "dynamic")
        )

    def test_a_row_keeps_its_draw_however_the_batch_is_split(self) -> None:
        x = grey(10, 30)
        whole = self.prepare(x, BYTE, "dynamic")
        part = data.prepare(
            x[4:7], BYTE, "dynamic", seed=5, stream=noise.BINARIZE, step=7, rows=np.arange(104, 107)
        )
        assert np.array_equal(whole[4:7], part)

    def test_fixed_gives_training_rows_one_draw_for_all_steps(self) -> None:
        x = grey(20, 30)
        drawn = self.prepare(x, BYTE, "fixed", step=7)
        assert np.array_equal(drawn, self.prepare(x, BYTE, "fixed", step=8))
        assert np.array_equal(drawn, self.draw(x, stream=noise.FIXED_BINARIZE, step=0))

    def test_fixed_leaves_the_evaluation_streams_alone(self) -> None:
        x = grey(20, 30)
        drawn = self.prepare(x, BYTE, "fixed", stream=noise.EVAL_BINARIZE, step=0)
        assert np.array_equal(drawn, self.draw(x, stream=noise.EVAL_BINARIZE, step=0))
        assert np.array_equal(drawn, self.prepare(x, BYTE, "dynamic", stream=noise.EVAL_BINARIZE, step=0))

    def test_threshold_is_at_one_half(self) -> None:
        drawn = self.prepare(np.array([[0, 127, 128, 255]], np.uint8), BYTE, "threshold")
        assert drawn.dtype == np.uint8
        assert drawn.tolist() == [[0, 0, 1, 1]]
        assert self.prepare(np.array([[0.49, 0.5, 1]], np.float32), UNIT, "threshold").tolist() == [
            [0, 1, 1]
        ]

    def test_none_gives_grey_as_float32_in_the_unit_interval(self) -> None:
        x = np.arange(256, dtype=np.uint8)[None]
        prepared = self.prepare(x, BYTE, "none")
        assert prepared.dtype == np.float32
        assert np.array_equal(prepared, x.astype(np.float32) / np.float32(255))
        unit = np.array([[0.25, 1]], np.float32)
        assert np.array_equal(self.prepare(unit, UNIT, "none"), unit)

    @pytest.mark.parametrize("mode", data.BINARIZATIONS)
    def test_binary_data_stay_as_they_are(self, mode: str) -> None:
        x = np.array([[0, 1, 1, 0]], np.uint8)
        prepared = self.prepare(x, BINARY, mode)
        assert prepared.dtype == np.uint8
        assert np.array_equal(prepared, x)

    def test_real_values_pass_and_are_never_binarised(self) -> None:
        x = np.array([[0.5, -3.0]])
        assert np.array_equal(self.prepare(x, REAL, "none"), x)
        for mode in ("dynamic", "fixed", "threshold"):
            with pytest.raises(DataError, match=f"binarize: got '{mode}' for real values"):
                self.prepare(x, REAL, mode)

    def test_memory_mapped_rows_become_plain_arrays(self, tmp_path: Path) -> None:
        np.save(tmp_path / "x.npy", grey(20, 4))
        loaded = data.load(str(tmp_path / "x.npy"))
        for mode in data.BINARIZATIONS:
            assert type(self.prepare(loaded.train[:5], BYTE, mode)) is np.ndarray

    def test_levels_are_grey_over_their_scale(self) -> None:
        """The digits of 8 by 8 pixels have levels 0..16: the mean grey of 0..16 is 1/2, and not 8/255."""
        x = np.arange(17, dtype=np.uint8)[None]
        levels = Values("unit", 16.0)
        grey_levels = self.prepare(x, levels, "none")
        assert grey_levels.dtype == np.float32
        assert np.array_equal(grey_levels, x / np.float32(16))
        assert grey_levels.mean() == 0.5
        assert np.array_equal(self.prepare(x, levels, "threshold"), x >= 8)
        many = np.repeat(x, 2000, axis=0)
        drawn = self.prepare(many, levels, "dynamic")
        assert np.array_equal(drawn, self.prepare(many / np.float32(16), UNIT, "dynamic"))
        assert np.abs(drawn.mean(axis=0) - x / 16).max() < 4 * np.sqrt(0.25 / 2000)

    def test_standardised_columns_have_mean_0_and_sigma_1(self) -> None:
        x = np.random.default_rng(0).normal((5, -1e4), (0.01, 300), (400, 2))
        seen = self.prepare(x, REAL.standardised(x), "none")
        np.testing.assert_allclose(seen.mean(axis=0), 0, atol=1e-9)
        np.testing.assert_allclose(seen.std(axis=0), 1, rtol=1e-12)

    def test_unknown_mode(self) -> None:
        with pytest.raises(ConfigError, match="binarize: got 'static'"):
            self.prepare(grey(1, 4), BYTE, "static")
