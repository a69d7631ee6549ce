"""profile: what a block of code cost, stage by stage and kernel by kernel."""

from __future__ import annotations

import contextlib
import functools
import math
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from ..backends.device import installed_device
from ..backends.host.arena import arena
from ..base.clocks import profiles
from ..compile.kernel import Kernel
from ..compile.rewrites.in_place_matmuls import matmuls_in, read_in_place
from ..compile.steps import Loop, Read, gathered_concats
from ..record.forced_values import Forcing
from ..record.tape import Recording
from ..run.device.layout import DeviceRun
from ..run.execute import HostRun
from ..run.layout import Access, resolve_extents
from ..run.protocols import Signature
from ..schedule.merged import Piece, counts_together
from ..schedule.schedule import lower_bound
from . import report
from .report import Span

READ, GATHERED, COPIED = "read", "gathered", "copied"
"""How a program reads rows: in a loop; as one array, which is a copy unless they follow one another; into another array
by a loop or call that does nothing else with them."""

LAUNCHING = ("shared", "forward", "reverse", "update")
"""Stages that start something on a device."""


MOST_SPANS = 200_000
"""Stages and launches that a profile keeps one by one."""


class Profile:
    """Figures of one block; see `profile`. What they mean is written below `table()`.

    seconds: stage → seconds; launches, bound: done and least possible; nodes: launched; rows: rows read;
    forced: values forced inside `ab.map`: `forced.phases` says how often what was pending ran for them, and
        `forced.lines` for each line how many were forced there, in how many phases;
    together: launches that there would have been had none been forced; `bound` counts across forced values, too
    bytes_copied: of rows gathered or concatenated for a matmul or call;
    bytes_in_place: of rows read in place: as one block, or by loops that index with row numbers; both count every
        time a row is read, and the backward pass where gradients are kept for
    schedules: what chose the order of launches → (recordings, launches)
    peak_bytes: largest pools; replayed: examples whose recordings were reused
    kernels: name → (launches, nodes); kernel_bytes: name → (bytes copied, bytes read in place)
    kernel_seconds: name → seconds on the host, forward and backward
    spans: (stage or kernel, "stage", "forward" or "backward", begin, end), by `time.perf_counter`
    memory: (when, bytes that values, residuals, cotangents and gradients take on the host), at the end of stages
    device_launches: what was started on a device: kernels, products, fills, copies
    products: (count, m, k, n) of the matmuls (m, k) @ (k, n) of these launches and, where gradients are kept
        for, of their backward pass: what the arithmetic of a step comes down to
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.launches = 0
        self.forced = Forcing()
        self.nodes = 0
        self.rows = 0
        self.bytes_copied = 0
        self.bytes_in_place = 0
        self.peak_bytes = 0
        self.replayed = 0
        self.schedules: dict[str, list[int]] = {}
        self.kernels: dict[str, list[int]] = {}
        self.kernel_bytes: dict[str, list[int]] = {}
        self.kernel_seconds: dict[str, float] = defaultdict(float)
        self.spans: list[Span] = []
        self.memory: list[tuple[float, int]] = []
        self.products: list[tuple[int, int, int, int]] = []
        self.device_launches = 0
        self._inner = 0.0
        self._counted = [0, 0]  # launches together, and bound, of recordings that are not split
        self._split: dict[Forcing, dict[int, Piece]] = {}

    def note_stage(self, stage: str, begin: float, end: float, own: float) -> None:
        """Count one run of a stage; `own`: its seconds without those of stages inside of it."""
        self.seconds[stage] += own
        if len(self.spans) < MOST_SPANS:
            self.spans.append((stage, "stage", begin, end))
            self.memory.append((end, arena().in_use))

    def note_launch(self, kernel: str, piece: str, begin: float, end: float) -> None:
        """Count the seconds of a launch, forward or backward."""
        self.kernel_seconds[kernel] += end - begin
        if len(self.spans) < MOST_SPANS:
            self.spans.append((kernel, piece, begin, end))

    def note(self, run: HostRun | DeviceRun, tape: Recording) -> None:
        """Count one run of a recording."""
        self.launches += len(run.launches)
        self.nodes += int(run.schedule.nodes.size)
        ordered = self.schedules.setdefault(run.schedule.by, [0, 0])
        ordered[0] += 1
        ordered[1] += len(run.launches)
        if tape.forcing is not None:
            self._split.setdefault(tape.forcing, {})[tape.serial] = tape.piece(run.expansion, run.signatures)
        else:
            self._counted[0] += len(run.launches)
            self._counted[1] += lower_bound(run.tape, run.schedule)
        self.peak_bytes = max(self.peak_bytes, int(run.plan.peak_bytes))
        for number, launch in enumerate(run.launches):
            signature, accesses = run.signatures[launch.sig], run.accesses(number)
            self.rows += sum(rows.size for _, rows, _ in accesses)
            entry = self.kernels.setdefault(signature.name, [0, 0])
            entry[0] += 1
            entry[1] += launch.sizes[0]
            for piece in ("forward", "backward") if run.needs_sig[launch.sig] else ("inference",):
                self._note_reads(signature, piece, run.backend, accesses)
        self._note_products(run)

    def _end(self) -> None:
        """Count what was split."""
        self._counted, self._split = self._counts(), {}

    def _counts(self) -> list[int]:
        split = [counts_together(list(pieces.values())) for pieces in self._split.values()]
        return [sum(column) for column in zip(self._counted, *split, strict=True)]

    @property
    def together(self) -> int:
        """Launches that there would have been, had no value been forced inside `ab.map`."""
        return min(self._counts()[0], self.launches)  # what was done is an order of the whole, too

    @property
    def bound(self) -> int:
        """Launches that no order can do without, counted across values forced inside `ab.map`."""
        return self._counts()[1]

    @property
    def launch_seconds(self) -> float:
        """Seconds of the host for each launch on a device, in the stages that start some."""
        return sum(self.seconds.get(stage, 0.0) for stage in LAUNCHING) / max(self.device_launches, 1)

    def _note_reads(self, signature: Signature, piece: str, backend: str, accesses: Sequence[Access]) -> None:
        entry = self.kernel_bytes.setdefault(signature.name, [0, 0])
        for k, how in _row_reads(signature.kernel, piece, backend):
            pool, rows, block = accesses[k]
            n_bytes = rows.size * pool.shape[1] * pool.itemsize
            if how is COPIED or (how is GATHERED and block < 0):
                entry[0] += n_bytes
                self.bytes_copied += n_bytes
            else:
                entry[1] += n_bytes
                self.bytes_in_place += n_bytes

    def _note_products(self, run: HostRun | DeviceRun) -> None:
        totals: dict[int, list[int]] = {}
        reverse: list[list[tuple[int, int, int, int]]] = []
        for launch in run.launches:
            kernel, s = run.signatures[launch.sig].kernel, launch.sig
            if not run.needs_sig[s]:
                self.products += _products(kernel, "inference", run.backend, launch.sizes)
                continue
            self.products += _products(kernel, "forward", run.backend, launch.sizes)
            reverse.append(_products(kernel, "backward", run.backend, launch.sizes))
            total = totals.setdefault(s, [0] * len(launch.sizes))
            totals[s] = [a + b for a, b in zip(total, launch.sizes, strict=True)]
        self.products += [product for products in reversed(reverse) for product in products]
        for s, sizes in totals.items():
            self.products += _products(run.signatures[s].kernel, "final", run.backend, sizes)

    def table(self) -> str:
        """A readable table, with a legend."""
        return report.text(self)

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw seconds of stages and kernels, and memory over time; the file's ending says in which format.

        Needs matplotlib: raises `MissingExtraError` without.
        """
        report.plot(self, path)

    def trace(self, path: str | os.PathLike[str]) -> None:
        """Write stages, launches and memory over time in the Chrome trace format, for Perfetto (ui.perfetto.dev) or
        chrome://tracing.

        >>> import os, tempfile
        >>> with ab.profile() as prof:
        ...     y = float(ab.tensor(2.0) * ab.tensor(3.0))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     prof.trace(os.path.join(folder, "trace.json"))
        """
        report.trace(self, path)

    def __repr__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        return report.html_tables(self)


