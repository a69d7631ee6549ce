"""Recordings of examples as flat arrays, relative to the example: written from a tape, and written to one, in loops.

A kept recording is a range of each of a few long columns. Its stream is that of the tape (`assemble`), where each entry
is of one of four kinds: a length as it is; a signature, as a number in the store's list; a value of the example,
counted from its first; a value of the recording that stands outside of the example, as a number in the store's list.
`encode` takes O(entries of the tape) once, `replay` a few ns an entry.

    stream of the tape     3 | 41 40 | 7 | 2 42 12
    code of the example    0 |  1  0 | 1 | 2  2  0
    kind                   signature, value, value, signature, length, value, outside
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..base.jit import njit
from ..ops.random import mix
from ..record.assemble import n_listed_compiled

LENGTH, SIGNATURE, VALUE, OUTSIDE = 0, 1, 2, 3
"""Kinds of entries."""

COLUMNS = {
    "code": np.int32, "kind": np.uint8, "ints": np.int64, "floats": np.float64, "places": np.int32, "keys": np.int64,
    "key_path": np.int32,
}  # fmt: skip
"""What a kept recording has a range of, in the order of `replay`'s arguments."""
RANGES = {"code": 0, "kind": 0, "ints": 1, "floats": 2, "places": 3, "keys": 4, "key_path": 4}
"""Which range of a row of the table: range k is its entries 2 k and 2 k + 1."""


class Column:
    """A long array that grows at its end, with elements of a shape."""

    __slots__ = ("array", "size")

    def __init__(self, dtype: Any, *shape: int) -> None:
        self.array: Any = np.empty((0, *shape), dtype)
        self.size = 0

    def extend(self, values: Any) -> int:
        """Append; returns where the values begin."""
        first = self.size
        needed = first + len(values)
        if needed > len(self.array):
            grown = np.empty((max(needed, len(self.array) * 3 // 2), *self.array.shape[1:]), self.array.dtype)
            grown[:first] = self.array[:first]
            self.array = grown
        self.array[first:needed] = values
        self.size = needed
        return first


@njit
def encode(stream, ints, starts, kind_of, slot_of, slot_kind, n_results, n_ints, draws, local):  # type: ignore[no-untyped-def]
    """Ranges of a tape's stream → code and kind of entries, kept nodes, keys of draws, and where each example's end.

    starts: int64[m, 5], of each example the range of the stream, first value, first node, first of the int data;
    local: int64[values], -1, or -2 - k for value k of those that stand outside of examples. Nodes that make those are
    left out: they read nothing. Last comes the fault: the example whose node reads a value of neither kind, and the
    node, or -1.
    """
    total = 0
    for r in range(starts.shape[0]):
        total += starts[r, 1] - starts[r, 0]
    code = np.empty(total, np.int32)
    kind = np.empty(total, np.uint8)
    nodes = np.empty(total, np.int64)
    key_at = np.empty(ints.size, np.int64)
    key_stream = np.empty(ints.size, np.int64)
    ends = np.empty((starts.shape[0], 4), np.int64)
    fault = np.full(2, -1, np.int64)
    w = 0
    n = 0
    k = 0
    for r in range(starts.shape[0]):
        at = starts[r, 0]
        first = starts[r, 2]
        value = first
        node = starts[r, 3]
        datum = starts[r, 4]
        own = 0
        while at < starts[r, 1]:
            s = stream[at]
            at += 1
            if n_results[s] > 0 and local[value] <= -2:
                value += n_results[s]
                node += 1
                continue
            code[w] = s
            kind[w] = SIGNATURE
            w += 1
            for slot in range(slot_of[s], slot_of[s + 1]):
                length = 1
                if slot_kind[slot] == 1:
                    length = stream[at]
                    at += 1
                    code[w] = length
                    kind[w] = LENGTH
                    w += 1
                for _ in range(length):
                    read = local[stream[at]]
                    if read <= -2:
                        code[w] = -2 - read
                        kind[w] = OUTSIDE
                    elif read >= 0 and stream[at] >= first:
                        code[w] = read
                        kind[w] = VALUE
                    elif fault[0] < 0:
                        fault[0] = r
                        fault[1] = node
                    at += 1
                    w += 1
            if draws[s]:
                key_at[k] = datum + n_ints[s] - 2 - starts[r, 4]
                key_stream[k] = ints[datum + n_ints[s] - 2]
                k += 1
            datum += n_ints[s] + n_listed_compiled(kind_of[s], ints, datum)
            for _ in range(n_results[s]):
                local[value] = own
                own += 1
                value += 1
            nodes[n] = node
            n += 1
            node += 1
        ends[r, 0] = w
        ends[r, 1] = n
        ends[r, 2] = k
        ends[r, 3] = own
    return code[:w], kind[:w], nodes[:n], key_at[:k], key_stream[:k], ends, fault


_mixed = njit(mix)


@njit
def _child(parent, call, index):  # type: ignore[no-untyped-def]
    """`random.map_stream` and `random.example_stream`."""
    key = _mixed(parent + (np.uint64(call) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15))
    return _mixed(key + (np.uint64(index) + np.uint64(1)) * np.uint64(0xD1B54A32D192ED03))


@njit
def replay(  # type: ignore[no-untyped-def]
    rows, table, code, kind, ints, floats, places, keys, key_path, path_of, paths, parent, call, indices, base, numbers
):
    """Kept recordings `rows`, one after the other from value `base` on: stream, ints, floats, places, first values.

    Row r of the table: ranges of the columns, then the number of values. keys: where in the example's ints the stream
    of a draw stands; key_path: which path leads to it from the example's stream; path p is the (call, index) pairs
    `paths[path_of[p]:path_of[p + 1]]`. numbers[0, k] is the tape's number of signature k, numbers[1, k] that of the
    outside value k. The example's own stream is that of example `indices[e]` of map `call` in stream `parent`.
    """
    sizes = np.zeros(4, np.int64)
    for row in rows:
        for c in range(4):
            sizes[c] += table[row, 2 * c + 1] - table[row, 2 * c]
    stream = np.empty(sizes[0], np.int32)
    own_ints = np.empty(sizes[1], np.int64)
    own_floats = np.empty(sizes[2], np.float64)
    own_places = np.empty(sizes[3], np.int32)
    bases = np.empty(rows.size, np.int64)
    w = 0
    i = 0
    f = 0
    n = 0
    for e in range(rows.size):
        row = rows[e]
        bases[e] = base
        for at in range(table[row, 0], table[row, 1]):
            c = code[at]
            k = kind[at]
            if k == VALUE:
                c += base
            elif k == SIGNATURE:
                c = numbers[0, c]
            elif k == OUTSIDE:
                c = numbers[1, c]
            stream[w] = c
            w += 1
        first = i
        for at in range(table[row, 2], table[row, 3]):
            own_ints[i] = ints[at]
            i += 1
        for at in range(table[row, 4], table[row, 5]):
            own_floats[f] = floats[at]
            f += 1
        for at in range(table[row, 6], table[row, 7]):
            own_places[n] = places[at]
            n += 1
        if table[row, 9] > table[row, 8]:
            own = _child(parent, call, indices[e])
            for at in range(table[row, 8], table[row, 9]):
                key = own
                for step in range(path_of[key_path[at]], path_of[key_path[at] + 1]):
                    key = _child(key, paths[step, 0], paths[step, 1])
                own_ints[first + keys[at]] = np.int64(key)
        base += table[row, 10]
    return stream, own_ints, own_floats, own_places, bases
