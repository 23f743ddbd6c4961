"""Families of columns by name: files, mappings, tables and DataFrames, round trips, proposals, and what is refused.

Budget: about 2 s.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vae_np import VAE, data, likelihoods
from vae_np.architecture import Architecture
from vae_np.config import Config, load_toml
from vae_np.errors import ConfigError, DataError, InputError, MissingFileError
from vae_np.likelihoods import columns as named

COLUMNS = {
    "age": "negative-binomial",
    "colour": {"family": "categorical", "levels": ["red", "green", "blue"]},
    "height": "normal",
    "rooms": {"family": "categorical", "levels": [1, 2, 5]},
    "grey": {"family": "discretized-logistic", "levels": 16},
}
TEXT = """rooms,colour,height,age,grey
1,red,1.5,3,0
2.0,blue,,0,15
5,,0.25,12,7
"""
ROWS = [[3, 0, 1.5, 0, 0], [0, 2, np.nan, 1, 15], [12, np.nan, 0.25, 2, 7]]


ONE_OF = "expected one of " + ", ".join(likelihoods.FAMILIES)


def columns() -> named.Columns:
    return likelihoods.columns_of(COLUMNS)


def test_a_table_is_read_by_the_names_of_its_columns(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(TEXT)
    found = data.load(str(tmp_path / "t.csv"), likelihood="columns", columns=columns(), missing=True)
    assert found.columns == tuple(COLUMNS)
    rows = np.concatenate([found.train, found.test])
    assert np.array_equal(rows, ROWS, equal_nan=True)
    assert found.values.kind == "real"
    assert found.image_shape is None


@pytest.mark.parametrize("kind", ["mapping", "frame", "arrow"])
def test_other_tables_are_the_same(kind: str, tmp_path: Path) -> None:
    cells: dict[str, list[Any]] = {
        "height": [1.5, None, 0.25], "age": [3, 0, 12], "colour": ["red", "blue", None], "grey": [0, 15, 7],
        "rooms": [1, 2, 5],
    }  # fmt: skip
    if kind == "mapping":
        rows = data.rows_of(cells, columns(), "x")
    elif kind == "frame":
        rows = data.rows_of(pytest.importorskip("pandas").DataFrame(cells), columns(), "x")
    else:
        feather, pyarrow = pytest.importorskip("pyarrow.feather"), pytest.importorskip("pyarrow")
        feather.write_feather(pyarrow.table(cells), str(tmp_path / "t.arrow"))
        found = data.load(str(tmp_path / "t.arrow"), likelihood="columns", columns=columns(), missing=True)
        rows = np.concatenate([found.train, found.test])
    assert np.array_equal(rows, ROWS, equal_nan=True)


def test_numbers_go_there_and_back() -> None:
    """In an array a level that is a number is itself, and a word's is its place."""
    own = np.array([[3.0, 2, 1.5, 5, 0], [0, 0, 2.5, 1, 15]])
    rows = data.rows_of(own, columns(), "x")
    assert rows.tolist() == [[3, 2, 1.5, 2, 0], [0, 0, 2.5, 0, 15]]
    assert named.own_numbers(columns(), rows).tolist() == own.tolist()
    cells = data.cells_of(np.vstack([own, np.full((1, 5), np.nan)]), columns())
    assert cells["colour"] == ["blue", "red", None]
    assert cells["rooms"] == [5, 1, None]
    assert cells["height"] == [1.5, 2.5, None]
    assert data.cells_of(np.full((1, 5), np.float32(0.1)), columns())["height"] == [0.1], "float32's own digits"
    assert np.array_equal(data.rows_of(cells, columns(), "x")[:2], rows)
    with pytest.raises(DataError, match=r"rows: got shape \(2, 3\), expected \(N, 5\)"):
        data.cells_of(own[:, :3], columns())


