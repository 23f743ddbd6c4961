"""Single words: the bits of a float, a product and sum in one, and int64 entries that several threads use.

With compilation switched off (NUMBA_DISABLE_JIT) the plain Python below runs instead, in one thread.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from .vectors import pointer


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
def atomic_add(typing, array, index, value):  # type: ignore[no-untyped-def]
    """Adds to an int64 entry that other threads see, and returns what it was."""

    def code(context, builder, sig, args):  # type: ignore[no-untyped-def]
        place = pointer(context, builder, sig.args[0], args[0], args[1])
        return builder.atomic_rmw("add", place, args[2], "seq_cst")

    return types.int64(array, types.int64, types.int64), code


@intrinsic
def atomic_load(typing, array, index):  # type: ignore[no-untyped-def]
    """Reads an int64 entry that other threads write."""

    def code(context, builder, sig, args):  # type: ignore[no-untyped-def]
        place = pointer(context, builder, sig.args[0], args[0], args[1])
        return builder.load_atomic(place, "acquire", 8)

    return types.int64(array, types.int64), code


@intrinsic
def atomic_store(typing, array, index, value):  # type: ignore[no-untyped-def]
    """Writes an int64 entry that other threads read."""

    def code(context, builder, sig, args):  # type: ignore[no-untyped-def]
        place = pointer(context, builder, sig.args[0], args[0], args[1])
        builder.store_atomic(args[2], place, "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64), code


@intrinsic
def atomic_swap(typing, array, index, expected, value):  # type: ignore[no-untyped-def]
    """Writes `value` if the entry is `expected`; returns what the entry was."""

    def code(context, builder, sig, args):  # type: ignore[no-untyped-def]
        place = pointer(context, builder, sig.args[0], args[0], args[1])
        pair = builder.cmpxchg(place, args[2], args[3], "seq_cst", "seq_cst")
        return builder.extract_value(pair, 0)

    return types.int64(array, types.int64, types.int64, types.int64), code


@intrinsic
def pause(typing):  # type: ignore[no-untyped-def]
    """Tells the processor that this is a waiting loop, where it has a word for that."""

    def code(context, builder, sig, args):  # type: ignore[no-untyped-def]
        if "x86" in builder.module.triple:
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), code


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

    def atomic_add(array, index, value):  # type: ignore[no-untyped-def]
        before = int(array[index])
        array[index] += value
        return before

    def atomic_load(array, index):  # type: ignore[no-untyped-def]
        return int(array[index])

    def atomic_store(array, index, value):  # type: ignore[no-untyped-def]
        array[index] = value

    def atomic_swap(array, index, expected, value):  # type: ignore[no-untyped-def]
        before = int(array[index])
        if before == expected:
            array[index] = value
        return before

    def pause():  # type: ignore[no-untyped-def]
        return None
