"""staging buffer: what a device has to be told about a flush, in one buffer and one upload.

Arrays are put in one by one; after `send` each is at `address + ` the number that `put` gave, a multiple of 16.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...backends.device import Device
from ...base.types import Array

ALIGNMENT = 16


class Staging:
    """Host arrays on their way to the device."""

    def __init__(self) -> None:
        self.parts: list[tuple[int, Array]] = []
        self.n_bytes = 0
        self.address = 0
        self.array: Any = None

    def put(self, array: Array) -> int:
        """Where an array will lie, from the beginning of the buffer."""
        at = self.n_bytes
        self.parts.append((at, array))
        self.n_bytes = -(-(at + array.nbytes) // ALIGNMENT) * ALIGNMENT
        return at

    def put_together(self, arrays: Sequence[Array]) -> int:
        """The same for consecutive arrays without a gap."""
        return self.put(arrays[0] if len(arrays) == 1 else np.concatenate([a.reshape(-1) for a in arrays]))

    def send(self, device: Device) -> None:
        """Upload all of it; nothing is uploaded where there is nothing."""
        if not self.n_bytes:
            return
        buffer = np.empty(self.n_bytes, np.uint8)
        for at, array in self.parts:
            flat = np.ascontiguousarray(array).reshape(-1)
            buffer[at : at + flat.nbytes] = flat.view(np.uint8)
        self.array = device.upload(buffer)
        self.address = self.array.data.ptr
        self.parts = []
