"""Every point at which a command touches the disk: with a full disk there, one that stays full, and Ctrl-C.

Each ends with one line and the exit code that is due, never with a traceback; what was finished before is still there,
and the same command, or a resumed run, ends in the bytes of one that nothing disturbed. Budget: about 200 s, all of it
slow.
"""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commandline import TINY, Result, good, grey_bars, metrics, vae_np

from vae_np import checkpoint
from vae_np.evaluation import partial_results

TRAIN = ("train", "--data", "bars.npy", "--backend", "numpy", *TINY)
# Far fewer would mean that the wrapper no longer sees what is written.
AT_LEAST = {"train": 40, "overwrite": 40, "resume": 30, "eval": 12, "sample": 4}
assert sum(AT_LEAST.values()) > 60
FAULTS = ("full once", "full from then on", "Ctrl-C")

pytestmark = pytest.mark.slow


class Disk:
    """Counts the calls that change something below the present folder, and has one of them, or all from it on, fail."""

    def __init__(self, fault: str, at: int = 10**9) -> None:
        self.fault, self.at, self.count = fault, at, 0
        self.hit = ""

    def point(self, what: str, path: object) -> None:
        if isinstance(path, int | None) or not Path(os.fsdecode(path)).absolute().is_relative_to(Path.cwd()):  # type: ignore[arg-type]
            return
        if self.fault != "Ctrl-C" and what in ("unlink", "rmdir"):
            # A full disk is no reason why nothing could be removed from it.
            return
        self.count += 1
        reached = self.count >= self.at if self.fault == "full from then on" else self.count == self.at
        if not reached:
            return
        self.hit = self.hit or f"{what} {path}"
        if self.fault == "Ctrl-C":
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class File:
    """A file whose writing can fail."""

    def __init__(self, file: Any, path: object, disk: Disk) -> None:
        self._file, self._path, self._disk = file, path, disk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> File:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._file)

    def write(self, content: Any) -> Any:
        self._disk.point("write", self._path)
        return self._file.write(content)


@contextmanager
def disturbed(disk: Disk) -> Iterator[None]:
    """Have every change to the disk pass by `disk`."""
    opened, os_open, sync = io.open, os.open, os.fsync
    names: dict[int, object] = {}

    def open_(path: Any, mode: str = "r", *more: Any, **keywords: Any) -> Any:
        if not set(mode) & set("wxa+") or isinstance(path, int):
            return opened(path, mode, *more, **keywords)
        disk.point("open", path)
        file = opened(path, mode, *more, **keywords)
        names[file.fileno()] = path
        return File(file, path, disk)

    def os_open_(path: Any, flags: int, *more: Any, **keywords: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            disk.point("open", path)
        return os_open(path, flags, *more, **keywords)

    def fsync_(descriptor: int) -> None:
        disk.point("fsync", names.get(descriptor))
        sync(descriptor)

    def passing(name: str) -> Callable[..., Any]:
        function = getattr(os, name)

        def passed(path: Any, *more: Any, **keywords: Any) -> Any:
            disk.point(name, path)
            return function(path, *more, **keywords)

        return passed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builtins, "open", open_)
        patch.setattr(io, "open", open_)
        patch.setattr(os, "open", os_open_)
        patch.setattr(os, "fsync", fsync_)
        for name in ("replace", "rename", "mkdir", "unlink", "rmdir"):
            patch.setattr(os, name, passing(name))
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("place")
    before = Path.cwd()
    os.chdir(place)
    try:
        grey_bars(place / "bars.npy")
        good(*TRAIN, "--epochs", 3, "--out", "whole", "--json", "whole.json")
        good(*TRAIN, "--epochs", 2, "--out", "part")
        good("eval", "whole", "--samples", 4, "--no-plots", "--json", "eval.json", "--per-example", "eval.npz")
        good("sample", "whole", "-n", 4, "--out", "sample.npy")
    finally:
        os.chdir(before)
    return place


COMMANDS: dict[str, tuple[object, ...]] = {
    "train": (*TRAIN, "--epochs", 3, "--out", "run", "--json", "result.json"),
    "overwrite": (*TRAIN, "--epochs", 3, "--out", "run", "--overwrite", "--json", "result.json"),
    "resume": ("train", "--resume", "run", "--epochs", 3, "--no-plots", "--json", "result.json"),
    "eval": ("eval", "run", "--samples", 4, "--no-plots", "--json", "result.json", "--per-example", "result.npz"),
    "sample": ("sample", "run", "-n", 4, "--out", "result.npy"),
}


