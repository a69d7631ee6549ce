"""The structures that flow from recording to execution, as flat integer arrays.

    Tape ──schedule──> Schedule ──place──> Plan ──execute──> values

Each prints itself in a few lines; nothing in them is a Python object per node.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..base.errors import CompilerBug
from ..base.types import Type

Ints = np.ndarray[Any, np.dtype[np.int32]]

KERNEL, CONCAT_ROWS, TAKE_ROWS, PAYLOAD = 0, 1, 2, 3
"""Kinds of signature: a kernel launch; a view that joins rows of a list of values; a view of some rows of one value
(int data: start, step, count; after a step of 0 the number of each row follows); a host input (no operands)."""

ONE, LIST, EACH = 0, 1, 2
"""Kinds of operand slot: one value; a list of values; one value whose rows are the elements of a list."""

FIXED, AS_SLOT, PER_ELEMENT, FROM_DATA, OF_LIST = 0, 1, 2, 3, 4
"""How many rows a result has: `rows`; as many as the value in slot `ref`; `rows` for each element of the LIST or EACH
slot `ref`; the third int datum (TAKE_ROWS); the product of those of the first two int data whose bits are set in `ref`,
as many as list `ref` of a node of pairs has elements."""


@dataclass(slots=True, frozen=True)
class Slot:
    """One operand: ONE value, a LIST of values, or EACH row of one value. `type` is that of the value, or element."""

    kind: int
    type: Type
    list: int = 0

    @property
    def pool(self) -> tuple[int, np.dtype[Any]]:
        """Width and dtype of the rows read."""
        return self.type.width, self.type.dtype


@dataclass(slots=True, frozen=True)
class Result:
    """One result: width and dtype of its rows, and how many there are."""

    width: int
    dtype: np.dtype[Any]
    rule: int = FIXED
    ref: int = 0
    rows: int = 1


_SHOWN = 12
_KIND_NAMES = ("kernel", "concat", "rows", "payload")
_DOTS = "..."


def bounds(lengths: Iterable[Any]) -> Ints:
    """The start of each of some consecutive runs, and the end of the last."""
    return np.concatenate([np.zeros(1, np.int32), np.cumsum(np.fromiter(lengths, np.int32), dtype=np.int32)])


def ragged(lists: Sequence[Sequence[int]]) -> tuple[Ints, Ints]:
    """Lists as their bounds, and their elements concatenated."""
    return bounds(map(len, lists)), np.array([x for one in lists for x in one], np.int32)


def _some(things: list[str], shown: int = 6) -> str:
    return " ".join(things if len(things) <= shown else [*things[: shown - 1], _DOTS])


@dataclass(slots=True)
class SignatureTable:
    """What the array stages need to know of the S signatures of one tape."""

    kind: Ints  # [S] KERNEL, CONCAT_ROWS, TAKE_ROWS or PAYLOAD
    slot_of: Ints  # [S + 1] first slot of each signature
    slot_kind: Ints  # [slots] ONE, LIST or EACH
    slot_rows: Ints  # [slots] rows of one element of a LIST slot; 1 for EACH; 0 for ONE (rows as the value has)
    result_of: Ints  # [S + 1] first result of each signature
    result_pool: Ints  # [results] pool of the result
    result_rule: Ints  # [results] FIXED, AS_SLOT, PER_ELEMENT, FROM_DATA or OF_LIST
    result_ref: Ints  # [results] slot within the signature, or list, that the rule names
    result_rows: Ints  # [results] the rule's factor
    n_ints: Ints  # [S] int data of a node; of TAKE_ROWS without the numbers of rows
    n_floats: Ints  # [S] float data of a node
    frozen: Ints  # [S] 1 where results are constants (no_grad, integer work): they carry no gradient
    trainable: Ints  # [S] 1 where a shared operand wants a gradient


def row_numbers(ints: Any) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Numbers of the rows that a TAKE_ROWS node with these int data takes."""
    start, step, count = (int(datum) for datum in ints[:3])
    return start + step * np.arange(count) if step else np.array(ints[3 : 3 + count], np.int64)


