"""Elements chosen by arrays of integers along an axis: `take` of NumPy, `gather` and `scatter_add` of PyTorch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..base.errors import OpIndexError, OpTypeError, op_error
from .composing import composite
from .declare import Attrs, Sample, apply, as_value, lifted_all
from .index import ARANGE, BOUNDED, SCATTER_ADD, TAKE, getitem, listed
from .movement import negative_axis, reshape, slice_axis

if TYPE_CHECKING:
    from .value import Tensor, TensorLike


def _places(shape: tuple[int, ...], index: Any, axis: int) -> Any:
    """Of the elements of a value of this shape that an index says along an axis, the numbers in row-major order."""
    ndim = len(shape)
    total: Any = 0
    for a in range(ndim):
        step = math.prod(shape[a + 1 :])
        if a == ndim + axis:
            total = total + index * step
        elif index.shape[a] != 1:
            here = apply(ARANGE, (index,), (index.shape[a],))
            total = total + reshape(here * step, (index.shape[a], *(1,) * (ndim - a - 1)))
    return total


def along(x: Any, index: Any, axis: int = -1) -> Any:
    """Elements along an axis by an index, which is known to be in range."""
    size = math.prod(x.shape)
    return apply(TAKE, (reshape(x, (size,)), _places(x.shape, index, axis)))


def _checked(name: str, x: Any, axis: Any, index: Any) -> int:
    """The axis, from the end; raises for an index of another rank, or with more elements beside the axis."""
    axis = negative_axis(name, axis, len(x.shape))
    beside = [a for a in range(-len(x.shape), 0) if a != axis]
    if index.dtype.kind not in "iu":
        raise op_error(name, "an index holds integers", got=str(index._type), repair="convert it by .astype(int)")
    if len(index.shape) != len(x.shape) or any(index.shape[a] > x.shape[a] for a in beside):
        raise op_error(
            name,
            "the index has another rank, or more elements beside the axis",
            expected=f"at most {x.shape}, but for axis {axis + len(x.shape)}",
            got=str(index.shape),
            repair="ab.take takes whole rows by an index of any shape",
        )
    return axis


def _beside_rows(ndims: Sequence[int], shared: Sequence[bool], attrs: Attrs) -> tuple[bool, ...] | None:
    """Rows are carried where the axis is another one than theirs."""
    return (True,) * len(ndims) if attrs[0] > -ndims[0] and not any(shared) else None


def _gather_samples(rng: np.random.Generator) -> list[Sample]:
    x = rng.normal(size=(3, 4))
    return [
        Sample((x, np.array([[0, 3], [-1, 1]])), (-1,)),
        Sample((x, np.array([[2, 0, 0, 1]])), (-2,)),
        Sample((x[0], np.array([1, 1, 0])), (-1,)),
        Sample((x, np.array([[4]])), (-1,), error=OpIndexError),
        Sample((x, np.array([1])), (-1,), error=OpTypeError),
    ]


@composite(_gather_samples, lead=_beside_rows, dtypes="keep")
def _gather(x: TensorLike, index: TensorLike, at: int) -> Tensor:
    """Elements along an axis: at each place that which its index names."""
    x, index = as_value(x), as_value(index)
    at = _checked("gather", x, at, index)
    found: Tensor = along(x, apply(BOUNDED, (index,), (x.shape[at],)), at)
    return found


def gather(x: TensorLike, axis: int, index: TensorLike) -> Tensor:
    """Elements of `x` along `axis`, as PyTorch's: y[i, j] = x[index[i, j], j] for axis 0, x[i, index[i, j]] for axis 1.

    `index: i64[...]` has the rank of `x`, and at most its extents beside the axis; negative ones count from the end.
    Raises `OpTypeError` for another rank, `OpIndexError` for an index out of range.

    >>> ab.gather(ab.tensor([[1.0, 2.0], [3.0, 4.0]]), 1, [[1], [0]]).tolist()
    [[2.0], [3.0]]
    """
    x = as_value(x)
    return _gather(x, as_value(index), negative_axis("gather", axis, len(x.shape)))


def _scatter_samples(rng: np.random.Generator) -> list[Sample]:
    x, source = rng.normal(size=(3, 4)), rng.normal(size=(2, 2))
    return [
        Sample((x, np.array([[0, 3], [3, 3]]), source), (-1,)),
        Sample((x, np.array([[2, 0], [2, 1]]), source), (-2,)),
        Sample((x, np.array([[0, 3], [3, 4]]), source), (-1,), error=OpIndexError),
        Sample((x, np.array([[0, 3, 0]]), source), (-1,), error=OpTypeError),
    ]


@composite(_scatter_samples, lead=_beside_rows, dtypes="keep")
def _scatter_add(x: TensorLike, index: TensorLike, source: TensorLike, at: int) -> Tensor:
    """A value with others added to its elements along an axis."""
    x, index, source = as_value(x), as_value(index), as_value(source)
    at = _checked("scatter_add", x, at, index)
    if len(source.shape) != len(x.shape) or any(n > m for n, m in zip(index.shape, source.shape, strict=True)):
        what = "the source is smaller than the index"
        raise op_error(
            "scatter_add",
            what,
            expected=f"at least {index.shape}",
            got=str(source.shape),
            repair="make the source of the shape of the index",
        )
    for a, n in enumerate(index.shape):
        source = slice_axis(source, a, 0, n)
    bounded = apply(BOUNDED, (index,), (x.shape[at],))
    size = math.prod(x.shape)
    added = apply(SCATTER_ADD, (source, _places(x.shape, bounded, at)), (size,))
    total: Tensor = x + reshape(added, x.shape)
    return total


def scatter_add(x: TensorLike, axis: int, index: TensorLike, source: TensorLike) -> Tensor:
    """`x` with the elements of `source` added where `index` says along `axis`, as PyTorch's; transpose of `gather`.

    y[index[i, j], j] += source[i, j] for axis 0; several at one place add up. `index: i64[...]` has the rank of `x`,
    and `source` at least its extents. Raises `OpTypeError` for other shapes, `OpIndexError` for an index out of range.

    >>> ab.scatter_add(ab.zeros(3), 0, [0, 2, 2], ab.tensor([1.0, 2.0, 3.0])).numpy()
    array([1., 0., 5.], dtype=float32)
    """
    x, source = lifted_all(x, source)
    return _scatter_add(x, as_value(index), source, negative_axis("scatter_add", axis, len(x.shape)))


def take(x: TensorLike, indices: TensorLike, axis: int | None = None) -> Tensor:
    """Elements of `x` along `axis` by `indices` of any shape, as `numpy.take`; of the flattened value for None.

    Negative ones count from the end; booleans are 0 and 1. Raises `OpIndexError` for one out of range.

    >>> ab.take(ab.tensor([[1.0, 2.0], [3.0, 4.0]]), [1, 0, 1], axis=1).tolist()
    [[2.0, 1.0, 2.0], [4.0, 3.0, 4.0]]
    """
    x = as_value(x)
    if axis is None:
        x, axis = reshape(x, (-1,)), 0
    at = negative_axis("take", axis, len(x.shape)) + len(x.shape)
    chosen: Any = listed(indices) if isinstance(indices, list | tuple) else indices
    if isinstance(chosen, bool):
        chosen = int(chosen)
    elif hasattr(chosen, "dtype") and chosen.dtype.kind == "b":
        chosen = chosen.astype(np.int64)
    found: Tensor = getitem(x, (*(slice(None),) * at, chosen))
    return found
