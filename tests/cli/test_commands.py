"""The commands on small data: what they write, say and return, on a terminal, to a pipe and as JSON.

Budget: about 24 s, half of it other processes.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commandline import TINY, good, grey_bars, metrics, snapshot, vae_np

from vae_np import VAE, __version__, backends, checkpoint, config, data, runs, storage
from vae_np.choices import LIKELIHOODS
from vae_np.cli import output
from vae_np.data import bars, rings
from vae_np.evaluation import held_out
from vae_np.objectives import OBJECTIVES
from vae_np.storage import atomic
from vae_np.training import trainer

RUN_FILES = {"config.toml", "metrics.jsonl", checkpoint.WEIGHTS_FILE, checkpoint.STATE_FILE, checkpoint.TIME_FILE}
PICTURES = set(runs.PICTURES)
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, and a run of each kind: 2-D latents on images, 3-D ones on points and on 12 columns."""
    place = tmp_path_factory.mktemp("runs")
    grey_bars(place / "grey.npy")
    images, labels = bars(4, 124, 0)
    np.savez(
        place / "labelled.npz", x_train=images[:112], x_test=images[112:], y_train=labels[:112], y_test=labels[112:]
    )
    np.save(place / "points.npy", rings(124, 0)[0])
    np.save(place / "twelve.npy", np.hstack([images[:, :8], images[:, :4]]))
    train_run(place, "images", "--data", place / "labelled.npz")
    train_run(place, "points", "--data", place / "points.npy", "--likelihood", "normal")
    train_run(place, "twelve", "--data", place / "twelve.npy", "--latent", 3)
    return place


@pytest.fixture(autouse=True)
def _in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def train_run(place: Path, name: str, *arguments: object) -> Path:
    good("train", "--epochs", 2, *TINY, *arguments, "--out", place / name)
    return place / name


def check_picture(path: Path) -> None:
    """A whole PNG that is not of one colour."""
    from matplotlib.image import imread

    assert path.read_bytes().startswith(PNG)
    pixels = imread(path)
    assert min(pixels.shape[:2]) > 50
    assert np.ptp(pixels) > 0.2


def check_figure(figure: dict[str, float], values: Any) -> None:
    wide = np.asarray(values, dtype=np.float64)
    assert figure == {"mean": wide.mean(), "stderr": wide.std(ddof=1) / np.sqrt(len(wide))}


# train


@pytest.mark.parametrize(
    ("dataset", "options"),
    [
        ("grey.npy", ()),
        ("points.npy", ("--likelihood", "normal", "--activation", "tanh")),
        ("twelve.npy", ("--hidden", "8,4", "--beta-warmup", 2, "--optimizer", "adagrad", "--dtype", "float64")),
    ],
)
def test_train_leaves_its_files(dataset: str, options: tuple[object, ...], place: Path) -> None:
    settings = [option for option in TINY if option != "--no-plots"]
    good("train", "--data", place / dataset, "--epochs", 2, *settings, *options, "--out", "run")
    assert set(os.listdir("run")) - {storage.LOCK} == RUN_FILES | PICTURES
    for name in PICTURES:
        check_picture(Path("run", name))
    assert len(metrics(Path("run"))) == 4


def test_train_without_a_name_makes_a_new_run_which_is_then_the_newest(place: Path) -> None:
    for _ in range(2):
        assert "\nrun      runs/" in good("train", "--data", place / "grey.npy", "--epochs", 1, *TINY).out
    first, second = sorted(Path("runs").iterdir(), key=lambda run: os.stat(run / "config.toml").st_mtime_ns)
    assert set(os.listdir(first)) - {storage.LOCK} == RUN_FILES
    assert good("eval", "--samples", 2).out.startswith(f"run      {second}\n")
    assert "kl.png" in os.listdir(second)


