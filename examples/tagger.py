"""Sentences: a bidirectional LSTM says of each word what part of speech it is.

    python examples/tagger.py                                 20 short sentences that come with the library
    python examples/tagger.py train.tsv.xz test.tsv.xz

The files hold a word a line, then a tab and its tag (further columns are not read), and an empty line after each
sentence; such as two columns of a Universal Dependencies treebank. Words that are rare in training are spelt: a second
LSTM reads their letters. Which words those are is an ordinary `if`, sentences have the lengths they have, and nothing
is padded.
"""

from __future__ import annotations

import argparse
import lzma
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import autobatch as ab
from autobatch import nn, optim

Pairs = list[tuple[str, str]]


def read(path: Path) -> Iterator[Pairs]:
    """Sentences of (word, tag)."""
    sentence: Pairs = []
    with lzma.open(path, "rt", encoding="utf-8") if path.suffix == ".xz" else path.open(encoding="utf-8") as file:
        for line in file:
            if line.strip():
                word, tag, *_ = line.rstrip("\n").split("\t")
                sentence.append((word, tag))
            elif sentence:
                yield sentence
                sentence = []
    if sentence:
        yield sentence


@dataclass(frozen=True, slots=True, eq=False)
class Sentence:
    """Numbers of words (0: rare), of the letters of each, and of tags."""

    words: list[int]
    letters: list[list[int]]
    tags: list[int]


class Tagger(nn.Module):
    def __init__(self, n_words: int, n_letters: int, n_tags: int, dim: int, hidden: int) -> None:
        self.hidden = hidden
        self.word = nn.Embedding(n_words, dim)
        self.letter = nn.Embedding(n_letters, dim // 2)
        self.spelling = nn.LSTMCell(dim // 2, dim)
        self.ahead = nn.LSTMCell(dim, hidden)
        self.back = nn.LSTMCell(dim, hidden)
        self.out = nn.Linear(2 * hidden, n_tags)
        self.dropout = nn.Dropout(0.3)

    def vector(self, word: int, letters: Sequence[int]) -> Any:
        if word:
            return self.word[word]
        state = None
        for letter in letters:
            state = self.spelling(self.letter[letter], state)
        return state[0]

    def forward(self, sentence: Sentence) -> list[Any]:
        """Logits of the tags, for each word."""
        pairs = zip(sentence.words, sentence.letters, strict=True)
        vectors = [self.dropout(self.vector(word, letters)) for word, letters in pairs]
        ahead = run(self.ahead, vectors)
        back = run(self.back, vectors[::-1])[::-1]
        return [self.out(ab.concat([a, b])) for a, b in zip(ahead, back, strict=True)]

    def loss(self, sentence: Sentence) -> Any:
        """Mean cross-entropy of the words."""
        logits = self(sentence)
        return ab.mean([ab.cross_entropy(row, tag) for row, tag in zip(logits, sentence.tags, strict=True)])


def run(cell: Callable[..., Any], vectors: Sequence[Any]) -> list[Any]:
    """What an LSTM puts out along a sequence."""
    out, state = [], None
    for vector in vectors:
        state = cell(vector, state)
        out.append(state[0])
    return out


def accuracy(model: Tagger, sentences: Sequence[Sentence]) -> float:
    """Share of the words whose likeliest tag is theirs."""
    right = total = 0
    model.eval()
    with ab.no_grad():
        for batch in ab.data.minibatches(sentences, batch_size=128):
            for logits, sentence in zip(ab.evaluate(ab.map(model, batch)), batch, strict=True):
                right += sum(int(np.argmax(row)) == tag for row, tag in zip(logits, sentence.tags, strict=True))
                total += len(sentence.tags)
    model.train()
    return right / total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("train", type=Path, nargs="?", default=Path(ab.data.sample("sentences.tsv")))
    parser.add_argument("test", type=Path, nargs="?", help="by default, a quarter of the other file")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--hidden", type=int, default=64)
    options = parser.parse_args()

    train, test = list(read(options.train)), list(read(options.test)) if options.test else []
    if not test:
        train, test = ab.data.train_test_split(train)
    counts = Counter(word for sentence in train for word, _ in sentence)
    words = ab.data.Vocabulary(word for word, count in counts.items() if count >= 3)
    letters = ab.data.Vocabulary(letter for word in counts for letter in word)
    tags = sorted({tag for sentence in train + test for _, tag in sentence})

    def encode(sentence: Pairs) -> Sentence:
        return Sentence(
            [words[word] for word, _ in sentence],
            [[letters[letter] for letter in word] for word, _ in sentence],
            [tags.index(tag) for _, tag in sentence],
        )

    examples, held_out = [encode(sentence) for sentence in train], [encode(sentence) for sentence in test]
    ab.seed(0)
    model = Tagger(len(words), len(letters), len(tags), options.dim, options.hidden)
    optimizer = optim.Adam(model.parameters(), lr=5e-3)
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
