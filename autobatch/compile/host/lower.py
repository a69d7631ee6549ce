"""Lower: a batched graph becomes a Python function, the driver, which calls matmuls, verbs and generated loops.

Input: a batched `Graph` of primitives and which results are added to rows. Output: a `Program` with its text and the
function. Invariants: the driver is straight-line code, built once; whatever depends on a launch are its arguments.
Cost: O(nodes) to build, a few microseconds a launch to run.

    def run(m, sizes, inputs, outputs):
        (p0, r0, b0), v1 = inputs
        out0, = outputs
        v0 = gather(p0, r0, b0)
        v2 = empty((m, 64), float32)
        gemm_transposed(v0, v1, v2, True)
        loop0(m, 64, v2, out0, 0)
        return [None]
"""

from __future__ import annotations

from collections.abc import Sequence

from ...backends.transfer import DEVICES
from ...ir.graph import Graph
from ..fuse import calls_only, fuse
from ..rewrites.forward_concats import forward_concats
from ..rewrites.in_place_matmuls import concats_in_place, matmuls_in_place
from ..rewrites.movement import rewrite_movement
from ..steps import Steps
from ..text import graph_inputs
from .driver import Driver, Program


def lower(graph: Graph, name: str, accumulate: Sequence[bool], backend: str, add: bool = True) -> Program:
    """Make the program of a batched graph, for "numpy" or "numba"; `name` is the driver's.

    accumulate: for each result whether it goes to rows of a pool, rather than to a block of its own
    add: whether results that go to rows are added to them, or stored, which takes rows that are all different
    """
    steps = steps_of(graph, accumulate, backend)
    return Driver(steps, name, accumulate, backend, add).program(graph_inputs(graph))


def steps_of(graph: Graph, accumulate: Sequence[bool], backend: str) -> Steps:
    """The calls and loops of the program of a graph; with NumPy, calls only. On devices reductions are no loops."""
    if len(accumulate) != len(graph.outputs):
        raise ValueError(f"{len(graph.outputs)} results, {len(accumulate)} flags")
    if backend == "numpy":
        return calls_only(graph)
    if backend in DEVICES:
        return fuse(forward_concats(rewrite_movement(graph))[0], accumulate)
    graph = rewrite_movement(graph, reductions=True)
    unmade = concats_in_place(graph, graph.outputs)
    graph = forward_concats(graph, [i for i in range(len(graph.nodes)) if i not in unmade])[0]
    return fuse(matmuls_in_place(graph, accumulate), accumulate, reductions=True)
