"""record: user calls → flat lists; at a flush the lists become the integer arrays of `run.program.Tape`.

Input: one call of `tensor.write` per op or cell call (fast paths write the same lists inline). Output: `assemble`.
Invariants: operands of a node have smaller value numbers than its results; the nodes of an example are contiguous.
Cost: well under a microsecond a node.

A node is written whole or not at all. While one is being written `count` is `WRITING`, and nothing but the end of that
write sets it to a number again: if an exception breaks a write off, later ones find `WRITING` and raise. What can
fail by itself (a line is looked up, tensors are made) comes before. The stream holds, node by node, the signature's
number, then for each slot one value number, or for a list its length and that many value numbers.

Nodes that are replayed (`reuse/`) come as a `Block`: arrays instead of list entries, and no tensors but the results.

Tensors are used again: those that nobody holds when a recording ends are the next one's, the number of their value
included. A recording's list has the tensor of value k at place k, and tensors for values to come.
"""

from __future__ import annotations

import bisect
import itertools
import math
import operator
import threading
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import CodeType
from typing import TYPE_CHECKING, Any

import numpy as np

from ..base.cpython import as_int32
from ..base.errors import line_of
from ..base.jit import njit
from ..base.tasks import Task
from ..base.types import Type, on_change
from ..ir.trace import Builder
from ..run.kept_plans import PlanCache
from ..schedule.merged import Piece
from ..schedule.structures import EACH, LIST, Expansion, SignatureTable, Tape
from .forced_values import Forcing
from .parameter import now
from .shared import Shared
from .signature import Signature

if TYPE_CHECKING:
    from .tensor import RecordedTensor

OPEN, DONE, ENDED = "open", "done", "ended"

_numbers = itertools.count(1)


Ints = np.ndarray[Any, Any]

GUARDED = -1 << 60
"""The room of a recording while an asyncio task is inside of `no_grad`: every op asks whether its task runs."""

WRITING: Any = math.inf
"""The count of a recording in which a node is being written: more than any recording has room for."""

AHEAD = 16
"""Most results of a node that finds its tensors without asking for each."""


@dataclass(slots=True)
class Block:
    """Nodes that were put into a recording all at once, after the first so many entries of its lists."""

    at: tuple[int, int, int]  # entries of the stream, of the int data, and of the float data that stand before
    node: int  # number of the first node
    value: int  # number of the first value
    n_values: int
    stream: Ints
    ints: Ints
    floats: Ints
    places: Ints  # [nodes] numbers in `lines`
    lines: Sequence[tuple[CodeType | None, int]]
    firsts: Ints | None = None  # [nodes + 1] first value of each, counted from `value`, once somebody has asked


