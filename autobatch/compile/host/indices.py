"""indices: the part of a piece that makes row numbers of tables, as a NumPy program.

Input: the graph of a piece, and which of its operands the host knows. Output: an `IndexPart`, which a device run calls
before its launches. Cost: once per piece.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...base.types import Type
from ...ir.graph import INPUT, OF_LISTS, Graph
from ...ops.index import BOUNDED
from ..split import Pieces
from ..text import graph_inputs
from .lower import lower


@dataclass(slots=True)
class IndexPart:
    """The part of a piece that makes indices.

    run: its program, None if there is nothing to make; inputs: what it reads; types: of its results
    residuals: residual → result; complete: whether no index of the piece depends on anything else
    whole: whether one call can serve all launches of a signature
    """

    run: Callable[..., list[Any]] | None
    inputs: list[tuple[str, int]]
    types: list[Type]
    residuals: dict[int, int]
    complete: bool
    whole: bool


def index_part(graph: Graph, name: str, slots: frozenset[int], pieces: Pieces | None) -> IndexPart:
    """The part of a piece that depends on data, lengths, and the rows of `slots`; `pieces`: for the forward piece."""
    known: list[bool] = []
    for node in graph.nodes:
        if node.op is INPUT:
            kind, k = node.attrs
            known.append(kind in ("data", *OF_LISTS) or (kind == "rows" and k in slots))
        else:
            known.append(all(known[j] for j in node.inputs))
    bounded = [i for i, node in enumerate(graph.nodes) if node.op is BOUNDED]
    wanted = [i for i in bounded if known[i]]
    residuals: dict[int, int] = {}
    if pieces is not None:
        n_results = len(graph.outputs) - pieces.n_forward_residuals
        for k in {gradient.ids for _, gradient in pieces.sparse if gradient.ids < pieces.n_forward_residuals}:
            i = graph.outputs[n_results + k]
            if known[i] and graph.nodes[i].type.has_dim:
                if i not in wanted:
                    wanted.append(i)
                residuals[k] = wanted.index(i)
    complete = all(known[i] for i in bounded)
    if not wanted:
        return IndexPart(None, [], [], {}, complete, False)
    part = graph.part(wanted, lambda _: None)
    program = lower(part, name, (False,) * len(wanted), "numpy")
    inputs = graph_inputs(part)
    whole = all(kind in ("data", "rows") for kind, _ in inputs)
    return IndexPart(program.run, inputs, [graph.nodes[i].type for i in wanted], residuals, complete, whole)
