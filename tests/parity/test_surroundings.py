"""Where the kernels run: without a cache, without AVX-512, without a compiler at all, after an upgrade, on old Numba.

Each test is a process of its own. Budget: about 15 s; what compiles the fused loops again is behind `slow`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vae_np import backends
from vae_np.errors import BackendError

if backends.missing("numba") is not None:
    pytest.skip(str(backends.missing("numba")), allow_module_level=True)

ROOT = Path(__file__).resolve().parents[2]
SMALL = (
    "import numpy as np\n"
    "from vae_np.kernels import cpu\n"
    "from vae_np.kernels.check import compare\n"
    "from vae_np import ops\n"
    "rng = np.random.default_rng(0)\n"
    "x, w, b = (rng.standard_normal(s).astype(np.float32) for s in ((9, 37), (37, 33), (33,)))\n"
)
# A few operations with every kind of vector code in them: tiles, exponentials, noise, Adam.
OPERATIONS = SMALL + (
    "wide = [a.astype(np.float64) for a in (x, w, b)]\n"
    "for activation in ('relu', 'tanh'):\n"
    "    y, cache = cpu.affine_act_forward(x, w, b, activation)\n"
    "    r, reference = ops.affine_act_forward(*wide, activation)\n"
    "    compare(y, r).check(1e-5)\n"
    "    for found, want in zip(cpu.affine_act_backward(y, cache), ops.affine_act_backward(r, reference)):\n"
    "        compare(found, want).check(1e-5)\n"
    "bits = (rng.random((9, 33)) < 0.3).astype(np.uint8)\n"
    "loglik = cpu.bernoulli_loglik_forward(bits, 3 * y)[0]\n"
    "compare(loglik, ops.bernoulli_loglik_forward(bits, 3.0 * y.astype(np.float64))[0]).check(1e-5)\n"
    "where = dict(seed=5, stream=3, step=1)\n"
    "drawn, expected = (module.philox_normal(np.arange(40), 5, **where) for module in (cpu, ops))\n"
    "assert np.array_equal(drawn, expected)\n"
    "theta, other, m, v = np.zeros((4, 1003), np.float32)\n"
    "m2, v2, g = m.copy(), v.copy(), rng.standard_normal(1003).astype(np.float32)\n"
    "cpu.adam_update(theta, g, m, v, step=1, lr=0.1)\n"
    "ops.adam_update(other, g, m2, v2, step=1, lr=0.1)\n"
    "compare(theta, other).check(1e-5)\n"
)
ADAM = "cpu.adam_update(*np.ones((4, 8), np.float32), step=1, lr=0.1)\n"
# The smallest fused step and evaluation against the reference; both precisions cost their compilation.
FUSED = (
    "import numpy as np\n"
    "from vae_np import ops\n"
    "from vae_np.evaluation import importance\n"
    "from vae_np.kernels import cpu\n"
    "from vae_np.kernels.check import compare\n"
    "from vae_np.architecture import Architecture\n"
    "from vae_np.model import Model, initialise\n"
    "from vae_np.step import Optimiser, TrainingState, training_step\n"
    "arch = Architecture(21, 3, (19, 6), 'tanh')\n"
    "theirs, ours = (TrainingState(initialise(arch, seed=1, dtype=np.float64)) for _ in range(2))\n"
    "fused = cpu.FusedStep(arch, ours, 5)\n"
    "rows = np.array([4, 0, 3, 9, 1])\n"
    "for i in range(3):\n"
    "    x = (np.random.default_rng(i).random((5, 21)) < 0.3).astype(np.uint8)\n"
    "    want = training_step(ops, arch, theirs, x, rows, seed=2, optimiser=Optimiser())\n"
    "    found = fused(x, rows, seed=2, optimiser=Optimiser())\n"
    "    compare(found.elbo, want.elbo).check(1e-10)\n"
    "real = Architecture(21, 3, (19, 6), 'tanh', 'normal-diagonal')\n"
    "other, mine = (TrainingState(initialise(real, seed=1, dtype=np.float64)) for _ in range(2))\n"
    "dense = cpu.FusedStep(real, mine, 5, samples=3)\n"
    "for i in range(3):\n"
    "    y, how = np.random.default_rng(i).random((5, 21)), dict(seed=2, optimiser=Optimiser())\n"
    "    want = training_step(ops, real, other, y, rows, objective='iwae', samples=3, **how)\n"
    "    compare(dense(y, rows, **how).bound, want.bound).check(1e-10)\n"
    "log_w = cpu.log_weights(ops, arch, theirs.parameters, x, rows, samples=7, seed=2)\n"
    "found = importance.estimate_from_log_weights(ops, log_w).log_likelihood\n"
    "want = importance.importance_log_likelihood(Model(ops, arch, theirs.parameters), x, rows, samples=7, seed=2)\n"
    "compare(found, want.log_likelihood).check(1e-11)\n"
)


def python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Another Python process with more in its environment."""
    return subprocess.run(
        [sys.executable, *(("-c", code) if code else ()), *arguments],
        capture_output=True, text=True, env={**os.environ, **environment}, cwd=ROOT,
    )  # fmt: skip


def good(code: str, *arguments: str, **environment: str) -> str:
    process = python(code, *arguments, **environment)
    assert process.returncode == 0, process.stderr
    return process.stdout


