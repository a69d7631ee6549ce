"""Which module does a function come from? A task on real, uneven trees: the syntax trees of the standard library.

A function is the tree of its `ast` nodes; a node is its type plus its identifier, as in `Name join`, if that pair is
seen often enough in training, else its type plus a rare token. Nodes that tell only whether a name is read or written
are left out. The class of a tree is its module.

The split goes by a hash of the tree, so it is the same in every run and equal trees stand on one side. Trees may become
equal once rare identifiers are merged: a held-out function that equals one in training, or that stands inside one, or
inside which one stands, moves to training. Moving makes identifiers less rare, never more, so trees once distinct stay
so.
"""

from __future__ import annotations

import ast
import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from .standard_library import Function, largest_modules
from .trees import Tree, pop_last
from .vocabulary import Vocabulary

__all__ = ["SyntaxTreeTask", "syntax_tree"]

RARE = "<rare>"

# The fields of ast nodes that hold an identifier; no node has two of them that matter.
_IDENTIFIER_FIELDS = ("name", "id", "attr", "arg", "module", "rest")
_IDENTIFIER_FIELD: dict[str, str | None] = {}


def syntax_tree(function: ast.AST) -> Tree:
    """The tree of `function`, an ast node, and everything in it; words are types, or types and identifiers.

    >>> print(syntax_tree(ast.parse("print(x.y)")))
    (Module (Expr (Call (Name print) (Attribute y (Name x)))))
    """
    order: list[tuple[ast.AST, int]] = []
    pending = [function]
    while pending:
        node = pending.pop()
        children = [child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.expr_context)]
        order.append((node, len(children)))
        pending.extend(children)
    made: list[Tree] = []
    for node, n_children in reversed(order):
        made.append(Tree(None, _word(node), pop_last(made, n_children)))
    return made[0]


def _word(node: ast.AST) -> str:
    kind = type(node).__name__
    if kind not in _IDENTIFIER_FIELD:
        fields = [field for field in _IDENTIFIER_FIELDS if field in node._fields]
        _IDENTIFIER_FIELD[kind] = fields[0] if fields else None
    field = _IDENTIFIER_FIELD[kind]
    identifier = getattr(node, field) if field else None
    return f"{kind} {identifier}" if isinstance(identifier, str) else kind


def node_type(word: str) -> str:
    """The type that a word begins with.

    >>> node_type("Name join"), node_type("Return")
    ('Name', 'Return')
    """
    return word.partition(" ")[0]


@dataclass(frozen=True, slots=True)
class SyntaxTreeTask:
    """Functions as trees, split into those to train on and those held out.

    Attributes:
        modules: names of the classes, the module with the most functions first.
        train, held_out: trees whose words are numbers below `len(vocabulary)`; the root's label is the class.
        vocabulary: the words of the training trees.
        types: names of the node types.
        type_of_word: for each number of a word that of its type.

    >>> task = ab.data.SyntaxTreeTask(("ast",), [], [], ab.data.Vocabulary("a"), ("Name",), (0,))
    >>> task.modules
    ('ast',)
    """

    modules: tuple[str, ...]
    train: list[Tree]
    held_out: list[Tree]
    vocabulary: Vocabulary
    types: tuple[str, ...]
    type_of_word: tuple[int, ...]

    @staticmethod
    def load(
        n_modules: int = 20, min_count: int = 3, held_out: float = 0.2, root: str | os.PathLike[str] | None = None
    ) -> SyntaxTreeTask:
        """Make the task from the sources of the standard library. Takes a few seconds.

        Arguments:
            n_modules: number of classes: the largest modules are taken.
            min_count: an identifier is kept where it is seen so many times in training, with the same node type.
            held_out: share of the functions to hold out, before some of them move to training.
            root: folder of the library; by default that of the running Python.

        Raises:
            FileNotFoundError: the library is installed without sources.

        >>> task = SyntaxTreeTask.load(n_modules=2)
        >>> len(task.modules), sorted({tree.label for tree in task.held_out}), task.train[0].word < len(task.vocabulary)
        (2, [0, 1], True)
        """
        modules = largest_modules(n_modules, root)
        trees = [_labelled(function, label) for label, module in enumerate(modules) for function in module.functions]
        train, out = _split(trees, min_count, held_out)
        spelling = _Spelling(train, min_count)
        vocabulary = Vocabulary((spelling.of_word(node.word) for tree in train for node in tree), rare=RARE)
        types = tuple(sorted({node_type(word) for word in vocabulary}))

        def number(node: Tree) -> tuple[int | None, int]:
            return node.label, vocabulary[spelling.of_word(node.word)]

        return SyntaxTreeTask(
            modules=tuple(module.name for module in modules),
            train=[tree.map(number) for tree in train],
            held_out=[tree.map(number) for tree in out],
            vocabulary=vocabulary,
            types=types,
            type_of_word=tuple(types.index(node_type(word)) for word in vocabulary),
        )


def _labelled(function: Function, label: int) -> Tree:
    tree = syntax_tree(function)
    return Tree(label, tree.word, tree.children)


class _Spelling:
    """How words are written once those that are rare in training are merged."""

    def __init__(self, train: list[Tree], min_count: int) -> None:
        self._counts = Counter(node.word for tree in train for node in tree)
        self._min_count = min_count

    def of_word(self, word: str) -> str:
        kind = node_type(word)
        return word if word == kind or self._counts[word] >= self._min_count else f"{kind} {RARE}"

    def functions_in(self, tree: Tree) -> Iterator[tuple[tuple[str, int], ...]]:
        """Each function of the tree, itself and nested ones, as its words and numbers of children in post-order."""
        for function in tree:
            if node_type(function.word) in ("FunctionDef", "AsyncFunctionDef"):
                yield tuple((self.of_word(node.word), len(node.children)) for node in function)


def _split(trees: list[Tree], min_count: int, share: float) -> tuple[list[Tree], list[Tree]]:
    """Training and held-out trees; see the head of this file."""
    train: list[Tree] = []
    held_out: list[Tree] = []
    for tree in trees:
        words = str(Tree(None, tree.word, tree.children))
        fraction = int.from_bytes(hashlib.sha256(words.encode()).digest()[:8], "big") / 2**64
        (held_out if fraction < share else train).append(tree)
    while True:
        spelling = _Spelling(train, min_count)
        known = {function for tree in train for function in spelling.functions_in(tree)}
        meets = [not known.isdisjoint(spelling.functions_in(tree)) for tree in held_out]
        if not any(meets):
            return train, held_out
        train += [tree for tree, met in zip(held_out, meets, strict=True) if met]
        held_out = [tree for tree, met in zip(held_out, meets, strict=True) if not met]
