"""loop: run and reverse a tape node by node with the interpreter: the one-by-one loop that is the reference for
batching.

Input: the same tape that the batched stages take. Output: `LoopRun`, with the same two questions answered: the value
of a number, and cotangents. Nothing here is shared with scheduling, placement or kernels.
Cost: tens of microseconds a node.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np

from ..base.errors import OpIndexError
from ..base.types import Array, Type
from ..ir.graph import Graph, Origin
from ..ir.interpret import Read, interpret
from ..ir.vjp import differentiable, sum_of_scatters, vjp
from ..ops.pairs import length_of
from ..schedule.structures import (
    CONCAT_ROWS,
    EACH,
    LIST,
    OF_LIST,
    PAYLOAD,
    PER_ELEMENT,
    TAKE_ROWS,
    Tape,
    row_numbers,
)
from .finals import GiveDense, GiveRows
from .protocols import SharedOperand, Signature

Name = Callable[[int, Origin | None, str, Array], NoReturn]
"""Raises for a node, the op in it where that is known, "value" or "gradient", and numbers that are not finite."""


class LoopRun:
    """Values of one tape, each an array of its own. With `name` the first NaN or infinity raises; `known` are values
    that were computed before, None for others."""

    def __init__(
        self,
        tape: Tape,
        signatures: Sequence[Signature],
        live: Array,
        payloads: dict[int, Array],
        memo: dict[SharedOperand, Array],
        name: Name | None = None,
        known: Sequence[Any] = (),
    ) -> None:
        self.tape = tape
        self.signatures = signatures
        self.live = live
        self.memo = memo
        self.name = name
        self.values: list[Any] = [*known, *[None] * (int(tape.value_of[-1]) - len(known))]
        for node in np.flatnonzero(live).tolist():
            if self.values[tape.value_of[node]] is None:
                try:
                    self._node(node, payloads)
                except OpIndexError as error:
                    error.node = node
                    raise

    def value(self, value: int, type: Type) -> Array:
        """A copy of one value."""
        array: Array = type.unpack(np.array(self.values[value]))
        return array

    def copies(self, values: Sequence[int], type: Type) -> list[Array]:
        """Copies of values of one type."""
        return [self.value(value, type) for value in values]

    def _arguments(self, node: int) -> list[list[int]]:
        tape = self.tape
        bounds = range(tape.slot_of[node], tape.slot_of[node + 1])
        return [tape.args[tape.arg_of[s] : tape.arg_of[s + 1]].tolist() for s in bounds]

    def _node(self, node: int, payloads: dict[int, Array]) -> None:
        signature = self.signatures[self.tape.sig[node]]
        first = int(self.tape.value_of[node])
        slots = self._arguments(node)
        if signature.kind == PAYLOAD:
            self.values[first] = payloads[first]
        elif signature.kind == CONCAT_ROWS:
            self.values[first] = np.concatenate([self._view(a, signature) for a in slots[0]])
        elif signature.kind == TAKE_ROWS:
            self.values[first] = self._view(slots[0][0], signature)[self._picked(node, signature)]
        else:
            for k, result in enumerate(self._run(node, signature, slots)):
                self.values[first + k] = result

    def _view(self, value: int, signature: Signature) -> Array:
        """A value as the rows that a view reads."""
        array, width = self.values[value], signature.results[0].width
        is_row = signature.attrs[0] == "stack" or (not width and array.ndim < 2)
        n = 1 if is_row else array.size // width if width else len(array)
        rows: Array = array.reshape(n, width)
        return rows

    def _picked(self, node: int, signature: Signature) -> Any:
        numbers = row_numbers(self.tape.ints[self.tape.int_of[node] : self.tape.int_of[node + 1]])
        return numbers[0] if signature.attrs[0] == "pick" else numbers

    def _reader(
        self, node: int, signature: Signature, slots: list[list[int]], row: int, cotangents: Sequence[Any] = ()
    ) -> Read:
        ints = self.tape.ints[self.tape.int_of[node] : self.tape.int_of[node + 1]].tolist()
        floats = self.tape.floats[self.tape.float_of[node] : self.tape.float_of[node + 1]].tolist()
        data = [ints.pop(0) if c == "i" else floats.pop(0) for c in signature.data]

        def operand(k: int) -> Any:
            slot = signature.slots[k]
            if slot.kind == LIST:
                return [_shaped(self.values[a], slot.type) for a in slots[k]]
            value = self.values[slots[k][0]]
            if slot.kind == EACH:
                return list(_rows(value, slot.type.row.shape))
            return _rows(value, slot.type.row.shape)[row] if signature.by_rows else _shaped(value, slot.type)

        def read(kind: str, k: int) -> Any:
            if kind == "rows":
                return operand(k)
            if kind == "data":
                return data[k]
            if kind == "shared":
                return self.memo[signature.shared[k]]
            if kind == "cotangent":
                return cotangents[k]
            if signature.is_paired:
                length = length_of(k, *data[:2])
            else:
                length = len(operand(signature.lists[k - 1]))
            return length if kind == "lengths" else list(range(length))

        return read

    def _run(self, node: int, signature: Signature, slots: list[list[int]]) -> list[Any]:
        if signature.by_rows:
            n = len(_rows(self.values[slots[0][0]], signature.slots[0].type.row.shape))
            rows = [self._interpret(node, signature.graph, self._reader(node, signature, slots, r)) for r in range(n)]
            if not rows:
                types = [signature.graph.nodes[i].type for i in signature.graph.outputs]
                return [np.zeros((0, *t.shape), t.dtype) for t in types]
            return [np.stack(column) for column in zip(*rows, strict=True)]
        results = self._interpret(node, signature.graph, self._reader(node, signature, slots, 0))
        done = []
        for result, i, where in zip(results, signature.graph.outputs, signature.results, strict=True):
            if where.rule in (PER_ELEMENT, OF_LIST):
                type = signature.graph.nodes[i].type
                done.append(np.stack(result) if result else np.zeros((0, *type.shape), type.dtype))
            else:
                done.append(result)
        return done

    def _interpret(self, node: int, graph: Graph, read: Read, what: str = "value") -> list[Any]:
        """Results of a graph of a node."""
        results = interpret(graph, read)
        if self.name is not None and not all(map(_is_finite, results)):
            self._find(node, graph, read, what, self.name)
        return results

    def _find(self, node: int, graph: Graph, read: Read, what: str, name: Name) -> None:
        """Interpret a graph once more, and name the first op in it whose value is not finite."""

        def see(i: int, value: Any) -> None:
            if not _is_finite(value):
                name(node, graph.origins.get(i), what, np.asarray(value))

        interpret(graph, read, see)

    # Reverse.

    def reverse(self, seeds: dict[int, Array], dense: GiveDense, rows: GiveRows) -> dict[int, Array]:
        """Cotangents of all values that have one; those of shared operands are given to `dense` and `rows`."""
        grads: dict[int, Array] = {v: np.array(g).reshape(self.values[v].shape) for v, g in seeds.items()}
        for node in range(self.tape.sig.size - 1, -1, -1):
            first, last = int(self.tape.value_of[node]), int(self.tape.value_of[node + 1])
            signature = self.signatures[self.tape.sig[node]]
            if not self.live[node] or signature.frozen or not any(v in grads for v in range(first, last)):
                continue
            slots = self._arguments(node)
            if signature.kind == CONCAT_ROWS:
                at = 0
                for a in slots[0]:
                    n = len(self._view(a, signature))
                    self._add(grads, a, grads[first][at : at + n])
                    at += n
            elif signature.kind == TAKE_ROWS:
                whole = np.zeros_like(self._view(slots[0][0], signature))
                np.add.at(whole, self._picked(node, signature), grads[first])
                self._add(grads, slots[0][0], whole)
            else:
                self._reverse_node(node, slots, grads, dense, rows)
        return grads

    def _add(self, grads: dict[int, Array], value: int, part: Array) -> None:
        part = np.reshape(part, self.values[value].shape)
        grads[value] = grads[value] + part if value in grads else np.array(part)

    def _reverse_node(
        self, node: int, slots: list[list[int]], grads: dict[int, Array], dense: GiveDense, rows: GiveRows
    ) -> None:
        first, signature = int(self.tape.value_of[node]), self.signatures[self.tape.sig[node]]
        graph, wanted = reverse_graph(signature)
        count = len(_rows(self.values[slots[0][0]], signature.slots[0].type.row.shape)) if signature.by_rows else 1
        for row in range(count):
            cotangents = []
            for k, where in enumerate(signature.results):
                g = grads.get(first + k)
                g = np.zeros_like(self.values[first + k]) if g is None else g
                is_listed = where.rule in (PER_ELEMENT, OF_LIST)
                cotangents.append(list(g) if is_listed else g[row] if signature.by_rows else g)
            read = self._reader(node, signature, slots, row, cotangents)
            results = iter(self._interpret(node, graph, read, "gradient"))
            for kind, k in wanted:
                g = next(results)
                if kind == "lookup":
                    table = signature.shared[k]
                    rows(table, *_table_rows(g, next(results), self.memo[table]))
                elif kind == "shared":
                    dense(signature.shared[k], g)
                elif signature.slots[k].kind == LIST:
                    for a, part in zip(slots[k], g, strict=True):
                        self._add(grads, a, part)
                elif signature.by_rows:
                    whole = np.zeros_like(_rows(self.values[slots[k][0]], signature.slots[k].type.row.shape))
                    whole[row] = g
                    self._add(grads, slots[k][0], whole)
                else:
                    self._add(grads, slots[k][0], g)


def _rows(value: Array, row: tuple[int, ...]) -> Array:
    """A value as rows of this shape."""
    if value.ndim and value.shape[1:] == row:
        return value
    size = math.prod(row)
    return value.reshape(value.size // size if size else len(value), *row)


def _shaped(value: Array, type: Type) -> Array:
    """A value in the shape in which a graph reads one of this type."""
    shape = type.stored.shape
    return value if value.shape == shape else value.reshape(shape)


def _is_finite(x: Any) -> bool:
    """Whether an array, or the arrays of the elements of a list, hold neither NaN nor infinity."""
    return all(part.dtype.kind != "f" or bool(np.isfinite(part).all()) for part in (x if isinstance(x, list) else [x]))


def reverse_graph(signature: Signature) -> tuple[Graph, list[tuple[str, int]]]:
    """VJP of a signature's single graph, and the operands its results belong to.

    A table that is only looked up has "lookup" entries instead of one "shared", each with two results: row numbers and
    the gradients of those rows.
    """
    found = signature.reverse_graph
    if found is None:
        graph = signature.graph
        wrt = differentiable(graph, signature.trainable)
        result = vjp(graph, wrt)
        wanted: list[tuple[str, int]] = []
        outputs: list[int] = []
        for w, c in zip(wrt, result.cotangents, strict=True):
            if c is None:
                continue
            kind, k = graph.nodes[w].attrs
            lookups = sum_of_scatters(result.graph, c) if kind == "shared" else None
            if lookups is None:
                wanted.append((kind, k))
                outputs.append(c)
            else:
                wanted += [("lookup", k)] * len(lookups)
                outputs += [i for pair in lookups for i in pair]
        result.graph.outputs = tuple(outputs)
        found = signature.reverse_graph = (result.graph.pruned(), wanted)
    return found


def _table_rows(ids: Any, rows: Any, table: Array) -> tuple[Array, Array]:
    """Row numbers i[n] and rows f[n, width], from the values of one lookup or of a list of them."""
    if isinstance(ids, list) or isinstance(rows, list):
        length = len(ids if isinstance(ids, list) else rows)
        ids = np.array(ids if isinstance(ids, list) else [ids] * length, np.int64)
        rows = np.array(rows if isinstance(rows, list) else [rows] * length, table.dtype)
    return ids.reshape(-1), rows.reshape(ids.size, math.prod(table.shape[1:]))
