"""Values that are the same for every example, computed on the device: a graph without rows is one program.

Input: a graph and the arrays of its operands. Output: the arrays of its results, each of its own. Cost: the launches of
its program; the program is made once for equal graphs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...backends.device import Device
from ...compile.cuda.lower import CudaProgram, lower_cuda
from ...compile.text import graph_inputs
from ...ir.graph import Graph
from ...ops.index import BOUNDED
from .faults import raise_fault

_programs: dict[Any, CudaProgram] = {}

_NOTHING = np.dtype(np.uint8)


def evaluate(device: Device, graph: Graph, read: Callable[[str, int], Any]) -> list[Any]:
    """Results of a graph; `read(kind, k)` gives the array of an operand."""
    program = _program(graph)
    arrays = [read(kind, k) for kind, k in graph_inputs(graph)]
    results = [device.empty(graph.nodes[i].type.shape, graph.nodes[i].type.dtype) for i in graph.outputs]
    scratch = device.empty((max(program.scratch(1, (1,)), 1),), _NOTHING)
    program.run(
        device, 1, (1,), [a.data.ptr for a in arrays], [result.data.ptr for result in results], scratch.data.ptr
    )
    if any(node.op is BOUNDED for node in graph.nodes):
        raise_fault(device)
    return results


def _program(graph: Graph) -> CudaProgram:
    key = graph.key()
    found = _programs.get(key)
    if found is None:
        found = _programs[key] = lower_cuda(graph, "shared", (False,) * len(graph.outputs), True)
    return found
