"""Recycled tensors: those that are unreferenced when a recording ends serve the next one.

A recording has the tensor of value k, with its number, at place k of a list, and tensors for values to come; making
them would take longer than recording. Its thread keeps what a recording leaves. A tensor that is referenced
elsewhere, also weakly, stays with its recording.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable
from types import CodeType
from typing import TYPE_CHECKING, Any

from ..base.cpython import referenced
from ..base.types import Type
from .choice import compiled
from .tensor import RecordedTensor

AHEAD = 16
"""Most results of a node that finds its tensors without asking for each."""

GUARDED = -1 << 60
"""The room of a recording while an asyncio task is inside of `no_grad`: every op asks whether its task runs."""

SPARE = 1 << 16
"""Most tensors that a thread recycles."""


class _Spare(threading.local):
    tensors: list[RecordedTensor] | None = None


spare = _Spare()


class _TensorList:
    """The growing lists of a recording, and the tensors of its values.

    stream, places, beyond, codes, ints, floats, linked: see `Recording`
    count: how many values there are
    tensors: that of value k at place k, and more
    room: a node whose first value is not beyond this has tensors
    solid: from here on places may be empty, and there is nothing to use again; None: there are no such places
    replayed: tensors of values that were replayed
    """

    __slots__ = (
        "beyond", "cache", "codes", "count", "floats", "imports", "ints", "is_aside", "linked", "mode", "numbered",
        "places", "replayed", "room", "serial", "solid", "stream", "tensors", "user_code",
    )  # fmt: skip

    def __init__(self) -> None:
        self.count: int = 0
        left, spare.tensors = spare.tensors, None
        self.tensors: list[RecordedTensor] = left or []
        self.room = len(self.tensors) - AHEAD
        self.solid: int | None = None
        self.replayed: list[RecordedTensor] = []
        self.numbered: dict[int, RecordedTensor] = {}  # those by number, once they were asked for
        self.stream: Any = []
        self.places: Any = []
        self.beyond: Any = []
        self.ints: Any = []
        self.floats: Any = []
        self.linked: Any = []
        self.imports: dict[tuple[int, int], int] = {}
        self.user_code: CodeType | None = None

    def tensor(self, id: int) -> RecordedTensor:
        """The tensor of a value; of those that were replayed only results have one."""
        t: RecordedTensor | None = self.tensors[id]
        if t is None and len(self.numbered) != len(self.replayed):
            self.numbered = {t._id: t for t in self.replayed}
        return self.numbered[id] if t is None else t

    def type_of(self, id: int) -> Type:
        """Its type."""
        return self.tensor(id)._type

    def adopt(self, tensors: list[RecordedTensor]) -> None:
        """Take tensors of replayed values, which were made elsewhere."""
        self.replayed += tensors

    def has_room(self, id: int) -> bool:
        """Whether there are tensors for value `id` and those after it."""
        return id <= len(self.tensors) - AHEAD

    def unguard(self) -> None:
        """Ops need no longer ask whether their task runs."""
        self.room = len(self.tensors) - AHEAD

    def drop(self) -> None:
        """Let go of what has become arrays."""
        self.tensors, self.replayed, self.stream, self.ints, self.floats, self.beyond = [], [], [], [], [], []
        self.numbered = {}

    def drop_places(self) -> None:
        """Let go of what leads from a value to its line."""
        self.places, self.beyond = [], []

    def lengthen(self, id: int) -> None:
        """Make tensors for value `id` and those after it."""
        first = len(self.tensors)
        n_more = id - first + 2 * AHEAD + (min(first, 4096) if self.solid is None else 0)
        more = list(map(RecordedTensor.__new__, itertools.repeat(RecordedTensor, n_more)))
        for k, t in enumerate(more, first):
            t._id = k
        self.tensors += more
        self._set_room()

    def skip_to(self, id: int) -> None:
        """Leave places empty: the values before this one were replayed."""
        n = len(self.tensors)
        if n < id:
            self.solid = n if self.solid is None else self.solid
            self.tensors += [None] * (id - n)  # type: ignore[list-item]
            self._set_room()

    def _set_room(self) -> None:
        if self.room != GUARDED:
            self.room = len(self.tensors) - AHEAD

    def live_tensors(self) -> list[RecordedTensor]:
        """The tensors of this recording's values."""
        made = [t for t in itertools.islice(self.tensors, self.count) if getattr(t, "_tape", None) is self]
        return made + self.replayed

    def held_tensors(self, first: int = 0) -> tuple[list[RecordedTensor], list[int]]:
        """The tensors that are referenced elsewhere, of values from one on and replayed ones; also which cannot be
        again."""
        held, watched = referenced(self.tensors, RecordedTensor, first, self.count)
        found, kept = [self.tensors[k] for k in held.tolist()], [*held.tolist(), *watched.tolist()]
        if self.replayed:
            held, _ = referenced(self.replayed, RecordedTensor, 0, len(self.replayed))
            found += [self.replayed[k] for k in held.tolist()]
        return found, kept

    def leave_tensors(self, kept: Iterable[int]) -> None:
        """Leave the tensors to the next recording, except some."""
        left, self.tensors = self.tensors, []
        del left[SPARE if self.solid is None else min(self.solid, SPARE) :]
        for k in kept:
            if k < len(left):
                left[k] = t = RecordedTensor.__new__(RecordedTensor)
                t._id = k
        for t in itertools.islice(left, self.count):
            t._tape = None  # type: ignore[assignment]
        if spare.tensors is None or len(spare.tensors) < len(left):
            spare.tensors = left


if TYPE_CHECKING or compiled is None:
    TensorList = _TensorList
else:
    TensorList = compiled.Lists
