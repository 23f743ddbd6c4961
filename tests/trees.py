"""The tree that the tests stand in, a checkout or an unpacked source archive, and copies of it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# In a checkout this goes through a link; an archive has no links, and has the folder only here.
KERNELS = ROOT / "vae_np" / "kernels"
# What tools leave behind, and environments.
_LITTER = (
    *("__pycache__", "*.pyc", ".*cache", ".hypothesis", ".benchmarks", ".coverage*", ".nox"),
    *(".git", ".venv", "*.egg-info", "build", "dist"),
)


def is_checkout() -> bool:
    """Whether git keeps this tree, so that it can tell what belongs to it."""
    return (ROOT / ".git").exists() and shutil.which("git") is not None


def tracked() -> set[str]:
    """The files of the repository as git lists them, new ones that are not ignored among them."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return {name for name in listed if name and (ROOT / name).exists()}


def copy(target: Path) -> Path:
    """A copy of the whole tree, with links kept as links, in which builds may leave what they like."""
    shutil.copytree(ROOT, target, symlinks=True, ignore=_ignored)
    return target


def _ignored(folder: str, names: list[str]) -> set[str]:
    left_out = shutil.ignore_patterns(*_LITTER)(folder, names)
    return left_out | ({"runs"} if Path(folder) == ROOT else set())
