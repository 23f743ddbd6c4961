"""How many threads: options, variables, affinity, a container's quota from made-up files. Budget: about 6 s."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vae_np import VAE, backends
from vae_np.errors import BackendError, InputError

if backends.missing("numba") is not None:
    pytest.skip(str(backends.missing("numba")), allow_module_level=True)

from vae_np.kernels import cpu
from vae_np.kernels.cpu.runtime import pool, processors

V1_MOUNT = "40 30 0:30 {shown} /sys/fs/cgroup/cpu rw,nosuid - cgroup cgroup rw,cpu,cpuacct"
V2_MOUNT = "41 30 0:31 {shown} /sys/fs/cgroup rw - cgroup2 cgroup2 rw"


def machine(root: Path, membership: str, mount: str, files: dict[str, str]) -> Path:
    """A root folder with such files in it."""
    for name, text in {"proc/self/cgroup": membership, "proc/self/mountinfo": mount, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


V1, V2 = "sys/fs/cgroup/cpu", "sys/fs/cgroup"


def v1(folder: str, quota: int, period: int = 100_000) -> dict[str, str]:
    return {f"{V1}{folder}/cpu.cfs_quota_us": str(quota), f"{V1}{folder}/cpu.cfs_period_us": str(period)}


def v2(folder: str, text: str) -> dict[str, str]:
    return {f"{V2}{folder}/cpu.max": text}


@pytest.mark.parametrize(
    ("membership", "mount", "files", "quota"),
    [
        ("0::/", V2_MOUNT.format(shown="/"), v2("", "200000 100000"), 2.0),
        ("0::/", V2_MOUNT.format(shown="/"), v2("", "max 100000"), None),
        ("0::/a/b", V2_MOUNT.format(shown="/"), v2("/a/b", "max 100000") | v2("/a", "50000 100000"), 0.5),
        ("0::/a/b", V2_MOUNT.format(shown="/"), v2("/a/b", "150000 100000") | v2("", "300000 100000"), 1.5),
        # A container that sees its own group as the root of what is mounted, by the host's name.
        ("0::/docker/ab", V2_MOUNT.format(shown="/docker/ab"), v2("", "100000 100000"), 1.0),
        ("0::/../other", V2_MOUNT.format(shown="/"), v2("", "400000 100000"), 4.0),
        ("4:cpu,cpuacct:/", V1_MOUNT.format(shown="/"), v1("", 300_000), 3.0),
        ("4:cpu,cpuacct:/", V1_MOUNT.format(shown="/"), v1("", -1), None),
        ("4:cpu,cpuacct:/pod/box", V1_MOUNT.format(shown="/"), {**v1("/pod/box", 400_000), **v1("/pod", 250_000)}, 2.5),
        ("4:cpu,cpuacct:/docker/ab", V1_MOUNT.format(shown="/docker/ab"), v1("", 20_000, 10_000), 2.0),
        # Both kinds at once, of which only the first has processors.
        ("4:cpu,cpuacct:/\n0::/", V1_MOUNT.format(shown="/"), v1("", 100_000), 1.0),
        ("3:cpuset:/\n2:memory:/", V1_MOUNT.format(shown="/"), v1("", 100_000), None),
        ("0::/", V2_MOUNT.format(shown="/"), v2("", "nonsense"), None),
        ("0::/", V2_MOUNT.format(shown="/"), v2("", "0 0"), None),
    ],
)  # fmt: skip
def test_a_containers_quota(membership: str, mount: str, files: dict[str, str], quota: Any, tmp_path: Path) -> None:
    assert processors.read_quota(machine(tmp_path, membership, mount, files)) == quota


def test_without_proc_there_is_no_quota(tmp_path: Path) -> None:
    assert processors.read_quota(tmp_path) is None


def test_without_affinity_all_processors_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert processors.affinity() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert processors.affinity() == 1


@pytest.mark.parametrize(
    ("affinity", "quota", "variables", "asked", "decision"),
    [
        (8, None, {}, None, (8, "the processors that this process may run on")),
        (8, 2.5, {}, None, (2, "the container's quota of 2.5 processors")),
        (8, 0.5, {}, None, (1, "the container's quota of 0.5 processors")),
        (2, 2.0, {}, None, (2, "the processors that this process may run on")),
        (8, None, {"OMP_NUM_THREADS": "3"}, None, (3, "OMP_NUM_THREADS")),
        (8, None, {"OMP_NUM_THREADS": "3,2"}, None, (3, "OMP_NUM_THREADS")),
        (8, None, {"OMP_NUM_THREADS": "3", "NUMBA_NUM_THREADS": "5"}, None, (5, "NUMBA_NUM_THREADS")),
        (8, None, {"OMP_NUM_THREADS": "3", "NUMBA_NUM_THREADS": "5"}, 7, (7, "asked for")),
        (8, None, {"OMP_NUM_THREADS": "many"}, None, (8, "the processors that this process may run on")),
        (8, None, {"OMP_NUM_THREADS": "0"}, None, (8, "the processors that this process may run on")),
        (8, 4.0, {"OMP_NUM_THREADS": "6"}, None, (4, "the container's quota of 4 processors")),
        (8, None, {"OMP_NUM_THREADS": "60"}, None, (8, "the processors that this process may run on")),
        (300, None, {}, None, (300, "the processors that this process may run on")),
    ],
)
def test_what_decides(
    affinity: int, quota: Any, variables: dict[str, str], asked: Any, decision: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processors, "affinity", lambda: affinity)
    monkeypatch.setattr(processors, "quota", lambda: quota)
    for name in processors.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert processors.decided_by(asked) == decision


def test_a_models_threads_are_its_own_and_change_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors, "affinity", lambda: 4)
    monkeypatch.setattr(processors, "quota", lambda: None)
    seen, choose = set(), pool.POOL.__class__.threads.fget
    assert choose is not None
    monkeypatch.setattr(pool._Pool, "threads", property(lambda self: seen.add(choose(self)) or choose(self)))
    x = np.random.default_rng(0).integers(0, 256, (60, 16), np.uint8)
    before, results = cpu.threads(), []
    for threads in (1, 3, None):
        seen.clear()
        vae = VAE(16, hidden=(8,), latent=2, backend="numba", threads=threads)
        vae.fit(x, epochs=1, batch_size=20)
        results.append((vae.parameters.flat.copy(), vae.log_likelihood(x, 20).log_likelihood, vae.elbo(x).elbo))
        assert seen == {threads or before}
        assert cpu.threads() == before
    for one, other in zip(results[0] * 2, results[1] + results[2], strict=True):
        assert np.array_equal(one, other)


def test_threads_that_are_not_there_or_not_taken_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors, "affinity", lambda: 4)
    monkeypatch.setattr(processors, "quota", lambda: None)
    for wrong in (0, -1, 5, True, 1.5):
        with pytest.raises(InputError, match=r"threads: got .*, expected a whole number from 1 to 4"):
            VAE(16, backend="numba", threads=wrong)  # type: ignore[arg-type]
    with pytest.raises(BackendError, match="threads: got 2, but backend numpy takes no number of threads"):
        VAE(16, backend="numpy", threads=2)


def test_after_an_exception_the_count_is_what_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors, "affinity", lambda: 4)
    before = cpu.threads()
    with pytest.raises(ValueError, match="gelu"):
        backends.choose("numba", 2).ops.affine_act_forward(*np.zeros((3, 2, 2)), "gelu")
    assert cpu.threads() == before


def vae_np(*arguments: str, **environment: str) -> str:
    process = subprocess.run(
        [sys.executable, "-m", "vae_np", *arguments], capture_output=True, text=True, env={**os.environ, **environment}
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_info_says_how_many_and_what_decided() -> None:
    assert "threads 1, decided by: NUMBA_NUM_THREADS\n" in vae_np("info", NUMBA_NUM_THREADS="1", OMP_NUM_THREADS="2")


def test_the_command_line_trains_and_evaluates_on_so_many(tmp_path: Path) -> None:
    small = ("--data", "bars", "--hidden", "4", "--latent", "2", "--epochs", "1", "--no-plots", "--threads", "1")
    vae_np("train", *small, "--out", str(tmp_path / "run"), "--backend", "numba")
    vae_np("eval", str(tmp_path / "run"), "--samples", "2", "--images", "5", "--no-plots", "--threads", "1")
    process = subprocess.run(
        [sys.executable, "-m", "vae_np", "train", *small, "--threads", "100000", "--out", str(tmp_path / "other")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert process.returncode == 2
    assert process.stderr.startswith("vae-np: threads: got 100000, expected a whole number from 1 to ")
    assert not (tmp_path / "other").exists()
