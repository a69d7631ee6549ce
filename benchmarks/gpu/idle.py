"""A device that does nothing: what the host does for a step on a GPU, without one.

Memory is the host's and holds nonsense, calls are counted and done. What is left of a training step is the library's
own time: recording, planning, packing what is uploaded, and the launch loops. What CuPy and the driver take for a
launch is not in it.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

import autobatch as ab
from autobatch.backends.device import use_device
from benchmarks.runner import cut
from benchmarks.workload import CELLS_REUSED, load

Host = np.ndarray[Any, Any]

WARM_ROUNDS = 3


class IdleArray:
    """An array of the device: memory that nothing is written to."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.shape, self.dtype, self.size, self.nbytes = host.shape, host.dtype, host.size, host.nbytes
        self.ndim, self.itemsize = host.ndim, host.itemsize
        self.data = SimpleNamespace(ptr=host.__array_interface__["data"][0])

    def __len__(self) -> int:
        return len(self._host)

    def __getitem__(self, where: Any) -> IdleArray:
        return IdleArray(self._host[where])

    def __setitem__(self, where: Any, values: Any) -> None:
        """Nothing is written."""

    def __add__(self, other: Any) -> IdleArray:
        return IdleArray(np.empty_like(self._host))

    def get(self) -> Host:
        """A copy on the host."""
        return self._host.copy()

    def copy(self) -> IdleArray:
        """Memory of its own."""
        return IdleArray(np.empty_like(self._host))

    def astype(self, dtype: Any, copy: bool = True) -> IdleArray:
        """Memory of its own, of another dtype."""
        return self if self.dtype == dtype and not copy else IdleArray(np.empty(self.shape, dtype))

    def view(self, dtype: Any) -> IdleArray:
        """The same memory as another dtype."""
        return IdleArray(self._host.view(dtype))

    def reshape(self, *shape: Any) -> IdleArray:
        """The same memory in another shape."""
        return IdleArray(self._host.reshape(*shape))


class IdleDevice:
    """See `autobatch.backends.device.Device`."""

    name = "cupy"
    tf32 = False

    def __init__(self) -> None:
        self.launched = 0
        self._faults = np.zeros(3, np.int64)
        self.faults = int(self._faults.ctypes.data)

    def empty(self, shape: Any, dtype: Any) -> IdleArray:
        """See `Device`."""
        return IdleArray(np.empty(shape, dtype))

    def array(self, host: Host) -> IdleArray:
        """See `Device`."""
        return IdleArray(np.array(host, order="C"))

    def mark(self) -> None:
        """See `Device`."""

    def numpy(self, array: Any, moment: Any = None) -> Host:
        """See `Device`."""
        return np.zeros(array.shape, array.dtype)

    def upload(self, host: Host) -> IdleArray:
        """See `Device`."""
        return self.empty(host.shape, host.dtype)

    def zero(self, address: int, n_bytes: int) -> None:
        """See `Device`."""
        self.launched += 1

    def copy(self, target: int, source: int, n_bytes: int) -> None:
        """See `Device`."""
        self.launched += 1

    def free_bytes(self) -> int:
        """See `Device`."""
        return 1 << 40

    def kernel(self, source: str, name: str) -> Any:
        """See `Device`."""
        return source, name

    def launch(self, kernel: Any, blocks: int, threads: int, arguments: tuple[int, ...]) -> None:
        """See `Device`."""
        self.launched += 1

    def gemm(self, *arguments: Any) -> None:
        """See `Device`."""
        self.launched += 1

    def argsort(self, address: int, n: int) -> IdleArray:
        """See `Device`."""
        return self.empty((n,), np.dtype(np.int64))

    def synchronize(self) -> None:
        """See `Device`."""


@dataclass(frozen=True, slots=True)
class HostTime:
    """What the host takes for a training step, CuPy and the driver left out; medians.

    launches: on the device; each: microseconds of the stages that launch, for each of them
    step: milliseconds of all stages
    """

    launches: int
    each: float
    step: float


def host_time(name: str, dim: int = 256, batch: int = 256, n_batches: int = 4, rounds: int = 5) -> HostTime:
    """Steps of a workload on minibatches that recur, recordings reused."""
    workload = load(name)
    batches = cut(workload.examples(), batch)[:n_batches]
    before = use_device(IdleDevice())
    try:
        ab.set_backend("cupy")
        trainer = workload.trainers[CELLS_REUSED](workload.parameters(dim), dim)
        profiles = []
        for examples in batches * (WARM_ROUNDS + rounds):
            with ab.profile() as profile:
                trainer.launch(examples)  # type: ignore[attr-defined]
            profiles.append(profile)
    finally:
        use_device(before)
        ab.set_backend("numba")
    timed = profiles[WARM_ROUNDS * len(batches) :]
    launches = statistics.median(p.device_launches for p in timed)
    each = statistics.median(p.launch_seconds for p in timed)
    step = statistics.median(sum(p.seconds.values()) for p in timed)
    return HostTime(round(launches), 1e6 * each, 1e3 * step)
