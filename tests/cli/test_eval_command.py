"""`vae-np eval`: its estimators, what it writes for each example, going on after an interruption, and what it refuses.

Budget: about 6 s.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commandline import TINY, good, grey_bars, vae_np
from safetensors import safe_open
from safetensors.numpy import save as encode

from vae_np import VAE, __version__, data, runs
from vae_np.data import bars
from vae_np.evaluation import annealing, held_out, importance, partial_results
from vae_np.evaluation.annealing import Annealing

NUMPY = ("--backend", "numpy", "--no-plots", "--json", "-")
CHAINS = ("--chains", 3, "--temperatures", 8, "--leapfrog", 2)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs on 12 test rows of bars: binary ones, grey ones by their cross-entropy; and a model saved from Python."""
    place = tmp_path_factory.mktemp("runs")
    grey_bars(place / "grey.npy")
    images, _ = bars(4, 124, 0)
    np.save(place / "bars.npy", images)
    for name, options in (
        ("images", ("--data", place / "bars.npy", "--activation", "tanh", "--dtype", "float64")),
        ("grey", ("--data", place / "grey.npy", "--likelihood", "bernoulli-grey")),
    ):
        good("train", "--epochs", 2, *TINY, *options, "--backend", "numpy", "--out", place / name)
    vae = VAE(16, hidden=(8,), latent=2, seed=6, backend="numpy")
    vae.fit(images[:60], epochs=1, batch_size=20)
    vae.save(place / "saved")
    return place


@pytest.fixture(autouse=True)
def _in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def copy(place: Path, name: str = "images") -> Path:
    shutil.copytree(place / name, "run")
    return Path("run")


def figure(values: Any) -> dict[str, float]:
    return held_out.mean_and_stderr(values)


# --- Estimators -------------------------------------------------------------------------------------------------


def test_importance_sampling_is_the_default(place: Path) -> None:
    test = good("eval", place / "images", "--samples", 7, *NUMPY).json["test"]
    assert (test["estimator"], test["samples"], test["examples"], test["available"]) == ("is", 7, 12, 12)
    assert test == {**good("eval", place / "images", "--estimator", "is", "--samples", 7, *NUMPY).json["test"],
                    "seconds": test["seconds"]}  # fmt: skip
    vae = VAE.load(place / "images", backend="numpy")
    estimate = vae.log_likelihood(data.load(str(place / "bars.npy")).test, 7)
    assert test["log_likelihood"] == figure(estimate.log_likelihood)
    assert test["degenerate"] == int(estimate.degenerate.sum())
    assert "acceptance" not in test
    assert (test["temperatures"], test["leapfrog"]) == (None, None)
    assert good("eval", place / "images", *NUMPY).json["test"]["samples"] == 100


def test_annealing_agrees_with_the_python_api(place: Path) -> None:
    result = good("eval", place / "images", "--estimator", "ais", *CHAINS, "--seed", 4, *NUMPY)
    test = result.json["test"]
    vae = VAE.load(place / "images", backend="numpy", seed=4)
    rows = data.load(str(place / "bars.npy")).test
    estimate = vae.annealed_log_likelihood(rows, Annealing(chains=3, temperatures=8, leapfrog=2))
    assert (test["estimator"], test["samples"], test["data"]) == ("ais", 3, "test")
    assert (test["temperatures"], test["leapfrog"]) == (8, 2)
    assert test["log_likelihood"] == figure(estimate.log_likelihood)
    assert test["acceptance"] == figure(estimate.acceptance)
    for text in ("log p(x), 3 chains", "effective sample size", "acceptance", "8, 2 leapfrog steps each"):
        assert text in result.err


def test_bidirectional_monte_carlo_is_of_simulated_data(place: Path) -> None:
    result = good("eval", place / "images", "--estimator", "bdmc", "--images", 9, *CHAINS, *NUMPY)
    test = result.json["test"]
    vae = VAE.load(place / "images", backend="numpy")
    estimate = vae.bidirectional(9, Annealing(chains=3, temperatures=8, leapfrog=2))
    assert (test["estimator"], test["data"], test["examples"]) == ("bdmc", "simulated", 9)
    assert test["log_likelihood"] == figure(estimate.log_likelihood)
    assert test["log_likelihood_upper"] == figure(estimate.upper)
    assert test["gap"] == figure(estimate.upper - estimate.log_likelihood)
    assert test["elbo"] == figure(vae.elbo(vae.sample(9)).elbo)
    assert "9 examples that the model simulated" in result.err
    assert "Test set" not in result.err