def test_train_says_what_it_does(place: Path) -> None:
    lines = good("train", "--data", place / "grey.npy", "--epochs", 2, *TINY, "--out", "run").out.splitlines()
    reason = backends.choose("auto")
    kind = "fused" if reason.name == "numba" else "composed"
    # Only where the cache of compiled code is cold.
    lines = [line for line in lines if not line.startswith("compiling")]
    assert lines[:6] == [
        "data     grey.npy: 101 training, 11 validation and 12 test rows of 16",
        "values   whole numbers from 25 to 230: grey, bytes over 255, binarize dynamic",
        "rows     0-100 train, 101-111 validation, 112-123 test, the last tenth",
        "model    16-8-2 relu, bernoulli: 340 parameters",
        f"backend  {reason.name} ({reason.reason}), float32, {kind} steps, seed 0",
        "run      run",
    ]
    for epoch, line in enumerate(lines[6:8], start=1):
        assert line.startswith(f"epoch   {epoch}  validation ELBO -")
    assert lines[8] == "Test set, 12 examples, nats ± standard error over examples"
    assert [name for name in ("ELBO", "reconstruction", "KL") if any(f"│ {name} " in line for line in lines)]
    assert lines[-2].startswith("trained  10 steps in ")
    assert lines[-1] == "run      run"


def test_train_for_another_objective_names_its_bound_apart(place: Path) -> None:
    bound = ("--objective", "iwae", "--samples", 5)
    out = good("train", "--data", place / "grey.npy", "--epochs", 2, *TINY, *bound, "--out", "run").out
    assert "\nclimbs   iwae, 5 samples of z per image\n" in out
    assert out.count("  validation ELBO -") == 2
    out = good(
        "train", "--data", place / "grey.npy", "--epochs", 2, *TINY, *bound, "--validation", 0, "--out", "other"
    ).out
    assert out.count("  train bound -") == 2
    assert all(line["objective"] > line["elbo"] for line in metrics(Path("other")))


def test_train_without_validation_tells_of_training(place: Path) -> None:
    out = good("train", "--data", place / "grey.npy", "--epochs", 2, *TINY, "--validation", 0, "--out", "run").out
    assert "112 training, 0 validation and 12 test rows" in out
    assert out.count("  train ELBO -") == 2
    assert {line["split"] for line in metrics(Path("run"))} == {"train"}


def test_train_says_what_is_not_a_matter_of_course(place: Path) -> None:
    out = good("train", "--data", place / "twelve.npy", "--epochs", 1, *TINY, "--out", "a").out
    assert "note     12 columns form no square: pictures are heat maps unless --image-shape is given" in out
    assert "\nvalues   whole numbers from 0 to 1: binary, 0 and 1\n" in out
    out = good("train", "--data", place / "twelve.npy", "--epochs", 1, *TINY, "--image-shape", "3,4", "--out", "b").out
    assert "heat map" not in out
    grey = ("--likelihood", "bernoulli-grey")
    out = good("train", "--data", place / "grey.npy", "--epochs", 1, *TINY, *grey, "--out", "c").out
    assert "note     bernoulli-grey is a cross-entropy on grey values: its ELBO bounds no likelihood" in out
    assert "\nvalues   whole numbers from 25 to 230: grey, bytes over 255\n" in out


def test_the_command_line_wins_over_the_file(place: Path) -> None:
    Path("settings.toml").write_text("epochs = 7\nlatent = 3\nhidden = [6]\nbatch_size = 20\n")
    good(
        "train", "--config", "settings.toml", "--epochs", 1, "--data", place / "grey.npy", "--out", "run", "--no-plots"
    )
    settings = config.load_toml("run/config.toml")
    assert (settings.epochs, settings.latent, settings.hidden, settings.batch_size) == (1, 3, (6,), 20)
    good("train", "--config", "kingma2014", "--epochs", 1, *TINY, "--data", place / "grey.npy", "--out", "b")
    assert config.load_toml("b/config.toml").optimizer == "adagrad"


def test_another_process_trains_to_the_same_bytes(place: Path) -> None:
    arguments = [str(part) for part in ("train", "--data", place / "grey.npy", "--epochs", 2, *TINY, "--out")]
    good(*arguments, "here")
    subprocess.run([sys.executable, "-m", "vae_np", *arguments, "there"], check=True, capture_output=True)
    assert Path("here", checkpoint.WEIGHTS_FILE).read_bytes() == Path("there", checkpoint.WEIGHTS_FILE).read_bytes()
    assert metrics(Path("here")) == metrics(Path("there"))


