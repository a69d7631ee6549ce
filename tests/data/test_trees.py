"""Trees: order, shape, equality, and depth far beyond the recursion limit."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autobatch.data import Tree, parse_trees

SENTENCE = Tree(3, children=[Tree(2, "a"), Tree(1, children=[Tree(2, "b"), Tree(0, "c")])])

trees = st.recursive(
    st.builds(Tree, st.integers(0, 4), st.sampled_from(["a", "b", "-LRB-"])),
    lambda inner: st.builds(Tree, st.integers(0, 4), st.none(), st.lists(inner, min_size=1, max_size=4)),
    max_leaves=20,
)


def chain(length: int) -> Tree:
    tree = Tree(0, "end")
    for _ in range(length - 1):
        tree = Tree(1, None, [tree])
    return tree


def test_children_come_before_their_parents_and_the_root_last() -> None:
    assert [node.word or node.label for node in SENTENCE] == ["a", "b", "c", 1, 3]


def recursive_post_order(tree: Any) -> Any:
    return [node for child in tree.children for node in recursive_post_order(child)] + [tree]


@given(trees)
def test_iteration_is_the_post_order_of_the_definition(tree: Any) -> None:
    assert [id(node) for node in tree] == [id(node) for node in recursive_post_order(tree)]


def recursive_depth(tree: Any) -> Any:
    return 1 + max(map(recursive_depth, tree.children), default=0)


@given(trees)
def test_size_and_depth(tree: Any) -> None:
    assert tree.n_nodes == len(recursive_post_order(tree))
    assert tree.depth == recursive_depth(tree)


def test_left_and_right_are_the_two_children() -> None:
    assert SENTENCE.left.word == "a"
    assert SENTENCE.right.right.word == "c"
    assert SENTENCE.left.is_leaf and not SENTENCE.right.is_leaf


@pytest.mark.parametrize("n_children", [0, 1, 3])
@pytest.mark.parametrize("side", ["left", "right"])
def test_left_and_right_of_other_than_two_children_raise(n_children: Any, side: Any) -> None:
    tree = Tree(0, None, [Tree(0, "a")] * n_children)
    with pytest.raises(ValueError, match=f"expected 2 children, got {n_children}"):
        getattr(tree, side)


@pytest.mark.parametrize("name", ["label", "word", "children", "other"])
def test_a_tree_cannot_be_changed(name: Any) -> None:
    with pytest.raises(AttributeError, match=f"{name} cannot be set"):
        setattr(SENTENCE, name, None)


@given(trees, trees)
def test_trees_are_equal_exactly_if_they_read_the_same(one: Any, other: Any) -> None:
    assert (one == other) == (str(one) == str(other))
    if one == other:
        assert hash(one) == hash(other)


def test_a_tree_equals_no_other_kind_of_thing() -> None:
    assert Tree(1, "a") != "(1 a)"
    assert Tree(1, "a") != Tree(1, None, [Tree(1, "a")])


@given(trees)
def test_the_text_of_a_tree_reads_back_as_the_same_tree(tree: Any) -> None:
    assert list(parse_trees([str(tree)])) == [tree]


@given(trees)
def test_copies_and_pickles_are_equal(tree: Any) -> None:
    assert pickle.loads(pickle.dumps(tree)) == tree
    assert copy.deepcopy(tree) == tree


@given(trees)
def test_map_keeps_the_shape_and_the_original(tree: Any) -> None:
    before = str(tree)
    mapped = tree.map(lambda node: (None, node.label))
    assert [(node.word, len(node.children)) for node in mapped] == [(node.label, len(node.children)) for node in tree]
    assert str(tree) == before


def test_the_representation_of_a_large_tree_is_short() -> None:
    assert repr(SENTENCE) == "<Tree (3 (2 a) (1 (2 b) (0 c)))>"
    assert len(repr(chain(1000))) < 100


def test_depth_is_bounded_by_memory_alone() -> None:
    tree, same = chain(100_000), chain(100_000)
    assert tree.depth == tree.n_nodes == 100_000
    assert tree == same and hash(tree) == hash(same)
    assert pickle.loads(pickle.dumps(tree)) == tree
    assert tree.map(lambda node: (0, node.word)).depth == 100_000
    (read,) = parse_trees([str(tree)])
    assert read == tree
