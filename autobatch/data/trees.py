"""A tree whose nodes hold a label, a word and children: what readers give and models take.

Nothing here recurses, so a tree may be as deep as memory allows.

    tree = Tree(3, children=(Tree(2, "good"), Tree(2, "film")))
    [node.word for node in tree]        # post-order: ['good', 'film', None]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from ..base.errors import message

__all__ = ["Tree"]

_Value = TypeVar("_Value")


class Tree:
    """One node and everything below it.

    Arguments:
        label: the class of this node, or None where it has none.
        word: what stands at this node: a string as read, an index after `Vocabulary.encode`, or None.
        children: the subtrees, in order. A node without children is a leaf.

    A tree is not changed once made, so a subtree may be shared between trees. Iteration is in post-order (children
    before their parent, the root last), the order in which a bottom-up model needs the nodes. Equality and hash compare
    the whole trees, in O(nodes).

    >>> tree = Tree(3, children=(Tree(2, "good"), Tree(2, "film")))
    >>> [node.word for node in tree]
    ['good', 'film', None]
    >>> tree.left.is_leaf, tree.right.word, tree.n_nodes
    (True, 'film', 3)
    >>> print(tree)
    (3 (2 good) (2 film))
    """

    __slots__ = ("children", "label", "word")

    label: Any
    word: Any
    children: tuple[Tree, ...]

    def __init__(self, label: Any = None, word: Any = None, children: Sequence[Tree] = ()) -> None:
        _set_label(self, label)
        _set_word(self, word)
        _set_children(self, tuple(children))

    @property
    def is_leaf(self) -> bool:
        """True for a node without children."""
        return not self.children

    @property
    def left(self) -> Tree:
        """The first of exactly two children; ValueError for a node that has not two."""
        first, _ = self._pair()
        return first

    @property
    def right(self) -> Tree:
        """The second of exactly two children; ValueError for a node that has not two."""
        _, second = self._pair()
        return second

    def _pair(self) -> tuple[Tree, Tree]:
        if len(self.children) != 2:
            raise ValueError(
                message(
                    "Tree: left and right are those of a node with two children",
                    expected="2 children",
                    got=str(len(self.children)),
                    repair="look at is_leaf first, or go through .children",
                )
            )
        return self.children[0], self.children[1]

    def __iter__(self) -> Iterator[Tree]:
        """Every node, children before parents."""
        order: list[Tree] = []
        pending = [self]
        while pending:
            node = pending.pop()
            order.append(node)
            pending.extend(node.children)
        return reversed(order)  # each parent came before its children, last child first

    @property
    def n_nodes(self) -> int:
        """Number of nodes, leaves and this one included. O(nodes)."""
        return sum(1 for _ in self)

    @property
    def depth(self) -> int:
        """Number of nodes on the longest way from here down to a leaf: 1 for a leaf. O(nodes)."""
        return self.fold(_depth)

    def fold(self, visit: Callable[[Tree, list[_Value]], _Value]) -> _Value:
        """What `visit(node, values of its children)` gives for the root, every node being visited in post-order.

        >>> tree = Tree(3, children=(Tree(2, "good"), Tree(2, "film")))
        >>> tree.fold(lambda node, below: f"[{' '.join(below)}]" if below else node.word)
        '[good film]'
        """
        values: list[_Value] = []
        for node in self:
            values.append(visit(node, pop_last(values, len(node.children))))
        return values[0]

    def map(self, change: Callable[[Tree], tuple[Any, Any]]) -> Tree:
        """The tree of the same shape whose nodes hold `(label, word) = change(node)`.

        >>> print(Tree(1, "a", [Tree(0, "b")]).map(lambda node: (node.label, node.word.upper())))
        (1 A (0 B))
        """
        return self.fold(lambda node, children: Tree(*change(node), children))

    def _flat(self) -> tuple[tuple[Any, Any, int], ...]:
        """Label, word and number of children in post-order: equal for equal trees and for no others."""
        return tuple((node.label, node.word, len(node.children)) for node in self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tree):
            return NotImplemented
        return self is other or self._flat() == other._flat()

    def __hash__(self) -> int:
        return hash(self._flat())

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(
            message(f"Tree: {name} cannot be set once the tree is made", repair="make a new Tree, or use tree.map")
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _tree_of, (self._flat(),)  # the default would recurse into the children

    def __str__(self) -> str:
        """The bracketed form, as `read_trees` reads it where leaves alone have words."""
        parts: list[str] = []
        pending: list[Tree | str] = [self]
        while pending:
            part = pending.pop()
            if isinstance(part, str):
                parts.append(part)
                continue
            shown = [str(value) for value in (part.label, part.word) if value is not None]
            parts.append((" (" if parts else "(") + " ".join(shown))
            pending.append(")")
            pending.extend(reversed(part.children))
        return "".join(parts)

    def __repr__(self) -> str:
        text = str(self)
        return f"<Tree {text if len(text) <= 72 else text[:69] + '...'}>"


# The slots' own setters: they pass by __setattr__, and cost half of object.__setattr__.
_set_label = vars(Tree)["label"].__set__
_set_word = vars(Tree)["word"].__set__
_set_children = vars(Tree)["children"].__set__


def pop_last(stack: list[_Value], count: int) -> list[_Value]:
    """Take the last `count` values off a stack, in the order in which they were put there."""
    first = len(stack) - count
    taken = stack[first:]
    del stack[first:]
    return taken


def _depth(node: Tree, below: list[int]) -> int:
    return 1 + max(below, default=0)


def _tree_of(flat: Sequence[tuple[Any, Any, int]]) -> Tree:
    made: list[Tree] = []
    for label, word, n_children in flat:
        made.append(Tree(label, word, pop_last(made, n_children)))
    return made[0]