def test_a_built_in_set_needs_no_file() -> None:
    good(
        "train",
        "--data",
        "rings",
        "--likelihood",
        "normal",
        "--epochs",
        1,
        "--batch-size",
        1000,
        *TINY[:4],
        "--out",
        "a",
    )
    check_picture(Path("a/samples.png"))


def test_a_npy_file_stays_on_disk_and_trains_as_if_it_were_in_memory(place: Path) -> None:
    images = np.load(place / "grey.npy")
    np.savez("grey.npz", images)
    assert isinstance(data.load(str(place / "grey.npy")).train, np.memmap)
    assert not isinstance(data.load("grey.npz").train, np.memmap)
    for source, run in ((place / "grey.npy", "mapped"), ("grey.npz", "held")):
        good("train", "--data", source, "--epochs", 2, *TINY, "--out", run)
    weights = [Path(run, checkpoint.WEIGHTS_FILE).read_bytes() for run in ("mapped", "held")]
    assert weights[0] == weights[1]


# JSON


def test_json_of_train(place: Path) -> None:
    arguments = ("train", "--data", place / "grey.npy", "--epochs", 2, *TINY, "--out")
    result = good(*arguments, "a", "--json", "-")
    assert "Test set" in result.err
    content = result.json
    vae = VAE.load("a")
    dataset = data.load(str(place / "grey.npy"))
    terms = vae.elbo(dataset.test)
    about = {"backend", "dtype", "precision", "seed", "run", "shortened"}
    assert set(content) == {"schema", "version", "test", "train", *about}
    assert (content["schema"], content["version"]) == ("vae-np/train/1", __version__)
    assert set(content["test"]) == {"elbo", "reconstruction", "kl", "log_likelihood", "samples"}
    for name in ("elbo", "reconstruction", "kl"):
        check_figure(content["test"][name], getattr(terms, name))
    assert content["test"]["log_likelihood"] is content["test"]["samples"] is None
    train_part = content["train"]
    assert train_part["steps"] == 10
    assert train_part["steps_per_second"] == 10 / train_part["seconds"]
    assert [content[name] for name in ("backend", "dtype", "seed", "run")] == [vae.backend.name, "float32", 0, "a"]
    good(*arguments, "b", "--json", "deep/er/b.json")
    written = json.loads(Path("deep/er/b.json").read_text())
    assert written["test"] == content["test"]
    assert written["run"] == "b"


@pytest.mark.skipif((why := backends.choose("auto").precision_problem("bf16")) is not None, reason=str(why))
def test_a_precision_is_said_kept_and_resumed(place: Path) -> None:
    train = ("train", "--data", place / "grey.npy", "--precision", "bf16", *TINY)
    first = good(*train, "--epochs", 1, "--out", "a", "--json", "-")
    assert "float32, bf16 products by " in first.err
    assert first.json["precision"] == "bf16"
    assert 'precision = "bf16"' in Path("a/config.toml").read_text()
    assert checkpoint.load_state("a").config["precision"] == "bf16"
    refused = vae_np("train", "--resume", "a", "--precision", "full")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "precision: got 'full', but a was trained with 'bf16'" in refused.err
    good("train", "--resume", "a", "--epochs", 2, "--no-plots")
    good(*train, "--epochs", 2, "--out", "whole")
    weights = [Path(run, checkpoint.WEIGHTS_FILE).read_bytes() for run in ("a", "whole")]
    assert weights[0] == weights[1]
    good("train", "--data", place / "grey.npy", *TINY, "--epochs", 2, "--out", "full")
    assert Path("full", checkpoint.WEIGHTS_FILE).read_bytes() != weights[0]
    # Evaluation has products as they are, on whatever processor, and fit goes on as the run was made.
    assert good("eval", "a", "--backend", "numpy", "--no-plots")
    vae = VAE.load("a")
    assert vae.config.precision == "bf16"
    assert "bf16 products" in repr(vae)


