"""The policy `agenda`: again and again all ready nodes of the signature whose nodes not yet run have the lowest mean
depth (Neubig, Goldberg and Dyer, On-the-fly Operation Batching in Dynamic Computation Graphs, NeurIPS 2017, section
3.2)."""

from __future__ import annotations

from .policy import Order, Policy, Waits
from .ready import Ready

__all__ = ["AGENDA"]


def by_agenda(waits: Waits) -> Order:
    """Each launch by mean depth alone."""
    launch, number = Ready(waits).run(by_depth=True)
    return Order(launch, number, AGENDA.name)


AGENDA = Policy("agenda", lambda waits, signatures, recurs: by_agenda(waits))
