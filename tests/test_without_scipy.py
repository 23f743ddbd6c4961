"""The default install has no SciPy: what needs it names the extra in one line, and all else does without.

Budget: about 5 s once the kernels are compiled.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vae_np import backends

HIDDEN = "import sys; sys.modules['scipy'] = None\n"


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", HIDDEN + code, *arguments], capture_output=True, text=True)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_training_and_evaluation_do_without(backend: str) -> None:
    if backends.missing(backend) is not None:
        pytest.skip(str(backends.missing(backend)))
    done = python(
        "from vae_np import VAE, data\n"
        "x = data.bars(4, 40, 0)[0]\n"
        f"vae = VAE(16, hidden=(4,), latent=1, backend={backend!r})\n"
        "vae.fit(x, epochs=1, batch_size=20)\n"
        "vae.log_likelihood(x, 20)\n"
        "print(vae.exact.log_likelihood(x[:2]).converged)\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[ True  True]\n"


def test_what_needs_it_names_the_extra(tmp_path: Path) -> None:
    done = python("from vae_np import study\nstudy.run_chapter('04-variational-inference')\n")
    assert done.stderr.splitlines()[-1].endswith("needs SciPy: pip install 'vae-np[study]'"), done.stderr
    file = tmp_path / "mine.mat"
    file.write_bytes(b"MATLAB 5.0 MAT-file, made by nobody".ljust(128) + bytes(64))
    done = python("import sys\nfrom vae_np import data\ndata.load(sys.argv[1])\n", str(file))
    assert done.stderr.splitlines()[-1].endswith("mine.mat: needs SciPy to be read: pip install 'vae-np[formats]'")
    done = python(
        "import numpy as np\n"
        "from vae_np.exact import nested_and_joint\n"
        "nested_and_joint._lbfgs(None, np.zeros(1), 1, 1e-3, lambda x: None)\n"
    )
    assert done.stderr.splitlines()[-1].endswith("optimiser: needs SciPy: pip install 'vae-np[study]'")
