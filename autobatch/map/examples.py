"""The examples of one call of `ab.map`, one of which is called at a time: streams, contexts, notes on errors.

Each example has a random stream of its own, and a copy of the caller's context variables; the default dtype is the
caller's when it begins.
"""

from __future__ import annotations

import contextvars
import sys
import traceback
from collections.abc import Callable
from operator import attrgetter
from typing import Any

from ..base.types import default_dtype, set_default_dtype
from ..record.modes import follow
from ..record.random import example_stream, map_stream, signed
from ..record.tape import state

_fields = attrgetter(
    "stream", "draws", "maps", "example", "training", "unbatched", "depth", "paths", "aliases", "fiber"
)  # fmt: skip


OF_BATCH = "in one of the examples of ab.map whose values were computed together"
"""The note of an error that belongs to no known example."""


def present() -> tuple[Any, ...]:
    """What belongs to the example that is under way, or to the code outside of examples."""
    return *_fields(state), default_dtype()


def put_back(own: tuple[Any, ...]) -> None:
    """Go on with what `present` gave."""
    *fields, state.paths, state.aliases, state.fiber, dtype = own
    state.stream, state.draws, state.maps, state.example, state.training, state.unbatched, state.depth = fields
    if dtype is not default_dtype():
        set_default_dtype(dtype)


class Examples:
    """
    fn, arguments: what is called for each; results: of those that have ended
    began: how many were begun, in order
    """

    def __init__(self, fn: Callable[..., Any], columns: list[list[Any]], call: int, stream: int) -> None:
        self.fn = fn
        self.arguments = list(zip(*columns, strict=True))
        self.results: list[Any] = [None] * len(self.arguments)
        self.began = 0
        self._number, self._outer, self._stream = call, stream, map_stream(stream, call)
        self._context = contextvars.copy_context()
        self._dtype = default_dtype()

    def stream(self, index: int) -> int:
        """The random stream of an example."""
        return example_stream(self._stream, index)

    def call_next(self) -> Any:
        """Call the function for the example that is next; its result."""
        index = self.began
        self.began = index + 1
        self.results[index] = result = self.call(index)
        return result

    def call(self, index: int) -> Any:
        """Call the function for an example; its result."""
        return self._context.copy().run(self._call, index)

    def _call(self, index: int) -> Any:
        state.stream = own = self.stream(index)
        state.draws = 0
        state.maps = 0
        state.example = index
        if state.paths is not None:
            path = (*state.paths.get(signed(self._outer), ()), (self._number, index))
            state.paths.setdefault(signed(own), path)
        if default_dtype() is not self._dtype:
            set_default_dtype(self._dtype)
        follow()
        try:
            return self.fn(*self.arguments[index])
        except Exception as error:
            _add_notes(error, index)
            raise


def _add_notes(error: Exception, index: int) -> None:
    """Say which example an error belongs to, and the way out of a recursion that is too deep."""
    notes = getattr(error, "__notes__", [])
    if OF_BATCH in notes:
        return
    is_inner = not notes
    error.add_note(f"in example {index} of ab.map")
    if is_inner and isinstance(error, RecursionError):
        depth = len(list(traceback.walk_tb(error.__traceback__)))
        error.add_note(
            f"repair: the recursion went {depth:,} calls deep, and Python's "
            f"limit is {sys.getrecursionlimit():,}: raise it with sys.setrecursionlimit (in a thread, whose stack "
            "threading.stack_size makes large enough), or walk the example with a loop and a list of what is to be done"
        )
