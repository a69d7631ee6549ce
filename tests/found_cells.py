"""Cells that were found, forgotten between tests: ops on values alone have one signature in all programs."""

from __future__ import annotations

from autobatch.record.op_signatures import signatures
from autobatch.record.signature import Signature


def forget() -> None:
    """What was found for one program is no pattern in another."""
    for signature in (found for found, _ in signatures.values() if isinstance(found, Signature)):
        decisions = signature.decisions
        decisions.found_cells, decisions.searches, decisions.searched = (), 0, 0
        decisions.version += 1
        decisions.joined.clear()
