"""A user's mistake is one line that names what is wrong: exit code 2, no traceback, and nothing changed on disk.

Budget: about 7 s.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commandline import TINY, good, grey_bars, metrics, snapshot, vae_np

from vae_np import VAE, backends, checkpoint
from vae_np.data import bars, rings

WEIGHTS, STATE = checkpoint.WEIGHTS_FILE, checkpoint.STATE_FILE


@pytest.fixture(scope="module")
def _place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a good run, runs and data that are broken in one way each, and nothing under runs/."""
    place = tmp_path_factory.mktemp("place")
    grey_bars(place / "grey.npy")
    good_data(place)
    bad_data(place)
    arguments = ("train", "--data", place / "grey.npy", "--epochs", 2, *TINY)
    good(*arguments, "--out", place / "run")
    good(*arguments, "--latent", 3, "--out", place / "wider")
    bad_runs(place)
    (place / "wrong.toml").write_text("latnt = 3\n")
    (place / "value.toml").write_text('lr = "fast"\n')
    (place / "syntax.toml").write_text("lr = = 1\n")
    return place


def good_data(place: Path) -> None:
    np.save(place / "binary.npy", bars(4, 60, 0)[0])
    np.save(place / "points.npy", rings(60, 0)[0])
    np.save(place / "unit.npy", bars(4, 60, 0)[0] * np.float32(0.5))


def bad_data(place: Path) -> None:
    images = bars(4, 60, 0)[0]
    (place / "text.npy").write_text("these are no numbers\n" * 9)
    (place / "nothing.npy").touch()
    (place / "cut.npy").write_bytes((place / "binary.npy").read_bytes()[:-7])
    (place / "cut.npz").write_bytes(b"PK\x03\x04 and no more")
    (place / "cut-idx3-ubyte").write_bytes(bytes([0, 0, 8, 3, 0, 0, 0, 9, 0, 0, 0, 4, 0, 0, 0, 4]) + bytes(100))
    np.save(place / "objects.npy", np.array([{"a": 1}, None]), allow_pickle=True)
    np.save(place / "words.npy", np.array([["a", "b"], ["c", "d"]]))
    np.save(place / "flat.npy", images.ravel())
    np.save(place / "empty.npy", images[:0])
    np.save(place / "one.npy", images[:1])
    np.save(place / "narrow.npy", images[:, :9])
    for name, value in (("nan", np.nan), ("infinite", np.inf), ("negative", -1.0), ("above", 256.0), ("half", 1.5)):
        values = images.astype(np.float64)
        values[7, 3] = value
        np.save(place / f"{name}.npy", values)


def bad_runs(place: Path) -> None:
    run, wider = place / "run", place / "wider"
    broken = {
        "cut-weights": (WEIGHTS, (run / WEIGHTS).read_bytes()[:-9]),
        "cut-header": (WEIGHTS, (run / WEIGHTS).read_bytes()[:99]),
        "no-bytes": (WEIGHTS, b""),
        "text-weights": (WEIGHTS, b"weights, honestly " * 9),
        "state-as-weights": (WEIGHTS, (run / STATE).read_bytes()),
        "cut-state": (STATE, (run / STATE).read_bytes()[:-9]),
        "other-state": (STATE, (wider / STATE).read_bytes()),
        "bad-config": ("config.toml", b"latnt = 3\n"),
    }
    for folder, (name, content) in broken.items():
        shutil.copytree(run, place / folder)
        (place / folder / name).write_bytes(content)
    for folder, name in (("no-weights", WEIGHTS), ("no-config", "config.toml")):
        shutil.copytree(run, place / folder)
        (place / folder / name).unlink()
    weights = checkpoint.load_weights(run)
    for folder, architecture in (
        ("bent", {**weights.architecture, "latent": 3}),
        ("deeper", {**weights.architecture, "hidden": [8, 8]}),
        ("strange", {"kind": "GAN"}),
    ):
        shutil.copytree(run, place / folder)
        checkpoint.save(
            place / folder, parameters=weights.parameters, moments={}, architecture=architecture, config={}, step=1,
            extra={},
        )  # fmt: skip
    shutil.copytree(run, place / "other-data")
    settings = place / "other-data" / "config.toml"
    settings.write_text(settings.read_text().replace("grey.npy", "narrow.npy"))
    (place / "empty").mkdir()
    (place / "taken").mkdir()
    (place / "taken" / "thesis.tex").write_text("years of work")


