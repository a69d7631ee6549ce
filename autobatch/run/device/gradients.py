"""gradients: gradients of a table as rows. The host knows the numbers of the rows, the device their values.

Rows that are the same are added in the order given. Cost: a sort of row numbers on the host, one upload, one launch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...backends.device import Device
from ...base.types import Array
from .rows import add_rows
from .rows import merge_rows as launch_merge
from .segments import sorted_rows
from .staging import Staging


def merge_rows(device: Device, ids: Array, parts: Sequence[Any], shape: tuple[int, ...]) -> tuple[Array, Any]:
    """Rows that may repeat → each row number once, ascending, and the sums.

    Args:
        device: of the parts.
        ids: int64[n], on the host.
        parts: arrays of the device whose concatenated rows have these numbers.
        shape: of the table.
    """
    order, starts, unique = sorted_rows(ids)
    width, dtype = math.prod(shape[1:]), parts[0].dtype
    merged = device.empty((unique.size, *shape[1:]), dtype)
    if unique.size:
        staging = Staging()
        at = staging.put(order), staging.put(starts)
        staging.send(device)
        whole = _together(device, parts, width)
        segments = staging.address + at[0], staging.address + at[1], int(unique.size)
        launch_merge(device, whole.data.ptr, segments, merged.data.ptr, width, dtype)
    return unique, merged


def _together(device: Device, parts: Sequence[Any], width: int) -> Any:
    if len(parts) == 1:
        return parts[0]
    whole = device.empty((sum(part.size for part in parts) // max(width, 1), width), parts[0].dtype)
    at = whole.data.ptr
    for part in parts:
        device.copy(at, part.data.ptr, part.nbytes)
        at += part.nbytes
    return whole


def add_to_rows(device: Device, table: Any, ids: Array, values: Any) -> None:
    """Add rows, each with a number of its own, to rows of a table, in place."""
    if not ids.size:
        return
    staging = Staging()
    numbers = staging.put(ids.astype(np.int32))
    each, starts = (staging.put(np.arange(n, dtype=np.int32)) for n in (ids.size, ids.size + 1))
    staging.send(device)
    base = staging.address
    width = math.prod(table.shape[1:])
    add_rows(
        device, table.data.ptr, base + numbers, values.data.ptr, (base + each, base + starts, ids.size), width,
        table.dtype,
    )  # fmt: skip


def dense_of(device: Device, ids: Array, values: Any, shape: tuple[int, ...]) -> Any:
    """The table of these rows, zero elsewhere."""
    table = device.empty(shape, values.dtype)
    device.zero(table.data.ptr, table.nbytes)
    add_to_rows(device, table, ids, values)
    return table
