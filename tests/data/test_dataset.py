"""Data sets: built-in ones, arrays that are checked and split, and every refusal.

Budget: about 2 s.
"""

from __future__ import annotations

import hashlib
import struct
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from samples import grey

from vae_np import data
from vae_np.data import BINARY, BYTE, REAL, UNIT, Values, mapped
from vae_np.errors import DataError


@pytest.fixture(scope="module")
def mnist() -> data.Dataset:
    return data.load("mnist")


class TestBuiltIn:
    @pytest.mark.parametrize(
        ("part", "head", "md5"),
        [
            ("train", (0x803, 60000, 28, 28), "6bbc9ace898e44ae57da46a324031adb"),
            ("test", (0x803, 10000, 28, 28), "2646ac647ad5339dbf082846283269ea"),
            ("train_labels", (0x801, 60000), "a25bea736e30d166cdddb491f175f624"),
            ("test_labels", (0x801, 10000), "27ae3e4e09519cfbb04c329615203637"),
        ],
    )
    def test_mnist_is_the_original_file_by_file(
        self, mnist: data.Dataset, part: str, head: tuple[int, ...], md5: str
    ) -> None:
        content = struct.pack(f">{len(head)}I", *head) + getattr(mnist, part).tobytes()
        assert hashlib.md5(content).hexdigest() == md5

    def test_mnist_is_grey_with_its_shape_and_labels(self, mnist: data.Dataset) -> None:
        assert (mnist.name, mnist.values.kind, mnist.image_shape) == ("mnist", "byte", (28, 28))
        assert mnist.train.shape == (60000, 784)
        assert mnist.test.shape == (10000, 784)
        assert mnist.train.dtype == mnist.test.dtype == np.uint8

    def test_the_package_states_origin_and_licence(self) -> None:
        text = resources.files("vae_np.data").joinpath("MNIST.md").read_text(encoding="utf-8")
        for word in ("LeCun", "Cortes", "NIST", "Share", "6bbc9ace898e44ae57da46a324031adb"):
            assert word in text

    @pytest.mark.parametrize(
        ("name", "features", "values", "image_shape", "dtype"),
        [
            ("bars", 16, "binary", (4, 4), np.uint8),
            ("xor", 4, "binary", (2, 2), np.uint8),
            ("rings", 2, "real", None, np.float32),
        ],
    )
    def test_synthetic_sets(
        self, name: str, features: int, values: str, image_shape: tuple[int, int] | None, dtype: type
    ) -> None:
        loaded = data.load(name, seed=3)
        assert (loaded.values.kind, loaded.image_shape) == (values, image_shape)
        assert loaded.train.shape == (20_000, features)
        assert loaded.test.shape == (2_000, features)
        assert loaded.train.dtype == loaded.test.dtype == dtype
        assert loaded.train_labels is not None
        assert len(loaded.train_labels) == 20_000
        assert np.array_equal(loaded.train, data.load(name, seed=3).train)
        assert not np.array_equal(loaded.train, data.load(name, seed=4).train)

    def test_test_rows_for_a_built_in_set_are_refused(self) -> None:
        with pytest.raises(DataError, match="'bars' has its own test rows"):
            data.load("bars", test="other.npy")

    def test_a_wrong_image_shape_for_a_built_in_set_is_refused(self) -> None:
        assert data.load("bars", image_shape=(2, 8)).image_shape == (2, 8)
        with pytest.raises(DataError, match="product is 16"):
            data.load("bars", image_shape=(3, 5))


