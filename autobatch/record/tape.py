"""record: user calls → flat lists, which become the integer arrays of `schedule.structures.Tape` at a flush.

Input: one call of `nodes.write` per op or cell call, or the same lines generated in place. Output: `assemble`.
Invariants: operands of a node have smaller value numbers than its results; the nodes of an example are contiguous.
Cost: well under a microsecond a node.

A node is written whole or not at all. While one is being written `count` is `WRITING`, and nothing but the end of that
write sets it to a number again: if an exception interrupts a write, later ones find `WRITING` and raise. What can
fail by itself (a line is looked up, tensors are made) comes before.

Nodes that are replayed (`map/`) come as a `Block`: arrays instead of list entries, and no tensors but the results.
"""

from __future__ import annotations

import bisect
import itertools
import math
import operator
import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..base.errors import CellError, RecordingError, line_of, of_library, user_error, user_place
from ..base.tasks import Task, current_task
from ..base.types import FLOATS, Array, Type, default_dtype, on_change
from ..ir.trace import Builder
from ..run.device.layout import DeviceRun
from ..run.earlier import Brought
from ..run.execute import HostRun
from ..run.kept_plans import PlanCache
from ..run.one_by_one import LoopRun
from ..schedule.merged import HasGraph, Piece
from ..schedule.structures import Expansion, Tape
from .assemble import nodes_of, signature_table
from .choice import compiled
from .context import is_frozen
from .forced_values import Forcing
from .lengths import switched
from .operands import OperandSet
from .parameter import now
from .shared import Shared
from .signature import Signature
from .tensor import RecordedTensor
from .tensor_list import GUARDED, TensorList

OPEN, DONE, ENDED = "open", "done", "ended"

_numbers = itertools.count(1)

WRITING: Any = math.inf
"""The count of a recording in which a node is being written: more than any recording has room for."""


@dataclass(slots=True)
class Block:
    """Nodes that were put into a recording all at once, after the first so many entries of its lists."""

    at: tuple[int, int, int]  # entries of the stream, of the int data, and of the float data before it
    node: int  # number of the first node
    value: int  # number of the first value
    n_values: int
    stream: Array
    ints: Array
    floats: Array
    places: Array  # [nodes] numbers in `lines`
    lines: Sequence[tuple[CodeType | None, int]]
    firsts: Array | None = None  # [nodes + 1] first value of each, counted from `value`, computed lazily


@dataclass(slots=True)
class Links:
    """Values of earlier recordings through which gradient flows, in the order in which they were linked.

    sources: the recordings; source: [n] which of them; value: [n] number there; here: [n] number in what reads them
    """

    sources: list[Recording] = field(default_factory=list)
    source: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    value: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    here: Array = field(default_factory=lambda: np.zeros(0, np.int64))

    def only(self, chosen: Array) -> Links:
        """Some of them, given by a mask or by places."""
        return Links(self.sources, self.source[chosen], self.value[chosen], self.here[chosen])


_NOTHING: dict[int, Any] = {}
"""What most recordings have none of: one for all, never written to, as each recording that is kept counts."""


