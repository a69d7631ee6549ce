"""The same twins: the model is written in another way and computes the same. Importing this module imports torch."""

from benchmarks.lengths.luong_torch import TWINS

__all__ = ["TWINS"]
