"""Linear algebra of square and other matrices: systems of equations, determinants and decompositions.

Primitives run LAPACK on the host, for all matrices of a launch together, and a thread for each matrix on a device. A
result of several parts is one value, which is cut into them. What has no result (a singular system, a matrix that is
not positive definite) is NaN, for that matrix alone; `ab.check_finite()` names it.

Derivatives are those of Giles, "Collected matrix derivative results for forward and reverse mode algorithmic
differentiation" (2008), and are made of ops, so that they have derivatives, too. Where several matrices are the answer,
the one is given that LAPACK gives, but for the signs of eigenvectors and singular vectors: the largest component of
each is positive, so that all backends agree.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..base.errors import op_error
from ..base.types import broadcast_shapes, tensor_type
from .declare import Attrs, Op, Sample, apply, declare, lifted
from .elementwise import Samples, cast, equal, float_dtype, where
from .functions import exp
from .index import ARANGE
from .linalg import PRODUCT
from .matrices import check_matrix, tril, triu
from .movement import broadcast_to, concat, reshape, slice_axis, swapped
from .reduce import reduction

if TYPE_CHECKING:
    from .value import Tensor, TensorLike


def _carried(ndims: Sequence[int], shared: Sequence[bool], attrs: Attrs) -> tuple[bool, ...] | None:
    return (True,) * len(ndims) if min(ndims) >= 3 and not any(shared) else None


def _each(fn: Callable[..., Any], result: Callable[..., tuple[int, ...]]) -> Callable[..., Any]:
    """A function of stacks of matrices; NaN for those alone of which LAPACK says that there is no result."""

    def of_all(*matrices: Any) -> Any:
        if any(x.size == 0 for x in matrices):
            return np.zeros(result(*matrices), matrices[0].dtype)
        try:
            return np.asarray(fn(*matrices), matrices[0].dtype)
        except np.linalg.LinAlgError:
            if matrices[0].ndim == 2:
                return np.full(result(*matrices), np.nan, matrices[0].dtype)
            return np.stack([of_all(*each) for each in zip(*matrices, strict=True)])

    return of_all


def _primitive(
    name: str,
    doc: str,
    fn: Callable[..., Any],
    shape: Callable[..., tuple[Any, ...]],
    vjp: Callable[[Any, Any, tuple[Any, ...], Attrs], tuple[Any, ...]],
    samples: Samples,
) -> Op:
    """Declare an op on matrices, all of as many leading axes; `shape` is that of the result for shapes of operands."""
    return declare(
        name,
        doc,
        lambda types, attrs: tensor_type(types[0].dtype, shape(*(t.shape for t in types))),
        _each(fn, lambda *xs: shape(*(x.shape for x in xs))),
        vjp,
        "whole",
        dtypes="float",
        lead=_carried,
        samples=samples,
    )


def _matrix(name: str, x: Any, square: bool = True) -> Tensor:
    """An operand that is a matrix, or several of them, in a floating dtype."""
    x = lifted(x)
    check_matrix(name, x)
    if square and x.shape[-1] != x.shape[-2]:
        raise op_error(
            name,
            "the matrix is not square",
            expected="f[..., n, n]",
            got=str(x._type),
            repair="ab.qr and ab.svd take matrices of any shape",
        )
    return cast(x, float_dtype(x.dtype))


def _product(*xs: Any) -> Any:
    total = xs[0]
    for x in xs[1:]:
        total = apply(PRODUCT, (total, x))
    return total


def _symmetric(x: Any) -> Any:
    return (x + swapped(x)) * 0.5


def _identity(like: Any) -> Any:
    """The identity matrix of as many rows as a value has columns, in its dtype."""
    n = like.shape[-1]
    places = apply(ARANGE, (like,), (n,))
    return cast(equal(reshape(places, (n, 1)), places), like.dtype)


def _scaled(x: Any, numbers: Any) -> Any:
    """Columns of matrices times numbers."""
    return x * reshape(numbers, (*numbers.shape[:-1], 1, numbers.shape[-1]))


def _square(rng: np.random.Generator) -> Any:
    return rng.normal(size=(2, 3, 3)) * 0.3 + 2.0 * np.eye(3)


# Systems of equations.


def _solve_vjp(g: Any, y: Any, x: tuple[Any, ...], attrs: Attrs) -> tuple[Any, ...]:
    b = apply(SOLVE, (swapped(x[0]), g))
    return -_product(b, swapped(y)), b


SOLVE: Op = _primitive(
    "solve",
    "the solution x of a x = b, of matrices",
    np.linalg.solve,
    lambda a, b: b,
    _solve_vjp,
    lambda rng: [
        Sample((_square(rng)[0], rng.normal(size=(3, 2)))),
        Sample((_square(rng), rng.normal(size=(2, 3, 2)))),
        Sample((np.array([[[1.0, 2.0], [2.0, 4.0]], [[1.0, 0.0], [0.0, 2.0]]]), np.ones((2, 2, 1))), smooth=False),
    ],
)


def solve(a: TensorLike, b: TensorLike) -> Tensor:
    """The solution x of a x = b: `a: f[..., n, n]`, `b: f[n]` or `f[..., n, k]`, whose leading axes broadcast.

    NaN where `a` is singular. Raises `OpTypeError` for other shapes.

    >>> ab.solve(ab.tensor([[2.0, 0.0], [0.0, 4.0]]), [2.0, 2.0]).numpy()
    array([1. , 0.5], dtype=float32)
    """
    a, b = _matrix("solve", a), lifted(b)
    if not b.shape or b.shape[-1 if len(b.shape) == 1 else -2] != a.shape[-1]:
        raise op_error("solve", "the sizes differ", expected="f[..., n, n], f[n] or f[..., n, k]",
                       got=f"{a._type}, {b._type}", repair="reshape the right side to as many rows")  # fmt: skip
    if len(b.shape) == 1:
        return reshape(solve(a, reshape(b, (-1, 1))), (*a.shape[:-2], a.shape[-1]))
    lead = broadcast_shapes(a.shape[:-2], b.shape[:-2])
    if lead is None:
        raise op_error(
            "solve",
            "the leading axes do not broadcast",
            got=f"{a._type}, {b._type}",
            repair="stack as many matrices as right sides",
        )
    found: Tensor = apply(SOLVE, (broadcast_to(a, (*lead, *a.shape[-2:])), broadcast_to(b, (*lead, *b.shape[-2:]))))
    return found


def inverse(x: TensorLike) -> Tensor:
    """The inverse of matrices `x: f[..., n, n]`; NaN where one is singular. Rather `solve` a system of equations.

    >>> ab.inverse(ab.tensor([[2.0, 0.0], [0.0, 4.0]])).tolist()
    [[0.5, 0.0], [0.0, 0.25]]
    """
    x = _matrix("inverse", x)
    return solve(x, _identity(x))


def triangular_solve(a: TensorLike, b: TensorLike, upper: bool = False, unitriangular: bool = False) -> Tensor:
    """The solution x of a x = b with the lower triangle of `a`, or the upper one, as PyTorch's `solve_triangular`.

    `a: f[..., n, n]`; `b` as of `solve`. With `unitriangular` the diagonal counts as ones. Numbers beyond the triangle
    have no gradient.

    >>> ab.triangular_solve(ab.tensor([[2.0, 9.0], [1.0, 1.0]]), [2.0, 3.0]).numpy()
    array([1., 2.], dtype=float32)
    """
    a = _matrix("triangular_solve", a)
    if unitriangular:
        a = (triu(a, 1) if upper else tril(a, -1)) + _identity(a)
    else:
        a = triu(a) if upper else tril(a)
    return solve(a, b)


# Determinants.


def _slogdet_vjp(g: Any, y: Any, x: tuple[Any, ...], attrs: Attrs) -> tuple[Any, ...]:
    by_logarithm = reshape(slice_axis(g, -1, 1, 1), (*g.shape[:-1], 1, 1))
    return (by_logarithm * swapped(inverse(x[0])),)


SLOGDET: Op = _primitive(
    "slogdet",
    "sign, and logarithm of the size, of the determinant, on a new last axis",
    lambda x: np.stack(np.linalg.slogdet(x), -1),
    lambda x: (*x[:-2], 2),
    _slogdet_vjp,
    lambda rng: [Sample((_square(rng),)), Sample((-_square(rng)[0],)), Sample((np.ones((2, 2)),), smooth=False)],
)


def slogdet(x: TensorLike) -> tuple[Tensor, Tensor]:
    """Sign, and logarithm of the size, of the determinants of matrices `x: f[..., n, n]`; 0 and -inf of singular ones.

    Those of 0 × 0 matrices are 1. Raises `OpTypeError` for other shapes.

    >>> sign, size = ab.slogdet(ab.tensor([[0.0, 2.0], [1.0, 0.0]]))
    >>> float(sign), round(float(size), 4)
    (-1.0, 0.6931)
    """
    x = _matrix("slogdet", x)
    if not x.shape[-1]:
        size = reduction("sum", x, (-2, -1), False)  # zeros
        return size + 1.0, size
    both = apply(SLOGDET, (x,))
    return both[..., 0], both[..., 1]


def det(x: TensorLike) -> Tensor:
    """Determinants of `x: f[..., n, n]`; the derivative of a singular one is NaN. Others raise `OpTypeError`.

    >>> round(float(ab.det(ab.tensor([[0.0, 2.0], [1.0, 0.0]]))), 4)
    -2.0
    """
    sign, size = slogdet(x)
    return sign * exp(size)


# Decompositions.


def _cholesky_vjp(g: Any, y: Any, x: tuple[Any, ...], attrs: Attrs) -> tuple[Any, ...]:
    inner = tril(_product(swapped(y), tril(g)))
    halved = inner - inner * _identity(y) * 0.5
    left = apply(SOLVE, (swapped(y), halved))
    return (_symmetric(swapped(apply(SOLVE, (swapped(y), swapped(left))))),)


def _definite(rng: np.random.Generator) -> Any:
    x = rng.normal(size=(2, 3, 4))
    return x @ x.swapaxes(-1, -2)


CHOLESKY: Op = _primitive(
    "cholesky",
    "the lower triangular factor L of L L^T",
    np.linalg.cholesky,
    lambda x: x,
    _cholesky_vjp,
    lambda rng: [Sample((_definite(rng)[0],), smooth=False), Sample((-_definite(rng),), smooth=False)],
)


def cholesky(x: TensorLike) -> Tensor:
    """The lower triangular L with x = L Lᵀ, of symmetric positive definite matrices `x: f[..., n, n]`; else NaN.

    Of a matrix that is not symmetric it is that of (x + xᵀ)/2, so is the gradient. Other shapes raise `OpTypeError`.

    >>> ab.cholesky(ab.tensor([[4.0, 2.0], [2.0, 2.0]])).tolist()
    [[2.0, 0.0], [1.0, 1.0]]
    """
    found: Tensor = apply(CHOLESKY, (_symmetric(_matrix("cholesky", x)),))
    return found


def _signs(x: Any) -> Any:
    """For each column of matrices the sign of its largest component."""
    at = np.argmax(np.abs(x), -2, keepdims=True)
    return np.where(np.take_along_axis(x, at, -2) < 0, -1, 1).astype(x.dtype)


def _of_finite(fn: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A decomposition of stacks of matrices; all NaN for those that hold NaN or infinities, of which LAPACK may give
    numbers."""

    def of_all(x: Any) -> Any:
        is_finite = np.isfinite(x).all((-2, -1), keepdims=True)
        found = fn(np.where(is_finite, x, 0))
        return np.where(is_finite.reshape(*x.shape[:-2], *(1,) * (found.ndim - x.ndim + 2)), found, np.nan)

    return of_all


