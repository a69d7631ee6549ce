"""indices: row numbers of tables that the host can know, computed there by NumPy.

An index that comes from data of the nodes, or from host inputs, does not need the device. The host knows it
before anything runs, so that an index out of range raises at once, and gradients of tables can be merged without asking
the device which rows they have. Input: a run and a signature. Output: `run.indices`, and whether all were known.
Cost: one program of a few NumPy calls a signature that looks something up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...backends.transfer import is_on_device
from ...base.types import Array
from ...schedule.structures import Slot
from ..feed import from_lengths
from ..layout import offsets_of_lists, resolve
from .layout import DeviceLaunch, DeviceRun


def known_indices(run: DeviceRun, s: int, piece: str) -> bool:
    """Compute the indices of a signature that the host can know; whether these are all of them."""
    slots = frozenset(k for k, slot in enumerate(run.signatures[s].slots) if _host_pool(run, slot) is not None)
    part = run.signatures[s].kernel.index_part(piece, slots)
    if part.run is None:
        return part.complete
    launches = [launch for launch in run.launches if launch.sig == s and launch.sizes[0]]
    groups = [launches] if part.whole and launches else [[launch] for launch in launches]
    found: list[list[Array]] = [[] for _ in part.types]
    for group in groups:
        sizes = tuple(map(sum, zip(*(launch.sizes for launch in group), strict=True)))
        outputs: list[Any] = [np.empty(resolve(t, sizes), t.dtype) if t.has_dim else None for t in part.types]
        arguments = [_argument(run, s, group, kind, k) for kind, k in part.inputs]
        part.run(sizes[0], sizes, arguments, outputs)
        for column, output in zip(found, outputs, strict=True):
            column.append(output)
    for k, result in part.residuals.items():
        if found[result]:
            run.indices[s, k] = np.concatenate([a.reshape(-1) for a in found[result]])
    return part.complete


def _argument(run: DeviceRun, s: int, group: Sequence[DeviceLaunch], kind: str, k: int) -> Any:
    if kind == "data":
        return np.concatenate([run.column(launch, k) for launch in group])
    if kind == "rows":
        rows = np.concatenate([run.row_numbers(launch, k) for launch in group])
        return _host_pool(run, run.signatures[s].slots[k]), rows, -1
    (launch,) = group
    first, last = run.schedule.launch_of[launch.number : launch.number + 2].tolist()
    return from_lengths(kind, k, offsets_of_lists(run.plan, run.signatures[s], launch.number, last - first))


def _host_pool(run: DeviceRun, slot: Slot) -> Array | None:
    """The pool that a slot reads, if it holds integers that all came from the host."""
    return run.host_pools.get(slot.pool) if slot.type.dtype.kind in "iu" else None


def host_pools(run: DeviceRun) -> dict[tuple[int, np.dtype[Any]], Array]:
    """Pools of integers that nothing but host inputs is written to."""
    tape = run.tape
    table = tape.signatures
    written = {
        int(table.result_pool[r])
        for s in run.totals
        for r in range(int(table.result_of[s]), int(table.result_of[s + 1]))
    }
    found: dict[tuple[int, np.dtype[Any]], Array] = {}
    for number, ((width, dtype), n) in enumerate(zip(tape.pools, run.plan.pool_rows.tolist(), strict=True)):
        if np.dtype(dtype).kind in "iu" and number not in written and n:
            found[width, dtype] = np.zeros((n, width), dtype)
    for recorded, array in run.payloads if found else ():
        pool = found.get(_pool_of(run, recorded))
        if pool is None or run.plan.start[run.expansion.value(recorded)] == -1:
            continue
        if is_on_device(array):
            del found[_pool_of(run, recorded)]
            continue
        _, rows = run.rows(recorded)
        pool[rows] = array.reshape(pool[rows].shape)
    return found


def _pool_of(run: DeviceRun, recorded: int) -> tuple[int, np.dtype[Any]]:
    return run.tape.pools[run.rows(recorded)[0]]
