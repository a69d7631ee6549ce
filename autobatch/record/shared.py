"""Values that are the same for every example: parameters, buffers, constants, and what is computed from them alone.

An op whose operands are all shared is not recorded in any example. It becomes a `SharedExpression`, one object for
equal ops on equal operands, evaluated at most once per recording. In a signature a shared operand stands by identity.

What users hold is an `Expression`: the value of such an op for the numbers that its parameters have now. Before these
change, `settle` gives each that somebody holds its numbers; the op, and all that was compiled for it, goes on.
"""

from __future__ import annotations

import functools
import itertools
import sys
import threading
import weakref
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from ..backends.device import Device, current_device
from ..backends.transfer import copy_of, is_on_device, to_device, to_host
from ..base.errors import (
    AutobatchError,
    BackendError,
    CellError,
    OpTypeError,
    RecordingError,
    op_error,
    user_error,
    user_line,
)
from ..base.types import HALF, Type, counted, default_dtype, is_float, tensor_type, value_dtype
from ..ir.graph import Graph, _hashable
from ..ir.interpret import interpret
from ..ir.simplify import simplify
from ..ir.trace import Builder
from ..ir.vjp import vjp
from ..ops.declare import Attrs, Op, apply, recorder
from ..ops.elementwise import STOP_GRADIENT
from ..ops.movement import STACK, TRANSPOSE, transpose, whole
from ..ops.movement import extents as extents_of
from ..ops.value import ShapeLike, Tensor, TensorLike
from ..run.device.expressions import evaluate
from .forcing import engine

_INTERN_LIMIT = 512

T = TypeVar("T")


class _Flags(threading.local):
    kept: bool = False
    traced: bool = False


flags = _Flags()
"""Per thread: `kept`, True while `ab.map` makes recordings that will be replayed; `traced`, while a cell is traced."""

frozen: ContextVar[bool] = ContextVar("autobatch_no_grad", default=False)
"""True under `no_grad`."""

checking: ContextVar[Callable[[SharedExpression, Any, str], None] | None] = ContextVar("autobatch_check", default=None)
"""Under `check_finite` called with each op on shared values, an array, and what that is: "value" or "gradient"."""

without_cells: ContextVar[bool] = ContextVar("autobatch_disable_cells", default=False)
"""True under `disable_cells`."""

is_frozen = frozen.get
"""Whether gradients are switched off."""


def is_kept() -> bool:
    """Whether what is recorded now will be replayed."""
    return flags.kept


def refuse_if_kept(what: str) -> None:
    """Raise where a recording that will be replayed is about to depend on something that will be different then."""
    if is_kept():
        raise user_error(
            RecordingError,
            f"map: {what} inside a function whose recordings are reused",
            repair="do it outside and pass the result as an argument, or leave out reuse=True",
        )


def refuse_in_cell(what: str) -> None:
    """Raise where the trace of a cell is about to depend on numbers that change without another trace."""
    if flags.traced:
        raise user_error(
            CellError,
            f"cell: {what}: a value cannot be forced inside a cell",
            repair="do it outside, and pass the number as an argument",
        )


_ages = itertools.count(1)


