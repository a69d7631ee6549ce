"""The first NaN or infinity under `ab.check_finite`: which op produced it, at which user line.

A batched run is looked at launch by launch, its gradients when the backward pass has ended. Where something is not
finite the recording is run once more by the one-by-one loop, which looks at every op, those inside of cells, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from ..backends.transfer import to_host
from ..base.errors import NonFiniteError, line_of, message
from ..ir.graph import Origin
from ..record.tape import Recording
from ..run.device.layout import DeviceRun
from ..run.execute import HostRun
from ..run.layout import Launch
from ..schedule.structures import Tape


def is_finite(array: Any) -> bool:
    """Whether an array, of the host or of a device, holds neither NaN nor infinity."""
    return bool(array.dtype.kind != "f" or np.isfinite(array).all())


def name_node(tape: Recording, arrays: Tape | None = None) -> Callable[[int, Origin | None, str, Any], NoReturn]:
    """What the loop calls with a node, the op in it, "value" or "gradient", and the numbers."""

    def name(node: int, origin: Origin | None, what: str, numbers: Any) -> NoReturn:
        known = tape.arrays if arrays is None else arrays
        assert known is not None
        signature, where = tape.signatures[known.sig[node]], tape.where(node)
        op = signature.name
        if origin is not None:
            op = f"{origin.op} in cell {op}"
            where = f"{line_of(origin.code, origin.instruction)}, called at {where}"
        raise _error(op, what, numbers, where)

    return name


def name_shared(x: Any, numbers: Any, what: str) -> None:
    """Look at an op on parameters and constants alone."""
    if not is_finite(numbers):
        raise _error("parameter" if x.op is None else x.op.name, what, to_host(numbers), x.where)


def _error(op: str, what: str, numbers: Any, where: str) -> NonFiniteError:
    found = np.asarray(numbers)
    bad = found[~np.isfinite(found)].reshape(-1)[0]
    whose = f"{op}: the first {what} that is not finite: {bad}"
    return NonFiniteError(message(whose, where=where, repair="look at the operands of this op"))


def check_launches(
    tape: Recording, run: HostRun | DeviceRun, again: Callable[[], Any]
) -> Callable[[Launch, int], None]:
    """What looks at every launch of a run. `again` runs the recording by the loop, which names the op."""

    def check(launch: Launch, number: int) -> None:
        for pool, start, rows in launch.writes:
            block = to_host(run.pools[pool][start : start + rows])
            if is_finite(block):
                continue
            again()
            nodes = run.schedule.nodes[run.schedule.launch_of[number] : run.schedule.launch_of[number + 1]]
            where = tape.where(run.expansion.node(int(nodes[0])))
            raise _error(run.signatures[launch.sig].name, "value", block, where)

    return check
