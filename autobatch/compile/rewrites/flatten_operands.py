"""flatten_operands: a single graph → the same graph on rows as the pools hold them.

Input: a graph, and the width of the rows of each "rows" operand and of each result. Output: a graph in which an operand
or result that is one row of its pool, but has two axes or more, is a vector that is reshaped inside.
Invariants: only shapes of operands and results change. Cost: once per signature.

A value f32[n, 3, 4] lies in its pool as n rows of 12 numbers. A kernel that runs on its rows computes with f32[3, 4]:

    %0 = rows(0)  f32[3, 4]           %0 = rows(0)                f32[12]
    %1 = tanh(%0) f32[3, 4]     →     %1 = reshape(%0, (3, 4))    f32[3, 4]
                                      %2 = tanh(%1)               f32[3, 4]
                                      %3 = reshape(%2, (12,))     f32[12]
"""

from __future__ import annotations

from collections.abc import Sequence

from ...base.types import Type, size_of, tensor_type
from ...ir.graph import INPUT, Graph
from ...ops.movement import RESHAPE


def _is_one_row(type: Type, width: int) -> bool:
    return type.ndim > 1 and type.width != width


def flatten_operands(graph: Graph, operands: Sequence[int], results: Sequence[int]) -> Graph:
    """The graph whose operands and results have these widths."""
    new = Graph()
    number: list[int] = []
    for node in graph.nodes:
        if node.op is INPUT and node.attrs[0] == "rows" and _is_one_row(node.type, operands[node.attrs[1]]):
            type = tensor_type(node.type.dtype, (size_of(node.type.shape),))
            row = new.input("rows", node.attrs[1], type, node.level)
            number.append(new.add(RESHAPE, (row,), (node.type.shape,), node.type, node.level))
        else:
            number.append(new.add(node.op, tuple(number[j] for j in node.inputs), node.attrs, node.type, node.level))
    outputs = []
    for i, width in zip(graph.outputs, results, strict=True):
        node = graph.nodes[i]
        if _is_one_row(node.type, width):
            type = tensor_type(node.type.dtype, (size_of(node.type.shape),))
            outputs.append(new.add(RESHAPE, (number[i],), (type.shape,), type, node.level))
        else:
            outputs.append(number[i])
    new.outputs = tuple(outputs)
    return new