def test_what_is_in_the_json_whatever_the_estimator(place: Path) -> None:
    for estimator in held_out.ESTIMATORS:
        options = () if estimator == "is" else ("--temperatures", 8)
        content = good("eval", place / "images", "--estimator", estimator, "--samples", 2, *options, *NUMPY).json
        test = content["test"]
        assert (test["estimator"], test["samples"]) == (estimator, 2)
        for name in ("log_likelihood", "ess", "elbo", "mutual_information", "marginal_kl"):
            assert set(test[name]) == {"mean", "stderr"}
        assert isinstance(test["active_units"], int)
        assert test["seconds"] > 0
        parts = test["mutual_information"]["mean"] + test["marginal_kl"]["mean"]
        assert abs(parts - test["kl"]["mean"]) < 1e-9
        assert content["environment"]["libraries"]["numpy"] == np.__version__


def test_a_part_of_the_test_set_is_marked_as_one(place: Path) -> None:
    for flag in ("--images", "--limit"):
        result = good("eval", place / "images", flag, 5, "--samples", 2, *NUMPY)
        assert "First 5 of 12 test examples" in result.err
        assert (result.json["test"]["examples"], result.json["test"]["available"]) == (5, 12)


def test_degenerate_weights_are_flagged_beside_the_number(place: Path) -> None:
    one = good("eval", place / "images", "--samples", 1, *NUMPY)
    assert one.json["test"]["degenerate"] == 12
    assert "12 of 12 examples have an effective sample size below 2" in one.err
    line = next(line for line in one.err.splitlines() if "log p(x), 1 samples" in line)
    assert line.rstrip(" │").endswith("!")
    many = good("eval", place / "images", "--samples", 2000, *NUMPY)
    assert many.json["test"]["degenerate"] == 0
    assert "!" not in many.err


def test_values_of_each_example(place: Path) -> None:
    rows = data.load(str(place / "bars.npy")).test
    good("eval", place / "images", "--samples", 5, "--per-example", "deep/is.npz", *NUMPY)
    good("eval", place / "images", "--estimator", "bdmc", "--images", 4, *CHAINS, "--per-example", "b.npz", *NUMPY)
    vae = VAE.load(place / "images", backend="numpy")
    with np.load("deep/is.npz") as held:
        assert np.array_equal(held["row"], np.arange(12))
        assert np.array_equal(held["log_likelihood"], vae.log_likelihood(rows, 5).log_likelihood)
        assert np.array_equal(held["elbo"], vae.elbo(rows).elbo)
        assert np.abs(held["mutual_information"] + held["marginal_kl"] - held["kl"]).max() < 1e-12
        assert {"stderr", "ess", "reconstruction"} <= set(held)
    with np.load("b.npz") as held:
        assert {"upper", "upper_stderr", "upper_ess", "acceptance"} <= set(held)
        assert held["upper"].shape == (4,)


# --- Which data -------------------------------------------------------------------------------------------------


def test_a_model_from_python_takes_the_data_that_are_named(place: Path) -> None:
    result = good("eval", place / "saved", "--data", place / "bars.npy", "--samples", 2, *NUMPY)
    vae = VAE.load(place / "saved", backend="numpy")
    assert result.json["test"]["elbo"] == figure(vae.elbo(data.load(str(place / "bars.npy")).test).elbo)
    assert "bars.npy: 12 test rows" in result.err


def test_a_checkpoint_alone_is_enough_where_the_data_are_named(place: Path) -> None:
    copy(place)
    for name in ("config.toml", "state.safetensors", "metrics.jsonl"):
        Path("run", name).unlink()
    expected = good("eval", place / "images", "--samples", 2, *NUMPY).json["test"]
    found = good("eval", "run", "--data", place / "bars.npy", "--samples", 2, *NUMPY).json["test"]
    assert found["log_likelihood"] == expected["log_likelihood"]
    arguments = ("--estimator", "bdmc", "--images", 3, *CHAINS, *NUMPY)
    simulated = [good("eval", run, *arguments).json["test"]["gap"] for run in ("run", place / "images")]
    assert simulated[0] == simulated[1]
    assert "has no config.toml" in vae_np("eval", "run", *NUMPY).err


def test_grey_data_for_a_model_of_binary_ones_are_binarised_as_asked(place: Path) -> None:
    arguments = ("eval", place / "saved", "--data", place / "grey.npy", "--samples", 2, *NUMPY)
    assert "what it holds can be named: values 'byte'" in vae_np(*arguments).err
    arguments = (*arguments, "--values", "byte")
    result = good(*arguments, "--binarize", "threshold")
    vae = VAE.load(place / "saved", backend="numpy")
    rows = data.load(str(place / "grey.npy")).test
    assert result.json["test"]["elbo"] == figure(vae.elbo(rows, binarize="threshold", values="byte").elbo)


