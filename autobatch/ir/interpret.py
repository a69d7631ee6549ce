"""interpret: run a single graph on one example with NumPy, op by op. This is the specification of every kernel.

Values of list level are Python lists, one array per element; nothing here knows of batches, rows or pools.
Cost: a few microseconds an op; meant for tests, debugging and `batched=False`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..base.errors import CompilerBug
from ..base.types import Type
from ..ops.attention import sides
from ..ops.reduce import SPREAD
from .graph import CONST, INPUT, NODE, Graph, Node

Read = Callable[[str, int], Any]


def interpret(graph: Graph, read: Read, see: Callable[[int, Any], None] | None = None) -> list[Any]:
    """Results of the graph; `read(kind, k)` gives an operand, a list of arrays where it is of list level. `see` is
    called with each node's number and value."""
    values: list[Any] = []
    lists = {}
    nodes = graph.nodes
    for number, node in enumerate(nodes):
        if node.op is INPUT:
            kind, k = node.attrs
            value = read(kind, k)
            if node.level > NODE:
                lists[node.level] = len(value)
            if kind in ("data", "lengths"):
                value = np.asarray(value, node.type.dtype)
            elif kind == "positions":
                value = [np.asarray(position, node.type.dtype) for position in value]
        elif node.op is CONST:
            value = np.asarray(node.attrs[0], node.type.dtype)
        elif node.op.batch == "list":
            x = values[node.inputs[0]]
            if nodes[node.inputs[0]].level <= NODE:
                x = [x] * _length(read, lists, node.attrs[0])
            value = x if node.op is SPREAD else _along(node, x)
        elif node.op.batch == "segments" and node.attrs[0] is not None:
            counts = [1 if k == NODE else _length(read, lists, k) for k in node.attrs[0]]
            types = [nodes[j].type for j in node.inputs]
            value = _of_segments(node, [values[j] for j in node.inputs], types, counts)
        elif node.level > NODE:
            length = _length(read, lists, node.level)
            columns = [values[j] if nodes[j].level > NODE else [values[j]] * length for j in node.inputs]
            value = [_call(node, [column[e] for column in columns]) for e in range(length)]
        else:
            value = _call(node, [values[j] for j in node.inputs])
        values.append(value)
        if see is not None:
            see(number, value)
    return [values[i] for i in graph.outputs]


def _length(read: Read, lists: dict[int, int], k: int) -> int:
    if k not in lists:
        lists[k] = int(read("lengths", k))
    return lists[k]


def _along(node: Any, elements: list[Any]) -> Any:
    if not elements and node.op.per_element:
        return []
    if not elements:
        return np.full(node.type.shape, node.op.identity_of(node.type.dtype), node.type.dtype)
    with np.errstate(all="ignore"):
        return node.op.numpy(elements, *node.attrs)


def _of_segments(node: Node, operands: list[Any], types: list[Type], counts: list[int]) -> Any:
    """An op between lists, of one node: that of a batch with this node alone. `counts`: how many queries, keys and
    pairs it has."""
    stacked = []
    for x, type, side in zip(operands, types, sides(node.attrs), strict=True):
        rows = x if isinstance(x, list) else [x] * counts[side]
        stacked.append(np.stack(rows) if rows else np.zeros((0, *type.shape), type.dtype))
    assert node.op.numpy is not None
    with np.errstate(all="ignore"):
        rows = node.op.numpy(*stacked, *(np.zeros(n, np.int64) for n in counts), *node.attrs)
    return list(rows) if node.level > NODE else rows[0]


def _call(node: Any, operands: Sequence[Any]) -> Any:
    if node.op.numpy is None:
        raise CompilerBug(f"{node.op} has no reference")
    with np.errstate(all="ignore"):
        value = np.asarray(node.op.numpy(*operands, *node.attrs))
    return value if value.dtype == node.type.dtype else value.astype(node.type.dtype)
