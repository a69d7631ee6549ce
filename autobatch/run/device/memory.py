"""memory: one allocation for all that a flush, or its backward pass, needs on the device.

Parts are reserved first; `allocate` asks for the sum and gives every part its address. Where the device has no room,
the error says what was asked for and how much of the batch would fit; nothing is held then, and the process goes on.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...backends.device import Device
from ...base.errors import DeviceMemoryError, message

ALIGNMENT = 256


class Room:
    """Parts of one allocation. `held` are bytes that the same recording has already."""

    def __init__(self, what: str, held: int = 0) -> None:
        self.what = what
        self.held = held
        self.n_bytes = 0
        self.address = 0
        self.array: Any = None
        self.largest: dict[str, int] = {}
        """Bytes by kind of part, for the error."""

    def reserve(self, n_bytes: int, kind: str) -> int:
        """Where a part will lie, from the beginning."""
        at = self.n_bytes
        self.n_bytes = -(-(at + n_bytes) // ALIGNMENT) * ALIGNMENT
        self.largest[kind] = self.largest.get(kind, 0) + n_bytes
        return at

    def allocate(self, device: Device, n_examples: int) -> None:
        """Ask for the sum of all parts."""
        try:
            self.array = device.empty((max(self.n_bytes, ALIGNMENT),), np.dtype(np.uint8))
        except MemoryError:
            raise self._error(device, n_examples) from None
        self.address = int(self.array.data.ptr)

    def view(self, at: int, shape: tuple[int, ...], dtype: Any) -> Any:
        """A part as an array."""
        kind = np.dtype(dtype)
        return self.array[at : at + math.prod(shape) * kind.itemsize].view(kind).reshape(shape)

    def _error(self, device: Device, n_examples: int) -> DeviceMemoryError:
        free = device.free_bytes()
        parts = ", ".join(
            f"{n:,} for {kind}" for kind, n in sorted(self.largest.items(), key=lambda part: -part[1]) if n
        )
        fitting = int(n_examples * min((free + self.held) / (self.n_bytes + self.held), 1.0))
        if n_examples > 1 and fitting:
            repair = f"about {fitting} of these {n_examples} examples fit at once: map fewer, backward, and go on"
        else:
            repair = "drop references to values that are no longer needed, or record less before computing"
        return DeviceMemoryError(
            message(
                f"{self.what}: the device is out of memory",
                expected=f"{self.n_bytes:,} bytes ({parts})",
                got=f"{free:,} bytes that are free",
                repair=repair,
            )
        )
