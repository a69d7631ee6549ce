"""How an op is declared: one `Op` holds all that is known about it.

A *primitive* has a type rule, a NumPy reference, a VJP written in ops and a batching rule. A *composite* has a body
written in ops instead; all the rest follows from the body. Declaring an op adds it to `OPS`, and the generated tests
run over `OPS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np

from ..base.errors import op_error
from ..base.types import Type

if TYPE_CHECKING:
    from .value import Tensor

Attrs = tuple[Any, ...]
P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Sample:
    """One call of an op for the generated tests.

    `operands` are NumPy arrays or Python numbers (data); `smooth` is False where finite differences mean nothing;
    `error` is the exception class a wrong sample must raise.
    """

    operands: tuple[Any, ...]
    attrs: Attrs = ()
    smooth: bool = True
    error: type[Exception] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Op:
    """All that is known about one op.

    infer: operand types, attributes → result type (raises `OpTypeError`); operands have been cast to one dtype
    numpy: the reference, on concrete arrays and resolved attributes
    vjp:   (cotangent, result, operands, attributes) → cotangents of the operands, None where there is none
    batch: name of the batching rule in `compile/batch.py`'s table: how a leading axis of nodes is added
    scalar: for elementwise ops the expression of one element, in Python that Numba and CUDA read alike; it may call
            functions of `math` that the C library has by the same name
    dtypes: how operand dtypes meet: "promote", "float" (promote to a floating dtype), "keep" (each its own), "count"
           (floating ones keep their own, all others become int64)
    result: "same" as the operands, "bool", or "custom" (infer says it)
    body:  for composites, the function in ops
    lead:  (operand ranks, which are shared, attributes) → which row operands have a leading axis that is merely carried
           along, so that it may vary; None where there is none such
    over_rows: (types of the operands, attributes) → a function in ops on a row of each, an element of list 1, whose
           result is that of all rows; None where there is none
    combine: of a reduction the elementwise op, associative and commutative, that makes one element of two; its scalar
           expression makes the loops of all backends
    identity: of a reduction the result for no elements; infinities stand for the lowest and highest of integers
    over_list: of an op along axes, its first attribute, the op along a list; it takes the place where the axis is the
           leading one. Its attributes are the number of the list, and those that follow the axis and, of what reduces,
           `keepdims`. Along the pairs of each row or column (`ops.pairs`) the first is (list of the pairs, the other)
    over_segments: of an op over a list the one of rows in the batched graph
    per_element: of an op over a list or segments: whether it gives a value to each element, not one to all together
    """

    name: str
    doc: str
    infer: Callable[[Sequence[Type], Attrs], Type] | None = None
    numpy: Callable[..., Any] | None = None
    vjp: Callable[[Any, Any, tuple[Any, ...], Attrs], tuple[Any, ...]] | None = None
    batch: str = ""
    scalar: str = ""
    dtypes: str = "promote"
    body: Callable[..., Any] | None = None
    lead: Callable[[Sequence[int], Sequence[bool], Attrs], tuple[bool, ...] | None] | None = None
    over_rows: Callable[[Sequence[Type], Attrs], Callable[..., Any] | None] | None = None
    combine: Op | None = None
    identity: float = math.nan
    over_list: Op | None = None
    over_segments: Op | None = None
    per_element: bool = False
    samples: Callable[[np.random.Generator], list[Sample]] | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        return self.name

    def list_form(self, ndims: Sequence[int], attrs: Attrs) -> tuple[Op, Attrs] | None:
        """The op over a list, and what its attributes are beside the list, that replaces this one where it works along
        the leading axis alone. A result that keeps the axis is one row, as one that does not."""
        if self.over_list is None or attrs[0] not in (-ndims[0], (-ndims[0],)):
            return None
        return self.over_list, attrs[1:] if self.over_list.per_element else attrs[2:]

    def identity_of(self, dtype: np.dtype[Any]) -> float:
        """The identity of a reduction, as a number of this dtype."""
        if dtype.kind == "f" or math.isfinite(self.identity):
            return self.identity
        if dtype.kind == "b":
            return self.identity > 0
        return np.iinfo(dtype).max if self.identity > 0 else np.iinfo(dtype).min


OPS: dict[str, Op] = {}


def _declaring(make: Callable[P, Op]) -> Callable[P, Op]:
    """Make an op and add it to the table; names are unique."""

    def declare(*args: P.args, **kwargs: P.kwargs) -> Op:
        op = make(*args, **kwargs)
        if op.name in OPS:
            raise ValueError(f"op {op.name!r} is declared twice")
        OPS[op.name] = op
        return op

    return declare


declare = _declaring(Op)


def _not_installed(*args: Any) -> Any:
    raise TypeError("no recorder is installed")


recorder: list[Callable[[Op, tuple[Any, ...], Attrs], Any]] = [_not_installed]
"""Records an op on plain arrays and numbers in the current example; set by `record.recorder`."""


lifter: list[Callable[..., Any]] = [_not_installed, _not_installed]
"""Converts a number, an array or nested lists to a value; the second one floating numbers to float64. Set by
`record.recorder`."""


def as_value(x: Any) -> Tensor:
    """Something with a shape: lists and numbers become values, all else stays."""
    return x if hasattr(x, "shape") else lifter[0](x)


def lifted(x: Any) -> Tensor:
    """A value: numbers, lists and arrays become values."""
    return x if hasattr(x, "_record") else lifter[0](x)


def has_double(xs: Iterable[Any]) -> bool:
    """Whether there is a float64 value, which floating arrays, lists and numbers that it meets become."""
    return any(hasattr(x, "_record") and x.dtype == np.float64 and not getattr(x, "_weak", False) for x in xs)


def lifted_all(*xs: Any) -> tuple[Tensor, ...]:
    """Operands of one op as values, where the op itself gets what is made of them."""
    if all(hasattr(x, "_record") for x in xs):
        return xs
    lift = lifter[has_double(xs)]
    return tuple(x if hasattr(x, "_record") else lift(x) for x in xs)


def unchanged(x: Any) -> Any:
    """An operand that is the result of an op as it is: the same object, but under `no_grad` a constant."""
    return x._unchanged() if hasattr(x, "_record") else x


def check_number(name: str, option: str, x: Any) -> None:
    """Raise unless an option of op `name` is one number."""
    if not isinstance(x, int | float) and getattr(x, "shape", None) != ():
        raise op_error(name, f"{option} is not a number", got=repr(x)[:60], repair="pass a Python number")


def elements(name: str, xs: Iterable[Any]) -> list[Any]:
    """What op `name` joins: values, arrays and numbers of any iterable; lists among them become values."""
    if not hasattr(xs, "__iter__") or isinstance(xs, str | bytes | dict):
        raise op_error(name, "expected a list of values", got=type(xs).__name__, repair="put the values in a list")
    xs = list(xs)
    lift = lifter[any(isinstance(x, list | tuple) for x in xs) and has_double(xs)]
    return [_element(name, k, x, lift) for k, x in enumerate(xs)]


def _element(name: str, k: int, x: Any, lift: Callable[..., Any]) -> Any:
    if hasattr(x, "shape") or isinstance(x, int | float):
        return x
    if isinstance(x, list | tuple):
        return lift(x)
    raise op_error(
        name,
        f"element {k} of the list is {'None' if x is None else f'of type {type(x).__name__}'}",
        expected="values, arrays or numbers",
        repair="is a `return` missing?" if x is None else "",
    )


def apply(op: Op, operands: tuple[Any, ...], attrs: Attrs = ()) -> Any:
    """Record one op: the operand of highest priority decides where."""
    best = None
    priority = -1
    for x in operands:
        here = getattr(x, "_priority", -1)
        if here > priority:
            best, priority = x, here
    if best is None:
        return recorder[0](op, operands, attrs)
    return best._record(op, operands, attrs)
