"""Values whose number of rows varies: movement of rows as views, and host inputs that lie as what they meet.

A stack of scalars, many joined vectors, a transposed matrix and gathered rows become rows once their number was seen
to vary (`lengths`): views, or a node whose signature leaves the number out. Before that the op itself is recorded.
"""

from __future__ import annotations

import bisect
import functools
from typing import Any

import numpy as np

from ..base.types import COLUMNS, ELEMENTS, LEADING, MIDDLE, PAIRS, PAIRS_TRANSPOSED, Array, Type, size_of, tensor_type
from ..ir.trace import Builder
from ..ops.cross_entropy import CROSS_ENTROPY, CROSS_ENTROPY_TERMS
from ..ops.declare import Attrs, Op, has_double
from ..ops.elementwise import carried
from ..ops.gathering import gather
from ..ops.index import LOOKUP
from ..ops.linalg import MATMUL, matmul
from ..ops.movement import CONCAT, RESHAPE, STACK, TRANSPOSE, concat, reshape, transpose
from ..schedule.structures import EACH, KERNEL, LIST, PER_ELEMENT, Result, Slot
from .context import flags
from .creation import as_array, as_double
from .lengths import varies
from .links import lift, shared_row, value_number
from .nodes import write
from .op_signatures import signatures
from .shared import Constant, Shared
from .signature import Signature
from .tape import Recording
from .tensor import RecordedTensor
from .views import gather_rows, has_rows, join_rows, laid_out, pick_row, reshaped_rows, view_rows

FLOAT64 = np.dtype(np.float64)

MANY = 5
"""Joined vectors from which on their number is one that may vary: few are joined by code of their own."""

MOST_OPERANDS = 16
"""Parts from which on even a number that was not seen to vary is no part of a signature: compiling takes too long."""

OF_LABELS = frozenset((CROSS_ENTROPY, CROSS_ENTROPY_TERMS))
"""Ops on rows that each have a label."""

MOVES = frozenset((STACK, CONCAT, LOOKUP, RESHAPE, TRANSPOSE))
"""Ops that may be views."""


def as_view(op: Op, operands: tuple[Any, ...], attrs: Attrs, tape: Recording) -> RecordedTensor | None:
    """The result of one of `MOVES` as rows of its operands; None where it is none."""
    x = operands[0]
    if op is MATMUL:
        return _of_columns(*operands)
    if op is STACK or op is CONCAT:
        for joining in (join_rows, _joined, _beside):
            joined = joining(op, operands, attrs, tape)
            if joined is not None:
                return joined
        return None
    if not isinstance(x, RecordedTensor):
        return None
    if op is LOOKUP:
        return _looked_up(x, operands[1]) if len(operands) == 2 else _paired(x, operands[1:])
    if op is RESHAPE and x.ndim == 1 and attrs[0] == (x.shape[0], 1) != (1, 1):
        n = x.shape[0]
        x = _laid(x, n, operands, tape) if varies(signatures, (RESHAPE, x.dtype), n) else x  # a host input, as a column
    type = _reshaped(x._type, attrs[0]) if op is RESHAPE else _transposed(x._type, attrs[0])
    if type is None:
        if op is not RESHAPE:
            return None
        same = reshaped_rows(x, attrs[0])
        return _cut_rows(x, attrs[0], tape) if same is None else same
    return view_rows(x, 0, 1, type.rows, "slice", type)


def _of_columns(a: Any, b: Any) -> Any:
    """A vector or a shared matrix times a matrix whose columns are rows: these, times it."""
    is_one = isinstance(a, Shared) or (isinstance(a, RecordedTensor) and a.ndim == 1)
    if not is_one or not isinstance(b, RecordedTensor) or b._type.layout != COLUMNS or b.ndim != 2:
        return None
    rows = transpose(b, (1, 0))
    return matmul(rows, a) if a.ndim == 1 else transpose(matmul(rows, transpose(a, (1, 0))), (1, 0))


