"""Int64 entries of an array that several threads use at once.

With compilation switched off (NUMBA_DISABLE_JIT) the plain Python below runs instead, in one thread.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic


def pointer(context: Any, builder: Any, array_type: Any, array: Any, offset: Any) -> Any:
    """The address of an entry of a flat array."""
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [offset])


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
