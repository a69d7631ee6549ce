"""Sentences: which part of speech each word is, by an LSTM and a CRF.

    python examples/tagger.py                                  20 short sentences that come with the library
    python examples/tagger.py --data train.tsv.xz test.tsv.xz --epochs 3

The files hold a word a line, then a tab and its tag (further columns are not read), and an empty line after each
sentence; such as two columns of a Universal Dependencies treebank. The model is that of Lample et al., "Neural
architectures for named entity recognition", NAACL 2016, but that only words that are rare in training are spelt: an
LSTM in both directions reads their letters, another the words. Which words those are is an ordinary `if`, sentences
have the lengths they have, and nothing is padded. On the English Web Treebank (UD 2.1) the second command gets 89.1 %
of the words right, in 198 seconds of one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import autobatch as ab
from autobatch import nn, optim, structured


def read(path: Path) -> list[tuple[tuple[str, ...], ...]]:
    """Words and tags of each sentence."""
    return [columns[:2] for columns in ab.data.read_columns(path, separator="\t")]


@dataclass(frozen=True, slots=True, eq=False)
class Sentence:
    """Numbers of words (0: rare), of the letters of each, and of tags."""

    words: list[int]
    letters: list[list[int]]
    tags: list[int]


class Tagger(nn.Module):
    def __init__(self, n_words: int, n_letters: int, n_tags: int, dim: int, hidden: int) -> None:
        self.word = nn.Embedding(n_words, dim)
        self.spelling = nn.CharBiLSTM(n_letters, dim // 2, dim // 2)
        self.lstm = nn.LSTM(dim, hidden, bidirectional=True)
        self.out = nn.Linear(2 * hidden, n_tags)
        self.dropout = nn.Dropout(0.3)
        self.crf = structured.CRF(n_tags)

    def scores(self, sentence: Sentence) -> ab.Tensor:
        """Of each tag for each word, before their neighbours are asked: f[words, tags]."""
        pairs = zip(sentence.words, sentence.letters, strict=True)
        vectors = [self.word[word] if word else self.spelling(letters) for word, letters in pairs]
        context, _ = self.lstm(self.dropout(ab.stack(vectors)))
        return self.out(self.dropout(context))

    def forward(self, sentence: Sentence) -> list[int]:
        """The best tags."""
        return self.crf.decode(self.scores(sentence))

    def loss(self, sentence: Sentence) -> ab.Tensor:
        return self.crf(self.scores(sentence), sentence.tags)


def accuracy(model: Tagger, sentences: Sequence[Sentence]) -> float:
    """Share of the words that get their own tag."""
    found = ab.train.predict(model, sentences)
    return ab.data.accuracy_score(np.concatenate([sentence.tags for sentence in sentences]), np.concatenate(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, nargs="+", metavar="FILE", help="training and test data, or one to split")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--hidden", type=int, default=96)
    options = parser.parse_args()

    files = [read(path) for path in options.data or [Path(ab.data.sample("sentences.tsv"))]]
    train, test = files if len(files) > 1 else ab.data.train_test_split(files[0])
    words = ab.data.Vocabulary((word for sentence, _ in train for word in sentence), min_count=3)
    letters = ab.data.Vocabulary(letter for sentence, _ in train for word in sentence for letter in word)
    tags = ab.data.LabelEncoder().fit(tag for _, tagged in train + test for tag in tagged)
    examples, held_out = (
        [Sentence(words.lookup_indices(s), list(map(letters.lookup_indices, s)), tags.transform(t)) for s, t in part]
        for part in (train, test)
    )
    ab.seed(0)
    model = Tagger(len(words), len(letters), len(tags), options.dim, options.hidden)
    batches = ab.data.minibatches(examples, batch_size=16, shuffle=True)
    optimizer = optim.Adam(model.parameters(), lr=4e-3)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=options.epochs * len(batches))
    ab.train.fit(model, batches, optimizer, options.epochs, scheduler=schedule, max_norm=5.0)
    print(f"right {accuracy(model, held_out):.1%} of the words of {len(held_out)} other sentences")


if __name__ == "__main__":
    main()
