"""Ops over the elements of a list: the ragged axis.

Inside a single graph a list operand is one value *per element*; ops on it run on every element, and the ops of this
file lead back from the elements to the node. In a batched graph all elements of all nodes lie behind each other and
`segments` tells the node of each, so that each op becomes a plain op on rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..base.types import Type, tensor_type
from .declare import Attrs, Op, Sample, apply, declare
from .elementwise import cast, equal, float_dtype
from .index import SCATTER_ADD, TAKE
from .reduce import summable


def _same(types: Sequence[Type], attrs: Attrs) -> Type:
    return types[0]


def _sum(xs: list[Any], k: int) -> Any:
    total = np.array(xs[0])
    for x in xs[1:]:
        total = total + x
    return total


def _max(xs: list[Any], k: int) -> Any:
    return np.max(np.stack(xs), axis=0)


def _max_vjp(g: Any, y: Any, x: tuple[Any, ...], attrs: Attrs) -> tuple[Any, ...]:
    chosen = cast(equal(x[0], y), g.dtype)
    return (chosen * (g / apply(LIST_SUM, (chosen,), attrs)),)


def _list_samples(rng: np.random.Generator) -> list[Sample]:
    inf = np.inf
    return [
        Sample(([rng.normal(size=2) for _ in range(3)],), (1,)),
        Sample(([rng.normal(size=())],), (1,)),
        Sample(([rng.normal(size=(3, 2)) for _ in range(2)],), (1,)),
        Sample(([np.array([np.nan, inf, 0.0, -0.0]), np.array([1.0, -inf, -0.0, -0.0])],), (1,), smooth=False),
    ]


def _spread_samples(rng: np.random.Generator) -> list[Sample]:
    """The second operand is the list that the value is spread over."""
    return [
        Sample((rng.normal(size=2), [rng.normal(size=2) for _ in range(3)]), (1,)),
        Sample((rng.normal(size=(3, 2)), [rng.normal(size=(3, 2))]), (1,)),
    ]


LIST_SUM: Op = declare(
    Op(
        "list_sum",
        "sum over the elements of a list; truth values are counted",
        _same,
        _sum,
        lambda g, y, x, a: (apply(SPREAD, (g,), a),),
        "list",
        dtypes="count",
        samples=_list_samples,
    )
)
SPREAD: Op = declare(
    Op(
        "spread",
        "a value of the node given to every element of its list",
        _same,
        None,
        lambda g, y, x, a: (apply(LIST_SUM, (g,), a),),
        "list",
        dtypes="keep",
        samples=_spread_samples,
    )
)
LIST_MAX = declare(
    Op(
        "list_max",
        "largest over the elements of a list; equal elements share the derivative",
        _same,
        _max,
        _max_vjp,
        "list",
        dtypes="keep",
        samples=_list_samples,
    )
)


def _segment_max(x: Any, segments: Any, n: int) -> Any:
    lowest = -np.inf if x.dtype.kind == "f" else (np.iinfo(x.dtype).min if x.dtype.kind == "i" else False)
    result = np.full((n, *x.shape[1:]), lowest, x.dtype)
    np.maximum.at(result, segments, x)
    return result


def _infer_segment_max(types: Sequence[Type], attrs: Attrs) -> Type:
    return tensor_type(types[0].dtype, (attrs[0], *types[0].shape[1:]))


def _segment_max_vjp(g: Any, y: Any, x: tuple[Any, ...], attrs: Attrs) -> tuple[Any, ...]:
    value, segments = x
    chosen = cast(equal(value, apply(TAKE, (y, segments))), g.dtype)
    ties = apply(SCATTER_ADD, (chosen, segments), attrs)
    return chosen * apply(TAKE, (g / ties, segments)), None


SEGMENT_MAX = declare(
    Op(
        "segment_max",
        "largest of the rows of each segment",
        _infer_segment_max,
        _segment_max,
        _segment_max_vjp,
        "batched",
        dtypes="keep",
        samples=lambda rng: [Sample((rng.normal(size=(4, 2)), np.array([0, 0, 1, 1])), (2,))],
    )
)


def _mean_body(x: Any, k: int) -> Any:
    total = apply(LIST_SUM, (summable(x),), (k,))
    return cast(total / cast(x._list_length(k), total.dtype), float_dtype(x.dtype))


LIST_MEAN = declare(
    Op(
        "list_mean",
        "mean over the elements of a list",
        batch="list",
        body=_mean_body,
        dtypes="keep",
        samples=_list_samples,
    )
)
