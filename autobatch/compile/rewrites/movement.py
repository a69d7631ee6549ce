"""movement: rewrites that let elementwise work fuse: slices move to the operands, parts put together become one concat.

Input and output: a batched `Graph`. Invariants: the results keep their order, types and values (within rounding: parts
are put together before the other terms of a sum are added). Cost: O(nodes) for each of the two passes, which are
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
from ...ops.declare import Op
from ...ops.elementwise import ADD, EQUAL, MUL, WHERE
from ...ops.index import ARANGE, SCATTER_ADD, TAKE
from ...ops.movement import BROADCAST, CONCAT, RESHAPE, SLICE, UNSLICE
from ...ops.reduce import SUM

Rule = Callable[["_Builder", int], int | None]


class _Builder:
    """The graph that is being read, the one being written, and how nodes of the first are numbered in the second."""

    def __init__(self, old: Graph) -> None:
        self.old = old
        self.new = Graph()
        self.number: dict[int, int] = {}
        self.uses: list[list[int]] = [[] for _ in old.nodes]
        live = old.live()
        for i, node in enumerate(old.nodes):
            for j in set(node.inputs) if live[i] else ():
                self.uses[j].append(i)
        self.results = set(old.outputs)

    def add(self, op: Op, inputs: tuple[int, ...], attrs: tuple[Any, ...], type: Any, level: int) -> int:
        return self.new.add(op, inputs, attrs, type, level)

    def apply(self, op: Op, *inputs: int, attrs: tuple[Any, ...] = (), level: int) -> int:
        """Add an op whose type follows from its operands."""
        assert op.infer is not None
        return self.add(op, inputs, attrs, op.infer([self.new.nodes[j].type for j in inputs], attrs), level)

    def only_slices(self, i: int) -> bool:
        """Whether all that reads a node are slices."""
        return i not in self.results and all(self.old.nodes[u].op is SLICE for u in self.uses[i])


def _rewrite(graph: Graph, rule: Rule) -> Graph:
    builder = _Builder(graph)
    for i, (node, live) in enumerate(zip(graph.nodes, graph.live(), strict=True)):
        if live:
            found = rule(builder, i)
            if found is None:
                inputs = tuple(builder.number[j] for j in node.inputs)
                found = builder.add(node.op, inputs, node.attrs, node.type, node.level)
            builder.number[i] = found
    builder.new.outputs = tuple(builder.number[i] for i in graph.outputs)
    return builder.new.pruned()


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


def _push_slice(b: _Builder, i: int) -> int | None:
    node = b.old.nodes[i]
    if node.op is not SLICE or node.attrs[3] != 1:
        return None
    return _sliced(b, node.inputs[0], node)


def _sliced(b: _Builder, source: int, node: Node) -> int | None:
    axis, start, length, _ = node.attrs
    x = b.old.nodes[source]
    if x.op is SLICE and x.attrs[0] == axis and x.attrs[3] == 1:
        return b.add(SLICE, (b.number[x.inputs[0]],), (axis, x.attrs[1] + start, length, 1), node.type, node.level)
    if x.op is CONCAT and x.attrs[0] == axis:
        position = 0
        for j in x.inputs:
            extent = b.old.nodes[j].type.shape[axis]
            if position <= start and start + length <= position + extent:
                if length == extent:
                    return b.number[j]
                return b.add(SLICE, (b.number[j],), (axis, start - position, length, 1), node.type, node.level)
            position += extent
    if (x.op.batch == "elementwise" or x.op is BROADCAST) and b.only_slices(source):
        inputs = []
        for j in x.inputs:
            operand = b.old.nodes[j]
            if -axis <= operand.type.ndim and operand.type.shape[axis] == x.type.shape[axis]:
                shape = list(operand.type.shape)
                shape[axis] = length
                type = tensor_type(operand.type.dtype, tuple(shape))
                inputs.append(b.add(SLICE, (b.number[j],), (axis, start, length, 1), type, operand.level))
            else:
                inputs.append(b.number[j])
        attrs = (node.type.shape,) if x.op is BROADCAST else x.attrs
        return b.add(x.op, tuple(inputs), attrs, node.type, node.level)
    return None


# Parts put together.


def _join_parts(b: _Builder, i: int) -> int | None:
    node = b.old.nodes[i]
    if node.op not in (ADD, UNSLICE):
        return None
    users = b.uses[i]
    user = b.old.nodes[users[0]] if len(users) == 1 and i not in b.results else None
    if user is not None and user.op is ADD and user.type is node.type:
        return None  # part of a longer sum, which is looked at as a whole
    leaves: list[int] = []
    waiting = [i]
    while waiting:
        j = waiting.pop()
        x = b.old.nodes[j]
        inner = j == i or (j not in b.results and len(b.uses[j]) == 1)
        same = len(set(x.inputs)) == 2 and all(b.old.nodes[k].type is node.type for k in x.inputs)
        if x.op is ADD and inner and same:
            waiting.extend(reversed(x.inputs))
        else:
            leaves.append(j)
    axes = [b.old.nodes[j].attrs[0] for j in leaves if b.old.nodes[j].op is UNSLICE]
    parts = [j for j in leaves if axes and _is_part(b.old.nodes[j], axes[0])]
    rest = [j for j in leaves if j not in parts]
    parts.sort(key=lambda j: b.old.nodes[j].attrs[1])
    end = 0
    for j in parts:
        if b.old.nodes[j].attrs[1] < end:
            return None
        end = b.old.nodes[j].attrs[1] + b.old.nodes[j].attrs[2]
    if not parts or (rest and len(parts) < 2):
        return None
    total = _joined(b, parts, node)
    for j in rest:
        total = b.add(ADD, (total, b.number[j]), (), node.type, node.level)
    return total


def _is_part(x: Node, axis: int) -> bool:
    return x.op is UNSLICE and x.attrs[0] == axis and x.attrs[3] == 1 and -axis < x.type.ndim


def _joined(b: _Builder, parts: list[int], node: Node) -> int:
    axis, *_, extent = b.old.nodes[parts[0]].attrs
    pieces: list[int] = []

    def zeros(length: int) -> None:
        if length:
            shape = list(node.type.shape)
            shape[axis] = length
            zero = b.add(CONST, (), (0.0,), tensor_type(node.type.dtype, ()), node.level)
            type = tensor_type(node.type.dtype, tuple(shape))
            pieces.append(b.add(BROADCAST, (zero,), (type.shape,), type, node.level))

    end = 0
    for j in parts:
        _, start, length, *_ = b.old.nodes[j].attrs
        zeros(start - end)
        pieces.append(b.number[b.old.nodes[j].inputs[0]])
        end = start + length
    zeros(extent - end)
    return pieces[0] if len(pieces) == 1 else b.add(CONCAT, tuple(pieces), (axis,), node.type, node.level)


# One number of each row.


def _by_column(b: _Builder, i: int) -> int | None:
    node = b.old.nodes[i]
    if node.op is TAKE and b.old.nodes[node.inputs[0]].op is RESHAPE:
        (x,) = b.old.nodes[node.inputs[0]].inputs
        column = _column(b, node.inputs[1], b.old.nodes[x].type.shape)
        is_passed = any(b.old.nodes[u].op.batch == "reduce" and b.old.nodes[u].attrs[0] == (-1,) for u in b.uses[x])
        if column is None or not is_passed:
            return None
        chosen = b.apply(WHERE, _mask(b, column, x), b.number[x], _zero(b, node), level=node.level)
        return b.apply(SUM, chosen, attrs=((-1,), False), level=node.level)
    if node.op is RESHAPE and b.old.nodes[node.inputs[0]].op is SCATTER_ADD:
        g, index = b.old.nodes[node.inputs[0]].inputs
        column = _column(b, index, node.type.shape)
        if column is None:
            return None
        row = b.apply(RESHAPE, b.number[g], attrs=((node.type.shape[0], 1),), level=node.level)
        return b.apply(WHERE, _mask(b, column, i), row, _zero(b, node), level=node.level)
    return None


def _column(b: _Builder, index: int, shape: tuple[Any, ...]) -> int | None:
    """The columns k where an index into all numbers of a matrix of this shape is k + the number of the row × its width.

    `batch` makes such an index where every node has a vector of its own.
    """
    add = b.old.nodes[index]
    if add.op is not ADD or len(shape) != 2 or not isinstance(shape[0], Dim) or add.type.shape != shape[:1]:
        return None
    k, times = add.inputs
    if b.old.nodes[times].op is not MUL:
        return None
    row, width = (b.old.nodes[j] for j in b.old.nodes[times].inputs)
    is_start = row.op is ARANGE and row.attrs == shape[:1] and width.op is CONST and width.attrs[0] == shape[1]
    return k if is_start and b.old.nodes[k].type.shape == shape[:1] and shape[1] > 1 else None


def _mask(b: _Builder, column: int, x: int) -> int:
    """Where the number of the column is the row's own, for a matrix like old node x."""
    shape, level = b.old.nodes[x].type.shape, b.old.nodes[x].level
    integer = b.old.nodes[column].type.dtype
    own = b.apply(RESHAPE, b.number[column], attrs=((shape[0], 1),), level=level)
    zero = b.add(CONST, (), (0,), tensor_type(integer, ()), level)
    return b.apply(EQUAL, own, b.apply(ARANGE, zero, attrs=(shape[1],), level=level), level=level)


def _zero(b: _Builder, node: Node) -> int:
    return b.add(CONST, (), (0.0,), tensor_type(node.type.dtype, ()), node.level)
