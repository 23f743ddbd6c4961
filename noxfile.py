"""The suite on every supported Python that is found here, with the lowest dependencies, and from the source archive.

    nox                      everything; a Python that is missing is skipped and named
    nox -s tests-3.13        the suite on one Python, with the newest dependencies
    nox -s lowest            the reference, the kernels and a training with the lowest versions that setup.cfg admits
    nox -s sdist             the suite from an unpacked source archive, on this Python

What follows `--` goes to pytest: nox -s tests-3.12 -- tests/parity
"""

from __future__ import annotations

import configparser
import os
import re
import shutil
import tarfile
from pathlib import Path

import nox

PYTHONS = ("3.11", "3.12", "3.13")
# The suite's parts that a dependency can break: arithmetic, compiled code, files, the command line, and builds.
PARTS = ("tests/parity", "tests/test_ops.py", "tests/test_elbo.py", "tests/test_checkpoint.py", "tests/test_vae.py",
         "tests/pictures", "tests/cli/test_commands.py", "tests/installs/test_archives.py")  # fmt: skip

nox.options.error_on_missing_interpreters = False
nox.options.default_venv_backend = "venv"

# pyenv's commands stand in PATH for every Python that it has, and run only the one that is chosen: its folders come
# first.
_pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
os.environ["PATH"] = os.pathsep.join([*(str(path) for path in sorted(_pyenv.glob("3.*/bin"))), os.environ["PATH"]])


def lowest_versions() -> str:
    """A constraint for each dependency of the package and of its `dev` extra: the lowest version that is admitted."""
    setup = configparser.ConfigParser()
    setup.read("setup.cfg", encoding="utf-8")
    wanted = setup["options"]["install_requires"] + setup["options.extras_require"]["dev"]
    return "".join(f"{name}=={version}\n" for name, version in re.findall(r"^([\w-]+)>=([\d.]+)", wanted, re.M))


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    session.install("-e", ".[dev,nvrtc]")
    session.run("python", "-m", "pytest", "-n", "2", *session.posargs)


@nox.session(python=PYTHONS[0])
def lowest(session: nox.Session) -> None:
    constraints = Path(session.create_tmp()) / "lowest.txt"
    constraints.write_text(lowest_versions(), encoding="utf-8")
    session.install("-c", str(constraints), "-e", ".[dev]")
    session.run("python", "-m", "pytest", "-n", "2", *(session.posargs or PARTS))


@nox.session(python=False)
def sdist(session: nox.Session) -> None:
    place = Path(session.create_tmp()).resolve()
    shutil.rmtree(place)
    place.mkdir()
    code = f"from setuptools import build_meta; build_meta.build_sdist({str(place)!r})"
    session.run("python", "-c", code, silent=True)
    with tarfile.open(next(place.glob("*.tar.gz"))) as archive:
        archive.extractall(place, filter="data")
    session.chdir(next(path for path in place.iterdir() if path.is_dir()))
    session.run("python", "-m", "venv", "environment")
    session.run("environment/bin/pip", "install", "-q", ".[dev,nvrtc]", external=True)
    session.run("environment/bin/python", "-m", "pytest", "-n", "2", *session.posargs, external=True)
