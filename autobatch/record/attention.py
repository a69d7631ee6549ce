"""`attention` of one example: lists and matrices of any lengths as one node; in cells, of lists or of fixed shapes."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ..base.errors import OpTypeError, op_error, user_error
from ..base.types import LEADING, Dim, Type, broadcast_shapes, promote, tensor_type
from ..ir.graph import NODE
from ..ir.trace import Builder
from ..ir.tracers import StackedTracer, TracedList
from ..ops.attention import ATTENTION, attended, fixed_attention
from ..ops.elementwise import where
from ..ops.movement import broadcast_to, reshape, transpose
from ..ops.value import Tensor, TensorLike
from ..schedule.structures import EACH, KERNEL, ONE, PER_ELEMENT, Result, Slot
from .links import shared_row, value_number
from .nodes import write
from .op_signatures import signatures
from .random import dropout
from .recorder import tensor
from .reductions import stack
from .signature import Signature
from .tape import current_tape, state
from .tensor import RecordedTensor
from .views import laid_out

Rows = TensorLike | Iterable[TensorLike]

_EXPECTED = "q: f[n, d], keys: f[m, d], values: f[m, e], or with an axis of heads f[n, heads, d] and so on"


def attention(
    q: Rows,
    keys: Rows,
    values: Rows,
    mask: TensorLike | None = None,
    causal: bool = False,
    scale: float | None = None,
    dropout_p: float = 0.0,
) -> Tensor:
    """Scaled dot-product attention: softmax(scale q keysᵀ + mask) values (Vaswani et al. 2017, eq. 1).

    Queries, and keys with their values, are rows of any number, of matrices or lists of vectors; examples of all
    lengths share one launch, without padding. No array of queries × keys is made, forward or backward (Rabe & Staats
    2021; Dao et al. 2022), but of a floating mask, which is broadcast to all of them.

    Args:
        q: f[n, d], a list of vectors, f[n, heads, d], or one query f[d].
        keys: f[m, d] or f[m, heads, d].
        values: f[m, e] or f[m, heads, e].
        mask: broadcasts to [n, m], or [heads, n, m]. A boolean one says which keys a query attends to; a floating one
            is added to the scaled products.
        causal: query i attends to keys 0 … i only.
        scale: 1 / sqrt(d) unless given.
        dropout_p: probability with which a weight is set to 0, the others being divided by 1 - dropout_p; in any mode,
            as PyTorch's. The weights are then an array of queries × keys, and lengths do not share launches.

    Returns f[n, e], f[n, heads, e], or f[e] for one query. As in PyTorch's `scaled_dot_product_attention`, where heads
    come first, a query that may attend to no key has a result of zeros. Raises `OpTypeError` for shapes that do not
    fit, and where there are queries but no keys.

    >>> ab.attention(ab.ones((2, 4)), ab.ones((3, 4)), ab.ones((3, 5))).shape
    (2, 5)
    >>> ab.attention([1.0, 0.0], [[9.0, 0.0], [0.0, 9.0]], [[1.0], [0.0]], mask=np.array([False, True])).numpy()
    array([0.], dtype=float32)
    """
    if isinstance(scale, Tensor):
        raise op_error("attention", "scale is a number", got=str(scale), repair="multiply q by it, and pass scale=1.0")
    x, k, v = _of_one_dtype([_rows(x) for x in (q, keys, values)])
    if x.shape == (0,) and k.ndim > 1:  # an empty list
        x = reshape(x, (0, *k.shape[1:]))
    _check(x, k, v)
    factor = 1 / math.sqrt(max(k.shape[-1], 1)) if scale is None else float(scale)
    bias = None if mask is None else _bias(mask, x, k)
    if dropout_p:
        return _dropped(bool(causal), factor, x, k, v, bias, dropout_p)
    found: Tensor = (_recorded if state.builder is None else _traced)(bool(causal), factor, x, k, v, bias)
    return found


def _dropped(causal: bool, scale: float, q: Any, keys: Any, values: Any, bias: Any, p: float) -> Tensor:
    """Attention some of whose weights are dropped: of values of fixed shape."""
    if any(isinstance(x, StackedTracer) for x in (q, keys, values)):
        what = "attention: in a cell, no weights are dropped between lists"
        raise user_error(OpTypeError, what, repair="call ab.attention outside of the cell")
    found: Tensor = fixed_attention(causal, scale, q, keys, values, bias, lambda w: dropout(w, p, training=True))
    return found


def _rows(x: Any) -> Any:
    """A value: lists of values are stacked."""
    if isinstance(x, Tensor):
        return x
    if isinstance(x, Iterator):
        x = list(x)
    is_list = isinstance(x, TracedList) or (isinstance(x, list | tuple) and any(isinstance(e, Tensor) for e in x))
    return stack(x if isinstance(x, TracedList) else [tensor(e) for e in x]) if is_list else x


def _of_one_dtype(xs: list[Any]) -> list[Any]:
    wide = any(isinstance(x, Tensor) and x.dtype == np.float64 for x in xs)
    found = []
    for x in xs:
        is_plain = not isinstance(x, Tensor)
        found.append(tensor(x, np.float64 if wide and is_plain else None) if is_plain else x)
    dtype = functools.reduce(promote, [x.dtype for x in found])
    if dtype.kind != "f":
        got = ", ".join(str(x._type) for x in found)
        raise op_error("attention", "queries, keys and values are no floating numbers", got=got)
    return [x if x.dtype == dtype else x.astype(dtype) for x in found]


def _check(q: Any, keys: Any, values: Any) -> None:
    """Raise unless the shapes fit."""
    got = ", ".join(str(x._type) for x in (q, keys, values))
    ndim = keys.ndim
    if ndim not in (2, 3) or values.ndim != ndim or q.ndim not in (ndim, 1 if ndim == 2 else ndim):
        raise op_error("attention", "ranks do not fit", expected=_EXPECTED, got=got)
    if keys.shape[0] != values.shape[0]:
        two_lists = isinstance(keys.shape[0], Dim) and isinstance(values.shape[0], Dim)
        repair = (
            "pass one list of pairs, and attend to [k for k, _ in pairs], [v for _, v in pairs]" if two_lists else ""
        )
        raise op_error("attention", "there are not as many values as keys", expected=_EXPECTED, got=got, repair=repair)
    if q.shape[-1] != keys.shape[-1]:
        raise op_error("attention", "queries and keys differ in width", expected=_EXPECTED, got=got)
    if ndim == 3 and not q.shape[1] == keys.shape[1] == values.shape[1]:
        raise op_error("attention", "the numbers of heads differ", expected=_EXPECTED, got=got)
    if keys.shape[0] == 0 and q.shape[0] != 0:
        raise op_error("attention", "there are no keys to attend to", got=got, repair="guard the call with an if")


# Masks.


def _bias(mask: Any, q: Any, keys: Any) -> Any:
    """What is added to the scores: floating, of a shape that broadcasts to those of the pairs."""
    if isinstance(mask, StackedTracer):
        mask = mask._each
    elif not isinstance(mask, Tensor):
        mask = np.asarray(mask)
    if mask.dtype.kind not in "bf":
        repair = "mask != 0 is a boolean one"
        raise op_error("attention", "a mask is boolean or floating", got=str(mask.dtype), repair=repair)
    pairs = (keys.shape[0],) if q.ndim < keys.ndim else (q.shape[0], keys.shape[0])
    pairs = (q.shape[1], *pairs) if q.ndim == 3 else pairs
    is_of_list = isinstance(keys, StackedTracer)
    if not is_of_list and (len(mask.shape) > len(pairs) or broadcast_shapes(mask.shape, pairs) != pairs):
        raise op_error("attention", "the mask does not broadcast", expected=str(pairs), got=str(mask.shape))
    if isinstance(mask, np.ndarray):
        return (np.where(mask, 0, -np.inf) if mask.dtype.kind == "b" else mask).astype(q.dtype)
    bias = where(mask, 0.0, -math.inf) if mask.dtype.kind == "b" else mask
    return bias.astype(q.dtype)


def _in_pairs(bias: Any, n: int, m: int) -> Any:
    """A bias as f[n m, 1] or f[n m, heads], the pairs query by query."""
    if len(bias.shape) < 3 or bias.shape[0] == 1:
        bias = reshape(bias, bias.shape[-2:])
        return reshape(_repeated(bias, (n, m)), (n * m, 1))
    h = bias.shape[0]
    return reshape(transpose(_repeated(bias, (h, n, m)), (1, 2, 0)), (n * m, h))


def _repeated(x: Any, shape: tuple[int, ...]) -> Any:
    return np.broadcast_to(x, shape) if isinstance(x, np.ndarray) else broadcast_to(x, shape)


# Examples.


def _recorded(causal: bool, scale: float, q: Any, keys: Any, values: Any, bias: Any) -> Tensor:
    tape = current_tape()
    operands = [q, keys, values]
    if bias is not None:
        n, m = 1 if q.ndim == 1 else q.shape[0], keys.shape[0]
        if isinstance(bias, np.ndarray):
            h = bias.shape[0] if bias.ndim == 3 else 1
            each = np.broadcast_to(bias, (h, n, m)).transpose(1, 2, 0).reshape(n * m, h)
            operands.append(tensor(each, q.dtype))
        else:
            operands.append(_in_pairs(bias, n, m))
    rows = [laid_out(x if isinstance(x, RecordedTensor) else shared_row(x, tape), LEADING) for x in operands]
    key = (ATTENTION, causal, scale, *(x._type for x in rows))
    hit = tape.cache.get(key)
    if hit is None:
        elements = tuple(x._type if x.ndim == 1 else tensor_type(x.dtype, x.shape[1:]) for x in rows)
        is_one = q.ndim == 1
        signature = _signature(is_one, elements, causal, scale, tape.cache is tape.caches[True])
        type = tensor_type(q.dtype, (*q.shape[:-1], values.shape[-1]))
        hit = tape.cache[key] = tape.signature_number(signature), type
    ids = [value_number(x, tape) for x in rows]
    return write(tape, hit[0], ids, (hit[1],))[0]


def _signature(is_one: bool, elements: tuple[Type, ...], causal: bool, scale: float, frozen: bool) -> Signature:
    """The signature for queries of these types, or one query, to keys, values and a bias of these types."""
    key = (ATTENTION, is_one, elements, causal, scale.hex(), frozen)
    found = signatures.get(key)
    if found is None:
        numbers = (NODE, 1, 1, 2) if is_one else (1, 2, 2, 3)
        builder = Builder()
        inputs = [builder.input("rows", k, type, numbers[k]) for k, type in enumerate(elements)]
        lists = (numbers[0], numbers[1], *numbers[3 : len(elements)])
        result = attended(lists, causal, scale, *inputs)
        graph = builder.finish([result])
        rows = [tensor_type(type.dtype, (1, *type.shape)) for type in elements]
        slots = [Slot(EACH, type, number) for type, number in zip(rows, numbers, strict=False)]
        width = math.prod(result.shape)
        made = Result(width, result.dtype, PER_ELEMENT, 0, 1)
        if is_one:
            slots[0], made = Slot(ONE, elements[0]), Result(width, result.dtype)
        found = signatures[key] = (
            Signature(
                name="attention",
                kind=KERNEL,
                slots=tuple(slots),
                results=(made,),
                graph=graph,
                attrs=(causal, scale),
                frozen=frozen,
            ),
            elements[0],
        )
    return found[0]


# Cells.


def _traced(causal: bool, scale: float, q: Any, keys: Any, values: Any, bias: Any) -> Any:
    """In a cell: between lists, or values of fixed shape."""
    n, m = (x._each.level if isinstance(x, StackedTracer) else 0 for x in (q, keys))
    if not m and not n:
        return fixed_attention(causal, scale, q, keys, values, bias)
    if not m:
        if causal or bias is not None:
            raise op_error(
                "attention",
                "queries of a list, and keys that are none, take no mask in a cell",
                repair="call ab.attention outside of the cell",
            )
        return StackedTracer(fixed_attention(False, scale, q._each, keys, values))
    if not isinstance(values, StackedTracer):
        raise op_error("attention", "keys are a list of any length, and values are not", got=str(values._type))
    k, v = keys._each, values._each
    if bias is not None and (q.ndim != 1 or getattr(bias, "level", 0) != m):
        raise op_error(
            "attention",
            "between lists in a cell a mask is that of one query, a list of numbers",
            repair="call ab.attention outside of the cell",
        )
    if n:
        return StackedTracer(attended((n, m), causal, scale, q._each, k, v))
    if q.ndim == 1:
        return attended((0, m) if bias is None else (0, m, m), causal, scale, q, k, v, bias)
    if causal:
        raise op_error("attention", "fixed queries take no causal mask in a cell", repair="call it outside of the cell")
    return stack([attended((0, m), False, scale, q[i], k, v) for i in range(q.shape[0])])
