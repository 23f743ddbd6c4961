"""How vector code is written: instructions for one element type, a body for each of several counts, and loops.

What these build is LLVM's language, at the place where the builder stands; `vectors.py` and `products.py` use it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from ..runtime.lowering import VECTOR_BYTES

I32, I64 = ir.IntType(32), ir.IntType(64)
Body = Callable[[Any, Any, list[Any]], list[Any]]


class Vectors:
    """Vector instructions for one element type, as wide as the processor's vectors."""

    def __init__(self, context: Any, builder: Any, element: Any) -> None:
        self.builder = builder
        self.element = context.get_data_type(element)
        self.bits = element.bitwidth
        self.width = VECTOR_BYTES * 8 // element.bitwidth
        self.type = ir.VectorType(self.element, self.width)
        self.align = element.bitwidth // 8
        self.suffix = f"v{self.width}f{element.bitwidth}"
        self.zero = self.constant(0.0)

    def constant(self, value: float) -> Any:
        """A vector of one value."""
        return ir.Constant(self.type, [value] * self.width)

    def splat(self, scalar: Any) -> Any:
        """A vector of one scalar."""
        return splat(self.builder, scalar, self.width)

    def mask(self, lanes: Any) -> Any:
        """True in the first `lanes` lanes, of which there is at least one."""
        if VECTOR_BYTES == 64:
            # As bits of a word: a comparison of vectors would be made anew in each round of a loop that has the mask.
            ones = self.builder.lshr(I32(-1), self.builder.sub(I32(32), self.builder.trunc(lanes, I32)))
            bits = self.builder.trunc(ones, ir.IntType(self.width))
            return self.builder.bitcast(bits, ir.VectorType(ir.IntType(1), self.width))
        steps = ir.Constant(ir.VectorType(I64, self.width), list(range(self.width)))
        return self.builder.icmp_signed("<", steps, self.splat(lanes))

    def call(self, name: str, result: Any, *args: Any) -> Any:
        """One of LLVM's own functions."""
        return call(self.builder, name, result, *args)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """a b + c."""
        return self.call(f"llvm.fmuladd.{self.suffix}", self.type, a, b, c)

    def sqrt(self, a: Any) -> Any:
        """√a."""
        return self.call(f"llvm.sqrt.{self.suffix}", self.type, a)

    def at(self, place: Any, vectors: int) -> Any:
        """The address `vectors` vectors after a place."""
        return self.builder.gep(place, [I64(vectors * self.width)])

    def alias(self, value: Any) -> Any:
        """The same address or integer under another name: LLVM does not see that both are one."""
        kind = ir.FunctionType(value.type, [value.type])
        return self.builder.asm(kind, "", "=r,0", [value], side_effect=False)

    def load(self, place: Any, mask: Any = None) -> Any:
        """The vector at a place; zero in the lanes that the mask leaves out, which are not read."""
        at = self.builder.bitcast(place, self.type.as_pointer())
        if mask is None:
            value = self.builder.load(at)
            value.align = self.align
            return value
        return self.call(f"llvm.masked.load.{self.suffix}.p0", self.type, at, I32(self.align), mask, self.zero)

    def store(self, value: Any, place: Any, mask: Any = None) -> None:
        """Write a vector, or its lanes in the mask."""
        at = self.builder.bitcast(place, self.type.as_pointer())
        if mask is None:
            self.builder.store(value, at).align = self.align
        else:
            self.call(f"llvm.masked.store.{self.suffix}.p0", ir.VoidType(), value, at, I32(self.align), mask)

    def ask_for(self, place: Any, *, write: bool = False) -> None:
        """Have the line of the cache at a place fetched, to be read or to be written; nothing happens at a bad one."""
        kinds = (I32(int(write)), I32(3), I32(1))
        byte = self.builder.bitcast(place, ir.IntType(8).as_pointer())
        self.call("llvm.prefetch.p0", ir.VoidType(), byte, *kinds)

    def transposed(self, rows: list[Any]) -> list[Any]:
        """The rows of a square as wide as a vector, turned in registers: log₂(width) rounds of pairwise swaps."""
        rows, step = list(rows), 1
        while step < self.width:
            low = [c if not c & step else c - step + self.width for c in range(self.width)]
            high = [c + step if not c & step else c + self.width for c in range(self.width)]
            for i in range(self.width):
                if not i & step:
                    pair = rows[i], rows[i + step]
                    for place, picks in ((i, low), (i + step, high)):
                        order = ir.Constant(ir.VectorType(I32, self.width), picks)
                        rows[place] = self.builder.shuffle_vector(*pair, order)
            step *= 2
        return rows

    def along(self, count: Any, carried: list[Any], body: Body) -> list[Any]:
        """body(i, mask, carried) for each vector of a row of `count` entries, the last one masked; what the last gives.

        For whole vectors the mask is None. The values that the body returns are carried to the next vector.
        """
        builder = self.builder
        whole = builder.and_(count, I64(-self.width))
        carried = rounds(builder, whole, carried, lambda i, values: body(i, None, values), step=self.width)
        before, rest, end = builder.block, builder.append_basic_block("rest"), builder.append_basic_block("end")
        builder.cbranch(builder.icmp_signed("<", whole, count), rest, end)
        builder.position_at_end(rest)
        after = body(whole, self.mask(builder.sub(count, whole)), carried)
        last = builder.block
        builder.branch(end)
        builder.position_at_end(end)
        return [_either(builder, (value, before), (other, last)) for value, other in zip(carried, after, strict=True)]


