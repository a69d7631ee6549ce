"""Tracers: placeholders for the operands of a function while it is traced: values, stacked lists, lists of any length.

They accept ops as tensors do and pass them to the `Builder` of their trace. What needs a number raises `CellError`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from ..base.errors import CellError, op_error, user_error
from ..base.types import INT64, Dim, tensor_type
from ..ops.declare import Attrs, Op, apply, recorder, unchanged
from ..ops.movement import RESHAPE, reshape
from ..ops.pairs import COLUMNS, ROWS
from ..ops.reduce import SPREAD
from ..ops.value import Tensor
from .graph import NODE

if TYPE_CHECKING:
    from .trace import Builder


class Tracer(Tensor):
    """A value while a cell is traced. `_weak` marks numbers, which take the dtype of what they meet."""

    __slots__ = ("_builder", "_id", "_type", "_weak")
    _priority = 3

    def __init__(self, builder: Builder, id: int, weak: bool = False) -> None:
        self._builder = builder
        self._id = id
        self._type = builder.graph.nodes[id].type
        self._weak = weak

    @property
    def level(self) -> int:
        """SHARED, NODE, or the number of the list whose elements this is."""
        return self._builder.graph.nodes[self._id].level

    def _record(self, op: Op, operands: tuple[Any, ...], attrs: Attrs) -> Any:
        if self._weak and any(isinstance(x, list | tuple) for x in operands):
            self._refuse("how often a sequence is repeated")
        if any(isinstance(x, np.ndarray | list | tuple) for x in operands):
            return recorder[0](op, operands, attrs)
        return self._builder.record(op, operands, attrs)

    def _record_list(self, kind: str, values: Sequence[Any]) -> Any:
        return self._builder.record_list(kind, values)

    def _unchanged(self) -> Any:
        return self._builder.unchanged(self)

    def _list_length(self, k: Any) -> Any:
        k = _other(k[1]) if isinstance(k, tuple) else k
        return self._builder.input("lengths", k, tensor_type(INT64, ()), NODE)

    def _list_positions(self, k: Any) -> Any:
        if not isinstance(k, tuple):
            return self._builder.input("positions", k, tensor_type(INT64, ()), self.level)
        other = _other(k[1])
        positions = self._builder.input("positions", other, tensor_type(INT64, ()), other)
        return apply(SPREAD, (positions,), ((k[0], other),))

    def __repr__(self) -> str:
        return f"<traced %{self._id}: {self._type}>"

    def _refuse(self, what: str) -> NoReturn:
        if self._weak:
            raise user_error(
                CellError,
                f"cell: a number passed to a cell cannot be used as {what}: it is data, not part of the signature",
                repair="name it in @ab.cell(static=(...,))",
            )
        raise user_error(
            CellError,
            f"cell: a value cannot be forced inside a cell (used as {what})",
            repair="take the decision outside the cell, or use ab.where; ab.stack puts values together",
        )

    def _is(self, other: Any) -> bool:
        if self._weak:
            self._refuse("something to look for in a container")
        return self is other

    def __hash__(self) -> int:
        if self._weak:
            self._refuse("a key")
        return object.__hash__(self)

    __eq__ = Tensor.__eq__

    def __bool__(self) -> bool:  # noqa: PLE0304
        self._refuse("a condition")

    def __index__(self) -> int:  # noqa: PLE0305
        self._refuse("a shape, axis, loop bound or list index")

    def __int__(self) -> int:
        self._refuse("a Python int")

    def __float__(self) -> float:
        self._refuse("a Python float")

    def __str__(self) -> str:
        if self._weak:
            self._refuse("a text")
        return repr(self)

    def numpy(self) -> NoReturn:
        """Raises `CellError`: nothing has a value while it is traced."""
        self._refuse("an array")

    def backward(self, retain: bool = False) -> NoReturn:
        """Raises `CellError`: nothing can be run while it is traced."""
        raise _no_backward()


class StackedTracer(Tensor):
    """`stack` of a list of varying length: ops that carry the rows along run on each element."""

    __slots__ = ("_each", "_type")
    _priority = 4

    def __init__(self, each: Tracer) -> None:
        self._each = each
        self._type = tensor_type(each.dtype, (Dim(each.level), *each.shape))

    def _record(self, op: Op, operands: tuple[Any, ...], attrs: Attrs) -> Any:
        if op is RESHAPE and attrs[0][:1] == self.shape[:1]:  # the rows stay
            return StackedTracer(apply(op, (self._each,), (attrs[0][1:],)))
        stacked = [isinstance(x, StackedTracer) for x in operands]
        ndims = [len(getattr(x, "shape", np.shape(x) if not hasattr(x, "_type") else ())) for x in operands]
        shared = [getattr(x, "_priority", 0) <= 1 for x in operands]
        rows = op.list_form(ndims, attrs)
        if rows is not None:
            of_list, more = rows
            y = apply(of_list, (self._each,), (self._each.level, *more))
            keeps = attrs[1:2] == (True,)
            return StackedTracer(y) if of_list.per_element else reshape(y, (1, *y.shape)) if keeps else y
        lifted = op.lead(ndims, shared, attrs) if op.lead else None
        if lifted is None or any(a and not b for a, b in zip(stacked, lifted, strict=True)):
            raise op_error(
                op.name,
                "this op mixes the rows of a stacked list whose length varies",
                repair="reduce over axis 0 alone, by ab.sum, prod, mean, max or min, or work on the elements",
            )
        inner = tuple(x._each if isinstance(x, StackedTracer) else x for x in operands)
        return StackedTracer(apply(op, inner, attrs))

    def _unchanged(self) -> Any:
        return StackedTracer(unchanged(self._each))

    def numpy(self) -> NoReturn:
        """Raises `CellError`: nothing has a value while it is traced."""
        self._each._refuse("an array")

    def backward(self, retain: bool = False) -> NoReturn:
        """Raises `CellError`: nothing can be run while it is traced."""
        raise _no_backward()

    def __len__(self) -> int:
        raise user_error(CellError, "cell: the length of a list varies, it is no Python number here")

    def __getitem__(self, index: Any) -> Any:
        first = index[0] if isinstance(index, tuple) and index else index
        if first is Ellipsis or (isinstance(first, slice) and first == slice(None)):
            return super().__getitem__(index)
        raise user_error(
            CellError,
            "cell: the rows of a stacked list whose length varies are not indexed",
            repair="index the columns as in x[:, 0], iterate over the rows, or name the list in static=",
        )

    def __iter__(self) -> Iterator[Any]:
        return iter(
            TracedList(self._each._builder, self._each.level, (self._each, self._each._builder.second_of(self._each)))
        )


class TracedList:
    """A list argument of a cell: any number of elements, one trace. It is never empty: emptiness is a signature."""

    __slots__ = ("_builder", "_elements", "_k")

    def __init__(self, builder: Builder, k: int, elements: tuple[Any, Any]) -> None:
        self._builder = builder
        self._k = k
        self._elements = elements

    def __iter__(self) -> Iterator[Any]:
        real, shadow = self._elements
        with self._builder.looping(self._k) as again:
            yield real
            again()
            yield shadow

    def __bool__(self) -> bool:
        return True

    def __len__(self) -> int:
        raise user_error(
            CellError,
            "cell: the length of a list is data, not part of the signature",
            repair="use ab.mean for averages, or name the list in @ab.cell(static=(...,))",
        )

    def __getitem__(self, index: Any) -> Any:
        raise user_error(
            CellError,
            "cell: elements of a list of varying length are not indexed",
            repair="iterate over it, pass the element as an argument, or name the list in static=",
        )


def _other(side: int) -> int:
    """The list that the pairs of a row, or of a column, run through."""
    return COLUMNS if side == ROWS else ROWS


def _no_backward() -> CellError:
    return user_error(CellError, "backward: not possible inside a cell", repair="call it on what the cell returns")