def _transposed(type: Type, axes: tuple[int, ...]) -> Type | None:
    """The type of the same rows with the axes in another order; None where no layout has them."""
    shape = tuple(type.shape[axis] for axis in axes)
    order = tuple(map(axes.index, type.order))
    types = (tensor_type(type.dtype, shape, layout) for layout in (LEADING, COLUMNS, MIDDLE, PAIRS, PAIRS_TRANSPOSED))
    found = next((t for t in types if t.order == order and t.n_row_axes == type.n_row_axes), None)
    if found is None or type.layout != LEADING:
        return found
    return found if varies(signatures, (TRANSPOSE, type.dtype, type.shape[1:], axes), type.rows) else None


def _reshaped(type: Type, shape: tuple[int, ...]) -> Type | None:
    """Another shape of n rows of one number: a vector, a column, or that transposed."""
    n = type.rows
    if type.width != 1 or n != max(type.shape, default=0):
        return None
    if type.layout == LEADING and not (shape == (n,) != type.shape and varies(signatures, (RESHAPE, type.dtype), n)):
        return None
    if shape == (n,):
        return tensor_type(type.dtype, shape, ELEMENTS)
    if shape == (1, n):
        return tensor_type(type.dtype, shape, COLUMNS)
    return tensor_type(type.dtype, shape) if len(shape) > 1 and shape == (n,) + (1,) * (len(shape) - 1) else None


def _cut_rows(x: RecordedTensor, shape: tuple[int, ...], tape: Recording) -> RecordedTensor | None:
    """A shape in which each row is several, of rows whose number varies."""
    type, rest = x._type, shape[1:]
    width = size_of(rest)
    if type.layout != LEADING or type.ndim < 2 or not shape or not 0 < width < type.width or type.width % width:
        return None
    if not varies(signatures, (RESHAPE, type.row, rest), type.rows):
        return None
    frozen = tape.cache is tape.caches[True] or type.dtype.kind != "f"
    number = tape.signature_number(_cutting(type.row, rest, frozen))
    laid = tensor_type(type.dtype, shape, LEADING if rest else ELEMENTS)
    return write(tape, number, (value_number(x, tape),), (laid,))[0]


@functools.cache
def _cutting(row: Type, rest: tuple[int, ...], frozen: bool) -> Signature:
    """Each row of a list as several of this shape."""
    parts = size_of(row.shape) // size_of(rest)
    builder = Builder()
    graph = builder.finish([reshape(builder.input("rows", 0, row, 1), (parts, *(rest or (1,))))])
    return Signature(
        name="reshape",
        kind=KERNEL,
        slots=(Slot(EACH, tensor_type(row.dtype, (1, *row.shape)), 1),),
        results=(Result(size_of(rest), row.dtype, PER_ELEMENT, 0, parts),),
        graph=graph,
        frozen=frozen,
    )


def _looked_up(x: RecordedTensor, index: Any) -> Any:
    """One part of the first axis, or several by known numbers."""
    if isinstance(index, int) and has_rows(x):
        return pick_row(x, index % x.shape[0])
    if x.ndim == 2 and (isinstance(index, int) or (isinstance(index, RecordedTensor) and not index.ndim)):
        return _crossed(x, index)
    is_known = isinstance(index, np.ndarray) and index.dtype.kind in "iu"
    if is_known and x.ndim == 2 and x._type.layout == COLUMNS and index.ndim == 1 and index.size:
        rows = transpose(x, (1, 0))
        return transpose(gather(rows, -1, np.broadcast_to(index, (x.shape[1], index.size))), (1, 0))
    return gather_rows(x, index.reshape(-1).tolist(), index.shape) if is_known else None


