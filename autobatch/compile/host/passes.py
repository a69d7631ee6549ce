"""Passes: how often a loop passes the columns of a row, and what it computes each time.

Input: a `Loop` of the fuse stage. Output: a `PassPlan` for each pass, in order; the last may be without columns.
Invariants: a reduction is made in one pass, and what follows from it is known from the next one on; a store is in the
first pass in which its value can be known. A value of the columns that several passes need is computed in each of them,
as long as that is a few instructions; if a function is called for it, it is stored in a row of scratch.
Cost: O(nodes × passes).

    softmax     max(x)  |  e = exp(x - max), sum(e), e stored  |  e / sum → result
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ...backends.host.scalar_functions import FLOAT_FUNCTIONS, WHOLE_FUNCTIONS
from ...ir.graph import Graph
from ...ops.functions import POWER_OF
from ..steps import Loop, Read

CALL = re.compile(rf"(?<![.\w])({'|'.join({*FLOAT_FUNCTIONS, *WHOLE_FUNCTIONS})})\(")
"""Calls of scalar functions in the expression of an op."""


def n_calls(scalar: str) -> int:
    """How many functions the expression of an op calls, those of the C library among them."""
    return len(CALL.findall(scalar)) + scalar.count("math.")


@dataclass(slots=True)
class PassPlan:
    """What one pass over the columns computes: `row_nodes` before it, `nodes` in it, of which `keep` are kept."""

    row_nodes: list[int]
    nodes: list[int]
    reductions: list[int]
    keep: list[int]


def plan_passes(graph: Graph, loop: Loop) -> list[PassPlan]:
    """The passes of a loop: each reduction and store in the first that it can be in."""
    first: dict[int, int] = {}
    for i in sorted((*loop.row_nodes, *loop.nodes, *loop.reductions)):
        waits = [first[j] for j in loop.reads[i] if not isinstance(j, Read)]
        first[i] = max(waits, default=0) + (i in loop.reductions)
    columns = set(loop.nodes)
    plan: list[PassPlan] = []
    made: dict[int, int] = {}
    for k in range(max(first.values(), default=0) + 1):
        reductions = [i for i in loop.reductions if first[i] == k + 1]
        ends = [j for i in reductions for j in loop.reads[i]]
        ends += [s.value for s in loop.stores if not isinstance(s.value, Read) and first[s.value] == k]
        waiting = [j for j in ends if j in columns]
        nodes: set[int] = set()
        while waiting:
            i = waiting.pop()
            if i in nodes or isinstance(i, Read):
                continue
            nodes.add(i)
            is_dear = graph.nodes[i].op is POWER_OF or n_calls(graph.nodes[i].op.scalar)
            if i in made and is_dear:
                if i not in plan[made[i]].keep:
                    plan[made[i]].keep.append(i)
            else:
                made.setdefault(i, k)
                waiting += [j for j in loop.reads[i] if j in columns]
        plan.append(PassPlan([i for i in loop.row_nodes if first[i] == k], sorted(nodes), reductions, []))
    return plan
