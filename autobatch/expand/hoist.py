"""hoist: a single graph → the work that does not depend on a recurrence, and the rest.

Input: the graph of a cell, and which of its operands are ready early: those that the same cell does not compute step by
step. Output: `Hoisted`, two graphs that together make the same results. Hoisted is every matmul with a shared operand
whose other operand comes from early operands alone, with all that it needs: the projection of the inputs of a recurrent
network, for all steps in one matmul.

Invariants: the two graphs have the results of the one, in value and type; each reads only what it uses.
Cost: once per signature.

    %0 = rows(0), %1 = rows(1)                     hoisted:  %2 = product(rows(0), shared(0))
    %2 = product(%0, shared(0))                    rest:     %4 = add(rows(1), product(rows(0), shared(0)))
    %3 = product(%1, shared(1))            →
    %4 = add(%2, %3)
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from ..base.types import Type
from ..ir.graph import INPUT, NODE, SHARED, Graph
from ..ops.custom import COTANGENT
from ..ops.linalg import PRODUCT
from ..ops.movement import VIEWS


@dataclass(frozen=True, slots=True)
class Half:
    """One of the two graphs.

    graph: it reads rows, data and shared operands under new numbers
    rows: for each of its rows operands the operand of the whole graph; -1 - r: result r of the half before
    data, shared: for each of its own the operand of the whole graph
    """

    graph: Graph
    rows: tuple[int, ...]
    data: tuple[int, ...]
    shared: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Hoisted:
    """The two halves. `types` are those of the values handed from one to the other."""

    hoisted: Half
    rest: Half
    types: tuple[Type, ...]


def hoist(graph: Graph, early: Collection[int], lists: Collection[int] = ()) -> Hoisted | None:
    """Cut a graph.

    Args:
        graph: a single graph.
        early: the rows operands that are ready early.
        lists: the rows operands that are lists; the rest has all of them, so that lists keep their numbers.

    Returns: None where there is nothing to hoist.
    """
    nodes, live = graph.nodes, graph.live()
    late = [False] * len(nodes)  # depends on what is not ready early, or on elements of a list
    works = [False] * len(nodes)  # has a product with a shared operand in it
    for i, node in enumerate(nodes):
        if node.op is INPUT:
            kind, k = node.attrs
            late[i] = node.level > NODE or kind not in ("rows", "data", "shared") or (kind == "rows" and k not in early)
            continue
        late[i] = node.level > NODE or node.op is COTANGENT or any(late[j] for j in node.inputs)
        shared = [nodes[j].level == SHARED for j in node.inputs]
        works[i] = not late[i] and (
            any(works[j] for j in node.inputs) or (node.op is PRODUCT and any(shared) and not all(shared))
        )
    cuts: list[int] = []

    def cut(i: int) -> None:
        while nodes[i].op in VIEWS:  # a view is rematerialised where it is read
            i = nodes[i].inputs[0]
        if i not in cuts:
            cuts.append(i)

    for i, node in enumerate(nodes):
        if live[i] and late[i]:
            for j in node.inputs:
                if works[j]:
                    cut(j)
    if not cuts:
        return None
    for i in graph.outputs:
        if works[i]:
            cut(i)
    cuts.sort()
    place = {i: r for r, i in enumerate(cuts)}
    hoisted = _half(graph, cuts, lambda i: None)
    rest = _half(graph, list(graph.outputs), place.get, lists)
    return Hoisted(hoisted, rest, tuple(nodes[i].type for i in cuts))


def _half(graph: Graph, outputs: list[int], handed: Callable[[int], int | None], keep: Collection[int] = ()) -> Half:
    nodes = graph.nodes
    needed: set[int] = set()
    stack = list(outputs)
    while stack:
        i = stack.pop()
        if i not in needed:
            needed.add(i)
            if handed(i) is None:
                stack.extend(nodes[i].inputs)
    read: dict[str, set[int]] = {"rows": set(keep), "data": set(), "shared": set()}
    results: set[int] = set()
    for i in needed:
        r = handed(i)
        if r is not None:
            results.add(r)
        elif nodes[i].kind in read:
            read[nodes[i].attrs[0]].add(nodes[i].attrs[1])
    rows = [*sorted(read["rows"]), *(-1 - r for r in sorted(results))]
    order = {"rows": rows, "data": sorted(read["data"]), "shared": sorted(read["shared"])}
    renumber = {(kind, old): new for kind, olds in order.items() for new, old in enumerate(olds)}

    def operand(i: int) -> tuple[str, int] | None:
        r, node = handed(i), nodes[i]
        if r is not None:
            return "rows", renumber["rows", -1 - r]
        return (node.attrs[0], renumber[node.attrs]) if node.kind in order else None

    return Half(graph.part(outputs, operand), tuple(rows), tuple(order["data"]), tuple(order["shared"]))
