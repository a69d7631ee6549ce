"""calls: the lines of a driver that gather rows, multiply matrices and call ops.

Input: `Steps`, and what becomes of the results. Output: lines, one call after the other, and the names in them.
Invariants: a node that only matmuls read, in place, has no line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...backends.host import attention, pairs
from ...backends.host.matmul import library
from ...backends.host.numba_verbs import bounded, gather_into, scan_verb, segments_verb
from ...backends.host.verbs import add_rows, gather, store, store_rows, take
from ...base.types import Dim
from ...ir.graph import CONST, Graph
from ...ops.attention import ATTENTION, ATTENTION_SUM
from ...ops.index import BOUNDED, TAKE, lowest_index
from ...ops.linalg import PRODUCT
from ...ops.movement import RESHAPE, SLICE, TRANSPOSE
from ...ops.pairs import PAIR_PRODUCT
from ..rewrites.in_place_matmuls import ROWS, SEGMENTED, STACKED, SUMMED, read_in_place
from ..steps import gathered_concats
from ..text import extent_name, tuple_of

VERBS: tuple[Any, ...] = (
    *(library, add_rows, store_rows, gather, store, take, bounded, gather_into),
    *(np.empty, np.matmul, np.ascontiguousarray, np.broadcast_to, np.errstate, np.array),
)
"""What a driver calls, by name."""

BETWEEN_LISTS = {
    ATTENTION: attention.attention,
    ATTENTION_SUM: attention.attention_sum,
    PAIR_PRODUCT: pairs.pair_product,
}
"""What computes ops between lists, written to an array."""

SAME = ("shared", "derived")
"""Kinds of operand that are arrays of any layout, the same for all nodes."""


class Calls:
    """Writes calls to `body`. `names` are the globals of the driver, `strided` values that need not be C-contiguous."""

    def __init__(self, graph: Graph, accumulate: Sequence[bool], is_compiled: bool, add: bool) -> None:
        self.graph, self.nodes = graph, graph.nodes
        self.accumulate, self.is_compiled, self.add = accumulate, is_compiled, add
        self.names: dict[str, Any] = {verb.__name__: verb for verb in VERBS}
        self.body: list[str] = []
        self.gemm_dtypes: set[str] = set()
        self.strided = {i for i, node in enumerate(self.nodes) if node.kind in SAME}
        self.in_place: set[int] = set()
        self.gathered: set[int] = set()
        self.inlined: set[int] = set()
        if is_compiled:
            self.in_place = read_in_place(graph)
            self.gathered, gathered_only = gathered_concats(graph)
            self.inlined = self._read_by_matmuls() | gathered_only
        self.output_of: dict[int, int] = {}  # results of a row or more for each node
        self.total_of: dict[int, int] = {}  # results that are the same for all nodes
        for o, i in reversed(list(enumerate(graph.outputs))):
            if not accumulate[o]:
                (self.output_of if self.nodes[i].type.has_dim else self.total_of)[i] = o

    def shape(self, i: int) -> str:
        """The shape of a node in the driver."""
        return tuple_of([extent_name(n) for n in self.nodes[i].type.shape])

    def constant(self, value: Any) -> str:
        """A value as an expression: written out, or a name for it."""
        if isinstance(value, Dim):
            return extent_name(value)
        if isinstance(value, tuple):
            return tuple_of([self.constant(v) for v in value])
        if value is None or type(value) in (int, bool, str) or (type(value) is float and np.isfinite(value)):
            return repr(value)
        if isinstance(value, np.dtype):
            self.names[value.name] = value
            return value.name
        name = f"c{sum(key[0] == 'c' and key[1:].isdigit() for key in self.names)}"
        self.names[name] = value
        return name

    def buffer(self, i: int) -> None:
        """The array that loops or a matmul write a node to."""
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
        operands = [f"v{j}" for j in node.inputs]
        if i in self.inlined:
            return
        if node.is_input:
            if node.kind in ROWS:
                rows = f"gather(p{i}, r{i}, b{i})"
                self.body.append(f"v{i} = {rows if node.type.ndim == 2 else f'{rows}.reshape({self.shape(i)})'}")
        elif node.op is CONST:
            value = np.full(node.type.shape, node.attrs[0], node.type.dtype)
            self.names[f"v{i}"] = value if node.type.shape else value[()]
        elif node.op in (STACKED, SUMMED):
            self._batched_sum(i)
        elif node.op is SEGMENTED:
            self.buffer(i)
            self.body.append(f"library().gemm_segments({', '.join(operands)}, v{i})")
        elif node.op is PRODUCT and (self.nodes[i].type.has_dim or self.is_compiled):
            self.buffer(i)
            self.body.append(self._matmul(i))
        elif i in self.gathered:
            self._gather_concat(i)
        elif node.op is BOUNDED and self.nodes[i].type.has_dim and self.is_compiled:
            self.buffer(i)
            self.names["op_bounded"] = node.op.numpy
            index = f"{operands[0]}, {node.attrs[0]}, {lowest_index(node.attrs)}"
            self.body.append(f"bounded({index}, v{i}) or op_bounded({index})")  # the op raises
        elif node.op in BETWEEN_LISTS and self.is_compiled:
            self.buffer(i)
            self.names[f"{node.op.name}_into"] = BETWEEN_LISTS[node.op]
            arguments = [*operands, *map(self.constant, node.attrs), f"v{i}"]
            self.body.append(f"{node.op.name}_into({', '.join(arguments)})")
        elif node.op is TAKE and self.nodes[i].type.has_dim:
            self.buffer(i)
            self.body.append(f"take({operands[0]}, {operands[1]}, v{i})")
        else:
            self.body.append(f"v{i} = {self._view(i) or self._call_of_op(i)}")
            self.strided.add(i)  # a view, or an array in the order of a transposed operand
            if i in self.output_of:
                self.body.append(f"store(out{self.output_of[i]}, v{i})")

    def _gather_concat(self, i: int) -> None:
        """Rows that are gathered into their place in a concat."""
        self.buffer(i)
        _, n_rows, width = self.nodes[i].type.shape
        self.body.append(f"rows{i} = v{i}.reshape(v{i}.shape[0], {n_rows * width})")
        start = 0
        for j in self.nodes[i].inputs:
            end = start + self.nodes[j].type.shape[1] * width
            self.body.append(f"gather_into(p{j}, r{j}, rows{i}[:, {start}:{end}])")
            start = end

    def _matmul(self, i: int) -> str:
        """The call of a matmul: the ranks alone decide which verb."""
        x, w = self.nodes[i].inputs
        left, right = self.nodes[x].type.shape, self.nodes[w].type.shape
        if not self.is_compiled or self.nodes[i].type.dtype.kind != "f":
            return f"matmul(v{x}, v{w}, v{i})"
        if len(left) == len(right) == 3 and left[0] == right[0]:
            return f"library().gemm_batched(v{x}, v{w}, v{i})"
        if len(left) == 2 and len(right) == 3:
            each = tuple_of([extent_name(n) for n in (right[0], *left)])
            return f"library().gemm_batched(broadcast_to(v{x}, {each}), v{w}, v{i})"
        if len(right) != 2:
            return f"matmul(v{x}, v{w}, v{i})"
        self.gemm_dtypes.add(self.nodes[i].type.dtype.name)
        rows = " * ".join(extent_name(n) for n in left[:-1])
        operands = [f"v{x}", f"v{w}", f"v{i}"]
        if len(left) != 2:  # the rows of all examples are rows of one matrix
            operands[0] += f".reshape({rows}, {left[-1]})"
            operands[2] += f".reshape({rows}, {extent_name(right[-1])})"
        if not self._is_transposed(w):
            return f"library().gemm({', '.join(operands)})"
        v = self.nodes[self.nodes[w].inputs[0]]
        operands[1] = f"v{self.nodes[w].inputs[0]}"
        return f"library().gemm_transposed({', '.join(operands)}, {v.kind in SAME})"

    def _is_transposed(self, i: int) -> bool:
        return self.nodes[i].op is TRANSPOSE and self.nodes[i].attrs[0] == (1, 0)

    def _batched_sum(self, i: int) -> None:
        """Sums of batched matmuls: of each node into an array or added to rows, or over all nodes."""
        node = self.nodes[i]
        operands = [self._matrices(j) for j in node.inputs]
        if node.op is SUMMED:
            self.buffer(i)
            self.body.append(f"library().gemm_batch_reduce({operands[0]}, {tuple_of(operands[1:])}, v{i})")
            return
        terms = tuple_of([f"({x}, {w})" for x, w in zip(operands[::2], operands[1::2], strict=True)])
        o = self.graph.outputs.index(i) if i in self.graph.outputs else -1
        if o >= 0 and self.accumulate[o]:
            self.body.append(
                f"library().gemm_batched_sum_to_rows({terms}, (q{o}, w{o}, b{o}_), {node.type.shape[1]}, {self.add})"
            )
            return
        self.buffer(i)
        self.body.append(f"library().gemm_batched_sum({terms}, v{i})")

    def _matrices(self, i: int) -> str:
        """An operand of these: an array, or rows of a pool, how many to a matrix, and whether it is transposed."""
        node = self.nodes[i]
        source = node.inputs[0] if node.op is TRANSPOSE else i
        if source not in self.in_place:
            return f"v{i}"
        return f"(p{source}, r{source}, {self.nodes[source].type.shape[1]}, {source != i})"

    def _read_by_matmuls(self) -> set[int]:
        """What only matmuls read: views of their operands, and rows that they read in place."""
        uses = self.graph.uses()
        found = set(self.in_place)
        found |= {i for i, node in enumerate(self.nodes) if node.op is TRANSPOSE and node.inputs[0] in self.in_place}

        def reads_inside(i: int, j: int) -> bool:
            node = self.nodes[j]
            return self._is_transposed(i) and node.op is PRODUCT and node.inputs[0] != i and node.type.dtype.kind == "f"

        for i, node in enumerate(self.nodes):
            is_view = node.op in (RESHAPE, TRANSPOSE) and i not in self.graph.outputs
            if is_view and all(reads_inside(i, j) for j in uses[i]):
                found.add(i)
        return found

    def _view(self, i: int) -> str:
        """An expression for a node that is a view of its operand."""
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

    def _call_of_op(self, i: int) -> str:
        """A call of a compiled verb, or of the op's reference."""
        node = self.nodes[i]
        of_rows = node.op.combine and node.op.batch not in ("reduce", "scan")
        if of_rows and self.is_compiled and node.type.dtype.kind == "f":
            verb = scan_verb if node.op.per_element else segments_verb
            name, self.names[node.op.name] = node.op.name, verb(node.op, node.type.dtype)
        else:
            name = f"op_{node.op.name}"
            self.names[name] = node.op.numpy
        return f"{name}({', '.join([*(f'v{j}' for j in node.inputs), *map(self.constant, node.attrs)])})"
