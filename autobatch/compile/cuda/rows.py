"""rows: kernels that bring rows together: reductions of the rows of a segment, scans, values added to rows of a pool.

Input: a node, or a result that is added to rows. Output: a `Kernel` with one thread for each number that is written,
or for each line of a scan, which goes through its summands in order: no two threads meet, and results are repeatable
bit by bit.

Where the rows of a table belong to the nodes of a launch, so do the indices, and divided by the rows of a node's table
they ascend: the summands of a row are between two positions found by bisection. Where all nodes share the table, and
where pairs belong to columns, the indices are sorted first. Cost: O(log indices + summands) a thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...base.types import size_of
from ...ir.graph import Graph
from .scalars import INT32, INT64, DType, affine, c_type, combined, identity
from .writer import Kernel, Writer


def write_segments(graph: Graph, i: int, places: Mapping[int, str], target: str, index: str, order: str) -> Kernel:
    """The kernel of a reduction of segments, written to the address `target`.

    `index` is the address of the indices, int64, `order` that of their places, smallest first; "" where the rows belong
    to nodes.
    """
    w = Writer(graph, places)
    node = graph.nodes[i]
    x, ids = node.inputs
    shape, dtype = node.type.shape, node.type.dtype
    n_indices = size_of(graph.nodes[ids].type.shape)
    numbers = w.pointer(index, INT64)
    with w.block(f"AB_THREADS AB_EACH(t, {w.extent(size_of(shape))})"):
        row, *rest = w.apart("t", shape)
        group = shape[0].factor if node.type.has_dim else 0
        if order:
            one, sought = row, f"{numbers}, {w.pointer(order, INT64)}, {w.extent(n_indices)}"
        else:
            one = w.index(f"ab_div({row}, {group})") if group != 1 else row
            sought = f"{numbers}, {w.extent(n_indices)}, {group}"
        first, end = (w.index(f"ab_first({sought}, {r})") for r in (one, f"{one} + 1"))
        w.add(f"{c_type(dtype)} total = {identity(node)};")
        with w.block(f"for (i64 s = {first}; s < {end}; ++s)"):
            place = w.load(w.pointer(order, INT64), "s", INT64) if order else "s"
            if not order and group != 1:
                w.add(f"if ({numbers}[s] != {row}) continue;")
            before = w.apart(place, graph.nodes[ids].type.shape)
            value = w.element(x, (*before, *rest))
            w.add(f"total = {combined(node, 'total', value)};")
        w.add(f"{w.pointer(target, dtype, True)}[t] = total;")
    return w.finish()


def write_scan(graph: Graph, i: int, places: Mapping[int, str], target: str) -> Kernel:
    """The kernel of a scan along an axis, or along the rows of each segment, written to the address `target`.

    The thread of the first element of a line goes through the line; those of the others have nothing to do.
    """
    w = Writer(graph, places)
    node = graph.nodes[i]
    x, *ids = node.inputs
    shape, dtype, reverse = node.type.shape, node.type.dtype, node.attrs[-1]
    axis = 0 if ids else node.attrs[0] + len(shape)
    step, first, extent = (-1, f"{w.extent(shape[axis])} - 1", "0") if reverse else (1, "0", w.extent(shape[axis]))
    ends = f"r >= {extent}" if reverse else f"r < {extent}"
    y = w.pointer(target, dtype, True)

    def segment(row: str) -> str:
        return w.element(ids[0], (w.index(row),))

    with w.block(f"AB_THREADS AB_EACH(t, {w.extent(size_of(shape))})"):
        where = w.apart("t", shape)
        at = where[axis]
        if ids:
            with w.block(f"if ({at} != {first})"):
                w.add(f"if ({segment(f'{at} - {step}')} == {segment(at)}) continue;")
        else:
            w.add(f"if ({at} != {first}) continue;")
        w.add(f"{c_type(dtype)} total = {identity(node)};")
        with w.block(f"for (i64 r = {at}; {ends}; r += {step})"):
            if ids:
                w.add(f"if ({segment('r')} != {segment(at)}) break;")
            inner = (*where[:axis], "r", *where[axis + 1 :])
            w.add(f"total = {combined(node, 'total', w.element(x, inner))};")
            w.add(f"{y}[{w.flat(inner, shape)}] = total;")
    return w.finish()


def write_add(o: int, rows: Any, width: int, dtype: DType, source: tuple[str, int, int], sorted_rows: bool) -> Kernel:
    """The kernel that adds the values of result `o`, rows × width, to rows of a pool.

    `source` is their address, the width of the rows they are part of, and the first column. With `sorted_rows` rows may
    be there several times: their places come sorted, in segments.
    """
    w = Writer(Graph(), {})
    address, total, offset = source
    values = w.pointer(address, dtype)
    pool, numbers = w.pointer(f"q{o}", dtype, True), w.pointer(f"w{o}", INT32)
    n = w.number(f"g{o}") if sorted_rows else w.extent(rows)
    with w.block(f"AB_THREADS AB_EACH(t, {n} * {width})"):
        w.add(f"const i64 i = ab_div(t, {width}), j = t - i * {width};")
        column = f"{offset} + j" if offset else "j"
        if sorted_rows:
            order, starts = w.pointer(f"o{o}", INT32), w.pointer(f"s{o}", INT32)
            w.add(f"const i64 first = {starts}[i], end = {starts}[i + 1];")
            w.add(f"const i64 at = {affine(f'(i64){numbers}[{order}[first]]', width, 'j')};")
            w.add(f"{c_type(dtype)} total = {pool}[at];")
            with w.block("for (i64 s = first; s < end; ++s)"):
                w.add(f"total += {values}[{affine(f'(i64){order}[s]', total, column)}];")
            w.add(f"{pool}[at] = total;")
        else:
            w.add(f"{pool}[{affine(f'(i64){numbers}[i]', width, 'j')}] += {values}[{affine('i', total, column)}];")
    return w.finish()
