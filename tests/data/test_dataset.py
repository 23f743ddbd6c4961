"""Data sets: built-in ones, files of every format, kinds of values, binarisation, and every refusal.

Budget: about 2 s.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
import zipfile
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vae_np import data, noise
from vae_np.data import dataset
from vae_np.errors import ConfigError, DataError, InputError, MissingFileError


def idx_bytes(array: np.ndarray) -> bytes:
    codes = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}
    head = struct.pack(">BBBB", 0, 0, codes[array.dtype.str[1:]], array.ndim)
    return (
        head
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.astype(array.dtype.newbyteorder(">")).tobytes()
    )


def grey(rows: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (rows, *shape), dtype=np.uint8)


def write_mnist_folder(folder: Path, *, suffix: str = "") -> dict[str, np.ndarray]:
    arrays = {
        "train-images-idx3-ubyte": grey(12, 3, 2),
        "train-labels-idx1-ubyte": np.arange(12, dtype=np.uint8),
        "t10k-images-idx3-ubyte": grey(5, 3, 2, seed=1),
        "t10k-labels-idx1-ubyte": np.arange(5, dtype=np.uint8),
    }
    for name, array in arrays.items():
        content = idx_bytes(array)
        (folder / (name + suffix)).write_bytes(gzip.compress(content) if suffix else content)
    return arrays


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
        assert (mnist.name, mnist.values, mnist.image_shape) == ("mnist", "byte", (28, 28))
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
        assert (loaded.values, loaded.image_shape) == (values, image_shape)
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


class TestFiles:
    def test_npy_is_memory_mapped_and_its_last_tenth_is_the_test_set(self, tmp_path: Path) -> None:
        x = grey(25, 9)
        np.save(tmp_path / "digits.npy", x)
        loaded = data.load(str(tmp_path / "digits.npy"))
        assert (loaded.name, loaded.values, loaded.image_shape) == ("digits.npy", "byte", (3, 3))
        assert isinstance(loaded.train, np.memmap)
        assert np.array_equal(loaded.train, x[:23])
        assert np.array_equal(loaded.test, x[23:])
        assert loaded.train_labels is None
        assert loaded.test_labels is None

    def test_at_least_one_row_is_the_test_set(self, tmp_path: Path) -> None:
        np.save(tmp_path / "x.npy", grey(3, 4))
        assert data.load(str(tmp_path / "x.npy")).test.shape == (1, 4)

    def test_a_test_file_of_its_own(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", grey(4, 6))
        np.savez(tmp_path / "b.npz", x_train=grey(2, 6), x_test=grey(3, 6, seed=2), y_test=np.arange(3))
        np.save(tmp_path / "c.npy", grey(2, 6, seed=3))
        whole = data.load(str(tmp_path / "a.npy"), test=str(tmp_path / "c.npy"))
        assert whole.train.shape == (4, 6)
        assert np.array_equal(whole.test, grey(2, 6, seed=3))
        from_npz = data.load(str(tmp_path / "a.npy"), test=str(tmp_path / "b.npz"))
        assert np.array_equal(from_npz.test, grey(3, 6, seed=2))
        assert np.array_equal(from_npz.test_labels, [0, 1, 2])

    @pytest.mark.parametrize(
        "keys",
        [("train", "test", "train_labels", "test_labels"), ("x_train", "x_test", "y_train", "y_test")],
        ids=["ours", "keras"],
    )
    def test_npz_keys(self, tmp_path: Path, keys: tuple[str, ...]) -> None:
        arrays = (grey(4, 3, 2), grey(2, 3, 2, seed=1), np.arange(4), np.arange(2)[:, None])
        np.savez(tmp_path / "x.npz", **dict(zip(keys, arrays, strict=True)), unrelated=np.zeros(1))
        loaded = data.load(str(tmp_path / "x.npz"))
        assert loaded.image_shape == (3, 2)
        assert np.array_equal(loaded.train, arrays[0].reshape(4, 6))
        assert np.array_equal(loaded.test, arrays[1].reshape(2, 6))
        assert np.array_equal(loaded.train_labels, [0, 1, 2, 3])
        assert np.array_equal(loaded.test_labels, [0, 1])

    def test_npz_with_a_single_array(self, tmp_path: Path) -> None:
        np.savez_compressed(tmp_path / "x.npz", anything=grey(20, 5))
        loaded = data.load(str(tmp_path / "x.npz"))
        assert np.array_equal(np.concatenate([loaded.train, loaded.test]), grey(20, 5))
        assert loaded.test.shape == (2, 5)

    def test_labels_are_split_with_their_rows(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "x.npz", train=grey(20, 5), train_labels=np.arange(20))
        loaded = data.load(str(tmp_path / "x.npz"))
        assert np.array_equal(loaded.train_labels, np.arange(18))
        assert np.array_equal(loaded.test_labels, [18, 19])

    @pytest.mark.parametrize("suffix", ["", ".gz"])
    @pytest.mark.parametrize("target", ["", "train-images-idx3-ubyte"])
    def test_idx_folder_takes_all_four_files(self, tmp_path: Path, suffix: str, target: str) -> None:
        arrays = write_mnist_folder(tmp_path, suffix=suffix)
        loaded = data.load(str(tmp_path / (target + suffix) if target else tmp_path))
        assert isinstance(loaded.train, np.memmap) is (suffix == "")
        assert loaded.image_shape == (3, 2)
        assert np.array_equal(loaded.train, arrays["train-images-idx3-ubyte"].reshape(12, 6))
        assert np.array_equal(loaded.test, arrays["t10k-images-idx3-ubyte"].reshape(5, 6))
        assert np.array_equal(loaded.train_labels, arrays["train-labels-idx1-ubyte"])
        assert np.array_equal(loaded.test_labels, arrays["t10k-labels-idx1-ubyte"])

    def test_a_folder_as_test_gives_its_test_images(self, tmp_path: Path) -> None:
        arrays = write_mnist_folder(tmp_path)
        np.save(tmp_path / "x.npy", grey(4, 6))
        loaded = data.load(str(tmp_path / "x.npy"), test=str(tmp_path))
        assert np.array_equal(loaded.test, arrays["t10k-images-idx3-ubyte"].reshape(5, 6))

    def test_a_named_idx_test_file_is_used_itself_and_replaces_the_sibling(self, tmp_path: Path) -> None:
        arrays = write_mnist_folder(tmp_path)
        name = str(tmp_path / "train-images-idx3-ubyte")
        loaded = data.load(name, test=name)
        assert np.array_equal(loaded.test, arrays["train-images-idx3-ubyte"].reshape(12, 6))
        assert np.array_equal(loaded.test_labels, arrays["train-labels-idx1-ubyte"])

    def test_idx_images_alone_are_known_by_their_magic_number(self, tmp_path: Path) -> None:
        (tmp_path / "plain.bin").write_bytes(idx_bytes(grey(10, 2, 3)))
        (tmp_path / "zipped.bin").write_bytes(gzip.compress(idx_bytes(grey(10, 2, 3))))
        for name in ("plain.bin", "zipped.bin"):
            loaded = data.load(str(tmp_path / name))
            assert np.array_equal(loaded.train, grey(10, 2, 3)[:9].reshape(9, 6))
            assert loaded.test_labels is None

    @pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "f4", "f8"])
    def test_idx_of_other_types(self, tmp_path: Path, dtype: str) -> None:
        x = np.arange(-6, 6).reshape(4, 3).astype(dtype)
        (tmp_path / "x.idx").write_bytes(idx_bytes(x))
        loaded = data.load(str(tmp_path / "x.idx"))
        assert loaded.values == "real"
        assert loaded.train.dtype == (np.float64 if dtype in ("i4", "f8") else np.float32)
        assert np.array_equal(loaded.train, x[:3])

    def test_a_built_in_name_wins_over_a_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with (tmp_path / "xor").open("wb") as file:
            np.save(file, grey(10, 7))
        monkeypatch.chdir(tmp_path)
        assert data.load("xor").train.shape[1] == 4
        assert data.load("./xor").train.shape[1] == 7


class TestValues:
    @pytest.mark.parametrize(
        ("values", "dtype", "kind", "stored"),
        [
            ([0, 1, 1, 0], np.uint8, "binary", np.uint8),
            ([0, 2, 1, 0], np.uint8, "byte", np.uint8),
            ([0, 1, 1, 0], bool, "binary", np.uint8),
            ([0, 1, 1, 0], np.int64, "binary", np.uint8),
            ([0, 1, 1, 0], np.float64, "binary", np.uint8),
            ([0, 255, 1, 0], np.int64, "byte", np.uint8),
            ([0, 255, 1, 0], np.float32, "byte", np.uint8),
            ([0, 256, 1, 0], np.int16, "real", np.float32),
            ([0, 256, 1, 0], np.int32, "real", np.float64),
            ([0, -1, 1, 0], np.int8, "real", np.float32),
            ([0, 0.5, 1, 0], np.float64, "unit", np.float32),
            ([0, 0.5, 1, 0], np.float16, "unit", np.float32),
            ([0, 0.5, 1, 0], ">f4", "unit", np.float32),
            ([0, 0.5, 2, 0], np.float32, "real", np.float32),
            ([0, 0.5, 2, 0], np.float64, "real", np.float64),
            ([0, -0.5, 1, 0], ">f8", "real", np.float64),
        ],
    )
    def test_kind_and_dtype(self, values: list[float], dtype: object, kind: str, stored: type) -> None:
        x = np.array([values, values], dtype)
        loaded = data.from_arrays(x)
        assert loaded.values == kind
        assert loaded.train.dtype == loaded.test.dtype == stored
        assert loaded.train.dtype.isnative
        assert np.array_equal(loaded.train, x[:1].astype(stored))

    @pytest.mark.parametrize(
        ("train", "test", "kind"),
        [
            ([[0, 1]], [[0, 7]], "byte"),
            ([[0, 7]], [[0, 1]], "byte"),
            ([[0, 1]], [[0, 0.5]], "unit"),
            ([[0, 0.5]], [[0, 2.5]], "real"),
            ([[0, 7]], [[0, -1]], "real"),
        ],
    )
    def test_train_and_test_take_the_wider_kind(
        self, train: list[list[float]], test: list[list[float]], kind: str
    ) -> None:
        loaded = data.from_arrays(np.array(train), np.array(test))
        assert loaded.values == kind
        assert loaded.train.dtype == loaded.test.dtype or kind == "real"
        assert np.array_equal(loaded.train, train)
        assert np.array_equal(loaded.test, test)

    def test_two_grey_scales_are_refused(self) -> None:
        with pytest.raises(DataError, match=r"train values are in \[0, 1\], test values whole numbers"):
            data.from_arrays(np.array([[0, 0.5]]), np.array([[0.0, 255.0]]))

    @pytest.mark.parametrize("dtype", [np.uint8, np.float32])
    def test_arrays_that_fit_are_not_copied(self, dtype: type) -> None:
        x = (grey(10, 4) / 256).astype(dtype) if dtype is np.float32 else grey(10, 4)
        assert np.shares_memory(data.from_arrays(x).train, x)

    def test_the_scan_looks_at_every_chunk(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(dataset, "_CHUNK_ELEMENTS", 7)
        x = np.zeros((10, 3))
        assert data.from_arrays(x).values == "binary"
        for row in range(10):
            x[row, 1] = 0.5
            assert data.from_arrays(x).values == "unit"
            x[row, 1] = np.nan
            with pytest.raises(DataError, match=f"train has the value nan at row {row}, column 1 "):
                data.from_arrays(x)
            x[row, 1] = 0

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_not_finite_names_the_first_place(self, value: float) -> None:
        x = np.ones((4, 5))
        x[2, 3] = x[2, 4] = x[3, 0] = value
        with pytest.raises(DataError, match=f"data: test has the value {value} at row 2, column 3"):
            data.from_arrays(np.ones((1, 5)), x)

    def test_image_shape(self) -> None:
        assert data.from_arrays(grey(3, 2, 8)).image_shape == (2, 8)
        assert data.from_arrays(grey(3, 16)).image_shape == (4, 4)
        assert data.from_arrays(grey(3, 15)).image_shape is None
        assert data.from_arrays(grey(3, 2, 8), image_shape=(8, 2)).image_shape == (8, 2)
        for wrong in ((4, 5), (-4, -4), (0, 16)):
            with pytest.raises(DataError, match=f"image shape {wrong[0]},{wrong[1]}: .*product is 16"):
                data.from_arrays(grey(3, 16), image_shape=wrong)


class TestRefusedFiles:
    def refuse(self, path: Path, *words: str, test: Path | None = None) -> None:
        with pytest.raises(DataError) as caught:
            data.load(str(path), test=None if test is None else str(test))
        message = str(caught.value)
        assert "\n" not in message
        for word in words:
            assert word in message

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(
            MissingFileError, match="'mnst': no such file, and not one of mnist, bars, xor, rings"
        ):
            data.load("mnst")
        np.save(tmp_path / "x.npy", grey(3, 4))
        with pytest.raises(MissingFileError, match=r"gone\.npy: no such data file"):
            data.load(str(tmp_path / "x.npy"), test=str(tmp_path / "gone.npy"))
        for odd in ("", "\0", "x" * 5000):
            with pytest.raises(MissingFileError):
                data.load(odd)

    @pytest.mark.parametrize(
        ("content", "word"),
        [
            (b"", "empty"),
            (b"hello, world\n", "not a data file"),
            (b"\x89PNG\r\n\x1a\n", "not a data file"),
            (b"\x80\x04K\x01.", "not a data file"),
            (gzip.compress(b"hello", mtime=0), "not a data file"),
            (gzip.compress(idx_bytes(grey(9, 3, 3)), mtime=0)[:40], "cannot be read"),
            (b"PK\x03\x04 and no more", "cannot be read"),
            (b"\x93NUMPY and no more", "cannot be read"),
            (b"\x00\x00", "not a data file"),
            (b"\x00\x00\x08\x03\x00\x00", "truncated"),
            (idx_bytes(grey(9, 3, 3))[:-1], "96 bytes, but its IDX header announces 97"),
            (idx_bytes(grey(9, 3, 3)) + b"!", "98 bytes, but its IDX header announces 97"),
            (idx_bytes(grey(0, 3, 3)), "train is empty"),
            (idx_bytes(np.arange(9, dtype=np.uint8)), "shape (9,), expected (N, D) or (N, H, W)"),
        ],
    )
    def test_content(self, tmp_path: Path, content: bytes, word: str) -> None:
        path = tmp_path / "x.npy"
        path.write_bytes(content)
        self.refuse(path, "x.npy", word)

    def test_truncated_npy_and_npz(self, tmp_path: Path) -> None:
        np.save(tmp_path / "x.npy", grey(50, 50))
        np.savez(tmp_path / "x.npz", grey(50, 50))
        for name in ("x.npy", "x.npz"):
            content = (tmp_path / name).read_bytes()
            (tmp_path / name).write_bytes(content[: len(content) // 2])
            self.refuse(tmp_path / name, name, "cannot be read")

    def test_pickles_are_never_loaded(self, tmp_path: Path) -> None:
        objects = np.array([[{}, {}]], dtype=object)
        np.save(tmp_path / "x.npy", objects)
        np.savez(tmp_path / "x.npz", train=objects)
        self.refuse(tmp_path / "x.npy", "cannot be read")
        self.refuse(tmp_path / "x.npz", "cannot be read", "allow_pickle=False")

    def test_npz_contents(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "two.npz", a=grey(2, 2), b=grey(2, 2))
        self.refuse(tmp_path / "two.npz", "'train' or 'x_train'", "found a, b")
        np.savez(tmp_path / "none.npz")
        self.refuse(tmp_path / "none.npz", "found nothing")
        with zipfile.ZipFile(tmp_path / "text.npz", "w") as archive:
            archive.writestr("train", "not an array")
        self.refuse(tmp_path / "text.npz", "'train' is not an array")

    def test_folders(self, tmp_path: Path) -> None:
        self.refuse(tmp_path, "a folder without data", "train-images-idx3-ubyte")

    def test_no_regular_file(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        self.refuse(tmp_path / "pipe", "not a regular file")

    def test_columns(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", grey(4, 6))
        np.save(tmp_path / "b.npy", grey(4, 5))
        self.refuse(
            tmp_path / "a.npy", "a.npy: test has shape (4, 5), expected (N, 6)", test=tmp_path / "b.npy"
        )

    @pytest.mark.parametrize(
        "labels",
        [np.arange(3), np.arange(8).reshape(4, 2), np.array(["a", "b", "c", "d"])],
        ids=["count", "shape", "text"],
    )
    def test_labels(self, tmp_path: Path, labels: np.ndarray) -> None:
        np.savez(tmp_path / "x.npz", train=grey(4, 6), train_labels=labels)
        self.refuse(tmp_path / "x.npz", "train labels are", "one number for each of 4 rows")

    def test_damaged_idx_sibling_is_named(self, tmp_path: Path) -> None:
        write_mnist_folder(tmp_path)
        (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(b"garbage")
        self.refuse(tmp_path, "t10k-labels-idx1-ubyte", "not a data file")

    @settings(
        max_examples=150,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(
        kind=st.sampled_from(["npy", "npz", "idx", "gz"]),
        cut=st.floats(0, 1),
        changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=3),
        in_head=st.booleans(),
    )
    def test_a_damaged_file_loads_or_is_refused_in_one_line(
        self, tmp_path: Path, kind: str, cut: float, changes: list[tuple[float, int]], in_head: bool
    ) -> None:
        path = tmp_path / "damaged"
        with path.open("wb") as file:
            if kind == "npy":
                np.save(file, grey(6, 4) / 255)
            elif kind == "npz":
                np.savez_compressed(file, train=grey(6, 4), test=grey(2, 4))
            else:
                content = idx_bytes(grey(6, 2, 2))
                file.write(gzip.compress(content) if kind == "gz" else content)
        content = bytearray(path.read_bytes())
        for place, byte in changes:
            content[int(place * (min(len(content), 128) if in_head else len(content)))] = byte
        path.write_bytes(content[: len(content) if cut > 0.5 else int(2 * cut * len(content))])
        message = ""
        try:
            loaded = data.load(str(path))
        except InputError as error:
            message = str(error)
        else:
            assert loaded.train.shape[1] == loaded.test.shape[1]
        assert "\n" not in message


class TestRefusedArrays:
    @pytest.mark.parametrize(
        ("x", "word"),
        [
            (np.zeros((0, 4)), r"empty, its shape is \(0, 4\)"),
            (np.zeros((4, 0)), r"empty, its shape is \(4, 0\)"),
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
            with pytest.raises(DataError, match=r"x has shape .*, expected \(N, 4\)"):
                data.check_columns(np.zeros(shape), 4)

    def test_split_validation(self) -> None:
        assert data.split_validation(60_000, 5_000) == (55_000, 5_000)
        assert data.split_validation(3, 0) == (3, 0)
        assert data.split_validation(3, 2) == (1, 2)
        for wrong in (3, 4):
            with pytest.raises(
                DataError, match=f"validation {wrong}: leaves nothing to train on.* 3 training rows"
            ):
                data.split_validation(3, wrong)
        with pytest.raises(DataError, match="validation -1"):
            data.split_validation(3, -1)


BINARY = data.from_arrays(np.array([[0, 1], [1, 0]]))
BYTE = data.from_arrays(np.array([[0, 200], [1, 0]]))
UNIT = data.from_arrays(np.array([[0, 0.3], [1, 0]]))
REAL = data.from_arrays(np.array([[0, -0.3], [1, 400.0]]))


class TestCheckFor:
    @pytest.mark.parametrize(
        ("dataset", "likelihood", "binarize"),
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
    def test_allowed(self, dataset: data.Dataset, likelihood: str, binarize: str) -> None:
        data.check_for(dataset, likelihood, binarize)

    @pytest.mark.parametrize(
        ("dataset", "likelihood", "binarize", "remedy"),
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
            (REAL, "bernoulli", "dynamic", "run from -0.3 to 400; use likelihood 'normal'"),
            (REAL, "bernoulli-grey", "none", "run from -0.3 to 400; use likelihood 'normal'"),
            (REAL, "normal", "dynamic", "use binarize 'none'"),
        ],
    )
    def test_refused_with_the_remedy(
        self, dataset: data.Dataset, likelihood: str, binarize: str, remedy: str
    ) -> None:
        with pytest.raises(DataError, match=remedy):
            data.check_for(dataset, likelihood, binarize)

    def test_unknown_binarisation(self) -> None:
        with pytest.raises(
            ConfigError, match="binarize 'static': expected one of dynamic, fixed, threshold, none"
        ):
            data.check_for(BINARY, "bernoulli", "static")


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
        drawn = self.prepare(x, "byte", "dynamic")
        assert drawn.dtype == np.uint8
        assert np.array_equal(drawn, self.draw(x, stream=noise.BINARIZE, step=7))
        assert not np.array_equal(drawn, self.prepare(x, "byte", "dynamic", step=8))

    def test_dynamic_draws_with_the_grey_probability(self) -> None:
        x = np.full((200, 500), 51, np.uint8)
        p = 0.2
        drawn = self.prepare(x, "byte", "dynamic")
        assert abs(drawn.mean() - p) < 4 * np.sqrt(p * (1 - p) / drawn.size)
        assert np.array_equal(
            drawn, self.prepare(np.full((200, 500), 51 / 255, np.float32), "unit", "dynamic")
        )

    def test_a_row_keeps_its_draw_however_the_batch_is_split(self) -> None:
        x = grey(10, 30)
        whole = self.prepare(x, "byte", "dynamic")
        part = data.prepare(
            x[4:7], "byte", "dynamic", seed=5, stream=noise.BINARIZE, step=7, rows=np.arange(104, 107)
        )
        assert np.array_equal(whole[4:7], part)

    def test_fixed_gives_training_rows_one_draw_for_all_steps(self) -> None:
        x = grey(20, 30)
        drawn = self.prepare(x, "byte", "fixed", step=7)
        assert np.array_equal(drawn, self.prepare(x, "byte", "fixed", step=8))
        assert np.array_equal(drawn, self.draw(x, stream=noise.FIXED_BINARIZE, step=0))

    def test_fixed_leaves_the_evaluation_streams_alone(self) -> None:
        x = grey(20, 30)
        drawn = self.prepare(x, "byte", "fixed", stream=noise.EVAL_BINARIZE, step=0)
        assert np.array_equal(drawn, self.draw(x, stream=noise.EVAL_BINARIZE, step=0))
        assert np.array_equal(drawn, self.prepare(x, "byte", "dynamic", stream=noise.EVAL_BINARIZE, step=0))

    def test_threshold_is_at_one_half(self) -> None:
        drawn = self.prepare(np.array([[0, 127, 128, 255]], np.uint8), "byte", "threshold")
        assert drawn.dtype == np.uint8
        assert drawn.tolist() == [[0, 0, 1, 1]]
        assert self.prepare(np.array([[0.49, 0.5, 1]], np.float32), "unit", "threshold").tolist() == [
            [0, 1, 1]
        ]

    def test_none_gives_grey_as_float32_in_the_unit_interval(self) -> None:
        x = np.arange(256, dtype=np.uint8)[None]
        prepared = self.prepare(x, "byte", "none")
        assert prepared.dtype == np.float32
        assert np.array_equal(prepared, x.astype(np.float32) / np.float32(255))
        unit = np.array([[0.25, 1]], np.float32)
        assert np.array_equal(self.prepare(unit, "unit", "none"), unit)

    @pytest.mark.parametrize("mode", data.BINARIZATIONS)
    def test_binary_data_stay_as_they_are(self, mode: str) -> None:
        x = np.array([[0, 1, 1, 0]], np.uint8)
        prepared = self.prepare(x, "binary", mode)
        assert prepared.dtype == np.uint8
        assert np.array_equal(prepared, x)

    def test_real_values_pass_and_are_never_binarised(self) -> None:
        x = np.array([[0.5, -3.0]])
        assert np.array_equal(self.prepare(x, "real", "none"), x)
        for mode in ("dynamic", "fixed", "threshold"):
            with pytest.raises(DataError, match="use binarize 'none'"):
                self.prepare(x, "real", mode)

    def test_memory_mapped_rows_become_plain_arrays(self, tmp_path: Path) -> None:
        np.save(tmp_path / "x.npy", grey(20, 4))
        loaded = data.load(str(tmp_path / "x.npy"))
        for mode in data.BINARIZATIONS:
            assert type(self.prepare(loaded.train[:5], "byte", mode)) is np.ndarray

    def test_unknown_mode(self) -> None:
        with pytest.raises(ConfigError, match="binarize 'static'"):
            self.prepare(grey(1, 4), "byte", "static")
