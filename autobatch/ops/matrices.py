"""Functions of vectors and matrices that are made of products, sums and masks; norms, distances and counts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..base.errors import OpIndexError, op_error
from .composing import composite, normal
from .declare import Sample, apply, as_value, check_number, lifted, lifted_all
from .elementwise import FLIP_GRADIENT, MUL, STOP_GRADIENT, absolute, cast, equal, where
from .functions import power, sqrt
from .index import ARANGE, BOUNDED, INT64
from .linalg import matmul
from .movement import reshape, slice_axis, whole
from .numbers import truth
from .reduce import reduction

if TYPE_CHECKING:
    from .value import Axis, Tensor, TensorLike


def stop_gradient(x: TensorLike) -> Tensor:
    """The numbers of `x: f[...]`, as a constant: no gradient flows through it; `x.detach()`.

    >>> w = ab.Parameter(3.0)
    >>> (w * ab.stop_gradient(w)).backward(); float(w.grad)
    3.0
    """
    return apply(STOP_GRADIENT, (as_value(x),))


def flip_gradient(x: TensorLike, scale: TensorLike = 1.0) -> Tensor:
    """Gradient reversal: the same numbers, R(x) = x, with the derivative dR/dx = -scale I.

    Source: Ganin & Lempitsky 2015, Unsupervised domain adaptation by backpropagation, eq. 7 and 8. Put it between
    features and a classifier of domains: the classifier learns its task, and the features learn to make it hard.
    `scale`, a number or a scalar without a gradient, may change from step to step; nothing is compiled for it. Raises
    `OpTypeError` for a `scale` of another kind.

    >>> w = ab.Parameter(3.0)
    >>> (ab.flip_gradient(w, 0.5) * 4.0).backward(); float(w.grad)
    -2.0
    """
    check_number("flip_gradient", "scale", scale)
    return apply(FLIP_GRADIENT, (as_value(x), float(scale) if isinstance(scale, int | float) else scale))


def count_nonzero(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """How many elements of `x` over `axis` (all for None) are not 0: i64. `keepdims` as in `sum`.

    >>> int(ab.count_nonzero(ab.tensor([0.0, 2.0, 3.0])))
    2
    """
    found: Tensor = reduction("sum", truth(x), axis, keepdims)
    return cast(found, INT64)


def any(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether an element of `x` over `axis` (all for None) is true, or not 0; False where there is none.

    `keepdims` as in `sum`.

    >>> bool(ab.any(ab.tensor([0.0, 2.0])))
    True
    """
    return count_nonzero(x, axis, keepdims) > 0


