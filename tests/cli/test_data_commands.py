"""Data at the command line: what they mean, which rows they are, where they lie now, and what is refused.

Budget: about 4 s.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commandline import TINY, good, grey_bars, metrics, snapshot, vae_np
from safetensors import safe_open
from safetensors.numpy import save as encode

from vae_np import VAE, checkpoint, config, runs
from vae_np.errors import UnverifiedWarning

QUICK = (*TINY, "--epochs", "2", "--backend", "numpy")
NORMAL = (*QUICK, "--likelihood", "normal", "--lr", "0.001")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def table(rows: int = 120) -> np.ndarray:
    """Columns of very different scales, the last one constant."""
    return np.random.default_rng(0).normal(size=(rows, 4)) * (3e4, 0.02, 500, 0) + (1e5, -4, 0, 7)


def write(name: str, array: np.ndarray) -> str:
    np.save(name, array)
    return name


def figures(*arguments: object) -> dict[str, Any]:
    return dict(good("eval", *arguments, "--no-plots", "--samples", 5, "--json", "-").json["test"])


# What the numbers mean


def test_the_command_line_and_python_read_a_table_alike() -> None:
    """Whole numbers stored as floats were bytes to `train` and real to the API, on one and the same run."""
    w = np.random.default_rng(1).integers(0, 100, (120, 4)).astype(float)
    out = good("train", "--data", write("w.npy", w), *NORMAL, "--out", "run").out
    assert "\nvalues   whole numbers from 0 to 99: real, as they are\n" in out
    settings = config.load_toml("run/config.toml")
    assert (settings.values, settings.scale) == ("real", None)
    test, vae = w[-12:], VAE.load("run", backend="numpy")
    assert figures("run")["elbo"]["mean"] == pytest.approx(vae.elbo(test).elbo.mean(), rel=1e-6)
    last = [line for line in metrics(Path("run")) if line["split"] == "validation"][-1]
    kept = w[98:108]
    # A validation row has the place that it has among the training rows, and with it its noise.
    padded = np.concatenate([w[:98], kept])
    assert last["elbo"] == pytest.approx(vae.elbo(padded).elbo[98:].mean(), rel=1e-6)


@pytest.mark.parametrize("low", [0, -1])
def test_other_data_are_read_as_the_run_reads_its_own(low: int) -> None:
    """Whatever stands in the file: it is not looked at for what it might be."""
    x = np.random.default_rng(1).integers(-5, 12, (120, 4))
    good("train", "--data", write("x.npy", x), *NORMAL, "--out", "run")
    other = np.random.default_rng(2).integers(low, 99, (40, 4))
    found = figures("run", "--data", write("other.npy", other))
    expected = VAE.load("run", backend="numpy").elbo(other[-4:]).elbo.mean()
    assert found["elbo"]["mean"] == pytest.approx(expected, rel=1e-6)


def test_other_data_that_do_not_fit_are_refused_with_both_ranges_until_they_are_named() -> None:
    good("train", "--data", grey_bars(Path("grey.npy")), *QUICK, "--out", "run")
    grey = np.load("grey.npy")
    write("unit.npy", grey / 255)
    before = snapshot(Path("run"))
    result = vae_np("eval", "run", "--data", "unit.npy", "--no-plots")
    assert result.code == 2
    assert result.err.splitlines() == [
        "vae-np: data 'unit.npy': got numbers from 0.0980392 to 0.901961, expected whole numbers from 0 to 255 "
        "(bytes); the training rows have whole numbers from 25 to 230; what it holds can be named: values 'unit'"
    ]
    assert snapshot(Path("run")) == before
    assert figures("run", "--data", "unit.npy", "--values", "unit")["elbo"] == figures("run")["elbo"]
    write("levels.npy", np.where(grey > 100, 14, 2))
    assert (
        "values   whole numbers from 2 to 14: grey, over 16, binarize dynamic"
        in good("eval", "run", "--data", "levels.npy", "--scale", 16, "--no-plots", "--samples", 2).out
    )
    write("binary.npy", (grey > 100).astype(np.uint8))
    dark = good("eval", "run", "--data", "binary.npy", "--no-plots", "--samples", 2).out
    assert "note     only 0 and 1, on that scale nearly black; if they are pixels, name them: --values binary" in dark
    named = good("eval", "run", "--data", "binary.npy", "--values", "binary", "--no-plots", "--samples", 2).out
    assert "values   whole numbers from 0 to 1: binary, 0 and 1" in named
    for options, message in (
        (("--data", "unit.npy", "--values", "real"), "values: got 'real', but the model was fitted to 'byte' values"),
        (("--values", "unit"), "values, scale: they say what is in --data; the run knows what its own data are"),
        (("--data", "unit.npy", "--values", "grey"), "values: got 'grey', expected one of binary, byte, unit, real"),
    ):
        result = vae_np("eval", "run", *options, "--no-plots")
        assert (result.code, result.err.count("\n")) == (2, 1)
        assert message in result.err


def test_levels_are_asked_for_and_then_kept() -> None:
    levels = np.random.default_rng(0).integers(0, 17, (120, 16))
    write("digits.npy", levels)
    result = vae_np("train", "--data", "digits.npy", *QUICK, "--out", "run")
    assert result.code == 2
    assert result.err.splitlines() == [
        "vae-np: scale: data 'digits.npy' has whole numbers from 0 to 16, which may be levels or dark bytes; name one: "
        "--scale 16 (in Python scale=16) where 16 is white, or --scale 255 for bytes"
    ]
    assert not Path("run").exists()
    out = good("train", "--data", "digits.npy", *QUICK, "--scale", 16, "--out", "run").out
    assert "\nvalues   whole numbers from 0 to 16: grey, over 16, binarize dynamic\n" in out
    settings = config.load_toml("run/config.toml")
    assert (settings.values, settings.scale) == ("unit", 16)
    vae = VAE.load("run", backend="numpy")
    assert figures("run")["elbo"]["mean"] == pytest.approx(vae.elbo(levels[-12:]).elbo.mean(), rel=1e-6)
    # The mean grey that the model draws is that of the levels, and not that of bytes.
    assert vae.sample(200, mean=True).mean() == pytest.approx(0.5, abs=0.05)
    good("train", "--resume", "run", "--epochs", 3, "--no-plots")


def test_named_values_have_to_fit_and_to_belong_together() -> None:
    grey_bars(Path("grey.npy"))
    for options, message in (
        (("--values", "binary"), "data 'grey.npy': got whole numbers from 25 to 230, expected only 0 and 1 (binary)"),
        (("--scale", "16"), "data 'grey.npy': got whole numbers from 25 to 230, expected numbers from 0 to 16"),
        (("--values", "real"), "data 'grey.npy': likelihood 'bernoulli' takes values in [0, 1]"),
        (("--standardize",), "standardize: got true with likelihood 'bernoulli', expected a normal one"),
        (("--values", "byte", "--scale", "16"), "scale: got 16, expected 255 for values 'byte'"),
    ):
        result = vae_np("train", "--data", "grey.npy", *QUICK, *options, "--out", "run")
        assert (result.code, result.err.count("\n")) == (2, 1)
        assert message in result.err
        assert not Path("run").exists()


# Standardisation


def test_a_table_dies_of_its_scale_and_is_told_so_and_lives_standardised() -> None:
    x = table() * 1e3
    write("table.npy", x)
    for lr in (1e-9, 1e-2):
        result = vae_np("train", "--data", "table.npy", *NORMAL, "--lr", lr, "--out", f"dead-{lr}")
        assert result.code == 1
        assert "note     a model starts from numbers near 0 and 1: --standardize" in result.out
        assert "step 1: " in result.err
        assert "--standardize (in Python standardize=True) helps; there is no checkpoint yet" in result.err
        assert "lr" not in result.err
    out = good("train", "--data", "table.npy", *NORMAL, "--standardize", "--out", "run").out
    assert ": real, standardized column by column\n" in out
    held = checkpoint.load_weights("run").values
    assert held is not None
    spread = held["standardisation"]
    rows = x[:98]
    np.testing.assert_allclose(spread["mean"], rows.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(spread["sigma"][:3], rows.std(axis=0)[:3], rtol=1e-9)
    assert spread["sigma"][3] == 1
    assert "standardize = true" in Path("run/config.toml").read_text()
    vae = VAE.load("run", backend="numpy")
    assert figures("run")["elbo"]["mean"] == pytest.approx(vae.elbo(x[-12:]).elbo.mean(), rel=1e-5)
    good("sample", "run", "--out", "samples.npy", "-n", 200, "--draws")
    drawn = np.load("samples.npy")
    assert np.abs(drawn.mean(axis=0) - rows.mean(axis=0)).max() < 1e8
    np.testing.assert_allclose(drawn.std(axis=0)[:3], rows.std(axis=0)[:3], rtol=1)


def test_a_resumed_standardised_run_equals_one_that_never_stopped() -> None:
    write("table.npy", table())
    good("train", "--data", "table.npy", *NORMAL, "--standardize", "--epochs", 3, "--out", "whole")
    good("train", "--data", "table.npy", *NORMAL, "--standardize", "--out", "run")
    good("train", "--resume", "run", "--epochs", 3, "--no-plots")
    assert metrics(Path("run")) == metrics(Path("whole"))
    one, other = (checkpoint.load_state(name) for name in ("run", "whole"))
    assert one.values == other.values
    for name, tensor in one.parameters.items():
        assert tensor.tobytes() == other.parameters[name].tobytes()


def test_pictures_of_a_standardised_run_are_on_the_datas_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    from vae_np.pictures import plots

    x = table()
    write("table.npy", x)
    good("train", "--data", "table.npy", *NORMAL, "--standardize", "--out", "run")
    shown: list[Any] = []
    drawn = plots.reconstructions
    monkeypatch.setattr(plots, "reconstructions", lambda *given: shown.append(given) or drawn(*given))
    good("reconstruct", "run", "-n", 5)
    np.testing.assert_allclose(shown[0][0], x[-12:-7], rtol=1e-5)


# Which rows


def test_sorted_rows_are_warned_of_and_shuffled_ones_are_not() -> None:
    images = np.random.default_rng(0).integers(0, 256, (120, 16), dtype=np.uint8)
    for name, labels in (("sorted", np.repeat(np.arange(10), 12)), ("shuffled", np.tile(np.arange(10), 12))):
        np.savez(f"{name}.npz", train=images, train_labels=labels)
        result = good("train", "--data", f"{name}.npz", *QUICK, "--out", name)
        assert "\nrows     0-97 train, 98-107 validation, 108-119 test, the last tenth\n" in result.out
        said = "its labels show that the rows are sorted" in result.err
        assert said == (name == "sorted")
    np.savez("own.npz", train=images, train_labels=np.repeat(np.arange(10), 12), test=images[:9])
    result = good("train", "--data", "own.npz", *QUICK, "--out", "own")
    assert "\nrows     0-107 train, 108-119 validation, test rows of their own\n" in result.out
    assert "its labels show" in result.err
    result = good("train", "--data", "own.npz", *QUICK, "--validation", 0, "--out", "all")
    assert "\nrows     0-119 train, test rows of their own\n" in result.out
    assert "its labels show" not in result.err


def test_eval_says_which_rows_of_a_file_it_takes() -> None:
    good("train", "--data", grey_bars(Path("grey.npy")), *QUICK, "--out", "run")
    out = good("eval", "run", "--no-plots", "--samples", 2).out
    assert "data     grey.npy: 12 test rows (rows 112-123, from the last tenth)" in out


# Changed and moved data


def test_changed_data_are_refused_by_name() -> None:
    good("train", "--data", grey_bars(Path("grey.npy")), *QUICK, "--out", "run")
    kept = checkpoint.load_state("run").fingerprint
    assert {part: kept[part]["rows"] for part in kept} == {"train": 112, "test": 12}
    whole = np.load("grey.npy")
    before = snapshot(Path("run"))

    def changed(edit: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        x = edit(whole.copy())
        np.save("grey.npy", x)
        return x

    def one(x: np.ndarray, row: int) -> np.ndarray:
        x[row, 3] ^= 1
        return x

    for edit, part in (
        (lambda x: one(x, 0), "train"),
        (lambda x: one(x, 105), "train"),
        (lambda x: x[::-1], "train"),
        (lambda x: x[:-10], "train"),
        (lambda x: one(x, 120), "test"),
    ):
        x = changed(edit)
        result = vae_np("train", "--resume", "run", "--epochs", 3)
        assert (result.code, result.err.count("\n")) == (2, 1)
        rows = {"train": len(x) - max(1, len(x) // 10), "test": max(1, len(x) // 10)}[part]
        assert f"'grey.npy' has changed since run was trained: it had {kept[part]['rows']} {part} rows " in result.err
        assert f", and has {rows} with " in result.err
        assert snapshot(Path("run")) == before
    result = vae_np("eval", "run", "--no-plots")
    assert result.code == 2
    assert "data: 'grey.npy' has changed since run was trained: it had 12 test rows" in result.err
    assert "to evaluate on what is there now, name it: --data FILE" in result.err
    good("eval", "run", "--data", "grey.npy", "--no-plots", "--samples", 2)
    assert vae_np("reconstruct", "run").code == 2
    np.save("grey.npy", whole)
    good("train", "--resume", "run", "--epochs", 3, "--no-plots")


def test_moved_data_are_asked_for_and_taken_where_the_rows_are_the_same() -> None:
    good("train", "--data", grey_bars(Path("grey.npy")), *QUICK, "--epochs", 3, "--out", "whole")
    good("train", "--data", "grey.npy", *QUICK, "--out", "run")
    x = np.load("grey.npy")
    Path("grey.npy").rename("moved.npy")
    result = vae_np("train", "--resume", "run", "--epochs", 3)
    assert result.code == 2
    assert "expected an existing file" in result.err
    assert result.err.endswith("; if it was moved, name where it is: --resume run --data FILE\n")
    np.save("other.npy", 255 - x)
    result = vae_np("train", "--resume", "run", "--epochs", 3, "--data", "other.npy")
    assert result.code == 2
    assert "data: 'other.npy' has changed since run was trained" in result.err
    # The same rows in another file and of another type.
    np.savez("moved.npz", train=x[:112].astype(np.int64), test=x[112:].astype(float))
    good("train", "--resume", "run", "--epochs", 3, "--data", "moved.npz", "--no-plots")
    assert metrics(Path("run")) == metrics(Path("whole"))
    assert config.load_toml("run/config.toml").data == os.path.abspath("moved.npz")
    good("eval", "run", "--no-plots", "--samples", 2)


# Runs of earlier versions


def as_before(run: Path, values: bool = True) -> None:
    """Make a run what an earlier version left: no record of what the data mean, nothing to know them by."""
    for name in (checkpoint.WEIGHTS_FILE, checkpoint.STATE_FILE):
        with safe_open(run / name, framework="numpy") as file:
            about = json.loads(file.metadata()["vae_np"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        for key in ("values", "fingerprint", "sha256"):
            about.pop(key, None)
        for key in ("values", "scale", "standardize"):
            about.get("config", {}).pop(key, None)
        about["format_version"] = 1
        (run / name).write_bytes(encode(tensors, metadata={"vae_np": json.dumps(about)}))
    text = (run / "config.toml").read_text()
    lines = [line for line in text.splitlines() if not line.startswith(("values =", "scale =", "standardize ="))]
    (run / "config.toml").write_text("\n".join(lines) + "\n")


@pytest.mark.filterwarnings("ignore::vae_np.errors.UnverifiedWarning")
@pytest.mark.parametrize("kind", ["byte", "unit", "binary"])
def test_an_earlier_run_is_resumed_and_evaluated_with_the_kind_that_its_data_imply(kind: str) -> None:
    grey_bars(Path("grey.npy"))
    grey = np.load("grey.npy")
    write("x.npy", {"byte": grey, "unit": grey / 255, "binary": grey // 128}[kind])
    good("train", "--data", "x.npy", *QUICK, "--epochs", 3, "--out", "whole")
    good("train", "--data", "x.npy", *QUICK, "--out", "run")
    found = figures("run")
    as_before(Path("run"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnverifiedWarning)
        assert VAE.load("run", backend="numpy").values.kind == kind
        assert {name: figures("run")[name] for name in ("elbo", "log_likelihood")} == {
            name: found[name] for name in ("elbo", "log_likelihood")
        }
        result = vae_np("train", "--resume", "run", "--epochs", 3, "--data", "grey.npy")
        assert result.code == 2
        assert "was trained by an earlier version, which kept no digest of its data" in result.err
        good("train", "--resume", "run", "--epochs", 3, "--no-plots")
    assert metrics(Path("run")) == metrics(Path("whole"))
    assert config.load_toml("run/config.toml").values == kind
    assert checkpoint.load_state("run").fingerprint == checkpoint.load_state("whole").fingerprint


@pytest.mark.filterwarnings("ignore::vae_np.errors.UnverifiedWarning")
def test_an_earlier_model_whose_data_are_gone_reads_by_its_likelihood_or_by_name() -> None:
    grey_bars(Path("grey.npy"))
    good("train", "--data", "grey.npy", *QUICK, "--out", "run")
    grey = np.load("grey.npy")
    worth = VAE.load("run", backend="numpy").elbo(grey).elbo
    as_before(Path("run"))
    Path("grey.npy").unlink()
    vae = VAE.load("run", backend="numpy")
    assert vae.values.kind == "unit"
    np.testing.assert_array_equal(vae.elbo(grey / 255).elbo, worth)
    np.testing.assert_array_equal(VAE.load("run", backend="numpy", values="byte").elbo(grey).elbo, worth)


# A file that is cut short


def test_a_file_that_is_cut_short_while_it_is_mapped_ends_the_training_with_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    write("large.npy", rng.integers(0, 256, (4000, 100), dtype=np.uint8))
    saved = runs.save

    def save_and_cut(*given: Any) -> None:
        saved(*given)
        os.truncate("large.npy", 4096)

    monkeypatch.setattr(runs, "save", save_and_cut)
    result = vae_np("train", "--data", "large.npy", *QUICK, "--out", "run")
    assert result.code == 2
    assert "cut short while in use: got 4096 bytes, expected 400128; the checkpoint of step" in result.err
    assert result.err.count("\n") == 1


# What a training would do


def test_print_config_gives_the_settings_that_train_would_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = good("train", "--config", "burda2015-vae", "--latent", 7, "--print-config").out
    (tmp_path / "printed.toml").write_text(said)
    settings = config.load("printed.toml")
    assert settings == config.merge(config.load("burda2015-vae"), {"latent": 7})
    # As a command for a program: nothing but the file is on standard output, and nothing was made.
    assert [path.name for path in tmp_path.iterdir()] == ["printed.toml"]


def test_a_dry_run_says_what_it_understood_and_what_it_takes_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("table.npy", np.random.default_rng(0).normal(3, 2, (500, 4)))
    said = good("train", "--data", "table.npy", "--likelihood", "normal", "--epochs", 50, "--dry-run").out
    for line in (r"data +table.npy: 405 training, 45 validation and 50 test rows of 4",
                 r"values +numbers from -?\d.*: real", r"memory +[\d.]+ [MG]B in this process",
                 r"time +about [\d.]+ s for 150 steps, at \d+ per second"):  # fmt: skip
        assert re.search(f"^{line}", said, re.MULTILINE), line
    assert [path.name for path in tmp_path.iterdir()] == ["table.npy"]


def test_a_dry_run_of_a_resumed_run_leaves_it_as_it_was(tmp_path: Path) -> None:
    run = tmp_path / "run"
    good("train", *TINY, "--data", grey_bars(tmp_path / "bars.npy"), "--epochs", 2, "--no-plots", "--out", run)
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    said = good("train", "--resume", run, "--epochs", 5, "--dry-run").out
    assert "nothing was written" in said
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before
    assert "nothing is left to train" in good("train", "--resume", run, "--dry-run").out


@pytest.mark.parametrize(
    "command",
    ["train --epochs 1 --no-plots --overwrite", "eval --samples 2 --no-plots", "sample -n 4", "reconstruct -n 4",
     "latent", "convert runs/one --to onnx --out halves"],
)  # fmt: skip
def test_quiet_commands_print_nothing_but_do_their_work(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bars = grey_bars(tmp_path / "bars.npy")
    trained = good("train", *TINY, "--data", bars, "--epochs", 1, "--no-plots", "--out", "runs/one", "-q")
    assert (trained.out, trained.err) == ("", "")
    words = command.split()
    if words[0] == "train":
        words += ["--data", str(bars), *map(str, TINY), "--out", "runs/one"]
    result = good(*words, "-q")
    assert (result.out, result.err) == ("", "")
    shutil.rmtree("halves", ignore_errors=True)
    content = good(*words, "-q", "--json", "-").json
    assert content["schema"] == f"vae-np/{words[0]}/1"
