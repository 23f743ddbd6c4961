"""The package as a guest and as a wheel: light to import, with its borders kept, and whole outside the checkout.

Budget: about 8 s, most of it the wheel; 3 s more where torch is installed.
"""

from __future__ import annotations

import ast
import importlib.metadata
import itertools
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from vae_np import VAE, backends, checkpoint
from vae_np.data import bars

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("numba", "llvmlite", "cupy", "matplotlib", "PIL", "typer", "rich", "scipy", "torch", "jax")


def python(*arguments: str, **keywords: object) -> str:
    """Standard output of another Python process, which has to succeed."""
    process = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, **keywords)  # type: ignore[call-overload]
    assert process.returncode == 0, process.stderr
    return str(process.stdout)


# A light import


def test_import_costs_numpy_and_little_more() -> None:
    code = "import sys, vae_np; print(*sys.modules)"
    loaded = {name.partition(".")[0] for name in python("-c", code).split()}
    assert "numpy" in loaded
    assert not loaded & set(HEAVY)


def test_importtime_shows_none_of_them() -> None:
    code = ("-X", "importtime", "-c", "import vae_np")
    process = subprocess.run([sys.executable, *code], capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in process.stderr.splitlines()}
    assert "vae_np" in imported
    assert not imported & set(HEAVY)


def test_training_without_the_command_line_needs_neither_it_nor_pictures() -> None:
    code = (
        "import sys, numpy as np, vae_np\n"
        "vae = vae_np.VAE(4, hidden=(3,), latent=1, backend='numpy')\n"
        "vae.fit(np.eye(4), epochs=1, batch_size=2)\n"
        "vae.log_likelihood(np.eye(4), 2)\n"
        "print(*sys.modules)"
    )
    assert not {name.partition(".")[0] for name in python("-c", code).split()} & set(HEAVY)


def test_importing_changes_no_thread_count_no_signal_and_no_random_state() -> None:
    code = (
        "import os, random, signal, numpy as np\n"
        "def state(): return (dict(os.environ), random.getstate(), str(np.random.get_state()), np.geterr(),\n"
        "                     [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)])\n"
        "before = state()\n"
        "import vae_np.vae, vae_np.training.loop, vae_np.runs, vae_np.pictures.plots\n"
        "assert state() == before\n"
    )
    assert python("-c", code) == ""


def test_the_version_is_stated_once() -> None:
    import vae_np

    assert importlib.metadata.version("vae-np") == vae_np.__version__
    assert {"VAE", "History"} <= set(vae_np.__all__)


# Borders (those that imports show: tests/test_plan.py)


PACKAGE = sorted(path for path in (ROOT / "vae_np").rglob("*.py") if "kernels" not in path.parts)


def test_only_the_backends_name_the_kernels() -> None:
    """By a string, for `importlib`: a docstring may speak of them, code may not."""

    def names_them(path: Path) -> bool:
        nodes = (node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant))
        return any(re.fullmatch(r"vae_np\.kernels(\.\w+)*", str(value)) for value in nodes)

    assert [path.name for path in PACKAGE if names_them(path)] == ["backends.py"]


