"""How modules and layers are called: with the compiled recorder without frames in Python, which each op would walk."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

from .choice import compiled
from .random import in_mode
from .tape import state

C = TypeVar("C", bound=type)
F = TypeVar("F", bound=Callable[..., Any])


def called_by_forward(module: C) -> C:
    """Decorate a class: an object is called by its `forward`, in the mode that its `training` says."""
    if compiled is None:
        module.__call__ = _call  # type: ignore[method-assign]
    else:
        compiled.install_module(module, in_mode)
    return module


def _call(self: Any, *args: Any, **kwargs: Any) -> Any:
    if state.training is self.training and not kwargs:  # as `in_mode`, with a frame less for all it records
        return self.forward(*args)
    return in_mode(self.training, self.forward, args, kwargs)


def known_forward(fn: Callable[..., Any], *names: str) -> Callable[[F], F]:
    """Decorate the method `forward(self, x)` of a layer that calls the function `fn` with x and these attributes, and
    does nothing else: it is a known call, as those of `calls` are."""

    def decorate(forward: F) -> F:
        if compiled is None:
            return forward
        return cast(F, functools.update_wrapper(compiled.forward_of(fn, names), forward))

    return decorate


def known_row(name: str) -> Callable[[F], F]:
    """Decorate the method of a layer that looks up a row of a table, which is this attribute."""

    def decorate(look_up: F) -> F:
        if compiled is None:
            return look_up
        return cast(F, functools.update_wrapper(compiled.row_of(name, look_up), look_up))

    return decorate
