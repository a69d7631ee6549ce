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


def _n_lead(graph: Graph, i: int) -> int:
    """How many of the first axes are before those of one vector or matrix."""
    node = graph.nodes[i]
    return len(graph.nodes[node.inputs[0]].type.shape) - (1 if node.op is ORDER else 2)


def matrices_of(graph: Graph, i: int) -> tuple[Any, int]:
    """How many vectors or matrices a node has, and the numbers of work space for each."""
    n_lead, node = _n_lead(graph, i), graph.nodes[i]
    shapes = [graph.nodes[j].type.shape for j in node.inputs]
    count = size_of(shapes[0][:n_lead])
    return count, sum(math.prod(shape[n_lead:]) for shape in (*shapes, node.type.shape))


def write_whole(graph: Graph, i: int, place: Callable[[int], str], target: str, work: str) -> Kernel:
    """The kernel of a node, written to the address `target`; `place` gives the address of an operand."""
    node, n_lead = graph.nodes[i], _n_lead(graph, i)
    w = Writer(graph, {})
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
