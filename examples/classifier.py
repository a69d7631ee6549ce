"""Sentences: a transformer encoder says of each which label it has, for example how much its writer liked a film.

    python examples/classifier.py                             20 small trees that come with the library
    python examples/classifier.py train.txt.xz test.txt.xz

The files hold a tree in brackets on each line, as those of the Stanford Sentiment Treebank do; the words of a tree and
the label of its root are read. The model is written for one sentence, whose words are the rows of a matrix. Sentences
have the lengths they have: there is no padding and no mask.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import autobatch as ab
from autobatch import nn, optim


def read(path: Path) -> list[tuple[list[str], int]]:
    """Words and label of each sentence."""
    return [([node.word for node in tree if node.is_leaf], tree.label) for tree in ab.data.read_trees(path)]


@dataclass(frozen=True, slots=True, eq=False)
class Sentence:
    """Numbers of the words (0: rare), and the label."""

    words: list[int]
    label: int


class Block(nn.Module):
    """Attention, then two layers on each row; both read normalised rows, and both are added to their input."""

    def __init__(self, dim: int, n_heads: int, dropout: float) -> None:
        self.n_heads = n_heads
        self.norm_1, self.norm_2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.project = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.widen, self.narrow = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Any) -> Any:
        n, dim = x.shape
        heads = self.qkv(self.norm_1(x)).reshape(n, 3 * self.n_heads, dim // self.n_heads)
        attended = ab.attention(*ab.split(heads, 3, axis=1)).reshape(n, dim)
        x = x + self.dropout(self.project(attended))
        return x + self.dropout(self.narrow(ab.relu(self.widen(self.norm_2(x)))))


class Classifier(nn.Module):
    def __init__(
        self, n_words: int, longest: int, n_labels: int, dim: int, n_heads: int, n_blocks: int, dropout: float
    ) -> None:
        self.word, self.position = nn.Embedding(n_words, dim), nn.Embedding(longest, dim)
        self.blocks = [Block(dim, n_heads, dropout) for _ in range(n_blocks)]
        self.norm, self.out = nn.LayerNorm(dim), nn.Linear(dim, n_labels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, sentence: Sentence) -> Any:
        """Logits of the labels."""
        places = [min(k, self.position.n - 1) for k in range(len(sentence.words))]
        x = self.dropout(self.word(sentence.words) + self.position(places) * 0.1)
        for block in self.blocks:
            x = block(x)
        return self.out(self.norm(x).mean(axis=0))

    def loss(self, sentence: Sentence) -> Any:
        return ab.cross_entropy(self(sentence), sentence.label)


def accuracy(model: Classifier, sentences: Sequence[Sentence]) -> float:
    """Share of the sentences whose likeliest label is theirs."""
    right = 0
    model.eval()
    with ab.no_grad():
        for batch in ab.data.minibatches(sentences, batch_size=128):
            logits = ab.evaluate(ab.map(model, batch))
            right += sum(int(np.argmax(row)) == sentence.label for row, sentence in zip(logits, batch, strict=True))
    model.train()
    return right / len(sentences)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("train", type=Path, nargs="?", default=Path(ab.data.sample("reviews.txt")))
    parser.add_argument("test", type=Path, nargs="?", help="by default, a quarter of the other file")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--blocks", type=int, default=2)
    options = parser.parse_args()

    train, test = read(options.train), read(options.test) if options.test else []
    if not test:
        train, test = ab.data.train_test_split(train)
    words = ab.data.Vocabulary((word for sentence, _ in train for word in sentence), min_count=2)
    labels = sorted({label for _, label in train + test})
    examples, held_out = (
        [Sentence([words[word] for word in sentence], labels.index(label)) for sentence, label in pairs]
        for pairs in (train, test)
    )
    ab.seed(0)
    longest = max(len(sentence.words) for sentence in examples)
    model = Classifier(len(words), longest, len(labels), options.dim, options.heads, options.blocks, 0.3)
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(1, options.epochs + 1):
        total = 0.0
        for batch in ab.data.minibatches(examples, batch_size=64, shuffle=True, seed=epoch):
            optimizer.zero_grad()
            loss = ab.mean(ab.map(model.loss, batch))
            loss.backward()
            optim.clip_grad_norm(model.parameters(), 5.0)
            optimizer.step()
            total += float(loss) * len(batch)
        print(f"epoch {epoch}  loss {total / len(examples):.3f}  right {accuracy(model, held_out):.1%}", flush=True)


if __name__ == "__main__":
    main()
