"""Single words: the bits of a float, and a product and sum in one; and arrays without their count of references.

The plain function above each intrinsic says what it computes, and runs in its place where compilation is off.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from ..runtime.compilation import intrinsic
from .instructions import call


def _bitcast(source: Any, target: Any, plain: Any) -> Any:
    @intrinsic(plain)
    def cast(typing, value):
        def code(context, builder, sig, args):
            return builder.bitcast(args[0], context.get_data_type(target))

        return target(source), code

    return cast


bits32 = _bitcast(types.float32, types.int32, lambda value: np.float32(value).view(np.int32))
float32_of = _bitcast(types.int32, types.float32, lambda value: np.int32(value).view(np.float32))
bits64 = _bitcast(types.float64, types.int64, lambda value: np.float64(value).view(np.int64))
float64_of = _bitcast(types.int64, types.float64, lambda value: np.int64(value).view(np.float64))


def _fma(a: Any, b: Any, c: Any) -> Any:
    """a b + c, rounded once where the processor has an instruction for it, else twice: the same on one machine."""
    return a * b + c


@intrinsic(_fma)
def fma(typing, a, b, c):
    def code(context, builder, sig, args):
        name = f"llvm.fmuladd.{'f32' if sig.return_type == types.float32 else 'f64'}"
        return call(builder, name, args[0].type, *args)

    return a(a, a, a), code


def _borrowed(arrays: Any) -> Any:
    """The same arrays (a tuple of them) without their counts of references: the caller keeps them alive.

    Numba counts each array of a named tuple up and down at every function that is handed it, with atomic additions.
    """
    return arrays


@intrinsic(_borrowed)
def borrowed(typing, arrays):
    def code(context, builder, sig, args):
        found = []
        for i, kind in enumerate(sig.args[0]):
            array = context.make_array(kind)(context, builder, builder.extract_value(args[0], i))
            array.meminfo = array.meminfo.type(None)
            found.append(array._getvalue())
        return context.make_tuple(builder, sig.return_type, found)

    return arrays(arrays), code
