"""profile: what a block of code cost, stage by stage and kernel by kernel."""

from __future__ import annotations

import contextlib
import functools
import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from .ops.linalg import PRODUCT
from .run.execute import resolve
from .run.schedule import lower_bound
from .stages import active

STAGES = ("record", "assemble", "shared", "expand", "schedule", "place", "allocate", "forward", "reverse", "update")


class Profile:
    """Figures of one block; see `profile`.

    seconds: stage → seconds; launches, bound: done and least possible; nodes: launched; rows: rows read;
    bytes_gathered: bytes of rows read through row numbers; peak_bytes: largest pools;
    replayed: examples whose recordings were reused; kernels: name → (launches, nodes)
    products: (count, m, k, n) of the matrix products (m, k) @ (k, n) of these launches and, where gradients are kept
        for, of their reverse pass: what the arithmetic of a step comes down to
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.launches = 0
        self.bound = 0
        self.nodes = 0
        self.rows = 0
        self.bytes_gathered = 0
        self.peak_bytes = 0
        self.replayed = 0
        self.kernels: dict[str, list[int]] = {}
        self.products: list[tuple[int, int, int, int]] = []
        self._inner = 0.0

    def note(self, run: Any) -> None:
        """Count one run."""
        self.launches += len(run.launches)
        self.nodes += int(run.schedule.nodes.size)
        self.bound += lower_bound(run.tape, run.schedule)
        self.peak_bytes = max(self.peak_bytes, int(run.plan.peak_bytes))
        for launch in run.launches:
            signature = run.signatures[launch.sig]
            for slot, (pool, rows, block) in zip(signature.slots, launch.accesses, strict=True):
                self.rows += rows.size
                if block < 0:
                    self.bytes_gathered += rows.size * pool.shape[1] * slot.type.dtype.itemsize
            entry = self.kernels.setdefault(signature.name, [0, 0])
            entry[0] += 1
            entry[1] += launch.sizes[0]
        self._note_products(run)

    def _note_products(self, run: Any) -> None:
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
        """A readable table."""
        total = sum(self.seconds.values())
        lines = [f"{'stage':<12}{'ms':>10}{'share':>8}"]
        for stage in (*STAGES, *(s for s in self.seconds if s not in STAGES)):
            if stage in self.seconds:
                share = self.seconds[stage] / total if total else 0.0
                lines.append(f"{stage:<12}{self.seconds[stage] * 1e3:>10.3f}{share:>8.1%}")
        lines.append(
            f"{self.nodes:,} nodes → {self.launches:,} launches (bound {self.bound:,}), {self.rows:,} rows read, "
            f"{self.bytes_gathered:,} bytes gathered, pools of {self.peak_bytes:,} bytes"
        )
        if self.replayed:
            lines.append(f"recordings of {self.replayed:,} examples reused")
        lines.append(f"{'kernel':<28}{'launches':>10}{'nodes':>10}")
        for name, (launches, nodes) in sorted(self.kernels.items(), key=lambda item: -item[1][1]):
            lines.append(f"{name:<28}{launches:>10,}{nodes:>10,}")
        return "\n".join(lines)


@functools.cache
def _product_types(kernel: Any, piece: str, backend: str) -> list[tuple[Any, Any]]:
    steps = kernel.steps(piece, backend)
    nodes = steps.graph.nodes
    made = [nodes[i] for i in steps.order if isinstance(i, int) and nodes[i].op is PRODUCT]
    return [(nodes[node.inputs[0]].type, node.type) for node in made]


def _products(kernel: Any, piece: str, backend: str, sizes: Any) -> list[tuple[int, int, int, int]]:
    """The products of one piece in a launch of these sizes."""
    found = []
    for left, result in _product_types(kernel, piece, backend):
        *lead, m, n = resolve(result, sizes)
        found.append((math.prod(lead), m, resolve(left, sizes)[-1], n))
    return found


@contextlib.contextmanager
def profile() -> Iterator[Profile]:
    """Measure a block: seconds per stage, launches, nodes, rows, bytes gathered.

    >>> import autobatch as ab
    >>> with ab.profile() as prof:
    ...     y = float(ab.tensor(2.0) * ab.tensor(3.0))
    >>> prof.nodes, prof.launches, prof.bound
    (1, 1, 1)
    """
    measured = Profile()
    before = active.profiles
    active.profiles = (*before, measured)
    try:
        yield measured
    finally:
        active.profiles = before
