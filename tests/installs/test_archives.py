"""The wheel and the source archive: all that belongs in them and nothing else, under metadata that say the truth.

Budget: about 25 s, half of it to collect the tests of an unpacked source archive.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
import trees
from trees import KERNELS, ROOT


def python(*arguments: str, **keywords: object) -> str:
    """Standard output of another Python process, which has to succeed."""
    process = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, **keywords)  # type: ignore[call-overload]
    assert process.returncode == 0, process.stdout + process.stderr
    return str(process.stdout)


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source archive and a wheel, built by the setuptools that is installed, so that nothing has to be fetched."""
    source, out = trees.copy(tmp_path_factory.mktemp("source") / "tree"), tmp_path_factory.mktemp("archives")
    for kind in ("sdist", "wheel"):
        python("-c", f"from setuptools import build_meta; build_meta.build_{kind}({str(out)!r})", cwd=source)
    return out


@pytest.fixture(scope="module")
def wheel(archives: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(next(archives.glob("*.whl")))


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return Parser().parsestr(wheel.read(name).decode())


@pytest.fixture(scope="module")
def unpacked(archives: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(next(archives.glob("*.tar.gz"))) as archive:
        archive.extractall(place, filter="data")
    return next(place.iterdir())


# The wheel


def package_files(*patterns: str) -> set[str]:
    """The package's files of some kinds, each once: with the kernels, which a link hides from `rglob` in a checkout."""
    found = {path for folder in (ROOT / "vae_np", KERNELS) for pattern in patterns for path in folder.rglob(pattern)}
    return {path.relative_to(ROOT).as_posix() for path in found}


def test_the_wheel_has_all_of_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    expected = package_files("*.py", "*.cu", "*.cuh", "*.toml", "*.npz", "MNIST.md", "py.typed")
    assert {"vae_np/__init__.py", "vae_np/kernels/__init__.py", "vae_np/data/mnist.npz", "vae_np/py.typed"} <= expected
    found = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert expected - found == set()
    assert {name for name in found - expected if name.endswith(".py") or not name.startswith("vae_np/")} == set()


def test_the_wheel_works_outside_the_checkout(
    wheel: zipfile.ZipFile, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    installed = tmp_path_factory.mktemp("installed")
    wheel.extractall(installed)
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    assert python("-m", "vae_np", "info", cwd=tmp_path, env=environment).startswith("vae-np ")
    script = (
        "from vae_np import VAE, config, data\n"
        "digits = data.load('mnist')\n"
        "assert digits.train.shape == (60000, 784) and config.shipped()\n"
        "VAE(hidden=(4,), latent=2).fit(digits.train[:256], epochs=1)\n"
        "import vae_np, vae_np.kernels\n"
        "print(vae_np.__file__, vae_np.kernels.__file__)\n"
    )
    for file in python("-c", script, cwd=tmp_path, env=environment).split():
        assert Path(file).is_relative_to(installed)
    arguments = ("train", "--data", "xor", "--hidden", "4", "--latent", "2", "--epochs", "1", "--out", "run")
    assert "Test set" in python("-m", "vae_np", *arguments, cwd=tmp_path, env=environment)
    assert (tmp_path / "run" / "samples.png").exists()


# The metadata


def test_the_version_is_stated_once(metadata: Message) -> None:
    import vae_np

    assert metadata["Version"] == importlib.metadata.version("vae-np") == vae_np.__version__


def test_the_metadata_have_the_command_and_the_extras(wheel: zipfile.ZipFile, metadata: Message) -> None:
    entry_points = next(name for name in wheel.namelist() if name.endswith(".dist-info/entry_points.txt"))
    assert "vae-np = vae_np.cli:main" in wheel.read(entry_points).decode()
    assert metadata["Requires-Python"] == ">=3.11"
    assert {"cuda12", "cuda13", "dev", "bench"} <= set(metadata.get_all("Provides-Extra", []))
    assert "NumPy" in metadata["Keywords"].split(",")


def test_the_licence_is_an_expression_with_both_texts(wheel: zipfile.ZipFile, metadata: Message) -> None:
    """As PEP 639 has it: neither the older `License` field nor a classifier stands beside it."""
    assert metadata["License-Expression"] == "MIT AND CC-BY-SA-3.0"
    assert metadata["License"] is None
    assert not [line for line in metadata.get_all("Classifier", []) if line.startswith("License ::")]
    assert metadata.get_all("License-File") == ["LICENSE", "vae_np/data/MNIST.md"]
    texts = [wheel.read(name).decode() for name in wheel.namelist() if ".dist-info/licenses/" in name]
    assert len(texts) == 2
    # What the data's licence asks for: the authors, where the work was, where the licence is, and what was changed.
    asked = ("Yann LeCun", "yann.lecun.com", "creativecommons.org/licenses/by-sa/3.0/", "Changed: only the container")
    for words in ("MIT License", *asked):
        assert words in "\n".join(texts)


def test_numba_is_capped_where_the_tests_have_been(metadata: Message) -> None:
    """Numba's private parts are used, so that a release that nobody has tried is refused by the installer."""
    numba = next(line for line in metadata.get_all("Requires-Dist", []) if line.startswith("numba"))
    cap = re.search(r"<(\d+)\.(\d+)", numba)
    assert cap is not None
    assert tuple(map(int, importlib.metadata.version("numba").split(".")[:2])) < (int(cap[1]), int(cap[2]))


# The source archive


@pytest.mark.skipif(not trees.is_checkout(), reason="not a checkout: only git tells which files belong to the source")
def test_the_source_archive_has_every_file_that_git_tracks(unpacked: Path) -> None:
    names = trees.tracked() - {".gitignore", "vae_np/kernels"}
    wanted = {f"vae_np/{name}" if name.startswith("kernels/") else name for name in names}
    assert len(wanted) > 300
    assert sorted(name for name in wanted if not (unpacked / name).is_file()) == []


def test_the_source_archive_has_no_link_no_litter_and_the_kernels_once(unpacked: Path) -> None:
    paths = list(unpacked.rglob("*"))
    assert not [path for path in paths if path.is_symlink() or path.name == "__pycache__" or path.suffix == ".pyc"]
    assert (unpacked / "vae_np" / "kernels" / "check.py").is_file()
    assert not (unpacked / "kernels").exists()


def test_the_tests_are_found_in_an_unpacked_source_archive(unpacked: Path) -> None:
    """All of them are collected there, and those that read the most of the tree pass."""
    environment = {**os.environ, "PYTHONPATH": str(unpacked)}
    # Rewritten asserts would take half of the time, and only say more where one fails.
    options = ("-p", "no:cacheprovider", "--assert=plain", "-k", "test_docs")
    said = python("-m", "pytest", *options, cwd=unpacked, env=environment)
    assert re.search(r"^\d+ passed, (\d+ skipped, )?\d+ deselected", said.splitlines()[-1])
