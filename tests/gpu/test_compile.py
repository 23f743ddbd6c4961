"""Every CUDA source through NVRTC, which needs no device: registers within budget, nothing spilled, no warning.

The default run compiles every source in both precisions and for both devices, but not in float64 for the older one,
whose products are held to the same budget; that is slow. It proves syntax, types and resources, and nothing about
results. Budget: about 27 s.
"""

from __future__ import annotations

import functools
import importlib
import re
from dataclasses import dataclass
from typing import Any

import pytest
import shimlib

from vae_np.kernels.gpu import _compile, _device

FILES = sorted(file.name for file in _compile.SOURCES.glob("*.cu"))
TARGETS = ("sm_80", "sm_90")
# Every source is compiled for both devices, and in both precisions.
COMBINATIONS = [
    ("float32", "sm_80"), ("float32", "sm_90"), ("float64", "sm_90"),
    pytest.param("float64", "sm_80", marks=pytest.mark.slow),
]  # fmt: skip

# The most registers a thread may take. An SM has 65,536: with 128, two blocks of 256 threads share one, with 64 four.
# In float32 a product's small tile takes 80, for three blocks. In float64, where products are for comparing runs and
# not for speed, theirs may have an SM to itself.
BUDGETS = {"float32": {"other": 64, "product": 128}, "float64": {"other": 64, "product": 255}}
MOST_SHARED_BYTES = 48 * 1024


@dataclass(frozen=True)
class Resources:
    """What ptxas says of one kernel, sizes in bytes."""

    registers: int
    stack: int
    spilled: int
    shared: int


def budget(kernel: str, precision: str) -> int:
    """A kernel that exists in several sizes of tile is a product."""
    return BUDGETS[precision]["product" if kernel.endswith(("_32", "_64")) else "other"]


def nvrtc() -> Any:
    """CuPy's door to NVRTC; skips, or fails in CI, where it is missing."""
    try:
        found = importlib.import_module("cupy_backends.cuda.libs.nvrtc")
        found.getVersion()
    except Exception as error:
        shimlib.missing(f"NVRTC cannot be used ({type(error).__name__}: {error}); the extra `nvrtc` brings it")
    return found


@functools.cache
def compiled(file: str, precision: str, target: str) -> tuple[str, dict[str, Resources]]:
    """NVRTC's log and each kernel's resources. Raises the log as an error where the file does not compile."""
    compiler = nvrtc()
    program = compiler.createProgram((_compile.SOURCES / file).read_text(encoding="utf-8"), file, (), ())
    try:
        compiler.compileProgram(program, (*_compile.options(precision, target), "--ptxas-options=-v"))
        assert len(compiler.getCUBIN(program)) > 0
    except compiler.NVRTCError:
        pytest.fail(compiler.getProgramLog(program))
    log = compiler.getProgramLog(program)
    compiler.destroyProgram(program)
    return log, parsed(log)


def parsed(log: str) -> dict[str, Resources]:
    """Resources by kernel, from what `--ptxas-options=-v` prints."""
    found = {}
    for part in log.split("Compiling entry function '")[1:]:
        patterns = r"Used (\d+) registers", r"(\d+) bytes stack frame", r"(\d+) bytes spill", r"(\d+) bytes smem"
        found[part.split("'")[0]] = Resources(*(sum(map(int, re.findall(p, part))) for p in patterns))
    return found


@pytest.mark.parametrize(("precision", "target"), COMBINATIONS)
@pytest.mark.parametrize("file", FILES)
def test_a_source_compiles_within_its_budget(file: str, precision: str, target: str) -> None:
    log, kernels = compiled(file, precision, target)
    assert "warning" not in log
    assert set(kernels) == set(shimlib.kernels_of(shimlib.sources(), file))
    for kernel, used in kernels.items():
        assert 0 < used.registers <= budget(kernel, precision), f"{kernel}: {used}"
        assert used.spilled == used.stack == 0, f"{kernel}: {used}"
        assert used.shared <= MOST_SHARED_BYTES, f"{kernel}: {used}"


def test_the_host_knows_every_kernel_and_its_file() -> None:
    text = shimlib.sources()
    for file in FILES:
        for kernel in shimlib.kernels_of(text, file):
            assert _device.file_of(kernel) == file
    assert set(_device.FILE_OF.values()) == set(FILES)


def test_a_spill_and_a_register_too_many_would_be_seen() -> None:
    # Sixteen numbers of each of 64 columns at once do not fit into 32 registers.
    source = """
    extern "C" __global__ void __launch_bounds__(1024, 2) greedy(const float* in, float* out, int n) {
        float held[64];
        #pragma unroll
        for (int i = 0; i < 64; ++i) held[i] = in[i * n + threadIdx.x];
        #pragma unroll
        for (int i = 0; i < 64; ++i) out[i * n + threadIdx.x] = held[i] * held[63 - i];
    }
    """
    compiler = nvrtc()
    program = compiler.createProgram(source, "greedy.cu", (), ())
    compiler.compileProgram(program, (*_compile.options("float32", "sm_90"), "--ptxas-options=-v"))
    used = parsed(compiler.getProgramLog(program))["greedy"]
    compiler.destroyProgram(program)
    assert used.spilled > 0
    assert used.registers > 0
