"""What a traced function returned: flattened into the results of its node, and unflattened for each call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...base.errors import CellError, op_error, user_error
from ...base.types import Type
from ...ir.graph import NODE
from ...ir.trace import Builder
from ...ir.tracers import StackedTracer, Tracer
from ...schedule.structures import EACH, LIST, PER_ELEMENT, Result, Slot
from ..containers import filled, keys_of, parts_of
from ..tensor import RecordedTensor
from ..views import view_rows


def flatten_results(x: Any, leaves: list[Any], listed: list[int], builder: Builder, element: bool = False) -> Any:
    """Structure of the results; leaves are collected in order. `element`: inside one element of a varying list."""
    if isinstance(x, list) and len(x) == 2 and _is_element(x[0]) and _is_element(x[1]):
        first = len(leaves)
        inner = flatten_results(x[0], leaves, listed, builder, element=True)
        shadow: list[Any] = []
        flatten_results(x[1], shadow, [], builder, element=True)
        for a, b in zip(leaves[first:], shadow, strict=True):
            if builder._twin.get(b._id) != a._id:
                raise user_error(CellError, "cell: a list is returned whose elements are not treated alike")
        listed.extend(range(first, len(leaves)))
        return ("each", inner)
    if isinstance(x, list | tuple | dict):
        base = next(base for base in (dict, list, tuple) if isinstance(x, base))
        kind = type(x) if base is tuple and hasattr(x, "_fields") else base
        parts = tuple(flatten_results(e, leaves, listed, builder, element) for e in parts_of(x))
        return ("parts", kind, parts, keys_of(x))
    if x is None or isinstance(x, str):
        return ("static", x)
    if not element and isinstance(x, Tracer) and x.level > NODE:
        what = "cell: a single element of a varying list is returned"
        raise user_error(CellError, what, repair="return a list of all elements, or reduce it")
    leaves.append(x if isinstance(x, StackedTracer | Tracer) else builder._lift(x))
    return ("leaf", len(leaves) - 1)


def _is_element(x: Any) -> bool:
    """Whether a result is one element of a varying list."""
    stack = [x]
    while stack:
        y = stack.pop()
        if isinstance(y, tuple | list):
            stack.extend(y)
        else:
            return isinstance(y, Tracer) and y.level > NODE
    return False


def result_of(x: Any, type: Type, level: int, slots: Sequence[Slot]) -> Result:
    """The layout of a leaf in its pool."""
    if level <= NODE:
        return Result(type.width, type.dtype, rows=type.rows)
    ref = next(k for k, slot in enumerate(slots) if slot.kind in (LIST, EACH) and slot.list == level)
    if isinstance(x, StackedTracer):
        if type.ndim == 0:
            what = "a stack of numbers over a varying list cannot leave the cell"
            raise op_error("cell", what, repair="return the list, or stack vectors of length 1")
        return Result(type.width * type.rows, type.dtype, PER_ELEMENT, ref, 1)
    return Result(type.width, type.dtype, PER_ELEMENT, ref, type.rows)


def assemble(structure: Any, tensors: Sequence[Any]) -> Any:
    """The results of a call, in the structure that the traced function gave them."""
    kind = structure[0]
    if kind == "leaf":
        return tensors[structure[1]]
    if kind == "static":
        return structure[1]
    if kind == "each":
        length = len(tensors[_first_leaf(structure[1])])
        return [assemble(structure[1], [t[e] if isinstance(t, list) else t for t in tensors]) for e in range(length)]
    return filled(structure[1], structure[3], [assemble(p, tensors) for p in structure[2]])


def _first_leaf(structure: Any) -> int:
    while structure[0] != "leaf":
        structure = structure[2][0]
    return int(structure[1])


def element_of(whole: RecordedTensor, type: Type, e: int) -> RecordedTensor:
    """Element `e` of a list that is a result."""
    if type.ndim < 2:
        return view_rows(whole, e, 1, 1, "pick", type)
    return view_rows(whole, e * type.rows, 1, type.rows, "slice", type)
