"""The transition parser of `examples/parser.py`, all transitions those of the oracle."""

from __future__ import annotations

from benchmarks.decisions import parser
from examples.parser import Sentence


def examples(n: int) -> list[Sentence]:
    """n sentences, drawn from a fixed seed."""
    return parser.examples(n, 2015)


def MODEL(dim: int) -> parser.Model:
    """The model of this width."""
    return parser.Model(dim, dim)
