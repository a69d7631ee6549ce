"""The signature of an op on operands of some types; leading lengths that may vary are left out of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..base.types import ELEMENTS, INT64, LEADING, Shape, Type, default_dtype, tensor_type
from ..ir.graph import NODE, hashable
from ..ir.trace import Builder
from ..ops.declare import Attrs, Op
from ..ops.elementwise import STOP_GRADIENT
from ..ops.movement import reshape
from ..ops.reduce import LIST_REDUCTIONS
from ..schedule.structures import AS_SLOT, EACH, KERNEL, LIST, ONE, PER_ELEMENT, Result, Slot
from .shared import Shared, youngest_of
from .signature import Signature


def op_signature(op: Op, keys: tuple[Any, ...], attrs: Attrs, frozen: bool) -> tuple[Signature, Type]:
    """The signature of an op on operands of these kinds, from the cache of its first shared operand or of all."""
    shared = youngest_of(keys)
    cache = signatures if shared is None else shared._signatures
    key = (op, hashable(attrs), keys, frozen, default_dtype())
    found = cache.get(key)
    if found is None:
        signature, type = _make_signature(op, keys, attrs, frozen)
        same = cache.setdefault(signature.key(), (signature, type))[0]  # another leading length is no other signature
        found = cache[key] = (same, type)
    return found


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


def _make_signature(op: Op, keys: tuple[Any, ...], attrs: Attrs, frozen: bool) -> tuple[Signature, Type]:
    types = [k for k in keys if isinstance(k, Type)]
    whole = _TracedOp(op, keys, attrs, [False] * len(keys))
    type = whole.type
    fixed = Result(type.width, type.dtype, rows=type.rows)
    ndims = [k.ndim if isinstance(k, Type | Shared) else 0 for k in keys]
    rows = op.list_form(ndims, attrs) if types else None
    if rows is not None and types[0].layout == (LEADING if ndims[0] >= 2 else ELEMENTS) and types[0].shape[0] > 0:
        of_list, more = rows
        if not of_list.per_element:
            traced = _TracedOp(of_list, keys, (1, *more), [True], type.shape)
            return traced.signature(op.name, attrs, frozen, fixed), type
        type = tensor_type(type.dtype, type.shape, types[0].layout)
        each = Result(type.width, type.dtype, PER_ELEMENT, 0, 1)
        return _TracedOp(of_list, keys, (1, *more), [True]).signature(op.name, attrs, frozen, each), type
    lifted = op.lead(ndims, [not isinstance(k, Type) for k in keys], attrs) if op.lead and types else None
    if lifted is None or type.ndim < 2 or not _same_length(keys, lifted, type):
        return whole.signature(op.name, attrs, frozen, fixed), type
    traced = _TracedOp(op, keys, attrs, lifted)
    result = Result(type.width, type.dtype, AS_SLOT, 0)
    if not traced.by_rows:
        first = next(k for k, slot in enumerate(traced.slots) if slot.kind == EACH)
        result = Result(type.width, type.dtype, PER_ELEMENT, first, 1)
    return traced.signature(op.name, attrs, frozen, result), type


def _same_length(keys: tuple[Any, ...], lifted: Sequence[bool], type: Type) -> bool:
    leading = [k for k, flag in zip(keys, lifted, strict=True) if flag]
    are_rows = all(isinstance(k, Type) and k.layout == LEADING for k in leading)
    return are_rows and {k.shape[0] for k in leading} == {type.shape[0]}


class _TracedOp:
    """An op traced on operands; those marked in `lifted` stand for their rows.

    by_rows: whether all value operands do, alone; shape: of the result, where it has another one than the op gives
    """

    def __init__(
        self, op: Op, keys: tuple[Any, ...], attrs: Attrs, lifted: Sequence[bool], shape: Shape | None = None
    ) -> None:
        self.builder = builder = Builder()
        self.data = "".join(k for k in keys if isinstance(k, str))
        flags = [flag for flag, k in zip(lifted, keys, strict=True) if isinstance(k, Type)]
        self.by_rows = bool(flags) and all(flags) and not self.data and op.batch != "list"
        self.slots: list[Slot] = []
        operands: list[Any] = []
        n_data = 0
        for k, flag in zip(keys, lifted, strict=True):
            if isinstance(k, Type):
                inner = k.row if flag else k
                level = 1 if flag and not self.by_rows else NODE
                operands.append(builder.input("rows", len(self.slots), inner, level))
                self.slots.append(Slot(EACH if level else ONE, k, level))
            elif isinstance(k, Shared):
                operands.append(k._enter(builder))
            elif isinstance(k, str):
                type = tensor_type(INT64 if k == "i" else np.float64, ())
                operands.append(builder.input("data", n_data, type, NODE, weak=True))
                n_data += 1
            else:
                operands.append(k[1])
        result = builder.record(op, tuple(operands), attrs)
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
