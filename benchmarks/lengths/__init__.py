"""Models over rows whose number differs from example to example: `python -m benchmarks lengths`."""

from __future__ import annotations

from collections.abc import Sequence

PROGRAMS: tuple[str, ...] = (
    "luong",
    "luong_by_ops",
    "bahdanau",
    "pointer",
    "transformer",
    "transformer_by_ops",
    "characters",
    "sets",
    "graphs",
)


def main(arguments: Sequence[str]) -> int:
    """The command."""
    from benchmarks import twins

    return twins.main("lengths", arguments)