@dataclass(slots=True)
class Tape:
    """n recorded nodes. Values are numbered in the order of recording; a node's results are consecutive."""

    signatures: SignatureTable
    sig: Ints  # [n]
    slot_of: Ints  # [n + 1] first slot of each node
    arg_of: Ints  # [slots + 1] first argument of each slot
    args: Ints  # [arguments] value numbers, all smaller than the node's own results
    value_of: Ints  # [n + 1] first value of each node; value_of[n] is the number of values V
    int_of: Ints  # [n + 1] first int datum of each node
    float_of: Ints  # [n + 1]
    ints: np.ndarray[Any, np.dtype[np.int64]]
    floats: np.ndarray[Any, np.dtype[np.float64]]
    roots: Ints  # values that must be computed
    pools: list[tuple[int, np.dtype[Any]]]  # width and dtype of each

    def node_of(self, values: Any) -> Any:
        """The nodes that values are results of: of one value or of several."""
        return np.searchsorted(self.value_of, values, side="right") - 1

    def with_data(self, ints: np.ndarray[Any, Any], floats: np.ndarray[Any, Any]) -> Tape:
        """The same nodes with other data."""
        return Tape(
            self.signatures, self.sig, self.slot_of, self.arg_of, self.args, self.value_of, self.int_of, self.float_of,
            ints, floats, self.roots, self.pools,
        )  # fmt: skip

    def __str__(self) -> str:
        """The first nodes: what they read ([v1 v2] is a list, v3[:] the rows of a value one by one) and make."""
        n, s = len(self.sig), self.signatures
        pools = ", ".join(f"{width} × {np.dtype(dtype).name}" for width, dtype in self.pools)
        lines = [
            f"Tape: {n} nodes of {len(s.kind)} signatures, {self.value_of[-1]} values, {len(self.roots)} roots; "
            f"pools: {pools}",
            "    node  signature    reads                         makes",
        ]
        for i in range(min(n, _SHOWN)):
            reads = []
            for slot, kind in zip(
                range(self.slot_of[i], self.slot_of[i + 1]),
                s.slot_kind[s.slot_of[self.sig[i]] : s.slot_of[self.sig[i] + 1]],
                strict=False,
            ):
                values = [f"v{value}" for value in self.args[self.arg_of[slot] : self.arg_of[slot + 1]]]
                reads.append({ONE: "{}", LIST: "[{}]", EACH: "{}[:]"}[int(kind)].format(_some(values)))
            makes = [f"v{value}" for value in range(self.value_of[i], self.value_of[i + 1])]
            signature = f"{self.sig[i]} {_KIND_NAMES[s.kind[self.sig[i]]]}"
            lines.append(f"  {i:6}  {signature:11}  {_some(reads) or 'nothing':28}  {_some(makes)}")
        return "\n".join(lines + [f"  {_DOTS}"] * (n > _SHOWN))

    def check(self) -> None:
        """Raise CompilerBug unless the arrays fit together and every node reads only what stands before it."""
        n, s = len(self.sig), self.signatures

        def hold(true: bool | np.bool_, what: str) -> None:
            if not true:
                raise CompilerBug(f"record: {what}\n{self}")

        def covers(bounds: Ints, parts: int, whole: int, what: str) -> None:
            right = len(bounds) == parts + 1 and bounds[0] == 0 and bounds[-1] == whole and (np.diff(bounds) >= 0).all()
            hold(right, f"the bounds of {what} are wrong")

        n_sigs, n_slots, n_values = len(s.kind), len(self.arg_of) - 1, int(self.value_of[-1])
        covers(s.slot_of, n_sigs, len(s.slot_kind), "the slots of signatures")
        covers(s.result_of, n_sigs, len(s.result_pool), "the results of signatures")
        covers(self.slot_of, n, n_slots, "slots")
        covers(self.arg_of, n_slots, len(self.args), "arguments")
        covers(self.value_of, n, n_values, "values")
        covers(self.int_of, n, len(self.ints), "int data")
        covers(self.float_of, n, len(self.floats), "float data")
        hold(((self.sig >= 0) & (self.sig < n_sigs)).all(), "a node has no signature")
        listed = np.flatnonzero(s.kind[self.sig] == TAKE_ROWS)
        listed = listed[self.ints[self.int_of[listed] + 1] == 0]
        n_ints = s.n_ints[self.sig]
        n_ints[listed] += self.ints[self.int_of[listed] + 2]
        for bounds, expected, what in (
            (self.slot_of, np.diff(s.slot_of)[self.sig], "slots"),
            (self.value_of, np.diff(s.result_of)[self.sig], "results"),
            (self.int_of, n_ints, "int data"),
            (self.float_of, s.n_floats[self.sig], "float data"),
        ):
            wrong = np.flatnonzero(np.diff(bounds) != expected)
            hold(wrong.size == 0, f"node {wrong[:1]} has not the {what} of its signature")
        first_value = np.repeat(self.value_of[:-1], np.diff(self.arg_of[self.slot_of]))
        hold(((self.args >= 0) & (self.args < first_value)).all(), "a node reads what stands behind it")
        hold(((self.roots >= 0) & (self.roots < n_values)).all(), "a root is no value")
        hold(((s.result_pool >= 0) & (s.result_pool < len(self.pools))).all(), "a result has no pool")
        slot_kind = np.repeat(self.sig, np.diff(self.slot_of))
        slot_kind = s.slot_kind[
            s.slot_of[slot_kind] + np.arange(n_slots) - np.repeat(self.slot_of[:-1], np.diff(self.slot_of))
        ]
        hold((np.diff(self.arg_of)[slot_kind != LIST] == 1).all(), "a slot that is no list has not one argument")
        for view, kind, n_data in ((CONCAT_ROWS, LIST, 0), (TAKE_ROWS, ONE, 3)):
            for signature in np.flatnonzero(s.kind == view):
                slots = s.slot_kind[s.slot_of[signature] : s.slot_of[signature + 1]].tolist()
                hold(slots == [kind] and s.n_ints[signature] == n_data, f"signature {signature} is no view")


