"""Matrix products of every pair of ranks 0 < r ≤ 3, by one primitive on matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..base.errors import OpTypeError, op_error
from ..base.types import COLUMNS, ELEMENTS, LEADING, Type, broadcast_shapes, tensor_type
from .declare import Attrs, Sample, apply, declare
from .movement import reshape, swapped, transpose
from .reduce import LIST_SUM, SUM

if TYPE_CHECKING:
    from .value import Tensor, TensorLike


def _infer_product(types: Sequence[Type], attrs: Attrs) -> Type:
    a, b = types
    if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-2]:
        raise op_error(
            "matmul",
            "inner sizes differ",
            expected="f[..., n, m] @ f[..., m, p]",
            got=f"{a} @ {b}",
            repair="pass w.T, or check the width of the input",
        )
    batch = broadcast_shapes(a.shape[:-2], b.shape[:-2])
    if batch is None:
        raise op_error(
            "matmul",
            "leading axes do not broadcast",
            got=f"{a} @ {b}",
            repair="reshape one operand, or add an axis by None",
        )
    return tensor_type(a.dtype, (*batch, a.shape[-2], b.shape[-1]))


def _product_vjp(g: Any, y: Any, x: tuple[Any, ...], attrs: Attrs) -> tuple[Any, ...]:
    a, b = x
    if len(a.shape) == 2 and len(b.shape) == 3:
        # one matrix for all: its cotangent is one product over the columns of all, not a sum of products
        return apply(PRODUCT, (transpose(_columns(g)), _columns(b))), apply(PRODUCT, (swapped(a), g))
    return apply(PRODUCT, (g, swapped(b))), apply(PRODUCT, (swapped(a), g))


def _columns(x: Any) -> Any:
    """The columns of stacked matrices f[n, m, p] as rows of one: f[n p, m]."""
    n, m, p = x.shape
    return reshape(swapped(x), (n * p, m))


PRODUCT = declare(
    "product",
    "matrix product, leading axes broadcast",
    _infer_product,
    np.matmul,
    _product_vjp,
    "product",
    samples=lambda rng: [
        Sample((rng.normal(size=(2, 3)), rng.normal(size=(3, 4)))),
        Sample((rng.normal(size=(2, 2, 3)), rng.normal(size=(2, 3, 2)))),
        Sample((rng.normal(size=(2, 2, 3)), rng.normal(size=(3, 2)))),
    ],
)


def _matmul_body(a: Any, b: Any) -> Any:
    if a.ndim == 0 or b.ndim == 0:
        raise op_error(
            "matmul", "a value of rank 0 is no vector or matrix", got=f"{a.shape} @ {b.shape}", repair="use *"
        )
    inner = a.shape[-1], b.shape[-1 if b.ndim == 1 else -2]
    if inner[0] != inner[1]:
        shown = f"{a._type} @ {b._type}"
        raise op_error(
            "matmul",
            "inner sizes differ",
            expected="f[n, m] @ f[m]" if b.ndim == 1 else "f[n, m] @ f[m, p]",
            got=shown,
            repair="pass w.T, or check the width of the input",
        )
    if a.ndim == 1 and b.ndim == 1:
        return apply(SUM, (a * b,), ((-1,), False))
    left = reshape(a, (1, *a.shape)) if a.ndim == 1 else a
    right = reshape(b, (*b.shape, 1)) if b.ndim == 1 else b
    y = apply(PRODUCT, (left, right))
    shape = y.shape
    if a.ndim == 1:
        shape = (*shape[:-2], shape[-1])
    if b.ndim == 1:
        shape = shape[:-1]
    return reshape(y, shape)


def _lead(ndims: Sequence[int], shared: Sequence[bool], attrs: Attrs) -> tuple[bool, ...] | None:
    is_lead = ndims[0] >= 2 and not shared[0] and (ndims[1] == 1 or (ndims[1] == 2 and shared[1]))
    return (True, False) if is_lead else None


MOST_OUTER = 1024
"""Most elements of the outer product of two rows, over which a product of two matrices is a sum."""


def _over_rows(types: Sequence[Type], attrs: Attrs) -> Any:
    """A sum over the inner axis where that is the one of rows, on both sides."""
    a, b = types
    if a.ndim > 2 or b.ndim > 2 or not _is_inner(a, COLUMNS) or not _is_inner(b, LEADING):
        return None
    if min(a.width, b.width) == 1:
        return lambda x, y: apply(LIST_SUM, (x * y,), (1,))
    if a.width * b.width > MOST_OUTER:
        return None
    return lambda x, y: apply(LIST_SUM, (reshape(x, (-1, 1)) * y,), (1,))


def _is_inner(x: Type, layout: int) -> bool:
    return x.layout == (ELEMENTS if x.ndim == 1 else layout)


def _samples(rng: np.random.Generator) -> list[Sample]:
    shapes: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
        ((3,), (3,)),
        ((3,), (3, 2)),
        ((2, 3), (3,)),
        ((2, 3), (3, 4)),
        ((2, 2, 3), (2, 3, 2)),
        ((2, 2, 3), (3,)),
        ((2, 2, 3), (3, 2)),
        ((3,), (2, 3, 2)),
    ]
    good = [Sample((rng.normal(size=a), rng.normal(size=b))) for a, b in shapes]
    wrong = [Sample((np.ones((7, 4)), np.ones(3)), error=OpTypeError), Sample((np.ones(3), 2.0), error=OpTypeError)]
    return good + wrong


MATMUL = declare(
    "matmul", "matrix product as NumPy's @", body=_matmul_body, lead=_lead, over_rows=_over_rows, samples=_samples
)


def matmul(a: TensorLike, b: TensorLike) -> Tensor:
    """Matrix product of `a` and `b` as NumPy's `@`, for ranks 1 to 3.

    >>> ab.matmul(ab.ones((2, 3)), ab.ones(3)).numpy()
    array([3., 3.], dtype=float32)
    """
    return apply(MATMUL, (a, b))
