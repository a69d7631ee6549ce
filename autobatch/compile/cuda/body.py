"""body: the lines of a driver, launch by launch.

Input: an `Arrangement`, and what becomes of results that go to rows of a pool:

* "store": they are written there;
* "add": they are added there, by the loops that make them; no row is met twice;
* "in order": they are written to temporary arrays, and added from there row by row, in order.

Output: lines of Python, which ask for kernels by `Kernels`. Where rows are one block and a single matmul computes what
is stored there, the matmul writes there directly. Cost: O(nodes).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ...base.types import size_of
from ...ir.graph import INPUT, Graph
from ...ops.linalg import PRODUCT
from ...ops.movement import RESHAPE
from ...ops.pairs import COLUMNS
from ..steps import Loop, Read, Store, rows_domain
from ..text import extent_name
from .arrange import Arrangement, is_scan, reduces_segments
from .attention import write_attention
from .loops import write_loop, write_node
from .matmuls import Matrix, broadcast_step, matrix, write_matmul
from .memory import lay_out
from .pairs import write_pair_product
from .reductions import THREADS, write_reduction
from .rows import write_add, write_scan, write_segments
from .scalars import INT64
from .whole import matrices_of, write_whole
from .writer import Kernel, size_name

STORE, ADD, IN_ORDER = "store", "add", "in order"


def is_one_matmul(graph: Graph, i: int, left: Matrix) -> bool:
    """Whether a matmul, perhaps of stacked matrices, is one of two matrices in their layout."""
    shape, right = graph.nodes[i].type.shape, graph.nodes[i].inputs[1]
    if len(shape) == 2:
        return True
    return len(graph.nodes[right].type.shape) == 2 and not left.flip and bool(left.step == shape[-2] * left.lead)


@dataclass(slots=True)
class Kernels:
    """The kernels of a program, each once: text → name."""

    title: str
    names: dict[str, str] = field(default_factory=dict)

    def name(self, text: str, kind: str) -> str:
        """The name that the driver has for a kernel."""
        found = self.names.setdefault(text, f"{self.title}_{kind}{len(self.names)}")
        return f"k{list(self.names.values()).index(found)}"

    def source(self) -> str:
        """All kernels."""
        return "\n".join(text.replace("NAME(", f"{name}(", 1) for text, name in self.names.items())


class Body:
    """Writes one way of running a program. `total` are the bytes of its temporary arrays, an expression."""

    def __init__(self, made: Arrangement, to_rows: str, kernels: Kernels) -> None:
        self.made, self.to_rows, self.kernels = made, to_rows, kernels
        self.graph, self.places = made.steps.graph, made.places
        self.nodes = self.graph.nodes
        self.lines: list[str] = []
        self.total = "0"
        self.straight: dict[int, tuple[int, int]] = {}  # matmul → result, bytes of a row
        if to_rows != IN_ORDER:
            for step in made.order:
                if isinstance(step, Loop) and len(step.stores) == 1 and step.stores[0].kind == "add":
                    self._find_straight(step, step.stores[0])

    def _find_straight(self, loop: Loop, store: Store) -> None:
        """Whether a single matmul computes what a loop stores to rows: it is written there directly if they are a
        block."""
        read = store.value
        if not isinstance(read, Read) or read.level not in ("element", "row") or read.through >= 0:
            return
        if read.offset or read.width != store.width or store.width != loop.domain.width:
            return
        node = self.nodes[read.node]
        if node.op is not PRODUCT or node.type.dtype.kind != "f" or self.places[read.node] != f"v{read.node}":
            return
        uses, outputs = self.graph.uses(), self.graph.outputs

        def is_read_once(i: int) -> bool:
            return len(uses[i]) + outputs.count(i) == 1

        i = outputs[store.target]
        while is_read_once(i) and i != read.node and self.nodes[i].op is RESHAPE:
            i = self.nodes[i].inputs[0]
        left = matrix(self.graph, node.inputs[0], self._lies)
        if i == read.node and is_read_once(i) and is_one_matmul(self.graph, i, left):
            self.straight[i] = store.target, store.width * node.type.dtype.itemsize

    # Steps.

    def write(self) -> list[str]:
        """The lines."""
        for step in self.made.order:
            if isinstance(step, Loop):
                self.loop(step)
            else:
                self.call(step)
        for o, i in enumerate(self.graph.outputs):
            if not self.nodes[i].type.has_dim and self.places.get(i) != f"out{o}":
                self._copy(i, f"out{o}")
        heads, self.total = lay_out(self.lines, self.made.temporary)
        return heads + self.lines

    def launch(self, kind: str, kernel: Kernel, count: str, indent: str = "", per_block: int = THREADS) -> None:
        """Start a kernel with so many threads, or so many groups of threads of which a block holds some."""
        k = self.kernels.name(kernel.text, kind)
        blocks = count if per_block == 1 else f"({count} + {per_block - 1}) // {per_block}"
        arguments = ", ".join(kernel.arguments) + ("," if len(kernel.arguments) == 1 else "")
        self.lines.append(f"{indent}launch({k}, {blocks}, {THREADS}, ({arguments}))")

    def loop(self, loop: Loop) -> None:
        """One loop, and what is added to rows in order after it."""
        stores, added = [], []
        for s in loop.stores:
            if s.kind == "add" and self.to_rows == IN_ORDER:
                source = self._source(s)
                added.append((s, source or (f"t{s.target}", s.width, 0)))
                if source:
                    continue
                self.made.reserve(f"t{s.target}", self.graph.outputs[s.target])
            stores.append(s)
        if stores:
            sign = "+=" if self.to_rows == ADD else "="
            kernel = write_loop(self.graph, replace(loop, stores=stores), self.places, self._target, sign)
            rows, width = extent_name(loop.domain.rows), loop.domain.width
            is_straight = stores[0].kind == "add" and stores[0].target in [o for o, _ in self.straight.values()]
            if is_straight:
                self.lines.append(f"if f{stores[0].target} < 0:")
            count = f"{rows} * {width}" if width != 1 else rows
            self.launch("loop", kernel, count, "    " if is_straight else "")
        for s, source in added:
            self._add(s, source, loop)

    def _target(self, store: Store) -> str:
        if store.kind == "add":
            return f"t{store.target}" if self.to_rows == IN_ORDER else "rows"
        return self.places[store.target] if store.kind == "node" else f"out{store.target}"

    def _source(self, store: Store) -> tuple[str, int, int] | None:
        """Where values to be added are stored already: address, width of their rows, first column."""
        read = store.value
        if not isinstance(read, Read) or read.node not in self.places or read.in_pool or read.through >= 0:
            return None
        return (self.places[read.node], read.width, read.offset) if read.level in ("element", "row") else None

    def _add(self, store: Store, source: tuple[str, int, int], loop: Loop) -> None:
        o, width, rows = store.target, store.width, loop.domain.rows
        dtype = self.nodes[self.graph.outputs[o]].type.dtype
        plain = write_add(o, rows, width, dtype, source, False)
        in_order = write_add(o, rows, width, dtype, source, True)
        self.lines.append(f"if e{o} is None:")
        self.launch("add", plain, f"{extent_name(rows)} * {width}", "    ")
        self.lines.append("else:")
        self.lines.append(f"    o{o}, s{o}, g{o} = e{o}")
        self.launch("add", in_order, f"g{o} * {width}", "    ")

    def call(self, i: int) -> None:
        """One node that is not in a loop."""
        node = self.nodes[i]
        if i in self.made.copied or (i in self.made.gathered and i in self.places):
            self._copy(i, self.places[i])
        elif i in self.made.gathered:
            n_bytes = rows_domain(node.type).width * node.type.dtype.itemsize
            self.lines.append(f"if b{i} >= 0:")
            self.lines.append(f"    v{i} = p{i} + b{i} * {n_bytes}")
            self.lines.append("else:")
            self._copy(i, f"v{i}", "    ")
        elif i not in self.places:
            return
        elif node.op is PRODUCT:
            self._matmul(i)
        elif node.op.batch == "reduce":
            self._reduction(i)
        elif node.op.batch == "segments":
            for kernel, of_rows in write_attention(self.graph, i, self.made.place, self.places[i]):
                count = size_name(node.type.shape[:-1] if of_rows else node.type.shape)
                self.launch(node.op.name, kernel, count, per_block=1 if of_rows else THREADS)
        elif node.op.batch == "pairs":
            kernel = write_pair_product(self.graph, i, self.made.place, self.places[i])
            self.launch(node.op.name, kernel, size_name(node.type.shape))
        elif node.op.batch == "whole":
            self._whole(i)
        elif reduces_segments(node.op):
            self._segments(i)
        elif is_scan(node.op):
            kernel = write_scan(self.graph, i, self.places, self.places[i])
            self.launch(node.op.name, kernel, size_name(node.type.shape))

    def _whole(self, i: int) -> None:
        """A function of each vector or matrix of a node, with room for its work."""
        count, room = matrices_of(self.graph, i)
        work = f"h{i}"
        self.made.temporary[work] = count * (room * self.nodes[self.nodes[i].inputs[0]].type.dtype.itemsize)
        kernel = write_whole(self.graph, i, self.made.place, self.places[i], work)
        self.launch(self.nodes[i].op.name, kernel, extent_name(count))

    def _copy(self, i: int, target: str, indent: str = "") -> None:
        """Write a node to memory."""
        places = {j: place for j, place in self.places.items() if j != i or place != target}
        kind = "gather" if self.nodes[i].op is INPUT else self.nodes[i].op.name
        self.launch(kind, write_node(self.graph, i, places, target), size_name(self.nodes[i].type.shape), indent)

    def _reduction(self, i: int) -> None:
        name = self.nodes[i].op.name
        shape = self.nodes[i].type.shape
        target = self.places[i]
        how = write_reduction(self.graph, i, self.places, target, f"u{i}", f"c{i}")
        count = size_name(shape)
        if how.second is None:
            self.launch(name, how.first, count, "", THREADS // how.first_threads)
            return
        self.made.temporary[f"u{i}"] = size_of(shape) * self.nodes[i].type.dtype.itemsize * how.most
        self.lines.append(f"c{i} = {how.chunks}")
        self.launch(name, how.first, f"{count} * c{i}", "", THREADS // how.first_threads)
        self.launch(name, how.second, count, "", THREADS // how.second_threads)

    def _segments(self, i: int) -> None:
        node = self.nodes[i]
        ids = node.inputs[1]
        shape = self.nodes[ids].type.shape
        index, order = self.made.place(ids), ""
        if self.nodes[ids].type.dtype != INT64:
            index = f"x{i}"
            self.made.temporary[index] = size_of(shape) * INT64.itemsize
            self.launch("index", write_node(self.graph, ids, self.places, index, INT64), size_name(shape))
        is_sorted = node.type.has_dim and self.nodes[ids].attrs != ("owners", COLUMNS)
        if not is_sorted or any(self.nodes[j].kind == "firsts" for j in self.nodes[ids].inputs):
            self.lines.append(f"y{i} = device.argsort({index}, {size_name(shape)})")
            order = f"y{i}.data.ptr"
        kernel = write_segments(self.graph, i, self.places, self.places[i], index, order)
        self.launch(node.op.name, kernel, size_name(node.type.shape))

    def _matmul(self, i: int) -> None:
        node = self.nodes[i]
        a, b = node.inputs
        batch = node.type.shape[:-2]
        left, right = (matrix(self.graph, j, self._lies) for j in (a, b))
        steps = [broadcast_step(self.nodes[j].type.shape[:-2], batch, x.step) for j, x in ((a, left), (b, right))]
        if node.type.dtype.kind != "f" or None in steps:
            kernel = write_matmul(self.graph, i, self.places, self.places[i])
            self.launch("product", kernel, size_name(node.type.shape))
            return
        o, n_bytes = self.straight.get(i, (-1, 0))
        if o < 0:
            self._library(i, left, right, steps, self.places[i], False)
            return
        self.lines.append(f"if f{o} >= 0:")
        self._library(i, left, right, steps, f"q{o} + f{o} * {n_bytes}", self.to_rows == ADD, "    ")
        self.lines.append("else:")
        self._library(i, left, right, steps, self.places[i], False, "    ")

    def _library(
        self, i: int, left: Matrix, right: Matrix, steps: Sequence[Any], place: str, add: bool, indent: str = ""
    ) -> None:
        """A matmul by the library."""
        node = self.nodes[i]
        n, k, p = node.type.shape[-2], self.nodes[node.inputs[0]].type.shape[-1], node.type.shape[-1]
        count = "" if len(node.type.shape) == 2 else size_name(node.type.shape[:-2])
        step, rows = extent_name(n * p), extent_name(n)
        if is_one_matmul(self.graph, i, left):  # the rows of all matrices are rows of one
            rows, count, step, steps = size_name(node.type.shape[:-1]), "", "0", (0, 0)
        x, y = self._operand(left, steps[0]), self._operand(right, steps[1])
        call = f"({rows}, {extent_name(k)}, {extent_name(p)}), {x}, {y}, ({place}, {extent_name(p)}, {step})"
        end = f", {count}" if count else ""
        self.lines.append(f"{indent}device.gemm({call}, {node.type.dtype.name}, {add}{end})")

    def _lies(self, i: int) -> bool:
        return i in self.places or i in self.made.gathered

    def _operand(self, x: Matrix, step: Any) -> str:
        """`device.Matrices` of an operand."""
        address = self.made.place(x.node)
        if x.offset:
            address = f"{address} + {x.offset * self.nodes[x.node].type.dtype.itemsize}"
        return f"({address}, {extent_name(x.lead)}, {x.flip}, {extent_name(step)})"
