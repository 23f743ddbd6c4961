"""A run's bits depend on the run alone, not on what its process compiled or loaded before. Budget: about 6 s.

What is inlined is compiled once more with each caller, and the first copy that a process loads serves them all. Only if
all copies round alike do equal runs leave equal bits: no fast-math flag may let LLVM fuse one copy's products and sums.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vae_np import backends

if backends.missing("numba") is not None:
    pytest.skip(str(backends.missing("numba")), allow_module_level=True)

# Every row function of the fused step, called by an operation of its own first.
OPERATIONS = (
    "import numpy as np\n"
    "from vae_np.kernels import cpu\n"
    "one = np.ones((3, 5), np.float32)\n"
    "for activation in ('relu', 'tanh', 'softplus'):\n"
    "    y, cache = cpu.affine_act_forward(one, np.ones((5, 5), np.float32), one[0], activation)\n"
    "    cpu.affine_act_backward(y, cache)\n"
    "y, cache = cpu.binary_affine_act_forward(one.astype(np.uint8), np.ones((5, 5), np.float32), one[0], 'tanh')\n"
    "cpu.binary_affine_act_backward(y, cache)\n"
    "(z, kl), cache = cpu.reparam_kl_forward(one, one, one)\n"
    "cpu.reparam_kl_backward((z, kl), cache)\n"
    "value, cache = cpu.bernoulli_loglik_forward(one.astype(np.uint8), one)\n"
    "cpu.bernoulli_loglik_backward(value, cache)\n"
    "cpu.log_mean_exp_weights(one)\n"
    "cpu.adam_update(*np.ones((4, 9), np.float32), step=1, lr=0.1)\n"
    "cpu.philox_normal(np.arange(3), 4, seed=0, stream=3, step=0)\n"
)
STEPS = (
    "import hashlib\n"
    "import numpy as np\n"
    "from vae_np.kernels.cpu.fused import FusedStep\n"
    "from vae_np.architecture import Architecture\n"
    "from vae_np.model import initialise\n"
    "from vae_np.step import Optimiser, TrainingState\n"
    "arch = Architecture(61, 7, (37, 18), 'tanh')\n"
    "state = TrainingState(initialise(arch, seed=0))\n"
    "step = FusedStep(arch, state, 9)\n"
    "grey = np.random.default_rng(0).integers(0, 256, (9, 61)).astype(np.uint8)\n"
    "for _ in range(20):\n"
    "    step(grey, np.arange(9), seed=0, optimiser=Optimiser(lr=0.01), grey=True)\n"
    "print(hashlib.sha256(state.parameters.flat.tobytes()).hexdigest())\n"
)


def digest(program: str, cache: str | None = None) -> str:
    """The last line that a Python process of its own prints."""
    environment = dict(os.environ)
    if cache is not None:
        environment["NUMBA_CACHE_DIR"] = cache
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    return done.stdout.split()[-1]


def test_bits_do_not_depend_on_what_was_loaded_first() -> None:
    assert digest(STEPS) == digest(OPERATIONS + STEPS)


@pytest.mark.slow
def test_bits_do_not_depend_on_who_compiled(tmp_path: Path) -> None:
    # Once compiling, once from the cache that this left.
    assert digest(STEPS, str(tmp_path)) == digest(STEPS, str(tmp_path)) == digest(STEPS)
