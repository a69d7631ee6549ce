"""Where a part of the check runs, and how much of it: on the GPU, or rehearsed on what stands in for one.

A rehearsal has the device of the tests, whose kernels are built as C++, PyTorch on the processor, and the clock of the
host; models are small, and steps few. All else is the same code.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import autobatch as ab
from autobatch.backends.device import current_device
from benchmarks.gpu.floors import COPIED
from benchmarks.gpu.place import HostClock, Place, gpu


class Memory(Protocol):
    """Memory of the device."""

    def used(self) -> int:
        """Bytes of arrays that are held."""

    def limit(self, n_bytes: int | None) -> None:
        """Allow so many bytes beyond what is held now; None lifts the limit."""


class PoolMemory:
    """That of CuPy's pool."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def used(self) -> int:
        return int(self._pool.used_bytes())

    def limit(self, n_bytes: int | None) -> None:
        self._pool.free_all_blocks()
        self._pool.set_limit(size=0 if n_bytes is None else int(self._pool.used_bytes()) + n_bytes)


class StandInMemory:
    """That of the tests' device."""

    def __init__(self, device: Any) -> None:
        self._device = device

    def used(self) -> int:
        return int(self._device.used)

    def limit(self, n_bytes: int | None) -> None:
        self._device.limit = 1 << 40 if n_bytes is None else self._device.used + n_bytes


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is done. dim, batch: of the model, None where the part says; seconds: of timed steps of a program."""

    dim: int | None
    batch: int | None
    n_batches: int
    seconds: float
    copied: int
    steps: int
    crowded: int
    """So many times the minibatch are mapped at once where memory is to run out."""

    room: int
    """Bytes that it then has."""

    smoke_every: int
    """Of the samples of ops, each of so many."""


FULL = Sizes(None, None, 6, 0.9, COPIED, 1000, 20, 64 << 20, 1)
REHEARSED = Sizes(6, 2, 3, 0.0, 1 << 12, 12, 60, 1 << 20, 40)


@dataclass(frozen=True, slots=True)
class Where:
    """The place, its memory, and how much is done there."""

    place: Place
    memory: Memory
    sizes: Sizes


@contextlib.contextmanager
def on_the_device(rehearsed: bool) -> Iterator[Where]:
    """Inside the block "cupy" is the backend."""
    if rehearsed:
        from tests.stand_in.session import on_stand_in

        torch_device = "cpu" if importlib.util.find_spec("torch") else ""
        with on_stand_in() as stand_in:
            yield Where(Place(HostClock(), torch_device, {"gpu": "rehearsed"}), StandInMemory(stand_in), REHEARSED)
        return
    place = gpu()
    with ab.backend("cupy"):
        current_device()
        import cupy

        yield Where(place, PoolMemory(cupy.get_default_memory_pool()), FULL)
