"""by_rows: the graph of a node whose operands are matrices → the same for one row of them.

Input: a single graph, and the "rows" operands whose leading axis is to go: all have the same leading length.
Output: a graph in which these operands, and all that is made of them row by row, are elements of list 1; None where
some op mixes rows otherwise than by a reduction or a scan of all of them.
Invariants: the new graph computes what the old one does, for its length; graphs of different lengths that become the
same are one program for any length. Cost: once per signature.

    %0 = rows(0)            f32[7, 4]         %0 = rows(0)            f32[4] each of list 1
    %1 = shared(0)          f32[4, 3]    →    %1 = shared(0)          f32[4, 3] shared
    %2 = product(%0, %1)    f32[7, 3]         …
    %3 = tanh(%2)           f32[7, 3]         %5 = tanh(%4)           f32[3] each of list 1
    %4 = sum(%3, (-2,), …)  f32[3]            %6 = list_sum(%5, 1)    f32[3]
"""

from __future__ import annotations

from collections.abc import Callable, Container

from ..base.types import Type, size_of, tensor_type
from ..ops.declare import Attrs, Op
from ..ops.index import TAKE
from ..ops.linalg import PRODUCT
from ..ops.movement import BROADCAST, RESHAPE, SLICE, UNSLICE
from .graph import CONST, NODE, Graph, Node

LEVEL = 1
"""Of the rows: elements of list 1."""


def by_rows(graph: Graph, operands: Container[int]) -> Graph | None:
    """The graph of one row of these operands; None where there is none."""
    rewriter = _ByRows(graph, operands)
    for i, live in enumerate(graph.live()):
        if live and not rewriter.copied(i):
            return None
    new = rewriter.new
    new.outputs = tuple(rewriter.number[i] for i in graph.outputs)
    return new.pruned()


