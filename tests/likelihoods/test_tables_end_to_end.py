"""New likelihoods, columns and missing cells through the command line, checkpoints, evaluation, samples and pictures.

Budget: about 9 s, of which the imports of matplotlib and scikit-learn take 3.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from commandline import good, vae_np

from vae_np import VAE, checkpoint
from vae_np.errors import InputError
from vae_np.evaluation.annealing import Annealing
from vae_np.pictures import tables

COLUMNS = """
count = "negative-binomial"
size = "student-t"
[kind]
family = "categorical"
levels = ["red", "green", "blue"]
"""
SMALL = ("--hidden", 8, "--latent", 2, "--epochs", 2, "--batch-size", 50, "--backend", "numpy")


@pytest.fixture
def table(tmp_path: Path) -> tuple[Path, Path]:
    """A table of 300 rows with empty cells, and its families."""
    rng = np.random.default_rng(0)
    kinds = np.array(["red", "green", "blue"])
    lines = ["kind,size,count"]
    for _ in range(300):
        kind = rng.integers(3)
        cells = [kinds[kind], f"{rng.normal(kind):.3f}", str(rng.poisson(1 + 3 * kind))]
        lines.append(",".join("" if rng.random() < 0.2 else cell for cell in cells))
    (tmp_path / "t.csv").write_text("\n".join(lines))
    (tmp_path / "columns.toml").write_text(COLUMNS)
    return tmp_path / "t.csv", tmp_path / "columns.toml"


def test_a_table_is_trained_resumed_evaluated_and_sampled(table: tuple[Path, Path], tmp_path: Path) -> None:
    rows, columns = table
    options = ("--data", rows, "--columns", columns, "--missing", "mask", *SMALL, "--standardize")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    said = good("train", *options, "--out", whole).out
    assert "missing  " in said
    assert "columns  3: count, size, kind" in said
    assert all((whole / name).exists() for name in ("samples.png", "pairs.png", "curves.png"))
    good("train", *options, "--epochs", 1, "--out", parts, "--no-plots")
    columns.unlink()
    good("train", "--resume", parts, "--epochs", 2, "--no-plots")
    ours, theirs = (checkpoint.load_weights(folder).parameters for folder in (whole, parts))
    assert all((ours[name] == theirs[name]).all() for name in ours)
    found = json.loads(good("eval", whole, "--samples", 50, "--no-plots", "--json", "-").out)["test"]
    assert found["log_likelihood"]["mean"] > found["elbo"]["mean"] - 3 * found["elbo"]["stderr"]
    few = ("--images", 2, "--samples", 2, "--temperatures", 5, "--leapfrog", 1)
    bracket = good("eval", whole, "--estimator", "bdmc", *few, "--no-plots")
    assert "from above" in bracket.out
    good("sample", whole, "-n", 20, "--out", tmp_path / "drawn.npy")
    drawn = np.load(tmp_path / "drawn.npy")
    assert drawn.shape == (20, 3)
    assert set(drawn[:, 2]) <= {0, 1, 2}
    good("sample", whole, "-n", 20, "--out", tmp_path / "drawn.csv")
    lines = (tmp_path / "drawn.csv").read_text().splitlines()
    assert lines[0] == "count,size,kind"
    assert [line.split(",")[2] for line in lines[1:]] == [("red", "green", "blue")[int(place)] for place in drawn[:, 2]]
    assert [int(line.split(",")[0]) for line in lines[1:]] == drawn[:, 0].tolist()
    refused = vae_np("report", whole)
    assert refused.code == 2
    assert "has likelihood 'columns'" in refused.err


def test_a_guess_is_printed_and_not_used(table: tuple[Path, Path]) -> None:
    rows, _ = table
    said = good("train", "--data", rows, "--propose-columns").out
    assert '["kind"]  # text, 3 different ones, ' in said
    refused = vae_np("train", "--data", rows, *SMALL, "--dry-run")
    assert refused.code == 2
    assert refused.err.count("\n") == 1


def test_pixels_with_holes_by_the_command_line(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, (200, 9)).astype(np.float32)
    x[rng.random(x.shape) < 0.5] = np.nan
    x[5] = x[7] = np.nan
    np.save(tmp_path / "x.npy", x)
    refused = vae_np("train", "--data", tmp_path / "x.npy", *SMALL, "--out", tmp_path / "run")
    assert refused.code == 2
    assert "cells without a value need missing 'zero' or 'mask'" in refused.err
    assert not (tmp_path / "run").exists()
    said = good("train", "--data", tmp_path / "x.npy", "--missing", "zero", *SMALL, "--out", tmp_path / "run").out
    assert "binary, 0 and 1" in said
    said_so = r"^missing  [45]\d\.\d% of the training rows' cells have no value; in 2 rows nothing was observed$"
    assert re.search(said_so, said, re.MULTILINE)
    vae = VAE.load(tmp_path / "run", backend="numpy")
    found = vae.impute(x[:5], samples=20)
    assert ((found.mean >= 0) & (found.mean <= 1)).all()


@pytest.mark.parametrize(
    "likelihood", ["continuous-bernoulli", "poisson", "negative-binomial", "discretized-logistic", "student-t"]
)
def test_a_likelihood_for_whole_rows_goes_everywhere(likelihood: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    x = rng.random((60, 4)) if likelihood == "continuous-bernoulli" else rng.poisson(3, (60, 4)).astype(float)
    vae = VAE(4, hidden=(5,), latent=1, activation="tanh", likelihood=likelihood, dtype="float64", backend="numpy")
    vae.fit(x, epochs=2, batch_size=20, objective="iwae", samples=3)
    vae.save(tmp_path)
    again = VAE.load(tmp_path, backend="numpy")
    assert again.arch == vae.arch
    assert (again.elbo(x).elbo == vae.elbo(x).elbo).all()
    exact = vae.exact.log_likelihood(x[:5])
    estimate = vae.log_likelihood(x[:5], samples=4000)
    assert np.abs((estimate.log_likelihood - exact.log_prob) / estimate.stderr).max() < 5
    assert np.isfinite(vae.annealed_log_likelihood(x[:2], Annealing(2, 5)).log_likelihood).all()
    drawn = vae.sample(7)
    assert (drawn[:3] == vae.sample(3)).all()
    assert vae.arch.observation.groups[0].family.fits(drawn).all()
    assert vae.decode(np.zeros((2, 1))).shape == vae.reconstruct(x[:2]).shape == (2, 4)
    assert "composed" in vae.backend.describe("steps", vae.arch)
    with pytest.raises(InputError, match=f"got a model with likelihood '{likelihood}'"):
        vae.to_torch()


def test_samples_of_a_trained_table_come_from_its_density() -> None:
    """A model with one latent that matters little: each column's mean against quadrature's moments is too weak, so the
    share of every level is held against p(level) by quadrature."""
    columns = {"c": {"family": "categorical", "levels": 3}, "d": {"family": "categorical", "levels": [7, 9]}}
    vae = VAE(columns=columns, hidden=(4,), latent=1, activation="tanh", dtype="float64", backend="numpy", seed=3)
    for view in vae.parameters.values():
        view *= 3
    every = np.array([[a, b] for a in range(3) for b in (7, 9)], dtype=float)
    p = np.exp(vae.exact.log_likelihood(every).log_prob)
    assert p.sum() == pytest.approx(1, abs=1e-10)
    drawn = vae.sample(20_000, seed=1)
    seen = np.array([(drawn == row).all(axis=1).mean() for row in every])
    assert (np.abs(seen - p) < 5 * np.sqrt(p * (1 - p) / len(drawn))).all()


def test_pictures_of_tables_show_every_column() -> None:
    columns = (
        ("a", "normal"),
        ("b", "categorical", "x", "y"),
        ("c", "poisson"),
        ("d", "student-t"),
        ("e", "bernoulli"),
    )
    rng = np.random.default_rng(0)
    rows = np.stack(
        [rng.normal(size=50), rng.integers(0, 2, 50), rng.poisson(3, 50), rng.normal(size=50), rng.integers(0, 2, 50)],
        axis=1,
    )
    holes = np.where(rng.random(rows.shape) < 0.3, np.nan, rows)
    figure = tables.marginals(holes, rows, columns, title="Table")
    assert [ax.get_title(loc="left") for ax in figure.axes[:5]] == list("abcde")
    bars = figure.axes[1].patches
    assert sum(bar.get_height() for bar in bars[:2]) == pytest.approx(1)
    assert [text.get_text() for text in figure.axes[1].get_xticklabels()] == ["x", "y"]
    figure = tables.pairs(holes, rows, columns)
    assert len(figure.axes) == 16
    both = ~np.isnan(holes[:, [0, 1]]).any(axis=1)
    assert len(figure.axes[4].collections[0].get_offsets()) == both.sum()
    below, above = figure.axes[4], figure.axes[1]
    assert [text.get_text() for text in below.get_yticklabels()] == ["x", "y"]
    assert below.get_xlim() == above.get_ylim(), "a column has one range in all panels"
    assert [text.get_text() for text in figure.axes[7].get_yticklabels()] == ["x", "y"]
    with pytest.raises(InputError, match=r"samples: got shape \(50, 4\), expected \(N, 5\)"):
        tables.marginals(rows, rows[:, :4], columns)


def test_counts_are_drawn_in_bins_of_as_many_numbers_and_long_names_are_cut() -> None:
    """Bins of a width that is no whole number would hold now one count and now two: a comb that no data have."""
    rows = np.stack([np.arange(100.0), np.arange(100) % 2], axis=1)
    columns = (("n", "poisson"), ("c", "categorical", "a very long name", "short"))
    figure = tables.marginals(rows, rows, columns)
    outline = figure.axes[0].patches[0].get_xy()
    heights = {round(float(y), 9) for x, y in outline if 2 < x < 97 and y > 0}
    assert heights == {0.04}, heights
    assert [text.get_text() for text in figure.axes[1].get_xticklabels()] == ["a very lo…", "short"]


def test_the_transformer_takes_holes_where_it_was_told_to() -> None:
    sklearn = pytest.importorskip("vae_np.sklearn")
    x = np.random.default_rng(0).standard_normal((40, 3))
    x[::3, 1] = np.nan
    with pytest.raises(ValueError, match="contains NaN"):
        sklearn.VAETransformer(backend="numpy").fit(x)
    kept = sklearn.VAETransformer(missing="mask", epochs=1, backend="numpy", random_state=0).fit(x)
    assert np.isfinite(kept.transform(x)).all()
    assert np.isfinite(kept.score(x))
    assert kept.__sklearn_tags__().input_tags.allow_nan
