"""lower: a batched graph becomes CUDA C kernels and a driver that launches them.

Input: a batched `Graph` of primitives and which results are added to rows. Output: a `CudaProgram`. Invariants: the
driver is straight-line code on addresses, built once; it asks for no memory (sorting apart), waits for nothing and
makes no arrays; every number is written by one thread, in an order that depends on extents alone. Cost: O(nodes) to
build, a few microseconds a launch to run.

    def run(device, m, sizes, inputs, outputs, scratch):
        k0, = kernels(device)
        launch = device.launch
        (p0, r0, b0), v1 = inputs
        out0, = outputs
        v0 = scratch
        v2 = v0 + (256 * m + 255 & -256)
        if b0 >= 0:
            v0 = p0 + b0 * 256
        else:
            launch(k0, (m * 64 + 255) // 256, 256, (m, r0, p0, v0))
        device.product(m, 64, 64, v0, 64, False, v1, 64, True, v2, 64, float32, False)
        …
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...backends.cuda import HEADER
from ...backends.device import Device
from ...graph import INPUT, Graph
from ...ops.linalg import PRODUCT
from ...types import Dim, size_of
from ..lower import graph_inputs, steps_of
from ..steps import Loop, Read, Store, rows_domain
from .arrange import REDUCTIONS, SEGMENTS, arrange
from .loops import write_loop, write_node
from .memory import lay_out
from .products import Matrix, broadcast_step, matrix, write_product
from .reductions import THREADS, write_reduction
from .rows import write_add, write_segments
from .scalars import DType
from .writer import INT64, Kernel, extent_name, size_name


@dataclass(frozen=True, slots=True)
class CudaProgram:
    """One lowered graph.

    text: the driver and its kernels, to read
    source: the kernels as they are compiled
    kernels: their names in the source
    run: run(device, m, sizes, inputs, outputs, scratch) launches everything. Arrays are C-contiguous, given by address.
        inputs: as `graph_inputs` says: (pool, row numbers, block) for "rows", where row numbers are int32, and block is
            the first row where they are consecutive, else -1; an address for everything else.
        outputs: an address, or for results that go to rows (pool, row numbers, block, segments). Segments are None
            where no row is there twice, else (order, starts, count): the places of the row numbers, smallest number
            first and equal ones in order; where each of `count` runs of equal numbers starts, and the end; both int32.
        scratch: the address of as many bytes as `scratch` says, at a multiple of 256.
    scratch: scratch(m, sizes) → bytes
    """

    text: str
    source: str
    kernels: tuple[str, ...]
    run: Callable[[Device, int, Sequence[int], Sequence[Any], Sequence[Any], int], None]
    scratch: Callable[[int, Sequence[int]], int]


def lower_cuda(graph: Graph, name: str, accumulate: Sequence[bool], add: bool = True) -> CudaProgram:
    """Make the program of a graph.

    Args:
        graph: a batched graph.
        name: of the driver.
        accumulate: for each result whether it goes to rows of a pool, rather than to a block of its own.
        add: whether results that go to rows are added to them, or stored, which takes rows that are all different.
    """
    if len(accumulate) != len(graph.outputs):
        raise ValueError(f"{len(graph.outputs)} results, {len(accumulate)} flags")
    return _Driver(graph, name, accumulate, add).program()


class _Driver:
    def __init__(self, graph: Graph, name: str, accumulate: Sequence[bool], add: bool) -> None:
        self.wanted = graph_inputs(graph)
        self.made = arrange(steps_of(graph, accumulate, "numba"), accumulate, add)
        self.graph = self.made.graph
        self.nodes = self.graph.nodes
        self.places = self.made.places
        self.accumulate, self.adds = accumulate, add
        title = "".join(c if c.isalnum() else "_" for c in name)
        self.title = title if title.isidentifier() else f"run_{title}"
        self.lines: list[str] = []
        self.kernels: dict[str, str] = {}  # text → name
        self.dtypes: set[DType] = set()

    # Steps.

    def launch(self, kind: str, kernel: Kernel, count: str, indent: str = "", per_block: int = THREADS) -> None:
        """Start a kernel with so many threads, or so many groups of threads of which a block holds some."""
        found = self.kernels.setdefault(kernel.text, f"{self.title}_{kind}{len(self.kernels)}")
        k = f"k{list(self.kernels.values()).index(found)}"
        blocks = count if per_block == 1 else f"({count} + {per_block - 1}) // {per_block}"
        arguments = ", ".join(kernel.arguments) + ("," if len(kernel.arguments) == 1 else "")
        self.lines.append(f"{indent}launch({k}, {blocks}, {THREADS}, ({arguments}))")

    def loop(self, loop: Loop) -> None:
        """One loop, and what is added to rows after it."""
        stores, added = [], []
        for s in loop.stores:
            if s.kind == "add" and self.adds:
                source = self._source(s)
                added.append((s, source or (f"t{s.target}", s.width, 0)))
                if source:
                    continue
                self.made.reserve(f"t{s.target}", self.graph.outputs[s.target])
            stores.append(s)
        if stores:
            kernel = write_loop(self.graph, replace(loop, stores=stores), self.places, self._target)
            rows, width = extent_name(loop.domain.rows), loop.domain.width
            self.launch("loop", kernel, f"{rows} * {width}" if width != 1 else rows)
        for s, source in added:
            self._add(s, source, loop)

    def _target(self, store: Store) -> str:
        if store.kind == "add":
            return f"t{store.target}" if self.adds else "add"
        return self.places[store.target] if store.kind == "node" else f"out{store.target}"

    def _source(self, store: Store) -> tuple[str, int, int] | None:
        """Where values that are added lie already: address, width of their rows, first column."""
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
            self._product(i)
        elif node.op in REDUCTIONS:
            self._reduction(i)
        elif node.op in SEGMENTS:
            self._segments(i)

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
        if not isinstance(node.type.shape[0], Dim):
            self.lines.append(f"y{i} = device.argsort({index}, {size_name(shape)})")
            order = f"y{i}.data.ptr"
        kernel = write_segments(self.graph, i, self.places, self.places[i], index, order)
        self.launch(node.op.name, kernel, size_name(node.type.shape))

    def _product(self, i: int) -> None:
        node = self.nodes[i]
        a, b = node.inputs
        batch = node.type.shape[:-2]
        left, right = (matrix(self.graph, j, self._lies) for j in (a, b))
        steps = [broadcast_step(self.nodes[j].type.shape[:-2], batch, x.step) for j, x in ((a, left), (b, right))]
        if node.type.dtype.kind != "f" or None in steps:
            self.launch(
                "product", write_product(self.graph, i, self.places, self.places[i]), size_name(node.type.shape)
            )
            return
        self.dtypes.add(node.type.dtype)
        n, k, p = node.type.shape[-2], self.nodes[a].type.shape[-1], node.type.shape[-1]
        operands = [self._operand(left, steps[0], batch), self._operand(right, steps[1], batch)]
        target = [self.places[i], extent_name(p)]
        dtype = node.type.dtype.name
        merged = len(self.nodes[b].type.shape) == 2 and not left.flip and (not batch or left.step == n * left.lead)
        if merged:  # the rows of all matrices are rows of one
            rows = size_name(node.type.shape[:-1])
            parts = [rows, extent_name(k), extent_name(p), *operands[0][:3], *operands[1][:3], *target]
            self.lines.append(f"device.product({', '.join(parts)}, {dtype}, False)")
            return
        parts = [size_name(batch), extent_name(n), extent_name(k), extent_name(p), *operands[0], *operands[1], *target]
        if not batch:
            parts = [*parts[1:4], *operands[0][:3], *operands[1][:3], *target]
            self.lines.append(f"device.product({', '.join(parts)}, {dtype}, False)")
            return
        self.lines.append(f"device.products({', '.join(parts)}, {extent_name(n * p)}, {dtype})")

    def _lies(self, i: int) -> bool:
        return i in self.places or i in self.made.gathered

    def _operand(self, x: Matrix, step: Any, batch: Sequence[Any]) -> list[str]:
        """Address, distance of rows, whether it lies transposed, distance of matrices."""
        address = self.made.place(x.node)
        if x.offset:
            address = f"{address} + {x.offset * self.nodes[x.node].type.dtype.itemsize}"
        return [address, extent_name(x.lead), repr(x.flip), extent_name(step)]

    # The whole.

    def program(self) -> CudaProgram:
        """Write kernels and driver."""
        for step in self.made.order:
            if isinstance(step, Loop):
                self.loop(step)
            else:
                self.call(step)
        for o, i in enumerate(self.graph.outputs):
            has_dim = bool(self.nodes[i].type.shape) and isinstance(self.nodes[i].type.shape[0], Dim)
            if not has_dim and self.places.get(i) != f"out{o}":
                self._copy(i, f"out{o}")
        layout = lay_out(self.lines, self.made.temporary)
        dims = sorted({n.index for node in self.nodes for n in node.type.shape if isinstance(n, Dim) and n.index})
        counts = [f"n{k} = sizes[{k}]" for k in dims]
        names = list(self.kernels.values())
        head = [f"{_unpacked([f'k{k}' for k in range(len(names))])} = kernels(device)"] if names else []
        head += ["launch = device.launch"] if names else []
        body = [*head, *counts, *self._arguments(), *layout.heads, *self.lines] or ["pass"]
        room = "\n".join(f"    {line}" for line in [*counts, f"return {layout.total}"])
        inner = "\n".join(f"    {line}" for line in body)
        driver = f"def {self.title}(device, m, sizes, inputs, outputs, scratch):\n{inner}\n"
        text = f"{driver}\n\ndef scratch(m, sizes):\n{room}\n"
        kernels = "\n".join(kernel.replace("NAME(", f"{name}(", 1) for kernel, name in self.kernels.items())
        source = f"{HEADER}\n{kernels}"
        defined: dict[str, Any] = {dtype.name: dtype for dtype in self.dtypes}
        defined["kernels"] = _Loaded(source, names)
        exec(compile(text, f"<{self.title}>", "exec"), defined)
        return CudaProgram(f"{driver}\n\n{kernels}", source, tuple(names), defined[self.title], defined["scratch"])

    def _arguments(self) -> list[str]:
        """The lines that take inputs and outputs apart."""
        lines = []
        read = {node.attrs: i for i, node in enumerate(self.nodes) if node.op is INPUT}
        parts = []
        for kind, k in self.wanted:
            i = read.get((kind, k))
            parts.append("_" if i is None else f"(p{i}, r{i}, b{i})" if kind == "rows" else f"v{i}")
        if any(part != "_" for part in parts):
            lines.append(f"{_unpacked(parts)} = inputs")
        if self.graph.outputs:
            parts = [f"(q{o}, w{o}, _, e{o})" if a else f"out{o}" for o, a in enumerate(self.accumulate)]
            lines.append(f"{_unpacked(parts)} = outputs")
        return lines


def _unpacked(parts: Sequence[str]) -> str:
    return f"{', '.join(parts)}{',' if len(parts) == 1 else ''}"


class _Loaded:
    """The kernels of a program on the device that runs it."""

    def __init__(self, source: str, names: Sequence[str]) -> None:
        self.source, self.names = source, names
        self.device: Any = None
        self.found: tuple[Any, ...] = ()

    def __call__(self, device: Device) -> tuple[Any, ...]:
        if self.device is not device:
            self.found = tuple(device.kernel(self.source, name) for name in self.names)
            self.device = device
        return self.found
