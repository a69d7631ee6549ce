"""whole: kernels of functions of a whole vector or matrix, as sorting and decompositions are.

Input: a node, and the addresses of its operands, which are arrays. Output: a `Kernel` with a thread for each matrix,
which calls the function of the op's name in `backends/cuda/whole.h`. Cost: that of one thread for a matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ...base.types import size_of
from ...ir.graph import Graph
from ...ops.sorting import ORDER
from .writer import Kernel, Writer


def _axes(graph: Graph, i: int) -> int:
    """How many of the last axes are those of one vector or matrix."""
    return 1 if graph.nodes[i].op is ORDER else 2


def matrices_of(graph: Graph, i: int) -> tuple[Any, int]:
    """How many vectors or matrices a node has, and the numbers of work space for each."""
    axes, node = _axes(graph, i), graph.nodes[i]
    shapes = [graph.nodes[j].type.shape for j in node.inputs]
    count = size_of(shapes[0][: len(shapes[0]) - axes])
    n_lead = len(shapes[0]) - axes
    return count, sum(math.prod(shape[n_lead:]) for shape in (*shapes, node.type.shape))


def write_whole(graph: Graph, i: int, place: Callable[[int], str], target: str, work: str) -> Kernel:
    """The kernel of a node, written to the address `target`; `place` gives the address of an operand."""
    node, axes = graph.nodes[i], _axes(graph, i)
    w = Writer(graph, {})
    n_lead = len(graph.nodes[node.inputs[0]].type.shape) - axes
    count, room = matrices_of(graph, i)
    arguments, sizes = [], []
    for j in node.inputs:
        own = graph.nodes[j].type
        arguments.append(f"{w.pointer(place(j), own.dtype)} + t * {math.prod(own.shape[n_lead:])}")
        sizes += [str(n) for n in own.shape[n_lead:]]
    arguments.append(f"{w.pointer(target, node.type.dtype, True)} + t * {math.prod(node.type.shape[n_lead:])}")
    arguments.append(f"{w.pointer(work, graph.nodes[node.inputs[0]].type.dtype, True)} + t * {room}")
    with w.block(f"AB_THREADS AB_EACH(t, {w.extent(count)})"):
        w.add(f"ab_{node.op.name}({', '.join([*arguments, *(f'(i64){n}' for n in sizes)])});")
    return w.finish()
