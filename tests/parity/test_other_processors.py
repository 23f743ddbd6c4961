"""Kernels compiled for processors with narrower vectors than this one's, and run: parity has to hold there as well.

Numba compiles for the processor that its environment names, so each runs in a process of its own.
Budget: about 4 min, behind `slow`.
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

from numba.core import config

TESTS = Path(__file__).parent
# 256-bit and 128-bit vectors, with and without multiply-adds.
PROCESSORS = {"haswell": "+avx2,+fma,+sse4.2", "generic": ""}


@pytest.mark.slow
@pytest.mark.skipif(config.DISABLE_JIT, reason="nothing is compiled")
@pytest.mark.parametrize("name", PROCESSORS)
def test_products_and_fused_steps_hold_on(name: str, tmp_path: Path) -> None:
    environment = {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": PROCESSORS[name], "NUMBA_CACHE_DIR": str(tmp_path)}
    files = [str(TESTS / f"test_{part}.py") for part in ("operations", "fused", "fused_bound")]
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})
    assert done.returncode == 0, done.stdout[-3000:]