class Recording:
    """What one thread, or asyncio task, recorded since the last flush, and after the flush what came of it."""

    __slots__ = (
        "__weakref__",
        "arrays",
        "beyond",
        "blocks",
        "born",
        "cache",
        "caches",
        "codes",
        "constants",
        "count",
        "examples",
        "floats",
        "forcing",
        "frozen_from",
        "held",
        "holders",
        "imports",
        "ints",
        "is_aside",
        "left",
        "lines",
        "links",
        "moment",
        "number",
        "outside",
        "payloads",
        "places",
        "plan_cache",
        "replayed",
        "results",
        "room",
        "run",
        "serial",
        "signatures",
        "solid",
        "state",
        "stream",
        "sweeps",
        "targets",
        "task",
        "tensors",
        "thread",
        "unbatched",
        "user_code",
    )

    def __init__(
        self, frozen: bool, unbatched: bool, spare: list[RecordedTensor] | None = None, task: Task = None
    ) -> None:
        self.stream: list[int] = []
        self.places: list[int] = []  # of each node, the instruction that recorded it
        self.beyond: list[int] = []  # for each result beyond the first of a node the value before it
        self.codes: list[tuple[int, CodeType | None]] = [(0, None)]  # from which node on it is one of which code
        self.tensors: list[Any] = [] if spare is None else spare
        self.room = len(self.tensors) - AHEAD  # a node whose first value is not beyond this has tensors
        self.solid: int | None = None  # from here on places may be empty: there is nothing to use again
        self.replayed: list[RecordedTensor] = []  # of values of blocks
        self.ints: list[int] = []
        self.floats: list[float] = []
        self.payloads: list[tuple[int, np.ndarray[Any, Any]]] = []
        self.count: int = 0  # of values
        self.examples = 0  # of `ab.map`
        self.user_code: CodeType | None = None  # the user's code that recorded last
        self.frozen_from = 0  # under no_grad: the first value that was recorded there
        self.caches: dict[bool, dict[Any, Any]] = {False: {}, True: {}}
        self.cache = self.caches[frozen]
        self.signatures: list[Signature] = []
        self.number: dict[Signature, int] = {}
        self.imports: dict[tuple[int, int], int] = {}
        self.outside: dict[int, Any] = {}  # values of the recording, not of an example → what they are
        self.blocks: list[Block] = []
        self.forcing: Forcing | None = None  # what was forced inside the `ab.map` that it is a part of
        self.sweeps = 0  # how many functions are being differentiated
        self.links: list[tuple[int, Recording, int]] = []
        self.state = OPEN
        self.run: Any = None
        self.lines: dict[int, tuple[CodeType | None, int]] | None = None  # of values, once all else was let go of
        self.constants: set[int] = set()  # those of them that are constants
        self.left: list[tuple[dict[int, int], Any]] = []  # copies of values that are there after the end: which, where
        self.moment: Any = None  # when its values on a device were made; None: they may still be being made
        self.arrays: Tape | None = None
        self.plan_cache: PlanCache[Shared] | None = None  # of recordings of the same structure
        self.targets: list[int] | None = None
        self.results: set[int] = set()  # values that stay readable: results of `ab.map`, and what was differentiated
        self.holders: list[weakref.ref[RecordedTensor]] = []  # those tensors
        self.held: list[tuple[int, Type]] = []  # values of tensors that somebody held at the flush
        self.thread = threading.get_ident()
        self.task = task
        hash(task)  # a reference remembers its hash, and is a key when the task has gone, too
        self.born = now()
        self.serial = next(_numbers)
        self.is_aside = task is not None  # ops that read none of its values ask first whether they belong here
        self.unbatched = unbatched

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
        """Whether a node was broken off while it was written, so that nothing can be made of the recording."""
        return self.count is WRITING

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
            return int(np.searchsorted(self.arrays.value_of, value, side="right")) - 1
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
            pools: dict[tuple[int, Any], int] = {}
            table = signature_table(self.signatures, pools)
            block.firsts = parsed(self, block.stream, table, pools, ()).value_of
        return int(np.searchsorted(block.firsts, value, side="right")) - 1

    def put(
        self, block: Block, payloads: list[tuple[int, np.ndarray[Any, Any]]], tensors: list[RecordedTensor]
    ) -> None:
        """Append nodes that were replayed, their arrays from outside, and tensors of some of their values."""
        after = block.value + block.n_values
        self.count = WRITING
        self.payloads += payloads
        self.blocks.append(block)
        self.replayed += tensors
        n = len(self.tensors)
        if n < after:
            self.solid = n if self.solid is None else self.solid
            self.tensors += [None] * (after - n)
            self.room = after - AHEAD if self.room != GUARDED else GUARDED
        self.count = after

    def live_tensors(self) -> list[RecordedTensor]:
        """The tensors of this recording's values."""
        made = [t for t in itertools.islice(self.tensors, self.count) if getattr(t, "_tape", None) is self]
        return made + self.replayed

    def piece(self, expansion: Expansion, signatures: Sequence[Signature]) -> Piece:
        """What the recording is among those that it was split into."""
        links = [(value, number, old) for (number, old), value in self.imports.items()]
        return Piece(self.serial, expansion, signatures, links)

    def let_go(self) -> None:
        """Forget what is of no use once the recording has become arrays; the lines of its nodes stay."""
        self.tensors, self.replayed, self.stream, self.ints, self.floats, self.beyond = [], [], [], [], [], []
        self.caches, self.cache, self.outside = {}, {}, {}
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


class State(threading.local):
    """What a thread is doing.

    tape: the recording that is under way; others: those of asyncio tasks that wait, and of the code outside of tasks
    frozen_tasks: how many asyncio tasks are inside of `no_grad`
    """

    tape: Recording | None = None
    frozen_tasks: int = 0
    spare: list[RecordedTensor] | None = None
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

    def __init__(self) -> None:
        self.ended: list[weakref.ref[Recording]] = []  # the last ones: they can still be explained
        self.finished: weakref.ref[Recording] | None = None  # ran, has no gradient, and is ended by the next that runs
        self.others: weakref.WeakValueDictionary[Task, Recording] = weakref.WeakValueDictionary()


state = State()


def is_under_way(tape: Recording) -> bool:
    """Whether an open recording of this thread goes on: it was not given up."""
    return state.tape is tape or state.others.get(tape.task) is tape


def _forget_types() -> None:
    if state.tape is not None:
        for cache in state.tape.caches.values():
            cache.clear()


on_change.append(_forget_types)


@njit
def _count(stream, slot_of, slot_kind):  # type: ignore[no-untyped-def]
    """Nodes, slots and arguments of a stream."""
    n_nodes = 0
    n_slots = 0
    n_args = 0
    at = 0
    while at < stream.size:
        s = stream[at]
        at += 1
        n_nodes += 1
        for slot in range(slot_of[s], slot_of[s + 1]):
            n_slots += 1
            length = 1
            if slot_kind[slot] == 1:
                length = stream[at]
                at += 1
            n_args += length
            at += length
    return n_nodes, n_slots, n_args


