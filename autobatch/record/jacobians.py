"""Derivatives of functions of any results: `vjp`, `jvp`, `hvp`, `jacobian`, `hessian`, with JAX's names and arguments.

Arguments and results are tensors, parameters, modules and nested containers of them. All of these record: they work
inside and around `ab.map`, nest in each other in any order, and `backward` goes through their results.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..base.errors import OpTypeError, user_error
from ..ops.movement import reshape
from .creation import zeros
from .differentiation import Differentiation, leaves_of, mapped
from .grad import Function, grad, places_of
from .recorder import tensor
from .reductions import stack
from .tensor import RecordedTensor


def vjp(fn: Callable[..., Any], *primals: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """`fn(*primals)`, and the function that takes cotangents of the result to a tuple of those of the primals.

    Cotangents have the structure of the result; those of values that are not floating are ignored. If the recording has
    run meanwhile, since the result was forced, the function calls `fn` once more. With `has_aux` `fn` returns
    (result, aux), and aux is the third result. As `jax.vjp`.

    Raises `OpTypeError` where a cotangent has another shape than its value, `RecordingError` where parameters have
    changed before it is called.

    >>> y, pull = ab.vjp(lambda x, w: x * w, ab.tensor([1.0, 2.0]), ab.tensor([3.0, 4.0]))
    >>> [g.tolist() for g in pull(ab.ones(2))]
    [[3.0, 4.0], [1.0, 2.0]]
    """
    first = Differentiation("vjp", fn, primals, has_aux=has_aux)

    def pull(cotangents: Any) -> tuple[Any, ...]:
        call = first.again()
        values, given = list(leaves_of(call.value)), list(leaves_of(cotangents))
        if len(values) != len(given):
            what = "vjp: cotangents have not the structure of the result"
            raise user_error(OpTypeError, what, expected=f"{len(values)} values", got=f"{len(given)}")
        wanted = {id(y) for y in call.results()}
        ends = [(call.row(y), call.like(y, g)) for y, g in zip(values, given, strict=True) if id(y) in wanted]
        found: tuple[Any, ...] = call.settled(call.arguments(call.pull(ends)))
        return found

    value = first.settled(first.value)
    return (value, pull, first.settled(first.aux)) if has_aux else (value, pull)


def jvp(fn: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False) -> Any:
    """`fn(*primals)`, and its derivative in the direction of the tangents: forward mode.

    Tangents have the structure of the primals; of a module a dict by names of parameters, of which those left out are
    zero. With `has_aux` `fn` returns (result, aux), and aux is the third result. As `jax.jvp`. It is the derivative of
    a `vjp` by the cotangent, in which that is linear.

    >>> y, slope = ab.jvp(ab.sin, (ab.tensor(0.0),), (ab.tensor(2.0),))
    >>> float(y), float(slope)
    (0.0, 2.0)
    """
    call = Differentiation("jvp", fn, _primals("jvp", primals), has_aux=has_aux)
    found = iter(call.push(call.given(tangents)))
    results = {id(y) for y in call.results()}

    def tangent_of(y: Any) -> Any:
        return next(found) if id(y) in results else zeros(getattr(y, "shape", ()))

    both = call.settled((call.value, mapped(tangent_of, call.value)))
    return (*both, call.settled(call.aux)) if has_aux else both


def hvp(fn: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
    """The Hessian of a scalar function times a vector, in about the time of two gradients; no Hessian is made.

    `fn(*primals)` is a scalar; tangents have the structure of the primals. One primal gives a result of its structure,
    several a tuple. As `jvp(grad(fn), primals, tangents)[1]`; Pearlmutter, Fast exact multiplication by the Hessian
    (1994). Raises `OpTypeError` for `primals` that are no tuple.

    >>> ab.hvp(lambda x: (x ** 3).sum(), (ab.tensor([1.0, 2.0]),), (ab.tensor([1.0, 0.5]),)).tolist()
    [6.0, 6.0]
    """
    call = Differentiation("hvp", fn, _primals("hvp", primals))
    value = call.scalar()
    gradient = call.pull([(value, call.like(value, 1.0))])
    ends = [(gradient[x], t) for x, t in call.given(tangents).items()]
    found = call.settled(call.arguments(call.pull(ends, of_cotangents=True)))
    return found[0] if len(found) == 1 else found


def jacobian(fn: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function[Any]:
    """The function that gives all derivatives of all results of `fn`: of result f[a] by argument f[b] f[a, b].

    The structure is that of the result, and in place of each value that of the argument, or a tuple for several; of a
    module it is a dict by names of parameters. One walk backwards for each element of the result; all of these run
    together. `argnums` and `has_aux` as in `grad`. As `jax.jacobian`.

    Raises `OpTypeError` where a result is no floating tensor.

    >>> ab.jacobian(lambda x: x ** 2)(ab.tensor([1.0, 2.0])).tolist()
    [[2.0, 0.0], [0.0, 4.0]]
    """

    def derivative(*args: Any, **kwargs: Any) -> Any:
        call = Differentiation("jacobian", fn, args, places_of("jacobian", argnums, args), has_aux, kwargs)
        results = {id(y) for y in call.results()}

        def by_arguments(y: Any) -> Any:
            if id(y) not in results:
                got = str(getattr(y, "_type", type(y).__name__))
                raise user_error(OpTypeError, "jacobian: the function must return floating tensors", got=got)
            found = call.within(lambda: _by_elements(call, call.row(y)))
            parts = call.arguments(found)
            return parts[0] if isinstance(argnums, int) else parts

        found = call.settled(mapped(by_arguments, call.value))
        return (found, call.settled(call.aux)) if has_aux else found

    return derivative


def hessian(fn: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Function[Any]:
    """The function that gives all second derivatives of the scalar function `fn`: by an argument f[a] f[a, a].

    As `jax.hessian`, with the arguments of `jacobian`; `hvp` gives its product with a vector in the time of two
    gradients.

    >>> ab.hessian(lambda x: x[0] ** 2 * x[1])(ab.tensor([1.0, 2.0])).tolist()
    [[4.0, 2.0], [2.0, 0.0]]
    """
    return jacobian(grad(fn, argnums), argnums)


def _by_elements(call: Differentiation, y: RecordedTensor) -> dict[Any, Any]:
    """For each differentiated value the derivatives of all elements of a result, in its shape before that of the
    value."""
    basis = np.eye(y.size).reshape(y.size, *y.shape)
    walks = [call.pull([(y, tensor(one, y.dtype))]) for one in basis]
    if not walks:
        return {x: tensor(np.zeros((*y.shape, *x.shape)), x.dtype) for x in call.pull([])}
    return {x: reshape(stack([walk[x] for walk in walks]), (*y.shape, *x.shape)) for x in walks[0]}


def _primals(name: str, primals: Any) -> Sequence[Any]:
    if not isinstance(primals, list | tuple):
        what = f"{name}: the primals are not a tuple"
        raise user_error(OpTypeError, what, got=type(primals).__name__, repair=f"ab.{name}(fn, (x,), (v,))")
    return primals
