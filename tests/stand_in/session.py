"""The stand-in of a whole session of tests, and which programs a piece of code will make it run.

The latter is found by running the code on NumPy, so that all kernels can be built at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

import autobatch as ab
from autobatch.backends.device import use_device
from autobatch.compile import kernel
from autobatch.compile.cuda.lower import CudaProgram, lower_cuda
from autobatch.ir.graph import Graph
from tests.stand_in.device import StandIn


@contextlib.contextmanager
def captured() -> Iterator[list[CudaProgram]]:
    """Collect the programs of every kernel piece that is lowered for NumPy inside the block, for a device.

    The list is filled when the block ends. Kernels are made again in it: those of before are not lowered again.
    """
    made: dict[Any, tuple[Graph, str, Sequence[bool], bool]] = {}
    original = kernel.lower  # type: ignore[attr-defined]

    def lower(graph: Graph, name: str, accumulate: Sequence[bool], backend: str, add: bool = True) -> Any:
        made[graph.key(), tuple(accumulate), add] = graph, name, accumulate, add
        return original(graph, name, accumulate, backend, add)

    programs: list[CudaProgram] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "lower", lower)
        patch.setattr(kernel, "_kernels", {})
        yield programs
    programs += [lower_cuda(*arguments) for arguments in made.values()]


class Noted(StandIn):
    """A stand-in that knows the sources of the kernels it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: dict[str, None] = {}

    def kernel(self, source: str, name: str) -> Any:
        self.sources[source] = None
        return super().kernel(source, name)


_device: list[Noted] = []


def stand_in() -> Noted:
    """The one of this process: values that are shared stay there from test to test."""
    if not _device:
        _device.append(Noted())
    return _device[0]


@contextlib.contextmanager
def on_stand_in() -> Iterator[Noted]:
    """Run on the stand-in inside the block."""
    device = stand_in()
    device.sources.clear()
    before = use_device(device)
    try:
        with ab.backend("cupy"):
            yield device
    finally:
        use_device(before)
