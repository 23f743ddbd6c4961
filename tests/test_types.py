"""What a type checker knows of the package: a user's script under `mypy --strict`, right and wrong.

Budget: about 12 s with a cold cache of mypy's, 2 s with a warm one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from trees import ROOT

pytest.importorskip("mypy")

# In strict mode an `ignore` that is not needed is an error, too: each says what a checker has to refuse.
SCRIPT = """
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vae_np import VAE, EarlyStopping, History, Metrics
from vae_np.architecture import Architecture
from vae_np.choices import Likelihood
from vae_np.config import Config


def tell(line: Metrics) -> None:
    step: int = line["step"]
    elbo: float = line["elbo"]
    bound: float | None = line["objective"]
    print(step, line["split"], elbo, bound)


def train(rows: Sequence[Sequence[float]], likelihood: Likelihood) -> VAE:
    vae = VAE(2, hidden=[3], latent=1, likelihood=likelihood, backend="numpy", seed=np.random.default_rng(0))
    history: History = vae.fit(rows, epochs=1, batch_size=2, on_metrics=tell, values="binary")
    vae.fit(np.array(rows), epochs=2, batch_size=2, validation=rows, on_metrics=EarlyStopping(1))
    assert [line["epoch"] for line in history.split("train")] == [1]
    return vae


def use(vae: VAE, rows: list[list[int]]) -> NDArray[np.floating]:
    mu, logvar = vae.encode(rows)
    assert vae.elbo(rows, values="binary").elbo.shape == (2,)
    assert vae.log_likelihood(rows, 3).ess.shape == (2,)
    assert mu.shape == logvar.shape
    assert len(vae.elbo(Cut()).kl) == 2
    return vae.decode([[0.0], [1.0]])


class Cut:
    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> list[list[int]]:
        return [[0, index]]


def wrong(vae: VAE, line: Metrics) -> None:
    VAE(2, likelihood="bernouli")  # type: ignore[arg-type]
    VAE(2, activation="gelu")  # type: ignore[arg-type]
    VAE(2, backend="cuda")  # type: ignore[arg-type]
    VAE(2, dtype="float16")  # type: ignore[arg-type]
    VAE(2, precision="fp16")  # type: ignore[arg-type]
    VAE(2, hidden="400")  # type: ignore[arg-type]
    vae.fit([[0, 1]], objective="elbow")  # type: ignore[arg-type]
    vae.fit([[0, 1]], binarize="sometimes")  # type: ignore[arg-type]
    vae.fit([[0, 1]], values="bytes")  # type: ignore[arg-type]
    vae.fit([[0, 1]], on_metrics=len)  # type: ignore[arg-type]
    print(line["elbow"])  # type: ignore[typeddict-item]
    Architecture(2, likelihood="gamma")  # type: ignore[arg-type]
    Config(schedule="cosine")  # type: ignore[arg-type]


if __name__ == "__main__":
    model = train([[0, 1], [1, 0]], "bernoulli")
    print(use(model, [[0, 1], [1, 0]]).shape)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(SCRIPT)
    return path


def run(*command: object, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **more}
    return subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, env=environment)


def test_a_users_script_is_clean_under_mypy_strict(script: Path, pytestconfig: pytest.Config) -> None:
    cache = pytestconfig.cache
    assert cache is not None
    options = ("--strict", "--follow-imports", "silent", "--cache-dir", cache.mkdir("mypy"))
    done = run("-m", "mypy", *options, script, MYPYPATH=str(ROOT))
    assert done.stdout == "Success: no issues found in 1 source file\n", done.stdout + done.stderr


def test_and_it_runs(script: Path) -> None:
    done = run(script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "(2, 2)"
