"""The lock of a folder: one holder at a time, named to the others, and gone with its process.

Budget: about 3 s, in processes that are started and killed.
"""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from vae_np import VAE, storage
from vae_np.errors import BusyError, WriteError
from vae_np.storage import lock

HOLD = (
    "import sys, time\n"
    "from pathlib import Path\n"
    "from vae_np import storage\n"
    "with storage.hold(Path(sys.argv[1])):\n"
    "    print('held', flush=True)\n"
    "    time.sleep(100)\n"
)


def holder(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, folder], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen[str], number: int) -> None:
    process.send_signal(number)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_another_process_is_refused_with_the_holder_and_the_lock_ends_with_it(tmp_path: Path) -> None:
    process = holder(tmp_path)
    with pytest.raises(BusyError) as error, storage.hold(tmp_path):
        pytest.fail("two held it")
    assert str(error.value) == (
        f"{tmp_path}: process {process.pid} on {platform.node()} writes here; wait until it is done, or stop it"
    )
    # Refused, it has taken nothing away from the holder.
    with pytest.raises(BusyError, match=f"process {process.pid} on"), storage.hold(tmp_path):
        pytest.fail("two held it")
    end(process, signal.SIGKILL)
    assert (tmp_path / storage.HOLDER).exists()
    with storage.hold(tmp_path):
        assert f'"pid": {os.getpid()}' in (tmp_path / storage.HOLDER).read_text()
    assert {path.name for path in tmp_path.iterdir()} <= {storage.LOCK}


def test_two_holders_in_one_process_are_two(tmp_path: Path) -> None:
    def hold_too() -> None:
        try:
            with storage.hold(tmp_path):
                pass
        except BusyError as error:
            refused.append(str(error))

    refused: list[str] = []
    with storage.hold(tmp_path):
        hold_too()
        thread = threading.Thread(target=hold_too)
        thread.start()
        thread.join()
    assert len(refused) == 2
    assert all(f"process {os.getpid()} on" in message for message in refused)
    hold_too()
    assert len(refused) == 2


def test_an_error_inside_gives_the_lock_back(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), storage.hold(tmp_path):
        raise KeyboardInterrupt
    with storage.hold(tmp_path):
        pass


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"pid": "x", "host": 3}', b"\xff\xfe", b'{"pid": 1}'])
def test_a_holder_that_cannot_be_read_is_another_process(tmp_path: Path, content: bytes) -> None:
    with storage.hold(tmp_path):
        (tmp_path / storage.HOLDER).write_bytes(content)
        with pytest.raises(BusyError, match=r": another process writes here; "), storage.hold(tmp_path):
            pytest.fail("two held it")


def test_a_folder_that_is_not_there_or_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("nowhere", "file"):
        with pytest.raises(WriteError, match=rf"{name}: cannot be written \("), storage.hold(tmp_path / name):
            pytest.fail("held what is none")


def test_a_folder_that_is_removed_meanwhile(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with storage.hold(folder):
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    assert not folder.exists()


def test_holding_clears_away_what_killed_writers_left(tmp_path: Path) -> None:
    left = tmp_path / ".checkpoint.safetensors.1-00000000.tmp"
    left.touch()
    with storage.hold(tmp_path):
        assert not left.exists()


def test_a_full_disk_only_costs_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise WriteError("full")

    monkeypatch.setattr(lock, "write_atomic", full)
    with storage.hold(tmp_path):
        assert not (tmp_path / storage.HOLDER).exists()
        with pytest.raises(BusyError, match="another process"), storage.hold(tmp_path):
            pytest.fail("two held it")


def test_a_model_is_not_saved_into_a_folder_that_is_being_written(tmp_path: Path) -> None:
    vae = VAE(4, hidden=(2,), latent=1, backend="numpy")
    vae.save(tmp_path)
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    process = holder(tmp_path)
    try:
        vae.parameters["decoder.out.bias"][...] = 1
        with pytest.raises(BusyError, match=f"process {process.pid} on"):
            vae.save(tmp_path)
        assert (tmp_path / "checkpoint.safetensors").read_bytes() == before
    finally:
        end(process, signal.SIGTERM)
    vae.save(tmp_path)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() != before