class Recording(TensorList):
    """What one thread, or asyncio task, recorded since the last flush; after the flush also its run."""

    __slots__ = (
        "__weakref__", "arrays", "blocks", "born", "brought", "by_array", "caches", "constants", "examples", "failed",
        "forcing", "frozen_from", "held", "holders", "is_constant", "left", "lines", "links", "moment",
        "number", "operands", "outside", "payloads", "peeked", "plan_cache", "policy", "prints", "replays", "results",
        "row_types", "run", "shared_rows", "signatures", "since", "sources", "state", "sweeps", "table", "tables",
        "targets", "task", "thread", "unbatched",
    )  # fmt: skip

    def __init__(self, frozen: bool, unbatched: bool, task: Task = None) -> None:
        super().__init__()
        self.codes: list[tuple[int, CodeType | None]] = [(0, None)]  # from which node on it is one of which code
        self.payloads: list[tuple[int, Array]] = []
        self.examples = 0  # of `ab.map`
        self.frozen_from = 0  # under no_grad: the first value that was recorded there
        self.caches: dict[bool, dict[Any, Any]] = {False: {}, True: {}}  # which signature a call has: numbers, types
        self.since = switched[0]  # what `lengths.switched` was when the first of them was noted
        self.set_frozen(frozen)
        self.shared_rows: dict[tuple[Any, bool], int] = {}  # values that shared ones are; whether as constants
        self.signatures: list[Signature] = []
        self.number: dict[Signature, int] = {}
        self.sources: dict[Recording, int] = {}  # earlier recordings whose values are read where they lie, by number
        self.tables: list[tuple[Array, int, Any]] = []  # where values of each source lie, its address, who owns these
        # `linked` has of each such value: number of the source, value there, value here.
        self.by_array: list[tuple[int, Recording, int]] = []  # of others with gradient: value here, recording, value
        self.row_types: dict[int, Type] = {}  # types of values from outside, by number of the signature
        self.outside: dict[int, Any] = {}  # values of the recording, not of an example → what they are
        self.blocks: list[Block] = []
        self.forcing: Forcing | None = None  # what was forced inside the `ab.map` that it is a part of
        self.sweeps = 0  # how many functions are being differentiated
        self.peeked: list[Any] | None = None  # values that were forced inside of these, and what led to them
        self.links = Links()  # values of earlier recordings through which gradient flows
        self.brought: Brought | None = None  # the numbers of those that are read where they lie
        self.table: Array | None = None  # where its own values lie
        self.is_constant = False  # whether no value of it has a gradient, and all can be read where they lie
        self.state = OPEN
        self.run: HostRun | DeviceRun | LoopRun | None = None
        self.lines: dict[int, tuple[CodeType | None, int]] | None = None  # of values, once all else was released
        self.constants: set[int] = set()  # those of them that are constants
        self.left: list[tuple[dict[int, int], Any]] = []  # copies of values that are there after the end: which, where
        self.moment: Any = None  # when its values on a device were made; None: they may still be being made
        self.arrays: Tape | None = None
        self.operands: OperandSet | None = None  # what its signatures share
        self.plan_cache: PlanCache | None = None  # of recordings of the same structure
        self.policy: str | None = None  # of its schedule, where `ab.map` was given one
        self.prints: list[tuple[str, int, RecordedTensor]] = []  # label, example or -1, and value of `ab.print`
        self.replays: dict[int, Any] = _NOTHING  # values that `checkpoint` gave: which call, which of its results
        self.targets: list[int] | None = None
        self.results: set[int] = set()  # values that stay readable: results of `ab.map`, and what was differentiated
        self.holders: list[weakref.ref[RecordedTensor]] = []  # those tensors
        self.failed: Mapping[int, Exception] = _NOTHING  # values not computed inside `ab.map`: what a node raised
        self.held: list[tuple[int, Type]] = []  # values of tensors referenced at the flush
        self.thread = threading.get_ident()
        self.task = task
        hash(task)  # a reference remembers its hash, and is a key when the task has gone, too
        self.born = now()
        self.serial = next(_numbers)
        self.is_aside = task is not None  # ops that read none of its values ask first whether they belong here
        self.unbatched = unbatched

    def set_frozen(self, flag: bool) -> None:
        """Record constants from now on, or values that have gradients."""
        self.cache: dict[Any, Any] = self.caches[flag]
        self.mode = flag + 2 * (default_dtype() != FLOATS[0])

    def signature_number(self, signature: Signature) -> int:
        """The tape's own small number of a signature."""
        found = self.number.get(signature)
        if found is None:
            found = len(self.signatures)
            self.signatures.append(signature)
            self.number[signature] = found
        return found

    @property
    def is_interrupted(self) -> bool:
        """Whether the write of a node was interrupted, so that the recording cannot run."""
        return self.count is WRITING

    @property
    def is_ended(self) -> bool:
        """Whether nothing is left of it but values."""
        return self.state == ENDED

    def more_tensors(self, id: int) -> None:
        """See to it that there are tensors for value `id` and those after it.

        Raises `RecordingError` where `id` is `WRITING`: the write of an earlier node was interrupted.
        """
        if id == WRITING:
            raise interrupted()
        if self.room == GUARDED:
            if self.task != current_task():
                what = "a pending tensor of another asyncio task is used here, and a task is inside ab.no_grad()"
                raise user_error(RecordingError, what, repair="force it there, or pass it on as x.numpy()")
            if not state.frozen_tasks:
                self.unguard()
            if self.has_room(id):
                return
        self.lengthen(id)

    def place_from(self, frame: FrameType | None) -> int:
        """The instruction of the first frame outside the library, from this one outwards; its code is noted."""
        known = self.user_code
        while frame is not None:
            code = frame.f_code
            if code is not known:
                if of_library[code.co_filename]:
                    frame = frame.f_back
                    continue
                self.note_code(code)
            return frame.f_lasti
        place = user_place()
        self.note_code(place[0])
        return place[1]

    def note_code(self, code: CodeType | None) -> None:
        """Write down that instructions are of this code from now on."""
        self.user_code = None  # until it is written down: an exception may come between
        self.codes.append((len(self.places), code))
        self.user_code = code

    @property
    def n_nodes(self) -> int:
        """How many nodes were recorded."""
        return len(self.places) + sum(block.places.size for block in self.blocks)

    def signature_of(self, value: int) -> Signature | None:
        """The signature of the node that a value is a result of; None where it is no longer known."""
        return None if self.arrays is None else self.signatures[int(self.arrays.sig[self.node_of(value)])]

    def node_of(self, value: int) -> int:
        """The node that a value is a result of; O(log n) unless it was replayed."""
        if self.arrays is not None:
            return int(self.arrays.node_of(value))
        node = value - bisect.bisect_left(self.beyond, value)
        for block in self.blocks:
            if value < block.value:
                break
            if value < block.value + block.n_values:
                return block.node + self._node_in(block, value - block.value)
            node -= block.n_values - block.places.size
        return node

    def _node_in(self, block: Block, value: int) -> int:
        if block.firsts is None:
            table = signature_table(self.signatures, {})
            block.firsts = nodes_of(block.stream, block.ints, table, block.places.size)[4]
        return int(np.searchsorted(block.firsts, value, side="right")) - 1

    def put(self, block: Block, payloads: list[tuple[int, Array]], tensors: list[RecordedTensor]) -> None:
        """Append replayed nodes, their host inputs, and tensors of some of their values."""
        after = block.value + block.n_values
        self.count = WRITING
        self.payloads += payloads
        self.blocks.append(block)
        self.adopt(tensors)
        self.skip_to(after)
        self.count = after

    def piece(self, expansion: Expansion, signatures: Sequence[HasGraph]) -> Piece:
        """What the recording is among those that it was split into."""
        links = np.array([(value, number, old) for (number, old), value in self.imports.items()], np.int64)
        return Piece(self.serial, expansion, signatures, links.reshape(-1, 3))

    def known(self) -> Known:
        """What it knows of the signatures of calls; it needs this no longer when it has become arrays."""
        return self.caches, self.since, self.number.copy(), self.signatures.copy(), self.row_types

    def let_go(self) -> None:
        """Drop what is not needed once the recording has become arrays; the lines of its nodes stay."""
        self.drop()
        self.peeked = None
        self.caches, self.cache, self.outside = {}, {}, {}
        self.sources, self.tables, self.linked, self.by_array, self.shared_rows = {}, [], self.linked[:0], [], {}
        nothing = np.zeros(0, np.int32)
        for block in self.blocks:
            block.stream = block.ints = block.floats = nothing

    def place(self, node: int) -> tuple[CodeType | None, int]:
        """The code object and the instruction that recorded a node."""
        before = 0  # nodes of blocks
        for block in self.blocks:
            if node < block.node:
                break
            if node < block.node + block.places.size:
                code, instruction = block.lines[block.places[node - block.node]]
                return code, instruction
            before += block.places.size
        return self.listed_places(node - before, node - before + 1)[0]

    def listed_places(self, first: int, last: int) -> list[tuple[CodeType | None, int]]:
        """The code object and the instruction of some nodes that are not of blocks, counted without those."""
        at = bisect.bisect_right(self.codes, first, key=operator.itemgetter(0)) - 1
        places = []
        while first < last:
            code = self.codes[at][1]
            end = min(self.codes[at + 1][0], last) if at + 1 < len(self.codes) else last
            places += [(code, instruction) for instruction in self.places[first:end]]
            first, at = end, at + 1
        return places

    def where(self, node: int) -> str:
        """The user's line of a node."""
        return line_of(*self.place(node))


