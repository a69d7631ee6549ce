"""Parameters, buffers and their gradients.

All changes of parameters go through `update`: pending work runs first, exceptions wait until all is written, and
the versions move, so that a recording is never run or reversed against other numbers than it was made with.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike

from ..backends import checked, current_backend
from ..backends.device import Device, current_device
from ..backends.host.numba_verbs import segments_verb
from ..backends.host.packed_weights import forget
from ..backends.transfer import DEVICES, copy_of, is_on_device, place_of, to_device, to_host
from ..base.clocks import timed
from ..base.errors import OpTypeError, user_error
from ..base.interrupts import run_whole
from ..base.notebooks import card
from ..base.types import Array, tensor_type
from ..compile.host.workers import compile_early
from ..ops.index import SCATTER_ADD
from ..ops.value import TensorLike
from ..run.device import gradients as on_device
from .context import refuse_numbers
from .creation import as_array
from .expressions import settle
from .shared import Shared, attributes_of, mixed_places, set_attributes

_clock = itertools.count(1)

before_change: list[Callable[[], None]] = []
"""Called before any parameter changes; `engine.flush` runs the live pending work here."""


def now() -> int:
    """A logical timestamp for versions."""
    return next(_clock)


@dataclass(slots=True)
class SparseRows:
    """A gradient that is zero outside some rows of a table.

    rows: int64[k], ascending, each once, always on the host; values: float[k, ...], one table row each, flat or not,
    on the table's device; shape: of the table.
    """

    rows: Array
    values: Array
    shape: tuple[int, ...]

    def to_dense(self) -> Array:
        """The gradient as an array of the table's shape, in the place of the values."""
        if is_on_device(self.values):
            return on_device.dense_of(current_device(), self.rows, self.values, self.shape)
        dense = np.zeros(self.shape, self.values.dtype)
        dense[self.rows] = self.values.reshape(len(self.rows), *self.shape[1:])
        return dense


Gradient = Array | SparseRows


class Held(Shared):
    """A shared array with numbers of its own, which can be replaced. It is where the backend in use when it was made
    has its arrays, until `to` moves it."""

    __slots__ = ("_copy", "_data", "_version")

    def __init__(self, data: Array) -> None:
        super().__init__(tensor_type(data.dtype, data.shape))
        self._data = to_device(data) if current_backend() in DEVICES else data
        self._version = 0
        self._copy: tuple[int, Array] | None = None

    # Copies and pickles hold the numbers, not what recordings made of them.

    def __getstate__(self) -> Any:
        return attributes_of(self), to_host(self._data), self.on_device

    def __setstate__(self, state: Any) -> None:
        attributes, data, on_device = state
        Held.__init__(self, data)
        if on_device is not self.on_device:
            self._data = to_device(data) if on_device else data
        set_attributes(self, attributes)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return card(f"{type(self).__name__} {self._type}", [], to_host(self._data))

    @property
    def value(self) -> Array:
        """The numbers, read-only; assign an array of the same shape to replace them. On a GPU an array of CuPy, where
        nothing guards against changes; `numpy()` gives a copy on the host."""
        refuse_numbers("the numbers of a parameter are read")
        if is_on_device(self._data):
            return self._data
        view = self._data.view()
        view.flags.writeable = False
        return view

    @value.setter
    def value(self, value: Any) -> None:
        refuse_numbers("a parameter is changed")
        array = value if is_on_device(value) else np.asarray(value)
        if array.shape != self._data.shape:
            what = f"{type(self).__name__}.value: the shape cannot change"
            raise user_error(OpTypeError, what, expected=str(self._data.shape), got=str(array.shape))
        replace([(self, array)])

    @property
    def on_device(self) -> bool:
        """Whether the numbers lie on a device."""
        return is_on_device(self._data)

    def to(self, backend: str) -> Self:
        """Move the numbers, and a gradient, to where a backend has its arrays; returns this object.

        >>> ab.Parameter([1.0, 2.0]).to("numpy").value
        array([1., 2.], dtype=float32)
        """
        move([self], backend)
        return self

    def _array(self) -> Array:
        return self._data

    def _array_on(self, device: Device | None) -> Any:
        if is_on_device(self._data) is (device is not None):
            return self._data
        wanted, backend = ("the host", "numba") if device is None else (device.name, device.name)
        raise mixed_places(
            f"{type(self).__name__} {self._type} is on {place_of(self._data)}, and kernels run on {wanted}",
            repair=f'move it with model.to("{backend}"), or run on its backend, by ab.set_backend',
        )

    def _on_host(self) -> Array:
        """The numbers on the host; a copy is kept until they change."""
        if not is_on_device(self._data):
            return self._data
        if self._copy is None or self._copy[0] != self._version:
            self._copy = self._version, to_host(self._data)
        return self._copy[1]


