"""NumPy's functions of linear algebra and of the order of elements, with NumPy's argument names. `ALGEBRA` is their
table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..base.errors import op_error
from ..ops import decompositions, einsum, elementwise, gathering, matrices, movement, scan, shapes, sorting
from ..ops.declare import as_value, lifted, lifted_all
from .creation import full

Function = Callable[..., Any]


def _sorted_by(fn: Function) -> Function:
    def function(a: Any, axis: Any = -1, stable: Any = None) -> Any:
        a = lifted(a)
        return fn(movement.reshape(a, -1), 0) if axis is None else fn(a, axis)

    return function


def _take_along_axis(arr: Any, indices: Any, axis: Any = -1) -> Any:
    arr, indices = lifted_all(arr, indices)
    if axis is None:
        return gathering.gather(movement.reshape(arr, -1), 0, indices)
    return gathering.gather(arr, axis, indices)


def _cumprod(a: Any, axis: Any = None) -> Any:
    a = lifted(a)
    return scan.cumprod(movement.reshape(a, -1), 0) if axis is None else scan.cumprod(a, axis)


def _cumulative(fn: Function, initial: int) -> Function:
    """A scan that may begin with what it is of no elements."""

    def function(x: Any, /, *, axis: int | None = None, include_initial: bool = False) -> Any:
        found = fn(lifted(x), axis)
        if not include_initial:
            return found
        shape = list(found.shape)
        shape[axis or 0] = 1
        return movement.concat([full(shape, initial, found.dtype), found], axis or 0)

    return function


def _einsum(subscripts: str, *operands: Any, optimize: Any = False) -> Any:
    if not isinstance(subscripts, str):
        raise op_error("einsum", "the labels are not text", got=type(subscripts).__name__, repair='as "ij,jk->ik"')
    return einsum.einsum(subscripts, *lifted_all(*operands))


def _diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    a = lifted(a)
    axes = [k % a.ndim for k in (axis1, axis2)]
    rest = [k for k in range(a.ndim) if k not in axes]
    return matrices.diagonal(movement.transpose(a, (*rest, *axes)), offset)


def _trace(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    return _diagonal(a, offset, axis1, axis2).sum(axis=-1)


def _diag(v: Any, k: int = 0) -> Any:
    v = lifted(v)
    if v.ndim != 1:
        return matrices.diagonal(v, k)
    zeros = lifted(np.zeros(abs(k))).astype(v.dtype)
    rows = movement.concat([v, zeros] if k >= 0 else [zeros, v]) if k else v
    return elementwise.where(np.eye(rows.shape[0], k=k, dtype=bool), movement.reshape(rows, (-1, 1)), 0)


def _cholesky(a: Any, /, *, upper: bool = False) -> Any:
    lower = decompositions.cholesky(lifted(a))
    return lower.mT if upper else lower


def _eigh(a: Any, UPLO: str = "L") -> Any:
    a = lifted(a)
    part = matrices.tril(a) if UPLO.upper() == "L" else matrices.triu(a)
    off = matrices.tril(a, -1) if UPLO.upper() == "L" else matrices.triu(a, 1)
    return decompositions.eigh(part + off.mT)


def _svd(a: Any, full_matrices: bool = True, compute_uv: bool = True) -> Any:
    a = lifted(a)
    if compute_uv and full_matrices and a.shape[-2] != a.shape[-1]:
        repair = "pass full_matrices=False"
        raise op_error("svd", "only as many vectors as there are singular values", got=str(a.shape), repair=repair)
    found = decompositions.svd(a)
    return found if compute_uv else found[1]


def _qr(a: Any, mode: str = "reduced") -> Any:
    if mode not in ("reduced", "r"):
        raise op_error("qr", "not in this mode", got=f"mode={mode!r}", repair="'reduced' and 'r' are there")
    q, r = decompositions.qr(lifted(a))
    return (q, r) if mode == "reduced" else r


ALGEBRA: dict[Function, Function] = {
    np.sort: _sorted_by(sorting.sort),
    np.argsort: _sorted_by(sorting.argsort),
    np.median: lambda a, axis=None, keepdims=False: sorting.median(lifted(a), axis, bool(keepdims)),
    np.take: lambda a, indices, axis=None: gathering.take(lifted(a), indices, axis),
    np.take_along_axis: _take_along_axis,
    np.cumprod: _cumprod,
    np.cumulative_sum: _cumulative(scan.cumsum, 0),
    np.cumulative_prod: _cumulative(scan.cumprod, 1),
    np.einsum: _einsum,
    np.dot: matrices.dot,
    np.kron: lambda a, b: matrices.kron(a, b),
    np.tile: lambda A, reps: shapes.tile(lifted(A), reps),
    np.diagonal: _diagonal,
    np.trace: _trace,
    np.diag: _diag,
    np.linalg.diagonal: lambda x, /, *, offset=0: matrices.diagonal(as_value(x), offset),
    np.linalg.cholesky: _cholesky,
    np.linalg.det: lambda a: decompositions.det(lifted(a)),
    np.linalg.slogdet: lambda a: decompositions.slogdet(lifted(a)),
    np.linalg.inv: lambda a: decompositions.inverse(lifted(a)),
    np.linalg.solve: lambda a, b: decompositions.solve(*lifted_all(a, b)),
    np.linalg.eigh: _eigh,
    np.linalg.eigvalsh: lambda a, UPLO="L": _eigh(a, UPLO)[0],
    np.linalg.svd: _svd,
    np.linalg.svdvals: lambda x, /: _svd(x, compute_uv=False),
    np.linalg.qr: _qr,
}
