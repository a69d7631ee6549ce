"""Derivatives as functions: `grad`, `value_and_grad`. They rewrite tape to tape, so they nest and batch.

The function runs once with each differentiated argument replaced by a value of its own, so that derivatives taken
inside derivatives cannot mix. What it recorded is then walked backwards (`derivatives`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Concatenate, Literal, ParamSpec, Protocol, TypeVar, overload

import numpy as np

from ..base.errors import OpTypeError, RecordingError, user_error
from ..base.types import default_dtype, is_float
from ..ops.value import Tensor, TensorLike
from .containers import made_like, parts_of
from .context import is_frozen
from .derivatives import Start, Sweep
from .links import shared_row
from .modes import freeze
from .recorder import tensor
from .shared import Expression, Shared, SharedExpression, alias
from .tape import Recording, current_tape, interrupted, refuse_inside, state
from .tensor import RecordedTensor


class _HasParameters(Protocol):
    def named_parameters(self) -> Iterable[tuple[str, Tensor]]: ...


P = ParamSpec("P")
R = TypeVar("R", covariant=True)
M = TypeVar("M", bound=_HasParameters)
A = TypeVar("A", bound="list[Any] | tuple[Any, ...] | dict[Any, Any]")


class _Function(Protocol[R]):
    """A function of any arguments. No `Callable`: mypy makes an untyped one of overloads that a lambda fits alike."""

    def __call__(self, /, *args: object, **kwargs: object) -> R: ...


@overload
def grad(
    fn: Callable[Concatenate[Tensor, P], Tensor], argnums: Literal[0] = 0
) -> Callable[Concatenate[TensorLike, P], Tensor]: ...
@overload
def grad(
    fn: Callable[Concatenate[M, P], Tensor], argnums: Literal[0] = 0
) -> Callable[Concatenate[M, P], dict[str, Tensor]]: ...
@overload
def grad(fn: Callable[Concatenate[A, P], Tensor], argnums: Literal[0] = 0) -> Callable[Concatenate[A, P], A]: ...
@overload
def grad(fn: Callable[..., Tensor], argnums: int | Sequence[int] = 0) -> _Function[Any]: ...
def grad(fn: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """The function that gives d fn / d argument: for one argument its structure, for several a tuple.

    `fn` returns a scalar. Arguments to differentiate are tensors, numbers, arrays, parameters, modules, and nested
    tuples, lists and dicts of them; a module gives a dict from parameter name to derivative. Works inside `ab.map`, in
    itself, and `backward` goes through its results.

    >>> slope = ab.grad(lambda x: x ** 3)
    >>> float(slope(ab.tensor(2.0))), float(ab.grad(slope)(ab.tensor(2.0)))
    (12.0, 12.0)
    """
    both = value_and_grad(fn, argnums)

    def derivative(*args: Any, **kwargs: Any) -> Any:
        return both(*args, **kwargs)[1]

    derivative.__name__ = f"grad_{getattr(fn, '__name__', 'fn')}"
    return derivative


@overload
def value_and_grad(
    fn: Callable[Concatenate[Tensor, P], Tensor], argnums: Literal[0] = 0
) -> Callable[Concatenate[TensorLike, P], tuple[Tensor, Tensor]]: ...
@overload
def value_and_grad(
    fn: Callable[Concatenate[M, P], Tensor], argnums: Literal[0] = 0
) -> Callable[Concatenate[M, P], tuple[Tensor, dict[str, Tensor]]]: ...
@overload
def value_and_grad(
    fn: Callable[Concatenate[A, P], Tensor], argnums: Literal[0] = 0
) -> Callable[Concatenate[A, P], tuple[Tensor, A]]: ...
@overload
def value_and_grad(fn: Callable[..., Tensor], argnums: int | Sequence[int] = 0) -> _Function[tuple[Tensor, Any]]: ...
def value_and_grad(fn: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """Like `grad`, but the function gives (value, derivative).

    >>> value, slope = ab.value_and_grad(lambda x: x * x)(ab.tensor(3.0))
    >>> float(value), float(slope)
    (9.0, 6.0)
    """
    wanted = (argnums,) if isinstance(argnums, int) else tuple(argnums)

    def both(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        refuse_inside("grad", "take the derivative of the function that calls the cell", of_maps=False)
        for k in wanted:
            if not -len(args) <= k < len(args):
                raise user_error(OpTypeError, f"grad: there is no argument {k}", got=f"{len(args)} arguments")
        places = [k % len(args) for k in wanted]
        substitution = _Substitution()
        constant = is_frozen()  # an outer no_grad makes the results constant; the function itself is differentiated
        tape = substitution.tape
        sweeps, aliases = tape.sweeps, state.aliases
        try:
            try:
                freeze(False)
                tape.sweeps = sweeps + 1
                replaced = [substitution.replace(a) if k in places else a for k, a in enumerate(args)]
                value = fn(*replaced, **kwargs)
                derivatives = substitution.derivatives(value)
            finally:
                tape.sweeps, state.aliases = sweeps, aliases
                freeze(constant)
        finally:
            tape.sweeps, state.aliases = sweeps, aliases  # again: Ctrl-C may have cut the first one short
            freeze(constant)
        if constant:
            value, derivatives = value.detach(), {x: g.detach() for x, g in derivatives.items()}
        results = tuple(_rebuild(replaced[k], derivatives) for k in places)
        return value, results[0] if isinstance(argnums, int) else results

    return both


class _Substitution:
    """Replaces differentiated arguments by values of their own; parameters of modules stay in place."""

    def __init__(self) -> None:
        self.tape: Recording = current_tape()
        self.sources: list[RecordedTensor] = []
        self.parameters: list[Shared] = []
        self.aliases: dict[Shared, SharedExpression] = {}
        self.start = Start.of(self.tape)  # what was recorded before the call is constant to it

    def replace(self, x: Any) -> Any:
        """The argument with fresh values in place of tensors, numbers and arrays."""
        if isinstance(x, Shared) and x.trainable and x.operand is not None:
            return self._alias(x.operand)
        if isinstance(x, RecordedTensor | Shared):
            if not is_float(x.dtype):
                raise user_error(OpTypeError, "grad: only floating values can be differentiated", got=str(x._type))
            source = shared_row(x, self.tape) if isinstance(x, Shared) else x
            return self._fresh(source)
        if isinstance(x, bool | str | None):
            return x
        if isinstance(x, int | float | np.ndarray | np.number):
            array = np.asarray(x)
            return self._fresh(tensor(array if array.dtype.kind == "f" else array.astype(default_dtype())))
        if hasattr(x, "named_parameters"):
            self.parameters += (p for _, p in x.named_parameters() if p not in self.parameters)
            return x
        if isinstance(x, list | tuple | dict):
            return made_like(x, map(self.replace, parts_of(x)))
        what = "grad: an argument cannot be differentiated"
        raise user_error(OpTypeError, what, got=type(x).__name__, repair="choose others by argnums")

    def _alias(self, x: Shared) -> Shared:
        """A shared value as an argument: no other value is the same one, and batches share it all the same."""
        number = state.aliases.get(x, 0)
        found: Expression = alias(x, number)
        state.aliases = {**state.aliases, x: number + 1}
        op = found.operand
        assert isinstance(op, SharedExpression)
        self.aliases[found] = op
        self.parameters.append(op)
        return found

    def _fresh(self, source: Tensor) -> Any:
        fresh: Any = source * 1.0
        self.sources.append(fresh)
        return fresh

    def derivatives(self, value: Any) -> dict[Any, Any]:
        """Cotangents of the sources and parameters."""
        if isinstance(value, Shared):
            value = shared_row(value, current_tape())
        if not isinstance(value, RecordedTensor) or value.shape or not is_float(value.dtype):
            got = str(getattr(value, "_type", type(value).__name__))
            raise user_error(OpTypeError, "grad: the function must return a floating scalar", expected="f[]", got=got)
        tape = current_tape()
        if self.tape.is_interrupted:
            raise interrupted()
        if tape is not self.tape or value._tape is not tape or any(s._tape is not tape for s in self.sources):
            repair = "force values before or after, not inside, a differentiated function"
            raise user_error(RecordingError, "grad: a value was forced inside the function", repair=repair)
        found = Sweep(tape, self.start, self.sources, self.parameters).run(value)
        return found | {x: found[op] for x, op in self.aliases.items()}


def _rebuild(x: Any, found: dict[Any, Any]) -> Any:
    if isinstance(x, Tensor):
        return found[x]
    if hasattr(x, "named_parameters"):
        return {name: found[p] for name, p in x.named_parameters()}
    if isinstance(x, list | tuple | dict):
        return made_like(x, (_rebuild(e, found) for e in parts_of(x)))
    return None
