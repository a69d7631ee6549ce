"""reductions: kernels of reductions over axes.

Input: a node. Output: one `Kernel`, or two where the number of elements is known only when a launch runs: the first
writes a part for each of a number of *chunks*, the second combines the parts. Invariants: what is combined with
what depends on extents alone, so results are repeatable bit by bit. Cost: two forms of a kernel:

* *serial*: one thread a result, where neighbouring threads then read adjacent numbers (columns are reduced);
* *tree*: up to 256 threads a result, where its elements are adjacent (rows are reduced), halved until one is left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ...base.types import Dim, size_of
from ...ir.graph import Graph, Node
from ..text import extent_name
from .scalars import c_type, combined, identity
from .writer import Kernel, Writer

THREADS = 256
PARALLEL = 1 << 16
"""Threads that keep a device busy."""

SERIAL_SPAN, TREE_SPAN = 64, 4096
"""Elements that are worth a chunk of their own."""

MOST_CHUNKS = 256


@dataclass(frozen=True, slots=True)
class Reduction:
    """How a reduction runs.

    first, second: the kernels; without a second the first writes the result. Where there is one, the first writes an
        array of `most` parts a result or fewer: `chunks`, as an expression of the driver
    first_threads, second_threads: threads for each result, or for each part
    """

    first: Kernel
    first_threads: int
    second: Kernel | None
    second_threads: int
    chunks: str
    most: int


def write_reduction(graph: Graph, i: int, places: Mapping[int, str], target: str, parts: str, chunks: str) -> Reduction:
    """The kernels of a reduction: `target` and `parts` are addresses, of the result and of its parts, and `chunks` is
    the driver's name for the number of chunks."""
    node = graph.nodes[i]
    (j,) = node.inputs
    shape = graph.nodes[j].type.shape
    reduced = sorted(axis + len(shape) for axis in node.attrs[0])
    kept = [axis for axis in range(len(shape)) if axis not in reduced]
    n_results = size_of(tuple(shape[axis] for axis in kept))
    n_elements = size_of(tuple(shape[axis] for axis in reduced))
    side_by_side = max((axis for axis, n in enumerate(shape) if n != 1), default=-1) in reduced

    def element(w: Writer, result: str, member: str) -> str:
        where = ["0"] * len(shape)
        for axes, flat in ((kept, result), (reduced, member)):
            for axis, k in zip(axes, w.apart(flat, [shape[axis] for axis in axes]), strict=True):
                where[axis] = k
        return w.element(j, tuple(where))

    how = _How(graph, places, node)
    if not isinstance(n_elements, Dim):
        threads = threads_for(n_elements) if side_by_side else 1
        return Reduction(how.kernel(n_results, n_elements, element, target, threads), threads, None, 1, "1", 1)
    threads = THREADS if side_by_side else 1
    most = MOST_CHUNKS
    if not side_by_side and not isinstance(n_results, Dim):
        most = min(max(PARALLEL // max(n_results, 1), 1), MOST_CHUNKS)
    span = TREE_SPAN if side_by_side else SERIAL_SPAN
    count = f"max(1, min({most}, {extent_name(n_elements)} // {span}))"
    first = how.kernel(n_results, n_elements, element, parts, threads, chunks)

    def part(w: Writer, result: str, chunk: str) -> str:
        place = w.index(f"{chunk} * {w.extent(n_results)} + {result}")
        return w.load(w.pointer(parts, node.type.dtype), place, node.type.dtype)

    few = not isinstance(n_results, Dim) and n_results < THREADS
    second = how.kernel(n_results, chunks, part, target, 32 if few else 1)
    return Reduction(first, threads, second, 32 if few else 1, count, most)


def threads_for(n: int) -> int:
    """Threads for each result of n elements: a power of two.

    >>> [threads_for(n) for n in (3, 4, 17, 64, 10000)]
    [1, 2, 16, 32, 256]
    """
    threads = 1
    while threads * 2 < n and threads < THREADS:
        threads *= 2
    return threads if n > 3 else 1


@dataclass(frozen=True, slots=True)
class _How:
    graph: Graph
    places: Mapping[int, str]
    node: Node

    def kernel(
        self,
        n_results: Any,
        n_elements: Any,
        element: Callable[[Writer, str, str], str],
        target: str,
        threads: int,
        chunks: str = "",
    ) -> Kernel:
        """One kernel. With chunks, each has results of its own, after those of the chunk before."""
        w = Writer(self.graph, self.places)
        node, kind = self.node, c_type(self.node.type.dtype)
        results = w.extent(n_results)
        size = f"{results} * {w.number(chunks)}" if chunks else results
        elements = w.number(n_elements) if isinstance(n_elements, str) else w.extent(n_elements)
        y = w.pointer(target, node.type.dtype, True)
        lane = f"threadIdx.x % {threads}"

        def accumulate() -> None:
            result, first, end = "o", "0", elements
            if chunks:
                chunk = w.index(f"o / {results}")
                result = w.index(f"o - {chunk} * {results}")
                first, end = (w.index(f"{c} * {elements} / {chunks}") for c in (chunk, f"({chunk} + 1)"))
            w.add(f"{kind} total = {identity(node)};")
            begin = first if threads == 1 else f"{first} + {lane}" if chunks else lane
            with w.block(f"for (i64 r = {begin}; r < {end}; r += {threads})"):
                w.add(f"total = {combined(node, 'total', element(w, result, 'r'))};")

        if threads == 1:
            with w.block(f"AB_THREADS AB_EACH(o, {size})"):
                accumulate()
                w.add(f"{y}[o] = total;")
            return w.finish()
        place = f"const i64 o = (i64)blockIdx.x * {THREADS // threads} + threadIdx.x / {threads};"
        w.add(f"AB_SHARED {kind} part[{THREADS}];")
        with w.block("AB_THREADS"):
            w.add(place)
            w.add(f"part[threadIdx.x] = {identity(node)};")
            with w.block(f"if (o < {size})"):
                accumulate()
                w.add("part[threadIdx.x] = total;")
        w.add("AB_BARRIER")
        with w.block(f"for (unsigned half = {threads // 2}; half > 0; half /= 2)"):
            both = combined(node, "part[threadIdx.x]", "part[threadIdx.x + half]")
            w.add(f"AB_THREADS if ({lane} < half) part[threadIdx.x] = {both};")
            w.add("AB_BARRIER")
        with w.block("AB_THREADS"):
            w.add(place)
            w.add(f"if ({lane} == 0 && o < {size}) {y}[o] = part[threadIdx.x];")
        return w.finish()