@pytest.fixture
def place(_place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(_place)
    return _place


def refused(place: Path, *arguments: object) -> str:
    """The one line with which a command is refused, without `vae-np: `; the folder is as it was."""
    before = snapshot(place)
    result = vae_np(*arguments)
    assert result.code == 2, result
    assert result.out == ""
    assert result.err.startswith("vae-np: ")
    assert result.err.endswith("\n")
    assert len(result.err.splitlines()) == 1
    assert snapshot(place) == before
    return result.err.removeprefix("vae-np: ").removesuffix("\n")


SETTINGS = [
    ("--activation gelu", "activation: got 'gelu', expected one of relu, tanh, softplus"),
    ("--backend torch", "backend: got 'torch', expected one of auto, numpy, numba, cupy"),
    ("--likelihood gamma", "likelihood: got 'gamma', expected one of bernoulli, bernoulli-grey, normal, "),
    ("--binarize coin", "binarize: got 'coin', expected one of dynamic, fixed, threshold, none"),
    ("--optimizer sgd", "optimizer: got 'sgd', expected one of adam, adagrad"),
    ("--init zeros", "init: got 'zeros', expected one of uniform, glorot"),
    ("--dtype float16", "dtype: got 'float16', expected one of float32, float64"),
    ("--precision fp8", "precision: got 'fp8', expected one of full, bf16, bf16x3"),
    (
        "--precision bf16 --dtype float64",
        "precision: got 'bf16' with dtype 'float64', expected dtype 'float32', in which its products are summed",
    ),
    ("--precision bf16 --backend numpy", "precision: got 'bf16', but backend numpy has only full products"),
    ("--latent 0", "latent: got 0, expected a whole number >= 1"),
    ("--latent 2.5", "latent: got '2.5', expected a whole number >= 1"),
    ("--latent=-3", "latent: got -3, expected a whole number >= 1"),
    ("--hidden 0", "hidden: got 0, expected sizes >= 1, such as 400 or 500,500"),
    ("--hidden 8,-1", "hidden: got 8,-1, expected sizes >= 1"),
    ("--hidden 8,,8", "hidden: got '8,,8', expected sizes >= 1"),
    ("--hidden wide", "hidden: got 'wide', expected sizes >= 1"),
    ("--batch-size 0", "batch_size: got 0, expected a whole number >= 1"),
    ("--epochs 0", "epochs: got 0, expected a whole number >= 1"),
    ("--epochs -1", "epochs: got -1, expected a whole number >= 1"),
    ("--epochs ten", "epochs: got 'ten', expected a whole number >= 1"),
    ("--z-samples 0", "z_samples: got 0, expected a whole number >= 1"),
    ("--lr 0", "lr: got 0.0, expected a number > 0"),
    ("--lr=-0.1", "lr: got -0.1, expected a number > 0"),
    ("--lr nan", "lr: got nan, expected a number > 0 (finite)"),
    ("--lr inf", "lr: got inf, expected a number > 0 (finite)"),
    ("--adam-beta1 1", "adam_beta1: got 1.0, expected a number >= 0 and < 1"),
    ("--adam-eps 0", "adam_eps: got 0.0, expected a number > 0"),
    ("--sigma 0", "sigma: got 0.0, expected a number > 0"),
    ("--seed -1", "seed: got -1, expected a whole number >= 0 and < 2**64"),
    ("--seed 18446744073709551616", "seed: got 18446744073709551616, expected a whole number >= 0 and < 2**64"),
    ("--beta -1", "beta: got -1.0, expected a number >= 0"),
    ("--beta-warmup -1", "beta_warmup: got -1, expected a whole number >= 0"),
    ("--validation -1", "validation: got -1, expected a whole number >= 0"),
    ("--validation 112", "validation: got 112, expected fewer than the 112 training rows, or none is left to train on"),
    ("--batch-size 102", "batch_size: got 102, expected at most the 101 training rows"),
    ("--batch-size 101 --validation 12", "batch_size: got 101, expected at most the 100 training rows"),
    ("--image-shape 4", "image_shape: got 4, expected a height and a width, such as 28,28"),
    ("--image-shape 4,5", "image_shape: got 4,5, expected two sizes whose product is 16, the columns"),
    ("--binarize none", "data 'grey.npy': likelihood 'bernoulli' is not one for grey values; use binarize 'dynamic', "),
    ("--likelihood normal --binarize fixed", "data 'grey.npy': likelihood 'normal' takes the grey values, but "),
    ("--config wrong.toml", "config: wrong.toml: key: got 'latnt', expected the name of a setting (did you"),
    ("--config value.toml", "config: value.toml: lr: got 'fast', expected a number > 0"),
    ("--config syntax.toml", "config: syntax.toml: not valid TOML: "),
    ("--config absent.toml", "config: absent.toml: there is no such file"),
    ("--config kingma", "config: got 'kingma', expected a .toml file or one of burda2015-full, "),
    ("--config taken", "config: taken: cannot be read (Is a directory)"),
    ("--json taken", "json: got 'taken', expected a file's name, or - for standard output"),
    ("--json grey.npy/result.json", "json: grey.npy/result.json: cannot be written ("),
]


@pytest.mark.parametrize(("options", "message"), SETTINGS, ids=[options for options, _ in SETTINGS])
def test_a_wrong_setting(options: str, message: str, place: Path) -> None:
    assert refused(place, "train", "--data", "grey.npy", *TINY, *options.split()).startswith(message)


DATA = [
    ("absent.npy", "data: got 'absent.npy', expected an existing file or one of mnist, bars, xor, rings"),
    ("mnits", "data: got 'mnits', expected an existing file or one of mnist, bars, xor, rings"),
    ("text.npy", "text.npy: not a data file, expected .npy, .npz, IDX, CSV or another text table, .mat, HDF5, "),
    ("nothing.npy", "nothing.npy: the file is empty"),
    ("cut.npy", "cut.npy: cannot be read as a data file ("),
    ("cut.npz", "cut.npz: cannot be read as a data file ("),
    ("cut-idx3-ubyte", "cut-idx3-ubyte: 116 bytes, but its IDX header announces 160"),
    ("objects.npy", "objects.npy: cannot be read as a data file ("),
    ("words.npy", "words.npy: train: got <U1, expected numbers"),
    ("flat.npy", "flat.npy: train: got shape (960,), expected (N, D) or (N, H, W)"),
    ("empty.npy", "empty.npy: train: got the empty shape (0, 16), expected at least one row and one column"),
    ("one.npy", "one.npy: one row cannot give both training and test rows; name a test file"),
    ("nan.npy", "nan.npy: train: got nan at row 7, column 3 (counted from 0), expected finite numbers"),
    ("infinite.npy", "infinite.npy: train: got inf at row 7, column 3 (counted from 0), expected finite"),
    ("negative.npy", "data 'negative.npy': likelihood 'bernoulli' takes values in [0, 1] or whole numbers in [0, 255]"),
    ("above.npy", "data 'above.npy': likelihood 'bernoulli' takes values in [0, 1] or whole numbers in [0, 255], but"),
    ("half.npy", "data 'half.npy': likelihood 'bernoulli' takes values in [0, 1] or whole numbers in [0, 255], but"),
    ("empty", "empty: a folder without data, expected train-images-idx3-ubyte"),
    ("", "data: got '', expected the name of a built-in data set or the path of a file"),
    ("binary.npy --test-data absent.npy", "absent.npy: no such data file"),
    ("binary.npy --test-data narrow.npy", "binary.npy: test: got shape (60, 9), expected (N, 16)"),
    ("unit.npy --test-data grey.npy", "unit.npy: test: got whole numbers from 25 to 230, expected numbers from 0 to 1"),
    ("bars --test-data grey.npy", "test: got 'grey.npy', but data set 'bars' has its own test rows"),
    ("points.npy", "data 'points.npy': likelihood 'bernoulli' takes values in [0, 1]"),
    ("points.npy --likelihood normal --binarize dynamic", "data 'points.npy': real values cannot be binarised by 'dyn"),
]


@pytest.mark.parametrize(("data", "message"), DATA, ids=[data for data, _ in DATA])
def test_wrong_data(data: str, message: str, place: Path) -> None:
    assert refused(place, "train", *TINY, "--data", *(data.split() or [""])).startswith(message)


OUT = [
    ("run", "out: run: exists and is not empty; add --overwrite to replace the run in it, or go on with it: --resume"),
    ("taken", "out: taken: exists and is not empty; add --overwrite"),
    ("taken --overwrite", "out: taken: holds thesis.tex and no run, so --overwrite leaves it alone"),
    ("grey.npy", "out: grey.npy: is a file, expected a folder"),
    ("grey.npy/run", "out: grey.npy/run: cannot be written ("),
    pytest.param(
        "/proc/run",
        "out: /proc/run: cannot be written (",
        marks=pytest.mark.skipif(sys.platform != "linux", reason="needs a file system where even root cannot write"),
    ),
    ("a/" + 300 * "x", "out: a/xxx"),
]


@pytest.mark.parametrize(("out", "message"), OUT)
def test_a_folder_that_cannot_be_used(out: str, message: str, place: Path) -> None:
    assert refused(place, "train", "--data", "grey.npy", *TINY, "--out", *out.split()).startswith(message)


def test_an_empty_folder_name(place: Path) -> None:
    assert (
        refused(place, "train", "--data", "grey.npy", *TINY, "--out", "")
        == "out: got '', expected the name of a folder"
    )


def test_a_runs_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grey_bars(tmp_path / "grey.npy")
    (tmp_path / "runs").write_text("a file where the runs would go")
    monkeypatch.chdir(tmp_path)
    assert refused(tmp_path, "train", "--data", "grey.npy", *TINY).startswith("out: runs/")


COMMANDS = ("eval", "sample", "reconstruct", "latent", "train --resume")
RUNS = [
    ("cut-weights", f"cut-weights/{WEIGHTS}: is truncated or not a safetensors file ("),
    ("cut-header", f"cut-header/{WEIGHTS}: is truncated or not a safetensors file ("),
    ("no-bytes", f"no-bytes/{WEIGHTS}: is truncated or not a safetensors file ("),
    ("text-weights", f"text-weights/{WEIGHTS}: is truncated or not a safetensors file ("),
    ("state-as-weights", f"state-as-weights/{WEIGHTS}: holds the state of a run, expected its weights"),
    ("no-weights", f"no-weights/{WEIGHTS}: there is no such file; the run was stopped while it wrote its first"),
    ("bent", "bent: checkpoint: belongs to another architecture: encoder.mu.weight has shape (8, 2), expected (8, 3)"),
    ("deeper", "deeper: checkpoint: belongs to another architecture: lacks encoder.hidden.1.weight, "),
    ("strange", "strange: its architecture cannot be read ("),
]


@pytest.mark.parametrize("command", COMMANDS[:-1])
@pytest.mark.parametrize(("run", "message"), RUNS, ids=[run for run, _ in RUNS])
def test_a_checkpoint_that_cannot_be_used(command: str, run: str, message: str, place: Path) -> None:
    assert refused(place, command, run).startswith(message)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("run", "message"),
    [
        ("absent", "run: absent: there is no such folder"),
        ("grey.npy", "run: grey.npy: is a file, expected the folder of a run"),
        ("empty", "run: empty: has no checkpoint; train one with: vae-np train --out empty"),
        ("no-config", "run: no-config: has no config.toml, so its data are not known"),
        ("bad-config", "config: bad-config/config.toml: key: got 'latnt', expected the name of a setting"),
    ],
)
def test_a_run_that_is_none(command: str, run: str, message: str, place: Path) -> None:
    assert refused(place, *command.split(), run).startswith(message)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ("cut-state", f"cut-state/{STATE}: is truncated or not a safetensors file ("),
        ("other-state", "latent: other-state/config.toml has 2, but the checkpoint beside it was trained with 3"),
        ("bent", "resume: bent: was saved from Python; only a run of vae-np train can be resumed"),
        ("other-data", "data: 'narrow.npy' has changed since other-data was trained: it had 112 train rows"),
        ("run --lr 0.5", "lr: got 0.5, but run was trained with 0.01; a resumed run can only change epochs"),
        ("run --epochs 1", "epochs: got 1, but run has trained for 2 already"),
        ("run --out new", "out: cannot be given together with --resume, which goes on in the run's own folder"),
        ("run --overwrite", "overwrite: cannot be given together with --resume"),
        ("run --config kingma2014", "config: cannot be given together with --resume"),
    ],
)
def test_a_run_that_cannot_be_resumed(run: str, message: str, place: Path) -> None:
    assert refused(place, "train", "--resume", *run.split()).startswith(message)