def test_info_says_which_precisions_there_are() -> None:
    here, said = good("info", "--json", "-").json["machine"], good("info").out
    assert here["precisions"][0] == "full"
    for name in ("bf16", "bf16x3"):
        assert (name in here["precisions"]) == (f"{name} products by" in said)
        assert (name in here["precisions"]) != (name in here["missing_precisions"])


def test_json_of_eval_agrees_with_the_python_api(place: Path) -> None:
    run = place / "images"
    result = good("eval", run, "--samples", 7, "--seed", 5, "--json", "-", "--no-plots")
    content = result.json
    vae, dataset = VAE.load(run, seed=5), data.load(str(place / "labelled.npz"))
    terms, estimate = vae.elbo(dataset.test), vae.log_likelihood(dataset.test, 7)
    expected = {"schema", "version", "test", "train", "shortened", "backend", "dtype", "seed", "run", "environment"}
    assert set(content) == expected
    assert (content["schema"], content["seed"]) == ("vae-np/eval/1", 5)
    for name in ("elbo", "reconstruction", "kl"):
        check_figure(content["test"][name], getattr(terms, name))
    check_figure(content["test"]["log_likelihood"], estimate.log_likelihood)
    check_figure(content["test"]["ess"], estimate.ess)
    assert (content["test"]["samples"], content["test"]["examples"]) == (7, 12)
    mu, logvar = vae.encode(dataset.test)
    assert content["test"]["kl_per_dimension"] == held_out.kl_per_dimension(mu, logvar).tolist()
    assert content["test"]["active_units"] == held_out.active_units(mu).sum()
    assert content["train"]["steps"] == 10
    assert "Test set, 12 examples" in result.err


def test_eval_takes_the_first_rows_and_more_draws(place: Path) -> None:
    content = good("eval", place / "images", "--samples", 2, "--limit", 5, "--z-samples", 3, "--json", "-").json
    dataset = data.load(str(place / "labelled.npz"))
    check_figure(content["test"]["elbo"], VAE.load(place / "images").elbo(dataset.test[:5], z_samples=3).elbo)
    assert content["test"]["examples"] == 5


@pytest.mark.parametrize("command", ["sample", "reconstruct", "latent"])
def test_json_of_the_pictures(command: str, place: Path) -> None:
    arguments = () if command == "latent" else ("--out", "picture.png")
    if command == "latent":
        arguments = ("--out", "walks")
    result = good(command, place / "images", "-n", 3, "--seed", 4, *arguments, "--json", "-")
    content = result.json
    assert set(content) == {"schema", "version", "n", "files", "dtype", "seed", "run"}
    assert content["schema"] == f"vae-np/{command}/1"
    assert (content["n"], content["seed"], content["run"]) == (3, 4, str(place / "images"))
    for name in content["files"]:
        check_picture(Path(name))


def test_numbers_that_are_not_finite_are_null(capsys: pytest.CaptureFixture[str]) -> None:
    values = {"a": float("nan"), "b": [float("inf"), {"c": -float("inf"), "d": 1.5, "e": "nan"}], "f": None, "g": 3}
    output.Output("-").result("made", values, lambda: None)
    content = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    header = {"schema": "vae-np/made/1", "version": __version__}
    assert content == {**header, "a": None, "b": [None, {"c": None, "d": 1.5, "e": "nan"}], "f": None, "g": 3}


@pytest.mark.skipif(not Path("/dev/null").is_char_device(), reason="no /dev/null")
def test_json_goes_into_a_device_and_does_not_replace_it(place: Path) -> None:
    os.mkfifo("pipe")
    reader = subprocess.Popen(["cat", "pipe"], stdout=subprocess.PIPE)
    good("sample", place / "images", "--out", "s.png", "--json", "pipe")
    assert reader.stdout is not None
    assert json.loads(reader.communicate(timeout=20)[0])["schema"] == "vae-np/sample/1"
    assert Path("pipe").is_fifo()


# eval, sample, reconstruct, latent, info


