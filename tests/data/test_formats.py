"""Files of the formats that people have: each is read as its own library reads it, or refused with the remedy.

Budget: about 5 s.
"""

from __future__ import annotations

import gzip
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from samples import grey

from vae_np import data
from vae_np.data.formats import read
from vae_np.errors import DataError

ROWS = np.random.default_rng(3).standard_normal((40, 3)).round(4)
NAMES = ("height", "mass", "age")


def refused(path: Path, *words: str, labels: str | None = None) -> None:
    with pytest.raises(DataError) as caught:
        data.load(str(path), labels=labels)
    message = str(caught.value)
    assert "\n" not in message
    for word in (path.name, *words):
        assert word in message


def written(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def table(rows: Any, separator: str = ",", names: tuple[str, ...] | None = NAMES) -> str:
    lines = [] if names is None else [separator.join(names)]
    return "\n".join([*lines, *(separator.join(map(str, row)) for row in rows)]) + "\n"


class TestText:
    @pytest.mark.parametrize("separator", [",", ";", "\t", " "], ids=["comma", "semicolon", "tab", "space"])
    @pytest.mark.parametrize("names", [NAMES, None], ids=["named", "unnamed"])
    def test_separators_and_names(self, tmp_path: Path, separator: str, names: tuple[str, ...] | None) -> None:
        parts = read(written(tmp_path / "x.csv", table(ROWS, separator, names)))
        np.testing.assert_array_equal(parts.train, ROWS)
        assert parts.columns == names
        assert parts.train_labels is None

    @pytest.mark.parametrize(
        "content",
        [
            "\ufeff" + table(ROWS),
            "# made by hand\n\n" + table(ROWS),
            table(ROWS).replace("\n", "\r\n"),
            table([[f'"{cell}"' for cell in row] for row in ROWS], names=tuple(f'"{name}"' for name in NAMES)),
        ],
        ids=["mark", "comments", "crlf", "quoted"],
    )
    def test_what_spreadsheets_write(self, tmp_path: Path, content: str) -> None:
        parts = read(written(tmp_path / "x.csv", content))
        np.testing.assert_array_equal(parts.train, ROWS)
        assert parts.columns == NAMES

    def test_gzipped(self, tmp_path: Path) -> None:
        (tmp_path / "x.csv.gz").write_bytes(gzip.compress(table(ROWS).encode()))
        np.testing.assert_array_equal(read(tmp_path / "x.csv.gz").train, ROWS)

    def test_mnist_as_csv_has_its_label_in_the_first_column(self, tmp_path: Path) -> None:
        pixels, digits = grey(30, 16).astype(int), np.arange(30) % 10
        names = ("label", *(f"pixel{place}" for place in range(16)))
        path = written(tmp_path / "train.csv", table(np.column_stack([digits, pixels]), names=names))
        loaded = data.load(str(path))
        assert (loaded.values.kind, loaded.image_shape) == ("byte", (4, 4))
        np.testing.assert_array_equal(np.concatenate([loaded.train, loaded.test]), pixels)
        np.testing.assert_array_equal(loaded.train_labels, digits[:27])
        assert loaded.columns == names[1:]

    def test_the_column_of_labels_can_be_named_and_may_be_text(self, tmp_path: Path) -> None:
        kinds = ["setosa", "virginica"] * 20
        rows = [[*map(str, row), kind] for row, kind in zip(ROWS, kinds, strict=True)]
        path = written(tmp_path / "iris.csv", table(rows, names=(*NAMES, "species")))
        loaded = data.load(str(path), labels="species", likelihood="normal")
        assert loaded.train_labels is not None
        assert list(loaded.train_labels) == kinds[:36]
        assert loaded.columns == NAMES
        refused(path, "column 'species' holds 'setosa', expected numbers", "--labels species")
        unnamed = written(tmp_path / "iris.data", table(rows, names=None))
        loaded = data.load(str(unnamed), labels="3", likelihood="normal")
        assert loaded.train.shape == (36, 3)

    def test_whole_numbers_stay_whole_and_do_not_become_bytes(self, tmp_path: Path) -> None:
        counts = written(tmp_path / "counts.csv", table([[1, 200, -3], [4, 5, 6]]))
        assert read(counts).train.dtype == np.int16
        large = written(tmp_path / "large.csv", table([[1, 2, 2**40], [4, 5, 6]]))
        assert read(large).train.dtype == np.int64
        assert read(written(tmp_path / "points.csv", table([[1.0, 2.0, 3.0]] * 2))).train.dtype == np.float64

    def test_binarized_mnist_as_published_in_amat(self, tmp_path: Path) -> None:
        bits = (grey(12, 784) > 200).astype(int)
        path = written(tmp_path / "binarized_mnist_train.amat", table(bits, " ", None))
        loaded = data.load(str(path))
        assert (loaded.values.kind, loaded.image_shape) == ("binary", (28, 28))
        np.testing.assert_array_equal(loaded.train, bits[:11])

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (table([["1", "2", "3"], ["4", "", "6"]]), ["column 'mass' has no value in line 3"]),
            (table([["1", "2", "3"], ["4", "NA", "6"]]), ["column 'mass' has no value in line 3"]),
            (table([["1", "2", "3"], ["4", "nan", "6"]]), ["column 'mass' has no value in line 3"]),
            ("# head\n\n" + table([["1", "2", "3"], ["4", "?", "6"]]), ["column 'mass' has no value in line 5"]),
            (table([["1", "2", "3"], ["4", "5"], ["7", "8", "9"]]), ["line 3 has 2 cells, expected 3"]),
            (table([["1", "2", "3"], ["4", "5", "6", "7"]]), ["line 3 has 4 cells, expected 3"]),
            (table([["1", "2", "3"], ["4", "tall", "6"]]), ["column 'mass' holds 'tall'", "--labels mass"]),
            (table([["1,5", "2,5", "3,5"]] * 3, ";"), ["line 2 has '1,5'", "a decimal point"]),
            ("label\n1\n2\n", ["no column but the labels"]),
        ],
        ids=["empty", "NA", "nan", "question", "short", "long", "text", "comma", "labels alone"],
    )
    def test_refused(self, tmp_path: Path, content: str, words: list[str]) -> None:
        refused(written(tmp_path / "x.csv", content), *words)

    def test_another_encoding(self, tmp_path: Path) -> None:
        content = table(ROWS[:3], names=("a", "b", "c")) + "# " + "x" * 5000 + "\n# größe\n"
        refused(written(tmp_path / "x.csv", content, "latin-1"), "line 6 is not UTF-8")

    def test_labels_that_are_not_there(self, tmp_path: Path) -> None:
        path = written(tmp_path / "x.csv", table(ROWS))
        refused(path, "labels 'kind': ", "has no such columns, expected one of 'height', 'mass', 'age'", labels="kind")

    def test_the_test_file_has_the_same_columns(self, tmp_path: Path) -> None:
        train = written(tmp_path / "a.csv", table(ROWS))
        test = written(tmp_path / "b.csv", table(ROWS, names=("height", "age", "mass")))
        with pytest.raises(DataError, match=r"its columns differ from those of .*: got 'age', expected 'mass'"):
            data.load(str(train), test=str(test), likelihood="normal")