@pytest.mark.parametrize("command", ["eval", "sample", "reconstruct", "latent"])
def test_no_run_at_all(command: str, place: Path) -> None:
    assert refused(place, command) == "run: there is none under runs/; name one, or train one with: vae-np train"


USAGE = [
    ("trian", "No such command 'trian'."),
    ("train --learning-rate 1", "No such option: --learning-rate"),
    ("train --lr", "Option '--lr' requires an argument."),
    ("train extra", "Got unexpected extra argument"),
    ("--loud", "No such option: --loud"),
    ("eval run another", "Got unexpected extra argument"),
    ("eval run --samples 0", "samples: got 0, expected a whole number >= 1"),
    ("eval run --samples many", "samples: got 'many', expected a whole number >= 1"),
    ("eval run --limit 0", "images: got 0, expected a whole number >= 1"),
    ("eval run --z-samples 0", "z_samples: got 0, expected a whole number >= 1"),
    ("eval run --seed -1", "seed: got -1, expected a whole number >= 0"),
    ("eval run --backend torch", "backend: got 'torch', expected one of auto, numpy, numba, cupy"),
    ("eval other-data", "data 'narrow.npy': train: got shape (60, 9), expected (N, 16)"),
    ("sample run -n 0", "n: got 0, expected a whole number >= 1"),
    ("sample run -n -4", "n: got -4, expected a whole number >= 1"),
    ("sample run --out picture.jpg", "out: got 'picture.jpg', expected a name that ends in .png or .npy"),
    ("sample run --out taken/x.png --seed x", "seed: got 'x', expected a whole number >= 0"),
    ("reconstruct run --out values.npy", "out: got 'values.npy', expected a name that ends in .png"),
    ("latent run --out grey.npy", "out: grey.npy: is a file, expected a folder"),
    ("latent run -n 1.5", "n: got '1.5', expected a whole number >= 1"),
]


