"""Vocabularies: who gets a number, and who shares the rare one."""

from __future__ import annotations

import copy
import os
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from autobatch.data import Tree, Vocabulary

words = st.lists(st.sampled_from(["a", "b", "c", "d", "<rare>"]), max_size=40)


@given(words, st.integers(1, 6))
def test_words_seen_often_enough_get_a_number(seen: Any, min_count: Any) -> None:
    counts = Counter(seen)
    vocabulary = Vocabulary(seen, min_count=min_count)
    for word in ("a", "b", "c", "d", "e"):
        assert (word in vocabulary) == (vocabulary[word] != 0) == (counts[word] >= min_count)
    assert sorted(vocabulary[word] for word in vocabulary) == list(range(len(vocabulary)))
    assert sum(vocabulary.counts) == len(seen)
    assert vocabulary["<rare>"] == 0


@given(words, st.randoms())
def test_numbers_depend_on_counts_alone(seen: Any, random: Any) -> None:
    shuffled = list(seen)
    random.shuffle(shuffled)
    assume(not any(len({*xs}) == len(xs) and xs[:1] == ["<rare>"] for xs in (seen, shuffled)))  # words of a vocabulary
    assert list(Vocabulary(seen)) == list(Vocabulary(shuffled))


def test_frequent_words_come_first() -> None:
    assert list(Vocabulary(["b", "c", "c", "a"])) == ["<rare>", "c", "a", "b"]


def test_encoding_a_tree_keeps_labels_and_missing_words() -> None:
    vocabulary = Vocabulary(["good"], rare="?")
    tree = Tree(3, children=[Tree(2, "good"), Tree(1, "bad")])
    assert vocabulary.encode(tree) == Tree(3, children=[Tree(2, 1), Tree(1, 0)])
    assert list(vocabulary) == ["?", "good"]


def test_a_threshold_below_one_raises() -> None:
    with pytest.raises(ValueError, match="expected min_count >= 1, got 0"):
        Vocabulary([], min_count=0)


@given(words, st.integers(1, 3), st.sampled_from(["<rare>", "?", "a"]))
def test_a_vocabulary_comes_back(seen: Any, min_count: Any, rare: Any) -> None:
    vocabulary = Vocabulary(seen, min_count, rare)
    assert Vocabulary(vocabulary.words, rare=rare).words == vocabulary.words
    for twin in (
        Vocabulary.from_json(vocabulary.to_json()),
        copy.deepcopy(vocabulary),
        *(pickle.loads(pickle.dumps(vocabulary, protocol)) for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)),
    ):
        assert vars(twin) == vars(vocabulary)


def test_saving_leaves_one_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "words.json"
    Vocabulary(["ä", "\n", '"']).save(path)
    before = Vocabulary.load(path)
    assert list(before) == ["<rare>", "\n", '"', "ä"]

    def fails(*_: Any) -> None:
        raise OSError("no room")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match="no room"):
        Vocabulary(["b"]).save(path)
    assert list(Vocabulary.load(path)) == list(before)
    assert os.listdir(tmp_path) == ["words.json"]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"rare": "?", "min_count": 1, "words": ["?", "a", "a"], "counts": [1, 1, 1]}', "null"]
)
def test_what_is_no_vocabulary_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match="holds no vocabulary"):
        Vocabulary.from_json(text)


def test_none_is_no_word() -> None:
    """As inner nodes have it, of which there are many: it would be a word of its own."""
    nodes: Any = [None, None, "good", "film"]
    with pytest.raises(TypeError, match="None is no word"):
        Vocabulary(nodes)


def test_words_that_json_would_change_are_refused() -> None:
    with pytest.raises(TypeError, match="only strings"):
        Vocabulary([1, 2]).to_json()
