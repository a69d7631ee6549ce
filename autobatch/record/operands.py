"""The operands that the signatures of a recording share: in which order they are evaluated, and their arrays.

Recordings with the same signatures have one `OperandSet`. Arrays of theirs are evaluated once for each version of the
parameters, as long as a run uses them: the phases of an `ab.map` transpose a weight once.

Kept with a signature of the recording, and so as long as the parameters that it reads.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ..backends.device import Device
from ..run.execute import SharedArrays
from ..schedule.structures import SignatureTable
from .context import checking
from .parameter import Held
from .shared import Shared, evaluate_in_order, in_order

if TYPE_CHECKING:
    from ..run.kept_plans import PlanCache


class OperandSet:
    """What the signatures of a recording share.

    table: of these signatures
    order: the shared operands, each after all that it is made of; held: parameters and buffers among them
    plans: cached, by the structure of the recording
    """

    __slots__ = ("_arrays", "held", "order", "plans", "table")

    def __init__(self, table: SignatureTable, operands: Iterable[Shared]) -> None:
        self.table = table
        self.order = in_order(operands)
        self.held = [x for x in self.order if isinstance(x, Held)]
        self.plans: dict[tuple[Any, ...], PlanCache] = {}
        self._arrays: Callable[[], SharedArrays | None] = lambda: None

    def version(self) -> int:
        """The latest version of a parameter among them: it grows with each change."""
        return max([x._version for x in self.held], default=0)

    def arrays(self, device: Device | None, read: Callable[[Shared], Any] | None = None) -> SharedArrays:
        """Their arrays, on a device or on the host; `read` gives those of parameters and constants."""
        is_plain = read is None and checking.get() is None  # else each is to be computed, and looked at
        version = self.version()
        found = self._arrays() if is_plain else None
        if found is None or found.version != version or found.device is not device:
            found = SharedArrays(version, device)
            evaluate_in_order(self.order, found.memo, device, read)
            if is_plain:
                self._arrays = weakref.ref(found)
        return found