@pytest.mark.parametrize("run", ["images", "points", "twelve"])
def test_eval_says_what_a_run_is_worth(run: str, place: Path) -> None:
    out = good("eval", place / run, "--samples", 3).out
    for text in ("ELBO", "reconstruction", "KL ", "log p(x), 3 samples", "effective sample size", "active units"):
        assert f"│ {text}" in out or f"│   {text}" in out
    assert "KL per latent dimension, largest first (* active):\n" in out
    check_picture(place / run / "kl.png")


def test_eval_of_weights_alone_does_not_know_how_long_they_took(place: Path) -> None:
    shutil.copytree(place / "images", "bare")
    Path("bare", checkpoint.STATE_FILE).unlink()
    content = good("eval", "bare", "--samples", 2, "--json", "-").json
    assert content["train"] == {"steps": 10, "seconds": None, "steps_per_second": None}


def test_eval_of_what_python_saved(place: Path) -> None:
    vae = VAE(16, hidden=(8,), latent=2, seed=6)
    vae.fit(bars(4, 60, 0)[0], epochs=1, batch_size=20)
    vae.save("saved")
    settings = Path("saved/config.toml")
    settings.write_text(settings.read_text().replace('"mnist"', json.dumps(str(place / "labelled.npz"))))
    content = good("eval", "saved", "--samples", 2, "--json", "-").json
    check_figure(content["test"]["elbo"], vae.elbo(data.load(str(place / "labelled.npz")).test).elbo)
    assert (content["seed"], content["train"]["steps"]) == (6, 3)


def test_samples_are_the_seeds(place: Path) -> None:
    run = place / "images"
    for name, options in (
        ("a.png", ()), ("b.png", ()), ("c.png", ("--seed", 1)), ("d.png", ("--draws",)), ("a.npy", ("--draws",)),
    ):  # fmt: skip
        good("sample", run, "-n", 9, "--out", name, *options)
    first, again, other, draws = (Path(f"{name}.png").read_bytes() for name in "abcd")
    assert first == again
    assert len({first, other, draws}) == 3
    np.testing.assert_array_equal(np.load("a.npy"), VAE.load(run).sample(9, 0))
    good("sample", run, "-n", 9, "--out", "mean.npy", "--seed", 1)
    np.testing.assert_array_equal(np.load("mean.npy"), VAE.load(run).sample(9, 1, mean=True))


@pytest.mark.parametrize("run", ["images", "points", "twelve"])
def test_pictures_of_every_kind_of_run(run: str, place: Path) -> None:
    """Images, points of the plane, and a heat map; by default into the run's folder, under a name that tells what."""
    shutil.copytree(place / run, "run")
    before = set(snapshot(Path("run")))
    names = [
        "samples-n64-seed0.png",
        "samples-n5-seed2-draws.png",
        "reconstructions-n6-seed0.png",
        "interpolations.png",
    ]
    for line, name in zip(
        ("sample run", "sample run -n 5 --seed 2 --draws", "reconstruct run -n 6", "latent run -n 2"),
        names,
        strict=True,
    ):
        assert f"wrote    run/{name}\n" in good(*line.split()).out
    if run != "twelve":
        names += ["manifold.png", "scatter.png"]
    else:
        assert "the manifold and the scatter need 2 latent dimensions; this run has 3" in good("latent", "run").out
    if run == "points":
        names += ["density.png"]
    assert set(snapshot(Path("run"))) - before == set(names)
    for name in names:
        check_picture(Path("run", name))


def test_the_scatter_is_coloured_by_label(place: Path) -> None:
    from matplotlib.image import imread

    good("latent", place / "images", "--out", "labelled")
    shutil.copytree(place / "images", "plain")
    settings = Path("plain/config.toml")
    same = data.load(str(place / "labelled.npz"))
    np.savez("images.npz", train=same.train, test=same.test)
    settings.write_text(settings.read_text().replace(str(place / "labelled.npz"), str(Path("images.npz").absolute())))
    good("latent", "plain")

    def colours(picture: str) -> int:
        pixels = imread(picture)[..., :3].reshape(-1, 3)
        vivid = pixels[np.ptp(pixels, axis=1) > 0.5]
        return len(np.unique((vivid * 4).round(), axis=0))

    assert colours("labelled/scatter.png") > colours("plain/scatter.png")