@pytest.mark.parametrize("suffix", ["toml", "json"])
def test_a_file_names_the_families(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"columns.{suffix}"
    if suffix == "json":
        path.write_text(json.dumps(COLUMNS))
    else:
        lines = [f"{name} = {json.dumps(how)}" for name, how in COLUMNS.items() if isinstance(how, str)]
        tables = [
            f"[{name}]\nfamily = {json.dumps(how['family'])}\nlevels = {json.dumps(how['levels'])}"
            for name, how in COLUMNS.items()
            if isinstance(how, dict)
        ]
        path.write_text("\n".join(lines + tables))
    found = likelihoods.read_columns(str(path))
    assert {column[0]: column[1:] for column in found} == {column[0]: column[1:] for column in columns()}


def test_settings_and_checkpoints_keep_the_families(tmp_path: Path) -> None:
    config = Config(columns=COLUMNS, missing="mask")
    assert config.likelihood == "columns"
    (tmp_path / "config.toml").write_text(config.to_toml())
    assert load_toml(tmp_path / "config.toml") == config
    arch = Architecture(5, 2, likelihood="columns", columns=COLUMNS, missing="mask")
    assert Architecture.from_dict(json.loads(json.dumps(arch.as_dict()))) == arch
    assert "columns" not in Architecture(5).as_dict()
    assert "missing" not in Architecture(5).as_dict()


def test_a_proposal_is_a_file_to_edit(tmp_path: Path) -> None:
    rows = "1,red,0.5,0,17\n2,blue,-1,1,\n3,red,2,0,99\n"
    (tmp_path / "t.csv").write_text("n,colour,size,flag,many\n" + 8 * rows)
    text = data.propose_columns(str(tmp_path / "t.csv"))
    assert text.splitlines()[0].startswith("# Families that are guessed")
    assert '["colour"]  # text, 2 different ones' in text
    assert '["many"]  # whole numbers from 17 to 99, 8 of 24 cells empty' in text
    (tmp_path / "columns.toml").write_text(text)
    found = likelihoods.read_columns(str(tmp_path / "columns.toml"))
    assert [column[1] for column in found] == ["categorical", "categorical", "normal", "bernoulli", "categorical"]
    assert found[1][2:] == ("blue", "red")
    with pytest.raises(DataError, match="is no table with named columns"):
        data.propose_columns(str(tmp_path))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"a": "gamma"}, "columns: 'a' has the family 'gamma', expected one of bernoulli, normal"),
        ({"a": "poison"}, f"columns: 'a' has the family 'poison', {ONE_OF} (did you mean 'poisson'?)"),
        ({"a": "NegativeBinomial"}, f"columns: 'a' has the family 'NegativeBinomial', {ONE_OF} (did you mean 'neg"),
        ({"a": {"famly": "poisson"}}, "columns: 'a' has the setting 'famly', expected family or levels (did you mean"),
        ({"a": ["poisson", "normal"]}, "columns: got {'a': ['poisson', 'normal']}, expected a name and one family"),
        ({"a": "categorical"}, "columns: 'a' is categorical, which needs its levels"),
        ({"a": {"family": "categorical", "levels": ["x"]}}, "columns: 'a' has the levels ['x'], expected two or more"),
        ({"a": {"family": "categorical", "levels": 1}}, "columns: 'a' has 1 levels, expected from 2 to"),
        ({"a": {"family": "categorical", "levels": ["x", "y", "x"]}}, "columns: 'a' has the level 'x' twice"),
        ({"a": {"family": "poisson", "levels": 3}}, "columns: 'a' is poisson and has levels, expected none"),
        ({"a": {"family": "poisson", "rate": 3}}, "columns: 'a' has the setting 'rate', expected family or levels"),
        ([["a", "poisson"], ["a", "normal"]], "columns: 'a' is named twice, expected each column once"),
        ({}, "columns: got no column, expected at least one"),
        (3, "columns: got 3, expected a mapping"),
        ({"a": 3}, "columns: got {'a': 3}, expected a name and one family"),
    ],
)
def test_families_that_cannot_be_are_one_line(given: Any, says: str) -> None:
    for make in (likelihoods.columns_of, lambda each: VAE(columns=each), lambda each: Config(columns=each)):
        with pytest.raises(InputError) as refused:
            make(given)
        assert str(refused.value).startswith(says)


