"""A graph that is written after another one, node by node."""

from __future__ import annotations

from collections.abc import Callable

from ..ops.declare import Attrs, Op
from .graph import NODE, Graph


class Rewriter:
    """`old` is read, `new` is written; node i of the old graph is node `number[i]` of the new one.

    uses: for each old node the live nodes that read it, once for each operand
    """

    def __init__(self, old: Graph) -> None:
        self.old, self.nodes, self.new = old, old.nodes, Graph()
        self.number: dict[int, int] = {}
        self.uses = old.uses()
        self.results = set(old.outputs)

    def copy(self, i: int) -> int:
        """The same node in the new graph."""
        self.number[i] = self.new.copy(self.nodes[i], self.number)
        return self.number[i]

    def apply(self, op: Op, *inputs: int, attrs: Attrs = (), level: int = NODE) -> int:
        """Add an op of nodes of the new graph, whose type follows from theirs."""
        assert op.infer is not None
        return self.new.add(op, inputs, attrs, op.infer([self.new.nodes[j].type for j in inputs], attrs), level)

    def is_own(self, i: int) -> bool:
        """Whether an old node is read once, and is no result."""
        return len(self.uses[i]) == 1 and i not in self.results

    def run(self, rule: Callable[[int], int | None]) -> Graph:
        """The graph in which live node i is what `rule(i)` gives, the number of a new node; None copies it."""
        for i, live in enumerate(self.old.live()):
            if live and i not in self.number:
                found = rule(i)
                self.number[i] = self.copy(i) if found is None else found
        self.new.outputs = tuple(self.number[i] for i in self.old.outputs)
        return self.new.pruned()
