"""NumPy's functions of shapes: each with NumPy's argument names, written in ops. `SHAPES` is their table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..base.errors import op_error
from ..ops import movement, shapes
from ..ops.declare import lifted
from .creation import holds_tensors
from .layouts import as_operand
from .recorder import tensor

Function = Callable[..., Any]


def lifted_all(*xs: Any) -> tuple[Any, ...]:
    """Operands as values; arrays are float64 where they meet such a value."""
    return tuple(_beside(x, xs) for x in xs)


def _beside(x: Any, xs: tuple[Any, ...]) -> Any:
    if isinstance(x, np.ndarray) or (isinstance(x, list | tuple) and not holds_tensors(x)):
        array = as_operand(x, xs)
        return tensor(array, array.dtype)
    return lifted(x)


def along(x: Any, axis: int, start: int | None, stop: int | None, step: int | None = None) -> Any:
    index = [slice(None)] * x.ndim
    index[axis] = slice(start, stop, step)
    return x[tuple(index)]


def _atleast(ndim: int) -> Function:
    def function(*arys: Any) -> Any:
        made = [movement.reshape(x, np.empty(x.shape, np.bool_)[_LIFTS[ndim, x.ndim]].shape) for x in lifted_all(*arys)]
        return made[0] if len(made) == 1 else tuple(made)

    return function


_ALL = (...,)
_LIFTS: dict[tuple[int, int], Any] = {
    **{(n, k): _ALL for n in (1, 2, 3) for k in range(n, 20)},
    (1, 0): None,
    (2, 0): (None, None),
    (2, 1): None,
    (3, 0): (None, None, None),
    (3, 1): (None, slice(None), None),
    (3, 2): (slice(None), slice(None), None),
}


def _append(arr: Any, values: Any, axis: int | None = None) -> Any:
    arr, values = lifted_all(arr, values)
    if axis is None:
        arr, values, axis = movement.reshape(arr, -1), movement.reshape(values, -1), 0
    return movement.concat([arr, values], axis)


def _broadcast_arrays(*args: Any) -> tuple[Any, ...]:
    values = lifted_all(*args)
    shape = np.broadcast_shapes(*(x.shape for x in values))
    return tuple(movement.broadcast_to(x, shape) for x in values)


def _column_stack(tup: Any) -> Any:
    values = lifted_all(*tup)
    return movement.concat([x if x.ndim > 1 else movement.reshape(x, (-1, 1)) for x in values], 1)


def _dstack(tup: Any) -> Any:
    return movement.concat([_atleast(3)(x) for x in tup], 2)


def _array_split(ary: Any, indices_or_sections: Any, axis: int = 0) -> Any:
    x = lifted(ary)
    parts = np.array_split(np.arange(x.shape[axis]), indices_or_sections)
    ends = np.cumsum([0, *map(len, parts)]).tolist()
    return [along(x, axis, ends[k], ends[k + 1]) for k in range(len(parts))]


def _split_along(name: str, axis: int) -> Function:
    def function(ary: Any, indices_or_sections: Any) -> Any:
        x = lifted(ary)
        if x.ndim <= axis and not (name == "hsplit" and x.ndim == 1):
            raise op_error(name, f"not of a value of rank {x.ndim}")
        return movement.split(x, indices_or_sections, min(axis, x.ndim - 1))

    return function


def _meshgrid(*xi: Any, sparse: bool = False, indexing: str = "xy") -> Any:
    values = [movement.reshape(x, -1) for x in lifted_all(*xi)]
    order = list(range(len(values)))
    if indexing == "xy" and len(values) > 1:
        order[:2] = [1, 0]
    grids = [
        movement.reshape(x, [-1 if place == k else 1 for k in range(len(values))])
        for x, place in zip(values, order, strict=True)
    ]
    return tuple(grids) if sparse else _broadcast_arrays(*grids)


def _rot90(m: Any, k: int = 1, axes: tuple[int, int] = (0, 1)) -> Any:
    m = lifted(m)
    first, second = (axis % m.ndim for axis in axes)
    if k % 4 in (0, 2):
        return shapes.flip(m, (first, second)) if k % 4 else m
    order = list(range(m.ndim))
    order[first], order[second] = order[second], order[first]
    if k % 4 == 1:
        return movement.transpose(shapes.flip(m, second), order)
    return shapes.flip(movement.transpose(m, order), second)


def _rollaxis(a: Any, axis: int, start: int = 0) -> Any:
    a = lifted(a)
    return movement.transpose(a, np.rollaxis(np.broadcast_to(0, range(a.ndim)), axis, start).shape)


def _unstack(x: Any, /, *, axis: int = 0) -> tuple[Any, ...]:
    x = lifted(x)
    return tuple(shapes.squeeze(along(x, axis, k, k + 1), axis) for k in range(x.shape[axis]))


SHAPES: dict[Function, Function] = {
    np.atleast_1d: _atleast(1),
    np.atleast_2d: _atleast(2),
    np.atleast_3d: _atleast(3),
    np.append: _append,
    np.broadcast_arrays: _broadcast_arrays,
    np.column_stack: _column_stack,
    np.dstack: _dstack,
    np.array_split: _array_split,
    np.hsplit: _split_along("hsplit", 1),
    np.vsplit: _split_along("vsplit", 0),
    np.dsplit: _split_along("dsplit", 2),
    np.meshgrid: _meshgrid,
    np.fliplr: lambda m: shapes.flip(m, 1),
    np.flipud: lambda m: shapes.flip(m, 0),
    np.rot90: _rot90,
    np.rollaxis: _rollaxis,
    np.unstack: _unstack,
}