@_of_finite
def _eigh(x: Any) -> Any:
    values, vectors = np.linalg.eigh(x)
    return np.concatenate([values[..., None], vectors * _signs(vectors)], -1)


def _gaps(x: Any) -> Any:
    """1 / (x_j - x_i) of the numbers of the last axis: f[..., i, j], 0 on the diagonal."""
    n = x.shape[-1]
    own = equal(_identity(x), 1.0)
    gaps = reshape(x, (*x.shape[:-1], 1, n)) - reshape(x, (*x.shape, 1))
    return where(own, 0.0, 1.0 / where(own, 1.0, gaps))


def _eigh_vjp(g: Any, y: Any, x: tuple[Any, ...], attrs: Attrs) -> tuple[Any, ...]:
    n = y.shape[-2]
    (w, v), (g_w, g_v) = ((z[..., 0], slice_axis(z, -1, 1, n)) for z in (y, g))
    inner = _product(swapped(v), g_v) * _gaps(w)
    return (_symmetric(_product(_scaled(v, g_w) + _product(v, inner), swapped(v))),)


EIGH: Op = _primitive(
    "eigh",
    "eigenvalues of symmetric matrices, the smallest first, as a column, and their eigenvectors, as further columns",
    _eigh,
    lambda x: (*x[:-1], x[-1] + 1),
    _eigh_vjp,
    lambda rng: [Sample((_definite(rng)[0],), smooth=False), Sample((_definite(rng),), smooth=False)],
)


