"""Modes of recording: without gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from ..base.tasks import current_task
from .context import frozen, is_frozen
from .tape import own_tape, state
from .tensor_list import GUARDED

P = ParamSpec("P")
R = TypeVar("R")


class no_grad:
    """Context manager and decorator: what is recorded inside is constant, no gradient flows through it.

    So is the result of an op that changes nothing, as `x.reshape(x.shape)`: outside it may be `x` itself.

    >>> w = ab.Parameter(2.0)
    >>> with ab.no_grad():
    ...     y = w * 3
    >>> (w * y).backward(); float(w.grad)
    6.0
    """

    def __enter__(self) -> None:
        self._before = is_frozen()
        self._in_task = current_task() is not None
        state.frozen_tasks += self._in_task
        try:
            freeze(True)
        except BaseException:  # Ctrl-C
            self.__exit__()
            raise

    def __exit__(self, *error: object) -> None:
        try:
            state.frozen_tasks -= self._in_task
            self._in_task = False
            freeze(self._before)
        finally:
            freeze(self._before)  # again: Ctrl-C may have cut the first one short

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
            with no_grad():
                return fn(*args, **kwargs)

        wrapped.__name__, wrapped.__doc__ = fn.__name__, fn.__doc__
        return wrapped


def follow() -> None:
    """Let the open recording follow the mode of another context, which goes on now."""
    tape = state.tape
    if tape is not None and tape.cache is not tape.caches[is_frozen()]:
        tape.frozen_from = tape.count
        tape.set_frozen(is_frozen())


def freeze(flag: bool) -> None:
    """Record constants from now on, or values that have gradients."""
    tape = own_tape()
    if tape is not None:
        if flag and not is_frozen():
            tape.frozen_from = tape.count
        tape.set_frozen(flag)
        if state.frozen_tasks:
            tape.room = GUARDED
    frozen.set(flag)