class Buffer(Held):
    """A shared array without gradient that belongs to a module's state; `value` and `dtype` as in `Parameter`.

    >>> ab.nn.Buffer([1.0, 2.0]).shape
    (2,)
    """

    __slots__ = ()

    def __init__(self, value: TensorLike, dtype: DTypeLike | None = None) -> None:
        super().__init__(as_array(value, dtype))


class Parameter(Held):
    """A trainable array shared by all examples, which starts as a copy of `value`.

    `.grad` is None until a backward pass reaches the parameter; then an array, or `SparseRows` for an embedding:
    only looked up. Set it to None to forget it. Floats take the default dtype unless `dtype` is given. Raises
    `OpTypeError` for a dtype that is no float.

    >>> w = ab.Parameter([1.0, 2.0])
    >>> (w * w).sum().backward()
    >>> w.grad
    array([2., 4.], dtype=float32)
    """

    __slots__ = ("_grad",)

    def __init__(self, value: TensorLike, dtype: DTypeLike | None = None) -> None:
        data = as_array(value, dtype)
        if data.dtype.kind != "f":
            what = "Parameter: only floats can be trained"
            raise user_error(OpTypeError, what, got=str(data.dtype), repair="use nn.Buffer for other arrays")
        super().__init__(data)
        self._grad: Gradient | None = None
        compile_early(data.dtype)

    def __getstate__(self) -> Any:
        g = self._grad
        return super().__getstate__(), None if g is None else _moved(g, to_host)

    def __setstate__(self, state: Any) -> None:
        held, g = state
        super().__setstate__(held)
        self._grad = None
        self.grad = g

    @property
    def trainable(self) -> bool:
        return True

    def _row_for_layer(self, index: Any) -> Any:
        """The same as self[index], for a function of the library: recorded at the line that called it."""
        return self[index]

    @property
    def grad(self) -> Gradient | None:
        """d loss / d parameter summed over backward passes since it was last set to None."""
        return self._grad

    @grad.setter
    def grad(self, value: Any) -> None:
        if isinstance(value, SparseRows):
            if is_on_device(value.values) is not is_on_device(self._data):
                value = _moved(value, to_device if is_on_device(self._data) else to_host)
        elif value is not None:
            value = in_place_of(self, value)
        if value is not None and tuple(value.shape) != self.shape:
            what = "Parameter.grad: the shape differs from the parameter's"
            raise user_error(OpTypeError, what, expected=str(self.shape), got=str(value.shape))
        self._grad = value


def accumulate(gradients: Sequence[tuple[Parameter, Gradient]]) -> None:
    """Add to `.grad` of several parameters: all are computed before the first is stored."""
    _store([p for p, _ in gradients], [_plus(p._grad, g) for p, g in gradients])


def forget_gradients(parameters: Sequence[Parameter]) -> None:
    """Set `.grad` of several parameters to None: of all or of none."""
    _store(parameters, itertools.repeat(None))


def _store(parameters: Sequence[Parameter], gradients: Iterable[Gradient | None]) -> None:
    before = [p._grad for p in parameters]  # until all are stored: freeing one runs code, where Ctrl-C may strike
    _consume(map(setattr, parameters, itertools.repeat("_grad"), gradients))
    del before


_consume = collections.deque[None](maxlen=0).extend
"""Runs through an iterator without a line of Python in between."""


def _plus(old: Gradient | None, new: Gradient) -> Gradient:
    if old is None:
        return new
    if isinstance(old, SparseRows) and isinstance(new, SparseRows):
        return merge_rows([old.rows, new.rows], [old.values, new.values], old.shape)
    if isinstance(new, SparseRows):
        total = copy_of(old)
        add_to_rows(total, new)
        return total
    return (old.to_dense() if isinstance(old, SparseRows) else old) + new


