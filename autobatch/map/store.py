"""Reused recordings: what each example recorded is stored, and replayed when the same example is mapped again.

Input: an open recording and, for the examples of one `ab.map`, where each begins and ends in its lists. `Store.keep`
writes them down relative to the example (`encoded.py`, `arrays.py`); `Store.replay` puts any of them, in any order,
into another recording as one `Block`.

What belongs to the recording rather than to an example, such as a parameter that is read as a row, is recorded first
where it is not there yet. Keys of random draws are written again, from the example's present stream.

Parameters are not kept alive: what belongs to a signature or row that is made of a parameter lives as long as that.

Invariants: a replay equals what the function would have recorded here, up to the place of those shared rows; an example
is stored completely or not at all. Cost of a replay: a few µs an example and a few ns a node.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..base.clocks import profiles
from ..base.interrupts import uninterrupted
from ..base.types import Array
from ..record.cells.facts import weakly
from ..record.tape import Block, Recording
from ..record.tensor import RecordedTensor
from .arrays import COLUMNS, RANGES, SIGNATURE, Column, replay
from .common import Common, Needs, Path
from .encoded import Encoded, Mark
from .surroundings import Surroundings
from .templates import Template, same_array

LIMIT_BYTES = 1 << 30
"""Most bytes that one thread stores; the least recently used recordings are dropped first."""

_ROW_BYTES = 600  # of the objects that go with a recording: its row of the table, its entry, its result
_BY_VALUE = frozenset((int, float, str, bytes, bool, type(None), np.bool_, np.int32, np.int64, np.float32, np.float64))
_LEFT_AFTER_EVICTION = 0.75
_VALUES = 2 * len(set(RANGES.values()))  # the column of the table that counts values

_new: Any = RecordedTensor.__new__


def keys_of(columns: Sequence[Sequence[Any]]) -> list[Any]:
    """What examples are known by: numbers and strings by value, all else by identity."""
    keys = [[(x.__class__, repr(x)) if x.__class__ in _BY_VALUE else id(x) for x in column] for column in columns]
    return keys[0] if len(keys) == 1 else list(zip(*keys, strict=True))


@dataclass(eq=False, slots=True)
class Context:
    """Recordings that were made in the same surroundings: key of the example → row of the store.

    leaves: weak references to what counts by identity; where one of them is gone, the recordings are of no use
    """

    surroundings: Any
    leaves: tuple[Callable[[], Any], ...]
    rows: dict[Any, int] = field(default_factory=dict)

    def lives(self) -> bool:
        """Whether the surroundings can come again."""
        return all(leaf() is not None for leaf in self.leaves)


@dataclass(slots=True)
class Kept:
    """What is kept of an example beside its ranges of the columns.

    needs: numbers of its signatures, and of the values it reads that belong to the recording, in order of appearance
    """

    context: Context
    key: Any
    example: Any
    needs: Needs
    payloads: tuple[tuple[int, Array], ...]
    template: Template
    n_bytes: int


class Store:
    """The recordings that one thread keeps."""

    def __init__(self) -> None:
        self.surroundings = Surroundings()
        self.contexts: dict[Any, Context] = {}
        self.common = Common()
        self.needs: dict[Needs, Needs] = {}
        self.tick = 0
        self.clear()

    def clear(self) -> None:
        """Begin with empty columns."""
        self.columns = {name: Column(dtype) for name, dtype in COLUMNS.items()}
        self.table, self.used = Column(np.int64, _VALUES + 1), Column(np.int64)
        self.kept: list[Kept] = []
        self.kept_bytes = 0

    @property
    def n_bytes(self) -> int:
        """Of all that is kept."""
        return self.kept_bytes + self.common.n_bytes

    def context(self, fn: Callable[..., Any]) -> Context:
        """The recordings that may be replayed for this function, as things are now."""
        surroundings, leaves = self.surroundings.of(fn)
        found = self.contexts.get(surroundings)
        if found is None or not found.lives():
            if not all(context.lives() for context in self.contexts.values()):
                with uninterrupted():
                    self._evict(LIMIT_BYTES)
            found = Context(surroundings, tuple(map(weakly, leaves)))  # it joins the others when something is kept
        return found

    def rows(self, context: Context, keys: Sequence[Any]) -> list[int | None]:
        """The recordings of examples in these surroundings; None where there is none, or none any more."""
        rows = [context.rows.get(key) for key in keys]
        needs = {id(k.needs): k.needs for k in (self.kept[row] for row in rows if row is not None)}
        if all(map(self.common.are_there, needs.values())):
            return rows
        for k, row in enumerate(rows):
            if row is not None and not self.common.are_there(self.kept[row].needs):
                rows[k] = None
                context.rows.pop(keys[k], None)
        return rows

    # Replaying.

    def replay(self, tape: Recording, rows: list[int], indices: Sequence[int], parent: int, call: int) -> list[Any]:
        """Put kept recordings into an open one, as examples `indices` of a map; their results."""
        self.tick += 1
        chosen = np.array(rows, np.int64)
        self.used.array[chosen] = self.tick
        kept = [self.kept[row] for row in rows]
        numbers = self.common.record(list({id(k.needs): k.needs for k in kept}.values()), tape)  # equal ones are one
        first = tape.count
        columns = [column.array for column in self.columns.values()]
        paths, place = (self.common.path_of, self.common.steps), (np.uint64(parent), call, np.array(indices, np.int64))
        stream, ints, floats, places, bases = replay(chosen, self.table.array, *columns, *paths, *place, first, numbers)
        at = (len(tape.stream), len(tape.ints), len(tape.floats))
        n_values = int(self.table.array[chosen, _VALUES].sum())
        block = Block(at, tape.n_nodes, first, n_values, stream, ints, floats, places, self.common.lines.things)
        payloads: list[tuple[int, Array]] = []
        tensors: list[RecordedTensor] = []
        results = []
        for k, base in zip(kept, bases.tolist(), strict=True):
            if k.payloads:
                payloads += [(base + value, array) for value, array in k.payloads]
            alone = k.template.alone
            if alone is not None:
                number, type = alone
                t: RecordedTensor = _new(RecordedTensor)
                t._tape = tape
                t._id = base + number
                t._type = type
                tensors.append(t)
                results.append(t)
            else:
                results.append(k.template.build(tape, base, numbers[1], tensors))
        if places.size or tensors:
            tape.put(block, payloads, tensors)
        for profile in profiles.get():
            profile.replayed += len(rows)
        return results

    # Keeping.

    def keep(
        self,
        tape: Recording,
        context: Context,
        marks: list[Mark],
        examples: Sequence[Any],
        results: Sequence[Any],
        paths: dict[int, Path],
    ) -> None:
        """Keep what the marked examples recorded, or compare it with what is kept of them already.

        `paths` leads from the stream of an example to the streams of maps inside it. Raises `RecordingError` where
        something cannot be replayed, and where what is kept differs.
        """
        new = Encoded(self.common, tape, marks, results, paths)
        unknown: dict[Any, int] = {}
        with uninterrupted():
            for r, m in enumerate(marks):
                row = context.rows.get(m.key)
                if row is not None:
                    self._compare(row, new, r)
                else:
                    unknown.setdefault(m.key, r)
            if unknown:
                self._add(context, new, list(unknown.values()), examples)
            if self.n_bytes > LIMIT_BYTES:
                self._evict(int(LIMIT_BYTES * _LEFT_AFTER_EVICTION))

    def _add(self, context: Context, new: Encoded, which: list[int], examples: Sequence[Any]) -> None:
        self.contexts[context.surroundings] = context
        parts = {name: [new.part(r, name) for r in which] for name in self.columns}
        n_bytes = self._append(new.n_values[which], np.full(len(which), self.tick), parts)
        for row, (r, size) in enumerate(zip(which, n_bytes.tolist(), strict=True), len(self.kept)):
            m, payloads = new.marks[r], new.payloads[r]
            needs = new.needs(r)
            size += sum(array.nbytes for _, array in payloads)
            size += sum(x.nbytes for x in examples[m.index] if isinstance(x, np.ndarray))
            needs = self.needs.setdefault(needs, needs)
            self.kept.append(Kept(context, m.key, examples[m.index], needs, payloads, new.templates[r], size))
            self.kept_bytes += size
            context.rows[m.key] = row

    def _append(self, n_values: Array, used: Array, parts: dict[str, list[Array]]) -> Array:
        """Write recordings into the columns, and their ranges and numbers of values into the table; their bytes."""
        rows = np.zeros((len(n_values), _VALUES + 1), np.int64)
        rows[:, _VALUES] = n_values
        n_bytes = np.full(len(n_values), _ROW_BYTES)
        for name, column in self.columns.items():
            start = column.extend(np.concatenate([column.array[:0], *parts[name]]))
            lengths = np.array([len(part) for part in parts[name]], np.int64)
            n_bytes += lengths * column.array.itemsize
            k = 2 * RANGES[name]
            rows[:, k + 1] = start + np.cumsum(lengths)
            rows[:, k] = rows[:, k + 1] - lengths
        self.table.size = self.used.size = len(self.kept)  # also where memory ran out the last time
        self.table.extend(rows)
        self.used.extend(used)
        return n_bytes

    def _compare(self, row: int, new: Encoded, r: int) -> None:
        kept, parts = self.kept[row], {name: new.part(r, name) for name in self.columns}
        old = {name: self._range(row, name) for name in self.columns}
        what = ""
        if not np.array_equal(old["kind"], parts["kind"]) or not self._same_code(old, parts):
            what = "other ops, or ops on other values"
        elif any(old[name].tobytes() != parts[name].tobytes() for name in ("ints", "keys", "key_path")):
            what = "other integers"
        elif old["floats"].tobytes() != parts["floats"].tobytes():
            what = "other numbers"
        elif [i for i, _ in kept.payloads] != [i for i, _ in new.payloads[r]] or not all(
            same_array(a, b) for (_, a), (_, b) in zip(kept.payloads, new.payloads[r], strict=True)
        ):
            what = "other arrays"
        elif not kept.template.same(new.templates[r]):
            what = "another result"
        if what:
            repair = "call ab.forget() after changing an example, or what the function reads beside it"
            raise new.error(r, f"that is reused is out of date: recorded again it holds {what}", repair)

    def _same_code(self, old: dict[str, Array], parts: dict[str, Array]) -> bool:
        """Whether two codes of the same kinds are equal; signatures that were made twice compare by content."""
        at = np.flatnonzero(old["code"] != parts["code"])
        if (old["kind"][at] != SIGNATURE).any():
            return False
        pairs = {(int(a), int(b)) for a, b in zip(old["code"][at], parts["code"][at], strict=True)}
        both = ((self.common.signature(a), self.common.signature(b)) for a, b in pairs)
        return all(x is not None and y is not None and x.key() == y.key() for x, y in both)

    def _range(self, row: int, name: str) -> Array:
        first, last = self.table.array[row, 2 * RANGES[name] : 2 * RANGES[name] + 2]
        return self.columns[name].array[first:last]

    def _evict(self, limit: int) -> None:
        """Drop what is of no use, and the least recently used until the rest fits; close the gaps."""
        order = np.argsort(-self.used.array[: len(self.kept)], kind="stable").tolist()
        alive = {id(context) for context in self.contexts.values() if context.lives()}
        total, stay = 0, []
        for row in order:
            kept = self.kept[row]
            if id(kept.context) in alive and self.common.are_there(kept.needs):
                total += kept.n_bytes
                if total > limit:
                    break
                stay.append(row)
        stay.sort()
        old, n_values, used = self.kept, self.table.array[stay, _VALUES], self.used.array[stay]
        parts = {name: [self._range(row, name) for row in stay] for name in self.columns}
        for context in self.contexts.values():
            context.rows.clear()
        self.clear()
        self._append(n_values, used, parts)
        for row, before in enumerate(stay):
            kept = old[before]
            self.kept.append(kept)
            kept.context.rows[kept.key] = row
            self.kept_bytes += kept.n_bytes
        self.contexts = {key: context for key, context in self.contexts.items() if context.rows}
        self.needs = {kept.needs: kept.needs for kept in self.kept}
        self.common.keep_only(list(self.needs))


_local = threading.local()


def own_store() -> Store:
    """The recordings that this thread keeps."""
    if not hasattr(_local, "store"):
        forget()
    store: Store = _local.store
    return store


def forget() -> None:
    """Drop all recordings that `ab.map(..., reuse=True)` keeps in this thread, and their examples.

    >>> _ = ab.map(lambda x: ab.tensor(x) * 2, [1.0, 2.0], reuse=True)
    >>> ab.forget()
    """
    _local.store = Store()