def eigh(x: TensorLike) -> tuple[Tensor, Tensor]:
    """Eigenvalues f[..., n], smallest first, and eigenvectors, columns of f[..., n, n], of symmetric `x: f[..., n, n]`.

    Of a matrix that is not symmetric they are those of (x + xᵀ)/2. The largest component of each eigenvector is
    positive. The derivative of eigenvectors is infinite or NaN where eigenvalues are equal. All are NaN of a matrix
    that holds NaN or infinities. Raises `OpTypeError` for other shapes.

    >>> values, vectors = ab.eigh(ab.tensor([[2.0, 0.0], [0.0, 1.0]]))
    >>> values.numpy(), vectors.tolist()
    (array([1., 2.], dtype=float32), [[0.0, 1.0], [1.0, 0.0]])
    """
    both = apply(EIGH, (_symmetric(_matrix("eigh", x)),))
    return both[..., 0], slice_axis(both, -1, 1, both.shape[-2])


def _flat(parts: Sequence[Any], lead: tuple[int, ...]) -> Any:
    return np.concatenate([np.reshape(x, (*lead, -1)) for x in parts], -1)


def _cut(x: Any, *shapes: tuple[int, ...]) -> list[Any]:
    """A vector, the last axis, as values of these shapes, which follow one another in it."""
    start, found = 0, []
    for shape in shapes:
        found.append(reshape(slice_axis(x, -1, start, math.prod(shape)), (*x.shape[:-1], *shape)))
        start += math.prod(shape)
    return found


