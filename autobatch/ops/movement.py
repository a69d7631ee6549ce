"""Ops that move elements without computing: reshape, transpose, broadcast, concat, stack, slice, split."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..base.errors import OpTypeError, op_error
from ..base.types import Dim, Type, broadcast_shapes, size_of, tensor_type
from .declare import Attrs, Op, Sample, apply, as_value, declare, elements, unchanged

if TYPE_CHECKING:
    from .value import ShapeLike, Tensor, TensorLike


def negative_axis(op: str, axis: Any, ndim: int) -> int:
    """An axis of a value of rank `ndim`, counted from the end."""
    if isinstance(axis, bool) or not hasattr(axis, "__index__"):
        raise op_error(op, "an axis is not an integer", got=repr(axis), repair="pass a Python integer")
    axis = axis.__index__()
    if not -ndim <= axis < ndim:
        raise op_error(
            op,
            f"axis {axis} is outside a value of rank {ndim}",
            repair="axes are from 0 to rank - 1, or negative from the end",
        )
    return int(axis - ndim if axis >= 0 else axis)


def extents(shape: Any) -> tuple[Any, ...]:
    """A shape as a tuple: one number is the extent of the only axis."""
    return tuple(shape) if is_many(shape) else (shape,)


def with_extent(shape: Sequence[Any], axis: int, extent: Any) -> tuple[Any, ...]:
    """A shape with another extent along an axis."""
    found = list(shape)
    found[axis] = extent
    return tuple(found)


def is_many(x: Any) -> bool:
    """Whether several numbers were given, in a tuple or array, instead of one."""
    return hasattr(x, "__iter__") and getattr(x, "shape", None) != ()


def whole(op: str, n: Any, lowest: int | None = 0) -> int:
    """An integer given to op `op` as an extent or position, from `lowest` on."""
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise op_error(
            op,
            "expected an integer",
            got=repr(n),
            repair="pass a Python integer; x.shape has some, and int(x) makes one",
        )
    number = int(n.__index__())
    if lowest is not None and number < lowest:
        raise op_error(
            op, f"expected integers from {lowest} on", got=str(number), repair="check how the number was computed"
        )
    return number


# Reshape.


def _infer_reshape(types: Sequence[Type], attrs: Attrs) -> Type:
    if size_of(types[0].shape) != size_of(attrs[0]):
        raise op_error(
            "reshape",
            "the number of elements differs",
            expected=f"{size_of(types[0].shape)} elements",
            got=f"{types[0]} as {attrs[0]}",
            repair="one extent may be -1, which is computed",
        )
    return tensor_type(types[0].dtype, attrs[0])


RESHAPE = declare(
    "reshape",
    "the same elements in another shape",
    _infer_reshape,
    lambda x, shape: np.reshape(x, shape),
    lambda g, y, x, a: (reshape(g, x[0].shape),),
    "reshape",
    dtypes="keep",
    samples=lambda rng: [
        Sample((rng.normal(size=6),), ((2, 3),)),
        Sample((rng.normal(size=(2, 3)),), ((3, 2),)),
        Sample((rng.normal(size=(1,)),), ((),)),
        Sample((rng.normal(size=6),), ((4,),), error=OpTypeError),
    ],
)


def reshape(x: TensorLike, shape: ShapeLike) -> Tensor:
    """The elements of `x`, in row-major order, in another `shape`; one extent may be -1.

    >>> ab.reshape(ab.zeros(6), (2, -1)).shape
    (2, 3)
    """
    x = as_value(x)
    target: tuple[Any, ...] = tuple(n if isinstance(n, Dim) else whole("reshape", n, -1) for n in extents(shape))
    if -1 in target:
        known = size_of(tuple(n for n in target if n != -1))
        total = size_of(x.shape)
        if not isinstance(total, int):
            raise op_error(
                "reshape",
                "the rows of a stacked list whose length varies cannot be rearranged",
                repair="reduce over axis 0 alone, by ab.sum, prod, mean, max or min, or work on the elements",
            )
        if target.count(-1) > 1 or known == 0 or total % known:
            raise op_error(
                "reshape", "cannot infer the extent -1", got=f"{x.shape} as {target}", repair="give all extents but one"
            )
        target = tuple(total // known if n == -1 else n for n in target)
    return unchanged(x) if target == x.shape and hasattr(x, "_record") else apply(RESHAPE, (x,), (target,))


# Transpose.


TRANSPOSE = declare(
    "transpose",
    "the axes in another order",
    lambda types, attrs: tensor_type(types[0].dtype, tuple(types[0].shape[axis] for axis in attrs[0])),
    np.transpose,
    lambda g, y, x, a: (transpose(g, tuple(int(i) for i in np.argsort(a[0]))),),
    "transpose",
    dtypes="keep",
    samples=lambda rng: [
        Sample((rng.normal(size=(2, 3)),), ((1, 0),)),
        Sample((rng.normal(size=(2, 3, 4)),), ((2, 0, 1),)),
    ],
)


def transpose(x: TensorLike, axes: Sequence[int] | None = None) -> Tensor:
    """`x` with its axes in another order; reversed where none is given.

    Raises `OpTypeError` unless `axes` names each axis once.

    >>> ab.transpose(ab.zeros((2, 3))).shape
    (3, 2)
    """
    x = as_value(x)
    ndim = len(x.shape)
    order = tuple(range(ndim))[::-1] if axes is None else tuple(a % ndim if -ndim <= a < ndim else a for a in axes)
    if sorted(order) != list(range(ndim)):
        raise op_error(
            "transpose",
            "axes are not a permutation",
            expected=f"each of 0..{ndim - 1} once",
            got=str(axes),
            repair="name every axis once",
        )
    return unchanged(x) if order == tuple(range(ndim)) else apply(TRANSPOSE, (x,), (order,))


# Layouts.


def swapped(x: Any, axis: int = -2) -> Any:
    """The value with an axis, counted from the end, in the place of the last one, and the other way round."""
    order = list(range(len(x.shape)))
    order[axis], order[-1] = order[-1], order[axis]
    return transpose(x, order)


def as_rows(x: Any, type: Type) -> Any:
    """A value as the rows in which one of this type is stored."""
    return reshape(transpose(x, type.order), type.stored.shape)


def of_rows(rows: Any, type: Type) -> Any:
    """The value of this type that is stored in these rows."""
    whole = reshape(rows, tuple(type.shape[axis] for axis in type.order))
    return transpose(whole, tuple(map(type.order.index, range(type.ndim))))


# Broadcast.


def _infer_broadcast(types: Sequence[Type], attrs: Attrs) -> Type:
    if broadcast_shapes(types[0].shape, attrs[0]) != attrs[0]:
        raise op_error(
            "broadcast_to",
            "shape does not broadcast",
            expected=str(attrs[0]),
            got=str(types[0]),
            repair="only axes of extent 1 and new ones in front are repeated; reshape the value first",
        )
    return tensor_type(types[0].dtype, attrs[0])


BROADCAST = declare(
    "broadcast_to",
    "repeated along new or unit axes",
    _infer_broadcast,
    lambda x, shape: np.broadcast_to(x, shape),
    lambda g, y, x, a: (g,),
    "broadcast",
    dtypes="keep",
    samples=lambda rng: [
        Sample((rng.normal(size=3),), ((2, 3),)),
        Sample((rng.normal(size=(2, 1)),), ((2, 3),)),
        Sample((rng.normal(),), ((3,),)),
        Sample((rng.normal(size=3),), ((4,),), error=OpTypeError),
    ],
)


def broadcast_to(x: Any, shape: Sequence[Any]) -> Any:
    """The value repeated along new or unit axes."""
    x = as_value(x)
    return unchanged(x) if tuple(shape) == x.shape else apply(BROADCAST, (x,), (tuple(shape),))


# Concat and stack.


def _infer_concat(types: Sequence[Type], attrs: Attrs) -> Type:
    axis = attrs[0]
    first = types[0].shape
    total: Any = 0
    for t in types:
        same = len(t.shape) == len(first) and all(
            i == axis or a == b for i, a, b in zip(range(-len(first), 0), t.shape, first, strict=True)
        )
        if not same:
            raise op_error(
                "concat",
                "shapes differ outside the axis",
                expected=f"like {types[0]}",
                got=str(t),
                repair="join along another axis=, or use ab.stack for a new one",
            )
        total += t.shape[axis]
    return tensor_type(types[0].dtype, with_extent(first, axis, total))


def _concat_vjp(g: Any, y: Any, x: tuple[Any, ...], attrs: Attrs) -> tuple[Any, ...]:
    start, parts = 0, []
    for v in x:
        parts.append(slice_axis(g, attrs[0], start, v.shape[attrs[0]]))
        start += v.shape[attrs[0]]
    return tuple(parts)


def _concat_lead(ndims: Sequence[int], shared: Sequence[bool], attrs: Attrs) -> tuple[bool, ...] | None:
    return (True,) * len(ndims) if ndims[0] >= 2 and attrs[0] != -ndims[0] and not any(shared) else None


CONCAT = declare(
    "concat",
    "values joined along an axis",
    _infer_concat,
    lambda *xs: np.concatenate(xs[:-1], axis=xs[-1]),
    _concat_vjp,
    "concat",
    lead=_concat_lead,
    samples=lambda rng: [
        Sample((rng.normal(size=2), rng.normal(size=3)), (-1,)),
        Sample((rng.normal(size=(2, 3)), rng.normal(size=(2, 1))), (-1,)),
        Sample((rng.normal(size=(2, 3)), rng.normal(size=(1, 3)), rng.normal(size=(2, 3))), (-2,)),
        Sample((rng.normal(size=(2, 3)), rng.normal(size=3)), (-1,), error=OpTypeError),
    ],
)


def concat(xs: Iterable[TensorLike], axis: int = 0) -> Tensor:
    """The values `xs` joined along the existing `axis`, as `numpy.concatenate`.

    Raises `OpTypeError` where there is nothing to join, for values of rank 0 or of different ranks, and for shapes that
    do not fit.

    >>> ab.concat([ab.zeros(2), ab.ones(3)]).shape
    (5,)
    """
    values = elements("concat", xs)
    if not values:
        raise op_error("concat", "nothing to join", repair="pass at least one value")
    ndims = [len(np.shape(v) if isinstance(v, int | float) else v.shape) for v in values]
    if min(ndims) == 0:
        raise op_error("concat", "a value of rank 0 has no axis", repair="use ab.stack")
    if min(ndims) < max(ndims):
        raise op_error(
            "concat",
            "values differ in rank",
            got=f"ranks {', '.join(map(str, ndims))}",
            repair="add axes by None, or use ab.stack for values of one shape",
        )
    negative = negative_axis("concat", axis, ndims[0])
    return unchanged(values[0]) if len(values) == 1 else apply(CONCAT, tuple(values), (negative,))


def _stack_body(*args: Any) -> Any:
    *xs, axis = args
    shape = xs[0].shape
    for x in xs:
        if x.shape != shape:
            raise op_error(
                "stack",
                "shapes differ",
                expected=f"like {shape}",
                got=str(x.shape),
                repair="pad is not needed: stack values of one shape, or use ab.concat",
            )
    at = axis + len(shape) + 1
    return concat([reshape(x, (*shape[:at], 1, *shape[at:])) for x in xs], axis)


def _stack_lead(ndims: Sequence[int], shared: Sequence[bool], attrs: Attrs) -> tuple[bool, ...] | None:
    return (True,) * len(ndims) if ndims[0] >= 2 and attrs[0] != -ndims[0] - 1 and not any(shared) else None


STACK = declare(
    "stack",
    "values of one shape joined along a new axis",
    body=_stack_body,
    lead=_stack_lead,
    samples=lambda rng: [
        Sample((rng.normal(size=3), rng.normal(size=3)), (-2,)),
        Sample((rng.normal(size=3), rng.normal(size=3)), (-1,)),
        Sample((rng.normal(), rng.normal()), (-1,)),
        Sample((rng.normal(size=(2, 3)), rng.normal(size=(2, 3))), (-2,)),
        Sample((rng.normal(size=3), rng.normal(size=2)), (-1,), error=OpTypeError),
    ],
)


# Slices of static start and length.


def _index(axis: int, start: int, length: int, step: int) -> tuple[Any, ...]:
    stop = start + step * length
    part = slice(start, stop if stop >= 0 else None, step) if length else slice(0, 0)
    return (..., part, *[slice(None)] * (-1 - axis))


def _slice(x: Any, axis: int, start: int, length: int, step: int) -> Any:
    return x[_index(axis, start, length, step)]


def _unslice(g: Any, axis: int, start: int, length: int, step: int, extent: int) -> Any:
    whole = np.zeros(with_extent(g.shape, axis, extent), g.dtype)
    whole[_index(axis, start, length, step)] = g
    return whole


def _slice_lead(ndims: Sequence[int], shared: Sequence[bool], attrs: Attrs) -> tuple[bool, ...] | None:
    return (True,) if ndims[0] >= 2 and attrs[0] != -ndims[0] else None


SLICE: Op = declare(
    "slice",
    "part of an axis: axis, start, length and step are attributes",
    lambda types, attrs: tensor_type(types[0].dtype, with_extent(types[0].shape, attrs[0], attrs[2])),
    _slice,
    lambda g, y, x, a: (apply(UNSLICE, (g,), (*a, x[0].shape[a[0]])),),
    "axes",
    dtypes="keep",
    lead=_slice_lead,
    samples=lambda rng: [
        Sample((rng.normal(size=6),), (-1, 1, 3, 1)),
        Sample((rng.normal(size=6),), (-1, 5, 3, -2)),
        Sample((rng.normal(size=(3, 4)),), (-1, 1, 2, 1)),
        Sample((rng.normal(size=(3, 4)),), (-2, 0, 2, 2)),
    ],
)
UNSLICE: Op = declare(
    "unslice",
    "zeros with a value put into part of an axis",
    lambda types, attrs: tensor_type(types[0].dtype, with_extent(types[0].shape, attrs[0], attrs[4])),
    _unslice,
    lambda g, y, x, a: (apply(SLICE, (g,), a[:4]),),
    "axes",
    dtypes="keep",
    lead=_slice_lead,
    samples=lambda rng: [
        Sample((rng.normal(size=2),), (-1, 1, 2, 1, 5)),
        Sample((rng.normal(size=(2, 2)),), (-2, 3, 2, -2, 4)),
    ],
)


VIEWS = (RESHAPE, TRANSPOSE, SLICE, BROADCAST)
"""Ops that compute nothing: views of their operand."""


def slice_axis(x: Any, axis: int, start: int, length: int, step: int = 1) -> Any:
    """Part of one axis."""
    axis = negative_axis("slice", axis, len(x.shape))
    if start == 0 and step == 1 and length == x.shape[axis]:
        return unchanged(x)
    return apply(SLICE, (x,), (axis, start, length, step))


def split(x: TensorLike, parts: ShapeLike, axis: int = 0) -> list[Tensor]:
    """Cut `axis` of `x` into so many equal `parts`, or before the given positions, as `numpy.split`.

    Raises `OpTypeError` where it does not divide.

    >>> [part.shape for part in ab.split(ab.zeros(6), 3)], [part.shape for part in ab.split(ab.zeros(6), [1, 3])]
    ([(2,), (2,), (2,)], [(1,), (2,), (3,)])
    """
    x = as_value(x)
    if not x.shape:
        raise op_error("split", "a value of rank 0 has no axis", got=str(x.shape), repair="reshape it to (1,)")
    axis = negative_axis("split", axis, len(x.shape))
    extent = x.shape[axis]
    if not is_many(parts):
        n = whole("split", parts, 1)
        if isinstance(extent, Dim) or extent % n:
            raise op_error(
                "split",
                f"axis {axis + len(x.shape)} does not divide into {n} equal parts",
                got=str(x.shape),
                repair="pass the positions to cut at",
            )
        edges = [extent // n * i for i in range(n + 1)]
    else:
        cuts = [whole("split", p, None) for p in extents(parts)]
        edges = [0, *(min(max(p + extent if p < 0 else p, 0), extent) for p in cuts), extent]
    return [slice_axis(x, axis, a, max(b - a, 0)) for a, b in itertools.pairwise(edges)]
