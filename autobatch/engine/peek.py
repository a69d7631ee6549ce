"""A value that is forced inside of a function that is differentiated: it is computed, and the recording goes on.

What leads to it runs node by node, by the interpreter, once; at the flush it runs once more, batched with all else. So
a derivative by what the function was called with can be recorded after decisions that were taken from values.
Cost: tens of microseconds for each node that leads to it, and some nanoseconds for each node before it.
"""

from __future__ import annotations

from ..backends.transfer import to_host
from ..base.errors import CompilerBug, OpIndexError, RecordingError, user_error
from ..base.types import Array
from ..record.assemble import assemble
from ..record.context import checking
from ..record.links import linked_arrays
from ..record.operands import OperandSet
from ..record.tape import Recording, interrupted
from ..record.tensor import RecordedTensor
from ..run.one_by_one import LoopRun
from ..schedule.schedule import schedule
from .finite import name_node
from .forward import on_host, out_of_range


def peek(tape: Recording, t: RecordedTensor) -> Array:
    """The array of a value of an open recording, which stays open.

    Raises `RecordingError` where a parameter that the recording reads has changed since.
    """
    if tape.is_interrupted:
        raise interrupted()
    known = tape.peeked or []
    if t._id >= len(known) or known[t._id] is None:
        known = tape.peeked = _computed(tape, t, known)
    array: Array = t._type.unpack(known[t._id].copy())
    return array


def _computed(tape: Recording, t: RecordedTensor, known: list[object]) -> list[object]:
    arrays = assemble(tape, [t._id])
    operands = OperandSet(arrays.signatures, (x for s in tape.signatures for x in s.shared))
    if operands.version() > tape.born:
        what = "a value is forced of a recording that met a parameter which changed after it was made"
        raise user_error(RecordingError, what, repair="record again after changing parameters")
    payloads = {id: to_host(array) for id, array in tape.payloads}
    if tape.linked:
        payloads.update(linked_arrays(tape)[1])
    live = schedule(arrays).live
    memo = operands.arrays(None, on_host).memo
    name = name_node(tape, arrays) if checking.get() else None
    try:
        run = LoopRun(arrays, tape.signatures, live, payloads, memo, name, known)
    except OpIndexError as error:
        raise out_of_range(error, tape, arrays) from None
    if run.values[t._id] is None:
        raise CompilerBug("a value that was forced has not been computed")
    return run.values
