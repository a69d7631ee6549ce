"""Forcing values, and checking that they are finite."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, TypeVar, overload

import numpy as np

from ..backends.transfer import to_host
from ..base.errors import RecordingError, user_error
from ..base.interrupts import passing_on
from ..base.types import Array, Type
from ..ops.value import Tensor
from ..record.containers import made_like, parts_of
from ..record.context import checking, refuse_if_kept, refuse_in_cell
from ..record.forcing import engine
from ..record.shared import Shared
from ..record.tape import DONE, ENDED, OPEN, is_under_way, state
from ..record.tensor import RecordedTensor, iterate_tensors, known_value
from ..run.device.layout import DeviceRun
from ..run.execute import HostRun
from .finite import name_shared
from .flush import flush, run_own_pending
from .peek import peek

T = TypeVar("T", bound=Tensor)
U = TypeVar("U", bound=Tensor)
K = TypeVar("K")


READ_TOGETHER = 1 << 16
"""Most bytes of values that are copied to one array; who keeps one of them keeps them all."""


@passing_on
def compute(t: RecordedTensor, wanted: Sequence[RecordedTensor] = ()) -> Array:
    """The array of a tensor: run all live pending work if it is pending; in `ab.map`, once no example can go on.

    wanted: what is forced with it
    """
    refuse_in_cell()
    refuse_if_kept("a value is forced")
    tape, fiber = t._tape, state.fiber
    if tape.sweeps and tape.state == OPEN and tape is state.tape and tape.thread == threading.get_ident():
        return peek(tape, t)
    while tape.state == OPEN:
        if tape.thread != threading.get_ident():
            what = "a pending tensor of another thread cannot be forced here"
            raise user_error(RecordingError, what, repair="force it in its own thread first")
        if not is_under_way(tape):
            what = "the recording of this tensor was given up after an error"
            raise user_error(RecordingError, what, repair="record it again")
        if fiber is None or not fiber.wait(tape, wanted or (t,)):
            flush(tape, t)
            read_together([x for x in wanted if x._tape is tape])
    if t._id in tape.failed:
        raise tape.failed[t._id]
    known = known_value(t)
    if known is not None:
        return known
    if tape.state == ENDED or tape.run is None:
        repair = "force it before backward(), return it from ab.map, or keep x.detach()"
        raise user_error(RecordingError, "a tensor is read after its recording has ended", repair=repair)
    value: Array = tape.run.value(t._id, t._type)
    t._value = value
    return value


def read_together(tensors: Sequence[RecordedTensor]) -> None:
    """Read values of a recording that has run, those of one type at once unless they are large."""
    run = tensors[0]._tape.run if len(tensors) > 1 else None
    if not isinstance(run, HostRun):
        return
    failed = tensors[0]._tape.failed
    groups: dict[Type, list[RecordedTensor]] = {}
    for t in tensors:
        if t._id not in failed:
            groups.setdefault(t._type, []).append(t)
    for type, group in groups.items():
        if len(group) * type.rows * type.width * type.dtype.itemsize <= READ_TOGETHER:
            block = run.copies([t._id for t in group], type)
            for k, t in enumerate(group):
                t._value = block[k, ...]


@overload
def evaluate(tree: Tensor) -> Array: ...
@overload
def evaluate(tree: list[T]) -> list[Array]: ...
@overload
def evaluate(tree: tuple[T, U]) -> tuple[Array, Array]: ...
@overload
def evaluate(tree: list[tuple[T, U]]) -> list[tuple[Array, Array]]: ...
@overload
def evaluate(tree: dict[K, T]) -> dict[K, Array]: ...
@overload
def evaluate(tree: Any) -> Any: ...
@passing_on
def evaluate(tree: Any) -> Any:
    """Force every tensor in `tree`, nested lists, tuples and dicts; the same nesting of NumPy arrays.

    Raises what an op raises on its numbers, and `RecordingError` for a tensor that can no longer be computed.

    >>> ab.evaluate({"a": ab.tensor(1.0) + 1, "b": [3]})
    {'a': array(2., dtype=float32), 'b': [3]}
    """
    refuse_in_cell()
    together: dict[tuple[DeviceRun, Type], list[RecordedTensor]] = {}
    tensors = list(iterate_tensors(tree))
    for t in tensors:
        if known_value(t) is None:
            if t._tape.state == DONE and isinstance(run := t._tape.run, DeviceRun):
                together.setdefault((run, t._type), []).append(t)
            else:
                compute(t, tensors)
    on_host: dict[int, Array] = {}
    for (run, type), group in together.items():
        block = run.block([t._id for t in group], type)
        for k, (t, numbers) in enumerate(zip(group, to_host(block), strict=True)):
            t._value, on_host[id(t)] = block[k], np.asarray(numbers)
    return _replace(tree, on_host)


def _replace(tree: Any, on_host: dict[int, Array]) -> Any:
    if isinstance(tree, RecordedTensor) and id(tree) in on_host:
        return np.array(on_host[id(tree)])
    if isinstance(tree, RecordedTensor | Shared):
        return tree.numpy()
    if isinstance(tree, list | tuple | dict):
        return made_like(tree, (_replace(part, on_host) for part in parts_of(tree)))
    return tree


class check_finite:
    """Context manager: inside the block the first NaN or infinity computed raises `NonFiniteError`.

    It names the op and the user's line, also inside of a cell. Checked are values, one by one or batched,
    gradients, and what is computed from parameters alone.

    >>> with ab.check_finite():
    ...     float(ab.log(ab.tensor(1.0)))
    0.0
    """

    def __enter__(self) -> None:
        self._before = checking.get()
        checking.set(name_shared)

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        try:
            if kind is None and state.builder is None:  # what a cell computes is looked at when it runs
                run_own_pending()
        finally:
            checking.set(self._before)


engine.compute = compute
