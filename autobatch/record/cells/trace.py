"""A cell is traced: its function runs once with tracers in place of values and numbers."""

from __future__ import annotations

import itertools
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...base.errors import CellError, user_error
from ...base.types import ELEMENTS, INT64, LEADING, Type, size_of, tensor_type
from ...ir.by_rows import LEVEL, by_rows
from ...ir.graph import NODE, Graph
from ...ir.trace import SHADOW, Builder, ListsMeet
from ...ir.tracers import StackedTracer, TracedList
from ...schedule.structures import EACH, KERNEL, LIST, ONE, PER_ELEMENT, Result, Slot
from ..containers import filled, kind_of
from ..context import flags, is_frozen
from ..signature import Signature
from ..tape import current_tape, state
from .arguments import Flat
from .facts import Guard, weakly
from .guard import Skip, guard
from .results import flatten_results, result_of


@dataclass(slots=True, weakref_slot=True, eq=False, kw_only=True)
class Traced:
    """One traced signature of a cell: valid while its guard holds.

    objects: weak references to what was guarded; held: what counts by identity
    outputs: structure of the results, which have these types; listed: those that are lists over a varying list
    bounds: of numbers that are indices: which, the lowest, and what it has to be below; draws: per list, 0 for none
    same_length: slots of lists that have to be as long as another one is
    """

    signature: Signature
    guard: Guard
    fn: Callable[..., Any]
    objects: tuple[Callable[[], Any], ...]
    outputs: Any
    types: tuple[Type, ...]
    listed: tuple[int, ...]
    bounds: tuple[tuple[int, int, int], ...]
    draws: dict[int, int]
    same_length: tuple[tuple[int, int], ...]
    held: tuple[Any, ...]
    known: dict[Any, Any] = field(default_factory=dict)
    """Of calls that take the fast path what is checked, by what these have in common; without their owners."""

    @property
    def by_rows(self) -> bool:
        """Whether the rows of its matrices are a list, whose length may vary."""
        return any(slot.kind == EACH for slot in self.signature.slots)

    def holds(self, fn: Callable[..., Any], objects: list[Any]) -> bool:
        """Whether it is about these very objects, and nothing that was read has changed since it was last looked at."""
        same = self.fn is fn and all(known() is x for known, x in zip(self.objects, objects, strict=True))
        return same and self.guard.unchanged()

    def take(self, fn: Callable[..., Any], objects: list[Any], now: Guard) -> None:
        """From now on it is about these objects, of which the same was read."""
        self.guard, self.fn, self.objects = now, fn, tuple(map(weakly, objects))


def trace(fn: Callable[..., Any], flat: Flat, skip: Skip, rows: Sequence[int] = ()) -> Traced:
    """Run a function with the arguments of a call as tracers. Raises `CellError` where it changes what it reads.

    Lists count as of different lengths until their elements meet; then it runs once more.

    rows: slots of matrices of one length, which has been seen to vary
    """
    united: list[tuple[int, int]] = []
    while True:
        try:
            return _trace(fn, flat, skip, rows, united)
        except ListsMeet as meeting:
            united.append(meeting.lists)


def _trace(
    fn: Callable[..., Any], flat: Flat, skip: Skip, rows: Sequence[int], united: Sequence[tuple[int, int]]
) -> Traced:
    builder = Builder(is_cell=True, is_frozen=bool if is_frozen() else is_frozen)
    inputs = _Inputs(builder, united)
    arguments = [inputs.part(p) for p in flat.structure]
    data = inputs.data
    builder.draw_inputs = (
        builder.input("data", len(data), tensor_type(INT64, ()), weak=True),
        builder.input("data", len(data) + 1, tensor_type(INT64, ()), weak=True),
    )
    inside = arguments[len(arguments) - len(flat.inside) :]
    cells = list(fn.__closure__ or ())
    for k, value in zip(flat.inside, inside, strict=True):
        cells[k] = types.CellType(value)
    outputs, leaves, listed, graph = _run(_with_closure(fn, cells) if inside else fn, arguments, flat, builder)
    if any(cells[k].cell_contents is not x for k, x in zip(flat.inside, inside, strict=True)):
        raise changes_what_it_reads(fn)
    if not inputs.are_unchanged():
        raise changes_what_it_reads(fn, "a list or dict that it is given")
    draws = any(builder.draws.values())
    data += "ii" if draws else ""
    found = [graph.nodes[i] for i in graph.outputs]
    read = guard((fn,), flat.objects, skip=skip)
    for what in read.unseen:
        warnings.warn(
            f"cell {fn.__name__} reads {what}: a change in place is not noticed; make it an ab.constant or nn.Buffer",
            RuntimeWarning,
            stacklevel=6,
        )
    slots, ends = inputs.slots, [node.type for node in found]
    results = [result_of(x, n.type, n.level, slots) for x, n in zip(leaves, found, strict=True)]
    row = by_rows(graph, rows) if rows else None
    if row is not None:
        graph = row
        slots = [Slot(EACH, slot.type, LEVEL) if k in rows else slot for k, slot in enumerate(slots)]
        for k, node in enumerate(row.nodes[i] for i in row.outputs):
            if node.level == LEVEL:
                results[k] = Result(size_of(node.type.shape), node.type.dtype, PER_ELEMENT, rows[0], 1)
                ends[k] = tensor_type(ends[k].dtype, ends[k].shape, LEADING if ends[k].ndim > 1 else ELEMENTS)
    signature = Signature(
        name=fn.__name__,
        kind=KERNEL,
        slots=tuple(slots),
        results=tuple(results),
        graph=graph,
        shared=tuple(builder.shared),
        data=data,
        frozen=is_frozen() or not any(node.type.dtype.kind == "f" for node in found),
        draws=draws,
    )
    return Traced(
        signature=signature,
        guard=read,
        fn=fn,
        objects=tuple(map(weakly, flat.objects)),
        outputs=outputs,
        types=tuple(ends),
        listed=tuple(listed),
        bounds=tuple(builder.bounds),
        draws=dict(builder.draws),
        same_length=tuple(inputs.same_length),
        held=flat.held,
    )


