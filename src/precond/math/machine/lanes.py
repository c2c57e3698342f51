"""A few adjacent numbers as one vector of the processor, for loops that numba's compiler does not vectorize by itself.

Vectors that lie side by side (entry ``i`` of all of them, then entry ``i + 1``) share each entry of a matrix: one
multiply-add serves eight of them. What is defined here is called from compiled code, on flat arrays, and checks no
bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

WIDEST = 8
"""Numbers that are taken at once, where there are as many. (Products and sweeps take 16, in two vectors.)"""

_index, _place = ir.IntType(64), types.uint64
_loose = ("contract", "nsz")


def _product(width: int) -> Any:
    @intrinsic
    def product(typing, data, indices, start, end, x, mask, count, lane, out, at):
        def code(context, builder, signature, arguments):
            data, indices, start, end, x, mask, count, lane, out, at = _bare(context, builder, signature, arguments)
            kind, size = _lanes(context, signature.args[4], width)
            begin = ir.Constant(kind, [0.0] * width)
            total = _row(builder, (data, indices, start, end), (x, mask, count, lane), begin, builder.fadd, size)
            builder.store(total, _vector(builder, out, at, kind), align=size)
            return context.get_dummy_value()

        return types.void(data, indices, _place, _place, x, _place, _place, _place, out, _place), code

    return product


def _solved(width: int) -> Any:
    @intrinsic
    def solved(typing, data, indices, start, end, x, count, lane, at, first, scale, factor, beside):
        def code(context, builder, signature, arguments):
            data, indices, start, end, x, count, lane, at, first, scale, factor, beside = _bare(
                context, builder, signature, arguments
            )
            kind, size = _lanes(context, signature.args[4], width)

            def scaled(number: Any, base: Any, at: Any) -> Any:
                vector = builder.load(_vector(builder, base, at, kind), align=size)
                return builder.fmul(_spread(builder, number, kind), vector, flags=_loose)

            begin = builder.fsub(scaled(scale, first, at), scaled(factor, x, beside), flags=_loose)
            vectors = x, ir.Constant(_index, -1), count, lane
            total = _row(builder, (data, indices, start, end), vectors, begin, builder.fsub, size)
            builder.store(total, _vector(builder, x, at, kind), align=size)
            return context.get_dummy_value()

        number = x.dtype
        places = (x, _place, _place, _place, first, number, number, _place)
        return types.void(data, indices, _place, _place, *places), code

    return solved


@intrinsic
def transpose(typing, x, at, stride, out, to, step):
    """Write a block of 8 by 8 numbers, rows ``stride`` apart from ``x[at]`` on, to columns of rows ``step`` apart."""

    def code(context, builder, signature, arguments):
        x, at, stride, out, to, step = _bare(context, builder, signature, arguments)
        kind, size = _lanes(context, signature.args[0], WIDEST)

        def row(base: Any, first: Any, apart: Any, k: int) -> Any:
            return _vector(builder, base, builder.add(first, builder.mul(apart, ir.Constant(_index, k))), kind)

        rows = [builder.load(row(x, at, stride, k), align=size) for k in range(WIDEST)]
        for half in (4, 2, 1):  # swap the off-diagonal quarters of blocks, then of their quarters
            low = [q if not q & half else q - half + WIDEST for q in range(WIDEST)]
            high = [q + half if not q & half else q + WIDEST for q in range(WIDEST)]
            for k in range(WIDEST):
                if not k & half:
                    pair = rows[k], rows[k | half]
                    rows[k], rows[k | half] = (builder.shuffle_vector(*pair, _order(order)) for order in (low, high))
        for k in range(WIDEST):
            builder.store(rows[k], row(out, to, step, k), align=size)
        return context.get_dummy_value()

    return types.void(x, _place, _place, out, _place, _place), code


@intrinsic
def add_block(typing, x, at, stride, step, y, first, after, steps, out, to, apart):
    """Add ``sum_t x[at + r stride + t step] y[first + t after:]``, over ``t < steps``, to ``out[to + r apart:]``.

    For ``r`` from 0 to 7, 8 numbers each: a block of a matrix product that stays in registers.
    """

    def code(context, builder, signature, arguments):
        x, at, stride, step, y, first, after, steps, out, to, apart = _bare(context, builder, signature, arguments)
        kind, size = _lanes(context, signature.args[0], WIDEST)

        def place(start: Any, k: int, apart: Any) -> Any:
            return builder.add(start, builder.mul(apart, ir.Constant(_index, k)))

        targets = [_vector(builder, out, place(to, r, apart), kind) for r in range(WIDEST)]
        begin = [builder.load(target, align=size) for target in targets]
        entry = builder.block
        loop, done = builder.append_basic_block("steps"), builder.append_basic_block("done")
        builder.branch(loop)
        builder.position_at_end(loop)
        t, here, there = (builder.phi(_index) for _ in range(3))
        totals = [builder.phi(kind) for _ in range(WIDEST)]
        vector = builder.load(_vector(builder, y, there, kind), align=size)
        numbers = [builder.load(builder.gep(x, [place(here, r, stride)])) for r in range(WIDEST)]
        more = [
            builder.fadd(total, builder.fmul(_spread(builder, number, kind), vector, flags=_loose), flags=_loose)
            for total, number in zip(totals, numbers, strict=True)
        ]
        following = builder.add(t, ir.Constant(_index, 1))
        later = [following, builder.add(here, step), builder.add(there, after), *more]
        starts = [ir.Constant(_index, 0), at, first, *begin]
        for phi, start, moved in zip((t, here, there, *totals), starts, later, strict=True):
            phi.add_incoming(start, entry)
            phi.add_incoming(moved, loop)
        builder.cbranch(builder.icmp_unsigned("<", following, steps), loop, done)
        builder.position_at_end(done)
        for target, total in zip(targets, more, strict=True):
            builder.store(total, target, align=size)
        return context.get_dummy_value()

    places = (_place, _place, _place, y, _place, _place, _place, out, _place, _place)
    return types.void(x, *places), code


product16, product8, product4, product2, product1 = (_product(width) for width in (16, 8, 4, 2, 1))
"""``(data, indices, start, end, x, mask, count, lane, out, at)``: write ``sum_t data[t] x[(indices[t] & mask) count +
lane:]``, over ``start <= t < end``, to ``out[at:]``, as many numbers as the name says."""

solved16, solved8, solved4, solved2, solved1 = (_solved(width) for width in (16, 8, 4, 2, 1))
"""``(data, indices, start, end, x, count, lane, at, first, scale, factor, beside)``: write ``scale first[at:] - factor
x[beside:] - sum_t data[t] x[indices[t] count + lane:]`` to ``x[at:]``, as many numbers as the name says."""


def _row(
    builder: Any, entries: tuple[Any, ...], vectors: tuple[Any, ...], begin: Any, add: Callable[..., Any], size: int
) -> Any:
    """Add the entries of a row, each times a vector, to ``begin``; returns the sum."""
    data, indices, start, end = entries
    x, mask, count, lane = vectors
    entry = builder.block
    loop, done = builder.append_basic_block("entries"), builder.append_basic_block("done")
    builder.cbranch(builder.icmp_unsigned("<", start, end), loop, done)
    builder.position_at_end(loop)
    t, total = builder.phi(_index), builder.phi(begin.type)
    column = builder.load(builder.gep(indices, [t]))
    if column.type.width < _index.width:
        column = builder.zext(column, _index)
    place = builder.add(builder.mul(builder.and_(column, mask), count), lane)
    number = _spread(builder, builder.load(builder.gep(data, [t])), begin.type)
    vector = builder.load(_vector(builder, x, place, begin.type), align=size)
    more = add(total, builder.fmul(number, vector, flags=_loose), flags=_loose)
    following = builder.add(t, ir.Constant(_index, 1))
    for phi, first, later in ((t, start, following), (total, begin, more)):
        phi.add_incoming(first, entry)
        phi.add_incoming(later, loop)
    builder.cbranch(builder.icmp_unsigned("<", following, end), loop, done)
    builder.position_at_end(done)
    result = builder.phi(begin.type)
    result.add_incoming(begin, entry)
    result.add_incoming(more, loop)
    return result


def _bare(context: Any, builder: Any, signature: Any, arguments: Any) -> list[Any]:
    """Return arguments, arrays as pointers to their first element."""
    return [
        make_array(kind)(context, builder, value).data if isinstance(kind, types.Array) else value
        for kind, value in zip(signature.args, arguments, strict=True)
    ]


def _lanes(context: Any, array: Any, width: int) -> tuple[Any, int]:
    """Return the type of a vector of numbers as an array holds them, and the bytes of one number."""
    number = context.get_value_type(array.dtype)
    return ir.VectorType(number, width), context.get_abi_sizeof(number)


def _vector(builder: Any, base: Any, at: Any, kind: Any) -> Any:
    """Return a pointer to the vector that begins at an element of an array."""
    return builder.bitcast(builder.gep(base, [at]), kind.as_pointer())


def _spread(builder: Any, number: Any, kind: Any) -> Any:
    """Return a vector of equal numbers."""
    nothing = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(nothing, number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, nothing, _order([0] * kind.count))


def _order(places: list[int]) -> Any:
    """Return what a shuffle takes."""
    return ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places)
