"""Ops whose operands vary along two axes: scores of n queries and m keys, and what is computed of them.

The two lengths are data of a node (`ops.pairs`): its signature leaves both out, and nodes of all lengths share a
launch, without padding. These are products of rows and columns, sums of vectors weighted by numbers of pairs,
elementwise ops on pairs with what has a value for each row, each column or the whole, and ops along rows or columns.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..base.types import (
    COLUMNS,
    ELEMENTS,
    INT64,
    LEADING,
    MIDDLE,
    PAIRS,
    PAIRS_TRANSPOSED,
    Type,
    broadcast_shapes,
    default_dtype,
    promote,
    tensor_type,
)
from ..ir.graph import NODE, hashable
from ..ir.trace import Builder, in_range
from ..ops import pairs as lists
from ..ops.declare import Attrs, Op, apply
from ..ops.elementwise import STOP_GRADIENT, carried
from ..ops.linalg import MATMUL
from ..ops.movement import reshape
from ..schedule.structures import EACH, KERNEL, OF_LIST, ONE, Result, Slot
from .layouts import as_operand
from .links import lift, shared_row, value_number
from .nodes import write
from .op_signatures import signatures
from .shared import Shared, youngest_of
from .signature import Signature
from .tape import Recording
from .tensor import RecordedTensor
from .views import laid_out

_OF_PAIRS = (PAIRS, PAIRS_TRANSPOSED)
_NO_FORM = object()


def as_pairs(op: Op, operands: tuple[Any, ...], attrs: Attrs, tape: Recording) -> RecordedTensor | None:
    """The result of an op on values that vary along two axes; None where it has no form for all lengths."""
    layouts = {x._type.layout for x in operands if x.__class__ is RecordedTensor}
    if max(layouts, default=LEADING) == LEADING:
        return None
    kinds = [
        x._type if x.__class__ is RecordedTensor else x if isinstance(x, Shared) else x.__class__ for x in operands
    ]
    key = ("of pairs", op, attrs, *kinds)
    known = tape.cache.get(key)
    if known is _NO_FORM:
        return None
    if known is not None:
        number, type, extents, order = known
        return write(tape, number, [value_number(operands[k], tape) for k in order], (type,), ints=extents)[0]
    form = None
    if op is MATMUL:
        form = _product(*(_lifted(x, operands, tape) for x in operands))
    elif op.lead is carried:
        form = _elementwise(op, operands, attrs, tape)
    elif op.over_list is not None and layouts <= {*_OF_PAIRS}:
        form = _along(op, operands[0], attrs)
    if form is None:
        if not any(isinstance(x, np.ndarray | list | tuple) for x in operands):
            tape.cache[key] = _NO_FORM
        return None
    found = record_form(op, attrs, form, tape)
    if all(x.__class__ is RecordedTensor and any(x is y for y in operands) for x in form.operands):
        order = [next(k for k, y in enumerate(operands) if x is y) for x in form.operands]
        tape.cache[key] = *_known(op, attrs, form, tape), (form.n, form.m), order
    return found


@dataclass(frozen=True, slots=True)
class Form:
    """An op as one on the elements of lists.

    n, m: rows and columns
    operands: values, shared values and numbers; levels: the lists of these, NODE: one for the node
    shape, layout: of the result, which has a value for each element of list `level`
    body: from an element of each operand to one of the result; key: what it depends on beside their types
    """

    n: int
    m: int
    operands: Sequence[Any]
    levels: tuple[int, ...]
    shape: tuple[int, ...]
    layout: int
    level: int
    body: Callable[..., Any]
    key: Any = None


def _axes(layout: int) -> tuple[int, int]:
    """The axes of the rows and of the columns of pairs, counted from the end."""
    return (-2, -1) if layout == PAIRS else (-1, -2)


def _list_of(axis: int, layout: int) -> int:
    """The list that one of the last axes of pairs is of."""
    return lists.ROWS if axis == _axes(layout)[0] else lists.COLUMNS


def _row_axis(type: Type) -> int:
    """The axis of the rows of a value of two or three axes, from the end; 0 where it is none of the last two."""
    if type.layout == COLUMNS:
        return -1
    return -2 if type.layout == MIDDLE or (type.layout == LEADING and type.ndim == 2) else 0


# Matrix products.


def _lifted(x: Any, operands: tuple[Any, ...], tape: Recording) -> Any:
    if not isinstance(x, np.ndarray | list | tuple):
        return x
    array = as_operand(x, operands)
    return lift(array, tape, ELEMENTS if array.ndim == 1 else LEADING)


def _product(a: Any, b: Any) -> Form | None:
    if not all(isinstance(x, RecordedTensor) and x.dtype.kind == "f" and x.ndim for x in (a, b)):
        return None
    types = a._type, b._type
    are_pairs = [type.layout in _OF_PAIRS for type in types]
    is_vector = min(a.ndim, b.ndim) == 1
    if all(are_pairs) or a.shape[-1] != b.shape[-2 if b.ndim > 1 else -1]:
        return None
    if a.shape[:-2] != b.shape[:-2] or (is_vector and max(a.ndim, b.ndim) > 2):
        return None
    dtype = promote(a.dtype, b.dtype)
    a, b = (x if x.dtype == dtype else x.astype(dtype) for x in (a, b))
    if any(are_pairs):
        return _weighted(a, b, are_pairs[0])
    if is_vector or _row_axis(a._type) != -2 or _row_axis(b._type) != -1:
        return None
    n, m = a.shape[-2], b.shape[-1]
    body = functools.partial(_multiplied, lists.PAIRS, a.ndim == 3)
    return Form(n, m, (a, b), (lists.ROWS, lists.COLUMNS), (*a.shape[:-1], m), PAIRS, lists.PAIRS, body)


def _weighted(a: Any, b: Any, is_left: bool) -> Form | None:
    """Numbers of pairs, at the left or the right, times vectors: sums over one of the axes of the pairs."""
    pairs, x = (a, b) if is_left else (b, a)
    kept, summed = (-2, -1) if is_left else (-1, -2)
    if x.ndim == 1:
        x, shape, layout = laid_out(x, ELEMENTS), (pairs.shape[kept],), ELEMENTS
    elif _row_axis(x._type) != (-2 if is_left else -1):
        return None
    elif is_left:
        shape, layout = (*a.shape[:-1], b.shape[-1]), MIDDLE
    else:
        shape, layout = (*a.shape[:-1], b.shape[-1]), COLUMNS
    rows, columns = _axes(pairs._type.layout)
    made, others = (_list_of(axis, pairs._type.layout) for axis in (kept, summed))
    body = functools.partial(_multiplied, made, pairs.ndim == 3)
    n, m = pairs.shape[rows], pairs.shape[columns]
    return Form(n, m, (x, pairs), (others, lists.PAIRS), shape, layout, made, body)


def _multiplied(made: int, has_heads: bool, x: Any, y: Any) -> Any:
    """A product of elements f[h, d] and f[h, d] or f[h], or, without heads, f[d] and f[d] or f[], or both f[]."""
    if has_heads:
        return lists.product_of(made, x, y)
    one = (1, *x.shape) if x.shape else (1, 1)
    found = lists.product_of(made, reshape(x, one), reshape(y, one if made == lists.PAIRS else (1,)))
    return reshape(found, () if made == lists.PAIRS else x.shape)


# Elementwise ops.


def _elementwise(op: Op, operands: tuple[Any, ...], attrs: Attrs, tape: Recording) -> Form | None:
    values = [as_operand(x, operands) if isinstance(x, np.ndarray | list | tuple) else x for x in operands]
    extended = [x for x in values if len(getattr(x, "shape", ()))]
    shape = broadcast_shapes(*(x.shape for x in extended))
    if shape is None or len(shape) not in (2, 3):
        return None
    of_pairs = [x._type for x in extended if isinstance(x, RecordedTensor) and x._type.layout in _OF_PAIRS]
    main = next((type.layout for type in of_pairs if type.shape[-2:] == shape[-2:]), None)
    if len(of_pairs) == len(extended) and all(t.layout == main and t.shape == shape for t in of_pairs):
        return None  # rows of one layout, as others are
    if main is None and not _spans(extended):
        return None
    layout = PAIRS if main is None else main
    found = [_operand(x, shape, layout, tape) if len(getattr(x, "shape", ())) else (x, NODE) for x in values]
    placed = [one for one in found if one is not None]
    if len(placed) < len(found):
        return None
    leads = tuple(x.shape[:-2] if hasattr(x, "shape") else None for x in values)

    def body(*elements: Any) -> Any:
        pairs = zip(elements, leads, strict=True)
        return apply(op, tuple(x if lead is None else reshape(x, lead) for x, lead in pairs), attrs)

    rows, columns = _axes(layout)
    operands, levels = zip(*placed, strict=True)
    return Form(shape[rows], shape[columns], operands, levels, shape, layout, lists.PAIRS, body, leads)


def _spans(values: Sequence[Any]) -> bool:
    """Whether a number for each row meets one for each column."""
    types = [x._type for x in values if isinstance(x, RecordedTensor)]
    has_rows = any(_row_axis(type) == -2 and type.shape[-1] == 1 for type in types)
    return has_rows and any(t.layout == ELEMENTS or (t.layout == COLUMNS and t.shape[-2] == 1) for t in types)


def _operand(x: Any, shape: tuple[int, ...], pairs: int, tape: Recording) -> tuple[Any, int] | None:
    """An operand in the layout in which it meets pairs of a layout, and what it has values for; None where it has
    none."""
    n, m = (1, *x.shape)[-2:]
    axis = _row_axis(x._type) if isinstance(x, RecordedTensor) and len(x.shape) > 1 else 0
    if axis == -2 and (n, m) == (shape[-2], 1):
        layout, level = MIDDLE, _list_of(-2, pairs)
    elif axis == -1 and (n, m) == (1, shape[-1]):
        layout, level = COLUMNS, _list_of(-1, pairs)
    elif (n, m) == shape[-2:] and len(x.shape) > 1:
        layout, level = pairs, lists.PAIRS
    elif n == m == 1:
        layout, level = LEADING, NODE
    elif m == 1:
        layout, level = MIDDLE, _list_of(-2, pairs)
    else:
        layout, level = ELEMENTS if len(x.shape) == 1 else COLUMNS, _list_of(-1, pairs)
    if isinstance(x, Shared):
        return (x if x.operand is not None else shared_row(x, tape), NODE) if level == NODE else None
    return (lift(x, tape, layout) if isinstance(x, np.ndarray) else laid_out(x, layout)), level


# Along rows or columns.


def _along(op: Op, x: Any, attrs: Attrs) -> Form | None:
    """An op along one of the axes of pairs, of which the form over a list takes the place."""
    axis = attrs[0][0] if isinstance(attrs[0], tuple) and len(attrs[0]) == 1 else attrs[0]
    found = op.list_form([-axis], attrs) if axis in (-1, -2) else None
    if found is None:
        return None
    over, more = found
    pairs = x._type.layout
    kept = _list_of(-3 - axis, pairs)
    if over.per_element and over.over_segments is not None and kept != lists.ROWS:
        return None  # a scan goes through what follows one another
    rows, columns = _axes(pairs)
    shape, layout, level = x.shape, pairs, lists.PAIRS
    if not over.per_element:
        keeps, level = attrs[1:2] == (True,), kept
        at = axis + x.ndim
        shape = (*shape[:at], *((1,) if keeps else ()), *shape[at + 1 :])
        layout = ELEMENTS if len(shape) == 1 else MIDDLE if keeps and axis == -1 else COLUMNS

    def body(element: Any) -> Any:
        return apply(over, (element,), ((lists.PAIRS, kept), *more))

    return Form(x.shape[rows], x.shape[columns], (x,), (lists.PAIRS,), shape, layout, level, body, kept)


# Nodes and signatures.


def record_form(op: Op, attrs: Attrs, form: Form, tape: Recording) -> RecordedTensor:
    """Write an op as a node of this form."""
    return _recorded(op, form, *_known(op, attrs, form, tape), tape)


def _known(op: Op, attrs: Attrs, form: Form, tape: Recording) -> tuple[int, Type]:
    """The number of the signature of a form, and the type of its result."""
    kinds = [_kind(x) for x in form.operands]
    key = ("pairs", op, attrs, form.levels, form.shape, form.layout, form.key, *kinds)
    hit: tuple[int, Type] | None = tape.cache.get(key)
    if hit is None:
        signature, element = _signature(op, attrs, form, kinds, tape.cache is tape.caches[True])
        hit = tape.cache[key] = tape.signature_number(signature), tensor_type(element.dtype, form.shape, form.layout)
    return hit


def _kind(x: Any) -> Any:
    """What a signature has to know of an operand."""
    if isinstance(x, RecordedTensor):
        return x._type
    if isinstance(x, Shared):
        return x.operand
    if isinstance(x, bool | np.bool_):
        return "static", bool(x)
    return "i" if isinstance(x, int | np.integer) else "f"


def _recorded(op: Op, form: Form, number: int, type: Type, tape: Recording) -> RecordedTensor:
    """Write the node of a form."""
    ids = [value_number(x, tape) for x in form.operands if isinstance(x, RecordedTensor)]
    kinds = [_kind(x) for x in form.operands]
    ints = [in_range(op, int(x)) for x, kind in zip(form.operands, kinds, strict=True) if kind == "i"]
    floats = [float(x) for x, kind in zip(form.operands, kinds, strict=True) if kind == "f"]
    return write(tape, number, ids, (type,), ints=[form.n, form.m, *ints], floats=floats)[0]


def _signature(op: Op, attrs: Attrs, form: Form, kinds: Sequence[Any], frozen: bool) -> tuple[Signature, Type]:
    """The signature of a form, with the lengths left out, and the type of an element of its result."""
    shared = youngest_of(tuple(kinds))
    cache = signatures if shared is None else shared._signatures
    rows = [
        (k.row, k.width) if level and isinstance(k, Type) else k for k, level in zip(kinds, form.levels, strict=True)
    ]
    key = ("pairs", op, hashable(attrs), form.levels, form.level, form.key, frozen, default_dtype(), *rows)
    found: tuple[Signature, Type] | None = cache.get(key)
    if found is not None:
        return found
    builder = Builder()
    slots: list[Slot] = []
    elements: list[Any] = []
    data = "ii"
    for k, level in zip(kinds, form.levels, strict=True):
        if isinstance(k, Type):
            elements.append(builder.input("rows", len(slots), k.row if level else k, level))
            slots.append(Slot(EACH if level else ONE, k, level))
        elif isinstance(k, Shared):
            elements.append(k._enter(builder))
        elif isinstance(k, str):
            type = tensor_type(INT64 if k == "i" else np.float64, ())
            elements.append(builder.input("data", len(data), type, NODE, weak=True))
            data += k
        else:
            elements.append(k[1])
    graph = builder.finish([form.body(*elements)])
    type = graph.nodes[graph.outputs[0]].type
    signature = Signature(
        name=op.name,
        kind=KERNEL,
        slots=tuple(slots),
        results=(Result(type.width * type.rows, type.dtype, OF_LIST, form.level),),
        graph=graph,
        shared=tuple(builder.shared),
        data=data,
        attrs=attrs,
        frozen=frozen or type.dtype.kind != "f" or op is STOP_GRADIENT,
        is_paired=True,
    )
    cache[key] = signature, type
    return signature, type
