"""Int64 entries of an array that several threads use at once.

The plain function above each intrinsic runs in its place where compilation is off, in one thread.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from vae_np._types import Array

from .compilation import intrinsic


def pointer(context: Any, builder: Any, array_type: Any, array: Any, offset: Any) -> Any:
    """The address of an entry of a flat array."""
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [offset])


def _atomic_add(array: Array, index: int, value: int) -> int:
    """Adds to an int64 entry that other threads see, and returns what it was."""
    before = int(array[index])
    array[index] += value
    return before


@intrinsic(_atomic_add)
def atomic_add(typing, array, index, value):
    def code(context, builder, sig, args):
        place = pointer(context, builder, sig.args[0], args[0], args[1])
        return builder.atomic_rmw("add", place, args[2], "seq_cst")

    return types.int64(array, types.int64, types.int64), code


def _atomic_load(array: Array, index: int) -> int:
    """Reads an int64 entry that other threads write."""
    return int(array[index])


@intrinsic(_atomic_load)
def atomic_load(typing, array, index):
    def code(context, builder, sig, args):
        place = pointer(context, builder, sig.args[0], args[0], args[1])
        return builder.load_atomic(place, "acquire", 8)

    return types.int64(array, types.int64), code


def _atomic_store(array: Array, index: int, value: int) -> None:
    """Writes an int64 entry that other threads read."""
    array[index] = value


@intrinsic(_atomic_store)
def atomic_store(typing, array, index, value):
    def code(context, builder, sig, args):
        place = pointer(context, builder, sig.args[0], args[0], args[1])
        builder.store_atomic(args[2], place, "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64), code


def _atomic_swap(array: Array, index: int, expected: int, value: int) -> int:
    """Writes `value` if the entry is `expected`; returns what the entry was."""
    before = int(array[index])
    if before == expected:
        array[index] = value
    return before


@intrinsic(_atomic_swap)
def atomic_swap(typing, array, index, expected, value):
    def code(context, builder, sig, args):
        place = pointer(context, builder, sig.args[0], args[0], args[1])
        pair = builder.cmpxchg(place, args[2], args[3], "seq_cst", "seq_cst")
        return builder.extract_value(pair, 0)

    return types.int64(array, types.int64, types.int64, types.int64), code


def _pause() -> None:
    """Tells the processor that this is a waiting loop, where it has an instruction for that."""


@intrinsic(_pause)
def pause(typing):
    def code(context, builder, sig, args):
        if "x86" in builder.module.triple:
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), code