@functools.cache
def _row_reads(kernel: Kernel, piece: str, backend: str) -> list[tuple[int, str]]:
    """Each read of rows by the program of a piece: the slot, and how it is read."""
    steps = kernel.steps(piece, backend)
    nodes = steps.graph.nodes
    concats, parts = gathered_concats(steps.graph) if backend == "numba" else (set(), set())
    in_place = read_in_place(steps.graph) if backend == "numba" else set()
    found: list[tuple[int, str]] = []
    for step in steps.order:
        if not isinstance(step, Loop):
            if step in in_place:
                found.append((nodes[step].attrs[1], READ))
            elif nodes[step].kind == "rows" and step not in parts:
                found.append((nodes[step].attrs[1], GATHERED))
            if step in concats:
                found += [(nodes[j].attrs[1], COPIED) for j in nodes[step].inputs]
            continue
        computed = [r for operands in step.reads.values() for r in operands if isinstance(r, Read)]
        added = [s.value for s in step.stores if s.kind == "add" and isinstance(s.value, Read)]
        moved = [s.value for s in step.stores if s.kind != "add" and isinstance(s.value, Read)]
        for reads, how in (({*computed, *added}, READ), (moved, COPIED)):
            found += [(nodes[read.node].attrs[1], how) for read in reads if read.in_pool]
    return found


@functools.cache
def _product_extents(kernel: Kernel, piece: str, backend: str) -> list[tuple[Any, ...]]:
    steps = kernel.steps(piece, backend)
    return [found for i in steps.order if isinstance(i, int) for found in matmuls_in(steps.graph, i)]


def _products(kernel: Kernel, piece: str, backend: str, sizes: Any) -> list[tuple[int, int, int, int]]:
    """The matmuls of one piece in a launch of these sizes."""
    found = []
    for lead, *extents in _product_extents(kernel, piece, backend):
        m, k, n = resolve_extents(extents, sizes)
        found.append((math.prod(resolve_extents(lead, sizes)), m, k, n))
    return found


@contextlib.contextmanager
def profile() -> Iterator[Profile]:
    """Measure a block: seconds per stage, launches, nodes, rows, bytes copied and read in place.

    >>> with ab.profile() as prof:
    ...     y = float(ab.tensor(2.0) * ab.tensor(3.0))
    >>> prof.nodes, prof.launches, prof.bound
    (1, 1, 1)
    """
    measured = Profile()
    before = profiles.get()
    profiles.set((*before, measured))
    device = installed_device()
    launched = device.launched if device is not None else 0
    try:
        yield measured
    finally:
        profiles.set(before)
        measured._end()
        now = installed_device()
        if now is not None:
            measured.device_launches = now.launched - (launched if now is device else 0)
