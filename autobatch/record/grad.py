"""Derivatives as functions: `grad`, `value_and_grad`. They rewrite tape to tape, so they nest and batch.

The function runs once with each differentiated argument replaced by a value of its own, so that derivatives taken
inside derivatives cannot mix. The nodes it recorded are then walked backwards, and for each a node is appended that
computes the cotangents of its operands: a kernel whose graph is the VJP of the node's graph. These nodes are
scheduled, batched and differentiated like any others.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..base.errors import CellError, OpTypeError, RecordingError, user_error
from ..base.types import Type, default_dtype, is_float, tensor_type
from ..ir.graph import NODE, Graph
from ..ir.vjp import vjp
from ..ops.declare import apply
from ..ops.index import SCATTER_ADD
from ..ops.value import Tensor
from ..schedule.structures import AS_SLOT, CONCAT_ROWS, EACH, KERNEL, LIST, PAYLOAD, PER_ELEMENT
from .context import is_frozen
from .modes import freeze
from .parameter import Parameter
from .shared import Expression, Shared, SharedExpression, alias, in_order
from .signature import Result, Signature, Slot
from .tape import Recording, state
from .tensor import RecordedTensor, current_tape, interrupted, shared_row, tensor, value_number, view_rows, write


def grad(fn: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """The function that gives d fn / d argument: for one argument its structure, for several a tuple.

    `fn` returns a scalar. Arguments to differentiate are tensors, numbers, arrays, parameters, modules, and nested
    tuples, lists and dicts of them; a module gives a dict from parameter name to derivative. Works inside `ab.map`, in
    itself, and `backward` goes through its results.

    >>> import autobatch as ab
    >>> slope = ab.grad(lambda x: x ** 3)
    >>> float(slope(ab.tensor(2.0))), float(ab.grad(slope)(ab.tensor(2.0)))
    (12.0, 12.0)
    """
    both = value_and_grad(fn, argnums)

    def derivative(*args: Any, **kwargs: Any) -> Any:
        return both(*args, **kwargs)[1]

    derivative.__name__ = f"grad_{getattr(fn, '__name__', 'fn')}"
    return derivative


def value_and_grad(fn: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., tuple[Any, Any]]:
    """Like `grad`, but the function gives (value, derivative).

    >>> import autobatch as ab
    >>> value, slope = ab.value_and_grad(lambda x: x * x)(ab.tensor(3.0))
    >>> float(value), float(slope)
    (9.0, 6.0)
    """
    wanted = (argnums,) if isinstance(argnums, int) else tuple(argnums)

    def both(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        if state.builder is not None:
            raise user_error(
                CellError,
                "grad: not possible inside a cell",
                repair="take the derivative of the function that calls the cell",
            )
        for k in wanted:
            if not -len(args) <= k < len(args):
                raise user_error(OpTypeError, f"grad: there is no argument {k}", got=f"{len(args)} arguments")
        places = [k % len(args) for k in wanted]
        substitution = _Substitution()
        constant = is_frozen()  # an outer no_grad makes the results constant; the function itself is differentiated
        tape = substitution.tape
        sweeps, aliases = tape.sweeps, _in_use.aliases
        try:
            try:
                freeze(False)
                tape.sweeps = sweeps + 1
                replaced = [substitution.replace(a) if k in places else a for k, a in enumerate(args)]
                value = fn(*replaced, **kwargs)
                derivatives = substitution.derivatives(value)
            finally:
                tape.sweeps, _in_use.aliases = sweeps, aliases
                freeze(constant)
        finally:
            tape.sweeps, _in_use.aliases = sweeps, aliases  # again: Ctrl-C may have cut the first one short
            freeze(constant)
        if constant:
            value, derivatives = value.detach(), {x: g.detach() for x, g in derivatives.items()}
        results = tuple(_rebuild(replaced[k], derivatives) for k in places)
        return value, results[0] if isinstance(argnums, int) else results

    return both


class _InUse(threading.local):
    aliases: Mapping[Shared, int] = {}


_in_use = _InUse()
"""How many aliases of a shared value are arguments of derivatives under way in this thread."""


class _Substitution:
    """Replaces differentiated arguments by values of their own; parameters of modules stay in place."""

    def __init__(self) -> None:
        self.tape: Recording = current_tape()
        self.sources: list[RecordedTensor] = []
        self.parameters: list[Shared] = []
        self.aliases: dict[Shared, SharedExpression] = {}
        self.first = self.tape.count  # what was recorded before the call is constant to it

    def replace(self, x: Any) -> Any:
        """The argument with fresh values in place of tensors, numbers and arrays."""
        if isinstance(x, Shared) and x.trainable and x.operand is not None:
            return self._alias(x.operand)
        if isinstance(x, RecordedTensor | Shared):
            if not is_float(x.dtype):
                raise user_error(OpTypeError, "grad: only floating values can be differentiated", got=str(x._type))
            source = shared_row(x, self.tape) if isinstance(x, Shared) else x
            return self._fresh(source)
        if isinstance(x, bool | str | None):
            return x
        if isinstance(x, int | float | np.ndarray | np.number):
            array = np.asarray(x)
            return self._fresh(tensor(array if array.dtype.kind == "f" else array.astype(default_dtype())))
        if hasattr(x, "named_parameters"):
            for _, p in x.named_parameters():
                self._parameter(p)
            return x
        if isinstance(x, tuple) and hasattr(x, "_fields"):
            return type(x)(*map(self.replace, x))
        if isinstance(x, list | tuple):
            return type(x)(map(self.replace, x))
        if isinstance(x, dict):
            return {k: self.replace(v) for k, v in x.items()}
        raise user_error(
            OpTypeError,
            "grad: an argument cannot be differentiated",
            got=type(x).__name__,
            repair="choose others by argnums",
        )

    def _parameter(self, p: Parameter) -> None:
        if p not in self.parameters:
            self.parameters.append(p)

    def _alias(self, x: Shared) -> Shared:
        """A shared value as an argument: no other value is the same one, and batches share it all the same."""
        number = _in_use.aliases.get(x, 0)
        found: Expression = alias(x, number)
        _in_use.aliases = {**_in_use.aliases, x: number + 1}
        op = found.operand
        assert isinstance(op, SharedExpression)
        self.aliases[found] = op
        self.parameters.append(op)
        return found

    def _fresh(self, source: Tensor) -> Any:
        fresh: Any = source * 1.0
        self.sources.append(fresh)
        return fresh

    def derivatives(self, value: Any) -> dict[Any, Any]:
        """Cotangents of the sources and parameters."""
        if isinstance(value, Shared) and not isinstance(value, RecordedTensor):
            value = shared_row(value, current_tape())
        if not isinstance(value, RecordedTensor) or value.shape or not is_float(value.dtype):
            got = str(getattr(value, "_type", type(value).__name__))
            raise user_error(OpTypeError, "grad: the function must return a floating scalar", expected="f[]", got=got)
        tape = current_tape()
        if self.tape.is_interrupted:
            raise interrupted()
        if value._tape is not tape or any(s._tape is not tape for s in self.sources):
            raise user_error(
                RecordingError,
                "grad: a value was forced inside the function",
                repair="force values before or after, not inside, a differentiated function",
            )
        sweep = _Sweep(tape, self.first, {s._id for s in self.sources}, set(self.parameters))
        found = sweep.run(value, self.sources, self.parameters)
        return found | {x: found[op] for x, op in self.aliases.items()}


def _rebuild(x: Any, found: dict[Any, Any]) -> Any:
    if isinstance(x, Tensor):
        return found[x]
    if hasattr(x, "named_parameters"):
        return {name: found[p] for name, p in x.named_parameters()}
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return type(x)(*(_rebuild(e, found) for e in x))
    if isinstance(x, list | tuple):
        return type(x)(_rebuild(e, found) for e in x)
    if isinstance(x, dict):
        return {k: _rebuild(v, found) for k, v in x.items()}
    return None


@dataclasses.dataclass(slots=True)
class _Node:
    signature: Signature
    slots: list[list[int]]
    first: int
    ints: int
    floats: int


class _Sweep:
    """The nodes of an open tape backwards from a scalar, writing a VJP node for each."""

    def __init__(self, tape: Recording, first: int, sources: set[int], parameters: set[Shared]) -> None:
        self.tape = tape
        self.first = first
        self.sources = sources
        self.parameters = parameters
        self.nodes = _read(tape)
        self.tensors: dict[int, RecordedTensor] = {t._id: t for t in tape.live_tensors()}
        self.types: dict[int, Type] = {id: t._type for id, t in self.tensors.items()}
        self.grads: dict[int, Any] = {}
        self.shared: dict[Shared, Any] = {}
        self.reaching: dict[Shared, bool] = {}

    def run(self, value: RecordedTensor, sources: list[RecordedTensor], parameters: list[Shared]) -> dict[Any, Any]:
        wanted = self._wanted()
        self.grads[value._id] = tensor(np.ones(()), value.dtype)
        for index in range(len(self.nodes) - 1, -1, -1):
            node = self.nodes[index]
            if not wanted[index] or node.signature.kind == PAYLOAD:
                continue
            n = len(node.signature.results)
            if any(v in self.grads for v in range(node.first, node.first + n)):
                self._reverse(node)
        found: dict[Any, Any] = {}
        for s in sources:
            g = self.grads.get(s._id)
            found[s] = g if g is not None else tensor(np.zeros(s.shape), s.dtype)
        self._expressions()
        for p in parameters:
            g = self.shared.get(p)
            found[p] = g if g is not None else tensor(np.zeros(p.shape), p.dtype)
        return found

    def _wanted(self) -> list[bool]:
        """Nodes whose results depend on what is differentiated."""
        values = set(self.sources)
        wanted = []
        for node in self.nodes:
            own = range(node.first, node.first + len(node.signature.results))
            hit = any(v in self.sources for v in own)
            inside = node.first >= self.first or node.signature.name == "shared row"
            depends = (
                inside
                and not node.signature.frozen
                and (
                    any(v in values for slot in node.slots for v in slot)
                    or any(self._reaches(node.signature.shared[k]) for k in node.signature.trainable)
                )
            )
            if depends or hit:
                values.update(own)
            wanted.append(depends and not hit)
        return wanted

    def _reaches(self, x: Shared) -> bool:
        """Whether a shared value is made of a differentiated parameter."""
        if x not in self.reaching:
            for y in in_order([x]):
                self.reaching[y] = y in self.parameters or (
                    isinstance(y, SharedExpression) and y.trainable and any(self.reaching[p] for p in y.parents)
                )
        return self.reaching[x]

    def _value(self, id: int) -> RecordedTensor:
        return self.tensors[id]

    def _add(self, id: int, g: Tensor) -> None:
        self.grads[id] = self.grads[id] + g if id in self.grads else g

    def _cotangent(self, id: int) -> Any:
        g = self.grads.get(id)
        t = self.tensors.get(id)
        if g is not None:
            return g
        assert t is not None
        return tensor(np.zeros(t.shape), t.dtype)

    def _reverse(self, node: _Node) -> None:
        signature = node.signature
        if signature.kind == CONCAT_ROWS:
            at = 0
            g = self.grads[node.first]
            for a in node.slots[0]:
                rows = 1 if signature.attrs[0] == "stack" else self.types[a].shape[0]
                self._add(a, g[at] if signature.attrs[0] == "stack" else g[at : at + rows])
                at += rows
            return
        if signature.kind != KERNEL:
            self._reverse_rows(node)
            return
        derived, wrt = _derived(
            signature, frozenset(k for k in signature.trainable if self._reaches(signature.shared[k]))
        )
        if not wrt:
            return
        operands: list[Any] = []
        for k, slot in enumerate(signature.slots):
            operands.append(
                [self._value(a) for a in node.slots[k]] if slot.kind == LIST else self._value(node.slots[k][0])
            )
        cotangents: list[Any] = []
        for k in range(len(signature.results)):
            cotangents.append(self._cotangent(node.first + k))
        for (kind, k), g in zip(wrt, self._write(derived, node, operands, cotangents), strict=True):
            if kind == "shared":
                x = signature.shared[k]
                self.shared[x] = self.shared[x] + g if x in self.shared else g
            elif signature.slots[k].kind == LIST:
                element = signature.slots[k].type
                for e, a in enumerate(node.slots[k]):
                    part = g[e * element.rows : (e + 1) * element.rows]
                    self._add(a, part if element.ndim > 1 else view_rows(g, e, 1, 1, "pick", element.shape))
            else:
                self._add(node.slots[k][0], g)

    def _reverse_rows(self, node: _Node) -> None:
        """Cotangent of a view of rows: zeros with the cotangent put into those rows."""
        start, step, count = self.tape.ints[node.ints : node.ints + 3]
        a = node.slots[0][0]
        type = self.types[a]
        g = self.grads[node.first]
        ids = np.asarray(start if node.signature.attrs[0] == "pick" else start + step * np.arange(count))
        if type.ndim == 1:
            raise RecordingError("grad: a view of a vector has no rows")
        self._add(a, apply(SCATTER_ADD, (g, tensor(ids)), (type.shape[0],)))

    def _write(
        self, derived: Signature, node: _Node, operands: list[Any], cotangents: list[Any]
    ) -> list[RecordedTensor]:
        tape = self.tape
        ids: list[int] = []
        sizes: dict[int, int] = {}
        for k, slot in enumerate(derived.slots):
            x = operands[k] if k < len(operands) else cotangents[k - len(operands)]
            if slot.kind == LIST:
                ids.append(len(x))
                ids.extend(value_number(t, tape) for t in x)
                sizes[k] = len(x)
            else:
                ids.append(value_number(x, tape))
                sizes[k] = x.shape[0] if x.shape else 1
        types = []
        for result, i in zip(derived.results, derived.graph.outputs, strict=True):
            type = derived.graph.nodes[i].type
            if result.rule == PER_ELEMENT and derived.slots[result.ref].kind == LIST:
                type = tensor_type(type.dtype, (sizes[result.ref] * type.rows, type.width))
            elif result.rule in (AS_SLOT, PER_ELEMENT):
                type = tensor_type(type.dtype, (sizes[result.ref], *type.shape))
            types.append(type)
        ints = tape.ints[node.ints : node.ints + derived.n_ints]
        floats = tape.floats[node.floats : node.floats + derived.n_floats]
        return write(tape, tape.signature_number(derived), ids, types, (None, 0), ints, floats)

    def _expressions(self) -> None:
        """Carry cotangents of shared expressions down to parameters, as values of the example."""
        for x in reversed(in_order(list(self.shared))):
            if not isinstance(x, SharedExpression) or x not in self.shared or x in self.parameters:
                continue
            if x.op is None:
                p, g = x.parents[0], self.shared[x]
                self.shared[p] = self.shared[p] + g if p in self.shared else g
                continue
            wrt = [i for i, n in enumerate(x.graph.nodes) if n.is_input and x.parents[n.attrs[1]].trainable]
            result = vjp(x.graph, wrt)
            keys = [x.graph.nodes[w].attrs[1] for w, c in zip(wrt, result.cotangents, strict=True) if c is not None]
            signature = _shared_pull(x, result.graph.pruned())
            tape = self.tape
            types = [signature.graph.nodes[i].type for i in signature.graph.outputs]
            ids = (value_number(self.shared[x], tape),)
            made = write(tape, tape.signature_number(signature), ids, types, (None, 0))
            for parent, g in zip(keys, made, strict=True):
                p = x.parents[parent]
                self.shared[p] = self.shared[p] + g if p in self.shared else g


def _read(tape: Recording) -> list[_Node]:
    """The nodes in the lists of an open tape. What was replayed stands before what is differentiated: a constant."""
    nodes = []
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
            if slot.kind == LIST:
                n = stream[at]
                slots.append(stream[at + 1 : at + 1 + n])
                at += 1 + n
            else:
                slots.append([stream[at]])
                at += 1
        nodes.append(_Node(signature, slots, first, ints, floats))
        first += len(signature.results)
        ints += signature.n_ints
        floats += signature.n_floats
    return nodes


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


def _derived(signature: Signature, shared: frozenset[int]) -> tuple[Signature, list[tuple[str, int]]]:
    """The signature of the VJP of a signature: its operands, then the cotangents of its results."""
    cache = signature.__dict__.setdefault("_derived", {})
    found = cache.get(shared)
    if found is not None:
        return found
    if signature.by_rows and shared:
        cache[shared] = _derived(_by_elements(signature), shared)
        return cache[shared]
    graph = signature.graph
    wrt = [
        i
        for i, n in enumerate(graph.nodes)
        if n.is_input
        and is_float(n.type.dtype)
        and (n.attrs[0] == "rows" or (n.attrs[0] == "shared" and n.attrs[1] in shared))
    ]
    result = vjp(graph, wrt)
    kept = [graph.nodes[w].attrs for w, c in zip(wrt, result.cotangents, strict=True) if c is not None]
    renamed = Graph()
    number: list[int] = []
    n_slots = len(signature.slots)
    slots = list(signature.slots)
    for where, i in zip(signature.results, graph.outputs, strict=True):
        node = graph.nodes[i]
        if where.rule == PER_ELEMENT:
            slots.append(
                Slot(EACH, tensor_type(node.type.dtype, (1, *node.type.shape)), signature.slots[where.ref].list)
            )
        elif signature.by_rows:
            slots.append(Slot(signature.slots[0].kind, tensor_type(node.type.dtype, (1, *node.type.shape)), 0))
        else:
            slots.append(Slot(0, node.type, 0))
    for node in result.graph.nodes:
        inputs = tuple(number[j] for j in node.inputs)
        attrs = ("rows", n_slots + node.attrs[1]) if node.is_input and node.attrs[0] == "cotangent" else node.attrs
        number.append(renamed.add(node.op, inputs, attrs, node.type, node.level))
    renamed.outputs = tuple(number[i] for i in result.graph.outputs)
    renamed = renamed.pruned()
    results = []
    for (kind, k), i in zip(kept, renamed.outputs, strict=True):
        type = renamed.nodes[i].type
        if kind == "shared":
            results.append(Result(type.width, type.dtype, rows=type.rows))
        elif signature.by_rows:
            width = type.width * (type.rows if type.ndim > 1 else 1)
            results.append(Result(width, type.dtype, AS_SLOT, k))
        elif signature.slots[k].kind == EACH:
            width = type.width * (type.rows if type.ndim > 1 else 1)
            results.append(Result(width, type.dtype, PER_ELEMENT, k, 1))
        elif signature.slots[k].kind == LIST:
            results.append(Result(type.width, type.dtype, PER_ELEMENT, k, type.rows))
        else:
            results.append(Result(type.width, type.dtype, rows=type.rows))
    derived = Signature(
        f"vjp of {signature.name}",
        KERNEL,
        tuple(slots),
        tuple(results),
        signature.n_ints,
        signature.n_floats,
        renamed,
        signature.shared,
        signature.data,
        signature.attrs,
        False,
        signature.by_rows,
        signature.draws,
    )
    cache[shared] = derived, kept
    return derived, kept


def _shared_pull(x: SharedExpression, graph: Graph) -> Signature:
    """The signature that carries the cotangent of a shared expression to its parents."""
    found = x._signatures.get("pull")
    if found is None:
        renamed = Graph()
        for node in graph.nodes:
            attrs = ("rows", 0) if node.is_input and node.attrs[0] == "cotangent" else node.attrs
            renamed.add(
                node.op, node.inputs, attrs, node.type, max(node.level, 0) if attrs[:1] == ("rows",) else node.level
            )
        renamed.outputs = graph.outputs
        results = tuple(
            Result(graph.nodes[i].type.width, graph.nodes[i].type.dtype, rows=graph.nodes[i].type.rows)
            for i in graph.outputs
        )
        found = x._signatures["pull"] = Signature(
            "vjp of shared", KERNEL, (Slot(0, x._type),), results, graph=renamed, shared=x.parents
        )
    return found
