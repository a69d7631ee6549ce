"""Random draws as pure functions of a key: the stream of the example, the number of the draw, the element.

Bits are SplitMix64 (Steele, Lea & Flood 2014, Fast splittable pseudorandom number generators, fig. 18) over
stream + draw, then over element. A draw therefore depends on nothing but its key. A third operand says which element
of all is the first of a row, so that rows are drawn as the whole of them is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..base.types import Type, tensor_type
from .declare import Attrs, Op, Sample, apply, declare
from .elementwise import LESS_EQUAL, cast, no_gradient

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_ELEMENT = np.uint64(0xD1B54A32D192ED03)


def mix(z: Any) -> Any:
    """The finaliser of SplitMix64, on arrays of uint64."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _bits(key: tuple[Any, ...], shape: tuple[int, ...], per_element: int) -> Any:
    """Bits for the elements of a value of this shape. `key`: stream, draw, and what the first element counts as."""
    stream, draw, first = np.broadcast_arrays(*(np.asarray(k, np.int64) for k in (*key, 0)[:3]))
    mixed = mix(
        np.ascontiguousarray(stream).view(np.uint64)
        + (np.ascontiguousarray(draw).view(np.uint64) + np.uint64(1)) * _GOLDEN
    )
    count = math.prod(shape) * per_element
    elements = (np.arange(1, count + 1, dtype=np.uint64) * _ELEMENT).reshape(*shape, per_element)
    before = np.ascontiguousarray(first).view(np.uint64) * (np.uint64(per_element) * _ELEMENT)
    return mix((mixed + before).reshape(stream.shape + (1,) * (len(shape) + 1)) + elements)


def _to_unit(bits: Any, dtype: np.dtype[Any]) -> Any:
    if dtype == np.float32:
        return ((bits >> np.uint64(40)).astype(np.float32)) * np.float32(2.0**-24)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _uniform(*operands: Any) -> Any:
    *key, shape, dtype = operands
    return _to_unit(_bits(tuple(key), shape, 1)[..., 0], dtype)


def _normal(*operands: Any) -> Any:
    *key, shape, dtype = operands
    u = _to_unit(_bits(tuple(key), shape, 2), np.dtype(np.float64))
    radius = np.sqrt(-2.0 * np.log1p(-u[..., 0]))
    return (radius * np.cos(2.0 * math.pi * u[..., 1])).astype(dtype)


def _infer(types: Sequence[Type], attrs: Attrs) -> Type:
    return tensor_type(attrs[1], (*types[0].shape, *attrs[0]))


_F64 = np.dtype(np.float64)
UNIFORM = declare(
    "uniform",
    "uniform draws from [0, 1)",
    _infer,
    _uniform,
    no_gradient,
    "random",
    dtypes="keep",
    samples=lambda rng: [
        Sample((5, 0), ((3, 2), _F64), smooth=False),
        Sample((5, 1), ((), _F64), smooth=False),
        Sample((5, 1, 4), ((3,), _F64), smooth=False),
    ],
)
NORMAL = declare(
    "normal",
    "standard normal draws (Box & Muller 1958)",
    _infer,
    _normal,
    no_gradient,
    "random",
    dtypes="keep",
    samples=lambda rng: [Sample((5, 0), ((3,), _F64), smooth=False)],
)


def _of_rows(op: Op) -> Op:
    """The same draws for as many rows as a value has; the shape of each is an attribute."""

    def body(like: Any, stream: Any, draw: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        key: tuple[Any, ...] = (stream, draw)
        if like.level > draw.level:  # a row of what is drawn as one
            key += (like._list_positions(like.level) * math.prod(shape),)
        return apply(op, key, ((*(like.shape[:-1] if shape else like.shape), *shape), dtype))

    def lead(ndims: Sequence[int], shared: Sequence[bool], attrs: Attrs) -> tuple[bool, ...] | None:
        return (True, False, False) if ndims[0] == 1 + bool(attrs[0]) and not shared[0] else None

    return declare(
        f"{op.name} rows",
        f"{op.doc} for each row of a value, of which nothing else is read",
        dtypes="keep",
        body=body,
        lead=lead,
        samples=lambda rng: [
            Sample((np.zeros(3), 5, 0), ((), _F64), smooth=False),
            Sample((np.zeros((3, 1)), 5, 0), ((2,), _F64), smooth=False),
        ],
    )


ROWS = {op: _of_rows(op) for op in (UNIFORM, NORMAL)}
"""Of each of these what draws rows."""


def _dropout_body(x: Any, stream: Any, draw: Any, p: float) -> Any:
    key: tuple[Any, ...] = (stream, draw)
    if x.level > draw.level:  # a row of a value that is drawn for as one
        key += (x._list_positions(x.level) * math.prod(x.shape),)
    kept = apply(LESS_EQUAL, (p, apply(UNIFORM, key, (x.shape, x.dtype))))
    return x * (cast(kept, x.dtype) * (1.0 / (1.0 - p)))


def _dropout_lead(ndims: Sequence[int], shared: Sequence[bool], attrs: Attrs) -> tuple[bool, ...] | None:
    return None if shared[0] or not ndims[0] else (True, False, False)


DROPOUT = declare(
    "dropout",
    "elements set to zero with probability p, the others divided by 1 - p",
    dtypes="keep",
    body=_dropout_body,
    lead=_dropout_lead,
    samples=lambda rng: [Sample((rng.normal(size=(3, 2)), 7, 1), (0.5,)), Sample((rng.normal(size=4), 7, 2), (0.25,))],
)
