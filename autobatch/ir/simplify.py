"""simplify: a graph → an equal graph with fewer moves.

Input, output: any graph. Rules: a reshape of a reshape is one; a reshape or transpose to the same is nothing; two
transposes compose; the transpose of a product of matrices is the product of the transposes the other way round, but
for one that has a row for each node, which is wanted as it is.
Invariants: results, types and levels are unchanged. Cost: one loop over the nodes.
"""

from __future__ import annotations

from ..base.types import tensor_type
from ..ops.custom import CUSTOM
from ..ops.linalg import PRODUCT
from ..ops.movement import RESHAPE, TRANSPOSE
from .graph import Graph, Node


def simplify(graph: Graph, is_last: bool = False) -> tuple[Graph, list[int]]:
    """The simplified graph (nothing pruned) and the new number of each old node. `is_last` says that it will not be
    differentiated: a `CUSTOM` is then the value that it stands for."""
    new = Graph()
    number: list[int] = []
    for node in graph.nodes:
        inputs = tuple(number[j] for j in node.inputs)
        if is_last and node.op is CUSTOM:
            number.append(inputs[0])
            continue
        number.append(_add(new, Node(node.op, inputs, node.attrs, node.type, node.level)))
    new.outputs = tuple(number[i] for i in graph.outputs)
    return new, number


def _add(graph: Graph, node: Node) -> int:
    if node.op is RESHAPE:
        source = node.inputs[0]
        while graph.nodes[source].op is RESHAPE:
            source = graph.nodes[source].inputs[0]
        if graph.nodes[source].type is node.type:
            return source
        return graph.add(RESHAPE, (source,), node.attrs, node.type, node.level)
    if node.op is TRANSPOSE:
        return _transpose(graph, node.inputs[0], node.attrs[0], node)
    return graph.add(node.op, node.inputs, node.attrs, node.type, node.level)


def _transpose(graph: Graph, source: int, order: tuple[int, ...], node: Node) -> int:
    before = graph.nodes[source]
    if before.op is TRANSPOSE:
        order = tuple(before.attrs[0][axis] for axis in order)
        source = before.inputs[0]
    if order == tuple(range(len(order))):
        return source
    before = graph.nodes[source]
    flat = before.op is PRODUCT and all(graph.nodes[j].type.ndim == 2 for j in before.inputs)
    if flat and order == (1, 0) and not before.type.has_dim:
        left, right = (_flip(graph, j, node.level) for j in before.inputs[::-1])
        return graph.add(PRODUCT, (left, right), (), node.type, node.level)
    return graph.add(TRANSPOSE, (source,), (order,), node.type, node.level)


def _flip(graph: Graph, source: int, level: int) -> int:
    node = graph.nodes[source]
    type = tensor_type(node.type.dtype, node.type.shape[::-1])
    return _transpose(graph, source, (1, 0), Node(TRANSPOSE, (source,), ((1, 0),), type, min(level, node.level)))
