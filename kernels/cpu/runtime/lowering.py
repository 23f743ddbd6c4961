"""How wide the vectors of loops are that LLVM vectorises by itself: as wide as those that are written out.

On Intel's processors LLVM prefers half of AVX-512's width for such loops (polynomials, Bernoulli terms, noise). The
process's own setting belongs to everybody in it, so here each of this package's functions carries the width as an
attribute of its own.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
from numba.core import config, lowering
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import PassManager, register_pass
from numba.core.typed_passes import NativeLowering


def _vector_bytes() -> int:
    """The widest vectors of the processor that Numba compiles for: 64 (AVX-512), 32 (AVX2) or 16 bytes."""
    name = config.CPU_NAME
    if name and name != "host":
        return 16 if name == "generic" else 32
    features = llvm.get_host_cpu_features()
    if features.get("avx512f") and features.get("avx512dq"):
        return 64
    return 32 if features.get("avx2") and features.get("fma") else 16


VECTOR_BYTES = _vector_bytes()
# Rows of a register tile: with two vectors per row, 28 of AVX-512's 32 registers hold sums, or 12 of the 16 of other
# processors.
TILE_ROWS = 14 if VECTOR_BYTES == 64 else 6


class _Lower(lowering.Lower):
    def setup_function(self, fndesc: Any) -> None:
        super().setup_function(fndesc)
        # llvmlite's own `add` takes no attribute in quotes; it writes what is in the set as it stands.
        set.add(self.function.attributes, f'"prefer-vector-width"="{8 * VECTOR_BYTES}"')


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(NativeLowering):
    _name = "native_lowering_of_one_vector_width"

    @property
    def lowering_class(self) -> type[_Lower]:
        return _Lower


class Compiler(CompilerBase):
    """Numba's pipeline, with this package's vector width on each function."""

    def define_pipelines(self) -> list[PassManager]:
        """Numba's passes, with its lowering replaced."""
        passes = DefaultPassBuilder.define_nopython_pipeline(self.state)
        passes.passes = [(_Lowering if one is NativeLowering else one, what) for one, what in passes.passes]
        passes.finalize()
        return [passes]
