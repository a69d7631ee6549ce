"""Minibatches: every example once an epoch, in an order that a seed repeats."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autobatch.data import Minibatches, Tree, minibatches


@given(st.integers(0, 30), st.integers(1, 12), st.booleans(), st.integers(0, 99))
def test_an_epoch_holds_every_example_once(n_examples: Any, batch_size: Any, shuffle: Any, seed: int) -> None:
    batches = minibatches(range(n_examples), batch_size, shuffle=shuffle, seed=seed)
    epoch = list(batches)
    assert len(batches) == len(epoch)
    assert sorted(example for batch in epoch for example in batch) == list(range(n_examples))
    assert all(len(batch) == batch_size for batch in epoch[:-1])
    assert all(0 < len(batch) <= batch_size for batch in epoch)


@given(st.integers(0, 30), st.integers(1, 12), st.booleans())
def test_drop_last_leaves_full_minibatches(n_examples: Any, batch_size: Any, shuffle: Any) -> None:
    batches = minibatches(range(n_examples), batch_size, shuffle=shuffle, drop_last=True)
    assert [len(batch) for batch in batches] == [batch_size] * (n_examples // batch_size)
    assert len(batches) == n_examples // batch_size


def test_without_shuffle_the_order_is_that_of_the_examples() -> None:
    batches = minibatches("abcde", batch_size=2)
    assert list(batches) == list(batches) == [["a", "b"], ["c", "d"], ["e"]]


def test_each_epoch_has_its_own_order_and_every_run_the_same() -> None:
    def run(seed: int) -> Any:
        batches = minibatches(range(50), 7, shuffle=True, seed=seed)
        return [list(batches) for _ in range(3)]

    first = run(seed=1)
    assert first == run(seed=1)
    assert first != run(seed=2)
    assert first[0] != first[1] != first[2] != first[0]


def test_an_epoch_left_half_way_counts() -> None:
    whole, left = (minibatches(range(50), 7, shuffle=True) for _ in range(2))
    list(whole)
    next(iter(left))
    assert list(whole) == list(left)


def test_a_run_can_be_taken_up_at_an_epoch() -> None:
    batches, later = (minibatches(range(50), 7, shuffle=True) for _ in range(2))
    _, second = list(batches), list(batches)
    later.epoch = 1
    assert list(later) == second
    assert later.epoch == 2


def test_the_examples_may_be_anything_iterable_and_are_taken_when_called() -> None:
    examples = [object(), object()]
    batches = minibatches(iter(examples), np.int64(1))
    wanted = list(examples)
    examples.clear()
    assert [batch[0] for batch in batches] == wanted


@pytest.mark.parametrize("batch_size", [0, -3])
def test_a_minibatch_size_below_one_raises(batch_size: Any) -> None:
    with pytest.raises(ValueError, match=f"expected batch_size >= 1, got {batch_size}"):
        minibatches([1], batch_size)


def test_wrong_kinds_of_arguments_raise() -> None:
    with pytest.raises(TypeError):
        minibatches([1], 2.5)
    with pytest.raises(ValueError, match="expected seed >= 0, got -1"):
        minibatches([1], 2, seed=-1)


# By number of nodes, and bucketed.


def test_a_minibatch_holds_up_to_so_many_nodes_or_one_example() -> None:
    examples = [Tree(None, "a"), Tree(None, "b", [Tree(None, "c")] * 4), Tree(None, "d", [Tree(None, "e")] * 9), Tree()]
    assert [[tree.n_nodes for tree in batch] for batch in minibatches(examples, max_nodes=6)] == [[1, 5], [10], [1]]
    assert [[tree.n_nodes for tree in batch] for batch in minibatches(examples, 1, max_nodes=6)] == [
        [1],
        [5],
        [10],
        [1],
    ]
    by_square = minibatches([1, 2, 3, 4], max_nodes=10, size=lambda n: n * n)
    assert list(by_square) == [[1, 2], [3], [4]] and len(by_square) == 3


def test_a_pool_is_sorted_before_it_is_cut() -> None:
    words = [str(k) * n for k, n in enumerate([5, 1, 4, 2, 3, 9, 7, 8])]
    sizes = [[len(word) for word in batch] for batch in minibatches(words, 2, pool=4)]
    assert sizes == [[1, 2], [4, 5], [3, 7], [8, 9]]
    shuffled = minibatches(words, 2, shuffle=True, seed=1, pool=8)
    epochs = [[sorted(len(word) for word in batch) for batch in shuffled] for _ in range(3)]
    assert all(sorted(epoch) == [[1, 2], [3, 4], [5, 7], [8, 9]] for epoch in epochs)
    assert epochs[0] != epochs[1]
    again = minibatches(words, 2, shuffle=True, seed=1, pool=8)
    assert [[sorted(map(len, batch)) for batch in again] for _ in range(3)] == epochs


def test_an_epoch_by_nodes_goes_on_from_a_state() -> None:
    words = ["x" * n for n in np.random.default_rng(0).integers(1, 9, 40)]

    def made() -> Minibatches[str]:
        return minibatches(words, shuffle=True, seed=3, max_nodes=20, pool=10)

    batches = made()
    list(batches)
    assert len(batches) == len(list(made()._plan(1)))
    seen = []
    for batch in batches:
        seen.append(batch)
        if len(seen) == 3:
            state = batches.state_dict()
    again = made()
    again.load_state_dict(state)
    assert seen[3:] == list(again)
    assert sorted(word for batch in seen for word in batch) == sorted(words)
    assert all(sum(map(len, batch)) <= 20 for batch in seen)
    assert list(batches) == list(again)


@pytest.mark.parametrize("settings", [{}, {"max_nodes": 0}, {"batch_size": 2, "pool": 0}])
def test_cuts_that_cannot_be_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="minibatches: "):
        minibatches("abc", **settings)