class TestArrays:
    def test_matlab(self, tmp_path: Path) -> None:
        io_ = pytest.importorskip("scipy.io")
        labels = np.arange(40)[None]
        io_.savemat(tmp_path / "x.mat", {"x_train": ROWS, "x_test": ROWS[:5], "y_train": labels, "note": "by hand"})
        parts = read(tmp_path / "x.mat")
        np.testing.assert_array_equal(parts.train, ROWS)
        assert parts.test is not None
        np.testing.assert_array_equal(parts.test, ROWS[:5])
        np.testing.assert_array_equal(parts.train_labels, np.arange(40))
        io_.savemat(tmp_path / "two.mat", {"a": ROWS, "b": ROWS})
        refused(tmp_path / "two.mat", "expected an array 'train' or 'x_train', or a single one; found a, b")

    def test_hdf5_and_matlab_of_version_7_3(self, tmp_path: Path) -> None:
        h5py = pytest.importorskip("h5py")
        with h5py.File(tmp_path / "x.h5", "w") as file:
            file["train"], file["test"], file["train_labels"] = ROWS, ROWS[:5], np.arange(40)
        parts = read(tmp_path / "x.h5")
        np.testing.assert_array_equal(parts.train, ROWS)
        np.testing.assert_array_equal(parts.train_labels, np.arange(40))
        with h5py.File(tmp_path / "x.mat", "w", userblock_size=512) as file:
            file["x"] = ROWS.T
        content = bytearray((tmp_path / "x.mat").read_bytes())
        content[:19] = b"MATLAB 7.3 MAT-file"
        (tmp_path / "x.mat").write_bytes(content)
        np.testing.assert_array_equal(read(tmp_path / "x.mat").train, ROWS)

    def test_omniglot_as_published(self, tmp_path: Path) -> None:
        """`chardata.mat`: 28 x 28 images in columns as MATLAB orders them, classes one-hot."""
        io_ = pytest.importorskip("scipy.io")
        upright = grey(6, 28, 28) / 255
        held = np.stack([image.reshape(-1, order="F") for image in upright], axis=1)
        classes = np.eye(6)[[2, 0, 1, 5, 4, 3]].T
        io_.savemat(
            tmp_path / "chardata.mat",
            {"data": held, "testdata": held[:, :2], "target": classes, "testtarget": classes[:, :2]},
        )
        loaded = data.load(str(tmp_path / "chardata.mat"))
        np.testing.assert_array_equal(loaded.train, upright.reshape(6, 784).astype(np.float32))
        np.testing.assert_array_equal(loaded.train_labels, [2, 0, 1, 5, 4, 3])
        assert (loaded.image_shape, len(loaded.test), loaded.values.kind) == ((28, 28), 2, "unit")

    def test_frey_faces_as_published(self, tmp_path: Path) -> None:
        io_ = pytest.importorskip("scipy.io")
        faces = grey(12, 28, 20)
        io_.savemat(tmp_path / "frey_rawface.mat", {"ff": faces.reshape(12, 560).T})
        loaded = data.load(str(tmp_path / "frey_rawface.mat"))
        np.testing.assert_array_equal(loaded.train, faces[:11].reshape(11, 560))
        assert loaded.image_shape == (28, 20)

    def test_caltech_silhouettes_as_published(self, tmp_path: Path) -> None:
        io_ = pytest.importorskip("scipy.io")
        shapes = (grey(9, 16, 16) > 128).astype(np.uint8)
        rows = np.stack([image.reshape(-1, order="F") for image in shapes])
        held = {f"{part}_data": rows for part in ("train", "val", "test")}
        classes = {f"{part}_labels": np.arange(9)[:, None] for part in ("train", "val", "test")}
        io_.savemat(tmp_path / "silhouettes.mat", {**held, **classes})
        loaded = data.load(str(tmp_path / "silhouettes.mat"))
        np.testing.assert_array_equal(loaded.train, shapes.reshape(9, 256))
        np.testing.assert_array_equal(loaded.test_labels, np.arange(9))
        assert loaded.image_shape == (16, 16)

    @pytest.mark.parametrize("shape", [(20, 1, 5, 4), (20, 5, 4, 1)], ids=["channel first", "channel last"])
    def test_images_with_an_axis_of_one_channel(self, shape: tuple[int, ...]) -> None:
        x = grey(20, 5, 4)
        loaded = data.from_arrays(x.reshape(shape))
        assert loaded.image_shape == (5, 4)
        np.testing.assert_array_equal(loaded.train, x[:18].reshape(18, 20))
        with pytest.raises(DataError, match=r"got shape \(20, 3, 5, 4\)"):
            data.from_arrays(grey(20, 3, 5, 4))


