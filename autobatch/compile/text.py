"""text: shared by the generators of loops, kernels and drivers: extents, powers, names of arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..base.types import Dim
from ..ir.graph import INPUT, Graph
from .rewrites.in_place_matmuls import ROWS


def extent_name(extent: Any) -> str:
    """An extent, in Python and in C alike.

    >>> extent_name(Dim(1, 3)), extent_name(4)
    ('3 * n1', '4')
    """
    if not isinstance(extent, Dim):
        return repr(extent)
    name = "m" if extent.index == 0 else f"n{extent.index}"
    return name if extent.factor == 1 else f"{extent.factor} * {name}"


def power(exponent: Any, dtype: np.dtype[Any]) -> tuple[str, Any]:
    """The scalar expression of {0} to a constant, and the number that is {1} there.

    >>> power(2, np.dtype(np.float32)), power(-1, np.dtype(np.float32))
    (('{0} * {0}', 2), ('{1} / {0}', 1.0))
    """
    if exponent in (1, 2, 3, 4):
        return " * ".join(["{0}"] * int(exponent)), exponent
    if dtype.kind != "f":
        return "{0} ** {1}", exponent
    if exponent == -1:
        return "{1} / {0}", 1.0
    return ("sqrt({0})" if exponent == 0.5 else "power({0}, {1})"), exponent


def graph_inputs(graph: Graph) -> list[tuple[str, int]]:
    """(kind, k) of what a graph reads, in the order of its input nodes: the order of `inputs` of a program."""
    return [(node.attrs[0], node.attrs[1]) for node in graph.nodes if node.op is INPUT]


def function_name(name: str) -> str:
    """The name of the driver of a kernel.

    >>> function_name("3 gates_forward")
    'run_3_gates_forward'
    """
    title = "".join(c if c.isalnum() else "_" for c in name)
    return title if title.isidentifier() else f"run_{title}"


def count_lines(graph: Graph) -> list[str]:
    """The lines of a driver that name what the `Dim`s of a graph are in a launch."""
    dims = {n.index for node in graph.nodes for n in node.type.shape if isinstance(n, Dim) and n.index}
    return [f"n{k} = sizes[{k}]" for k in sorted(dims)]


def argument_lines(graph: Graph, accumulate: Sequence[bool], rows: str, wanted: Sequence[tuple[str, int]]) -> list[str]:
    """The lines of a driver that take `inputs` and `outputs` apart.

    `rows` is what there is for a result that goes to rows, its number in place of {0}; `wanted` is what `inputs` has.
    """
    lines = []
    read = {node.attrs: i for i, node in enumerate(graph.nodes) if node.op is INPUT}
    parts = []
    for kind, k in wanted:
        i = read.get((kind, k))
        parts.append("_" if i is None else f"(p{i}, r{i}, b{i})" if kind in ROWS else f"v{i}")
    if any(part != "_" for part in parts):
        lines.append(f"{unpacked(parts)} = inputs")
    if graph.outputs:
        parts = [rows.format(o) if a else f"out{o}" for o, a in enumerate(accumulate)]
        lines.append(f"{unpacked(parts)} = outputs")
    return lines


def unpacked(names: Sequence[str]) -> str:
    """The left side of an assignment that takes a sequence apart."""
    return f"{', '.join(names)}{',' if len(names) == 1 else ''}"


def tuple_of(names: Sequence[str]) -> str:
    """A tuple of values with these names."""
    return f"({unpacked(names)})"