def _of_svd(x: Any) -> tuple[tuple[int, ...], ...]:
    m, n = x.shape[-2:]
    return (m, min(m, n)), (min(m, n),), (min(m, n), n)


@_of_finite
def _svd(x: Any) -> Any:
    u, s, vh = np.linalg.svd(x, full_matrices=False)
    signs = _signs(vh.swapaxes(-1, -2))
    return _flat((u * signs, s, vh * signs.swapaxes(-1, -2)), x.shape[:-2])


def _svd_vjp(g: Any, y: Any, x: tuple[Any, ...], attrs: Attrs) -> tuple[Any, ...]:
    """As of `torch.linalg.svd`, of real matrices."""
    (u, s, vh), (g_u, g_s, g_vh) = (_cut(z, *_of_svd(x[0])) for z in (y, g))
    v, g_v = swapped(vh), swapped(g_vh)
    gaps = _gaps(s * s)
    inner = [_product(swapped(a), b) for a, b in ((u, g_u), (v, g_v))]
    of_u, of_v = ((z - swapped(z)) * gaps for z in inner)
    k = s.shape[-1]
    column = reshape(s, (*s.shape, 1))
    middle = _scaled(of_u, s) + of_v * column + reshape(g_s, (*s.shape, 1)) * _identity(s)
    total = _product(u, middle, vh)
    if u.shape[-2] > k:
        total = total + _product(_scaled(g_u - _product(u, inner[0]), 1.0 / s), vh)
    if v.shape[-2] > k:
        total = total + _product(_scaled(u, 1.0 / s), swapped(g_v - _product(v, inner[1])))
    return (total,)


