"""What only some systems have is taken away: the package does without it.

Budget: about 15 s, most of it compilation.
"""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from vae_np import storage
from vae_np.cli import bench
from vae_np.verify import guessing, isolation
from vae_np.verify.files import verify_files


def test_without_a_limit_on_memory_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)
    isolation.limit_memory(1)
    assert len(bytes(2**22)) == 2**22


def test_without_groups_of_processes_the_worker_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "killpg", raising=False)
    path = tmp_path / "endless.py"
    path.write_text("while True: pass\n")
    (result,) = verify_files([path], timeout=3.0, memory_limit_mb=2048, seed=0)
    assert (result.status, result.message) == ("unusable", "stopped after 3 s while the file is imported")


def test_without_a_timer_a_call_is_not_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(signal, "setitimer", raising=False)
    with guessing.limited(0.01):
        time.sleep(0.05)


def test_without_owners_machine_code_is_kept_under_the_users_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code_cache = pytest.importorskip("vae_np.kernels.code_cache")
    monkeypatch.delattr(os, "getuid", raising=False)
    monkeypatch.setenv("USERNAME", "somebody")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def homeless(*_: Any, **__: Any) -> Path:
        raise RuntimeError("no home")

    monkeypatch.setattr(code_cache.platformdirs, "user_cache_path", homeless)
    place = code_cache.folder(None, "0123")
    assert place == tmp_path / "vae-np-somebody" / "0123"
    code_cache.write(place / "entry", b"code")
    assert code_cache.read(place / "entry") == b"code"


def test_where_folders_cannot_be_flushed_files_are_still_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def as_on_windows(path: Any, *more: Any, **keywords: Any) -> int:
        if os.path.isdir(path):
            raise PermissionError(13, "Permission denied")
        return opened(path, *more, **keywords)

    monkeypatch.setattr(os, "open", as_on_windows)
    for content in ("first", "second"):
        storage.write_atomic(tmp_path / "file", content)
        assert (tmp_path / "file").read_text() == content
    assert os.listdir(tmp_path) == ["file"]


def test_without_proc_the_processor_is_what_python_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any, **__: Any) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    for known, expected in (("Some Processor", "Some Processor"), ("", None)):
        monkeypatch.setattr(platform, "processor", lambda known=known: known)
        assert bench._processor() == expected


@pytest.mark.parametrize("where", ["platform.machine = lambda: 'sparc64'", "sys.platform = 'darwin'"])
def test_without_a_futex_nobody_sleeps_in_compiled_code(where: str) -> None:
    """Whoever has looked in vain comes back, and who wakes others calls no kernel."""
    pytest.importorskip("numba")
    code = (
        "import platform, sys, numba, numpy as np\n"
        f"{where}\n"
        "from vae_np.kernels.cpu.runtime import waiting\n"
        "assert not waiting.SLEEPS_IN_KERNEL\n"
        "words = np.zeros(16, dtype=np.int64)\n"
        "words[4:6] = 10**6, 0\n"
        "assert not waiting.wait(words, 0, 1, 5, 1, 4, 8)\n"
        "assert words[8] == 5\n"
        "assert waiting.raise_word(words, 0, 1) == 1\n"
        "waiting.wake(words, 0)\n"
        "assert waiting.wait(words, 0, 1, 5, 1, 4, 8)\n"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
