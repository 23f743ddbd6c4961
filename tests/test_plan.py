"""The house plan: which room may import which, as pyproject.toml has it, and that a wrong arrow is noticed.

Budget: about 10 s.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytest.importorskip("importlinter")

ROOT = Path(__file__).resolve().parent.parent
PLAN = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
RULES = [rule["name"] for rule in PLAN["contracts"]]
ARROW, CIRCLE, KERNELS, NUMBA, MPI, BACKENDS, ENGINE = RULES


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with its kernels, and of the plan, in which arrows can be planted."""
    house = tmp_path_factory.mktemp("house")
    shutil.copytree(ROOT / "vae_np", house / "vae_np", ignore=shutil.ignore_patterns("__pycache__", "*.npz"))
    shutil.copy(ROOT / "pyproject.toml", house)
    return house


def broken(house: Path) -> list[str]:
    """The names of the rules that the copy breaks."""
    process = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
        cwd=house,
        env={**os.environ, "PYTHONPATH": str(house), "COLUMNS": "200", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
    )
    rules = dict(re.findall(r"^(.*) (KEPT|BROKEN)\b", re.sub(r"\x1b\[\d*m", "", process.stdout), re.MULTILINE))
    assert rules.keys() == set(RULES), process.stdout + process.stderr
    found = [rule for rule, how in rules.items() if how == "BROKEN"]
    assert process.returncode == bool(found)
    return found


def test_the_package_is_built_to_plan(house: Path) -> None:
    assert broken(house) == []


@pytest.mark.parametrize(
    ("file", "line", "rules"),
    [
        pytest.param("model.py", "from vae_np import elbo", [ARROW, CIRCLE], id="within the book"),
        pytest.param("elbo.py", "from vae_np import data", [ARROW], id="from the book into a room"),
        pytest.param(
            "training/trainer.py", "from vae_np.evaluation import held_out", [ARROW, CIRCLE], id="back from a room"
        ),
        pytest.param(
            "training/per_datapoint.py", "from vae_np.exact import inference", [ARROW], id="to a room beside it"
        ),
        pytest.param(
            "verify/files.py", "from vae_np.exercises import answers", [ARROW, CIRCLE], id="from the verifier upward"
        ),
        pytest.param("data/synthetic.py", "from vae_np import VAE", [ARROW], id="through the front door"),
        pytest.param("training/trainer.py", "from vae_np.training import host_loop", [CIRCLE], id="within a room"),
        pytest.param("kernels/cpu/weights.py", "from vae_np import data", [ARROW], id="from the kernels to the data"),
        pytest.param("kernels/gpu/weights.py", "from ..cpu import weights", [BACKENDS], id="between two backends"),
        pytest.param(
            "kernels/cpu/runtime/team.py", "from ..engine import vectors", [CIRCLE, ENGINE], id="runtime to engine"
        ),
        pytest.param("backends.py", "from vae_np.kernels import cpu", [KERNELS], id="to the kernels"),
        pytest.param("evaluation/held_out.py", "import numba", [NUMBA], id="to Numba"),
        pytest.param("training/trainer.py", "from mpi4py import MPI", [MPI], id="to MPI"),
        pytest.param("distributed/sharing.py", "from vae_np import training", [ARROW, CIRCLE], id="from ranks up"),
        pytest.param("attic.py", "import numpy", [ARROW], id="a file without a place in the plan"),
    ],
)
def test_a_planted_arrow_is_refused(house: Path, file: str, line: str, rules: list[str]) -> None:
    path = house / "vae_np" / file
    before = path.read_text() if path.exists() else None
    try:
        # Inside a function it would be no less of an arrow.
        path.write_text(f"{before or ''}\n\ndef planted():\n    {line}\n")
        assert broken(house) == rules
    finally:
        if before is None:
            path.unlink()
        else:
            path.write_text(before)