def prepared(command: str, place: Path, here: Path) -> None:
    for path in here.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copy(place / "bars.npy", here)
    if command != "train":
        shutil.copytree(place / ("part" if command in ("resume", "overwrite") else "whole"), here / "run")
        settings = here / "run" / "config.toml"
        settings.write_text(settings.read_text().replace(str(place), str(here)))


def assert_told(result: Result, disk: Disk, fault: str) -> None:
    about = (disk.hit, result)
    assert "Traceback" not in result.err, about
    assert all(line.startswith("vae-np: ") for line in result.err.splitlines()), about
    if result.code == 0:
        assert result.err == "", about
        return
    assert len(result.err.splitlines()) == 1, about
    if fault == "Ctrl-C":
        assert result.code == 130, about
        return
    assert result.code == 2, about
    assert "No space left on device" in result.err, about
    assert any(name in result.err for name in ("run", "result")), about


def assert_same_run(run: Path, whole: Path) -> None:
    assert (run / checkpoint.WEIGHTS_FILE).read_bytes() == (whole / checkpoint.WEIGHTS_FILE).read_bytes()
    assert metrics(run) == metrics(whole)
    states = [checkpoint.load_state(folder) for folder in (run, whole)]
    for name, moment in states[0].moments.items():
        assert moment.tobytes() == states[1].moments[name].tobytes()


def finish(command: str, place: Path, result: Result, about: object) -> None:
    """Do what a user would do next, and hold what comes of it against an undisturbed run's."""
    run, state = Path("run"), Path("run", checkpoint.STATE_FILE)
    if command in ("train", "overwrite", "resume"):
        if "the checkpoint of step" in result.err:
            assert f"the checkpoint of step {checkpoint.load_state(run).step} is kept" in result.err, about
        elif "no checkpoint yet" in result.err:
            assert command == "overwrite" or not state.exists(), about
        if command in ("resume", "overwrite"):
            # What was replaced stays until there is a checkpoint in its place, or is back when somebody looks for it.
            good("eval", "run", "--samples", 2, "--no-plots")
        if command == "resume":
            assert checkpoint.load_state(run).step >= 10, about
        if result.code == 0:
            pass
        elif state.exists() and command != "overwrite" and (run / "config.toml").exists():
            good("train", "--resume", "run", "--epochs", 3, "--no-plots")
        else:
            good(*TRAIN, "--epochs", 3, "--out", "run", "--overwrite")
        assert_same_run(run, place / "whole")
        return
    if result.code != 0:
        again = vae_np(*COMMANDS[command], *(("--overwrite",) if command == "sample" else ()))
        assert (again.code, again.err) == (0, ""), about
    if command == "sample":
        assert Path("result.npy").read_bytes() == (place / "sample.npy").read_bytes(), about
        return
    got, expected = (json.loads(path.read_text())["test"] for path in (Path("result.json"), place / "eval.json"))
    assert {**got, "seconds": 0} == {**expected, "seconds": 0}, about
    with np.load("result.npz") as found, np.load(place / "eval.npz") as whole:
        for name in whole.files:
            assert found[name].tobytes() == whole[name].tobytes(), about
    assert_same_run(run, place / "whole")
    assert not list(run.glob(partial_results.PATTERN)), about


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("command", COMMANDS)
def test_every_point(
    command: str, fault: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # What is done of an evaluation is written after every batch.
    monkeypatch.setattr(partial_results, "_SECONDS_BETWEEN", -1.0)
    monkeypatch.setattr("vae_np.evaluation.held_out._LIKELIHOOD_BATCH", 5)
    prepared(command, place, tmp_path)
    quiet = Disk(fault)
    with disturbed(quiet):
        good(*COMMANDS[command])
    assert quiet.count >= AT_LEAST[command]
    ends: dict[int, int] = {}
    for at in range(1, quiet.count + 1):
        prepared(command, place, tmp_path)
        disk = Disk(fault, at)
        with disturbed(disk):
            result = vae_np(*COMMANDS[command])
        assert disk.hit
        assert_told(result, disk, fault)
        ends[result.code] = ends.get(result.code, 0) + 1
        finish(command, place, result, (disk.hit, result))
    print(f"{command}, {fault}: {quiet.count} points, exit codes {dict(sorted(ends.items()))}")
    # A full disk may cost a courtesy alone: the name in the lock, and what is kept of an evaluation that is cut short.
    assert ends.get(130 if fault == "Ctrl-C" else 2, 0) >= quiet.count // (1 if fault == "Ctrl-C" else 4)
