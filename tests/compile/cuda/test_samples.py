"""Every sample of every op, as the pieces that run: operands shared or not, for no node, one and several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from autobatch.base.types import tensor_type
from autobatch.compile.kernel import Kernel
from autobatch.ir.graph import NODE, SHARED, Graph
from autobatch.ir.interpret import interpret
from autobatch.ir.trace import Builder
from autobatch.ops import Op, apply
from autobatch.ops.composing import COMPOSED
from autobatch.ops.reduce import LIST_SUM
from tests.compile.cuda.agreement import Agreement, Sizes, build_all, resolve
from tests.ops.checks import FLOAT64, GOOD, INT64, OF_BATCHES, Case, converted, default, masks, varied
from tests.stand_in import kernels

pytestmark = pytest.mark.skipif(bool(kernels.MISSING), reason=kernels.MISSING)
# Ops of batched graphs alone have no sample here, nor have functions that are composed of ops which have.
SAMPLES = [case for case in GOOD if case.op.batch not in OF_BATCHES and case.op.name not in COMPOSED]
PIECES = ("inference", "forward", "backward", "final")
Key = tuple[str, tuple[bool, ...], str]


def trace(op: Op, operands: Sequence[Any], attrs: tuple[Any, ...], shared: Sequence[bool]) -> Graph:
    """The single graph of an op whose operands are rows, shared arrays, or data."""
    builder = Builder()
    tracers: list[Any] = []
    count = {"rows": 0, "shared": 0, "data": 0}
    for x, flag in zip(operands, shared, strict=True):
        kind = "shared" if flag else "rows" if isinstance(x, list | np.ndarray) else "data"
        first = (
            x[0] if isinstance(x, list) else x if kind != "data" else np.zeros((), INT64 if type(x) is int else FLOAT64)
        )
        level = 1 if isinstance(x, list) else SHARED if flag else NODE
        type_of = tensor_type(first.dtype, first.shape)
        tracers.append(builder.input(kind, count[kind], type_of, level, weak=kind == "data"))
        count[kind] += 1
    if op.name == "spread":
        return builder.finish([apply(LIST_SUM, (builder.record(op, tuple(tracers[:1]), attrs) * tracers[1],), attrs)])
    return builder.finish([builder.record(op, tuple(tracers), attrs)])


class Whole:
    """One sample: its programs, and the operands of each."""

    def __init__(self, case: Case, shared: Sequence[bool], dtype: str) -> None:
        self.case, self.shared = case, shared
        self.operands = [converted(x, np.dtype(dtype)) for x in case.sample.operands]
        graph = trace(case.op, self.operands, case.sample.attrs, shared)
        types = [node.type for node in graph.nodes if node.is_input and node.attrs[0] == "shared"]
        trainable = frozenset(k for k, type in enumerate(types) if type.dtype.kind == "f")
        self.kernel = Kernel(name="sample", graph=graph, trainable=trainable)
        self.programs: dict[tuple[str, bool], Agreement] = {}
        for piece in PIECES:
            found = self.kernel.graph_of(piece, on_device=True)
            accumulate = self.kernel.accumulates(piece, found)
            if found.outputs:
                for add in (True, False) if any(accumulate) else (True,):
                    self.programs[piece, add] = Agreement(found, accumulate, add)

    def columns(self, kind: str) -> list[Any]:
        """The operands of a kind."""
        kinds = [
            "shared" if flag else "rows" if isinstance(x, list | np.ndarray) else "data"
            for x, flag in zip(self.operands, self.shared, strict=True)
        ]
        return [x for x, found in zip(self.operands, kinds, strict=True) if found == kind]

    def check(self, m: int) -> None:
        """All pieces for m nodes."""
        special = not self.case.sample.smooth
        lists = [x for x in self.columns("rows") if isinstance(x, list)]
        elements = [[varied(x, i, special) for i in range(m)] for x in lists]
        sizes: Sizes = (m, *(sum(map(len, found)) for found in elements))
        lengths = np.array([len(found) for found in elements[0]], np.int64) if lists else np.zeros(0, np.int64)
        rng = np.random.default_rng(m)
        residuals: list[Any] = []
        cotangents: dict[int, Any] = {}

        def operand(kind: str, k: int, sizes: Sizes) -> Any:
            if kind == "residual":
                return residuals[k]
            if kind == "cotangent":
                type = self.kernel.batched.nodes[self.kernel.batched.outputs[k]].type
                return cotangents.setdefault(k, rng.normal(size=resolve(type.shape, sizes)).astype(type.dtype))
            if kind == "derived":
                return interpret(self.kernel.expressions[k], lambda _, n: self.columns("shared")[n])[0]
            if kind == "shared":
                return self.columns("shared")[k]
            if kind == "lengths":
                return lengths
            if kind == "segments":
                return np.repeat(np.arange(m), lengths)
            if kind == "positions":
                return np.concatenate([np.arange(n) for n in lengths] or [np.zeros(0, np.int64)])
            x = self.columns(kind)[k]
            if isinstance(x, list):
                rows = [e for found in elements[lists.index(x)] for e in found]
                return np.stack(rows) if rows else np.zeros((0, *x[0].shape), x[0].dtype)
            values = [varied(x, i, special) for i in range(m)]
            return np.stack(values) if m else np.zeros((0, *np.shape(x)), np.asarray(x).dtype)

        count = len(self.kernel.batched.outputs)
        for (piece, _), agreement in self.programs.items():
            if piece == "backward":
                del residuals[self.kernel.device_pieces.n_forward_residuals :]
            results = agreement.check(sizes, operand, m, m == 1, apart=m == 7)
            if piece == "backward":
                agreement.check(sizes, operand, m, True)
            if piece == "forward":
                residuals += results[count:]
            elif piece == "backward":
                residuals += results[len(self.kernel.device_pieces.slots) :]


def wholes() -> Iterator[Whole]:
    """All samples in float32, the first of each op with all choices of shared operands; in float64 with none shared."""
    for dtype in ("float32", "float64"):
        with default(dtype):
            for case in SAMPLES:
                every = masks(case.sample)
                chosen = every if case.number == 0 else every[:: max(1, len(every) - 1)]
                for shared in chosen if dtype == "float32" else every[:1]:
                    yield Whole(case, shared, dtype)


def test_samples() -> None:
    """All are built together, which takes a fraction of the time."""
    built = list(wholes())
    build_all([agreement for whole in built for agreement in whole.programs.values()])
    for whole in built:
        for m in (0, 1, 7):
            try:
                whole.check(m)
            except Exception as error:
                raise AssertionError(f"{whole.case}, shared {whole.shared}, {m} nodes: {error}") from error