def all(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether all elements of `x` over `axis` (all for None) are true, or not 0; True where there is none.

    `keepdims` as in `sum`.

    >>> bool(ab.all(ab.tensor([0.0, 2.0])))
    False
    """
    return equal(count_nonzero(equal(truth(x), False), axis, keepdims), 0)


def norm(x: TensorLike, ord: float = 2, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The `ord`-norm of `x` over `axis` (all for None), as the array API's `vector_norm`; `keepdims` as in `sum`.

    (Σ |x|^ord)^(1/ord); the largest or smallest |x| for inf and -inf, the number of elements that are not 0 for 0. The
    derivative where all are 0 is 0.

    >>> float(ab.norm(ab.tensor([3.0, 4.0]))), float(ab.norm(ab.tensor([3.0, -4.0]), ord=1))
    (5.0, 7.0)
    """
    x = as_value(x)
    check_number("norm", "ord", ord)
    if ord == 0:
        counted = count_nonzero(x, axis, keepdims)
        return cast(counted, x.dtype) if x.dtype.kind == "f" else counted
    if math.isinf(ord):
        return reduction("max" if ord > 0 else "min", absolute(x), axis, keepdims)
    if ord == 1:
        return reduction("sum", absolute(x), axis, keepdims)
    total = reduction("sum", x * x if ord == 2 else power(absolute(x), float(ord)), axis, keepdims)
    is_zero = equal(total, 0.0)
    safe = where(is_zero, 1.0, total)
    return where(is_zero, 0.0 if ord > 0 else math.inf, sqrt(safe) if ord == 2 else power(safe, 1.0 / ord))


def outer(a: TensorLike, b: TensorLike) -> Tensor:
    """All products of an element of `a` and one of `b`, both flattened: of shape (n, m).

    >>> ab.outer(ab.tensor([1.0, 2.0]), [3.0, 4.0]).tolist()
    [[3.0, 4.0], [6.0, 8.0]]
    """
    a, b = lifted_all(a, b)
    return apply(MUL, (reshape(a, (-1, 1)), reshape(b, (1, -1))))


def dot(a: TensorLike, b: TensorLike) -> Tensor:
    """`a` times `b`: inner product of vectors, product of a matrix and a vector or matrix, or a multiple, as NumPy's.

    Raises `OpTypeError` for a second operand of rank 3 and more.

    >>> float(ab.dot(ab.tensor([1.0, 2.0]), [3.0, 4.0]))
    11.0
    """
    a, b = lifted_all(a, b)
    if not len(a.shape) or not len(b.shape):
        return apply(MUL, (a, b))
    if len(b.shape) > 2:
        raise op_error("dot", "not for a second operand of rank 3 and more", repair="ab.matmul multiplies stacks")
    return matmul(a, b)


def kron(a: TensorLike, b: TensorLike) -> Tensor:
    """Kronecker product, as `numpy.kron`: each element of `a` times all of `b`; extents are multiplied, axis by axis.

    >>> ab.kron(ab.tensor([1.0, 10.0]), [1.0, 2.0]).numpy()
    array([ 1.,  2., 10., 20.], dtype=float32)
    """
    a, b = lifted_all(a, b)
    ndim = max(len(a.shape), len(b.shape))
    outside, inside = ((1,) * (ndim - len(x.shape)) + x.shape for x in (a, b))
    each = apply(
        MUL,
        (
            reshape(a, tuple(extent for n in outside for extent in (n, 1))),
            reshape(b, tuple(extent for n in inside for extent in (1, n))),
        ),
    )
    return reshape(each, tuple(n * m for n, m in zip(outside, inside, strict=True)))


def bmm(a: TensorLike, b: TensorLike) -> Tensor:
    """Products of as many pairs of matrices: `a: f[n, i, j]`, `b: f[n, j, k]` → f[n, i, k].

    Raises `OpTypeError` for other shapes.

    >>> ab.bmm(ab.ones((2, 1, 3)), ab.ones((2, 3, 1))).tolist()
    [[[3.0]], [[3.0]]]
    """
    a, b = lifted_all(a, b)
    if len(a.shape) != 3 or len(b.shape) != 3 or a.shape[0] != b.shape[0]:
        raise op_error(
            "bmm",
            "expected f[n, i, j] and f[n, j, k]",
            got=f"{a.shape} and {b.shape}",
            repair="use @ for single matrices",
        )
    return matmul(a, b)


def _positions(name: str, x: Any) -> tuple[Any, Any]:
    """The numbers of the rows and columns of matrices; raises for what has fewer than two axes."""
    check_matrix(name, x)
    n, m = x.shape[-2:]
    return reshape(apply(ARANGE, (x,), (n,)), (n, 1)), apply(ARANGE, (x,), (m,))


def check_matrix(name: str, x: Any) -> None:
    """Raise for what has fewer than two axes."""
    if len(x.shape) < 2:
        raise op_error(name, "expected a matrix", got=str(x._type), repair="reshape it to two axes or more")


@composite(normal((2, 3), attrs=(0,)), lead=None, dtypes="keep")
def tril(x: TensorLike, k: int = 0) -> Tensor:
    """The matrices `x` with zeros above diagonal `k`, counted upwards from the main one.

    Raises `OpTypeError` for fewer than two axes.

    >>> ab.tril(ab.ones((2, 2))).tolist()
    [[1.0, 0.0], [1.0, 1.0]]
    """
    x = as_value(x)
    rows, columns = _positions("tril", x)
    return where(columns <= rows + k, x, 0)


@composite(normal((2, 3), attrs=(0,)), lead=None, dtypes="keep")
def triu(x: TensorLike, k: int = 0) -> Tensor:
    """The matrices `x` with zeros below diagonal `k`, counted upwards from the main one.

    Raises `OpTypeError` for fewer than two axes.

    >>> ab.triu(ab.ones((2, 2))).tolist()
    [[1.0, 1.0], [0.0, 1.0]]
    """
    x = as_value(x)
    rows, columns = _positions("triu", x)
    return where(columns >= rows + k, x, 0)


@composite(normal((2, 3), attrs=(0,)), lead=None, dtypes="keep")
def trace(x: TensorLike, offset: int = 0) -> Tensor:
    """Sum of the diagonal of the matrices in the last two axes of `x`; `offset` as in `diagonal`.

    Raises `OpTypeError` for fewer axes.

    >>> float(ab.trace(ab.tensor([[1.0, 5.0], [5.0, 2.0]])))
    3.0
    """
    x = as_value(x)
    rows, columns = _positions("trace", x)
    found: Tensor = reduction("sum", where(equal(columns, rows + offset), x, 0), (-2, -1), False)
    return found


@composite(normal((2, 3), attrs=(0,)), lead=None, dtypes="keep")
def diagonal(x: TensorLike, offset: int = 0) -> Tensor:
    """The diagonal of the matrices in the last two axes of `x`, as a new last axis; `offset` counts upwards.

    Raises `OpTypeError` for fewer axes.

    >>> ab.diagonal(ab.tensor([[1.0, 5.0], [5.0, 2.0]])).numpy()
    array([1., 2.], dtype=float32)
    """
    x = as_value(x)
    check_matrix("diagonal", x)
    n, m = x.shape[-2:]
    length = max(min(n, m - offset) if offset >= 0 else min(n + offset, m), 0)
    rows = reshape(x, (*x.shape[:-2], n * m))
    first = offset if offset >= 0 else -offset * m
    return slice_axis(rows, -1, first, length, m + 1) if length else slice_axis(rows, -1, 0, 0)


def cosine_similarity(x1: TensorLike, x2: TensorLike, axis: int = -1, eps: float = 1e-8) -> Tensor:
    """x1 · x2 / (max(|x1|, eps) max(|x2|, eps)) along an axis.

    >>> round(float(ab.cosine_similarity(ab.tensor([1.0, 1.0]), [1.0, 0.0])), 4)
    0.7071
    """
    x1, x2 = lifted_all(x1, x2)
    sizes = [norm(x, axis=axis) for x in (x1, x2)]
    below = [where(size < eps, eps, size) for size in sizes]
    found: Tensor = reduction("sum", x1 * x2, axis, False) / (below[0] * below[1])
    return found


def cdist(x1: TensorLike, x2: TensorLike, p: float = 2.0) -> Tensor:
    """The `p`-norms of all differences of a row of `x1: f[n, d]` and one of `x2: f[m, d]`: f[n, m].

    Raises `OpTypeError` for other shapes.

    >>> ab.cdist(ab.tensor([[0.0, 0.0]]), ab.tensor([[3.0, 4.0]])).tolist()
    [[5.0]]
    """
    x1, x2 = lifted_all(x1, x2)
    if len(x1.shape) != 2 or len(x2.shape) != 2 or x1.shape[1] != x2.shape[1]:
        raise op_error(
            "cdist",
            "expected f[n, d] and f[m, d]",
            got=f"{x1.shape} and {x2.shape}",
            repair="pass matrices of one width",
        )
    (n, d), m = x1.shape, x2.shape[0]
    return norm(reshape(x1, (n, 1, d)) - reshape(x2, (1, m, d)), p, axis=-1)


def one_hot(index: TensorLike, num_classes: int) -> Tensor:
    """1 at the place of each `index`, 0 elsewhere: i64[..., num_classes]. Raises `OpIndexError` outside the classes.

    >>> ab.one_hot([2, 0], 3).tolist()
    [[0, 0, 1], [1, 0, 0]]
    """
    num_classes = whole("one_hot", num_classes)
    if isinstance(index, np.ndarray) and index.dtype.kind in "iu" and np.all((index >= 0) & (index < num_classes)):
        return lifted(np.equal(index[..., np.newaxis], np.arange(num_classes)).astype(INT64))
    found = lifted(index)
    if not found.size and found.dtype != INT64:
        found = cast(found, INT64)  # an empty list says nothing of its dtype
    return _one_hot(found, num_classes)


@composite(
    lambda rng: [
        Sample((np.array([2, 0]),), (3,), smooth=False),
        Sample((np.array([[2], [0]]),), (3,), smooth=False),
        Sample((np.array([0, 3]),), (3,), error=OpIndexError),
    ],
    lead=lambda ndims, shared, attrs: None if shared[0] else (True,),
    dtypes="keep",
)
def _one_hot(index: TensorLike, num_classes: int) -> Tensor:
    """1 at the place of each index, 0 elsewhere."""
    known = apply(BOUNDED, (as_value(index),), (num_classes, 0))
    classes = apply(ARANGE, (known,), (num_classes,))
    return cast(equal(reshape(known, (*known.shape, 1)), classes), INT64)
