"""Metrics, splits and label encoders; beside scikit-learn where it is installed."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autobatch import data


@pytest.mark.parametrize("seed", range(3))
def test_metrics_are_those_of_scikit_learn(seed: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    true, predicted = rng.integers(0, 4, 40), rng.integers(0, 5, 40)
    assert data.accuracy_score(true, predicted) == pytest.approx(metrics.accuracy_score(true, predicted))
    for average in ("micro", "macro", "weighted"):
        theirs = metrics.f1_score(true, predicted, average=average, zero_division=0)
        assert data.f1_score(true, predicted, average) == pytest.approx(theirs)
    theirs = metrics.f1_score(true == 2, predicted == 2)
    assert data.f1_score(true, predicted, pos_label=2) == pytest.approx(theirs)
    x, y = rng.normal(size=(2, 5, 3))
    assert data.root_mean_squared_error(x, y) == pytest.approx(math.sqrt(metrics.mean_squared_error(x, y)))


def test_named_entities() -> None:
    assert data.spans(["I-PER", "I-PER", "B-PER", "I-LOC", "O", "I-LOC"]) == [
        ("PER", 0, 2),
        ("PER", 2, 3),
        ("LOC", 3, 4),
        ("LOC", 5, 6),
    ]
    assert data.spans(["B-X", "I-X", "E-X", "S-X", "S-Y", "I-Y"]) == [
        ("X", 0, 3),
        ("X", 3, 4),
        ("Y", 4, 5),
        ("Y", 5, 6),
    ]
    true = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "O"]]
    assert data.span_f1_score(true, true) == 1.0
    assert data.span_f1_score(true, [["B-PER", "I-PER", "O", "O"], ["O", "O"]]) == pytest.approx(2 / 3)
    assert data.span_f1_score(["O"], ["O"]) == 0.0
    with pytest.raises(ValueError, match="a sentence has other lengths\n  expected 1 tags, got 2"):
        data.span_f1_score([["O"]], [["O", "O"]])


def test_perplexity() -> None:
    assert data.perplexity([6.0, 2.0], n_words=4) == pytest.approx(math.e**2)
    assert data.perplexity([1e6]) == math.inf
    assert math.isnan(data.perplexity([math.nan]))
    for losses, n in (([], None), ([1.0], 0)):
        with pytest.raises(ValueError, match="there are no words"):
            data.perplexity(losses, n)


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda: data.accuracy_score([1], [1, 2]), "expected 1 predictions, got 2"),
        (lambda: data.accuracy_score([], []), "or there are none"),
        (
            lambda: data.f1_score([1], [1], "samples"),
            "expected 'binary', 'micro', 'macro' or 'weighted', got 'samples'",
        ),
        (lambda: data.root_mean_squared_error([1.0, 2.0], [1.0]), r"expected shape \(2,\), got \(1,\)"),
        (lambda: data.attachment_scores([1, 0], ["a"], [1, 0], ["a"]), "expected 2 relations, got 1"),
    ],
)
def test_what_cannot_be_compared_is_refused(call: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        call()


# Splits.


def test_parts_of_a_split_are_all_examples_once() -> None:
    parts = data.random_split(range(100), [0.5, 0.3, 0.2], seed=1)
    assert [len(part) for part in parts] == [50, 30, 20]
    assert sorted(k for part in parts for k in part) == list(range(100))
    assert parts == data.random_split(range(100), [50, 30, 20], seed=1) != data.random_split(range(100), [50, 30, 20])
    train, test = data.train_test_split(range(100), 0.105, seed=1)
    assert len(test) == 11 and sorted(train + test) == list(range(100))
    assert (train, test) == data.train_test_split(range(100), 11, seed=1)


def test_a_stratified_split_has_each_label_in_both_parts() -> None:
    labels = "a" * 50 + "b" * 30 + "c" * 7
    _, test = data.train_test_split(labels, 0.2, stratify=labels)
    assert Counter(test) == {"a": 10, "b": 6, "c": 2}


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (
            lambda: data.random_split("abc", [1, 1]),
            r"lengths that add up to 3, or shares that add up to 1, got \[1, 1\]",
        ),
        (lambda: data.random_split("abc", [4, -1]), "lengths do not add up"),
        (lambda: data.random_split("abc", [0.5, 0.6]), "lengths do not add up"),
        (lambda: data.train_test_split("abc", 3), "expected test_size from 1 to 2, or a share of 3, got 3"),
        (lambda: data.train_test_split("abc", 0.0), "a part would be empty"),
        (lambda: data.train_test_split("abc", 1, stratify="ab"), "expected 3 labels, got 2"),
    ],
)
def test_splits_that_cannot_be_are_refused(call: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        call()


# Labels.


def test_labels_go_through_a_file(tmp_path: Path) -> None:
    encoder = data.LabelEncoder()
    assert encoder.fit_transform(["NOUN", "DÉT", "NOUN"]) == [1, 0, 1]
    encoder.save(tmp_path / "labels.json")
    again = data.LabelEncoder.load(tmp_path / "labels.json")
    assert again.classes_ == encoder.classes_ == ("DÉT", "NOUN")
    assert "NOUN" in again and "VERB" not in again and len(again) == 2
    assert data.LabelEncoder(["b", "a"]).transform("ab") == [1, 0]
    assert data.LabelEncoder.from_json(data.LabelEncoder([3, 1.5]).to_json()).classes_ == (3, 1.5)
    numbers = np.array([5, 2])
    assert data.LabelEncoder().fit(numbers).to_json() == '{"classes": [2, 5]}'
    assert data.LabelEncoder().fit_transform(numbers) == [1, 0]


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda e: e.transform(["c", "d", "a"]), "unknown labels\n  expected 'a', 'b', got 'c', 'd'"),
        (lambda e: data.LabelEncoder().transform(["c"]), "expected to be fitted, got 'c'"),
        (lambda e: e.inverse_transform([0, 2, -1]), r"expected numbers from 0 to 1, got \[2, -1\]"),
        (lambda e: e.inverse_transform([1.0, 0.5]), r"expected numbers from 0 to 1, got \[0.5\]"),
        (lambda e: e.inverse_transform(np.array([np.nan])), "no label has this number"),
        (lambda e: data.LabelEncoder("aa"), "a label is there twice"),
        (lambda e: data.LabelEncoder.from_json("[]"), r"the text holds no labels\n  got '\[\]'"),
        (lambda e: data.LabelEncoder.from_json('{"classes": [[]]}'), "the text holds no labels"),
    ],
)
def test_labels_that_cannot_be_are_refused(call: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        call(data.LabelEncoder("ab"))
    with pytest.raises(TypeError, match="None is no label"):
        data.LabelEncoder().fit(["a", None])
    with pytest.raises(TypeError, match="this label cannot be written"):
        data.LabelEncoder([("a",)]).to_json()
