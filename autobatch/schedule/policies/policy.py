"""What a policy takes and gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..structures import Ints

__all__ = ["Decides", "Order", "Policy", "Waits"]


@dataclass(slots=True, frozen=True)
class Waits:
    """What the live nodes of a tape wait for: node i for `sources[source_of[i]:source_of[i + 1]]`, never a payload."""

    kind: Ints  # [S] of the signatures, as in the tape
    sig: Ints  # [n]
    live: Ints  # [n]
    depth: Ints  # [n] length of the longest path of launches that ends in the node
    source_of: Ints  # [n + 1]
    sources: Ints


@dataclass(slots=True, frozen=True)
class Order:
    """The launch of each node.

    launch: [n] -1 where the node is not launched; number: how many launches there are
    by: what chose them, for reports
    is_settled: whether the same policy would choose the same again; one that still learns may not
    """

    launch: Ints
    number: int
    by: str
    is_settled: bool = True


class Decides(Protocol):
    """What a policy is told of a signature.

    kernel: the same object for equal graphs; trainable: its shared operands that want a gradient
    decisions: with a dictionary `learners`, where a policy keeps what it has learned
    """

    @property
    def kernel(self) -> object: ...
    @property
    def trainable(self) -> frozenset[int]: ...
    @property
    def decisions(self) -> Any: ...


@dataclass(slots=True, frozen=True)
class Policy:
    """One way to order launches.

    name: what users call it
    order: from what nodes wait for, the signatures of the tape (None: nothing may be learned or remembered), and
        whether tapes of this structure recur, so that a better order is worth more time, to the order
    """

    name: str
    order: Callable[[Waits, Sequence[Decides] | None, bool], Order]
