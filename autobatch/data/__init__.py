"""Examples and how to get them: trees, readers, vocabularies, minibatches."""

from __future__ import annotations

from .bracketed import TreeFormatError, class_label, parse_trees, read_trees
from .minibatches import Minibatches, minibatches
from .syntax_trees import SyntaxTreeTask, syntax_tree
from .trees import Tree
from .vocabulary import Vocabulary

__all__ = [
    "Minibatches",
    "SyntaxTreeTask",
    "Tree",
    "TreeFormatError",
    "Vocabulary",
    "class_label",
    "minibatches",
    "parse_trees",
    "read_trees",
    "syntax_tree",
]
