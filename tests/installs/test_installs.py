"""Installed from a checkout, plainly and for editing, and used inside it; and a checkout made without symbolic links.

Budget: about 40 s, most of it pip and mypy.
"""

from __future__ import annotations

import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest
import trees
from trees import ROOT


def run(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=cwd)


def fresh_environment(place: Path) -> Path:
    """The Python of a new environment: it has what this one has, without vae-np, and nothing is fetched."""
    venv.create(place, symlinks=sys.platform != "win32")
    interpreter = place / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = Path(run(interpreter, "-c", code, cwd=place).stdout.strip())
    # A path that a .pth file names is searched, but the .pth files in it, such as that of an editable install, are not
    # read.
    (own / "shared.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    return interpreter


def install(interpreter: Path, *what: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    options = ("--no-deps", "--no-build-isolation", "--ignore-installed", "--disable-pip-version-check")
    return run(interpreter, "-m", "pip", "install", *options, *what, cwd=cwd)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return trees.copy(tmp_path / "checkout")


@pytest.fixture
def interpreter(tmp_path: Path) -> Path:
    return fresh_environment(tmp_path / "environment")


def readme_block() -> str:
    """The first Python block of the README, with one epoch instead of ten."""
    found = re.search(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    assert found is not None
    assert found[1].count("epochs=10") == 1
    return found[1].replace("epochs=10", "epochs=1")


def test_the_readmes_python_runs_in_the_checkout_after_a_plain_install(interpreter: Path, checkout: Path) -> None:
    """Python started there takes the package from the folder and not from where it was installed."""
    done = install(interpreter, ".", cwd=checkout)
    assert done.returncode == 0, done.stderr
    done = run(interpreter, "-c", readme_block() + "\nimport vae_np\nprint(vae_np.__file__)", cwd=checkout)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.splitlines()[-1]) == checkout / "vae_np" / "__init__.py"
    assert (checkout / "runs" / "mine" / "checkpoint.safetensors").is_file()
    elsewhere = run(interpreter, "-c", "import vae_np.kernels as k; print(k.__file__)", cwd=checkout.parent)
    assert elsewhere.returncode == 0, elsewhere.stderr
    assert Path(elsewhere.stdout.strip()).is_relative_to(interpreter.parents[1])


def test_mypy_sees_the_types_of_an_editable_install(interpreter: Path, checkout: Path, tmp_path: Path) -> None:
    """Of the kernels too: their folder is part of the package, and an editable install is a path and no import hook."""
    done = install(interpreter, "--editable", ".", cwd=checkout)
    assert done.returncode == 0, done.stderr
    file = tmp_path / "mine.py"
    file.write_text(
        "from vae_np import VAE\n"
        "from vae_np.kernels.check import compare\n"
        "vae: int = VAE(4)\n"
        "reveal_type(compare)\n"
        "VAE(4, wide=3)\n"
    )
    options = ("--strict", "--cache-dir", tmp_path / "cache", "--python-executable", interpreter)
    said = run(sys.executable, "-m", "mypy", *options, file, cwd=tmp_path).stdout
    assert re.search(r'^mine.py:3: error: Incompatible types .* "VAE", variable has type "int"', said, re.M), said
    assert re.search(r'^mine.py:4: note: Revealed type is "def \(.*kernels\.check\.Comparison"', said, re.M), said
    assert re.search(r'^mine.py:5: error: Unexpected keyword argument "wide"', said, re.M), said
    assert "Found 2 errors in 1 file" in said


# Without symbolic links: git on Windows, and some programs that unpack zip files, write a file with the link's text.


@pytest.fixture
def without_links(checkout: Path) -> Path:
    place = checkout / "vae_np" / "kernels"
    if place.is_symlink():
        place.unlink()
        place.write_text("../kernels")
    else:
        place.rename(checkout / "kernels")
        place.write_text("../kernels")
    return checkout


LINE = (
    "vae_np/kernels: got a file, expected the folder of the kernels (a checkout without symbolic links has a file "
    "there); put a copy of the folder kernels in its place"
)


@pytest.mark.parametrize("how", [["."], ["--editable", "."]], ids=["plain", "editable"])
def test_an_install_without_links_is_refused_with_what_to_do(
    how: list[str], interpreter: Path, without_links: Path
) -> None:
    done = install(interpreter, *how, cwd=without_links)
    assert done.returncode != 0
    said = [line.strip() for line in (done.stdout + done.stderr).splitlines() if "vae_np/kernels" in line]
    assert said == [LINE]


def test_a_checkout_without_links_says_what_to_do(without_links: Path) -> None:
    def python(*command: str) -> subprocess.CompletedProcess[str]:
        return run(sys.executable, *command, cwd=without_links)

    done = python("-c", "from vae_np import VAE; VAE(4, latent=1)")
    assert done.stderr.splitlines()[-1] == f"vae_np.errors.BackendError: backend: got 'auto', but {LINE}"
    done = python("-m", "vae_np", "train", "--data", "bars")
    assert done.returncode == 2
    assert " ".join(done.stderr.split()).endswith(LINE)
    # The reference needs no kernels.
    done = python("-c", "from vae_np import VAE; VAE(4, latent=1, backend='numpy')")
    assert done.returncode == 0, done.stderr


def test_the_copied_folder_is_as_good_as_the_link(interpreter: Path, without_links: Path) -> None:
    (without_links / "vae_np" / "kernels").unlink()
    (without_links / "kernels").rename(without_links / "vae_np" / "kernels")
    done = install(interpreter, ".", cwd=without_links)
    assert done.returncode == 0, done.stderr
    for place in (without_links, without_links.parent):
        done = run(interpreter, "-c", "from vae_np import backends; assert not backends.missing('numba')", cwd=place)
        assert done.returncode == 0, done.stderr