def _with_closure(fn: Any, cells: list[types.CellType]) -> Any:
    """The function with other variables of its closure."""
    made = types.FunctionType(fn.__code__, fn.__globals__, fn.__name__, fn.__defaults__, tuple(cells))
    made.__kwdefaults__ = fn.__kwdefaults__
    return made


def _run(
    fn: Callable[..., Any], arguments: list[Any], flat: Flat, builder: Builder
) -> tuple[Any, list[Any], list[int], Graph]:
    """Structure of the results, their leaves, those of lists, and the graph."""
    n, leaves, listed = flat.n_args, list[Any](), list[int]()
    before, tape = state.training, current_tape()
    is_aside = tape.is_aside
    try:
        try:
            tape.is_aside = flags.traced = True
            state.builder, state.training = builder, bool(getattr(flat.owner, "training", before))
            result = fn(*arguments[:n], **dict(zip(flat.named, arguments[n:], strict=False)))
            outputs = flatten_results(result, leaves, listed, builder)
            graph = builder.finish([x._each if isinstance(x, StackedTracer) else x for x in leaves])
        finally:
            state.builder, state.training, tape.is_aside, flags.traced = None, before, is_aside, False
    finally:
        # Again: Ctrl-C may have come before.
        state.builder, state.training, tape.is_aside, flags.traced = None, before, is_aside, False
    return outputs, leaves, listed, graph


def changes_what_it_reads(fn: Any, what: str = "what it reads") -> CellError:
    """The error for a function that does what a traced one cannot do again."""
    what = f"cell {fn.__name__}: it changes {what}, and its Python runs only when it is traced"
    repair = "pass the value as an argument and return the new one, or leave out @ab.cell"
    return user_error(CellError, what, repair=repair)


class _Inputs:
    """Arguments again, with tracers in place of values and numbers."""

    def __init__(self, builder: Builder, united: Sequence[tuple[int, int]]) -> None:
        self.builder = builder
        self.united = united
        self.slot_of: dict[int, int] = {}  # of a list, or of lists of one length, the first slot
        self.same_length: list[tuple[int, int]] = []
        self.slots: list[Slot] = []
        self.data = ""
        self.n_lists = 0
        self.built: list[tuple[Any, tuple[Any, ...]]] = []  # lists and dicts, and what they held

    def part(self, p: Any, level: int = NODE) -> Any:
        """What a part of the structure stands for."""
        kind = p[0]
        if kind in ("T", "number"):
            self.slots.append(Slot(LIST if level else ONE, p[1], level))
            return self.builder.input("rows", len(self.slots) - 1, p[1], level, weak=kind == "number")
        if kind in ("i", "f"):
            self.data += kind
            type = tensor_type(INT64 if kind == "i" else np.float64, ())
            return self.builder.input("data", len(self.data) - 1, type, weak=True)
        if kind == "P":
            return p[1]
        if kind in ("static", "object"):
            return p[2]
        if kind == "slice":
            return slice(*p[1])
        if kind == "tuple":
            return filled(p[1], (), [self.part(e, level) for e in p[2]])
        if kind == "list":
            self.n_lists += 1
            k, first = self.n_lists, len(self.slots)
            for one, other in self.united:  # one after the other, as they met
                k = one if k == other else k - (k > other)
            if self.slot_of.setdefault(k, first) != first:
                self.same_length.append((self.slot_of[k], first))
            real = self.part(p[1], k)
            return TracedList(self.builder, k, (real, self._shadow(p[1], itertools.count(first), SHADOW + k)))
        made = [] if kind == "empty" else filled(kind_of(p[3]), p[1], [self.part(e, level) for e in p[2]])
        self.built.append((made, _held(made)))
        return made

    def _shadow(self, p: Any, slots: Iterator[int], level: int) -> Any:
        """The second representative of a list's elements: the same slots, at shadow level."""
        if p[0] in ("T", "number"):
            return self.builder.input("rows", next(slots), p[1], level, weak=p[0] == "number")
        if p[0] == "tuple":
            return filled(p[1], (), [self._shadow(e, slots, level) for e in p[2]])
        return p[2] if p[0] in ("static", "object") else p[1]

    def are_unchanged(self) -> bool:
        """Whether lists and dicts hold what they held."""
        return all(
            len(before) == len(now := _held(x)) and all(a is b for a, b in zip(before, now, strict=True))
            for x, before in self.built
        )


def _held(x: Any) -> tuple[Any, ...]:
    return (*dict.keys(x), *dict.values(x)) if isinstance(x, dict) else tuple(x)
