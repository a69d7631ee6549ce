"""faults: errors that a kernel found, an index out of range. Asking waits for the device."""

from __future__ import annotations

import numpy as np

from ...backends.device import Device
from ...base.errors import OpIndexError
from ...ops.index import not_in_range


def raise_fault(device: Device) -> None:
    """Raise `OpIndexError` if a kernel has met an index out of range, and forget it."""
    words = device.empty((4,), np.dtype(np.int64))
    device.copy(words.data.ptr, device.faults, words.nbytes)
    is_fault, index, extent, lowest = device.numpy(words).tolist()
    if is_fault:
        device.zero(device.faults, words.nbytes)
        raise OpIndexError(not_in_range(index, extent, lowest))
