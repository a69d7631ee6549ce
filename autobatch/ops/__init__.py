"""What can be computed on one example: every op, declared once."""

from . import composite, elementwise, index, linalg, movement, random, reduce, segment
from .declare import OPS, Op, Sample, apply

__all__ = [
    "OPS",
    "Op",
    "Sample",
    "apply",
    "composite",
    "elementwise",
    "index",
    "linalg",
    "movement",
    "random",
    "reduce",
    "segment",
]