def test_files_that_cannot_be_used_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="expected an existing TOML or JSON file"):
        likelihoods.read_columns(str(tmp_path / "none.toml"))
    for text, suffix, says in (
        ("a = ", "toml", "is not TOML"),
        ("a = 'poisson'\na = 'normal'", "toml", "is not TOML"),
        ('{"a": "poisson", "a": "normal"}', "json", r"is not JSON \('a' is named twice\)"),
        ('a = "gamma"', "toml", r"has the family 'gamma'.* \(in .*bad.toml\)"),
    ):
        path = tmp_path / f"bad.{suffix}"
        path.write_text(text)
        with pytest.raises(InputError, match=says):
            likelihoods.read_columns(str(path))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,c\n1,x\n", "columns: 'b' is not in"),
        ("a,b,c\n1,2,x\n", "has the column 'c', for which no family is named; name one, or leave it out"),
        ("a,bb\n1,x\n", "which has 'a', 'bb' (did you mean 'bb'?)"),
        ("a,a,b\n1,1,x\n", "has 2 columns 'a', expected one"),
        ("a,b\n1,x\n1.5,y\n", "column 'a' has 1.5 in row 1 (counted from 0), expected whole numbers from 0"),
        ("a,b\n1,x\n2,z\n", "column 'b' has 'z' in row 1 (counted from 0), expected one of its levels: x, y"),
        ("a,b\n1,x\nmany,y\n", "column 'a' has 'many' in row 1 (counted from 0), expected a number"),
        ("a,b\n1,x\n,y\n", "got nan at row 1, column 0 (counted from 0), expected finite numbers; cells without"),
    ],
)
def test_cells_that_do_not_fit_are_one_line(text: str, says: str, tmp_path: Path) -> None:
    from vae_np import runs

    (tmp_path / "t.csv").write_text(text)
    settings = Config(
        data=str(tmp_path / "t.csv"), test_data=str(tmp_path / "t.csv"),
        columns={"a": "poisson", "b": {"family": "categorical", "levels": ["x", "y"]}},
    )  # fmt: skip
    with pytest.raises(DataError) as refused:
        runs.load_data(settings)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_in_place_of_a_mapping_and_cells_in_place_of_a_column_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"got 'columns.toml', .* a mapping .*read_columns reads one"):
        VAE(columns="columns.toml")
    for cells in (3, "red"):
        with pytest.raises(DataError, match=r"x: column 'age' got .*, expected its cells, one per row"):
            data.rows_of({**{name: [1] for name in COLUMNS}, "age": cells}, columns(), "x")
    with pytest.raises(MissingFileError, match=r"none.csv', expected an existing table"):
        data.propose_columns(str(tmp_path / "none.csv"))


def test_a_table_that_needs_families_or_takes_no_holes_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,x\n,y\n")
    path = str(tmp_path / "t.csv")
    with pytest.raises(DataError, match=r"column 'b' holds 'x', expected numbers; .* a family \(--columns\)"):
        data.load(path, likelihood="normal")
    with pytest.raises(DataError, match=r"'x' in row 0 .* columns of text need families of their own, which --columns"):
        data.load(path, likelihood="normal", missing=True)
    (tmp_path / "t.csv").write_text("a,b\n1,\n2,3\n")
    with pytest.raises(DataError, match=r"column 'b' has no value in line 2, .* takes missing cells \(--missing"):
        data.load(path, likelihood="normal")


def test_settings_that_do_not_combine_are_one_line() -> None:
    with pytest.raises(ConfigError, match="likelihood: got 'normal' with columns"):
        Config(columns={"a": "poisson"}, likelihood="normal")
    with pytest.raises(ConfigError, match="columns: got none, expected a file"):
        Config(likelihood="columns")
    with pytest.raises(InputError, match="features: got 3 with 1 columns"):
        VAE(3, columns={"a": "poisson"})
    with pytest.raises(InputError, match=r"columns: got 1 of them, expected 4"):
        Architecture(4, likelihood="columns", columns={"a": "poisson"})
    with pytest.raises(DataError, match="takes numbers as they are, but values 'byte'"):
        VAE(3, likelihood="poisson").fit(np.ones((4, 3)), values="byte")
    with pytest.raises(DataError, match=r"x: column 1 \(counted from 0\) has -1 in row 0"):
        VAE(2, likelihood="poisson", hidden=(2,)).fit(np.array([[1, -1], [0, 0]]))
    with pytest.raises(ConfigError, match="standardize: got true with likelihood 'poisson'"):
        VAE(2, likelihood="poisson", hidden=(2,)).fit(np.ones((4, 2)), standardize=True, batch_size=2)


def test_only_measurements_are_standardised() -> None:
    vae = VAE(columns={"n": "normal", "p": "poisson", "t": "student-t"}, hidden=(2,), latent=1, backend="numpy")
    x = np.abs(np.random.default_rng(0).standard_normal((20, 3)).round() * 4)
    vae.fit(x, epochs=1, batch_size=10, standardize=True)
    spread = vae.values.standardisation
    assert spread.mean[1] == 0
    assert spread.sigma[1] == 1
    np.testing.assert_allclose(spread.mean[[0, 2]], x.mean(axis=0)[[0, 2]])
    assert vae.values.log_det_jacobian == pytest.approx(-np.log(spread.sigma).sum())
