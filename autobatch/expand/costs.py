"""The cost model. The unit is a number that goes through memory, forward and backward."""

from __future__ import annotations

from ..ir.graph import SHARED, Graph
from ..ops.linalg import PRODUCT
from ..record.signature import Signature

__all__ = ["LAUNCH", "WEIGHT", "numbers_of", "reads_of_weights", "weights_of"]

LAUNCH = 3000
"""A launch."""

WEIGHT = 0.1
"""A weight that one launch reads in a matmul."""


def reads_of_weights(graph: Graph) -> list[tuple[frozenset[int], int, int]]:
    """The matmuls with a shared operand: (rows operands that the other depends on, inner size, columns)."""
    depends: list[frozenset[int]] = []
    found = []
    for node in graph.nodes:
        is_operand = node.kind == "rows"
        depends.append(frozenset([node.attrs[1]] if is_operand else (k for j in node.inputs for k in depends[j])))
        shared = [graph.nodes[j].type for j in node.inputs if graph.nodes[j].level == SHARED]
        if node.op is PRODUCT and shared:
            columns = max(node.type.width, 1)
            found.append((depends[-1], max(shared[0].rows * shared[0].width // columns, 1), columns))
    return found


def weights_of(signature: Signature) -> int:
    """Numbers of shared operands that a launch reads in matmuls."""
    return sum(inner * columns for _, inner, columns in reads_of_weights(signature.graph))


def numbers_of(signature: Signature) -> int:
    """Numbers that a node reads and makes."""
    types = [slot.type for slot in signature.slots]
    return sum(t.width * t.rows for t in types) + sum(r.width * r.rows for r in signature.results)