class Shared(Tensor):
    """A value that does not depend on the example.

    Ops on it are kept with it, or with another of their operands: that which was made last, so that one that lives long
    holds none that go earlier.
    """

    __slots__ = ("__weakref__", "_age", "_dependents", "_expressions", "_signatures", "_tied", "_type")
    _priority = 1

    def __init__(self, type: Type, age: int | None = None) -> None:
        self._type = type
        self._age = next(_ages) if age is None else age
        self._expressions: dict[Any, SharedExpression] = {}
        self._dependents: dict[int, weakref.ref[SharedExpression]] = {}
        self._signatures: dict[Any, Any] = {}
        self._tied: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()

    @property
    def trainable(self) -> bool:
        """Whether a gradient may be wanted."""
        return False

    @property
    def operand(self) -> Shared | None:
        """What stands for it in recordings and signatures; None for what can only be read."""
        return self

    @property
    def T(self) -> Any:
        """The axes reversed."""
        op = self._expressions.get(is_frozen())
        if op is not None and op.current is not None:
            return op.current
        found = transpose(self)
        if isinstance(found, Expression) and isinstance(found.operand, SharedExpression):
            self._expressions[is_frozen()] = found.operand
        return alias(self) if found is self else found

    def _array(self) -> np.ndarray[Any, Any]:
        """The numbers, where they are."""
        raise TypeError(f"{type(self).__name__} has no array of its own")

    def _array_on(self, device: Device | None) -> Any:
        """The numbers where kernels run: on this device, or on the host."""
        return self._array()

    def _enter(self, builder: Builder) -> Any:
        return builder.shared_operand(self)

    def _record(self, op: Op, operands: tuple[Any, ...], attrs: Attrs) -> Any:
        numbers = [x for x in operands if not isinstance(x, Shared)]
        if any(not isinstance(x, bool | int | float | np.number) for x in numbers) or (numbers and op.dtypes == "keep"):
            return recorder[0](op, operands, attrs)
        inner = tuple(x.operand if isinstance(x, Shared) else x for x in operands)
        if any(x is None for x in inner):
            return recorder[0](op, operands, attrs)
        key = (
            op,
            _hashable(attrs),
            tuple(id(x) if isinstance(x, Shared) else (type(x), repr(x)) for x in inner),
            is_frozen(),
            default_dtype(),
        )
        return _kept(key, inner, lambda: SharedExpression(op, inner, attrs, is_frozen()))

    def _record_list(self, kind: str, values: Any) -> Any:
        if kind == "sum":
            total = values[0].astype(counted(values[0].dtype))
            for v in values[1:]:
                total = total + v
            return total
        stacked = stack_values(values)
        return stacked if kind == "stack" else getattr(stacked, kind)(axis=0)

    def backward(self, retain: bool = False) -> None:
        """Add d self / d parameter to `.grad` of the parameters it is made of.

        Raises `OpTypeError` for a non-scalar, `RecordingError` inside `ab.map`, where no parameter leads to the value,
        when one has changed since it was computed, and a second time unless the first was with `retain`.
        """
        engine.backward_of_shared(self, retain)

    def numpy(self) -> np.ndarray[Any, Any]:
        """A copy of the current numbers."""
        if not isinstance(self, Constant):
            refuse_if_kept("the numbers of a parameter are read")
            refuse_in_cell("the numbers of a parameter are read")
        array = self._array()
        return to_host(array) if is_on_device(array) else np.array(array)

    def _carries_gradient(self) -> bool:
        return self.trainable

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._type})"


def youngest_of(operands: Iterable[Any]) -> Shared | None:
    """The shared value among operands that was made last, with which what is made for all of them is kept."""
    return max((x for x in operands if isinstance(x, Shared)), key=lambda x: x._age, default=None)


def _kept(key: Any, operands: tuple[Any, ...], make: Callable[[], SharedExpression]) -> Expression:
    """The value of an op that is kept with the youngest of its operands, made if it is new."""
    youngest = youngest_of(operands)
    assert youngest is not None
    found = youngest._expressions.get(key)
    if found is None:
        if len(youngest._expressions) >= _INTERN_LIMIT:
            youngest._expressions.clear()
        found = youngest._expressions[key] = make()
    return found.value()


def alias(x: Shared, number: int = 0) -> Any:
    """The same numbers as a value of its own: derivatives by one are not derivatives by the other."""
    inner = x.operand
    if inner is None:
        return x
    return _kept(("alias", number, id(inner)), (inner,), lambda: SharedExpression(None, (inner,), (), False))


def stack_values(values: Any) -> Any:
    """Values joined along a new first axis."""
    return apply(STACK, tuple(values), (-len(values[0].shape) - 1,))


