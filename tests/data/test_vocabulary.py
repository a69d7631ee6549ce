"""Vocabularies: who gets a number, and who shares the rare one."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autobatch.data import Tree, Vocabulary

words = st.lists(st.sampled_from(["a", "b", "c", "d", "<rare>"]), max_size=40)


@given(words, st.integers(1, 6))
def test_words_seen_often_enough_get_a_number(seen, min_count):
    counts = Counter(seen)
    vocabulary = Vocabulary(seen, min_count=min_count)
    for word in ("a", "b", "c", "d", "e"):
        assert (word in vocabulary) == (vocabulary[word] != 0) == (counts[word] >= min_count)
    assert sorted(vocabulary[word] for word in vocabulary) == list(range(len(vocabulary)))
    assert sum(vocabulary.counts) == len(seen)
    assert vocabulary["<rare>"] == 0


@given(words, st.randoms())
def test_numbers_depend_on_counts_alone(seen, random):
    shuffled = list(seen)
    random.shuffle(shuffled)
    assert list(Vocabulary(seen)) == list(Vocabulary(shuffled))


def test_frequent_words_come_first():
    assert list(Vocabulary(["b", "c", "c", "a"])) == ["<rare>", "c", "a", "b"]


def test_encoding_a_tree_keeps_labels_and_missing_words():
    vocabulary = Vocabulary(["good"], rare="?")
    tree = Tree(3, children=[Tree(2, "good"), Tree(1, "bad")])
    assert vocabulary.encode(tree) == Tree(3, children=[Tree(2, 1), Tree(1, 0)])
    assert list(vocabulary) == ["?", "good"]


def test_a_threshold_below_one_raises():
    with pytest.raises(ValueError, match="expected min_count >= 1, got 0"):
        Vocabulary([], min_count=0)
