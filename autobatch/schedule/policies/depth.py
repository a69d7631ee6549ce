"""The policy `depth`: nodes of one signature and depth run together, the shallow first (Looks et al., Deep Learning
with Dynamic Computation Graphs, ICLR 2017, section 2)."""

from __future__ import annotations

import numpy as np

from ..structures import KERNEL
from .policy import Order, Policy, Waits

__all__ = ["DEPTH"]


def by_depth(waits: Waits) -> Order:
    """One launch for each pair of depth and signature, in their order."""
    nodes = np.flatnonzero((waits.live != 0) & (waits.kind[waits.sig] == KERNEL))
    keys = waits.depth[nodes].astype(np.int64) * waits.kind.size + waits.sig[nodes]
    found, launch_of = np.unique(keys, return_inverse=True)
    launch = np.full(waits.sig.size, -1, np.int32)
    launch[nodes] = launch_of
    return Order(launch, found.size, DEPTH.name)


DEPTH = Policy("depth", lambda waits, signatures, recurs: by_depth(waits))
