"""residuals: what the backward pass of the host finds in pools is no residual.

Input: `Pieces` that save every value a later piece reads. Output: equal pieces, in which

* matrices of each node, and concats of them that the forward piece does not make, are read from their rows in the pool;
* the final piece reads cotangents that are such matrices as rows of the pool of cotangents ("reverse");
* rows of row-sparse gradients that are the cotangent of a result are read in place.

Invariants: results are unchanged; residuals that nothing reads are dropped. Cost: O(nodes), once per signature.
"""

from __future__ import annotations

from dataclasses import replace

from ...ir.graph import Graph, Node
from ...ir.rewriter import Rewriter
from ...ops.movement import RESHAPE
from ..split import Pieces, SparseGradient
from .in_place_matmuls import concats_in_place, is_in_pool, is_stack


def read_in_pools(pieces: Pieces) -> Pieces:
    """The pieces without residuals that are in pools."""
    forward, backward, n, n_slots = pieces.forward, pieces.backward, pieces.n_forward_residuals, len(pieces.slots)
    n_results = len(forward.outputs) - n
    results, residuals = forward.outputs[:n_results], forward.outputs[n_results:]
    later_residuals = backward.outputs[n_slots:]
    unmade = concats_in_place(forward, results)
    in_pools = {k: (forward, i) for k, i in enumerate(residuals) if i in unmade or is_in_pool(forward.nodes[i])}
    in_pools |= {n + k: (backward, i) for k, i in enumerate(later_residuals) if backward.nodes[i].kind == "cotangent"}
    sparse = [(k, _read_where_it_lies(gradient, pieces)) for k, gradient in pieces.sparse]

    needed = pieces.final.types("residual").keys() - in_pools.keys() | {gradient.ids for _, gradient in sparse}
    needed |= {gradient.rows for _, gradient in sparse if not gradient.of_result}
    later = [k for k in range(n, len(pieces.residuals)) if k in needed]
    backward = backward.part([*backward.outputs[:n_slots], *(later_residuals[k - n] for k in later)], lambda _: None)
    needed |= backward.types("residual").keys() - in_pools.keys()
    earlier = [k for k in range(n) if k in needed]
    place = {k: at for at, k in enumerate(earlier + later)}

    def read(new: Graph, node: Node, in_final: bool) -> int:
        kind, k = node.attrs
        if kind == "residual" and k in in_pools:
            source, i = in_pools[k]
            found = source.nodes[i]
            if found.is_input:
                return read(new, found, in_final)
            return new.copy(found, {j: read(new, source.nodes[j], in_final) for j in found.inputs})
        if kind == "cotangent" and in_final and is_stack(node.type):
            kind = "reverse"
        return new.input(kind, place[k] if kind == "residual" else k, node.type, node.level)

    def with_inputs(graph: Graph, in_final: bool) -> Graph:
        rewriter = Rewriter(graph)
        nodes = graph.nodes
        return rewriter.run(lambda i: read(rewriter.new, nodes[i], in_final) if nodes[i].is_input else None).check()

    return replace(
        pieces,
        forward=forward.part([*results, *(residuals[k] for k in earlier)], lambda _: None),
        backward=with_inputs(backward, False),
        final=with_inputs(pieces.final, True),
        residuals=[pieces.residuals[k] for k in earlier + later],
        n_forward_residuals=len(earlier),
        sparse=[(k, replace(g, ids=place[g.ids], rows=g.rows if g.of_result else place[g.rows])) for k, g in sparse],
    )


def _read_where_it_lies(gradient: SparseGradient, pieces: Pieces) -> SparseGradient:
    """The gradient, as the cotangent of a result if its rows are that in whatever shape."""
    k = gradient.rows - pieces.n_forward_residuals
    if k < 0:
        return gradient
    nodes = pieces.backward.nodes
    node = nodes[pieces.backward.outputs[len(pieces.slots) + k]]
    while node.op is RESHAPE:
        node = nodes[node.inputs[0]]
    return SparseGradient(gradient.ids, node.attrs[1], of_result=True) if node.kind == "cotangent" else gradient
