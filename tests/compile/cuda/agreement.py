"""Programs for a device, run on the CPU, against the programs of the "numpy" backend on the same operands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autobatch.base.types import Dim
from autobatch.compile.cuda.lower import CudaProgram, lower_cuda
from autobatch.compile.host.lower import lower
from autobatch.compile.text import graph_inputs
from autobatch.ir.graph import INPUT, Graph
from tests.stand_in import kernels
from tests.stand_in.device import StandIn

Array = np.ndarray[Any, Any]
Sizes = tuple[int, ...]
Operand = Callable[[str, int, Sizes], Array]
"""(kind, k, sizes) → the operand as one array, with its leading axis."""

LIMITS = {"float32": 2e-5, "float64": 1e-11}
CANARY = 77


def resolve(value: Any, sizes: Sizes) -> Any:
    """A shape with its extents put in."""
    if isinstance(value, Dim):
        return sizes[value.index] * value.factor
    return tuple(resolve(v, sizes) for v in value) if isinstance(value, tuple) else value


def in_rows(shape: Sequence[int]) -> tuple[int, int]:
    """Rows and width of a value in its pool."""
    if len(shape) <= 2:
        return shape[0], int(np.prod(shape[1:]))
    return shape[0] * shape[1], int(np.prod(shape[2:]))


@dataclass
class Agreement:
    """One graph lowered both ways."""

    graph: Graph
    accumulate: tuple[bool, ...]
    add: bool = True

    def __post_init__(self) -> None:
        self.plain = lower(self.graph, "test", self.accumulate, "numpy", self.add)
        self.program: CudaProgram = lower_cuda(self.graph, "test", self.accumulate, self.add)

    def check(
        self, sizes: Sizes, operand: Operand, seed: int = 0, block: bool = False, apart: bool = False
    ) -> list[Array]:
        """Run both on the same operands; the results by NumPy, pools for those that go to rows.

        `block`: rows are consecutive; `apart`: no row is added to twice.
        """
        apart = apart or not self.add
        rng = np.random.default_rng(seed)
        types = {node.attrs: node.type for node in self.graph.nodes if node.op is INPUT}
        inputs: list[Any] = []
        for kind, k in graph_inputs(self.graph):
            x = np.asarray(operand(kind, k, sizes), types[kind, k].dtype)
            assert x.shape == resolve(types[kind, k].shape, sizes), (kind, k, x.shape, types[kind, k])
            inputs.append(self._in_pool(x, rng, block) if kind == "rows" else np.array(x, order="C"))
        pools: dict[Any, Array] = {}
        outputs: list[Any] = []
        used: dict[Any, int] = {}
        for i, to_rows in zip(self.graph.outputs, self.accumulate, strict=True):
            type = self.graph.nodes[i].type
            shape = resolve(type.shape, sizes)
            if not to_rows:
                outputs.append(np.full(self._block(type, sizes), CANARY).astype(type.dtype))
                continue
            n, w = in_rows(shape)
            total = sum(self._rows(o, sizes) for o, flag in enumerate(self.accumulate) if flag)
            pool = pools.setdefault((w, type.dtype), rng.normal(size=(2 * total + 2, w)).astype(type.dtype))
            if apart:
                start = used.get((w, type.dtype), 1)
                used[w, type.dtype] = start + n
                rows = (np.arange(start, start + n) if block else start + rng.permutation(n)).astype(np.int32)
            else:
                rows = (np.arange(1, n + 1) if block else rng.integers(0, len(pool), n)).astype(np.int32)
            outputs.append((pool, rows, int(rows[0]) if block and n else -1))
        memos: list[dict[Any, Any]] = [{}, {}, {}]
        by_numpy, by_device, turned = ([self._copied(x, memo) for x in outputs] for memo in memos)
        room = [None if isinstance(x, np.ndarray) and not self._has_dim(o) else x for o, x in enumerate(by_numpy)]
        same = self.plain.run(sizes[0], sizes, inputs, room)
        self.run(sizes, inputs, by_device, apart)
        with kernels.backwards():
            self.run(sizes, inputs, turned, apart)
        wanted = []
        for o, i in enumerate(self.graph.outputs):
            type = self.graph.nodes[i].type
            is_pool = isinstance(by_numpy[o], tuple)
            want = by_numpy[o][0] if is_pool else by_numpy[o] if self._has_dim(o) else same[o]
            got = by_device[o][0] if is_pool else by_device[o]
            close(got.reshape(want.shape), want, LIMITS.get(type.dtype.name, 0.0), f"result {o}\n{self.program.text}")
            again = turned[o][0] if is_pool else turned[o]
            assert got.tobytes() == again.tobytes(), f"result {o} depends on the order of threads\n{self.program.text}"
            wanted.append(want if is_pool else np.asarray(want).reshape(resolve(type.shape, sizes)))
        return wanted

    def run(self, sizes: Sizes, inputs: Sequence[Any], outputs: Sequence[Any], apart: bool) -> None:
        """The program for a device, in host memory."""
        addresses = [(x[0].ctypes.data, x[1].ctypes.data, x[2]) if isinstance(x, tuple) else at(x) for x in inputs]
        kept: list[Any] = []
        n_bytes = self.program.scratch(sizes[0], sizes)
        scratch = np.full(n_bytes + 512, 255, np.uint8)
        start = scratch.ctypes.data + -scratch.ctypes.data % 256
        targets = self._targets(outputs, apart, kept)
        self.program.run(StandIn(), sizes[0], sizes, addresses, targets, start, apart)
        assert (scratch[start - scratch.ctypes.data + n_bytes :] == 255).all(), "written behind the scratch memory"

    def _targets(self, outputs: Sequence[Any], apart: bool, kept: list[Any]) -> list[Any]:
        """Results as the driver takes them."""
        targets: list[Any] = []
        for x in outputs:
            if not isinstance(x, tuple):
                targets.append(at(x))
                continue
            pool, rows, block = x
            segments = None
            if not apart and len(np.unique(rows)) < len(rows):
                order = np.argsort(rows, kind="stable").astype(np.int32)
                edges = np.flatnonzero(np.diff(rows[order], prepend=-1))
                starts = np.append(edges, len(rows)).astype(np.int32)
                segments = order.ctypes.data, starts.ctypes.data, len(edges)
                kept += [order, starts]
            targets.append((pool.ctypes.data, rows.ctypes.data, block, segments))
        return targets

    def _has_dim(self, o: int) -> bool:
        shape = self.graph.nodes[self.graph.outputs[o]].type.shape
        return bool(shape) and isinstance(shape[0], Dim)

    def _rows(self, o: int, sizes: Sizes) -> int:
        return in_rows(resolve(self.graph.nodes[self.graph.outputs[o]].type.shape, sizes))[0]

    def _block(self, type: Any, sizes: Sizes) -> tuple[int, ...]:
        shape = resolve(type.shape, sizes)
        return in_rows(shape) if type.shape and isinstance(type.shape[0], Dim) else shape

    def _copied(self, x: Any, memo: dict[int, Array]) -> Any:
        """Copies of results; results in one pool stay in one pool."""
        if not isinstance(x, tuple):
            return x.copy()
        pool = memo.setdefault(id(x[0]), x[0].copy())
        return pool, *x[1:]

    def _in_pool(self, x: Array, rng: Any, block: bool) -> tuple[Array, Array, int]:
        n, w = in_rows(x.shape)
        pool = rng.normal(size=(n + 5, w)).astype(x.dtype)
        rows = np.arange(2, 2 + n) if block else rng.permutation(n + 5)[:n]
        pool[rows] = x.reshape(n, w)
        return pool, rows.astype(np.int32), 2 if block else -1


def at(x: Array) -> int:
    """The address of an array."""
    return int(x.ctypes.data)


def close(got: Array, want: Array, limit: float, what: str) -> None:
    """Equal where not finite or not floating; else within `limit` of the largest."""
    want = np.asarray(want)
    assert got.shape == want.shape and got.dtype == want.dtype, what
    if want.dtype.kind != "f":
        assert np.array_equal(got, want), f"{got}\n{want}\n{what}"
        return
    with np.errstate(all="ignore"):
        plain = np.isfinite(want) & (np.abs(want) < 1e30)
        scale = 1.0 + float(np.max(np.abs(want), where=plain, initial=0.0))
        good = np.where(plain, np.abs(got - want) <= limit * scale, np.abs(got / want - 1) <= limit)
        good |= (got == want) | (np.isnan(got) & np.isnan(want))
    assert good.all(), f"{got}\n{want}\n{what}"


def build_all(agreements: Sequence[Agreement]) -> None:
    """Build the kernels of all programs at once."""
    kernels.build_together([a.program.source for a in agreements])
