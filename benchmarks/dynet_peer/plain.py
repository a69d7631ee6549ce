"""Examples as plain values: tuples and lists of numbers, for a process that has none of the benchmarks' classes.

A tree is the list of its nodes, children before their parents, left before right; a node names its children by their
places in the list.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


def plain_examples(workload: str, examples: Sequence[Any]) -> list[Any]:
    """The examples of this workload as plain values."""
    return [PLAIN[workload](example) for example in examples]


def binary_tree(tree: Any) -> list[tuple[int, int, int, int]]:
    """(left, right, word, label) of each node; a leaf has -1 for its children, any other node -1 for its word."""
    found: list[tuple[int, int, int, int]] = []
    places: dict[int, int] = {}
    stack = [(tree, False)]
    while stack:
        node, children_are_done = stack.pop()
        if node.is_leaf:
            entry = (-1, -1, node.word, node.label)
        elif children_are_done:
            entry = (places[id(node.left)], places[id(node.right)], -1, node.label)
        else:
            stack += [(node, True), (node.right, False), (node.left, False)]
            continue
        places[id(node)] = len(found)
        found.append(entry)
    return found


def tree(root: Any) -> tuple[list[tuple[list[int], int]], int]:
    """((children, word) of each node, the root's label)."""
    found: list[tuple[list[int], int]] = []
    places: dict[int, int] = {}
    for node in root:
        places[id(node)] = len(found)
        found.append(([places[id(child)] for child in node.children], node.word))
    return found, root.label


def tagged_sentence(sentence: Any) -> tuple[list[int], list[int]]:
    """(words, tags)."""
    return list(sentence.words), list(sentence.tags)


def spelled_sentence(sentence: Any) -> tuple[list[int | list[int]], list[int]]:
    """(words, tags); a rare word is the list of its letters."""
    from benchmarks.tagger_chars.data import N_KNOWN, spelling

    words = [word if word < N_KNOWN else list(spelling(word)) for word in sentence.words]
    return words, list(sentence.tags)


def predicted_sentence(sentence: Any) -> tuple[list[int], list[int]]:
    """(words, the word before each)."""
    from benchmarks.lm.data import BEGIN

    words = list(sentence.words)
    return words, [BEGIN, *words[:-1]]


def lattice(lattice: Any) -> tuple[list[int], list[list[tuple[int, int]]], list[int]]:
    """(characters, the (word, first position) that end at each, tags)."""
    return list(lattice.characters), [list(words) for words in lattice.words], list(lattice.tags)


def labelled_leaves(example: Any) -> tuple[list[int], int]:
    """(words, label)."""
    return list(example.words), example.label


def labelled_vector(example: Any) -> tuple[list[float], int]:
    """(numbers, label)."""
    vector, label = example
    return vector.tolist(), int(label)


PLAIN: dict[str, Callable[[Any], Any]] = {
    "treelstm": binary_tree,
    "treelstm_nodes": binary_tree,
    "bilstm": tagged_sentence,
    "tagger_chars": spelled_sentence,
    "lm": predicted_sentence,
    "mvrnn": binary_tree,
    "childsum": tree,
    "lattice": lattice,
    "treefc": labelled_leaves,
    "mlp": labelled_vector,
}
