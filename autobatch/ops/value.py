"""What every value of a program can do: Python operators and array-API methods, all by `apply`.

Tensors of a recording, tracers inside a cell, parameters and what is computed from parameters alone inherit from
`Tensor`; each of them says in `_record` how an op on it is written down. Ops therefore never know what they run on,
and rules for derivatives are ordinary code on values.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import OpTypeError, message, user_line
from ..types import Shape

if TYPE_CHECKING:
    from ..types import Type
    from .declare import Op


_CONTAINS = dis.opmap["CONTAINS_OP"]


class Tensor:
    """An immutable lazy value of one example; parameters, constants and values inside a traced cell are such, too.

    Operators, indexing, `.T`, `.sum()`, … record; `.numpy()`, `.item()`, `float()`, `int()`, `bool()` force: they run
    all live pending work of this thread together. `repr` never runs anything.

    >>> import autobatch as ab
    >>> t = ab.tensor([1.0, 2.0]) * 3
    >>> t.numpy()
    array([3., 6.], dtype=float32)
    """

    # `_priority` decides who writes down an op of mixed operands.

    __slots__ = ()
    _priority = 0
    _type: Type
    __array_priority__ = 1000.0
    __array_ufunc__ = None

    def _record(self, op: Op, operands: tuple[Any, ...], attrs: tuple[Any, ...]) -> Any:
        raise TypeError(f"{type(self).__name__} does not record ops")

    @property
    def shape(self) -> Shape:
        """Extents, a tuple of ints."""
        return self._type.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy dtype."""
        return self._type.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self._type.ndim

    @property
    def size(self) -> int:
        """Number of elements."""
        total = 1
        for extent in self._type.shape:
            total *= extent
        return total

    def __len__(self) -> int:
        if not self._type.shape:
            raise TypeError("len() of a value of rank 0")
        return int(self._type.shape[0])

    def __iter__(self) -> Iterator[Any]:
        if not self._type.shape:
            raise TypeError("iteration over a value of rank 0")
        return iter([self[i] for i in range(self._type.shape[0])])

    __hash__ = object.__hash__

    def __contains__(self, item: object) -> bool:
        raise TypeError("`in` does not look inside a lazy value; use ab.max(x == item) and force it")

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise OpTypeError(
            message(
                "numpy: a lazy value cannot become an array here",
                where=user_line(2),
                repair="call .numpy() to force it, or ab.stack to put values together",
            )
        )

    def __add__(self, other: Any) -> Any:
        return apply(ADD, (self, other))

    def __radd__(self, other: Any) -> Any:
        return apply(ADD, (other, self))

    def __sub__(self, other: Any) -> Any:
        return apply(SUB, (self, other))

    def __rsub__(self, other: Any) -> Any:
        return apply(SUB, (other, self))

    def __mul__(self, other: Any) -> Any:
        return apply(MUL, (self, other))

    def __rmul__(self, other: Any) -> Any:
        return apply(MUL, (other, self))

    def __truediv__(self, other: Any) -> Any:
        return apply(DIV, (self, other))

    def __rtruediv__(self, other: Any) -> Any:
        return apply(DIV, (other, self))

    def __matmul__(self, other: Any) -> Any:
        return apply(MATMUL, (self, other))

    def __rmatmul__(self, other: Any) -> Any:
        return apply(MATMUL, (other, self))

    def __pow__(self, other: Any) -> Any:
        return power(self, other)

    def __rpow__(self, other: Any) -> Any:
        return power(other, self)

    def __neg__(self) -> Any:
        return apply(NEG, (self,))

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return apply(ABS, (self,))

    def __lt__(self, other: Any) -> Any:
        return apply(LESS, (self, other))

    def __le__(self, other: Any) -> Any:
        return apply(LESS_EQUAL, (self, other))

    def __gt__(self, other: Any) -> Any:
        return apply(LESS, (other, self))

    def __ge__(self, other: Any) -> Any:
        return apply(LESS_EQUAL, (other, self))

    def __eq__(self, other: Any) -> Any:
        frame = sys._getframe(1)
        if frame.f_code.co_code[frame.f_lasti] == _CONTAINS:
            return self is other  # `x in values` goes by identity
        return apply(EQUAL, (self, other))

    def __ne__(self, other: Any) -> Any:
        return apply(NOT_EQUAL, (self, other))

    def __getitem__(self, index: Any) -> Any:
        return getitem(self, index)

    @property
    def T(self) -> Any:
        """The axes reversed."""
        return transpose(self)

    @property
    def mT(self) -> Any:
        """The last two axes swapped."""
        return transpose(self, (*range(self.ndim - 2), self.ndim - 1, self.ndim - 2))

    def sum(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Any:
        """`autobatch.sum` of this value."""
        return reduction("sum", self, axis, keepdims)

    def mean(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Any:
        """`autobatch.mean` of this value."""
        return reduction("mean", self, axis, keepdims)

    def max(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Any:
        """`autobatch.max` of this value."""
        return reduction("max", self, axis, keepdims)

    def reshape(self, *shape: Any) -> Any:
        """`autobatch.reshape` of this value."""
        return reshape(self, shape[0] if len(shape) == 1 and isinstance(shape[0], tuple | list) else shape)

    def astype(self, dtype: Any) -> Any:
        """The value converted to another dtype."""
        return cast(self, dtype)

    def detach(self) -> Any:
        """The same numbers as a constant: no gradient flows through it."""
        return apply(STOP_GRADIENT, (self,))


from .declare import apply  # noqa: E402
from .elementwise import (  # noqa: E402
    ABS,
    ADD,
    DIV,
    EQUAL,
    LESS,
    LESS_EQUAL,
    MUL,
    NEG,
    NOT_EQUAL,
    STOP_GRADIENT,
    SUB,
    cast,
    power,
)
from .index import getitem  # noqa: E402
from .linalg import MATMUL  # noqa: E402
from .movement import reshape, transpose  # noqa: E402
from .reduce import reduction  # noqa: E402
