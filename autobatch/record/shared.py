"""Values that are the same for every example: parameters, buffers, constants, and what is computed from them alone.

An op whose operands are all shared is not recorded in any example. It becomes a `SharedExpression`, one object for
equal ops on equal operands, evaluated at most once per recording. In a signature a shared operand stands by identity.

Users get an `Expression`: the value of such an op for the current numbers of its parameters. Before these
change, `settle` evaluates each that is referenced; the op, and all that was compiled for it, stays valid.
"""

from __future__ import annotations

import functools
import itertools
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..backends.device import Device, current_device
from ..backends.transfer import is_on_device, to_device, to_host
from ..base.errors import BackendError, RecordingError, user_error, user_line
from ..base.types import Array, Type, default_dtype, is_float, tensor_type
from ..ir.graph import Graph, hashable
from ..ir.interpret import interpret
from ..ir.simplify import simplify
from ..ir.trace import Builder
from ..ir.vjp import vjp
from ..ops.declare import Attrs, Op, apply, recorder
from ..ops.elementwise import STOP_GRADIENT
from ..ops.movement import TRANSPOSE, transpose
from ..ops.reduce import reduce_elements
from ..ops.value import Tensor
from ..run.device.expressions import evaluate
from ..run.protocols import SharedOperand
from .context import checking, flags, is_frozen, refuse_numbers
from .forcing import engine
from .lengths import varies

_INTERN_LIMIT = 512

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
        """Whether a parameter is reached through ops that have derivatives."""
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

    def _array(self) -> Array:
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
        if any(x is None for x in inner) or (numbers and _numbers_vary(op, inner, attrs)):
            return recorder[0](op, operands, attrs)
        key = (
            op,
            hashable(attrs),
            tuple(id(x) if isinstance(x, Shared) else (type(x), repr(x)) for x in inner),
            is_frozen(),
            default_dtype(),
        )
        return _kept(key, inner, lambda: SharedExpression(op, inner, attrs, is_frozen()))

    def _record_list(self, kind: str, values: Any) -> Any:
        return reduce_elements(kind, values)

    def _unchanged(self) -> Any:
        return self.detach() if self.trainable and is_frozen() else self

    def backward(self, retain: bool = False) -> None:
        """Add d self / d parameter to `.grad` of the parameters it is made of.

        Raises `OpTypeError` for a non-scalar, `RecordingError` inside `ab.map`, where no parameter leads to the value,
        when one has changed since it was computed, and a second time unless the first was with `retain`.
        """
        engine.backward_of_shared(self, retain)

    def numpy(self) -> Array:
        """A copy of the current numbers."""
        if not isinstance(self, Constant):
            refuse_numbers("the numbers of a parameter are read")
        array = self._array()
        return to_host(array) if is_on_device(array) else np.array(array)

    def _carries_gradient(self) -> bool:
        return self.trainable

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._type})"


def youngest_of(operands: Iterable[Any]) -> Shared | None:
    """The shared value that was made last, with which what is made for all operands is kept."""
    return max((x for x in operands if isinstance(x, Shared)), key=lambda x: x._age, default=None)


def _numbers_vary(op: Op, operands: tuple[Any, ...], attrs: Attrs) -> bool:
    """Whether other numbers were seen beside these shared values: they are data of a node then. Numbers that a cell
    writes down are part of it."""
    if flags.traced:
        return False
    youngest = youngest_of(operands)
    assert youngest is not None
    family = op, hashable(attrs), tuple(id(x) if isinstance(x, Shared) else type(x) for x in operands)
    return varies(youngest._signatures, family, repr([x for x in operands if not isinstance(x, Shared)]))


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


def alias(x: Shared, number: int | None = None) -> Any:
    """The same numbers as a value of its own: derivatives by one are not derivatives by the other. Arguments of
    functions that are differentiated have numbers, so that nothing else is one of them."""
    inner = x.operand
    if inner is None:
        return x
    return _kept(("alias", number, id(inner)), (inner,), lambda: SharedExpression(None, (inner,), (), False))


