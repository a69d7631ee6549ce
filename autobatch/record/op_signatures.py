"""The signature of an op on operands of some types; leading lengths that may vary are left out of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..base.types import ELEMENTS, INT64, LEADING, Shape, Type, default_dtype, tensor_type
from ..ir.graph import NODE, hashable
from ..ir.trace import Builder
from ..ops.declare import Attrs, Op
from ..ops.elementwise import STOP_GRADIENT, carried
from ..ops.movement import reshape
from ..ops.reduce import LIST_REDUCTIONS
from ..schedule.structures import AS_SLOT, EACH, KERNEL, LIST, ONE, PER_ELEMENT, Result, Slot
from .lengths import varies
from .shared import Shared, youngest_of
from .signature import Signature


def op_signature(op: Op, keys: tuple[Any, ...], attrs: Attrs, frozen: bool) -> tuple[Signature, Type]:
    """The signature of an op on operands of these kinds, from the cache of its first shared operand or of all."""
    cache, key = _place(op, keys, attrs, frozen)
    found = cache.get(key)
    if found is None:
        signature, type = _make_signature(op, keys, attrs, frozen, lambda family, n: varies(cache, family, n, key))
        same = cache.setdefault(signature.key(), (signature, type))[0]  # another leading length is no other signature
        found = cache[key] = (same, type)
    return found


def known_signature(op: Op, keys: tuple[Any, ...], attrs: Attrs, frozen: bool) -> tuple[Signature, Type] | None:
    """What `op_signature` has given before for operands of these kinds; None where it was not asked."""
    cache, key = _place(op, keys, attrs, frozen)
    return cache.get(key)


def _place(op: Op, keys: tuple[Any, ...], attrs: Attrs, frozen: bool) -> tuple[dict[Any, tuple[Signature, Type]], Any]:
    """Where the signature of an op on operands of these kinds is kept, and under which key."""
    shared = youngest_of(keys) if any(k.__class__ not in _NOT_SHARED for k in keys) else None
    key = (op, hashable(attrs) if attrs else attrs, keys, frozen, default_dtype())
    return signatures if shared is None else shared._signatures, key


_NOT_SHARED = frozenset((Type, str, tuple))


signatures: dict[Any, tuple[Signature, Type]] = {}


def list_signature(kind: str, element: Type, frozen: bool) -> tuple[Signature, Type]:
    """Signature of a reduction over a list of values of this type."""
    key = (kind, element, frozen)
    found = signatures.get(key)
    if found is None:
        builder = Builder()
        x = builder.input("rows", 0, element, 1)
        result = builder.record(LIST_REDUCTIONS[kind], (x,), (1,))
        graph = builder.finish([result])
        type = graph.nodes[graph.outputs[0]].type
        signature = Signature(
            name=f"{kind} of list",
            kind=KERNEL,
            slots=(Slot(LIST, element, 1),),
            results=(Result(type.width, type.dtype, rows=type.rows),),
            graph=graph,
            frozen=frozen or type.dtype.kind != "f",
        )
        found = signatures[key] = (signature, type)
    return found


Varies = Callable[[Any, int], bool]
"""(what operands that differ in length alone have in common, length) → whether other lengths were seen of it."""


def _make_signature(
    op: Op, keys: tuple[Any, ...], attrs: Attrs, frozen: bool, varies: Varies
) -> tuple[Signature, Type]:
    whole = _TracedOp(op, keys, attrs, [False] * len(keys))
    type = whole.type
    for form in (_along_rows, _over_rows, _row_by_row):
        found = form(op, keys, attrs, type)
        if found is None:
            continue
        family = (op, hashable(attrs), frozen, default_dtype(), found.family)
        if found.is_sure or varies(family, found.length):
            return found.traced.signature(op.name, attrs, frozen, found.result), found.type
    return whole.signature(op.name, attrs, frozen, Result(type.width, type.dtype, rows=type.rows)), type


class _Form(NamedTuple):
    """An op on rows: a signature without their number, and the type that its result has.

    is_sure: whether it is taken even if the number of rows was not seen to vary; length: that number
    """

    traced: _TracedOp
    result: Result
    type: Type
    is_sure: bool
    length: int = 0
    family: Any = None


def _along_rows(op: Op, keys: tuple[Any, ...], attrs: Attrs, type: Type) -> _Form | None:
    """The op over a list that takes the place of one along the axis that the rows of its only operand stand on."""
    x = keys[0] if keys else None
    if not isinstance(x, Type) or not _is_list(x) or not x.rows:
        return None
    rows = op.list_form([x.ndim - x.order[0]], attrs)
    if rows is None:
        return None
    of_list, more = rows
    if not of_list.per_element:
        traced = _TracedOp(of_list, keys, (1, *more), [True], type.shape)
        return _Form(traced, Result(type.width, type.dtype, rows=type.rows), type, True)
    traced = _TracedOp(of_list, keys, (1, *more), [True])
    laid = tensor_type(type.dtype, type.shape, x.layout)
    return _Form(traced, Result(laid.width, type.dtype, PER_ELEMENT, 0, 1), laid, True)


def _over_rows(op: Op, keys: tuple[Any, ...], attrs: Attrs, type: Type) -> _Form | None:
    """The op as a reduction over rows, of which each is computed with on its own."""
    if op.over_rows is None or not all(isinstance(k, Type) for k in keys):
        return None
    body = op.over_rows(keys, attrs)
    if body is None or len({k.rows for k in keys}) > 1 or not keys[0].rows:
        return None
    traced = _TracedOp(op, keys, attrs, [True] * len(keys), type.shape, body)
    is_sure = any(k.layout != LEADING for k in keys)
    family = tuple((k.row, k.layout) for k in keys)
    return _Form(traced, Result(type.width, type.dtype, rows=type.rows), type, is_sure, keys[0].rows, family)


def _row_by_row(op: Op, keys: tuple[Any, ...], attrs: Attrs, type: Type) -> _Form | None:
    """The op on each row of those operands whose rows are merely carried along."""
    if op.lead is None or not type.ndim or not any(isinstance(k, Type) for k in keys):
        return None
    ones = [op.lead is carried and _is_spread(k, type) for k in keys]
    ndims = [(k.ndim if isinstance(k, Type | Shared) else 0) - one for k, one in zip(keys, ones, strict=True)]
    flags = op.lead(ndims, [not isinstance(k, Type) for k in keys], attrs)
    if flags is None:
        return None
    lifted = [k for k, flag in zip(keys, flags, strict=True) if flag]
    layout = _carried_layout(lifted, type) if op.lead is carried else _leading_layout(lifted, type)
    if layout is None:
        return None
    if layout != LEADING and type.ndim > 1 and any(n for n, flag in zip(ndims, flags, strict=True) if not flag):
        return None
    traced = _TracedOp(op, keys, attrs, flags, ones=ones)
    laid = tensor_type(type.dtype, type.shape, layout)
    result = Result(laid.width, type.dtype, AS_SLOT, 0)
    if not traced.by_rows:
        first = next(k for k, slot in enumerate(traced.slots) if slot.kind == EACH)
        result = Result(laid.width, type.dtype, PER_ELEMENT, first, 1)
    is_sure = not any(ones) and (type.ndim > 1 or any(k.layout != LEADING for k in lifted))
    family = tuple(k.row if flag else k for k, flag in zip(keys, flags, strict=True))
    return _Form(traced, result, laid, is_sure, laid.rows, family)


def _is_list(x: Type) -> bool:
    """Whether a value is a list of rows along one of its axes."""
    return x.n_row_axes == 1


def _is_spread(k: Any, type: Type) -> bool:
    """Whether an operand is one row, that all rows of the result of this type meet."""
    return isinstance(k, Type | Shared) and k.ndim == type.ndim and k.shape[0] == 1 != type.shape[0]


def _leading_layout(lifted: Sequence[Any], type: Type) -> int | None:
    """The layout of a result whose leading axis is that of these operands; None where it is none of rows."""
    are_lists = all(isinstance(k, Type) and (k.ndim >= 2 if k.layout == LEADING else k.ndim == 1) for k in lifted)
    if not are_lists or any(k.shape[0] != type.shape[0] for k in lifted):
        return None
    return LEADING if type.ndim > 1 else ELEMENTS


def _carried_layout(lifted: Sequence[Any], type: Type) -> int | None:
    """The layout of an elementwise result, which lies as these operands do; None where they lie in several ways."""
    layouts = {k.layout for k in lifted if isinstance(k, Type) and k.shape != (1,)}
    layouts |= {k.layout for k in lifted if isinstance(k, Type) and k.layout != LEADING}
    if len(layouts) != 1 or layouts == {LEADING}:
        return _leading_layout(lifted, type) if lifted else None
    return layouts.pop() if all(k.shape == type.shape for k in lifted) else None


class _TracedOp:
    """An op traced on operands; those marked in `lifted` stand for their rows.

    by_rows: whether all value operands do, alone

    Args:
        shape: of the result, where it has another one than the op gives.
        body: what computes with the operands in place of the op.
        ones: operands whose leading axis, of extent 1, is left out.
    """

    def __init__(
        self,
        op: Op,
        keys: tuple[Any, ...],
        attrs: Attrs,
        lifted: Sequence[bool],
        shape: Shape | None = None,
        body: Callable[..., Any] | None = None,
        ones: Sequence[bool] = (),
    ) -> None:
        self.builder = builder = Builder()
        self.data = "".join(k for k in keys if isinstance(k, str))
        flags = [flag for flag, k in zip(lifted, keys, strict=True) if isinstance(k, Type)]
        self.by_rows = bool(flags) and all(flags) and not self.data and op.batch != "list" and body is None
        self.slots: list[Slot] = []
        operands: list[Any] = []
        n_data = 0
        for k, flag in zip(keys, lifted, strict=True):
            if isinstance(k, Type):
                level = 1 if flag and not self.by_rows else NODE
                operands.append(builder.input("rows", len(self.slots), k.row if flag else k, level))
                self.slots.append(Slot(EACH if level else ONE, k, level))
            elif isinstance(k, Shared):
                operands.append(k._enter(builder))
            elif isinstance(k, str):
                type = tensor_type(INT64 if k == "i" else np.float64, ())
                operands.append(builder.input("data", n_data, type, NODE, weak=True))
                n_data += 1
            else:
                operands.append(k[1])
        operands = [reshape(x, x.shape[1:]) if one else x for x, one in itertools.zip_longest(operands, ones)]
        result = builder.record(op, tuple(operands), attrs) if body is None else body(*operands)
        self.graph = builder.finish([result if shape is None else reshape(result, shape)])
        self.type = self.graph.nodes[self.graph.outputs[0]].type

    def signature(self, name: str, attrs: Attrs, frozen: bool, result: Result) -> Signature:
        return Signature(
            name=name,
            kind=KERNEL,
            slots=tuple(self.slots),
            results=(result,),
            graph=self.graph,
            shared=tuple(self.builder.shared),
            data=self.data,
            attrs=attrs,
            frozen=frozen or self.type.dtype.kind != "f" or name == STOP_GRADIENT.name,
            by_rows=self.by_rows,
            draws=any(n.op is not None and n.op.batch == "random" for n in self.graph.nodes),
        )
