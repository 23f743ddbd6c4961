"""Single words: the bits of a float, and a product and sum in one; and arrays without their count of references.

With compilation switched off (NUMBA_DISABLE_JIT) the plain Python below runs instead.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic


def _bitcast(source: Any, target: Any) -> Any:
    @intrinsic
    def cast(typing, value):  # type: ignore[no-untyped-def]
        def code(context, builder, sig, args):  # type: ignore[no-untyped-def]
            return builder.bitcast(args[0], context.get_data_type(target))

        return target(source), code

    return cast


bits32 = _bitcast(types.float32, types.int32)
float32_of = _bitcast(types.int32, types.float32)
bits64 = _bitcast(types.float64, types.int64)
float64_of = _bitcast(types.int64, types.float64)


@intrinsic
def fma(typing, a, b, c):  # type: ignore[no-untyped-def]
    """a b + c, rounded once where the processor has an instruction for it, else twice: one machine, one way."""

    def code(context, builder, sig, args):  # type: ignore[no-untyped-def]
        real = args[0].type
        kind = ir.FunctionType(real, [real, real, real])
        name = f"llvm.fmuladd.{'f32' if sig.return_type == types.float32 else 'f64'}"
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)

    return a(a, a, a), code


@intrinsic
def borrowed(typing, arrays):  # type: ignore[no-untyped-def]
    """The same arrays (a tuple of them) without their counts of references: the caller keeps them alive.

    Numba counts each array of a named tuple up and down at every function that is handed it, with atomic additions.
    """

    def code(context, builder, sig, args):  # type: ignore[no-untyped-def]
        found = []
        for i, kind in enumerate(sig.args[0]):
            array = context.make_array(kind)(context, builder, builder.extract_value(args[0], i))
            array.meminfo = array.meminfo.type(None)
            found.append(array._getvalue())
        return context.make_tuple(builder, sig.return_type, found)

    return arrays(arrays), code


if config.DISABLE_JIT:

    def bits32(value):  # type: ignore[no-untyped-def]
        return np.float32(value).view(np.int32)

    def float32_of(value):  # type: ignore[no-untyped-def]
        return np.int32(value).view(np.float32)

    def bits64(value):  # type: ignore[no-untyped-def]
        return np.float64(value).view(np.int64)

    def float64_of(value):  # type: ignore[no-untyped-def]
        return np.int64(value).view(np.float64)

    def fma(a, b, c):  # type: ignore[no-untyped-def]
        return a * b + c

    def borrowed(arrays):  # type: ignore[no-untyped-def]
        return arrays
