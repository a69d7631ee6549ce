"""What examples recorded, taken from the lists of a recording and written relative to each example.

Input: an open recording, where each example begins and ends in it, and what the examples returned. Output: for each
its entries of the columns (`arrays.py`), its host inputs, the template of its result, and what it needs of the
recording. Raises `RecordingError` where that cannot be replayed. Cost: O(nodes), once for each example.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from ..base.errors import RecordingError, line_of, message, user_line
from ..base.types import Array
from ..record.assemble import signature_table
from ..record.links import linked_outside
from ..record.tape import Recording, interrupted, state
from ..record.tensor import RecordedTensor, iterate_tensors
from .arrays import OUTSIDE, SIGNATURE, encode
from .common import Common, Needs, Path
from .templates import Template, template_of


@dataclass(slots=True)
class Mark:
    """Where an example stands in the lists of a recording: their lengths before and after it."""

    index: int
    key: Any
    before: tuple[int, ...]
    after: tuple[int, ...]


def mark(tape: Recording) -> tuple[int, ...]:
    """Lengths of the lists of a recording: stream, ints, floats, values, nodes in lists, payloads.

    Raises `RecordingError` where the thread's recording is no longer this one, or was broken off.
    """
    if state.tape is not tape or tape.is_interrupted:
        raise interrupted()
    return (len(tape.stream), len(tape.ints), len(tape.floats), tape.count, len(tape.places), len(tape.payloads))


class Encoded:
    """What some examples recorded, relative to each; raises where that cannot be replayed."""

    def __init__(
        self, common: Common, tape: Recording, marks: list[Mark], results: Sequence[Any], paths: dict[int, Path]
    ) -> None:
        self.common, self.tape, self.marks = common, tape, marks
        low, high = marks[0].before, marks[-1].after
        self.ints = np.array(tape.ints[low[1] : high[1]], np.int64)
        self.floats = np.array(tape.floats[low[2] : high[2]], np.float64)
        self.outside = {**tape.outside, **linked_outside(tape)}
        outside = list(self.outside.items())
        local = np.full(tape.count, -1, np.int64)
        for k, (value, _) in enumerate(outside):
            local[value] = -2 - k
        ranges = [(m.before[0], m.after[0], m.before[3], m.before[4], m.before[1]) for m in marks]
        starts = np.array(ranges, np.int64) - np.array([low[0], low[0], 0, 0, low[1]])
        table = signature_table(tape.signatures, {})
        stream, n_results = np.array(tape.stream[low[0] : high[0]], np.int32), np.diff(table.result_of)
        draws = np.array([s.draws for s in tape.signatures], np.bool_)
        self.code, self.kind, nodes, self.keys, streams, ends, fault = encode(
            stream, self.ints, starts, table.kind, table.slot_of, table.slot_kind, n_results, table.n_ints, draws, local
        )
        if fault[0] >= 0:
            self._refuse(int(fault[0]), "it reads a value recorded outside of the example", int(fault[1]))
        self.ends = np.concatenate([np.zeros((1, 4), np.int64), ends])
        self.n_values = ends[:, 3]
        self.own_needs = self._rename(outside)
        self.places = common.numbers_of_lines(tape.listed_places(low[4], high[4]))[nodes - low[4]]
        self.key_path = np.array([common.number_of_path(paths[s]) for s in streams.tolist()], np.int32)
        for r, m in enumerate(marks):  # streams of draws are those of the place: what is kept has none
            self.ints[self._own(r, 2, self.keys) + (m.before[1] - low[1])] = 0
        self.payloads = [self._payloads(m, local) for m in marks]
        self.templates = [self._template(r, results[m.index], local) for r, m in enumerate(marks)]
        self._check_held(results)

    def _rename(self, outside: list[tuple[int, Any]]) -> list[Needs]:
        """Numbers of the tape's signatures and outside values → those of the store; what each example needs."""
        common, tape = self.common, self.tape
        signature = np.full(len(tape.signatures), -1, np.int64)
        value = np.full(len(outside), -1, np.int64)
        own: list[Needs] = []
        for r in range(len(self.marks)):
            code, kind = self._own(r, 0, self.code), self._own(r, 0, self.kind)
            used = dict.fromkeys(code[kind == SIGNATURE].tolist())
            read = dict.fromkeys(code[kind == OUTSIDE].tolist())
            for s in used:
                if signature[s] < 0:
                    signature[s] = common.number_of_signature(tape.signatures[s])
            for k in read:
                if outside[k][1][0] == "linked":
                    self._refuse(r, "it reads a value of an earlier recording, through which gradient flows")
                if value[k] < 0:
                    value[k] = common.number_of_outside(outside[k][1])
            own.append((tuple(signature[list(used)].tolist()), tuple(value[list(read)].tolist())))
        for kind_of, numbers in ((SIGNATURE, signature), (OUTSIDE, value)):
            at = self.kind == kind_of
            self.code[at] = numbers[self.code[at]]
        return own

    def _own(self, r: int, k: int, array: Array) -> Array:
        """An example's part of an array: k is 0 for entries of the stream, 1 for nodes, 2 for keys."""
        part: Array = array[self.ends[r, k] : self.ends[r + 1, k]]
        return part

    def part(self, r: int, name: str) -> Array:
        """An example's entries in a column."""
        low, m = self.marks[0].before, self.marks[r]
        if name == "ints":
            return self.ints[m.before[1] - low[1] : m.after[1] - low[1]]
        if name == "floats":
            return self.floats[m.before[2] - low[2] : m.after[2] - low[2]]
        return self._own(r, {"code": 0, "kind": 0, "places": 1, "keys": 2, "key_path": 2}[name], getattr(self, name))

    def needs(self, r: int) -> Needs:
        """Signatures of an example, and values that belong to the recording: what it reads, and what it returns."""
        signatures, outside = self.own_needs[r]
        returned = [number for is_outside, number, _ in self.templates[r].tensors if is_outside]
        return signatures, tuple(dict.fromkeys([*outside, *returned]))

    def error(self, r: int, what: str, repair: str, node: int | None = None) -> RecordingError:
        """An error about an example: at the line of its first node, or of another."""
        node = self.marks[r].before[4] if node is None else node  # counted in the lists of the recording
        where = line_of(*self.tape.listed_places(node, node + 1)[0]) if node < len(self.tape.places) else user_line()
        error = RecordingError(message(f"map: a recording {what}", where=where, repair=repair))
        error.add_note(f"in example {self.marks[r].index} of ab.map")
        return error

    def _payloads(self, m: Mark, local: Array) -> tuple[tuple[int, Array], ...]:
        own = self.tape.payloads[m.before[5] : m.after[5]]
        return tuple((int(local[value]), array) for value, array in own if local[value] >= 0)

    def _template(self, r: int, result: Any, local: Array) -> Template:
        m = self.marks[r]

        def number(t: RecordedTensor) -> tuple[bool, int]:
            at = int(local[t._id])
            if at >= 0 and m.before[3] <= t._id < m.after[3]:
                return False, at
            if at > -2:
                self._refuse(r, "it returns a value recorded outside of the example")
            what = self.outside[t._id]
            if what[0] == "linked":
                self._refuse(r, "it returns a value of an earlier recording, through which gradient flows")
            return True, self.common.number_of_outside(what)

        return template_of(result, self.tape, number)

    def _check_held(self, results: Sequence[Any]) -> None:
        """Refuse tensors that a function put elsewhere than into its result: a replay would not."""
        returned = {t._id for t in iterate_tensors(results) if t._tape is self.tape} | self.outside.keys()
        for last in (False, True):
            held = {t._id for t in self.tape.held_tensors(self.marks[0].before[3])[0]} - returned
            if not held:
                return
            if not last:
                gc.collect(0)  # what a function that calls itself by a closure left behind
        for r, m in enumerate(self.marks):
            if any(m.before[3] <= value < m.after[3] for value in held):
                self._refuse(r, "a tensor recorded in it is kept elsewhere than in its result")

    def _refuse(self, r: int, what: str, node: int | None = None) -> NoReturn:
        repair = (
            "compute what it reads inside the function, return nested lists, tuples and dicts of all that is wanted, "
            "or leave out reuse=True"
        )
        raise self.error(r, f"cannot be reused: {what}", repair, node)