@dataclass(slots=True)
class Schedule:
    """Launches in order: nodes of one signature that do not depend on each other. Views and payloads do not launch."""

    live: Ints  # [n] 1 for nodes that some root needs
    nodes: Ints  # launched nodes, launch by launch, in tape order inside a launch
    launch_of: Ints  # [L + 1] first position in `nodes` of each launch
    launch_sig: Ints  # [L]
    depth: Ints  # [n] length of the longest path of launches that ends in the node (views count nothing)
    by: str = "frontier"  # what chose the order
    is_settled: bool = True  # whether the same tape would be ordered alike again

    def __str__(self) -> str:
        n_launches = len(self.launch_sig)
        lines = [
            f"Schedule: {n_launches} launches of {len(self.nodes)} nodes; "
            f"{int(self.live.sum())} of {len(self.live)} nodes are live",
            "  launch  signature  nodes",
        ]
        for l in range(min(n_launches, _SHOWN)):
            nodes = self.nodes[self.launch_of[l] : self.launch_of[l + 1]].tolist()
            lines.append(f"  {l:6}  {self.launch_sig[l]:9}  {len(nodes):5}: {_some([str(i) for i in nodes], 8)}")
        return "\n".join(lines + [f"  {_DOTS}"] * (n_launches > _SHOWN))


