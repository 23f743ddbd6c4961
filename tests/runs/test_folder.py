"""A run's folder: which one is used, what is refused, and that a kill, a crash or a full disk costs nothing finished.

Budget: about 30 s, most of it processes that start and are killed.
"""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commandline import TINY, good, grey_bars, metrics, snapshot, vae_np

from vae_np import VAE, checkpoint, runs, storage
from vae_np.config import Config
from vae_np.errors import CheckpointError, InputError, MissingFileError
from vae_np.storage import atomic

WEIGHTS, STATE = checkpoint.WEIGHTS_FILE, checkpoint.STATE_FILE


class Killed(BaseException):
    """Stands for a kill: nothing in the package may catch it for good."""


@pytest.fixture(autouse=True)
def _in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    grey_bars(tmp_path / "bars.npy")


def train(out: str, *arguments: object) -> Path:
    good("train", "--data", "bars.npy", "--epochs", 3, *TINY, "--out", out, *arguments)
    return Path(out)


def same_run(first: Path, second: Path) -> None:
    """The same weights to the byte, the same moments and settings, the same metrics but for wall times."""
    assert (first / WEIGHTS).read_bytes() == (second / WEIGHTS).read_bytes()
    states = [checkpoint.load_state(run) for run in (first, second)]
    for name, moment in states[0].moments.items():
        assert moment.tobytes() == states[1].moments[name].tobytes()
    assert states[0].step == states[1].step
    assert metrics(first) == metrics(second)
    assert (first / "config.toml").read_bytes() == (second / "config.toml").read_bytes()


@contextmanager
def dying(owner: object, name: str, call: int, error: BaseException) -> Iterator[None]:
    """Raise `error` instead of the `call`-th call of a function."""
    function, calls = getattr(owner, name), iter(range(1, 10**6))

    def counted(*arguments: object, **keywords: object) -> object:
        if next(calls) == call:
            raise error
        return function(*arguments, **keywords)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, counted)
        yield


# Resuming


