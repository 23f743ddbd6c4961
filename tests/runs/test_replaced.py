"""What `train --overwrite` replaces stays until the new run has a checkpoint, whatever ends the new one.

Budget: about 25 s.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commandline import TINY, good, grey_bars, snapshot, vae_np

from vae_np import checkpoint, runs, storage
from vae_np.runs import replaced
from vae_np.storage import atomic

TRAIN = ("train", "--data", "bars.npy", "--backend", "numpy", *TINY)
ANEW = (*TRAIN, "--epochs", 2, "--seed", 5, "--out", "run", "--overwrite")


@pytest.fixture(autouse=True)
def _a_finished_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    grey_bars(tmp_path / "bars.npy")
    good(*TRAIN, "--epochs", 1, "--out", "run")
    Path("run", "notes.txt").write_text("mine")


def held() -> dict[str, bytes | None]:
    """What lies in the run's folder; the lock is nothing."""
    found = snapshot(Path("run"))
    for name in (storage.LOCK, storage.HOLDER):
        found.pop(name, None)
    return found


def write_fails(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    write = atomic._write_synced

    def full(path: Path, content: bytes) -> None:
        if any(name in path.name for name in names):
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, content)

    monkeypatch.setattr(atomic, "_write_synced", full)


@pytest.mark.parametrize("name", ["config.toml", checkpoint.WEIGHTS_FILE, checkpoint.STATE_FILE])
def test_a_full_disk_leaves_the_earlier_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = held()
    with monkeypatch.context() as patch:
        write_fails(patch, name)
        result = vae_np(*ANEW)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert f"run/{name}: cannot be written" in result.err
    assert held() == before
    good("train", "--resume", "run", "--epochs", 2, "--no-plots")


def test_a_training_that_fails_at_once_leaves_the_earlier_run_and_says_so() -> None:
    before = held()
    result = vae_np(*ANEW, "--lr", "1e30")
    assert result.code == 1
    assert result.err.endswith("; there is no checkpoint yet, and the run that run had before is kept\n")
    assert held() == before


def test_a_second_ctrl_c_before_the_first_checkpoint_leaves_the_earlier_run(monkeypatch: pytest.MonkeyPatch) -> None:
    before, save = held(), runs.save

    def pressed(*arguments: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        save(*arguments)

    monkeypatch.setattr(runs, "save", pressed)
    result = vae_np(*ANEW)
    assert (result.code, result.err) == (
        130,
        "vae-np: stopped at once; there is no checkpoint yet, and the run that run had before is kept\n",
    )
    assert held() == before


def survives(call: int, work: Callable[[], object]) -> bool:
    """Whether a child that is killed (SIGKILL) before its `call`-th change of the disk has ended before that."""
    child = os.fork()
    if child == 0:
        calls = iter(range(1, 10**6))
        for name in ("mkdir", "rename", "replace", "unlink", "rmdir", "open"):

            def counted(path: Any, *more: Any, function: Any = getattr(os, name), **keywords: Any) -> Any:  # noqa: B008 (this loop's)
                if (not more or not isinstance(more[0], int) or more[0] & os.O_CREAT) and next(calls) == call:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(path, *more, **keywords)

            setattr(os, name, counted)
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return not os.WIFSIGNALED(status)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a child is forked for each kill")
def test_a_kill_at_any_point_leaves_one_run_or_the_other() -> None:
    """Whole, once somebody looks for it; and a further kill while it is put in order does no harm."""
    before, config = held(), Path("run", "config.toml").read_bytes()
    survivors = []
    for call in range(1, 1000):
        if survives(call, lambda: vae_np(*ANEW)):
            break
        again = 1
        while not survives(again, lambda: runs.find("run")):
            again += 1
        runs.find("run")
        with runs.hold(Path("run")):
            pass
        assert not set(os.listdir("run")) & set(replaced.FOLDERS)
        survivors.append("earlier" if held()["config.toml"] == config else "new")
        if survivors[-1] == "earlier":
            assert held() == before, call
            continue
        assert checkpoint.load_state("run").config["seed"] == 5
        good("train", "--resume", "run", "--no-plots")
        assert checkpoint.load_weights("run").step == checkpoint.load_state("run").step == 10
        good(*TRAIN, "--epochs", 1, "--out", "run", "--overwrite")
        # Wall times are others.
        before = held()
    assert survivors.count("earlier") >= 10
    assert survivors.count("new") > 5
    assert held()["notes.txt"] == b"mine"


def test_what_somebody_wrote_since_a_kill_is_not_replaced() -> None:
    Path("run", ".replaced-moving").mkdir()
    os.replace("run/metrics.jsonl", "run/.replaced-moving/metrics.jsonl")
    Path("run/.replaced-moving", "config.toml").write_text("older")
    newer = Path("run", "config.toml").read_bytes()
    with runs.hold(Path("run")):
        assert Path("run", "config.toml").read_bytes() == newer
    assert Path("run", "metrics.jsonl").exists()
    assert not set(os.listdir("run")) & set(replaced.FOLDERS)