def test_interpolations_need_two_examples(place: Path) -> None:
    np.save("few.npy", bars(4, 15, 0)[0])
    good("train", "--data", "few.npy", *TINY, "--batch-size", 5, "--epochs", 1, "--out", "run")
    result = vae_np("latent", "run")
    assert result.code == 2
    assert result.err == "vae-np: data 'few.npy': has 1 test rows, expected at least 2 to interpolate between\n"


def test_info_is_the_matrix_of_what_there_is() -> None:
    content = good("info", "--json", "-").json
    assert content["schema"] == "vae-np/info/1"
    by_backend = {entry["backend"]: entry["how"] for entry in content["matrix"]}
    assert by_backend.keys() == set(backends.NAMES)
    assert {entry["likelihood"] for entry in content["matrix"]} == set(LIKELIHOODS)
    assert {entry["objective"] for entry in content["matrix"]} == set(OBJECTIVES)
    assert {entry["how"] for entry in content["matrix"] if entry["objective"] == "dreg"} <= {None, "composed"}
    for name, how in by_backend.items():
        assert (how is None) == (backends.missing(name) is not None)
    assert content["auto"] == backends.choose("auto").name
    out = good("info").out
    assert out.startswith(f"vae-np {__version__}, Python ")
    for name in backends.NAMES:
        assert f"\n{name:<6} " in out


def test_help_version_and_nothing_at_all() -> None:
    assert good("--version").out == f"vae-np {__version__}\n"
    assert "Commands:" in good("--help").out
    nothing = vae_np()
    assert (nothing.code, nothing.out) == (2, "")
    assert "Commands:" in nothing.err
    text = " ".join(good("train", "--help").out.split())
    for option in config.options():
        assert option.flag in text
    assert "(default: 400)" in text


# A terminal, a pipe, Ctrl-C


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_shown_on_a_terminal_only(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("train", "--data", place / "grey.npy", "--epochs", 3, *TINY, "--out")
    assert good(*arguments, "piped").err == ""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(output, "_console", lambda stream: output.Console(file=terminal, width=140))
    terminal = Terminal()
    good(*arguments, "shown")
    for text in ("epoch 3/3", "ELBO ", "reconstruction ", "KL ", "steps/s", "left", "validation ELBO"):
        assert text in terminal.getvalue()
    good("eval", "shown", "--samples", 2)
    assert "12/12 examples" in terminal.getvalue()


def test_on_a_terminal_one_console_writes_the_bar_and_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two would not know of each other, and a line would be printed behind the bar."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Terminal())
    piped, alone = output.Output(), output.Output("-")
    assert (piped.text.file, piped.progress.file) == (sys.stdout, sys.stderr)
    assert alone.text is alone.progress
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert (shown := output.Output()).text is shown.progress


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)


@pytest.mark.parametrize("together", [False, True], ids=["out", "both"])
@pytest.mark.parametrize("command", [("info",), ("info", "--json", "-"), ("--help",), ("train", "--backend", "numpy")])
def test_whoever_closes_the_pipe_ends_a_command_without_a_word(
    command: tuple[str, ...], together: bool, place: Path
) -> None:
    """As other tools do: 141 = 128 + SIGPIPE, never a traceback, and never a check that seems to have failed."""
    data = ("--data", str(place / "grey.npy"), "--epochs", "1", *TINY) if command[0] == "train" else ()
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run(
        [sys.executable, "-m", "vae_np", *command, *data],
        stdout=writer, stderr=writer if together else subprocess.PIPE, text=True,
    )  # fmt: skip
    os.close(writer)
    assert process.returncode == 141
    # With the object on standard output, the text goes to standard error, and is all there.
    assert together or (process.stderr == "") == ("--json" not in command)
    assert together or "Traceback" not in process.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full here")
