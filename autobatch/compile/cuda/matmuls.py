"""matmuls: the memory layout of matmul operands, and a kernel for matmuls that no library supports.

A transpose, or a part of rows or columns, is read in place: the library gets the distance between rows, and
whether it reads the transpose. Integers, and leading axes that broadcast in part, go to a kernel of one thread for
each result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...base.types import Dim, size_of
from ...ir.graph import Graph
from ...ops.movement import SLICE, TRANSPOSE
from .scalars import c_type
from .writer import Kernel, Writer


@dataclass(frozen=True, slots=True)
class Matrix:
    """Consecutive matrices within an array.

    node: the array
    lead: from one row in memory to the next
    flip: whether rows in memory are columns
    offset: of the first number
    step: from one matrix to the next
    """

    node: int
    lead: Any
    flip: bool
    offset: int
    step: Any


def matrix(graph: Graph, i: int, is_array: Callable[[int], bool]) -> Matrix:
    """How a matmul may read node i. `is_array`: whether a node is in memory anyway."""
    node = graph.nodes[i]
    shape = node.type.shape
    if not is_array(i):
        if node.op is TRANSPOSE and node.attrs[0] == (*range(len(shape) - 2), len(shape) - 1, len(shape) - 2):
            inner = matrix(graph, node.inputs[0], is_array)
            return replace(inner, flip=not inner.flip)
        if node.op is SLICE and node.attrs[0] >= -2 and node.attrs[3] == 1:
            axis, start, *_ = node.attrs
            inner = matrix(graph, node.inputs[0], is_array)
            stride = 1 if (axis == -1) != inner.flip else inner.lead
            if not isinstance(stride, Dim):
                return replace(inner, offset=inner.offset + start * stride)
    return Matrix(i, shape[-1], False, 0, size_of(shape[-2:]))


def broadcast_step(own: Sequence[Any], batch: Sequence[Any], step: Any) -> Any:
    """From one matrix of an operand to the next where its leading axes broadcast to `batch`; None: not one distance."""
    full = (1,) * (len(batch) - len(own)) + tuple(own)
    if full == tuple(batch):
        return step
    return 0 if all(n == 1 for n in full) else None


def write_matmul(graph: Graph, i: int, places: Mapping[int, str], target: str) -> Kernel:
    """The kernel of a matmul: one thread for each number of the result."""
    w = Writer(graph, places)
    node = graph.nodes[i]
    a, b = node.inputs
    kind = c_type(node.type.dtype)
    with w.block(f"AB_THREADS AB_EACH(t, {w.extent(size_of(node.type.shape))})"):
        *batch, row, column = w.apart("t", node.type.shape)
        w.add(f"{kind} total = 0;")
        with w.block(f"for (i64 k = 0; k < {w.extent(graph.nodes[a].type.shape[-1])}; ++k)"):
            x = w.element(a, w.broadcast((*batch, row, "k"), a))
            y = w.element(b, w.broadcast((*batch, "k", column), b))
            w.add(f"total = ab_add<{kind}>(total, {kind}({x} * {y}));")
        w.add(f"{w.pointer(target, node.type.dtype, True)}[t] = total;")
    return w.finish()
