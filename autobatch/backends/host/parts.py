"""Parts: how a compiled loop over n rows is cut among threads that take parts from a common counter.

    def loop(n, w, x, y, parts):
        n_done = 0
        first, last = take_part(parts, 0, n)
        while first < last:
            for i in range(first, last):
                for j in range(w):
                    y[i, j] = 2 * x[i, j]
            n_done += 1
            first, last = take_part(parts, n, n)
        return parts_done(parts, n_done)

`parts` is 0 where the loop runs alone: all rows are then one part. Otherwise it is the address of three integers:
the first row not taken yet, how many parts are done, and the rows of a part. Loops of other files keep this
layout in Numba's cache, which does not know when it changes. Called from plain Python, `take_part` and `parts_done` are
those of a loop that runs alone.

Bits do not depend on the parts: columns of a row are computed as they would be alone, and where the compiler may put
several rows or all columns of one row in a vector, parts are multiples of any vector it makes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import lower_builtin, type_callable

from .threads import is_help_likely, share

ALONE = 0
"""`parts` of a loop that runs on one thread."""

SHARED = 3 << 19
"""Numbers read, written and passed to functions like tanh from which a loop is shared among threads: about 100 µs."""

PART = 1 << 18
"""The same for one part, about."""

_VECTOR = 256
"""Rows or columns that vectors, several at a time, divide."""

_INDEX = ir.IntType(64)

Loop = Callable[..., Any]


def share_parts(loop: Loop, arguments: tuple[Any, ...], n: int, size: int = 1) -> None:
    """Run `loop(*arguments, parts)` on several threads, n rows in parts of `size`."""
    state = np.array((0, 0, size), np.int64)
    share(loop, (*arguments, state.__array_interface__["data"][0]), -(-n // size), state)


def share_counted(loop: Loop, arguments: tuple[Any, ...], counter: Any) -> None:
    """Run `loop(*arguments, parts)` on several threads, and only what `counter`, the three numbers, has not as taken;
    returns when all of the rows, whose number is the first argument, are done."""
    share(loop, (*arguments, counter.__array_interface__["data"][0]), -(-arguments[0] // int(counter[2])), counter)


def rows_of_a_part(n: int, w: int, touches: int) -> int:
    """Rows of a part of n rows, each of which reads, writes and passes to functions `touches` numbers; n where
    threads would not help. `w` is the width of the rows."""
    if n * touches < SHARED:
        return n
    rows = _part(w, touches)
    return rows if is_help_likely(-(-n // rows)) else n


def _part(w: int, touches: int) -> int:
    """Rows of a part."""
    rows = max(1, PART // touches)
    return -(-rows // _VECTOR) * _VECTOR if w == 1 else rows


def share_rows(loop: Loop, touches: int) -> Loop:
    """The loop, its rows shared among threads; a row reads, writes and passes to functions `touches` numbers."""

    def shared(n: int, w: int, *arguments: Any) -> None:
        rows = _part(w, touches)
        if is_help_likely(-(-n // rows)):
            share_parts(loop, (n, w, *arguments[:-1]), n, rows)
        else:
            loop(n, w, *arguments)

    return shared


def share_columns(loop: Loop, touches: int, is_row: Sequence[bool]) -> Loop:
    """The loop, called for one long row, its columns shared among threads; `touches` are those of a column.

    `is_row`: which arguments are such a row, with shape (1, w); the others are the same for all columns.
    """
    columns = -(-PART // (touches * _VECTOR)) * _VECTOR

    def shared(n: int, w: int, *arguments: Any) -> None:
        n_parts = w // columns
        if not is_help_likely(n_parts):
            loop(n, w, *arguments)
            return
        whole = n_parts * columns
        arrays = list(zip(arguments[:-1], is_row, strict=True))
        head = [x[:, :whole].reshape(n_parts, columns) if row else x for x, row in arrays]
        share_parts(loop, (n_parts, columns, *head), n_parts)
        if whole < w:
            loop(n, w - whole, *(x[:, whole:] if row else x for x, row in arrays), ALONE)

    return shared


def take_part(parts: int, otherwise: int, n: int) -> tuple[int, int]:
    """First row of a part not taken yet, and the row after its last, which is not greater if none is left.

    Alone: `otherwise` and n.
    """
    return otherwise, n


def parts_done(parts: int, n_done: int) -> int:
    """Count parts as done: how many are done by then, or -1 if it did none, or is alone."""
    return -1


@type_callable(take_part)
def _type_of_take(context: Any) -> Any:
    pair: Any = types.UniTuple
    return lambda parts, otherwise, n: pair(types.intp, 2)


@type_callable(parts_done)
def _type_of_done(context: Any) -> Any:
    return lambda parts, n_done: types.intp


def _indices(context: Any, builder: Any, signature: Any, arguments: Any) -> list[Any]:
    return [context.cast(builder, x, t, types.intp) for x, t in zip(arguments, signature.args, strict=True)]


def _at(builder: Any, parts: Any, k: int) -> Any:
    return builder.gep(builder.inttoptr(parts, _INDEX.as_pointer()), [_INDEX(k)])


_lower: Any = lower_builtin


@_lower(take_part, types.Integer, types.Integer, types.Integer)
def _take(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    parts, otherwise, n = _indices(context, builder, signature, arguments)
    before = builder.block
    with builder.if_then(builder.icmp_unsigned("!=", parts, _INDEX(ALONE))):
        size = builder.load(_at(builder, parts, 2))
        taken = builder.atomic_rmw("add", _at(builder, parts, 0), size, "seq_cst")
        end = builder.add(taken, size)
        last_taken = builder.select(builder.icmp_signed("<", end, n), end, n)
        inside = builder.block
    first, last = builder.phi(_INDEX), builder.phi(_INDEX)
    for phi, alone, shared in ((first, otherwise, taken), (last, n, last_taken)):
        phi.add_incoming(alone, before)
        phi.add_incoming(shared, inside)
    return context.make_tuple(builder, signature.return_type, (first, last))


@_lower(parts_done, types.Integer, types.Integer)
def _done(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    parts, n_done = _indices(context, builder, signature, arguments)
    before = builder.block
    did = builder.icmp_signed("!=", n_done, _INDEX(0))
    with builder.if_then(builder.and_(builder.icmp_unsigned("!=", parts, _INDEX(ALONE)), did)):
        total = builder.add(builder.atomic_rmw("add", _at(builder, parts, 1), n_done, "seq_cst"), n_done)
        inside = builder.block
    found = builder.phi(_INDEX)
    found.add_incoming(_INDEX(-1), before)
    found.add_incoming(total, inside)
    return found
