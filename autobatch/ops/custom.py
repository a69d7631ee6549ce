"""Values whose derivative is a function of the user's, as part of a graph.

    %y, %x                          what a function gave, and its argument
    %g = cotangent(%y)              stands for the cotangent of the result
    %gx = …                         the user's function of it, written in ops
    %z = custom(%y, %g, %x, %gx)    the same numbers as %y

The cotangent of x is `%gx` with that of z in the place of `%g` (`ir.vjp`). Until then the graph is batched as any
other; what computes values drops all but `%y`.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..base.types import Type
from .declare import Attrs, Op


def _as_first(types: Sequence[Type], attrs: Attrs) -> Type:
    return types[0]


COTANGENT = Op(
    "cotangent",
    "stands for the cotangent of a value; attribute: which of several",
    _as_first,
    batch="held",
    dtypes="keep",
)
CUSTOM = Op(
    "custom",
    "the first operand; the second stands for its cotangent; then each value and its cotangent",
    _as_first,
    batch="custom",
    dtypes="keep",
)