class TestSynthetic:
    @pytest.mark.parametrize("size", [2, 4])
    def test_bars_are_the_enumerated_images_at_their_probabilities(self, size: int) -> None:
        images = []
        for bits in np.ndindex(*(2,) * size):
            rows = np.repeat(np.array(bits)[:, None], size, axis=1)
            images += [rows.ravel(), rows.T.ravel()]
        expected, counts = np.unique(images, axis=0, return_counts=True)
        assert len(expected) == 2 ** (size + 1) - 2
        probabilities = counts / 2 ** (size + 1)
        drawn, drawn_counts = np.unique(data.bars(size, 40_000, 0)[0], axis=0, return_counts=True)
        assert np.array_equal(drawn, expected)
        chi2 = np.sum((drawn_counts - 40_000 * probabilities) ** 2 / (40_000 * probabilities))
        assert chi2 < {2: 20.5, 4: 58.3}[size]  # p = 1e-3 at 5 and 29 degrees of freedom

    def test_bars_labels_are_the_orientation(self) -> None:
        x, vertical = data.bars(4, 500, 1)
        images = x.reshape(-1, 4, 4)
        assert (images[vertical == 1] == images[vertical == 1][:, :1, :]).all()
        assert (images[vertical == 0] == images[vertical == 0][:, :, :1]).all()
        assert 0 < vertical.sum() < 500

    def test_xor_pixels_are_fair_and_depend_on_each_other(self) -> None:
        x, labels = data.xor(40_000, 0)
        assert np.array_equal(x[:, 2], x[:, 0] ^ x[:, 1])
        assert np.array_equal(x[:, 3], 1 - x[:, 2])
        assert np.array_equal(labels, 2 * x[:, 0] + x[:, 1])
        assert np.abs(np.bincount(labels) - 10_000).max() < 4 * np.sqrt(40_000 * 0.25 * 0.75)
        mean = x.mean(axis=0)
        independent = np.mean(np.log(np.where(x == 1, mean, 1 - mean)).sum(axis=1))
        assert independent == pytest.approx(-4 * np.log(2), abs=1e-3)
        assert independent < -2 * np.log(2) - 1

    def test_rings_have_their_radii_and_spread(self) -> None:
        x, ring = data.rings(40_000, 0)
        for label, radius in enumerate((1.0, 2.0)):
            squared = (x[ring == label].astype(float) ** 2).sum(axis=1)
            # E |x|² = R² + 2σ², Var |x|² = 4R²σ² + 4σ⁴
            error = np.sqrt((4 * radius**2 * 0.01 + 4e-4) / len(squared))
            assert abs(squared.mean() - (radius**2 + 0.02)) < 4 * error
        assert np.abs(x.mean(axis=0)).max() < 4 * np.sqrt(1.26 / 40_000)