@pytest.mark.parametrize("steps", [0, 1, 5, 7, 14])
def test_an_interrupted_run_goes_on_to_the_same_files(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """An epoch has 5 steps: before the first, in mid-epoch, at an epoch's end and just before the last."""
    whole = train("whole")
    with monkeypatch.context() as patch:
        patch.setattr("vae_np.cli.train.asking_to_stop", lambda: after(steps))
        result = vae_np("train", "--data", "bars.npy", "--epochs", 3, *TINY, "--out", "cut")
    assert result.code == 130
    assert checkpoint.load_state("cut").step == steps
    good("train", "--resume", "cut", "--no-plots")
    same_run(whole, Path("cut"))


def test_a_run_without_an_encoder_resumes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row's λ and its moments are in the checkpoint, and no encoder is."""
    whole = train("whole", "--inference", "local")
    with monkeypatch.context() as patch:
        patch.setattr("vae_np.cli.train.asking_to_stop", lambda: after(7))
        assert vae_np("train", "--data", "bars.npy", "--epochs", 3, *TINY, "--inference", "local", "--out", "cut").code
    good("train", "--resume", "cut", "--no-plots")
    same_run(whole, Path("cut"))
    state = checkpoint.load_state(whole)
    assert not any(name.startswith("encoder") for name in state.parameters)
    assert state.moments["local.mu"].any()
    test = good("eval", whole, "--samples", 5, "--json", "-").json["test"]
    assert test["log_likelihood"]["mean"] > test["elbo"]["mean"]


@contextmanager
def after(steps: int) -> Iterator[object]:
    asked = iter(range(10**6))
    yield lambda: next(asked) >= steps


def test_metrics_lines_past_the_checkpoint_are_dropped() -> None:
    """A kill after the second epoch's lines were written, before its checkpoint was; and a line that was cut short."""
    whole = train("whole")
    with dying(runs, "save", 2, Killed()), pytest.raises(Killed):
        train("cut")
    with open("cut/metrics.jsonl", "a") as file:
        file.write('{"step": 11, "epo')
    assert checkpoint.load_state("cut").step == 5
    assert [line["step"] for line in runs.read_metrics(Path("cut"))] == [5, 5, 10, 10]
    good("train", "--resume", "cut", "--no-plots")
    same_run(whole, Path("cut"))


@pytest.mark.parametrize("epoch", [2, 3])
def test_a_kill_between_the_two_renames_is_survived(epoch: int) -> None:
    """A real kill -9 in another process, where an epoch's state is there and its weights are not yet; 3 is the last."""
    whole = train("whole")
    script = (
        "import os, signal, sys\n"
        "from vae_np import checkpoint, cli\n"
        "replace, seen, epoch = os.replace, [], int(sys.argv.pop())\n"
        "def killing(source, target):\n"
        "    seen.append(target)\n"
        "    if sum(str(path).endswith('checkpoint.safetensors') for path in seen) == epoch:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    replace(source, target)\n"
        "checkpoint.os.replace = killing\n"
        "cli.main()\n"
    )
    arguments = ["train", "--data", "bars.npy", "--epochs", "3", *TINY, "--out", "cut"]
    process = subprocess.run([sys.executable, "-c", script, *arguments, str(epoch)], capture_output=True, text=True)
    assert process.returncode == -signal.SIGKILL
    assert checkpoint.load_state("cut").step == 5 * epoch
    assert checkpoint.load_weights("cut").step == 5 * (epoch - 1)
    good("eval", "cut", "--samples", 2, "--no-plots")
    good("train", "--resume", "cut", "--no-plots")
    same_run(whole, Path("cut"))
    assert not [name for name in os.listdir("cut") if name.endswith(".tmp")]


def test_a_full_disk_keeps_the_last_checkpoint() -> None:
    whole = train("whole")
    # The lock's holder and config.toml come first, then three files per checkpoint: the eighth is the second's weights.
    with dying(atomic, "_write_synced", 8, OSError(errno.ENOSPC, "No space left on device")):
        result = vae_np("train", "--data", "bars.npy", "--epochs", 3, *TINY, "--out", "cut")
    assert (result.code, result.err) == (
        2,
        "vae-np: cut/checkpoint.safetensors: cannot be written at step 10 (No space left on device); "
        "the checkpoint of step 5 is kept; go on with: vae-np train --resume cut\n",
    )
    assert checkpoint.load_state("cut").step == checkpoint.load_weights("cut").step == 5
    good("train", "--resume", "cut", "--no-plots")
    same_run(whole, Path("cut"))


def test_a_finished_run_can_be_extended() -> None:
    whole, short = train("whole", "--epochs", 5), train("short")
    good("train", "--resume", short, "--epochs", 5, "--no-plots")
    same_run(whole, short)


def test_stages_can_be_added_and_a_part_of_them_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken off in the third stage, resumed, then extended: the same files as in one go, but for the kind of end."""
    staged = ("--schedule", "burda2015", "--objective", "iwae", "--samples", 2)

    def begin(out: str, stages: str, *more: object) -> Path:
        assert vae_np("train", "--data", "bars.npy", *TINY, *staged, "--stages", stages, "--out", out, *more).code != 2
        return Path(out)

    whole = begin("whole", "1-3")
    with monkeypatch.context() as patch:
        patch.setattr("vae_np.cli.train.asking_to_stop", lambda: after(32))
        cut = begin("cut", "1-3")
    assert runs.shortened(runs.load_config(cut), 112, 32) == "broken off in stage 3 of 8, 6 of 3280 epochs"
    good("train", "--resume", cut, "--no-plots")
    same_run(whole, cut)
    short = begin("short", "1-2")
    result = good("train", "--resume", short, "--stages", "1-3", "--no-plots", "--json", "result.json")
    same_run(whole, short)
    said = "stages 1-3 of 8, 13 of 3280 epochs"
    assert f"note     shortened: {said}\n" in result.out
    assert f"standard error over examples; shortened: {said}\n" in result.out
    assert json.loads(Path("result.json").read_text())["shortened"] == said
    assert (whole / "config.toml").read_text().startswith(f"# Shortened: {said}.\n")
    assert runs.shortened(runs.load_config(whole), 112, 65) == said
    assert checkpoint.load_state(whole).step == 65


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--stages", "1-2"), "stages: got '1-2', but the learning rate is constant; --schedule burda2015 has stages"),
        (("--schedule", "burda2015", "--stages", "2"), "stages: got '2', expected 1-N with N from 1 to 8, such as 1-5"),
        (
            ("--schedule", "burda2015", "--stages", "1-2", "--epochs", "3"),
            "stages: cannot be given together with epochs, which it stands for",
        ),
    ],
)
def test_stages_that_cannot_be(arguments: tuple[str, ...], message: str) -> None:
    result = vae_np("train", "--data", "bars.npy", *TINY, *arguments, "--out", "run")
    assert (result.code, result.err) == (2, f"vae-np: {message}\n")
    assert not Path("run").exists()


def test_a_run_cannot_be_cut_to_fewer_stages() -> None:
    run = Path("run")
    good("train", "--data", "bars.npy", *TINY, "--schedule", "burda2015", "--stages", "1-2", "--out", run)
    result = vae_np("train", "--resume", run, "--stages", "1-1")
    assert (result.code, result.err) == (2, "vae-np: epochs: got 1, but run has trained for 4 already\n")


def test_in_a_long_run_checkpoints_are_rarer_and_the_last_one_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vae_np.cli.train._LONG", 2)
    saved: list[int] = []
    save = runs.save
    monkeypatch.setattr(runs, "save", lambda folder, trainer: (saved.append(trainer.state.step), save(folder, trainer)))
    train("run", "--epochs", 6)
    assert saved == [5, 10, 30]
    saved.clear()
    monkeypatch.setattr("vae_np.cli.train._CHECKPOINT_SECONDS", 0.0)
    train("other", "--epochs", 4)
    assert saved == [5, 10, 15, 20]


def test_settings_that_a_checkpoint_does_not_know_are_their_defaults() -> None:
    """A run of an older version, which had no objective and no schedule."""
    whole, old = train("whole", "--epochs", 5), train("old")
    state = checkpoint.load_state(old)
    new = ("objective", "samples", "schedule")
    checkpoint.save(
        old,
        parameters=state.parameters,
        moments=state.moments,
        architecture=state.architecture,
        config={name: value for name, value in state.config.items() if name not in new},
        step=state.step,
        extra=state.extra,
    )
    settings = old / "config.toml"
    lines = settings.read_text().splitlines(keepends=True)
    settings.write_text("".join(line for line in lines if line.split(" ")[0] not in new))
    good("train", "--resume", old, "--epochs", 5, "--no-plots")
    same_run(whole, old)


def test_resuming_a_finished_run_only_closes_it_again() -> None:
    run = train("run")
    before = snapshot(run)
    (run / "samples.png").unlink(missing_ok=True)
    result = good("train", "--resume", run)
    assert "resumed at step 15" in result.out
    assert "Test set" in result.out
    after = snapshot(run)
    assert {name for name in after if name not in before} == set(runs.PICTURES)
    assert all(after[name] == before[name] for name in before)


def test_a_resumed_run_goes_on_as_it_was_configured() -> None:
    run = train("run", "--beta", 0.5)
    before = snapshot(run)
    result = vae_np("train", "--resume", run, "--beta", 0.25)
    assert (result.code, result.err) == (
        2,
        "vae-np: beta: got 0.25, but run was trained with 0.5; a resumed run can only change epochs, "
        "and where its data lie\n",
    )
    result = vae_np("train", "--resume", run, "--epochs", 2)
    assert (result.code, result.err) == (2, "vae-np: epochs: got 2, but run has trained for 3 already\n")
    assert snapshot(run) == before
    good("train", "--resume", run, "--beta", 0.5, "--data", "bars.npy", "--no-plots")


def test_a_configuration_changed_by_hand_is_noticed() -> None:
    run = train("run")
    settings = run / "config.toml"
    settings.write_text(settings.read_text().replace("lr = 0.01", "lr = 0.1"))
    before = snapshot(run)
    result = vae_np("train", "--resume", run)
    assert result.code == 2
    assert result.err == "vae-np: lr: run/config.toml has 0.1, but the checkpoint beside it was trained with 0.01\n"
    assert snapshot(run) == before


def test_data_that_moved_can_be_named_anew() -> None:
    whole, cut = train("whole", "--epochs", 4), train("cut")
    shutil.move("bars.npy", "moved.npy")
    assert "bars.npy', expected an existing file" in vae_np("train", "--resume", cut, "--epochs", 4).err
    settings = cut / "config.toml"
    settings.write_text(settings.read_text().replace("bars.npy", "moved.npy"))
    good("train", "--resume", cut, "--epochs", 4, "--no-plots")
    assert (whole / WEIGHTS).read_bytes() == (cut / WEIGHTS).read_bytes()


def test_what_python_saved_cannot_be_resumed() -> None:
    VAE(16, hidden=(8,), latent=2).save("saved")
    settings = Path("saved/config.toml")
    settings.write_text(settings.read_text().replace('"mnist"', '"bars.npy"').replace("128", "20"))
    result = vae_np("train", "--resume", "saved")
    assert result.code == 2
    assert result.err == "vae-np: resume: saved: was saved from Python; only a run of vae-np train can be resumed\n"


def test_a_state_of_other_shapes_is_refused() -> None:
    run, other = train("run"), train("other", "--hidden", 9)
    shutil.copy(other / STATE, run / STATE)
    result = vae_np("train", "--resume", run)
    assert result.code == 2
    assert result.err == "vae-np: hidden: run/config.toml has [8], but the checkpoint beside it was trained with [9]\n"
    state = checkpoint.load_state(other)
    checkpoint.save(
        run,
        parameters=state.parameters,
        moments=state.moments,
        architecture=state.architecture,
        config={**state.config, "hidden": [8]},
        step=state.step,
        extra=state.extra,
    )
    result = vae_np("train", "--resume", run)
    assert result.code == 2
    assert result.err.startswith("vae-np: resume: run: holds Architecture(")


# Which folder


def test_a_new_folder_is_its_own_even_in_the_same_second(tmp_path: Path) -> None:
    folders = []
    for _ in range(3):
        with runs.claim(None, overwrite=False) as folder:
            folders.append(folder)
    assert len(set(folders)) == 3
    assert all(folder.is_dir() and folder.parent == runs.ROOT for folder in folders)


def test_the_newest_run_is_the_one_whose_checkpoint_is_newest() -> None:
    with pytest.raises(MissingFileError, match=r"run: there is none under runs/"):
        runs.newest()
    for seconds, name in ((300, "a"), (500, "c"), (400, "b")):
        VAE(4, hidden=(2,), latent=1).save(runs.ROOT / name)
        os.utime(runs.ROOT / name / WEIGHTS, (seconds, seconds))
    (runs.ROOT / "without").mkdir()
    assert runs.newest() == runs.find(None) == runs.ROOT / "c"
    assert runs.find("runs/a") == runs.ROOT / "a"


def test_find_says_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.toml").touch()
    with pytest.raises(MissingFileError, match=r"^run: nowhere: there is no such folder$"):
        runs.find("nowhere")
    with pytest.raises(InputError, match=r"^run: bars.npy: is a file, expected the folder of a run$"):
        runs.find("bars.npy")
    with pytest.raises(MissingFileError, match=r"has no checkpoint; train one with: vae-np train --out empty$"):
        runs.find("empty")
    with pytest.raises(MissingFileError, match=r"train one with: vae-np train --out begun --overwrite$"):
        runs.find("begun")


def test_overwrite_replaces_a_run_and_leaves_the_rest() -> None:
    run = train("run", "--seed", 1)
    for stray in ("notes.txt", "kl.png"):
        (run / stray).write_text("mine")
    train("run", "--overwrite")
    assert (run / "notes.txt").read_text() == "mine"
    assert not (run / "kl.png").exists()
    shutil.rmtree("other", ignore_errors=True)
    same_run(run, train("other"))


def test_overwrite_spares_a_folder_that_is_no_run() -> None:
    Path("photos").mkdir()
    Path("photos/cat.png").write_bytes(b"cat")
    for overwrite, message in (
        (True, r"out: photos: holds cat.png and no run, so --overwrite leaves it alone"),
        (False, r"out: photos: exists and is not empty; add --overwrite"),
    ):
        with pytest.raises(InputError, match=message), runs.claim("photos", overwrite=overwrite):
            pytest.fail("taken")
    assert os.listdir("photos") == ["cat.png"]


def test_an_empty_folder_is_as_good_as_none() -> None:
    Path("empty").mkdir()
    for name in ("empty", "a/b/c"):
        # And so is one where a run ended before it had written anything.
        for _ in range(2):
            with runs.claim(name, overwrite=False) as folder:
                assert folder == Path(name)
        assert set(os.listdir(name)) <= {storage.LOCK}


def test_a_runs_data_are_found_from_any_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = runs.with_absolute_paths(Config(data="bars.npy", test_data="test.npy"))
    assert (config.data, config.test_data) == (str(tmp_path / "bars.npy"), str(tmp_path / "test.npy"))
    assert runs.with_absolute_paths(Config(data="bars")) == Config(data="bars")
    run = train("run").absolute()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    good("eval", run, "--samples", 2, "--no-plots")


# Metrics


def test_metrics_are_whole_lines_that_can_be_followed(tmp_path: Path) -> None:
    file = runs.MetricsFile(tmp_path)
    for step in range(3):
        file.write({"step": step, "epoch": 1, "split": "train", "elbo": -0.1 * step})
        assert [line["step"] for line in runs.read_metrics(tmp_path)] == list(range(step + 1))
    file.close()
    with open(tmp_path / "metrics.jsonl", "ab") as raw:
        raw.write(b'{"step": 3, "elbo": -0.3\xff')
    runs.drop_metrics_after(tmp_path, 1)
    text = (tmp_path / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert lines == [{"step": step, "epoch": 1, "split": "train", "elbo": -0.1 * step} for step in range(2)]
    assert text.endswith("}\n")


def test_a_run_without_metrics_has_none(tmp_path: Path) -> None:
    assert runs.read_metrics(tmp_path) == []


def test_a_folder_without_configuration_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no config.toml, so its data are not known"):
        runs.load_config(tmp_path)


def test_the_run_folder_is_all_that_a_training_writes(tmp_path: Path) -> None:
    before = snapshot(tmp_path)
    run = train("run")
    names = "config.toml", "metrics.jsonl", WEIGHTS, STATE, checkpoint.TIME_FILE
    expected = {"run"} | {f"run/{name}" for name in names}
    assert set(snapshot(tmp_path)) - set(before) - {f"run/{storage.LOCK}"} == expected
    keys = {"step", "epoch", "split", "elbo", "reconstruction", "kl", "objective", "beta", "seconds"}
    lines = runs.read_metrics(run)
    assert all(set(line) == keys for line in lines)
    assert [(line["step"], line["epoch"], line["split"]) for line in lines] == [
        (5 * epoch, epoch, split) for epoch in (1, 2, 3) for split in ("train", "validation")
    ]
    assert all(np.isfinite(line["elbo"]) and line["kl"] >= 0 for line in lines)


# One writer, and what a kill at the start leaves


def test_a_run_that_is_being_written_is_refused_to_every_other_writer() -> None:
    run = train("run")
    before = snapshot(run)
    with storage.hold(run):
        inside = snapshot(run)
        for arguments in (("--resume", run, "--epochs", 9), ("--data", "bars.npy", *TINY, "--out", run, "--overwrite")):
            result = vae_np("train", *arguments)
            assert result.code == 2
            assert re.fullmatch(
                rf"vae-np: (out: )?run: process {os.getpid()} on \S+ writes here; wait until it is done, or stop it\n",
                result.err,
            )
        # Reading is free.
        good("eval", run, "--samples", 2, "--no-plots")
        assert snapshot(run) == inside
    assert snapshot(run) == before


def test_two_processes_that_resume_one_run_at_the_same_time_lose_no_line() -> None:
    """Each is either refused, with one line, or finds the other's work done; the run is as if it had gone on alone."""
    whole, run = train("whole", "--epochs", 120), train("run")
    command = [sys.executable, "-m", "vae_np", "train", "--resume", str(run), "--epochs", "120", "--no-plots"]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    ends = [(process.communicate(), process.returncode) for process in processes]
    assert 0 in [code for _, code in ends]
    for (_, err), code in ends:
        assert code in (0, 2), err
        if code == 2:
            assert re.fullmatch(r"vae-np: run: .*process.* writes here; wait until it is done, or stop it\n", err)
    same_run(whole, run)


def test_a_name_that_is_taken_while_a_new_run_waits_for_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the first look at a folder and its lock another run may have begun and ended in it."""
    hold = storage.hold

    @contextmanager
    def late(folder: Path) -> Iterator[None]:
        (folder / "config.toml").write_text("")
        with hold(folder):
            yield

    monkeypatch.setattr(storage, "hold", late)
    with pytest.raises(InputError, match="out: run: exists and is not empty"), runs.claim("run", overwrite=False):
        pytest.fail("taken")


def train_and_die(fatal: int) -> None:
    """Train into `cut`, and kill this process before its `fatal`-th change of that folder."""
    calls = iter(range(1, 10**6))

    def killing(function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **keywords: Any) -> Any:
            if "cut" in str(arguments[0]) and next(calls) == fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **keywords)

        return counted

    for name in ("mkdir", "open", "replace", "unlink"):
        setattr(os, name, killing(getattr(os, name)))
    builtins.open = io.open = killing(builtins.open)
    vae_np("train", "--data", "bars.npy", "--epochs", 3, *TINY, "--out", "cut")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a child is forked for each kill")
@pytest.mark.parametrize("fatal", range(1, 13))
def test_what_a_kill_at_the_start_leaves_can_be_overwritten(fatal: int) -> None:
    """A real kill -9 before each of the first calls that make, write, rename or remove something in the folder."""
    child = os.fork()
    if child == 0:
        try:
            train_and_die(fatal)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL
    train("cut", "--overwrite")
    same_run(Path("cut"), train("whole"))
    assert set(os.listdir("cut")) - {storage.LOCK} == {
        "config.toml", "metrics.jsonl", WEIGHTS, STATE, checkpoint.TIME_FILE
    }


# A full disk, and a folder that is gone


def at_metrics_line(number: int, do: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have something happen just before a metrics line is written."""
    write, calls = runs.MetricsFile.write, iter(range(1, 1000))

    def counted(self: runs.MetricsFile, line: dict[str, object]) -> None:
        if next(calls) == number:
            do()
        write(self, line)

    monkeypatch.setattr(runs.MetricsFile, "write", counted)


@pytest.mark.parametrize("line", [1, 2, 3, 6])
def test_a_folder_that_is_removed_while_it_trains_is_no_success(line: int, monkeypatch: pytest.MonkeyPatch) -> None:
    at_metrics_line(line, lambda: shutil.rmtree("run"), monkeypatch)
    result = vae_np("train", "--data", "bars.npy", "--epochs", 3, *TINY, "--out", "run")
    assert (result.code, result.err) == (
        2,
        "vae-np: run/metrics.jsonl: cannot be written (No such file or directory); the run's folder is gone\n",
    )
    assert not Path("run").exists()


def test_a_folder_that_is_removed_after_the_last_line_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "save", lambda folder, trainer: shutil.rmtree(folder, ignore_errors=True))
    result = vae_np("train", "--data", "bars.npy", "--epochs", 1, *TINY, "--out", "run")
    assert (result.code, result.err) == (
        2,
        "vae-np: run/metrics.jsonl: cannot be written (No such file or directory); the run's folder is gone\n",
    )


