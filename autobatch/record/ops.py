"""Fast paths of recording: ops on tensors of the open recording whose signature it knows already.

Each replaces the general function, and calls it in all other cases. They are those of `compiled`, or for the recorder
in Python generated: the lines that write a node stand in each, as a call would cost a tenth of the budget of an op.
That of `tanh` is

    def fast(x):
        tape = state.tape
        if x.__class__ is Tensor and x._tape is tape:
            try: hit = tape.cache[op, (), x._type]
            except KeyError: hit = None
            if hit is not None:
                ...
                return r0
        if tape is not None and x.__class__ is Tensor and x._tape is not tape:
            x = local(x, tape)
            ... the same once more
        return slow(x)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from sys import _getframe
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ..base.types import ELEMENTS, Array
from ..ops import functions
from ..ops.cross_entropy import CROSS_ENTROPY
from ..ops.cross_entropy import cross_entropy as _cross_entropy
from ..ops.declare import Op, apply
from ..ops.elementwise import ADD, DIV, MUL, SUB
from ..ops.functions import EXP, LOG, RELU, SIGMOID, SOFTPLUS, SQRT, TANH
from ..ops.index import LOOKUP
from ..ops.linalg import MATMUL
from ..ops.movement import CONCAT, SLICE, reshape
from ..ops.movement import concat as _concat
from ..ops.movement import split as _split
from ..ops.value import ShapeLike, Tensor, TensorLike
from .choice import compiled
from .lengths import varies
from .links import SHARED_CLASSES, lift, local
from .nodes import SCOPE, write_known, writing
from .nodes import compiled as generated
from .parameter import Parameter
from .shared import Shared, alias
from .tape import current_tape, state
from .tensor import RecordedTensor

F = TypeVar("F", bound=Callable[..., Any])


class _Case(NamedTuple):
    """Operands that are written fast, as code: what they have to be, and what the recording's cache has them under."""

    condition: str
    key: str
    operands: tuple[str, ...] = ()
    ints: tuple[str, ...] = ()
    floats: tuple[str, ...] = ()
    check: str = ""
    """What must hold of what the cache has."""


_UNARY = _Case("x.__class__ is Tensor and x._tape is tape", "(op, (), x._type)", ("x._id",))
_LABELLED = _Case(
    "index.__class__ is int and logits.__class__ is Tensor and logits._tape is tape and not more and not options",
    '(op, (), logits._type, "i")', ("logits._id",), ("index",), check="0 <= index < logits._type.shape[0]",
)  # fmt: skip
_BINARY = (
    _Case("y.__class__ is Tensor and x._tape is tape is y._tape", "(op, (), x._type, y._type)", ("x._id", "y._id")),
    _Case("y.__class__ is float and x._tape is tape", '(op, (), x._type, "f")', ("x._id",), floats=("y",)),
    _Case("y.__class__ in SHARED_CLASSES and x._tape is tape", "(op, (), x._type, y)", ("x._id",)),
)
_REFLECTED = _Case("y.__class__ is float and x._tape is tape", '(op, (), "f", x._type)', ("x._id",), floats=("y",))
_SHARED_LEFT = _Case("y.__class__ is Tensor and y._tape is tape", "(op, (), x, y._type)", ("y._id",))
_ROW = _Case(
    "y.__class__ is int and tape is not None and tape.count is not WRITING and not tape.is_aside",
    "x", ints=("y",), check="0 <= y < hit[2]",
)  # fmt: skip


