"""The nodes of an open recording are traversed backwards from a scalar, and the VJP of each is recorded.

In: the nodes that a function wrote on the tape. Out: cotangents of values and of shared operands, as values of the same
tape. For each node one is appended that computes the cotangents of its operands; for all nodes of a signature one more
that computes those of shared operands (see `derived`). The cotangents of a value that is read often are one sum, and
those of its rows are put together.

Cost: O(nodes of the function), whatever else the recording has.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..base.errors import OpTypeError, user_error
from ..base.types import ELEMENTS, INT64, LEADING, Type, tensor_type
from ..ops.movement import CONCAT
from ..ops.pairs import length_of
from ..schedule.structures import AS_SLOT, CONCAT_ROWS, KERNEL, LIST, OF_LIST, PAYLOAD, PER_ELEMENT, Result, row_numbers
from .assemble import n_listed
from .derived import COTANGENT, DATA, HANDED, RESULT, ROWS, Derivative, derivative_of, vjp_of_expression
from .links import lift, value_number
from .nodes import write
from .recorder import record_list
from .shared import Shared, SharedExpression, in_order
from .signature import Signature
from .tape import Recording
from .tensor import RecordedTensor
from .views import join_rows, laid_out, spread_rows, view_rows

FEW = 3
"""Cotangents of one value that are added one by one; more are a sum of a list."""


_NOWHERE = (None, 0)
"""What recorded the nodes of a derivative."""


class Start(NamedTuple):
    """Where the nodes of a function begin on a tape: numbers of values, and entries of the tape's lists."""

    value: int
    stream: int
    ints: int
    floats: int

    @classmethod
    def of(cls, tape: Recording) -> Start:
        """Where the next node begins."""
        return cls(tape.count, len(tape.stream), len(tape.ints), len(tape.floats))


@dataclasses.dataclass(slots=True, eq=False)
class _Node:
    signature: Signature
    slots: list[list[int]]
    first: int
    ints: int
    floats: int

    @property
    def values(self) -> range:
        return range(self.first, self.first + len(self.signature.results))


@dataclasses.dataclass(slots=True)
class _Reversed:
    """A node whose VJP was recorded: the cotangents of its results, and what was handed on."""

    node: _Node
    of: dict[str, list[RecordedTensor]]


