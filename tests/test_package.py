"""The package for its users: it is light to import, its borders are kept, and others can read its weights.

Budget: about 3 s; 3 s more where torch is installed.
"""

from __future__ import annotations

import ast
import itertools
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from trees import ROOT

from vae_np import VAE, backends, checkpoint
from vae_np.data import bars

HEAVY = ("numba", "llvmlite", "cupy", "matplotlib", "PIL", "typer", "rich", "scipy", "torch", "jax")


def python(*arguments: str, **keywords: object) -> str:
    """Standard output of another Python process, which has to succeed."""
    process = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, **keywords)  # type: ignore[call-overload]
    assert process.returncode == 0, process.stderr
    return str(process.stdout)


# A light import


def test_import_costs_nothing_and_the_model_numpy_and_little_more() -> None:
    code = "import sys, vae_np; print(*sys.modules); vae_np.VAE; print(*sys.modules)"
    bare, asked = ({name.partition(".")[0] for name in line.split()} for line in python("-c", code).splitlines())
    assert "numpy" not in bare
    assert "numpy" in asked
    assert not asked & set(HEAVY)


def test_every_name_and_module_is_there_when_it_is_asked_for() -> None:
    code = (
        "import vae_np\n"
        "assert vae_np.data.bars and vae_np.VAE.__name__ == 'VAE' and vae_np.History and vae_np.config.Config\n"
        "try: vae_np.nowhere\n"
        "except AttributeError as error: print(error)\n"
        "try: from vae_np import nothing\n"
        "except ImportError as error: print(type(error).__name__)\n"
    )
    assert python("-c", code) == "module 'vae_np' has no attribute 'nowhere'\nImportError\n"


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


def test_the_public_names_are_stated() -> None:
    import vae_np

    assert {"VAE", "History"} <= set(vae_np.__all__)


# Borders (those that imports show: tests/test_plan.py)


PACKAGE = sorted(path for path in (ROOT / "vae_np").rglob("*.py") if "kernels" not in path.parts)


def test_only_the_backends_name_the_kernels() -> None:
    """By a string, for `importlib`: a docstring may speak of them, code may not."""

    def names_them(path: Path) -> bool:
        nodes = (node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant))
        return any(re.fullmatch(r"vae_np\.kernels(\.\w+)*", str(value)) for value in nodes)

    assert [path.name for path in PACKAGE if names_them(path)] == ["backends.py"]


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