class Constant(Shared):
    """An array that never changes. It has no place: devices take copies."""

    __slots__ = ("_copy", "_data")

    def __init__(self, data: np.ndarray[Any, Any]) -> None:
        super().__init__(tensor_type(data.dtype, data.shape))
        # Not marked as read-only: that is another type to compiled loops than a parameter. None: only on a device yet.
        self._data: np.ndarray[Any, Any] | None = data
        self._copy: tuple[Device, Any] | None = None

    @classmethod
    def of_array(cls, array: Any) -> Constant:
        """A constant with the numbers of an array, of the host or of a device, that nobody changes."""
        if not is_on_device(array):
            return cls(array)
        made = cls.__new__(cls)
        Shared.__init__(made, tensor_type(array.dtype, array.shape))
        made._data, made._copy = None, (current_device(), array)
        return made

    def __getstate__(self) -> Any:
        return attributes_of(self), self._array()

    def __setstate__(self, state: Any) -> None:
        attributes, data = state
        Constant.__init__(self, data)
        set_attributes(self, attributes)

    def _array(self) -> np.ndarray[Any, Any]:
        if self._data is None:
            assert self._copy is not None
            self._data = to_host(self._copy[1])
        return self._data

    def _array_on(self, device: Device | None) -> Any:
        if device is None:
            return self._array()
        if self._copy is None or self._copy[0] is not device:
            self._copy = device, device.array(self._array())
        return self._copy[1]


def attributes_of(x: Tensor) -> dict[str, Any]:
    """What a subclass of the user's keeps in attributes, for copies and pickles."""
    return dict(getattr(x, "__dict__", {}))


def set_attributes(x: Tensor, attributes: dict[str, Any]) -> None:
    """Give a copy what `attributes_of` found."""
    if attributes:
        x.__dict__.update(attributes)


_filled: dict[Any, Constant] = {}


def filled(name: str, shape: Any, value: float | int | bool, dtype: Any = None) -> Constant:
    """The one constant of this shape, number and dtype, that was asked for by this name."""
    extents = tuple(whole(name, n) for n in extents_of(shape))
    if not isinstance(value, int | float | np.generic) or np.asarray(value).dtype.kind not in "biuf":
        raise op_error(
            name,
            "the filling is not a number",
            got=f"{type(value).__name__}{'' if value is None else f' {value!r}'[:60]}",
            repair="ab.ones(shape) * x fills with a value",
        )
    kind = (
        value_dtype(name, dtype)
        if dtype is not None
        else default_dtype()
        if isinstance(value, float | np.floating)
        else np.asarray(value).dtype
    )
    if dtype is not None:
        value = as_array(value, dtype).item()
    key = (extents, kind, repr(value))
    found = _filled.get(key)
    if found is None:
        if len(_filled) >= _INTERN_LIMIT:
            _filled.clear()
        found = _filled[key] = Constant(np.full(extents, value, kind))
        found._age = 0  # it outlives all others
    return found


def zeros(shape: ShapeLike, dtype: DTypeLike | None = None) -> Tensor:
    """A shared constant of zeros; the default dtype unless given.

    >>> import autobatch as ab
    >>> ab.zeros(2).numpy()
    array([0., 0.], dtype=float32)
    """
    return filled("zeros", shape, 0.0, dtype)


def ones(shape: ShapeLike, dtype: DTypeLike | None = None) -> Tensor:
    """A shared constant of ones; the default dtype unless given.

    >>> import autobatch as ab
    >>> ab.ones((1, 2)).numpy()
    array([[1., 1.]], dtype=float32)
    """
    return filled("ones", shape, 1.0, dtype)


def full(shape: ShapeLike, value: float, dtype: DTypeLike | None = None) -> Tensor:
    """A shared constant filled with one number; the dtype of the number (floats: the default dtype) unless given.

    >>> import autobatch as ab
    >>> ab.full(2, 3).numpy()
    array([3, 3])
    """
    return filled("full", shape, value, dtype)


def constant(x: TensorLike, dtype: DTypeLike | None = None) -> Tensor:
    """A shared untrained array, copied now; one constant serves all examples.

    NumPy floats take the default dtype unless `dtype` is given.

    >>> import autobatch as ab
    >>> ab.constant([[1.0, 2.0]]).shape
    (1, 2)
    """
    return Constant(as_array(x, dtype))


def holds_tensors(x: Any) -> bool:
    """Whether there is a tensor in nested lists and tuples."""
    stack = [x]
    while stack:
        part = stack.pop()
        for kind in set(map(type, part)):
            if issubclass(kind, Tensor):
                return True
            if issubclass(kind, list | tuple):
                stack.extend(e for e in part if isinstance(e, list | tuple))
    return False


