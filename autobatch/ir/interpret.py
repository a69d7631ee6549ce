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
from ..ops.custom import COTANGENT, CUSTOM
from ..ops.pairs import COLUMNS, PAIRS, ROWS
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
        elif node.op is CUSTOM:
            value = values[node.inputs[0]]
        elif node.op is COTANGENT or any(values[j] is None for j in node.inputs):
            value = None  # of a derivative that is not asked for
        elif node.op.batch == "list":
            k, whole = node.attrs[0] if isinstance(node.attrs[0], tuple) else (node.attrs[0], NODE)
            x = _spread(values[node.inputs[0]], nodes[node.inputs[0]].level, k, read, lists)
            if node.op is not SPREAD:
                value = _along(node, x) if whole == NODE else _along_pairs(node, x, whole, read, lists)
            else:
                value = x
        elif node.op.batch == "segments" and node.attrs[0] is not None:
            counts = [1 if k == NODE else _length(read, lists, k) for k in node.attrs[0]]
            types = [nodes[j].type for j in node.inputs]
            value = _of_segments(node, [values[j] for j in node.inputs], types, counts)
        elif node.op.batch == "pairs" and node.attrs[0] is None:
            value = _pair_product(node, [values[j] for j in node.inputs], read, lists)
        elif node.op.batch == "between":
            value = _between(node, values, [nodes[j].level for j in node.inputs], read, lists)
        elif node.level > NODE:
            columns = [_spread(values[j], nodes[j].level, node.level, read, lists) for j in node.inputs]
            value = [_call(node, [column[e] for column in columns]) for e in range(_length(read, lists, node.level))]
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


def _spread(x: Any, level: int, wanted: int, read: Read, lists: dict[int, int]) -> list[Any]:
    """A value as one for each element of the wanted list."""
    if level == wanted:
        return list(x)
    if level <= NODE:
        return [x] * _length(read, lists, wanted)
    n, m = _length(read, lists, ROWS), _length(read, lists, COLUMNS)
    return [x[i if level == ROWS else j] for i in range(n) for j in range(m)]


def _along_pairs(node: Node, pairs: list[Any], side: int, read: Read, lists: dict[int, int]) -> list[Any]:
    """An op along the pairs of each row or of each column: a value for each of these, or for each pair."""
    n, m = _length(read, lists, ROWS), _length(read, lists, COLUMNS)
    groups = [pairs[i * m : (i + 1) * m] for i in range(n)] if side == ROWS else [pairs[j::m] for j in range(m)]
    found = [_along(node, group) for group in groups]
    return [x for group in found for x in group] if node.op.per_element else found


def _pair_product(node: Node, operands: list[Any], read: Read, lists: dict[int, int]) -> list[Any]:
    """The products of one node: those of a batch with this node alone."""
    counts = tuple(_length(read, lists, k) for k in (ROWS, COLUMNS, PAIRS))
    made = node.attrs[1]
    if not counts[made - 1] or not all(operands):
        return [np.zeros(node.type.shape, node.type.dtype)] * counts[made - 1]
    nodes = [np.zeros(n, np.int64) for n in counts[:2]]
    assert node.op.numpy is not None
    with np.errstate(all="ignore"):
        return list(node.op.numpy(*map(np.stack, operands), *nodes, np.arange(counts[0]) * counts[1], counts, made))


def _between(node: Node, values: list[Any], levels: list[int], read: Read, lists: dict[int, int]) -> list[Any]:
    """Rows by the numbers of their segments: what a segment has for each, or the reduction of those of each."""
    (made,) = node.attrs
    x, index = (values[j] for j in node.inputs)
    numbers = [int(i) for i in _spread(index, levels[1], COLUMNS, read, lists)]
    if made == COLUMNS:
        return [_spread(x, levels[0], ROWS, read, lists)[i] for i in numbers]
    rows = _spread(x, levels[0], COLUMNS, read, lists)
    n, of_rows = _length(read, lists, ROWS), node.op.over_segments
    assert of_rows is not None and of_rows.numpy is not None
    stacked = np.stack(rows) if rows else np.zeros((0, *node.type.shape), node.type.dtype)
    with np.errstate(all="ignore"):
        return list(of_rows.numpy(stacked, np.array(numbers, np.int64), n))


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