def call(builder: Any, name: str, result: Any, *args: Any) -> Any:
    """A call of one of LLVM's own functions, by its full name."""
    kind = ir.FunctionType(result, [a.type for a in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), list(args))


def splat(builder: Any, scalar: Any, width: int) -> Any:
    """A vector of one scalar."""
    undefined = ir.Constant(ir.VectorType(scalar.type, width), ir.Undefined)
    first = builder.insert_element(undefined, scalar, I32(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(I32, width), None))


def cases(builder: Any, value: Any, known: Iterable[int], name: str) -> Iterator[int]:
    """Each known value in turn, for which the caller then writes code; other values do nothing."""
    end = builder.append_basic_block(f"{name}.end")
    blocks = {case: builder.append_basic_block(f"{name}{case}") for case in known}
    switch = builder.switch(value, end)
    for case, block in blocks.items():
        switch.add_case(I64(case), block)
        builder.position_at_end(block)
        yield case
        builder.branch(end)
    builder.position_at_end(end)


def rounds(
    builder: Any, count: Any, carried: list[Any], body: Callable[[Any, list[Any]], list[Any]], *, step: int = 1
) -> list[Any]:
    """A loop that keeps values in registers: body(i, carried) for i = 0, step, … below `count`; what the last returns.

    The values that `body` returns are carried to the next round.
    """
    before = builder.block
    loop, done = builder.append_basic_block("round"), builder.append_basic_block("rounds.done")
    builder.cbranch(builder.icmp_signed(">", count, I64(0)), loop, done)
    builder.position_at_end(loop)
    i, *values = (builder.phi(start.type) for start in (I64(0), *carried))
    after = body(i, values)
    following, last = builder.add(i, I64(step)), builder.block
    for phi, start, value in zip((i, *values), (I64(0), *carried), (following, *after), strict=True):
        phi.add_incoming(start, before)
        phi.add_incoming(value, last)
    builder.cbranch(builder.icmp_signed("<", following, count), loop, done)
    builder.position_at_end(done)
    return [_either(builder, (start, before), (value, last)) for start, value in zip(carried, after, strict=True)]


def _either(builder: Any, *incoming: tuple[Any, Any]) -> Any:
    """The value that belongs to the block from which control came."""
    phi = builder.phi(incoming[0][0].type)
    for value, block in incoming:
        phi.add_incoming(value, block)
    return phi
