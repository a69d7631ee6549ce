"""Graphs made by hand, and run op by op."""

from __future__ import annotations

from typing import Any

import numpy as np

from autobatch.base.types import Dim, tensor_type
from autobatch.ir.graph import CONST, INPUT, Graph
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


def resolve(value: Any, sizes: tuple[int, ...]) -> Any:
    if isinstance(value, Dim):
        return sizes[value.index] * value.factor
    return tuple(resolve(v, sizes) for v in value) if isinstance(value, tuple) else value


def by_numpy(graph: Graph, sizes: tuple[int, ...], values: list[Any]) -> list[Any]:
    """Op by op."""
    results: list[Any] = []
    read = iter(values)
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            if node.op is INPUT:
                x = next(read)
                results.append(x[0][x[1]].reshape(resolve(node.type.shape, sizes)) if isinstance(x, tuple) else x)
            elif node.op is CONST:
                results.append(np.asarray(node.attrs[0], node.type.dtype))
            else:
                x = node.op.numpy(*(results[j] for j in node.inputs), *(resolve(a, sizes) for a in node.attrs))
                results.append(np.asarray(x, node.type.dtype))
    return [results[i] for i in graph.outputs]
