"""Models ready to train: of trees of which every node is labelled, and of whole trees. Built on the public names of the
library. `ab.train` trains them, `demo` is the command that does.
"""

from __future__ import annotations

from .binary_tree_lstm import BinaryTreeClassifier
from .child_sum_tree_lstm import ChildSumTreeClassifier

__all__ = ["BinaryTreeClassifier", "ChildSumTreeClassifier"]
