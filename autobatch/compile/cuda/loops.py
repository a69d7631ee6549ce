"""loops: one kernel for a loop of the fuse stage, and one for a single node that is not in a loop.

Input: a `Loop`, or a node. Output: a `Kernel` with one thread for each element of the domain: neighbouring
threads read and write adjacent numbers. Invariants: no two threads write one number, so what is added to
rows of a pool is not written here but goes through an array of its own (see `rows`). Cost: O(nodes of the loop).

    AB_KERNEL NAME(i64 m, const float* __restrict__ a1, float* __restrict__ a2) {
        AB_THREADS AB_EACH(t, m * 64) {
            const i64 i = ab_div(t, 64), j = t - i * 64;
            const float x0 = a1[t];
            a2[t] = ab_tanh(x0);
        }
    }
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ...base.types import size_of
from ...ir.graph import CONST, Graph
from ..steps import Domain, Loop, Read, Store, splits
from .arrange import needed_nodes
from .scalars import INT32, DType, affine, c_type, elementwise, literal
from .writer import Indices, Kernel, Writer


def write_loop(
    graph: Graph, loop: Loop, places: Mapping[int, str], target: Callable[[Store], str], sign: str = "="
) -> Kernel:
    """The kernel of a loop. `target` gives the address that a store writes to; "rows" means: to the rows of a pool,
    where it stores or, if `sign` is "+=", adds."""
    return _LoopWriter(graph, loop, places, target, sign).write()


def write_node(graph: Graph, i: int, places: Mapping[int, str], target: str, dtype: DType | None = None) -> Kernel:
    """The kernel that writes the elements of a node to memory, as another dtype where one is given."""
    writer = Writer(graph, places)
    type = graph.nodes[i].type
    with writer.block(f"AB_THREADS AB_EACH(t, {writer.extent(size_of(type.shape))})"):
        x = writer.element(i, writer.apart("t", type.shape))
        y = writer.pointer(target, dtype or type.dtype, True)
        writer.add(f"{y}[t] = {x};")
    return writer.finish()


class _LoopWriter:
    def __init__(
        self, graph: Graph, loop: Loop, places: Mapping[int, str], target: Callable[[Store], str], sign: str
    ) -> None:
        self.graph, self.loop, self.target, self.sign = graph, loop, target, sign
        self.writer = Writer(graph, places)
        self.row, self.column = ("t", "0") if loop.domain.width == 1 else ("i", "j")
        self.values: dict[int | Read, str] = {}

    def write(self) -> Kernel:
        """The kernel."""
        w, loop = self.writer, self.loop
        rows, width = loop.domain.rows, loop.domain.width
        size = w.extent(rows) if width == 1 else f"{w.extent(rows)} * {width}"
        with w.block(f"AB_THREADS AB_EACH(t, {size})"):
            if width != 1:
                w.add(f"const i64 i = ab_div(t, {width}), j = t - i * {width};")
            needed = needed_nodes(loop)
            for i in (i for i in loop.row_nodes + loop.nodes if i in needed):
                node = self.graph.nodes[i]
                operands = [self.value(r) for r in loop.reads[i]]
                self.values[i] = w.let(c_type(node.type.dtype), elementwise(node, operands), "x")
            for store in loop.stores:
                self.store(store)
        return w.finish()

    def value(self, operand: int | Read) -> str:
        """The name of an operand."""
        if operand not in self.values:
            assert isinstance(operand, Read)
            self.values[operand] = self.read(operand)
        return self.values[operand]

    def read(self, read: Read) -> str:
        """Load an operand, or compute the element of an inlined one."""
        w = self.writer
        node = self.graph.nodes[read.node]
        if node.op is CONST:
            return literal(node.attrs[0], node.type.dtype)
        row = self.row if read.level in ("element", "row") else "0"
        if read.through >= 0:
            row = w.element(read.through, (row,))
        column = self.column if read.level in ("element", "vector") else "0"
        if read.offset:
            column = repr(read.offset) if column == "0" else w.index(f"{column} + {read.offset}")
        if read.in_pool:
            return w.pooled(read.node, row, column, read.width)
        if row == "i" and column == "j" and read.width == self.loop.domain.width and read.node in w.places:
            return w.load(w.pointer(w.places[read.node], node.type.dtype), "t", node.type.dtype)
        return w.element(read.node, self.where(row, column, read))

    def where(self, row: str, column: str, read: Read) -> Indices:
        """The index into a node that is read as a matrix."""
        w = self.writer
        shape = self.graph.nodes[read.node].type.shape
        for s, domain in splits(shape):
            if domain == Domain(read.rows, read.width):
                return (*w.apart(row, shape[:s]), *w.apart(column, shape[s:]))
        return w.apart(w.flat((row, column), (read.rows, read.width)), shape)

    def store(self, store: Store) -> None:
        """Write a value."""
        w = self.writer
        value = self.value(store.value)
        column = self.column
        if store.offset:
            column = repr(store.offset) if column == "0" else f"{store.offset} + {column}"
        target = self.target(store)
        if target == "rows":
            node = self.graph.nodes[self.graph.outputs[store.target]]
            pool = w.pointer(f"q{store.target}", node.type.dtype, True)
            number = w.load(w.pointer(f"w{store.target}", INT32), self.row, INT32)
            w.add(f"{pool}[{affine(f'(i64){number}', store.width, column)}] {self.sign} {value};")
            return
        i = store.target if store.kind == "node" else self.graph.outputs[store.target]
        y = w.pointer(target, self.graph.nodes[i].type.dtype, True)
        place = "t" if store.width == self.loop.domain.width else affine(self.row, store.width, column)
        w.add(f"{y}[{place}] = {value};")
