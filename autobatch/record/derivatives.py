"""The nodes of an open recording are traversed backwards from a scalar, and the VJP of each is recorded.

In: nodes of the tape. Out: cotangents of values and of shared operands, as values of the same tape. For
each node one is appended that computes the cotangents of its operands: a kernel whose graph is the VJP of the node's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..base.types import ELEMENTS, LEADING, Type, tensor_type
from ..ir.graph import NODE, Graph
from ..ir.vjp import differentiable, vjp
from ..ops.declare import apply
from ..ops.index import SCATTER_ADD
from ..schedule.structures import (
    AS_SLOT,
    CONCAT_ROWS,
    EACH,
    KERNEL,
    LIST,
    ONE,
    PAYLOAD,
    PER_ELEMENT,
    Result,
    Slot,
    row_numbers,
)
from .assemble import n_listed
from .links import lift, value_number
from .nodes import write
from .recorder import tensor
from .shared import Shared, SharedExpression, in_order
from .signature import Signature
from .tape import Recording, current_tape
from .tensor import RecordedTensor
from .views import laid_out, spread_rows, view_rows

Wrt = list[tuple[str, int]]
"""What the results of a derivative belong to: ("rows", slot) or ("shared", number of the shared operand)."""


@dataclasses.dataclass(slots=True)
class _Node:
    signature: Signature
    slots: list[list[int]]
    first: int
    ints: int
    floats: int

    @property
    def values(self) -> range:
        return range(self.first, self.first + len(self.signature.results))


class Sweep:
    """One walk. `sources` are numbers of the values, `parameters` the shared values that are differentiated; what was
    recorded before value `first` is constant."""

    def __init__(self, tape: Recording, first: int, sources: set[int], parameters: set[Shared]) -> None:
        self.tape = tape
        self.first = first
        self.sources = sources
        self.parameters = parameters
        self.tensors: dict[int, RecordedTensor] = {t._id: t for t in tape.live_tensors()}
        self.cotangents: dict[int, Any] = {}
        self.shared: dict[Shared, Any] = {}
        self.reaching: dict[Shared, bool] = {}

    def run(self, value: RecordedTensor, sources: list[RecordedTensor], parameters: list[Shared]) -> dict[Any, Any]:
        """The derivatives of a scalar by tensors and shared values."""
        nodes = list(_nodes(self.tape))
        wanted = self._wanted(nodes)
        self.cotangents[value._id] = tensor(np.ones(()), value.dtype)
        for node, is_wanted in zip(reversed(nodes), reversed(wanted), strict=True):
            if is_wanted and node.signature.kind != PAYLOAD and any(v in self.cotangents for v in node.values):
                self._reverse(node)
        self._reverse_expressions()
        found = {s: _or_zeros(self.cotangents.get(s._id), s) for s in sources}
        return found | {p: _or_zeros(self.shared.get(p), p) for p in parameters}

    def _wanted(self, nodes: list[_Node]) -> list[bool]:
        """Which nodes have operands that depend on what is differentiated."""
        values = set(self.sources)
        wanted = []
        for node in nodes:
            s = node.signature
            is_source = any(v in self.sources for v in node.values)
            depends = (
                (node.first >= self.first or s.name == "shared row")
                and not s.frozen
                and (
                    any(v in values for slot in node.slots for v in slot)
                    or any(self._reaches(s.shared[k]) for k in s.trainable)
                )
            )
            if depends or is_source:
                values.update(node.values)
            wanted.append(depends and not is_source)
        return wanted

    def _reaches(self, x: Shared) -> bool:
        """Whether a shared value is made of a differentiated parameter."""
        if x not in self.reaching:
            for y in in_order([x]):
                self.reaching[y] = y in self.parameters or (
                    isinstance(y, SharedExpression) and y.trainable and any(self.reaching[p] for p in y.parents)
                )
        return self.reaching[x]

    def _reverse(self, node: _Node) -> None:
        s = node.signature
        if s.kind == CONCAT_ROWS:
            at, g = 0, self.cotangents[node.first]
            for a in node.slots[0]:
                type = self.tensors[a]._type
                self._give(a, view_rows(g, at, 1, type.rows, "pick" if s.attrs[0] == "stack" else "slice", type))
                at += type.rows
        elif s.kind == KERNEL:
            self._reverse_kernel(node)
        else:
            self._reverse_view(node)

    def _reverse_kernel(self, node: _Node) -> None:
        s = node.signature
        derived, wrt = vjp_signature(s, frozenset(k for k in s.trainable if self._reaches(s.shared[k])))
        if not wrt:
            return
        operands: list[Any] = []
        for slot, ids in zip(s.slots, node.slots, strict=True):
            values = [self.tensors[a] for a in ids]
            operands.append(values if slot.kind == LIST else values[0])
        for k, (v, where) in enumerate(zip(node.values, s.results, strict=True)):
            g = _or_zeros(self.cotangents.get(v), self.tensors.get(v))
            slot = derived.slots[len(s.slots) + k]
            starts = range(0, g._type.rows, where.rows) if slot.kind == LIST else ()
            parts = [view_rows(g, at, 1, where.rows, "slice", slot.type) for at in starts]
            operands.append(parts if slot.kind == LIST else g)
        for (kind, k), g in zip(wrt, self._write(derived, wrt, node, operands), strict=True):
            if kind == "shared":
                _add(self.shared, s.shared[k], g)
            elif s.slots[k].kind == LIST:
                element = s.slots[k].type
                for e, a in enumerate(node.slots[k]):
                    how = "pick" if element.ndim < 2 and not element.layout else "slice"
                    self._give(a, view_rows(g, e * element.rows, 1, element.rows, how, self.tensors[a]._type))
            else:
                self._give(node.slots[k][0], g)

    def _give(self, a: int, g: Any) -> None:
        """Add to the cotangent of a value, which lies as the value does."""
        layout = self.tensors[a]._type.layout
        _add(self.cotangents, a, laid_out(g, layout))
        self.cotangents[a] = laid_out(self.cotangents[a], layout)

    def _reverse_view(self, node: _Node) -> None:
        """Cotangent of a view of rows: zeros with the cotangent put into, or added to, those rows."""
        ints = self.tape.ints[node.ints : node.ints + 3]
        a = node.slots[0][0]
        g, type = self.cotangents[node.first], self.tensors[a]._type
        if ints == [0, 1, type.rows]:
            self._give(a, view_rows(g, 0, 1, type.rows, "slice", type))
            return
        rows = row_numbers([*ints, *self.tape.ints[node.ints + 3 : node.ints + 3 + ints[2]]])
        if len(set(rows.tolist())) == len(rows):
            self._give(a, spread_rows(g, rows.tolist(), type))
            return
        parts = view_rows(g, 0, 1, len(rows), "slice", tensor_type(type.dtype, (len(rows), type.width)))
        whole = apply(SCATTER_ADD, (parts, tensor(rows)), (type.rows,))
        self._give(a, view_rows(whole, 0, 1, type.rows, "slice", type))

    def _write(self, derived: Signature, wrt: Wrt, node: _Node, operands: list[Any]) -> list[RecordedTensor]:
        tape = self.tape
        ids: list[int] = []
        sizes: list[int] = []
        for slot, x in zip(derived.slots, operands, strict=True):
            if slot.kind == LIST:
                ids += (len(x), *(value_number(t, tape) for t in x))
            else:
                ids.append(value_number(x, tape))
            sizes.append(len(x) if slot.kind == LIST else 1)
        types = []
        for (kind, k), i in zip(wrt, derived.graph.outputs, strict=True):
            type = derived.graph.nodes[i].type
            if kind == "rows" and derived.slots[k].kind == LIST:
                type = tensor_type(type.dtype, (sizes[k] * type.rows, type.width))
            elif kind == "rows":
                type = operands[k]._type
            types.append(type)
        ints = tape.ints[node.ints : node.ints + derived.n_ints]
        floats = tape.floats[node.floats : node.floats + derived.n_floats]
        return write(tape, tape.signature_number(derived), ids, types, (None, 0), ints, floats)

    def _reverse_expressions(self) -> None:
        """Propagate cotangents of shared expressions to parameters, as values of the example."""
        for x in reversed(in_order(list(self.shared))):
            if not isinstance(x, SharedExpression) or x not in self.shared or x in self.parameters:
                continue
            g = self.shared[x]
            if x.op is None:
                _add(self.shared, x.parents[0], g)
                continue
            signature, keys = _vjp_of_expression(x)
            types = [signature.graph.nodes[i].type for i in signature.graph.outputs]
            ids = (value_number(g, self.tape),)
            made = write(self.tape, self.tape.signature_number(signature), ids, types, (None, 0))
            for k, part in zip(keys, made, strict=True):
                _add(self.shared, x.parents[k], part)


def _add(cotangents: dict[Any, Any], key: Any, g: Any) -> None:
    cotangents[key] = cotangents[key] + g if key in cotangents else g


def _or_zeros(g: Any, x: Any) -> Any:
    if g is not None:
        return g
    layout = x._type.layout if isinstance(x, RecordedTensor) else LEADING
    return lift(np.zeros(x.shape, x.dtype), current_tape(), layout)


def _nodes(tape: Recording) -> Iterator[_Node]:
    """The nodes in the lists of an open tape. What was replayed stands before what is differentiated: a constant."""
    at = first = ints = floats = 0
    stream = tape.stream
    blocks = iter(tape.blocks)
    block = next(blocks, None)
    while at < len(stream):
        while block is not None and block.at[0] == at:
            first += block.n_values
            block = next(blocks, None)
        signature = tape.signatures[stream[at]]
        at += 1
        slots = []
        for slot in signature.slots:
            n = 1
            if slot.kind == LIST:
                n = stream[at]
                at += 1
            slots.append(stream[at : at + n])
            at += n
        yield _Node(signature, slots, first, ints, floats)
        first += len(signature.results)
        ints += signature.n_ints + n_listed(signature.kind, tape.ints, ints)
        floats += signature.n_floats


# Signatures of derivatives.


def vjp_signature(signature: Signature, shared: frozenset[int]) -> tuple[Signature, Wrt]:
    """The signature of the VJP of a signature by its rows and some shared operands: it reads the operands, then the
    cotangents of the results."""
    known = signature.decisions.derivatives
    if shared not in known:
        by_elements = signature.by_rows and shared
        known[shared] = vjp_signature(_by_elements(signature), shared) if by_elements else _derive(signature, shared)
    return known[shared]


def _derive(signature: Signature, shared: frozenset[int]) -> tuple[Signature, Wrt]:
    graph = signature.graph
    wrt = differentiable(graph, shared)
    result = vjp(graph, wrt)
    kept: Wrt = [graph.nodes[w].attrs for w, c in zip(wrt, result.cotangents, strict=True) if c is not None]
    cotangents = []
    for where, i in zip(signature.results, graph.outputs, strict=True):
        type = graph.nodes[i].type
        row = tensor_type(type.dtype, (1, *type.shape), LEADING if type.ndim else ELEMENTS)
        if where.rule == PER_ELEMENT:
            several, k = where.rows > 1, signature.slots[where.ref].list
            cotangents.append(Slot(LIST, type, k) if several else Slot(EACH, row, k))
        else:
            cotangents.append(Slot(signature.slots[0].kind, row) if signature.by_rows else Slot(ONE, type))
    renamed = _with_cotangents_as_rows(result.graph, len(signature.slots))
    types = [renamed.nodes[i].type for i in renamed.outputs]
    derived = dataclasses.replace(
        signature,
        name=f"vjp of {signature.name}",
        kind=KERNEL,
        slots=(*signature.slots, *cotangents),
        results=tuple(_result(signature, *what, type) for what, type in zip(kept, types, strict=True)),
        graph=renamed,
        frozen=False,
        members=(),
        constant=frozenset(),
    )
    return derived, kept


def _result(signature: Signature, kind: str, k: int, type: Type) -> Result:
    """The cotangent of an operand as a result."""
    if kind == "rows":
        slot = signature.slots[k]
        if signature.by_rows:
            return Result(type.width * type.rows, type.dtype, AS_SLOT, k)
        if slot.kind == EACH:
            return Result(type.width * type.rows, type.dtype, PER_ELEMENT, k, 1)
        if slot.kind == LIST:
            return Result(type.width, type.dtype, PER_ELEMENT, k, type.rows)
    return Result(type.width, type.dtype, rows=type.rows)


def _with_cotangents_as_rows(graph: Graph, first: int) -> Graph:
    """A VJP that reads cotangent k in slot `first + k`."""

    def read(i: int) -> tuple[str, int] | None:
        node = graph.nodes[i]
        return ("rows", first + node.attrs[1]) if node.kind == "cotangent" else None

    return graph.part(graph.outputs, read)


def _by_elements(signature: Signature) -> Signature:
    """A signature whose nodes are rows, as one whose rows are elements of a node: a shared operand's cotangent is a
    sum over the rows of the node."""
    graph = Graph()
    for node in signature.graph.nodes:
        graph.add(node.op, node.inputs, node.attrs, node.type, 1 if node.level == NODE else node.level)
    graph.outputs = signature.graph.outputs
    slots = tuple(Slot(EACH, slot.type, 1) for slot in signature.slots)
    results = tuple(Result(r.width, r.dtype, PER_ELEMENT, 0, 1) for r in signature.results)
    return dataclasses.replace(signature, slots=slots, results=results, graph=graph, by_rows=False)


def _vjp_of_expression(x: SharedExpression) -> tuple[Signature, list[int]]:
    """The signature that carries the cotangent of a shared expression to some of its parents, and which."""
    found = x._signatures.get("pull")
    if found is None:
        wrt = [i for i, n in enumerate(x.graph.nodes) if n.is_input and x.parents[n.attrs[1]].trainable]
        result = vjp(x.graph, wrt)
        keys = [x.graph.nodes[w].attrs[1] for w, c in zip(wrt, result.cotangents, strict=True) if c is not None]
        graph = Graph()
        for node in result.graph.pruned().nodes:
            is_cotangent = node.kind == "cotangent"
            attrs, level = (("rows", 0), max(node.level, NODE)) if is_cotangent else (node.attrs, node.level)
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
