"""The order of launches: policies, of which users choose one.

In: what the live nodes of a tape wait for (`Waits`). Out: the launch of each node (`Order`). A policy decides how many
launches a tape needs, and never what is computed. A new one is a file with a `Policy`, and its name here.

In reading order: `policy` (Waits, Order, Policy), `chains`, `ready` (orders chosen launch by launch), `frontier`,
`agenda`, `depth`, `learned`, `auto`; this file has the choice.
"""

from __future__ import annotations

from typing import Any, Literal

from ...base.errors import user_error
from .agenda import AGENDA
from .auto import AUTO
from .depth import DEPTH
from .frontier import FRONTIER
from .learned import LEARNED
from .policy import Policy

__all__ = ["POLICIES", "PolicyName", "chosen", "current_schedule", "set_schedule"]

POLICIES = {policy.name: policy for policy in (AUTO, FRONTIER, AGENDA, DEPTH, LEARNED)}
"""All policies, by their names."""

PolicyName = Literal["auto", "frontier", "agenda", "depth", "learned"]

_default = [AUTO.name]


def current_schedule() -> str:
    """The policy of recordings for which `ab.map` was given none."""
    return _default[0]


def chosen(name: Any, of: str) -> Policy:
    """The policy of this name; raises `ValueError` where there is none, for the function `of` that was called."""
    found = POLICIES.get(name) if isinstance(name, str) else None
    if found is None:
        expected = " or ".join(f'"{policy}"' for policy in POLICIES)
        what = f"{of}: there is no such schedule policy"
        raise user_error(ValueError, what, expected=expected, got=repr(name), repair='leave it out, or pass "auto"')
    return found


def set_schedule(policy: PolicyName) -> None:
    """Choose how launches are ordered from now on, in all threads. It changes their number, never what is computed.

    Nodes of one signature share a launch where they do not depend on each other. Which signature runs next decides how
    many are ready by then, and so how many launches there are; `ab.profile` and `ab.explain` show their number, the
    fewest that any order needs, and which policy chose.

    policy:

    * "auto" (default): "frontier"; for small recordings whose structure recurs the best of several orders, by count.
    * "frontier": signatures that lose nothing by running now; else the one on the longest path.
    * "agenda": the signature of lowest mean depth (Neubig et al., NeurIPS 2017), as in DyNet.
    * "depth": by depth, as in TensorFlow Fold (Looks et al., ICLR 2017).
    * "learned": as "frontier", with decisions learned on the first ten minibatches of each set of signatures (after
      ED-Batch, Chen et al., ICML 2023); scheduling takes up to three times as long while it learns.

    For one map: `ab.map(..., schedule=policy)`. Raises `ValueError` for another name.

    >>> ab.set_schedule("auto")
    """
    chosen(policy, "set_schedule")
    _default[0] = policy
