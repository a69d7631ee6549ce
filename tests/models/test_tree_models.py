"""The two tree classifiers: batched equals one by one, deep trees run, they learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import optim
from autobatch.data import Tree, minibatches
from autobatch.models import BinaryTreeClassifier, ChildSumTreeClassifier
from tests.requested import host

N_WORDS, N_CLASSES = 7, 3


def any_tree(rng: np.random.Generator, depth: Any = 4) -> Any:
    """Words everywhere, 0 to 5 children; the label is the largest word of the tree, modulo 3."""
    children = [any_tree(rng, depth - 1) for _ in range(rng.integers(0, 6) if depth else 0)]
    word = int(rng.integers(N_WORDS))
    largest = max([word, *(node.word for child in children for node in child)])
    return Tree(largest % N_CLASSES, word, children)


def binary_tree(rng: np.random.Generator, depth: Any = 4) -> Any:
    """Words at leaves; labels add up modulo 3."""
    if not depth or rng.random() < 0.2:
        word = int(rng.integers(N_WORDS))
        return Tree(word % N_CLASSES, word)
    children = [binary_tree(rng, depth - 1) for _ in range(2)]
    return Tree(sum(child.label for child in children) % N_CLASSES, None, children)


def child_sum_model() -> Any:
    return ChildSumTreeClassifier(N_WORDS, N_CLASSES, embedding_size=6, hidden_size=5)


def binary_model() -> Any:
    return BinaryTreeClassifier(N_WORDS, N_CLASSES, dim=5)


MODELS = [pytest.param(child_sum_model, any_tree, id="child-sum"), pytest.param(binary_model, binary_tree, id="binary")]


def losses_and_gradients(model: Any, trees: Any, batched: Any) -> Any:
    ab.seed(3)
    model.zero_grad()
    losses = ab.map(model.loss, trees, batched=batched)
    ab.mean(losses).backward()
    gradients = {name: host(p.grad) for name, p in model.named_parameters()}
    return np.array([float(loss) for loss in losses]), gradients


@pytest.mark.parametrize(("make_model", "make_tree"), MODELS)
def test_batched_equals_one_by_one_with_dropout(make_model: Any, make_tree: Any) -> None:
    ab.seed(0)
    rng, model = np.random.default_rng(0), make_model()
    trees = [make_tree(rng) for _ in range(6)]
    losses, gradients = losses_and_gradients(model, trees, batched=True)
    single_losses, single_gradients = losses_and_gradients(model, trees, batched=False)
    np.testing.assert_allclose(losses, single_losses, rtol=1e-5, atol=1e-5)
    assert gradients.keys() == single_gradients.keys()
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient, single_gradients[name], rtol=1e-4, atol=1e-4, err_msg=name)
        assert np.abs(gradient).max() > 0, name


@pytest.mark.parametrize(("make_model", "make_tree"), MODELS)
def test_loss_is_the_cross_entropy_of_the_logits(make_model: Any, make_tree: Any) -> None:
    ab.seed(0)
    model = make_model().eval()
    tree = make_tree(np.random.default_rng(1))
    loss, logits = ab.evaluate(model.scored(tree))
    labels = [node.label for node in tree] if logits.ndim == 2 else [tree.label]
    rows = zip(np.atleast_2d(logits), labels, strict=True)
    wanted = sum(np.log(np.exp(row).sum()) - row[label] for row, label in rows)
    np.testing.assert_allclose(loss, wanted, rtol=1e-5)


def test_a_node_sees_its_children_but_not_their_order() -> None:
    ab.seed(0)
    model = child_sum_model().eval()
    one = Tree(0, 1, [Tree(0, 2), Tree(0, 3, [Tree(0, 4)])])
    swapped = Tree(0, 1, [Tree(0, 3, [Tree(0, 4)]), Tree(0, 2)])
    other = Tree(0, 1, [Tree(0, 2, [Tree(0, 4)]), Tree(0, 3)])
    first, second, third = (np.array(row) for row in ab.evaluate([model(tree) for tree in (one, swapped, other)]))
    np.testing.assert_allclose(first, second, rtol=1e-5)
    assert np.abs(first - third).max() > 1e-4


@pytest.mark.parametrize("make_model", [child_sum_model, binary_model])
def test_a_tree_far_deeper_than_the_recursion_limit(make_model: Any) -> None:
    tree = Tree(0, 0)
    for depth in range(5_000):
        tree = Tree(depth % N_CLASSES, depth % N_WORDS, [tree, Tree(1, 1)])
    ab.seed(0)
    model = make_model()
    loss = model.loss(tree)
    loss.backward()
    assert np.isfinite(float(loss))


def test_a_tree_that_is_not_binary_raises() -> None:
    with pytest.raises(ValueError):
        binary_model().loss(Tree(0, None, [Tree(0, 0)] * 3))


def test_a_word_that_was_never_seen_says_nothing() -> None:
    # The rare token of a vocabulary may not occur in training: left at random values it would mislead.
    assert not binary_model().embed.weight.numpy()[0].any()


def accuracy_of(model: Any, trees: Any) -> Any:
    """Loss, and accuracy at the root, whose logits are the last row."""
    count = ab.train.accuracy(lambda tree: tree.label)

    def metrics(trees: Any, logits: Any) -> Any:
        return count(trees, [np.atleast_2d(rows)[-1] for rows in logits])

    return ab.train.evaluate(model, minibatches(trees, 20), model.scored, metrics)


@pytest.mark.parametrize(("make_model", "make_tree"), MODELS)
def test_training_learns(make_model: Any, make_tree: Any) -> None:
    ab.seed(0)
    rng, model = np.random.default_rng(0), make_model()
    trees = [make_tree(rng, depth=2) for _ in range(64)]
    optimizer = optim.Adam(model.parameters(), lr=2e-2)
    batches = minibatches(trees, 16, shuffle=True)
    before = accuracy_of(model, trees)
    ab.train.fit(model, batches, optimizer, 20, max_norm=5.0, callbacks=[])
    after = accuracy_of(model, trees)
    assert after["loss"] < 0.5 * before["loss"]
    assert after["accuracy"] > max(before["accuracy"], 0.6)


def test_training_repeats_bit_by_bit() -> None:
    def run() -> Any:
        ab.seed(1)
        rng, model = np.random.default_rng(0), child_sum_model()
        trees = [any_tree(rng, depth=2) for _ in range(20)]
        optimizer = optim.Adam(model.parameters(), lr=1e-2)
        batches = minibatches(trees, 8, shuffle=True)
        run = ab.train.fit(model, batches, optimizer, 2, max_norm=5.0, callbacks=[])
        return [record["loss"] for record in run.history], model.state_dict()

    (losses, state), (same_losses, same_state) = run(), run()
    assert losses == same_losses
    assert all((state[name] == same_state[name]).all() for name in state)
