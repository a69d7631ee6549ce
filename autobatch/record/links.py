"""Values from outside of the recording: arrays, values of earlier recordings, and shared values used as rows."""

from __future__ import annotations

from collections.abc import Sequence
from types import CodeType
from typing import Any

import numpy as np

from ..base.errors import RecordingError, user_error, user_place
from ..base.jit import njit
from ..base.types import LEADING, Array, Type, tensor_type
from ..ir.trace import Builder
from ..run.earlier import Brought, address_of, bring, carried, table_of_blocks, table_of_run
from ..run.execute import HostRun
from ..schedule.structures import KERNEL, Result, Tape
from .choice import compiled as chosen
from .context import refuse_if_kept
from .nodes import SCOPE, compiled, write, writing
from .parameter import Buffer, Parameter
from .shared import Constant, Expression, Shared, SharedExpression
from .signature import Signature, payload
from .tape import CHANGED, DONE, ENDED, OPEN, Links, Recording, is_under_way
from .tensor import RecordedTensor, forced

SHARED_CLASSES = frozenset((Parameter, Buffer, Constant, Expression, SharedExpression))


# Arrays.


def lift(array: Array, tape: Recording, layout: int = LEADING) -> RecordedTensor:
    """A node whose value is this array, in this layout; the array must not change any more."""
    type = tensor_type(array.dtype, array.shape, layout)
    return write(tape, _payload_number(type, tape), (), (type,), array=type.pack(array))[0]


def _payload_number(type: Type, tape: Recording) -> int:
    """The number of the signature of values of a type that come from outside."""
    number: int | None = tape.cache.get(type)
    if number is None:
        number = tape.cache[type] = tape.signature_number(payload(type))
        tape.row_types[number] = type
    return number


def remember_array(x: Array, lifted: RecordedTensor, tape: Recording) -> None:
    """Let `row_of` take arrays of this dtype and shape from now on, as this one was taken."""
    tape.cache[x.dtype, x.shape] = tape.cache[lifted._type], lifted._type


def row_of(x: Any, tape: Recording) -> RecordedTensor | None:
    """The tensor of a shared vector or number, of a matrix that this recording has, or of an array of a kind that it
    has; else None."""
    if tape.is_aside:
        return None
    if x.__class__ is np.ndarray:
        known = tape.cache.get((x.dtype, x.shape))
        if known is None:
            return None
        number, type = known
        copy = np.array(x, type.dtype, order="C")
        return None if tape.is_interrupted else write(tape, number, (), (type,), array=copy)[0]
    if not isinstance(x, Shared):
        return None
    at = tape.shared_rows.get((x, tape.cache is tape.caches[True]))
    if at is None:
        return shared_row(x, tape) if x.ndim <= 1 and x.operand is not None and not tape.is_interrupted else None
    return tape.tensor(at)


# Values of earlier recordings.


def value_number(t: RecordedTensor, tape: Recording) -> int:
    """The number of a tensor's value on this tape, linked if it was computed on an earlier one."""
    old = t._tape
    if old is tape:
        return t._id
    key = (old.serial, t._id)
    found = tape.imports.get(key)
    if found is not None:
        return found
    if t._id in old.failed:
        raise old.failed[t._id]
    if old.state == OPEN and is_under_way(old):
        forced(t)  # it is another asyncio task's
    what = "a tensor of another thread's recording is used here"
    if old.state == OPEN and old.thread != tape.thread:
        raise user_error(RecordingError, what, repair="force it there, or pass .detach() of a forced value")
    if old.state == OPEN:
        what = "a tensor of a recording that was given up is used here"
        raise user_error(RecordingError, what, repair="record it again")
    constant = t.dtype.kind != "f" or is_constant_value(old, t._id)
    if old.thread != tape.thread and not constant:
        raise user_error(RecordingError, what, repair="pass .detach() of it: no gradient flows from thread to thread")
    if old.state == ENDED and not constant:
        what, repair = "a tensor is used after its recording has ended", "keep x.detach() instead of x"
        raise user_error(RecordingError, what, repair=f"{repair}, or call backward(retain=True)")
    source = _source(old, t._id, tape)
    if source is None:
        linked = old.state == DONE and not constant
        return import_array(key, forced(t), tape, (old, t._id) if linked else None, t._type.layout)
    number = _payload_number(t._type, tape)
    id = write(tape, number, (), (t._type,), array=(source, t._id, tape.count))[0]._id
    tape.imports[key] = id
    return id


def _source(old: Recording, value: int, tape: Recording) -> int | None:
    """The number of an earlier recording whose values this one reads from where they lie; None where this value can
    only be read as an array."""
    if old.thread != tape.thread:
        return None
    number = tape.sources.get(old)
    if number is None and old.table is None:
        old.table = _table(old)
    table = old.table if number is None else tape.tables[number][0]
    if table is None or value >= len(table) or not table[value, 0]:
        return None
    if number is None:
        number = len(tape.tables)
        tape.tables.append((table, address_of(table), old.run if old.state == DONE else old.left))
        tape.sources[old] = number
    return number


