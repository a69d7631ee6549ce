"""What every value of a program can do: Python operators and array-API methods, all by `apply`.

Tensors of a recording, tracers inside a cell, parameters and what is computed from parameters alone inherit from
`Tensor`; each of them says in `_record` how an op on it is written down. Ops therefore never know what they run on,
and rules for derivatives are ordinary code on values.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..base.errors import op_error
from ..base.types import Shape
from .searching import COMPARE, looks_for_an_object

if TYPE_CHECKING:
    from ..base.types import Type
    from .declare import Op


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

    # Numbers and arrays.

    def numpy(self) -> np.ndarray[Any, Any]:
        """Force, and return a copy as a NumPy array."""
        raise TypeError(f"{type(self).__name__} has no numbers")

    def item(self) -> Any:
        """Force a value of one element, and return it as a Python number."""
        array = self.numpy()
        if array.size != 1:
            raise op_error(
                "item",
                "only a value of one element is one number",
                got=str(self._type),
                repair="x.tolist() gives all of them; a condition on several needs ab.max, ab.sum or ab.where",
            )
        return array.item()

    def tolist(self) -> Any:
        """Force, and return the numbers in nested lists; of rank 0 the number.

        >>> import autobatch as ab
        >>> ab.ones((2, 1)).tolist()
        [[1.0], [1.0]]
        """
        return self.numpy().tolist()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        return bool(self.item())

    def __index__(self) -> int:
        if self.dtype.kind not in "iu":
            raise TypeError(f"only whole numbers can be an index, not {self._type}")
        return int(self.item())

    def __format__(self, spec: str) -> str:
        if not spec:
            return str(self)
        if self._type.shape:
            raise op_error(
                "format",
                f"{spec!r} formats one number",
                got=str(self._type),
                repair="format the elements of x.tolist()",
            )
        return format(self.item(), spec)

    def _carries_gradient(self) -> bool:
        """Whether a parameter leads to it: its numbers alone would lose the gradient."""
        return False

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        if self._carries_gradient():
            raise op_error(
                "numpy",
                "a value that carries a gradient does not become an array unasked",
                got=str(self._type),
                repair="call .numpy() for its numbers or .detach() for a constant; ab.stack puts values together, "
                "with their gradients",
            )
        if copy is False:
            raise ValueError("the numbers of a lazy value are always copied")
        array = self.numpy()
        return array if dtype is None else array.astype(dtype)

    def backward(self, retain: bool = False) -> None:
        """Add d self / d parameter to `.grad` of every parameter reached, and end the recording unless `retain`."""
        raise TypeError(f"{type(self).__name__} cannot be differentiated")

    # Operators.

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

    def __floordiv__(self, other: Any) -> Any:
        return apply(FLOOR_DIVIDE, (self, other))

    def __rfloordiv__(self, other: Any) -> Any:
        return apply(FLOOR_DIVIDE, (other, self))

    def __mod__(self, other: Any) -> Any:
        return apply(REMAINDER, (self, other))

    def __rmod__(self, other: Any) -> Any:
        return apply(REMAINDER, (other, self))

    def __divmod__(self, other: Any) -> tuple[Any, Any]:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> tuple[Any, Any]:
        return other // self, other % self

    def __and__(self, other: Any) -> Any:
        return apply(BITS_AND, (self, other))

    def __rand__(self, other: Any) -> Any:
        return apply(BITS_AND, (other, self))

    def __or__(self, other: Any) -> Any:
        return apply(BITS_OR, (self, other))

    def __ror__(self, other: Any) -> Any:
        return apply(BITS_OR, (other, self))

    def __xor__(self, other: Any) -> Any:
        return apply(BITS_XOR, (self, other))

    def __rxor__(self, other: Any) -> Any:
        return apply(BITS_XOR, (other, self))

    def __invert__(self) -> Any:
        return apply(INVERT, (self,))

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

    def __round__(self, digits: int | None = None) -> Any:
        return nearest(self, digits)

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
        if frame.f_code.co_code[frame.f_lasti] != COMPARE and looks_for_an_object(frame):
            return self._is(other)
        return apply(EQUAL, (self, other)) if isinstance(other, _COMPARED) else NotImplemented

    def _is(self, other: Any) -> bool:
        """Whether a container that looks for one of the two has found it."""
        return self is other

    def __ne__(self, other: Any) -> Any:
        return apply(NOT_EQUAL, (self, other)) if isinstance(other, _COMPARED) else NotImplemented

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


_COMPARED = (Tensor, np.ndarray, np.generic, int, float, complex, list, tuple)
"""What a value is compared with by its elements; to all else it is unequal, as one object to another."""

from .declare import apply  # noqa: E402
from .elementwise import (  # noqa: E402
    ABS,
    ADD,
    BITS_AND,
    BITS_OR,
    BITS_XOR,
    DIV,
    EQUAL,
    FLOOR_DIVIDE,
    INVERT,
    LESS,
    LESS_EQUAL,
    MUL,
    NEG,
    NOT_EQUAL,
    REMAINDER,
    STOP_GRADIENT,
    SUB,
    cast,
    nearest,
    power,
)
from .index import getitem  # noqa: E402
from .linalg import MATMUL  # noqa: E402
from .movement import reshape, transpose  # noqa: E402
from .reduce import reduction  # noqa: E402
