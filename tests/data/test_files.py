"""Data files of every format: what is read, what belongs together, and what is refused.

Budget: about 3 s.
"""

from __future__ import annotations

import gzip
import io
import os
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from samples import grey, idx_bytes, write_mnist_folder

from vae_np import data
from vae_np.data.formats import parts
from vae_np.errors import DataError, InputError, MissingFileError


class TestFiles:
    def test_npy_is_memory_mapped_and_its_last_tenth_is_the_test_set(self, tmp_path: Path) -> None:
        x = grey(25, 9)
        np.save(tmp_path / "digits.npy", x)
        loaded = data.load(str(tmp_path / "digits.npy"))
        assert (loaded.name, loaded.values.kind, loaded.image_shape) == ("digits.npy", "byte", (3, 3))
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
        assert loaded.values.kind == "real"
        assert loaded.train.dtype == (np.float64 if dtype in ("i4", "f8") else np.float32)
        assert np.array_equal(loaded.train, x[:3])

    @pytest.mark.parametrize("suffix", ["", ".gz"])
    @pytest.mark.parametrize("as_folder", [True, False])
    def test_emnist_names_its_files_by_the_set(self, tmp_path: Path, suffix: str, as_folder: bool) -> None:
        arrays = write_mnist_folder(tmp_path, suffix=suffix)
        for name in arrays:
            other = name.replace("t10k", "test")
            (tmp_path / (name + suffix)).rename(tmp_path / f"emnist-balanced-{other}{suffix}")
        images = tmp_path / f"emnist-balanced-train-images-idx3-ubyte{suffix}"
        loaded = data.load(str(tmp_path if as_folder else images))
        assert np.array_equal(loaded.train, arrays["train-images-idx3-ubyte"].reshape(12, 6))
        assert np.array_equal(loaded.test, arrays["t10k-images-idx3-ubyte"].reshape(5, 6))
        assert np.array_equal(loaded.train_labels, arrays["train-labels-idx1-ubyte"])
        assert np.array_equal(loaded.test_labels, arrays["t10k-labels-idx1-ubyte"])
        assert not loaded.was_split

    def test_a_folder_of_several_emnist_sets_asks_for_one(self, tmp_path: Path) -> None:
        for name in ("balanced", "digits"):
            (tmp_path / f"emnist-{name}-train-images-idx3-ubyte").write_bytes(idx_bytes(grey(12, 3, 2)))
        with pytest.raises(DataError, match=r"several data sets, .*: emnist-balanced-train-\S+, emnist-digits-\S+"):
            data.load(str(tmp_path))

    def test_a_built_in_name_wins_over_a_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with (tmp_path / "xor").open("wb") as file:
            np.save(file, grey(10, 7))
        monkeypatch.chdir(tmp_path)
        assert data.load("xor").train.shape[1] == 4
        assert data.load("./xor").train.shape[1] == 7


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
            MissingFileError, match="data: got 'mnst', expected an existing file or one of mnist, bars, xor, rings"
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
            (b"\x89PNG\r\n\x1a\n", "one image; give the folder"),
            (b"\x80\x04K\x01.", "a pickle, which can run code"),
            (gzip.compress(b"hello", mtime=0), "not a data file"),
            (gzip.compress(idx_bytes(grey(9, 3, 3)), mtime=0)[:40], "cannot be read"),
            (b"PK\x03\x04 and no more", "cannot be read"),
            (b"\x93NUMPY and no more", "cannot be read"),
            (b"\x00\x00", "not an IDX file"),
            (b"\x00\x00\x08\x03\x00\x00", "truncated"),
            (idx_bytes(grey(9, 3, 3))[:-1], "96 bytes, but its IDX header announces 97"),
            (idx_bytes(grey(9, 3, 3)) + b"!", "98 bytes, but its IDX header announces 97"),
            (idx_bytes(grey(0, 3, 3)), "train: got the empty shape (0, 3, 3), expected"),
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
            tmp_path / "a.npy", "a.npy: test: got shape (4, 5), expected (N, 6)", test=tmp_path / "b.npy"
        )

    @pytest.mark.parametrize(
        "labels",
        [np.arange(3), np.arange(8).reshape(4, 2), np.arange(4) * 1j],
        ids=["count", "shape", "complex"],
    )
    def test_labels(self, tmp_path: Path, labels: np.ndarray) -> None:
        np.savez(tmp_path / "x.npz", train=grey(4, 6), train_labels=labels)
        self.refuse(tmp_path / "x.npz", "train labels: got ", "expected one number or text for each of 4 rows")

    def test_damaged_idx_sibling_is_named(self, tmp_path: Path) -> None:
        write_mnist_folder(tmp_path)
        (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(b"garbage")
        self.refuse(tmp_path, "t10k-labels-idx1-ubyte", "not an IDX file")

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


class TestExpandedSizes:
    """Compressed files say how large they become, and are refused before they do."""

    def claiming(self, path: Path, size: int) -> None:
        """Let every member of a zip file have `size` bytes, by its directory and by the array's own head."""
        content = bytearray(path.read_bytes())
        place = content.find(b"PK\x01\x02")
        while place >= 0:
            content[place + 24 : place + 28] = struct.pack("<I", size)
            place = content.find(b"PK\x01\x02", place + 1)
        path.write_bytes(content)

    def test_an_npz_bomb_is_refused_by_the_sizes_in_its_directory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "bomb.npz"
        np.savez_compressed(path, train=grey(4, 6), test=grey(2, 6))
        self.claiming(path, 0xFFFFFFFF - 1)
        assert path.stat().st_size < 1000
        monkeypatch.setattr(zipfile.ZipFile, "open", None)  # nothing is expanded, not even a head
        with pytest.raises(DataError, match=r"bomb.npz: 8.0 GiB when it is expanded, expected at most 4 GiB; .*\.npy"):
            data.load(str(path))

    def test_only_members_that_are_read_count(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        np.savez_compressed(tmp_path / "x.npz", train=grey(200, 6), unrelated=np.zeros((1000, 1000)))
        monkeypatch.setattr(parts, "_MOST_EXPANDED", 2000)
        assert data.load(str(tmp_path / "x.npz")).train.shape == (180, 6)
        monkeypatch.setattr(parts, "_MOST_EXPANDED", 1200)
        with pytest.raises(DataError, match="when it is expanded"):
            data.load(str(tmp_path / "x.npz"))

    def test_a_head_that_announces_another_size_is_refused(self, tmp_path: Path) -> None:
        content = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            content, {"descr": "|u1", "fortran_order": False, "shape": (10**9, 100)}
        )
        with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("train.npy", content.getvalue() + bytes(1000))
        with pytest.raises(DataError, match=r"x.npz: member 'train' has 1128 bytes, .* announces 100000000128"):
            data.load(str(tmp_path / "x.npz"))

    def test_a_gzipped_idx_bomb_is_refused_by_its_head(self, tmp_path: Path) -> None:
        head = struct.pack(">BBBBIII", 0, 0, 8, 3, 2**16, 2**10, 2**10)
        (tmp_path / "bomb.gz").write_bytes(gzip.compress(head + bytes(1000)))
        with pytest.raises(DataError, match=r"bomb.gz: 64.0 GiB when it is expanded"):
            data.load(str(tmp_path / "bomb.gz"))

    def test_a_gzipped_idx_file_is_read_no_further_than_its_head_announces(self, tmp_path: Path) -> None:
        honest = idx_bytes(grey(9, 3, 3))
        (tmp_path / "long.gz").write_bytes(gzip.compress(honest + bytes(10**8)))
        tracemalloc.start()
        try:
            with pytest.raises(DataError, match="more than 97 bytes, but its IDX header announces 97"):
                data.load(str(tmp_path / "long.gz"))
            assert tracemalloc.get_traced_memory()[1] < 10**7
        finally:
            tracemalloc.stop()


class TestCutShort:
    """A memory-mapped file that becomes shorter: to read behind its end would end the process without a word."""

    ROWS, COLUMNS = 4000, 100

    @pytest.fixture
    def mapped_file(self, tmp_path: Path) -> Path:
        path = tmp_path / "x.npy"
        np.save(path, grey(self.ROWS, self.COLUMNS))
        return path

    def test_the_length_is_looked_up_in_the_file(self, mapped_file: Path) -> None:
        loaded = data.load(str(mapped_file))
        for rows in (loaded.train, np.asarray(loaded.train)[::2], loaded.test[3:5], loaded.train.reshape(-1, 50)):
            data.check_length(rows, "x")
        os.truncate(mapped_file, 5000)
        for rows in (loaded.train, np.asarray(loaded.train)[::2], loaded.test[3:5], loaded.train.reshape(-1, 50)):
            with pytest.raises(DataError, match=r"^x: its file .*cut short while in use: got 5000 bytes, .* 400128"):
                data.check_length(rows, "x")

    def test_a_part_that_begins_late_in_its_file(self, tmp_path: Path) -> None:
        path = tmp_path / "raw"
        path.write_bytes(bytes(50_000))
        late = np.memmap(path, np.uint8, "r", offset=20_000, shape=(300, 100))
        data.check_length(late, "x")
        os.truncate(path, 49_999)
        with pytest.raises(DataError, match="got 49999 bytes, expected 50000"):
            data.check_length(late, "x")

    def test_what_lies_in_memory_has_no_file(self) -> None:
        data.check_length(grey(3, 4), "x")
        data.check_length(np.frombuffer(bytes(12), np.uint8).reshape(3, 4), "x")

    def test_a_new_file_in_its_place_leaves_the_old_one_whole(self, mapped_file: Path, tmp_path: Path) -> None:
        loaded = data.load(str(mapped_file))
        np.save(tmp_path / "other.npy", grey(2, 2))
        (tmp_path / "other.npy").replace(mapped_file)
        data.check_length(loaded.train, "x")
        assert np.array_equal(loaded.train, grey(self.ROWS, self.COLUMNS)[:3600])

    def test_scan_digest_and_standardisation_look_before_they_read(self, mapped_file: Path) -> None:
        rows = data.load(str(mapped_file)).train
        os.truncate(mapped_file, 128)
        for read in (data.scan, data.digest_of_rows, data.Standardisation.of):
            with pytest.raises(DataError, match="cut short while in use"):
                read(rows, "x")
