"""What stored recordings share, by number: signatures, values that belong to the recording, lines and paths."""

from __future__ import annotations

import weakref
from collections.abc import MutableMapping
from types import CodeType
from typing import Any

import numpy as np

from ..base.types import Array
from ..record.expressions import Tied
from ..record.links import import_array, shared_row
from ..record.signature import Signature
from ..record.tape import Recording

Path = tuple[tuple[int, int], ...]
"""The (map call, index) pairs that lead from the stream of an example to that of a map inside it."""

Needs = tuple[tuple[int, ...], tuple[int, ...]]
"""Numbers of signatures, and of values that belong to the recording."""


class _Numbered:
    """Objects by number; those that are no longer needed leave a gap."""

    def __init__(self, known: MutableMapping[Any, int] | None = None) -> None:
        self.things: list[Any] = []
        self.known: MutableMapping[Any, int] = {} if known is None else known

    def number(self, key: Any, what: Any) -> int:
        """The number of what is known by a key; `what` where it is new."""
        found = self.known.get(key)
        if found is None:
            self.things.append(what)
            found = self.known[key] = len(self.things) - 1
        return found

    def keep_only(self, needed: set[int]) -> None:
        """Drop all others."""
        self.things[:] = [x if k in needed else None for k, x in enumerate(self.things)]
        for key in [key for key, k in self.known.items() if k not in needed]:
            del self.known[key]


class Common:
    """The numbers of one store."""

    def __init__(self) -> None:
        self.signatures = _Numbered(weakref.WeakKeyDictionary())
        self.outside = _Numbered()
        self.lines = _Numbered()
        self.paths: dict[Path, int] = {}
        self.path_of: Array = np.zeros(1, np.int64)
        self.steps: Array = np.zeros((0, 2), np.int64)

    @property
    def n_bytes(self) -> int:
        """Of linked arrays."""
        return sum(what[2].nbytes for what in self.outside.things if what is not None and what[0] == "import")

    def number_of_signature(self, signature: Signature) -> int:
        """The number of a signature."""
        known = signature in self.signatures.known
        return self.signatures.number(signature, None if known else Tied(signature, signature.shared))

    def number_of_outside(self, what: Any) -> int:
        """The number of a value that belongs to the recording: a parameter as a row, or a linked array."""
        key = what[:2]
        if what[0] == "row":
            x, frozen = what[1]
            key = "row", id(x), frozen
            before = self.outside.known.get(key)
            if before is not None and self.outside.things[before][1][0]() is not x:
                del self.outside.known[key]
            what = ("row", (Tied(x, (x,)), frozen), what[2])
        return self.outside.number(key, what)

    def numbers_of_lines(self, places: list[tuple[CodeType | None, int]]) -> Array:
        """The numbers of users' lines, given as code object and instruction."""
        keys = [(id(code), instruction) for code, instruction in places]  # `lines` holds the code objects
        numbers = list(map(self.lines.known.get, keys))
        if None in numbers:
            numbers = list(map(self.lines.number, keys, places))
        return np.array(numbers, np.int32)

    def number_of_path(self, path: Path) -> int:
        """The number of a path."""
        found = self.paths.get(path)
        if found is None:
            paths = [*self.paths, path]
            self.steps = np.array([step for p in paths for step in p], np.int64).reshape(-1, 2)
            self.path_of = np.cumsum([0, *map(len, paths)])
            found = self.paths[path] = len(self.paths)  # last: Ctrl-C may come before
        return found

    def signature(self, number: int) -> Signature | None:
        """A signature, as long as the parameters live that it is about."""
        tied = self.signatures.things[number]
        return None if tied is None else tied()

    def are_there(self, needs: Needs) -> bool:
        """Whether the parameters live that a recording needs."""
        outside = [self.outside.things[o] for o in needs[1]]
        return all(self.signature(s) is not None for s in needs[0]) and all(
            what is not None and (what[0] == "import" or what[1][0]() is not None) for what in outside
        )

    def record(self, needs: list[Needs], tape: Recording) -> Array:
        """Put what recordings need into another one: [0, k] is the number of signature k there, [1, k] of value k."""
        numbers = np.zeros((2, max(len(self.signatures.things), len(self.outside.things))), np.int64)
        for s in {s: None for signatures, _ in needs for s in signatures}:
            signature = self.signature(s)
            assert signature is not None
            numbers[0, s] = tape.signature_number(signature)
        for o in {o: None for _, outside in needs for o in outside}:
            kind, what, *more = self.outside.things[o]
            if kind == "row":
                numbers[1, o] = shared_row(what[0](), tape, what[1], *more)._id
            else:
                array, layout = more
                numbers[1, o] = import_array(what, array, tape, layout=layout)
        return numbers

    def keep_only(self, needs: list[Needs]) -> None:
        """Drop what no recording needs; the numbers of the others stay."""
        self.signatures.keep_only({s for signatures, _ in needs for s in signatures})
        self.outside.keep_only({o for _, outside in needs for o in outside})