def _crossed(x: RecordedTensor, index: int | RecordedTensor) -> Any:
    """A part of the first axis of a matrix whose rows are others: one element of each of them, or some."""
    type, (m, n) = x._type, x.shape
    if isinstance(index, int) and type.layout in (PAIRS, PAIRS_TRANSPOSED):
        start, step = (index % m * n, 1) if type.layout == PAIRS else (index % m, m)
        return view_rows(x, start, step, n, "slice", tensor_type(type.dtype, (n,), ELEMENTS))
    if type.layout != COLUMNS:
        return None
    rows = view_rows(x, 0, 1, n, "slice", tensor_type(type.dtype, (n, m)))
    return reshape(gather(rows, -1, np.zeros((n, 1), np.int64) + index), (n,))


def _paired(x: RecordedTensor, indices: tuple[Any, ...]) -> Any:
    """One element of each row, by a list of rows and one of places in them."""
    type, (rows, places) = x._type, indices[:2]
    if type.layout != LEADING or type.ndim != 2 or len(indices) > 2 or not isinstance(rows, np.ndarray):
        return None
    if isinstance(places, list | tuple) or rows.shape != getattr(places, "shape", None) or rows.ndim != 1:
        return None
    if not np.array_equal(rows, np.arange(x.shape[0])):
        taken = gather_rows(x, rows.tolist(), rows.shape)
        if taken is None:
            return None
        x = taken
    return reshape(gather(x, -1, places.reshape((rows.size, 1))), (rows.size,))


def _joined(op: Op, operands: tuple[Any, ...], attrs: Attrs, tape: Recording) -> RecordedTensor | None:
    """A stack of scalars or many joined vectors of one length, whose number varies, as a vector of rows."""
    first, n = operands[0], len(operands)
    if not all(isinstance(x, RecordedTensor | Shared) and x._type is first._type for x in operands):
        return None
    type = first._type
    if type.layout != LEADING or attrs != (-1,) or type.ndim != (0 if op is STACK else 1):
        return None
    if (op is CONCAT and n < MANY) or not (varies(signatures, (op, type), n) or n >= MOST_OPERANDS):
        return None
    laid = tensor_type(type.dtype, (n * type.width,), ELEMENTS)
    if type.width == 1:
        return join_rows(op, operands, attrs, tape, laid)
    frozen = tape.cache is tape.caches[True] or type.dtype.kind != "f"
    number = tape.signature_number(_joining(type, frozen))
    ids = [value_number(x, tape) if isinstance(x, RecordedTensor) else shared_row(x, tape)._id for x in operands]
    return write(tape, number, (n, *ids), (laid,))[0]


def _beside(op: Op, operands: tuple[Any, ...], attrs: Attrs, tape: Recording) -> Any:
    """A stack of a few vectors of rows of one number: each row has one of each."""
    type = operands[0]._type if isinstance(operands[0], RecordedTensor) else None
    if op is not STACK or len(operands) >= MANY or type is None or type.layout != ELEMENTS or type.ndim != 1:
        return None
    if any(x.__class__ is not RecordedTensor or x._type is not type for x in operands):
        return None
    rows = concat([reshape(x, (*type.shape, 1)) for x in operands], -1)
    return rows if attrs == (-1,) else transpose(rows, (1, 0))


@functools.cache
def _joining(type: Type, frozen: bool) -> Signature:
    """Vectors of a list as rows of one number each."""
    builder = Builder()
    graph = builder.finish([reshape(builder.input("rows", 0, type, 1), (type.width, 1))])
    return Signature(
        name="concat of list",
        kind=KERNEL,
        slots=(Slot(LIST, type, 1),),
        results=(Result(1, type.dtype, PER_ELEMENT, 0, type.width),),
        graph=graph,
        frozen=frozen,
    )


# Host inputs.


def as_operand(x: Any, operands: tuple[Any, ...]) -> Array:
    """An array, or nested lists, among the operands of an op: floating numbers take float64 where these have it."""
    return as_double(x) if has_double(operands) else as_array(x)


def laid_as_rows(x: Any, operands: tuple[Any, ...], tape: Recording) -> Any:
    """A host input that is a vector as rows of one number; all else as it is."""
    return _laid(x, None, operands, tape)