local: Any = (
    compiled(
        "def local(x, tape):",
        [
            "if tape.is_aside: return x",
            "old = x._tape",
            "key = old.serial, x._id",
            "known = tape.imports.get(key)",
            "if known is not None: return tape.tensor(known)",
            "if old.failed and x._id in old.failed: raise old.failed[x._id]",
            "if old.state is not DONE and not old.is_constant: return x",
            "source, number = tape.sources.get(old), tape.cache.get(x._type)",
            "if source is None: source = source_of(old, x._id, tape)",
            "if source is None: return x",
            "if number is None: number = payload_number(x._type, tape)",
            *writing("number", (), ["x._type"], frame="getframe(2)", linked=("source", "x._id", "n")),
            "tape.imports[key] = n",
            "return r0",
        ],
        {**SCOPE, "DONE": DONE, "source_of": _source, "payload_number": _payload_number},
    )
    if chosen is None
    else chosen.here
)
"""The tensor of this recording that stands for one of an earlier recording, where that can be read from where it lies;
else the same tensor, which `value_number` then links or refuses. It is called by what the user calls."""

LINKING = _source, _payload_number, DONE
"""What the compiled one calls, and compares with."""


def _table(old: Recording) -> Array | None:
    """Where the values of a recording lie, and which of them carry gradient; None where that is not the host's memory,
    or each has an array of its own."""
    if old.state == ENDED:
        return table_of_blocks(old.left)
    if not isinstance(old.run, HostRun):
        return None
    carries = carrying(old)
    table = table_of_run(old.run, carries.size)
    table[:, 2] = carries
    return table


def carrying(tape: Recording) -> Array:
    """[values] whether gradient flows into them, of a recording that has become arrays: not of integers, host inputs,
    and values under no_grad or detached; but of those of `checkpoint`."""
    assert tape.arrays is not None
    table = tape.arrays.signatures
    signature_carries = np.array([not s.frozen for s in tape.signatures], np.bool_)
    is_float = np.array([np.dtype(dtype).kind == "f" for _, dtype in tape.arrays.pools], np.bool_)
    given = tape.links.here
    if tape.replays:
        given = np.concatenate([given, np.array(list(tape.replays), np.int64)])
    found: Array = _carrying(
        tape.arrays.value_of, tape.arrays.sig, signature_carries, table.result_of, is_float[table.result_pool], given
    )
    return found


@njit
def _carrying(value_of, sig, carries, result_of, is_float, linked):  # type: ignore[no-untyped-def]
    found = np.zeros(value_of[-1], np.bool_)
    for node in range(sig.size):
        s = sig[node]
        for v in range(value_of[node], value_of[node + 1]):
            found[v] = carries[s] and is_float[result_of[s] + v - value_of[node]]
    found[linked] = True
    return found


def links_of(tape: Recording) -> Links:
    """The values of earlier recordings through which gradient flows into a recording."""
    if tape.arrays is not None or tape.lines is not None:
        return tape.links
    source, value, here = np.array(tape.linked, np.int64).reshape(-1, 3).T
    if not value.size and not tape.by_array:
        return Links([], source, value, here)
    flows = carried(_addresses(tape), source, value)
    used = np.bincount(source[flows], minlength=len(tape.tables)) > 0
    sources = [old for old, is_used in zip(tape.sources, used.tolist(), strict=True) if is_used]
    found = Links(sources, (np.cumsum(used) - 1)[source[flows]], value[flows], here[flows])
    for id, old, number in tape.by_array:
        found.sources.append(old)
        found.source = np.append(found.source, len(found.sources) - 1)
        found.value, found.here = np.append(found.value, number), np.append(found.here, id)
    return found


def _addresses(tape: Recording) -> Array:
    return np.array([address for _, address, _ in tape.tables], np.int64)


def _lengths(tape: Recording) -> Array:
    return np.array([len(table) for table, _, _ in tape.tables], np.int64)


def settle_links(tape: Recording, arrays: Tape, links: Links) -> None:
    """Give a recording its arrays and links, in the order of pools and recordings, and copy the values that it reads
    from where they lie."""
    table = arrays.signatures

    def results(here: Array) -> Array:
        found: Array = table.result_of[arrays.sig[arrays.node_of(here)]]
        return found

    tape.arrays, tape.links = arrays, links
    if links.here.size:
        tape.links = links.only(np.lexsort((links.source, table.result_pool[results(links.here)])))
    if tape.linked:
        source, value, here = np.array(tape.linked, np.int64).reshape(-1, 3).T
        result = results(here)
        row_bytes = np.array([width * np.dtype(dtype).itemsize for width, dtype in arrays.pools])
        rows, of_bytes = table.result_rows[result], row_bytes[table.result_pool[result]]
        tape.brought = bring(_addresses(tape), _lengths(tape), source, value, here, rows, of_bytes)


def brought_arrays(tape: Recording) -> list[tuple[int, Array]]:
    """The values that were read from where they lie, as arrays, with their numbers here."""
    brought = tape.brought
    if brought is None:
        return []
    assert tape.arrays is not None
    types = [tape.row_types[s] for s in tape.arrays.sig[tape.arrays.node_of(brought.values)].tolist()]
    return _as_arrays(brought, types)