@pytest.mark.parametrize(("line", "message"), USAGE, ids=[line for line, _ in USAGE])
def test_wrong_usage(line: str, message: str, place: Path) -> None:
    assert refused(place, *line.split()).startswith(message)


def test_a_picture_that_is_there_already(tmp_path: Path, place: Path) -> None:
    for command, name in (("sample", "s.png"), ("sample", "s.npy"), ("reconstruct", "r.png")):
        target = tmp_path / name
        target.write_text("mine")
        assert refused(tmp_path, command, place / "run", "--out", target).endswith(
            "exists; add --overwrite to replace it"
        )
        good(command, place / "run", "--out", target, "--overwrite")
        assert target.read_bytes() != b"mine"
    (tmp_path / "interpolations.png").write_text("mine")
    assert refused(tmp_path, "latent", place / "run", "--out", tmp_path).endswith("add --overwrite to replace it")


@pytest.mark.skipif(backends.missing("cupy") is None, reason="the CUDA backend is here")
@pytest.mark.parametrize("command", ["train --data grey.npy", "eval run"])
def test_a_backend_that_is_missing_is_no_reason_to_take_another(command: str, place: Path) -> None:
    message = refused(place, *command.split(), "--backend", "cupy")
    assert message.startswith("backend: got 'cupy', but ")
    assert "expected one of auto, numpy" in message


