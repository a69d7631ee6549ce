"""What a recording depends on besides the example: what the function's code reads (`cells.guard`), and the modes.

Recordings are replayed where all of this is as it was. Cost: a few µs for a function that was seen before and around
which nothing was rebound; else a walk over all that it reads.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..backends import current_backend
from ..base.types import default_dtype
from ..record.cells.facts import Guard
from ..record.cells.guard import guard
from ..record.cells.reads import is_filled
from ..record.context import is_frozen, without_cells
from ..record.expressions import Tied
from ..record.lengths import switched
from ..record.shared import Shared
from ..record.tape import state

_SEEN = 8
"""Functions whose surroundings are remembered: those seen last."""


@dataclass(slots=True, weakref_slot=True)
class _Look:
    """What was seen of a function, which is known by its parts."""

    parts: tuple[Any, ...]
    guard: Guard


class Surroundings:
    """Remembers what was seen of functions, so that a second look is cheap."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, ...], Tied[_Look]] = {}

    def of(self, fn: Callable[..., Any]) -> tuple[Any, tuple[Any, ...]]:
        """What a call of `fn` depends on, as a key, and the objects whose identity is part of it."""
        parts = _parts(fn)
        key = tuple(map(id, parts))
        tied = self._seen.pop(key, None)
        look = None if tied is None else tied()
        if tied is None or look is None or not look.guard.unchanged():
            look = _Look(parts, guard((fn,)))
            tied = Tied(look, [x for x in look.guard.leaves if isinstance(x, Shared)])
        self._seen[key] = tied
        for oldest in list(self._seen)[:-_SEEN]:
            del self._seen[oldest]
        modes = is_frozen(), state.training, without_cells.get(), default_dtype(), current_backend(), switched[0]
        return (look.guard.prints, *modes), look.guard.leaves


def _parts(fn: Callable[..., Any]) -> tuple[Any, ...]:
    """What a function is made of: one that is made again of the same is the same."""
    if isinstance(fn, types.MethodType):
        return (*_parts(fn.__func__), fn.__self__)
    if not isinstance(fn, types.FunctionType) or "cell" in fn.__dict__:
        return (fn,)
    contents = [v.cell_contents if is_filled(v) else v for v in fn.__closure__ or ()]
    return (fn.__code__, fn.__globals__, fn.__defaults__, fn.__kwdefaults__, *contents)
