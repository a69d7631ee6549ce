"""Functions that are ops: a function written in ops becomes a composite, and its call is one node.

    @composite(normal((3, 2)))
    def silu(x: TensorLike) -> Tensor:
        "x sigmoid(x)"
        x = as_value(x)
        return x * sigmoid(x)

Parameters that are `TensorLike` are operands, all others settings: numbers and strings that are attributes of the op.
An operand that may be None is left out of the node where it is None. A setting that is called `axis` is one of the
first operand, and counted from the end in the body.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from ..base.errors import op_error
from .declare import Attrs, Sample, apply, as_value, declare
from .elementwise import Samples, carried
from .movement import negative_axis

F = TypeVar("F", bound=Callable[..., Any])


def beside(at: int) -> Callable[[Sequence[int], Sequence[bool], Attrs], tuple[bool, ...] | None]:
    """Whether the leading axis of the first operand is another than the axis, which is attribute `at`."""

    def lead(ndims: Sequence[int], shared: Sequence[bool], attrs: Attrs) -> tuple[bool, ...] | None:
        return (True,) if len(ndims) == 1 and ndims[0] >= 2 and attrs[at] != -ndims[0] else None

    return lead


COMPOSED: dict[str, Callable[..., Any]] = {}
"""The functions that were declared so, by name."""


def normal(*shapes: tuple[int, ...], attrs: Attrs = (), scale: float = 1.0) -> Samples:
    """One sample: an operand of each shape, drawn from a normal distribution."""
    return lambda rng: [Sample(tuple(rng.normal(size=shape) * scale for shape in shapes), attrs)]


def uniform(low: float, high: float, *shapes: tuple[int, ...], attrs: Attrs = ()) -> Samples:
    """One sample: an operand of each shape, drawn from between two numbers."""
    return lambda rng: [Sample(tuple(rng.uniform(low, high, shape) for shape in shapes), attrs)]


def composite(
    samples: Samples,
    *,
    lead: Any = carried,
    dtypes: str = "float",
    then: Callable[[Any], Any] | None = None,
    check: Callable[..., None] | None = None,
) -> Callable[[F], F]:
    """Declare a function as an op whose body it is; `then` is applied to the op's result, as a node of its own,
    and `check` to the arguments of a call.

    Its attributes are the settings, and behind them, where operands may be None, the numbers of those that are.
    """

    def declared(body: F) -> F:
        parameters = list(inspect.signature(body).parameters.values())
        operands = [p for p in parameters if "TensorLike" in str(p.annotation)]
        n, n_optional = len(operands), sum("None" in str(p.annotation) for p in operands)
        names = [p.name for p in parameters]
        defaults = tuple(p.default for p in parameters)
        at = names.index("axis") - n if "axis" in names else -1
        n_required = sum(default is inspect.Parameter.empty for default in defaults)
        assert operands == parameters[:n], f"{body.__name__}: operands stand before settings"

        def with_none(*args: Any) -> Any:
            *values, absent = args
            for k in absent:
                values.insert(k, None)
            return body(*values)

        doc = (inspect.getdoc(body) or "").split("\n")[0]
        op = declare(
            body.__name__,
            doc,
            body=with_none if n_optional else body,
            dtypes=dtypes,
            lead=lead if at < 0 else beside(at),
            samples=samples,
        )

        @functools.wraps(body)
        def call(*args: Any, **named: Any) -> Any:
            if named or not n_required <= len(args) <= len(names):
                bound = inspect.signature(body).bind(*args, **named)
                bound.apply_defaults()
                args = tuple(bound.arguments.values())
            args += defaults[len(args) :]
            for name, x in zip(names[n:], args[n:], strict=True):
                if hasattr(x, "_record"):
                    raise op_error(
                        op.name, f"{name}= is a setting of the op, no value", got=repr(x), repair="pass a number"
                    )
            if check is not None:
                check(*args)
            values, attrs = args[:n], args[n:]
            if at >= 0:
                values = (as_value(values[0]), *values[1:])
                attrs = (*attrs[:at], negative_axis(op.name, attrs[at], len(values[0].shape)), *attrs[at + 1 :])
            if n_optional:
                absent = tuple(k for k, x in enumerate(values) if x is None)
                values, attrs = tuple(x for x in values if x is not None), (*attrs, absent)
            result = apply(op, values, attrs)
            return result if then is None else then(result)

        COMPOSED[op.name] = call
        return call  # type: ignore[return-value]

    return declared


def each(fn: Callable[[float], float]) -> Callable[[Any], Any]:
    """A function of Python numbers on arrays, element by element; where it raises for a pole, the result is inf."""

    def safe(x: float) -> float:
        try:
            return fn(x)
        except (ValueError, OverflowError):
            return float("inf")

    ufunc = np.frompyfunc(safe, 1, 1)
    return lambda x: np.asarray(ufunc(x), object).astype(x.dtype)