class TestArrays:
    @pytest.mark.parametrize(
        ("train", "likelihood", "values"),
        [
            ([[0, 1], [1, 0]], "bernoulli", BINARY),
            ([[0, 200], [1, 0]], "bernoulli", BYTE),
            ([[0, 0.3], [1, 0]], "bernoulli", UNIT),
            ([[0, 0.3], [1, 0]], "normal", REAL),
            ([[0, 7], [-1, 0]], "normal", REAL),
        ],
    )
    def test_the_values_are_decided_from_all_training_rows(
        self, train: list[list[float]], likelihood: str, values: Values
    ) -> None:
        x = np.array(train)
        loaded = data.from_arrays(x, likelihood=likelihood)
        assert (loaded.values.kind, loaded.values.scale) == (values.kind, values.scale)
        assert loaded.values.span == data.scan(x, "x")

    @pytest.mark.parametrize(
        ("train", "test", "kind"),
        [
            ([[0, 200]], [[0, 1]], "byte"),
            ([[0, 0.5]], [[0, 1]], "unit"),
            ([[0, -7]], [[0, 1]], "real"),
        ],
    )
    def test_test_rows_are_read_as_the_training_rows_are(
        self, train: list[list[float]], test: list[list[float]], kind: str
    ) -> None:
        loaded = data.from_arrays(np.array(train), np.array(test))
        assert loaded.values.kind == kind
        assert loaded.train.dtype == loaded.test.dtype or kind == "real"
        assert np.array_equal(loaded.train, train)
        assert np.array_equal(loaded.test, test)

    @pytest.mark.parametrize(
        ("train", "test", "message"),
        [
            ([[0, 1]], [[0, 7]], "got whole numbers from 0 to 7, expected only 0 and 1 .*whole numbers from 0 to 1"),
            ([[0, 0.5]], [[0, 2.5]], r"got numbers from 0 to 2.5, expected .* from 0 to 1 .*numbers from 0 to 0.5"),
            ([[0, 200]], [[0, -1]], "got whole numbers from -1 to 0, expected whole numbers from 0 to 255"),
            ([[0, 0.5]], [[0.0, 255.0]], "got whole numbers from 0 to 255, expected numbers from 0 to 1 .*'byte'"),
            ([[0, 200]], [[0, 0.5]], "got numbers from 0 to 0.5, expected whole numbers from 0 to 255 .*'unit'"),
        ],
    )
    def test_test_rows_of_another_kind_are_refused_with_both_ranges(
        self, train: list[list[float]], test: list[list[float]], message: str
    ) -> None:
        with pytest.raises(DataError, match=f"^data: test: {message}"):
            data.from_arrays(np.array(train), np.array(test))

    def test_values_that_a_model_knows_are_not_decided_again(self) -> None:
        x = np.array([[0, 1], [1, 0]])
        loaded = data.from_arrays(x, values=BYTE)
        assert loaded.values is BYTE
        with pytest.raises(DataError, match=r"^data 'data': got whole numbers from 0 to 300, expected .* 255"):
            data.from_arrays(x * 300, values=BYTE)

    def test_named_values_and_scales(self) -> None:
        levels = np.arange(17)[None].repeat(2, axis=0)
        assert data.from_arrays(levels, scale=16.0).values.scale == 16
        assert data.from_arrays(levels, values="real", likelihood="normal").values.kind == "real"

    @pytest.mark.parametrize("dtype", [np.uint8, np.float32])
    def test_arrays_that_fit_are_not_copied(self, dtype: type) -> None:
        x = (grey(10, 4) / 256).astype(dtype) if dtype is np.float32 else grey(10, 4)
        assert np.shares_memory(data.from_arrays(x).train, x)

    def test_the_scan_looks_at_every_chunk(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(mapped, "_CHUNK_ELEMENTS", 7)
        x = np.zeros((10, 3))
        assert data.from_arrays(x).values.kind == "binary"
        for row in range(10):
            x[row, 1] = 0.5
            assert data.from_arrays(x).values.kind == "unit"
            x[row, 1] = np.nan
            with pytest.raises(DataError, match=f"train: got nan at row {row}, column 1 "):
                data.from_arrays(x)
            x[row, 1] = 0

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_not_finite_names_the_first_place(self, value: float) -> None:
        x = np.ones((4, 5))
        x[2, 3] = x[2, 4] = x[3, 0] = value
        with pytest.raises(DataError, match=f"data: test: got {value} at row 2, column 3"):
            data.from_arrays(np.ones((1, 5)), x)

    def test_image_shape(self) -> None:
        assert data.from_arrays(grey(3, 2, 8)).image_shape == (2, 8)
        assert data.from_arrays(grey(3, 16)).image_shape == (4, 4)
        assert data.from_arrays(grey(3, 15)).image_shape is None
        assert data.from_arrays(grey(3, 2, 8), image_shape=(8, 2)).image_shape == (8, 2)
        for wrong in ((4, 5), (-4, -4), (0, 16)):
            with pytest.raises(DataError, match=f"image_shape: got {wrong[0]},{wrong[1]}, .*product is 16"):
                data.from_arrays(grey(3, 16), image_shape=wrong)


class TestRefusedArrays:
    @pytest.mark.parametrize(
        ("x", "word"),
        [
            (np.zeros((0, 4)), r"got the empty shape \(0, 4\), expected at least one row"),
            (np.zeros((4, 0)), r"got the empty shape \(4, 0\), expected at least one row"),
            (np.zeros(4), r"shape \(4,\)"),
            (np.zeros((2, 2, 2, 2)), r"shape \(2, 2, 2, 2\)"),
            (np.zeros((2, 2), complex), "complex128, expected numbers"),
            (np.array([["a", "b"]]), "expected numbers"),
            (np.zeros((1, 4)), "one row"),
        ],
    )
    def test_shape_and_dtype(self, x: np.ndarray, word: str) -> None:
        with pytest.raises(DataError, match=word):
            data.from_arrays(x)

    def test_check_columns(self) -> None:
        data.check_columns(np.zeros((0, 4)), 4)
        for shape in ((2, 5), (4,), (2, 4, 1)):
            with pytest.raises(DataError, match=r"x: got shape .*, expected \(N, 4\)"):
                data.check_columns(np.zeros(shape), 4)

    def test_split_validation(self) -> None:
        assert data.split_validation(60_000, 5_000) == (55_000, 5_000)
        assert data.split_validation(3, 0) == (3, 0)
        assert data.split_validation(3, 2) == (1, 2)
        for wrong in (3, 4):
            with pytest.raises(
                DataError, match=f"validation: got {wrong}, expected fewer than the 3 training rows"
            ):
                data.split_validation(3, wrong)
        with pytest.raises(DataError, match="validation: got -1, expected 0 or more rows"):
            data.split_validation(3, -1)

    def test_masked_cells_are_refused(self) -> None:
        x = np.ma.masked_array([[1.0, 2.0], [3.0, 4.0]], [[False, True], [False, False]])
        for arrays in ((x, None), (x.data, x)):
            with pytest.raises(DataError, match=r"has 1 of 4 cells masked, expected none; drop .* x.filled\(value\)"):
                data.from_arrays(*arrays)
        with pytest.raises(DataError, match="train labels: has 1 of 4 cells masked"):
            data.from_arrays(np.ones((4, 2)), train_labels=x.reshape(4))
        nothing_masked = np.ma.masked_array(x.data, False)
        assert np.array_equal(data.from_arrays(nothing_masked, x.data, likelihood="normal").train, x.data)


class TestOrder:
    """Rows that are sorted by label leave other classes to the test than to the training."""

    LABELS = np.repeat(np.arange(5), 8)

    def dataset(self, labels: np.ndarray | None, **arguments: np.ndarray) -> data.Dataset:
        return data.from_arrays(grey(40, 3), train_labels=labels, **arguments)

    @pytest.mark.parametrize(
        "labels",
        [LABELS, LABELS[::-1], np.repeat([3, 1, 4, 0, 2], 8), np.arange(40) / 7],
        ids=["rising", "falling", "blocks", "numbers"],
    )
    def test_sorted_labels_are_seen(self, labels: np.ndarray) -> None:
        assert self.dataset(labels).is_sorted_by_label

    @pytest.mark.parametrize(
        "labels",
        [None, np.random.default_rng(0).permutation(LABELS), np.zeros(40), np.tile(np.arange(5), 8)],
        ids=["none", "shuffled", "one class", "in turns"],
    )
    def test_other_labels_are_not_sorted(self, labels: np.ndarray | None) -> None:
        assert not self.dataset(labels).is_sorted_by_label

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint64, np.int8, np.float32, bool])
    def test_labels_of_every_type(self, dtype: type) -> None:
        """Of unsigned labels no difference is negative."""
        shuffled = np.random.default_rng(0).permutation(self.LABELS).astype(dtype)
        assert not self.dataset(shuffled).is_sorted_by_label
        for sorted_labels in (np.sort(shuffled), np.sort(shuffled)[::-1]):
            assert self.dataset(sorted_labels).is_sorted_by_label

    def test_mnist_is_not_sorted(self) -> None:
        assert not data.load("mnist").is_sorted_by_label

    def test_few_labels_say_nothing(self) -> None:
        few = data.from_arrays(grey(12, 3), train_labels=np.repeat([0, 1], 6))
        assert not few.is_sorted_by_label

    def test_the_test_rows_count_only_where_they_were_split_off(self) -> None:
        shuffled = np.random.default_rng(0).permutation(self.LABELS)
        own = self.dataset(shuffled, test=grey(5, 3), test_labels=np.arange(5))
        assert not own.was_split
        assert not own.is_sorted_by_label
        assert self.dataset(shuffled).was_split


class TestDigest:
    def test_it_changes_with_every_value_type_and_shape(self) -> None:
        x = grey(6, 4)
        other = x.copy()
        other[5, 3] ^= 1
        digests = {data.digest_of_rows(rows) for rows in (x, other, x.reshape(4, 6), x.view(np.int8), x[::-1], x[:5])}
        assert len(digests) == 6

    def test_it_is_the_same_in_memory_and_in_a_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        x = grey(60, 4)
        whole = data.digest_of_rows(x)
        np.save(tmp_path / "x.npy", x)
        monkeypatch.setattr(mapped, "_CHUNK_ELEMENTS", 7)
        assert data.digest_of_rows(np.load(tmp_path / "x.npy", mmap_mode="r")) == whole
        assert data.digest_of_rows(np.asfortranarray(x)) == whole
