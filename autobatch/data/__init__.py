"""Examples and how to get them, from files to minibatches, and how good predictions are.

In reading order: `trees`; readers of files: `files` (lines and their errors), `bracketed`, `columns` (CoNLL-U, too),
`json_lines` (trees and graphs), `expressions`; numbers for words and labels: `vocabulary`, `labels`; `splits`,
`minibatches`, `metrics`. `syntax_trees` is a task made of Python's `standard_library`; `samples/` are small
files to begin with.
"""

from __future__ import annotations

from .bracketed import TreeFormatError, class_label, parse_trees, read_trees
from .columns import ConlluSentence, ConlluToken, read_columns, read_conllu
from .expressions import expression_tree, read_expressions
from .files import DataFormatError
from .json_lines import Graph, read_json_graphs, read_json_trees
from .labels import LabelEncoder
from .metrics import (
    AttachmentScores,
    accuracy_score,
    attachment_scores,
    f1_score,
    perplexity,
    root_mean_squared_error,
    span_f1_score,
    spans,
)
from .minibatches import Minibatches, minibatches
from .samples import sample
from .splits import random_split, train_test_split
from .syntax_trees import SyntaxTreeTask, syntax_tree
from .trees import Tree
from .vocabulary import Vocabulary

__all__ = [
    "AttachmentScores",
    "ConlluSentence",
    "ConlluToken",
    "DataFormatError",
    "Graph",
    "LabelEncoder",
    "Minibatches",
    "SyntaxTreeTask",
    "Tree",
    "TreeFormatError",
    "Vocabulary",
    "accuracy_score",
    "attachment_scores",
    "class_label",
    "expression_tree",
    "f1_score",
    "minibatches",
    "parse_trees",
    "perplexity",
    "random_split",
    "read_columns",
    "read_conllu",
    "read_expressions",
    "read_json_graphs",
    "read_json_trees",
    "read_trees",
    "root_mean_squared_error",
    "sample",
    "span_f1_score",
    "spans",
    "syntax_tree",
    "train_test_split",
]