def test_a_grey_cross_entropy_is_evaluated_without_a_likelihood(place: Path) -> None:
    result = good("eval", place / "grey", *NUMPY)
    test = result.json["test"]
    assert (test["log_likelihood"], test["samples"], test["estimator"], test["ess"]) == (None, None, None, None)
    assert test["elbo"]["mean"] < 0
    assert "bounds no likelihood" in result.err
    for asked in (("--samples", 5), ("--estimator", "is"), ("--estimator", "ais"), ("--estimator", "bdmc")):
        refused = vae_np("eval", place / "grey", *asked, *NUMPY)
        assert refused.code == 2
        assert refused.err.startswith("vae-np: estimator: likelihood 'bernoulli-grey' is a cross-entropy")
        assert refused.err.count("\n") == 1


# --- Interrupted ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("estimator", "where", "name"),
    [
        (("is", "--samples", 4), importance, "importance_log_likelihood"),
        (("ais", "--chains", 128, "--temperatures", 3), annealing, "annealed_log_likelihood"),
        (("bdmc", "--chains", 128, "--temperatures", 3, "--images", 12), annealing, "annealed_log_likelihood"),
    ],
)
def test_an_interrupted_evaluation_goes_on(
    place: Path, monkeypatch: pytest.MonkeyPatch, estimator: tuple[Any, ...], where: Any, name: str
) -> None:
    """Ctrl-C in the third batch of several: two are kept, and the same command makes the rest, to the same numbers."""
    monkeypatch.setattr(held_out, "_LIKELIHOOD_BATCH", 2)
    arguments = ("eval", "run", "--estimator", *estimator, *NUMPY)
    run = copy(place)
    whole = good(*arguments).json["test"]
    before = set(run.iterdir())
    work, calls = getattr(where, name), []

    def counted(*given: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return work(*given, **options)

    monkeypatch.setattr(where, name, counted)
    stopped = vae_np(*arguments)
    assert stopped.code == 130
    assert stopped.err.splitlines()[-1] == (
        "vae-np: interrupted at 4 of 12 examples; they are kept, and the same command on run goes on after them"
    )
    (left,) = set(run.iterdir()) - before
    assert left.match(partial_results.PATTERN)
    result = good(*arguments)
    assert "4 examples were done by an evaluation that was interrupted" in result.err
    assert len(calls) == 3 + 4
    assert {**result.json["test"], "seconds": 0} == {**whole, "seconds": 0}
    assert set(run.iterdir()) == before


def test_another_evaluation_does_not_go_on_from_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_out, "_LIKELIHOOD_BATCH", 2)
    run = copy(place)
    work, calls = importance.importance_log_likelihood, []

    def counted(*given: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return work(*given, **options)

    monkeypatch.setattr(importance, "importance_log_likelihood", counted)
    assert vae_np("eval", run, "--samples", 4, *NUMPY).code == 130
    for other in (("--samples", 5), ("--samples", 4, "--seed", 1), ("--samples", 4, "--images", 11)):
        assert "interrupted" not in good("eval", run, *other, *NUMPY).err
    vae = VAE.load(run, backend="numpy")
    vae.parameters["decoder.out.bias"][0] += 1
    settings = (run / runs.CONFIG).read_bytes()
    vae.save(run)
    (run / runs.CONFIG).write_bytes(settings)
    assert "interrupted" not in good("eval", run, "--samples", 4, *NUMPY).err


def test_interrupted_before_anything_is_done(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pressed(*given: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(importance, "importance_log_likelihood", pressed)
    run = copy(place)
    before = set(run.iterdir())
    stopped = vae_np("eval", run, "--samples", 4, *NUMPY)
    assert (stopped.code, stopped.err.splitlines()[-1]) == (130, "vae-np: interrupted at 0 of 12 examples")
    assert set(run.iterdir()) == before


# --- Bad input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--estimator elbo", "estimator: got 'elbo', expected one of is, ais, bdmc"),
        ("--estimator ais --chains 0", "samples: got 0, expected a whole number >= 1"),
        ("--estimator ais --temperatures 0", "temperatures: got 0, expected a whole number >= 1"),
        ("--leapfrog 3", "leapfrog: got 3, but only --estimator ais and bdmc have it"),
        ("--estimator is --temperatures 9", "temperatures: got 9, but only --estimator ais and bdmc have it"),
        ("--estimator bdmc --data bars", "data: cannot be given together with --estimator bdmc"),
        ("--per-example values.csv", "per_example: got 'values.csv', expected a file's name that ends in .npz"),
        ("--data nowhere.npy", "data: got 'nowhere.npy', expected an existing file"),
        ("--data mnist", "data 'mnist': train: got shape (60000, 784), expected (N, 16)"),
        ("--binarize often", "binarize: got 'often', expected one of dynamic, fixed, threshold, none"),
    ],
)
def test_what_is_refused(place: Path, options: str, message: str) -> None:
    result = vae_np("eval", place / "images", *options.split(), "--no-plots")
    assert result.code == 2
    assert result.err.startswith(f"vae-np: {message}")
    assert (result.out, result.err.count("\n")) == ("", 1)


def test_a_checkpoint_of_another_architecture(place: Path) -> None:
    run = copy(place)
    VAE(16, hidden=(5,), latent=2, activation="tanh", backend="numpy").save("other")
    shutil.copy("other/checkpoint.safetensors", run)
    result = vae_np("eval", run, *NUMPY)
    assert result.code == 2
    assert result.err == (
        "vae-np: run: run: holds a checkpoint of another architecture: its hidden is (5,), but config.toml has (8,)\n"
    )


def test_a_file_that_is_written_is_whole_json(place: Path) -> None:
    good("eval", place / "images", "--samples", 3, "--no-plots", "--json", "result.json")
    assert json.loads(Path("result.json").read_text())["test"]["samples"] == 3


# Weights that have no checksums, or are too large


def old_file(path: Path, **tensors: Any) -> None:
    """Turn a file into one of version 1, without checksums, and put other numbers into its tensors."""
    with safe_open(path, framework="numpy") as file:
        about = json.loads(file.metadata()["vae_np"])
        held = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    del about["sha256"]
    held |= {name: np.full_like(held[name], value) for name, value in tensors.items()}
    path.write_bytes(encode(held, metadata={"vae_np": json.dumps(about | {"format_version": 1})}))


def test_a_run_without_checksums_is_evaluated_with_a_note(place: Path, tmp_path: Path) -> None:
    run = shutil.copytree(place / "images", tmp_path / "old")
    expected = good("eval", run, "--samples", 3, "--no-plots").out
    old_file(run / "checkpoint.safetensors")
    result = good("eval", run, "--samples", 3, "--no-plots")
    assert result.out == expected
    assert result.err == (
        f"vae-np: note: {run}/checkpoint.safetensors: has no checksums (vae_np {__version__} wrote it), "
        "so damage to it would not be seen\n"
    )


@pytest.mark.parametrize(("value", "message"), [(np.nan, "nan"), (np.inf, "inf")])
def test_weights_that_are_not_finite_are_no_evaluation(value: float, message: str, place: Path, tmp_path: Path) -> None:
    run = shutil.copytree(place / "images", tmp_path / "bad")
    old_file(run / "checkpoint.safetensors", **{"decoder.out.bias": value})
    result = vae_np("eval", run, "--samples", 3)
    assert result.code == 2
    said = f"decoder.out.bias has the value {message} at [0], expected finite numbers"
    assert result.err.splitlines()[-1] == f"vae-np: {run}/checkpoint.safetensors: {said}"
    assert "±" not in result.out


def test_weights_that_overflow_are_no_nan_with_exit_0(place: Path, tmp_path: Path) -> None:
    run = shutil.copytree(place / "images", tmp_path / "huge")
    old_file(run / "checkpoint.safetensors", **{"encoder.mu.weight": 1e200})
    result = vae_np("eval", run, "--samples", 3)
    assert result.code == 1
    assert result.err.splitlines()[-1].startswith("vae-np: ELBO: 12 of 12 examples have no finite value, the first is ")
    assert "±" not in result.out
    assert "Warning" not in result.err


def test_an_evaluation_of_a_run_that_trains_on_keeps_to_the_model_it_loaded(place: Path, tmp_path: Path) -> None:
    """What is kept of an interrupted evaluation is named after what was loaded, not after what lies there by now."""
    run = shutil.copytree(place / "images", tmp_path / "on")
    load, other = VAE.load, VAE.load(run, backend="numpy")
    other.parameters["decoder.out.bias"][...] += 1

    def late(*arguments: Any, **keywords: Any) -> VAE:
        vae = load(*arguments, **keywords)
        other.save(run)
        return vae

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VAE, "load", late)
        patch.setattr(partial_results, "_SECONDS_BETWEEN", -1.0)
        patch.setattr(partial_results.PartialResults, "remove", lambda partial: None)
        good("eval", run, "--samples", 3, "--no-plots")
    (left,) = run.glob(partial_results.PATTERN)
    assert "going on" not in good("eval", run, "--samples", 3, "--no-plots").out
    assert left.exists()
