"""Derivatives as functions: `grad`, `value_and_grad`. They rewrite tape to tape, so they nest and batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Concatenate, Literal, ParamSpec, Protocol, TypeVar, overload

import numpy as np

from ..base.errors import OpTypeError, user_error
from ..ops.value import Tensor, TensorLike
from .differentiation import Differentiation
from .recorder import tensor


class _HasParameters(Protocol):
    def named_parameters(self) -> Iterable[tuple[str, Tensor]]: ...


P = ParamSpec("P")
R = TypeVar("R", covariant=True)
M = TypeVar("M", bound=_HasParameters)
A = TypeVar("A", bound="list[Any] | tuple[Any, ...] | dict[Any, Any]")


class Function(Protocol[R]):
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
def grad(fn: Callable[..., Tensor], argnums: int | Sequence[int] = 0) -> Function[Any]: ...
@overload
def grad(
    fn: Callable[..., tuple[Tensor, Any]], argnums: int | Sequence[int] = 0, *, has_aux: Literal[True]
) -> Function[tuple[Any, Any]]: ...
def grad(fn: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable[..., Any]:
    """The function that gives d fn / d argument: for an integer `argnums` its structure, for several a tuple.

    `fn` returns a scalar. Arguments to differentiate are tensors, numbers, arrays, parameters, modules, and nested
    tuples, lists and dicts of them; a module gives a dict from parameter name to derivative. Works inside `ab.map`, in
    itself, and `backward` goes through its results. Values forced inside `fn` are computed at once, outside of batches.
    With `has_aux` `fn` returns (scalar, aux), and the function gives (derivative, aux). As `jax.grad`.

    Raises `OpTypeError` where the result is no floating scalar, or an argument cannot be differentiated;
    `RecordingError` where `fn` changes parameters or calls `backward`.

    >>> slope = ab.grad(lambda x: x ** 3)
    >>> float(slope(ab.tensor(2.0))), float(ab.grad(slope)(ab.tensor(2.0)))
    (12.0, 12.0)
    """
    both: Callable[..., Any] = value_and_grad(fn, argnums, has_aux)  # type: ignore[call-overload]

    def derivative(*args: Any, **kwargs: Any) -> Any:
        value, found = both(*args, **kwargs)
        return (found, value[1]) if has_aux else found

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
def value_and_grad(fn: Callable[..., Tensor], argnums: int | Sequence[int] = 0) -> Function[tuple[Tensor, Any]]: ...
@overload
def value_and_grad(
    fn: Callable[..., tuple[Tensor, Any]], argnums: int | Sequence[int] = 0, *, has_aux: Literal[True]
) -> Function[tuple[tuple[Tensor, Any], Any]]: ...
def value_and_grad(
    fn: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """Like `grad`, but the function gives (value, derivative); with `has_aux` ((value, aux), derivative).

    >>> value, slope = ab.value_and_grad(lambda x: x * x)(ab.tensor(3.0))
    >>> float(value), float(slope)
    (9.0, 6.0)
    """

    def both(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        places = places_of("grad", argnums, args)
        call = Differentiation("grad", fn, args, places, has_aux, kwargs)
        value = call.scalar()
        one = call.within(lambda: tensor(np.ones(()), value.dtype))
        results = call.arguments(call.pull([(value, one)]))
        found = call.settled(results[0] if isinstance(argnums, int) else results)
        value = call.settled(value)
        return ((value, call.settled(call.aux)) if has_aux else value), found

    return both


def places_of(name: str, argnums: int | Sequence[int], args: Sequence[Any]) -> list[int]:
    """The numbers of the arguments that are differentiated, counted from 0."""
    wanted = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    for k in wanted:
        if not -len(args) <= k < len(args):
            raise user_error(OpTypeError, f"{name}: there is no argument {k}", got=f"{len(args)} arguments")
    return [k % len(args) for k in wanted]
