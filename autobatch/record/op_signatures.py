"""The signature of an op on operands of some types; leading lengths that may vary are left out of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..base.types import INT64, Type, default_dtype, tensor_type
from ..ir.graph import NODE, _hashable
from ..ir.trace import Builder
from ..ops.declare import Attrs, Op
from ..ops.elementwise import STOP_GRADIENT
from ..ops.segment import LIST_MAX, LIST_MEAN, LIST_SUM
from ..schedule.structures import AS_SLOT, EACH, KERNEL, LIST, ONE, PER_ELEMENT, Result, Slot
from .shared import Shared, youngest_of
from .signature import Signature

FLOAT64 = np.dtype(np.float64)


def op_signature(op: Op, keys: tuple[Any, ...], attrs: Attrs, frozen: bool) -> tuple[Signature, Type]:
    """The signature of an op on operands of these kinds, from the cache of its first shared operand or of all."""
    shared = youngest_of(keys)
    cache = signatures if shared is None else shared._signatures
    key = (op, _hashable(attrs), keys, frozen, default_dtype())
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
        result = builder.record({"sum": LIST_SUM, "max": LIST_MAX, "mean": LIST_MEAN}[kind], (x,), (1,))
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
    whole, _ = _trace_op(op, keys, attrs, [False] * len(keys))
    type = whole.graph_type
    ndims = [k.ndim if isinstance(k, Type | Shared) else 0 for k in keys]
    is_shared = [not isinstance(k, Type) for k in keys]
    rows = op.over_rows(ndims, attrs) if op.over_rows and len(keys) == 1 and types else None
    if rows is not None and types[0].shape[0] > 0:
        each, _ = _trace_op(rows, keys, (1,), [True])
        return each.signature(op.name, attrs, frozen, Result(type.width, type.dtype, rows=type.rows)), type
    lifted = op.lead(ndims, is_shared, attrs) if op.lead and types else None
    if lifted is None or type.ndim < 2 or not _same_length(keys, lifted, type):
        return whole.signature(op.name, attrs, frozen, Result(type.width, type.dtype, rows=type.rows)), type
    traced, all_rows = _trace_op(op, keys, attrs, list(lifted))
    if all_rows:
        result = Result(type.width, type.dtype, AS_SLOT, 0)
    else:
        result = Result(
            type.width,
            type.dtype,
            PER_ELEMENT,
            next(
                k for k, f in enumerate([f for f, key in zip(lifted, keys, strict=True) if isinstance(key, Type)]) if f
            ),
            1,
        )
    return traced.signature(op.name, attrs, frozen, result), type


def _same_length(keys: tuple[Any, ...], lifted: tuple[bool, ...], type: Type) -> bool:
    lengths = {k.shape[0] for k, flag in zip(keys, lifted, strict=True) if flag}
    return lengths == {type.shape[0]} and not any(
        flag and not isinstance(k, Type) for k, flag in zip(keys, lifted, strict=True)
    )


class _TracedOp:
    """An op traced on operands: what is needed to make its signature."""

    def __init__(self, builder: Builder, result: Any, slots: list[Slot], data: str, by_rows: bool) -> None:
        self.graph = builder.finish([result])
        self.graph_type = self.graph.nodes[self.graph.outputs[0]].type
        self.builder = builder
        self.slots = tuple(slots)
        self.data = data
        self.by_rows = by_rows

    def signature(self, name: str, attrs: Attrs, frozen: bool, result: Result) -> Signature:
        floating = self.graph_type.dtype.kind == "f"
        return Signature(
            name=name,
            kind=KERNEL,
            slots=self.slots,
            results=(result,),
            graph=self.graph,
            shared=tuple(self.builder.shared),
            data=self.data,
            attrs=attrs,
            frozen=frozen or not floating or name == STOP_GRADIENT.name,
            by_rows=self.by_rows,
            draws=any(n.op is not None and n.op.batch == "random" for n in self.graph.nodes),
        )


def _trace_op(op: Op, keys: tuple[Any, ...], attrs: Attrs, lifted: list[bool]) -> tuple[_TracedOp, bool]:
    """Trace an op; operands marked in `lifted` stand for their rows. Also whether all value operands do, alone."""
    builder = Builder()
    values = [k for k in keys if isinstance(k, Type)]
    flags = [f for f, k in zip(lifted, keys, strict=True) if isinstance(k, Type)]
    data = "".join(k for k in keys if isinstance(k, str))
    by_rows = bool(flags) and all(flags) and not data and op.batch != "list"
    slots: list[Slot] = []
    operands: list[Any] = []
    n_data = 0
    for k, flag in zip(keys, lifted, strict=True):
        if isinstance(k, Type):
            inner = tensor_type(k.dtype, k.shape[1:]) if flag else k
            level = 1 if flag and not by_rows else NODE
            operands.append(builder.input("rows", len(slots), inner, level))
            slots.append(Slot(EACH if level else ONE, k, level))
        elif isinstance(k, Shared):
            operands.append(k._enter(builder))
        elif isinstance(k, str):
            operands.append(
                builder.input("data", n_data, tensor_type(INT64 if k == "i" else FLOAT64, ()), NODE, weak=True)
            )
            n_data += 1
        else:
            operands.append(k[1])
    assert len(values) == len(slots)
    result = builder.record(op, tuple(operands), attrs)
    return _TracedOp(builder, result, slots, data, by_rows), by_rows
