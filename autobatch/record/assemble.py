"""The lists of a recording become the integer arrays of `schedule.structures.Tape`, in one compiled loop.

The stream holds, node by node, the signature's number, then for each slot one value number, or for a list its length
and that many value numbers. Cost: some ns a node.
"""

from __future__ import annotations

import dataclasses
import itertools
import weakref
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..base.cpython import as_int32
from ..base.jit import njit
from ..base.types import Array
from ..schedule.structures import EACH, LIST, TAKE_ROWS, SignatureTable, Tape
from .signature import Signature

if TYPE_CHECKING:
    from .tape import Recording


def assemble(recording: Recording, roots: Sequence[int]) -> Tape:
    """The integer arrays of what was recorded."""
    pools: dict[tuple[int, Any], int] = {}
    table = signature_table(recording.signatures, pools)
    return parsed(recording, listed(recording, "stream", np.int32), table, pools, roots)


def parsed(
    recording: Recording, stream: Array, table: SignatureTable, pools: Iterable[tuple[int, Any]], roots: Sequence[int]
) -> Tape:
    """The arrays of a recording whose stream and signatures are arrays already."""
    ints, floats = listed(recording, "ints", np.int64), listed(recording, "floats", np.float64)
    nodes = nodes_of(stream, ints, table, recording.n_nodes)
    return Tape(table, *nodes, ints, floats, np.array(roots, np.int32), list(pools))


def nodes_of(
    stream: Array, ints: Array, table: SignatureTable, n_nodes: int
) -> tuple[Array, Array, Array, Array, Array, Array, Array]:
    """Of each node in a stream: signature, slots, their arguments, values and data, as `Tape` has them."""
    n_results = np.diff(table.result_of).astype(np.int32)
    # Made by NumPy, which asks for large pages where arrays are large.
    sig, args, arg_of = (np.empty(n, np.int32) for n in (n_nodes, stream.size, stream.size + 1))
    slot_of, value_of, int_of, float_of = (np.empty(n_nodes + 1, np.int32) for _ in range(4))
    n_slots, n_args = _parse(
        stream, ints, table.kind, table.slot_of, table.slot_kind, n_results, table.n_ints, table.n_floats,
        sig, slot_of, arg_of, args, value_of, int_of, float_of,
    )  # fmt: skip
    return sig, slot_of, arg_of[: n_slots + 1], args[:n_args], value_of, int_of, float_of


def listed(recording: Recording, name: str, dtype: Any) -> Array:
    """One of the lists as an array, with what blocks put into it."""
    entries = getattr(recording, name)
    own = as_int32(entries) if name == "stream" and isinstance(entries, list) else np.array(entries, dtype)
    if not recording.blocks:
        return own
    parts: list[Array] = []
    done = 0
    k = ("stream", "ints", "floats").index(name)
    for block in recording.blocks:
        parts += [own[done : block.at[k]], getattr(block, name)]
        done = block.at[k]
    return np.concatenate([*parts, own[done:]])


def n_listed(kind: int, ints: Any, at: int) -> int:
    """How many numbers of rows follow the int data, from `at` on, of a node of a signature of this kind."""
    return ints[at + 2] if kind == TAKE_ROWS and ints[at + 1] == 0 else 0


n_listed_compiled = njit(n_listed)


@njit(early="int32:1 int64:1 13xint32:1")
def _parse(  # type: ignore[no-untyped-def]
    stream, int_data, kind, slot_of, slot_kind, n_results, n_ints, n_floats, sig, node_slot, arg_of, args, value_of,
    int_of, float_of,
):  # fmt: skip
    """Fill in what `nodes_of` gives; how many slots and arguments there are."""
    n_nodes = sig.size
    at = slots = n_args = values = floats = 0
    ints = np.int64(0)  # of a plain 0 Numba would compile `n_listed` once more
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
        ints += n_ints[s] + n_listed_compiled(kind[s], int_data, ints)
        floats += n_floats[s]
    node_slot[n_nodes] = slots
    arg_of[slots] = n_args
    value_of[n_nodes] = values
    int_of[n_nodes] = ints
    float_of[n_nodes] = floats
    return slots, n_args


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


def with_signatures(tape: Tape, signatures: Sequence[Signature]) -> Tape:
    """A tape with a table of its signatures, followed by more."""
    pools = {pool: k for k, pool in enumerate(tape.pools)}
    table = signature_table(signatures, pools)
    return dataclasses.replace(tape, signatures=table, pools=list(pools))


_tables: dict[Any, tuple[list[weakref.ref[Signature]], SignatureTable, list[tuple[int, Any]]]] = {}
"""By identity of the signatures and the pools before: whether the signatures are alive, the table, the pools after."""

TABLES = 256
"""Most tables that are cached."""


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
