"""Signatures of derivatives: what one node contributes, and the cotangents of shared operands over many nodes.

The VJP of a signature is cut in two. `rows` runs once for each node: cotangents of its operands, and values that are
handed on. `final` runs once for all nodes of the signature: cotangents of shared operands, each a sum over the nodes,
whose values are the elements of its lists; so no node has a gradient of the size of a weight.

    y = W x for each node       rows: Wᵀ ȳ, for each node       final: Σ ȳ xᵀ, over all nodes

Of the VJP, `final` computes again what is no larger than what it is made of, from what nodes read anyway; anything
else is handed on: what reads weights in matmuls, what meets values of another list, what depends on random draws.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..base.types import ELEMENTS, LEADING, Type, size_of, tensor_type
from ..ir.graph import CONST, NODE, SHARED, Graph
from ..ir.vjp import differentiable, vjp
from ..ops.elementwise import ADD
from ..ops.linalg import PRODUCT
from ..ops.movement import RESHAPE, TRANSPOSE
from ..ops.reduce import LIST_SUM
from ..schedule.structures import AS_SLOT, EACH, KERNEL, LIST, OF_LIST, ONE, PER_ELEMENT, Result, Slot
from .shared import SharedExpression
from .signature import Signature

ROWS, RESULT, COTANGENT, HANDED, DATA = "rows", "result", "cotangent", "handed", "data"
"""What a derivative reads: operands and results of the node, cotangents of the results, what was handed on, numbers."""


_UNMOVED = frozenset(("list", "segments", "pairs", "random", "scan", "arange", "whole", "between", "held", "custom"))
"""Batching rules of ops that stay with their node."""


@dataclass(frozen=True, slots=True)
class Derivative:
    """The VJP of a signature by its rows and by some shared operands.

    rows: it reads the operands `reads`, each a ROWS, RESULT or COTANGENT and its number
    slots: whose cotangents its first results are; `n_handed` more are handed on
    passed: slots whose cotangents are those of results, by their numbers
    final: it reads `final_reads`, which may be HANDED or DATA, too, of all nodes; None: no shared operand has a part
    shared: the shared operands whose cotangents are its results
    """

    rows: Signature
    reads: tuple[tuple[str, int], ...]
    slots: tuple[int, ...]
    n_handed: int
    passed: tuple[tuple[int, int], ...]
    final: Signature | None
    final_reads: tuple[tuple[str, int], ...]
    shared: tuple[int, ...]


def derivative_of(signature: Signature, shared: frozenset[int]) -> Derivative:
    """The derivative of a signature by its rows and these shared operands, made once."""
    known = signature.decisions.derivatives
    if shared not in known:
        known[shared] = _Derivation(signature, shared).result()
    return known[shared]


def row_of(type: Type) -> Type:
    """A value of this type as one row among several."""
    return tensor_type(type.dtype, (1, *type.shape), LEADING if type.ndim else ELEMENTS)


class _Derivation:
    def __init__(self, signature: Signature, shared: frozenset[int]) -> None:
        self.signature = signature
        wrt = differentiable(signature.graph, shared)
        found = vjp(signature.graph, wrt)
        self.graph = found.graph
        self.nodes = found.graph.nodes
        by = [(self.nodes[w].attrs, c) for w, c in zip(wrt, found.cotangents, strict=True) if c is not None]
        of_rows = {k: c for (kind, k), c in by if kind == ROWS}
        self.passed = {
            k: self.nodes[c].attrs[1]
            for k, c in of_rows.items()
            if self.nodes[c].kind == COTANGENT and signature.slots[k].kind != LIST
        }
        self.of_rows = {k: c for k, c in of_rows.items() if k not in self.passed}
        self.results = {i: k for k, i in enumerate(signature.graph.outputs) if self.nodes[i].inputs}
        self.of_shared = {k: c for (kind, k), c in by if kind == "shared"}
        self.moved = self._moved()
        self.handed: list[int] = []

    def result(self) -> Derivative:
        final, final_reads = self._final() if self.of_shared else (None, ())
        outputs = [*self.of_rows.values(), *self.handed]
        # What has lists reads all of them: they are numbered.
        read: list[tuple[str, int]] = [(ROWS, k) for k in range(len(self.signature.slots)) if self.signature.lists]
        results = []
        for k, i in zip([*self.of_rows, *(-1 for _ in self.handed)], outputs, strict=True):
            results.append(self._result(k, i, read))
        rows = self._signature(f"vjp of {self.signature.name}", outputs, results, read)
        return Derivative(
            rows,
            tuple(read),
            tuple(self.of_rows),
            len(self.handed),
            tuple(self.passed.items()),
            final,
            tuple(final_reads),
            tuple(self.of_shared),
        )

    # Node by node.

    def _result(self, k: int, i: int, read: list[tuple[str, int]]) -> Result:
        """Node i as a result: the cotangent of operand k, or handed on."""
        type, level = self.nodes[i].type, self.nodes[i].level
        if self.signature.by_rows:
            source = (ROWS, k) if k >= 0 else (ROWS, 0)
            return Result(type.width * type.rows, type.dtype, AS_SLOT, _place(read, source))
        if level > NODE and self.signature.is_paired:
            return Result(type.width * type.rows, type.dtype, OF_LIST, level)
        if level > NODE:
            slot = next(k for k, s in enumerate(self.signature.slots) if s.list == level) if k < 0 else k
            each = k >= 0 and self.signature.slots[k].kind == EACH
            width, rows = (type.width * type.rows, 1) if each else (type.width, type.rows)
            return Result(width, type.dtype, PER_ELEMENT, _place(read, (ROWS, slot)), rows)
        return Result(type.width, type.dtype, rows=type.rows)

    def _signature(
        self, name: str, outputs: Sequence[int], results: Sequence[Result], read: list[tuple[str, int]]
    ) -> Signature:
        """What computes these nodes for one node; what it reads is added to `read`."""
        shared: list[int] = []

        def operand(i: int) -> tuple[str, int] | None:
            node = self.nodes[i]
            if i in self.results:
                return ROWS, _place(read, (RESULT, self.results[i]))
            if node.kind in (ROWS, COTANGENT):
                return ROWS, _place(read, node.attrs)
            return ("shared", _place(shared, node.attrs[1])) if node.kind == "shared" else None

        graph = self.graph.part(outputs, operand)
        return dataclasses.replace(
            self.signature,
            name=name,
            kind=KERNEL,
            slots=tuple(self._slot(kind, k) for kind, k in read),
            results=tuple(results),
            graph=graph,
            shared=tuple(self.signature.shared[k] for k in shared),
            frozen=False,
            members=(),
            constant=frozenset(),
        )

    def _slot(self, kind: str, k: int) -> Slot:
        s = self.signature
        if kind == ROWS:
            return s.slots[k]
        type, where = s.graph.nodes[s.graph.outputs[k]].type, s.results[k]
        if where.rule == OF_LIST:
            return Slot(EACH, row_of(type), where.ref)
        if where.rule == PER_ELEMENT:
            number = s.slots[where.ref].list
            return Slot(LIST, type, number) if where.rows > 1 else Slot(EACH, row_of(type), number)
        return Slot(ONE, row_of(type)) if s.by_rows else Slot(ONE, type)

    # All nodes together.

    def _moved(self) -> list[bool]:
        """Which nodes `final` computes from what they read, rather than to have them handed on."""
        cost = [0] * len(self.nodes)
        moved = [False] * len(self.nodes)
        for i, node in enumerate(self.nodes):
            if i in self.results or node.is_input or node.op is CONST or node.level == SHARED:
                moved[i] = True
                continue
            own = size_of(node.type.shape)
            of_inputs = sum(cost[j] for j in dict.fromkeys(node.inputs))
            moved[i] = of_inputs <= own and self._is_movable(i)
            cost[i] = of_inputs if moved[i] else own
        return moved

    def _is_movable(self, i: int) -> bool:
        node = self.nodes[i]
        inputs = [self.nodes[j] for j in node.inputs]
        if node.op.batch in _UNMOVED:
            return False
        if any(j.kind in ("lengths", "positions") or (j.kind == DATA and self.signature.draws) for j in inputs):
            return False
        if any(j.level not in (SHARED, node.level) for j in inputs):
            return False
        return node.op is not PRODUCT or all(j.level != SHARED for j in inputs)

    def _final(self) -> tuple[Signature, list[tuple[str, int]]]:
        """The signature of the cotangents of shared operands, as sums over the elements of lists."""
        leaves = {k: self._leaves(i) for k, i in self.of_shared.items()}
        levels: list[int] = []
        read: list[tuple[str, int]] = []
        slots: list[Slot] = []
        shared: list[int] = []
        new = Graph()
        number: dict[int, int] = {}

        def copied(i: int) -> int:
            """Node i in the new graph, for elements of a list."""
            if i in number:
                return number[i]
            node = self.nodes[i]
            level = node.level if node.level == SHARED else 1 + _place(levels, max(node.level, NODE))
            if node.kind == "shared":
                made = new.input("shared", _place(shared, node.attrs[1]), node.type, SHARED)
            elif node.is_input or i in self.results or not self.moved[i]:
                source = self._source(i)
                if source not in read:
                    read.append(source)
                    slots.append(self._listed(*source, node.type, level))
                made = new.input(ROWS, read.index(source), node.type, level)
            else:
                made = new.add(node.op, tuple(copied(j) for j in node.inputs), node.attrs, node.type, level)
            number[i] = made
            return made

        outputs = []
        for found in leaves.values():
            totals = []
            for leaf in found:
                views = []  # of the sum, rather than of each element
                while self._is_view(leaf):
                    views.append(self.nodes[leaf])
                    leaf = self.nodes[leaf].inputs[0]
                at = copied(leaf)
                each = new.nodes[at]
                total = at if each.level == SHARED else new.add(LIST_SUM, (at,), (each.level,), each.type, NODE)
                for view in reversed(views):
                    total = new.add(view.op, (total,), view.attrs, view.type, NODE)
                totals.append(total)
            outputs.append(functools.reduce(lambda a, b: new.add(ADD, (a, b), (), new.nodes[a].type, NODE), totals))
        new.outputs = tuple(outputs)
        types = [new.nodes[i].type for i in outputs]
        signature = Signature(
            name=f"vjp of {self.signature.name} by shared",
            kind=KERNEL,
            slots=tuple(slots),
            results=tuple(Result(type.width, type.dtype, rows=type.rows) for type in types),
            graph=new.check(),
            shared=tuple(self.signature.shared[k] for k in shared),
        )
        return signature, read

    def _source(self, i: int) -> tuple[str, int]:
        """Where `final` reads node i from."""
        if i in self.results:
            return RESULT, self.results[i]
        node = self.nodes[i]
        return (node.kind, node.attrs[1]) if node.is_input else (HANDED, _place(self.handed, i))

    def _is_view(self, i: int) -> bool:
        return self.moved[i] and i not in self.results and self.nodes[i].op in (TRANSPOSE, RESHAPE)

    def _leaves(self, i: int) -> list[int]:
        """The terms of a cotangent of a shared operand, each of a node or of an element."""
        found, stack = [], [i]
        while stack:
            node = self.nodes[j := stack.pop()]
            if node.op is ADD and all(self.nodes[k].type is node.type for k in node.inputs):
                stack.extend(node.inputs[::-1])
            elif node.op is LIST_SUM:
                stack.append(node.inputs[0])
            else:
                found.append(j)
        return found

    def _listed(self, kind: str, k: int, type: Type, level: int) -> Slot:
        """What a node reads, or hands on, as elements of a list."""
        if kind == DATA:
            return Slot(EACH, row_of(type), level)
        if kind == HANDED:
            own = self.nodes[self.handed[k]]
            each = self.signature.by_rows or (own.level > NODE and (type.rows == 1 or self.signature.is_paired))
            return Slot(EACH, row_of(type), level) if each else Slot(LIST, type, level)
        slot = self._slot(kind, k)
        each = slot.kind == EACH or self.signature.by_rows
        return Slot(EACH if each else LIST, slot.type, level)


def _place(items: list[Any], x: Any) -> int:
    """The place of x in a list, to which it is added if it is not there."""
    if x not in items:
        items.append(x)
    return items.index(x)


def vjp_of_expression(x: SharedExpression) -> tuple[Signature, list[int]]:
    """The signature that carries the cotangent of a shared expression to some of its parents, and which."""
    found: tuple[Signature, list[int]] | None = x._signatures.get("pull")
    if found is None:
        wrt = [i for i, n in enumerate(x.graph.nodes) if n.is_input and x.parents[n.attrs[1]].trainable]
        result = vjp(x.graph, wrt)
        keys = [x.graph.nodes[w].attrs[1] for w, c in zip(wrt, result.cotangents, strict=True) if c is not None]
        graph = Graph()
        for node in result.graph.pruned().nodes:
            is_cotangent = node.kind == COTANGENT
            attrs, level = ((ROWS, 0), max(node.level, NODE)) if is_cotangent else (node.attrs, node.level)
            graph.add(node.op, node.inputs, attrs, node.type, level)
        graph.outputs = result.graph.pruned().outputs
        types = [graph.nodes[i].type for i in graph.outputs]
        results = tuple(Result(type.width, type.dtype, rows=type.rows) for type in types)
        slots = (Slot(ONE, x._type),)
        signature = Signature(
            name="vjp of shared", kind=KERNEL, slots=slots, results=results, graph=graph, shared=x.parents
        )
        found = x._signatures["pull"] = signature, keys
    return found