class Constant(Shared):
    """An array that never changes. It has no place: devices take copies."""

    __slots__ = ("_copy", "_data")

    def __init__(self, data: Array) -> None:
        super().__init__(tensor_type(data.dtype, data.shape))
        # Not marked as read-only: that is another type to compiled loops than a parameter. None: only on a device yet.
        self._data: Array | None = data
        self._copy: tuple[Device, Any] | None = None

    @classmethod
    def of_array(cls, array: Any) -> Constant:
        """A constant with the numbers of an array, of the host or of a device, that must not change."""
        if not is_on_device(array):
            return cls(array)
        made = cls.__new__(cls)
        Shared.__init__(made, tensor_type(array.dtype, array.shape))
        made._data, made._copy = None, (current_device(), array)
        return made

    @property
    def is_on_host(self) -> bool:
        """Whether its numbers are on the host, perhaps beside a copy on a device."""
        return self._data is not None

    def __getstate__(self) -> Any:
        return attributes_of(self), self._array()

    def __setstate__(self, state: Any) -> None:
        attributes, data = state
        Constant.__init__(self, data)
        set_attributes(self, attributes)

    def _array(self) -> Array:
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
        for x in held_by([self]):
            gone = functools.partial(x._dependents.pop, id(self))  # no Python: it would swallow a Ctrl-C
            x._dependents[id(self)] = weakref.ref(self, gone)

    def value(self) -> Expression:
        """The value for the numbers that the parameters have now."""
        if self.current is None:
            self.current = Expression(self)
        return self.current

    @property
    def trainable(self) -> bool:
        return self._trainable

    def _enter(self, builder: Builder) -> Any:
        if self.op is TRANSPOSE and not self._frozen:
            node = next(n for n in self.graph.nodes if n.op is TRANSPOSE)
            return apply(TRANSPOSE, (self.parents[0]._enter(builder),), node.attrs)
        return builder.shared_operand(self)

    def _array(self) -> Array:
        return evaluate_shared(self, {})

    def _evaluate(self, arrays: list[Array]) -> Array:
        return arrays[0] if self.op is None else _computed(self.graph, arrays)[0]

    def _pull(self, g: Any, arrays: list[Array]) -> list[tuple[Shared, Array]]:
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
        return [(self.parents[k], r) for k, r in zip(known, _computed(graph, arrays, g), strict=True)]


def _computed(graph: Graph, arrays: list[Any], cotangent: Any = None) -> list[Any]:
    """The results of a graph, where the arrays lie."""
    if not is_on_device(arrays[0]):
        return interpret(graph, lambda kind, k: cotangent if kind == "cotangent" else arrays[k])
    g = None if cotangent is None else to_device(cotangent)
    return evaluate(current_device(), graph, lambda kind, k: g if kind == "cotangent" else arrays[k])


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
        return self._is_trainable

    @property
    def operand(self) -> Shared | None:
        """The op; a constant once that has settled which has no gradient; else None."""
        return self._op if self._op is not None else None if self._is_trainable else self._settled

    def settle(self, numbers: Any) -> None:
        """Keep these numbers, which must not change, and release the op."""
        self._settled = Constant.of_array(numbers)
        op, self._op = self._op, None
        self._expressions = {} if self._is_trainable else self._settled._expressions
        if op is not None and op.current is self:
            op.current = None

    def _enter(self, builder: Builder) -> Any:
        held = self.operand
        if held is None:
            what = "cell: it meets a value that was computed from parameters which have changed since"
            repair = "compute it inside the cell, pass it as an argument, or use .detach() of it"
            raise user_error(RecordingError, what, repair=repair)
        return held._enter(builder)

    @property
    def held(self) -> Shared:
        """The op, or once it has settled the constant with its numbers."""
        held = self._op if self._op is not None else self._settled
        assert held is not None
        return held

    def _array(self) -> Array:
        return self.held._array()

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Copies and pickles hold the numbers; they have no gradient."""
        if self._is_trainable:
            raise copy_with_gradient()
        return Constant.of_array, (self.numpy(),)


def copy_with_gradient() -> RecordingError:
    """The error for a copy or pickle of what is no parameter and has a gradient."""
    what = "a tensor that carries a gradient cannot be copied or pickled"
    return user_error(RecordingError, what, repair="use x.detach(), or x.numpy() for the numbers alone")


Memo = dict[SharedOperand, Array]


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


def held_by(values: Iterable[Shared]) -> list[Shared]:
    """The parameters and buffers that values are made of."""
    return [x for x in in_order(values) if not isinstance(x, SharedExpression | Constant)]


def evaluate_shared(x: Shared, memo: Memo) -> Array:
    """The array of a shared value, where its parameters lie; `memo` keeps what was computed."""
    if x not in memo:
        evaluate_in_order(in_order([x]), memo, device_of([x]))
    return memo[x]


def evaluate_in_order(
    order: Iterable[Shared], memo: Memo, device: Device | None = None, read: Callable[[Shared], Any] | None = None
) -> None:
    """Evaluate shared values, each after all that it is made of; `memo` keeps what was computed in this recording.

    `device` is where they are wanted, None for the host; `read` gives the numbers of those that are no expressions.
    """
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
    places = {is_on_device(x._array()) for x in held_by(values)}
    if len(places) > 1:
        raise mixed_places("values are computed from parameters in two places")
    return current_device() if places == {True} else None


def mixed_places(what: str, repair: str = "") -> BackendError:
    """The error for operands that do not lie where they are wanted."""
    everywhere = 'move all of the model, with model.to("cupy") or model.to("numba")'
    return user_error(BackendError, what, repair=repair or everywhere)