def _fast(slow: F, op: Op, *cases: _Case, arguments: str = "x, y", depth: int = 1) -> F:
    """A function that writes these cases fast; `depth` says how many calls out it may be the user's."""
    known: list[str] = []
    for case in cases:
        written = writing("hit[0]", case.operands, ["hit[1]"], case.ints, case.floats, f"getframe({depth})")
        known += [f"if {case.condition}:", f"    try: hit = tape.cache[{case.key}]", "    except KeyError: hit = None"]
        known.append(f"    if hit is not None{case.check and ' and '}{case.check}:")
        known += [f"        {line}" for line in [*written, "return r0"]]
    lines = ["tape = state.tape", *known]
    read = [x for x in arguments.split(", ") if any(f"{x}._id" in case.operands for case in cases)]
    if read:  # the same once more, with values of earlier recordings brought into this one
        is_earlier = [f"{x}.__class__ is Tensor and {x}._tape is not tape" for x in read]
        lines.append(f"if tape is not None and ({' or '.join(is_earlier)}):")
        lines += [f"    if {question}: {x} = local({x}, tape)" for x, question in zip(read, is_earlier, strict=True)]
        lines += [f"    {line}" for line in known]
    scope = {**SCOPE, "state": state, "SHARED_CLASSES": SHARED_CLASSES, "op": op, "slow": slow, "local": local}
    fast = generated(f"def fast({arguments}):", [*lines, f"return slow({arguments})"], scope)
    return _named(fast, slow)


def _named(fast: Any, slow: F) -> F:
    fast.__name__, fast.__qualname__, fast.__doc__ = slow.__name__, slow.__name__, slow.__doc__
    fast.__annotations__ = slow.__annotations__
    fast.__module__ = __name__  # where pickle finds it by its name
    return fast


def _looked_up(self: Any, index: Any) -> Any:
    """Of a shared table, one row by its number; from then on the recording has the number of rows, too. Or the rows
    of a list of numbers."""
    if index.__class__ is list and state.builder is None and self._type.ndim > 1:
        rows = _rows(index, self._type.shape[0])
        if rows is not None:
            found: Tensor = apply(LOOKUP, (self, lift(rows, current_tape(), ELEMENTS)))
            return found
    elif state.depth and state.builder is None and self._type.ndim:
        first, *others = index if index.__class__ is tuple and index else (index,)
        part = _part(self, first) if first.__class__ is slice else None
        if part is not None:
            return part[(slice(None), *others)] if others else part
    t = Tensor.__getitem__(self, index)
    tape: Any = state.tape
    if index.__class__ is int and tape is not None and state.builder is None:
        hit = tape.cache.get((LOOKUP, (), self, "i"))
        if hit is not None:
            tape.cache[self] = (*hit, self._type.shape[0])
    return t


def _rows(index: list[Any], n: int) -> Array | None:
    """A list of numbers of rows as an array; None where it is another one, or a number is out of range."""
    if not index or not all(k.__class__ is int for k in index) or min(index) < -n or max(index) >= n:
        return None
    return np.array(index, np.int64)


def _part(table: Shared, part: slice) -> Any:
    """Rows from one to another of a table, where it was seen that the last one varies from example to example, or the
    first one where there is no last one. The gradient is an array, as that of any slice."""
    held, bounds = table.operand, (part.start, part.stop, part.step)
    if held is None or not all(k is None or k.__class__ is int for k in bounds) or part.step == 0:
        return None
    rows = np.arange(*part.indices(table.shape[0]))
    fixed, bound = (part.stop, part.start) if part.stop is None else (part.start, part.stop)
    if not rows.size or not varies(held._signatures, (LOOKUP, part.stop is None, fixed, part.step), bound):
        return None
    whole = alias(table) if table.ndim > 1 else reshape(table, (table.shape[0], 1))
    found = apply(LOOKUP, (whole, lift(rows, current_tape(), ELEMENTS)))
    return found if table.ndim > 1 else reshape(found, rows.shape)


