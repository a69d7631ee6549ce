"""chain: the single graphs of nodes that run one after the other → one graph.

Input: the graphs in order, and for each of their rows operands whether it is a result of a graph before or an operand
of the whole. Output: a graph that reads the operands of the whole, the data of all in order, and each shared operand
once. Equal work that two of them do is done once. Lists of different graphs stay different lists.

Invariants: the results have the values and types that they had. Cost: once per pattern.

    %0 = rows(0), return tanh(%0)    %0 = rows(0), return %0 * %0    →    %0 = rows(0), %1 = tanh(%0), return %1 * %1
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..base.errors import CompilerBug
from ..ir.graph import INPUT, OF_LISTS, Graph


class Chain:
    """Graphs are added one by one.

    shared: the shared operands of the whole; n_data, n_lists: its data and its lists so far
    values: the nodes that are the results of all graphs so far, in order
    """

    def __init__(self) -> None:
        self.graph = Graph()
        self.shared: list[Any] = []
        self.n_data = 0
        self.n_lists = 0
        self.values: list[int] = []

    def add(self, graph: Graph, slots: Sequence[int], shared: Sequence[Any], n_data: int, n_lists: int) -> None:
        """Add a graph.

        Args:
            graph: a single graph.
            slots: for each of its rows operands the value that it reads, or -1 - k: operand k of the whole.
            shared: its shared operands.
            n_data, n_lists: how many data and lists it reads.
        """
        number: list[int] = []
        for node in graph.nodes:
            level = node.level + self.n_lists if node.level > 0 else node.level
            attrs = node.attrs
            if node.op is INPUT:
                kind, k = attrs
                if kind == "rows" and slots[k] >= 0:
                    made = self.values[slots[k]]
                    if self.graph.nodes[made].type is not node.type or level > 0:
                        raise CompilerBug(f"chain: {self.graph.nodes[made]} is passed as {node.type}\n{graph}")
                    number.append(made)
                    continue
                if kind == "rows":
                    k = -1 - slots[k]
                elif kind == "data":
                    k += self.n_data
                elif kind == "shared":
                    k = self._shared(shared[k])
                elif kind in OF_LISTS:
                    k += self.n_lists
                else:
                    raise CompilerBug(f"chain: a single graph reads {kind}\n{graph}")
                number.append(self.graph.input(kind, k, node.type, level))
                continue
            if node.op.batch == "list":
                attrs = (attrs[0] + self.n_lists, *attrs[1:])
            elif node.op.batch == "segments":
                attrs = (tuple(k and k + self.n_lists for k in attrs[0]), *attrs[1:])
            number.append(self.graph.add(node.op, tuple(number[j] for j in node.inputs), attrs, node.type, level))
        self.values.extend(number[i] for i in graph.outputs)
        self.n_data += n_data
        self.n_lists += n_lists

    def _shared(self, x: Any) -> int:
        for k, other in enumerate(self.shared):
            if other is x:
                return k
        self.shared.append(x)
        return len(self.shared) - 1

    def finish(self, results: Sequence[int]) -> Graph:
        """The graph whose results are these of the values, without what they do not need."""
        self.graph.outputs = tuple(self.values[v] for v in results)
        return self.graph.check()