def test_a_full_disk_behind_standard_output_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        process = subprocess.run(
            [sys.executable, "-m", "vae_np", "--version"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert (process.returncode, process.stderr) == (2, "vae-np: output: No space left on device\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_process_says_how_to_go_on(number: signal.Signals, place: Path) -> None:
    """The step is finished, the checkpoint is that step's, and going on gives what never having stopped gives."""
    shutil.copy(place / "grey.npy", "grey.npy")
    arguments = ["train", "--data", "grey.npy", *map(str, TINY)]
    process = subprocess.Popen(
        [sys.executable, "-m", "vae_np", *arguments, "--epochs", "100000", "--out", "cut"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: Path("cut", checkpoint.WEIGHTS_FILE).exists())
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    state = checkpoint.load_state("cut")
    assert err == (
        f"vae-np: interrupted at step {state.step} of 500000; the checkpoint of step {state.step} is kept; "
        "go on with: vae-np train --resume cut\n"
    )
    assert checkpoint.load_weights("cut").step == state.step
    assert max(line["step"] for line in metrics(Path("cut"))) <= state.step
    # Its configuration asks for a day of training; a little more than what is done is enough to compare.
    epochs = state.step // 5 + 2
    good(*arguments, "--epochs", epochs, "--out", "whole")
    good("train", "--resume", "cut", "--epochs", epochs, "--no-plots")
    assert Path("cut", checkpoint.WEIGHTS_FILE).read_bytes() == Path("whole", checkpoint.WEIGHTS_FILE).read_bytes()
    assert metrics(Path("cut")) == metrics(Path("whole"))


@contextmanager
def pressing(owner: object, name: str, call: int) -> Iterator[None]:
    """Press Ctrl-C twice in the middle of the `call`-th call of a function."""
    function, calls = getattr(owner, name), iter(range(1, 10**6))

    def pressed(*arguments: Any, **keywords: Any) -> Any:
        if next(calls) == call:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            pytest.fail("the second Ctrl-C was not heard")
        return function(*arguments, **keywords)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, pressed)
        yield


@pytest.mark.parametrize(
    ("owner", "name", "call", "kept"),
    [
        (trainer.Trainer, "step", 8, 5),
        (trainer.Trainer, "validation_line", 2, 5),
        # the lock's holder, config.toml, then time, state and weights of each checkpoint: at the second one's weights
        (atomic, "_write_synced", 8, 5),
        (os, "replace", 8, 10),
    ],
)
def test_a_second_ctrl_c_stops_at_once_and_spoils_nothing(
    owner: object, name: str, call: int, kept: int, place: Path
) -> None:
    """In a step, in a validation, while a checkpoint is written and between its two renames."""
    arguments = ("train", "--data", place / "grey.npy", "--epochs", 3, *TINY, "--out")
    before = signal.getsignal(signal.SIGINT)
    with pressing(owner, name, call):
        result = vae_np(*arguments, "cut")
    assert signal.getsignal(signal.SIGINT) is before
    assert result.code == 130
    assert result.err == (
        f"vae-np: stopped at once; the checkpoint of step {kept} is kept; go on with: vae-np train --resume cut\n"
    )
    assert checkpoint.load_state("cut").step == kept
    good(*arguments, "whole")
    good("train", "--resume", "cut", "--no-plots")
    assert Path("cut", checkpoint.WEIGHTS_FILE).read_bytes() == Path("whole", checkpoint.WEIGHTS_FILE).read_bytes()
    assert metrics(Path("cut")) == metrics(Path("whole"))


def test_ctrl_c_before_the_first_checkpoint(place: Path) -> None:
    with pressing(trainer.Trainer, "step", 1):
        result = vae_np("train", "--data", place / "grey.npy", *TINY, "--out", "cut")
    assert (result.code, result.err) == (130, "vae-np: stopped at once; there is no checkpoint yet\n")


def test_ctrl_c_outside_of_training(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pressed(*arguments: object, **keywords: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(held_out, "elbo_terms", pressed)
    result = vae_np("eval", place / "images")
    assert (result.code, result.err) == (130, "vae-np: interrupted\n")


def test_a_reader_who_goes_away_is_no_mistake() -> None:
    command = f"{sys.executable} -m vae_np info --json - 2>/dev/null | head -c 1"
    result = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("{", "")
