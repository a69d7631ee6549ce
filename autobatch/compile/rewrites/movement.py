"""movement: rewrites that let elementwise work fuse: slices move to the operands, sums of padded parts become one
concat.

Input and output: a batched `Graph`. Invariants: the results keep their order, types and values (within rounding: parts
are concatenated before the other terms of a sum are added). Cost: O(nodes) for each of the two passes, which are
repeated until nothing changes.

    slice(a + b)                                →  slice(a) + slice(b)       where all uses of a + b are slices
    slice(concat(a, b))                         →  a                          where the slice is one part
    unslice(a, 0..2) + unslice(b, 2..4)         →  concat(a, b)              gaps become zeros

With `reductions`, where loops reduce rows, a number of each row is found by its column, without an array between:

    x[i, k[i]]                                  →  sum over j of (x[i, j] where j == k[i], else 0)
                                                                              where all of x is passed over anyway
    zeros with g[i] added at [i, k[i]]          →  g[i] where j == k[i], else 0
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...base.types import Dim, tensor_type
from ...ir.graph import CONST, Graph, Node
from ...ir.rewriter import Rewriter
from ...ops.elementwise import ADD, EQUAL, MUL, WHERE
from ...ops.index import ARANGE, SCATTER_ADD, TAKE
from ...ops.movement import BROADCAST, CONCAT, RESHAPE, SLICE, UNSLICE, with_extent
from ...ops.reduce import SUM


def _rewrite(graph: Graph, rule: Callable[[Rewriter, int], int | None]) -> Graph:
    rewriter = Rewriter(graph)
    return rewriter.run(lambda i: rule(rewriter, i))


def rewrite_movement(graph: Graph, reductions: bool = False) -> Graph:
    """Apply the rewrites of this file; with `reductions` those, too, that pay only where loops reduce rows."""
    if reductions:
        graph = _rewrite(graph, _by_column)
    for _ in range(8):
        new = _rewrite(_rewrite(graph, _join_parts), _push_slice)
        if len(new.nodes) == len(graph.nodes) and new.key() == graph.key():
            break
        graph = new
    return new


# Slices.


def _push_slice(b: Rewriter, i: int) -> int | None:
    node = b.nodes[i]
    if node.op is not SLICE or node.attrs[3] != 1:
        return None
    (source,), (axis, start, length, _) = node.inputs, node.attrs
    x = b.nodes[source]
    if x.op is SLICE and x.attrs[0] == axis and x.attrs[3] == 1:
        return b.apply(SLICE, b.number[x.inputs[0]], attrs=(axis, x.attrs[1] + start, length, 1), level=node.level)
    if x.op is CONCAT and x.attrs[0] == axis:
        position = 0
        for j in x.inputs:
            extent = b.nodes[j].type.shape[axis]
            if position <= start and start + length <= position + extent:
                if length == extent:
                    return b.number[j]
                return b.apply(SLICE, b.number[j], attrs=(axis, start - position, length, 1), level=node.level)
            position += extent
    only_slices = source not in b.results and all(b.nodes[u].op is SLICE for u in b.uses[source])
    if (x.op.batch == "elementwise" or x.op is BROADCAST) and only_slices:
        inputs = []
        for j in x.inputs:
            operand = b.nodes[j]
            if -axis <= operand.type.ndim and operand.type.shape[axis] == x.type.shape[axis]:
                inputs.append(b.apply(SLICE, b.number[j], attrs=(axis, start, length, 1), level=operand.level))
            else:
                inputs.append(b.number[j])
        attrs = (node.type.shape,) if x.op is BROADCAST else x.attrs
        return b.new.add(x.op, tuple(inputs), attrs, node.type, node.level)
    return None


# Parts of a concat.


def _join_parts(b: Rewriter, i: int) -> int | None:
    node = b.nodes[i]
    if node.op not in (ADD, UNSLICE):
        return None
    users = [b.nodes[u] for u in set(b.uses[i])]
    if len(users) == 1 and i not in b.results and users[0].op is ADD and users[0].type is node.type:
        return None  # part of a longer sum, which is rewritten as a whole
    leaves: list[int] = []
    waiting = [i]
    while waiting:
        j = waiting.pop()
        x = b.nodes[j]
        inner = j == i or (j not in b.results and len(set(b.uses[j])) == 1)
        same = len(set(x.inputs)) == 2 and all(b.nodes[k].type is node.type for k in x.inputs)
        if x.op is ADD and inner and same:
            waiting.extend(reversed(x.inputs))
        else:
            leaves.append(j)
    axes = [b.nodes[j].attrs[0] for j in leaves if b.nodes[j].op is UNSLICE]
    parts = [j for j in leaves if axes and _is_part(b.nodes[j], axes[0])]
    rest = [j for j in leaves if j not in parts]
    parts.sort(key=lambda j: b.nodes[j].attrs[1])
    end = 0
    for j in parts:
        if b.nodes[j].attrs[1] < end:
            return None
        end = b.nodes[j].attrs[1] + b.nodes[j].attrs[2]
    if not parts or (rest and len(parts) < 2):
        return None
    total = _joined(b, parts, node)
    for j in rest:
        total = b.apply(ADD, total, b.number[j], level=node.level)
    return total


def _is_part(x: Node, axis: int) -> bool:
    return x.op is UNSLICE and x.attrs[0] == axis and x.attrs[3] == 1 and -axis < x.type.ndim


def _joined(b: Rewriter, parts: list[int], node: Node) -> int:
    axis, *_, extent = b.nodes[parts[0]].attrs
    pieces: list[int] = []

    def zeros(length: int) -> None:
        if length:
            shape = with_extent(node.type.shape, axis, length)
            pieces.append(b.apply(BROADCAST, _zero(b, node), attrs=(shape,), level=node.level))

    end = 0
    for j in parts:
        _, start, length, *_ = b.nodes[j].attrs
        zeros(start - end)
        pieces.append(b.number[b.nodes[j].inputs[0]])
        end = start + length
    zeros(extent - end)
    return pieces[0] if len(pieces) == 1 else b.apply(CONCAT, *pieces, attrs=(axis,), level=node.level)


# One number of each row.


def _by_column(b: Rewriter, i: int) -> int | None:
    node = b.nodes[i]
    if node.op is TAKE and b.nodes[node.inputs[0]].op is RESHAPE:
        (x,) = b.nodes[node.inputs[0]].inputs
        column = _column(b, node.inputs[1], b.nodes[x].type.shape)
        is_passed = any(b.nodes[u].op.batch == "reduce" and b.nodes[u].attrs[0] == (-1,) for u in b.uses[x])
        if column is None or not is_passed:
            return None
        chosen = b.apply(WHERE, _mask(b, column, x), b.number[x], _zero(b, node), level=node.level)
        return b.apply(SUM, chosen, attrs=((-1,), False), level=node.level)
    if node.op is RESHAPE and b.nodes[node.inputs[0]].op is SCATTER_ADD:
        g, index = b.nodes[node.inputs[0]].inputs
        column = _column(b, index, node.type.shape)
        if column is None:
            return None
        row = b.apply(RESHAPE, b.number[g], attrs=((node.type.shape[0], 1),), level=node.level)
        return b.apply(WHERE, _mask(b, column, i), row, _zero(b, node), level=node.level)
    return None


def _column(b: Rewriter, index: int, shape: tuple[Any, ...]) -> int | None:
    """The columns k where an index into all numbers of a matrix of this shape is k + the number of the row × its width.

    `batch` makes such an index where every node has a vector of its own.
    """
    add = b.nodes[index]
    if add.op is not ADD or len(shape) != 2 or not isinstance(shape[0], Dim) or add.type.shape != shape[:1]:
        return None
    k, times = add.inputs
    if b.nodes[times].op is not MUL:
        return None
    row, width = (b.nodes[j] for j in b.nodes[times].inputs)
    is_start = row.op is ARANGE and row.attrs == shape[:1] and width.op is CONST and width.attrs[0] == shape[1]
    return k if is_start and b.nodes[k].type.shape == shape[:1] and shape[1] > 1 else None


def _mask(b: Rewriter, column: int, x: int) -> int:
    """Where the number of the column is the row's own, for a matrix like old node x."""
    shape, level = b.nodes[x].type.shape, b.nodes[x].level
    integer = b.nodes[column].type.dtype
    own = b.apply(RESHAPE, b.number[column], attrs=((shape[0], 1),), level=level)
    zero = b.new.add(CONST, (), (0,), tensor_type(integer, ()), level)
    return b.apply(EQUAL, own, b.apply(ARANGE, zero, attrs=(shape[1],), level=level), level=level)


def _zero(b: Rewriter, node: Node) -> int:
    return b.new.add(CONST, (), (0.0,), tensor_type(node.type.dtype, ()), node.level)
