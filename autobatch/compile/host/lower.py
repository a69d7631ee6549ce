"""Lower: a batched graph becomes a Python function, the driver, which calls products, verbs and generated loops.

Input: a batched `Graph` of primitives and which results are added to rows. Output: a `Program` with its text and the
function. Invariants: the driver is straight-line code, built once; whatever depends on a launch are its arguments.
Cost: O(nodes) to build, a few microseconds a launch to run.

    def run(m, sizes, inputs, outputs):
        (p0, r0, b0), v1 = inputs
        out0, = outputs
        v0 = gather(p0, r0, b0)
        v2 = empty((m, 64), float32)
        product_transposed(v0, v1, v2, True)
        loop0(m, 64, v2, out0, 0)
        return [None]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...backends.host import parts
from ...backends.host.matmul import (
    add_stacked,
    product,
    product_many,
    product_stacked,
    product_summed,
    product_transposed,
)
from ...backends.host.verbs import add_rows, gather, store, store_rows, take
from ...backends.transfer import DEVICES
from ...base.types import Dim
from ...ir.graph import CONST, INPUT, Graph
from ...ops.index import BOUNDED, TAKE, lowest_index
from ...ops.linalg import PRODUCT
from ...ops.movement import RESHAPE, SLICE, TRANSPOSE
from ..fuse import calls_only, fuse
from ..rewrites.beside import read_beside
from ..rewrites.rewrite import rewrite
from ..rewrites.stacks import ROWS, STACKED, SUMMED, concats_in_place, read_in_place, stack_products
from ..steps import Loop, Read, Steps, Store, gathered_concats

SAME = ("shared", "derived")
"""Kinds of operand that are arrays of any layout, the same for all nodes."""


@dataclass(frozen=True, slots=True)
class Program:
    """One lowered graph.

    text: the driver and its loops, to read
    run: run(m, sizes, inputs, outputs) → results that are the same for all nodes, None for the others; an array given
        for such a result may become it
    loops: the generated loops, and the types of the arguments that the driver passes, as `cache.compile_for` reads them
    products: the dtypes in which matrices are multiplied by the library in use
    """

    text: str
    run: Callable[[int, Sequence[int], Sequence[Any], Sequence[Any]], list[Any]]
    loops: tuple[tuple[Any, str], ...]
    products: frozenset[str]


def graph_inputs(graph: Graph) -> list[tuple[str, int]]:
    """(kind, k) of what a graph reads, in the order of its input nodes: the order of `inputs` of a program."""
    return [(node.attrs[0], node.attrs[1]) for node in graph.nodes if node.op is INPUT]


def lower(graph: Graph, name: str, accumulate: Sequence[bool], backend: str, add: bool = True) -> Program:
    """Make the program of a graph.

    Args:
        graph: a batched graph.
        name: of the driver.
        accumulate: for each result whether it goes to rows of a pool, rather than to a block of its own.
        backend: "numpy" or "numba".
        add: whether results that go to rows are added to them, or stored, which takes rows that are all different.
    """
    if len(accumulate) != len(graph.outputs):
        raise ValueError(f"{len(graph.outputs)} results, {len(accumulate)} flags")
    steps = steps_of(graph, accumulate, backend)
    return _Driver(steps, name, accumulate, backend, graph_inputs(graph), add).program()


def steps_of(graph: Graph, accumulate: Sequence[bool], backend: str) -> Steps:
    """The calls and loops of the program of a graph; with NumPy, calls only. On devices reductions are no loops."""
    if backend == "numpy":
        return calls_only(graph)
    if backend in DEVICES:
        return fuse(read_beside(rewrite(graph))[0], accumulate)
    graph = rewrite(graph, reductions=True)
    unmade = concats_in_place(graph)
    graph = read_beside(graph, [i for i in range(len(graph.nodes)) if i not in unmade])[0]
    return fuse(stack_products(graph, accumulate), accumulate, reductions=True)


def _extent(extent: Any) -> str:
    if not isinstance(extent, Dim):
        return repr(extent)
    name = "m" if extent.index == 0 else f"n{extent.index}"
    return name if extent.factor == 1 else f"{extent.factor} * {name}"


def _tuple(parts: Sequence[str]) -> str:
    return f"({unpacked(parts)})"


def function_name(name: str) -> str:
    """What the driver of a kernel of this name is called.

    >>> function_name("3 gates_forward")
    'run_3_gates_forward'
    """
    title = "".join(c if c.isalnum() else "_" for c in name)
    return title if title.isidentifier() else f"run_{title}"


def count_lines(graph: Graph) -> list[str]:
    """The lines of a driver that name what the `Dim`s of a graph are in a launch."""
    dims = {n.index for node in graph.nodes for n in node.type.shape if isinstance(n, Dim) and n.index}
    return [f"n{k} = sizes[{k}]" for k in sorted(dims)]


def argument_lines(graph: Graph, accumulate: Sequence[bool], rows: str, wanted: Sequence[tuple[str, int]]) -> list[str]:
    """The lines of a driver that take `inputs` and `outputs` apart.

    `rows` is what there is for a result that goes to rows, its number in place of {0}; `wanted` is what `inputs` has.
    """
    lines = []
    read = {node.attrs: i for i, node in enumerate(graph.nodes) if node.op is INPUT}
    parts = []
    for kind, k in wanted:
        i = read.get((kind, k))
        parts.append("_" if i is None else f"(p{i}, r{i}, b{i})" if kind in ROWS else f"v{i}")
    if any(part != "_" for part in parts):
        lines.append(f"{unpacked(parts)} = inputs")
    if graph.outputs:
        parts = [rows.format(o) if a else f"out{o}" for o, a in enumerate(accumulate)]
        lines.append(f"{unpacked(parts)} = outputs")
    return lines


def unpacked(names: Sequence[str]) -> str:
    """The left side of an assignment that takes a sequence apart."""
    return f"{', '.join(names)}{',' if len(names) == 1 else ''}"


def _is_flat(loop: Loop) -> bool:
    """Whether a loop of several columns reads and writes whole arrays only: it then runs over them as one long row."""
    width = loop.domain.width
    reads = [r for operands in loop.reads.values() for r in operands if isinstance(r, Read)]
    reads += [store.value for store in loop.stores if isinstance(store.value, Read)]
    whole = all(
        r.level == "cell" or (r.level == "element" and r.width == width and not r.in_pool and r.through < 0)
        for r in reads
    )
    by_row = loop.row_nodes or loop.reductions
    return whole and width > 1 and not by_row and all(s.kind != "add" and s.width == width for s in loop.stores)


def _is_vector(store: Store, loop: Loop) -> bool:
    """Whether what is written is one number per row, and all there is in the row."""
    return store.width == 1 and (store.is_row or loop.domain.width == 1)


class _Driver:
    def __init__(
        self,
        steps: Steps,
        name: str,
        accumulate: Sequence[bool],
        backend: str,
        wanted: list[tuple[str, int]],
        add: bool,
    ) -> None:
        self.add = add
        self.steps, self.name, self.accumulate, self.backend = steps, name, accumulate, backend
        self.graph = steps.graph
        self.nodes = steps.graph.nodes
        self.wanted = wanted
        self.names: dict[str, Any] = {
            "empty": np.empty,
            "matmul": np.matmul,
            "product": product,
            "product_many": product_many,
            "product_stacked": product_stacked,
            "add_stacked": add_stacked,
            "product_summed": product_summed,
            "product_transposed": product_transposed,
            "ascontiguousarray": np.ascontiguousarray,
            "add_rows": add_rows,
            "store_rows": store_rows,
            "gather": gather,
            "store": store,
            "take": take,
            "errstate": np.errstate,
            "array": np.array,
        }
        self.body: list[str] = []
        self.sources: list[str] = []
        self.loops: list[tuple[Any, str]] = []
        self.products: set[str] = set()
        # values that need not be C-contiguous
        self.strided = {i for i, node in enumerate(self.nodes) if node.op is INPUT and node.attrs[0] in SAME}
        self.flat = False  # whether the loop being called runs over one long row
        self.in_place = read_in_place(self.graph) if backend == "numba" else set()
        self.gathered: set[int] = set()
        self.unseen: set[int] = set()
        if backend == "numba":
            from ...backends.host.numba_verbs import bounded, gather_into

            self.names |= {"bounded": bounded, "gather_into": gather_into}
            self.gathered, gathered_only = gathered_concats(self.graph)
            self.unseen = self._unseen_views() | gathered_only
        self.output_of: dict[int, int] = {}  # results of a row or more for each node
        self.total_of: dict[int, int] = {}  # results that are the same for all nodes
        for o, i in reversed(list(enumerate(self.graph.outputs))):
            if not accumulate[o]:
                (self.output_of if self._has_dim(i) else self.total_of)[i] = o

    def _has_dim(self, i: int) -> bool:
        return bool(self.nodes[i].type.shape) and isinstance(self.nodes[i].type.shape[0], Dim)

    def shape(self, i: int) -> str:
        """The shape of a node in the driver."""
        return _tuple([_extent(n) for n in self.nodes[i].type.shape])

    def constant(self, value: Any) -> str:
        """A value as an expression: written out, or a name for it."""
        if isinstance(value, Dim):
            return _extent(value)
        if isinstance(value, tuple):
            return _tuple([self.constant(v) for v in value])
        if value is None or type(value) in (int, bool, str) or (type(value) is float and np.isfinite(value)):
            return repr(value)
        if isinstance(value, np.dtype):
            self.names[value.name] = value
            return value.name
        name = f"c{sum(key[0] == 'c' and key[1:].isdigit() for key in self.names)}"
        self.names[name] = value
        return name

    def matrix(self, i: int, rows: Any, width: int) -> str:
        """A node as an array of rows."""
        if self.nodes[i].type.shape == (rows, width):
            return f"v{i}"
        return f"v{i}.reshape({_extent(rows)}, {width})"

    # Calls.

    def buffer(self, i: int) -> None:
        """The array that loops or a product write a node to."""
        if i in self.output_of:
            o = self.output_of[i]
            self.body.append(f"v{i} = out{o}.reshape({self.shape(i)})")
            return
        made = f"empty({self.shape(i)}, {self.constant(self.nodes[i].type.dtype)})"
        if i in self.total_of:
            given = f"out{self.total_of[i]}"
            made = f"{made} if {given} is None else {given}"
        self.body.append(f"v{i} = {made}")

    def call(self, i: int) -> None:
        """Make a node by a call."""
        node = self.nodes[i]
        if i in self.unseen:
            return
        if node.op is INPUT:
            if node.attrs[0] in ROWS:
                rows = f"gather(p{i}, r{i}, b{i})"
                plain = node.type.ndim == 2
                self.body.append(f"v{i} = {rows if plain else f'{rows}.reshape({self.shape(i)})'}")
            return
        if node.op is CONST:
            value = np.full(node.type.shape, node.attrs[0], node.type.dtype)
            self.names[f"v{i}"] = value if node.type.shape else value[()]
            return
        if node.op in (STACKED, SUMMED):
            self._stacks(i)
            return
        operands = [f"v{j}" for j in node.inputs]
        if node.op is PRODUCT and (self._has_dim(i) or self.backend == "numba"):
            self.buffer(i)
            self.body.append(self._product(i))
            return
        if i in self.gathered:
            self.buffer(i)
            _, n_rows, width = node.type.shape
            self.body.append(f"rows{i} = v{i}.reshape(v{i}.shape[0], {n_rows * width})")
            start = 0
            for j in node.inputs:
                end = start + self.nodes[j].type.shape[1] * width
                self.body.append(f"gather_into(p{j}, r{j}, rows{i}[:, {start}:{end}])")
                start = end
            return
        if node.op is BOUNDED and self._has_dim(i) and self.backend == "numba":
            self.buffer(i)
            self.names["op_bounded"] = node.op.numpy
            index = f"{operands[0]}, {node.attrs[0]}, {lowest_index(node.attrs)}"
            self.body.append(f"bounded({index}, v{i}) or op_bounded({index})")  # the op raises
            return
        if node.op is TAKE and self._has_dim(i):
            self.buffer(i)
            self.body.append(f"take({operands[0]}, {operands[1]}, v{i})")
            return
        view = self._view(i)
        if view:
            self.body.append(f"v{i} = {view}")
            self.strided.add(i)
            if i in self.output_of:
                self.body.append(f"store(out{self.output_of[i]}, v{i})")
            return
        name, function = self._function(i)
        self.names[name] = function
        arguments = operands + [self.constant(a) for a in node.attrs]
        self.body.append(f"v{i} = {name}({', '.join(arguments)})")
        self.strided.add(i)  # a view, or an array in the order of a transposed operand
        if i in self.output_of:
            self.body.append(f"store(out{self.output_of[i]}, v{i})")

    def _product(self, i: int) -> str:
        """The call of a product: which verb goes by the ranks alone."""
        x, w = self.nodes[i].inputs
        left, right = self.nodes[x].type.shape, self.nodes[w].type.shape
        if self.backend == "numpy" or self.nodes[i].type.dtype.kind != "f":
            return f"matmul(v{x}, v{w}, v{i})"
        if len(left) == len(right) == 3 and left[0] == right[0]:
            return f"product_many(v{x}, v{w}, v{i})"
        if len(left) == 2 and len(right) == 3:
            self.names["broadcast_to"] = np.broadcast_to
            each = _tuple([_extent(n) for n in (right[0], *left)])
            return f"product_many(broadcast_to(v{x}, {each}), v{w}, v{i})"
        if len(right) != 2:
            return f"matmul(v{x}, v{w}, v{i})"
        self.products.add(self.nodes[i].type.dtype.name)
        rows = " * ".join(_extent(n) for n in left[:-1])
        operands = [f"v{x}", f"v{w}", f"v{i}"]
        if len(left) != 2:  # the rows of all examples are rows of one matrix
            operands[0] += f".reshape({rows}, {left[-1]})"
            operands[2] += f".reshape({rows}, {_extent(right[-1])})"
        if not self._flipped(w):
            return f"product({', '.join(operands)})"
        v = self.nodes[self.nodes[w].inputs[0]]
        operands[1] = f"v{self.nodes[w].inputs[0]}"
        return f"product_transposed({', '.join(operands)}, {v.op is INPUT and v.attrs[0] in SAME})"

    def _flipped(self, i: int) -> bool:
        return self.nodes[i].op is TRANSPOSE and self.nodes[i].attrs[0] == (1, 0)

    def _stacks(self, i: int) -> None:
        """Sums of products of stacked matrices: of each node into an array or added to rows, or of all nodes."""
        node = self.nodes[i]
        operands = [self._stack(j) for j in node.inputs]
        if node.op is SUMMED:
            self.buffer(i)
            self.body.append(f"product_summed({operands[0]}, {_tuple(operands[1:])}, v{i})")
            return
        terms = _tuple([f"({x}, {w})" for x, w in zip(operands[::2], operands[1::2], strict=True)])
        o = self.graph.outputs.index(i) if i in self.graph.outputs else -1
        if o >= 0 and self.accumulate[o]:
            self.body.append(f"add_stacked({terms}, (q{o}, w{o}, b{o}_), {node.type.shape[1]}, {self.add})")
            return
        self.buffer(i)
        self.body.append(f"product_stacked({terms}, v{i})")

    def _stack(self, i: int) -> str:
        """An operand of these: an array, or rows of a pool, how many to a matrix, and whether it is turned."""
        node = self.nodes[i]
        source = node.inputs[0] if node.op is TRANSPOSE else i
        if source not in self.in_place:
            return f"v{i}"
        return f"(p{source}, r{source}, {self.nodes[source].type.shape[1]}, {source != i})"

    def _unseen_views(self) -> set[int]:
        """What nothing reads but products: views of what they read, and rows that they read where they lie."""
        uses: dict[int, list[int]] = {}
        for i, node in enumerate(self.nodes):
            for j in node.inputs:
                uses.setdefault(j, []).append(i)
        found = set(self.in_place)
        found |= {i for i, node in enumerate(self.nodes) if node.op is TRANSPOSE and node.inputs[0] in self.in_place}

        def reads_inside(i: int, j: int) -> bool:
            node = self.nodes[j]
            return self._flipped(i) and node.op is PRODUCT and node.inputs[0] != i and node.type.dtype.kind == "f"

        for i, node in enumerate(self.nodes):
            is_view = node.op in (RESHAPE, TRANSPOSE) and i not in self.graph.outputs
            if is_view and all(reads_inside(i, j) for j in uses.get(i, [])):
                found.add(i)
        return found

    def _view(self, i: int) -> str:
        """An expression for a node that only looks at its operand in another way."""
        node = self.nodes[i]
        if node.op is RESHAPE:
            return f"v{node.inputs[0]}.reshape({self.shape(i)})"
        if node.op is TRANSPOSE:
            flipped = node.attrs[0] == tuple(range(len(node.attrs[0])))[::-1]
            return f"v{node.inputs[0]}.T" if flipped else f"v{node.inputs[0]}.transpose({node.attrs[0]})"
        if node.op is SLICE and node.attrs[3] == 1:
            axis, start, length, _ = node.attrs
            return f"v{node.inputs[0]}[..., {start}:{start + length}{', :' * (-1 - axis)}]"
        return ""

    def _function(self, i: int) -> tuple[str, Any]:
        """Name and function of a call: a compiled verb, or the op's reference."""
        node = self.nodes[i]
        if self.backend == "numba" and node.type.dtype.kind == "f":
            from ...backends.host.numba_verbs import VERBS

            if node.op.name in VERBS:
                return node.op.name, VERBS[node.op.name]
        return f"op_{node.op.name}", node.op.numpy

    # Loops.

    def loop(self, loop: Loop) -> None:
        """Generate a loop and call it."""
        from .cache import load
        from .loops import can_share, touches, write_loop

        source, arguments = write_loop(self.graph, loop, self.add)
        name = f"loop{len(self.sources)}"
        self.sources.append(source)
        self.names[name] = load(source)
        self.flat = _is_flat(loop)
        rows, width = _extent(loop.domain.rows), repr(loop.domain.width)
        passed = ["1", f"{rows} * {width}"] if self.flat else [rows, width]
        types = ["int", "int"]
        for argument in arguments:
            if isinstance(argument, int):
                passed.append(repr(argument))
                types.append("int")
            elif type(argument).__name__ == "ArrayArgument":
                passed.append(self._array(argument.use, loop))
                types.append(f"{self._dtype(argument.use)}:{self._rank(argument.use, loop)}")
            else:
                passed.append(self._rows(argument.use))
                types.append(f"{self._rows_dtype(argument.use)}:1")
        called = name
        if can_share(loop, self.add):
            called = self._shared(name, loop, touches(self.graph, loop), [t.endswith(":2") for t in types[2:]])
            passed.append("0")
            types.append("int")
        self.loops.append((self.names[name], " ".join(types)))
        self.body.append(f"{called}({', '.join(passed)})")

    def _shared(self, name: str, loop: Loop, touches: int, is_row: list[bool]) -> str:
        """What is called for a loop that threads may share: from a number of rows on, the loop in parts."""
        per_row = touches * max(1, loop.domain.width)
        least = -(-parts.SHARED // per_row)
        rows = loop.domain.rows
        if isinstance(rows, int) and rows < least:
            return name
        if self.flat:
            run = parts.share_columns(self.names[name], touches, is_row)
        else:
            run = parts.share_rows(self.names[name], per_row)
        shared = f"shared_{name}"
        self.names[shared] = run
        return shared if isinstance(rows, int) else f"({name} if {_extent(rows)} < {least} else {shared})"

    def _dtype(self, use: Read | Store) -> str:
        i = use.node if isinstance(use, Read) else use.target if use.kind == "node" else self.graph.outputs[use.target]
        return self.nodes[i].type.dtype.name

    def _rows_dtype(self, use: Read | Store) -> str:
        own = isinstance(use, Read) and use.through >= 0 and not use.in_pool
        return self.nodes[use.through].type.dtype.name if isinstance(use, Read) and own else "int32"

    def _rank(self, use: Read | Store, loop: Loop) -> int:
        """The number of axes of what `_array` passes."""
        if self.flat and not (isinstance(use, Read) and use.level == "cell"):
            return 2
        if isinstance(use, Store):
            return 1 if use.kind != "add" and _is_vector(use, loop) else 2
        if use.in_pool:
            return 2
        plain = use.level == "row" and use.width == 1 and use.through < 0
        return 1 if plain or use.level in ("vector", "cell") else 2

    def _array(self, use: Read | Store, loop: Loop) -> str:
        if self.flat and not (isinstance(use, Read) and use.level == "cell"):
            if isinstance(use, Read):
                self._contiguous(use.node)
                return f"v{use.node}.reshape(1, -1)"
            return f"{'out' if use.kind == 'output' else 'v'}{use.target}.reshape(1, -1)"
        rows, width = _extent(use.rows if isinstance(use, Read) else loop.domain.rows), use.width
        if isinstance(use, Store):
            if use.kind == "add":
                return f"q{use.target}"
            if use.kind == "output":
                i = self.graph.outputs[use.target]
                if _is_vector(use, loop):
                    return f"out{use.target}.reshape({rows})"
                plain = len(self.nodes[i].type.shape) <= 2 and loop.domain.rows == self.nodes[i].type.shape[0]
                return f"out{use.target}" if plain else f"out{use.target}.reshape({rows}, {width})"
            if _is_vector(use, loop):
                return f"v{use.target}" if self.nodes[use.target].type.ndim == 1 else f"v{use.target}.reshape({rows})"
            return self.matrix(use.target, loop.domain.rows, width)
        if use.in_pool:
            return f"p{use.node}"
        self._contiguous(use.node)
        shape = self.nodes[use.node].type.shape
        if use.level in ("vector", "cell"):
            return f"v{use.node}" if len(shape) == 1 else f"v{use.node}.reshape(-1)"
        if use.level == "row" and width == 1 and use.through < 0:
            return f"v{use.node}" if len(shape) == 1 else f"v{use.node}.reshape({rows})"
        return self.matrix(use.node, use.rows, width)

    def _contiguous(self, i: int) -> None:
        if i in self.strided and self.nodes[i].type.ndim:
            self.strided.discard(i)
            self.body.append(f"v{i} = ascontiguousarray(v{i})")

    def _rows(self, use: Read | Store) -> str:
        if isinstance(use, Store):
            return f"w{use.target}"
        if use.through < 0:
            return f"r{use.node}"
        return f"r{use.node}[v{use.through}]" if use.in_pool else f"v{use.through}"

    # The whole.

    def _buffers(self) -> None:
        """Arrays that loops write to, before the first step."""
        loops = [step for step in self.steps.order if isinstance(step, Loop)]
        made = {s.target for loop in loops for s in loop.stores if s.kind == "node"}
        values = {i for loop in loops for i in (*loop.nodes, *loop.row_nodes, *loop.reductions)}
        made |= {i for i in values if i in self.output_of and i in self._read}
        for i in sorted(made):
            self.buffer(i)
        self._made = made

    def program(self) -> Program:
        """Write the driver and compile it."""
        self._read = {j for step in self.steps.order if isinstance(step, int) for j in self.nodes[step].inputs}
        for step in self.steps.order:
            if isinstance(step, Loop):
                reads = [r for rs in step.reads.values() for r in rs] + [s.value for s in step.stores]
                self._read |= {r.node for r in reads if isinstance(r, Read)}
        self._buffers()
        for step in self.steps.order:
            if isinstance(step, Loop):
                self.loop(step)
            elif step not in self._made:
                self.call(step)
        if self.backend == "numpy":
            self._write_outputs()
        results = []
        for o, i in enumerate(self.graph.outputs):
            own = self.nodes[i].op not in (INPUT, CONST, RESHAPE, SLICE, TRANSPOSE) and self.graph.outputs.index(i) == o
            results.append("None" if self._has_dim(i) else f"v{i}" if own else f"array(v{i})")
        title = function_name(self.name)
        lines = [f"def {title}(m, sizes, inputs, outputs):"]
        heads = argument_lines(self.graph, self.accumulate, "(q{0}, w{0}, b{0}_)", self.wanted)
        lines += [f"    {line}" for line in (*count_lines(self.graph), *heads)]
        body = self.body or ["pass"]
        if self.backend == "numpy":  # elsewhere the whole loop over the launches is inside
            body = ['with errstate(all="ignore"):', *(f"    {line}" for line in body)]
        lines += [f"    {line}" for line in body]
        lines.append(f"    return [{', '.join(results)}]")
        text = "\n".join(lines) + "\n"
        exec(compile(text, f"<{self.name}>", "exec"), self.names)
        run = self.names[title]
        return Program("\n\n".join([text, *self.sources]), run, tuple(self.loops), frozenset(self.products))

    def _write_outputs(self) -> None:
        """Without loops: results that no call has written in place."""
        for o, i in enumerate(self.graph.outputs):
            if self.accumulate[o]:
                self.body.append(f"{'add' if self.add else 'store'}_rows((q{o}, w{o}, b{o}_), v{i})")
            elif self._has_dim(i) and (self.output_of[i] != o or self.nodes[i].op in (INPUT, CONST)):
                self.body.append(f"store(out{o}, v{i})")
