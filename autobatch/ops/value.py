"""What every value of a program can do: Python operators and array-API methods, all by `apply`.

Tensors of a recording, tracers inside a cell, parameters and what is computed from parameters alone are subclasses,
whose `_record` says how an op on them is recorded. Ops therefore never know what they run on, and rules for derivatives
are ordinary code on values.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from types import EllipsisType
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np
from numpy.typing import DTypeLike

from ..base.errors import op_error
from . import elementwise as e
from .declare import Op, apply, unchanged
from .elementwise import ABS, EQUAL, INVERT, NEG, NOT_EQUAL, STOP_GRADIENT, cast, nearest
from .functions import power, sqrt
from .index import getitem
from .linalg import MATMUL
from .movement import reshape, swapped, transpose
from .reduce import ARGMAX, ARGMIN, position, reduction, variance
from .scan import cumsum
from .searching import COMPARE, looks_for_an_object

if TYPE_CHECKING:
    from ..base.types import Type


def _operators(op: Op, name: str, swapped_name: str = "") -> tuple[Operator, Operator]:
    """The methods of an operator: of this name for self and other, and for other and self."""

    def method(self: Tensor, other: TensorLike) -> Tensor:
        return apply(op, (self, other))

    def swapped(self: Tensor, other: TensorLike) -> Tensor:
        return apply(op, (other, self))

    method.__name__, swapped.__name__ = f"__{name}__", f"__{swapped_name or f'r{name}'}__"
    return method, swapped


class Tensor:
    """An immutable lazy value of one example; so are parameters, constants and values inside a traced cell.

    Operators, indexing, `.T`, `.sum()`, … record; `.numpy()`, `.item()`, `float()`, `int()`, `bool()` force: they run
    all live pending work of this thread together. `repr` never runs anything.

    >>> t = ab.tensor([1.0, 2.0]) * 3
    >>> t.numpy()
    array([3., 6.], dtype=float32)
    """

    __slots__ = ()
    _priority = 0  # decides which class records an op of mixed operands
    _type: Type

    def _record(self, op: Op, operands: tuple[Any, ...], attrs: tuple[Any, ...]) -> Any:
        raise TypeError(f"{type(self).__name__} does not record ops")

    def _unchanged(self) -> Any:
        """This value as the result of an op: see `declare.unchanged`."""
        raise TypeError(f"{type(self).__name__} does not record ops")

    @property
    def shape(self) -> tuple[int, ...]:
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
        return math.prod(self._type.shape)

    def __len__(self) -> int:
        if not self._type.shape:
            raise TypeError("len() of a value of rank 0")
        return int(self._type.shape[0])

    def __iter__(self) -> Iterator[Tensor]:
        if not self._type.shape:
            raise TypeError("iteration over a value of rank 0")
        return iter([self[i] for i in range(self._type.shape[0])])

    __hash__ = object.__hash__

    def __contains__(self, item: object) -> bool:
        raise TypeError("`in` does not look inside a lazy value; use ab.max(x == item) and force it")

    # Numbers and arrays.

    def numpy(self) -> np.ndarray[Any, Any]:
        """Force, and return a copy as a NumPy array. Raises what an op raises on its numbers."""
        raise TypeError(f"{type(self).__name__} has no numbers")

    def item(self) -> float:
        """Force a value of one element, and return it as a Python number. Raises `OpTypeError` for more."""
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
            raise TypeError(f"only integers can be an index, not {self._type}")
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

    if TYPE_CHECKING:  # NumPy's functions record; a type with `__array__` would be taken for an array by NumPy's hints

        def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Tensor: ...

        # `record.exchange` has these.
        def __array_namespace__(self, *, api_version: str | None = None) -> Any: ...

        def __dlpack__(self, *, copy: bool | None = None, **options: Any) -> Any: ...

        def __dlpack_device__(self) -> tuple[int, int]: ...

        def to_device(self, device: Any, /, *, stream: Any = None) -> Tensor: ...

        @property
        def device(self) -> str: ...

    else:

        def __array__(self, dtype=None, copy=None):
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
        """Add d self / d parameter to `.grad` of every parameter reached, and end the recording unless `retain`.

        Raises `OpTypeError` unless it is a floating scalar, and `RecordingError` for a recording that has ended.
        """
        raise TypeError(f"{type(self).__name__} cannot be differentiated")

    # Operators.

    __add__, __radd__ = _operators(e.ADD, "add")
    __sub__, __rsub__ = _operators(e.SUB, "sub")
    __mul__, __rmul__ = _operators(e.MUL, "mul")
    __truediv__, __rtruediv__ = _operators(e.DIV, "truediv")
    __floordiv__, __rfloordiv__ = _operators(e.FLOOR_DIVIDE, "floordiv")
    __mod__, __rmod__ = _operators(e.REMAINDER, "mod")
    __and__, __rand__ = _operators(e.BITS_AND, "and")
    __or__, __ror__ = _operators(e.BITS_OR, "or")
    __xor__, __rxor__ = _operators(e.BITS_XOR, "xor")
    __matmul__, __rmatmul__ = _operators(MATMUL, "matmul")
    __lt__, __gt__ = _operators(e.LESS, "lt", "gt")
    __le__, __ge__ = _operators(e.LESS_EQUAL, "le", "ge")

    def __divmod__(self, other: TensorLike) -> tuple[Tensor, Tensor]:
        return self // other, self % other

    def __rdivmod__(self, other: TensorLike) -> tuple[Tensor, Tensor]:
        return self.__rfloordiv__(other), self.__rmod__(other)

    def __invert__(self) -> Tensor:
        return apply(INVERT, (self,))

    def __pow__(self, other: TensorLike) -> Tensor:
        return power(self, other)

    def __rpow__(self, other: TensorLike) -> Tensor:
        return power(other, self)

    def __neg__(self) -> Tensor:
        return apply(NEG, (self,))

    def __pos__(self) -> Tensor:
        return unchanged(self)

    def __abs__(self) -> Tensor:
        return apply(ABS, (self,))

    def __round__(self, digits: int | None = None) -> Tensor:
        return nearest(self, digits)

    def __eq__(self, other: object) -> Tensor:  # type: ignore[override]
        frame = sys._getframe(1)
        if frame.f_code.co_code[frame.f_lasti] != COMPARE and looks_for_an_object(frame):
            return self._is(other)
        return apply(EQUAL, (self, other)) if isinstance(other, _COMPARED) else NotImplemented

    def _is(self, other: object) -> Any:
        """Whether a container that looks for one of the two has found it."""
        return self is other

    def __ne__(self, other: object) -> Tensor:  # type: ignore[override]
        return apply(NOT_EQUAL, (self, other)) if isinstance(other, _COMPARED) else NotImplemented

    def __getitem__(self, index: Index) -> Tensor:
        return getitem(self, index)

    @property
    def T(self) -> Tensor:
        """The axes reversed."""
        return transpose(self)

    @property
    def mT(self) -> Tensor:
        """The last two axes swapped."""
        return swapped(self)

    def sum(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """`autobatch.sum` of this value."""
        return reduction("sum", self, axis, keepdims)

    def prod(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """`autobatch.prod` of this value."""
        return reduction("prod", self, axis, keepdims)

    def mean(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """`autobatch.mean` of this value."""
        return reduction("mean", self, axis, keepdims)

    def max(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """`autobatch.max` of this value."""
        return reduction("max", self, axis, keepdims)

    def min(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """`autobatch.min` of this value."""
        return reduction("min", self, axis, keepdims)

    def var(self, axis: Axis = None, keepdims: bool = False, *, correction: float = 0.0) -> Tensor:
        """`autobatch.var` of this value."""
        return variance(self, axis, keepdims, correction)

    def std(self, axis: Axis = None, keepdims: bool = False, *, correction: float = 0.0) -> Tensor:
        """`autobatch.std` of this value."""
        return sqrt(variance(self, axis, keepdims, correction))

    def argmax(self, axis: int | None = None, keepdims: bool = False) -> Tensor:
        """`autobatch.argmax` of this value."""
        return position(ARGMAX, self, axis, keepdims)

    def argmin(self, axis: int | None = None, keepdims: bool = False) -> Tensor:
        """`autobatch.argmin` of this value."""
        return position(ARGMIN, self, axis, keepdims)

    def cumsum(self, axis: int | None = None) -> Tensor:
        """`autobatch.cumsum` of this value."""
        return cumsum(self, axis)

    def reshape(self, *shape: ShapeLike) -> Tensor:
        """`autobatch.reshape` of this value."""
        return reshape(self, shape[0] if len(shape) == 1 else shape)

    def astype(self, dtype: DTypeLike) -> Tensor:
        """The value converted to another dtype."""
        return cast(self, dtype)

    def detach(self) -> Tensor:
        """The same numbers as a constant: no gradient flows through it."""
        return apply(STOP_GRADIENT, (self,))


_Scalar = Tensor | np.ndarray[Any, Any] | np.generic | float
TensorLike = _Scalar | Sequence[float] | Sequence[Sequence[float]] | Sequence[Sequence[Sequence[float]]]
"""What ops take: tensors, arrays, numbers, and nested lists of numbers."""
ShapeLike = SupportsIndex | list[int] | tuple[Any, ...]
Axis = int | tuple[int, ...] | None
Operator = Callable[[Tensor, TensorLike], Tensor]
_Part = Tensor | np.ndarray[Any, Any] | SupportsIndex | slice | EllipsisType | list[Any] | None
Index = _Part | tuple[_Part, ...]

_COMPARED = (Tensor, np.ndarray, np.generic, int, float, complex, list, tuple)
"""What a value is compared with by its elements; to all else it is unequal, as one object to another."""