CHANGED = Recording(False, False)
"""What stands for the recording of a value whose parameters have changed since: it cannot be reversed."""
CHANGED.state = ENDED


class Waits(Protocol):
    """What runs an example; `n_under_way`: how many there are."""

    @property
    def n_under_way(self) -> int: ...

    def wait(self, tape: Recording, wanted: Sequence[RecordedTensor]) -> bool:
        """Let other examples go on until a recording has run, of which values are wanted; False where it is to run
        at once."""


Known = tuple[dict[bool, dict[Any, Any]], int, dict[Signature, int], list[Signature], dict[int, Type]]
"""What a recording knows of the signatures of calls, for the next one."""


class State(threading.local):
    """What a thread is doing.

    tape: the recording that is under way; others: those of asyncio tasks that wait, and of the code outside of tasks
    aliases: how many aliases of a shared value are arguments of derivatives under way
    frozen_tasks: how many asyncio tasks are inside of `no_grad`
    fiber: what runs an example that can wait for a value while others go on
    policy: of schedules, where the `ab.map` under way was given one
    """

    tape: Recording | None = None
    frozen_tasks: int = 0
    builder: Builder | None = None
    unbatched: bool = False
    stream: int = 0
    draws: int = 0
    paths: dict[int, tuple[tuple[int, int], ...]] | None = None
    maps: int = 0
    depth: int = 0
    example: int = -1
    training: bool = True
    forcing: Forcing | None = None
    aliases: Mapping[Shared, int] = {}
    fiber: Waits | None = None
    policy: str | None = None

    if not TYPE_CHECKING and compiled is not None:

        @property
        def tape(self) -> Recording | None:
            return compiled.get_open()

        @tape.setter
        def tape(self, tape: Recording | None) -> None:
            if "opened" not in self.__dict__:
                self.opened = compiled.Opened()
            self.opened.set(tape)

        training = property(lambda self: compiled.get_training(), lambda self, mode: compiled.set_training(mode))

    def __init__(self) -> None:
        self.known: Known | None = None  # of what was recorded before in the same `ab.map`
        self.ended: list[weakref.ref[Recording]] = []  # the last ones: they can still be explained
        self.finished: weakref.ref[Recording] | None = None  # ran, has no gradient, and is ended by the next that runs
        self.others: weakref.WeakValueDictionary[Task, Recording] = weakref.WeakValueDictionary()


