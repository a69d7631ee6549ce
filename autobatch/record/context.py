"""Modes that hold for all that is recorded now."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from ..base.errors import CellError, RecordingError, user_error


class _Flags(threading.local):
    kept: bool = False
    kept_from: int = 0
    traced: bool = False


flags = _Flags()
"""Per thread: `kept`, True while `ab.map` makes recordings that will be replayed, `kept_from`, the first value of the
one that is being made, or 0; `traced`, True while a cell is traced."""

frozen: ContextVar[bool] = ContextVar("autobatch_no_grad", default=False)
"""True under `no_grad`."""

is_frozen = frozen.get


class NotTraced(BaseException):
    """Raised while a cell is traced, by what has to be done at each call: its Python runs then, op by op."""


checking: ContextVar[Callable[[Any, Any, str], None] | None] = ContextVar("autobatch_check", default=None)
"""Under `check_finite` called with each op on shared values, an array, and what that is: "value" or "gradient"."""

without_cells: ContextVar[bool] = ContextVar("autobatch_disable_cells", default=False)
"""True under `disable_cells`."""


def refuse_if_kept(what: str) -> None:
    """Raise where a recording to be replayed would depend on something that may differ then."""
    if flags.kept:
        repair = "do it outside and pass the result as an argument, or leave out reuse=True"
        raise user_error(RecordingError, f"map: {what} inside a function whose recordings are reused", repair=repair)


def refuse_in_cell(what: str = "") -> None:
    """Raise where the trace of a cell would depend on numbers that change without a retrace."""
    if flags.traced:
        what = f"cell: {what}{what and ': '}a value cannot be forced inside a cell"
        raise user_error(CellError, what, repair="do it outside, and pass the number as an argument")


def refuse_numbers(what: str) -> None:
    """Raise where numbers of parameters are read or changed by Python that will not run each time."""
    refuse_if_kept(what)
    refuse_in_cell(what)
