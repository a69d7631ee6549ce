"""pairs: the kernel of the primitive of `ops.pairs`.

Input: a node, and the addresses of its operands, which are arrays. Output: a `Kernel` with a thread for each number of
the result, which adds up its products in order; the rows or columns of its node are found by bisection.
"""

from __future__ import annotations

from collections.abc import Callable

from ...ir.graph import Graph
from ...ops.pairs import COLUMNS, PAIRS, ROWS
from .scalars import INT64, c_type
from .writer import Kernel, Writer


def write_pair_product(graph: Graph, i: int, place: Callable[[int], str], target: str) -> Kernel:
    """The kernel of a node, written to the address `target`; `place` gives the address of an operand."""
    node = graph.nodes[i]
    x, y, of_rows, of_columns, starts = node.inputs
    made, dtype = node.attrs[1], node.type.dtype
    w = Writer(graph, {})
    (_, heads, d), vectors = graph.nodes[x].type.shape, w.pointer(place(x), dtype)
    others, first = w.pointer(place(y), dtype), w.pointer(place(starts), INT64)
    numbers = {k: (w.pointer(place(j), INT64), w.extent(graph.nodes[j].type.shape[0])) for k, j in
               ((ROWS, of_rows), (COLUMNS, of_columns))}  # fmt: skip

    def bounds(k: int, of_node: str, name: str) -> None:
        index, n = numbers[k]
        for end in (0, 1):
            w.add(f"const i64 {name}{end} = ab_first({index}, {n}, 1, {of_node} + {end});")

    with w.block(f"AB_THREADS AB_EACH(t, {w.extent(node.type.shape[0])} * {heads if made == PAIRS else heads * d})"):
        w.add(f"{c_type(dtype)} total = 0;")
        if made == PAIRS:
            w.add(f"const i64 p = ab_div(t, {heads}), h = t - p * {heads};")
            w.add(f"const i64 i = ab_first({first}, {numbers[ROWS][1]}, 1, p + 1) - 1;")
            bounds(COLUMNS, f"{numbers[ROWS][0]}[i]", "j")
            w.add(f"const i64 a = (i * {heads} + h) * {d}, b = ((j0 + p - {first}[i]) * {heads} + h) * {d};")
            w.add(f"for (i64 c = 0; c < {d}; ++c) total += {vectors}[a + c] * {others}[b + c];")
        else:
            own, other, one = ("i", "j", COLUMNS) if made == ROWS else ("j", "i", ROWS)
            w.add(
                f"const i64 u = ab_div(t, {d}), c = t - u * {d}, {own} = ab_div(u, {heads}), h = u - {own} * {heads};"
            )
            w.add(f"const i64 of_node = {numbers[made][0]}[{own}];")
            bounds(one, "of_node", other)
            if made == COLUMNS:
                w.add(f"const i64 j0 = ab_first({numbers[COLUMNS][0]}, {numbers[COLUMNS][1]}, 1, of_node);")
            with w.block(f"for (i64 {other} = {other}0; {other} < {other}1; ++{other})"):
                pair = f"({first}[i] + j - j0) * {heads} + h"
                w.add(f"total += {others}[{pair}] * {vectors}[({other} * {heads} + h) * {d} + c];")
        w.add(f"{w.pointer(target, dtype, True)}[t] = total;")
    return w.finish()