state = State()


def is_under_way(tape: Recording) -> bool:
    """Whether an open recording of this thread goes on: it was not given up."""
    return state.tape is tape or state.others.get(tape.task) is tape


def current_tape() -> Recording:
    """The open recording of this thread, or of the asyncio task that runs in it."""
    tape = own_tape()
    if tape is None or tape.is_interrupted:
        tape = state.tape = Recording(is_frozen(), state.unbatched, current_task())
        tape.forcing = state.forcing
        known, state.known = state.known, None
        if known is not None and state.depth:
            tape.caches, tape.since, tape.number, tape.signatures, tape.row_types = known
            tape.set_frozen(is_frozen())
        if state.frozen_tasks:
            tape.room = GUARDED
    return tape


def own_tape() -> Recording | None:
    """The open recording of this thread, or of the asyncio task that runs in it, if there is one."""
    tape, task = state.tape, current_task()
    if tape is None or tape.task != task:
        if tape is not None and not tape.is_interrupted:
            state.others[tape.task] = tape
        tape = state.tape = state.others.pop(task, None)
        if tape is not None:
            tape.set_frozen(is_frozen())
            if state.frozen_tasks:
                tape.room = GUARDED
    return tape


def refuse_inside(name: str, repair: str, of_maps: bool = True) -> None:
    """Raise inside a cell, and inside `ab.map` unless `of_maps` is False."""
    if not of_maps and state.builder is not None:
        raise user_error(CellError, f"{name}: not possible inside a cell", repair=repair)
    if of_maps and (state.depth or state.builder is not None):
        raise user_error(RecordingError, f"{name}: not possible inside ab.map or a cell", repair=repair)


def interrupted() -> RecordingError:
    """The error for a recording that was interrupted in the middle of an op."""
    what = "the recording was given up: an exception interrupted an op while it was recorded"
    return user_error(RecordingError, what, repair="record it again, from ab.map on")


def _forget_types() -> None:
    state.known = None
    for tape in state.others.values():
        for cache in tape.caches.values():
            cache.clear()
    if state.tape is not None:
        for cache in state.tape.caches.values():
            cache.clear()
        state.tape.set_frozen(is_frozen())


on_change.append(_forget_types)