def as_array(x: Any, dtype: Any = None) -> np.ndarray[Any, Any]:
    """A fresh C-contiguous array of a dtype that the library computes in; floats take the default dtype."""
    if isinstance(x, np.ma.MaskedArray) and np.ma.is_masked(x):
        raise op_error(
            "tensor",
            "a masked array has elements without a number",
            got=f"{x.mask.sum()} of {x.size} masked",
            repair="x.filled(number) puts one in their place; ab.where chooses",
        )
    try:
        array = np.array(to_host(x) if is_on_device(x) else x, dtype=dtype, order="C")
    except ValueError as error:
        if isinstance(error, AutobatchError) or not isinstance(x, list | tuple):
            raise
        raise op_error(
            "tensor",
            "nested lists are an array only if all rows have one length",
            got=repr(x)[:60],
            repair="make a tensor of each row",
        ) from None
    if dtype is not None and array.dtype == HALF:
        array = array.astype(value_dtype("tensor", HALF))
    if array.dtype.kind == "f" and dtype is None:
        array = array.astype(default_dtype(), copy=False)
    if array.dtype == np.uint64 and array.size and int(array.max()) >= 1 << 63:
        raise op_error("tensor", "a whole number does not fit into 64 bits", got=str(array.max()))
    if array.dtype.kind in "iu" and array.dtype not in (np.int32, np.int64):
        array = array.astype(np.int64)
    if array.dtype.kind not in "fib":
        raise user_error(
            OpTypeError,
            f"tensor: no value holds dtype {array.dtype}",
            expected="float32, float64, int32, int64 or bool",
            got=repr(x)[:60],
        )
    if array.dtype.kind == "f" and array.dtype.itemsize not in (4, 8):
        raise user_error(OpTypeError, f"tensor: no value holds dtype {array.dtype}")
    return array