def test_a_model_from_python_without_its_data_is_told_so(tmp_path: Path, place: Path) -> None:
    VAE(16, hidden=(8,), latent=2).save(tmp_path / "saved")
    assert refused(tmp_path, "eval", tmp_path / "saved") == (
        "data 'mnist': train: got shape (60000, 784), expected (N, 16); the run was saved from Python, so its data are "
        "not known: name them with --data FILE"
    )


def test_a_run_that_diverges_fails_with_one_line_and_keeps_its_checkpoint(place: Path, tmp_path: Path) -> None:
    """A step an epoch, and a checkpoint after each: the first step is finite, and the second is not."""
    run = tmp_path / "run"
    arguments = ("train", "--data", "grey.npy", *TINY, "--validation", 0, "--batch-size", 112, "--out", run)
    result = vae_np(*arguments, "--lr", 1e30)
    assert result.code == 1
    assert result.err == (
        "vae-np: step 2: reconstruction is not finite; a smaller lr often helps; "
        f"the checkpoint of step 1 is kept; go on with: vae-np train --resume {run}\n"
    )
    assert VAE.load(run).parameters.keys() == checkpoint.load_state(run).parameters.keys()
    assert [line["step"] for line in metrics(run)] == [1]
    assert vae_np("train", "--resume", run).code == 1


@pytest.mark.parametrize("arguments", [("train", "--lr", "-1"), ("eval",), ("train", "--no-such-option")])
def test_the_real_program_says_the_same(arguments: tuple[str, ...], place: Path) -> None:
    process = subprocess.run([sys.executable, "-m", "vae_np", *arguments], capture_output=True, text=True)
    result = vae_np(*arguments)
    assert (process.returncode, process.stdout, process.stderr) == (result.code, result.out, result.err)
    assert result.code == 2
