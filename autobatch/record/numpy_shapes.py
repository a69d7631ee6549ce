"""NumPy's functions of shapes: each with NumPy's argument names, written in ops. `SHAPES` is their table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..base.errors import op_error
from ..ops import movement, shapes
from ..ops.declare import as_value, lifted, lifted_all, unchanged

Function = Callable[..., Any]


def along(x: Any, axis: int, start: int | None, stop: int | None, step: int | None = None) -> Any:
    index = [slice(None)] * x.ndim
    index[axis] = slice(start, stop, step)
    return x[tuple(index)]


def on_axis(x: Any, axis: int, ndim: int) -> Any:
    """A vector along one of several axes."""
    return movement.reshape(x, [-1 if k == axis % ndim else 1 for k in range(ndim)])


def moving(fn: Function, permutes: bool = False) -> Function:
    """A function that changes the shape, or permutes the axes, as NumPy does it to an array that takes no memory."""

    def function(a: Any, *args: Any, **options: Any) -> Any:
        a = as_value(a)
        shape = tuple(range(len(a.shape))) if permutes else a.shape
        try:
            made = fn(np.broadcast_to(0, shape), *args, **options).shape
        except ValueError as error:
            raise op_error(fn.__name__, str(error), got=f"shape {shape}") from None
        return movement.transpose(a, made) if permutes else movement.reshape(a, made)

    return function


def _atleast(fn: Function) -> Function:
    def function(*arys: Any) -> Any:
        made = [moving(fn)(x) for x in lifted_all(*arys)]
        return made[0] if len(made) == 1 else tuple(made)

    return function


def _joining(fn: Function, axis: int) -> Function:
    """A function that joins values along an axis, each with as many axes as another gives it."""

    def function(tup: Any) -> Any:
        values = [moving(fn)(x) for x in lifted_all(*tup)]
        return movement.concat(values, min(axis, values[0].ndim - 1) if values else axis)

    return function


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
    grids = [on_axis(x, place, len(values)) for x, place in zip(values, order, strict=True)]
    return tuple(grids) if sparse else _broadcast_arrays(*grids)


def _rot90(m: Any, k: int = 1, axes: tuple[int, int] = (0, 1)) -> Any:
    m = lifted(m)
    first, second = (axis % m.ndim for axis in axes)
    if k % 4 in (0, 2):
        return shapes.flip(m, (first, second)) if k % 4 else unchanged(m)
    order = list(range(m.ndim))
    order[first], order[second] = order[second], order[first]
    if k % 4 == 1:
        return movement.transpose(shapes.flip(m, second), order)
    return shapes.flip(movement.transpose(m, order), second)


def _unstack(x: Any, /, *, axis: int = 0) -> tuple[Any, ...]:
    x = lifted(x)
    return tuple(shapes.squeeze(along(x, axis, k, k + 1), axis) for k in range(x.shape[axis]))


SHAPES: dict[Function, Function] = {
    np.atleast_1d: _atleast(np.atleast_1d),
    np.atleast_2d: _atleast(np.atleast_2d),
    np.atleast_3d: _atleast(np.atleast_3d),
    np.append: _append,
    np.broadcast_arrays: _broadcast_arrays,
    np.column_stack: _column_stack,
    np.vstack: _joining(np.atleast_2d, 0),
    np.hstack: _joining(np.atleast_1d, 1),
    np.dstack: _joining(np.atleast_3d, 2),
    np.array_split: _array_split,
    np.hsplit: _split_along("hsplit", 1),
    np.vsplit: _split_along("vsplit", 0),
    np.dsplit: _split_along("dsplit", 2),
    np.meshgrid: _meshgrid,
    np.fliplr: lambda m: shapes.flip(m, 1),
    np.flipud: lambda m: shapes.flip(m, 0),
    np.rot90: _rot90,
    np.swapaxes: moving(np.swapaxes, permutes=True),
    np.moveaxis: moving(np.moveaxis, permutes=True),
    np.rollaxis: moving(np.rollaxis, permutes=True),
    np.unstack: _unstack,
}
