"""Reductions of rows by segments, and rows looked up by computed numbers, as nodes whose two lengths are data.

Such a node has a list of segments (or of the rows of a table) and one of rows that each have the number of one of them:
the rows and the columns of `pairs`. Its signature leaves both numbers out, so that graphs of all sizes share a launch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..base.types import ELEMENTS, LEADING
from ..ir.graph import NODE
from ..ops import pairs as lists
from ..ops.declare import Attrs, Op
from ..ops.elementwise import where
from ..ops.index import LOOKUP
from ..ops.segments import FORMULAS, PER_ROW, SEGMENTS, between_lists, within
from .layouts import laid_as_rows
from .lengths import varies
from .links import lift, shared_row
from .op_signatures import signatures
from .pairs import Form, record_form
from .shared import Shared
from .tape import Recording
from .tensor import RecordedTensor
from .views import laid_out

NAMES = {op: name for name, op in SEGMENTS.items()}


def as_segments(op: Op, operands: tuple[Any, ...], attrs: Attrs, tape: Recording) -> RecordedTensor | None:
    """The result of an op of `ops.segments`, or of a lookup, on a value of this example; None where it is none."""
    if op is LOOKUP:
        return _looked_up(op, operands, tape)
    name = NAMES.get(op)
    if name is None or not isinstance(operands[0], RecordedTensor):
        return None
    x, index = operands
    (n,) = attrs
    x = _as_rows(x)
    is_known = isinstance(index, np.ndarray)
    if isinstance(index, Shared):
        index = shared_row(index, tape)
    index = lift(index, tape, ELEMENTS) if is_known else _as_rows(laid_as_rows(index, operands, tape))

    def body(row: Any, number: Any, n_segments: Any) -> Any:
        return FORMULAS[name](row, between_lists(number if is_known else within(number, n_segments)))

    of_rows = name == PER_ROW
    shape = x.shape if of_rows else (n, *x.shape[1:])
    made = lists.COLUMNS if of_rows else lists.ROWS
    levels = (lists.COLUMNS, lists.COLUMNS, NODE)
    layout = ELEMENTS if len(shape) == 1 else LEADING
    form = Form(n, x.shape[0], (x, index, n), levels, shape, layout, made, body, ("segments", is_known))
    return record_form(op, (), form, tape)


def _looked_up(op: Op, operands: tuple[Any, ...], tape: Recording) -> RecordedTensor | None:
    """Rows by numbers that are computed, where both numbers of rows vary."""
    x, index, *others = operands
    if others or not all(isinstance(o, RecordedTensor) and o.ndim for o in operands) or index.ndim != 1:
        return None
    if not varies(signatures, (LOOKUP, x.dtype, x.shape[1:]), (x.shape[0], index.shape[0])):
        return None
    n, m = x.shape[0], index.shape[0]

    def body(row: Any, number: Any, n_rows: Any) -> Any:
        return between_lists(within(where(number < 0, number + n_rows, number), n_rows)).take(row)

    shape = (m, *x.shape[1:])
    layout = ELEMENTS if len(shape) == 1 else LEADING
    x, index = _as_rows(x), _as_rows(laid_as_rows(index, operands, tape))
    form = Form(n, m, (x, index, n), (lists.ROWS, lists.COLUMNS, NODE), shape, layout, lists.COLUMNS, body, "rows")
    return record_form(op, (), form, tape)


def _as_rows(x: RecordedTensor) -> RecordedTensor:
    """A value whose first axis is that of its rows."""
    return laid_out(x, ELEMENTS if x.ndim == 1 else LEADING)