@dataclass(slots=True)
class Plan:
    """Where every value is stored and what every launch reads and writes.

    A value is `count` rows of its pool: from `start` on, or, where start is negative, those listed in
    `scattered[-start - 2:][:count]`; -1 is a value that does not exist.
    """

    start: Ints  # [V]
    count: Ints  # [V]
    scattered: Ints
    pool_rows: Ints  # [P] rows that each pool needs
    peak_bytes: int  # bytes of all pools
    access_of: Ints  # [L + 1] first access of each launch: one access per slot of its signature
    rows_of: Ints  # [accesses + 1] first entry in `rows` of each access
    rows: Ints  # row numbers read, node by node, element by element
    block: Ints  # [accesses] first row where the rows read are consecutive and ascending, else -1
    offsets_of: Ints  # [accesses] first entry in `offsets` of a LIST or EACH access, else -1
    offsets: Ints  # for each such access (nodes of the launch + 1) element counts, cumulative from 0
    write_of: Ints  # [L + 1] first write of each launch: one per result
    write_start: Ints  # [writes] first row written in the result's pool
    write_rows: Ints  # [writes] number of rows written
    ints: np.ndarray[Any, np.dtype[np.int64]]  # int data, launch by launch, column by column, node by node
    floats: np.ndarray[Any, np.dtype[np.float64]]
    int_of: Ints  # [L + 1] first entry of each launch in `ints`
    float_of: Ints  # [L + 1]

    def __str__(self) -> str:
        """The first launches: `3 @ 7` is three rows from row 7 on, `3: 4 9 2` three scattered rows.

        A faulty plan prints too: that is what a failed check shows.
        """
        n_launches = len(self.access_of) - 1
        lines = [
            f"Plan: {n_launches} launches, {int((self.start != -1).sum())} values; "
            f"rows of the pools: {_some([str(rows) for rows in self.pool_rows])}; {self.peak_bytes:,} bytes",
            "  launch  reads                             writes",
        ]
        for l in range(min(n_launches, _SHOWN)):
            reads = []
            for access in range(self.access_of[l], min(self.access_of[l + 1], len(self.block))):
                rows = [str(row) for row in self.rows[self.rows_of[access] : self.rows_of[access + 1]]]
                block = self.block[access]
                reads.append(f"{len(rows)} @ {block}" if block >= 0 else f"{len(rows)}: {_some(rows)}")
            writes = [
                f"{self.write_rows[w]} @ {self.write_start[w]}"
                for w in range(self.write_of[l], min(self.write_of[l + 1], len(self.write_start)))
            ]
            lines.append(f"  {l:6}  {', '.join(reads) or 'nothing':32}  {', '.join(writes)}")
        return "\n".join(lines + [f"  {_DOTS}"] * (n_launches > _SHOWN))


@dataclass(slots=True)
class Expansion:
    """A tape to schedule and its relation to the recorded one.

    tape: what is scheduled
    number: [values recorded] the value of `tape` that a recorded value is, -1: it is none; None: the same number
    origin: [nodes] the recorded node that a node is a part of, or the first of those joined; None: the same number
    """

    tape: Tape
    number: Ints | None = None
    origin: Ints | None = None

    def value(self, recorded: int) -> int:
        """The number in `tape` of a recorded value."""
        if self.number is None:
            return recorded
        number = int(self.number[recorded])
        if number < 0:
            raise CompilerBug(f"expand: value {recorded} stays inside a node, and is asked for\n{self.tape}")
        return number

    def values(self, recorded: Ints) -> Ints:
        """The numbers in `tape` of recorded values, none of which stays inside a node."""
        if self.number is None:
            return recorded
        numbers = self.number[recorded]
        if (numbers < 0).any():
            raise CompilerBug(f"expand: values among {recorded} stay inside a node, and are asked for\n{self.tape}")
        return numbers

    def node(self, node: int) -> int:
        """The recorded node of a node of `tape`."""
        return node if self.origin is None else int(self.origin[node])

    def then(self, second: Expansion) -> Expansion:
        """This expansion and one of its tape, as one."""
        if second.number is None or second.origin is None:
            return self
        if self.number is None or self.origin is None:
            return second
        number = np.where(self.number >= 0, second.number[self.number], -1).astype(np.int32)
        return Expansion(second.tape, number, self.origin[second.origin])


@dataclass(frozen=True, slots=True)
class Part:
    """One of the nodes that a recorded node becomes.

    sig: its signature in the new table
    slots: for each slot the recorded slot that it reads, or -1 - r for result r of the parts before, counted together
    results: for each result the recorded result that it is, or -1
    ints, floats: columns of the recorded data that it reads
    """

    sig: int
    slots: tuple[int, ...]
    results: tuple[int, ...]
    ints: tuple[int, ...] = ()
    floats: tuple[int, ...] = ()