class _ByRows:
    """number: of an old node the new one; leads: old nodes whose leading axis became a list."""

    def __init__(self, old: Graph, operands: Container[int]) -> None:
        self.nodes, self.origins, self.operands = old.nodes, old.origins, operands
        self.new = Graph()
        self.number: dict[int, int] = {}
        self.leads: set[int] = set()

    def copied(self, i: int) -> bool:
        """Write what node i becomes; whether it becomes anything."""
        node = self.nodes[i]
        if node.kind == "rows" and node.attrs[1] in self.operands:
            self.number[i] = self.new.input("rows", node.attrs[1], _row(node), LEVEL)
            self.leads.add(i)
            return True
        if node.is_input or node.op is CONST or not self.leads.intersection(node.inputs):
            if node.level > NODE:
                return False
            self.number[i] = self.new.copy(node, self.number)
        else:
            rule: Callable[[Node], int | None] | None = getattr(self, f"_{node.op.batch}", None)
            found = None if rule is None else rule(node)
            if found is None:
                return False
            self.number[i] = found
            if self.new.nodes[found].level == LEVEL:
                self.leads.add(i)
        if i in self.origins:
            self.new.origins[self.number[i]] = self.origins[i]
        return True

    def _add(self, op: Op, inputs: tuple[int, ...], attrs: Attrs = ()) -> int:
        nodes = [self.new.nodes[j] for j in inputs]
        assert op.infer is not None
        return self.new.add(op, inputs, attrs, op.infer([n.type for n in nodes], attrs), max(n.level for n in nodes))

    def _reshaped(self, j: int, shape: tuple[int, ...]) -> int:
        return j if self.new.nodes[j].type.shape == shape else self._add(RESHAPE, (j,), (shape,))

    # One rule for each way an op meets a leading axis; None: it mixes rows.

    def _elementwise(self, node: Node) -> int | None:
        inputs = []
        for j in node.inputs:
            type = self.nodes[j].type
            if j in self.leads:
                if type.ndim < node.type.ndim or type.shape[0] != node.type.shape[0]:
                    return None
                inputs.append(self.number[j])
            elif type.ndim < node.type.ndim:
                inputs.append(self.number[j])
            elif type.shape[0] == 1:
                inputs.append(self._reshaped(self.number[j], type.shape[1:]))
            else:
                return None
        return self._add(node.op, tuple(inputs), node.attrs)

    _held = _elementwise

    def _custom(self, node: Node) -> int | None:
        for x, gx in zip(node.inputs[::2], node.inputs[1::2], strict=True):
            if (x in self.leads) != (gx in self.leads):
                return None
        y, *rest = (self.number[j] for j in node.inputs)
        return self.new.add(node.op, (y, *rest), node.attrs, self.new.nodes[y].type, max(self.new.nodes[y].level, NODE))

    def _reduce(self, node: Node) -> int | None:
        x, (axes, keepdims) = self.nodes[node.inputs[0]].type, node.attrs
        others = tuple(axis for axis in axes if axis != -x.ndim)
        row = self.number[node.inputs[0]]
        if others:
            row = self._add(node.op, (row,), (others, keepdims))
        if len(others) == len(axes):
            return row
        if node.op.over_list is None:
            return None
        type = self.new.nodes[row].type
        whole = self.new.add(node.op.over_list, (row,), (LEVEL,), type, NODE)
        return self._reshaped(whole, (1, *type.shape)) if keepdims else whole

    def _scan(self, node: Node) -> int | None:
        row, (axis, *more) = self.number[node.inputs[0]], node.attrs
        if axis != -node.type.ndim or node.op.over_list is None:
            return self._add(node.op, (row,), node.attrs) if axis != -node.type.ndim else None
        return self.new.add(node.op.over_list, (row,), (LEVEL, *more), self.new.nodes[row].type, LEVEL)

    def _axes(self, node: Node) -> int | None:
        if node.op in (SLICE, UNSLICE) and node.attrs[0] == -node.type.ndim:
            return None
        return self._add(node.op, (self.number[node.inputs[0]],), node.attrs)

    def _concat(self, node: Node) -> int | None:
        if node.attrs[0] == -node.type.ndim or not self.leads.issuperset(node.inputs):
            return None
        return self._add(node.op, tuple(self.number[j] for j in node.inputs), node.attrs)

    def _reshape(self, node: Node) -> int | None:
        x, shape = self.nodes[node.inputs[0]].type.shape, node.type.shape
        is_by_row = shape[:1] == x[:1] and size_of(shape[1:]) == size_of(x[1:])
        return self._reshaped(self.number[node.inputs[0]], shape[1:]) if is_by_row else None

    def _transpose(self, node: Node) -> int | None:
        first, *rest = node.attrs[0]
        return None if first else self._add(node.op, (self.number[node.inputs[0]],), (tuple(a - 1 for a in rest),))

    def _broadcast(self, node: Node) -> int | None:
        x, shape = self.nodes[node.inputs[0]].type, node.type.shape
        if x.ndim < len(shape) or x.shape[0] != shape[0]:
            return None
        return self._add(BROADCAST, (self.number[node.inputs[0]],), (shape[1:],))

    def _product(self, node: Node) -> int | None:
        a, b = node.inputs
        if a not in self.leads or len(node.type.shape) > 3:
            return None
        row, ndims = self.number[a], (self.nodes[a].type.ndim, self.nodes[b].type.ndim)
        if b in self.leads:
            return self._add(PRODUCT, (row, self.number[b])) if ndims == (3, 3) else None
        if ndims == (3, 2):
            return self._add(PRODUCT, (row, self.number[b]))
        if ndims != (2, 2):
            return None
        y = self._add(PRODUCT, (self._reshaped(row, (1, *self.new.nodes[row].type.shape)), self.number[b]))
        return self._reshaped(y, node.type.shape[1:])

    def _take(self, node: Node) -> int | None:
        x, index = node.inputs
        return None if x in self.leads else self._add(TAKE, (self.number[x], self.number[index]))


def _row(node: Node) -> Type:
    return tensor_type(node.type.dtype, node.type.shape[1:])