class SharedExpression(Shared):
    """An op on shared operands alone: a small graph over its operands. Without `op` it is its only operand again.

    current: its value for the numbers that the parameters have now, if there is one
    where: the user's line that first wrote it
    """

    __slots__ = ("_frozen", "_reverse", "_trainable", "current", "graph", "op", "parents", "where")

    def __init__(self, op: Op | None, operands: tuple[Any, ...], attrs: Attrs, frozen: bool) -> None:
        builder = Builder()
        inputs = [builder.shared_operand(x) if isinstance(x, Shared) else x for x in operands]
        result = inputs[0] if op is None else builder.record(op, tuple(inputs), attrs)
        self.graph = builder.finish([result])
        self.parents: tuple[Shared, ...] = tuple(builder.shared)
        super().__init__(self.graph.nodes[self.graph.outputs[0]].type, max(p._age for p in self.parents))
        self.op = op
        self._frozen = frozen or op is STOP_GRADIENT
        self._trainable = not self._frozen and is_float(self.dtype) and any(p.trainable for p in self.parents)
        self._reverse: tuple[Graph, list[int]] | None = None
        self.current: Expression | None = None
        self.where = user_line()
        for x in in_order([self]):
            if not isinstance(x, SharedExpression | Constant):
                gone = functools.partial(_forget_dependent, x._dependents, id(self))
                x._dependents[id(self)] = weakref.ref(self, gone)

    def value(self) -> Expression:
        """The value for the numbers that the parameters have now."""
        if self.current is None:
            self.current = Expression(self)
        return self.current

    @property
    def trainable(self) -> bool:
        """Whether a parameter is reached through ops that have derivatives."""
        return self._trainable

    def _enter(self, builder: Builder) -> Any:
        if self.op is TRANSPOSE and not self._frozen:
            node = next(n for n in self.graph.nodes if n.op is TRANSPOSE)
            return apply(TRANSPOSE, (self.parents[0]._enter(builder),), node.attrs)
        return builder.shared_operand(self)

    def _array(self) -> np.ndarray[Any, Any]:
        return evaluate_shared([self], {}, device_of([self]))[0]

    def _evaluate(self, arrays: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
        if self.op is None:
            return arrays[0]
        if is_on_device(arrays[0]):
            return evaluate(current_device(), self.graph, lambda kind, k: arrays[k])[0]
        return interpret(self.graph, lambda kind, k: arrays[k])[0]

    def _pull(self, g: Any, arrays: list[np.ndarray[Any, Any]]) -> list[tuple[Shared, np.ndarray[Any, Any]]]:
        """Cotangents of the parents."""
        if self.op is None:
            return [(self.parents[0], g)]
        if self._reverse is None:
            wrt = [i for i, n in enumerate(self.graph.nodes) if n.is_input and self.parents[n.attrs[1]].trainable]
            result = vjp(self.graph, wrt)
            graph, _ = simplify(result.graph)
            known = [self.graph.nodes[w].attrs[1] for w, c in zip(wrt, result.cotangents, strict=True) if c is not None]
            self._reverse = graph, known
        graph, known = self._reverse
        if is_on_device(arrays[0]):
            on_device = to_device(g)
            results = evaluate(current_device(), graph, lambda kind, k: on_device if kind == "cotangent" else arrays[k])
        else:
            results = interpret(graph, lambda kind, k: g if kind == "cotangent" else arrays[k])
        return [(self.parents[k], r) for k, r in zip(known, results, strict=True)]


class Tied(Generic[T]):
    """Holds an object as long as a parameter lives that the object is about; calling it gives the object, or None.

    The object may lead to the parameter: the youngest parameter or buffer among `values` is what holds the object.
    """

    __slots__ = ("__weakref__", "_reference")

    def __init__(self, what: T, values: Iterable[Shared]) -> None:
        owners = [x for x in in_order(values) if not isinstance(x, SharedExpression | Constant)]
        if not owners:
            self._reference: Callable[[], T | None] = lambda: what
        else:
            self._reference = weakref.ref(what)
            max(owners, key=lambda x: x._age)._tied[self] = what

    def __call__(self) -> T | None:
        return self._reference()


def _forget_dependent(dependents: dict[int, Any], key: int, reference: Any) -> None:
    if dependents.get(key) is reference:
        del dependents[key]


class Expression(Shared):
    """The value of an op on parameters and constants alone, for the numbers that these had when it was computed.

    Once a parameter changes, or `backward` has reversed it, it has settled: its numbers stay, its gradient is gone.
    """

    __slots__ = ("_is_trainable", "_op", "_settled")

    def __init__(self, op: SharedExpression) -> None:
        self._type = op._type
        self._expressions = op._expressions
        self._is_trainable = op.trainable
        self._op: SharedExpression | None = op
        self._settled: Constant | None = None

    @property
    def trainable(self) -> bool:
        """Whether a parameter is reached through ops that have derivatives."""
        return self._is_trainable

    @property
    def operand(self) -> Shared | None:
        """The op; a constant once that has settled which has no gradient; else None."""
        return self._op if self._op is not None else None if self._is_trainable else self._settled

    def settle(self, numbers: Any) -> None:
        """Keep these numbers, which nobody changes, and let go of the op."""
        self._settled = Constant.of_array(numbers)
        op, self._op = self._op, None
        self._expressions = {} if self._is_trainable else self._settled._expressions
        if op is not None and op.current is self:
            op.current = None

    def _enter(self, builder: Builder) -> Any:
        held = self.operand
        if held is None:
            raise user_error(
                RecordingError,
                "cell: it meets a value that was computed from parameters which have changed since",
                repair="compute it inside the cell, pass it as an argument, or use .detach() of it",
            )
        return held._enter(builder)

    @property
    def held(self) -> Shared:
        """The op, or once it has settled the constant with its numbers."""
        held = self._op if self._op is not None else self._settled
        assert held is not None
        return held

    def _array(self) -> np.ndarray[Any, Any]:
        return self.held._array()

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Copies and pickles hold the numbers; they have no gradient."""
        if self._is_trainable:
            raise copy_with_gradient()
        return Constant.of_array, (self.numpy(),)


def copy_with_gradient() -> RecordingError:
    """The error for a copy or pickle of what is no parameter and has a gradient."""
    return user_error(
        RecordingError,
        "a tensor that carries a gradient cannot be copied or pickled",
        repair="use x.detach(), or x.numpy() for the numbers alone",
    )


class _Holder:
    __slots__ = ("held",)

    def __init__(self) -> None:
        self.held = object()


_holder = _Holder()
_ALONE = sys.getrefcount(_holder.held)
"""What `sys.getrefcount` says of an object that nobody holds but one attribute."""


def settle(held: Iterable[Shared]) -> None:
    """Before parameters change: values made of them that somebody holds get the numbers they have now."""
    values: list[Expression] = []
    for x in held:
        for reference in list(x._dependents.values()) if x._dependents else ():
            op = reference()
            if op is not None and op.current is not None and sys.getrefcount(op.current) > _ALONE:
                values.append(op.current)
    if not values:
        return
    memo: Memo = {}
    once = list({id(value): value for value in values}.values())
    with np.errstate(all="ignore"):
        for value in once:
            if value._op is not None:
                evaluate_shared([value._op], memo, device_of([value._op]))
    for value in once:
        if value._op is not None:
            value.settle(copy_of(memo[value._op]))


Memo = dict[Shared, np.ndarray[Any, Any]]


def in_order(wanted: Iterable[Shared]) -> list[Shared]:
    """The values and all they are made of, operands first; a loop, however deep."""
    order: list[Shared] = []
    done: set[int] = set()
    stack: list[tuple[Shared, bool]] = [(x, False) for x in wanted]
    while stack:
        x, ready = stack.pop()
        if isinstance(x, Expression):
            x = x.held
        if id(x) in done:
            continue
        if ready or not isinstance(x, SharedExpression):
            done.add(id(x))
            order.append(x)
            continue
        stack.append((x, True))
        stack.extend((p, False) for p in x.parents)
    return order


def evaluate_shared(
    wanted: Iterable[Shared], memo: Memo, device: Device | None = None, read: Callable[[Shared], Any] | None = None
) -> list[np.ndarray[Any, Any]]:
    """Arrays of shared values; `memo` keeps what was computed in this recording.

    `device` is where they are wanted, None for the host; `read` gives the numbers of those that are no expressions.
    """
    wanted = list(wanted)
    evaluate_in_order(in_order(x for x in wanted if x not in memo), memo, device, read)
    return [memo[x] for x in wanted]


def evaluate_in_order(
    order: Iterable[Shared], memo: Memo, device: Device | None = None, read: Callable[[Shared], Any] | None = None
) -> None:
    """The same for values that come after all that they are made of."""
    for x in order:
        if x not in memo:
            if isinstance(x, SharedExpression):
                memo[x] = x._evaluate([memo[p] for p in x.parents])
                if (check := checking.get()) is not None:
                    check(x, memo[x], "value")
            else:
                memo[x] = read(x) if read is not None else x._array_on(device)


def device_of(values: Iterable[Shared]) -> Device | None:
    """The device on which the parameters lie that these values are made of, None for the host."""
    held = [x for x in in_order(values) if not isinstance(x, SharedExpression | Constant)]
    if not held or not is_on_device(held[0]._array()):
        if any(is_on_device(x._array()) for x in held):
            raise mixed_places("values are computed from parameters in two places")
        return None
    if not all(is_on_device(x._array()) for x in held):
        raise mixed_places("values are computed from parameters in two places")
    return current_device()


def mixed_places(what: str, repair: str = "") -> BackendError:
    """The error for operands that do not lie where they are wanted."""
    everywhere = 'move all of the model, with model.to("cupy") or model.to("numba")'
    return user_error(BackendError, what, repair=repair or everywhere)


def pull_back(
    cotangents: dict[Shared, np.ndarray[Any, Any]], memo: Memo, give: Callable[[Shared, np.ndarray[Any, Any]], None]
) -> None:
    """Carry cotangents of shared values down to those that are no expressions, each handed to `give`."""
    for x in reversed(in_order(cotangents)):
        if x not in cotangents or not x.trainable:
            continue
        g = cotangents[x]
        if not isinstance(x, SharedExpression):
            give(x, g)
            continue
        for parent, part in x._pull(g, [memo[p] for p in x.parents]):
            if (check := checking.get()) is not None:
                check(x, part, "gradient")
            cotangents[parent] = cotangents[parent] + part if parent in cotangents else part
