"""The device protocol, and the current device.

Programs for a device work on addresses: integers that kernels take as pointers. Arrays appear only where memory is
allocated and where data is copied. Everything is enqueued on one stream, in order; nothing waits but `numpy` and
`synchronize`.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

Host = np.ndarray[Any, Any]

Matrices = tuple[int, int, bool, int]
"""Address; numbers from one row in memory to the next; whether it is transposed; numbers from one matrix to
the next, 0 for one that all share."""

Target = tuple[int, int, int]
"""The same for results, which do not lie transposed."""


class Device(Protocol):
    """A device that runs generated kernels. Arrays of it are C-contiguous, have `shape`, `dtype`, `size`, `reshape` and
    slicing like NumPy's, and their address in `array.data.ptr`; they are never converted silently."""

    name: str
    """Of the backend that runs on it, such as "cupy"."""

    tf32: bool
    """Whether products of float32 may round their operands to TF32."""

    launched: int
    """Kernels, products, fills and copies that were started until now."""

    faults: int
    """Address of four int64: [1, index, extent, lowest] once a kernel met an index out of range, until then zeros."""

    def empty(self, shape: Any, dtype: Any) -> Any:
        """An uninitialised array of the device. Raises `MemoryError` if the device is out of memory."""

    def array(self, host: Host) -> Any:
        """A copy on the device."""

    def mark(self) -> Any:
        """This moment, to be given to `numpy`: what is launched later does not come before it."""

    def numpy(self, array: Any, moment: Any = None) -> Host:
        """A copy on the host, once all has run that was launched until now, or until an earlier moment."""

    def upload(self, host: Host) -> Any:
        """A copy on the device, made while the host goes on; `host` may be written again when this returns."""

    def zero(self, address: int, n_bytes: int) -> None:
        """Set memory to zero."""

    def copy(self, target: int, source: int, n_bytes: int) -> None:
        """Copy memory of the device, from address to address; the two do not overlap."""

    def free_bytes(self) -> int:
        """Memory that `empty` could still give, in bytes."""

    def kernel(self, source: str, name: str) -> Any:
        """The compiled kernel of this name; a source is compiled once, whichever of its kernels is asked for first."""

    def launch(self, kernel: Any, blocks: int, threads: int, arguments: tuple[int, ...]) -> None:
        """Start a kernel. Its arguments are addresses and integers of 64 bits; without blocks nothing happens."""

    def gemm(
        self, sizes: tuple[int, int, int], a: Matrices, b: Matrices, c: Target, dtype: Any, add: bool, count: int = 1
    ) -> None:
        """C = A B of row-major matrices, f[n, k] and f[k, p], or C += A B; of one, or of `count` in a row.

        Args:
            sizes: n, k, p. If k is 0 the result is 0; if n or p is 0 nothing happens.
            a, b, c: the matrices.
            dtype: float32 or float64.
            add: whether the result is added to C.
        """

    def argsort(self, address: int, n: int) -> Any:
        """The int64 array of the places of n int64, smallest number first, equal ones in order."""

    def synchronize(self) -> None:
        """Wait until all that was launched has run."""


_in_use: list[Device] = []


def use_device(device: Device | None) -> Device | None:
    """Install a device, or with None let `current_device` find one; returns the one that was installed."""
    before = _in_use[0] if _in_use else None
    _in_use[:] = [] if device is None else [device]
    return before


def installed_device() -> Device | None:
    """The device in use, if there is one already."""
    return _in_use[0] if _in_use else None


def current_device() -> Device:
    """The device in use; the GPU where none was installed. Raises what `require_cupy` does where there is none."""
    if not _in_use:
        from .cuda.cupy_device import CupyDevice

        _in_use.append(CupyDevice())
    return _in_use[0]