def laid_alike(op: Op, operands: tuple[Any, ...], tape: Recording) -> tuple[Any, ...]:
    """The operands of an op, of which host inputs that are vectors lie as the values that they meet row by row."""
    if op is LOOKUP:
        table, *indices = operands
        is_list = isinstance(table, Shared) and table.ndim > 1 and len(indices) == 1
        return (table, _laid(indices[0], None, operands, tape)) if is_list else operands
    if op in OF_LABELS and isinstance(operands[0], RecordedTensor) and operands[0].ndim == 2:
        logits, index, *weight = operands
        index = _laid(index, logits.shape[0], operands, tape)
        is_vector = isinstance(index, RecordedTensor) and index.ndim == 1
        return (logits, laid_out(index, ELEMENTS) if is_vector else index, *weight)
    if (op.lead is carried or op in (CONCAT, STACK)) and any(x.__class__ is Constant for x in operands):
        operands = _with_rows(op, operands, tape)
    n = _length_met(op, operands)
    return operands if n is None else tuple(_laid(x, None if op is CONCAT else n, operands, tape) for x in operands)


def _with_rows(op: Op, operands: tuple[Any, ...], tape: Recording) -> tuple[Any, ...]:
    """The same, with constants as host inputs that have a row for each of a value whose number of rows varies."""
    met = next((x._type for x in operands if isinstance(x, RecordedTensor) and x.ndim > 1), None)
    if met is None or met.layout in (COLUMNS, MIDDLE):
        return operands
    if met.layout != LEADING:
        return tuple(x.numpy() if x.__class__ is Constant and x.shape == met.shape else x for x in operands)

    def has_rows_of(x: Any) -> bool:
        is_met = x.__class__ is Constant and x.ndim == met.ndim and x.shape[0] == met.shape[0] != 1
        return is_met and varies(signatures, (op, Constant, x.dtype, x.shape[1:], met.row), met.shape[0])

    return tuple(lift(x.numpy(), tape) if has_rows_of(x) else x for x in operands)


def _length_met(op: Op, operands: tuple[Any, ...]) -> int | None:
    """The number of rows of one number that vectors among the operands meet."""
    for x in operands:
        if isinstance(x, RecordedTensor) and x.ndim and x._type.layout != LEADING:
            return x._type.rows if x.ndim == 1 or op is MATMUL else None
    if op is MATMUL and isinstance(operands[0], RecordedTensor | Constant) and operands[0].ndim == 1:
        x = operands[1]
        is_matrix = isinstance(x, RecordedTensor) and x.ndim == 2
        if is_matrix and varies(signatures, (MATMUL, x.dtype, x._type.width), x.shape[0]):
            return int(x.shape[0])
    return None


def _laid(x: Any, n: int | None, operands: tuple[Any, ...], tape: Recording) -> Any:
    """A host input that is a vector, of n elements unless n is None, as rows of one number."""
    if isinstance(x, np.ndarray | list | tuple):
        array = as_operand(x, operands)
        is_met = array.ndim == 1 and (n is None or array.size == n)
        return lift(array, tape, ELEMENTS) if is_met else array
    if x.__class__ is Constant:
        return lift(x.numpy(), tape, ELEMENTS) if x.ndim == 1 and (n is None or x.shape[0] == n != 1) else x
    if not isinstance(x, RecordedTensor) or x._tape is not tape or x.ndim != 1 or x._type.layout != LEADING:
        return x
    if (
        x.shape[0] != (x.shape[0] if n is None else n)
        or x._id in tape.outside
        or (flags.kept and x._id < flags.kept_from)
    ):
        return x
    at = bisect.bisect_left(tape.payloads, (x._id,))
    if at == len(tape.payloads) or tape.payloads[at][0] != x._id:
        return x
    return lift(tape.payloads[at][1], tape, ELEMENTS)
