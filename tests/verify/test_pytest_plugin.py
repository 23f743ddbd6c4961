"""The pytest plugin: failures are reports, seeds reproduce; from an installed wheel, too.

Budget: about 5 s of processor time in four runs of pytest; the wheel is marked slow.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TESTS = """
import numpy as np

x, W, b = (np.random.default_rng(0).standard_normal(s) for s in ((4, 3), (3, 2), (2,)))


def affine_forward(x, W, b):
    return x @ W + b, (x, W)


def affine_backward(dout, cache):
    x, W = cache
    return dout @ W.T, x.T @ dout, dout.sum(axis=0)


class Dense:
    def __init__(self, scale=1.0):
        self.W, self.scale = W, scale

    def forward(self, x):
        self.x = x
        return x @ self.W

    def backward(self, dout):
        self.dW = self.scale * self.x.T @ dout
        return dout @ self.W.T


def square(x, scale=1.0):
    return (x**2).sum(), 2 * scale * x


def test_right(gradcheck):
    gradcheck(affine_forward, affine_backward, (x, W, b))
    gradcheck(lambda x: (x**2).sum(), lambda x: 2 * x, x)
    gradcheck.layer(Dense(), x)
    gradcheck.value_and_grad(square, x)


def test_wrong_pair(gradcheck):
    gradcheck(affine_forward, lambda d, c: (d @ c[1].T, c[0].T @ d, d), (x, W, b))


def test_wrong_layer(gradcheck):
    gradcheck.layer(Dense(2.0), x)


def test_wrong_loss(gradcheck):
    gradcheck.value_and_grad(square, x, -1.0)
"""


def run(folder: Path, *arguments: str, path: str = str(ROOT), alone: bool = True) -> str:
    """Return what pytest prints; alone: without any plugin but the one that the arguments name."""
    (folder / "test_gradients.py").write_text(TESTS, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": path, "PYTEST_ADDOPTS": ""}
    environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"} if alone else {}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "test_gradients.py", *arguments]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return result.stdout + result.stderr


PLUGIN = ("-p", "vae_np.verify.pytest_plugin")


def failures(output: str) -> list[list[str]]:
    """Return the lines of each failure."""
    body = output.split(" FAILURES ")[1].split("short test summary")[0]
    return [part.strip().splitlines() for part in re.split(r"\n_{3,} \w+ _{3,}\n", body)[1:]]


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> str:
    """What pytest prints without options."""
    return run(tmp_path_factory.mktemp("plain"), *PLUGIN)


def without_time(output: str) -> str:
    return re.sub(r"in [\d.]+s", "", output)


def test_failures_are_reports_and_no_tracebacks(plain):
    output = plain
    assert "1 passed" in output, output
    assert "3 failed" in output
    assert "Traceback" not in output
    assert "pytest_plugin.py" not in output
    parts = failures(output)
    assert len(parts) == 3
    assert max(len(lines) for lines in parts) <= 25
    pair, layer, loss = ("\n".join(lines) for lines in parts)
    assert "affine: FAILED (b; seed 0)" in pair
    assert "likely cause: b: the sum over the batch (axis 0) is missing" in pair
    assert "likely cause: W: it is 2 times the numeric gradient everywhere" in layer
    assert "likely cause: x: the sign is wrong everywhere" in loss
    assert pair.endswith("rerun with --gradcheck-seed=0")


def test_the_printed_seed_repeats_the_failures_and_another_does_not(plain, tmp_path):
    again, other = (run(tmp_path, *PLUGIN, f"--gradcheck-seed={seed}") for seed in (0, 4))
    body = lambda text: without_time(text).split(" FAILURES ")[1]  # noqa: E731  # the folder is another one
    assert body(again) == body(plain)
    assert "seed 4" in other
    assert body(other).replace("seed 4", "seed 0").replace("seed=4", "seed=0") != body(plain)


def test_the_seconds_reach_every_check(tmp_path):
    assert "seconds: got -1.0, expected a positive number" in run(tmp_path, *PLUGIN, "--gradcheck-seconds=-1")


@pytest.mark.slow
def test_the_plugin_works_from_an_installed_wheel(tmp_path):
    source, target, project = tmp_path / "source", tmp_path / "site", tmp_path / "project"
    ignore = shutil.ignore_patterns(".venv", ".git", "__pycache__", "*.egg-info", "tests", "bench")
    shutil.copytree(ROOT, source, ignore=ignore, symlinks=True)
    project.mkdir()
    build = "import setuptools.build_meta as b; print(b.build_wheel('wheels'))"
    built = subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True, text=True)
    shutil.unpack_archive(source / "wheels" / built.stdout.splitlines()[-1], target, "zip")
    output = run(project, path=str(target), alone=False)
    assert "1 passed" in output, output
    assert "3 failed" in output
    assert max(len(lines) for lines in failures(output)) <= 25