def _known_split(x: TensorLike, parts: ShapeLike, axis: int = 0) -> list[Tensor]:
    tape: Any = state.tape
    if parts.__class__ is not int or parts == 1:
        return _split(x, parts, axis)
    if x.__class__ is RecordedTensor and x._tape is not tape and tape is not None:
        x = local(x, tape)
    if x.__class__ is not RecordedTensor or x._tape is not tape:
        return _split(x, parts, axis)
    hits = tape.cache.get((SLICE, x._type, parts, axis))
    if hits is None:
        pieces = _split(x, parts, axis)
        first = pieces[0]._type
        at = axis - len(x._type.shape) if axis >= 0 else axis
        length = first.shape[at]
        keys = [(SLICE, (at, k * length, length, 1), x._type) for k in range(len(pieces))]
        if all(key in tape.cache for key in keys):
            tape.cache[SLICE, x._type, parts, axis] = tuple(tape.cache[key] for key in keys)
        return pieces
    source, frame = (x._id,), _getframe(1)
    return [write_known(tape, hit, source, frame) for hit in hits]


def _known_concat(xs: Iterable[TensorLike], axis: int = 0) -> Tensor:
    tape: Any = state.tape
    if (axis == 0 or axis == -1) and (xs.__class__ is list or xs.__class__ is tuple):
        key: list[Any] = [CONCAT, (-1,)]
        operands = []
        for x in xs:
            if x.__class__ is RecordedTensor and x._tape is not tape and tape is not None:
                x = local(x, tape)
            if x.__class__ is not RecordedTensor or x._tape is not tape:
                return _concat(xs, axis)
            key.append(x._type)
            operands.append(x._id)
        # Of vectors, whose only axis is the last one, too; the op has it as -1.
        hit = tape.cache.get(tuple(key)) if operands and (axis or x._type.ndim == 1) else None
        if hit is not None:
            return write_known(tape, hit, operands, _getframe(1))
    return _concat(xs, axis)


split = _split if compiled is not None else _named(_known_split, _split)
concat = _concat if compiled is not None else _named(_known_concat, _concat)


def _unary(slow: F, op: Op) -> F:
    return _fast(slow, op, _UNARY, arguments="x") if compiled is None else _named(compiled.unary(op, slow), slow)


exp = _unary(functions.exp, EXP)
log = _unary(functions.log, LOG)
relu = _unary(functions.relu, RELU)
sigmoid = _unary(functions.sigmoid, SIGMOID)
softplus = _unary(functions.softplus, SOFTPLUS)
sqrt = _unary(functions.sqrt, SQRT)
tanh = _unary(functions.tanh, TANH)

_OPERATORS = (("add", ADD), ("sub", SUB), ("mul", MUL), ("truediv", DIV), ("matmul", MATMUL))
if compiled is None:
    _arguments = "logits, index, *more, **options"
    cross_entropy = _fast(_cross_entropy, CROSS_ENTROPY, _LABELLED, arguments=_arguments)
    for _name, _op in _OPERATORS:
        _slow = getattr(Tensor, f"__{_name}__")
        setattr(RecordedTensor, _slow.__name__, _fast(_slow, _op, *_BINARY))
        setattr(Shared, _slow.__name__, _fast(_slow, _op, _SHARED_LEFT))
    for _name, _op in (("radd", ADD), ("rsub", SUB), ("rmul", MUL)):
        _slow = getattr(Tensor, f"__{_name}__")
        setattr(RecordedTensor, _slow.__name__, _fast(_slow, _op, _REFLECTED))
    Shared.__getitem__ = _named(_fast(_looked_up, LOOKUP, _ROW), Tensor.__getitem__)  # type: ignore[method-assign]
    Parameter._row_for_layer = _fast(_looked_up, LOOKUP, _ROW, depth=2)  # type: ignore[method-assign]
else:
    cross_entropy = _named(compiled.labelled(CROSS_ENTROPY, _cross_entropy), _cross_entropy)
    compiled.install_operators([op for _, op in _OPERATORS], Tensor)
    for _name, _op in _OPERATORS:
        _slow = getattr(Tensor, f"__{_name}__")
        setattr(Shared, _slow.__name__, _named(compiled.shared_left(_op, _slow), _slow))
    Shared.__getitem__ = _named(compiled.row(_looked_up), Tensor.__getitem__)  # type: ignore[method-assign]
    Parameter._row_for_layer = compiled.row(_looked_up)  # type: ignore[method-assign]
