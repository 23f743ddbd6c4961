"""What LLVM makes of loops: whole vectors, and multiply-adds with memory. Budget: about 35 s of compilation.

By itself LLVM prefers half of AVX-512's width on Intel's processors, and loads an entry that it needs twice by an
instruction of its own.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from vae_np import backends

if backends.missing("numba") is not None:
    pytest.skip(str(backends.missing("numba")), allow_module_level=True)

import numba
from numba import types
from numba.core import config

from vae_np.kernels.cpu import VECTOR_BYTES, affine, likelihoods, reparam
from vae_np.kernels.cpu.engine import random_words, tile
from vae_np.kernels.cpu.engine.instructions import Vectors
from vae_np.kernels.cpu.runtime import lowering

if VECTOR_BYTES < 64 or config.DISABLE_JIT:
    pytest.skip("no AVX-512 here, so there is no wider vector to prefer", allow_module_level=True)

_FLOATS, _BYTES, _WORDS = (types.Array(kind, 1, "C") for kind in (types.float32, types.uint8, types.int64))
_AT, _COUNT, _FLOAT, _KEY = types.int64, types.int64, types.float32, types.uint64
# Without a written-out vector in them: polynomials, the Bernoulli terms and their gradient, the normals' polynomials.
LOOPS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "activations": (affine.activate, (_FLOATS, _AT, _FLOATS, _AT, _COUNT, types.int64)),
    "z": (reparam.sample_row, (*(_FLOATS, _AT) * 4, _COUNT)),
    "KL": (reparam.kl_terms, (*(_FLOATS, _AT) * 3, _COUNT)),
    "Bernoulli": (likelihoods.bernoulli_terms, (_BYTES, _AT, _FLOATS, _AT, _FLOATS, _COUNT)),
    "Bernoulli gradient": (
        likelihoods.bernoulli_gradient, (_BYTES, _AT, _FLOATS, _AT, _FLOAT, _FLOATS, _AT, _COUNT)
    ),
    "random words": (
        random_words.fill_words, (_AT, types.uint64, _AT, _COUNT, _KEY, _KEY, types.int64, _WORDS, _AT)
    ),
    "normals": (random_words._to_normals, (_WORDS, _WORDS)),
}  # fmt: skip


def instructions(name: str) -> tuple[int, int]:
    """How many instructions use 512-bit registers in a loop's machine code, and how many only 256-bit ones."""
    function, signature = LOOPS[name]
    compiled = numba.njit(nogil=True, error_model="numpy", pipeline_class=lowering.Compiler)(function.py_func)
    compiled.compile(signature)
    lines = compiled.inspect_asm(signature).splitlines()
    wide = [line for line in lines if re.search(r"%zmm\d", line)]
    return len(wide), sum("%ymm" in line for line in lines) - sum("%ymm" in line for line in wide)


@pytest.mark.parametrize("name", LOOPS)
def test_loops_use_whole_vectors(name: str) -> None:
    whole, half = instructions(name)
    assert whole > 2 * half
    assert whole >= 10


def test_the_count_tells_one_width_from_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lowering, "VECTOR_BYTES", 32)
    whole, half = instructions("Bernoulli gradient")
    assert half > 2 * whole


def multiply_adds_with_memory() -> tuple[int, int]:
    """Of a whole register tile's loop: its multiply-adds, and those whose operand lies at an address without an index,
    for which no further instruction is needed."""

    def product(a: Any, b: Any, c: Any, step: int, ld: int, k: int, lanes: int) -> None:
        tile.tile(lowering.TILE_ROWS, tile.TILE_VECTORS, a, 0, step, b, 0, ld, c, 0, ld, k, lanes, 0)

    signature = (_FLOATS, _FLOATS, _FLOATS, *(types.int64,) * 4)
    compiled = numba.njit(nogil=True, error_model="numpy", pipeline_class=lowering.Compiler)(product)
    compiled.compile(signature)
    blocks = re.split(r"^\.?[\w$]+:", compiled.inspect_asm(signature), flags=re.MULTILINE)
    whole = lowering.TILE_ROWS * tile.TILE_VECTORS
    loop = next(block for block in blocks if block.count("vfmadd") == whole)
    return whole, len(re.findall(r"vfmadd\w+\s+-?\d*\(%r\w+\)\{1to16\}", loop))


def test_a_tile_multiplies_with_memory_in_two_of_three_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, with_memory = multiply_adds_with_memory()
    assert with_memory > 0.6 * whole
    # Without a second name for A nothing is left of that.
    monkeypatch.setattr(Vectors, "alias", lambda self, value: value)
    assert multiply_adds_with_memory()[1] == 0