def test_a_folder_that_another_takes_the_place_of_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def exchange() -> None:
        Path("run").rename("moved")
        Path("run").mkdir()
        Path("run/metrics.jsonl").write_text("mine")

    with monkeypatch.context() as patch:
        at_metrics_line(3, exchange, patch)
        result = vae_np("train", "--data", "bars.npy", "--epochs", 3, *TINY, "--out", "run")
    assert (result.code, result.err) == (
        2,
        "vae-np: run/metrics.jsonl: cannot be written (another file is in its place); there is no checkpoint yet\n",
    )
    assert snapshot(Path("run")) == {"metrics.jsonl": b"mine"}
    good("train", "--resume", "moved", "--no-plots")
    same_run(Path("moved"), train("whole"))


@pytest.mark.parametrize(("line", "kept"), [(1, None), (2, None), (4, 5)])
def test_a_full_disk_while_metrics_are_written_cuts_no_line(
    line: int, kept: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk takes 7 bytes more, then none."""

    class Full(io.FileIO):
        def write(self, content: object) -> int:
            if full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if ready:
                full.append(True)
                return super().write(bytes(content)[:7])  # type: ignore[call-overload]
            return super().write(content)  # type: ignore[arg-type]

    ready: list[bool] = []
    full: list[bool] = []
    with monkeypatch.context() as patch:
        patch.setattr("vae_np.runs.folder.open", lambda path, *_, **__: Full(path, "ab"), raising=False)
        at_metrics_line(line, lambda: ready.append(True), patch)
        result = vae_np("train", "--data", "bars.npy", "--epochs", 3, *TINY, "--out", "cut")
    assert full
    said = "there is no checkpoint yet"
    if kept is not None:
        said = f"the checkpoint of step {kept} is kept; go on with: vae-np train --resume cut"
    assert (result.code, result.err) == (
        2,
        f"vae-np: cut/metrics.jsonl: cannot be written (No space left on device); {said}\n",
    )
    text = Path("cut/metrics.jsonl").read_text()
    assert len(text.splitlines()) == line - 1
    assert text == "" or text.endswith("}\n")
    if kept is not None:
        good("train", "--resume", "cut", "--no-plots")
        same_run(Path("cut"), train("whole"))