@njit
def _parse(  # type: ignore[no-untyped-def]
    stream, slot_of, slot_kind, n_results, n_ints, n_floats, sig, node_slot, arg_of, args, value_of, int_of, float_of
):
    """Fill: node signatures, slots, arguments, values and data positions."""
    n_nodes = sig.size
    at = 0
    slots = 0
    n_args = 0
    values = 0
    ints = 0
    floats = 0
    for node in range(n_nodes):
        s = stream[at]
        at += 1
        sig[node] = s
        node_slot[node] = slots
        value_of[node] = values
        int_of[node] = ints
        float_of[node] = floats
        for slot in range(slot_of[s], slot_of[s + 1]):
            arg_of[slots] = n_args
            slots += 1
            length = 1
            if slot_kind[slot] == 1:
                length = stream[at]
                at += 1
            for _ in range(length):
                args[n_args] = stream[at]
                n_args += 1
                at += 1
        values += n_results[s]
        ints += n_ints[s]
        floats += n_floats[s]
    node_slot[n_nodes] = slots
    arg_of[slots] = n_args
    value_of[n_nodes] = values
    int_of[n_nodes] = ints
    float_of[n_nodes] = floats


_tables: dict[Any, tuple[list[weakref.ref[Signature]], SignatureTable, list[tuple[int, Any]]]] = {}
"""By identity of the signatures and the pools before: whether the signatures are alive, the table, the pools after."""

TABLES = 256
"""Most tables that are kept."""


def signature_table(signatures: Sequence[Signature], pools: dict[tuple[int, Any], int]) -> SignatureTable:
    """The signatures of one tape as arrays; pools that are new get the next number."""
    key = (*map(id, signatures), *pools)
    kept = _tables.get(key)
    if kept is not None and all(reference() is not None for reference in kept[0]):
        for one in kept[2]:
            pools.setdefault(one, len(pools))
        return kept[1]
    table = _signature_table(signatures, pools)
    if len(_tables) >= TABLES:
        _tables.clear()
    _tables[key] = [weakref.ref(s) for s in signatures], table, list(pools)
    return table


def _signature_table(signatures: Sequence[Signature], pools: dict[tuple[int, Any], int]) -> SignatureTable:
    def pool(width: int, dtype: Any) -> int:
        return pools.setdefault((width, dtype), len(pools))

    def ints(values: Any) -> Any:
        return np.array(list(values), np.int32)

    slots = [slot for s in signatures for slot in s.slots]
    results = [r for s in signatures for r in s.results]
    for slot in slots:
        pool(*slot.pool)
    return SignatureTable(
        kind=ints(s.kind for s in signatures),
        slot_of=ints(itertools.accumulate((len(s.slots) for s in signatures), initial=0)),
        slot_kind=ints(slot.kind for slot in slots),
        slot_rows=ints(slot.type.rows if slot.kind == LIST else 1 if slot.kind == EACH else 0 for slot in slots),
        result_of=ints(itertools.accumulate((len(s.results) for s in signatures), initial=0)),
        result_pool=ints(pool(r.width, r.dtype) for r in results),
        result_rule=ints(r.rule for r in results),
        result_ref=ints(r.ref for r in results),
        result_rows=ints(r.rows for r in results),
        n_ints=ints(s.n_ints for s in signatures),
        n_floats=ints(s.n_floats for s in signatures),
        frozen=ints(s.frozen for s in signatures),
        trainable=ints(bool(s.trainable) for s in signatures),
    )


def assemble(recording: Recording, roots: Sequence[int]) -> Tape:
    """The integer arrays of what was recorded."""
    pools: dict[tuple[int, Any], int] = {}
    table = signature_table(recording.signatures, pools)
    return parsed(recording, listed(recording, "stream", np.int32), table, pools, roots)


def parsed(
    recording: Recording, stream: Ints, table: SignatureTable, pools: Iterable[tuple[int, Any]], roots: Sequence[int]
) -> Tape:
    """The arrays of a recording whose stream and signatures are arrays already."""
    n_results = np.diff(table.result_of).astype(np.int32)
    n_nodes, n_slots, n_args = _count(stream, table.slot_of, table.slot_kind)
    # Made by NumPy, which asks for large pages where arrays are large.
    sig, args = np.empty(n_nodes, np.int32), np.empty(n_args, np.int32)
    slot_of, value_of, int_of, float_of = (np.empty(n_nodes + 1, np.int32) for _ in range(4))
    arg_of = np.empty(n_slots + 1, np.int32)
    _parse(
        stream, table.slot_of, table.slot_kind, n_results, table.n_ints, table.n_floats,
        sig, slot_of, arg_of, args, value_of, int_of, float_of,
    )  # fmt: skip
    return Tape(
        signatures=table,
        sig=sig,
        slot_of=slot_of,
        arg_of=arg_of,
        args=args,
        value_of=value_of,
        int_of=int_of,
        float_of=float_of,
        ints=listed(recording, "ints", np.int64),
        floats=listed(recording, "floats", np.float64),
        roots=np.array(roots, np.int32),
        pools=list(pools),
    )


def listed(recording: Recording, name: str, dtype: Any) -> Ints:
    """One of the lists as an array, with what blocks put into it."""
    own = as_int32(recording.stream) if name == "stream" else np.array(getattr(recording, name), dtype)
    if not recording.blocks:
        return own
    parts: list[Ints] = []
    done = 0
    k = ("stream", "ints", "floats").index(name)
    for block in recording.blocks:
        parts += [own[done : block.at[k]], getattr(block, name)]
        done = block.at[k]
    return np.concatenate([*parts, own[done:]])
