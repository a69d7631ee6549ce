"""Turn calls of cells into the nodes that are scheduled.

Input: a `Tape` as recorded. Output: a `Tape` with the same roots, pools and values of roots.

This is where cells that were split become several nodes, one for each piece, so that pieces which depend on some of the
arguments only can run at full width, and where runs of nodes that recur become one node. Today every cell is one piece
and no run is joined: the stage is the identity and gives the tape itself.

Invariants: the input is not changed; the values of the roots are those of the input; the arguments of a node are
smaller than its own values. Cost: none today, O(nodes) once there is something to expand.

    Tape: 2 nodes, 4 values  ──expand──>  Tape: 2 nodes, 4 values
"""

from __future__ import annotations

from .program import Tape

__all__ = ["expand"]


def expand(tape: Tape) -> Tape:
    """The tape whose nodes are the pieces to schedule: `tape` itself, as every cell is one piece."""
    return tape
