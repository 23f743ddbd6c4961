"""What LLVM's loop vectoriser does not find by itself, written as vector instructions.

Each intrinsic works on flat arrays and offsets, with vectors as wide as the processor's, the last one masked; with
compilation switched off (NUMBA_DISABLE_JIT) the plain Python beside it runs instead, and says what it computes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from ..runtime.atomics import pointer
from ..runtime.compilation import TILE_ROWS, VECTOR_BYTES

_I1, _I32, _I64 = ir.IntType(1), ir.IntType(32), ir.IntType(64)
TILE_VECTORS = 2
SUM_VECTORS = 8


class _Vectors:
    """Builds vector instructions for one element type; `lanes` masks the last vector of a row."""

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
        return ir.Constant(self.type, [value] * self.width)

    def splat(self, scalar: Any) -> Any:
        undefined = ir.Constant(ir.VectorType(scalar.type, self.width), ir.Undefined)
        first = self.builder.insert_element(undefined, scalar, _I32(0))
        return self.builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_I32, self.width), None))

    def mask(self, lanes: Any) -> Any:
        steps = ir.Constant(ir.VectorType(_I64, self.width), list(range(self.width)))
        return self.builder.icmp_signed("<", steps, self.splat(lanes))

    def call(self, name: str, result: Any, *args: Any) -> Any:
        kind = ir.FunctionType(result, [a.type for a in args])
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), list(args))

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        return self.call(f"llvm.fmuladd.{self.suffix}", self.type, a, b, c)

    def sqrt(self, a: Any) -> Any:
        return self.call(f"llvm.sqrt.{self.suffix}", self.type, a)

    def load(self, place: Any, mask: Any = None) -> Any:
        at = self.builder.bitcast(place, self.type.as_pointer())
        if mask is None:
            value = self.builder.load(at)
            value.align = self.align
            return value
        return self.call(f"llvm.masked.load.{self.suffix}.p0", self.type, at, _I32(self.align), mask, self.zero)

    def store(self, value: Any, place: Any, mask: Any = None) -> None:
        at = self.builder.bitcast(place, self.type.as_pointer())
        if mask is None:
            self.builder.store(value, at).align = self.align
        else:
            self.call(f"llvm.masked.store.{self.suffix}.p0", ir.VoidType(), value, at, _I32(self.align), mask)


def _tile_code(v: _Vectors, rows: int, columns: int, a: Any, b: Any, c: Any, args: Any) -> None:
    """One register tile: `rows` × `columns` vectors, all of k in one loop."""
    builder = v.builder
    row_a, step_a, ldb, ldc, k, mask, accumulate = args
    # Row addresses as few bases plus 1, 2 and 3 rows, which is what the address modes of x86 hold.
    multiples = [None, row_a, builder.mul(row_a, _I64(2)), builder.mul(row_a, _I64(3))]
    four = builder.mul(row_a, _I64(4))
    bases = [a]
    for _ in range((rows - 1) // 4):
        bases.append(builder.gep(bases[-1], [four]))

    before = builder.block
    loop, done = builder.append_basic_block("k"), builder.append_basic_block("k.done")
    builder.cbranch(builder.icmp_signed(">", k, _I64(0)), loop, done)

    builder.position_at_end(loop)
    count = builder.phi(_I64)
    count.add_incoming(_I64(0), before)
    at_b = builder.phi(b.type)
    at_b.add_incoming(b, before)
    at_a = []
    for base in bases:
        phi = builder.phi(a.type)
        phi.add_incoming(base, before)
        at_a.append(phi)
    sums = []
    for _ in range(rows * columns):
        phi = builder.phi(v.type)
        phi.add_incoming(v.zero, before)
        sums.append(phi)
    vectors = [
        v.load(builder.gep(at_b, [_I64(j * v.width)]), mask if j == columns - 1 else None) for j in range(columns)
    ]
    updated = []
    for i in range(rows):
        group, rest = divmod(i, 4)
        scalar = builder.load(builder.gep(at_a[group], [multiples[rest]]) if rest else at_a[group])
        scalar.align = v.align
        row = v.splat(scalar)
        for j in range(columns):
            updated.append(v.fma(row, vectors[j], sums[i * columns + j]))
    for phi, value in zip(sums, updated, strict=True):
        phi.add_incoming(value, loop)
    at_b.add_incoming(builder.gep(at_b, [ldb]), loop)
    for phi in at_a:
        phi.add_incoming(builder.gep(phi, [step_a]), loop)
    following = builder.add(count, _I64(1))
    count.add_incoming(following, loop)
    builder.cbranch(builder.icmp_signed("<", following, k), loop, done)

    builder.position_at_end(done)
    totals = []
    for value in updated:
        phi = builder.phi(v.type)
        phi.add_incoming(v.zero, before)
        phi.add_incoming(value, loop)
        totals.append(phi)
    places = []
    for i in range(rows):
        row_c = c if i == 0 else builder.gep(places[-1][0], [ldc])
        places.append([builder.gep(row_c, [_I64(j * v.width)]) if j else row_c for j in range(columns)])

    def write(add: bool) -> None:
        for i in range(rows):
            for j in range(columns):
                masked = mask if j == columns - 1 else None
                total = totals[i * columns + j]
                if add:
                    total = builder.fadd(v.load(places[i][j], masked), total)
                v.store(total, places[i][j], masked)

    with builder.if_else(builder.icmp_signed("!=", accumulate, _I64(0))) as (then, otherwise):
        with then:
            write(add=True)
        with otherwise:
            write(add=False)


@intrinsic
def tile(typing, rows, columns, a, at_a, row_a, step_a, b, at_b, ldb, c, at_c, ldc, k, lanes, accumulate):  # type: ignore[no-untyped-def]
    """C[i, :] (+)= Σ_k A[i, k] B[k, :] for up to TILE_ROWS rows and two vectors of columns, the last with `lanes`."""
    i8 = types.int64
    signature = types.void(i8, i8, a, i8, i8, i8, b, i8, i8, c, i8, i8, i8, i8, i8)

    def code(context, builder, sig, args):  # type: ignore[no-untyped-def]
        v = _Vectors(context, builder, sig.args[2].dtype)
        rows, columns, a, at_a, row_a, step_a, b, at_b, ldb, c, at_c, ldc, k, lanes, accumulate = args
        pa = pointer(context, builder, sig.args[2], a, at_a)
        pb = pointer(context, builder, sig.args[6], b, at_b)
        pc = pointer(context, builder, sig.args[9], c, at_c)
        mask = v.mask(lanes)
        end = builder.append_basic_block("tile.end")
        variant = builder.add(builder.mul(columns, _I64(64)), rows)
        blocks = {}
        for n in range(1, TILE_VECTORS + 1):
            for m in range(1, TILE_ROWS + 1):
                blocks[64 * n + m] = builder.append_basic_block(f"tile{m}x{n}")
        switch = builder.switch(variant, end)
        for key, block in blocks.items():
            switch.add_case(_I64(key), block)
            builder.position_at_end(block)
            n, m = divmod(key, 64)
            _tile_code(v, m, n, pa, pb, pc, (row_a, step_a, ldb, ldc, k, mask, accumulate))
            builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    return signature, code


@intrinsic
def row_sum(typing, columns, table, at_table, ld, index, at_index, count, out, at_out, lanes):  # type: ignore[no-untyped-def]
    """out[:] = Σ_i table[index[i], :], over up to SUM_VECTORS vectors of columns, the last with `lanes`."""
    i8 = types.int64
    signature = types.void(i8, table, i8, i8, index, i8, i8, out, i8, i8)

    def code(context, builder, sig, args):  # type: ignore[no-untyped-def]
        v = _Vectors(context, builder, sig.args[1].dtype)
        columns, table, at_table, ld, index, at_index, count, out, at_out, lanes = args
        base = pointer(context, builder, sig.args[1], table, at_table)
        indices = pointer(context, builder, sig.args[4], index, at_index)
        result = pointer(context, builder, sig.args[7], out, at_out)
        mask = v.mask(lanes)
        end = builder.append_basic_block("sum.end")
        blocks = [builder.append_basic_block(f"sum{n}") for n in range(1, SUM_VECTORS + 1)]
        switch = builder.switch(columns, end)
        for n, block in enumerate(blocks, 1):
            switch.add_case(_I64(n), block)
            builder.position_at_end(block)
            masks = [None] * (n - 1) + [mask]
            begin = builder.block
            loop, done = builder.append_basic_block("i"), builder.append_basic_block("i.done")
            builder.cbranch(builder.icmp_signed(">", count, _I64(0)), loop, done)
            builder.position_at_end(loop)
            i = builder.phi(_I64)
            i.add_incoming(_I64(0), begin)
            sums = []
            for _ in range(n):
                phi = builder.phi(v.type)
                phi.add_incoming(v.zero, begin)
                sums.append(phi)
            row = builder.sext(builder.load(builder.gep(indices, [i])), _I64)
            place = builder.gep(base, [builder.mul(row, ld)])
            added = [builder.fadd(sums[j], v.load(builder.gep(place, [_I64(j * v.width)]), masks[j])) for j in range(n)]
            for phi, value in zip(sums, added, strict=True):
                phi.add_incoming(value, loop)
            following = builder.add(i, _I64(1))
            i.add_incoming(following, loop)
            builder.cbranch(builder.icmp_signed("<", following, count), loop, done)
            builder.position_at_end(done)
            totals = []
            for j in range(n):
                phi = builder.phi(v.type)
                phi.add_incoming(v.zero, begin)
                phi.add_incoming(added[j], loop)
                totals.append(phi)
            for j in range(n):
                v.store(totals[j], builder.gep(result, [_I64(j * v.width)]), masks[j])
            builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    return signature, code


@intrinsic
def compress_columns(typing, x, at, first, last, index, at_index):  # type: ignore[no-untyped-def]
    """The columns first..last−1 of a row of bytes that are not zero, into `index`; returns how many. For AVX-512."""
    i8 = types.int64
    signature = types.int64(x, i8, i8, i8, index, i8)

    def code(context, builder, sig, args):  # type: ignore[no-untyped-def]
        x, at, first, last, index, at_index = args
        row = pointer(context, builder, sig.args[0], x, at)
        found = pointer(context, builder, sig.args[4], index, at_index)
        bytes16, words16, bits16 = (ir.VectorType(ir.IntType(bits), 16) for bits in (8, 32, 1))
        undefined = ir.Constant(ir.VectorType(_I32, 16), ir.Undefined)

        def declared(name: str, result: Any, *kinds: Any) -> Any:
            return cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, kinds), name)

        def splat(value: Any) -> Any:
            one = builder.insert_element(undefined, builder.trunc(value, _I32), _I32(0))
            return builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(_I32, 16), None))

        steps = ir.Constant(words16, list(range(16)))
        load = declared("llvm.masked.load.v16i8.p0", bytes16, bytes16.as_pointer(), _I32, bits16, bytes16)
        compress = declared("llvm.x86.avx512.mask.compress.v16i32", words16, words16, words16, bits16)
        store = declared("llvm.masked.store.v16i32.p0", ir.VoidType(), words16, words16.as_pointer(), _I32, bits16)
        population = declared("llvm.ctpop.i16", ir.IntType(16), ir.IntType(16))
        count = cgutils.alloca_once_value(builder, _I64(0))
        with cgutils.for_range_slice(builder, first, last, _I64(16)) as (j, _):
            here = builder.icmp_signed("<", steps, splat(builder.sub(last, j)))
            place = builder.bitcast(builder.gep(row, [j]), bytes16.as_pointer())
            pixels = builder.call(load, [place, _I32(1), here, ir.Constant(bytes16, [0] * 16)])
            active = builder.icmp_unsigned("!=", pixels, ir.Constant(bytes16, [0] * 16))
            columns = builder.call(compress, [builder.add(splat(j), steps), ir.Constant(words16, [0] * 16), active])
            many = builder.zext(builder.call(population, [builder.bitcast(active, ir.IntType(16))]), _I64)
            before = builder.load(count)
            target = builder.bitcast(builder.gep(found, [before]), words16.as_pointer())
            builder.call(store, [columns, target, _I32(4), builder.icmp_signed("<", steps, splat(many))])
            builder.store(builder.add(before, many), count)
        return builder.load(count)

    return signature, code


@intrinsic
def copy_rows(typing, vectors, a, at_a, lda, rows, lanes, out, at_out, ldo):  # type: ignore[no-untyped-def]
    """out[i, :] = a[i, :] for up to two vectors of columns, the last with `lanes`."""
    i8 = types.int64
    signature = types.void(i8, a, i8, i8, i8, i8, out, i8, i8)

    def code(context, builder, sig, args):  # type: ignore[no-untyped-def]
        v = _Vectors(context, builder, sig.args[1].dtype)
        vectors, a, at_a, lda, rows, lanes, out, at_out, ldo = args
        source = pointer(context, builder, sig.args[1], a, at_a)
        target = pointer(context, builder, sig.args[6], out, at_out)
        mask = v.mask(lanes)
        end = builder.append_basic_block("copy.end")
        blocks = [builder.append_basic_block(f"copy{n}") for n in range(1, TILE_VECTORS + 1)]
        switch = builder.switch(vectors, end)
        for n, block in enumerate(blocks, 1):
            switch.add_case(_I64(n), block)
            builder.position_at_end(block)
            with cgutils.for_range(builder, rows) as loop:
                from_row = builder.gep(source, [builder.mul(loop.index, lda)])
                to_row = builder.gep(target, [builder.mul(loop.index, ldo)])
                for j in range(n):
                    masked = mask if j == n - 1 else None
                    value = v.load(builder.gep(from_row, [_I64(j * v.width)]), masked)
                    v.store(value, builder.gep(to_row, [_I64(j * v.width)]), masked)
            builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    return signature, code


@intrinsic
def transpose_tile(typing, a, at_a, lda, out, at_out, ldo):  # type: ignore[no-untyped-def]
    """out[j, i] = a[i, j] for a square as wide as a vector, in registers: log₂(width) rounds of pairwise swaps."""
    i8 = types.int64
    signature = types.void(a, i8, i8, out, i8, i8)

    def code(context, builder, sig, args):  # type: ignore[no-untyped-def]
        v = _Vectors(context, builder, sig.args[0].dtype)
        a, at_a, lda, out, at_out, ldo = args
        source = pointer(context, builder, sig.args[0], a, at_a)
        target = pointer(context, builder, sig.args[3], out, at_out)
        rows = [v.load(builder.gep(source, [builder.mul(lda, _I64(i))])) for i in range(v.width)]
        step = 1
        while step < v.width:
            low = [c if not c & step else c - step + v.width for c in range(v.width)]
            high = [c + step if not c & step else c + v.width for c in range(v.width)]
            for i in range(v.width):
                if not i & step:
                    pair = rows[i], rows[i + step]
                    for place, picks in ((i, low), (i + step, high)):
                        rows[place] = builder.shuffle_vector(*pair, ir.Constant(ir.VectorType(_I32, v.width), picks))
            step *= 2
        for i, row in enumerate(rows):
            v.store(row, builder.gep(target, [builder.mul(ldo, _I64(i))]))
        return context.get_dummy_value()

    return signature, code


@intrinsic
def sum_range(typing, a, at, count):  # type: ignore[no-untyped-def]
    """Σ of `count` entries from `at` on, in float64: one sum a lane, the lanes then pairwise."""
    signature = types.float64(a, types.int64, types.int64)

    def code(context, builder, sig, args):  # type: ignore[no-untyped-def]
        v = _Vectors(context, builder, sig.args[0].dtype)
        a, at, count = args
        source = pointer(context, builder, sig.args[0], a, at)
        wide = ir.VectorType(ir.DoubleType(), v.width)
        total = cgutils.alloca_once(builder, wide)
        builder.store(ir.Constant(wide, [0.0] * v.width), total)

        def add(i: Any, mask: Any) -> None:
            value = v.load(builder.gep(source, [i]), mask)
            if v.bits == 32:
                value = builder.fpext(value, wide)
            builder.store(builder.fadd(builder.load(total), value), total)

        whole = builder.and_(count, _I64(-v.width))
        with cgutils.for_range_slice(builder, _I64(0), whole, _I64(v.width)) as (i, _):
            add(i, None)
        with builder.if_then(builder.icmp_signed("<", whole, count)):
            add(whole, v.mask(builder.sub(count, whole)))
        lanes, width = builder.load(total), v.width
        while width > 1:
            width //= 2
            halves = [
                builder.shuffle_vector(
                    lanes, lanes, ir.Constant(ir.VectorType(_I32, width), list(range(start, start + width)))
                )
                for start in (0, width)
            ]
            lanes = builder.fadd(*halves)
        return builder.extract_element(lanes, _I32(0))

    return signature, code


def _root(v: _Vectors, x: Any) -> Any:
    """√x; in float32 with AVX-512 from a 14-bit estimate of 1/√x and a Newton step, below 2 units in the last place.

    The divider is left to the division that follows. The estimate is kept off 0, whose own is infinite; of infinity the
    step is 0·∞, so it is chosen.
    """
    builder = v.builder
    if not (VECTOR_BYTES == 64 and v.bits == 32):
        return v.sqrt(x)
    floor = v.constant(float(np.finfo(np.float32).tiny))
    every = ir.Constant(ir.IntType(16), -1)
    above = builder.select(builder.fcmp_ordered("<", x, floor), floor, x)
    estimate = v.call("llvm.x86.avx512.rsqrt14.ps.512", v.type, above, v.zero, every)
    s = builder.fmul(x, estimate)
    near = v.fma(v.fma(builder.fneg(s), s, x), builder.fmul(estimate, v.constant(0.5)), s)
    return builder.select(builder.fcmp_ordered("==", x, v.constant(float("inf"))), x, near)


@intrinsic
def adam_range(typing, parameters, at, gradient, at_gradient, first, second, count, constants):  # type: ignore[no-untyped-def]
    """One Adam step on `count` entries from `at` on; constants: β₁, 1−β₁, β₂, 1−β₂, step size, 1/root correction, eps.

    Returns 0 if every new parameter and second moment is finite.
    """
    i8 = types.int64
    signature = types.int64(parameters, i8, gradient, i8, first, second, i8, constants)

    def code(context, builder, sig, args):  # type: ignore[no-untyped-def]
        v = _Vectors(context, builder, sig.args[0].dtype)
        parameters, at, gradient, at_gradient, first, second, count, constants = args
        pp = pointer(context, builder, sig.args[0], parameters, at)
        pg = pointer(context, builder, sig.args[2], gradient, at_gradient)
        pm = pointer(context, builder, sig.args[4], first, at)
        pv = pointer(context, builder, sig.args[5], second, at)
        pc = pointer(context, builder, sig.args[7], constants, _I64(0))
        beta1, rest1, beta2, rest2, step_size, inverse_root, eps = (
            v.splat(builder.load(builder.gep(pc, [_I64(i)]))) for i in range(7)
        )

        def update(i: Any, mask: Any, bad: Any) -> Any:
            places = [builder.gep(p, [i]) for p in (pp, pg, pm, pv)]
            theta, g, m, s = (v.load(place, mask) for place in places)
            m = v.fma(beta1, m, builder.fmul(rest1, g))
            s = v.fma(beta2, s, builder.fmul(rest2, builder.fmul(g, g)))
            change = builder.fdiv(builder.fmul(step_size, m), v.fma(_root(v, s), inverse_root, eps))
            theta = builder.fsub(theta, change)
            for value, place in ((theta, places[0]), (m, places[2]), (s, places[3])):
                v.store(value, place, mask)
            # x − x is 0 for what is finite and NaN, for good, for what is not. An infinite second moment would stop θ.
            return builder.fadd(bad, builder.fsub(builder.fsub(theta, theta), builder.fsub(s, s)))

        whole = builder.and_(count, _I64(-v.width))
        entry = builder.block
        loop, tail_check = builder.append_basic_block("full"), builder.append_basic_block("rest")
        tail, end = builder.append_basic_block("tail"), builder.append_basic_block("end")
        builder.cbranch(builder.icmp_signed(">", whole, _I64(0)), loop, tail_check)
        builder.position_at_end(loop)
        i, bad = builder.phi(_I64), builder.phi(v.type)
        i.add_incoming(_I64(0), entry)
        bad.add_incoming(v.zero, entry)
        bad_after = update(i, None, bad)
        following = builder.add(i, _I64(v.width))
        i.add_incoming(following, loop)
        bad.add_incoming(bad_after, loop)
        builder.cbranch(builder.icmp_signed("<", following, whole), loop, tail_check)
        builder.position_at_end(tail_check)
        total = builder.phi(v.type)
        total.add_incoming(v.zero, entry)
        total.add_incoming(bad_after, loop)
        builder.cbranch(builder.icmp_signed("<", whole, count), tail, end)
        builder.position_at_end(tail)
        mask = v.mask(builder.sub(count, whole))
        tail_bad = update(whole, mask, total)
        builder.branch(end)
        builder.position_at_end(end)
        result = builder.phi(v.type)
        result.add_incoming(total, tail_check)
        result.add_incoming(tail_bad, tail)
        strange = builder.zext(builder.fcmp_unordered("uno", result, result), ir.VectorType(_I64, v.width))
        return v.call(f"llvm.vector.reduce.add.v{v.width}i64", _I64, strange)

    return signature, code


if config.DISABLE_JIT:

    def tile(rows, columns, a, at_a, row_a, step_a, b, at_b, ldb, c, at_c, ldc, k, lanes, accumulate):  # type: ignore[no-untyped-def]
        width = VECTOR_BYTES // a.itemsize * (columns - 1) + lanes
        for i in range(rows):
            total = np.zeros(width, a.dtype)
            for j in range(k):
                total += a[at_a + i * row_a + j * step_a] * b[at_b + j * ldb : at_b + j * ldb + width]
            place = slice(at_c + i * ldc, at_c + i * ldc + width)
            c[place] = c[place] + total if accumulate else total

    def row_sum(columns, table, at_table, ld, index, at_index, count, out, at_out, lanes):  # type: ignore[no-untyped-def]
        width = VECTOR_BYTES // table.itemsize * (columns - 1) + lanes
        total = np.zeros(width, table.dtype)
        for row in index[at_index : at_index + count]:
            total += table[at_table + row * ld : at_table + row * ld + width]
        out[at_out : at_out + width] = total

    def compress_columns(x, at, first, last, index, at_index):  # type: ignore[no-untyped-def]
        found = first + np.flatnonzero(x[at + first : at + last])
        index[at_index : at_index + found.size] = found
        return found.size

    def copy_rows(vectors, a, at_a, lda, rows, lanes, out, at_out, ldo):  # type: ignore[no-untyped-def]
        width = VECTOR_BYTES // a.itemsize * (vectors - 1) + lanes
        for i in range(rows):
            out[at_out + i * ldo : at_out + i * ldo + width] = a[at_a + i * lda : at_a + i * lda + width]

    def transpose_tile(a, at_a, lda, out, at_out, ldo):  # type: ignore[no-untyped-def]
        width = VECTOR_BYTES // a.itemsize
        for i in range(width):
            for j in range(width):
                out[at_out + j * ldo + i] = a[at_a + i * lda + j]

    def sum_range(a, at, count):  # type: ignore[no-untyped-def]
        return float(a[at : at + count].sum(dtype=np.float64))

    def adam_range(parameters, at, gradient, at_gradient, first, second, count, constants):  # type: ignore[no-untyped-def]
        beta1, rest1, beta2, rest2, step_size, inverse_root, eps = constants[:7]
        here = slice(at, at + count)
        g = gradient[at_gradient : at_gradient + count]
        first[here] = beta1 * first[here] + rest1 * g
        second[here] = beta2 * second[here] + rest2 * (g * g)
        parameters[here] -= step_size * first[here] / (np.sqrt(second[here]) * inverse_root + eps)
        return int((~(np.isfinite(parameters[here]) & np.isfinite(second[here]))).sum())
