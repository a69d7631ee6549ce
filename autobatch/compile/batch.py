"""batch: the graph of one example → the graph of a launch.

Input: a single graph. Output: a batched graph in which every value that differs from node to node leads with
`Dim(0)`, and every value per element of list k with `Dim(k)`; values that are the same for all nodes stay as they are.
Invariants: only primitives come out; ops keep their attributes, since axes are counted from the end.
Cost: once per signature.

    %0 = rows(0)             f32[4]             %0 = rows(0)             f32[m, 4]
    %1 = shared(0)           f32[3, 4]    →     %1 = shared(0)           f32[3, 4]
    %2 = reshape(%0, (1,4))  f32[1, 4]          …
    %3 = product(%2, …)      f32[1, 3]          %5 = product(%0, %4)     f32[m, 3]
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..base.errors import CompilerBug
from ..base.types import Dim, tensor_type
from ..ir.graph import CONST, INPUT, NODE, Graph, Node
from ..ir.trace import Builder
from ..ir.tracers import Tracer
from ..ops.attention import result_side, sides
from ..ops.declare import apply
from ..ops.index import ARANGE, SCATTER_ADD, TAKE
from ..ops.linalg import PRODUCT
from ..ops.movement import broadcast_to, reshape, transpose
from ..ops.pairs import COLUMNS, OPERANDS, PAIRS, ROWS
from ..ops.reduce import LIST_SUM

INT64 = np.dtype(np.int64)


@dataclass(slots=True)
class _Value:
    """A value of the batched graph and its lead: None where it is the same for all nodes, else the `Dim`'s index.

    scattered: of rows scattered to a table the rows, their places and the length of the table
    """

    tracer: Any
    lead: int | None
    scattered: tuple[_Value, _Value, int] | None = None

    @property
    def shape(self) -> tuple[Any, ...]:
        """The shape for one node or element."""
        return self.tracer.shape if self.lead is None else self.tracer.shape[1:]


class _Batcher:
    def __init__(self) -> None:
        self.builder = Builder()

    def numbers(self, k: int) -> Tracer:
        """For each element of list k, or for each node, the number of its node."""
        if k == 0:
            return self.builder.record(ARANGE, (self.builder.constant(0, INT64),), (Dim(0),))
        return self.builder.input("segments", k, tensor_type(INT64, (Dim(k),)))

    def owners(self, k: int) -> Tracer:
        """For each pair the number of its row, or of its column, among those of all nodes."""
        return self.builder.input("owners", k, tensor_type(INT64, (Dim(PAIRS),)))

    def led(self, x: _Value, lead: int) -> Any:
        """The value with a leading axis of this index."""
        if x.lead == lead:
            return x.tracer
        if x.lead is None:
            return broadcast_to(x.tracer, (Dim(lead), *x.shape))
        if x.lead != 0 and lead != PAIRS:
            raise CompilerBug(f"a value of list {x.lead} meets one of list {lead}")
        return apply(TAKE, (x.tracer, self.owners(x.lead) if x.lead else self.numbers(lead)))

    def input(self, node: Node) -> _Value:
        kind, k = node.attrs
        if kind == "shared":
            return _Value(self.builder.input(kind, k, node.type), None)
        lead = node.level
        return _Value(self.builder.input(kind, k, tensor_type(node.type.dtype, (Dim(lead), *node.type.shape))), lead)

    # One rule for each way an op meets a leading axis. `lead` is the largest lead of the operands.

    def elementwise(self, node: Node, xs: list[_Value], lead: int) -> _Value:
        return _Value(self.builder.record(node.op, self._aligned(xs, lead), node.attrs), lead)

    def _aligned(self, xs: list[_Value], lead: int) -> tuple[Any, ...]:
        """Operands that broadcast as those of one node do: with a leading axis they have one rank."""
        ndim = max(len(x.shape) for x in xs)
        aligned = []
        for x in xs:
            y = x.tracer if x.lead is None else self.led(x, lead)
            if x.lead is not None and len(x.shape) < ndim:
                y = reshape(y, (Dim(lead), *(1,) * (ndim - len(x.shape)), *x.shape))
            aligned.append(y)
        return tuple(aligned)

    def axes(self, node: Node, xs: list[_Value], lead: int) -> _Value:
        return _Value(self.builder.record(node.op, tuple(self.led(x, lead) for x in xs), node.attrs), lead)

    reduce = concat = random = scan = whole = held = axes

    def custom(self, node: Node, xs: list[_Value], lead: int) -> _Value:
        """A value with what its derivative is; the cotangent of an operand lies as that does."""
        y, g, *pairs = xs
        own = y.lead or 0
        operands = [self.led(y, own), self.led(g, own)]
        for x, gx in zip(pairs[::2], pairs[1::2], strict=True):
            operands += [x.tracer, self._cotangent(x, gx, own)]
        return _Value(self.builder.record(node.op, tuple(operands), node.attrs), own)

    def _cotangent(self, x: _Value, gx: _Value, own: int) -> Any:
        if x.lead is None:
            return self.led(gx, own if gx.lead is None else gx.lead)  # summed where it is added to others
        if gx.lead is not None and gx.lead > x.lead:
            k: Any = (gx.lead, x.lead) if x.lead else gx.lead
            gx = self.list(Node(LIST_SUM, (), (k,), gx.tracer._type), [gx], gx.lead)
        return self.led(gx, x.lead)

    def reshape(self, node: Node, xs: list[_Value], lead: int) -> _Value:
        return _Value(reshape(xs[0].tracer, (Dim(lead), *node.attrs[0])), lead)

    def transpose(self, node: Node, xs: list[_Value], lead: int) -> _Value:
        return _Value(transpose(xs[0].tracer, (0, *(axis + 1 for axis in node.attrs[0]))), lead)

    def broadcast(self, node: Node, xs: list[_Value], lead: int) -> _Value:
        target = node.attrs[0]
        ones = (1,) * (len(target) - len(xs[0].shape))
        return _Value(broadcast_to(reshape(xs[0].tracer, (Dim(lead), *ones, *xs[0].shape)), (Dim(lead), *target)), lead)

    def arange(self, node: Node, xs: list[_Value], lead: int) -> _Value:
        zero = self.builder.constant(0, INT64)
        return _Value(self.builder.record(ARANGE, (zero,), node.attrs), None)

    def product(self, node: Node, xs: list[_Value], lead: int) -> _Value:
        a, b = xs
        rows, cols = a.shape[-2], b.shape[-1]
        if b.lead is None and len(b.shape) == 2:
            flat = reshape(self.led(a, lead), (Dim(lead) * math.prod(a.shape[:-1]), a.shape[-1]))
            y = apply(PRODUCT, (flat, b.tracer))
            return _Value(reshape(y, (Dim(lead), *a.shape[:-1], cols)), lead)
        if a.lead is None and len(a.shape) == 2 and len(b.shape) == 2:
            if cols != 1:  # a matmul per node: a single one would have to transpose its operand and its result
                return _Value(apply(PRODUCT, (a.tracer, self.led(b, lead))), lead)
            flipped = reshape(self.led(b, lead), (Dim(lead), b.shape[0]))
            return _Value(reshape(apply(PRODUCT, (flipped, transpose(a.tracer))), (Dim(lead), rows, 1)), lead)
        return _Value(apply(PRODUCT, self._aligned(xs, lead)), lead)

    def take(self, node: Node, xs: list[_Value], lead: int) -> _Value:
        x, i = xs
        if x.lead is None:
            return _Value(apply(TAKE, (x.tracer, self.led(i, lead))), lead)
        n = x.shape[0]
        index = self._flat_index(x.lead, i, lead, n)
        flat = reshape(x.tracer, (Dim(x.lead) * n, *x.shape[1:]))
        return _Value(apply(TAKE, (flat, index)), lead)

    def _flat_index(self, table: int, i: _Value, lead: int, n: int) -> Any:
        """Index into rows of all nodes' tables, concatenated."""
        if table == lead:
            number = self.builder.record(ARANGE, (self.builder.constant(0, INT64),), (Dim(lead),))
        elif table == 0:
            number = self.numbers(lead)
        else:
            raise CompilerBug(f"a table of list {table} is indexed per element of list {lead}")
        first = reshape(number * n, (Dim(lead), *(1,) * len(i.shape)))
        return self.led(i, lead) + first

    def scatter(self, node: Node, xs: list[_Value], lead: int) -> _Value:
        g, i = xs
        n = node.attrs[0]
        index = self._flat_index(lead, i, lead, n)
        flat = apply(SCATTER_ADD, (self.led(g, lead), index), (Dim(lead) * n,))
        return _Value(reshape(flat, (Dim(lead), n, *flat.shape[1:])), lead, (g, i, n))

    def segments(self, node: Node, xs: list[_Value], lead: int) -> _Value:
        lists, *rest = node.attrs
        operands = [self.led(x, lists[side]) for x, side in zip(xs, sides(node.attrs), strict=True)]
        numbers = [self.numbers(k) for k in lists]
        return _Value(
            self.builder.record(node.op, (*operands, *numbers), (None, *rest)), lists[result_side(node.attrs)]
        )

    def between(self, node: Node, xs: list[_Value], lead: int) -> _Value:
        """Rows of one list by their numbers, which count from the first row of their node."""
        x, index = xs
        (made,) = node.attrs
        firsts = self.builder.input("firsts", COLUMNS, tensor_type(INT64, (Dim(COLUMNS),)))
        places = self.led(index, COLUMNS) + firsts
        if made == COLUMNS:
            return _Value(apply(TAKE, (self.led(x, ROWS), places)), COLUMNS)
        assert node.op.over_segments is not None
        return _Value(apply(node.op.over_segments, (self.led(x, COLUMNS), places), (Dim(ROWS),)), ROWS)

    def batched(self, node: Node, xs: list[_Value], lead: int) -> _Value:
        """A reduction of rows by their numbers, of which each node has the same number of segments."""
        x, index = xs
        (n,) = node.attrs
        count, *rest = x.shape
        rows = reshape(self.led(x, lead), (Dim(lead) * count, *rest))
        places = reshape(self._flat_index(lead, index, lead, n), (Dim(lead) * count,))
        return _Value(reshape(apply(node.op, (rows, places), (Dim(lead) * n,)), (Dim(lead), n, *rest)), lead)

    def pairs(self, node: Node, xs: list[_Value], lead: int) -> _Value:
        made = node.attrs[1]
        operands = [self.led(x, k) for x, k in zip(xs, OPERANDS[made], strict=True)]
        starts = self.builder.input("starts", ROWS, tensor_type(INT64, (Dim(ROWS),)))
        counts = tuple(map(Dim, (ROWS, COLUMNS, PAIRS)))
        nodes = (self.numbers(ROWS), self.numbers(COLUMNS), starts)
        return _Value(self.builder.record(node.op, (*operands, *nodes), (counts, made)), made)

    def list(self, node: Node, xs: list[_Value], lead: int) -> _Value:
        k, *more = node.attrs
        if node.op is LIST_SUM and xs[0].scattered is not None:
            return self._scattered_sum(*xs[0].scattered, k)
        k, whole = k if isinstance(k, tuple) else (k, NODE)
        each, of_rows = self.led(xs[0], k), node.op.over_segments
        if of_rows is None:  # a value given to every element
            return _Value(each, k)
        attrs = tuple(more) if node.op.per_element else (Dim(whole), *more)
        segments = self.owners(whole) if whole else self.numbers(k)
        return _Value(apply(of_rows, (each, segments), attrs), k if node.op.per_element else whole)

    def _scattered_sum(self, g: _Value, i: _Value, n: int, k: int) -> _Value:
        """The sum of the tables of a list, scattered at once: no element has a table."""
        first = reshape(self.numbers(k) * n, (Dim(k), *(1,) * len(i.shape)))
        flat = apply(SCATTER_ADD, (self.led(g, k), self.led(i, k) + first), (Dim(0) * n,))
        return _Value(reshape(flat, (Dim(0), n, *flat.shape[1:])), 0)


def batch(graph: Graph) -> Graph:
    """Give every value that differs from node to node a leading axis."""
    batcher = _Batcher()
    values: list[_Value] = []
    for node in graph.nodes:
        if node.op is INPUT:
            values.append(batcher.input(node))
            continue
        if node.op is CONST:
            values.append(_Value(batcher.builder.constant(node.attrs[0], node.type.dtype), None))
            continue
        xs = [values[j] for j in node.inputs]
        leads = [x.lead for x in xs if x.lead is not None]
        if not leads and node.op.batch not in ("list", "segments", "pairs", "between", "held", "custom"):
            values.append(_Value(batcher.builder.record(node.op, tuple(x.tracer for x in xs), node.attrs), None))
            continue
        rule: Callable[[Node, list[_Value], int], _Value] = getattr(batcher, node.op.batch)
        lists = {k for k in leads if k}
        values.append(rule(node, xs, PAIRS if len(lists) > 1 else max(leads, default=0)))
    outputs = [batcher.led(values[i], max(graph.nodes[i].level, NODE)) for i in graph.outputs]
    return batcher.builder.finish(outputs)