# The wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the checkout, so that the build leaves nothing in it."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("vae_np", "kernels", "tests", "bench", "docs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "results"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    # Without isolation nothing has to be fetched; the `dev` extra brings a setuptools that is new enough.
    arguments = ("wheel", "--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", str(out), str(source))
    python("-m", "pip", *arguments)
    return next(out.glob("vae_np-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("installed")
    zipfile.ZipFile(wheel).extractall(place)
    return place


def test_the_wheel_has_all_of_the_package_and_nothing_else(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    data_files = {"vae_np/py.typed", "vae_np/data/mnist.npz", "vae_np/data/MNIST.md"}
    data_files |= {str(path.relative_to(ROOT)) for path in (ROOT / "vae_np" / "config" / "shipped").glob("*.toml")}
    modules = {str(path.relative_to(ROOT)) for path in PACKAGE}
    sources = [path for path in (ROOT / "kernels").rglob("*") if path.suffix in (".py", ".cu", ".cuh")]
    kernels = {f"vae_np/{path.relative_to(ROOT)}" for path in sources}
    assert "vae_np/kernels/__init__.py" in kernels
    assert len(data_files) >= 5
    missing = (modules | kernels | data_files) - names
    assert not missing
    extra = {name for name in names if not name.startswith("vae_np/")} | {
        name for name in names if name.endswith(".py") and name not in modules | kernels
    }
    assert not extra


def test_the_wheels_metadata_has_the_command_the_extras_and_the_licence(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    text = {Path(name).name: archive.read(name).decode() for name in archive.namelist() if ".dist-info/" in name}
    assert "vae-np = vae_np.cli:main" in text["entry_points.txt"]
    assert re.search(r"^Requires-Python: >=3\.11$", text["METADATA"], re.M)
    assert re.search(r"^Provides-Extra: dev$", text["METADATA"], re.M)
    assert "LICENSE" in text


def test_the_wheel_works_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    where = "import vae_np, vae_np.kernels; print(vae_np.__file__, vae_np.kernels.__file__)"
    for file in python("-c", where, cwd=tmp_path, env=environment).split():
        assert Path(file).is_relative_to(installed)
    assert python("-m", "vae_np", "info", cwd=tmp_path, env=environment).startswith("vae-np ")
    script = (
        "from vae_np import VAE, config, data\n"
        "digits = data.load('mnist')\n"
        "assert digits.train.shape == (60000, 784) and config.shipped()\n"
        "VAE(hidden=(4,), latent=2).fit(digits.train[:256], epochs=1)\n"
    )
    python("-c", script, cwd=tmp_path, env=environment)
    arguments = ("train", "--data", "xor", "--hidden", "4", "--latent", "2", "--epochs", "1", "--out", "run")
    assert "Test set" in python("-m", "vae_np", *arguments, cwd=tmp_path, env=environment)
    assert (tmp_path / "run" / "samples.png").exists()


# What others can read


@pytest.mark.parametrize("activation", ["relu", "tanh", "softplus"])
def test_a_plain_torch_module_loads_the_weights_and_has_the_same_elbo(activation: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file

    nn, functional = torch.nn, torch.nn.functional

    class Half(nn.Module):  # type: ignore[misc, name-defined]
        """An encoder or a decoder: hidden layers and linear heads."""

        def __init__(self, sizes: tuple[int, ...], **heads: int) -> None:
            super().__init__()
            self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
            for name, width in heads.items():
                setattr(self, name, nn.Linear(sizes[-1], width))

        def forward(self, x: object) -> object:
            for layer in self.hidden:
                x = getattr(functional, activation)(layer(x))
            return x

    class Plain(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.encoder = Half((16, 9, 7), mu=3, logvar=3)
            self.decoder = Half((3, 7, 9), out=16)

    x = bars(4, 50, 0)[0]
    vae = VAE(16, hidden=(9, 7), latent=3, activation=activation, dtype="float64", seed=2, backend="numpy")
    vae.fit(x, epochs=3, batch_size=10, lr=0.01)
    vae.save(tmp_path)
    module = Plain().double()
    module.load_state_dict(load_file(tmp_path / checkpoint.WEIGHTS_FILE), strict=True)

    eps = backends.choose("numpy").ops.philox_normal(np.arange(50), 3, seed=2, stream=5, step=0, dtype="float64")
    with torch.no_grad():
        batch, noise = torch.from_numpy(x.astype(np.float64)), torch.from_numpy(np.array(eps))
        h = module.encoder(batch)
        mu, logvar = module.encoder.mu(h), module.encoder.logvar(h)
        logits = module.decoder.out(module.decoder(mu + torch.exp(logvar / 2) * noise))
        reconstruction = -functional.binary_cross_entropy_with_logits(logits, batch, reduction="none").sum(1)
        prior, posterior = (
            torch.distributions.Normal(torch.zeros_like(mu), torch.ones_like(mu)),
            torch.distributions.Normal(mu, torch.exp(logvar / 2)),
        )
        kl = torch.distributions.kl_divergence(posterior, prior).sum(1)
    terms = vae.elbo(x)
    np.testing.assert_allclose(terms.reconstruction, reconstruction.numpy(), rtol=1e-12)
    np.testing.assert_allclose(terms.kl, kl.numpy(), rtol=1e-11)
    np.testing.assert_allclose(terms.elbo, (reconstruction - kl).numpy(), rtol=1e-12)