SVD: Op = _primitive(
    "svd",
    "left singular vectors, singular values and right singular vectors, one behind the other",
    _svd,
    lambda x: (*x[:-2], min(x[-2:]) * (x[-2] + 1 + x[-1])),
    _svd_vjp,
    lambda rng: [Sample((rng.normal(size=shape),)) for shape in ((3, 2), (2, 3), (2, 2, 2))],
)


def svd(x: TensorLike) -> tuple[Tensor, Tensor, Tensor]:
    """u f[..., m, k], s f[..., k] and vh f[..., k, n] with x = u diag(s) vh, of `x: f[..., m, n]`, k the less of m, n.

    As `numpy.linalg.svd` without `full_matrices`: s ≥ 0 falls. The largest component of each row of vh is positive.
    Derivatives are infinite or NaN where singular values are equal. All are NaN of a matrix that holds NaN or
    infinities. Raises `OpTypeError` for fewer axes.

    >>> u, s, vh = ab.svd(ab.tensor([[3.0, 0.0], [0.0, -4.0]]))
    >>> s.numpy(), vh.tolist()
    (array([4., 3.], dtype=float32), [[0.0, 1.0], [1.0, 0.0]])
    """
    x = _matrix("svd", x, square=False)
    u, s, vh = _cut(apply(SVD, (x,)), *_of_svd(x))
    return u, s, vh


def _qr_vjp(g: Any, y: Any, x: tuple[Any, ...], attrs: Attrs) -> tuple[Any, ...]:
    m, n = x[0].shape[-2:]
    (q, r), (g_q, g_r) = (_cut(z, (m, n), (n, n)) for z in (y, g))
    inner = triu(_product(triu(g_r), swapped(r)) - _product(swapped(q), g_q))
    both = inner + swapped(inner)
    both = both - both * _identity(r) * 0.5
    return (swapped(apply(SOLVE, (r, swapped(g_q + _product(q, both))))),)


QR: Op = _primitive(
    "qr",
    "the orthogonal and the upper triangular factor of matrices with no more columns than rows, one behind the other",
    lambda x: _flat(np.linalg.qr(x), x.shape[:-2]),
    lambda x: (*x[:-2], x[-1] * (x[-2] + x[-1])),
    _qr_vjp,
    lambda rng: [Sample((rng.normal(size=shape),)) for shape in ((3, 2), (2, 2), (2, 3, 2))],
)


def qr(x: TensorLike) -> tuple[Tensor, Tensor]:
    """q f[..., m, k] with orthonormal columns and upper triangular r f[..., k, n] with x = q r, of `x: f[..., m, n]`.

    k is the less of m and n. Signs are those of LAPACK: where elements below the diagonal are to be cleared, r's is
    opposite to that of the element it takes the place of. Raises `OpTypeError` for fewer axes.

    >>> q, r = ab.qr(ab.tensor([[3.0], [4.0]]))
    >>> r.numpy().round(4).tolist()
    [[-5.0]]
    """
    x = _matrix("qr", x, square=False)
    m, n = x.shape[-2:]
    k = min(m, n)
    q, r = _cut(apply(QR, (slice_axis(x, -1, 0, k),)), (m, k), (k, k))
    if n > k:
        r = concat([r, _product(swapped(q), slice_axis(x, -1, k, n - k))], -1)
    return q, r
