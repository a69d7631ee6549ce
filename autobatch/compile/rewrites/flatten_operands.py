"""flatten_operands: a single graph → the same graph on rows as the pools hold them.

Input: a graph, and the width of the rows of each "rows" operand and of each result. Output: a graph in which an operand
or result that is one row of its pool, but has two axes or more, is a vector that is reshaped inside.
Invariants: only shapes of operands and results change. Cost: once per signature.

A value f32[n, 3, 4] is n rows of 12 numbers in its pool. A kernel that runs on its rows computes with f32[3, 4]:

    %0 = rows(0)  f32[3, 4]           %0 = rows(0)                f32[12]
    %1 = tanh(%0) f32[3, 4]     →     %1 = reshape(%0, (3, 4))    f32[3, 4]
                                      %2 = tanh(%1)               f32[3, 4]
                                      %3 = reshape(%2, (12,))     f32[12]
"""

from __future__ import annotations

from collections.abc import Sequence

from ...base.types import Type, size_of, tensor_type
from ...ir.graph import Graph
from ...ir.rewriter import Rewriter
from ...ops.movement import RESHAPE


def _is_one_row(type: Type, width: int) -> bool:
    return type.ndim > 1 and type.width != width


def _row(type: Type) -> Type:
    return tensor_type(type.dtype, (size_of(type.shape),))


def flatten_operands(graph: Graph, operands: Sequence[int], results: Sequence[int]) -> Graph:
    """The graph whose operands and results have these widths."""
    rewriter = Rewriter(graph)

    def rule(i: int) -> int | None:
        node = graph.nodes[i]
        if node.kind != "rows" or not _is_one_row(node.type, operands[node.attrs[1]]):
            return None
        row = rewriter.new.input("rows", node.attrs[1], _row(node.type), node.level)
        return rewriter.apply(RESHAPE, row, attrs=(node.type.shape,), level=node.level)

    new = rewriter.run(rule)
    outputs = list(new.outputs)
    for o, width in enumerate(results):
        node = new.nodes[outputs[o]]
        if _is_one_row(node.type, width):
            type = _row(node.type)
            outputs[o] = new.add(RESHAPE, (outputs[o],), (type.shape,), type, node.level)
    new.outputs = tuple(outputs)
    return new
