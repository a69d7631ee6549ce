"""lower: a batched graph becomes CUDA C kernels and a driver that launches them.

Input: a batched `Graph` of primitives and which results are added to rows. Output: a `CudaProgram`. Invariants: the
driver is straight-line code on addresses, built once; it asks for no memory (sorting apart), waits for nothing and
makes no arrays; every number is written by one thread, in an order that depends on extents alone. Cost: O(nodes) to
build, a few microseconds a launch to run.

    def run(device, m, sizes, inputs, outputs, scratch):
        k0, = kernels(device)
        launch = device.launch
        (p0, r0, b0), v1 = inputs
        out0, = outputs
        v0 = scratch
        v2 = v0 + (256 * m + 255 & -256)
        if b0 >= 0:
            v0 = p0 + b0 * 256
        else:
            launch(k0, (m * 64 + 255) // 256, 256, (m, r0, p0, v0))
        device.gemm((m, 64, 64), (v0, 64, False, 0), (v1, 64, True, 0), (v2, 64, 0), float32, False)
        …
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ...backends.cuda import HEADER
from ...backends.device import Device
from ...base.types import FLOATS
from ...ir.graph import Graph
from ..host.lower import steps_of
from ..text import argument_lines, count_lines, function_name, graph_inputs, unpacked
from .arrange import arrange
from .body import ADD, IN_ORDER, STORE, Body, Kernels


@dataclass(frozen=True, slots=True)
class CudaProgram:
    """One lowered graph.

    text: the driver and its kernels, to read
    source: the kernels as they are compiled
    run: run(device, m, sizes, inputs, outputs, scratch, apart=False) launches everything. Arrays are C-contiguous and
        given by address.
        inputs: as `graph_inputs` says: (pool, row numbers, block) for "rows", where row numbers are int32, and block is
            the first row where they are consecutive, else -1; an address for everything else.
        outputs: an address, or for results that go to rows (pool, row numbers, block, segments). Segments are None
            where no row is there twice, else (order, starts, count): the places of the row numbers, smallest number
            first and equal ones in order; where each of `count` runs of equal numbers starts, and the end; both int32.
        apart: that no row is added to twice, by one result or by two, so that nothing has an order to be kept.
        scratch: the address of as many bytes as `scratch` says, at a multiple of 256.
    scratch: scratch(m, sizes) → bytes
    """

    text: str
    source: str
    run: Callable[..., None]
    scratch: Callable[[int, Sequence[int]], int]


def lower_cuda(graph: Graph, name: str, accumulate: Sequence[bool], add: bool = True) -> CudaProgram:
    """Make the program of a batched graph. `name` is the driver's; `accumulate` and `add` are as of `host.lower`."""
    return _Driver(graph, name, accumulate, add).program()


class _Driver:
    def __init__(self, graph: Graph, name: str, accumulate: Sequence[bool], add: bool) -> None:
        self.wanted = graph_inputs(graph)
        self.steps = steps_of(graph, accumulate, "cupy")
        self.accumulate = accumulate
        self.graph = self.steps.graph
        self.title = function_name(name)
        self.kernels = Kernels(self.title)
        self.ways = [ADD, IN_ORDER] if add and any(accumulate) else [STORE]

    def program(self) -> CudaProgram:
        """Write kernels and driver."""
        bodies = [Body(arrange(self.steps, self.accumulate, way == IN_ORDER), way, self.kernels) for way in self.ways]
        written = [body.write() for body in bodies]
        counts = count_lines(self.graph)
        names = list(self.kernels.names.values())
        head = [f"{unpacked([f'k{k}' for k in range(len(names))])} = kernels(device)"] if names else []
        head += ["launch = device.launch"] if names else []
        lines = [*head, *counts, *argument_lines(self.graph, self.accumulate, "(q{0}, w{0}, f{0}, e{0})", self.wanted)]
        if len(written) == 1:
            lines += written[0]
        else:
            lines += ["if apart:", *(f"    {line}" for line in written[0]), "    return", *written[1]]
        totals = [body.total for body in bodies]
        total = totals[0] if len(set(totals)) == 1 else f"max({', '.join(totals)})"
        driver = _function(f"{self.title}(device, m, sizes, inputs, outputs, scratch, apart=False)", lines or ["pass"])
        room = _function("scratch(m, sizes)", [*counts, f"return {total}"])
        kernels = self.kernels.source()
        source = f"{HEADER}\n{kernels}"
        defined: dict[str, Any] = {dtype.name: dtype for dtype in FLOATS}
        defined["kernels"] = _Loaded(source, names)
        exec(compile(f"{driver}\n\n{room}", f"<{self.title}>", "exec"), defined)
        text = f"{driver}\n\n{kernels}" if kernels else driver
        return CudaProgram(text, source, defined[self.title], defined["scratch"])


def _function(head: str, lines: Sequence[str]) -> str:
    inner = "\n".join(f"    {line}" for line in lines)
    return f"def {head}:\n{inner}\n"


class _Loaded:
    """The kernels of a program on the device that runs it."""

    def __init__(self, source: str, names: Sequence[str]) -> None:
        self.source, self.names = source, names
        self.latest: tuple[Any, tuple[Any, ...]] = None, ()  # read and written at once: threads may differ in device

    def __call__(self, device: Device) -> tuple[Any, ...]:
        known, found = self.latest
        if known is not device:
            found = tuple(device.kernel(self.source, name) for name in self.names)
            self.latest = device, found
        return found