def linked_arrays(tape: Recording) -> tuple[list[Type], list[tuple[int, Array]]]:
    """The values that an open recording reads from where they lie: types, and arrays with their numbers here."""
    source, value, here = np.array(tape.linked, np.int64).reshape(-1, 3).T
    types = [tape.type_of(id) for id in here.tolist()]
    rows, row_bytes = np.array([t.rows for t in types]), np.array([t.width * t.dtype.itemsize for t in types])
    brought = bring(_addresses(tape), _lengths(tape), source, value, here, rows, row_bytes)
    return types, _as_arrays(brought, types)


def linked_outside(tape: Recording) -> dict[int, Any]:
    """What `outside` says of the values that an open recording reads from where they lie."""
    if not tape.linked:
        return {}
    source, value, _ = np.array(tape.linked, np.int64).reshape(-1, 3).T
    types, arrays = linked_arrays(tape)
    with_gradient, serials = set(links_of(tape).here.tolist()), [old.serial for old in tape.sources]
    keys = [(serials[s], number) for s, number in zip(source.tolist(), value.tolist(), strict=True)]
    return {
        id: ("linked",) if id in with_gradient else ("import", key, type.unpack(rows), type.layout)
        for key, type, (id, rows) in zip(keys, types, arrays, strict=True)
    }


def _as_arrays(brought: Brought, types: Sequence[Type]) -> list[tuple[int, Array]]:
    parts = zip(brought.values.tolist(), types, brought.at.tolist(), strict=False)
    return [
        (value, np.frombuffer(brought.numbers, t.dtype, t.rows * t.width, at).reshape(t.stored.shape))
        for value, t, at in parts
    ]


def import_array(
    key: tuple[int, int],
    array: Array,
    tape: Recording,
    link: tuple[Recording, int] | None = None,
    layout: int = LEADING,
) -> int:
    """Link a value of an earlier recording, identified by the recording's serial and its number there; its cotangent
    returns in the layout that it has there."""
    found = tape.imports.get(key)
    if found is not None:
        return found
    lifted = lift(array, tape, layout)
    if link is not None:
        tape.by_array.append((lifted._id, *link))
    tape.outside[lifted._id] = ("linked",) if link is not None else ("import", key, array, layout)
    tape.imports[key] = lifted._id
    return lifted._id


def is_constant_value(tape: Recording, id: int) -> bool:
    """Whether no gradient flows into a floating value of a recording: under no_grad, detached, or a host input."""
    if tape.lines is not None:
        return id in tape.constants
    signature = tape.signature_of(id)
    return signature is None or (signature.frozen and id not in tape.links.here and id not in tape.replays)


# Shared values.


def shared_row(
    x: Shared, tape: Recording, frozen: bool | None = None, place: tuple[CodeType | None, int] | None = None
) -> RecordedTensor:
    """A shared value used as a row: copied into its pool once per recording.

    `frozen` says whether as a constant, `place` where; both are those of the caller unless given.
    """
    frozen = tape.cache is tape.caches[True] if frozen is None else frozen
    known = tape.shared_rows
    at = known.get((x, frozen))
    if at is None:
        inner = x.operand
        at = _settled_row(x, tape) if inner is None else known.get((inner, frozen))
        if at is None:
            assert inner is not None
            at = _new_row(inner, tape, frozen, place or user_place())
            known[inner, frozen] = at
        known[x, frozen] = at
    return tape.tensor(at)


def _new_row(x: Shared, tape: Recording, frozen: bool, place: tuple[CodeType | None, int]) -> int:
    if isinstance(x, Constant) and x.is_on_host:  # no launch copies what host inputs are loaded with
        array = x._type.pack(x._array())
        id = write(tape, _payload_number(x._type, tape), (), (x._type,), place, array=array)[0]._id
    else:
        id = write(tape, tape.signature_number(_row_signature(x, frozen)), (), (x._type,), place)[0]._id
    tape.outside[id] = ("row", (x, frozen), place)
    return id


def _row_signature(x: Shared, frozen: bool) -> Signature:
    """The signature of a launch that copies a shared value into a pool; the same one for all recordings."""
    frozen = frozen or x.dtype.kind != "f"
    found: Signature | None = x._signatures.get((_row_signature, frozen))
    if found is None:
        builder = Builder()
        graph = builder.finish([x._enter(builder)])
        found = x._signatures[_row_signature, frozen] = Signature(
            name="shared row",
            kind=KERNEL,
            slots=(),
            results=(Result(x._type.width, x.dtype, rows=x._type.rows),),
            graph=graph,
            shared=tuple(builder.shared),
            frozen=frozen,
        )
    return found


def _settled_row(x: Shared, tape: Recording) -> int:
    """The numbers of a value made of parameters that have changed since; who asks for its gradient is told."""
    refuse_if_kept("a value computed from parameters outside is used")
    return import_array((0, id(x)), x.numpy(), tape, (CHANGED, 0))
