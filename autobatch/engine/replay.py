"""The backward pass of `checkpoint`: functions are recorded again, and cotangents of their results go on from there.

Input: cotangents of values of a recording. Output: those of the values that it computed itself, and of the results that
its calls of `checkpoint` give when they are recorded again, all of them together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..backends.transfer import to_host
from ..base.errors import RecordingError, user_error
from ..base.types import Array, Type
from ..record.checkpoint import Replay
from ..record.tape import OPEN, Recording, state
from ..record.tensor import RecordedTensor
from .flush import flush

ROUNDING = 1e-2
"""Largest difference of a result that is computed again, relative to the largest number in it."""

Part = tuple[Array, Any]
"""Cotangents of values that are in one pool: their numbers, and their rows there."""


def replayed(tape: Recording, seeds: Sequence[Part]) -> list[tuple[Recording, Part]]:
    """Cotangents of values of this recording and of others, for those of values of one that has checkpoints; none
    where none of them is of a checkpoint."""
    found: list[tuple[Recording, Part]] = []
    calls: dict[Replay, list[tuple[int, int, Any]]] = {}
    types = dict(tape.held)
    for values, block in seeds:
        at, own, own_rows = 0, list[int](), list[int]()
        for value in values.tolist():
            n = types[value].rows
            known = tape.replays.get(value)
            if known is None:
                own.append(value)
                own_rows += range(at, at + n)
            else:
                replay, k = known
                calls.setdefault(replay, []).append((k, value, block[at : at + n]))
            at += n
        if own:
            found.append((tape, (np.array(own), block if len(own) == len(values) else block[own_rows])))
    if not calls:
        return []
    before, state.tape = state.tape, None
    try:
        again = {replay: replay.again() for replay in calls}
        for results in again.values():
            for y in results:
                if y._tape.state == OPEN:
                    flush(y._tape, None)
    finally:
        state.tape = before
    for replay, results in again.items():
        for k, value, rows in calls[replay]:
            if k >= len(results) or not _equal(tape, value, types[value], results[k]):
                what = "checkpoint: the function gives other results when it is called again"
                repair = "let it depend on nothing that changes, such as a loop's variable, or leave checkpoint out"
                raise user_error(RecordingError, what, repair=repair)
            y, old = results[k], types[value]
            if y._type is not old:  # the same numbers lie in another way
                numbers = y._type.pack(old.unpack(rows.reshape(old.stored.shape)))
                rows = numbers.reshape(y._type.rows, y._type.width)
            found.append((y._tape, (np.array([y._id]), rows)))
    return found


def _equal(tape: Recording, value: int, type: Type, again: RecordedTensor) -> bool:
    """Whether a value is what it was, but for rounding."""
    if (again.shape, again.dtype) != (type.shape, type.dtype):
        return False
    before, now = tape.run, again._tape.run
    assert before is not None and now is not None
    x, y = to_host(before.value(value, type)), to_host(now.value(again._id, again._type))
    with np.errstate(all="ignore"):
        largest = np.abs(x, where=np.isfinite(x), out=np.zeros_like(x)).max(initial=0.0)
        return bool(np.allclose(x, y, rtol=ROUNDING, atol=ROUNDING * largest, equal_nan=True))
