"""Graphs made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from autobatch.base.types import tensor_type
from autobatch.ir.graph import CONST, Graph
from autobatch.ops.declare import Op


class Build:
    """A graph by hand."""

    def __init__(self, dtype: Any = np.float32) -> None:
        self.graph = Graph()
        self.dtype = np.dtype(dtype)

    def input(self, kind: str, k: int, *shape: Any, dtype: Any = None) -> int:
        return self.graph.input(kind, k, tensor_type(dtype or self.dtype, shape))

    def const(self, number: Any, dtype: Any = None) -> int:
        return self.graph.add(CONST, (), (number,), tensor_type(dtype or self.dtype, ()))

    def op(self, op: Op, *inputs: int, attrs: tuple[Any, ...] = ()) -> int:
        assert op.infer is not None
        return self.graph.add(op, inputs, attrs, op.infer([self.graph.nodes[i].type for i in inputs], attrs))

    def out(self, *outputs: int) -> Graph:
        self.graph.outputs = outputs
        return self.graph.check()
