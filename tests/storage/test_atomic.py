"""Files that are whole or not there: each writer has its own temporary file, and errors name the real one.

Budget: about 2 s.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
from pathlib import Path

import pytest

from vae_np import storage
from vae_np.errors import WriteError
from vae_np.storage import atomic


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_file_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.toml"
    storage.write_atomic(path, "σ = 1\n")
    assert path.read_bytes() == "σ = 1\n".encode()
    storage.write_atomic(str(path), b"\x00\r\n")
    assert contents(tmp_path) == {"config.toml": b"\x00\r\n"}

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(WriteError) as error:
        storage.write_atomic(path, "new")
    assert str(error.value) == f"{path}: cannot be written (No space left on device)"
    assert contents(tmp_path) == {"config.toml": b"\x00\r\n"}


@pytest.mark.parametrize("call", [1, 2])
@pytest.mark.parametrize("what", ["fsync", "replace"])
def test_an_error_names_the_file_that_could_not_be_written(
    what: str, call: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    function, calls = getattr(os, what), iter(range(1, 100))

    def failing(*arguments: object) -> object:
        if next(calls) == call:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return function(*arguments)

    monkeypatch.setattr(os, what, failing)
    files = {tmp_path / "first": b"1", tmp_path / "second": b"2"}
    with pytest.raises(OSError, match="Input/output error") as error:
        storage.replace_all(files)
    assert error.value.filename == str(tmp_path / ("first", "second")[call - 1])
    assert contents(tmp_path).keys() == ({"first"} if (what, call) == ("replace", 2) else set())


def test_no_two_writers_share_a_temporary_file(tmp_path: Path) -> None:
    names = {storage.temporary_name(tmp_path / "run.json").name for _ in range(1000)}
    assert len(names) == 1000
    assert all(storage.is_temporary(name) for name in names)
    assert not any(storage.is_temporary(name) for name in ("run.json", ".lock", ".run.json.tmp", ".x.1-0000000.tmp"))


def test_a_name_as_long_as_the_system_takes_can_be_written(tmp_path: Path) -> None:
    for name in ("n" * 255, "λ" * 127):
        storage.write_atomic(tmp_path / name, b"1")
    assert sorted(contents(tmp_path)) == sorted(["n" * 255, "λ" * 127])


def _write_often(path: Path, content: bytes) -> None:
    for _ in range(200):
        storage.write_atomic(path, content)


def test_writers_of_one_file_at_the_same_time_leave_one_whole_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    path, both = tmp_path / "shared", [bytes([letter]) * 50_000 for letter in b"ab"]
    writers = [
        multiprocessing.get_context("fork").Process(target=_write_often, args=(path, content)) for content in both
    ]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers):
        if path.exists():
            seen.add(path.read_bytes())
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert seen <= set(both)
    assert contents(tmp_path).keys() == {"shared"}


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in (".config.toml.4711-0123abcd.tmp", ".config.toml.tmp", "notes.tmp", "config.toml"):
        (tmp_path / name).touch()
    atomic.remove_temporaries(tmp_path)
    assert contents(tmp_path).keys() == {".config.toml.tmp", "notes.tmp", "config.toml"}
