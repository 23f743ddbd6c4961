"""Machine code between runs: damaged files, full disks, folders of others, users without a home. Budget: about 25 s."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vae_np import backends
from vae_np.kernels import code_cache

needs_numba = pytest.mark.skipif(backends.missing("numba") is not None, reason=str(backends.missing("numba")))
needs_owners = pytest.mark.skipif(not hasattr(os, "getuid"), reason="no owners of files here")

CODE = (
    "import numpy as np\n"
    "from vae_np.kernels import cpu\n"
    "cpu.on_compile(lambda: print('compiling'))\n"
    "theta, g, m, v = np.ones((4, 8), np.float32)\n"
    "cpu.adam_update(theta, g, m, v, step=1, lr=0.1)\n"
    "print(theta[0], cpu.CACHE_PROBLEM.line)\n"
)


def python(code: str, *, cwd: Path | None = None, **environment: str | None) -> subprocess.CompletedProcess[str]:
    """Another Python process with other variables; None takes one away."""
    own = {**os.environ, **environment}
    kept_ones = {name: value for name, value in own.items() if value is not None}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=kept_ones, cwd=cwd)


def said(code: str, **options: Any) -> list[str]:
    process = python(code, **options)
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    return process.stdout.splitlines()


def test_what_is_written_is_read_back_and_nothing_else(tmp_path: Path) -> None:
    place, other = tmp_path / "one", tmp_path / "other"
    code_cache.write(place, b"code")
    assert code_cache.read(place) == b"code"
    assert code_cache.read(other) is None
    whole = place.read_bytes()
    shutil.copy(place, other)
    # A whole file under another's name is another function's.
    assert code_cache.read(other) is None
    damaged = [b"", whole[: len(whole) // 2], whole[:-1], whole + b"\0", b"code", pickle.dumps(b"code")]
    damaged += [whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :] for i in range(len(whole))]
    for content in damaged:
        place.write_bytes(content)
        assert code_cache.read(place) is None
    assert [file.name for file in tmp_path.iterdir() if file.name not in ("one", "other")] == []


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A cache folder that one process has filled, and what that process said."""
    place = tmp_path_factory.mktemp("compiled")
    return place, said(CODE, NUMBA_CACHE_DIR=str(place))


@needs_numba
@pytest.mark.parametrize("damage", ["emptied", "halved", "a bit flipped", "another package's", "a folder"])
def test_a_damaged_file_is_compiled_again_in_silence(
    damage: str, compiled: tuple[Path, list[str]], tmp_path: Path
) -> None:
    filled, first = compiled
    shutil.copytree(filled, tmp_path, dirs_exist_ok=True)
    cache = {"NUMBA_CACHE_DIR": str(tmp_path)}
    assert first[0] == "compiling"
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert files
    evil = pickle.dumps((os.system, ("echo harm",)))
    for file in files:
        content = file.read_bytes()
        if damage == "a folder":
            file.unlink()
            file.mkdir()
            continue
        middle = len(content) // 2
        file.write_bytes({
            "emptied": b"",
            "halved": content[:middle],
            "a bit flipped": content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :],
            "another package's": b"cno_such_package\nThing\n." + evil,
        }[damage])  # fmt: skip
    if damage == "a folder":
        # What cannot be replaced is told, and gone without.
        process = python(CODE, **cache)
        assert process.returncode == 0
        assert process.stderr.count("compiled code is not kept: ") == 1
        assert process.stdout.splitlines()[:1] == ["compiling"]
        return
    assert said(CODE, **cache) == first
    # Replaced, so that the next run loads it.
    assert said(CODE, **cache) == first[1:]


@needs_numba
def test_a_full_disk_is_one_warning_and_the_run_goes_on(tmp_path: Path) -> None:
    code = (
        "import errno, os\n"
        "from vae_np.kernels import code_cache\n"
        "def full(*_): raise OSError(errno.ENOSPC, 'No space left on device')\n"
        "code_cache.os.replace = full\n"
    )
    process = python(code + CODE, NUMBA_CACHE_DIR=str(tmp_path))
    assert process.returncode == 0, process.stderr
    assert process.stderr.count("compiled code is not kept: ") == 1
    assert "No space left on device" in process.stderr
    assert process.stdout.splitlines()[0] == "compiling"
    # Nothing is left behind.
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


def test_a_listener_is_told_once_in_place_of_a_warning() -> None:
    problem, told = code_cache.Problem(), []
    problem.on_change(told.append)
    for line in ("disk full", "disk still full"):
        problem.warn(line)
    assert (problem.line, told) == ("disk full", ["disk full"])


