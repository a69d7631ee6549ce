"""A user's program: type checkers find no error in it, in their strictest modes, and it runs."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import assert_type

import numpy as np

import autobatch as ab
from autobatch import nn, optim

State = tuple[ab.Tensor, ab.Tensor]
Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


class TreeLSTM(nn.Module):
    """Trees with a word at each leaf and a class at the root."""

    def __init__(self, n_words: int, dim: int, n_classes: int) -> None:
        self.embed = nn.Embedding(n_words, dim)
        self.leaf = nn.Linear(dim, 3 * dim)
        self.node = nn.Linear(2 * dim, 5 * dim)
        self.out = nn.Linear(dim, n_classes)
        self.drop = nn.Dropout(0.1)

    @ab.cell
    def word(self, index: int) -> State:
        i, o, g = ab.split(self.leaf(self.embed[index]), 3)
        c = ab.sigmoid(i) * ab.tanh(g)
        return ab.sigmoid(o) * ab.tanh(c), c

    @ab.cell
    def compose(self, left: State, right: State) -> State:
        (hl, cl), (hr, cr) = left, right
        i, fl, fr, o, g = ab.split(self.node(ab.concat([hl, hr])), 5)
        c = ab.sigmoid(fl) * cl + ab.sigmoid(fr) * cr + ab.sigmoid(i) * ab.tanh(g)
        return ab.sigmoid(o) * ab.tanh(c), c

    def encode(self, tree: ab.data.Tree) -> State:
        if tree.is_leaf:
            return self.word(tree.word)
        return self.compose(self.encode(tree.left), self.encode(tree.right))

    def forward(self, tree: ab.data.Tree) -> ab.Tensor:
        h, _ = self.encode(tree)
        return self.out(self.drop(h))

    def loss(self, tree: ab.data.Tree) -> ab.Tensor:
        return ab.cross_entropy(self(tree), tree.label)

    @ab.no_grad()
    def predict(self, tree: ab.data.Tree) -> int:
        return int(self(tree).numpy().argmax())


class Attention(nn.Module):
    """What a query reads from a list of any length."""

    def __init__(self, dim: int) -> None:
        self.query = ab.Parameter(np.ones((dim, dim)))
        self.norm = nn.LayerNorm(dim)

    def forward(self, query: ab.Tensor, keys: Sequence[ab.Tensor], *, scale: float = 1.0) -> ab.Tensor:
        rows = ab.stack(keys)
        weights = ab.softmax(rows @ (self.query @ query) * scale)
        return self.norm(weights @ rows)


@dataclass
class Sentence:
    words: list[int]
    label: int


class Reader(nn.Module):
    def __init__(self, n_words: int, dim: int) -> None:
        self.embed = nn.Embedding(n_words, dim)
        self.steps = [nn.LSTMCell(dim, dim), nn.LSTMCell(dim, dim)]
        self.attention = Attention(dim)
        self.out = nn.Linear(dim, 1)

    def forward(self, words: list[int]) -> ab.Tensor:
        states: list[State | None] = [None, None]
        read: list[ab.Tensor] = []
        for word in words:
            x = self.embed(word)
            for k, step in enumerate(self.steps):
                state = step(x, states[k])
                states[k] = state
                x, _ = state
            read.append(x)
        return self.out(self.attention(read[-1], read, scale=0.5))[0]

    def loss(self, sentence: Sentence) -> ab.Tensor:
        return ab.squared_error(self(sentence.words), sentence.label)


class Scores:
    """Cells that are methods of all kinds."""

    @ab.cell
    @staticmethod
    def double(x: ab.Tensor) -> ab.Tensor:
        return 2 * x

    @ab.cell
    @classmethod
    def named(cls, x: ab.Tensor) -> dict[str, ab.Tensor]:
        return {"mean": x.mean(), "largest": x.max(axis=0)}

    @ab.cell(static=["times"])
    def repeated(self, x: ab.Tensor, times: int = 2) -> list[ab.Tensor]:
        return [x * k for k in range(times)]


@ab.cell
def energy(positions: ab.Tensor, charge: float) -> ab.Tensor:
    apart = positions[1:] - positions[:-1]
    return charge * (apart**2).sum()


def cube(x: ab.Tensor) -> ab.Tensor:
    return x**3


def penalty(parameters: dict[str, ab.Tensor]) -> ab.Tensor:
    return ab.sum([ab.abs(p).sum() for p in parameters.values()])


def weight(model: Attention, factor: float) -> ab.Tensor:
    return (model.query * factor).sum()


def train_trees(folder: Path) -> None:
    lines = ["(1 (0 good) (0 film))", "(0 (0 (0 not) (0 good)) (0 film))"]
    trees = [tree for line in lines for tree in ab.data.parse_trees([line])]
    words = ab.data.Vocabulary(node.word for tree in trees for node in tree if node.is_leaf)
    trees = [words.encode(tree) for tree in trees]
    ab.seed(1)
    model = TreeLSTM(len(words), 8, 2)
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(2):
        for batch in ab.data.minibatches(trees, batch_size=2, shuffle=True):
            assert_type(batch, list[ab.data.Tree])
            optimizer.zero_grad()
            losses = ab.map(model.loss, batch, reuse=True)
            assert_type(losses, list[ab.Tensor])
            loss = ab.mean(losses)
            loss.backward()
            optim.clip_grad_norm(model.parameters(), 5.0)
            optimizer.step()
            print(f"{float(loss):.3f} {loss.item():.3f}")
    path = folder / "model.safetensors"
    ab.save(path, model)
    same = TreeLSTM(len(words), 8, 2)
    same.load_state_dict(ab.load(path))
    same.eval()
    with ab.no_grad():
        assert_type([same.predict(tree) for tree in trees], list[int])
        logits = ab.evaluate(ab.map(same, trees))
    print(max(row.max() for row in logits), "\n".join(ab.explain(same.loss(trees[0])).splitlines()[:1]))


def train_sentences() -> None:
    sentences = [Sentence([0, 1, 2], 1), Sentence([2], 0)]
    model = Reader(3, 4)
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(2):
        optimizer.zero_grad()
        with ab.profile() as profile:
            ab.mean(ab.map(model.loss, sentences)).backward()
        optimizer.step()
        print(profile.launches)
    gradient = model.attention.query.grad
    assert gradient is not None
    assert_type(model([0, 1]), ab.Tensor)
    assert_type(model.train().attention, Attention)


def differentiate() -> None:
    positions = ab.tensor([[0.0, 1.0], [2.0, 3.0]])
    assert_type(ab.grad(energy)(positions, 0.5), ab.Tensor)
    assert_type(ab.value_and_grad(energy)(positions, charge=0.5), tuple[ab.Tensor, ab.Tensor])
    assert_type(ab.grad(penalty)({"bias": ab.ones(2)}), dict[str, ab.Tensor])
    assert_type(ab.grad(weight)(Attention(2), 3.0), dict[str, ab.Tensor])
    slope = ab.grad(cube)
    assert_type(slope(2.0), ab.Tensor)
    assert_type(ab.grad(slope)(2.0), ab.Tensor)


def compute() -> None:
    x, array, table = ab.ones((2, 3)), np.ones(3), ab.constant(np.eye(3))
    for value in (1 - x, x // 2, x @ table, array * x, np.float32(2) * x, -x, abs(x), x > array, x == 1, ~(x != 1)):
        assert_type(value, ab.Tensor)
    for part in (x[0], x[:, None, ...], x[ab.tensor([0, 1])], x[[1, 0]], x.T, x.mT, x.reshape(-1), x.reshape((3, 2))):
        assert_type(part, ab.Tensor)
    for row in x:
        assert_type(row, ab.Tensor)
    for made in (ab.zeros(2), ab.full((2, 1), 3), ab.uniform(2), ab.tensor([x, x]), ab.tensor(0.5, dtype=np.float64)):
        assert_type(made, ab.Tensor)
    for result in (ab.exp(x), ab.where(x > 0, x, 0.0), ab.maximum(x, 1), ab.logsumexp(x, axis=0), ab.matmul(x, x.T)):
        assert_type(result, ab.Tensor)
    for result in (ab.sum(x), ab.prod([x, x]), ab.mean(x, axis=0), ab.max(list(x)), ab.min(x, keepdims=True), x.min()):
        assert_type(result, ab.Tensor)
    state: ab.Tensor = ab.zeros(3)
    for row in x:
        state = ab.tanh(state + row)
    assert_type(x.shape, tuple[int, ...])
    assert_type(ab.split(x, [1], axis=1), list[ab.Tensor])
    slope: ab.Tensor = ab.grad(lambda v: (v * v).sum())(x)
    loss, slopes = ab.value_and_grad(lambda v: (v * v).sum())(x)
    print(slope, loss, slopes)
    scores = Scores()
    assert_type(scores.double(x), ab.Tensor)
    assert_type(Scores.named(x[0]), dict[str, ab.Tensor])
    assert_type(scores.repeated(x, times=3), list[ab.Tensor])
    assert_type(ab.map(energy, [x, x], [0.5, 1.0]), list[ab.Tensor])
    assert_type(ab.map(lambda a, b, c: (a @ b, c), [x], [table], ["name"]), list[tuple[ab.Tensor, str]])
    assert_type(nn.LSTMCell(3, 2)(x[0]), State)
    assert_type(nn.GRUCell(3, 2)(x[0], ab.zeros(2)), ab.Tensor)
    assert_type(nn.ChildSumTreeLSTMCell(3, 2)(x[0], []), State)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        train_trees(Path(folder))
    train_sentences()
    differentiate()
    compute()


if __name__ == "__main__":
    main()
