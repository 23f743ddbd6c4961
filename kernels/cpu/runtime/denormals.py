"""Denormal numbers count as zero inside compiled regions, and nowhere else.

A product of small numbers (a dead pixel's sigmoid times a small importance weight) ends in the range where a float has
lost its leading bit. Intel's processors take such an operand through microcode, at a hundred times the cost, and
nothing in this package depends on numbers that small. So a region sets its thread's control register, and puts it back
as it was when it ends, also if an exception ends it. The two halves are functions of their own: in a function that also
does arithmetic, LLVM could move the arithmetic across them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from .compilation import njit

# MXCSR on x86: denormal results become zero (bit 15), and so do denormal operands (bit 6).
_MXCSR_FLUSHES = 0x8040
# FPCR on Arm: one bit does both, for float32 and float64.
_FPCR_FLUSHES = 1 << 24

_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)


def _is_x86(builder: Any) -> bool:
    return str(builder.module.triple).startswith(("x86_64", "i386", "i686", "amd64"))


def _is_arm64(builder: Any) -> bool:
    return str(builder.module.triple).startswith(("aarch64", "arm64"))


def _mxcsr(builder: Any, instruction: str, place: Any) -> None:
    kind = ir.FunctionType(ir.VoidType(), [_I8.as_pointer()])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.sse.{instruction}")
    builder.call(function, [builder.bitcast(place, _I8.as_pointer())])


@intrinsic
def _read(typing):  # type: ignore[no-untyped-def]
    """This thread's floating-point control register; 0 on a processor that has none of these two."""

    def code(context, builder, sig, args):  # type: ignore[no-untyped-def]
        if _is_x86(builder):
            place = cgutils.alloca_once(builder, _I32)
            _mxcsr(builder, "stmxcsr", place)
            return builder.zext(builder.load(place), _I64)
        if _is_arm64(builder):
            kind = ir.FunctionType(_I64, [])
            return builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.aarch64.get.fpcr"), [])
        return _I64(0)

    return types.int64(), code


@intrinsic
def _write(typing, register):  # type: ignore[no-untyped-def]
    """Sets this thread's floating-point control register."""

    def code(context, builder, sig, args):  # type: ignore[no-untyped-def]
        if _is_x86(builder):
            place = cgutils.alloca_once(builder, _I32)
            builder.store(builder.trunc(args[0], _I32), place)
            _mxcsr(builder, "ldmxcsr", place)
        elif _is_arm64(builder):
            kind = ir.FunctionType(ir.VoidType(), [_I64])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.aarch64.set.fpcr"), [args[0]])
        return context.get_dummy_value()

    return types.void(types.int64), code


@intrinsic
def _flushes(typing):  # type: ignore[no-untyped-def]
    """The bits of the register that make denormal numbers zero."""

    def code(context, builder, sig, args):  # type: ignore[no-untyped-def]
        return _I64(_MXCSR_FLUSHES if _is_x86(builder) else _FPCR_FLUSHES if _is_arm64(builder) else 0)

    return types.int64(), code


if config.DISABLE_JIT:

    def _read() -> int:
        return 0

    def _write(register: int) -> None:
        return None

    def _flushes() -> int:
        return 0


@njit()
def control_register() -> int:
    """This thread's floating-point control register."""
    return _read()


@njit()
def flush() -> None:
    """Have this thread take denormal numbers for zero."""
    _write(_read() | _flushes())


@njit()
def restore(before: int) -> None:
    """Put this thread's register back to what it was; flags that arithmetic has raised since are dropped."""
    _write(before)


def flushed(function: Callable[..., Any], *args: Any) -> Any:
    """function(*args), during which denormal numbers count as zero in this thread; what it raises is raised.

    An interrupt may come after any call. So nothing is changed before the block that puts it back is entered.
    """
    before = control_register()
    try:
        flush()
        return function(*args)
    finally:
        restore(before)