class Sweep:
    """One walk. `sources` are the values, `parameters` the shared values that are differentiated; what was recorded
    before `start` is constant, and what was recorded from `stop` on is not looked at. `is_forwards`: it is half of a
    walk forwards, which no custom derivative allows."""

    def __init__(
        self,
        tape: Recording,
        start: Start,
        sources: Sequence[RecordedTensor],
        parameters: Sequence[Shared],
        stop: Start | None = None,
        is_forwards: bool = False,
    ) -> None:
        self.tape = tape
        self.start = start
        self.stop = stop
        self.is_forwards = is_forwards
        self.sources = sources
        self.parameters = parameters
        self.known_parameters = set(parameters)
        self.dependent: set[int] = {s._id for s in sources}  # values that depend on what is differentiated
        self.rows: dict[int, Shared] = {}  # those of them that are shared values
        self.parts: dict[int, list[Any]] = {}  # cotangents of a value
        self.pieces: dict[int, list[_Piece]] = {}  # cotangents of some of its rows
        self.shared: dict[Shared, list[Any]] = {}
        self.reaching: dict[Shared, bool] = {}
        self.reversed: dict[tuple[Signature, Derivative], list[_Reversed]] = {}
        self.zeros: dict[Type, RecordedTensor] = {}

    def run(self, ends: Iterable[tuple[RecordedTensor, Any]]) -> dict[Any, Any]:
        """The derivatives by tensors and shared values, for values where the walk begins and their cotangents."""
        nodes = list(_nodes(self.tape, self.start, self.stop))
        wanted = self._wanted(nodes)
        for value, g in ends:
            if value._tape is self.tape:
                self._give(value._id, g)
        for node, is_wanted in zip(reversed(nodes), reversed(wanted), strict=True):
            if is_wanted and any(v in self.parts or v in self.pieces for v in node.values):
                self._reverse(node)
        for reversed_nodes in self.reversed.items():
            self._finish(*reversed_nodes)
        for v, x in self.rows.items():
            self._give_shared(x, self._total(v))
        self._reverse_expressions()
        found: dict[Any, Any] = {}
        for s in self.sources:
            g = self._total(s._id)
            found[s] = self._zeros(s._type) if g is None else g
        for p in self.parameters:
            found[p] = self._sum(self.shared[p]) if p in self.shared else self._zeros(p._type)
        return found

    # What is differentiated.

    def _wanted(self, nodes: list[_Node]) -> list[bool]:
        """Which nodes have operands that depend on what is differentiated."""
        wanted = []
        first_sources = set(self.dependent)
        for node in nodes:
            s = node.signature
            is_fixed = s.frozen or s.kind == PAYLOAD or node.first in first_sources or self._is_row(node.first)
            depends = not is_fixed and (
                any(self._depends(v) for slot in node.slots for v in slot)
                or any(self._reaches(s.shared[k]) for k in s.trainable)
            )
            if depends:
                self.dependent.update(node.values)
            wanted.append(depends)
        return wanted

    def _depends(self, v: int) -> bool:
        return v in self.dependent or self._is_row(v)

    def _is_row(self, v: int) -> bool:
        """Whether a value is a shared one that depends on what is differentiated, used as a row; also one that was
        recorded before."""
        kind, *what = self.tape.outside.get(v, ("",))
        if kind != "row":
            return False
        x, is_constant = what[0]
        if is_constant or not x.trainable or not self._reaches(x):
            return False
        self.rows[v] = x
        self.dependent.add(v)
        return True

    def _reaches(self, x: Shared) -> bool:
        """Whether a shared value is made of a differentiated parameter."""
        if x not in self.reaching:
            for y in in_order([x]):
                self.reaching[y] = y in self.known_parameters or (
                    isinstance(y, SharedExpression) and y.trainable and any(self.reaching[p] for p in y.parents)
                )
        return self.reaching[x]

    # Node by node.

    def _reverse(self, node: _Node) -> None:
        s = node.signature
        if s.kind == KERNEL:
            self._reverse_kernel(node)
            return
        g = self._total(node.first)
        if s.kind == CONCAT_ROWS:
            at = 0
            for a in node.slots[0]:
                type = self.tape.type_of(a)
                if self._depends(a):
                    self._give(a, view_rows(g, at, 1, type.rows, "pick" if s.attrs[0] == "stack" else "slice", type))
                at += type.rows
            return
        ints = list(self.tape.ints[node.ints : node.ints + 3])
        a = node.slots[0][0]
        if ints == [0, 1, self.tape.type_of(a).rows]:
            self._give(a, view_rows(g, 0, 1, ints[2], "slice", self.tape.type_of(a)))
        else:
            rows = row_numbers([*ints, *self.tape.ints[node.ints + 3 : node.ints + 3 + ints[2]]])
            self.pieces.setdefault(a, []).append((rows.tolist(), _plain(g)))

    def _reverse_kernel(self, node: _Node) -> None:
        s = node.signature
        if self.is_forwards and s.is_custom:
            what = "jvp: a function has a derivative of its own, by custom_vjp, and that is one backwards"
            raise user_error(OpTypeError, what, repair="use ab.vjp, ab.grad or ab.hvp")
        found = derivative_of(s, frozenset(k for k in s.trainable if self._reaches(s.shared[k])))
        cotangents = []
        for v in node.values:
            g = self._total(v)
            cotangents.append(self._zeros(self.tape.type_of(v)) if g is None else g)
        is_wanted = any(self._depends(v) for slot in node.slots for v in slot)
        of_rows = found.slots if is_wanted else ()
        for k, result in found.passed if is_wanted else ():
            self._give(node.slots[k][0], cotangents[result])
        handed: list[RecordedTensor] = []
        if of_rows or found.n_handed:
            made = self._write_rows(found, node, cotangents)
            handed = made[len(found.slots) :]
            for k, g in zip(of_rows, made, strict=False):
                self._give_operand(node, k, g)
        if found.final is not None:
            self.reversed.setdefault((s, found), []).append(_Reversed(node, {COTANGENT: cotangents, HANDED: handed}))

    def _give_operand(self, node: _Node, k: int, g: RecordedTensor) -> None:
        slot = node.signature.slots[k]
        if slot.kind != LIST:
            self._give(node.slots[k][0], g)
            return
        element = slot.type
        how = "pick" if element.ndim < 2 and not element.layout else "slice"
        for e, a in enumerate(node.slots[k]):
            if self._depends(a):
                self._give(a, view_rows(g, e * element.rows, 1, element.rows, how, self.tape.type_of(a)))

    def _write_rows(self, found: Derivative, node: _Node, cotangents: list[RecordedTensor]) -> list[RecordedTensor]:
        operands: list[Any] = []
        for (kind, k), slot in zip(found.reads, found.rows.slots, strict=True):
            if kind == ROWS:
                values = [self.tape.tensor(a) for a in node.slots[k]]
                operands.append(values if slot.kind == LIST else values[0])
            else:
                x = cotangents[k] if kind == COTANGENT else self.tape.tensor(node.values[k])
                operands.append(_elements(x, slot.type) if slot.kind == LIST else x)

        ints = self.tape.ints[node.ints : node.ints + found.rows.n_ints]
        floats = self.tape.floats[node.floats : node.floats + found.rows.n_floats]

        def type_of(number: int, result: Result) -> Type:
            slots = node.signature.slots
            if number < len(found.slots) and slots[found.slots[number]].kind != LIST:
                return self.tape.type_of(node.slots[found.slots[number]][0])
            if result.rule in (AS_SLOT, PER_ELEMENT):
                x = operands[result.ref]
                n = len(x) if isinstance(x, list) else x._type.rows
                return tensor_type(result.dtype, (n * result.rows, result.width))
            if result.rule == OF_LIST:
                return tensor_type(result.dtype, (length_of(result.ref, *ints[:2]), result.width))
            return found.rows.graph.nodes[found.rows.graph.outputs[number]].type

        return self._write(found.rows, operands, type_of, ints, floats)

    def _write(
        self,
        signature: Signature,
        operands: Sequence[Any],
        type_of: Callable[[int, Result], Type],
        ints: Sequence[int] = (),
        floats: Sequence[float] = (),
    ) -> list[RecordedTensor]:
        """A node of a derivative; its operands are tensors and lists of them."""
        tape = self.tape
        ids: list[int] = []
        for x in operands:
            if isinstance(x, list):
                ids += (len(x), *(value_number(t, tape) for t in x))
            else:
                ids.append(value_number(x, tape))
        types = [type_of(number, result) for number, result in enumerate(signature.results)]
        return write(tape, tape.signature_number(signature), ids, types, _NOWHERE, ints, floats)

    # All nodes of a signature.

    def _finish(self, key: tuple[Signature, Derivative], nodes: list[_Reversed]) -> None:
        """The cotangents of shared operands, over all nodes of a signature."""
        signature, found = key
        final = found.final
        assert final is not None
        operands: list[Any] = []
        for (kind, k), slot in zip(found.final_reads, final.slots, strict=True):
            if kind == DATA:
                operands.append(self._data_of(signature, k, nodes))
                continue
            values: list[RecordedTensor] = []
            for one in nodes:
                if kind == ROWS:
                    values += [self.tape.tensor(a) for a in one.node.slots[k]]
                else:
                    x = self.tape.tensor(one.node.values[k]) if kind == RESULT else one.of[kind][k]
                    is_split = slot.kind == LIST and x._type.rows != slot.type.rows
                    values += _elements(x, slot.type) if is_split else [x]
            operands.append(values if slot.kind == LIST else _joined([_plain(x) for x in values], self.tape))
        graph = final.graph
        made = self._write(final, operands, lambda number, _: graph.nodes[graph.outputs[number]].type)
        for k, g in zip(found.shared, made, strict=True):
            self._give_shared(signature.shared[k], g)

    def _data_of(self, signature: Signature, k: int, nodes: list[_Reversed]) -> RecordedTensor:
        """Number k of each node, as one value of one row each."""
        column = signature.data[:k].count(signature.data[k])
        if signature.data[k] == "i":
            numbers: Any = np.array([self.tape.ints[one.node.ints + column] for one in nodes], INT64)
        else:
            numbers = np.array([self.tape.floats[one.node.floats + column] for one in nodes], np.float64)
        return lift(numbers, self.tape, ELEMENTS)

    def _reverse_expressions(self) -> None:
        """Propagate cotangents of shared expressions to parameters, as values of the example."""
        for x in reversed(in_order(list(self.shared))):
            if not isinstance(x, SharedExpression) or x not in self.shared or x in self.known_parameters:
                continue
            g = self._sum(self.shared[x])
            if x.op is None:
                self._give_shared(x.parents[0], g)
                continue
            signature, keys = vjp_of_expression(x)
            types = [signature.graph.nodes[i].type for i in signature.graph.outputs]
            made = write(
                self.tape, self.tape.signature_number(signature), (value_number(g, self.tape),), types, _NOWHERE
            )
            for k, part in zip(keys, made, strict=True):
                self._give_shared(x.parents[k], part)

    # Sums.

    def _give(self, a: int, g: Any) -> None:
        """Add to the cotangent of a value, which lies as the value does."""
        if self._depends(a):
            self.parts.setdefault(a, []).append(laid_out(g, self.tape.type_of(a).layout))

    def _give_shared(self, x: Shared, g: Any) -> None:
        if g is not None:
            self.shared.setdefault(x, []).append(laid_out(g, LEADING))

    def _total(self, v: int) -> Any:
        """The cotangent of a value, all of whose readers were reversed; None where there is none."""
        parts = self.parts.pop(v, [])
        type = self.tape.type_of(v)
        if v in self.pieces:
            whole = self._from_pieces(self.pieces.pop(v), type)
            parts.append(view_rows(whole, 0, 1, type.rows, "slice", type))
        if not parts:
            return None
        self.parts[v] = [laid_out(self._sum(parts), type.layout)]
        return self.parts[v][0]

    def _sum(self, parts: list[Any]) -> Any:
        """One by one where they are few; else as a list, or of rows that may vary in number in pairs of pairs."""
        if len(parts) > FEW and parts[0]._type.rows == 1:
            return record_list("sum", parts)
        while len(parts) > 1:
            rest = parts[-1:] if len(parts) % 2 else []
            parts = [a + b for a, b in zip(parts[::2], parts[1::2], strict=False)] + rest
        return parts[0]

    def _from_pieces(self, pieces: list[_Piece], type: Type) -> RecordedTensor:
        """Cotangents of some rows of a value as one of all; those of one row are a sum."""
        rows = [row for numbers, _ in pieces for row in numbers]
        whole = _joined([g for _, g in pieces], self.tape)
        if rows == list(range(type.rows)):
            return whole
        if len(set(rows)) < len(rows):
            same: dict[int, list[int]] = {}
            for k, row in enumerate(rows):
                same.setdefault(row, []).append(k)
            one = tensor_type(type.dtype, (1, type.width))
            sums = [self._sum([view_rows(whole, k, 1, 1, "slice", one) for k in places]) for places in same.values()]
            rows, whole = list(same), _joined(sums, self.tape)
        return spread_rows(whole, rows, tensor_type(type.dtype, (type.rows, type.width)))

    def _zeros(self, type: Type) -> RecordedTensor:
        found = self.zeros.get(type)
        if found is None:
            found = self.zeros[type] = lift(np.zeros(type.shape, type.dtype), self.tape, type.layout)
        return found


_Piece = tuple[list[int], RecordedTensor]
"""Numbers of rows of a value, and their cotangents."""


def _plain(x: RecordedTensor) -> RecordedTensor:
    """The rows of a value as a matrix."""
    plain = tensor_type(x.dtype, (x._type.rows, x._type.width))
    return x if x._type is plain else view_rows(x, 0, 1, plain.rows, "slice", plain)


def _elements(x: RecordedTensor, element: Type) -> list[RecordedTensor]:
    """Values of this type whose rows are those of one value."""
    return [view_rows(x, at, 1, element.rows, "slice", element) for at in range(0, x._type.rows, element.rows)]


def _joined(parts: list[RecordedTensor], tape: Recording) -> RecordedTensor:
    """Matrices below each other, as a view."""
    if len(parts) == 1:
        return parts[0]
    joined = join_rows(CONCAT, tuple(parts), (-2,), tape)
    assert joined is not None
    return joined


def _nodes(tape: Recording, start: Start, stop: Start | None) -> Iterator[_Node]:
    """The nodes in the lists of an open tape from one on. Nothing is replayed inside of what is differentiated."""
    first, at, ints, floats = start
    stream = tape.stream
    end = len(stream) if stop is None else stop.stream
    while at < end:
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