@needs_owners
@pytest.mark.parametrize("mode", [0o777, 0o775, 0o702])
@pytest.mark.parametrize("part", ["vae-np", "vae-np/0123"])
def test_a_folder_that_others_can_write_to_is_refused(part: str, mode: int, tmp_path: Path) -> None:
    assert code_cache.folder(str(tmp_path), "0123") == tmp_path / "vae-np" / "0123"
    (tmp_path / part).chmod(mode)
    with pytest.raises(OSError, match=rf"can be written to by others \(mode {mode:o}\); chmod go-w {tmp_path / part}"):
        code_cache.folder(str(tmp_path), "0123")


@needs_owners
def test_a_folder_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code_cache.folder(str(tmp_path), "0123")
    own = os.getuid()
    monkeypatch.setattr(code_cache.os, "getuid", lambda: own + 1)
    with pytest.raises(OSError, match=rf"vae-np belongs to user {own}, not to {own + 1}, who runs this"):
        code_cache.folder(str(tmp_path), "0123")


@needs_owners
def test_folders_are_made_for_this_user_alone_whatever_the_mask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        place = code_cache.folder(str(tmp_path / "new"), "0123")
    finally:
        os.umask(before)
    assert [stat.S_IMODE(part.stat().st_mode) for part in (place, place.parent)] == [0o700, 0o700]


@needs_owners
@needs_numba
def test_info_says_why_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vae-np").mkdir()
    (tmp_path / "vae-np").chmod(0o777)
    process = subprocess.run(
        [sys.executable, "-m", "vae_np", "info"],
        capture_output=True, text=True, env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
    )  # fmt: skip
    assert process.returncode == 0
    line = f"compiled code is not kept: {tmp_path}/vae-np can be written to by others"
    assert line in process.stdout.replace("\n", "")


@needs_owners
@pytest.mark.parametrize("home", ["~", "/dev/null", "/dev/null/nobody", "relative"])
def test_without_a_home_code_is_kept_in_the_temporary_folder(
    home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`~` is what comes back for a user without HOME whom the system does not know."""
    monkeypatch.setattr(code_cache.platformdirs, "user_cache_path", lambda *_, **__: Path(home) / ".cache" / "vae-np")
    monkeypatch.setattr(code_cache.tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    place = code_cache.folder(None, "0123")
    assert place == tmp_path / "temporary" / f"vae-np-{os.getuid()}" / "0123"
    assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
    assert list((tmp_path / "here").iterdir()) == []
    # Somebody else may have made it first.
    place.parent.chmod(0o777)
    with pytest.raises(OSError, match="can be written to by others"):
        code_cache.folder(None, "0123")


@needs_owners
@needs_numba
def test_a_user_whom_the_system_does_not_know_leaves_nothing_in_the_working_folder(tmp_path: Path) -> None:
    """As in a container that was started with a number alone, and no HOME: `~` then stands for nothing."""
    (tmp_path / "here").mkdir()
    unknown = "import pwd\ndef nobody(_): raise KeyError\npwd.getpwuid = nobody\n"
    away = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR"))
    found = said(unknown + CODE, cwd=tmp_path / "here", TMPDIR=str(tmp_path), **away)
    assert found[-1].endswith(" None")
    assert list((tmp_path / "here").iterdir()) == []
    assert len(list((tmp_path / f"vae-np-{os.getuid()}").glob("*/adam.*"))) == 1


def test_errors_of_the_system_keep_their_number(tmp_path: Path) -> None:
    (tmp_path / "vae-np").write_text("a file where a folder should be")
    with pytest.raises(OSError, match="cannot be written") as caught:
        code_cache.folder(str(tmp_path), "0123")
    assert caught.value.errno in (errno.EEXIST, errno.ENOTDIR)


@needs_numba
def test_code_that_was_compiled_for_another_system_is_not_loaded(tmp_path: Path) -> None:
    """A home folder may be shared; what was compiled without a futex would never wake a thread that sleeps on one."""
    others = ("platform.machine = lambda: 'sparc64'", "sys.platform = 'darwin'")
    codes = [*(f"import platform, sys, numba\n{other}\n{CODE}" for other in others), CODE]
    for code in codes:
        assert said(code, NUMBA_CACHE_DIR=str(tmp_path))[0] == "compiling"
    for code in codes:
        assert "compiling" not in said(code, NUMBA_CACHE_DIR=str(tmp_path))