def old_processor(tmp_path: Path) -> dict[str, str]:
    """What makes Numba compile for a processor with AVX2 and FMA and nothing wider, in a cache of its own."""
    return {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma", "NUMBA_CACHE_DIR": str(tmp_path)}


@pytest.mark.slow
def test_without_avx512_tiles_and_adam_are_right(tmp_path: Path) -> None:
    code = SMALL + (
        "wide = [a.astype(np.float64) for a in (x, w, b)]\n"
        "found, want = cpu.affine_act_forward(x, w, b, 'tanh')[0], ops.affine_act_forward(*wide, 'tanh')[0]\n"
        "compare(found, want).check(1e-5)\n"
    )
    assert good(code + ADAM + "print(cpu.VECTOR_BYTES)", **old_processor(tmp_path)) == "32\n"


def test_without_a_compiler_operations_are_right() -> None:
    good(OPERATIONS, NUMBA_DISABLE_JIT="1")


def test_without_a_compiler_the_fused_loops_are_right() -> None:
    good(FUSED, NUMBA_DISABLE_JIT="1")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["haswell", "generic"])
def test_without_avx512_the_fused_loops_are_right(name: str, tmp_path: Path) -> None:
    environment = old_processor(tmp_path) if name == "haswell" else {
        "NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)
    }  # fmt: skip
    good(OPERATIONS + FUSED, **environment)


def test_a_cache_that_cannot_be_written_is_told_and_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    code = SMALL + ADAM + "print(cpu.CACHE_PROBLEM.line)"
    place = tmp_path / "file" / "cache"
    assert f"{place}/vae-np/" in good(code, NUMBA_CACHE_DIR=str(place))
    process = python("", "-m", "vae_np", "info", NUMBA_CACHE_DIR=str(place))
    assert "compiled code is not kept: " in process.stdout
    assert process.returncode == 0


def test_compilation_is_announced_when_it_happens_and_only_then(tmp_path: Path) -> None:
    code = SMALL + "cpu.on_compile(lambda: print('compiling'))\n" + ADAM + ADAM
    assert [good(code, NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(2)] == ["compiling\n", ""]


def test_a_warm_start_loads_neither_scipys_blas_nor_anything_after_the_warm_up() -> None:
    """The first process may have to compile; the second loads all that a training run calls, in its warm-up."""
    code = (
        "import sys, numpy as np\n"
        "from vae_np import VAE, backends\n"
        "from vae_np.kernels.cpu.runtime import cache\n"
        "backend, said = backends.choose('numba'), []\n"
        "backend.on_compile(lambda: said.append('compiled'))\n"
        "vae = VAE(16, hidden=(5,), latent=2, backend='numba')\n"
        "backend.warmup(vae.arch, 'float32', evaluation=False)\n"
        "heavy = 'scipy.linalg' in sys.modules\n"
        "load = cache._OnDisk.load_overload\n"
        "cache._OnDisk.load_overload = lambda self, *a: said.append(repr(self)) or load(self, *a)\n"
        "grey = np.random.default_rng(0).integers(0, 256, (60, 16), np.uint8)\n"
        "vae.fit(grey, validation=grey, epochs=1, batch_size=20)\n"
        "print(said, heavy)\n"
    )
    good(code)
    assert good(code) == "[] False\n"


def test_a_change_of_any_source_leaves_no_compiled_caller_behind(tmp_path: Path) -> None:
    """A copy of the package is compiled, then one sign in a file that others call is changed."""
    shutil.copytree(ROOT / "vae_np", tmp_path / "vae_np", ignore=shutil.ignore_patterns("__pycache__", "*.npz"))
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n" + SMALL +
        "assert cpu.__file__.startswith(sys.argv[1])\n"
        "theta, gradient, first, second = np.array([[1], [1], [0], [0]], np.float32)\n"
        "cpu.adam_update(theta, gradient, first, second, step=1, lr=0.5)\n"
        "print(theta[0])\n"
    )  # fmt: skip
    cache = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    assert float(good(code, str(tmp_path), **cache)) == 0.5
    source = tmp_path / "vae_np" / "kernels" / "cpu" / "engine" / "vectors.py"
    before = source.read_text()
    after = before.replace("theta = builder.fsub(theta, change)", "theta = builder.fadd(theta, change)")
    assert after != before
    source.write_text(after)
    assert float(good(code, str(tmp_path), **cache)) == 1.5


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("0.57.1", "Numba 0.57.1 is too old; install it with: pip install 'numba>=0.61'"),
        (None, "Numba is not installed; install it with: pip install 'numba>=0.61'"),
    ],
)
def test_numba_missing_or_too_old_is_one_line_with_the_remedy(
    version: str | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def installed(name: str) -> str:
        if version is None:
            raise backends.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(backends.metadata, "version", installed)
    assert backends.missing("numba") == message
    with pytest.raises(BackendError, match=r"backend: got 'numba', but Numba .*; expected one of auto, numpy$"):
        backends.choose("numba")
    chosen = backends.choose("auto")
    assert (chosen.name, chosen.reason) == ("numpy", f"no numba: {message}")


def test_kernels_that_fail_to_import_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ImportError("Numba needs NumPy 2.4 or less")

    monkeypatch.setattr(backends.importlib, "import_module", fail)
    assert backends.missing("numba") == "its kernels cannot be imported (Numba needs NumPy 2.4 or less)"