class TestColumns:
    @pytest.mark.parametrize("kind", ["parquet", "feather"])
    def test_parquet_and_arrow(self, tmp_path: Path, kind: str) -> None:
        pyarrow = pytest.importorskip("pyarrow")
        module = pytest.importorskip(f"pyarrow.{kind}")
        named = {name: ROWS[:, place] for place, name in enumerate(NAMES)}
        write = module.write_table if kind == "parquet" else module.write_feather
        write(pyarrow.table({**named, "class": ["a", "b"] * 20}), tmp_path / "x")
        parts = read(tmp_path / "x")
        np.testing.assert_array_equal(parts.train, ROWS)
        assert parts.columns == NAMES
        assert parts.train_labels is not None
        assert parts.train_labels.tolist() == ["a", "b"] * 20
        write(pyarrow.table({**named, "kind": ["a", "b"] * 20}), tmp_path / "text")
        refused(tmp_path / "text", "column 'kind' holds 'a', expected numbers", "--labels kind")
        holes = np.where(np.arange(40) == 7, None, ROWS[:, 1])
        write(pyarrow.table({**named, "mass": holes.tolist()}), tmp_path / "holes")
        refused(tmp_path / "holes", "column 'mass' has no value in row 7")

    def test_a_data_frame_brings_the_names_of_its_columns(self) -> None:
        pandas = pytest.importorskip("pandas")
        loaded = data.from_arrays(pandas.DataFrame(ROWS, columns=NAMES), likelihood="normal")
        assert loaded.columns == NAMES
        np.testing.assert_array_equal(loaded.train, ROWS[:36])


