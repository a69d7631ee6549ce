"""Models ready to train, with what trains, tests and reports on them. Built on the public names of the library."""

from __future__ import annotations

from .binary_tree_lstm import BinaryTreeClassifier
from .child_sum_tree_lstm import ChildSumTreeClassifier

__all__ = ["BinaryTreeClassifier", "ChildSumTreeClassifier"]
