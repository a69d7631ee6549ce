"""`custom_vjp`: a function whose derivative is another function.

A call records what `fwd` does, and one node more: it reads the results, what `fwd` kept, and the arguments, and in its
graph stands what `bwd` makes of a cotangent (`ops.custom`). So `bwd` runs once for each signature, with tracers, as a
cell does; its ops are batched, and differentiated where a second derivative is asked for.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, Generic, ParamSpec, TypeVar

from ..base.errors import CellError, OpTypeError, user_error
from ..base.types import is_float, promote
from ..ops.custom import COTANGENT, CUSTOM
from ..ops.elementwise import STOP_GRADIENT, cast
from ..ops.movement import broadcast_to, concat, reshape
from ..ops.value import Tensor
from .cells.cell import cell
from .containers import made_like, parts_of
from .context import is_frozen, without_cells
from .differentiation import leaves_of, mapped
from .links import shared_row
from .modes import no_grad
from .shared import Shared
from .tape import current_tape, state

P = ParamSpec("P")
R = TypeVar("R", covariant=True)


class custom_vjp(Generic[P, R]):
    """A function of which you say what its derivative is. A decorator; `defvjp` says it. As `jax.custom_vjp`.

    `fwd(*args)` gives (what the function gives, residuals): anything of nested tuples, lists and dicts that `bwd` will
    need. `bwd(residuals, cotangent)`, with a cotangent in the structure of the result, gives a tuple with the cotangent
    of each argument, in its structure: values of its shape, numbers for all elements, None for zero; of a module a dict
    by names of parameters. Where a gradient may be asked for, `fwd` runs instead of the function.

    Works in cells and inside and around `ab.map`. `bwd` is written as a cell is: it is traced once, its values are not
    forced; lists come to it as tuples. A second derivative follows from the ops of `bwd` and of the residuals, and goes
    through the result by `bwd` again, as that of PyTorch's `autograd.Function`. No gradient flows through what `fwd`
    does otherwise, nor to parameters that are no arguments.

    Raises `OpTypeError` where `fwd` or `bwd` returns something of another form, for an argument that is neither value
    nor number, container or module, and in `ab.jvp`, which runs forwards; `CellError` for a value forced in `bwd`.

    >>> @ab.custom_vjp
    ... def clip_gradient(x, low, high):
    ...     return x
    >>> def forward(x, low, high):
    ...     return x, (low, high)
    >>> def backward(limits, g):
    ...     return ab.clip(g, *limits), None, None
    >>> clip_gradient.defvjp(forward, backward)
    >>> float(ab.grad(lambda x: clip_gradient(x, -1.0, 1.0) * 5.0)(ab.tensor(2.0)))
    1.0
    """

    def __init__(self, fn: Callable[P, R]) -> None:
        if not callable(fn):
            what = "custom_vjp: what is decorated cannot be called"
            raise user_error(OpTypeError, what, got=type(fn).__name__, repair="decorate a function")
        functools.update_wrapper(self, fn)
        self._fn = fn
        self._name = getattr(fn, "__name__", type(fn).__name__)
        self._fwd: Callable[..., Any] | None = None

    def defvjp(self, fwd: Callable[..., Any], bwd: Callable[[Any, Any], Any]) -> None:
        """Say what runs where a gradient may be asked for, and what the gradient is."""
        self._fwd = fwd
        name = self._name

        def joined(values: Any, residuals: Any, args: Any) -> Any:
            return _with_derivative(name, values, args, lambda cotangent: bwd(residuals, cotangent))

        joined.__name__ = name
        self._inside: Callable[..., Any] = joined
        self._node: Callable[..., Any] = cell(joined)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """What the function gives."""
        if self._fwd is None:
            what = f"custom_vjp: {self._name} has no derivative yet"
            raise user_error(OpTypeError, what, repair=f"call {self._name}.defvjp(fwd, bwd)")
        if is_frozen():
            return self._fn(*args, **kwargs)
        given = self._positional(args, kwargs)
        is_traced = state.builder is not None
        if is_traced or current_tape().sweeps:
            found = self._fwd(*given)
        else:  # of no second derivative: nothing leads through what is kept
            with no_grad():
                found = self._fwd(*given)
        if not isinstance(found, tuple) or len(found) != 2:
            what = f"custom_vjp: fwd of {self._name} must return (result, residuals)"
            raise user_error(OpTypeError, what, got=type(found).__name__)
        result, residuals = found
        if not any(_is_floating(y) for y in leaves_of(result)):
            return result
        operands = (mapped(_as_row, _with_tuples(result)), _with_tuples(residuals), _with_tuples(tuple(given)))
        made = iter(self._inside(*operands) if is_traced else self._recorded(*operands))
        return mapped(lambda y: next(made) if _is_floating(y) else y, result)

    def _positional(self, args: Any, kwargs: Any) -> tuple[Any, ...]:
        if not kwargs:
            return tuple(args)
        bound = inspect.signature(self._fn).bind(*args, **kwargs)
        bound.apply_defaults()
        if bound.kwargs:
            what = f"custom_vjp: {self._name} takes arguments by name alone, and bwd returns cotangents by position"
            raise user_error(OpTypeError, what, got=", ".join(bound.kwargs))
        return bound.args

    def _recorded(self, *operands: Any) -> Any:
        """One node, also where the Python of cells runs: what stands for a cotangent has no value."""
        token = without_cells.set(False)
        try:
            return self._node(*operands)
        finally:
            without_cells.reset(token)


def _is_floating(x: Any) -> bool:
    return isinstance(x, Tensor) and is_float(x.dtype)


def _as_row(y: Any) -> Any:
    """A result as a value of the example, held fixed; None where it has no gradient."""
    if not _is_floating(y):
        return None
    if isinstance(y, Shared) and state.builder is None:
        return shared_row(y, current_tape())
    return y.detach()


def _with_tuples(tree: Any) -> Any:
    """The same with tuples for lists: a cell takes a list for one of any length."""
    if isinstance(tree, list):
        return tuple(map(_with_tuples, tree))
    return made_like(tree, map(_with_tuples, parts_of(tree))) if isinstance(tree, tuple | dict) else tree


def _with_derivative(name: str, values: Any, args: tuple[Any, ...], bwd: Callable[[Any], Any]) -> tuple[Any, ...]:
    """The values of a result in order, with a derivative."""
    builder = state.builder
    if builder is None:
        what = f"custom_vjp: bwd of {name} does something at each call, such as to print"
        raise user_error(CellError, what, repair="leave it out: bwd runs when it is traced")
    ys = [builder.record(STOP_GRADIENT, (y,), ()) for y in leaves_of(values) if isinstance(y, Tensor)]
    whole = ys[0] if len(ys) == 1 else _packed(ys)
    held = builder.record(COTANGENT, (whole,), ())
    cotangents = iter([held] if len(ys) == 1 else _unpacked(held, ys))
    found = bwd(mapped(lambda y: next(cotangents) if isinstance(y, Tensor) else None, values))
    if not isinstance(found, tuple | list) or len(found) != len(args):
        got = f"{len(found)} for {len(args)}" if isinstance(found, tuple | list) else type(found).__name__
        what = f"custom_vjp: bwd of {name} must return a tuple with the cotangent of each argument"
        raise user_error(OpTypeError, what, got=got, repair="None stands for that of an argument without one")
    pairs = [pair for x, g in zip(args, found, strict=True) for pair in _matched(name, x, g)]
    made = builder.record(CUSTOM, (whole, held, *(part for pair in pairs for part in pair)), ())
    return (made,) if len(ys) == 1 else tuple(_unpacked(made, ys))


def _packed(ys: list[Any]) -> Any:
    """Several values as one vector: their cotangents come together."""
    dtype = functools.reduce(promote, (y.dtype for y in ys))
    return concat([reshape(cast(y, dtype), (y.size,)) for y in ys])


def _unpacked(vector: Any, ys: list[Any]) -> Iterator[Any]:
    at = 0
    for y in ys:
        yield cast(reshape(vector[at : at + y.size], y.shape), y.dtype)
        at += y.size


def _matched(name: str, x: Any, g: Any) -> Iterator[tuple[Any, Any]]:
    """The values of an argument, and what bwd says of them."""
    if isinstance(x, bool | int | float | str | None) or g is None:
        return
    if isinstance(x, Tensor):
        if _is_floating(x):
            yield x, _cotangent(name, x, g)
    elif hasattr(x, "named_parameters"):
        for key, p in x.named_parameters():
            if isinstance(g, dict) and g.get(key) is not None:
                yield p, _cotangent(name, p, g[key])
    elif isinstance(x, tuple | dict):
        if not isinstance(g, tuple | list | dict) or len(g) != len(x) or isinstance(g, dict) != isinstance(x, dict):
            what = f"custom_vjp: bwd of {name} gives cotangents in another structure than that of the argument"
            raise user_error(OpTypeError, what, expected=f"{len(x)} parts", got=type(g).__name__)
        keys = list(x) if isinstance(x, dict) else range(len(x))
        for key in keys:
            yield from _matched(name, x[key], g[key])
    else:
        what = f"custom_vjp: an argument of {name} cannot be differentiated"
        raise user_error(OpTypeError, what, got=type(x).__name__, repair="return None for it, or catch it by closure")


def _cotangent(name: str, x: Any, g: Any) -> Any:
    if isinstance(g, int | float):
        assert state.builder is not None
        return broadcast_to(state.builder.constant(g, x.dtype), x.shape)
    if tuple(getattr(g, "shape", ())) != tuple(x.shape):
        what = f"custom_vjp: bwd of {name} gives a cotangent of another shape than its argument"
        raise user_error(OpTypeError, what, expected=str(x.shape), got=str(getattr(g, "shape", g)))
    return cast(g, x.dtype)