class TestImages:
    def save(self, folder: Path, images: np.ndarray, mode: str | None = None) -> None:
        from PIL import Image

        folder.mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(images):
            picture = Image.fromarray(image)
            (picture if mode is None else picture.convert(mode)).save(folder / f"{number:03}.png")

    def test_a_folder_of_images(self, tmp_path: Path) -> None:
        images = grey(20, 6, 5)
        self.save(tmp_path, images)
        loaded = data.load(str(tmp_path))
        assert (loaded.image_shape, loaded.train_labels) == ((6, 5), None)
        np.testing.assert_array_equal(loaded.train, images[:18].reshape(18, 30))

    def test_subfolders_are_classes_and_black_and_white_is_binary(self, tmp_path: Path) -> None:
        images = np.where(grey(10, 6, 6) > 128, 255, 0).astype(np.uint8)
        self.save(tmp_path / "Greek" / "alpha", images[:5], "1")
        self.save(tmp_path / "Greek" / "beta", images[5:], "1")
        loaded = data.load(str(tmp_path))
        assert loaded.values.kind == "binary"
        np.testing.assert_array_equal(loaded.train, images[:9].reshape(9, 36) // 255)
        assert loaded.train_labels is not None
        assert loaded.train_labels.tolist() == ["Greek/alpha"] * 5 + ["Greek/beta"] * 4
        assert not loaded.is_sorted_by_label  # fewer than twenty labels say nothing

    def test_refused(self, tmp_path: Path) -> None:
        self.save(tmp_path / "sizes", grey(3, 6, 5))
        self.save(tmp_path / "sizes" / "more", grey(2, 6, 6))
        refused(tmp_path / "sizes", "images of several sizes", "3 of 6x5, 2 of 6x6")
        self.save(tmp_path / "colour", grey(2, 6, 5), "RGB")
        refused(tmp_path / "colour", "an image of mode RGB, expected grey")
        refused(tmp_path / "colour" / "000.png", "one image; give the folder")
        (tmp_path / "broken").mkdir()
        (tmp_path / "broken" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
        refused(tmp_path / "broken", "cannot be read")


class TestForeign:
    @pytest.mark.parametrize(
        ("content", "word"),
        [
            (pickle.dumps({"x": 1}), "a pickle, which can run code"),
            (b"%PDF-1.7\n", "a PDF document"),
            (b"BZh91AY&SY\x00", "compressed by bzip2; unpack it"),
            (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\x00", "save the sheet as CSV"),
            (bytes(range(140, 220)), "not a data file, expected .npy, .npz, IDX, CSV"),
            (b"no numbers here\n", "not a data file"),
        ],
        ids=["pickle", "pdf", "bzip2", "xls", "noise", "prose"],
    )
    def test_other_files(self, tmp_path: Path, content: bytes, word: str) -> None:
        (tmp_path / "x.dat").write_bytes(content)
        refused(tmp_path / "x.dat", word)

    @pytest.mark.parametrize(
        ("member", "word"),
        [("archive/data.pkl", "torch.load it, and np.save"), ("xl/workbook.xml", "save the sheet as CSV")],
        ids=["pytorch", "excel"],
    )
    def test_other_zips(self, tmp_path: Path, member: str, word: str) -> None:
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            archive.writestr(member, "x")
        (tmp_path / "x.zip").write_bytes(content.getvalue())
        refused(tmp_path / "x.zip", word)