def add_to_rows(table: Array, g: SparseRows) -> None:
    """Add a gradient that came as rows to a dense one, in place."""
    if is_on_device(table):
        on_device.add_to_rows(current_device(), table, g.rows, g.values)
    else:
        table[g.rows] += g.values.reshape(len(g.rows), *g.shape[1:])


_TABLE = 8
"""Rows of a table for each row number, up to which a mark for every row is faster than sorting the numbers."""


def merge_rows(rows: Sequence[Any], values: Sequence[Any], shape: tuple[int, ...]) -> SparseRows:
    """Rows that may repeat → each row once, ascending; repeated rows are added in the order given."""
    ids = np.concatenate([np.asarray(r).reshape(-1) for r in rows]).astype(np.int64)
    if is_on_device(values[0]):
        return SparseRows(*on_device.merge_rows(current_device(), ids, values, shape), shape)
    parts = [np.asarray(v).reshape(np.size(r), *shape[1:]) for r, v in zip(rows, values, strict=True)]
    if shape[0] <= _TABLE * ids.size:
        there = np.zeros(shape[0], bool)
        there[ids] = True
        once, place = np.flatnonzero(there), (np.cumsum(there) - 1)[ids]
    else:  # a look at every row of the table would take longer than sorting
        once, place = np.unique(ids, return_inverse=True)
    joined = parts[0] if len(parts) == 1 else np.concatenate(parts)
    # np.add.reduceat takes ten to fifty times as long.
    return SparseRows(once, segments_verb(SCATTER_ADD, joined.dtype)(joined, place, once.size), shape)


def update(parameters: Sequence[Held], change: Callable[[Sequence[Any]], None]) -> None:
    """Change parameters in place, all or none: `change` gets their arrays.

    The live pending work of this thread runs first, against the old numbers, and values made of these parameters alone
    that somebody holds get theirs. Do what can fail before: `change` is run again where an exception breaks it off that
    a signal handler or another thread raised, and has then to do what is left.
    """
    _before(parameters)
    arrays = [p._data for p in parameters]

    def action() -> None:
        change(arrays)
        stamp = now()
        for p in parameters:
            p._version = stamp
            forget(p._data)

    with timed("update"):
        run_whole(action)


def _before(parameters: Sequence[Held]) -> None:
    """What comes before any change."""
    for hook in before_change:
        hook()
    settle(parameters)


def replace(pairs: Sequence[tuple[Held, Any]]) -> None:
    """Write arrays, of the host or of the device, over the numbers of parameters of the same shapes: all or none."""
    arrays = [in_place_of(x, array) for x, array in pairs]

    def change(targets: Sequence[Any]) -> None:
        for target, array in zip(targets, arrays, strict=True):
            target[...] = array

    update([x for x, _ in pairs], change)


def in_place_of(x: Held, array: Any) -> Any:
    """An array in the dtype of `x`, and where `x` is."""
    if not is_on_device(x._data):
        return np.asarray(to_host(array), x.dtype)
    if not is_on_device(array):
        return to_device(np.asarray(array, x.dtype))
    array = array.astype(x.dtype, copy=False)
    return array if array.flags.c_contiguous else array.copy()


def move(held: Sequence[Held], backend: str) -> None:
    """Move parameters and buffers, with their gradients, to where a backend has its arrays: all or none.

    Raises `BackendError` for a backend that is unknown or cannot run here.
    """
    to = to_device if checked(backend) in DEVICES else to_host
    _before(held)
    moved = [(x, to(x._data), _moved(x._grad, to) if isinstance(x, Parameter) else None) for x in held]

    def action() -> None:
        stamp = now()
        for x, data, grad in moved:
            if isinstance(x, Parameter):
                x._grad = grad
            if data is not x._data:
                forget(x._data)
                x._version, x._copy = stamp, None
                x._data = data

    run_whole(action)


def _moved(g: Gradient | None, to: Callable[[Any], Any]) -> Gradient | None:
    if isinstance(g, SparseRows):
        return SparseRows(g.rows, to(g.values), g.shape)
    return None if g is None else to(g)
