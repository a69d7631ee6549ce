"""reductions: kernels of sums and maxima over axes.

Input: a node. Output: one `Kernel`, or two where the number of summands is known only when a launch runs: the first
leaves a part for each of a number of *chunks*, the second puts the parts together. Invariants: who adds what to what
depends on extents alone, so results are repeatable bit by bit. Cost: two forms of a kernel:

* *serial*: one thread a result, where threads side by side then read numbers side by side (columns are summed);
* *tree*: up to 256 threads a result, where its summands lie side by side (rows are summed), halved until one is left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ...base.types import Dim, size_of
from ...ir.graph import Graph
from ...ops.reduce import MAX
from ..text import extent_name
from .scalars import DType, c_type
from .writer import Kernel, Writer

THREADS = 256
PARALLEL = 1 << 16
"""Threads that keep a device busy."""

SERIAL_SPAN, TREE_SPAN = 64, 4096
"""Summands that are worth a chunk of their own."""

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
    """The kernels of a reduction.

    Args:
        graph, i: the node.
        places: the arrays.
        target: address of the result.
        parts: address of the parts.
        chunks: name of the number of chunks in the driver.
    """
    node = graph.nodes[i]
    (j,) = node.inputs
    shape = graph.nodes[j].type.shape
    reduced = {axis + len(shape) for axis in node.attrs[0]}
    summed = [axis for axis in range(len(shape)) if axis in reduced]
    kept = [axis for axis in range(len(shape)) if axis not in reduced]
    n_results = size_of(tuple(shape[axis] for axis in kept))
    n_summands = size_of(tuple(shape[axis] for axis in summed))
    side_by_side = max((axis for axis, n in enumerate(shape) if n != 1), default=-1) in reduced

    def element(w: Writer, result: str, summand: str) -> str:
        where = ["0"] * len(shape)
        for axes, flat in ((kept, result), (summed, summand)):
            for axis, k in zip(axes, w.apart(flat, [shape[axis] for axis in axes]), strict=True):
                where[axis] = k
        return w.element(j, tuple(where))

    how = _How(graph, places, node.type.dtype, "ab_maximum" if node.op is MAX else "ab_add", node.op is MAX)
    if not isinstance(n_summands, Dim):
        threads = threads_for(n_summands) if side_by_side else 1
        return Reduction(how.kernel(n_results, n_summands, element, target, threads), threads, None, 1, "1", 1)
    threads = THREADS if side_by_side else 1
    most = MOST_CHUNKS
    if not side_by_side and not isinstance(n_results, Dim):
        most = min(max(PARALLEL // max(n_results, 1), 1), MOST_CHUNKS)
    span = TREE_SPAN if side_by_side else SERIAL_SPAN
    count = f"max(1, min({most}, {extent_name(n_summands)} // {span}))"
    first = how.kernel(n_results, n_summands, element, parts, threads, chunks)

    def part(w: Writer, result: str, chunk: str) -> str:
        place = w.index(f"{chunk} * {w.extent(n_results)} + {result}")
        return w.load(w.pointer(parts, node.type.dtype), place, node.type.dtype)

    few = not isinstance(n_results, Dim) and n_results < THREADS
    second = how.kernel(n_results, chunks, part, target, 32 if few else 1)
    return Reduction(first, threads, second, 32 if few else 1, count, most)


def threads_for(n: int) -> int:
    """Threads for each result of n summands: a power of two.

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
    dtype: DType
    function: str
    is_max: bool

    def kernel(
        self,
        n_results: Any,
        n_summands: Any,
        element: Callable[[Writer, str, str], str],
        target: str,
        threads: int,
        chunks: str = "",
    ) -> Kernel:
        """One kernel. With chunks, each has results of its own, which stand behind those of the chunk before."""
        w = Writer(self.graph, self.places)
        kind = c_type(self.dtype)
        start = f"ab_lowest<{kind}>()" if self.is_max else f"{kind}(0)"
        results = w.extent(n_results)
        size = f"{results} * {w.number(chunks)}" if chunks else results
        summands = w.number(n_summands) if isinstance(n_summands, str) else w.extent(n_summands)
        y = w.pointer(target, self.dtype, True)
        lane = f"threadIdx.x % {threads}"

        def accumulate() -> None:
            result, first, end = "o", "0", summands
            if chunks:
                chunk = w.index(f"o / {results}")
                result = w.index(f"o - {chunk} * {results}")
                first, end = (w.index(f"{c} * {summands} / {chunks}") for c in (chunk, f"({chunk} + 1)"))
            w.add(f"{kind} total = {start};")
            begin = first if threads == 1 else f"{first} + {lane}" if chunks else lane
            with w.block(f"for (i64 r = {begin}; r < {end}; r += {threads})"):
                w.add(f"total = {self.function}(total, {element(w, result, 'r')});")

        if threads == 1:
            with w.block(f"AB_THREADS AB_EACH(o, {size})"):
                accumulate()
                w.add(f"{y}[o] = total;")
            return w.finish()
        place = f"const i64 o = (i64)blockIdx.x * {THREADS // threads} + threadIdx.x / {threads};"
        w.add(f"AB_SHARED {kind} part[{THREADS}];")
        with w.block("AB_THREADS"):
            w.add(place)
            w.add(f"part[threadIdx.x] = {start};")
            with w.block(f"if (o < {size})"):
                accumulate()
                w.add("part[threadIdx.x] = total;")
        w.add("AB_BARRIER")
        with w.block(f"for (unsigned half = {threads // 2}; half > 0; half /= 2)"):
            other = "part[threadIdx.x + half]"
            w.add(f"AB_THREADS if ({lane} < half) part[threadIdx.x] = {self.function}(part[threadIdx.x], {other});")
            w.add("AB_BARRIER")
        with w.block("AB_THREADS"):
            w.add(place)
            w.add(f"if ({lane} == 0 && o < {size}) {y}[o] = part[threadIdx.x];")
        return w.finish()
